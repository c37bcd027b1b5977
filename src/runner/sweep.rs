//! Many seeds: each once, a sample of them twice, and a report at the end.

use super::child::mode;
use super::judge::{Finished, Printed, ending};
use super::orders::{Mode, Orders};
use super::pool::{Job, Pool, Work};
use super::protocol::Lines;
use super::regressions::{self, Regression};
use super::{DEFAULT_SEEDS, TestInfo};
use crate::json::object;
use crate::report::{Report, wall_text};
use sim_core::Verdict;
use sim_libc::process::Order;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How much is shown of the first failing seed.
const TRACE_LINES: usize = 25;
const LANDMARKS: usize = 60;
const OUTPUT_LINES: usize = 200;
/// Failing runs that get a line of their own.
const FAILURE_LINES: usize = 20;
/// Failing runs that are kept whole; of the others only the count.
const FAILURES_KEPT: usize = 1000;
const PROGRESS: Duration = Duration::from_millis(100);

/// Which time an order runs its seed.
const FIRST: u64 = 0;
const AGAIN: u64 = 1;

struct Sweep<'a> {
    info: &'a TestInfo,
    orders: &'a Orders,
    lines: &'a mut Lines,
    seeds: Seeds,
    again: VecDeque<Order>,
    /// Of seeds that run twice: what the first run came to.
    firsts: BTreeMap<u64, (u64, String)>,
    began: Instant,
    shown: Instant,
    passed: u64,
    failed: u64,
    audited: u64,
    out_of_time: bool,
    stop: bool,
    /// By place in the queue.
    failures: BTreeMap<u64, Report>,
    fired: BTreeMap<String, u64>,
    configured: BTreeSet<String>,
}

/// The seeds of a sweep in order, without a list of them.
struct Seeds {
    regressions: Vec<u64>,
    next: u64,
    start: u64,
    count: u64,
    step: u64,
    reverse: bool,
}

impl Seeds {
    fn of(orders: &Orders, info: &TestInfo, regressions: &[Regression]) -> Seeds {
        let seeds = if orders.calm { 1 } else { info.seeds.unwrap_or(DEFAULT_SEEDS) };
        let range = orders.seeds.clone().unwrap_or(0..seeds);
        let (index, step) = orders.shard.map_or((0, 1), |s| (s.index, s.count));
        // The first seed from the start on that is `index` modulo `step`.
        let offset = (index + step - range.start % step) % step;
        let count = (range.end - range.start).saturating_sub(offset).div_ceil(step);
        let mut first: Vec<u64> = if orders.mode == Mode::Sweep && index == 0 && !orders.calm {
            regressions.iter().map(|r| r.seed).collect()
        } else {
            Vec::new()
        };
        first.sort_unstable();
        first.dedup();
        let start = range.start.saturating_add(offset);
        Seeds { regressions: first, next: 0, start, count, step, reverse: orders.reverse }
    }

    /// How many there are; regression seeds that the range holds too are counted once.
    fn total(&self) -> u64 {
        let twice = self.regressions.iter().filter(|s| self.in_range(**s)).count() as u64;
        self.count + self.regressions.len() as u64 - twice
    }

    fn in_range(&self, seed: u64) -> bool {
        seed >= self.start
            && (seed - self.start).is_multiple_of(self.step)
            && (seed - self.start) / self.step < self.count
    }

    /// The next seed and its place in the queue.
    fn take(&mut self) -> Option<(u64, u64)> {
        loop {
            let place = self.next;
            let seed = match self.regressions.get(place as usize) {
                Some(seed) => *seed,
                None => {
                    let i = place - self.regressions.len() as u64;
                    if i >= self.count {
                        return None;
                    }
                    let i = if self.reverse { self.count - 1 - i } else { i };
                    self.start + i * self.step
                }
            };
            self.next += 1;
            let ran_before = place >= self.regressions.len() as u64 && self.regressions.binary_search(&seed).is_ok();
            if !ran_before {
                return Some((place, seed));
            }
        }
    }
}

impl Sweep<'_> {
    fn is_audited(&self, seed: u64) -> bool {
        self.orders.mode == Mode::Sweep && sim_core::hash::key(&[seed, 2]) % 100 < self.orders.audit_percent as u64
    }

    fn count(&mut self, place: u64, report: Report) {
        for (kind, n) in &report.fired {
            match self.fired.get_mut(kind) {
                Some(sum) => *sum += n,
                None => {
                    self.fired.insert(kind.clone(), *n);
                }
            }
        }
        for kind in &report.configured {
            if !self.configured.contains(kind) {
                self.configured.insert(kind.clone());
            }
        }
        let mut line = report.json();
        if report.passed() {
            self.passed += 1;
            self.lines.send("verdict", line);
            return;
        }
        line.set("replay", replay_command(self.info, report.seed, Answers::of(self.orders)));
        self.lines.send("verdict", line);
        self.failed += 1;
        self.stop |= !self.orders.keep_going && self.orders.mode == Mode::Sweep;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.insert(place, report);
        }
    }
}

impl Work for Sweep<'_> {
    fn next(&mut self) -> Option<Job> {
        if let Some(order) = self.again.pop_front() {
            return Some(Job { order, answers: calm(self.orders).1, printed: false });
        }
        if self.stop || self.out_of_time {
            return None;
        }
        let (index, seed) = self.seeds.take()?;
        if self.orders.time_budget.is_some_and(|budget| self.began.elapsed() >= budget) {
            self.out_of_time = true;
            return None;
        }
        let (mode, answers) = calm(self.orders);
        let order = Order { seed, mode, index, argument: FIRST };
        Some(Job { order, answers, printed: false })
    }

    fn done(&mut self, order: Order, finished: Finished) {
        let mut report = finished.report;
        let ending = ending(&report);
        if order.argument == AGAIN {
            let first = self.firsts.remove(&order.index).unwrap_or_default();
            self.audited += 1;
            if first != ending {
                let told = |(digest, fingerprint): &(u64, String)| format!("digest {digest:#018x}, {fingerprint}");
                let difference = format!("the first run: {}; the second: {}", told(&first), told(&ending));
                report.verdict = Verdict::Nondeterministic { difference };
            }
            self.count(order.index, report);
        } else if self.is_audited(order.seed) {
            self.firsts.insert(order.index, ending);
            self.again.push_back(Order { argument: AGAIN, ..order });
        } else {
            self.count(order.index, report);
        }
        self.tick();
    }

    fn tick(&mut self) {
        if self.shown.elapsed() >= PROGRESS {
            self.shown = Instant::now();
            let done = self.passed + self.failed;
            self.lines.send("progress", object! { "done": done, "failed": self.failed, "seeds": self.seeds.total() });
        }
    }
}

/// Where a run has its answers from, and so how it is run again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers<'a> {
    Seed,
    Tape(&'a Path),
    /// All are 0.
    Calm,
}

impl Answers<'_> {
    pub fn of(orders: &Orders) -> Answers<'_> {
        match &orders.tape {
            _ if orders.calm => Answers::Calm,
            Some(path) => Answers::Tape(path),
            None => Answers::Seed,
        }
    }
}

/// How an order is run that the calm run is asked for: from a tape without answers.
fn calm(orders: &Orders) -> (u32, Option<Vec<(sim_core::choices::Address, u64)>>) {
    if orders.calm { (mode::TAPE, Some(Vec::new())) } else { (0, None) }
}

/// How many runs a sweep makes.
pub(super) fn planned(info: &TestInfo, orders: &Orders, known: &[Regression]) -> u64 {
    Seeds::of(orders, info, known).total()
}

/// Runs the sweep and says what came of it.
pub(super) fn sweep(
    pool: &mut Pool,
    info: &TestInfo,
    orders: &Orders,
    known: &[Regression],
    lines: &mut Lines,
) -> io::Result<()> {
    let now = Instant::now();
    let mut sweep = Sweep {
        info,
        orders,
        seeds: Seeds::of(orders, info, known),
        lines,
        again: VecDeque::new(),
        firsts: BTreeMap::new(),
        began: now,
        shown: now,
        passed: 0,
        failed: 0,
        audited: 0,
        out_of_time: false,
        stop: false,
        failures: BTreeMap::new(),
        fired: BTreeMap::new(),
        configured: BTreeSet::new(),
    };
    pool.work(&mut sweep)?;
    let total = sweep.seeds.total();
    let Sweep { lines, passed, failed, audited, out_of_time, failures, fired, configured, began, .. } = sweep;
    if orders.mode == Mode::Sweep {
        if let Some(first) = failures.values().next() {
            show_first(pool, info, orders, first, lines)?;
            for other in failures.values().skip(1).take(FAILURE_LINES) {
                lines.say(format!("{}\n  {}", other.line(), first_line(&other.verdict)));
            }
            if failed > FAILURE_LINES as u64 + 1 {
                lines.say(format!("… and {} more", failed - FAILURE_LINES as u64 - 1));
            }
            // What fails with all answers 0 is no matter of seeds.
            if !orders.calm {
                keep(info, orders, known, &failures, lines);
            }
        }
        let never: Vec<&String> = configured.iter().filter(|kind| !fired.contains_key(*kind)).collect();
        if !never.is_empty() && failed == 0 {
            let never: Vec<&str> = never.iter().map(|s| s.as_str()).collect();
            lines.say(format!(
                "sim: test={} faults that were asked for and never struck: {}",
                info.name,
                never.join(", ")
            ));
        }
        if out_of_time {
            lines.say(cut_short(info, passed + failed, total));
        }
    }
    let wall = wall_text(began.elapsed());
    lines.say(format!(
        "sim: test={} seeds={} passed={passed} failed={failed} audited={audited} wall={wall}",
        info.name,
        passed + failed
    ));
    let never: Vec<&String> = configured.iter().filter(|kind| !fired.contains_key(*kind)).collect();
    lines.send(
        "end",
        object! {
            "test": info.name,
            "status": if failed == 0 { "clean" } else { "failed" },
            "seeds": passed + failed,
            "passed": passed,
            "failed": failed,
            "audited": audited,
            "fired": fired,
            "never_fired": never,
            "wall": wall,
        },
    );
    Ok(())
}

/// What a sweep says that its time budget ended.
pub(super) fn cut_short(info: &TestInfo, ran: u64, total: u64) -> String {
    format!("sim: test={} the time budget ended the sweep after {ran} of {total} seeds", info.name)
}

/// Runs the first failing seed once more, looking.
fn show_first(pool: &mut Pool, info: &TestInfo, orders: &Orders, first: &Report, lines: &mut Lines) -> io::Result<()> {
    let (source, answers) = calm(orders);
    let shown = run_once(pool, first.seed, mode::TRACE | mode::WORDS | source, answers)?;
    lines.say(failure_text(info, first, &shown.printed, Answers::of(orders)));
    let same = ending(&shown.report) == ending(first);
    if !same && !matches!(first.verdict, Verdict::Nondeterministic { .. }) {
        lines.say(format!(
            "  the run shown here is another one than the one that failed: {}\n  what the program does depends on \
             something that the seed does not decide",
            shown.report.line()
        ));
    }
    Ok(())
}

/// Whether a line of the trace tells of a fault, of a node's birth or death, or of what the test itself noted: what one
/// looks at first.
fn is_landmark(line: &str) -> bool {
    let kind = line.split_whitespace().nth(2).unwrap_or("");
    kind.starts_with("fault") || kind.starts_with("node.") || matches!(kind, "disk.crash" | "note")
}

/// Everything about one failure.
pub(super) fn failure_text(info: &TestInfo, report: &Report, printed: &Printed, answers: Answers<'_>) -> String {
    let mut text = String::new();
    let mut section = |name: &str, lines: &[&str], most: usize| {
        if lines.is_empty() {
            return;
        }
        let from = lines.len().saturating_sub(most);
        text.push_str(&match from {
            0 => format!("--- {name}\n"),
            _ => format!("--- {name}, the last {most} of {} lines\n", lines.len()),
        });
        lines[from..].iter().for_each(|line| {
            text.push_str(line);
            text.push('\n');
        });
    };
    let trace = printed.trace();
    let landmarks: Vec<&str> = trace.iter().copied().filter(|line| is_landmark(line)).collect();
    section("faults and deaths", &landmarks, LANDMARKS);
    section("trace", &trace, TRACE_LINES);
    section("output", &printed.output(), OUTPUT_LINES);
    text.push_str("--- failure\n");
    text.push_str(&verdict_text(info, report, answers));
    text
}

/// A failure, its verdict line, and the commands that go on from it. A tape is what a minimisation left: there is no
/// second one, and none of the calm run.
pub(super) fn verdict_text(info: &TestInfo, report: &Report, answers: Answers<'_>) -> String {
    let mut text = format!("{}\n{}\n  {}", report.verdict, report.line(), replay_command(info, report.seed, answers));
    if answers == Answers::Seed {
        text.push_str(&format!("\n  {}", command("bisect", info, report.seed)));
    }
    text
}

/// Runs one seed, or a tape, and waits for it.
pub(super) fn run_once(
    pool: &mut Pool,
    seed: u64,
    mode: u32,
    answers: Option<Vec<(sim_core::choices::Address, u64)>>,
) -> io::Result<Finished> {
    struct Once(Option<Job>, Option<Finished>);
    impl Work for Once {
        fn next(&mut self) -> Option<Job> {
            self.0.take()
        }
        fn done(&mut self, _: Order, finished: Finished) {
            self.1 = Some(finished);
        }
    }
    let order = Order { seed, mode, index: 0, argument: FIRST };
    let mut once = Once(Some(Job { order, answers, printed: mode & (mode::TRACE | mode::TRACE_JSON) != 0 }), None);
    pool.work(&mut once)?;
    once.1.ok_or_else(|| io::Error::other("the run was never begun"))
}

/// Appends the failures to the regression file.
fn keep(info: &TestInfo, orders: &Orders, known: &[Regression], failures: &BTreeMap<u64, Report>, lines: &mut Lines) {
    let path = regressions::path(&orders.folder(info.manifest_dir), info.name);
    let failures: Vec<(&Report, String)> = failures.values().map(|r| (r, command("replay", info, r.seed))).collect();
    match regressions::append(&path, known, &failures) {
        Ok(0) => {}
        Ok(n) => lines.say(format!("sim: {n} seed(s) added to {}", path.display())),
        Err(e) => lines.say(format!("sim: failing seeds could not be kept in {}: {e}", path.display())),
    }
}

/// The command that does `verb` with a seed of the test.
pub(super) fn command(verb: &str, info: &TestInfo, seed: u64) -> String {
    // How the program was built, as `cargo sim` was told; without it the defaults.
    let options = std::env::var("SIM_OPTIONS").unwrap_or_default();
    let memory = std::env::var("SIM_MEMORY").map(|size| format!(" --memory {size}")).unwrap_or_default();
    format!("cargo sim {verb} -p {}{options}{memory} {} --seed {seed:#x}", info.package, info.name)
}

/// The command that runs a run of the test again.
pub(super) fn replay_command(info: &TestInfo, seed: u64, answers: Answers<'_>) -> String {
    let replay = command("replay", info, seed);
    let path = match answers {
        Answers::Seed => return replay,
        Answers::Calm => return format!("SIM_CALM=1 {replay}"),
        Answers::Tape(path) => path.display().to_string(),
    };
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&b) || !b.is_ascii());
    // For a shell.
    let path = if plain { path } else { format!("'{}'", path.replace('\'', r"'\''")) };
    format!("{replay} --tape {path}")
}

fn first_line(verdict: &Verdict) -> String {
    verdict.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(range: std::ops::Range<u64>, shard: (u64, u64), reverse: bool, regressions: &[u64]) -> Vec<u64> {
        let env = |name: &str| {
            Ok(match name {
                "SIM_SEEDS" => Some(format!("{}..{}", range.start, range.end)),
                "SIM_SHARD" => Some(format!("{}/{}", shard.0, shard.1)),
                "SIM_REVERSE" if reverse => Some("1".to_owned()),
                _ => None,
            })
        };
        let orders = Orders::from_lookup(env).expect("good");
        let info = TestInfo::nameless();
        let known: Vec<Regression> =
            regressions.iter().map(|s| Regression { seed: *s, digest: 0, fingerprint: String::new() }).collect();
        let mut seeds = Seeds::of(&orders, &info, &known);
        let total = seeds.total();
        let found: Vec<u64> = std::iter::from_fn(|| seeds.take()).map(|(_, seed)| seed).collect();
        assert_eq!(found.len() as u64, total);
        found
    }

    #[test]
    fn shards_divide_the_seeds_and_share_none() {
        for n in 1..6 {
            let mut together: Vec<u64> = (1..=n).flat_map(|i| all(10..33, (i, n), false, &[])).collect();
            together.sort_unstable();
            assert_eq!(together, (10..33).collect::<Vec<_>>(), "{n} shards");
        }
    }

    #[test]
    fn regression_seeds_come_first_and_run_once() {
        assert_eq!(all(0..4, (1, 1), false, &[9, 2, 9]), [2, 9, 0, 1, 3]);
        assert_eq!(all(0..4, (1, 1), true, &[]), [3, 2, 1, 0]);
    }
}
