//! Wakers that are a number: which World, which slot, which generation of the slot. Cloning copies it, dropping does
//! nothing, so a poll allocates nothing and counts no references.
//!
//! This is the workspace's one use of `unsafe` outside sim-libc. The `poll` bench compares it with std's
//! reference-counted `Wake`.

use crate::thread::ThreadId;
use crate::world::World;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

const _: () = assert!(usize::BITS == 64, "a waker needs 64 bits: sim runs on 64-bit systems only");

/// A task in a form that fits a pointer: world (16 bits), slot (24), generation (24).
pub(crate) fn pack(world: u16, slot: u32, generation: u32) -> u64 {
    debug_assert!(slot < 1 << 24 && generation < 1 << 24);
    (world as u64) << 48 | (slot as u64) << 24 | generation as u64
}

/// In place of a generation: the number is that of a thread.
pub(crate) const THREAD: u32 = 0xff_ffff;

/// The thread that an entry names, if it is one.
#[inline]
pub(crate) fn thread_of(entry: u64) -> Option<ThreadId> {
    (generation_of(entry) == THREAD).then(|| ThreadId(slot_of(entry) as u32))
}

pub(crate) fn world_of(task: u64) -> u16 {
    (task >> 48) as u16
}

pub(crate) fn slot_of(task: u64) -> usize {
    (task >> 24) as usize & 0xff_ffff
}

pub(crate) fn generation_of(task: u64) -> u32 {
    task as u32 & 0xff_ffff
}

/// Worlds of which a foreign thread woke a task. Two Worlds share an entry only if 64 runs of one process overlap.
static WOKEN_FROM_ELSEWHERE: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];

fn entry(world: u16) -> &'static AtomicU32 {
    &WOKEN_FROM_ELSEWHERE[world as usize % WOKEN_FROM_ELSEWHERE.len()]
}

/// Whether another thread woke a task of this World since the last time this was asked. Asked when the World is idle.
pub(crate) fn woken_from_elsewhere(world: u16) -> bool {
    is_woken_from_elsewhere(world)
        && entry(world).compare_exchange(world as u32, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The same, which it stays: for callers that are not idle.
#[inline]
pub(crate) fn is_woken_from_elsewhere(world: u16) -> bool {
    entry(world).load(Ordering::Relaxed) == world as u32
}

/// A waker for `task`.
#[allow(unsafe_code)]
pub(crate) fn waker(task: u64) -> Waker {
    let raw = RawWaker::new(std::ptr::without_provenance(task as usize), &TABLE);
    // SAFETY: RawWaker's contract asks that the four functions of the table uphold what Waker promises for this data,
    // also on other threads. The data is a number in the shape of a pointer, which none of them dereferences: `clone`
    // copies it, `drop` does nothing, and `wake` looks the number up in the World of the thread it is called on, or
    // writes one atomic if that thread runs no World. All four are safe functions.
    unsafe { Waker::from_raw(raw) }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, |_| {});

fn clone(data: *const ()) -> RawWaker {
    RawWaker::new(data, &TABLE)
}

fn wake(data: *const ()) {
    let task = data.addr() as u64;
    match World::current() {
        Some(world) if world.number() == world_of(task) => match thread_of(task) {
            None => world.wake(task),
            Some(thread) => world.wake_thread(thread),
        },
        // A waker of a World that has ended on this thread: its task is gone.
        Some(_) => {}
        None => entry(world_of(task)).store(world_of(task) as u32, Ordering::Release),
    }
}
