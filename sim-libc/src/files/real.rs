//! The real tree, as what lies under the disks of a run: read by system calls of our own, and never changed.

use crate::descriptors::{Answer, Errno};
use crate::raw;
use sim_disk::{Below, BelowEntry, BelowKind, Stamp, User};
use std::ffi::CString;
use std::mem::MaybeUninit;

/// Trees that are the system's own: what stands there is about the process and the machine, and changes by itself.
pub(super) const FOREIGN: [&[u8]; 3] = [b"/proc", b"/sys", b"/dev"];

/// As much of a directory as is read at once.
const CHUNK: usize = 32 << 10;

pub(super) struct RealTree;

fn failed(result: i64) -> Result<i64, sim_disk::Errno> {
    if result < 0 { Err(sim_disk::Errno(-result as i32)) } else { Ok(result) }
}

fn text(path: &[u8]) -> Result<CString, sim_disk::Errno> {
    CString::new(path).map_err(|_| sim_disk::Errno::EINVAL)
}

struct RealFile(i64);

impl RealFile {
    fn open(path: &[u8], flags: i32) -> Result<RealFile, sim_disk::Errno> {
        let path = text(path)?;
        let flags = (flags | libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW) as i64;
        // SAFETY: a C string that lives across the call.
        let fd = unsafe { raw::call(libc::SYS_openat, [libc::AT_FDCWD as i64, path.as_ptr() as i64, flags, 0, 0, 0]) };
        failed(fd).map(RealFile)
    }

    /// Fills `into` from where the file stands.
    fn read(&self, call: i64, into: &mut [u8]) -> Result<usize, sim_disk::Errno> {
        loop {
            // SAFETY: a buffer of that length, ours alone.
            let n = unsafe { raw::call(call, [self.0, into.as_mut_ptr() as i64, into.len() as i64, 0, 0, 0]) };
            if n != -libc::EINTR as i64 {
                return failed(n).map(|n| n as usize);
            }
        }
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        // SAFETY: the number is ours alone.
        unsafe { raw::call(libc::SYS_close, [self.0, 0, 0, 0, 0, 0]) };
    }
}

impl Below for RealTree {
    fn entry(&self, path: &[u8]) -> Result<Option<BelowEntry>, sim_disk::Errno> {
        let name = text(path)?;
        let mut found = MaybeUninit::<libc::stat>::zeroed();
        let args = [libc::AT_FDCWD as i64, name.as_ptr() as i64, found.as_mut_ptr() as i64];
        // SAFETY: a C string and room for a stat, both of which live across the call.
        let result = unsafe {
            raw::call(libc::SYS_newfstatat, [args[0], args[1], args[2], libc::AT_SYMLINK_NOFOLLOW as i64, 0, 0])
        };
        if result == -libc::ENOENT as i64 {
            return Ok(None);
        }
        failed(result)?;
        // SAFETY: all zeros are a valid stat, and the kernel has filled it.
        let found = unsafe { found.assume_init() };
        let kind = match found.st_mode & libc::S_IFMT {
            libc::S_IFREG => BelowKind::File(found.st_size as u64),
            libc::S_IFDIR if FOREIGN.contains(&path) => BelowKind::Foreign,
            libc::S_IFDIR => BelowKind::Dir,
            libc::S_IFLNK => BelowKind::Link(link(&name)?),
            _ => BelowKind::Foreign,
        };
        Ok(Some(BelowEntry {
            kind,
            mode: found.st_mode & 0o7777,
            owner: (found.st_uid, found.st_gid),
            // When it was read last changes by reading, also by runs before this one.
            times: [
                Stamp::Wall(found.st_mtime, found.st_mtime_nsec as u32),
                Stamp::Wall(found.st_mtime, found.st_mtime_nsec as u32),
                Stamp::Wall(found.st_ctime, found.st_ctime_nsec as u32),
            ],
            identity: (found.st_dev, found.st_ino),
            links: found.st_nlink as u32,
        }))
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, sim_disk::Errno> {
        let dir = RealFile::open(dir, libc::O_DIRECTORY)?;
        let (mut names, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let n = dir.read(libc::SYS_getdents64, &mut chunk)?;
            if n == 0 {
                return Ok(names);
            }
            let mut rest = &chunk[..n];
            // struct linux_dirent64: inode, offset, then the length of the record in two bytes, the kind, and the name.
            while let Some(length) = rest.get(16..18).map(|l| u16::from_ne_bytes([l[0], l[1]]) as usize) {
                let record = rest.get(19..length).unwrap_or_default();
                let name = record.split(|b| *b == 0).next().unwrap_or_default();
                if !matches!(name, b"" | b"." | b"..") {
                    names.push(name.to_vec());
                }
                rest = rest.get(length.max(1)..).unwrap_or_default();
            }
        }
    }

    fn bytes(&self, file: &[u8]) -> Result<Vec<u8>, sim_disk::Errno> {
        let file = RealFile::open(file, 0)?;
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK]);
        loop {
            let n = file.read(libc::SYS_read, &mut chunk)?;
            if n == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&chunk[..n]);
        }
    }
}

fn link(path: &CString) -> Result<Vec<u8>, sim_disk::Errno> {
    let mut target = vec![0u8; libc::PATH_MAX as usize];
    let args = [libc::AT_FDCWD as i64, path.as_ptr() as i64, target.as_mut_ptr() as i64, target.len() as i64, 0, 0];
    // SAFETY: a C string and a buffer of that length, both of which live across the call.
    let n = failed(unsafe { raw::call(libc::SYS_readlinkat, args) })?;
    target.truncate(n as usize);
    Ok(target)
}

/// Whether a descriptor of the kernel is one of a directory; else what a call that needs one says.
pub(super) fn is_dir(number: i64) -> Answer<()> {
    let mut found = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: room for a stat, which lives across the call and is valid as zeros.
    let (result, found) = unsafe {
        let result = raw::call(libc::SYS_fstat, [number, found.as_mut_ptr() as i64, 0, 0, 0, 0]);
        (result, found.assume_init())
    };
    match found.st_mode & libc::S_IFMT {
        _ if result < 0 => Err(Errno(-result as i32)),
        libc::S_IFDIR => Ok(()),
        _ => Err(Errno(libc::ENOTDIR)),
    }
}

/// Who the real process is.
pub(super) fn user() -> User {
    let mut groups = vec![0u32; 64];
    // SAFETY: numbers only; then room for that many groups.
    let (user, group, count) = unsafe {
        (
            raw::call(libc::SYS_geteuid, [0; 6]),
            raw::call(libc::SYS_getegid, [0; 6]),
            raw::call(libc::SYS_getgroups, [groups.len() as i64, groups.as_mut_ptr() as i64, 0, 0, 0, 0]),
        )
    };
    groups.truncate(count.max(0) as usize);
    User { user: user as u32, group: group as u32, groups }
}

/// The umask of the real process.
pub(super) fn umask() -> u32 {
    // SAFETY: numbers only. One thread of the run runs at a time, so nobody sees the mask in between.
    unsafe {
        let mask = raw::call(libc::SYS_umask, [0o22, 0, 0, 0, 0, 0]);
        raw::call(libc::SYS_umask, [mask, 0, 0, 0, 0, 0]);
        mask as u32
    }
}

/// The working directory of the real process.
pub(super) fn working_dir() -> Answer<Vec<u8>> {
    let mut path = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: a buffer of that length. The kernel's answer counts the final 0.
    let n = unsafe { raw::call(libc::SYS_getcwd, [path.as_mut_ptr() as i64, path.len() as i64, 0, 0, 0, 0]) };
    if n <= 1 {
        return Err(Errno(if n < 0 { -n as i32 } else { libc::ENOENT }));
    }
    path.truncate(n as usize - 1);
    Ok(path)
}
