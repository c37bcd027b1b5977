//! One run again, from its seed or from a tape, shown.

use super::child::{hear, mode};
use super::inner::Failure;
use super::judge::Finished;
use super::orders::{Misuse, Orders, TraceShape};
use super::pool::Pool;
use super::protocol::Lines;
use super::regressions::Regression;
use super::sweep::{Answers, failure_text, replay_command, run_once};
use super::tape::TapeFile;
use super::{TestInfo, sweep};
use crate::json::object;
use sim_libc::process::Order;

/// Runs it and says what came of it.
pub(super) fn replay(
    pool: &mut Pool,
    info: &TestInfo,
    orders: &Orders,
    known: &[Regression],
    lines: &mut Lines,
) -> Result<(), Failure> {
    let tape = orders.tape.as_deref().map(|path| TapeFile::read(path, info.name)).transpose()?;
    let asked = orders.seeds.as_ref().filter(|_| orders.one_seed).map(|r| r.start);
    let seed = match (asked, &tape) {
        (Some(seed), Some(tape)) if seed != tape.seed => {
            return Err(Misuse(format!(
                "--seed {seed:#x} (SIM_SEED): expected {:#x}, the seed of the tape",
                tape.seed
            ))
            .into());
        }
        (Some(seed), _) => seed,
        (None, Some(tape)) => tape.seed,
        (None, None) => return Err(Misuse("a replay needs SIM_SEED or SIM_TAPE".into()).into()),
    };
    let traced = match orders.trace {
        Some(TraceShape::Json) => mode::TRACE_JSON,
        Some(TraceShape::Polls) => mode::TRACE | mode::POLLS,
        _ => mode::TRACE,
    };
    let answers = tape.as_ref().map(|t| t.answers.iter().map(|a| (a.at, a.value)).collect());
    let answers = answers.or(orders.calm.then(Vec::new));
    let source = if answers.is_some() { mode::TAPE } else { 0 };
    let Finished { report, printed, .. } = run_once(pool, seed, traced | mode::WORDS | source, answers)?;
    if orders.trace.is_some() {
        printed.all().for_each(|line| lines.say(line));
    } else if report.passed() {
        printed.output().iter().for_each(|line| lines.say(*line));
    }
    let table = report.latency_table();
    if !table.is_empty() && (orders.trace.is_some() || orders.mode == super::orders::Mode::Replay) {
        lines.say(table.trim_end());
    }
    let from = Answers::of(orders);
    match (report.passed(), orders.trace) {
        (true, _) => lines.say(report.line()),
        (false, None) => lines.say(failure_text(info, &report, &printed, from)),
        (false, Some(_)) => lines.say(sweep::verdict_text(info, &report, from)),
    }
    let fingerprint = report.verdict.fingerprint();
    let before = match &tape {
        Some(tape) => Some(("tape", tape.digest, tape.fingerprint.clone())),
        None if orders.calm => None,
        None => known.iter().find(|k| k.seed == seed).map(|k| ("regression file", k.digest, k.fingerprint.clone())),
    };
    if let Some((place, digest, expected)) = before {
        if expected != fingerprint {
            lines.say(format!("sim: the {place} says another end: {expected}"));
        } else if digest != report.digest && digest != 0 {
            lines.say(format!(
                "sim: the same end by another path: the {place} says digest {digest:#018x}; the program, its build or its \
                 libraries are other ones than they were"
            ));
        }
    }
    let mut verdict = report.json();
    if !report.passed() {
        verdict.set("replay", replay_command(info, seed, from));
    }
    lines.send("verdict", verdict);
    let failed = u64::from(!report.passed());
    lines.send(
        "end",
        object! {
            "test": info.name,
            "status": if failed == 0 { "clean" } else { "failed" },
            "seeds": 1,
            "passed": 1 - failed,
            "failed": failed,
            "audited": 0,
            "fired": report.fired,
            "never_fired": Vec::<String>::new(),
            "wall": crate::report::wall_text(report.wall),
        },
    );
    Ok(())
}

/// The order for a run in this very process.
pub(super) fn order(orders: &Orders) -> Result<Order, Misuse> {
    if orders.tape.is_some() {
        return Err(Misuse("SIM_INPLACE=1 runs a seed: expected no SIM_TAPE beside it".into()));
    }
    let seed = orders.seeds.as_ref().map(|r| r.start);
    let seed = seed.ok_or_else(|| Misuse("SIM_INPLACE=1 needs SIM_SEED".into()))?;
    let mode = match orders.trace {
        Some(TraceShape::Text) => mode::TRACE,
        Some(TraceShape::Json) => mode::TRACE_JSON,
        Some(TraceShape::Polls) => mode::TRACE | mode::POLLS,
        None => 0,
    };
    Ok(Order { seed, mode, index: 0, argument: 0 })
}

/// Says what a run in this process came to, and whether it passed.
pub(super) fn say_here(info: &TestInfo, seed: u64, aslr: bool, told: &[u8], lines: &mut Lines) -> bool {
    let Some(mut report) = hear(told).report else {
        lines.say(format!("sim: test={} seed={seed:#x} ended without a verdict", info.name));
        return false;
    };
    (report.test, report.seed, report.aslr) = (info.name.to_owned(), seed, aslr);
    lines.say(if report.passed() { report.line() } else { sweep::verdict_text(info, &report, Answers::Seed) });
    report.passed()
}
