//! What is known of a file.

use sim_core::{Instant, World};
use sim_disk::{FileKind, Reply, Stamp, Stat};
use std::io;
use std::time::{Duration, SystemTime};

/// What is known of a file or directory.
///
/// # Simulation
/// Stands for [`std::fs::Metadata`], which only std can make, and for `std::os::unix::fs::MetadataExt`. Without a time of creation.
#[derive(Clone, Debug)]
pub struct Metadata {
    stat: Stat,
    accessed: SystemTime,
    modified: SystemTime,
}

/// Whether something is a file, a directory or a symbolic link.
///
/// # Simulation
/// Stands for [`std::fs::FileType`], which only std can make.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileType {
    kind: FileKind,
}

/// Sets who may read, write and execute a file.
#[cfg(unix)]
pub async fn set_permissions(path: impl AsRef<std::path::Path>, perm: std::fs::Permissions) -> io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&perm) & 0o7777;
    super::done(sim_disk::Op::Change(super::bytes_of(path.as_ref()), sim_disk::Change::Mode(mode), true)).await
}

/// By a wall clock that shows `wall` at `now`, as far back as the moment is.
fn shown(stamp: Stamp, now: Instant, wall: Duration) -> SystemTime {
    match stamp {
        Stamp::At(at) => SystemTime::UNIX_EPOCH + wall.saturating_sub(now.since(at)),
        Stamp::Wall(seconds, ns) => {
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let second = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
            second + Duration::from_nanos(ns.into())
        }
    }
}

impl Metadata {
    pub(super) fn of(reply: Reply) -> Metadata {
        let Reply::Stat(stat) = reply else { unreachable!("stat answers with what is known, not with {reply:?}") };
        let (now, wall) = World::current()
            .map_or((Instant::ZERO, Duration::ZERO), |world| (world.now(), Duration::from_nanos(world.read_wall_ns())));
        let [accessed, modified, _] = stat.times.map(|stamp| shown(stamp, now, wall));
        Metadata { stat, accessed, modified }
    }

    /// Its size in bytes; that of a directory means nothing.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.stat.len
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a symbolic link: of [`symlink_metadata`](super::symlink_metadata) alone.
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// What it is.
    pub fn file_type(&self) -> FileType {
        FileType::new(self.stat.kind)
    }

    /// When its contents changed last, by the wall clock of the node. Never fails.
    pub fn modified(&self) -> io::Result<SystemTime> {
        Ok(self.modified)
    }

    /// When it was read last, as far as that is kept (`noatime`), by the wall clock of the node. Never fails.
    pub fn accessed(&self) -> io::Result<SystemTime> {
        Ok(self.accessed)
    }

    /// Who may read, write and execute it.
    #[cfg(unix)]
    pub fn permissions(&self) -> std::fs::Permissions {
        std::os::unix::fs::PermissionsExt::from_mode(self.mode())
    }

    /// Its inode number.
    pub fn ino(&self) -> u64 {
        self.stat.ino
    }

    /// Its size.
    pub fn size(&self) -> u64 {
        self.stat.len
    }

    /// Its kind and permissions, as stat(2) gives them.
    pub fn mode(&self) -> u32 {
        let kind = match self.stat.kind {
            FileKind::File => 0o100_000,
            FileKind::Dir => 0o040_000,
            FileKind::Link => 0o120_000,
            FileKind::Socket => 0o140_000,
            FileKind::Foreign => 0,
        };
        kind | self.stat.mode
    }

    /// How many names it has.
    pub fn nlink(&self) -> u64 {
        self.stat.links.into()
    }

    /// Its owner.
    pub fn uid(&self) -> u32 {
        self.stat.owner.0
    }

    /// Its group.
    pub fn gid(&self) -> u32 {
        self.stat.owner.1
    }

    /// How many blocks of 512 bytes it takes.
    pub fn blocks(&self) -> u64 {
        self.stat.allocated / 512
    }
}

impl FileType {
    pub(super) fn new(kind: FileKind) -> FileType {
        FileType { kind }
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == FileKind::Link
    }
}
