//! Tasks and their order: spawn, wake, hold, poll, abort.
//!
//! Each wake asks one question, addressed by the woken task's key and the ordinal of the wake: how many later wakes may
//! pass it. 0, the benign answer, is the back of the queue. Tasks outside the machines are never held.

use crate::choices::{Address, Choices, Law, Ratio, Stream};
use crate::device::Death;
use crate::hash;
use crate::join::{Body, Id, JoinError, JoinHandle, Spawned};
use crate::node::{GroupId, NodeId, State};
use crate::ready::ReadyQueue;
use crate::task::{NameHashes, Spawn, Task, Tasks};
use crate::thread::ThreadId;
use crate::waker;
use crate::world::{Actor, World, draw_intensity};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Most wakes that may pass a held one.
pub(crate) const MAX_HOLD: u64 = 2047;

#[derive(Default)]
pub(crate) struct Scheduler {
    pub tasks: Tasks,
    pub ready: ReadyQueue<u64>,
    hold: Option<Ratio>,
    slow: Option<Ratio>,
    ids: u64,
    gates: Vec<Gate>,
    names: NameHashes,
}

/// A LocalSet's: its tasks are polled only while it is open.
struct Gate {
    open: bool,
    parked: Vec<u64>,
}

/// Names a gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GateId(u32);

/// A task about to be polled. The root of a `block_on` has no body: its caller polls it.
pub(crate) struct Begun {
    pub body: Option<Pin<Box<dyn Body>>>,
    pub aborted: bool,
    pub id: Id,
    pub program_of: Option<NodeId>,
}

impl Scheduler {
    /// `None` as a ratio stands for "never ask": the order is first in, first out, also on a tape.
    pub fn begin(&mut self, world: u16, perturb: bool, choices: &mut Choices) {
        self.tasks.begin(world);
        let (hold, slow) = draw_intensity(choices);
        self.hold = perturb.then_some(hold);
        self.slow = perturb.then_some(slow);
        self.ids = 0;
    }

    /// How often a wake is held; `None` if it never is.
    pub fn hold(&self) -> Option<Ratio> {
        self.hold
    }

    fn next_id(&mut self) -> Id {
        self.ids += 1;
        Id(self.ids)
    }
}

impl Spawn {
    /// A spawn of a future of type `F` at the caller's place.
    #[track_caller]
    pub fn of<F>() -> Spawn {
        Spawn { name: std::any::type_name::<F>(), location: std::panic::Location::caller() }
    }

    /// The same with a name of the user's.
    #[track_caller]
    pub fn named(name: &'static str) -> Spawn {
        Spawn { name, location: std::panic::Location::caller() }
    }
}

impl fmt::Display for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (spawned at {})", readable(self.name), self.location)
    }
}

/// A type's name as a reader knows it. `{{closure}}` is how the compiler calls an async block, a box says where it lies: left is
/// the function around it.
pub(crate) fn readable(name: &str) -> String {
    name.replace("::{{closure}}", "").replace("core::pin::Pin<alloc::boxed::Box<", "Pin<Box<")
}

/// Says what the running task waits for, in case it is still waiting when nothing can happen any more.
#[inline]
pub fn waiting_for(what: &'static str) {
    World::with_current(|w| w.waits_for.set(what));
}

impl World {
    /// Spawns `future` as a child of the running task, in its group.
    #[inline]
    pub fn spawn<F>(&'static self, future: F, spawn: Spawn) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        self.spawn_in(self.actor.get().group, None, future, spawn)
    }

    /// Spawns the program of a node: when it returns, the node's process has ended; when it panics, so has the run.
    pub(crate) fn spawn_program<F>(&'static self, group: GroupId, program: F, spawn: Spawn)
    where
        F: Future<Output = ()> + 'static,
    {
        let handle = self.spawn_in(group, None, program, spawn);
        if let Some(task) = self.scheduler.borrow_mut().tasks.get(handle.task()) {
            task.program = true;
        }
    }

    /// Spawns `future` into `group`. In a group that has ended, the handle says "cancelled" at once.
    pub fn spawn_in<F>(
        &'static self,
        group: GroupId,
        gate: Option<GateId>,
        future: F,
        spawn: Spawn,
    ) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let (node, alive) = self.groups.borrow()[group.0 as usize];
        let id = self.scheduler.borrow_mut().next_id();
        if !alive {
            let (body, handle) = Spawned::new(future, id, u64::MAX);
            Box::pin(body).as_mut().end(JoinError::cancelled(id));
            return handle;
        }
        let mut scheduler = self.scheduler.borrow_mut();
        let scheduler = &mut *scheduler;
        let key = self.key_for(scheduler, group, node, &spawn);
        let slow_hold = self.draw_slowness(scheduler, node, key, &spawn);
        let mut handle = None;
        let task = scheduler.tasks.insert(|packed| {
            let (body, h) = Spawned::new(future, id, packed);
            handle = Some(h);
            Task {
                generation: 0,
                alive: true,
                queued: false,
                aborted: false,
                program: false,
                slow_hold,
                node,
                group,
                wakes: 0,
                key,
                body: Some(Box::pin(body)),
                id,
                spawn,
                waits_for: "",
                children: Vec::new(),
                selects: 0,
                entropy: 0,
                gate: gate.map(|g| g.0),
            }
        });
        self.queue(scheduler, task);
        handle.expect("insert calls its closure")
    }

    /// The stable identity of a child of the acting task. Where no task is polled (a program is made, a task is being
    /// dropped) the actor's key still tells the children of one from those of another, and the place tells nodes apart.
    fn key_for(&self, scheduler: &mut Scheduler, group: GroupId, node: NodeId, spawn: &Spawn) -> u64 {
        let actor = self.actor.get();
        let name = scheduler.names.of(spawn);
        let Some(parent) = scheduler.tasks.get(actor.task) else {
            let family = hash::key(&[actor.key, 3, self.place_key(node), name]);
            return hash::key(&[family, self.next_orphan(family) as u64]);
        };
        let place = if actor.group == group && actor.node == node { 0 } else { self.place_key(node) };
        hash::key(&[parent.key, place, name, parent.next_child(name) as u64])
    }

    /// Asks once, at birth, whether a task is slow, and how much.
    fn draw_slowness(&self, scheduler: &Scheduler, node: NodeId, key: u64, spawn: &Spawn) -> u16 {
        let mut core = self.core.borrow_mut();
        core.choices.name_key(key, || spawn.to_string());
        let Some(slow) = scheduler.slow.filter(|_| node != NodeId::OUTSIDE) else { return 0 };
        let at = Address { stream: Stream::SCHEDULE, key: hash::key(&[key, 1]), n: 0 };
        core.choices.name_key(at.key, || spawn.to_string());
        match core.choices.ask(at, Law::Rare { p: slow, max: 8 }, "slow task", self.now(), node) {
            0 => 0,
            e => 1 << e,
        }
    }

    /// A task is to be polled. Wakes of tasks that are queued, gone or being polled a last time do nothing.
    #[inline]
    pub(crate) fn wake(&self, task: u64) {
        self.queue(&mut self.scheduler.borrow_mut(), task);
    }

    #[inline]
    fn queue(&self, scheduler: &mut Scheduler, packed: u64) {
        let Some(task) = scheduler.tasks.get(packed) else { return };
        if task.queued {
            return;
        }
        task.queued = true;
        let n = task.wakes;
        task.wakes = n.wrapping_add(1);
        let mut hold = task.slow_hold as u64;
        if let Some(p) = scheduler.hold.filter(|_| task.node != NodeId::OUTSIDE) {
            let at = Address { stream: Stream::SCHEDULE, key: task.key, n };
            let law = Law::Rare { p, max: MAX_HOLD };
            hold += self.core.borrow_mut().choices.ask(at, law, "hold", self.now(), task.node);
        }
        scheduler.ready.push(packed, hold);
    }

    /// Makes a task the actor and takes its body out, unless it is gone, paused or behind a closed gate.
    #[inline]
    pub(crate) fn begin_poll(&self, packed: u64) -> Option<Begun> {
        let mut scheduler = self.scheduler.borrow_mut();
        let scheduler = &mut *scheduler;
        let task = scheduler.tasks.get(packed)?;
        {
            let mut nodes = self.nodes.borrow_mut();
            let node = &mut nodes[task.node.0 as usize];
            if node.state == State::Paused {
                node.parked.push(packed);
                return None;
            }
            self.clock_acts_for(node.clock);
        }
        if let Some(gate) = task.gate.map(|g| &mut scheduler.gates[g as usize]).filter(|g| !g.open) {
            gate.parked.push(packed);
            return None;
        }
        task.queued = false;
        self.actor.set(Actor {
            task: packed,
            key: task.key,
            node: task.node,
            group: task.group,
            spawn: Some(task.spawn),
        });
        self.waits_for.set("");
        self.threads.in_vain.set(0);
        self.count_poll(task.key);
        Some(Begun {
            body: task.body.take(),
            aborted: task.aborted,
            id: task.id,
            program_of: task.program.then_some(task.node),
        })
    }

    /// Puts the body of a pending task back; hands it out again if the task was killed while it ran.
    #[inline]
    pub(crate) fn put_back(&self, packed: u64, body: Option<Pin<Box<dyn Body>>>) -> Option<Pin<Box<dyn Body>>> {
        let mut scheduler = self.scheduler.borrow_mut();
        let Some(task) = scheduler.tasks.get(packed) else { return body };
        task.waits_for = self.waits_for.get();
        task.body = body;
        None
    }

    /// Polls one task, or ends it if it was aborted. While its future is dropped it is still the actor, so that what
    /// the drop does is done by the dead if the task was killed.
    pub(crate) fn run_task(&self, packed: u64) {
        let Some(Begun { body: Some(mut body), aborted, id, program_of }) = self.begin_poll(packed) else { return };
        if aborted {
            self.scheduler.borrow_mut().tasks.remove(packed);
            self.end_body(body, JoinError::cancelled(id));
            return self.actor.set(Actor::NOBODY);
        }
        let waker = waker::waker(packed);
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(&mut Context::from_waker(&waker))));
        // A program that was killed while it ran is nobody's any more: its machine may have started anew.
        let program_of = program_of.filter(|_| self.lives(packed));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(body) = self.put_back(packed, Some(body)) {
                    self.end_body(body, JoinError::cancelled(id));
                }
            }
            Ok(Poll::Ready(())) => {
                self.scheduler.borrow_mut().tasks.remove(packed);
                if let Some(node) = program_of {
                    self.end_node(node, Death::Exit);
                }
            }
            Err(payload) => {
                self.scheduler.borrow_mut().tasks.remove(packed);
                if program_of.is_some() {
                    self.stop_with(self.panic_verdict(&*payload));
                }
                self.end_body(body, JoinError::panicked(id, payload));
            }
        }
        self.actor.set(Actor::NOBODY);
    }

    /// Drops a future that will not finish. A panic in a destructor stays with the task, as in tokio.
    pub(crate) fn end_body(&self, mut body: Pin<Box<dyn Body>>, error: JoinError) {
        let ended = catch_unwind(AssertUnwindSafe(move || {
            body.as_mut().end(error);
            drop(body);
        }));
        if let Err(payload) = ended {
            drop(self.panic_verdict(&*payload));
        }
    }

    /// Cancels a task the next time it would be polled.
    pub(crate) fn abort(&self, packed: u64) {
        let mut scheduler = self.scheduler.borrow_mut();
        if let Some(task) = scheduler.tasks.get(packed) {
            task.aborted = true;
            self.queue(&mut scheduler, packed);
        }
    }

    /// The task that a `block_on` polls itself: a slot without a body.
    pub(crate) fn add_root(&'static self, group: GroupId, spawn: Spawn) -> u64 {
        let (node, _) = self.groups.borrow()[group.0 as usize];
        let mut scheduler = self.scheduler.borrow_mut();
        let scheduler = &mut *scheduler;
        let id = scheduler.next_id();
        let key = hash::key(&[self.place_key(node), scheduler.names.of(&spawn), self.next_orphan(0) as u64]);
        let task = scheduler.tasks.insert(|_| Task {
            generation: 0,
            alive: true,
            queued: false,
            aborted: false,
            program: false,
            slow_hold: 0,
            node,
            group,
            wakes: 0,
            key,
            body: None,
            id,
            spawn,
            waits_for: "",
            children: Vec::new(),
            selects: 0,
            entropy: 0,
            gate: None,
        });
        self.queue(scheduler, task);
        task
    }

    pub(crate) fn remove_root(&self, root: u64) {
        self.scheduler.borrow_mut().tasks.remove(root);
        self.actor.set(Actor::NOBODY);
    }

    /// One line for each living task and thread and what it waits for.
    pub(crate) fn blocked(&self) -> Vec<String> {
        let scheduler = self.scheduler.borrow();
        let nodes = self.nodes.borrow();
        let line = |(_, t): (u32, &Task)| {
            let waits = match t.waits_for {
                _ if t.queued => "to go on: its node is paused or its LocalSet is not polled",
                "" => "something in memory: a channel, a lock, or a future that was never woken",
                what => what,
            };
            format!("{}: {} waits for {waits}", nodes[t.node.0 as usize].name, t.spawn)
        };
        let tasks: Vec<String> = scheduler.tasks.iter().map(line).collect();
        drop((scheduler, nodes));
        tasks.into_iter().chain(self.waiting_guests()).chain(self.blocked_threads()).collect()
    }

    /// How many tasks live.
    pub fn live_tasks(&self) -> usize {
        self.scheduler.borrow().tasks.live()
    }

    /// Whether a task has not ended.
    pub(crate) fn lives(&self, packed: u64) -> bool {
        self.scheduler.borrow_mut().tasks.get(packed).is_some()
    }

    /// The id of the running task.
    pub fn task_id(&self) -> Option<Id> {
        self.scheduler.borrow_mut().tasks.get(self.actor.get().task).map(|t| t.id)
    }

    /// The stable identity of whoever acts.
    #[inline]
    pub fn acting_key(&self) -> u64 {
        self.actor.get().key
    }

    /// Whether a task runs. Reads a cell only.
    #[inline]
    pub fn in_task(&self) -> bool {
        self.actor.get().task != Actor::NOBODY.task
    }

    /// The group that spawns of the running task belong to.
    pub fn acting_group(&self) -> GroupId {
        self.actor.get().group
    }

    /// Lets the running task be polled again after all that is ready now.
    #[inline]
    pub fn yield_task(&self) {
        self.wake(self.actor.get().task);
    }

    /// Which branch of a `select!` is looked at first. Keyed by the running task.
    pub fn select_start(&self, branches: u32) -> u32 {
        let actor = self.actor.get();
        let mut scheduler = self.scheduler.borrow_mut();
        let Some(task) = scheduler.tasks.get(actor.task) else { return 0 };
        let at = Address { stream: Stream::SCHEDULE, key: hash::key(&[task.key, 2]), n: task.selects };
        task.selects += 1;
        if scheduler.hold.is_none() || actor.node == NodeId::OUTSIDE {
            return 0;
        }
        let mut core = self.core.borrow_mut();
        core.choices.name_key(at.key, || actor.spawn.map(|s| s.to_string()).unwrap_or_default());
        core.choices.ask(at, Law::Below(branches as u64), "select! branch", self.now(), actor.node) as u32
    }

    /// Something of this key, which is no task of this executor, is polled: it acts, and the poll is counted. Returns who
    /// acted before, for [`end_entry`](Self::end_entry).
    #[inline]
    pub fn begin_entry(&self, key: u64) -> u64 {
        let actor = self.actor.get();
        self.actor.set(Actor { key, ..actor });
        self.count_poll(key);
        actor.key
    }

    /// The poll is over.
    #[inline]
    pub fn end_entry(&self, before: u64) {
        self.actor.set(Actor { key: before, ..self.actor.get() });
    }

    /// Which of `n` equal things whoever acts takes first; 0 where order is not perturbed.
    pub fn draw_for_actor(&self, n: u32) -> u32 {
        let actor = self.actor.get();
        if self.scheduler.borrow().hold.is_none() || actor.node == NodeId::OUTSIDE {
            return 0;
        }
        let key = hash::key(&[actor.key, 2]);
        let at = Address { stream: Stream::SCHEDULE, key, n: self.next_orphan(key) };
        let mut core = self.core.borrow_mut();
        core.choices.ask(at, Law::Below(n as u64), "select! branch", self.now(), actor.node) as u32
    }

    /// Fills `out` with the program's own randomness, keyed by whoever acts.
    pub fn entropy(&self, out: &mut [u8]) {
        let actor = self.actor.get();
        if self.running_thread() != ThreadId::FIRST {
            self.threads.drew_entropy.set(true);
        }
        // The scheduler itself may be at work: then the bytes are keyed by nobody, which is as deterministic.
        let drawn = self.scheduler.try_borrow_mut().ok().and_then(|mut scheduler| {
            // A task of this executor, and not one that it only turns.
            let task = scheduler.tasks.get(actor.task).filter(|task| task.key == actor.key)?;
            task.entropy += 1;
            Some((task.key, task.entropy))
        });
        let (key, n) = drawn.unwrap_or_else(|| {
            let key = if actor.key == 0 { u64::MAX } else { actor.key };
            (key, self.next_orphan(key))
        });
        self.entropy.get().fill(key, n, out);
    }

    /// A seed for a generator of whoever acts, which is part of a runtime and not of the program.
    pub fn generator_seed(&self) -> u64 {
        let key = hash::key(&[self.actor.get().key, 8]);
        let mut seed = [0; 8];
        self.entropy.get().fill(key, self.next_orphan(key), &mut seed);
        u64::from_ne_bytes(seed)
    }

    // ---- gates --------------------------------------------------------------------------------------------------

    /// A new gate, closed.
    pub fn new_gate(&self) -> GateId {
        let mut scheduler = self.scheduler.borrow_mut();
        scheduler.gates.push(Gate { open: false, parked: Vec::new() });
        GateId(scheduler.gates.len() as u32 - 1)
    }

    /// Opens a gate, letting the tasks behind it go on, or closes it.
    pub fn set_gate(&self, gate: GateId, open: bool) {
        let mut scheduler = self.scheduler.borrow_mut();
        let Some(g) = scheduler.gates.get_mut(gate.0 as usize) else { return };
        g.open = open;
        if open {
            for task in std::mem::take(&mut g.parked) {
                scheduler.ready.push(task, 0);
            }
        }
    }

    /// The gate of the running task.
    pub fn acting_gate(&self) -> Option<GateId> {
        self.scheduler.borrow_mut().tasks.get(self.actor.get().task)?.gate.map(GateId)
    }

    /// How many tasks of a group live.
    pub fn live_in(&self, group: GroupId) -> usize {
        self.scheduler.borrow().tasks.iter().filter(|(_, t)| t.group == group).count()
    }

    /// How many tasks live behind a gate.
    pub fn live_behind(&self, gate: GateId) -> usize {
        self.scheduler.borrow().tasks.iter().filter(|(_, t)| t.gate == Some(gate.0)).count()
    }

    /// Ends all tasks behind a gate.
    pub fn end_behind(&self, gate: GateId) {
        self.end_tasks(|t| t.gate == Some(gate.0));
    }

    /// Ends the tasks that `which` picks, oldest first, each as itself.
    pub(crate) fn end_tasks(&self, which: impl Fn(&Task) -> bool) {
        let names = self.scheduler.borrow().tasks.names(which);
        for packed in names {
            let (body, id, actor) = {
                let mut scheduler = self.scheduler.borrow_mut();
                let Some(task) = scheduler.tasks.get(packed) else { continue };
                let actor =
                    Actor { task: packed, key: task.key, node: task.node, group: task.group, spawn: Some(task.spawn) };
                let id = task.id;
                (scheduler.tasks.remove(packed), id, actor)
            };
            if let Some(body) = body {
                let before = self.actor.replace(actor);
                self.end_body(body, JoinError::cancelled(id));
                self.actor.set(before);
            }
        }
    }

    pub(crate) fn end_schedule(&self) {
        // Destructors may spawn: until nothing is left.
        while self.live_tasks() > 0 {
            self.end_tasks(|_| true);
        }
        let mut scheduler = self.scheduler.borrow_mut();
        scheduler.tasks.clear();
        scheduler.ready.clear();
        scheduler.gates.clear();
    }
}
