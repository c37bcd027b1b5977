//! The system calls on files, as values, and what they answer.

use crate::model::attributes::Change;
use crate::model::bytes::Allocate;
use crate::model::content::ALL;
use crate::model::inode::{Entry, Stat};
use crate::model::tree::{OpenHow, Taken};
use crate::open_file::FileId;
use std::io::SeekFrom;
use std::ops::Range;

/// A system call on files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// open(2) → [`Reply::Opened`].
    Open(Vec<u8>, OpenHow),
    /// read(2) at the cursor, which moves → [`Reply::Bytes`], empty at the end.
    Read(FileId, usize),
    /// pread(2) → [`Reply::Bytes`].
    ReadAt(FileId, u64, usize),
    /// write(2) at the cursor, which moves, or at the end → [`Reply::Count`], fewer than given if the disk fills up.
    Write(FileId, Vec<u8>),
    /// pwrite(2) → [`Reply::Count`]. At the end if the file was opened to append, as on Linux.
    WriteAt(FileId, u64, Vec<u8>),
    /// lseek(2) → [`Reply::Count`], the new cursor.
    Seek(FileId, SeekFrom),
    /// lseek(2) with SEEK_DATA, or SEEK_HOLE if true → [`Reply::Count`], the new cursor.
    SeekData(FileId, u64, bool),
    /// ftruncate(2).
    SetLen(FileId, u64),
    /// truncate(2).
    Truncate(Vec<u8>, u64),
    /// fallocate(2): offset and length, and whether the size stays.
    Allocate(FileId, u64, u64, Allocate, bool),
    /// fsync(2).
    Sync(FileId),
    /// fdatasync(2).
    SyncData(FileId),
    /// msync(2) of these bytes with MS_SYNC.
    SyncRange(FileId, Range<u64>),
    /// fstat(2) → [`Reply::Stat`].
    StatFile(FileId),
    /// stat(2) → [`Reply::Stat`].
    Stat(Vec<u8>),
    /// lstat(2) → [`Reply::Stat`].
    StatLink(Vec<u8>),
    /// access(2), with the bits of R_OK, W_OK and X_OK; if true, of what a symbolic link leads to.
    Access(Vec<u8>, u32, bool),
    /// getdents(2) of a whole directory → [`Reply::Entries`].
    ReadDir(Vec<u8>),
    /// The same of a directory that is open.
    ReadDirFile(FileId),
    /// mkdir(2), with these permissions.
    CreateDir(Vec<u8>, u32),
    /// symlink(2): the target, then the link.
    CreateLink(Vec<u8>, Vec<u8>),
    /// bind(2) of a Unix socket, with these permissions → [`Reply::Stat`].
    CreateSocket(Vec<u8>, u32),
    /// readlink(2) → [`Reply::Path`].
    ReadLink(Vec<u8>),
    /// link(2); if true, of what a symbolic link leads to.
    Link(Vec<u8>, Vec<u8>, bool),
    /// linkat(2) with AT_EMPTY_PATH.
    LinkFile(FileId, Vec<u8>),
    /// unlink(2).
    RemoveFile(Vec<u8>),
    /// rmdir(2).
    RemoveDir(Vec<u8>),
    /// rename(2).
    Rename(Vec<u8>, Vec<u8>),
    /// renameat2(2).
    RenameTaken(Vec<u8>, Vec<u8>, Taken),
    /// chmod(2), chown(2), utimensat(2); if true, of what a symbolic link leads to.
    Change(Vec<u8>, Change, bool),
    /// fchmod(2), fchown(2), futimens(2).
    ChangeFile(FileId, Change),
    /// realpath(3) → [`Reply::Path`].
    Canonical(Vec<u8>),
}

/// What a system call answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It succeeded, and there is nothing to say.
    Done,
    /// A file was opened; whoever takes this closes it.
    Opened(FileId),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A number of bytes, or a position.
    Count(u64),
    /// What is known of a file.
    Stat(Stat),
    /// The entries of a directory.
    Entries(Vec<Entry>),
    /// A path.
    Path(Vec<u8>),
}

/// What kind of operation it is: its latency, its faults, its name in reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Read,
    Write,
    Sync,
    Open,
    Name,
    Free,
}

/// What the course of an operation depends on.
pub(crate) struct Outline {
    pub class: Class,
    pub name: &'static str,
    /// That it reads or writes, at most.
    pub bytes: u64,
    pub synced: Range<u64>,
}

impl Outline {
    /// Of a write of so many bytes, at the cursor or elsewhere.
    pub fn of_write(at: Option<u64>, bytes: u64) -> Outline {
        Outline { class: Class::Write, name: if at.is_some() { "pwrite" } else { "write" }, bytes, synced: ALL }
    }
}

impl Op {
    pub(crate) fn class(&self) -> Class {
        match self {
            Op::Read(..) | Op::ReadAt(..) => Class::Read,
            Op::Write(..) | Op::WriteAt(..) | Op::SetLen(..) | Op::Truncate(..) | Op::Allocate(..) => Class::Write,
            Op::Sync(_) | Op::SyncData(_) | Op::SyncRange(..) => Class::Sync,
            Op::Open(..) => Class::Open,
            Op::Seek(..) | Op::SeekData(..) => Class::Free,
            _ => Class::Name,
        }
    }

    /// What of a file it syncs.
    pub(crate) fn synced(&self) -> Range<u64> {
        match self {
            Op::SyncRange(_, bytes) => bytes.clone(),
            _ => ALL,
        }
    }

    pub(crate) fn outline(&self) -> Outline {
        let bytes = match self {
            Op::Read(_, len) | Op::ReadAt(_, _, len) => *len as u64,
            Op::Write(_, bytes) | Op::WriteAt(_, _, bytes) => bytes.len() as u64,
            _ => 0,
        };
        Outline { class: self.class(), name: self.name(), bytes, synced: self.synced() }
    }

    /// The name of the system call.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Open(..) => "open",
            Op::Read(..) => "read",
            Op::ReadAt(..) => "pread",
            Op::Write(..) => "write",
            Op::WriteAt(..) => "pwrite",
            Op::Seek(..) | Op::SeekData(..) => "lseek",
            Op::SetLen(..) => "ftruncate",
            Op::Truncate(..) => "truncate",
            Op::Allocate(..) => "fallocate",
            Op::Sync(_) => "fsync",
            Op::SyncData(_) => "fdatasync",
            Op::SyncRange(..) => "msync",
            Op::StatFile(_) => "fstat",
            Op::Stat(_) => "stat",
            Op::StatLink(_) => "lstat",
            Op::Access(..) => "access",
            Op::ReadDir(_) | Op::ReadDirFile(_) => "getdents",
            Op::CreateDir(..) => "mkdir",
            Op::CreateLink(..) => "symlink",
            Op::CreateSocket(..) => "bind",
            Op::ReadLink(_) => "readlink",
            Op::Link(..) | Op::LinkFile(..) => "link",
            Op::RemoveFile(_) => "unlink",
            Op::RemoveDir(_) => "rmdir",
            Op::Rename(..) | Op::RenameTaken(..) => "rename",
            Op::Change(_, change, _) | Op::ChangeFile(_, change) => match change {
                Change::Mode(_) => "chmod",
                Change::Owner(..) => "chown",
                Change::Times(..) => "utimensat",
            },
            Op::Canonical(_) => "realpath",
        }
    }

    pub(crate) fn file(&self) -> Option<FileId> {
        match self {
            Op::Read(f, _) | Op::ReadAt(f, ..) | Op::Write(f, _) | Op::WriteAt(f, ..) | Op::Seek(f, _) => Some(*f),
            Op::SetLen(f, _) | Op::Sync(f) | Op::SyncData(f) | Op::SyncRange(f, ..) | Op::StatFile(f) => Some(*f),
            Op::SeekData(f, ..) | Op::Allocate(f, ..) | Op::ReadDirFile(f) => Some(*f),
            Op::LinkFile(f, _) | Op::ChangeFile(f, _) => Some(*f),
            _ => None,
        }
    }

    pub(crate) fn path(&self) -> &[u8] {
        match self {
            Op::Open(path, _) | Op::Stat(path) | Op::ReadDir(path) | Op::CreateDir(path, _) => path,
            Op::CreateSocket(path, _) => path,
            Op::StatLink(path) | Op::Access(path, ..) | Op::Truncate(path, _) | Op::CreateLink(_, path) => path,
            Op::ReadLink(path) | Op::Link(path, ..) | Op::RenameTaken(path, ..) | Op::Change(path, ..) => path,
            Op::RemoveFile(path) | Op::RemoveDir(path) | Op::Rename(path, _) | Op::Canonical(path) => path,
            _ => b"/",
        }
    }

    /// The same for only so many bytes.
    pub(crate) fn shortened(mut self, to: usize) -> Op {
        match &mut self {
            Op::Read(_, len) | Op::ReadAt(_, _, len) => *len = to,
            _ => {}
        }
        self
    }

    /// Whether a death of the program leaves open if it took effect.
    pub(crate) fn changes_something(&self) -> bool {
        match self {
            Op::Open(_, how) => how.create || how.truncate,
            Op::Write(..) | Op::WriteAt(..) | Op::SetLen(..) => true,
            Op::Sync(_) | Op::SyncData(_) | Op::SyncRange(..) => true,
            Op::CreateDir(..) | Op::RemoveFile(_) | Op::RemoveDir(_) | Op::Rename(..) | Op::RenameTaken(..) => true,
            Op::CreateSocket(..) => true,
            Op::CreateLink(..) | Op::Link(..) | Op::LinkFile(..) | Op::Truncate(..) | Op::Allocate(..) => true,
            Op::Change(..) | Op::ChangeFile(..) => true,
            _ => false,
        }
    }
}
