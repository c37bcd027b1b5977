//! From a failing seed to the few deviations that its failure needs.
//!
//! A run is the calm run plus its deviations, and a tape answers 0 for what it does not list; so leaving a line out of the
//! tape undoes one deviation and no other. A candidate is a shorter tape. It is taken when it ends in the *same* failure,
//! by fingerprint. Whole streams are left out first, then nodes, then stretches of time, ever shorter ones, at last single
//! choices; then smaller sets are looked for by luck, and what remains is tried with smaller values. The result is
//! 1-minimal unless the budget ends first: without any one of its lines the failure does not occur.
//!
//! Children answer from the tape by looking into memory that was laid out before the first fork, so a candidate finds the
//! heap as the seed did.

use super::TestInfo;
use super::child::{Bare, mode};
use super::describe::{describe, shows_at_ns};
use super::inner::Failure;
use super::judge::{Finished, ending};
use super::orders::{Misuse, Orders};
use super::pool::{Job, Pool, Work};
use super::protocol::Lines;
use super::sweep::{Answers, failure_text, replay_command, run_once};
use super::tape::{Answer, TapeFile};
use crate::json::object;
use crate::report::{Deviation, wall_text};
use sim_core::choices::{Address, Stream};
use sim_libc::process::Order;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Deviations that are shown; the tape has all.
const MOST_SHOWN: usize = 30;
const PROGRESS: Duration = Duration::from_millis(100);

type Tape = Vec<(Address, u64)>;

/// Minimises the failure of a seed, says what is left and writes its tape.
pub(super) fn bisect(pool: &mut Pool, info: &TestInfo, orders: &Orders, lines: &mut Lines) -> Result<(), Failure> {
    let Some(seed) = orders.seeds.as_ref().map(|r| r.start) else {
        return Err(Misuse("a minimisation needs SIM_SEED".into()).into());
    };
    let began = Instant::now();
    let Finished { report: original, bare, .. } = run_once(pool, seed, mode::RECORD, None)?;
    if original.passed() {
        return Err(Misuse(format!("seed {seed:#x} passes: expected one that fails")).into());
    }
    let fingerprint = original.verdict.fingerprint();
    lines.say(format!("sim: seed {seed:#x} fails with {} deviations: {fingerprint}", bare.len()));
    if (bare.len() as u64) < original.deviated {
        lines.say(format!("sim: only the first {} of {} deviations fit a tape", bare.len(), original.deviated));
    }
    let mut search = Search {
        pool,
        seed,
        fingerprint: &fingerprint,
        budget: Budget { runs: orders.bisect_runs, until: began + orders.bisect_time, most: orders.bisect_runs },
        shown: began,
        lines,
    };
    if !search.fails(&tape_of(&bare))? {
        return Err(Failure::Io(io::Error::other(format!(
            "seed {seed:#x} fails, but the tape of its {} choices does not: the failure depends on something that the \
             seed does not decide, or on more choices than fit a tape",
            bare.len()
        ))));
    }
    let left = search.minimise(bare)?;
    let (budget, runs) = (search.budget.left(), search.budget.used());
    let tape = tape_of(&left);
    let shown = run_once(pool, seed, mode::TAPE | mode::WORDS | mode::TRACE, Some(tape.clone()))?;
    let again = run_once(pool, seed, mode::TAPE, Some(tape.clone()))?;
    if shown.report.verdict.fingerprint() != fingerprint || again.report.verdict.fingerprint() != fingerprint {
        return Err(Failure::Io(io::Error::other(
            "the minimised tape failed once and does not always: the program depends on something that the seed does not \
             decide",
        )));
    }
    if ending(&shown.report) != ending(&again.report) {
        lines.say("sim: the tape gives the same failure by different paths: addresses or the heap have a part in it");
    }
    let words = with_words(&left, &shown.report.deviations);
    let file = TapeFile {
        test: info.name.to_owned(),
        seed,
        fingerprint: fingerprint.clone(),
        digest: again.report.digest,
        answers: words
            .iter()
            .zip(&tape)
            .map(|(d, (at, value))| Answer { at: *at, value: *value, comment: describe(d) })
            .collect(),
    };
    let path = tape_path(info, orders, seed);
    let kept = smaller_tape(&path, &file);
    let written = match &kept {
        None => write_tape(&path, &file.to_text()),
        Some(kept) => {
            let answers = kept.answers.iter().map(|a| (a.at, a.value)).collect();
            match run_once(pool, seed, mode::TAPE, Some(answers))?.report.verdict.fingerprint() == fingerprint {
                true => Ok(()),
                false => Err(io::Error::other(format!(
                    "a tape of {} deviations is there, kept because it is smaller, but it no longer gives this failure; \
                     remove it to write this one",
                    kept.answers.len()
                ))),
            }
        }
    };
    let from = if written.is_ok() { Answers::Tape(&path) } else { Answers::Seed };
    let minimal = if budget { "" } else { ", not yet minimal: the budget is used up" };
    lines.say(failure_text(info, &shown.report, &shown.printed, from));
    lines.say(format!(
        "--- needed for it: {} of {} deviations{minimal} ({runs} runs, {})",
        left.len(),
        original.deviated.max(left.len() as u64),
        wall_text(began.elapsed())
    ));
    if words.is_empty() {
        lines.say("  nothing: the calm run fails too");
    }
    let mut ordered: Vec<&Deviation> = words.iter().collect();
    ordered.sort_by_key(|d| shows_at_ns(d));
    ordered.iter().take(MOST_SHOWN).for_each(|d| lines.say(format!("  {}", describe(d))));
    if ordered.len() > MOST_SHOWN {
        lines.say(format!("  and {} more in the tape", ordered.len() - MOST_SHOWN));
    }
    match (&written, &kept) {
        (Ok(()), None) => lines.say(format!("sim: tape written to {}", path.display())),
        (Ok(()), Some(kept)) => lines.say(format!(
            "sim: the tape in {} is kept: it gives the same failure with fewer deviations, {}",
            path.display(),
            kept.answers.len()
        )),
        (Err(error), _) => {
            lines.say(format!(
                "sim: the tape could not be written to {}: {error}; it is:\n{}",
                path.display(),
                file.to_text()
            ));
        }
    }
    let mut verdict = shown.report.json();
    verdict.set("replay", replay_command(info, seed, from));
    lines.send("verdict", verdict);
    lines.send(
        "tape",
        object! {
            "test": info.name,
            "seed": format!("{seed:#x}"),
            "fingerprint": fingerprint,
            "path": written.is_ok().then(|| path.display().to_string()),
            "minimal": budget,
            "runs": runs,
            "deviations_before": original.deviated,
            "deviations": ordered.iter().map(|d| object! {
                "words": describe(d),
                "stream": &d.stream,
                "key": format!("{:#018x}", d.key),
                "n": d.n,
                "value": d.value,
                "at_ns": d.at_ns,
                "node": &d.node,
                "what": &d.what,
                "subject": &d.subject,
            }).collect::<Vec<_>>(),
        },
    );
    lines.send(
        "end",
        object! {
            "test": info.name,
            "status": "failed",
            "seeds": 1,
            "passed": 0,
            "failed": 1,
            "audited": 0,
            "wall": wall_text(began.elapsed()),
        },
    );
    Ok(())
}

fn tape_path(info: &TestInfo, orders: &Orders, seed: u64) -> PathBuf {
    let name = format!("{}-{seed:#x}.tape", info.name.replace("::", "."));
    orders.folder(info.manifest_dir).join("sim-results").join(name)
}

/// The tape of the same failure at `path`, if it has fewer lines than `new`. One that cannot be read is none.
fn smaller_tape(path: &Path, new: &TapeFile) -> Option<TapeFile> {
    let old = TapeFile::read(path, &new.test).ok()?;
    let same = old.seed == new.seed && old.fingerprint == new.fingerprint;
    (same && old.answers.len() < new.answers.len()).then_some(old)
}

fn write_tape(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

fn tape_of(bare: &[Bare]) -> Tape {
    bare.iter().map(|b| (b.at, b.value)).collect()
}

/// The deviations with the words that the last run gave them. An answer that was never asked for has none; it is not
/// needed then, and can only be left when the budget ended early.
fn with_words(left: &[Bare], told: &[Deviation]) -> Vec<Deviation> {
    let known: BTreeMap<Address, &Deviation> = told.iter().filter_map(|d| Some((d.address()?, d))).collect();
    left.iter()
        .map(|b| match known.get(&b.at) {
            Some(d) => (*d).clone(),
            None => Deviation {
                stream: b.at.stream.name().to_owned(),
                key: b.at.key,
                n: b.at.n,
                value: b.value,
                at_ns: b.when.as_nanos(),
                node: String::new(),
                what: format!("a choice about {}", b.at.stream.name()),
                subject: String::new(),
            },
        })
        .collect()
}

struct Budget {
    runs: u32,
    most: u32,
    until: Instant,
}

impl Budget {
    fn left(&self) -> bool {
        self.runs > 0 && Instant::now() < self.until
    }

    fn used(&self) -> u32 {
        self.most - self.runs
    }
}

/// What a candidate is tried on. Children in the product; a function in tests.
struct Search<'a> {
    pool: &'a mut Pool,
    seed: u64,
    fingerprint: &'a str,
    budget: Budget,
    shown: Instant,
    lines: &'a mut Lines,
}

impl Search<'_> {
    fn fails(&mut self, tape: &Tape) -> io::Result<bool> {
        Ok(self.try_all(vec![tape.clone()])?[0])
    }

    /// Which of these tapes end in the failure. In parallel.
    fn try_all(&mut self, tapes: Vec<Tape>) -> io::Result<Vec<bool>> {
        self.budget.runs = self.budget.runs.saturating_sub(tapes.len() as u32);
        let mut batch =
            Batch { found: vec![false; tapes.len()], tapes, next: 0, seed: self.seed, same: self.fingerprint };
        self.pool.work(&mut batch)?;
        Ok(batch.found)
    }

    fn minimise(&mut self, bare: Vec<Bare>) -> io::Result<Vec<Bare>> {
        let jobs = self.pool.jobs();
        let mut left = reduce(bare, jobs, &mut |candidates, left| {
            if self.shown.elapsed() >= PROGRESS {
                self.shown = Instant::now();
                let done = self.budget.used();
                self.lines
                    .send("progress", object! { "done": done, "failed": 0, "seeds": self.budget.most, "left": left });
            }
            if !self.budget.left() {
                return Ok(None);
            }
            self.try_all(candidates.iter().map(|c| tape_of(c)).collect()).map(Some)
        })?;
        left.sort_by_key(|b| (b.when, b.at));
        Ok(left)
    }
}

struct Batch<'a> {
    tapes: Vec<Tape>,
    found: Vec<bool>,
    next: usize,
    seed: u64,
    same: &'a str,
}

impl Work for Batch<'_> {
    fn next(&mut self) -> Option<Job> {
        let tape = self.tapes.get_mut(self.next)?;
        let order = Order { seed: self.seed, mode: mode::TAPE, index: self.next as u64, argument: 0 };
        self.next += 1;
        Some(Job { order, answers: Some(std::mem::take(tape)), printed: false })
    }

    fn done(&mut self, order: Order, finished: Finished) {
        self.found[order.index as usize] = finished.report.verdict.fingerprint() == self.same;
    }
}

/// Says which candidates fail, given also how many deviations are left; `None` when the budget is used up.
type Oracle<'a> = dyn FnMut(&[Vec<Bare>], usize) -> io::Result<Option<Vec<bool>>> + 'a;

/// As few of `bare` as still fail. `bare` itself does.
fn reduce(bare: Vec<Bare>, jobs: usize, oracle: &mut Oracle<'_>) -> io::Result<Vec<Bare>> {
    // The calm run first: some bugs need no trouble at all.
    if oracle(&[Vec::new()], bare.len())?.is_some_and(|r| r[0]) {
        return Ok(Vec::new());
    }
    let faults: Vec<Bare> = bare.iter().filter(|b| b.at.stream == Stream::FAULT).copied().collect();
    let mut left = bare;
    left = without_groups(left, &|b| b.at.stream.0 as u64, jobs, oracle)?;
    // Where almost everything seems to be needed, a few of the planned faults by themselves may do.
    left = by_luck(left, Some(&faults), jobs, oracle)?;
    left = without_groups(left, &|b| b.node.0 as u64, jobs, oracle)?;
    left = without_groups(left, &|b| b.at.key, jobs, oracle)?;
    left.sort_by_key(|b| (b.when, b.at));
    left = without_stretches(left, jobs, oracle)?;
    left = by_luck(left, None, jobs, oracle)?;
    let simpler = with_smaller_values(left.clone(), oracle)?;
    // A smaller value may make another deviation needless.
    if simpler == left { Ok(left) } else { without_stretches(simpler, jobs, oracle) }
}

/// Leaves out whole groups, the largest first.
fn without_groups(
    left: Vec<Bare>,
    group: &dyn Fn(&Bare) -> u64,
    jobs: usize,
    oracle: &mut Oracle<'_>,
) -> io::Result<Vec<Bare>> {
    let mut sizes: BTreeMap<u64, usize> = BTreeMap::new();
    left.iter().for_each(|b| *sizes.entry(group(b)).or_default() += 1);
    // Groups of one are left to the search over time, and one group is everything.
    let mut groups: Vec<(u64, usize)> = sizes.into_iter().filter(|(_, size)| *size > 1 && *size < left.len()).collect();
    groups.sort_by_key(|(id, size)| (usize::MAX - size, *id));
    let wholes: Vec<u64> = groups.into_iter().map(|(id, _)| id).collect();
    without_each(left, &wholes, &|b, id| group(b) == *id, jobs, oracle)
}

/// Leaves out stretches of the list, at first halves, at last single deviations, until no single one can go.
fn without_stretches(mut left: Vec<Bare>, jobs: usize, oracle: &mut Oracle<'_>) -> io::Result<Vec<Bare>> {
    let mut length = left.len().div_ceil(2);
    while !left.is_empty() {
        let before = left.len();
        let places: BTreeMap<Address, usize> = left.iter().enumerate().map(|(i, b)| (b.at, i / length)).collect();
        let stretches: Vec<usize> = (0..left.len().div_ceil(length)).collect();
        left = without_each(left, &stretches, &|b, s| places.get(&b.at) == Some(s), jobs, oracle)?;
        match length {
            1 if left.len() == before => break,
            1 => {}
            _ => length = length.div_ceil(2).min(left.len().div_ceil(2)).max(1),
        }
    }
    Ok(left)
}

/// Looks for a smaller failing set where leaving out one deviation at a time is at its end: random subsets, of `left`
/// itself or of `others`. What is left of a run in which everything hangs together is often one way to the failure among
/// many, and a shorter way exists.
fn by_luck(
    mut left: Vec<Bare>,
    others: Option<&[Bare]>,
    jobs: usize,
    oracle: &mut Oracle<'_>,
) -> io::Result<Vec<Bare>> {
    /// Sets of so few are good enough.
    const FEW: usize = 3;
    /// Larger ones are worth more tries.
    const MANY: usize = 8;
    let (mut tries, mut drawn) = (0, 0);
    while left.len() > FEW && tries < if left.len() > MANY { 400 } else { 150 } {
        let from = others.unwrap_or(&left);
        if from.is_empty() {
            break;
        }
        let mut candidates = Vec::new();
        for _ in 0..jobs.max(1) * 2 {
            drawn += 1;
            let size = match others {
                Some(_) => 1 + drawn as usize % MANY.min(left.len() - 1),
                // Half to three quarters of what is left, or one less when that is few.
                None => (left.len() * (2 + drawn as usize % 2)).div_ceil(4).min(left.len() - 1),
            };
            let rank = |b: &Bare| sim_core::hash::key(&[b.at.key, b.at.n as u64, drawn]);
            let mut ranked: Vec<Bare> = from.to_vec();
            ranked.sort_by_key(rank);
            ranked.truncate(size);
            ranked.sort_by_key(|b| (b.when, b.at));
            candidates.push(ranked);
        }
        let Some(fails) = oracle(&candidates, left.len())? else { break };
        match fails.iter().position(|f| *f) {
            Some(i) => {
                left = without_stretches(candidates.swap_remove(i), jobs, oracle)?;
                tries = 0;
            }
            None => tries += candidates.len() as u64,
        }
    }
    Ok(left)
}

/// Tries to leave out each of these parts, several at a time, and keeps what can go.
fn without_each<T>(
    mut left: Vec<Bare>,
    parts: &[T],
    is_in: &dyn Fn(&Bare, &T) -> bool,
    jobs: usize,
    oracle: &mut Oracle<'_>,
) -> io::Result<Vec<Bare>> {
    let mut next = 0;
    while next < parts.len() {
        let now = &parts[next..parts.len().min(next + jobs.max(1))];
        let without: Vec<Vec<Bare>> =
            now.iter().map(|p| left.iter().filter(|b| !is_in(b, p)).copied().collect()).collect();
        let Some(fails) = oracle(&without, left.len())? else { break };
        let gone: Vec<&T> = now.iter().zip(&fails).filter(|(_, f)| **f).map(|(p, _)| p).collect();
        match gone.len() {
            0 => next += now.len(),
            1 => {
                let i = fails.iter().position(|f| *f).unwrap_or(0);
                left = without[i].clone();
                next += now.len();
            }
            // Each can go; perhaps all can. If not, the first goes and the rest is looked at again.
            _ => {
                let together: Vec<Bare> = left.iter().filter(|b| !gone.iter().any(|p| is_in(b, p))).copied().collect();
                let Some(all) = oracle(std::slice::from_ref(&together), left.len())? else { break };
                let i = fails.iter().position(|f| *f).unwrap_or(0);
                (left, next) = if all[0] { (together, next + now.len()) } else { (without[i].clone(), next + i + 1) };
            }
        }
    }
    Ok(left)
}

/// Halves values while the failure stays. Half a hold passes fewer wakes, half a delay is shorter; where a value is a word
/// with details in it, half of it is another event, which is as good.
fn with_smaller_values(mut left: Vec<Bare>, oracle: &mut Oracle<'_>) -> io::Result<Vec<Bare>> {
    const MOST_STEPS: usize = 12;
    for i in 0..left.len() {
        // Words with details lie above; halving those changes what happens, not how much.
        if left[i].value > 1 << 16 {
            continue;
        }
        for _ in 0..MOST_STEPS {
            let value = left[i].value;
            let smaller: Vec<u64> = if value > 2 { vec![1, value / 2] } else { vec![1] };
            if value == 1 {
                break;
            }
            let with = |v: u64| {
                let mut candidate = left.clone();
                candidate[i].value = v;
                candidate
            };
            let candidates: Vec<Vec<Bare>> = smaller.iter().map(|v| with(*v)).collect();
            let Some(fails) = oracle(&candidates, left.len())? else { return Ok(left) };
            match fails.iter().position(|f| *f) {
                Some(better) => left[i].value = smaller[better],
                None => break,
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_core::{Instant, NodeId};

    fn bare(i: u64, value: u64) -> Bare {
        let at = Address { stream: Stream((i % 3) as u8), key: i / 7, n: i as u32 };
        Bare { at, value, when: Instant(i * 1000), node: NodeId((i % 5) as u16) }
    }

    /// Minimises 1,000 deviations of which `needed` (by ordinal, with a least value) make the failure.
    fn minimised(needed: &[(u32, u64)], jobs: usize, mut runs: usize) -> (Vec<(u32, u64)>, usize) {
        let all: Vec<Bare> = (0..1000).map(|i| bare(i, 40)).collect();
        let mut used = 0;
        let fails = |c: &Vec<Bare>| needed.iter().all(|(n, least)| c.iter().any(|b| b.at.n == *n && b.value >= *least));
        let left = reduce(all, jobs, &mut |candidates, _| {
            if candidates.len() > runs {
                return Ok(None);
            }
            runs -= candidates.len();
            used += candidates.len();
            Ok(Some(candidates.iter().map(fails).collect()))
        })
        .expect("the oracle never fails");
        assert!(fails(&left), "what is left still fails");
        (left.iter().map(|b| (b.at.n, b.value)).collect(), used)
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        for jobs in [1, 2, 8] {
            let needed = [(3, 1), (250, 1), (251, 5), (998, 40)];
            let (left, used) = minimised(&needed, jobs, usize::MAX);
            assert_eq!(left.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 250, 251, 998], "{jobs} jobs");
            let values: Vec<u64> = left.iter().map(|(_, v)| *v).collect();
            assert!(values[0] == 1 && values[1] == 1 && values[2] < 10 && values[3] == 40, "{values:?}");
            // At most 150 of them are luck.
            assert!(used < 850, "{used} runs for 1,000 deviations with {jobs} jobs");
        }
    }

    #[test]
    fn a_smaller_tape_of_the_same_failure_is_kept() {
        let of = |lines: u64, fingerprint: &str| TapeFile {
            test: "t".into(),
            seed: 1,
            fingerprint: fingerprint.into(),
            digest: 0,
            answers: (0..lines).map(|i| Answer { at: bare(i, 1).at, value: 1, comment: String::new() }).collect(),
        };
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("x.tape");
        assert_eq!(smaller_tape(&path, &of(3, "panicked a")), None, "there is none");
        write_tape(&path, &of(2, "panicked a").to_text()).expect("the folder can be written");
        assert_eq!(smaller_tape(&path, &of(3, "panicked a")), Some(of(2, "panicked a")));
        assert_eq!(smaller_tape(&path, &of(2, "panicked a")), None, "it is no smaller");
        assert_eq!(smaller_tape(&path, &of(3, "panicked b")), None, "it is of another failure");
    }

    #[test]
    fn a_failure_of_the_calm_run_needs_nothing() {
        assert_eq!(minimised(&[], 2, usize::MAX), (vec![], 1));
    }

    #[test]
    fn a_used_up_budget_leaves_a_failing_tape() {
        let (left, used) = minimised(&[(3, 1), (998, 1)], 2, 20);
        assert!(left.len() > 2 && left.len() < 1000 && used <= 20, "{} left after {used} runs", left.len());
    }
}
