//! sim

pub mod report;
mod run;
pub mod runner;

pub use sim_macros::test;

/// The run that is going on.
#[derive(Clone, Copy, Debug)]
pub struct Sim {
    _made_inside_a_run: (),
}

impl Sim {
    /// The run of this thread.
    ///
    /// # Panics
    /// Outside a run.
    #[track_caller]
    pub fn current() -> Sim {
        assert!(sim_core::World::current().is_some(), "no simulated run is going on here");
        Sim { _made_inside_a_run: () }
    }
}

/// What the attributes expand to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::runner::{TestInfo, test};
}
