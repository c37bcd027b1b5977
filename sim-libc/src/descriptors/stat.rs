//! fstat(2) of what is no file: sockets, pipes, and what has no name anywhere.

use super::{Answer, Description, Errno, Object};

/// The numbers of the kernel's own file systems for these are small and vary; files of the run never have this one.
const DEVICE: u64 = libc::makedev(0, 15);

/// What Linux says (net/socket.c, fs/pipe.c, fs/anon_inodes.c): kind and permissions, one name, no bytes. Each description
/// is an inode of its own, and its times are those before the run.
fn found(own: &Description) -> libc::stat {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut out: libc::stat = unsafe { std::mem::zeroed() };
    out.st_mode = match own.object {
        Object::Socket(_) => libc::S_IFSOCK | 0o777,
        Object::Pipe(_) => libc::S_IFIFO | 0o600,
        // The sources of random bytes, as every other file has an answer of its own.
        Object::Other(_) => libc::S_IFCHR | 0o666,
        _ => 0o600,
    };
    (out.st_dev, out.st_ino) = (DEVICE, (own.id.generation as u64) << 32 | (own.id.place as u64 + 1));
    (out.st_nlink, out.st_blksize) = (1, 4096);
    if matches!(own.object, Object::Socket(_) | Object::Pipe(_)) {
        // SAFETY: the calls take nothing.
        (out.st_uid, out.st_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    }
    out
}

/// # Safety
/// `out` is the address of a stat, or 0.
pub(super) unsafe fn put(own: &Description, out: i64) -> Answer<i64> {
    // SAFETY: the caller's promise.
    *unsafe { (out as *mut libc::stat).as_mut() }.ok_or(Errno::FAULT)? = found(own);
    Ok(0)
}

/// # Safety
/// `out` is the address of a statx, or 0.
pub(super) unsafe fn put_extended(own: &Description, out: i64) -> Answer<i64> {
    // SAFETY: the caller's promise.
    *unsafe { (out as *mut libc::statx).as_mut() }.ok_or(Errno::FAULT)? = crate::files::stat::extended(&found(own));
    Ok(0)
}
