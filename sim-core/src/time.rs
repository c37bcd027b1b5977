//! Timers: one entry of the event queue each, cancelled when dropped.

use crate::events::{Due, EventId};
use crate::world::World;
use crate::{Instant, waiting_for};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Ready at a point of virtual time.
///
/// # Simulation
/// Fires at the end of the millisecond its deadline lies in, as tokio's timers do (`tokio::time::sleep`: "operates at
/// millisecond granularity"), unless [`Settings::round_timers`](crate::Settings::round_timers) is off.
#[derive(Debug)]
pub struct Timer {
    deadline: Instant,
    exact: bool,
    event: Option<EventId>,
}

impl Timer {
    /// A timer for `deadline`.
    pub fn new(deadline: Instant) -> Timer {
        Timer { deadline, exact: false, event: None }
    }

    /// A timer that is never rounded, for what rounded by itself.
    pub fn exact(deadline: Instant) -> Timer {
        Timer { deadline, exact: true, event: None }
    }

    fn fires_at(&self, world: &World) -> Instant {
        if self.exact { self.deadline } else { world.fires_at(self.deadline) }
    }

    /// The deadline, not rounded.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed.
    pub fn is_elapsed(&self) -> bool {
        World::current().is_some_and(|w| w.now() >= self.fires_at(w))
    }

    /// Takes the timer back and sets another deadline.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = deadline;
    }

    fn cancel(&mut self) {
        if let (Some(event), Some(world)) = (self.event.take(), World::current()) {
            let taken = world.core.borrow_mut().events.take(event);
            drop(taken);
        }
    }
}

impl World {
    /// When a timer for `deadline` fires.
    #[inline]
    pub fn fires_at(&self, deadline: Instant) -> Instant {
        const MS: u64 = 1_000_000;
        if !self.rounds_timers() {
            return deadline;
        }
        Instant(deadline.0.checked_next_multiple_of(MS).unwrap_or(u64::MAX))
    }

    /// Wakes `waker` at `at`, to the nanosecond, after everything that was to happen by then; soon if that is past.
    pub fn wake_at(&self, at: Instant, waker: std::task::Waker) -> EventId {
        self.core.borrow_mut().events.insert(at.max(self.now()), Due::Wake(waker))
    }

    /// Takes back what [`wake_at`](Self::wake_at) promised, if it has not happened yet.
    pub fn unwake(&self, event: EventId) {
        let taken = self.core.borrow_mut().events.take(event);
        // A foreign waker may act when it is dropped.
        drop(taken);
    }

    fn rounds_timers(&self) -> bool {
        self.settings.borrow().round_timers
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::current() else { panic!("a simulated timer was polled outside its run") };
        let at = self.fires_at(world);
        if world.now() >= at {
            self.cancel();
            return Poll::Ready(());
        }
        waiting_for("a timer");
        let waker = cx.waker().clone();
        let mut core = world.core.borrow_mut();
        let waker = match self.event {
            Some(event) => match core.events.rewake(event, waker) {
                Ok(old) => {
                    // A foreign waker may act when it is dropped.
                    drop(core);
                    drop(old);
                    return Poll::Pending;
                }
                Err(waker) => waker,
            },
            None => waker,
        };
        if at != Instant::NEVER {
            self.event = Some(core.events.insert(at, Due::Wake(waker)));
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}
