//! libc's names for calls about files.
//!
//! Most are one system call; the older ones are turned into those. Where libc does more than that (`realpath`, `lockf`,
//! `statvfs`), it is done here, since libc's own calls to itself pass by no symbol. Names for what has an owner of its own stand
//! with it: streams of directories and of bytes, maps, temporary files.

use super::calls::{self, CHMODAT, canonical, text};
use super::world;
use crate::descriptors::{self, Answer, Errno};
use crate::interpose::real::real;
use crate::interpose::{self, errno, escape, escapes};
use crate::raw;
use libc::{c_char, timespec, timeval};
use std::ffi::c_void;

pub(super) const CWD: i64 = libc::AT_FDCWD as i64;

/// A system call by a program: the run's, if it is about a file of it; in a run without files of its own, refused where it
/// would change a real one; else the kernel's. In the kernel's convention.
///
/// # Safety
/// As the system call.
pub(super) unsafe fn make(number: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(world) = interpose::world() else { return raw::call(number, args) };
        if let Some(answer) = calls::answer(world, number, args) {
            return answer;
        }
        if let Some(answer) = descriptors::calls::answer(world, number, args) {
            return answer;
        }
        let allowed = match number {
            libc::SYS_openat => escapes::may_open(world, "open", args[1] as *const c_char, args[2] as i32),
            _ => match escapes::forbidden(number, args) {
                Some(call) => {
                    escape(world, call);
                    false
                }
                None => true,
            },
        };
        if !allowed {
            return escapes::refusal(number);
        }
        raw::call(number, args)
    }
}

/// libc's names for system calls.
macro_rules! calls {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty = $number:expr, [$($value:expr),*];)*) => {$(
        /// # Safety
        /// As the function of that name in libc. Callers pass the mode of a file only where one may be created: then it stands
        /// in the register that a last argument of fixed arity is read from (System V ABI, AMD64, 3.5.7), else nobody reads it.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) -> $result {
            let mut args = [0i64; 6];
            for (to, from) in args.iter_mut().zip([$($value as i64),*]) {
                *to = from;
            }
            // SAFETY: the caller's promise.
            unsafe { errno(make($number, args)) as $result }
        }
    )*};
}

calls! {
    open(path: *const c_char, flags: i32, mode: u32) -> i32 = libc::SYS_openat, [CWD, path, flags, mode];
    open64(path: *const c_char, flags: i32, mode: u32) -> i32 = libc::SYS_openat, [CWD, path, flags, mode];
    openat(dir: i32, path: *const c_char, flags: i32, mode: u32) -> i32 = libc::SYS_openat, [dir, path, flags, mode];
    openat64(dir: i32, path: *const c_char, flags: i32, mode: u32) -> i32 = libc::SYS_openat, [dir, path, flags, mode];
    creat(path: *const c_char, mode: u32) -> i32 = libc::SYS_openat, [CWD, path, CREATES, mode];
    creat64(path: *const c_char, mode: u32) -> i32 = libc::SYS_openat, [CWD, path, CREATES, mode];
    __open_2(path: *const c_char, flags: i32) -> i32 = libc::SYS_openat, [CWD, path, flags];
    __open64_2(path: *const c_char, flags: i32) -> i32 = libc::SYS_openat, [CWD, path, flags];
    __openat_2(dir: i32, path: *const c_char, flags: i32) -> i32 = libc::SYS_openat, [dir, path, flags];
    __openat64_2(dir: i32, path: *const c_char, flags: i32) -> i32 = libc::SYS_openat, [dir, path, flags];

    lseek(fd: i32, offset: i64, whence: i32) -> i64 = libc::SYS_lseek, [fd, offset, whence];
    lseek64(fd: i32, offset: i64, whence: i32) -> i64 = libc::SYS_lseek, [fd, offset, whence];
    fsync(fd: i32) -> i32 = libc::SYS_fsync, [fd];
    fdatasync(fd: i32) -> i32 = libc::SYS_fdatasync, [fd];
    syncfs(fd: i32) -> i32 = libc::SYS_syncfs, [fd];
    sync_file_range(fd: i32, at: i64, len: i64, flags: u32) -> i32 = libc::SYS_sync_file_range, [fd, at, len, flags];
    readahead(fd: i32, at: i64, len: usize) -> isize = libc::SYS_readahead, [fd, at, len];
    ftruncate(fd: i32, len: i64) -> i32 = libc::SYS_ftruncate, [fd, len];
    ftruncate64(fd: i32, len: i64) -> i32 = libc::SYS_ftruncate, [fd, len];
    truncate(path: *const c_char, len: i64) -> i32 = libc::SYS_truncate, [path, len];
    truncate64(path: *const c_char, len: i64) -> i32 = libc::SYS_truncate, [path, len];
    fallocate(fd: i32, mode: i32, at: i64, len: i64) -> i32 = libc::SYS_fallocate, [fd, mode, at, len];
    fallocate64(fd: i32, mode: i32, at: i64, len: i64) -> i32 = libc::SYS_fallocate, [fd, mode, at, len];
    copy_file_range(from: i32, from_at: *mut i64, to: i32, to_at: *mut i64, len: usize, flags: u32) -> isize
        = libc::SYS_copy_file_range, [from, from_at, to, to_at, len, flags];
    sendfile(to: i32, from: i32, at: *mut i64, len: usize) -> isize = libc::SYS_sendfile, [to, from, at, len];
    sendfile64(to: i32, from: i32, at: *mut i64, len: usize) -> isize = libc::SYS_sendfile, [to, from, at, len];

    stat(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, 0];
    stat64(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, 0];
    lstat(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, NO_FOLLOW];
    lstat64(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, NO_FOLLOW];
    fstat(fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstat, [fd, out];
    fstat64(fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstat, [fd, out];
    fstatat(dir: i32, path: *const c_char, out: *mut c_void, flags: i32) -> i32
        = libc::SYS_newfstatat, [dir, path, out, flags];
    fstatat64(dir: i32, path: *const c_char, out: *mut c_void, flags: i32) -> i32
        = libc::SYS_newfstatat, [dir, path, out, flags];
    __xstat(_version: i32, path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, 0];
    __xstat64(_version: i32, path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_newfstatat, [CWD, path, out, 0];
    __lxstat(_version: i32, path: *const c_char, out: *mut c_void) -> i32
        = libc::SYS_newfstatat, [CWD, path, out, NO_FOLLOW];
    __lxstat64(_version: i32, path: *const c_char, out: *mut c_void) -> i32
        = libc::SYS_newfstatat, [CWD, path, out, NO_FOLLOW];
    __fxstat(_version: i32, fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstat, [fd, out];
    __fxstat64(_version: i32, fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstat, [fd, out];
    __fxstatat(_version: i32, dir: i32, path: *const c_char, out: *mut c_void, flags: i32) -> i32
        = libc::SYS_newfstatat, [dir, path, out, flags];
    __fxstatat64(_version: i32, dir: i32, path: *const c_char, out: *mut c_void, flags: i32) -> i32
        = libc::SYS_newfstatat, [dir, path, out, flags];
    statx(dir: i32, path: *const c_char, flags: i32, mask: u32, out: *mut c_void) -> i32
        = libc::SYS_statx, [dir, path, flags, mask, out];
    statfs(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_statfs, [path, out];
    statfs64(path: *const c_char, out: *mut c_void) -> i32 = libc::SYS_statfs, [path, out];
    fstatfs(fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstatfs, [fd, out];
    fstatfs64(fd: i32, out: *mut c_void) -> i32 = libc::SYS_fstatfs, [fd, out];
    access(path: *const c_char, mode: i32) -> i32 = libc::SYS_faccessat2, [CWD, path, mode, 0];
    euidaccess(path: *const c_char, mode: i32) -> i32 = libc::SYS_faccessat2, [CWD, path, mode, libc::AT_EACCESS];
    eaccess(path: *const c_char, mode: i32) -> i32 = libc::SYS_faccessat2, [CWD, path, mode, libc::AT_EACCESS];
    faccessat(dir: i32, path: *const c_char, mode: i32, flags: i32) -> i32
        = libc::SYS_faccessat2, [dir, path, mode, flags];

    rename(from: *const c_char, to: *const c_char) -> i32 = libc::SYS_renameat2, [CWD, from, CWD, to, 0];
    renameat(from_dir: i32, from: *const c_char, to_dir: i32, to: *const c_char) -> i32
        = libc::SYS_renameat2, [from_dir, from, to_dir, to, 0];
    renameat2(from_dir: i32, from: *const c_char, to_dir: i32, to: *const c_char, flags: u32) -> i32
        = libc::SYS_renameat2, [from_dir, from, to_dir, to, flags];
    unlink(path: *const c_char) -> i32 = libc::SYS_unlinkat, [CWD, path, 0];
    unlinkat(dir: i32, path: *const c_char, flags: i32) -> i32 = libc::SYS_unlinkat, [dir, path, flags];
    rmdir(path: *const c_char) -> i32 = libc::SYS_unlinkat, [CWD, path, libc::AT_REMOVEDIR];
    mkdir(path: *const c_char, mode: u32) -> i32 = libc::SYS_mkdirat, [CWD, path, mode];
    mkdirat(dir: i32, path: *const c_char, mode: u32) -> i32 = libc::SYS_mkdirat, [dir, path, mode];
    mknod(path: *const c_char, mode: u32, dev: u64) -> i32 = libc::SYS_mknodat, [CWD, path, mode, dev];
    mknodat(dir: i32, path: *const c_char, mode: u32, dev: u64) -> i32 = libc::SYS_mknodat, [dir, path, mode, dev];
    mkfifo(path: *const c_char, mode: u32) -> i32 = libc::SYS_mknodat, [CWD, path, mode | libc::S_IFIFO];
    mkfifoat(dir: i32, path: *const c_char, mode: u32) -> i32 = libc::SYS_mknodat, [dir, path, mode | libc::S_IFIFO];
    link(from: *const c_char, to: *const c_char) -> i32 = libc::SYS_linkat, [CWD, from, CWD, to, 0];
    linkat(from_dir: i32, from: *const c_char, to_dir: i32, to: *const c_char, flags: i32) -> i32
        = libc::SYS_linkat, [from_dir, from, to_dir, to, flags];
    symlink(target: *const c_char, path: *const c_char) -> i32 = libc::SYS_symlinkat, [target, CWD, path];
    symlinkat(target: *const c_char, dir: i32, path: *const c_char) -> i32 = libc::SYS_symlinkat, [target, dir, path];
    readlink(path: *const c_char, out: *mut c_char, len: usize) -> isize = libc::SYS_readlinkat, [CWD, path, out, len];
    readlinkat(dir: i32, path: *const c_char, out: *mut c_char, len: usize) -> isize
        = libc::SYS_readlinkat, [dir, path, out, len];

    fchmod(fd: i32, mode: u32) -> i32 = libc::SYS_fchmod, [fd, mode];
    chown(path: *const c_char, user: u32, group: u32) -> i32 = libc::SYS_fchownat, [CWD, path, user, group, 0];
    lchown(path: *const c_char, user: u32, group: u32) -> i32 = libc::SYS_fchownat, [CWD, path, user, group, NO_FOLLOW];
    fchown(fd: i32, user: u32, group: u32) -> i32 = libc::SYS_fchown, [fd, user, group];
    fchownat(dir: i32, path: *const c_char, user: u32, group: u32, flags: i32) -> i32
        = libc::SYS_fchownat, [dir, path, user, group, flags];
    utimensat(dir: i32, path: *const c_char, times: *const timespec, flags: i32) -> i32
        = libc::SYS_utimensat, [dir, path, times, flags];
    futimens(fd: i32, times: *const timespec) -> i32 = libc::SYS_utimensat, [fd, 0, times, 0];

    chdir(path: *const c_char) -> i32 = libc::SYS_chdir, [path];
    fchdir(fd: i32) -> i32 = libc::SYS_fchdir, [fd];
    chroot(path: *const c_char) -> i32 = libc::SYS_chroot, [path];
    umask(mask: u32) -> u32 = libc::SYS_umask, [mask];
    flock(fd: i32, operation: i32) -> i32 = libc::SYS_flock, [fd, operation];
    getdents64(fd: i32, out: *mut c_void, len: usize) -> isize = libc::SYS_getdents64, [fd, out, len];
    memfd_create(name: *const c_char, flags: u32) -> i32 = libc::SYS_memfd_create, [name, flags];
    inotify_init() -> i32 = libc::SYS_inotify_init1, [0];
    inotify_init1(flags: i32) -> i32 = libc::SYS_inotify_init1, [flags];
    getxattr(path: *const c_char, name: *const c_char, out: *mut c_void, len: usize) -> isize
        = libc::SYS_getxattr, [path, name, out, len];
    lgetxattr(path: *const c_char, name: *const c_char, out: *mut c_void, len: usize) -> isize
        = libc::SYS_lgetxattr, [path, name, out, len];
    fgetxattr(fd: i32, name: *const c_char, out: *mut c_void, len: usize) -> isize
        = libc::SYS_fgetxattr, [fd, name, out, len];
    setxattr(path: *const c_char, name: *const c_char, value: *const c_void, len: usize, flags: i32) -> i32
        = libc::SYS_setxattr, [path, name, value, len, flags];
    lsetxattr(path: *const c_char, name: *const c_char, value: *const c_void, len: usize, flags: i32) -> i32
        = libc::SYS_lsetxattr, [path, name, value, len, flags];
    fsetxattr(fd: i32, name: *const c_char, value: *const c_void, len: usize, flags: i32) -> i32
        = libc::SYS_fsetxattr, [fd, name, value, len, flags];
    listxattr(path: *const c_char, out: *mut c_char, len: usize) -> isize = libc::SYS_listxattr, [path, out, len];
    llistxattr(path: *const c_char, out: *mut c_char, len: usize) -> isize = libc::SYS_llistxattr, [path, out, len];
    flistxattr(fd: i32, out: *mut c_char, len: usize) -> isize = libc::SYS_flistxattr, [fd, out, len];
    removexattr(path: *const c_char, name: *const c_char) -> i32 = libc::SYS_removexattr, [path, name];
    lremovexattr(path: *const c_char, name: *const c_char) -> i32 = libc::SYS_lremovexattr, [path, name];
    fremovexattr(fd: i32, name: *const c_char) -> i32 = libc::SYS_fremovexattr, [fd, name];
}

const CREATES: i32 = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;

// ---- permissions and times: older kernels know no flags for them ----------------------------------------------------------

/// # Safety
/// As chmod(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn chmod(path: *const c_char, mode: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { errno(make(libc::SYS_chmod, [path as i64, mode as i64, 0, 0, 0, 0])) as i32 }
}

/// # Safety
/// As fchmodat(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fchmodat(dir: i32, path: *const c_char, mode: u32, flags: i32) -> i32 {
    let number = if flags == 0 { libc::SYS_fchmodat } else { CHMODAT };
    // SAFETY: the caller's promise.
    unsafe { errno(make(number, [dir as i64, path as i64, mode as i64, flags as i64, 0, 0])) as i32 }
}

/// Microseconds as nanoseconds; what is none becomes what is none either.
///
/// # Safety
/// `given` is the address of two timevals, or null.
unsafe fn times(given: *const timeval) -> Option<[timespec; 2]> {
    if given.is_null() {
        return None;
    }
    let one = |i: usize| {
        // SAFETY: the caller's promise.
        let t = unsafe { given.add(i).read() };
        let valid = (0..1_000_000).contains(&t.tv_usec);
        timespec { tv_sec: t.tv_sec, tv_nsec: if valid { t.tv_usec * 1_000 } else { -1 } }
    };
    Some([one(0), one(1)])
}

macro_rules! sets_times {
    ($($name:ident($($arg:ident: $type:ty),*; $times:ident), $dir:expr, $path:expr, $flags:expr;)*) => {$(
        /// # Safety
        /// As the function of that name in libc.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type,)* $times: *const timeval) -> i32 {
            // SAFETY: the caller's promise.
            unsafe {
                let given = times($times);
                let at = given.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
                errno(make(libc::SYS_utimensat, [$dir as i64, $path as i64, at as i64, $flags as i64, 0, 0])) as i32
            }
        }
    )*};
}

sets_times! {
    utimes(path: *const c_char; times_given), CWD, path, 0;
    lutimes(path: *const c_char; times_given), CWD, path, NO_FOLLOW;
    futimes(fd: i32; times_given), fd, 0, 0;
    futimesat(dir: i32, path: *const c_char; times_given), dir, path, 0;
}

/// # Safety
/// As utime(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn utime(path: *const c_char, given: *const libc::utimbuf) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        let given = given
            .as_ref()
            .map(|g| [timespec { tv_sec: g.actime, tv_nsec: 0 }, timespec { tv_sec: g.modtime, tv_nsec: 0 }]);
        let at = given.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
        errno(make(libc::SYS_utimensat, [CWD, path as i64, at as i64, 0, 0, 0])) as i32
    }
}

// ---- what libc does with more than one call -------------------------------------------------------------------------------

/// # Safety
/// As remove(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn remove(path: *const c_char) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        let removed = make(libc::SYS_unlinkat, [CWD, path as i64, 0, 0, 0, 0]);
        if removed != -libc::EISDIR as i64 {
            return errno(removed) as i32;
        }
        errno(make(libc::SYS_unlinkat, [CWD, path as i64, libc::AT_REMOVEDIR as i64, 0, 0, 0])) as i32
    }
}

/// Returns the error, as POSIX has it.
///
/// # Safety
/// As posix_fallocate(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_fallocate(fd: i32, at: i64, len: i64) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe { make(libc::SYS_fallocate, [fd as i64, 0, at, len, 0, 0]) };
    if result == -libc::EOPNOTSUPP as i64 {
        return real!(posix_fallocate(fd, at, len): fn(i32, i64, i64) -> i32, else libc::ENOSYS);
    }
    -result.min(0) as i32
}

/// # Safety
/// As posix_fallocate(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_fallocate64(fd: i32, at: i64, len: i64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { posix_fallocate(fd, at, len) }
}

/// Returns the error, as POSIX has it.
///
/// # Safety
/// As posix_fadvise(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_fadvise(fd: i32, at: i64, len: i64, advice: i32) -> i32 {
    // SAFETY: the caller's promise.
    -unsafe { make(libc::SYS_fadvise64, [fd as i64, at, len, advice as i64, 0, 0]) } as i32
}

/// # Safety
/// As posix_fadvise(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn posix_fadvise64(fd: i32, at: i64, len: i64, advice: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { posix_fadvise(fd, at, len, advice) }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sync() {
    // SAFETY: the call takes nothing.
    unsafe { make(libc::SYS_sync, [0; 6]) };
}

/// lockf(3): locks of fcntl from where the file stands.
///
/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn lockf(fd: i32, command: i32, len: i64) -> i32 {
    let (kind, how) = match command {
        libc::F_ULOCK => (libc::F_UNLCK, libc::F_SETLK),
        libc::F_LOCK => (libc::F_WRLCK, libc::F_SETLKW),
        libc::F_TLOCK => (libc::F_WRLCK, libc::F_SETLK),
        libc::F_TEST => (libc::F_WRLCK, libc::F_GETLK),
        _ => return errno(-libc::EINVAL as i64) as i32,
    };
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence, lock.l_len) = (kind as i16, libc::SEEK_CUR as i16, len);
    // SAFETY: the address of a local that lives across the call.
    let done = unsafe { make(libc::SYS_fcntl, [fd as i64, how as i64, (&raw mut lock) as i64, 0, 0, 0]) };
    if command == libc::F_TEST && done == 0 && lock.l_type as i32 != libc::F_UNLCK {
        return errno(-libc::EACCES as i64) as i32;
    }
    errno(done) as i32
}

/// # Safety
/// As lockf(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn lockf64(fd: i32, command: i32, len: i64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { lockf(fd, command, len) }
}

/// Memory from libc, with these bytes and a final 0; null with ENOMEM.
fn allocated(bytes: &[u8]) -> *mut c_char {
    // SAFETY: room for the bytes and a 0 is asked for, and given or not.
    unsafe {
        let at = libc::malloc(bytes.len() + 1).cast::<u8>();
        if !at.is_null() {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
            at.add(bytes.len()).write(0);
        }
        at.cast()
    }
}

/// # Safety
/// As getcwd(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getcwd(out: *mut c_char, len: usize) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe {
        if out.is_null() {
            let mut path = [0u8; libc::PATH_MAX as usize];
            let n = errno(make(libc::SYS_getcwd, [path.as_mut_ptr() as i64, path.len() as i64, 0, 0, 0, 0]));
            if n <= 0 {
                return std::ptr::null_mut();
            }
            if len != 0 && (n as usize) > len {
                errno(-libc::ERANGE as i64);
                return std::ptr::null_mut();
            }
            return allocated(&path[..n as usize - 1]);
        }
        if len == 0 {
            errno(-libc::EINVAL as i64);
            return std::ptr::null_mut();
        }
        let n = errno(make(libc::SYS_getcwd, [out as i64, len as i64, 0, 0, 0, 0]));
        if n < 0 { std::ptr::null_mut() } else { out }
    }
}

/// # Safety
/// As get_current_dir_name(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn get_current_dir_name() -> *mut c_char {
    // SAFETY: getcwd gives memory of its own.
    unsafe { getcwd(std::ptr::null_mut(), 0) }
}

/// # Safety
/// As realpath(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn realpath(path: *const c_char, out: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's promise: a C string.
    let found = match (world(), unsafe { text(path as i64) }) {
        (Some(world), Ok(path)) => canonical(world, path),
        (Some(_), Err(_)) => Some(Err(Errno::INVALID)),
        (None, _) => None,
    };
    match found {
        None => real!(
            realpath(path, out): fn(*const c_char, *mut c_char) -> *mut c_char,
            else std::ptr::null_mut()
        ),
        Some(Err(error)) => address(Err(error)),
        Some(Ok(found)) if out.is_null() => allocated(&found),
        Some(Ok(found)) => {
            // SAFETY: the caller's promise: room for PATH_MAX bytes, of which no path of the run has more.
            unsafe {
                std::ptr::copy_nonoverlapping(found.as_ptr(), out.cast(), found.len());
                out.add(found.len()).write(0);
            }
            out
        }
    }
}

/// # Safety
/// As realpath(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __realpath_chk(path: *const c_char, out: *mut c_char, _room: usize) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { realpath(path, out) }
}

/// # Safety
/// As canonicalize_file_name(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn canonicalize_file_name(path: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { realpath(path, std::ptr::null_mut()) }
}

/// # Safety
/// As statvfs(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn statvfs(path: *const c_char, out: *mut libc::statvfs) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { system(out, |found| make(libc::SYS_statfs, [path as i64, found, 0, 0, 0, 0])) }
}

/// # Safety
/// As fstatvfs(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fstatvfs(fd: i32, out: *mut libc::statvfs) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { system(out, |found| make(libc::SYS_fstatfs, [fd as i64, found, 0, 0, 0, 0])) }
}

/// # Safety
/// As statvfs(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn statvfs64(path: *const c_char, out: *mut libc::statvfs) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { statvfs(path, out) }
}

/// # Safety
/// As fstatvfs(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fstatvfs64(fd: i32, out: *mut libc::statvfs) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { fstatvfs(fd, out) }
}

/// # Safety
/// `out` is valid for a statvfs; `ask` fills the statfs at its argument.
unsafe fn system(out: *mut libc::statvfs, ask: impl FnOnce(i64) -> i64) -> i32 {
    // SAFETY: structures of numbers, for which zero is a value.
    let (mut found, mut said): (libc::statfs, libc::statvfs) = unsafe { std::mem::zeroed() };
    let result = ask((&raw mut found) as i64);
    if result < 0 {
        return errno(result) as i32;
    }
    (said.f_bsize, said.f_frsize, said.f_namemax) =
        (found.f_bsize as u64, found.f_frsize as u64, found.f_namelen as u64);
    (said.f_blocks, said.f_bfree, said.f_bavail) = (found.f_blocks, found.f_bfree, found.f_bavail);
    (said.f_files, said.f_ffree, said.f_favail) = (found.f_files, found.f_ffree, found.f_ffree);
    // SAFETY: the caller's promise.
    unsafe { out.write(said) };
    0
}

/// An address, as functions of libc give it that return null for an error.
pub(super) fn address<T>(answer: Answer<*mut T>) -> *mut T {
    match answer {
        Ok(at) => at,
        Err(Errno(error)) => {
            errno(-error as i64);
            std::ptr::null_mut()
        }
    }
}
