//! One node's disk: a tree of names over files and directories, what everybody sees of it and what is durable.
//!
//! The calls here are Linux's, with its errors in its order, and take no time; [`Disk`](crate::Disk) gives them
//! their latency and their faults. Paths are bytes; the working directory is always `/`.

use super::content::{Content, FileName};
use super::crash::{Profile, Survivors};
use super::errno::Errno;
use super::names::{Journal, Name, NameChange, Rebind};
use super::page::PAGE;
use sim_core::choices::{Law, Ratio, Stream};
use sim_core::{DeviceCx, Instant, NodeId, hash};
use slab::Slab;
use std::collections::BTreeMap;

/// A file or directory of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct InodeId(u32);

const ROOT: InodeId = InodeId(0);
/// Linux's longest name (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Linux's longest path (`PATH_MAX`), with its final 0.
const PATH_MAX: usize = 4096;
/// The greatest size of a file.
const SIZE_MAX: u64 = i64::MAX as u64;

/// How a file is to be opened: the flags of open(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenHow {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_CREAT.
    pub create: bool,
    /// O_EXCL with O_CREAT.
    pub exclusive: bool,
}

/// What stat(2) says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Whether it is a directory; else it is a file.
    pub is_dir: bool,
    /// Its size in bytes; a page for a directory.
    pub len: u64,
    /// When it was changed last.
    pub modified: Instant,
    /// Its inode number, never used twice on a disk.
    pub ino: u64,
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its inode number.
    pub ino: u64,
}

enum Kind {
    File(Content),
    Dir(Directory),
}

#[derive(Default)]
struct Directory {
    /// What everybody sees.
    entries: BTreeMap<Name, InodeId>,
    durable: BTreeMap<Name, InodeId>,
    /// Itself for the root.
    parent: Option<InodeId>,
}

struct Inode {
    kind: Kind,
    /// Its identity for choices: disk, path at its creation, how many of that path there were before.
    key: u64,
    born_as: Box<[u8]>,
    number: u64,
    modified: Instant,
    /// Names that everybody sees, and names that are durable.
    links: u32,
    durable_links: u32,
    /// Changes of names under way that speak of it.
    journaled: u32,
    /// Open files.
    opens: u32,
    /// Ordinals: operations, changes of its names.
    operations: u32,
    name_changes: u32,
}

/// One node's disk.
pub struct Volume {
    node: NodeId,
    node_name: String,
    key: u64,
    profile: Profile,
    inodes: Slab<Inode>,
    journal: Journal,
    /// How often each path (hashed) was created, and how many inodes there ever were.
    born: hash::Map<u64, u32>,
    numbers: u64,
    power_losses: u32,
    capacity_pages: u64,
    used_pages: u64,
    /// Whether everything that needs space fails.
    pub full: bool,
}

/// The directory and name that a path ends in.
struct Place {
    dir: InodeId,
    name: Name,
    /// It ended in a slash: only a directory may be meant.
    slash: bool,
}

enum Last {
    /// The path ends in a name.
    Name(Place),
    /// `/` and whatever leads to it.
    Root,
    Dot,
    DotDot,
}

impl Volume {
    /// An empty disk with the directory `/tmp`, both durable.
    pub fn new(node: NodeId, node_name: &str, profile: Profile) -> Volume {
        let mut volume = Volume {
            node,
            node_name: node_name.to_owned(),
            key: hash::key(&[hash::text("disk"), hash::text(node_name)]),
            profile,
            inodes: Slab::new(),
            journal: Journal::default(),
            born: hash::Map::default(),
            numbers: 1,
            power_losses: 0,
            capacity_pages: u64::MAX,
            used_pages: 0,
            full: false,
        };
        let directory = || Kind::Dir(Directory { parent: Some(ROOT), ..Directory::default() });
        let root = volume.add_inode(directory(), b"/", Instant::ZERO);
        let tmp = volume.add_inode(directory(), b"/tmp", Instant::ZERO);
        for inode in [root, tmp] {
            (volume.inode_mut(inode).links, volume.inode_mut(inode).durable_links) = (1, 1);
        }
        let root = volume.dir_mut(root);
        let name: Name = Name::from(b"tmp".as_slice());
        root.entries.insert(name.clone(), tmp);
        root.durable.insert(name, tmp);
        volume
    }

    /// Sets what the file system promises, from now on.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// Sets the capacity in bytes, in whole pages; what is stored already stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_pages = bytes / PAGE as u64;
    }

    /// Bytes that files take, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.used_pages * PAGE as u64
    }

    // ---- names ----------------------------------------------------------------------------------------------------

    /// The file or directory of this path.
    pub fn lookup(&self, path: &[u8]) -> Result<InodeId, Errno> {
        match self.place(path)? {
            Last::Root => Ok(ROOT),
            Last::Dot | Last::DotDot => self.walk(path),
            Last::Name(place) => {
                let inode = *self.dir(place.dir).entries.get(&place.name).ok_or(Errno::ENOENT)?;
                if place.slash && !self.is_dir(inode) {
                    return Err(Errno::ENOTDIR);
                }
                Ok(inode)
            }
        }
    }

    /// The directory that all of `path` leads to.
    fn walk(&self, path: &[u8]) -> Result<InodeId, Errno> {
        let mut at = ROOT;
        for part in path.split(|b| *b == b'/') {
            let Kind::Dir(dir) = &self.inode(at).kind else { return Err(Errno::ENOTDIR) };
            at = match part {
                b"" | b"." => at,
                b".." => dir.parent.unwrap_or(ROOT),
                name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                name => *dir.entries.get(name).ok_or(Errno::ENOENT)?,
            };
        }
        if self.is_dir(at) { Ok(at) } else { Err(Errno::ENOTDIR) }
    }

    fn place(&self, path: &[u8]) -> Result<Last, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if path.contains(&0) {
            return Err(Errno::EINVAL);
        }
        let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
        if end == 0 {
            return Ok(Last::Root);
        }
        let start = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let dir = self.walk(&path[..start])?;
        Ok(match &path[start..end] {
            b"." => Last::Dot,
            b".." => Last::DotDot,
            name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            name => Last::Name(Place { dir, name: Name::from(name), slash: end < path.len() }),
        })
    }

    /// The path that leads to a directory of this tree.
    fn path_of_dir(&self, dir: InodeId) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let parent = self.dir(at).parent.unwrap_or(ROOT);
            let Some((name, _)) = self.dir(parent).entries.iter().find(|(_, i)| **i == at) else { break };
            parts.push(name);
            at = parent;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        path
    }

    /// The absolute path without `.`, `..` and superfluous slashes: realpath(3).
    pub fn canonical(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        self.lookup(path)?;
        let mut canonical = match self.place(path)? {
            Last::Name(place) => {
                let mut path = self.path_of_dir(place.dir);
                path.push(b'/');
                path.extend_from_slice(&place.name);
                path
            }
            _ => self.path_of_dir(self.walk(path)?),
        };
        if canonical.is_empty() {
            canonical.push(b'/');
        }
        Ok(canonical)
    }

    /// open(2). The inode stays until [`close`](Self::close), whatever becomes of its name.
    pub fn open(&mut self, path: &[u8], how: OpenHow, now: Instant) -> Result<InodeId, Errno> {
        let writes = how.write || how.append;
        if !how.read && !writes {
            return Err(Errno::EINVAL);
        }
        let place = self.place(path)?;
        let found = match &place {
            Last::Name(place) => self.dir(place.dir).entries.get(&place.name).copied(),
            Last::Root => Some(ROOT),
            Last::Dot | Last::DotDot => Some(self.walk(path)?),
        };
        if how.create && matches!(place, Last::Name(Place { slash: true, .. })) {
            return Err(Errno::EISDIR);
        }
        let inode = match (found, place) {
            (Some(_), _) if how.create && how.exclusive => return Err(Errno::EEXIST),
            (Some(inode), _) if self.is_dir(inode) => {
                if writes || how.create || how.truncate {
                    return Err(Errno::EISDIR);
                }
                inode
            }
            (Some(inode), place) => {
                if matches!(place, Last::Name(Place { slash: true, .. })) {
                    return Err(Errno::ENOTDIR);
                }
                if how.truncate && writes {
                    self.resize(inode, 0, now);
                }
                inode
            }
            (None, Last::Name(place)) if how.create => {
                self.create(place, Kind::File(Content::default()), "create", now)?
            }
            (None, _) => return Err(Errno::ENOENT),
        };
        self.inode_mut(inode).opens += 1;
        Ok(inode)
    }

    /// Ends what [`open`](Self::open) began. Nothing becomes durable by it.
    pub fn close(&mut self, inode: InodeId) {
        self.inode_mut(inode).opens -= 1;
        self.release(inode);
    }

    /// mkdir(2).
    pub fn create_dir(&mut self, path: &[u8], now: Instant) -> Result<(), Errno> {
        let Last::Name(place) = self.place(path)? else { return Err(Errno::EEXIST) };
        if self.dir(place.dir).entries.contains_key(&place.name) {
            return Err(Errno::EEXIST);
        }
        let directory = Directory { parent: Some(place.dir), ..Directory::default() };
        self.create(place, Kind::Dir(directory), "mkdir", now).map(drop)
    }

    fn create(&mut self, place: Place, kind: Kind, call: &'static str, now: Instant) -> Result<InodeId, Errno> {
        if self.full {
            return Err(Errno::ENOSPC);
        }
        if self.inode(place.dir).links == 0 {
            return Err(Errno::ENOENT);
        }
        let mut path = self.path_of_dir(place.dir);
        path.push(b'/');
        path.extend_from_slice(&place.name);
        let inode = self.add_inode(kind, &path, now);
        self.rebind(inode, true, call, vec![Rebind { dir: place.dir, name: place.name, to: Some(inode) }], now);
        Ok(inode)
    }

    /// unlink(2). An open file goes on until it is closed.
    pub fn remove_file(&mut self, path: &[u8], now: Instant) -> Result<(), Errno> {
        let Last::Name(place) = self.place(path)? else { return Err(Errno::EISDIR) };
        let inode = *self.dir(place.dir).entries.get(&place.name).ok_or(Errno::ENOENT)?;
        match (self.is_dir(inode), place.slash) {
            (true, _) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (false, false) => {}
        }
        self.rebind(inode, false, "unlink", vec![Rebind { dir: place.dir, name: place.name, to: None }], now);
        Ok(())
    }

    /// rmdir(2).
    pub fn remove_dir(&mut self, path: &[u8], now: Instant) -> Result<(), Errno> {
        let place = match self.place(path)? {
            Last::Name(place) => place,
            Last::Root => return Err(Errno::EBUSY),
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
        };
        let inode = *self.dir(place.dir).entries.get(&place.name).ok_or(Errno::ENOENT)?;
        let Kind::Dir(dir) = &self.inode(inode).kind else { return Err(Errno::ENOTDIR) };
        if !dir.entries.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.rebind(inode, false, "rmdir", vec![Rebind { dir: place.dir, name: place.name, to: None }], now);
        Ok(())
    }

    /// rename(2): what `to` named before is gone in the same instant.
    pub fn rename(&mut self, from: &[u8], to: &[u8], now: Instant) -> Result<(), Errno> {
        // Both parents before either name: the order of fs/namei.c, do_renameat2.
        let (from, to) = (self.place(from)?, self.place(to)?);
        let (Last::Name(from), Last::Name(to)) = (from, to) else { return Err(Errno::EBUSY) };
        let moved = *self.dir(from.dir).entries.get(&from.name).ok_or(Errno::ENOENT)?;
        let replaced = self.dir(to.dir).entries.get(&to.name).copied();
        let moves_dir = self.is_dir(moved);
        if !moves_dir && (from.slash || to.slash) {
            return Err(Errno::ENOTDIR);
        }
        if self.is_within(to.dir, moved) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced {
            if self.is_within(from.dir, replaced) {
                return Err(Errno::ENOTEMPTY);
            }
            if replaced == moved {
                return Ok(());
            }
            match (&self.inode(replaced).kind, moves_dir) {
                (Kind::Dir(_), false) => return Err(Errno::EISDIR),
                (Kind::File(_), true) => return Err(Errno::ENOTDIR),
                (Kind::Dir(dir), true) if !dir.entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        if moves_dir {
            self.dir_mut(moved).parent = Some(to.dir);
        }
        let rebinds = vec![
            Rebind { dir: from.dir, name: from.name, to: None },
            Rebind { dir: to.dir, name: to.name, to: Some(moved) },
        ];
        self.rebind(moved, false, "rename", rebinds, now);
        Ok(())
    }

    /// Whether `dir` is `ancestor` or below it.
    fn is_within(&self, dir: InodeId, ancestor: InodeId) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.dir(at).parent.unwrap_or(ROOT);
        }
    }

    /// The entries of a directory. Their order is that of a hash of their names, as on ext4: stable, and not the alphabet's.
    pub fn read_dir(&self, inode: InodeId) -> Result<Vec<Entry>, Errno> {
        let Kind::Dir(dir) = &self.inode(inode).kind else { return Err(Errno::ENOTDIR) };
        let mut found: Vec<(u64, Entry)> = dir
            .entries
            .iter()
            .map(|(name, inode)| {
                let word = name.iter().fold(self.inode(*inode).key, |h, b| hash::fold(h, *b as u64));
                let entry = Entry { name: name.to_vec(), is_dir: self.is_dir(*inode), ino: self.inode(*inode).number };
                (hash::key(&[word]), entry)
            })
            .collect();
        found.sort_by_key(|(order, _)| *order);
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    /// stat(2).
    pub fn stat(&self, inode: InodeId) -> Stat {
        let i = self.inode(inode);
        let (is_dir, len) = match &i.kind {
            Kind::File(content) => (false, content.size()),
            Kind::Dir(_) => (true, PAGE as u64),
        };
        Stat { is_dir, len, modified: i.modified, ino: i.number }
    }

    // ---- bytes ----------------------------------------------------------------------------------------------------

    /// pread(2): appends what there is to `out`.
    pub fn read(&self, inode: InodeId, at: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::EISDIR) };
        content.read(at, len, out);
        Ok(())
    }

    /// pwrite(2): how many bytes were written, fewer than given if the disk fills up on the way.
    pub fn write(&mut self, inode: InodeId, at: u64, bytes: &[u8], now: Instant) -> Result<usize, Errno> {
        let free = if self.full { 0 } else { self.capacity_pages.saturating_sub(self.used_pages) };
        let Inode { kind: Kind::File(content), modified, .. } = &mut self.inodes[inode.0 as usize] else {
            return Err(Errno::EBADF);
        };
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > SIZE_MAX) {
            return Err(Errno::EFBIG);
        }
        // A disk without a limit need not be asked where it is holding.
        let fits = if free > u64::MAX / 2 { bytes.len() } else { content.fitting(at, bytes.len(), free) };
        if fits == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let before = content.allocated();
        content.write(at, &bytes[..fits]);
        self.used_pages = self.used_pages + content.allocated() - before;
        *modified = now;
        Ok(fits)
    }

    /// ftruncate(2).
    pub fn set_len(&mut self, inode: InodeId, len: u64, now: Instant) -> Result<(), Errno> {
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if self.is_dir(inode) {
            return Err(Errno::EINVAL);
        }
        self.resize(inode, len, now);
        Ok(())
    }

    fn resize(&mut self, inode: InodeId, len: u64, now: Instant) {
        let Inode { kind: Kind::File(content), modified, .. } = &mut self.inodes[inode.0 as usize] else { return };
        let before = content.allocated();
        content.set_len(len);
        self.used_pages = self.used_pages + content.allocated() - before;
        *modified = now;
    }

    /// The size of a file, 0 for a directory.
    pub fn size(&self, inode: InodeId) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.size(),
            Kind::Dir(_) => 0,
        }
    }

    /// How many pages an fsync would write.
    pub fn dirty_pages(&self, inode: InodeId) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.dirty_pages(),
            Kind::Dir(_) => 0,
        }
    }

    /// fsync(2), or fdatasync(2) if `data_only`. Which names become durable with it is the [`Profile`]'s.
    pub fn sync(&mut self, inode: InodeId, data_only: bool) {
        let durable = match &mut self.inodes[inode.0 as usize].kind {
            Kind::File(content) => {
                content.commit();
                match self.profile {
                    Profile::Linux => self.journal.take_through(|c| c.subject == inode && (c.creates || !data_only)),
                    Profile::Strict => Vec::new(),
                }
            }
            Kind::Dir(_) => match self.profile {
                Profile::Linux => {
                    self.journal.take_through(|c| c.subject == inode || c.rebinds.iter().any(|r| r.dir == inode))
                }
                Profile::Strict => self.journal.take_of_directory(inode),
            },
        };
        for change in durable {
            self.settle_names(change, true);
        }
    }

    /// An fsync that fails: the pages count as clean, and are not durable.
    pub fn sync_fails(&mut self, inode: InodeId) {
        if let Kind::File(content) = &mut self.inodes[inode.0 as usize].kind {
            content.strand();
        }
    }

    // ---- what is durable ------------------------------------------------------------------------------------------

    /// Changes names for everybody, and notes that it is not durable yet.
    fn rebind(&mut self, subject: InodeId, creates: bool, call: &'static str, rebinds: Vec<Rebind>, now: Instant) {
        let mut replaced = Vec::new();
        for r in &rebinds {
            let entries = &mut self.dir_mut(r.dir).entries;
            let before = match r.to {
                Some(to) => entries.insert(r.name.clone(), to),
                None => entries.remove(&r.name),
            };
            self.inode_mut(r.dir).modified = now;
            self.inode_mut(r.dir).journaled += 1;
            if let Some(to) = r.to {
                self.inode_mut(to).links += 1;
            }
            if let Some(before) = before {
                self.inode_mut(before).links -= 1;
                replaced.push(before);
            }
        }
        let subject_is_dir = self.is_dir(subject);
        let inode = self.inode_mut(subject);
        inode.journaled += 1;
        inode.name_changes += 1;
        let (key, n) = (hash::key(&[inode.key, 5]), inode.name_changes);
        self.journal.changes.push(NameChange { rebinds, subject, subject_is_dir, creates, key, n, call });
        for inode in replaced {
            self.release(inode);
        }
    }

    /// A change of names is decided: it became durable, or it never will.
    fn settle_names(&mut self, change: NameChange, durable: bool) {
        let mut touched = vec![change.subject];
        self.inode_mut(change.subject).journaled -= 1;
        for r in change.rebinds {
            self.inode_mut(r.dir).journaled -= 1;
            touched.push(r.dir);
            if !durable {
                continue;
            }
            let entries = &mut self.dir_mut(r.dir).durable;
            let before = match r.to {
                Some(to) => entries.insert(r.name, to),
                None => entries.remove(&r.name),
            };
            if let Some(to) = r.to {
                self.inode_mut(to).durable_links += 1;
            }
            if let Some(before) = before {
                self.inode_mut(before).durable_links -= 1;
                touched.push(before);
            }
        }
        for inode in touched {
            self.release(inode);
        }
    }

    /// Frees an inode that nothing leads to any more.
    fn release(&mut self, inode: InodeId) {
        let Some(i) = self.inodes.get_mut(inode.0 as usize) else { return };
        if i.links > 0 || i.opens > 0 {
            return;
        }
        if let Kind::File(content) = &mut i.kind {
            // Its space is free for others, even if a power loss may bring it back.
            self.used_pages -= content.release_space();
        }
        if i.durable_links == 0 && i.journaled == 0 {
            let gone = self.inodes.remove(inode.0 as usize);
            if let Kind::Dir(dir) = gone.kind {
                for (_, child) in dir.durable {
                    self.inode_mut(child).durable_links -= 1;
                    self.release(child);
                }
            }
        }
    }

    /// The power is gone. What remains is what was durable, and of the rest what the choices of `cx` let survive.
    pub fn power_off(&mut self, cx: &mut DeviceCx<'_>) {
        let n = self.power_losses;
        self.power_losses += 1;
        let unsettled = |i: &Inode| matches!(&i.kind, Kind::File(c) if c.is_unsettled());
        if self.journal.changes.is_empty() && !self.inodes.iter().any(|(_, i)| unsettled(i)) {
            self.reboot();
            return;
        }
        let [data, sizes, names] = [0, 1, 2].map(|what| {
            let key = hash::key(&[self.key, 1, what]);
            let about = ["data", "sizes", "names"][what as usize];
            cx.choices.name_key(key, || format!("disk {} {about}", self.node_name));
            let law = Law::Weighted { none: 1, of: [1, 1, 1, 0] };
            Survivors::from_answer(cx.ask(Stream::FAULT, key, n, law, "how much a power loss leaves"))
        });
        let (node, changes) = (self.node, self.journal.changes.len());
        cx.event(node, "disk.crash", || {
            format!("data {data:?}, sizes {sizes:?}, names {names:?}; {changes} changes of names unsynced")
        });
        let actor = std::mem::replace(&mut cx.node, node);

        let lost: Vec<bool> = self.journal.changes.iter().map(|c| self.ask_for_name(c, names.lost(), cx)).collect();
        let in_order = self.profile == Profile::Linux;
        for (change, survives) in self.journal.survivors(&lost, in_order) {
            if !survives {
                let born_as = &self.inode(change.subject).born_as;
                cx.fired(node, "disk.lost", || format!("{} {}", change.call, String::from_utf8_lossy(born_as)));
            }
            self.settle_names(change, survives);
        }
        for (_, inode) in self.inodes.iter_mut() {
            if let Kind::File(content) = &mut inode.kind
                && content.is_unsettled()
            {
                let path = String::from_utf8_lossy(&inode.born_as);
                let file = FileName { key: inode.key, node_name: &self.node_name, path: &path };
                content.power_off(&file, data, sizes, cx);
            }
        }
        cx.node = actor;
        self.reboot();
    }

    fn ask_for_name(&self, change: &NameChange, lost: Ratio, cx: &mut DeviceCx<'_>) -> bool {
        let inode = self.inode(change.subject);
        cx.choices.name_key(change.key, || {
            format!("disk {} names of {}", self.node_name, String::from_utf8_lossy(&inode.born_as))
        });
        cx.ask(Stream::DISK, change.key, change.n, Law::Chance(lost), "whether a power loss takes a name") != 0
    }

    /// Everybody sees what is durable; nothing is open, and what no name leads to is gone.
    fn reboot(&mut self) {
        let mut reached = vec![ROOT];
        let mut marked = vec![false; self.inodes.capacity()];
        marked[0] = true;
        let mut next = 0;
        while next < reached.len() {
            let at = reached[next];
            next += 1;
            let inode = self.inode_mut(at);
            let Kind::Dir(dir) = &mut inode.kind else { continue };
            dir.entries.clone_from(&dir.durable);
            let children: Vec<InodeId> = dir.entries.values().copied().collect();
            for child in children {
                assert!(!std::mem::replace(&mut marked[child.0 as usize], true), "every inode has one name");
                if let Kind::Dir(dir) = &mut self.inode_mut(child).kind {
                    dir.parent = Some(at);
                }
                reached.push(child);
            }
        }
        self.inodes.retain(|i, _| marked[i]);
        self.used_pages = 0;
        for (_, inode) in self.inodes.iter_mut() {
            (inode.links, inode.durable_links, inode.journaled, inode.opens) = (1, 1, 0, 0);
            if let Kind::File(content) = &mut inode.kind {
                assert!(!content.is_unsettled(), "a power loss leaves nothing undecided");
                self.used_pages += content.claim_space();
            }
        }
    }

    // ---- inodes ---------------------------------------------------------------------------------------------------

    fn add_inode(&mut self, kind: Kind, path: &[u8], now: Instant) -> InodeId {
        let path_key = hash::text(&String::from_utf8_lossy(path));
        let born = self.born.entry(path_key).or_default();
        let key = hash::key(&[self.key, path_key, *born as u64]);
        *born += 1;
        self.numbers += 1;
        let inode = Inode {
            kind,
            key,
            born_as: path.into(),
            number: self.numbers,
            modified: now,
            links: 0,
            durable_links: 0,
            journaled: 0,
            opens: 0,
            operations: 0,
            name_changes: 0,
        };
        InodeId(self.inodes.insert(inode) as u32)
    }

    /// The address of the next operation on `inode`: the key of its file, and the ordinal.
    pub(crate) fn next_operation(&mut self, inode: InodeId) -> (u64, u32) {
        let inode = self.inode_mut(inode);
        inode.operations += 1;
        (inode.key, inode.operations)
    }

    /// The path a file was created with, for reports.
    pub(crate) fn born_as(&self, inode: InodeId) -> String {
        String::from_utf8_lossy(&self.inode(inode).born_as).into_owned()
    }

    /// The name of the node.
    pub(crate) fn node_name(&self) -> &str {
        &self.node_name
    }

    /// What a call about `path` is about: what it names, else the directory that it would be in, else the root.
    pub(crate) fn subject(&self, path: &[u8]) -> InodeId {
        match self.place(path) {
            Ok(Last::Name(place)) => self.dir(place.dir).entries.get(&place.name).copied().unwrap_or(place.dir),
            _ => self.walk(path).unwrap_or(ROOT),
        }
    }

    fn inode(&self, inode: InodeId) -> &Inode {
        &self.inodes[inode.0 as usize]
    }

    fn inode_mut(&mut self, inode: InodeId) -> &mut Inode {
        &mut self.inodes[inode.0 as usize]
    }

    fn is_dir(&self, inode: InodeId) -> bool {
        matches!(self.inode(inode).kind, Kind::Dir(_))
    }

    fn dir(&self, inode: InodeId) -> &Directory {
        match &self.inode(inode).kind {
            Kind::Dir(dir) => dir,
            Kind::File(_) => unreachable!("names stand in directories"),
        }
    }

    fn dir_mut(&mut self, inode: InodeId) -> &mut Directory {
        match &mut self.inode_mut(inode).kind {
            Kind::Dir(dir) => dir,
            Kind::File(_) => unreachable!("names stand in directories"),
        }
    }
}
