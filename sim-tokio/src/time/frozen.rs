//! tokio's `test-util` clock: pause, resume, advance.

use crate::runtime::current;
use crate::time::Duration;
use sim_core::World;
use std::future::poll_fn;
use std::task::Poll;

const NO_RUNTIME: &str = "time cannot be frozen from outside the Tokio runtime";

/// Freezes the clock, as far as programs can tell.
///
/// # Simulation
/// Virtual time moves only when nothing else can happen, paused or not: what tokio does while paused ("auto-advance") is
/// what every run does. So this keeps count, for [`advance`] and the panics, and changes nothing else.
///
/// # Panics
/// Outside a runtime, in a `multi_thread` one, and if the clock is frozen already; with tokio's texts.
#[track_caller]
pub fn pause() {
    let record = current::record().unwrap_or_else(|| panic!("{NO_RUNTIME}"));
    if let Err(text) = record.freeze() {
        panic!("{text}");
    }
}

/// Lets the clock go on.
///
/// # Panics
/// Outside a runtime and if the clock is not frozen.
#[track_caller]
pub fn resume() {
    let record = current::record().unwrap_or_else(|| panic!("{NO_RUNTIME}"));
    assert!(record.frozen.replace(false), "time is not frozen");
}

/// Moves the clock forward by `duration` at once, then lets everything happen that is due by then. Each timer that fires
/// finds the clock at its new time, not at its own deadline.
///
/// # Simulation
/// There is one clock: it moves for all nodes of the run.
///
/// # Panics
/// Outside a runtime and if the clock is not frozen.
pub async fn advance(duration: Duration) {
    let record = current::record().unwrap_or_else(|| panic!("{NO_RUNTIME}"));
    assert!(record.frozen.get(), "time is not frozen");
    World::with_current(|world| world.spend(duration));
    let mut waits = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waits, true) {
            return Poll::Ready(());
        }
        World::with_current(|world| {
            world.wake_at(world.now(), cx.waker().clone());
        });
        Poll::Pending
    })
    .await
}
