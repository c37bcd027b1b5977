//! Handles: names of runtimes.

use super::current::{self, NO_RUNTIME, Record, Runtimes};
use crate::task::JoinHandle;
use sim_core::{GroupId, Spawn, World};
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;

/// Names a runtime.
///
/// # Simulation
/// Also the program of a node has one, though nobody built a [`Runtime`](super::Runtime) for it: its flavour is
/// `current_thread`. A handle of a run that has ended, or of another thread's, panics when it is used.
#[derive(Clone, Debug)]
pub struct Handle {
    token: u64,
    group: GroupId,
}

/// How a runtime runs its tasks.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
#[non_exhaustive]
pub enum RuntimeFlavor {
    /// One thread: the one that blocks on it.
    CurrentThread,
    /// In tokio, a pool of threads. In the simulator, tasks in any order the seed likes.
    MultiThread,
}

/// [`Handle::try_current`] was called outside a runtime.
#[derive(Debug)]
pub struct TryCurrentError(());

impl TryCurrentError {
    /// Always true: there is no other reason.
    pub fn is_missing_context(&self) -> bool {
        true
    }

    /// Always false.
    pub fn is_thread_local_destroyed(&self) -> bool {
        false
    }
}

impl fmt::Display for TryCurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NO_RUNTIME)
    }
}

impl std::error::Error for TryCurrentError {}

impl Handle {
    pub(crate) fn new(token: u64, group: GroupId) -> Handle {
        Handle { token, group }
    }

    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    /// The runtime that the calling code is in.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn current() -> Handle {
        current::handle().unwrap_or_else(|| panic!("{NO_RUNTIME}"))
    }

    /// The same, without the panic.
    pub fn try_current() -> Result<Handle, TryCurrentError> {
        current::handle().ok_or(TryCurrentError(()))
    }

    /// The World it belongs to, if that is the one of this thread.
    pub(crate) fn find_world(&self) -> Option<(&'static World, Rc<Runtimes>)> {
        let world = World::current()?;
        let runtimes = world.extension::<Runtimes>();
        (runtimes.token == self.token).then_some((world, runtimes))
    }

    #[track_caller]
    pub(crate) fn world(&self) -> (&'static World, Rc<Runtimes>) {
        self.find_world().unwrap_or_else(|| {
            panic!(
                "a simulated runtime was used on a thread that does not run its World: use it on the thread that built it, \
                 before its last Runtime is dropped"
            )
        })
    }

    /// Spawns a task.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_any(future, Spawn::of::<F>())
    }

    #[track_caller]
    pub(crate) fn spawn_any<F: Future + 'static>(&self, future: F, spawn: Spawn) -> JoinHandle<F::Output> {
        let (world, runtimes) = self.world();
        let gate = runtimes.find(self.group).and_then(|r| r.gate);
        world.spawn_in(self.group, gate, future, spawn)
    }

    /// Runs `future`, and everything else in the World, until it is done.
    ///
    /// # Panics
    /// As [`Runtime::block_on`](super::Runtime::block_on).
    ///
    /// # Simulation
    /// Drives a `current_thread` runtime too, which tokio's leaves to `Runtime::block_on`.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.block_on_any(future, Spawn::of::<F>())
    }

    #[track_caller]
    pub(super) fn block_on_any<F: Future>(&self, future: F, spawn: Spawn) -> F::Output {
        let (world, runtimes) = self.world();
        assert!(!world.is_stopping(), "the simulated run of this runtime has ended: see the panic before this one");
        let record = runtimes.record(self.group);
        let inside = world.acting_task().is_some();
        // A panic of the future goes on as itself, so the World must not see it.
        let mut future = pin!(future);
        let body = poll_fn(|cx| {
            if record.root.get().is_none() {
                record.root.set(world.task_id());
            }
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(polled) => polled.map(Ok),
                Err(payload) => std::task::Poll::Ready(Err(payload)),
            }
        });
        if let Some(gate) = record.gate.filter(|_| !inside) {
            world.set_gate(gate, true);
        }
        let ended = world.block_on_in(self.group, body, spawn);
        record.root.set(None);
        if let Some(gate) = record.gate {
            world.set_gate(gate, false);
        }
        Runtimes::leave_if_unused(world, &runtimes);
        match ended {
            Ok(Ok(output)) => output,
            Ok(Err(payload)) => resume_unwind(payload),
            Err(verdict) => panic!("{verdict}"),
        }
    }

    /// Makes this the runtime that [`spawn`](crate::spawn) and timers belong to, until the guard is dropped.
    pub fn enter(&self) -> EnterGuard<'_> {
        let (world, runtimes) = self.world();
        EnterGuard { guard: runtimes.push(world, self.group), handle: self.clone(), _borrows: PhantomData }
    }

    /// Its flavour.
    pub fn runtime_flavor(&self) -> RuntimeFlavor {
        self.record().flavor
    }

    /// The name that [`Builder::name`](super::Builder::name) gave.
    pub fn name(&self) -> Option<String> {
        self.record().name.clone()
    }

    /// Counts.
    pub fn metrics(&self) -> RuntimeMetrics {
        RuntimeMetrics { handle: self.clone() }
    }

    fn record(&self) -> Rc<Record> {
        self.world().1.record(self.group)
    }
}

/// While it lives, the runtime is the current one.
#[derive(Debug)]
#[must_use = "Creating and dropping a guard does nothing"]
pub struct EnterGuard<'a> {
    guard: u64,
    handle: Handle,
    /// Not Send: the runtime was entered on this thread.
    _borrows: PhantomData<(&'a Handle, *const ())>,
}

impl Drop for EnterGuard<'_> {
    fn drop(&mut self) {
        if let Some((_, runtimes)) = self.handle.find_world() {
            runtimes.pop(self.guard);
        }
    }
}

/// Counts of a runtime.
#[derive(Clone, Debug)]
pub struct RuntimeMetrics {
    handle: Handle,
}

impl RuntimeMetrics {
    /// How many worker threads tokio would have.
    pub fn num_workers(&self) -> usize {
        self.handle.record().workers
    }

    /// How many spawned tasks have not ended.
    pub fn num_alive_tasks(&self) -> usize {
        let (world, runtimes) = self.handle.world();
        let root = runtimes.record(self.handle.group).root.get().is_some();
        world.live_in(self.handle.group) - root as usize
    }
}
