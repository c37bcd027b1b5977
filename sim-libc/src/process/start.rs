//! The second start of a test's process: what the first one varies by (addresses, stack limit, path) is fixed.

use crate::raw;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The test binary is executed through this descriptor, so that its path does not shift the stack.
const BINARY_FD: i32 = 200;
const STACK_BYTES: u64 = 8 << 20;

/// Whether this process runs without address randomisation.
pub fn aslr_off() -> bool {
    // SAFETY: 0xffffffff asks for the present personality and changes nothing.
    let personality = unsafe { libc::personality(0xffff_ffff) };
    personality >= 0 && personality & libc::ADDR_NO_RANDOMIZE != 0
}

/// A command that executes `exe` with addresses fixed, an 8 MiB stack limit and a fixed name, to be given its arguments
/// and environment by the caller. The child dies with the thread that spawned it. Where the kernel forbids fixing the
/// addresses it runs all the same; [`aslr_off`] in it tells.
///
/// # Errors
/// `NotFound`, `PermissionDenied`: `exe` cannot be opened. `InvalidInput`: its path holds a zero byte.
pub fn hermetic_command(exe: &Path) -> io::Result<Command> {
    let path = CString::new(exe.as_os_str().as_bytes())?;
    drop(std::fs::File::open(exe)?);
    let through_fd = Path::new("/proc/self/fd").exists();
    let mut command = if through_fd { Command::new(format!("/proc/self/fd/{BINARY_FD}")) } else { Command::new(exe) };
    command.arg0("sim-test");
    let parent = std::process::id() as i32;
    let prepare = move || {
        // SAFETY: each call takes numbers or a pointer to a local or captured value that lives across it; all are
        // async-signal-safe, as needed between fork and exec.
        unsafe {
            if libc::getpid() != parent {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            // Forbidden in some containers: then the addresses vary, and the verdicts say so.
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            let mut stack = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            if libc::getrlimit(libc::RLIMIT_STACK, &mut stack) == 0 {
                stack.rlim_cur = STACK_BYTES.min(stack.rlim_max);
                libc::setrlimit(libc::RLIMIT_STACK, &stack);
            }
            if through_fd {
                let opened = raw::result(
                    libc::SYS_openat,
                    [libc::AT_FDCWD as i64, path.as_ptr() as i64, libc::O_RDONLY as i64, 0, 0, 0],
                )? as i32;
                if opened != BINARY_FD {
                    raw::result(libc::SYS_dup3, [opened as i64, BINARY_FD as i64, 0, 0, 0, 0])?;
                    raw::result(libc::SYS_close, [opened as i64, 0, 0, 0, 0, 0])?;
                }
            }
        }
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing, takes no lock and only makes system calls.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// Replaces this process by the command's; returns only if that fails. For debuggers, which follow one process.
pub fn exec_in_place(mut command: Command) -> io::Error {
    command.exec()
}

/// As many descriptors as a process of a run may have: those of the run's numbers that are the kernel's behind them, and
/// the simulator's own.
const DESCRIPTORS: u64 = 1 << 16;

/// Sets the limit of open descriptors to the same in all runs, as far as the hard limit goes.
pub(super) fn limit_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure of numbers, which lives across the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = DESCRIPTORS.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Whether there is room for the kernel's descriptors above those of the run.
pub fn has_room_for_descriptors() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: as above.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 };
    known && limit.rlim_cur >= 2 * crate::descriptors::KERNEL_FROM as u64
}

/// The first act of a process that [`hermetic_command`] started: closes the descriptor it was executed through and
/// overwrites the 16 random bytes that the kernel leaves on every process's stack (getauxval(3), AT_RANDOM).
pub fn begin() {
    const FIXED: [u8; 16] = *b"sim: no entropy!";
    limit_descriptors();
    // SAFETY: close takes a number; closing one that is not open is EBADF. getauxval returns 0 or the address of 16
    // writable bytes on the main stack, which live as long as the process; libc has read them before any of our code ran.
    unsafe {
        raw::call(libc::SYS_close, [BINARY_FD as i64, 0, 0, 0, 0, 0]);
        let random = libc::getauxval(libc::AT_RANDOM) as *mut u8;
        if !random.is_null() {
            std::ptr::copy_nonoverlapping(FIXED.as_ptr(), random, FIXED.len());
        }
    }
}

/// The names of this process's threads, oldest first. More than expected before the first fork is an error: a lock that
/// another thread holds at a fork stays locked for ever in the child.
///
/// # Errors
/// Those of reading `/proc/self/task`.
pub fn threads() -> io::Result<Vec<String>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        ids.extend(entry?.file_name().to_str().and_then(|n| n.parse::<u32>().ok()));
    }
    ids.sort_unstable();
    // One that ended meanwhile has no name any more.
    let name = |id| std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).ok();
    Ok(ids.into_iter().filter_map(name).map(|n| n.trim_end().to_owned()).collect())
}
