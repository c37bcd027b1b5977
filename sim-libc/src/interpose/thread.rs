//! pthread_create(3) and the rest of a thread's life, and C11's names for it. In a run threads are the World's; see
//! [`crate::threads`].

use super::escapes::refused;
use super::real::real;
use super::{errno, escape, time, world};
use crate::raw;
use crate::threads::{self, Start};
use libc::{c_void, pthread_t, timespec};
use sim_core::{Instant, World};
use std::ffi::{CStr, c_char};

/// # Safety
/// As pthread_create(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_create(
    thread: *mut pthread_t,
    attr: *const libc::pthread_attr_t,
    start: Start,
    arg: *mut c_void,
) -> i32 {
    if let Some(world) = world() {
        // SAFETY: the caller's promise.
        return unsafe { threads::start(world, thread, attr, start, arg) };
    }
    real!(
        pthread_create(thread, attr, start, arg):
            fn(*mut pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> i32,
        else libc::ENOSYS
    )
}

/// # Safety
/// As pthread_join(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_join(thread: pthread_t, value: *mut *mut c_void) -> i32 {
    // SAFETY: the caller's promise.
    let ours = threads::world().and_then(|world| unsafe { threads::join(world, thread, value, None) });
    ours.unwrap_or_else(
        || real!(pthread_join(thread, value): fn(pthread_t, *mut *mut c_void) -> i32, else libc::ENOSYS),
    )
}

/// # Safety
/// As pthread_tryjoin_np(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_tryjoin_np(thread: pthread_t, value: *mut *mut c_void) -> i32 {
    // SAFETY: the caller's promise.
    let ours = threads::world().and_then(|world| unsafe { threads::join(world, thread, value, Some(Instant::ZERO)) });
    match ours {
        Some(libc::ETIMEDOUT) => libc::EBUSY,
        Some(result) => result,
        None => {
            real!(pthread_tryjoin_np(thread, value): fn(pthread_t, *mut *mut c_void) -> i32, else libc::ENOSYS)
        }
    }
}

/// # Safety
/// As pthread_timedjoin_np(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_timedjoin_np(
    thread: pthread_t,
    value: *mut *mut c_void,
    limit: *const timespec,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { pthread_clockjoin_np(thread, value, libc::CLOCK_REALTIME, limit) }
}

/// # Safety
/// As pthread_clockjoin_np(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_clockjoin_np(
    thread: pthread_t,
    value: *mut *mut c_void,
    clock: libc::clockid_t,
    limit: *const timespec,
) -> i32 {
    let ours = threads::world().and_then(|world| {
        // SAFETY: the caller's promise: a timespec, or null for no limit.
        let until = match unsafe { limit.as_ref() } {
            None => None,
            Some(limit) => match time::deadline(world, clock, *limit, true) {
                None => return Some(libc::EINVAL),
                until => until,
            },
        };
        // SAFETY: as above.
        unsafe { threads::join(world, thread, value, until) }
    });
    ours.unwrap_or_else(|| {
        real!(
            pthread_clockjoin_np(thread, value, clock, limit):
                fn(pthread_t, *mut *mut c_void, libc::clockid_t, *const timespec) -> i32,
            else libc::ENOSYS
        )
    })
}

/// # Safety
/// As pthread_detach(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_detach(thread: pthread_t) -> i32 {
    let ours = threads::world().and_then(|world| threads::detach(world, thread));
    ours.unwrap_or_else(|| real!(pthread_detach(thread): fn(pthread_t) -> i32, else libc::ENOSYS))
}

/// In a run it names the thread for reports, and for debuggers if it is the thread's own name.
///
/// # Safety
/// As pthread_setname_np(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> i32 {
    if let Some(world) = world().filter(|_| !name.is_null()) {
        // SAFETY: the caller's promise: a C string.
        let text = unsafe { CStr::from_ptr(name) }.to_bytes();
        if text.len() > 15 {
            return libc::ERANGE;
        }
        let Some(id) = threads::number(world, thread) else { return libc::ENOENT };
        world.name_thread(id, &String::from_utf8_lossy(text));
        if id != world.running_thread() {
            return 0;
        }
    }
    real!(pthread_setname_np(thread, name): fn(pthread_t, *const c_char) -> i32, else libc::ENOSYS)
}

/// A signal to the calling thread is its own matter; another's would come while that stands still.
fn may_signal(world: &World, call: &str, thread: pthread_t, signal: i32) -> bool {
    // SAFETY: no preconditions.
    if signal == 0 || thread == unsafe { libc::pthread_self() } {
        return true;
    }
    escape(world, format!("{call}({signal}) to another thread"));
    false
}

/// # Safety
/// As pthread_kill(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_kill(thread: pthread_t, signal: i32) -> i32 {
    if world().is_some_and(|world| !may_signal(world, "pthread_kill", thread, signal)) {
        return libc::EPERM;
    }
    real!(pthread_kill(thread, signal): fn(pthread_t, i32) -> i32, else libc::ENOSYS)
}

/// # Safety
/// As pthread_sigqueue(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_sigqueue(thread: pthread_t, signal: i32, value: libc::sigval) -> i32 {
    if world().is_some_and(|world| !may_signal(world, "pthread_sigqueue", thread, signal)) {
        return libc::EPERM;
    }
    real!(pthread_sigqueue(thread, signal, value): fn(pthread_t, i32, libc::sigval) -> i32, else libc::ENOSYS)
}

/// # Safety
/// As pthread_cancel(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cancel(thread: pthread_t) -> i32 {
    if let Some(world) = world() {
        escape(world, "pthread_cancel".into());
        return libc::ESRCH;
    }
    real!(pthread_cancel(thread): fn(pthread_t) -> i32, else libc::ENOSYS)
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sched_yield() -> i32 {
    if world().is_some() {
        threads::yield_now();
        return 0;
    }
    // SAFETY: the call takes nothing.
    errno(unsafe { raw::call(libc::SYS_sched_yield, [0; 6]) }) as i32
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_yield() -> i32 {
    // SAFETY: no preconditions.
    unsafe { sched_yield() }
}

// ---- what libc would start a thread for in secret, or have the kernel signal by the real clock -----------------------

refused! {
    aio_read(request: *mut c_void);
    aio_read64(request: *mut c_void);
    aio_write(request: *mut c_void);
    aio_write64(request: *mut c_void);
    aio_fsync(how: i32, request: *mut c_void);
    aio_fsync64(how: i32, request: *mut c_void);
    lio_listio(mode: i32, requests: *const c_void, count: i32, event: *mut c_void);
    lio_listio64(mode: i32, requests: *const c_void, count: i32, event: *mut c_void);
    getaddrinfo_a(mode: i32, requests: *mut c_void, count: i32, event: *mut c_void);
    mq_notify(queue: i32, event: *const c_void);
    timer_create(clock: libc::clockid_t, event: *mut c_void, timer: *mut c_void);
    setitimer(which: i32, new: *const c_void, old: *mut c_void);
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn alarm(seconds: u32) -> u32 {
    if let Some(world) = world() {
        escape(world, format!("alarm({seconds})"));
        return 0;
    }
    real!(alarm(seconds): fn(u32) -> u32, else 0)
}

// ---- C11 (threads.h) ------------------------------------------------------------------------------------------------

const THRD_SUCCESS: i32 = 0;
const THRD_ERROR: i32 = 2;
const THRD_NOMEM: i32 = 3;

/// An errno as threads.h has it.
pub(super) fn c11(errno: i32) -> i32 {
    const BUSY: i32 = 1;
    const TIMEDOUT: i32 = 4;
    match errno {
        0 => THRD_SUCCESS,
        libc::EBUSY => BUSY,
        libc::ETIMEDOUT => TIMEDOUT,
        libc::EAGAIN | libc::ENOMEM => THRD_NOMEM,
        _ => THRD_ERROR,
    }
}

type C11Start = unsafe extern "C-unwind" fn(*mut c_void) -> i32;

/// # Safety
/// `begun` was made by `thrd_create` for this thread.
unsafe extern "C-unwind" fn c11_thread(begun: *mut c_void) -> *mut c_void {
    // SAFETY: the caller's promise; what the program gave to run is run once.
    unsafe {
        let (start, arg) = *Box::from_raw(begun.cast::<(C11Start, *mut c_void)>());
        start(arg) as isize as *mut c_void
    }
}

/// # Safety
/// As C11's thrd_create.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn thrd_create(thread: *mut pthread_t, start: C11Start, arg: *mut c_void) -> i32 {
    let begun = Box::into_raw(Box::new((start, arg)));
    // SAFETY: the caller's promise. Without a thread the box is taken back.
    unsafe {
        let result = pthread_create(thread, std::ptr::null(), c11_thread, begun.cast());
        if result != 0 {
            drop(Box::from_raw(begun));
        }
        c11(result)
    }
}

/// # Safety
/// As C11's thrd_join.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn thrd_join(thread: pthread_t, value: *mut i32) -> i32 {
    let mut returned = std::ptr::null_mut();
    // SAFETY: the caller's promise; a local.
    unsafe {
        let result = pthread_join(thread, &mut returned);
        if result == 0 && !value.is_null() {
            value.write(returned as isize as i32);
        }
        c11(result)
    }
}

/// # Safety
/// As C11's thrd_detach.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn thrd_detach(thread: pthread_t) -> i32 {
    // SAFETY: the caller's promise.
    c11(unsafe { pthread_detach(thread) })
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn thrd_yield() {
    // SAFETY: no preconditions.
    unsafe { sched_yield() };
}

/// # Safety
/// As C11's thrd_sleep.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn thrd_sleep(request: *const timespec, left: *mut timespec) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { time::clock_nanosleep(libc::CLOCK_REALTIME, 0, request, left) } {
        0 => 0,
        libc::EINTR => -1,
        _ => -2,
    }
}
