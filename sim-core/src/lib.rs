//! A run is a [`World`] that polls ready tasks in an order that [`Choices`] perturb and, when none is ready, moves the
//! clock to the next event; everything else is a [`Device`] plugged into it, and everything that happened is in the
//! [`Trace`].
//!
//! | noun | is |
//! |---|---|
//! | [`World`] | one simulated run: clock, event queue, nodes, choices, trace, devices |
//! | Node | one machine: name, incarnation, running, paused or dead, its own clock skew |
//! | Task | one spawned future, owned by one incarnation of a node |
//! | Event | something that will happen at `(instant, sequence)` |
//! | Choice | one answered question: address, bound, value |
//! | [`Device`] | a subsystem with state per node that handles its own events |
//! | [`Trace`] | the append-only record of what happened, and its running digest |
//!
//! One thread runs one World at a time, and everything it owns stays on that thread. This crate knows no sockets and no
//! files, calls no foreign functions, and reads no clock but its own.

pub mod choices;
mod clock;
pub mod device;
pub mod events;
mod guests;
pub mod hash;
mod instant;
pub mod join;
mod life;
pub mod log;
pub mod metrics;
pub mod node;
mod ready;
mod schedule;
pub mod signal;
mod task;
pub mod thread;
pub mod time;
pub mod trace;
pub mod verdict;
mod waker;
mod world;

pub use choices::Choices;
pub use device::{Death, Device, DeviceCx};
pub use instant::{Instant, nanos};
pub use join::{AbortHandle, Id, JoinError, JoinHandle};
pub use life::program;
pub use node::{GroupId, NodeId};
pub use schedule::{GateId, waiting_for};
pub use task::Spawn;
pub use thread::{Baton, ThreadId};
pub use trace::Trace;
pub use verdict::Verdict;
pub use world::{CheckFailure, Entered, MemoryLimit, Nested, Outcome, Settings, World};
