//! tokio's files over the simulated disk of the node.
//!
//! Every call reaches the disk of the node whose program is running, takes virtual time, and may fail or be lost as that
//! disk decides. Operations go on when their future is dropped, as tokio's do on its blocking threads.
//!
//! # Simulation
//! * [`Metadata`] and [`FileType`] are types of their own: std's cannot be made by anybody but std.
//! * The working directory of every program is `/`.
//! * Not here: `from_std`, `into_std`, raw descriptors, open flags of one's own, and times of creation.
//! * Called outside the machines, in the body of a test, they panic: no disk is there. Outside a run they panic as tokio does
//!   outside a runtime.

mod dir;
mod dir_builder;
mod file;
mod links;
mod metadata;
mod open_options;
#[cfg(test)]
mod tests;

pub use dir::{DirEntry, ReadDir, read_dir};
pub use dir_builder::{DirBuilder, create_dir, create_dir_all};
pub use file::File;
#[cfg(unix)]
pub use links::symlink;
pub use links::{hard_link, read_link};
#[cfg(unix)]
pub use metadata::set_permissions;
pub use metadata::{FileType, Metadata};
pub use open_options::OpenOptions;

use sim_core::{Spawn, World};
use sim_disk::{Op, Reply, submit};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

/// The umask of every program.
const UMASK: u32 = 0o022;

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

#[cfg(unix)]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    <std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes).into()
}

/// Elsewhere names are text: what is none shows as replacement characters.
#[cfg(not(unix))]
fn path_of(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

async fn done(op: Op) -> io::Result<()> {
    submit(op).await.map(drop)
}

/// Runs work of several system calls to its end, also if nobody waits for it any more: tokio does it on a blocking thread.
async fn to_its_end<T: 'static>(
    name: &'static str,
    work: impl Future<Output = io::Result<T>> + 'static,
) -> io::Result<T> {
    match World::current() {
        Some(world) => world.spawn(work, Spawn::named(name)).await.unwrap_or_else(|_| Err(task_failed())),
        // Says what is missing as the first call of the work does.
        None => work.await,
    }
}

fn task_failed() -> io::Error {
    io::Error::other("background task failed")
}

/// Reads a whole file.
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    let len = file.metadata().await?.len() as usize;
    let mut contents = Vec::with_capacity(len);
    loop {
        // One more than there was, so that the end shows in the same pass.
        let chunk = file.read_some(len.saturating_sub(contents.len()).max(32)).await?;
        if chunk.is_empty() {
            return Ok(contents);
        }
        contents.extend_from_slice(&chunk);
    }
}

/// Reads a whole file of UTF-8; `InvalidData` if it is something else.
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path).await?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// Makes `contents` what a file contains, creating it if it is not there. Nothing of it is durable when this returns.
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let (path, contents) = (path.as_ref().to_owned(), contents.as_ref().to_vec());
    to_its_end("fs::write", async move { File::create(path).await?.write_whole(contents).await }).await
}

/// Copies the contents of a file, and its permissions, to another, which is created or replaced; returns how many bytes.
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    let work = async move {
        let source = File::open(from).await?;
        let found = source.metadata().await?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the source path is not an existing regular file"));
        }
        let target = File::create(to).await?;
        target.set_mode(found.mode()).await?;
        let mut copied = 0;
        loop {
            let chunk = source.read_some(1 << 20).await?;
            if chunk.is_empty() {
                return Ok(copied);
            }
            copied += chunk.len() as u64;
            target.write_whole(chunk).await?;
        }
    };
    to_its_end("fs::copy", work).await
}

/// Removes a file's name. What has it open goes on.
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    done(Op::RemoveFile(bytes_of(path.as_ref()))).await
}

/// Removes an empty directory.
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    done(Op::RemoveDir(bytes_of(path.as_ref()))).await
}

/// Removes a directory and everything below it. Of a symbolic link, the link alone.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    to_its_end("fs::remove_dir_all", async move {
        if symlink_metadata(&path).await?.is_symlink() {
            return remove_file(&path).await;
        }
        // Directories still to be read, and those that were: removed in reverse, each after what is in it.
        let mut unread = vec![path];
        let mut emptied = Vec::new();
        while let Some(dir) = unread.pop() {
            let mut entries = read_dir(&dir).await?;
            while let Some(entry) = entries.next_entry().await? {
                match entry.file_type().await?.is_dir() {
                    true => unread.push(entry.path()),
                    false => remove_file(entry.path()).await?,
                }
            }
            emptied.push(dir);
        }
        for dir in emptied.into_iter().rev() {
            remove_dir(dir).await?;
        }
        Ok(())
    })
    .await
}

/// Gives a file or directory another name; what had that name is gone in the same instant. Durable only when the directory
/// was synced.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    done(Op::Rename(bytes_of(from.as_ref()), bytes_of(to.as_ref()))).await
}

/// What is known of a file or directory.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    submit(Op::Stat(bytes_of(path.as_ref()))).await.map(Metadata::of)
}

/// The same of a symbolic link itself, where that is what the path names.
pub async fn symlink_metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    submit(Op::StatLink(bytes_of(path.as_ref()))).await.map(Metadata::of)
}

/// Whether there is something of this name.
pub async fn try_exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match metadata(path).await {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The absolute path of something that exists, without `.`, `..` and superfluous slashes.
pub async fn canonicalize(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    match submit(Op::Canonical(bytes_of(path.as_ref()))).await? {
        Reply::Path(bytes) => Ok(path_of(bytes)),
        other => unreachable!("realpath answers with a path, not with {other:?}"),
    }
}
