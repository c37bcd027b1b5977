//! `join!`, `try_join!`, `pin!` and `task_local!` are the real tokio's; `select!`, `main` and `test` are ours.

pub use real::{join, pin, task_local, try_join};
pub use sim_macros::{tokio_main as main, tokio_test as test};

/// Waits on several branches at once and runs the handler of the first whose pattern matches; tokio's grammar and rules
/// ([`tokio::select!`](https://docs.rs/tokio/latest/tokio/macro.select.html)).
///
/// ```
/// # sim_tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use sim_tokio as tokio;
/// use tokio::time::{sleep, Duration};
///
/// let first = tokio::select! {
///     _ = sleep(Duration::from_secs(2)) => "slow",
///     _ = sleep(Duration::from_secs(1)) => "quick",
/// };
/// assert_eq!(first, "quick");
/// # });
/// ```
///
/// # Simulation
/// Without `biased;` the branch that is looked at first is a choice of the run, keyed by the running task: the first one
/// in the calm run.
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => { $crate::__private::select! { ($crate) $($branches)* } };
}
