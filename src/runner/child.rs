//! A child: one run, and what it tells its parent.

use super::protocol::Lines;
use super::{TestInfo, replay};
use crate::report::{Deviation, Latency, Report, VerdictText};
use crate::run::{Observe, Ran, collect, run_one};
use crate::{Ending, Sim};
use serde::{Deserialize, Serialize};
use sim_core::choices::{Address, Choices, Law, Seeded, Source, Stream};
use sim_core::trace::{Record, Sink, json_line, text_line};
use sim_core::{Instant, NodeId, Spawn, Verdict, World};
use sim_libc::process::{self, Order};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bits of an order's mode.
pub(crate) mod mode {
    /// Answers come from the tape, not from the seed.
    pub const TAPE: u32 = 1;
    /// Tells every deviation as it is answered, without words: also those of a run that ends the process.
    pub const RECORD: u32 = 2;
    /// Tells the deviations with words, and the latencies.
    pub const WORDS: u32 = 4;
    /// Writes the trace between the lines of the output.
    pub const TRACE: u32 = 8;
    /// The same, as JSON.
    pub const TRACE_JSON: u32 = 16;
    /// Polls too are lines of the trace.
    pub const POLLS: u32 = 32;
}

/// What begins a line of the trace in a child's output. (ASCII 30, the record separator; no program prints it.)
pub(super) const TRACE_MARK: char = '\x1e';
/// Most deviations that are told with words.
const MOST_WORDS: usize = 10_000;

/// The answers that tape runs use. Filled by the parent just before a fork: each child has its own copy. It is made once,
/// as large as it will commonly get, so that its size shows in no child's memory.
#[derive(Clone)]
pub(crate) struct TapeCell(Arc<Mutex<Vec<(Address, u64)>>>);

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
    /// How many more deviations may be told.
    tell: u32,
}

/// Most deviations without words: they leave room for the report behind them.
const MOST_BARE: u32 = 200_000;

impl Answers {
    fn tell(&mut self, at: Address, value: u64) {
        let Some(world) = World::current() else { return };
        self.tell -= 1;
        process::report(&Bare { at, value, when: world.now(), node: world.acting_node() }.to_bytes());
    }
}

impl Source for Answers {
    #[inline]
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        let value = match &self.tape {
            None => self.seeded.answer(at, law),
            Some(TapeCell(cell)) => {
                let answers = cell.lock().unwrap_or_else(PoisonError::into_inner);
                let found = answers.binary_search_by_key(&at, |(address, _)| *address);
                found.map_or(0, |i| law.clamp(answers[i].1))
            }
        };
        if value != 0 && self.tell > 0 {
            self.tell(at, value);
        }
        value
    }

    fn skips_never(&self) -> bool {
        self.tape.is_none()
    }
}

/// What a child is made of; moved into the launcher.
pub(super) struct Child<B> {
    pub frame: Frame,
    pub body: B,
}

/// What a child knows besides what it runs.
#[derive(Clone)]
pub(crate) struct Frame {
    pub info: TestInfo,
    pub tape: TapeCell,
    pub watchdog: Duration,
    pub dispatch: tracing::Dispatch,
    /// What it told, where it is no process of its own.
    pub told_here: Arc<Mutex<Vec<u8>>>,
}

/// What a child tells at the end of its run, behind the deviations without words.
#[derive(Serialize, Deserialize)]
struct Told {
    #[serde(with = "VerdictText")]
    verdict: Verdict,
    digest: u64,
    now_ns: u64,
    events: u64,
    deviated: u64,
    fired: BTreeMap<String, u64>,
    configured: BTreeSet<String>,
    deviations: Vec<Deviation>,
    latencies: Vec<Latency>,
    undecided: bool,
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
/// The last four bytes of a whole report. Before them stands the length of what is [`Told`].
const WHOLE: [u8; 4] = *b"told";

impl<B, F> Child<B>
where
    B: Fn(Sim) -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Ending,
{
    /// Runs the order and reports. 0 if the report was taken.
    pub fn run(&self, order: &Order) -> i32 {
        let Some((choices, observe)) = self.frame.begin(order) else { return 1 };
        let logging = tracing::dispatcher::set_default(&self.frame.dispatch);
        let body = |sim| {
            self.frame.report_where_nothing_returns(order.seed);
            let future = (self.body)(sim);
            async move { future.await.ending() }
        };
        let info = &self.frame.info;
        let ran = run_one(info.settings(), choices, observe, Spawn { name: "test", location: info.location }, body);
        drop(logging);
        self.frame.tell(ran, order.seed)
    }
}

impl Frame {
    /// Who answers the questions of this order's run, and who looks at it. `None` if it cannot be watched over.
    pub fn begin(&self, order: &Order) -> Option<(Choices, Observe)> {
        // Nobody is stuck under a debugger.
        if process::is_child() && process::watchdog(self.watchdog).is_err() {
            return None;
        }
        let wants = |bits| order.mode & bits != 0;
        let answers = Answers {
            seeded: Seeded::new(order.seed),
            tape: wants(mode::TAPE).then(|| self.tape.clone()),
            tell: if wants(mode::RECORD) { MOST_BARE } else { 0 },
        };
        let choices = Choices::from_source(order.seed, Box::new(answers));
        let line = if wants(mode::TRACE_JSON) { json_line } else { text_line };
        let observe = Observe {
            sink: wants(mode::TRACE | mode::TRACE_JSON).then(|| Box::new(Printed(line)) as Box<dyn Sink>),
            polls: wants(mode::POLLS),
            deviations: wants(mode::WORDS),
            latencies: wants(mode::WORDS),
        };
        Some((choices, observe))
    }

    /// A run may end while the test waits inside a poll, for a lock or a thread: then it is reported from there.
    fn report_where_nothing_returns(&self, seed: u64) {
        let frame = self.clone();
        let report = move |world: &'static World| {
            let verdict = world.verdict().unwrap_or(Verdict::Passed);
            let told = sim_libc::interpose::pass_through(|| frame.tell(collect(world, verdict), seed));
            process::exit_now(told)
        };
        World::with_current(|world| {
            if process::is_child() {
                world.set_last_words(Rc::new(report));
            }
        });
    }

    /// Reports what came of a run. 0 if the report was taken.
    pub fn tell(&self, ran: Ran, seed: u64) -> i32 {
        let undecided = ran.undecided;
        let report = ran.report("", seed, Duration::ZERO, false);
        let mut told = Told {
            verdict: report.verdict,
            digest: report.digest,
            now_ns: report.now.as_nanos(),
            events: report.events,
            deviated: report.deviated,
            fired: report.fired,
            configured: report.configured,
            deviations: report.deviations,
            latencies: report.latencies,
            undecided,
        };
        told.deviations.truncate(MOST_WORDS);
        let Some(bytes) = told.to_bytes() else { return 1 };
        if !process::is_child() {
            *self.told_here.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
            return 0;
        }
        i32::from(!process::report(&bytes))
    }

    /// Where a run has no process of its own: says what it told. Whether it passed.
    pub(super) fn say_here(&self, seed: u64, lines: &mut Lines) -> bool {
        let told = std::mem::take(&mut *self.told_here.lock().unwrap_or_else(PoisonError::into_inner));
        replay::say_here(&self.info, seed, !process::aslr_off(), &told, lines)
    }

    /// The same, where the run ends the process. Returns the status that it ends with.
    pub fn end_here(&self, seed: u64) -> i32 {
        i32::from(!self.say_here(seed, &mut Lines::new(None)))
    }
}

impl Told {
    /// With the length and the mark that say that it is whole.
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = postcard::to_allocvec(self).ok()?;
        bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&WHOLE);
        Some(bytes)
    }
}

/// Lines of the trace between those of the program.
struct Printed(fn(&Record) -> String);

impl Sink for Printed {
    fn record(&mut self, record: &Record) {
        let line = (self.0)(record).replace('\n', "\n\x1e               ");
        // Stamped already, unlike what the program prints; and past std's lock, which a thread that waits may hold.
        process::print(&match process::is_child() {
            true => format!("{TRACE_MARK}{line}\n"),
            false => format!("{}\n", line.replace(TRACE_MARK, "")),
        });
    }
}

impl Bare {
    fn to_bytes(self) -> [u8; BARE_BYTES] {
        let mut out = [0; BARE_BYTES];
        out[0] = self.at.stream.0;
        out[1..3].copy_from_slice(&self.node.0.to_le_bytes());
        out[3..7].copy_from_slice(&self.at.n.to_le_bytes());
        out[7..15].copy_from_slice(&self.at.key.to_le_bytes());
        out[15..23].copy_from_slice(&self.value.to_le_bytes());
        out[23..31].copy_from_slice(&self.when.as_nanos().to_le_bytes());
        out
    }

    fn from_bytes(b: &[u8]) -> Option<Bare> {
        let word = |at: usize| Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?));
        let node = NodeId(u16::from_le_bytes(b.get(1..3)?.try_into().ok()?));
        let n = u32::from_le_bytes(b.get(3..7)?.try_into().ok()?);
        let at = Address { stream: Stream(*b.first()?), key: word(7)?, n };
        Some(Bare { at, value: word(15)?, when: Instant(word(23)?), node })
    }
}

/// What a child told, taken apart.
pub(super) struct Heard {
    /// Without test, seed, wall and aslr, which the parent knows. `None` if the process ended before its run did.
    pub report: Option<Report>,
    /// The deviations without words, if they were asked for.
    pub bare: Vec<Bare>,
    /// Whether the run left the seed nothing to decide.
    pub undecided: bool,
    /// The simulated test that the program came upon instead of running to its end.
    pub met: Option<String>,
}

/// A child's report on a program that contains a simulated test: that test's own runner is to take over.
pub(crate) const SIMULATED_TEST: &str = "simulated test ";

/// Takes a child's report apart.
pub(super) fn hear(bytes: &[u8]) -> Heard {
    if let Some(met) = bytes.strip_prefix(SIMULATED_TEST.as_bytes()) {
        let met = Some(String::from_utf8_lossy(met).into_owned());
        return Heard { report: None, bare: Vec::new(), undecided: false, met };
    }
    let (bare, told) = split(bytes);
    let undecided = told.as_ref().is_some_and(|told| told.undecided);
    let report = told.map(|told| Report {
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
    });
    Heard { report, bare: bare.chunks_exact(BARE_BYTES).filter_map(Bare::from_bytes).collect(), undecided, met: None }
}

fn split(bytes: &[u8]) -> (&[u8], Option<Told>) {
    let whole = || {
        let rest = bytes.strip_suffix(&WHOLE)?;
        let (rest, len) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let (bare, told) = rest.split_at_checked(rest.len().checked_sub(len)?)?;
        Some((bare, postcard::from_bytes(told).ok()?))
    };
    whole().map_or((bytes, None), |(bare, told)| (bare, Some(told)))
}

/// Lets panics inside a run say where in the run they happened, without a backtrace of the runner's own frames.
pub(super) fn hook_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let Some(world) = World::current() else { return before(info) };
        match (world.acting_task(), std::thread::current().name()) {
            (Some(task), _) => eprintln!("in {task}: {info}"),
            (None, Some(thread)) => eprintln!("thread '{thread}' {info}"),
            (None, None) => eprintln!("{info}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Bare {
        let at = Address { stream: Stream::DISK, key: 0x0123_4567_89ab_cdef, n: 77 };
        Bare { at, value: u64::MAX, when: Instant(3_214_000_000), node: NodeId(513) }
    }

    #[test]
    fn a_deviation_survives_its_bytes() {
        assert_eq!(Bare::from_bytes(&bare().to_bytes()), Some(bare()));
    }

    #[test]
    fn deviations_are_heard_with_and_without_the_report_behind_them() {
        let told = Told {
            verdict: Verdict::Limit { what: "time", limit: "60 s".into() },
            digest: 5,
            now_ns: 1,
            events: 2,
            deviated: 1,
            fired: BTreeMap::from([("kill".into(), 3)]),
            configured: BTreeSet::new(),
            deviations: Vec::new(),
            latencies: Vec::new(),
            undecided: true,
        };
        let mut bytes = bare().to_bytes().to_vec();
        assert!(hear(&bytes).report.is_none() && hear(&bytes).bare == [bare()]);
        bytes.extend(told.to_bytes().expect("it can be written"));
        let heard = hear(&bytes);
        let report = heard.report.expect("whole");
        assert_eq!((report.verdict, report.digest, report.fired), (told.verdict, 5, told.fired));
        assert!(heard.undecided && heard.bare == [bare()]);
        assert!(
            hear(b"").report.is_none()
                && hear(b"told").report.is_none()
                && hear(b"\xff\xff\xff\xfftold").report.is_none()
        );
    }

    #[test]
    fn tape_answers_are_found_whatever_order_they_were_laid_in() {
        let tape = TapeCell::new();
        let at = |key, n| Address { stream: Stream::NET, key, n };
        tape.fill([(at(9, 1), 5), (at(2, 7), 3), (at(9, 0), 0)].into_iter());
        let mut answers = Answers { seeded: Seeded::new(0), tape: Some(tape), tell: 0 };
        let law = Law::Below(100);
        assert_eq!([at(9, 1), at(2, 7), at(9, 0), at(1, 1)].map(|a| answers.answer(a, &law)), [5, 3, 0, 0]);
    }
}
