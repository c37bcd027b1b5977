//! Changes of names, and truncations, that are not durable yet, and which of them an fsync makes so.

use super::inode::InodeId;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The name of an entry: any bytes but `/` and 0.
pub type Name = Rc<[u8]>;

/// One name of one directory means something else now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rebind {
    pub dir: InodeId,
    pub name: Name,
    pub to: Option<InodeId>,
}

/// A change that is journaled: a system call that changed names, all of its changes or none; or a truncation.
#[derive(Clone)]
pub struct NameChange {
    /// How many changes the journal had before it.
    pub serial: u64,
    /// One change; two for a rename, the old name, then the new one; none for a truncation.
    pub rebinds: Vec<Rebind>,
    /// The names without which it makes no sense, and what they must mean: what it takes away.
    pub takes: Vec<(InodeId, Name, InodeId)>,
    /// What was created, moved, removed or cut.
    pub subject: InodeId,
    pub subject_is_dir: bool,
    pub creates: bool,
    /// A truncation, by its ordinal in the file.
    pub truncates: Option<u32>,
    /// The address of its question.
    pub key: u64,
    pub n: u32,
    /// For reports: `create /a`, `rename /a /b`.
    pub call: &'static str,
}

impl NameChange {
    fn touches(&self, dir: InodeId) -> bool {
        self.rebinds.iter().any(|r| r.dir == dir)
    }

    /// Whether it gives a directory its place.
    fn places(&self) -> bool {
        self.subject_is_dir && self.rebinds.iter().any(|r| r.to.is_some())
    }
}

/// The journaled changes of one disk that are not durable, in order.
#[derive(Clone, Default)]
pub struct Journal {
    changes: Vec<NameChange>,
    next: u64,
}

impl Journal {
    /// How many changes there ever were: the serial of the next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What is not durable.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The changes that are not durable, in order.
    pub fn changes(&self) -> impl Iterator<Item = &NameChange> {
        self.changes.iter()
    }

    /// Notes a change.
    pub fn push(&mut self, change: NameChange) {
        assert!(change.serial == self.next, "changes are journaled in order");
        self.changes.push(change);
        self.next += 1;
    }

    /// Takes out, in order, the changes up to the last one that `which` names: what a journal in order writes.
    pub fn take_through(&mut self, which: impl Fn(&NameChange) -> bool) -> Vec<NameChange> {
        let count = self.changes.iter().rposition(which).map_or(0, |i| i + 1);
        self.changes.drain(..count).collect()
    }

    /// Takes out, in order, the changes of `dir` before the change `before`, and earlier ones without which they would be
    /// undone or make no sense: those of the same names elsewhere (the other side of a rename), and the places of directories
    /// that move, or that others move into.
    pub fn take_of_directory(&mut self, dir: InodeId, before: u64) -> Vec<NameChange> {
        let mut names: BTreeSet<(InodeId, Name)> = BTreeSet::new();
        let mut places: BTreeSet<InodeId> = BTreeSet::new();
        let mut wanted = vec![false; self.changes.len()];
        for (i, change) in self.changes.iter().enumerate().rev().filter(|(_, c)| c.serial < before) {
            let shared = change.rebinds.iter().any(|r| names.contains(&(r.dir, r.name.clone())));
            let placed = change.places() && places.contains(&change.subject);
            if !(change.touches(dir) || shared || placed) {
                continue;
            }
            wanted[i] = true;
            names.extend(change.rebinds.iter().map(|r| (r.dir, r.name.clone())));
            if change.places() {
                places.insert(change.subject);
                places.extend(change.rebinds.iter().map(|r| r.dir));
            }
        }
        let mut wanted = wanted.into_iter();
        self.changes.extract_if(.., |_| wanted.next().expect("one flag for each")).collect()
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<NameChange> {
        std::mem::take(&mut self.changes)
    }
}
