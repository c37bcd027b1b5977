//! The names that Unix sockets have among the files.
//!
//! A socket that is bound to a path has a file there, and is found by that file: by whatever path leads to it, relative, by a
//! symbolic link or after a rename, until the file is gone. The network knows the file by its inode number, which no other
//! file of the disk ever has; who listens and what is sent is its business.

use super::calls::{AT_CWD, Route, route};
use super::{perform, umask};
use crate::descriptors::{Answer, Errno};
use sim_core::World;
use sim_disk::{FileKind, Op, Reply, Stat};

/// What the network knows the socket by.
fn place(stat: &Stat) -> Vec<u8> {
    format!("inode {}", stat.ino).into_bytes()
}

/// Makes the file of a socket that is being bound.
pub(crate) fn make(world: &'static World, path: &[u8]) -> Answer<Vec<u8>> {
    let made = match route(world, AT_CWD, path, false)? {
        Route::Disk(path) => perform(world, Op::CreateSocket(path, 0o777 & !umask(world))),
        Route::Open(..) => Err(Errno(libc::EEXIST)),
        Route::Kernel(path) => {
            let path = String::from_utf8_lossy(&path).into_owned();
            crate::interpose::escape(world, format!("bind to {path}"));
            Err(Errno(libc::EPERM))
        }
        Route::Elsewhere => Err(Errno(libc::ENOTDIR)),
    };
    match made {
        Ok(Reply::Stat(stat)) => Ok(place(&stat)),
        Ok(_) => Err(Errno(libc::EIO)),
        Err(Errno(libc::EEXIST)) => Err(Errno(libc::EADDRINUSE)),
        Err(error) => Err(error),
    }
}

/// Where a path leads that is to be connected or sent to (unix_find_bsd of net/unix/af_unix.c).
pub(crate) fn find(world: &'static World, path: &[u8]) -> Answer<Vec<u8>> {
    // Sockets of the real system are there, and nobody of the run behind them.
    let Route::Disk(path) = route(world, AT_CWD, path, true)? else { return Err(Errno(libc::ECONNREFUSED)) };
    perform(world, Op::Access(path.clone(), libc::W_OK as u32, true))?;
    match perform(world, Op::Stat(path))? {
        Reply::Stat(stat) if stat.kind == FileKind::Socket => Ok(place(&stat)),
        _ => Err(Errno(libc::ECONNREFUSED)),
    }
}
