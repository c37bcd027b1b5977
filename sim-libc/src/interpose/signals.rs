//! Signals that a program sends to itself. Where the run knows who hears of it, it tells them; else a handler that the program
//! installed in its process is called at once, and else what signal(7) says happens by default. Signals that stop a process, and
//! those to others, are escapes.

use super::escapes::outside_only;
use super::machine::pid;
use super::{errno, escape, world};
use crate::raw;
use sim_core::signal::Signal;
use sim_core::{Death, World};

/// The greatest signal, `SIGRTMAX`.
const GREATEST: i32 = 64;

/// # Safety
/// As kill(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn kill(pid_or_group: i32, signal: i32) -> i32 {
    if let Some(world) = world().filter(|world| [0, pid(world)].contains(&i64::from(pid_or_group).abs())) {
        return errno(to_itself(world, signal)) as i32;
    }
    // SAFETY: the caller's promise.
    unsafe { outside_only(libc::SYS_kill, [pid_or_group as i64, signal as i64, 0, 0, 0, 0]) as i32 }
}

/// # Safety
/// As raise(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn raise(signal: i32) -> i32 {
    errno(world().map_or_else(|| to_this_thread(signal), |world| to_itself(world, signal))) as i32
}

/// What kill(2) returns.
fn to_itself(world: &'static World, signal: i32) -> i64 {
    match signal {
        0 => return 0,
        1..=GREATEST => {}
        _ => return -libc::EINVAL as i64,
    }
    if !world.actor_lives() {
        return 0;
    }
    if let libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU = signal {
        escape(world, format!("kill(itself, {signal})"));
        return -libc::EPERM as i64;
    }
    let node = world.acting_node();
    // A machine of a test; what is simulated as a whole process dies as one.
    let is_machine = world.incarnation(node) > 0;
    match Signal(signal) {
        _ if signal == libc::SIGKILL && is_machine => world.end_node(node, Death::Kill),
        signal if world.raise_signal(signal) => {}
        signal if is_machine && !has_handler(signal) => world.send_signal(node, signal),
        signal => return to_this_thread(signal.0),
    }
    0
}

/// Whether the process does something else about a signal than what is done by default.
fn has_handler(signal: Signal) -> bool {
    // SAFETY: the struct is plain data; the kernel fills it.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and what is there is written to a struct of the right type.
    let known = unsafe { libc::sigaction(signal.0, std::ptr::null(), &mut action) } == 0;
    known && action.sa_sigaction != libc::SIG_DFL
}

/// The real signal, to the thread that runs: its handler has run when this returns.
fn to_this_thread(signal: i32) -> i64 {
    // SAFETY: the calls take numbers alone.
    unsafe {
        let process = raw::call(libc::SYS_getpid, [0; 6]);
        let thread = raw::call(libc::SYS_gettid, [0; 6]);
        raw::call(libc::SYS_tgkill, [process, thread, signal as i64, 0, 0, 0])
    }
}
