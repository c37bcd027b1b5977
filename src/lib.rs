//! Deterministic simulation testing for tokio programs.
//!
//! A test makes machines, runs its own programs on them, lets faults strike, and judges what came of it. Everything
//! happens in one thread under one seed: the order of tasks, the network, the disks, the clocks, the faults. The same
//! seed gives the same run.
//!
//! ```no_run
//! use sim::{Plan, Sim, secs};
//! # mod kv {
//! #     pub async fn serve(_: usize) {}
//! #     pub async fn write_and_read(_: &str) -> bool { true }
//! # }
//!
//! #[sim::test(seeds = 1000)]
//! async fn acknowledged_writes_survive(sim: Sim) {
//!     for i in 0..3 {
//!         sim.node(format!("kv{i}")).start(move || kv::serve(i));
//!     }
//!     sim.plan(Plan::swarm().keep_majority().until(secs(20)));
//!     assert!(sim.node("client").run(kv::write_and_read("kv0:7000")).await);
//! }
//! # fn main() {}
//! ```
//!
//! - [`Sim`], [`Node`]: the run and its machines.
//! - [`Plan`], [`Fault`]: trouble, by hand or drawn by the seed.
//! - [`test`](macro@test): a test that sweeps seeds; [`Sim::run`] for one run in this process.
//! - [`core`]: what all of it stands on.

#[doc(hidden)]
pub mod drop_in;
mod in_process;
mod json;
mod plan;
pub mod report;
mod run;
pub mod runner;
mod sim;

pub use in_process::{Ended, enter};
pub use plan::{DiskTrouble, Fault, Kind, ParsePlanError, Plan, Planned, Swarm};
pub use sim::{Ending, Node, Run, Sim, millis, secs};
pub use sim_core as core;
pub use sim_disk as disk;
pub use sim_libc::guarantees;
pub use sim_macros::test;
pub use sim_net as net;

/// What the attributes expand to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::runner::{TestInfo, test};
}
