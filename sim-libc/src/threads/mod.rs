//! Threads of the program on the World's baton: one runs at a time, and another only where that one waits.
//!
//! [`wait`] is the one way in which anything in this crate makes the calling thread stand still. `seat.rs` holds the OS
//! threads: how they begin, hand over and end. `queues.rs` holds who waits at which address, for the locks of libc
//! (`interpose/lock.rs`) and for `futex.rs`, on which the locks of std and of most crates rest.
//!
//! # When a thread waits, and when time passes
//!
//! A thread that sleeps or waits with a time limit lets all others run, and the events of the World happen at their times.
//! One exception keeps a program without threads what it is: where a *task* sleeps its thread and no thread was ever
//! started, nobody could run meanwhile, so its sleep moves the clock and nothing else.
//!
//! What is deliberately absent: preemption, but for workers of a runtime, at the points of `preemption.rs`. A thread that reads the clock on and on, or calls in vain over and over, lets others go
//! on; one that computes for ever without such a call is stuck, and the watchdog says so. Threads that libc starts for itself (aio, timers that notify by thread) are not ours and are refused.

pub(crate) mod arenas;
pub(crate) mod futex;
mod preemption;
pub(crate) mod queues;
mod seat;

pub use preemption::{Preemptible, preemption_point};
pub(crate) use seat::{Start, detach, join, number, start};

use crate::interpose;
use queues::Queues;
use seat::Seats;
use sim_core::{Instant, World};
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

thread_local! {
    /// Whether this thread's World has more threads than one. Const and without destructor, as in `interpose`.
    static SEATED: Cell<bool> = const { Cell::new(false) };
}

/// What this crate knows of a World's threads.
#[derive(Default)]
pub(crate) struct Threads {
    pub seats: Seats,
    pub queues: Queues,
}

/// The threads of a World.
pub(crate) fn of(world: &World) -> Rc<Threads> {
    world.extension()
}

/// The World in which the calling thread waits and wakes. Also where symbols pass through: another thread of the run may
/// hold the lock.
#[inline]
pub(crate) fn world() -> Option<&'static World> {
    if interpose::is_on() || SEATED.get() { World::current() } else { None }
}

/// A run begins on this thread.
pub(crate) fn enter() {
    SEATED.set(false);
}

/// Whether a second thread was ever started in this thread's World.
pub(crate) fn has_threads() -> bool {
    SEATED.get()
}

/// Whether others can run while the calling thread waits; see the head of this module.
pub(crate) fn stands_still(world: &World) -> bool {
    SEATED.get() || !world.in_task()
}

/// Lets the calling thread wait until `poll` is ready, and everything else of the run go on meanwhile; `None` if `until`
/// has come before that. `what` names it in the report of a deadlock: "a TCP connection to accept".
///
/// `poll` is called at once, and again whenever the waker it was given is woken, or for no reason. Nothing of the World
/// may be borrowed by the caller. `None` without a World.
pub fn wait<R>(
    what: &'static str,
    until: Option<Instant>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>,
) -> Option<R> {
    let world = World::current()?;
    let waker = world.thread_waker(world.running_thread());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = poll(&mut cx) {
            return Some(result);
        }
        if until.is_some_and(|until| world.now() >= until) {
            return None;
        }
        world.block_thread(what, until);
    }
}

/// Lets everything else that is ready run first, and a little time pass. Does nothing for a task where no thread was ever
/// started.
pub fn yield_now() {
    if let Some(world) = World::current().filter(|world| stands_still(world)) {
        world.yield_thread();
    }
}

/// The same where this much time has passed.
pub(crate) fn yield_after(ns: u64) {
    if let Some(world) = World::current().filter(|world| stands_still(world)) {
        world.yield_thread_after(ns);
    }
}

/// Lets go on who is ready or due. No time passes.
pub(crate) fn give_way() {
    if let Some(world) = World::current().filter(|world| stands_still(world)) {
        world.give_way();
    }
}

/// Lets the calling thread sleep.
pub(crate) fn sleep(world: &'static World, time: Duration) {
    if !stands_still(world) {
        return world.spend(time);
    }
    let until = world.now() + time;
    if time.is_zero() {
        return world.yield_thread();
    }
    while world.now() < until {
        world.block_thread("its sleep to end", Some(until));
    }
}
