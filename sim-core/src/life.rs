//! Life and death of nodes: start, stop, kill, power off, restart, pause and resume, clock skew.
//!
//! A dead machine does not act. Devices hear of a death before the futures of its programs are dropped, so that what the
//! drops would do (send a FIN, flush a buffer) finds nothing to act on; and a dead group takes no new task.

use crate::device::Death;
use crate::hash;
use crate::node::{Factory, GroupId, Node, NodeId, Skew, State};
use crate::task::Spawn;
use crate::world::{Actor, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

impl World {
    pub(crate) fn begin_life(&self) {
        self.nodes.borrow_mut().clear();
        self.groups.borrow_mut().clear();
        self.add_machine("-");
    }

    pub(crate) fn end_life(&self) {
        self.end_groups();
        self.end_schedule();
        self.nodes.borrow_mut().clear();
        self.groups.borrow_mut().clear();
    }

    /// From here on nobody acts: every group is dead, so destructors spawn nothing and devices do not hear them.
    pub(crate) fn end_groups(&self) {
        for (_, alive) in self.groups.borrow_mut().iter_mut() {
            *alive = false;
        }
    }

    fn add_machine(&self, name: &str) -> NodeId {
        let mut nodes = self.nodes.borrow_mut();
        let node = NodeId(u16::try_from(nodes.len()).expect("a World holds at most 65,535 nodes"));
        nodes.push(Node {
            name: name.to_owned(),
            state: State::New,
            incarnation: 0,
            group: self.new_group(node),
            factory: None,
            clock: Skew::default(),
            parked: Vec::new(),
        });
        self.core.borrow_mut().trace.name_node(node, name);
        node
    }

    /// A new group of tasks on `node`.
    pub fn new_group(&self, node: NodeId) -> GroupId {
        let mut groups = self.groups.borrow_mut();
        groups.push((node, true));
        GroupId(groups.len() as u32 - 1)
    }

    /// Ends a group: its tasks are dropped, and it takes no new ones.
    pub fn end_group(&self, group: GroupId) {
        if let Some((_, alive)) = self.groups.borrow_mut().get_mut(group.0 as usize) {
            *alive = false;
        }
        self.end_threads(|_, of| of == group);
        self.end_tasks(|t| t.group == group);
    }

    /// Whether the tasks of this group may act.
    #[inline]
    pub fn group_lives(&self, group: GroupId) -> bool {
        self.groups.borrow().get(group.0 as usize).is_some_and(|(_, alive)| *alive)
    }

    /// Whether the acting task may act: false in destructors that run because their node died.
    #[inline]
    pub fn actor_lives(&self) -> bool {
        self.group_lives(self.actor.get().group)
    }

    /// The node of this name, made if there is none yet.
    pub fn node(&self, name: &str) -> NodeId {
        if let Some(node) = self.find_node(name) {
            return node;
        }
        let node = self.add_machine(name);
        self.each_device(|device, cx| device.node_added(node, name, cx));
        node
    }

    /// The node of this name.
    pub fn find_node(&self, name: &str) -> Option<NodeId> {
        let nodes = self.nodes.borrow();
        nodes.iter().skip(1).position(|n| n.name == name).map(|i| NodeId(i as u16 + 1))
    }

    /// All nodes, in order of creation.
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..self.nodes.borrow().len() as u16).map(NodeId).collect()
    }

    /// The name of a node; `-` for the outside.
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.borrow().get(node.0 as usize).map_or_else(|| "?".into(), |n| n.name.clone())
    }

    /// Gives the name of a node to `f`, unless there is no such node or the nodes are being changed: for callers that
    /// may not panic.
    pub fn try_node_name(&self, node: NodeId, f: impl FnOnce(&str)) -> Option<()> {
        self.nodes.try_borrow().ok()?.get(node.0 as usize).map(|n| f(&n.name))
    }

    /// What a node is doing.
    pub fn node_state(&self, node: NodeId) -> State {
        self.nodes.borrow()[node.0 as usize].state
    }

    /// How often a node was started.
    pub fn incarnation(&self, node: NodeId) -> u32 {
        self.nodes.borrow()[node.0 as usize].incarnation
    }

    /// Which incarnation of the acting node acts: of those that have ended, code may run on for a while.
    pub fn acting_incarnation(&self) -> u32 {
        let (node, group) = (self.acting_node(), self.acting_group());
        if group == self.node_group(node) {
            return self.incarnation(node);
        }
        self.groups.borrow().iter().take(group.0 as usize).filter(|(of, _)| *of == node).count() as u32
    }

    /// The tasks of a node's present incarnation.
    pub fn node_group(&self, node: NodeId) -> GroupId {
        self.nodes.borrow()[node.0 as usize].group
    }

    /// Runs what `factory` makes as the program of `node`, now and at every restart. When the program returns, its
    /// process has ended.
    ///
    /// # Panics
    /// If the node runs a program already.
    pub fn start(&'static self, node: NodeId, factory: Factory, spawn: Spawn) {
        let state = self.node_state(node);
        assert!(
            matches!(state, State::New | State::Dead(_)),
            "node {} runs a program already: stop or kill it first",
            self.node_name(node)
        );
        self.nodes.borrow_mut()[node.0 as usize].factory = Some(factory);
        self.boot(node, spawn);
    }

    /// Starts a dead node again with the program it was started with. Does nothing if it runs.
    ///
    /// # Panics
    /// If the node was never started.
    #[track_caller]
    pub fn restart(&'static self, node: NodeId) {
        if matches!(self.node_state(node), State::Running | State::Paused) {
            return;
        }
        self.boot(node, Spawn::named("restart"));
    }

    fn boot(&'static self, node: NodeId, spawn: Spawn) {
        let factory = {
            let mut nodes = self.nodes.borrow_mut();
            let n = &mut nodes[node.0 as usize];
            let Some(factory) = n.factory.clone() else {
                panic!("node {} was never started: give it a program with start(…) first", n.name)
            };
            if n.state != State::New {
                n.group = self.new_group(node);
            }
            n.state = State::Running;
            n.incarnation += 1;
            n.parked.clear();
            factory
        };
        let incarnation = self.incarnation(node);
        self.each_device(|device, cx| device.node_started(node, cx));
        self.event(node, "node.start", || format!("incarnation {incarnation}"));
        let group = self.node_group(node);
        // The program is made and spawned as the node itself: its key hangs on the node and the incarnation alone.
        let actor = Actor { node, group, ..Actor::NOBODY };
        let before = self.actor.replace(actor);
        let spawn = Spawn { name: "program", location: spawn.location };
        match catch_unwind(AssertUnwindSafe(|| factory())) {
            Ok(future) => self.spawn_program(group, future, spawn),
            // Whoever restarts it, a plan or a supervisor, has no part in it: the program panicked.
            Err(payload) => self.stop_with(self.panic_verdict(&*payload)),
        }
        self.actor.set(before);
    }

    /// Ends the programs of a node. A node that has ended already ends no second time; but one whose programs ended, or were
    /// killed, has power yet, and can lose it.
    pub fn end_node(&self, node: NodeId, how: Death) {
        assert!(node != NodeId::OUTSIDE, "the outside is no machine");
        {
            let mut nodes = self.nodes.borrow_mut();
            let n = &mut nodes[node.0 as usize];
            if let State::Dead(before) = n.state
                && (before == Death::PowerOff || how != Death::PowerOff)
            {
                return;
            }
            n.state = State::Dead(how);
            n.parked.clear();
        }
        for (_, alive) in self.groups.borrow_mut().iter_mut().filter(|(of, _)| *of == node) {
            *alive = false;
        }
        let kind = match how {
            Death::Exit => "node.exit",
            Death::Kill => "node.kill",
            Death::PowerOff => "node.power-off",
        };
        self.event(node, kind, String::new);
        self.each_device(|device, cx| device.node_died(node, how, cx));
        self.end_threads(|of, _| of == node);
        self.end_tasks(|t| t.node == node);
    }

    /// Lets the programs of a running node stand still: their timers and packets come, nobody looks at them.
    pub fn pause(&self, node: NodeId) {
        let mut nodes = self.nodes.borrow_mut();
        let n = &mut nodes[node.0 as usize];
        if n.state == State::Running {
            n.state = State::Paused;
            drop(nodes);
            self.event(node, "node.pause", String::new);
        }
    }

    /// Lets a paused node go on.
    pub fn resume(&self, node: NodeId) {
        let parked = {
            let mut nodes = self.nodes.borrow_mut();
            let n = &mut nodes[node.0 as usize];
            if n.state != State::Paused {
                return;
            }
            n.state = State::Running;
            std::mem::take(&mut n.parked)
        };
        self.event(node, "node.resume", String::new);
        let mut scheduler = self.scheduler.borrow_mut();
        for task in parked {
            scheduler.ready.push(task, 0);
        }
    }

    /// Puts a node's wall clock forward or back by `ns`.
    pub fn bump_clock(&self, node: NodeId, ns: i64) {
        let clock = &mut self.nodes.borrow_mut()[node.0 as usize].clock;
        clock.offset_ns = clock.offset_ns.saturating_add(ns);
        self.event(node, "node.clock-bump", || format!("by {ns} ns"));
    }

    /// Lets a node's wall clock gain `ppm` millionths from now on; negative for a slow one.
    pub fn drift_clock(&self, node: NodeId, ppm: i32) {
        let now = self.now.get();
        let clock = &mut self.nodes.borrow_mut()[node.0 as usize].clock;
        *clock = Skew { offset_ns: clock.ahead_ns(now), drift_ppm: ppm, drift_since_ns: now };
        self.event(node, "node.clock-drift", || format!("{ppm} ppm"));
    }

    /// Sets a node's wall clock right again.
    pub fn reset_clock(&self, node: NodeId) {
        self.nodes.borrow_mut()[node.0 as usize].clock = Skew::default();
        self.event(node, "node.clock-set", || "right again".into());
    }

    /// What a key of this node begins with: its name and incarnation, never its number.
    pub(crate) fn place_key(&self, node: NodeId) -> u64 {
        let nodes = self.nodes.borrow();
        let n = &nodes[node.0 as usize];
        hash::key(&[hash::text(&n.name), n.incarnation as u64])
    }

    /// The ordinal of the next key of this name that has no parent.
    pub(crate) fn next_orphan(&self, name: u64) -> u32 {
        let mut counts = self.orphans.borrow_mut();
        let next = counts.entry(name).or_insert(0);
        std::mem::replace(next, next.wrapping_add(1))
    }
}

/// A factory from a closure.
pub fn program<F, Fut>(make: F) -> Factory
where
    F: Fn() -> Fut + 'static,
    Fut: std::future::Future<Output = ()> + 'static,
{
    Rc::new(move || Box::pin(make()))
}
