//! A future that is ready at a point of virtual time.

use crate::runtime::current;
use crate::time::{Duration, Instant};
use pin_project::pin_project;
use sim_core::World;
use sim_core::time::Timer;
use std::future::Future;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Waits for `duration`.
///
/// # Panics
/// Outside a runtime, or in one whose timers are disabled; both at the call, as in tokio.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    let deadline = Instant::now().checked_add(duration).unwrap_or_else(Instant::far_future);
    Sleep::new(deadline)
}

/// Waits until `deadline`. Ready at once if that has passed.
///
/// # Panics
/// As [`sleep`].
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::new(deadline)
}

/// The future of [`sleep`] and [`sleep_until`]. As tokio's it must be pinned to be polled.
///
/// # Simulation
/// Ready at the end of the millisecond its deadline lies in, as tokio's timers are (`tokio::time::sleep`: "operates at
/// millisecond granularity"). Two that fire in the same millisecond fire in the order of their first poll.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Sleep {
    timer: Timer,
    deadline: Instant,
    /// Whom the timer will wake: a reset moves the timer, not the task that waits for it.
    waker: Option<Waker>,
    #[pin]
    _pinned: PhantomPinned,
}

impl Sleep {
    #[track_caller]
    fn new(deadline: Instant) -> Sleep {
        let world = current::require_time();
        Sleep { timer: Timer::new(world.from_std(deadline.into_std())), deadline, waker: None, _pinned: PhantomPinned }
    }

    /// When it will be ready, not rounded.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the deadline has passed.
    pub fn is_elapsed(&self) -> bool {
        self.timer.is_elapsed()
    }

    /// Sets another deadline, whether or not this one has passed. The task that polled it last will be woken then.
    pub fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        let Some(world) = World::current() else { return };
        let this = self.as_mut().project();
        *this.deadline = deadline;
        this.timer.reset(world.from_std(deadline.into_std()));
        if let Some(waker) = this.waker.take() {
            if Pin::new(&mut *this.timer).poll(&mut Context::from_waker(&waker)).is_ready() {
                waker.wake_by_ref();
            }
            *this.waker = Some(waker);
        }
    }

    /// The same, for [`Interval`](super::Interval): nobody is woken before it is polled again.
    pub(super) fn reset_unpolled(mut self: Pin<&mut Self>, deadline: Instant) {
        *self.as_mut().project().waker = None;
        self.reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = Pin::new(this.timer).poll(cx);
        match polled {
            Poll::Ready(()) => *this.waker = None,
            Poll::Pending if this.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) => {}
            Poll::Pending => *this.waker = Some(cx.waker().clone()),
        }
        polled
    }
}
