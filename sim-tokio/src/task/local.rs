//! Tasks that are not `Send`, which run while their `LocalSet` does.
//!
//! The World is one thread, so what is left of a `LocalSet` is *when* its tasks run: behind a gate of the World, which is
//! open while the set is awaited, entered by [`LocalSet::run_until`], or blocked on.

use crate::runtime::Runtime;
use crate::runtime::current::{self, NO_RUNTIME};
use crate::task::JoinHandle;
use pin_project::pin_project;
use sim_core::{GateId, Spawn, World};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// The sets of a World: which one the running code is in.
#[derive(Default)]
struct LocalSets {
    by_gate: RefCell<Vec<(GateId, Weak<Shared>)>>,
    entered: RefCell<Vec<Rc<Shared>>>,
}

impl LocalSets {
    fn of(gate: GateId, world: &World) -> Option<Rc<Shared>> {
        let sets = world.extension::<LocalSets>();
        let by_gate = sets.by_gate.borrow();
        by_gate.iter().find(|(g, _)| *g == gate).and_then(|(_, set)| set.upgrade())
    }

    /// The set that the running code is in: its own task's, else one that was entered.
    fn current(world: &World) -> Option<Rc<Shared>> {
        let own = world.acting_gate().and_then(|gate| LocalSets::of(gate, world));
        own.or_else(|| world.extension::<LocalSets>().entered.borrow().last().cloned())
    }
}

#[derive(Default)]
struct Shared {
    gate: Cell<Option<GateId>>,
    tasks: Cell<usize>,
    /// How many futures drive the set at the moment.
    drivers: Cell<usize>,
    /// Who waits for the last task to end.
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    fn gate(self: &Rc<Self>, world: &World) -> GateId {
        self.gate.get().unwrap_or_else(|| {
            let gate = world.new_gate();
            self.gate.set(Some(gate));
            let sets = world.extension::<LocalSets>();
            let mut by_gate = sets.by_gate.borrow_mut();
            by_gate.retain(|(_, set)| set.strong_count() > 0);
            by_gate.push((gate, Rc::downgrade(self)));
            gate
        })
    }

    #[track_caller]
    fn spawn<F: Future + 'static>(self: &Rc<Self>, future: F, spawn: Spawn) -> JoinHandle<F::Output> {
        let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
        let gate = self.gate(world);
        // Before it is driven for the first time a set belongs to no runtime: then its tasks are the node's.
        let group = match current::handle() {
            Some(handle) => handle.group(),
            None => world.node_group(world.node(crate::runtime::LOCALHOST)),
        };
        self.tasks.set(self.tasks.get() + 1);
        world.spawn_in(group, Some(gate), Counted { future, _counted: Count(self.clone()) }, spawn)
    }

    fn drive(&self, world: &World, on: bool) {
        let drivers = if on { self.drivers.get() + 1 } else { self.drivers.get() - 1 };
        self.drivers.set(drivers);
        if let Some(gate) = self.gate.get() {
            world.set_gate(gate, drivers > 0);
        }
    }
}

/// One task of a set, counted until its future is dropped.
#[pin_project]
struct Counted<F> {
    #[pin]
    future: F,
    _counted: Count,
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

struct Count(Rc<Shared>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        if self.0.tasks.get() == 0
            && let Some(waker) = self.0.waker.take()
        {
            waker.wake();
        }
    }
}

/// Spawns a future that is not `Send` into the current [`LocalSet`].
///
/// # Panics
/// Outside a `LocalSet`.
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let set = World::current().and_then(LocalSets::current);
    let set = set.expect("`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`");
    set.spawn(future, Spawn::of::<F>())
}

/// Tasks that are not `Send`. They run while the set is awaited, or inside [`run_until`](LocalSet::run_until) or
/// [`block_on`](LocalSet::block_on). Dropping it drops them.
///
/// # Simulation
/// Between the polls of what drives it, its tasks take their places in the one queue of the World: tokio runs up to 61 of
/// them in a row.
#[derive(Default)]
pub struct LocalSet {
    shared: Rc<Shared>,
    /// Whether awaiting the set has opened its gate.
    awaited: bool,
}

impl LocalSet {
    /// An empty set.
    pub fn new() -> LocalSet {
        LocalSet::default()
    }

    /// Makes this the set that [`spawn_local`] spawns into, until the guard is dropped.
    pub fn enter(&self) -> LocalEnterGuard {
        World::with_current(|world| {
            world.extension::<LocalSets>().entered.borrow_mut().push(self.shared.clone());
        });
        LocalEnterGuard { set: self.shared.clone() }
    }

    /// Spawns into this set. It runs when the set is driven.
    ///
    /// # Panics
    /// If this thread runs no World yet: build the runtime first.
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.shared.spawn(future, Spawn::of::<F>())
    }

    /// Runs `future` and the tasks of the set on `rt` until `future` is done.
    #[track_caller]
    pub fn block_on<F: Future>(&self, rt: &Runtime, future: F) -> F::Output {
        rt.block_on(self.run_until(future))
    }

    /// Runs `future` and the tasks of the set until `future` is done.
    pub async fn run_until<F: Future>(&self, future: F) -> F::Output {
        let driver = Driver::new(&self.shared);
        let output = RunUntil { future, set: &self.shared }.await;
        drop(driver);
        output
    }
}

impl Future for LocalSet {
    type Output = ();

    /// Ready when no task of the set is left.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
        if !self.awaited {
            self.awaited = true;
            self.shared.gate(world);
            self.shared.drive(world, true);
        }
        if self.shared.tasks.get() == 0 {
            self.awaited = false;
            self.shared.drive(world, false);
            return Poll::Ready(());
        }
        sim_core::waiting_for("the tasks of a LocalSet to end");
        *self.shared.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for LocalSet {
    fn drop(&mut self) {
        if let (Some(gate), Some(world)) = (self.shared.gate.get(), World::current()) {
            world.end_behind(gate);
        }
    }
}

impl fmt::Debug for LocalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSet").field("tasks", &self.shared.tasks.get()).finish()
    }
}

/// While it lives, the set's tasks run.
struct Driver<'a>(&'a Rc<Shared>);

impl<'a> Driver<'a> {
    fn new(set: &'a Rc<Shared>) -> Self {
        World::with_current(|world| {
            set.gate(world);
            set.drive(world, true);
        });
        Driver(set)
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        World::with_current(|world| self.0.drive(world, false));
    }
}

/// A future inside the set: while it is polled, the set is the current one.
#[pin_project]
struct RunUntil<'a, F> {
    #[pin]
    future: F,
    set: &'a Rc<Shared>,
}

impl<F: Future> Future for RunUntil<'_, F> {
    type Output = F::Output;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
        world.extension::<LocalSets>().entered.borrow_mut().push((*this.set).clone());
        let _guard = LocalEnterGuard { set: (*this.set).clone() };
        this.future.poll(cx)
    }
}

/// While it lives, [`spawn_local`] spawns into its set.
pub struct LocalEnterGuard {
    set: Rc<Shared>,
}

impl Drop for LocalEnterGuard {
    fn drop(&mut self) {
        World::with_current(|world| {
            let sets = world.extension::<LocalSets>();
            let mut entered = sets.entered.borrow_mut();
            if let Some(place) = entered.iter().rposition(|set| Rc::ptr_eq(set, &self.set)) {
                entered.remove(place);
            }
        });
    }
}

impl fmt::Debug for LocalEnterGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEnterGuard").finish()
    }
}
