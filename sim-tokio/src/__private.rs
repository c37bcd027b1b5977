//! What the macros of this crate emit calls of. Not for programs.

use crate::runtime::Builder;
use sim_core::World;
use std::future::Future;
use std::process::{ExitCode, Termination};

pub use sim_macros::select;

/// What `#[tokio::test]` knows of its test.
#[derive(Clone, Copy, Debug)]
pub struct TestInfo {
    /// The full path of the function, crate first.
    pub name: &'static str,
    /// Where it stands in the source.
    pub location: &'static std::panic::Location<'static>,
    /// The package.
    pub package: &'static str,
    /// Where the package's manifest is.
    pub manifest_dir: &'static str,
    /// Whether the test harness wants a panic.
    pub should_panic: bool,
    /// `flavor = "multi_thread"`.
    pub multi_thread: bool,
    /// `worker_threads`.
    pub worker_threads: Option<usize>,
    /// `start_paused`.
    pub start_paused: bool,
    /// `name`.
    pub runtime_name: Option<&'static str>,
}

impl TestInfo {
    fn builder(&self) -> Builder {
        let mut builder = if self.multi_thread { Builder::new_multi_thread() } else { Builder::new_current_thread() };
        builder.enable_all().start_paused(self.start_paused);
        if let Some(n) = self.worker_threads {
            builder.worker_threads(n);
        }
        if let Some(name) = self.runtime_name {
            builder.name(name);
        }
        builder
    }
}

/// Runs the body of a `#[tokio::test]` on the node `localhost`: under every seed of a sweep, as `#[sim::test]` does.
/// A test that is to panic runs once, here, with the seed of `SIM_SEED`, since a sweep would count it as failed.
#[track_caller]
pub fn test<Fut>(info: TestInfo, body: fn() -> Fut)
where
    Fut: Future + 'static,
    Fut::Output: Termination,
{
    if info.should_panic {
        let rt = info.builder().build().expect("Failed building the Runtime");
        return judge(rt.block_on(body()));
    }
    let sweep = sim::__private::TestInfo {
        name: info.name,
        location: info.location,
        package: info.package,
        manifest_dir: info.manifest_dir,
        seeds: None,
        time_limit_ns: None,
        step_limit: None,
        memory_bytes: None,
        perturb: true,
    };
    sim::__private::test(sweep, move |sim| async move {
        let inside = async move {
            World::with_current(|world| info.builder().adopt(world));
            judge(body().await);
        };
        sim.node(crate::runtime::LOCALHOST).run(inside).await
    })
}

/// What libtest makes of what a test returns.
#[track_caller]
fn judge(returned: impl Termination) {
    assert!(returned.report() == ExitCode::SUCCESS, "the test returned a termination value that means failure");
}

/// Which branch of a `select!` is looked at first.
pub fn select_start(branches: u32) -> u32 {
    World::current().map_or(0, |world| world.select_start(branches))
}
