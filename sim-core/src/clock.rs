//! The clocks that programs read: monotonic and wall, for each node.
//!
//! Virtual time moves only between polls. A program that reads the clock in a loop until it moves would hang, so from the
//! 1,000th reading of one poll on (of one turn, for the tasks of a machine's tokio) each reading moves the clock by a microsecond. A thread of a machine, whose reads no poll
//! sets apart, reads another nanosecond each time.

use crate::choices::{Address, Law, Stream};
use crate::node::Skew;
use crate::world::{Actor, World};
use crate::{Instant, NodeId};
use std::cell::Cell;
use std::time::Duration;

/// What the monotonic clock shows when a run begins, ns: the machine is up for an hour, so that subtracting a few
/// minutes from "now" stays valid.
const BOOTED_NS: u64 = 3_600_000_000_000;
/// The wall clock of the calm run: 2026-01-01T00:00:00Z, ns since 1970.
const EPOCH_NS: u64 = 1_767_225_600_000_000_000;
const FREE_READS: u32 = 1_000;

#[derive(Default)]
pub(crate) struct Clock {
    reads: Cell<u32>,
    epoch_ns: Cell<u64>,
    /// Skew of the acting node, kept here so that reading the clock borrows nothing.
    skew: Cell<Skew>,
    anchor: Cell<Option<std::time::Instant>>,
}

impl World {
    pub(crate) fn begin_clock(&self) {
        self.now.set(0);
        self.clock.reads.set(0);
        self.clock.skew.set(Skew::default());
        let at = Address { stream: Stream::CLOCK, key: 0, n: 0 };
        // A year's worth of seconds: leap days, month ends and daylight saving all lie in it.
        let law = Law::Below(365 * 86_400);
        let drawn =
            self.core.borrow_mut().choices.ask(at, law, "the wall clock's start", Instant::ZERO, NodeId::OUTSIDE);
        self.clock.epoch_ns.set(EPOCH_NS + drawn * 1_000_000_000);
        self.clock.anchor.set(None);
    }

    /// Called before each poll: the count of readings starts again, and the clock shows `skew`.
    #[inline]
    pub(crate) fn clock_acts_for(&self, skew: Skew) {
        self.clock.reads.set(0);
        self.clock.skew.set(skew);
    }

    #[inline]
    fn count_reading(&self) {
        let reads = self.clock.reads.get() + 1;
        self.clock.reads.set(reads);
        if reads > FREE_READS {
            self.now.set(self.now.get() + 1_000);
        } else if self.thread_reads() {
            self.now.set(self.now.get() + 1);
        }
    }

    /// Whether the clock was read so often, with nothing in between, that each reading moves it.
    #[inline]
    pub fn reads_on_and_on(&self) -> bool {
        self.clock.reads.get() > FREE_READS
    }

    fn thread_reads(&self) -> bool {
        let actor = self.actor.get();
        actor.task == Actor::NOBODY.task && actor.node != NodeId::OUTSIDE
    }

    /// The monotonic clock as a program reads it, ns since some boot. Reads cells only.
    pub fn read_monotonic_ns(&self) -> u64 {
        self.count_reading();
        BOOTED_NS + self.now.get()
    }

    /// The acting node's wall clock as a program reads it, ns since 1970. Reads cells only.
    pub fn read_wall_ns(&self) -> u64 {
        self.count_reading();
        let now = self.now.get();
        (self.clock.epoch_ns.get() + now).saturating_add_signed(self.clock.skew.get().ahead_ns(now))
    }

    /// What a wall clock that nothing was done to shows when the run begins, ns since 1970. Not counted as a reading.
    pub fn wall_start_ns(&self) -> u64 {
        self.clock.epoch_ns.get()
    }

    /// Lets the running poll take `d` of virtual time, as a program that sleeps its thread does.
    pub fn spend(&self, d: Duration) {
        self.now.set(self.now.get().saturating_add(crate::nanos(d)));
    }

    /// The std instant that stands for the start of the run. With std's clock interposed it is the same in every process.
    fn anchor(&self) -> std::time::Instant {
        self.clock.anchor.get().unwrap_or_else(|| {
            let now = std::time::Instant::now();
            let anchor = now.checked_sub(Duration::from_nanos(self.now.get())).unwrap_or(now);
            self.clock.anchor.set(Some(anchor));
            anchor
        })
    }

    /// The present as std's type, counted as a reading of the clock.
    pub fn std_now(&self) -> std::time::Instant {
        let anchor = self.anchor();
        self.count_reading();
        anchor + Duration::from_nanos(self.now.get())
    }

    /// Virtual time of a std instant, zero if it lies before the run.
    pub fn from_std(&self, instant: std::time::Instant) -> Instant {
        Instant::ZERO + instant.saturating_duration_since(self.anchor())
    }

    /// A virtual time as std's type.
    pub fn to_std(&self, instant: Instant) -> std::time::Instant {
        let anchor = self.anchor();
        // Beyond std's range: thirty years are "never" to a program.
        anchor.checked_add(Duration::from_nanos(instant.0)).unwrap_or(anchor + Duration::from_secs(946_080_000))
    }
}
