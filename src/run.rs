//! One run from its beginning to its verdict, on this thread: the World is set up, the body runs outside the machines,
//! and what is left behind is collected. Who answers the questions and who reads the trace is given.

use crate::Sim;
use crate::drop_in::outside;
use crate::plan::PlanState;
use crate::report::{Deviation, Latency, Report};
use sim_core::choices::{Choices, Stream};
use sim_core::trace::Sink;
use sim_core::{Entered, NodeId, Outcome, Settings, Spawn, Verdict, World};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tracing_subscriber::filter::Targets;

/// What is looked at during a run. None of it changes the run.
#[derive(Default)]
pub(crate) struct Observe {
    /// Reads the trace.
    pub sink: Option<Box<dyn Sink>>,
    /// Whether it reads of polls too.
    pub polls: bool,
    /// Whether deviations are kept, with words.
    pub deviations: bool,
    /// Whether latencies are kept.
    pub latencies: bool,
}

/// What a run leaves behind.
pub(crate) struct Ran {
    pub verdict: Verdict,
    pub outcome: Outcome,
    /// The nodes' names by number.
    pub nodes: Vec<String>,
    /// The kinds of faults that were asked for.
    pub configured: BTreeSet<String>,
    /// Whether the seed had nothing to decide: no order, no packet, no fault.
    pub undecided: bool,
}

/// A World of its own for this thread, with a network and disks, that answers libc: also what destructors ask it at the end.
pub(crate) struct Begun {
    entered: Entered,
    _interposed: sim_libc::interpose::Interposed,
}

/// Begins a run on this thread.
///
/// # Panics
/// If this thread runs a World already.
#[track_caller]
pub(crate) fn begin(settings: Settings, mut choices: Choices, observe: Observe) -> Begun {
    if observe.deviations {
        choices.record();
    }
    let entered = match crate::enter(settings, choices) {
        Ok(entered) => entered,
        Err(nested) => panic!("{nested}"),
    };
    let world = entered.world();
    if let Some(sink) = observe.sink {
        world.with_trace(|trace| trace.read_by(sink));
    }
    if observe.polls {
        world.with_trace(|trace| trace.read_polls());
    }
    if observe.latencies {
        world.with_metrics(|metrics| metrics.keep());
    }
    Begun { entered, _interposed: sim_libc::interpose::enable() }
}

impl Begun {
    pub fn world(&self) -> &'static World {
        self.entered.world()
    }
}

/// What is left of the run of this thread, which came to `verdict`.
pub(crate) fn collect(world: &'static World, verdict: Verdict) -> Ran {
    let verdict = if verdict == Verdict::Passed { world.passes() } else { verdict };
    let configured = world.extension::<PlanState>().planned().into_iter().map(str::to_owned).collect();
    let nodes = (0..=world.node_ids().len() as u16).map(|n| world.node_name(NodeId(n))).collect();
    // The birth of the thread that a harness runs a test on is the one question of a program that does nothing.
    let undecided = world.with_choices(|choices| {
        choices.asked_about(Stream::SCHEDULE) <= 1
            && !world.threads_drew_entropy()
            && [Stream::FAULT, Stream::APP, Stream::NET, Stream::DISK].iter().all(|s| choices.asked_about(*s) == 0)
    });
    Ran { verdict, outcome: world.outcome(), nodes, configured, undecided }
}

/// Runs `body` once.
///
/// # Panics
/// If this thread runs a World already.
pub(crate) fn run_one<B, F>(settings: Settings, choices: Choices, observe: Observe, spawn: Spawn, body: B) -> Ran
where
    B: FnOnce(Sim) -> F,
    F: Future<Output = Result<(), String>>,
{
    let begun = begin(settings, choices, observe);
    let world = begun.world();
    let body = outside(async { body(Sim::current()).await });
    let result = world.block_on(NodeId::OUTSIDE, body, spawn);
    let verdict = match result {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(error)) => {
            Verdict::Panicked { message: format!("the test returned an error: {error}"), location: String::new() }
        }
        Err(verdict) => verdict,
    };
    collect(world, verdict)
}

impl Ran {
    /// As a report on `test` with `seed`.
    pub fn report(self, test: &str, seed: u64, wall: Duration, aslr: bool) -> Report {
        let node_name = |id: NodeId| match id {
            NodeId::OUTSIDE => String::new(),
            NodeId(n) => self.nodes.get(n as usize).cloned().unwrap_or_default(),
        };
        let deviations = self.outcome.deviations.iter().map(|d| Deviation {
            stream: d.at.stream.name().to_owned(),
            key: d.at.key,
            n: d.at.n,
            value: d.value,
            at_ns: d.when.as_nanos(),
            node: node_name(d.node),
            what: d.what.to_owned(),
            subject: d.subject.clone(),
        });
        let latencies = self.outcome.latencies.iter().map(|s| Latency {
            name: s.name.clone(),
            count: s.count,
            p50_ns: s.p50_ns,
            p99_ns: s.p99_ns,
            max_ns: s.max_ns,
        });
        Report {
            test: test.to_owned(),
            seed,
            verdict: self.verdict.clone(),
            digest: self.outcome.digest,
            now: self.outcome.now,
            events: self.outcome.steps,
            wall,
            deviated: self.outcome.deviated,
            fired: self.outcome.fired.iter().map(|(k, n)| (k.to_string(), *n)).collect(),
            configured: self.configured.clone(),
            deviations: deviations.collect(),
            latencies: latencies.collect(),
            aslr,
        }
    }
}

/// The subscriber that turns what the program logs into records of the trace, where `filter` lets it pass.
pub(crate) fn subscriber(filter: Targets) -> tracing::Dispatch {
    use tracing_subscriber::layer::SubscriberExt;
    tracing::Dispatch::new(tracing_subscriber::registry().with(filter).with(sim_core::log::SimLayer))
}
