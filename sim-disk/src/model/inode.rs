//! What a name leads to: a file, a directory, a symbolic link, a socket, or something of the system's own.

use super::content::Content;
use super::locks::Locks;
use super::names::Name;
use sim_core::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// A file or directory of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct InodeId(pub(crate) u32);

/// What something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// The name of a Unix socket. What is behind it is the network's.
    Socket,
    /// What is the system's own, in the tree below.
    Foreign,
}

/// A point in time as files remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// During the run.
    At(Instant),
    /// By a wall clock, as a program set it or as it stands in the tree below: seconds since 1970, nanoseconds.
    Wall(i64, u32),
}

/// Who the programs of a disk's node are: user, group, further groups. User 0 may do everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    /// The user.
    pub user: u32,
    /// The group that new files get.
    pub group: u32,
    /// Other groups it is in.
    pub groups: Vec<u32>,
}

/// What stat(2) says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes; a page for a directory, the length of its target for a link.
    pub len: u64,
    /// When its contents were changed last; the beginning of the run if that was before.
    pub modified: Instant,
    /// Its inode number, never used twice on a disk.
    pub ino: u64,
    /// Its permissions: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// How many names it has.
    pub links: u32,
    /// Bytes it takes on the disk.
    pub allocated: u64,
    /// Read, written and changed last.
    pub times: [Stamp; 3],
    /// Device and inode number in the tree below, as long as it is what stands there.
    pub below: Option<(u64, u64)>,
}

impl Stat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Its inode number.
    pub ino: u64,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }
}

#[derive(Clone)]
pub enum Kind {
    File(Content),
    /// A file whose bytes still lie in the tree below.
    Below(BelowFile),
    Dir(Directory),
    Link(Box<[u8]>),
    Socket,
    /// The path in the tree below.
    Foreign(Box<[u8]>),
}

#[derive(Clone)]
pub struct BelowFile {
    pub path: Box<[u8]>,
    pub len: u64,
    pub identity: (u64, u64),
}

#[derive(Clone, Default)]
pub struct Directory {
    /// What everybody sees.
    pub entries: BTreeMap<Name, InodeId>,
    pub durable: BTreeMap<Name, InodeId>,
    /// Itself for the root.
    pub parent: Option<InodeId>,
    /// What its parent calls it.
    pub name: Option<Name>,
    pub below: Option<Lower>,
}

/// The directory of the tree below that shows through.
#[derive(Clone)]
pub struct Lower {
    pub path: Box<[u8]>,
    /// Names that were looked up there: from then on they are what `entries` says.
    pub seen: BTreeSet<Name>,
    /// Whether all of them were.
    pub listed: bool,
}

#[derive(Clone)]
pub struct Inode {
    pub kind: Kind,
    /// Its identity for choices: disk, path at its creation, how many of that path there were before.
    pub key: u64,
    pub born_as: Box<[u8]>,
    pub number: u64,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Read, written and changed last.
    pub times: [Stamp; 3],
    /// Names that everybody sees, and names that are durable.
    pub links: u32,
    pub durable_links: u32,
    /// Names in the tree below beyond the one it was found by.
    pub links_below: u32,
    /// Changes of names under way that speak of it.
    pub journaled: u32,
    /// Open files.
    pub opens: u32,
    /// Ordinals: operations, changes of its names.
    pub operations: u32,
    pub name_changes: u32,
    pub locks: Locks,
}

impl Inode {
    pub fn file_kind(&self) -> FileKind {
        match self.kind {
            Kind::File(_) | Kind::Below(_) => FileKind::File,
            Kind::Dir(_) => FileKind::Dir,
            Kind::Link(_) => FileKind::Link,
            Kind::Socket => FileKind::Socket,
            Kind::Foreign(_) => FileKind::Foreign,
        }
    }

    /// Its contents were written.
    pub fn written(&mut self, now: Instant) {
        self.times[1] = Stamp::At(now);
        self.times[2] = Stamp::At(now);
    }

    /// What is known of it was changed.
    pub fn changed(&mut self, now: Instant) {
        self.times[2] = Stamp::At(now);
    }
}
