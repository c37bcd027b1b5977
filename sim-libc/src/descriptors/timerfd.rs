//! timerfd_create(2): a timer that can be waited for. It fires to the nanosecond.

use super::{Answer, Description, Errno};
use sim_core::events::EventId;
use sim_core::{Instant, World};
use std::cell::Cell;
use std::time::Duration;

const IN: u32 = libc::EPOLLIN as u32;

/// The timer behind a descriptor.
pub(crate) struct TimerFd {
    /// Whether it goes by the wall clock.
    by_wall: bool,
    /// When it fires next; `None`: disarmed.
    at: Cell<Option<Instant>>,
    interval: Cell<Duration>,
    /// Expirations up to the last look that nobody has read.
    fired: Cell<u64>,
    /// What wakes those who wait.
    event: Cell<Option<EventId>>,
}

impl TimerFd {
    pub(crate) fn new(by_wall: bool) -> TimerFd {
        TimerFd {
            by_wall,
            at: Cell::new(None),
            interval: Cell::new(Duration::ZERO),
            fired: Cell::new(0),
            event: Cell::new(None),
        }
    }

    pub(crate) fn is_by_wall(&self) -> bool {
        self.by_wall
    }

    /// Counts what has expired by now.
    fn look(&self) -> u64 {
        let Some(world) = World::current() else { return 0 };
        if let Some(at) = self.at.get().filter(|at| *at <= world.now()) {
            let interval_ns = sim_core::nanos(self.interval.get());
            match (world.now() - at).as_nanos().checked_div(interval_ns as u128) {
                None => {
                    self.fired.set(self.fired.get() + 1);
                    self.at.set(None);
                }
                Some(more) => {
                    self.fired.set(self.fired.get() + 1 + more as u64);
                    self.at.set(Some(
                        at + self
                            .interval
                            .get()
                            .saturating_mul(u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)),
                    ));
                }
            }
        }
        self.fired.get()
    }

    pub(crate) fn ready(&self) -> u32 {
        if self.look() > 0 { IN } else { 0 }
    }

    /// Sees to it that somebody who waits is woken when it fires.
    fn arm(&self, own: &Description) {
        let Some(world) = World::current() else { return };
        if let Some(event) = self.event.take() {
            world.unwake(event);
        }
        self.event.set(self.at.get().map(|at| world.wake_at(at, own.observer())));
    }

    pub(crate) fn read(&self, own: &Description) -> Answer<u64> {
        own.wait("a timer (timerfd)", false, None, || match self.look() {
            0 => Err(Errno::AGAIN),
            fired => {
                self.fired.set(0);
                self.arm(own);
                Ok(fired)
            }
        })
    }

    /// What is left until it fires, and its interval.
    pub(crate) fn get(&self) -> (Duration, Duration) {
        self.look();
        let now = World::current().map_or(Instant::ZERO, World::now);
        let left = self.at.get().map_or(Duration::ZERO, |at| at - now);
        (left, self.interval.get())
    }

    /// Sets it; a `value` of zero disarms it. Returns what [`get`](Self::get) gave before.
    pub(crate) fn set(
        &self,
        own: &Description,
        world: &World,
        absolute: bool,
        value: Duration,
        interval: Duration,
    ) -> (Duration, Duration) {
        let before = self.get();
        let clock = |world: &World| {
            Duration::from_nanos(if self.by_wall { world.read_wall_ns() } else { world.read_monotonic_ns() })
        };
        let after = if absolute { value.saturating_sub(clock(world)) } else { value };
        self.fired.set(0);
        self.interval.set(interval);
        self.at.set((value != Duration::ZERO).then(|| world.now() + after));
        self.arm(own);
        before
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let (Some(event), Some(world)) = (self.event.take(), World::current()) {
            world.unwake(event);
        }
    }
}
