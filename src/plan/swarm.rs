//! Trouble that a seed draws.
//!
//! Each seed enables a random subset of the kinds and scales each (FoundationDB's and TigerBeetle's way: a run with few
//! kinds reaches states that a run with all of them masks). Every possible fault is one slot and one choice: 0 is "does
//! not happen", any other answer holds all its details. So a fault shrinks as a whole, and one less moves no other.
//!
//! With `keep_majority` the time is cut into epochs, and in each epoch only a minority may be struck: the nodes that
//! stand next in turn. Who may be struck when is thus fixed by the names alone; what happens to them is the seed's.

use super::{DiskTrouble, Fault, Kind, Planned};
use sim_core::choices::{Address, Choices, Law, Ratio, Stream};
use sim_core::{Instant, NodeId, hash};
use std::time::Duration;

/// How a swarm is drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swarm {
    pub(super) keep_majority: bool,
    pub(super) until: Duration,
    pub(super) kinds: Vec<&'static str>,
}

/// How many faults of one kind can happen in one epoch.
const SLOTS: u64 = 2;
/// Epochs of a plan, for each node: every node is among the strikable ones at least so often.
const TURNS: u64 = 3;

impl Swarm {
    /// Kinds that a swarm can draw, by the names of [`Fault::name`].
    pub const KINDS: [&'static str; 12] = [
        "partition",
        "one-way",
        "delay",
        "loss",
        "kill",
        "power-cycle",
        "pause",
        "clock-bump",
        "clock-drift",
        "disk-error",
        "disk-full",
        "disk-slow",
    ];

    /// Kinds that a swarm draws only if [`Plan::only`](super::Plan::only) names them: not every program survives them, or not
    /// every disk knows them. Those that damage what was acknowledged (from `disk-lie` on) strike the same minority of the nodes
    /// in all epochs under `keep_majority`: which one is a choice of its own.
    pub const ON_DEMAND: [&'static str; 11] = [
        "power-cut",
        "disk-open-error",
        "disk-short",
        "disk-interrupt",
        "disk-stall",
        "disk-sync-full",
        "disk-lie",
        "disk-latent",
        "disk-rot",
        "disk-astray",
        "wipe",
    ];

    /// Whether a kind takes away what was acknowledged, and no later epoch brings it back.
    fn damages(kind: &str) -> bool {
        Swarm::ON_DEMAND[6..].contains(&kind)
    }
}

impl Default for Swarm {
    fn default() -> Self {
        Swarm { keep_majority: false, until: Duration::from_secs(20), kinds: Swarm::KINDS.to_vec() }
    }
}

impl Swarm {
    /// The faults that `choices` draw for `nodes`. The ordinal counts the swarms of the run: each draws its own.
    ///
    /// `peers` are the nodes that a link can lead to: all that exist.
    ///
    /// # Panics
    /// If there is nobody to strike.
    #[track_caller]
    pub(super) fn draw(
        &self,
        choices: &mut Choices,
        nodes: &[String],
        peers: &[String],
        ordinal: u32,
        now: Instant,
    ) -> Vec<Planned> {
        let count = nodes.len() as u64;
        let epochs = count * TURNS;
        // Whole milliseconds, so that a plan reads well.
        let length = Duration::from_millis(sim_core::nanos(self.until) / 1_000_000 / epochs);
        let strikable = if self.keep_majority { count.saturating_sub(1) / 2 } else { count };
        assert!(
            strikable > 0,
            "the swarm has nobody to strike: {} run a program; expected at least {}, started before the plan",
            if nodes.is_empty() { "no nodes".into() } else { format!("only {nodes:?}") },
            if self.keep_majority { "three nodes, to keep a majority of them" } else { "one node" },
        );
        let at = Address { stream: Stream::CONFIG, key: hash::key(&[hash::text("damaged disks")]), n: ordinal };
        choices.name_key(at.key, || "disks that may be damaged".to_owned());
        let law = Law::Below(if self.kinds.iter().any(|k| Swarm::damages(k)) { count } else { 0 });
        let damaged = choices.ask(at, law, "which disks may be damaged", now, NodeId::OUTSIDE);
        let mut planned = Vec::new();
        for kind in &self.kinds {
            let p = draw_intensity(choices, kind, ordinal, now);
            for epoch in 0..epochs {
                for slot in 0..SLOTS {
                    let key = hash::key(&[hash::text(kind), epoch, slot]);
                    let at = Address { stream: Stream::FAULT, key, n: ordinal };
                    let word = choices.ask(at, Law::Event(p), "planned fault", now, NodeId::OUTSIDE);
                    if word == 0 {
                        continue;
                    }
                    let mut details = Details { word, drawn: 0 };
                    let turn = if Swarm::damages(kind) { damaged } else { epoch };
                    let victim = &nodes[((turn + details.below(strikable)) % count) as usize];
                    let begin = details.below(sim_core::nanos(length) * 3 / 4);
                    let longest = sim_core::nanos(length) - begin;
                    let lasts = Duration::from_millis((details.below(longest) / 1_000_000).max(1));
                    let at = length * epoch as u32 + Duration::from_millis(begin / 1_000_000);
                    let Some(kind) = fault_of(kind, victim, peers, &mut details) else { continue };
                    let fault = Fault { kind, lasts };
                    let fault = Planned { at, fault };
                    choices.annotate(|| fault.to_string());
                    planned.push(fault);
                }
            }
        }
        planned.sort_by_key(|p| p.at);
        planned
    }
}

/// Whether this run has faults of this kind, and how many: a third of the kinds are off.
fn draw_intensity(choices: &mut Choices, kind: &str, ordinal: u32, now: Instant) -> Ratio {
    let at = Address { stream: Stream::CONFIG, key: hash::key(&[hash::text("swarm"), hash::text(kind)]), n: ordinal };
    choices.name_key(at.key, || kind.to_owned());
    match choices.ask(
        at,
        Law::Weighted { none: 3, of: [3, 2, 1, 0] },
        "how often a fault is planned",
        now,
        NodeId::OUTSIDE,
    ) {
        0 => Ratio::NEVER,
        1 => Ratio::new(1, 16),
        2 => Ratio::new(1, 6),
        _ => Ratio::new(1, 2),
    }
}

/// The details of one fault, all from the one word it was drawn as.
struct Details {
    word: u64,
    drawn: u64,
}

impl Details {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        ((hash::key(&[self.word, self.drawn]) as u128 * bound as u128) >> 64) as u64
    }
}

/// `None` for a fault of a link where there is no other node.
fn fault_of(name: &str, victim: &str, nodes: &[String], details: &mut Details) -> Option<Kind> {
    let node = victim.to_owned();
    let others: Vec<String> = nodes.iter().filter(|n| *n != victim).cloned().collect();
    let chosen = details.below(others.len() as u64) as usize;
    let peer = match others.get(chosen) {
        Some(peer) => peer.clone(),
        None if matches!(name, "partition" | "one-way" | "delay" | "loss") => return None,
        None => String::new(),
    };
    let (from, to) = if details.below(2) == 0 { (node.clone(), peer) } else { (peer, node.clone()) };
    Some(match name {
        "partition" => Kind::Partition { a: vec![node], b: others },
        "one-way" if from == node => Kind::OneWay { from: vec![node], to: others },
        "one-way" => Kind::OneWay { from: others, to: vec![node] },
        "delay" => Kind::Delay { from, to, by: Duration::from_millis(1 << details.below(11)) },
        "loss" => Kind::Loss { from, to, ratio: Ratio::new(1 << details.below(4), 16) },
        "kill" => Kind::Kill { node },
        "power-cycle" => Kind::PowerCycle { node },
        "power-cut" => Kind::PowerCut { node, operation: 1 + details.below(64) as u32 },
        "pause" => Kind::Pause { node },
        // Jepsen's bumps: log-uniform from milliseconds to minutes, either way.
        "clock-bump" => {
            let ns = 4_000_000i64 << details.below(17);
            Kind::ClockBump { node, by_ns: if details.below(2) == 0 { ns } else { -ns } }
        }
        "clock-drift" => {
            Kind::ClockDrift { node, ppm: (1 << details.below(15)) * if details.below(2) == 0 { 1 } else { -1 } }
        }
        "disk-error" => Kind::DiskError { node, ratio: Ratio::new(1 << details.below(4), 16) },
        "wipe" => Kind::Wipe { node },
        "disk-full" => Kind::DiskFull { node },
        "disk-slow" => Kind::DiskSlow { node, factor: 2 << details.below(8) },
        other => {
            let trouble = DiskTrouble::named(other).expect("it is a kind of a swarm");
            // What lasts is rarer.
            let of = if Swarm::damages(other) { 128 } else { 16 };
            Kind::Disk { node, trouble, ratio: Ratio::new(1 << details.below(4), of) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::choices::Tape;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("n{i}")).collect()
    }

    fn drawn(seed: u64, swarm: &Swarm, n: usize) -> Vec<Planned> {
        swarm.draw(&mut Choices::seeded(seed), &names(n), &names(n), 0, Instant::ZERO)
    }

    #[test]
    fn the_calm_run_has_no_fault() {
        let mut calm = Choices::from_source(0, Box::new(Tape::new([])));
        assert_eq!(Swarm::default().draw(&mut calm, &names(3), &names(3), 0, Instant::ZERO), []);
    }

    #[test]
    fn a_hundred_seeds_draw_every_kind_and_end_in_time() {
        let swarm = Swarm::default();
        let all: Vec<Planned> = (0..100).flat_map(|seed| drawn(seed, &swarm, 3)).collect();
        for kind in Swarm::KINDS {
            assert!(all.iter().any(|p| p.fault.name() == kind), "{kind} was never drawn");
        }
        assert!(all.iter().all(|p| p.at + p.fault.lasts <= swarm.until));
    }

    #[test]
    fn damage_is_drawn_on_demand_and_stays_with_one_minority() {
        let damage: Vec<&str> = Swarm::ON_DEMAND.into_iter().filter(|k| Swarm::damages(k)).collect();
        assert_eq!(damage, ["disk-lie", "disk-latent", "disk-rot", "disk-astray", "wipe"]);
        let all = Swarm { keep_majority: true, kinds: Swarm::ON_DEMAND.to_vec(), ..Swarm::default() };
        let (mut drawn_kinds, mut struck) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for seed in 0..200 {
            let plan = drawn(seed, &all, 5);
            drawn_kinds.extend(plan.iter().map(|p| p.fault.name()));
            let damaged: std::collections::BTreeSet<String> = plan
                .iter()
                .filter(|p| damage.contains(&p.fault.name()))
                .map(|p| p.fault.nodes()[0].to_owned())
                .collect();
            assert!(damaged.len() <= 2, "seed {seed}: {damaged:?}");
            struck.extend(damaged);
        }
        assert_eq!((drawn_kinds.len(), struck.len()), (Swarm::ON_DEMAND.len(), 5));
    }

    #[test]
    fn with_keep_majority_only_a_minority_is_struck_at_any_time() {
        let swarm = Swarm { keep_majority: true, ..Swarm::default() };
        for (seed, n) in (0..200).flat_map(|seed| [(seed, 3), (seed, 5)]) {
            let plan = drawn(seed, &swarm, n);
            for p in &plan {
                let overlap = |q: &&Planned| q.at <= p.at && p.at < q.at + q.fault.lasts;
                let mut struck: Vec<&str> = plan.iter().filter(overlap).map(|q| victim(q, n)).collect();
                struck.sort();
                struck.dedup();
                assert!(struck.len() <= (n - 1) / 2, "seed {seed}: {struck:?} at {:?}", p.at);
            }
        }
    }

    #[test]
    fn a_single_server_is_struck_and_so_are_its_links_to_clients() {
        let peers = ["server".to_owned(), "client".to_owned()];
        let drawn = |seed, peers: &[String]| {
            Swarm::default().draw(&mut Choices::seeded(seed), &peers[..1], peers, 0, Instant::ZERO)
        };
        let kinds = |peers: &[String]| -> Vec<&str> {
            let all: Vec<Planned> = (0..100).flat_map(|seed| drawn(seed, peers)).collect();
            Swarm::KINDS.into_iter().filter(|kind| all.iter().any(|p| p.fault.name() == *kind)).collect()
        };
        assert_eq!(kinds(&peers), Swarm::KINDS);
        assert_eq!(kinds(&peers[..1]), Swarm::KINDS[4..], "without another node there are no links to strike");
    }

    #[test]
    #[should_panic(expected = "expected at least three nodes, to keep a majority of them")]
    fn a_swarm_with_nobody_to_strike_says_so() {
        let swarm = Swarm { keep_majority: true, ..Swarm::default() };
        drawn(1, &swarm, 2);
    }

    /// The struck node: for links, the one whose turn it is by the epoch.
    fn victim(p: &Planned, n: usize) -> &str {
        match &p.fault.kind {
            Kind::Partition { a, .. } => &a[0],
            Kind::OneWay { from, to } => {
                if from.len() == 1 {
                    &from[0]
                } else {
                    &to[0]
                }
            }
            Kind::Delay { from, to, .. } | Kind::Loss { from, to, .. } => {
                let epoch_ns = 20_000_000_000 / (n as u128 * TURNS as u128);
                let turn = |name: &str| {
                    let i = name[1..].parse::<u128>().expect("names end in numbers");
                    (0..(n as u128 - 1) / 2).any(|j| (p.at.as_nanos() / epoch_ns + j) % n as u128 == i)
                };
                if turn(from) { from } else { to }
            }
            _ => p.fault.nodes()[0],
        }
    }
}
