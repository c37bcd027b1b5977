//! Runtimes: groups of tasks in the one World of the thread.
//!
//! The first [`Runtime`] that a thread builds outside a run enters a World, on a node called `localhost`, seeded by
//! `SIM_SEED` (0 unless set); the last one to be dropped leaves it. Inside a run, a Runtime is one more group of tasks of
//! the node that builds it.
//!
//! # Simulation
//! Nothing runs in parallel and nothing blocks: all runtimes of a World take turns while one of them is in
//! [`block_on`](Runtime::block_on). The tasks of a `current_thread` runtime run only while that runtime itself is in
//! `block_on`, as in tokio; those of a `multi_thread` one while any is.

mod builder;
pub(crate) mod current;
mod handle;
mod world;

pub(crate) use world::LOCALHOST;

pub use builder::Builder;
pub use handle::{EnterGuard, Handle, RuntimeFlavor, RuntimeMetrics, TryCurrentError};

use crate::task::JoinHandle;
use crate::time::Duration;
use current::Runtimes;
use sim_core::{Spawn, World};
use std::future::Future;
use std::io;

/// A group of tasks, and the way from a plain function into the run.
///
/// # Simulation
/// It holds names, not the run itself: it may be moved to another thread, but not used or dropped there.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    /// Whether a `shutdown_*` ended it already.
    ended: bool,
}

impl Runtime {
    /// A `multi_thread` runtime with everything enabled.
    pub fn new() -> io::Result<Runtime> {
        Builder::new_multi_thread().enable_all().build()
    }

    fn from_handle(handle: Handle) -> Runtime {
        Runtime { handle, ended: false }
    }

    /// A handle that can be cloned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Spawns a task.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn_any(future, Spawn::of::<F>())
    }

    /// Runs `future`, and everything else in the World, until it is done.
    ///
    /// # Panics
    /// As `future` does, inside another `block_on`, and when the run ends otherwise: a deadlock or a limit, with its text.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on_any(future, Spawn::of::<F>())
    }

    /// Makes this the runtime that [`spawn`](crate::spawn) and timers belong to, until the guard is dropped.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Ends the runtime and its tasks. There is nothing to wait for: `duration` is never spent.
    ///
    /// # Panics
    /// Inside a task, unless `duration` is zero.
    pub fn shutdown_timeout(mut self, duration: Duration) {
        self.end();
        if !duration.is_zero() {
            refuse_inside_a_task();
        }
    }

    /// Ends the runtime and its tasks. May be called inside a task, unlike dropping it.
    pub fn shutdown_background(mut self) {
        self.end();
    }

    /// Counts.
    pub fn metrics(&self) -> RuntimeMetrics {
        self.handle.metrics()
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (world, runtimes) = self.handle.world();
        world.end_group(self.handle.group());
        runtimes.forget(self.handle.group());
        Runtimes::leave_if_unused(world, &runtimes);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if self.ended || (std::thread::panicking() && self.handle.find_world().is_none()) {
            return;
        }
        self.end();
        refuse_inside_a_task();
    }
}

/// tokio waits for its blocking threads there, and will not block a task.
fn refuse_inside_a_task() {
    let inside = World::current().is_some_and(|w| w.acting_task().is_some());
    if inside && !std::thread::panicking() {
        panic!(
            "Cannot drop a runtime in a context where blocking is not allowed. This happens when a runtime is dropped from \
             within an asynchronous context."
        );
    }
}
