//! Reading directories.

use super::{FileType, Metadata, bytes_of, path_of, symlink_metadata};
use sim_disk::{Entry, Op, Reply, submit};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

/// The entries of a directory, without `.` and `..`.
///
/// # Simulation
/// All entries as they were when it was opened, in the order of a hash of their names: the same in every run, and not the
/// alphabet's, as on ext4.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let dir: Arc<Path> = path.as_ref().into();
    match submit(Op::ReadDir(bytes_of(&dir))).await? {
        Reply::Entries(entries) => Ok(ReadDir { dir, entries: entries.into_iter() }),
        other => unreachable!("getdents answers with entries, not with {other:?}"),
    }
}

/// Reads the entries of a directory; see [`read_dir`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ReadDir {
    dir: Arc<Path>,
    entries: std::vec::IntoIter<Entry>,
}

impl ReadDir {
    /// The next entry, `None` after the last. Never fails.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        Ok(self.entry())
    }

    /// The same, polled. Never pending.
    pub fn poll_next_entry(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<Option<DirEntry>>> {
        Poll::Ready(Ok(self.entry()))
    }

    fn entry(&mut self) -> Option<DirEntry> {
        self.entries.next().map(|entry| DirEntry { dir: self.dir.clone(), entry })
    }
}

/// An entry of a directory.
#[derive(Debug)]
pub struct DirEntry {
    dir: Arc<Path>,
    entry: Entry,
}

impl DirEntry {
    /// The path it was read by: the directory's and its name.
    pub fn path(&self) -> PathBuf {
        self.dir.join(self.file_name())
    }

    /// Its name.
    pub fn file_name(&self) -> OsString {
        path_of(self.entry.name.clone()).into_os_string()
    }

    /// What is known of it now, or of the symbolic link that it is; `NotFound` if it is gone.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        symlink_metadata(self.path()).await
    }

    /// What it was when the directory was read. Never fails.
    pub async fn file_type(&self) -> io::Result<FileType> {
        Ok(FileType::new(self.entry.kind))
    }

    /// Its inode number.
    pub fn ino(&self) -> u64 {
        self.entry.ino
    }
}
