//! A second opinion: the allowed crash states of a program by brute force from the rules of `allowed.txt`.
//!
//! It shares nothing with the model: no pages with versions, no journal that is cut, no questions. It keeps the whole
//! history, tries every subset and every mixture, and throws away what a rule forbids. Slow, and short enough to be read
//! beside the rules.

use crate::program::{Call, Given, runs_of, state_of};
use sim_disk::Profile;
use std::collections::{BTreeMap, BTreeSet};

const PAGE: u64 = 4096;
const SECTOR: usize = 512;
const ROOT: usize = 0;

type Place = (usize, String);
type Tree = BTreeMap<Place, usize>;

/// What happened to a file's bytes.
enum Step {
    Write { at: u64, bytes: Vec<u8> },
    SetLen(u64),
}

struct File {
    /// Each with how long the journal was before it.
    history: Vec<(Step, usize)>,
    /// So much of the history is durable.
    settled: usize,
}

/// A change of names, or (linux) a truncation, which changes none.
struct Entry {
    subject: usize,
    creates: bool,
    truncates: bool,
    /// What must be there for it to happen, and what is there afterwards.
    takes: Vec<(Place, usize)>,
    puts: Vec<(Place, usize)>,
    /// strict: made durable by an fsync of its directory.
    required: bool,
}

impl Entry {
    fn touches(&self, dir: usize) -> bool {
        self.takes.iter().chain(&self.puts).any(|((d, _), _)| *d == dir)
    }
}

pub struct Oracle {
    profile: Profile,
    /// `None` is a directory.
    inodes: Vec<Option<File>>,
    durable: Tree,
    live: Tree,
    journal: Vec<Entry>,
    /// linux: so much of the journal is durable.
    committed: usize,
}

/// The states that a power loss after `does` may leave.
pub fn states(profile: Profile, given: &[Given], does: &[Call]) -> BTreeSet<String> {
    let mut oracle = Oracle {
        profile,
        inodes: vec![None],
        durable: Tree::new(),
        live: Tree::new(),
        journal: Vec::new(),
        committed: 0,
    };
    for g in given {
        let file = g.bytes.as_ref().map(|bytes| {
            let history = vec![(Step::Write { at: 0, bytes: bytes.clone() }, 0)];
            File { history, settled: 1 }
        });
        oracle.inodes.push(file);
        let place = oracle.place(&g.path);
        oracle.live.insert(place, oracle.inodes.len() - 1);
    }
    oracle.durable = oracle.live.clone();
    for call in does {
        oracle.run(call);
    }
    oracle.crash()
}

impl Oracle {
    fn place(&self, path: &str) -> Place {
        match path.rsplit_once('/') {
            Some((dir, name)) => (self.inode(dir), name.to_owned()),
            None => (ROOT, path.to_owned()),
        }
    }

    fn inode(&self, path: &str) -> usize {
        if path == "/" { ROOT } else { self.live[&self.place(path)] }
    }

    fn file(&mut self, path: &str) -> &mut File {
        let inode = self.inode(path);
        self.inodes[inode].as_mut().expect("a file")
    }

    fn run(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                let place = self.place(path);
                if !self.live.contains_key(&place) {
                    self.make(place, Some(File { history: Vec::new(), settled: 0 }));
                }
            }
            Call::Mkdir(path) => {
                let place = self.place(path);
                self.make(place, None);
            }
            Call::Write(path, at, bytes) => {
                let mark = self.journal.len();
                self.file(path).history.push((Step::Write { at: *at, bytes: bytes.clone() }, mark));
            }
            Call::SetLen(path, len) => {
                let (subject, mark) = (self.inode(path), self.journal.len());
                let file = self.file(path);
                if file.size(file.history.len()) != *len {
                    file.history.push((Step::SetLen(*len), mark));
                    self.note(subject, false, true, vec![], vec![]);
                }
            }
            Call::Rename(from, to) => {
                let (from, to) = (self.place(from), self.place(to));
                let moved = self.live[&from];
                if self.live.get(&to) != Some(&moved) {
                    self.note(moved, false, false, vec![(from, moved)], vec![(to, moved)]);
                }
            }
            Call::Exchange(a, b) => {
                let (a, b) = (self.place(a), self.place(b));
                let (x, y) = (self.live[&a], self.live[&b]);
                if x != y {
                    self.note(x, false, false, vec![(a.clone(), x), (b.clone(), y)], vec![(a, y), (b, x)]);
                }
            }
            Call::Link(from, to) => {
                let (subject, to) = (self.inode(from), self.place(to));
                self.note(subject, false, false, vec![], vec![(to, subject)]);
            }
            Call::Unlink(path) | Call::Rmdir(path) => {
                let place = self.place(path);
                let subject = self.live[&place];
                self.note(subject, false, false, vec![(place, subject)], vec![]);
            }
            Call::Sync(path) => self.sync(path, false),
            Call::DataSync(path) => self.sync(path, true),
        }
    }

    fn make(&mut self, place: Place, file: Option<File>) {
        self.inodes.push(file);
        let inode = self.inodes.len() - 1;
        self.note(inode, true, false, vec![], vec![(place, inode)]);
    }

    fn note(
        &mut self,
        subject: usize,
        creates: bool,
        truncates: bool,
        takes: Vec<(Place, usize)>,
        puts: Vec<(Place, usize)>,
    ) {
        for (place, _) in &takes {
            self.live.remove(place);
        }
        for (place, inode) in &puts {
            self.live.insert(place.clone(), *inode);
        }
        self.journal.push(Entry { subject, creates, truncates, takes, puts, required: false });
    }

    fn sync(&mut self, path: &str, data_only: bool) {
        let inode = self.inode(path);
        let Some(file) = &mut self.inodes[inode] else {
            // R7, R8: a directory.
            for (i, entry) in self.journal.iter_mut().enumerate() {
                if entry.touches(inode) {
                    entry.required = true;
                    self.committed = self.committed.max(i + 1);
                } else if entry.subject == inode {
                    self.committed = self.committed.max(i + 1);
                }
            }
            return;
        };
        // R5: what the size needs of the journal.
        let unsettled = file.settled..file.history.len();
        for i in unsettled {
            if matches!(file.history[i].0, Step::Write { .. }) && file.size(i + 1) > file.size(i) {
                self.committed = self.committed.max(file.history[i].1);
            }
        }
        file.settled = file.history.len();
        for (i, entry) in self.journal.iter().enumerate() {
            if entry.subject == inode && (!data_only || entry.creates || entry.truncates) {
                self.committed = self.committed.max(i + 1);
            }
        }
    }

    // ---- what a power loss may leave ------------------------------------------------------------------------------

    fn crash(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        match self.profile {
            Profile::Linux => {
                for prefix in self.committed..=self.journal.len() {
                    let tree = self.replay(|i| i < prefix).expect("a prefix always makes sense");
                    self.contents(&tree, Some(prefix), &mut all);
                }
            }
            Profile::Strict => {
                for subset in 0..1u32 << self.journal.len() {
                    let is_in = |i: usize| subset >> i & 1 == 1;
                    let kept = self.journal.iter().enumerate().all(|(i, e)| is_in(i) || !e.required);
                    if let (true, Some(tree)) = (kept, self.replay(is_in)) {
                        self.contents(&tree, None, &mut all);
                    }
                }
            }
        }
        all
    }

    /// The names after these changes; `None` if one of them takes away what is not there, or puts a directory below itself.
    fn replay(&self, is_in: impl Fn(usize) -> bool) -> Option<Tree> {
        let mut tree = self.durable.clone();
        for (_, entry) in self.journal.iter().enumerate().filter(|(i, _)| is_in(*i)) {
            for (place, inode) in &entry.takes {
                if tree.remove(place) != Some(*inode) {
                    return None;
                }
            }
            for (place, inode) in &entry.puts {
                tree.insert(place.clone(), *inode);
            }
        }
        let lost = |dir: &usize| self.inodes[*dir].is_none() && is_cyclic(&tree, *dir);
        if (0..self.inodes.len()).any(|i| lost(&i)) { None } else { Some(tree) }
    }

    /// All contents of all files that the tree leads to.
    fn contents(&self, tree: &Tree, prefix: Option<usize>, all: &mut BTreeSet<String>) {
        let mut found = Vec::new();
        let mut dirs = vec![(ROOT, String::new())];
        while let Some((dir, path)) = dirs.pop() {
            for ((d, name), inode) in tree {
                if *d == dir {
                    let path = format!("{path}{name}");
                    if self.inodes[*inode].is_none() {
                        dirs.push((*inode, path.clone() + "/"));
                    }
                    found.push((path, *inode));
                }
            }
        }
        let mut choices: Vec<BTreeMap<usize, String>> = vec![BTreeMap::new()];
        let files: BTreeSet<usize> = found.iter().map(|(_, i)| *i).filter(|i| self.inodes[*i].is_some()).collect();
        for inode in files {
            let file = self.inodes[inode].as_ref().expect("it is a file");
            let contents = file.contents(prefix);
            choices = choices
                .iter()
                .flat_map(|c| {
                    contents.iter().map(|bytes| [(inode, bytes.clone())].into_iter().chain(c.clone()).collect())
                })
                .collect();
        }
        for choice in choices {
            let line = |(path, inode): &(String, usize)| match choice.get(inode) {
                Some(bytes) => format!("{path}={bytes}"),
                None => format!("{path}/"),
            };
            all.insert(state_of(found.iter().map(line).collect()));
        }
    }
}

fn is_cyclic(tree: &Tree, dir: usize) -> bool {
    let mut at = dir;
    for _ in 0..tree.len() + 1 {
        match tree.iter().find(|(_, inode)| **inode == at) {
            Some(((parent, _), _)) => at = *parent,
            None => return false,
        }
    }
    true
}

impl File {
    /// The whole file after the first `n` steps.
    fn bytes(&self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (step, _) in &self.history[..n] {
            match step {
                Step::Write { at, bytes: new } => {
                    let end = *at as usize + new.len();
                    if bytes.len() < end && !new.is_empty() {
                        bytes.resize(end, 0);
                    }
                    bytes[*at as usize..end].copy_from_slice(new);
                }
                Step::SetLen(len) => bytes.resize(*len as usize, 0),
            }
        }
        bytes
    }

    fn size(&self, n: usize) -> u64 {
        self.bytes(n).len() as u64
    }

    /// Everything the file may hold, `prefix` of the journal having survived (linux).
    fn contents(&self, prefix: Option<usize>) -> BTreeSet<String> {
        let (first, last) = (self.settled, self.history.len());
        let versions: Vec<Vec<u8>> = (0..=last).map(|n| self.bytes(n)).collect();
        let size = |n: usize| versions[n].len() as u64;
        let is_cut = |n: usize| size(n) < size(n - 1);
        let mut all = BTreeSet::new();
        // The size survived as it was after `n` steps, or on its way to the next.
        for n in first..=last {
            let survives = |i: usize| match (prefix, &self.history[i]) {
                // R5
                (Some(prefix), (Step::Write { .. }, mark)) => size(i + 1) == size(i) || *mark <= prefix,
                // R4
                (Some(prefix), (Step::SetLen(_), at)) => *at < prefix,
                (None, _) => true,
            };
            let must = |i: usize| match (prefix, &self.history[i]) {
                (Some(prefix), (Step::SetLen(_), at)) => *at < prefix,
                _ => false,
            };
            if !(first..n).all(survives) || (n..last).any(must) {
                continue;
            }
            let mut sizes = vec![size(n)];
            if n < last {
                let (from, to) = (size(n), size(n + 1));
                let on_the_way: Vec<u64> = (0..=from.max(to) / PAGE)
                    .map(|p| p * PAGE)
                    .filter(|b| from.min(to) < *b && *b < from.max(to))
                    .collect();
                match (prefix, &self.history[n].0) {
                    // R9
                    (None, _) => sizes.extend(on_the_way),
                    // R3
                    (Some(_), Step::Write { at, .. }) if to > from && survives(n) => {
                        sizes.extend(on_the_way.iter().filter(|b| *b > at))
                    }
                    _ => {}
                }
            }
            for end in sizes {
                let mut files: BTreeSet<Vec<u8>> = [Vec::new()].into();
                for page in 0..end.div_ceil(PAGE) {
                    let begin = page * PAGE;
                    // R10
                    let touched = |i: &usize| is_cut(*i) && size(*i) < begin + PAGE && begin < size(*i - 1);
                    let oldest = (first + 1..=n).filter(touched).max().unwrap_or(first);
                    let freed = |i: &usize| is_cut(*i) && size(*i) <= begin && begin < size(*i - 1);
                    let newest = (n + 1..=last).find(freed).map_or(last, |i| i - 1);
                    let pages = mixtures(&versions[oldest..=newest], begin as usize);
                    let ends = (end - begin).min(PAGE) as usize;
                    files =
                        files.iter().flat_map(|f| pages.iter().map(|p| [f.as_slice(), &p[..ends]].concat())).collect();
                }
                all.extend(files.iter().map(|f| runs_of(f)));
            }
        }
        all
    }
}

/// R1, R2: the page at `begin` as each version has it, and every two of them mixed by sectors.
fn mixtures(versions: &[Vec<u8>], begin: usize) -> BTreeSet<Vec<u8>> {
    let page = |bytes: &Vec<u8>| {
        let mut page = bytes.get(begin..).unwrap_or_default().to_vec();
        page.resize(PAGE as usize, 0);
        page
    };
    let pages: Vec<Vec<u8>> = versions.iter().map(page).collect();
    let mut all: BTreeSet<Vec<u8>> = pages.iter().cloned().collect();
    for (later, newer) in pages.iter().enumerate() {
        for older in &pages[..later] {
            let differ: Vec<usize> =
                (0..8).map(|s| s * SECTOR).filter(|at| newer[*at..at + SECTOR] != older[*at..at + SECTOR]).collect();
            for mask in 0..1u32 << differ.len() {
                let mut mixed = older.clone();
                for (_, at) in differ.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
                    mixed[*at..at + SECTOR].copy_from_slice(&newer[*at..at + SECTOR]);
                }
                all.insert(mixed);
            }
        }
    }
    all
}
