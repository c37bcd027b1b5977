//! Ticks at a fixed rate.

use crate::time::{Duration, FAR_FUTURE, Instant, Sleep, sleep_until};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Ticks at once and then every `period`.
///
/// # Panics
/// If `period` is zero, and as [`sleep`](super::sleep).
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "`period` must be non-zero.");
    interval_at(Instant::now(), period)
}

/// Ticks at `start` and then every `period`.
///
/// # Panics
/// If `period` is zero, and as [`sleep`](super::sleep).
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "`period` must be non-zero.");
    let delay = Box::pin(sleep_until(start));
    Interval { delay, period: bounded(period), missed_tick_behavior: MissedTickBehavior::default() }
}

/// So far ahead that no deadline overflows.
fn bounded(d: Duration) -> Duration {
    d.min(FAR_FUTURE)
}

/// What an [`Interval`] does after a tick that came late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// Ticks as fast as it can until it has caught up.
    #[default]
    Burst,
    /// Ticks `period` after the late tick was taken.
    Delay,
    /// Ticks at the next multiple of `period` since the start.
    Skip,
}

impl MissedTickBehavior {
    fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        match self {
            Self::Burst => due + period,
            Self::Delay => now + period,
            Self::Skip => {
                let into_period = u64::try_from((now - due).as_nanos() % period.as_nanos())
                    .expect("too much time has elapsed since the interval was supposed to tick");
                now + (period - Duration::from_nanos(into_period))
            }
        }
    }
}

/// The ticks of [`interval`] and [`interval_at`].
#[derive(Debug)]
pub struct Interval {
    delay: Pin<Box<Sleep>>,
    period: Duration,
    missed_tick_behavior: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick and returns when it was due. Cancelling it loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        ready!(self.delay.as_mut().poll(cx));
        let due = self.delay.deadline();
        let now = Instant::now();
        // tokio takes up to 5 ms for the coarseness of its timers, not for a missed tick.
        let late = now > due + Duration::from_millis(5);
        let next = if late { self.missed_tick_behavior.next(due, now, self.period) } else { due + self.period };
        self.delay.as_mut().reset_unpolled(next);
        Poll::Ready(due)
    }

    /// The next tick comes `period` from now.
    pub fn reset(&mut self) {
        self.reset_at(Instant::now() + self.period);
    }

    /// The next tick comes at once.
    pub fn reset_immediately(&mut self) {
        self.reset_at(Instant::now());
    }

    /// The next tick comes after `after`.
    pub fn reset_after(&mut self, after: Duration) {
        self.reset_at(Instant::now() + bounded(after));
    }

    /// The next tick comes at `deadline`.
    pub fn reset_at(&mut self, deadline: Instant) {
        self.delay.as_mut().reset(deadline);
    }

    /// What it does after a late tick.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed_tick_behavior
    }

    /// Sets what it does after a late tick.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed_tick_behavior = behavior;
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }
}
