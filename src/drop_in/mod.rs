//! Programs that are simulated as a whole: their tokio is the real one, generated from its own source with a few lines
//! changed, and everything below it (clock, entropy, threads, sockets, files) is answered by `sim-libc`.
//!
//! The generated tokio calls [`install`] before `main`. From then on two things are different. A process that was told so by
//! [`DROP_IN`] hands its `main` to the runner ([`program`]). And what runs on a machine of a `#[sim::test]` runs inside a
//! tokio runtime of that machine's ([`machine`]).
//!
//! What is deliberately absent: a dependency on tokio. The generated one implements [`Tokio`] and [`Runtime`].

mod machine;
mod program;
mod signal;
mod task;

pub(crate) use machine::{on_machine, outside};
pub(crate) use program::met_simulated_test;

pub use machine::{Runtime, Tokio};
pub use signal::{handle_signal, of_incarnation};
pub use sim_libc::sockets::{
    Ahead, Event, Idle, Moment, Rest, Steps, Timers, events, is_drained, is_stepped, nothing_is_drained, parks, step,
    unparks, work_begins, work_ends,
};
pub use sim_libc::threads::{Preemptible, preemption_point};
pub use task::{Acting, Queue, Tag, breathe, draw, generator_seed, on};

use std::sync::OnceLock;

/// Set to `1` by whoever starts a test binary and wants its `main` simulated.
pub const DROP_IN: &str = "SIM_DROP_IN";

static TOKIO: OnceLock<&'static (dyn Tokio + Sync)> = OnceLock::new();

/// Says that this process's tokio is a generated one. Called by its constructor, before `main`.
pub fn install(tokio: &'static (dyn Tokio + Sync)) {
    if TOKIO.set(tokio).is_ok() {
        sim_libc::process::take_over(program::main);
    }
}

/// The disks of a run: where the whole graph is simulated, programs see the real tree below their own changes.
pub(crate) fn disk() -> sim_disk::Disk {
    if tokio().is_some() { sim_libc::files::disk() } else { sim_disk::Disk::new() }
}

/// The network of a run: where the whole graph is simulated, what a machine sends to itself is there at once, as with a
/// kernel. A runtime whose clock is paused moves it as soon as nothing is there.
pub(crate) fn net() -> sim_net::Net {
    let mut config = sim_net::Config::default();
    if tokio().is_some() {
        config.loopback.latency = std::time::Duration::ZERO;
    }
    sim_net::Net::with_config(config)
}

fn tokio() -> Option<&'static (dyn Tokio + Sync)> {
    TOKIO.get().copied()
}
