//! What is known of a file.

use sim_core::World;
use sim_disk::{Reply, Stat};
use std::io;
use std::time::{Duration, SystemTime};

/// What is known of a file or directory.
///
/// # Simulation
/// Stands for [`std::fs::Metadata`], which only std can make. Without permissions, owners and links.
#[derive(Clone, Debug)]
pub struct Metadata {
    stat: Stat,
    modified: SystemTime,
}

/// Whether something is a file or a directory.
///
/// # Simulation
/// Stands for [`std::fs::FileType`], which only std can make.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileType {
    is_dir: bool,
}

impl Metadata {
    pub(super) fn of(reply: Reply) -> Metadata {
        let Reply::Stat(stat) = reply else { unreachable!("stat answers with what is known, not with {reply:?}") };
        // The acting node's wall clock, as far back as the change is.
        let modified = World::current().map_or(SystemTime::UNIX_EPOCH, |world| {
            let ago = world.now().since(stat.modified);
            SystemTime::UNIX_EPOCH + Duration::from_nanos(world.read_wall_ns()).saturating_sub(ago)
        });
        Metadata { stat, modified }
    }

    /// Its size in bytes; that of a directory means nothing.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.stat.len
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.stat.is_dir()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.stat.is_dir()
    }

    /// False: the simulated disk has none.
    pub fn is_symlink(&self) -> bool {
        false
    }

    /// What it is.
    pub fn file_type(&self) -> FileType {
        FileType::new(self.stat.is_dir())
    }

    /// When its contents changed last, by the wall clock of the node. Never fails.
    pub fn modified(&self) -> io::Result<SystemTime> {
        Ok(self.modified)
    }

    /// Its inode number, as `std::os::unix::fs::MetadataExt` gives it.
    pub fn ino(&self) -> u64 {
        self.stat.ino
    }

    /// Its size, as `std::os::unix::fs::MetadataExt` gives it.
    pub fn size(&self) -> u64 {
        self.stat.len
    }
}

impl FileType {
    pub(super) fn new(is_dir: bool) -> FileType {
        FileType { is_dir }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        !self.is_dir
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// False: the simulated disk has none.
    pub fn is_symlink(&self) -> bool {
        false
    }
}
