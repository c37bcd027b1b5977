//! The seam: a subsystem with state per node that handles its own events.
//!
//! A device gets one capability, [`DeviceCx`]: the time, the event queue, the choices, the trace. Its model takes input
//! and `cx`, changes its own state and returns effects; wakers live in its api layer and are handed to
//! [`DeviceCx::wake`], which wakes them when the device is done. So a model is tested with a struct literal and a loop,
//! without an executor, and a new device touches no file of the core.

use crate::choices::{Address, Choices, Law, Stream};
use crate::events::{Due, EventId, EventQueue};
use crate::metrics::Metrics;
use crate::trace::Trace;
use crate::{Instant, NodeId};
use std::any::Any;
use std::task::Waker;

/// Which device of the World.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct DeviceId(pub u8);

/// How the programs of a node came to their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// The process ended by itself or was asked to; its kernel closes what it had open.
    Exit,
    /// kill -9: no destructor runs, the kernel closes what the process had open.
    Kill,
    /// Silence: the machine is gone with its memory.
    PowerOff,
}

/// A subsystem of the World.
pub trait Device: Any {
    /// The name that traces use.
    fn name(&self) -> &'static str;

    /// An event that this device scheduled is due.
    fn on_event(&mut self, token: u64, cx: &mut DeviceCx<'_>);

    /// A node exists from now on. Called once for each node, in order of creation, before it starts; for a device added
    /// later, for all nodes there are.
    fn node_added(&mut self, _node: NodeId, _name: &str, _cx: &mut DeviceCx<'_>) {}

    /// A node starts a new incarnation.
    fn node_started(&mut self, _node: NodeId, _cx: &mut DeviceCx<'_>) {}

    /// The programs of a node have ended. Called before their futures are dropped, so that the drops find nothing to act on.
    fn node_died(&mut self, _node: NodeId, _how: Death, _cx: &mut DeviceCx<'_>) {}
}

/// What a device may do.
pub struct DeviceCx<'a> {
    /// The virtual time.
    pub now: Instant,
    /// The node whose program is calling, [`NodeId::OUTSIDE`] in an event.
    pub node: NodeId,
    /// The key of the calling task, 0 in an event.
    pub task_key: u64,
    /// This device.
    pub device: DeviceId,
    /// All that will happen.
    pub events: &'a mut EventQueue,
    /// The one door for chance.
    pub choices: &'a mut Choices,
    /// The record of what happened.
    pub trace: &'a mut Trace,
    /// Latencies and counts for the report.
    pub metrics: &'a mut Metrics,
    /// Wakers to be woken when the device is done.
    pub wakes: &'a mut Vec<Waker>,
}

impl DeviceCx<'_> {
    /// Asks for [`Device::on_event`] with `token` at `at`; at once if that is past.
    #[inline]
    pub fn schedule(&mut self, at: Instant, token: u64) -> EventId {
        self.events.insert(at.max(self.now), Due::Device(self.device, token))
    }

    /// Takes a scheduled event back. False if it happened already.
    #[inline]
    pub fn cancel(&mut self, id: EventId) -> bool {
        self.events.cancel(id)
    }

    /// Asks a question; see [`Choices`]. `what` names it in a word or two.
    #[inline]
    pub fn ask(&mut self, stream: Stream, key: u64, n: u32, law: Law, what: &'static str) -> u64 {
        self.choices.ask(Address { stream, key, n }, law, what, self.now, self.node)
    }

    /// Wakes `waker` when the device is done.
    #[inline]
    pub fn wake(&mut self, waker: Waker) {
        self.wakes.push(waker);
    }

    /// Adds a line to the trace; the text is only made when somebody reads it.
    #[inline]
    pub fn event(&mut self, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        self.trace.event(self.now, node, kind, text);
    }

    /// Says that a fault of this kind really struck.
    pub fn fired(&mut self, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        self.trace.fired(self.now, node, kind, text);
    }
}

/// Everything a [`DeviceCx`] borrows, owned: for tests of a model without a World.
#[derive(Default)]
pub struct Bench {
    /// The virtual time.
    pub now: Instant,
    /// All that will happen.
    pub events: EventQueue,
    /// The choices; `None` stands for the calm run.
    pub choices: Option<Choices>,
    /// The trace.
    pub trace: Trace,
    /// The metrics.
    pub metrics: Metrics,
    /// What was woken.
    pub wakes: Vec<Waker>,
}

impl Bench {
    /// A bench whose choices `seed` answers.
    pub fn seeded(seed: u64) -> Self {
        Bench { choices: Some(Choices::seeded(seed)), ..Bench::default() }
    }

    /// The capability, acting for `node`.
    pub fn cx(&mut self, node: NodeId) -> DeviceCx<'_> {
        let calm = || Choices::from_source(0, Box::new(crate::choices::Tape::new([])));
        DeviceCx {
            now: self.now,
            node,
            task_key: 0,
            device: DeviceId(0),
            events: &mut self.events,
            choices: self.choices.get_or_insert_with(calm),
            trace: &mut self.trace,
            metrics: &mut self.metrics,
            wakes: &mut self.wakes,
        }
    }

    /// Moves the clock to the next event and returns its token; `None` if nothing is due any more.
    pub fn step(&mut self) -> Option<u64> {
        let (at, due) = self.events.pop()?;
        self.now = self.now.max(at);
        match due {
            Due::Device(_, token) => Some(token),
            Due::Wake(_) => unreachable!("a model schedules device events only"),
        }
    }
}
