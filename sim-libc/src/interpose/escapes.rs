//! Ways out of the simulation: processes, sockets, changes to the real file system. In a run each ends it as
//! escaped, naming call and task, and fails; outside they are libc's.
//!
//! Reading real files is allowed: programs read their configuration and tests their fixtures. So is writing to where
//! nothing is kept.

use super::real::real;
use super::{errno, escape, world};
use crate::{raw, trap};
use sim_core::World;
use std::ffi::{CStr, c_char, c_void};

const WRITES: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
const HARMLESS: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/stdout", "/dev/stderr", "/proc/self/"];
/// Entropy that no seed gave.
const ENTROPY: [&str; 3] = ["/dev/urandom", "/dev/random", "/dev/hwrng"];

/// # Safety
/// `path` is a C string, or null.
unsafe fn name(path: *const c_char) -> String {
    if path.is_null() {
        return String::from("NULL");
    }
    // SAFETY: the caller's promise.
    format!("{:?}", unsafe { CStr::from_ptr(path) }.to_string_lossy())
}

fn flag_names(flags: i32) -> String {
    let mut names = String::from(match flags & libc::O_ACCMODE {
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "O_RDONLY",
    });
    for (flag, name) in [(libc::O_CREAT, "|O_CREAT"), (libc::O_TRUNC, "|O_TRUNC"), (libc::O_APPEND, "|O_APPEND")] {
        if flags & flag != 0 {
            names.push_str(name);
        }
    }
    names
}

/// Whether opening `path` stays within the simulation; if not, the run has ended.
///
/// # Safety
/// `path` is a C string, or null.
pub(crate) unsafe fn may_open(world: &World, call: &str, path: *const c_char, flags: i32) -> bool {
    if path.is_null() {
        return true; // The kernel will say EFAULT.
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(path) }.to_bytes();
    let writes = flags & WRITES != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    let harmless =
        HARMLESS.iter().any(|h| text == h.as_bytes() || (h.ends_with('/') && text.starts_with(h.as_bytes())));
    let entropy = ENTROPY.iter().any(|e| text == e.as_bytes());
    if !entropy && (!writes || harmless) {
        return true;
    }
    // SAFETY: as above.
    escape(world, format!("{call}({}, {})", unsafe { name(path) }, flag_names(flags)));
    false
}

/// A system call that a run must not make, under libc's name for it; `None` for any other. For those that take paths, the
/// paths are named.
///
/// # Safety
/// The arguments are those of the system call.
pub(crate) unsafe fn forbidden(number: i64, args: [i64; 6]) -> Option<String> {
    // SAFETY: the places of paths are those of the calls' signatures.
    let path = |i: usize| unsafe { name(args[i] as *const c_char) };
    Some(match number {
        libc::SYS_clone => "clone".into(),
        libc::SYS_clone3 => "clone3".into(),
        libc::SYS_fork => "fork".into(),
        libc::SYS_vfork => "vfork".into(),
        libc::SYS_execve => format!("execve({})", path(0)),
        libc::SYS_execveat => format!("execveat({})", path(1)),
        libc::SYS_kill => format!("kill({}, {})", args[0], args[1]),
        libc::SYS_tkill => format!("tkill({}, {})", args[0], args[1]),
        libc::SYS_tgkill => format!("tgkill({}, {}, {})", args[0], args[1], args[2]),
        libc::SYS_socket => format!("socket({})", family(args[0] as i32)),
        libc::SYS_socketpair => format!("socketpair({})", family(args[0] as i32)),
        libc::SYS_epoll_create | libc::SYS_epoll_create1 => "epoll_create".into(),
        libc::SYS_io_uring_setup => "io_uring_setup".into(),
        libc::SYS_creat => format!("creat({})", path(0)),
        libc::SYS_rename => format!("rename({}, {})", path(0), path(1)),
        libc::SYS_renameat | libc::SYS_renameat2 => format!("rename({}, {})", path(1), path(3)),
        libc::SYS_unlink => format!("unlink({})", path(0)),
        libc::SYS_unlinkat if args[2] as i32 & libc::AT_REMOVEDIR != 0 => format!("rmdir({})", path(1)),
        libc::SYS_unlinkat => format!("unlink({})", path(1)),
        libc::SYS_mkdir => format!("mkdir({})", path(0)),
        libc::SYS_mkdirat => format!("mkdir({})", path(1)),
        libc::SYS_rmdir => format!("rmdir({})", path(0)),
        libc::SYS_truncate => format!("truncate({})", path(0)),
        libc::SYS_link => format!("link({}, {})", path(0), path(1)),
        libc::SYS_linkat => format!("link({}, {})", path(1), path(3)),
        libc::SYS_symlink => format!("symlink({}, {})", path(0), path(1)),
        libc::SYS_symlinkat => format!("symlink({}, {})", path(0), path(2)),
        _ => return None,
    })
}

fn family(family: i32) -> String {
    match family {
        libc::AF_UNIX => "AF_UNIX".into(),
        libc::AF_INET => "AF_INET".into(),
        libc::AF_INET6 => "AF_INET6".into(),
        libc::AF_NETLINK => "AF_NETLINK".into(),
        other => other.to_string(),
    }
}

/// The errno that a forbidden call fails with: what it may fail with on a real machine.
pub(crate) fn refusal(number: i64) -> i64 {
    match number {
        libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork | libc::SYS_vfork => -libc::EAGAIN as i64,
        _ => -libc::EPERM as i64,
    }
}

/// Refuses the call inside a run, makes it outside.
///
/// # Safety
/// The arguments are those of the system call.
pub(super) unsafe fn outside_only(number: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(world) = world() {
            if let Some(call) = forbidden(number, args) {
                escape(world, call);
            }
            return errno(refusal(number));
        }
        errno(raw::call(number, args))
    }
}

/// Functions of libc that end a run as escaped, by name, and say EAGAIN.
macro_rules! refused {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        /// # Safety
        /// As the function of this name in libc.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($arg: $type),*) -> i32 {
            if let Some(world) = world() {
                escape(world, stringify!($name).into());
                return errno(-libc::EAGAIN as i64) as i32;
            }
            real!($name($($arg),*): fn($($type),*) -> i32, else -1)
        }
    )*};
}

pub(super) use refused;

// They begin with libc's own fork, which passes by no symbol.
refused! {
    fork();
    _Fork();
    daemon(keep_dir: i32, keep_output: i32);
    forkpty(terminal: *mut i32, name: *mut c_char, modes: *const c_void, size: *const c_void);
    clone(begin: *const c_void, stack: *mut c_void, flags: i32, argument: *mut c_void, parent_id: *mut i32,
        thread: *mut c_void, child_id: *mut i32);
}

/// As fork: a function that returns cannot stand before one that shares its caller's stack, and POSIX lets vfork be fork.
///
/// # Safety
/// As fork(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn vfork() -> i32 {
    // SAFETY: the caller's promise.
    unsafe { fork() }
}

/// # Safety
/// As execve(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn execve(path: *const c_char, argv: *const c_void, envp: *const c_void) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { outside_only(libc::SYS_execve, [path as i64, argv as i64, envp as i64, 0, 0, 0]) as i32 }
}

macro_rules! spawns {
    ($name:ident) => {
        /// # Safety
        /// As posix_spawn(3).
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(
            pid: *mut i32,
            path: *const c_char,
            actions: *const c_void,
            attr: *const c_void,
            argv: *const c_void,
            envp: *const c_void,
        ) -> i32 {
            if let Some(world) = world() {
                // SAFETY: the caller's promise: a C string.
                escape(world, format!("{}({})", stringify!($name), unsafe { name(path) }));
                return libc::EAGAIN;
            }
            if trap::forbids_processes() {
                return libc::EAGAIN;
            }
            real!(
                $name(pid, path, actions, attr, argv, envp):
                    fn(*mut i32, *const c_char, *const c_void, *const c_void, *const c_void, *const c_void) -> i32,
                else libc::ENOSYS
            )
        }
    };
}
spawns!(posix_spawn);
spawns!(posix_spawnp);

/// # Safety
/// As system(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn system(command: *const c_char) -> i32 {
    if let Some(world) = world() {
        // SAFETY: the caller's promise: a C string, or null.
        escape(world, format!("system({})", unsafe { name(command) }));
        return errno(-libc::EAGAIN as i64) as i32;
    }
    real!(system(command): fn(*const c_char) -> i32, else -1)
}

/// # Safety
/// As popen(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn popen(command: *const c_char, kind: *const c_char) -> *mut c_void {
    if let Some(world) = world() {
        // SAFETY: the caller's promise: a C string.
        escape(world, format!("popen({})", unsafe { name(command) }));
        errno(-libc::EAGAIN as i64);
        return std::ptr::null_mut();
    }
    real!(
        popen(command, kind): fn(*const c_char, *const c_char) -> *mut c_void,
        else std::ptr::null_mut()
    )
}
