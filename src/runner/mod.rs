//! How a test runs: the sweep over seeds, audit, replay and minimisation.
//!
//! A test is three kinds of process. The *outer* one is what `cargo test` started; it executes the same binary again for
//! this one test, with fixed addresses, and passes on what it hears. The *inner* one runs no user code of its own: it
//! forks a *child* for each seed, all from the same state, and judges how each ended. A child runs the World once.
//!
//! What is deliberately absent: nothing here takes part in a run. The runner chooses who answers the questions and who
//! reads the trace, and looks at the digest.

mod child;
mod describe;
mod inner;
mod judge;
mod minimise;
pub mod orders;
mod outer;
mod plain;
mod pool;
mod protocol;
mod regressions;
mod replay;
mod sweep;
mod system;
pub mod tape;

pub use protocol::PROTOCOL;

pub(crate) use child::{Frame, SIMULATED_TEST};
pub(crate) use inner::{Inner, serve as serve_inner};
pub(crate) use outer::{Served, become_inner_of, serve as serve_outer};
pub(crate) use protocol::{became_inner, inner_test, inner_value};
pub(crate) use sim_libc::process::Order;

use crate::{Ending, Sim};
use sim_core::{MemoryLimit, Settings, World};
use sim_libc::process;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

/// What `#[sim::test]` knows of its test.
#[derive(Clone, Copy, Debug)]
pub struct TestInfo {
    /// The full path of the function, crate first.
    pub name: &'static str,
    /// Where it stands in the source.
    pub location: &'static Location<'static>,
    /// The package.
    pub package: &'static str,
    /// Where the package's manifest is: regression seeds and tapes are kept beside it.
    pub manifest_dir: &'static str,
    /// `seeds`.
    pub seeds: Option<u64>,
    /// `time_limit`.
    pub time_limit_ns: Option<u64>,
    /// `step_limit`.
    pub step_limit: Option<u64>,
    /// `memory`.
    pub memory_bytes: Option<u64>,
    /// `perturb`.
    pub perturb: bool,
}

/// Seeds of a sweep unless the attribute says otherwise.
const DEFAULT_SEEDS: u64 = 100;
/// Memory of a run unless the attribute, or the environment, says otherwise.
const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;

impl TestInfo {
    /// A test that is nowhere, for the tests of the runner itself.
    #[cfg(test)]
    #[track_caller]
    fn nameless() -> TestInfo {
        TestInfo {
            name: "t",
            location: Location::caller(),
            package: "",
            manifest_dir: "",
            seeds: None,
            time_limit_ns: None,
            step_limit: None,
            memory_bytes: None,
            perturb: true,
        }
    }

    /// The name that libtest knows the test by: the path without the crate.
    fn libtest_name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, rest)| rest)
    }

    pub(crate) fn settings(&self) -> Settings {
        let unless = Settings::default();
        Settings {
            time_limit: self.time_limit_ns.map_or(unless.time_limit, Duration::from_nanos),
            step_limit: self.step_limit.unwrap_or(unless.step_limit),
            perturb_order: self.perturb,
            memory: process::is_child().then(|| MemoryLimit {
                most: self.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES),
                peak: process::peak_bytes,
            }),
            ..unless
        }
    }
}

/// What stands behind `#[sim::test]`.
///
/// # Panics
/// If the test fails; after everything there is to say was printed.
pub fn test<B, F>(info: TestInfo, body: B)
where
    B: Fn(Sim) -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Ending,
{
    if World::current().is_some() {
        crate::drop_in::met_simulated_test(&info);
        panic!("the simulated test {} was called inside a run: a run cannot start inside another", info.name);
    }
    match protocol::inner_test() {
        Some(name) if name == info.name => inner::work(info, body),
        _ => outer::work(info, body),
    }
}
