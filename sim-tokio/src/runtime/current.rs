//! Which runtimes a World has, and which of them the running code is in.

use super::{RuntimeFlavor, world};
use crate::runtime::Handle;
use sim_core::{Entered, GateId, GroupId, Id, NodeId, World};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// tokio's text for a call outside a runtime.
pub(crate) const NO_RUNTIME: &str =
    "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

/// The runtimes of one World. Lives in the World.
pub(crate) struct Runtimes {
    /// Tells the Worlds of this process apart, so that a handle notices that it is used in another. Decides nothing.
    pub token: u64,
    /// The World itself, if a runtime entered it.
    held: RefCell<Option<Entered>>,
    records: RefCell<BTreeMap<GroupId, Rc<Record>>>,
    /// Guards of [`Handle::enter`] that live, with the task that holds each.
    guards: RefCell<Vec<(u64, Option<Id>, GroupId)>>,
    next_guard: Cell<u64>,
}

/// What is known of one runtime.
#[derive(Debug)]
pub(crate) struct Record {
    pub flavor: RuntimeFlavor,
    pub workers: usize,
    pub name: Option<String>,
    pub time_enabled: bool,
    /// Closed while a `current_thread` runtime is not in `block_on`.
    pub gate: Option<GateId>,
    pub frozen: Cell<bool>,
    /// The task of `block_on`, which has no id in tokio.
    pub root: Cell<Option<Id>>,
    /// Whether a [`Runtime`](super::Runtime) stands behind it, or a node's program.
    pub built: bool,
}

impl Record {
    /// The runtime that a node's program finds around itself.
    fn of_a_program() -> Record {
        Record {
            flavor: RuntimeFlavor::CurrentThread,
            workers: 1,
            name: None,
            time_enabled: true,
            gate: None,
            frozen: Cell::new(false),
            root: Cell::new(None),
            built: false,
        }
    }

    /// Freezes the clock, or says in tokio's words why not.
    pub fn freeze(&self) -> Result<(), &'static str> {
        if self.flavor != RuntimeFlavor::CurrentThread {
            return Err(
                "`time::pause()` requires the `current_thread` Tokio runtime. This is the default Runtime used \
                        by `#[tokio::test].",
            );
        }
        if self.frozen.replace(true) {
            return Err("time is already frozen");
        }
        Ok(())
    }
}

impl Default for Runtimes {
    fn default() -> Self {
        static TOKENS: AtomicU64 = AtomicU64::new(1);
        Runtimes {
            token: TOKENS.fetch_add(1, Ordering::Relaxed),
            held: RefCell::default(),
            records: RefCell::default(),
            guards: RefCell::default(),
            next_guard: Cell::new(0),
        }
    }
}

impl Runtimes {
    /// The World of this thread, entered if there is none, and the node for a new runtime.
    pub fn world_to_build_in() -> (&'static World, Rc<Runtimes>, NodeId) {
        if let Some(world) = World::current() {
            let runtimes = world.extension::<Runtimes>();
            let node = match world.acting_task() {
                Some(_) => world.acting_node(),
                None => world.node(world::LOCALHOST),
            };
            return (world, runtimes, node);
        }
        let entered = world::enter().expect("no World runs here: that was just asked");
        let world = entered.world();
        let runtimes = world.extension::<Runtimes>();
        *runtimes.held.borrow_mut() = Some(entered);
        (world, runtimes, world.node(world::LOCALHOST))
    }

    /// Leaves the World if a runtime entered it and no runtime is left.
    pub fn leave_if_unused(world: &'static World, runtimes: &Rc<Runtimes>) {
        let used = runtimes.records.borrow().values().any(|r| r.built) || world.acting_task().is_some();
        if !used {
            // Taken out first: leaving the World drops futures, which may look here.
            let held = runtimes.held.borrow_mut().take();
            drop(held);
        }
    }

    pub fn add(&self, group: GroupId, record: Record) {
        self.records.borrow_mut().insert(group, Rc::new(record));
    }

    pub fn forget(&self, group: GroupId) {
        self.records.borrow_mut().remove(&group);
    }

    pub fn find(&self, group: GroupId) -> Option<Rc<Record>> {
        self.records.borrow().get(&group).cloned()
    }

    /// The record of a group; made if the group is a node's program.
    pub fn record(&self, group: GroupId) -> Rc<Record> {
        self.records.borrow_mut().entry(group).or_insert_with(|| Rc::new(Record::of_a_program())).clone()
    }

    /// Makes `group` the current one; returns the name of the guard.
    pub fn push(&self, world: &World, group: GroupId) -> u64 {
        let guard = self.next_guard.get();
        self.next_guard.set(guard + 1);
        self.guards.borrow_mut().push((guard, world.task_id(), group));
        guard
    }

    pub fn pop(&self, guard: u64) {
        self.guards.borrow_mut().retain(|(g, _, _)| *g != guard);
    }

    /// The group that the running code is in.
    fn group(&self, world: &World) -> Option<GroupId> {
        let guards = self.guards.borrow();
        if let Some((_, by, group)) = guards.last()
            && *by == world.task_id()
        {
            return Some(*group);
        }
        world.acting_task().map(|_| world.acting_group())
    }
}

/// The runtime that the running code is in.
pub(crate) fn handle() -> Option<Handle> {
    let world = World::current()?;
    let runtimes = world.extension::<Runtimes>();
    Some(Handle::new(runtimes.token, runtimes.group(world)?))
}

/// Its record.
pub(crate) fn record() -> Option<Rc<Record>> {
    let world = World::current()?;
    let runtimes = world.extension::<Runtimes>();
    let group = runtimes.group(world)?;
    Some(runtimes.record(group))
}

/// The World, for a timer.
///
/// # Panics
/// Outside a runtime and in one whose timers are disabled, with tokio's texts.
#[track_caller]
pub(crate) fn require_time() -> &'static World {
    let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
    let runtimes = world.extension::<Runtimes>();
    let Some(group) = runtimes.group(world) else { panic!("{NO_RUNTIME}") };
    assert!(
        runtimes.find(group).is_none_or(|r| r.time_enabled),
        "A Tokio 1.x context was found, but timers are disabled. Call `enable_time` on the runtime builder to enable \
         timers."
    );
    world
}
