//! The locks of libc: mutexes, condition variables, read-write locks, semaphores, barriers, spin locks, pthread_once, and
//! C11's names for them.
//!
//! The state of a lock stays where libc has it, taken by libc's own functions that do not wait. Only the waiting is ours. So
//! the way without contention costs little more than libc's, and a lock that was taken outside a run is held inside.
//!
//! A mutex that a dead incarnation's thread holds is whoever's wants it: C libraries have some in static memory (SQLite's of
//! its table of files), held across system calls. Of other locks libc does not say who holds them; they stay held.

use super::real::{Real, real};
use super::thread::c11;
use super::{errno, escape, time};
use crate::threads::queues::{ANY, Key, Kind, call_first, line_up, park};
use crate::{process, raw, threads};
use libc::{c_void, clockid_t, timespec};
use sim_core::{Instant, World};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed};

/// The World in which a lock is waited for; `None` where a thread that is not simulated may release it.
#[inline]
fn waits() -> Option<&'static World> {
    threads::world().filter(|_| threads::has_threads() || process::captured())
}

/// The time limit of a wait.
///
/// # Safety
/// `limit` is valid for reads.
unsafe fn limit(world: &World, clock: clockid_t, limit: *const timespec) -> Result<Option<Instant>, i32> {
    if clock != libc::CLOCK_REALTIME && clock != libc::CLOCK_MONOTONIC {
        return Err(libc::EINVAL);
    }
    // SAFETY: the caller's promise.
    time::deadline(world, clock, unsafe { limit.read() }, true).map(Some).ok_or(libc::EINVAL)
}

/// Tries, and lines up at `key` where that says EBUSY. The limit is looked at where there is something to wait for.
#[inline]
fn acquire(
    world: &'static World,
    key: Key,
    chain: bool,
    what: &'static str,
    until: impl FnOnce() -> Result<Option<Instant>, i32>,
    mut attempt: impl FnMut() -> i32,
) -> i32 {
    match attempt() {
        libc::EBUSY => match until() {
            Err(errno) => errno,
            Ok(Some(until)) if until <= world.now() => libc::ETIMEDOUT,
            Ok(until) => line_up(world, key, chain, what, until, attempt),
        },
        result => result,
    }
}

// ---- mutexes --------------------------------------------------------------------------------------------------------

// In pthread_mutex_t (bits/struct_mutex.h, x86-64; its initialisers make it part of the binary interface).
const MUTEX_OWNER: usize = 8;
const MUTEX_USERS: usize = 12;
const MUTEX_KIND: usize = 16;
const KIND_BITS: i32 = 3;
const ERROR_CHECK: i32 = 2;
const ROBUST: i32 = 16;

/// A mutex is taken. If who holds it died with its machine, it is let go: a process that starts again finds its memory as
/// new, and machines share none. Says whether it is free now.
///
/// # Safety
/// `mutex` is a pthread_mutex_t.
#[cold]
unsafe fn inherit(world: &World, mutex: *mut c_void) -> bool {
    // SAFETY: the caller's promise; one thread runs, and the owner is none that ever will.
    unsafe {
        if !threads::of(world).seats.stands_dead(world, mutex.byte_add(MUTEX_OWNER).cast::<i32>().read()) {
            return false;
        }
        let users = mutex.byte_add(MUTEX_USERS).cast::<u32>();
        users.write(users.read().saturating_sub(1));
        // The lock word, how often it was taken, and the owner.
        mutex.cast::<[u32; 3]>().write([0; 3]);
    }
    true
}

/// # Safety
/// `mutex` is a pthread_mutex_t.
#[inline]
unsafe fn lock_until(
    world: &'static World,
    mutex: *mut c_void,
    until: impl FnOnce() -> Result<Option<Instant>, i32>,
) -> i32 {
    // SAFETY: the caller's promise.
    let kind = unsafe { mutex.byte_add(MUTEX_KIND).cast::<i32>().read() };
    if kind & ROBUST != 0 {
        escape(world, "pthread_mutex_lock of a robust mutex".into());
        return libc::EINVAL;
    }
    let attempt = || {
        let mut result = real!(pthread_mutex_trylock(mutex): fn(*mut c_void) -> i32, else libc::EINVAL);
        // SAFETY: the caller's promise.
        if result == libc::EBUSY && unsafe { inherit(world, mutex) } {
            result = real!(pthread_mutex_trylock(mutex): fn(*mut c_void) -> i32, else libc::EINVAL);
        }
        if result == libc::EBUSY && kind & KIND_BITS == ERROR_CHECK {
            // SAFETY: the caller's promise; the call takes nothing.
            let (owner, me) = unsafe {
                (mutex.byte_add(MUTEX_OWNER).cast::<i32>().read(), raw::call(libc::SYS_gettid, [0; 6]) as i32)
            };
            if owner == me {
                return libc::EDEADLK;
            }
        }
        result
    };
    acquire(world, (Kind::Mutex, mutex as usize), false, "a mutex (pthread_mutex_lock)", until, attempt)
}

/// # Safety
/// As pthread_mutex_lock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_mutex_lock(mutex: *mut c_void) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { lock_until(world, mutex, || Ok(None)) },
        None => real!(pthread_mutex_lock(mutex): fn(*mut c_void) -> i32, else libc::EINVAL),
    }
}

/// # Safety
/// As pthread_mutex_timedlock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_mutex_timedlock(mutex: *mut c_void, until: *const timespec) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { lock_until(world, mutex, || limit(world, libc::CLOCK_REALTIME, until)) },
        None => {
            real!(pthread_mutex_timedlock(mutex, until): fn(*mut c_void, *const timespec) -> i32, else libc::EINVAL)
        }
    }
}

/// # Safety
/// As pthread_mutex_clocklock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_mutex_clocklock(
    mutex: *mut c_void,
    clock: clockid_t,
    until: *const timespec,
) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { lock_until(world, mutex, || limit(world, clock, until)) },
        None => real!(
            pthread_mutex_clocklock(mutex, clock, until): fn(*mut c_void, clockid_t, *const timespec) -> i32,
            else libc::EINVAL
        ),
    }
}

/// # Safety
/// As pthread_mutex_unlock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut c_void) -> i32 {
    let result = real!(pthread_mutex_unlock(mutex): fn(*mut c_void) -> i32, else libc::EINVAL);
    call_first((Kind::Mutex, mutex as usize));
    result
}

// ---- condition variables --------------------------------------------------------------------------------------------

/// The clock of a condition variable. Where libc keeps it differs between its versions, so a specimen is looked at once:
/// the one bit that is set in a fresh one with the monotonic clock.
///
/// # Safety
/// `condition` is a pthread_cond_t.
unsafe fn clock_of(condition: *const c_void) -> clockid_t {
    static PLACE: AtomicUsize = AtomicUsize::new(0); // offset << 8 | bit, and bit is not 0
    let mut place = PLACE.load(Relaxed);
    if place == 0 {
        let mut specimen = [0u8; size_of::<libc::pthread_cond_t>()];
        // SAFETY: a zeroed local of the right size; the attributes are initialised before use and destroyed once.
        unsafe {
            let mut attr = std::mem::zeroed();
            libc::pthread_condattr_init(&mut attr);
            libc::pthread_condattr_setclock(&mut attr, libc::CLOCK_MONOTONIC);
            libc::pthread_cond_init(specimen.as_mut_ptr().cast(), &attr);
            libc::pthread_condattr_destroy(&mut attr);
        }
        let Some(offset) = specimen.iter().position(|b| *b != 0) else { return libc::CLOCK_REALTIME };
        place = offset << 8 | specimen[offset] as usize;
        PLACE.store(place, Relaxed);
    }
    // SAFETY: the offset lies inside a pthread_cond_t.
    let byte = unsafe { condition.cast::<u8>().add(place >> 8).read() } as usize;
    if byte & place & 0xff != 0 { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME }
}

/// # Safety
/// As pthread_cond_wait(3).
unsafe fn wait_until(
    world: &'static World,
    condition: *mut c_void,
    mutex: *mut c_void,
    until: Result<Option<Instant>, i32>,
) -> i32 {
    let until = match until {
        Ok(until) => until,
        Err(errno) => return errno,
    };
    // SAFETY: the caller's promise. Nobody runs between the unlocking and the waiting.
    unsafe {
        match pthread_mutex_unlock(mutex) {
            0 => {}
            failed => return failed,
        }
        let woken = park(world, (Kind::Condition, condition as usize), ANY, "a condition variable", until);
        match pthread_mutex_lock(mutex) {
            0 if !woken => libc::ETIMEDOUT,
            result => result,
        }
    }
}

/// # Safety
/// As pthread_cond_wait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cond_wait(condition: *mut c_void, mutex: *mut c_void) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { wait_until(world, condition, mutex, Ok(None)) },
        None => real!(pthread_cond_wait(condition, mutex): fn(*mut c_void, *mut c_void) -> i32, else libc::EINVAL),
    }
}

/// # Safety
/// As pthread_cond_timedwait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const timespec,
) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { wait_until(world, condition, mutex, limit(world, clock_of(condition), until)) },
        None => real!(
            pthread_cond_timedwait(condition, mutex, until): fn(*mut c_void, *mut c_void, *const timespec) -> i32,
            else libc::EINVAL
        ),
    }
}

/// # Safety
/// As pthread_cond_clockwait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cond_clockwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    clock: clockid_t,
    until: *const timespec,
) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { wait_until(world, condition, mutex, limit(world, clock, until)) },
        None => real!(
            pthread_cond_clockwait(condition, mutex, clock, until):
                fn(*mut c_void, *mut c_void, clockid_t, *const timespec) -> i32,
            else libc::EINVAL
        ),
    }
}

/// Wakes those that wait in the run. Others may wait for real, so libc's own wake follows.
fn wake_condition(condition: *mut c_void, most: usize) {
    if let Some(world) = threads::world() {
        threads::of(world).queues.wake(world, (Kind::Condition, condition as usize), ANY, most);
    }
}

/// # Safety
/// As pthread_cond_signal(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cond_signal(condition: *mut c_void) -> i32 {
    wake_condition(condition, 1);
    real!(pthread_cond_signal(condition): fn(*mut c_void) -> i32, else libc::EINVAL)
}

/// # Safety
/// As pthread_cond_broadcast(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_cond_broadcast(condition: *mut c_void) -> i32 {
    wake_condition(condition, usize::MAX);
    real!(pthread_cond_broadcast(condition): fn(*mut c_void) -> i32, else libc::EINVAL)
}

// ---- read-write locks -----------------------------------------------------------------------------------------------

/// # Safety
/// `lock` is a pthread_rwlock_t.
unsafe fn read_until(
    world: &'static World,
    lock: *mut c_void,
    until: impl FnOnce() -> Result<Option<Instant>, i32>,
) -> i32 {
    let attempt = || real!(pthread_rwlock_tryrdlock(lock): fn(*mut c_void) -> i32, else libc::EINVAL);
    acquire(world, (Kind::ReadWrite, lock as usize), true, "a read-write lock (to read)", until, attempt)
}

/// # Safety
/// `lock` is a pthread_rwlock_t.
unsafe fn write_until(
    world: &'static World,
    lock: *mut c_void,
    until: impl FnOnce() -> Result<Option<Instant>, i32>,
) -> i32 {
    let attempt = || real!(pthread_rwlock_trywrlock(lock): fn(*mut c_void) -> i32, else libc::EINVAL);
    acquire(world, (Kind::ReadWrite, lock as usize), false, "a read-write lock (to write)", until, attempt)
}

macro_rules! locks_to {
    ($until:ident: $lock:ident, $timed:ident, $clocked:ident) => {
        /// # Safety
        /// As the function of this name in pthread.h.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $lock(lock: *mut c_void) -> i32 {
            match waits() {
                // SAFETY: the caller's promise.
                Some(world) => unsafe { $until(world, lock, || Ok(None)) },
                None => real!($lock(lock): fn(*mut c_void) -> i32, else libc::EINVAL),
            }
        }

        /// # Safety
        /// As the function of this name in pthread.h.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $timed(lock: *mut c_void, until: *const timespec) -> i32 {
            match waits() {
                // SAFETY: the caller's promise.
                Some(world) => unsafe { $until(world, lock, || limit(world, libc::CLOCK_REALTIME, until)) },
                None => real!($timed(lock, until): fn(*mut c_void, *const timespec) -> i32, else libc::EINVAL),
            }
        }

        /// # Safety
        /// As the function of this name in pthread.h.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $clocked(lock: *mut c_void, clock: clockid_t, until: *const timespec) -> i32 {
            match waits() {
                // SAFETY: the caller's promise.
                Some(world) => unsafe { $until(world, lock, || limit(world, clock, until)) },
                None => real!(
                    $clocked(lock, clock, until): fn(*mut c_void, clockid_t, *const timespec) -> i32,
                    else libc::EINVAL
                ),
            }
        }
    };
}
locks_to!(read_until: pthread_rwlock_rdlock, pthread_rwlock_timedrdlock, pthread_rwlock_clockrdlock);
locks_to!(write_until: pthread_rwlock_wrlock, pthread_rwlock_timedwrlock, pthread_rwlock_clockwrlock);

/// # Safety
/// As pthread_rwlock_unlock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_rwlock_unlock(lock: *mut c_void) -> i32 {
    let result = real!(pthread_rwlock_unlock(lock): fn(*mut c_void) -> i32, else libc::EINVAL);
    call_first((Kind::ReadWrite, lock as usize));
    result
}

// ---- semaphores -----------------------------------------------------------------------------------------------------

/// # Safety
/// `semaphore` is a sem_t.
unsafe fn take_until(
    world: &'static World,
    semaphore: *mut c_void,
    until: impl FnOnce() -> Result<Option<Instant>, i32>,
) -> i32 {
    let attempt = || {
        let result = real!(sem_trywait(semaphore): fn(*mut c_void) -> i32, else -1);
        // SAFETY: this thread's errno.
        match unsafe { *libc::__errno_location() } {
            _ if result == 0 => 0,
            libc::EAGAIN => libc::EBUSY,
            other => other,
        }
    };
    let result = acquire(world, (Kind::Semaphore, semaphore as usize), true, "a semaphore", until, attempt);
    errno(-result as i64) as i32
}

/// # Safety
/// As sem_wait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sem_wait(semaphore: *mut c_void) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { take_until(world, semaphore, || Ok(None)) },
        None => real!(sem_wait(semaphore): fn(*mut c_void) -> i32, else -1),
    }
}

/// # Safety
/// As sem_timedwait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sem_timedwait(semaphore: *mut c_void, until: *const timespec) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { take_until(world, semaphore, || limit(world, libc::CLOCK_REALTIME, until)) },
        None => real!(sem_timedwait(semaphore, until): fn(*mut c_void, *const timespec) -> i32, else -1),
    }
}

/// # Safety
/// As sem_clockwait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sem_clockwait(semaphore: *mut c_void, clock: clockid_t, until: *const timespec) -> i32 {
    match waits() {
        // SAFETY: the caller's promise.
        Some(world) => unsafe { take_until(world, semaphore, || limit(world, clock, until)) },
        None => {
            real!(sem_clockwait(semaphore, clock, until): fn(*mut c_void, clockid_t, *const timespec) -> i32, else -1)
        }
    }
}

/// # Safety
/// As sem_post(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sem_post(semaphore: *mut c_void) -> i32 {
    let result = real!(sem_post(semaphore): fn(*mut c_void) -> i32, else -1);
    call_first((Kind::Semaphore, semaphore as usize));
    result
}

// ---- barriers, spin locks, once -------------------------------------------------------------------------------------

/// How many a barrier waits for. Found as [`clock_of`] finds the clock.
///
/// # Safety
/// `barrier` is a pthread_barrier_t.
unsafe fn count_of(barrier: *const c_void) -> usize {
    const SPECIMEN: u32 = 0x0123_4567;
    static PLACE: AtomicUsize = AtomicUsize::new(usize::MAX);
    let mut place = PLACE.load(Relaxed);
    if place == usize::MAX {
        let mut specimen = [0u32; size_of::<libc::pthread_barrier_t>() / 4];
        // SAFETY: a zeroed local of the right size.
        unsafe { libc::pthread_barrier_init(specimen.as_mut_ptr().cast(), std::ptr::null(), SPECIMEN) };
        place = specimen.iter().position(|word| *word == SPECIMEN).unwrap_or(0);
        PLACE.store(place, Relaxed);
    }
    // SAFETY: the place lies inside a pthread_barrier_t.
    unsafe { barrier.cast::<u32>().add(place).read() as usize }
}

/// # Safety
/// As pthread_barrier_wait(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_barrier_wait(barrier: *mut c_void) -> i32 {
    let Some(world) = waits() else {
        return real!(pthread_barrier_wait(barrier): fn(*mut c_void) -> i32, else libc::EINVAL);
    };
    let (key, queues) = ((Kind::Barrier, barrier as usize), &threads::of(world).queues);
    // SAFETY: the caller's promise.
    if queues.waiting(key) + 1 < unsafe { count_of(barrier) } {
        park(world, key, ANY, "others at a barrier", None);
        return 0;
    }
    queues.wake(world, key, ANY, usize::MAX);
    libc::PTHREAD_BARRIER_SERIAL_THREAD
}

/// # Safety
/// As pthread_spin_lock(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_spin_lock(lock: *mut c_void) -> i32 {
    let Some(world) = waits() else {
        return real!(pthread_spin_lock(lock): fn(*mut c_void) -> i32, else libc::EINVAL);
    };
    loop {
        match real!(pthread_spin_trylock(lock): fn(*mut c_void) -> i32, else libc::EINVAL) {
            libc::EBUSY => world.yield_thread(),
            result => return result,
        }
    }
}

type Init = unsafe extern "C-unwind" fn();

/// # Safety
/// As pthread_once(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn pthread_once(once: *mut c_void, init: Init) -> i32 {
    const DONE: u32 = 2;
    static REAL: Real = Real::new(c"pthread_once");
    let real = REAL.address();
    if real.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the address is that of libc's function. It may unwind, since what it calls may.
    let real = unsafe { std::mem::transmute::<*mut (), unsafe extern "C-unwind" fn(*mut c_void, Init) -> i32>(real) };
    // SAFETY: the caller's promise: a pthread_once_t, which is an int.
    let done = || unsafe { (*once.cast::<AtomicU32>()).load(Acquire) } & DONE != 0;
    if done() {
        return 0;
    }
    // SAFETY: the caller's promise.
    let Some(world) = waits() else { return unsafe { real(once, init) } };
    /// Whoever waits looks again, also where the function unwound.
    struct Over(&'static World, usize);
    impl Drop for Over {
        fn drop(&mut self) {
            let queues = &threads::of(self.0).queues;
            queues.running_once.borrow_mut().retain(|at| *at != self.1);
            queues.wake(self.0, (Kind::Once, self.1), ANY, usize::MAX);
        }
    }
    let at = once as usize;
    while !done() {
        if threads::of(world).queues.running_once.borrow().contains(&at) {
            park(world, (Kind::Once, at), ANY, "a pthread_once that another thread runs", None);
            continue;
        }
        threads::of(world).queues.running_once.borrow_mut().push(at);
        let _over = Over(world, at);
        // SAFETY: the caller's promise.
        return unsafe { real(once, init) };
    }
    0
}

// ---- C11 (threads.h): libc's types are the same ---------------------------------------------------------------------

macro_rules! c11_names {
    ($($name:ident = $of:ident($($arg:ident: $type:ty),*);)*) => {$(
        /// # Safety
        /// As the function of this name in threads.h.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($arg: $type),*) -> i32 {
            // SAFETY: the caller's promise.
            c11(unsafe { $of($($arg),*) })
        }
    )*};
}

c11_names! {
    mtx_lock = pthread_mutex_lock(mutex: *mut c_void);
    mtx_timedlock = pthread_mutex_timedlock(mutex: *mut c_void, until: *const timespec);
    mtx_unlock = pthread_mutex_unlock(mutex: *mut c_void);
    cnd_wait = pthread_cond_wait(condition: *mut c_void, mutex: *mut c_void);
    cnd_timedwait = pthread_cond_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const timespec);
    cnd_signal = pthread_cond_signal(condition: *mut c_void);
    cnd_broadcast = pthread_cond_broadcast(condition: *mut c_void);
}

/// # Safety
/// As C11's call_once.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C-unwind" fn call_once(once: *mut c_void, init: Init) {
    // SAFETY: the caller's promise.
    unsafe { pthread_once(once, init) };
}
