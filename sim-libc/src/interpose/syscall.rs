//! syscall(2): the same answers for callers that name system calls by number, as std, getrandom 0.2 and parking_lot do.

use super::{entropy, errno, escape, escapes, machine, output, time, world};
use crate::{descriptors, files, raw, threads};
use libc::timespec;
use sim_core::World;

/// # Safety
/// As the system call of that number. Variadic in C: integer arguments stand in the same registers and stack places as
/// those of a function of fixed arity (System V ABI, AMD64, 3.5.7).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn syscall(number: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64 {
    let args = [a, b, c, d, e, f];
    // SAFETY: the caller's promise.
    unsafe {
        let answered = match world() {
            Some(world) => answer(world, number, args).or_else(|| {
                escape(world, escapes::forbidden(number, args)?);
                Some(escapes::refusal(number))
            }),
            // Another thread of the run may wait there, or be waited for.
            None if number == libc::SYS_futex => threads::world().and_then(|world| threads::futex::futex(world, args)),
            None => None,
        };
        errno(answered.unwrap_or_else(|| raw::call(number, args)))
    }
}

/// What a run answers, in the kernel's convention; `None` if it has no answer, and the call is forbidden or goes through.
///
/// # Safety
/// As the system call.
pub(crate) unsafe fn answer(world: &'static World, number: i64, args: [i64; 6]) -> Option<i64> {
    let [a, b, c, ..] = args;
    // SAFETY: the caller's promise; the casts follow the calls' signatures.
    unsafe {
        if let Some(result) = files::calls::answer(world, number, args) {
            return Some(result);
        }
        if let Some(result) = descriptors::calls::answer(world, number, args) {
            return Some(result);
        }
        Some(match number {
            libc::SYS_getrandom => entropy::fill(world, a as *mut u8, b as usize),
            libc::SYS_clock_gettime => time::get(world, a as i32, b as *mut timespec),
            libc::SYS_gettimeofday => time::get_day(world, a as *mut libc::timeval),
            libc::SYS_time => time::time(a as *mut i64),
            libc::SYS_nanosleep => time::sleep_on(world, libc::CLOCK_MONOTONIC, 0, a as *const timespec),
            libc::SYS_clock_nanosleep => time::sleep_on(world, a as i32, b as i32, c as *const timespec),
            libc::SYS_sched_getaffinity => machine::affinity(c as *mut u8, b as usize),
            libc::SYS_sched_setaffinity => machine::set_affinity(c as *const u8, b as usize),
            libc::SYS_uname => machine::describe(world, a as *mut libc::utsname),
            libc::SYS_sysinfo => machine::show(world, a as *mut libc::sysinfo),
            libc::SYS_getrusage => machine::usage(world, a as i32, b as *mut libc::rusage),
            libc::SYS_times => machine::ticks(world, a as *mut libc::tms),
            libc::SYS_getcpu => machine::getcpu(a as *mut u32, b as *mut u32) as i64,
            libc::SYS_getpid => machine::pid(world),
            libc::SYS_gettid => machine::tid(world),
            libc::SYS_getppid => 1,
            libc::SYS_write => return output::put(a as i32, b as *const u8, c as usize),
            libc::SYS_futex => return threads::futex::futex(world, args),
            libc::SYS_sched_yield => {
                threads::yield_now();
                0
            }
            libc::SYS_open => return refused(escapes::may_open(world, "open", a as *const _, b as i32)),
            libc::SYS_openat => return refused(escapes::may_open(world, "open", b as *const _, c as i32)),
            libc::SYS_openat2 => {
                // struct open_how begins with the flags, in 64 bits.
                let flags = (c as *const u64).as_ref().map_or(0, |flags| *flags as i32);
                return refused(escapes::may_open(world, "open", b as *const _, flags));
            }
            _ => return None,
        })
    }
}

fn refused(allowed: bool) -> Option<i64> {
    if allowed { None } else { Some(-libc::EPERM as i64) }
}
