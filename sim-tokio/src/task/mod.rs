//! Tasks in tokio's shape: spawn, join, abort, yield, local sets.
//!
//! # Simulation
//! Absent: `spawn_blocking` and `block_in_place`, which need threads. `coop` and `unconstrained` are the real tokio's:
//! outside its own runtime the budget is never used up, so a task that always finds something ready goes on.

mod join_set;
mod local;

#[doc(hidden)]
pub use coop::{Unconstrained, consume_budget, unconstrained};
pub use join_set::JoinSet;
pub use local::{LocalEnterGuard, LocalSet, spawn_local};
pub use real::task::{LocalKey, coop, futures};
pub use sim_core::{AbortHandle, Id, JoinError, JoinHandle};

use crate::runtime::current::{self, NO_RUNTIME};
use sim_core::{Spawn, World};
use std::future::{Future, poll_fn};
use std::task::Poll;

/// Spawns a task into the current runtime.
///
/// # Simulation
/// The task belongs to the node that spawns it and dies with it.
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let handle = current::handle().unwrap_or_else(|| panic!("{NO_RUNTIME}"));
    handle.spawn_any(future, Spawn::of::<F>())
}

/// Lets all other tasks that are ready go first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        // The waker, not the task: a combinator may poll this with a waker of its own.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The id of the running task.
///
/// # Panics
/// Outside a task. The future of a `block_on` is none.
#[track_caller]
pub fn id() -> Id {
    try_id().expect("Can't get a task id when not inside a task")
}

/// The id of the running task; `None` outside a task.
pub fn try_id() -> Option<Id> {
    let id = World::current()?.task_id()?;
    let is_root = current::record().is_some_and(|r| r.root.get() == Some(id));
    (!is_root).then_some(id)
}
