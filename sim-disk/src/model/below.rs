//! What lies under a disk: a tree that is read and never changed.
//!
//! A disk over a tree shows what stands there until a program changes it; the change is the disk's own. Each name is
//! looked up below once, when a program first asks for it: from then on the disk says what it is, also that it is gone.

use super::errno::Errno;
use super::inode::Stamp;

/// A tree of files under a disk. Paths are absolute and lead through no symbolic link.
pub trait Below {
    /// What this path names, itself even if it is a symbolic link; `None` if it names nothing.
    fn entry(&self, path: &[u8]) -> Result<Option<BelowEntry>, Errno>;

    /// The names in a directory, without `.` and `..`, in any order.
    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, Errno>;

    /// All bytes of a file.
    fn bytes(&self, file: &[u8]) -> Result<Vec<u8>, Errno>;
}

/// Something in the tree below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BelowEntry {
    /// What it is.
    pub kind: BelowKind,
    /// Its permissions: the low twelve bits of `st_mode`.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
    /// Read, written and changed last.
    pub times: [Stamp; 3],
    /// Its device and inode number there.
    pub identity: (u64, u64),
    /// How many names it has there.
    pub links: u32,
}

/// The kinds of things in the tree below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BelowKind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link to this path.
    Link(Vec<u8>),
    /// What is the system's own: devices, pipes, sockets, and trees like `/proc`.
    Foreign,
}
