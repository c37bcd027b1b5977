//! Making directories.

use super::{bytes_of, done, metadata, to_its_end};
use sim_disk::Op;
use std::io;
use std::path::Path;

/// How a directory is to be made: as [`std::fs::DirBuilder`].
#[derive(Debug)]
pub struct DirBuilder {
    recursive: bool,
    mode: u32,
}

impl Default for DirBuilder {
    fn default() -> Self {
        DirBuilder { recursive: false, mode: 0o777 }
    }
}

impl DirBuilder {
    /// One directory, for everybody but for what the umask (022) takes away.
    #[must_use]
    pub fn new() -> DirBuilder {
        DirBuilder::default()
    }

    /// Whether those above it are made too where they are missing, and one that is there is good enough.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// The permissions of what is made, before the umask (022) takes some away.
    #[cfg(unix)]
    pub fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = mode;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// What mkdir(2) says: `AlreadyExists`, `NotFound`, `NotADirectory`, `PermissionDenied`, `StorageFull`.
    pub async fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mode = self.mode & !super::UMASK;
        match self.recursive {
            false => make(path.as_ref(), mode).await,
            true => make_all(path.as_ref(), mode).await,
        }
    }
}

/// Creates a directory.
pub async fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().create(path).await
}

/// Creates a directory and those above it that are missing.
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path).await
}

async fn make(path: &Path, mode: u32) -> io::Result<()> {
    done(Op::CreateDir(bytes_of(path), mode)).await
}

async fn make_all(path: &Path, mode: u32) -> io::Result<()> {
    let path = path.to_owned();
    to_its_end("fs::create_dir_all", async move {
        // From the top down what std finds from the bottom up: the directories that are missing.
        let mut missing = Vec::new();
        for dir in path.ancestors().filter(|d| !d.as_os_str().is_empty()) {
            match make(dir, mode).await {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(dir),
                Err(_) if is_dir(dir).await => break,
                Err(e) => return Err(e),
            }
        }
        for dir in missing.into_iter().rev() {
            match make(dir, mode).await {
                Err(e) if !is_dir(dir).await => return Err(e),
                _ => {}
            }
        }
        Ok(())
    })
    .await
}

async fn is_dir(path: &Path) -> bool {
    metadata(path).await.is_ok_and(|m| m.is_dir())
}
