//! Threads of the program on the World's baton: one runs at a time, and another only where that one waits.
//!
//! [`wait`] is the one way in which anything in this crate makes the calling thread stand still.

use sim_core::{Instant, World};
use std::task::{Context, Poll};

/// Lets the calling thread wait until `poll` is ready, and everything else of the run go on meanwhile; `None` if `until`
/// has come before that. `what` names it in the report of a deadlock: "a TCP connection to accept".
///
/// `poll` is called at once, and again whenever the waker it was given is woken, or for no reason. Nothing of the World
/// may be borrowed by the caller. Without a World, and where the program of a dead incarnation goes on, it never is.
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

/// Lets everything else that is ready run first, and a little time pass.
pub fn yield_now() {
    World::with_current(World::yield_thread);
}
