//! futex(2): on it rest the locks, condition variables and parking of std, and those of most crates.

use super::queues::{ANY, Key, Kind, park};
use super::{of, sleep, stands_still};
use crate::interpose::{escape, time};
use crate::process;
use crate::raw;
use libc::timespec;
use sim_core::World;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const WHAT: &str = "a lock, a condition or an unpark (futex)";
const REFUSED: [(i32, &str); 8] = [
    (libc::FUTEX_FD, "FUTEX_FD"),
    (libc::FUTEX_WAKE_OP, "FUTEX_WAKE_OP"),
    (libc::FUTEX_LOCK_PI, "FUTEX_LOCK_PI"),
    (libc::FUTEX_UNLOCK_PI, "FUTEX_UNLOCK_PI"),
    (libc::FUTEX_TRYLOCK_PI, "FUTEX_TRYLOCK_PI"),
    (libc::FUTEX_WAIT_REQUEUE_PI, "FUTEX_WAIT_REQUEUE_PI"),
    (libc::FUTEX_CMP_REQUEUE_PI, "FUTEX_CMP_REQUEUE_PI"),
    (libc::FUTEX_LOCK_PI2, "FUTEX_LOCK_PI2"),
];

/// In the kernel's convention; `None` if the call is to be made for real. Whether a word is shared between processes makes
/// no difference: there is one.
///
/// # Safety
/// As futex(2).
pub(crate) unsafe fn futex(world: &'static World, args: [i64; 6]) -> Option<i64> {
    let [word, operation, value, fourth, second, third] = args;
    let command = operation as i32 & libc::FUTEX_CMD_MASK;
    if word == 0 {
        return Some(-libc::EFAULT as i64);
    }
    let key: Key = (Kind::Futex, word as usize);
    let most = |n: i64| (n as i32).max(0) as usize;
    // SAFETY: the caller's promise: an aligned word.
    let holds = |value: i64| unsafe { (*(word as *const AtomicU32)).load(SeqCst) == value as u32 };
    let wake = |bits, n| {
        let woken = of(world).queues.wake(world, key, bits, n) as i64;
        // Outside a child of the launcher threads that are not simulated may wait for real.
        let real = if process::captured() || woken >= n as i64 {
            0
        } else {
            // SAFETY: the caller's promise. Nothing of what it points at is changed.
            unsafe { raw::call(libc::SYS_futex, [word, operation, n as i64 - woken, 0, 0, third]) }.max(0)
        };
        woken + real
    };
    Some(match command {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET if !holds(value) => -libc::EAGAIN as i64,
        // SAFETY: the caller's promise: a timespec, or null.
        libc::FUTEX_WAIT => {
            return unsafe { wait(world, key, ANY, operation as i32, fourth as *const timespec, false) };
        }
        libc::FUTEX_WAIT_BITSET if third as u32 == 0 => -libc::EINVAL as i64,
        libc::FUTEX_WAIT_BITSET => {
            // SAFETY: as above.
            return unsafe { wait(world, key, third as u32, operation as i32, fourth as *const timespec, true) };
        }
        libc::FUTEX_WAKE => wake(ANY, most(value)),
        libc::FUTEX_WAKE_BITSET if third as u32 == 0 => -libc::EINVAL as i64,
        libc::FUTEX_WAKE_BITSET => wake(third as u32, most(value)),
        libc::FUTEX_CMP_REQUEUE if !holds(third) => -libc::EAGAIN as i64,
        libc::FUTEX_CMP_REQUEUE | libc::FUTEX_REQUEUE => {
            let queues = &of(world).queues;
            let woken = queues.wake(world, key, ANY, most(value));
            let moved = queues.requeue(key, (Kind::Futex, second as usize), most(fourth));
            (woken + moved) as i64
        }
        other => {
            let name = REFUSED.iter().find(|(n, _)| *n == other).map_or("of an unknown operation", |(_, name)| name);
            escape(world, format!("futex({name})"));
            -libc::ENOSYS as i64
        }
    })
}

/// # Safety
/// `timeout` is valid, or null.
unsafe fn wait(
    world: &'static World,
    key: Key,
    bits: u32,
    operation: i32,
    timeout: *const timespec,
    absolute: bool,
) -> Option<i64> {
    let clock = if operation & libc::FUTEX_CLOCK_REALTIME != 0 { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
    // SAFETY: the caller's promise.
    let until = match unsafe { timeout.as_ref() } {
        None => None,
        Some(timeout) => match time::deadline(world, clock, *timeout, absolute) {
            None => return Some(-libc::EINVAL as i64),
            until => until,
        },
    };
    if stands_still(world) && (process::captured() || super::has_threads() || until.is_some()) {
        return Some(if park(world, key, bits, WHAT, until) { 0 } else { -libc::ETIMEDOUT as i64 });
    }
    // A task, or a World among real threads, and nobody else of the run.
    let Some(until) = until else {
        if process::captured() {
            process::note(process::NoteKind::Stuck, b"waits for a lock or a thread that nobody will release");
            raw::exit(process::STUCK_STATUS);
        }
        return None;
    };
    sleep(world, until.since(world.now()));
    Some(-libc::ETIMEDOUT as i64)
}
