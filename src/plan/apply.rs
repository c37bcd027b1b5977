//! Faults while they last: what begins, what is active, what is mended when one ends.
//!
//! What several faults do to one thing adds up, and ends with the last of them: a node that was killed and powered off
//! starts when both are over, a link's nature follows from the delays and losses that are left.

use super::{DiskTrouble, Fault, Kind, Plan, Planned};
use crate::sim::{disk_operations, world};
use sim_core::choices::Ratio;
use sim_core::node::State;
use sim_core::time::Timer;
use sim_core::{Death, Instant, NodeId, Spawn, World};
use sim_disk::{Disk, DiskFaults};
use sim_net::{LinkConfig, Net, Odds};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The plans of a run.
#[derive(Default)]
pub(crate) struct PlanState {
    active: RefCell<Vec<(u64, Fault)>>,
    begun: Cell<u64>,
    /// Swarms that have drawn their faults.
    swarms: Cell<u32>,
    /// Faults that are not over yet, and ends of plans that have not come.
    open: Cell<u32>,
    waiting: RefCell<Vec<Waker>>,
    planned: RefCell<BTreeSet<&'static str>>,
    /// From when to when at least one fault was active.
    trouble: RefCell<Vec<(Instant, Instant)>>,
    calm_since: Cell<Instant>,
}

impl PlanState {
    /// How many faults are active.
    pub fn active(&self) -> usize {
        self.active.borrow().len()
    }

    /// What was planned, by the names under which strikes are counted.
    pub fn planned(&self) -> BTreeSet<&'static str> {
        self.planned.borrow().clone()
    }

    /// The spans of time in which at least one fault was active.
    pub fn trouble(&self) -> Vec<(Instant, Instant)> {
        self.trouble.borrow().clone()
    }

    /// A fault, or a plan, is over.
    fn over(&self) {
        self.open.set(self.open.get() - 1);
        if self.open.get() == 0 {
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Until no plan is open and no fault of one is left. The last fault ends at the very instant that its plan does, and
    /// which of the two tasks comes first is the seed's.
    pub async fn healed(&self) {
        poll_fn(|cx| {
            if self.open.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            sim_core::waiting_for("the end of the planned faults");
            Poll::Pending
        })
        .await
    }
}

impl Fault {
    /// The name under which its strikes are counted.
    pub fn counter(&self) -> &'static str {
        match self.kind {
            Kind::Partition { .. } | Kind::OneWay { .. } => "net.partition",
            Kind::Loss { .. } => "net.loss",
            Kind::DiskError { .. } => "disk.eio",
            Kind::DiskFull { .. } => "disk.enospc",
            Kind::DiskSlow { .. } => "disk.slow",
            Kind::Disk { trouble, .. } => trouble.names().1,
            Kind::Wipe { .. } => "disk.wipe",
            Kind::SwapDisks { .. } => "disk.swap",
            _ => self.name(),
        }
    }
}

impl Plan {
    /// Draws what is to be drawn, and spawns one task outside the machines for each fault and one that mends the rest.
    #[track_caller]
    pub(crate) fn begin(self, world: &'static World) {
        let state = world.extension::<PlanState>();
        let begin = world.now();
        let mut faults = self.faults;
        let mut end = Duration::ZERO;
        if let Some(swarm) = &self.swarm {
            let ordinal = state.swarms.get();
            state.swarms.set(ordinal + 1);
            let all = world.node_ids();
            let names = |which: &dyn Fn(NodeId) -> bool| -> Vec<String> {
                all.iter().filter(|n| which(**n)).map(|n| world.node_name(*n)).collect()
            };
            let (nodes, peers) = (names(&|n| runs(world, n)), names(&|_| true));
            let drawn = world.with_choices(|choices| swarm.draw(choices, &nodes, &peers, ordinal, begin));
            faults.extend(drawn);
            end = swarm.until;
        }
        for planned in &faults {
            for name in planned.fault.nodes() {
                assert!(
                    world.find_node(name).is_some(),
                    "the plan names the node {name:?}, which does not exist: `{planned}`"
                );
            }
            world.event(NodeId::OUTSIDE, "plan", || planned.to_string());
            state.planned.borrow_mut().insert(planned.fault.counter());
            end = end.max(planned.at + planned.fault.lasts);
        }
        state.open.set(state.open.get() + faults.len() as u32 + 1);
        let outside = world.node_group(NodeId::OUTSIDE);
        for planned in faults {
            let _detached = world.spawn_in(outside, None, strike(planned, begin), Spawn::named("planned fault"));
        }
        let mend = async move {
            Timer::new(begin + end).await;
            mend_all(world);
            world.extension::<PlanState>().over();
        };
        let _detached = world.spawn_in(outside, None, mend, Spawn::named("end of the plan"));
    }
}

fn runs(world: &World, node: NodeId) -> bool {
    matches!(world.node_state(node), State::Running | State::Paused)
}

/// Whether a power loss takes something: also from a machine whose programs have ended.
fn has_power(world: &World, node: NodeId) -> bool {
    runs(world, node) || matches!(world.node_state(node), State::Dead(Death::Exit | Death::Kill))
}

/// One fault from its beginning to its end.
async fn strike(planned: Planned, begin: Instant) {
    let world = world();
    Timer::new(begin + planned.at).await;
    let Planned { mut fault, .. } = planned;
    world.event(NodeId::OUTSIDE, "fault", || fault.to_string());
    let state = world.extension::<PlanState>();
    let id = state.begun.get();
    state.begun.set(id + 1);
    if state.active() == 0 {
        state.calm_since.set(world.now());
    }
    state.active.borrow_mut().push((id, fault.clone()));
    apply(world, &state, &fault);
    let mut over = Timer::new(world.now() + fault.lasts);
    if let Kind::PowerCut { node, operation } = fault.kind.clone() {
        let under_way = pin!(disk_operations(id_of(world, &node), operation.into()));
        if first(under_way, Pin::new(&mut over)).await && runs(world, id_of(world, &node)) {
            world.fired(id_of(world, &node), fault.name(), || fault.to_string());
            // From now on it is the same as one that came between operations.
            fault.kind = Kind::PowerCycle { node };
            state
                .active
                .borrow_mut()
                .iter_mut()
                .filter(|(other, _)| *other == id)
                .for_each(|(_, f)| *f = fault.clone());
            power_off(world, id_of(world, fault.nodes()[0]));
        }
    }
    over.await;
    world.event(NodeId::OUTSIDE, "fault.over", || fault.to_string());
    state.active.borrow_mut().retain(|(other, _)| *other != id);
    if state.active() == 0 {
        state.trouble.borrow_mut().push((state.calm_since.get(), world.now()));
    }
    lift(world, &state, &fault);
    state.over();
}

/// Whether `future` is ready before `timer`.
async fn first(mut future: Pin<&mut impl Future<Output = ()>>, mut timer: Pin<&mut Timer>) -> bool {
    poll_fn(|cx| match (future.as_mut().poll(cx), timer.as_mut().poll(cx)) {
        (Poll::Ready(()), _) => Poll::Ready(true),
        (_, Poll::Ready(())) => Poll::Ready(false),
        _ => Poll::Pending,
    })
    .await
}

fn id_of(world: &World, name: &str) -> NodeId {
    world.find_node(name).expect("checked when the plan began")
}

fn ids(world: &World, names: &[String]) -> Vec<NodeId> {
    names.iter().map(|n| id_of(world, n)).collect()
}

fn apply(world: &'static World, state: &PlanState, fault: &Fault) {
    let fired = |node: NodeId| world.fired(node, fault.name(), || fault.to_string());
    match &fault.kind {
        Kind::Partition { a, b } => block(world, &ids(world, a), &ids(world, b), true),
        Kind::OneWay { from, to } => block(world, &ids(world, from), &ids(world, to), false),
        Kind::Delay { from, to, .. } => {
            let (from, to) = (id_of(world, from), id_of(world, to));
            fired(from);
            set_link(world, state, from, to);
        }
        Kind::Loss { from, to, .. } => set_link(world, state, id_of(world, from), id_of(world, to)),
        Kind::Kill { node } => {
            let id = id_of(world, node);
            if runs(world, id) {
                fired(id);
                world.end_node(id, Death::Kill);
            }
        }
        Kind::PowerCycle { node } => {
            let id = id_of(world, node);
            if has_power(world, id) {
                fired(id);
                world.end_node(id, Death::PowerOff);
            }
        }
        // `strike` waits for the operation.
        Kind::PowerCut { .. } => {}
        Kind::Pause { node } => {
            let id = id_of(world, node);
            if world.node_state(id) == State::Running {
                fired(id);
                world.pause(id);
            }
        }
        Kind::ClockBump { node, by_ns } => {
            fired(id_of(world, node));
            world.bump_clock(id_of(world, node), *by_ns);
        }
        Kind::ClockDrift { node, ppm } => {
            fired(id_of(world, node));
            world.drift_clock(id_of(world, node), *ppm);
        }
        Kind::DiskError { node, .. }
        | Kind::DiskFull { node }
        | Kind::DiskSlow { node, .. }
        | Kind::Disk { node, .. } => set_disk(world, state, node),
        Kind::Wipe { node } => {
            let id = id_of(world, node);
            power_off(world, id);
            world.with_device(|disk: &mut Disk, cx| disk.wipe(id, cx));
        }
        Kind::SwapDisks { a, b } => {
            let (a, b) = (id_of(world, a), id_of(world, b));
            power_off(world, a);
            power_off(world, b);
            world.with_device(|disk: &mut Disk, cx| disk.swap(a, b, cx));
        }
    }
}

fn power_off(world: &World, node: NodeId) {
    if has_power(world, node) {
        world.end_node(node, Death::PowerOff);
    }
}

/// Mends what `fault` broke, as far as no other fault still breaks it.
fn lift(world: &'static World, state: &PlanState, fault: &Fault) {
    let still = |same: &dyn Fn(&Kind) -> bool| state.active.borrow().iter().any(|(_, f)| same(&f.kind));
    match &fault.kind {
        Kind::Partition { a, b } => unblock(world, &ids(world, a), &ids(world, b), true),
        Kind::OneWay { from, to } => unblock(world, &ids(world, from), &ids(world, to), false),
        Kind::Delay { from, to, .. } | Kind::Loss { from, to, .. } => {
            set_link(world, state, id_of(world, from), id_of(world, to))
        }
        Kind::Kill { .. } | Kind::PowerCycle { .. } | Kind::Wipe { .. } | Kind::SwapDisks { .. } => {
            for node in fault.nodes() {
                if !still(&|k| k.ends(node)) {
                    restart(world, id_of(world, node));
                }
            }
        }
        // It did not strike, or it is a power cycle now.
        Kind::PowerCut { .. } => {}
        Kind::Pause { node } => {
            if !still(&|k| matches!(k, Kind::Pause { node: n } if n == node)) {
                world.resume(id_of(world, node));
            }
        }
        Kind::ClockBump { node, .. } | Kind::ClockDrift { node, .. } => {
            let same =
                |k: &Kind| matches!(k, Kind::ClockBump { node: n, .. } | Kind::ClockDrift { node: n, .. } if n == node);
            if !still(&same) {
                world.reset_clock(id_of(world, node));
            }
        }
        Kind::DiskError { node, .. }
        | Kind::DiskFull { node }
        | Kind::DiskSlow { node, .. }
        | Kind::Disk { node, .. } => set_disk(world, state, node),
    }
}

impl Kind {
    /// Whether it keeps the node down while it lasts.
    fn ends(&self, name: &str) -> bool {
        match self {
            Kind::Kill { node } | Kind::PowerCycle { node } | Kind::Wipe { node } => node == name,
            Kind::SwapDisks { a, b } => a == name || b == name,
            _ => false,
        }
    }
}

/// Starts a dead node again that once had a program.
fn restart(world: &'static World, node: NodeId) {
    if matches!(world.node_state(node), State::Dead(_)) && world.incarnation(node) > 0 {
        world.restart(node);
    }
}

/// The end of a plan: every node that has ended, by a fault or by itself, runs again.
fn mend_all(world: &'static World) {
    for node in world.node_ids() {
        restart(world, node);
    }
}

fn block(world: &World, from: &[NodeId], to: &[NodeId], both_ways: bool) {
    world.with_device(|net: &mut Net, cx| {
        each_link(from, to, both_ways, |from, to| net.block(from, to, cx));
    });
}

fn unblock(world: &World, from: &[NodeId], to: &[NodeId], both_ways: bool) {
    world.with_device(|net: &mut Net, cx| {
        each_link(from, to, both_ways, |from, to| net.unblock(from, to, cx));
    });
}

fn each_link(from: &[NodeId], to: &[NodeId], both_ways: bool, mut f: impl FnMut(NodeId, NodeId)) {
    for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b) {
        f(a, b);
        if both_ways {
            f(b, a);
        }
    }
}

/// Gives a link the nature that follows from the faults that are active on it.
fn set_link(world: &World, state: &PlanState, from: NodeId, to: NodeId) {
    let (mut late, mut loss) = (Duration::ZERO, Ratio::NEVER);
    for (_, fault) in state.active.borrow().iter() {
        match &fault.kind {
            Kind::Delay { from: f, to: t, by } if (id_of(world, f), id_of(world, t)) == (from, to) => late += *by,
            Kind::Loss { from: f, to: t, ratio } if (id_of(world, f), id_of(world, t)) == (from, to) => {
                loss = greater(loss, *ratio)
            }
            _ => {}
        }
    }
    world.with_device(|net: &mut Net, cx| {
        net.reset_link(from, to, cx);
        if late > Duration::ZERO || loss != Ratio::NEVER {
            let calm = net.link_config(from, to);
            let config = LinkConfig { latency: calm.latency + late, loss: Odds::Set(loss), ..calm };
            net.set_link(from, to, config, cx);
        }
    });
}

/// Gives a disk the faults that are active on it.
fn set_disk(world: &World, state: &PlanState, name: &str) {
    let mut faults = DiskFaults::default();
    for (_, fault) in state.active.borrow().iter() {
        match &fault.kind {
            Kind::DiskError { node, ratio } if node == name => {
                faults.write_error = greater(faults.write_error, *ratio);
                faults.sync_error = greater(faults.sync_error, *ratio);
                faults.read_error = greater(faults.read_error, *ratio);
            }
            Kind::Disk { node, trouble, ratio } if node == name => {
                let set = |field: &mut Ratio| *field = greater(*field, *ratio);
                match trouble {
                    DiskTrouble::OpenError => set(&mut faults.open_error),
                    DiskTrouble::Short => {
                        set(&mut faults.short_read);
                        set(&mut faults.short_write);
                    }
                    DiskTrouble::Interrupt => set(&mut faults.interrupted),
                    DiskTrouble::Stall => set(&mut faults.stall),
                    DiskTrouble::SyncFull => set(&mut faults.sync_full),
                    DiskTrouble::Lie => set(&mut faults.sync_lie),
                    DiskTrouble::Latent => set(&mut faults.latent_error),
                    DiskTrouble::Rot => set(&mut faults.bit_rot),
                    DiskTrouble::Astray => set(&mut faults.misdirected),
                }
            }
            Kind::DiskFull { node } if node == name => faults.full = true,
            Kind::DiskSlow { node, factor } if node == name => faults.slow_factor = faults.slow_factor.max(*factor),
            _ => {}
        }
    }
    let id = id_of(world, name);
    world.with_device(|disk: &mut Disk, cx| disk.set_faults(id, faults, cx));
}

fn greater(a: Ratio, b: Ratio) -> Ratio {
    let less = (a.num() as u64 * b.den() as u64) < (b.num() as u64 * a.den() as u64);
    if less { b } else { a }
}
