//! Clocks and sleep. A thread that sleeps lets virtual time pass and returns at once.

use super::real::real;
use super::{errno, world};
use crate::descriptors::steps;
use crate::{raw, threads, trap};
use libc::{clockid_t, timespec, timeval};
use sim_core::{Instant, World};
use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;
/// TAI minus UTC, unchanged since 2017.
const TAI_AHEAD_S: u64 = 37;

/// What a clock shows, ns; `None` if there is no such clock. Processor time is the virtual time of the run: nothing else
/// uses the processor.
pub(super) fn read_ns(world: &World, clock: clockid_t) -> Option<u64> {
    Some(match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_REALTIME_ALARM => world.read_wall_ns(),
        libc::CLOCK_TAI => world.read_wall_ns().saturating_add(TAI_AHEAD_S * SECOND_NS),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_BOOTTIME_ALARM => world.read_monotonic_ns(),
        // Negative: the clock of some process or thread (man 3 clock_getcpuclockid).
        libc::CLOCK_PROCESS_CPUTIME_ID | libc::CLOCK_THREAD_CPUTIME_ID | i32::MIN..0 => {
            world.read_monotonic_ns();
            world.now().0
        }
        _ => return None,
    })
}

/// A thread that waits for a time, or for what another one does until then, by reading the clock lets the others go on. The
/// readings themselves are what lets time pass: one that has much to do reads it often, too. A runtime that computes until when it
/// will wait is not such a one: what another thread did meanwhile, it would sleep through.
fn has_read(world: &World) {
    if world.reads_on_and_on() && !steps::runtime_acts(world) {
        threads::give_way();
    }
}

fn split(ns: u64) -> timespec {
    timespec { tv_sec: (ns / SECOND_NS) as i64, tv_nsec: (ns % SECOND_NS) as i64 }
}

fn join(ts: timespec) -> Option<Duration> {
    let valid = ts.tv_sec >= 0 && (0..SECOND_NS as i64).contains(&ts.tv_nsec);
    valid.then(|| Duration::new(ts.tv_sec as u64, ts.tv_nsec as u32))
}

/// The virtual time that a time limit of `clock` means, relative or absolute; `None` if it is no time, or there is no such
/// clock.
pub(crate) fn deadline(world: &World, clock: clockid_t, limit: timespec, absolute: bool) -> Option<Instant> {
    let limit = join(limit)?;
    let left = if absolute { limit.saturating_sub(Duration::from_nanos(read_ns(world, clock)?)) } else { limit };
    Some(world.now() + left)
}

/// In the kernel's convention.
///
/// # Safety
/// `out` is valid for writes, or null.
pub(crate) unsafe fn get(world: &World, clock: clockid_t, out: *mut timespec) -> i64 {
    let Some(ns) = read_ns(world, clock) else { return -libc::EINVAL as i64 };
    has_read(world);
    if out.is_null() {
        return -libc::EFAULT as i64;
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(split(ns)) };
    0
}

/// # Safety
/// As [`get`].
pub(crate) unsafe fn get_day(world: &World, out: *mut timeval) -> i64 {
    let ns = world.read_wall_ns();
    has_read(world);
    if !out.is_null() {
        let tv = timeval { tv_sec: (ns / SECOND_NS) as i64, tv_usec: (ns % SECOND_NS / 1_000) as i64 };
        // SAFETY: the caller's promise.
        unsafe { out.write(tv) };
    }
    0
}

/// # Safety
/// `request` is valid for reads, or null.
pub(super) unsafe fn sleep_on(world: &'static World, clock: clockid_t, flags: i32, request: *const timespec) -> i64 {
    // As libc and the kernel have it: one cannot wait for a thread's own processor time, nor by clocks that only show.
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI => {}
        libc::CLOCK_PROCESS_CPUTIME_ID => {}
        libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE => {
            return -libc::EOPNOTSUPP as i64;
        }
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => return -libc::EPERM as i64,
        _ => return -libc::EINVAL as i64,
    }
    if request.is_null() {
        return -libc::EFAULT as i64;
    }
    // SAFETY: the caller's promise.
    let request = unsafe { request.read() };
    let Some(until) = deadline(world, clock, request, flags & libc::TIMER_ABSTIME != 0) else {
        return -libc::EINVAL as i64;
    };
    threads::sleep(world, until.since(world.now()));
    0
}

/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> i32 {
    if let Some(world) = world() {
        // SAFETY: the caller's promise.
        return errno(unsafe { get(world, clock, out) }) as i32;
    }
    let mut missing = trap::tsc_is_trapped(); // libc's reads the time stamp counter.
    if !missing {
        let result = real!(clock_gettime(clock, out): fn(clockid_t, *mut timespec) -> i32, else {
            missing = true;
            -1
        });
        if !missing {
            return result;
        }
    }
    // SAFETY: the caller's promise.
    errno(unsafe { raw::call(libc::SYS_clock_gettime, [clock as i64, out as i64, 0, 0, 0, 0]) }) as i32
}

/// # Safety
/// As gettimeofday(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gettimeofday(out: *mut timeval, zone: *mut libc::c_void) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe {
        match world() {
            Some(world) => get_day(world, out),
            None => raw::call(libc::SYS_gettimeofday, [out as i64, zone as i64, 0, 0, 0, 0]),
        }
    };
    errno(result) as i32
}

/// # Safety
/// As time(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn time(out: *mut libc::time_t) -> libc::time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local; and `out` is valid or null by the caller's promise.
    unsafe {
        clock_gettime(libc::CLOCK_REALTIME, &mut now);
        if !out.is_null() {
            out.write(now.tv_sec);
        }
    }
    now.tv_sec
}

/// # Safety
/// As C11's timespec_get.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn timespec_get(out: *mut timespec, base: i32) -> i32 {
    const TIME_UTC: i32 = 1;
    // SAFETY: the caller's promise.
    let done = base == TIME_UTC && unsafe { clock_gettime(libc::CLOCK_REALTIME, out) } == 0;
    if done { base } else { 0 }
}

/// # Safety
/// As nanosleep(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn nanosleep(request: *const timespec, left: *mut timespec) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe {
        match world() {
            Some(world) => sleep_on(world, libc::CLOCK_MONOTONIC, 0, request),
            None => raw::call(libc::SYS_nanosleep, [request as i64, left as i64, 0, 0, 0, 0]),
        }
    };
    errno(result) as i32
}

/// # Safety
/// As clock_nanosleep(2), which returns the error instead of setting errno.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: i32,
    request: *const timespec,
    left: *mut timespec,
) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe {
        match world() {
            Some(world) => sleep_on(world, clock, flags, request),
            None => {
                let args = [clock as i64, flags as i64, request as i64, left as i64, 0, 0];
                raw::call(libc::SYS_clock_nanosleep, args)
            }
        }
    };
    -result as i32
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn usleep(us: u32) -> i32 {
    let request = split(us as u64 * 1_000);
    // SAFETY: a local, and null, which nanosleep allows.
    unsafe { nanosleep(&request, std::ptr::null_mut()) }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sleep(seconds: u32) -> u32 {
    let (request, mut left) = (split(seconds as u64 * SECOND_NS), split(0));
    // SAFETY: locals.
    match unsafe { nanosleep(&request, &mut left) } {
        0 => 0,
        _ => left.tv_sec as u32 + (left.tv_nsec > 0) as u32,
    }
}
