//! Faults as values, and plans of them.
//!
//! A [`Plan`] is a list of faults with times, written by hand, parsed from text, or drawn by a seed
//! ([`Plan::swarm`]). A planned fault has a beginning, a target and a length; when it is over, what it broke is mended:
//! links open, killed nodes start again. Every fault that really struck is counted, and one that never did is reported.

mod apply;
mod swarm;
mod text;

pub(crate) use apply::PlanState;
pub use swarm::Swarm;
pub use text::ParsePlanError;

use sim_core::choices::Ratio;
use std::time::Duration;

/// One fault, and how long it lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// How long.
    pub lasts: Duration,
}

/// What a fault does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// No packet passes between the two sides.
    Partition {
        /// One side.
        a: Vec<String>,
        /// The other.
        b: Vec<String>,
    },
    /// No packet passes from the first side to the second; the other way is open.
    OneWay {
        /// Who is not heard.
        from: Vec<String>,
        /// Who does not hear.
        to: Vec<String>,
    },
    /// Every packet on a directed link is late by this much.
    Delay {
        /// The sender.
        from: String,
        /// The receiver.
        to: String,
        /// The delay.
        by: Duration,
    },
    /// Packets on a directed link are lost with this probability; streams deliver late what was lost.
    Loss {
        /// The sender.
        from: String,
        /// The receiver.
        to: String,
        /// How often.
        ratio: Ratio,
    },
    /// kill -9, and a new start when the fault is over.
    Kill {
        /// The node.
        node: String,
    },
    /// Power off, and on again when the fault is over.
    PowerCycle {
        /// The node.
        node: String,
    },
    /// Power off in the middle of the so-many-th operation that the programs begin on their disk from then on, and on again
    /// when the fault is over. If they begin fewer until then, nothing happens.
    PowerCut {
        /// The node.
        node: String,
        /// Which operation, counted from 1.
        operation: u32,
    },
    /// The program stands still.
    Pause {
        /// The node.
        node: String,
    },
    /// The wall clock jumps.
    ClockBump {
        /// The node.
        node: String,
        /// By how much, ns; negative for back.
        by_ns: i64,
    },
    /// The wall clock gains or loses time.
    ClockDrift {
        /// The node.
        node: String,
        /// Millionths.
        ppm: i32,
    },
    /// Operations of the disk fail with EIO, with this probability.
    DiskError {
        /// The node.
        node: String,
        /// How often.
        ratio: Ratio,
    },
    /// Operations of the disk meet this, with this probability.
    Disk {
        /// The node.
        node: String,
        /// What they meet.
        trouble: DiskTrouble,
        /// How often.
        ratio: Ratio,
    },
    /// Power off, the disk is replaced by an empty one, and on again when the fault is over.
    Wipe {
        /// The node.
        node: String,
    },
    /// Power off for both, each gets the other's disk, and on again when the fault is over.
    SwapDisks {
        /// The one.
        a: String,
        /// The other.
        b: String,
    },
    /// Writes fail with ENOSPC.
    DiskFull {
        /// The node.
        node: String,
    },
    /// Operations of the disk take so many times as long.
    DiskSlow {
        /// The node.
        node: String,
        /// How many times.
        factor: u32,
    },
}

/// What operations of a disk may meet, beyond EIO: the fields of [`DiskFaults`](sim_disk::DiskFaults), which has the
/// contract of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskTrouble {
    /// Opens fail with EIO.
    OpenError,
    /// Reads and writes transfer less than they could.
    Short,
    /// Opens, reads and writes fail with EINTR.
    Interrupt,
    /// Operations take a second longer.
    Stall,
    /// fsyncs fail with ENOSPC.
    SyncFull,
    /// fsyncs succeed and do nothing. Damage: what was acknowledged may be lost.
    Lie,
    /// Pages become unreadable. Damage.
    Latent,
    /// Bits flip. Damage.
    Rot,
    /// A page is written to the place of another. Damage.
    Astray,
}

impl DiskTrouble {
    /// All of them.
    pub const ALL: [DiskTrouble; 9] = {
        use DiskTrouble::*;
        [OpenError, Short, Interrupt, Stall, SyncFull, Lie, Latent, Rot, Astray]
    };

    /// The name of the fault, and the name under which its strikes are counted.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            DiskTrouble::OpenError => ("disk-open-error", "disk.eio"),
            DiskTrouble::Short => ("disk-short", "disk.short"),
            DiskTrouble::Interrupt => ("disk-interrupt", "disk.eintr"),
            DiskTrouble::Stall => ("disk-stall", "disk.stall"),
            DiskTrouble::SyncFull => ("disk-sync-full", "disk.enospc"),
            DiskTrouble::Lie => ("disk-lie", "disk.lie"),
            DiskTrouble::Latent => ("disk-latent", "disk.latent"),
            DiskTrouble::Rot => ("disk-rot", "disk.rot"),
            DiskTrouble::Astray => ("disk-astray", "disk.astray"),
        }
    }

    /// The one whose fault has this name.
    fn named(name: &str) -> Option<DiskTrouble> {
        DiskTrouble::ALL.into_iter().find(|trouble| trouble.names().0 == name)
    }
}

impl Fault {
    /// No packet passes between `a` and `b`.
    pub fn partition<S: Into<String>>(a: impl IntoIterator<Item = S>, b: impl IntoIterator<Item = S>) -> Fault {
        let names = |side: &mut dyn Iterator<Item = S>| side.map(Into::into).collect();
        Fault::of(Kind::Partition { a: names(&mut a.into_iter()), b: names(&mut b.into_iter()) })
    }

    /// kill -9 of `node`.
    pub fn kill(node: impl Into<String>) -> Fault {
        Fault::of(Kind::Kill { node: node.into() })
    }

    /// Power off and on of `node`.
    pub fn power_cycle(node: impl Into<String>) -> Fault {
        Fault::of(Kind::PowerCycle { node: node.into() })
    }

    /// `node` stands still.
    pub fn pause(node: impl Into<String>) -> Fault {
        Fault::of(Kind::Pause { node: node.into() })
    }

    /// A fault of this kind that lasts a second.
    pub fn of(kind: Kind) -> Fault {
        Fault { kind, lasts: Duration::from_secs(1) }
    }

    /// The same for so long.
    pub fn lasting(mut self, lasts: Duration) -> Fault {
        self.lasts = lasts;
        self
    }

    /// The word for its kind, under which it is counted.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Partition { .. } => "partition",
            Kind::OneWay { .. } => "one-way",
            Kind::Delay { .. } => "delay",
            Kind::Loss { .. } => "loss",
            Kind::Kill { .. } => "kill",
            Kind::PowerCycle { .. } => "power-cycle",
            Kind::PowerCut { .. } => "power-cut",
            Kind::Pause { .. } => "pause",
            Kind::ClockBump { .. } => "clock-bump",
            Kind::ClockDrift { .. } => "clock-drift",
            Kind::DiskError { .. } => "disk-error",
            Kind::DiskFull { .. } => "disk-full",
            Kind::Disk { trouble, .. } => trouble.names().0,
            Kind::Wipe { .. } => "wipe",
            Kind::SwapDisks { .. } => "swap-disks",
            Kind::DiskSlow { .. } => "disk-slow",
        }
    }

    /// The nodes it names.
    fn nodes(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Partition { a, b } | Kind::OneWay { from: a, to: b } => {
                a.iter().chain(b).map(String::as_str).collect()
            }
            Kind::Delay { from, to, .. } | Kind::Loss { from, to, .. } => vec![from, to],
            Kind::SwapDisks { a, b } => vec![a, b],
            Kind::Kill { node }
            | Kind::PowerCycle { node }
            | Kind::PowerCut { node, .. }
            | Kind::Pause { node }
            | Kind::ClockBump { node, .. }
            | Kind::ClockDrift { node, .. }
            | Kind::DiskError { node, .. }
            | Kind::DiskFull { node }
            | Kind::Disk { node, .. }
            | Kind::Wipe { node }
            | Kind::DiskSlow { node, .. } => vec![node],
        }
    }
}

/// A fault and when it begins, counted from the moment the plan is handed to the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// Faults with times. See [`Sim::plan`](crate::Sim::plan).
///
/// ```
/// use sim::{Fault, Plan, secs};
///
/// let plan = Plan::new()
///     .at(secs(3), Fault::kill("kv0").lasting(secs(2)))
///     .at(secs(5), Fault::partition(["kv0"], ["kv1", "kv2"]).lasting(secs(4)));
/// assert_eq!(plan.to_string(), "sim-plan 1\n3s kill kv0 for 2s\n5s partition kv0 | kv1 kv2 for 4s\n");
/// assert_eq!(plan.to_string().parse(), Ok(plan));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    faults: Vec<Planned>,
    swarm: Option<Swarm>,
}

impl Plan {
    /// No fault.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Every seed draws its own trouble: a random subset of the kinds, each with its own intensity, on the nodes that run
    /// a program when the plan begins, and on their links to all nodes that exist then. In the calm run nothing happens.
    pub fn swarm() -> Plan {
        Plan { faults: Vec::new(), swarm: Some(Swarm::default()) }
    }

    /// Adds a fault that begins after `at`.
    pub fn at(mut self, at: Duration, fault: Fault) -> Plan {
        self.faults.push(Planned { at, fault });
        self.faults.sort_by_key(|p| p.at);
        self
    }

    /// Lets the swarm strike only a minority of the nodes at any time.
    pub fn keep_majority(mut self) -> Plan {
        self.swarm_mut().keep_majority = true;
        self
    }

    /// Ends the swarm's faults at `end`, counted from the beginning of the plan; 20 s unless given.
    pub fn until(mut self, end: Duration) -> Plan {
        self.swarm_mut().until = end;
        self
    }

    /// Lets the swarm draw only these kinds, by the names of [`Fault::name`].
    ///
    /// # Panics
    /// If a name is neither one of [`Swarm::KINDS`] nor of [`Swarm::ON_DEMAND`].
    #[track_caller]
    pub fn only(mut self, kinds: &[&str]) -> Plan {
        let all: Vec<&'static str> = Swarm::KINDS.into_iter().chain(Swarm::ON_DEMAND).collect();
        for kind in kinds {
            assert!(all.contains(kind), "{kind:?} is no kind of fault: expected one of {all:?}");
        }
        self.swarm_mut().kinds = all.into_iter().filter(|k| kinds.contains(k)).collect();
        self
    }

    /// The faults written by hand or parsed.
    pub fn faults(&self) -> &[Planned] {
        &self.faults
    }

    #[track_caller]
    fn swarm_mut(&mut self) -> &mut Swarm {
        self.swarm.as_mut().expect("this setting belongs to a swarm: begin with Plan::swarm()")
    }
}
