//! A child: one run, and what it tells its parent.

use super::TestInfo;
use crate::Sim;
use crate::report::{Deviation, Latency, Report, VerdictText};
use crate::run::{Observe, run_one};
use serde::{Deserialize, Serialize};
use sim_core::choices::{self, Address, Choices, Law, Seeded, Source, Stream};
use sim_core::trace::{Record, Sink, text_line};
use sim_core::{Instant, NodeId, Settings, Verdict, World};
use sim_libc::process::{self, Order};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bits of an order's mode.
pub(super) mod mode {
    /// Answers come from the tape, not from the seed.
    pub const TAPE: u32 = 1;
    /// Tells all deviations, without words.
    pub const RECORD: u32 = 2;
    /// Tells the deviations with words, and the latencies.
    pub const WORDS: u32 = 4;
    /// Writes the trace between the lines of the output.
    pub const TRACE: u32 = 8;
}

/// What begins a line of the trace in a child's output. (ASCII 30, the record separator; no program prints it.)
pub(super) const TRACE_MARK: char = '\x1e';
/// Most deviations that are told with words.
const MOST_WORDS: usize = 10_000;

/// The answers that tape runs use. Filled by the parent just before a fork: each child has its own copy. It is made once,
/// as large as it will commonly get, so that its size shows in no child's memory.
#[derive(Clone)]
pub(super) struct TapeCell(Arc<Mutex<Vec<(Address, u64)>>>);

impl TapeCell {
    pub fn new() -> TapeCell {
        TapeCell(Arc::new(Mutex::new(Vec::with_capacity(1 << 18))))
    }

    /// Lays in the answers for the next fork.
    pub fn fill(&self, answers: impl Iterator<Item = (Address, u64)>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clear();
        held.extend(answers.filter(|(_, value)| *value != 0));
        held.sort_unstable();
    }
}

/// Either source in the same room, so that a tape run finds the heap as a seeded run does.
struct Answers {
    seeded: Seeded,
    tape: Option<TapeCell>,
}

impl Source for Answers {
    #[inline]
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        match &self.tape {
            None => self.seeded.answer(at, law),
            Some(TapeCell(cell)) => {
                let answers = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let found = answers.binary_search_by_key(&at, |(address, _)| *address);
                found.map_or(0, |i| law.clamp(answers[i].1))
            }
        }
    }

    fn skips_never(&self) -> bool {
        self.tape.is_none()
    }
}

/// What a child is made of; moved into the launcher.
pub(super) struct Child<B> {
    pub info: TestInfo,
    pub body: B,
    pub tape: TapeCell,
    pub watchdog: Duration,
    pub dispatch: tracing::Dispatch,
}

/// What a child tells, before the deviations without words.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(with = "VerdictText")]
    verdict: Verdict,
    digest: u64,
    now_ns: u64,
    events: u64,
    deviated: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    fired: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    configured: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deviations: Vec<Deviation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latencies: Vec<Latency>,
    /// Names of nodes by number, if deviations follow without words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
}

/// A deviation without words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bare {
    pub at: Address,
    pub value: u64,
    pub when: Instant,
    pub node: NodeId,
}

const BARE_BYTES: usize = 31;

impl<B, F> Child<B>
where
    B: Fn(Sim) -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    /// Runs the order and reports. 0 if the report was taken.
    pub fn run(&self, order: &Order) -> i32 {
        if process::watchdog(self.watchdog).is_err() {
            return 1;
        }
        let wants = |bit| order.mode & bit != 0;
        let tape = wants(mode::TAPE).then(|| self.tape.clone());
        let choices = Choices::from_source(order.seed, Box::new(Answers { seeded: Seeded::new(order.seed), tape }));
        let observe = Observe {
            sink: wants(mode::TRACE).then(|| Box::new(Printed) as Box<dyn Sink>),
            deviations: wants(mode::RECORD | mode::WORDS),
            latencies: wants(mode::WORDS),
        };
        let logging = tracing::dispatcher::set_default(&self.dispatch);
        let body = |sim| {
            let future = (self.body)(sim);
            async move {
                future.await;
                Ok(())
            }
        };
        let settings: Settings = self.info.settings();
        let ran = run_one(settings, choices, observe, body);
        drop(logging);
        let mut bare = Vec::new();
        if wants(mode::RECORD) {
            ran.outcome.deviations.iter().for_each(|d| push_bare(&mut bare, d));
        }
        let nodes = if wants(mode::RECORD) { ran.nodes.clone() } else { Vec::new() };
        let report = ran.report("", order.seed, Duration::ZERO, false);
        let mut told = Told {
            verdict: report.verdict,
            digest: report.digest,
            now_ns: report.now.as_nanos(),
            events: report.events,
            deviated: report.deviated,
            fired: report.fired,
            configured: report.configured,
            deviations: if wants(mode::WORDS) { report.deviations } else { Vec::new() },
            latencies: report.latencies,
            nodes,
        };
        told.deviations.truncate(MOST_WORDS);
        let Ok(json) = serde_json::to_vec(&told) else { return 1 };
        let head = (json.len() as u32).to_le_bytes();
        let told = process::report(&head) && process::report(&json);
        // As many as there is room for; the parent sees from the count that some are missing.
        let _fits = bare.chunks(BARE_BYTES * 1024).all(process::report);
        i32::from(!told)
    }
}

/// Lines of the trace between those of the program.
struct Printed;

impl Sink for Printed {
    fn record(&mut self, record: &Record) {
        let line = text_line(record).replace('\n', "\n\x1e               ");
        println!("{TRACE_MARK}{line}");
    }
}

fn push_bare(out: &mut Vec<u8>, d: &choices::Deviation) {
    out.push(d.at.stream.0);
    out.extend_from_slice(&d.node.0.to_le_bytes());
    out.extend_from_slice(&d.at.n.to_le_bytes());
    out.extend_from_slice(&d.at.key.to_le_bytes());
    out.extend_from_slice(&d.value.to_le_bytes());
    out.extend_from_slice(&d.when.as_nanos().to_le_bytes());
}

/// What a child told, taken apart.
pub(super) struct Heard {
    /// Without test, seed, wall and aslr, which the parent knows.
    pub report: Report,
    /// The deviations without words, if they were asked for.
    pub bare: Vec<Bare>,
    /// The nodes' names, if they were.
    pub nodes: Vec<String>,
}

/// Reads a child's report; `None` if there is none, or half of one.
pub(super) fn hear(bytes: &[u8]) -> Option<Heard> {
    let (head, rest) = bytes.split_at_checked(4)?;
    let len = u32::from_le_bytes(head.try_into().ok()?) as usize;
    let (json, bare) = rest.split_at_checked(len)?;
    let told: Told = serde_json::from_slice(json).ok()?;
    let report = Report {
        test: String::new(),
        seed: 0,
        verdict: told.verdict,
        digest: told.digest,
        now: Instant(told.now_ns),
        events: told.events,
        wall: Duration::ZERO,
        deviated: told.deviated,
        fired: told.fired,
        configured: told.configured,
        deviations: told.deviations,
        latencies: told.latencies,
        aslr: false,
    };
    let bare = bare.chunks_exact(BARE_BYTES).filter_map(read_bare).collect();
    Some(Heard { report, bare, nodes: told.nodes })
}

fn read_bare(b: &[u8]) -> Option<Bare> {
    let word = |at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
    let node = NodeId(u16::from_le_bytes(b.get(1..3)?.try_into().ok()?));
    let n = u32::from_le_bytes(b.get(3..7)?.try_into().ok()?);
    let at = Address { stream: Stream(b[0]), key: word(7)?, n };
    Some(Bare { at, value: word(15)?, when: Instant(word(23)?), node })
}

/// Says where a panic happened, in virtual time, and keeps the place for the verdict.
pub(super) fn hook_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let Some(world) = World::current() else { return before(info) };
        if let Some(location) = info.location() {
            world.note_panic(location);
        }
        let task = world.acting_task().map(|t| format!(" in {t}")).unwrap_or_default();
        eprintln!("panicked at {} s{task}: {info}", world.now());
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deviation_survives_its_bytes() {
        let d = choices::Deviation {
            at: Address { stream: Stream::DISK, key: 0x0123_4567_89ab_cdef, n: 77 },
            value: u64::MAX,
            when: Instant(3_214_000_000),
            node: NodeId(513),
            what: "tear",
            subject: "wal".into(),
        };
        let mut bytes = Vec::new();
        push_bare(&mut bytes, &d);
        assert_eq!(bytes.len(), BARE_BYTES);
        let bare = Bare { at: d.at, value: d.value, when: d.when, node: d.node };
        assert_eq!(read_bare(&bytes), Some(bare));
    }

    #[test]
    fn half_a_report_is_none() {
        assert!(hear(b"").is_none());
        assert!(hear(&[9, 0, 0, 0, b'{']).is_none());
        assert!(hear(&[2, 0, 0, 0, b'{', b'}']).is_none());
    }

    #[test]
    fn tape_answers_are_found_whatever_order_they_were_laid_in() {
        let tape = TapeCell::new();
        let at = |key, n| Address { stream: Stream::NET, key, n };
        tape.fill([(at(9, 1), 5), (at(2, 7), 3), (at(9, 0), 0)].into_iter());
        let mut answers = Answers { seeded: Seeded::new(0), tape: Some(tape) };
        let law = Law::Below(100);
        assert_eq!([at(9, 1), at(2, 7), at(9, 0), at(1, 1)].map(|a| answers.answer(a, &law)), [5, 3, 0, 0]);
    }
}
