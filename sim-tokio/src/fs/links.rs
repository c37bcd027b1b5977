//! More names for a file, and names that lead to other names.

use super::{bytes_of, done, path_of};
use sim_disk::{Op, Reply, submit};
use std::io;
use std::path::{Path, PathBuf};

/// Gives a file another name. Durable only when its directory was synced.
pub async fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    done(Op::Link(bytes_of(original.as_ref()), bytes_of(link.as_ref()), false)).await
}

/// Makes a symbolic link that leads to `original`, whether that is there or not.
#[cfg(unix)]
pub async fn symlink(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    done(Op::CreateLink(bytes_of(original.as_ref()), bytes_of(link.as_ref()))).await
}

/// Where a symbolic link leads; `InvalidInput` if it is none.
pub async fn read_link(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    match submit(Op::ReadLink(bytes_of(path.as_ref()))).await? {
        Reply::Path(bytes) => Ok(path_of(bytes)),
        other => unreachable!("readlink answers with a path, not with {other:?}"),
    }
}
