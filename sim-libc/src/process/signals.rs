//! Last words: a watchdog for polls that do not end, and a handler for signals that end the process.
//!
//! Both run as signal handlers: they read cells and write memory, nothing else.

use super::channel::note;
use crate::child::NoteKind;
use crate::line::Line;
use crate::{raw, trap};
use sim_core::World;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const ALT_STACK_BYTES: usize = 64 << 10;
/// As far from the stack pointer as a frame may reach past the end of the stack.
const STACK_END_BYTES: u64 = 64 << 10;
/// A poll may wait for real this many times longer than it may compute.
const WALL_FACTOR: u32 = 10;
const FATAL: [(i32, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
];
/// The exit status of a child that its watchdog ended.
pub(crate) const STUCK_STATUS: i32 = 124;

static ALT_STACK: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// Polls seen by the two timers' last expiry.
static POLLS: [AtomicU64; 2] = [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)];

/// Gives this thread a stack for signal handlers. Inherited by what it forks.
pub(super) fn prepare_thread() {
    // SAFETY: the mapping is private, fresh and never unmapped; sigaltstack reads the local struct.
    unsafe {
        if ALT_STACK.load(Relaxed).is_null() {
            let map = libc::mmap(
                std::ptr::null_mut(),
                ALT_STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if map == libc::MAP_FAILED {
                return;
            }
            ALT_STACK.store(map.cast(), Relaxed);
        }
        let stack = libc::stack_t { ss_sp: ALT_STACK.load(Relaxed).cast(), ss_flags: 0, ss_size: ALT_STACK_BYTES };
        libc::sigaltstack(&stack, std::ptr::null_mut());
    }
}

/// Lets SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT leave word of signal and task before they end the process as they
/// would. Applies to the process; the calling thread gets a stack for it. A child of a
/// [`Launcher`](super::Launcher) has this already.
pub fn catch_fatal_signals() {
    prepare_thread();
    handle_fatal_signals();
}

/// The same on a thread that was prepared, or forked from one that was.
pub(super) fn handle_fatal_signals() {
    for (signal, _) in FATAL {
        handle(signal, fatal, libc::SA_ONSTACK | libc::SA_NODEFER);
    }
}

pub(crate) fn handle(signal: i32, handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void), flags: i32) {
    // SAFETY: an all-zero sigaction is valid (no flags, empty mask); the handler has the signature that SA_SIGINFO means
    // and only makes async-signal-safe calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

extern "C" fn fatal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the context is the kernel's.
    if signal == libc::SIGSEGV && unsafe { trap::time_stamp(context) } {
        return;
    }
    let mut what = Line::<200>::new();
    what.push(FATAL.iter().find(|(n, _)| *n == signal).map_or("signal", |(_, name)| name));
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; a code above 0 for these signals means that the kernel
    // itself raised it, and then si_addr is set.
    // The context is a valid ucontext.
    let (address, stack) = unsafe {
        let stack = (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] as u64;
        (((*info).si_code > 0).then(|| (*info).si_addr() as u64), stack)
    };
    if let Some(address) = address.filter(|_| signal == libc::SIGSEGV || signal == libc::SIGBUS) {
        // Memory next to the stack pointer is missing only where the stack ends.
        if address.abs_diff(stack) < STACK_END_BYTES {
            what.push(" (stack overflow)");
        } else {
            what.push(" at ").push_hex(address);
        }
    }
    note(NoteKind::Crashed, what.bytes());
    // SAFETY: numbers, and a sigaction that is all zeros but for SIG_DFL, which is zero too. The thread's own id is valid.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &default, std::ptr::null_mut());
        let (pid, tid) = (raw::call(libc::SYS_getpid, [0; 6]), raw::call(libc::SYS_gettid, [0; 6]));
        raw::call(libc::SYS_tgkill, [pid, tid, signal as i64, 0, 0, 0]);
    }
}

/// Ends this process when one poll of its World computes for longer than `limit`, or takes ten times as long by the clock
/// on the wall (a poll that waits for something real, on a machine that may be busy), leaving word of the task. A run of
/// many polls may take as long as it likes. What is found is found between one and one and a half times the limit. What a
/// thread of the run does between two waits counts as one poll.
///
/// To be called on the thread that will enter the World, in the process that runs it; forked children call it themselves.
///
/// # Errors
/// Those of timer_create(2).
pub fn watchdog(limit: Duration) -> std::io::Result<()> {
    POLLS.iter().for_each(|p| p.store(u64::MAX, Relaxed));
    if ALT_STACK.load(Relaxed).is_null() {
        prepare_thread();
    }
    handle(libc::SIGALRM, alarm, libc::SA_ONSTACK | libc::SA_RESTART);
    let wall = limit.saturating_mul(WALL_FACTOR);
    for (which, (clock, limit)) in
        [(libc::CLOCK_PROCESS_CPUTIME_ID, limit), (libc::CLOCK_MONOTONIC, wall)].into_iter().enumerate()
    {
        let period = (limit / 2).max(Duration::from_millis(1));
        let every = libc::timespec { tv_sec: period.as_secs() as i64, tv_nsec: period.subsec_nanos() as i64 };
        let spec = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: sigevent and the timer's id are locals that live across the calls; an all-zero sigevent is valid, and
        // the fields that SIGEV_THREAD_ID needs are set. The kernel's timer id is an int, here and in the call after.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_value.sival_ptr = which as *mut libc::c_void;
            event.sigev_notify_thread_id = raw::call(libc::SYS_gettid, [0; 6]) as i32;
            let mut id = 0i32;
            raw::result(libc::SYS_timer_create, [clock as i64, &raw mut event as i64, &raw mut id as i64, 0, 0, 0])?;
            raw::result(libc::SYS_timer_settime, [id as i64, 0, &raw const spec as i64, 0, 0, 0])?;
        }
    }
    Ok(())
}

/// The kernel's name for the thread that has the World's baton; 0 before there are several.
static WATCHED: AtomicI32 = AtomicI32::new(0);

/// The thread of this name has the baton from now on.
pub(crate) fn watch(tid: i32) {
    WATCHED.store(tid, Relaxed);
}

/// Hands the signal on to the thread that has the baton, if that is another one: nobody else may look at the World.
/// Returns whether it is.
fn hand_on(info: *const libc::siginfo_t) -> bool {
    let watched = WATCHED.load(Relaxed);
    // SAFETY: numbers, and what the kernel gave this handler. A process may send itself any siginfo (rt_tgsigqueueinfo(2)).
    unsafe {
        let me = raw::call(libc::SYS_gettid, [0; 6]);
        if watched == 0 || watched as i64 == me {
            return false;
        }
        let pid = raw::call(libc::SYS_getpid, [0; 6]);
        raw::call(libc::SYS_rt_tgsigqueueinfo, [pid, watched as i64, libc::SIGALRM as i64, info as i64, 0, 0]);
    }
    true
}

/// Half a limit has passed. Twice in one poll is too long: once could be a poll that just began.
extern "C" fn alarm(_signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; the value was set by `watchdog`, or is whatever another
    // sender of SIGALRM chose, and is only used as an index after a check.
    let (code, which) = unsafe { ((*info).si_code, (*info).si_value().sival_ptr as usize) };
    let (Some(seen), true) = (POLLS.get(which), code == libc::SI_TIMER) else { return };
    if hand_on(info) {
        return;
    }
    let polls = World::current().map_or(0, |w| w.polls());
    // Counted in half limits: the low two bits say how many passed in this poll.
    let before = seen.load(Relaxed);
    let halves = if before != u64::MAX && before >> 2 == polls { (before & 3) + 1 } else { 0 };
    seen.store(polls << 2 | halves, Relaxed);
    if halves >= 2 {
        note(NoteKind::Stuck, b"");
        raw::exit(STUCK_STATUS);
    }
}
