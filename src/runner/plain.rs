//! A sweep where there are no hermetic processes: every seed in this one, one after the other.
//!
//! For systems other than x86_64 Linux with glibc. The seed decides everything inside the World. What the process brings
//! along (clocks and entropy that do not go through `tokio`, addresses, statics) is the machine's, and a run that crashes or
//! hangs takes the others with it. Absent, and refused where it is asked for: tapes, shards, minimisation, traces, the calm run,
//! limits of memory.
//! Absent too: the audit and the seeds kept from earlier failures.

use super::orders::{Mode, Orders};
use super::sweep::cut_short;
use super::{DEFAULT_SEEDS, TestInfo};
use crate::report::wall_text;
use crate::run::{Observe, run_one};
use crate::{Ending, Sim};
use sim_core::{Choices, Spawn};
use std::future::Future;
use std::time::Instant;

/// Runs the seeds. What is to be said is in `Ok` if all that ran passed, else in the error.
pub(super) fn sweep<B, F>(info: &TestInfo, orders: &Orders, body: B) -> Result<String, String>
where
    B: Fn(Sim) -> F,
    F: Future,
    F::Output: Ending,
{
    let refused = [
        ("SIM_MODE", orders.mode != Mode::Sweep),
        ("SIM_TAPE", orders.tape.is_some()),
        ("SIM_SHARD", orders.shard.is_some()),
        ("SIM_TRACE", orders.trace.is_some()),
        ("SIM_CALM", orders.calm),
        ("SIM_REVERSE", orders.reverse),
        ("SIM_MEMORY", orders.memory_bytes.is_some()),
    ];
    if let Some((name, _)) = refused.into_iter().find(|(_, asked)| *asked) {
        return Err(format!(
            "{name} needs hermetic processes, which this system has not: expected a sweep, or one seed by SIM_SEED"
        ));
    }
    let began = Instant::now();
    let seeds = orders.seeds.clone().unwrap_or(0..info.seeds.unwrap_or(DEFAULT_SEEDS));
    let total = seeds.end - seeds.start;
    let (mut passed, mut failures) = (0, Vec::new());
    let mut said = String::new();
    for seed in seeds {
        if orders.time_budget.is_some_and(|most| began.elapsed() > most) {
            said = cut_short(info, passed + failures.len() as u64, total) + "\n";
            break;
        }
        let spawn = Spawn { name: "test", location: info.location };
        let run = |sim| {
            let future = body(sim);
            async move { future.await.ending() }
        };
        let started = Instant::now();
        let ran = run_one(info.settings(), Choices::seeded(seed), Observe::default(), spawn, run);
        let report = ran.report(info.name, seed, started.elapsed(), false);
        if report.passed() {
            passed += 1;
            continue;
        }
        failures.push(format!("{}\n{}", report.verdict, report.line()));
        if !orders.keep_going {
            break;
        }
    }
    let failed = failures.len();
    let wall = wall_text(began.elapsed());
    said += &format!(
        "sim: test={} seeds={} passed={passed} failed={failed} wall={wall}",
        info.name,
        passed + failed as u64
    );
    if failures.is_empty() {
        return Ok(said);
    }
    let missing = sim_libc::guarantees().join("; ");
    Err(format!("{}\n{said}\nsim: not guaranteed here: {missing}", failures.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(vars: &[(&str, &str)], fails: impl Fn(u64) -> bool) -> Result<String, String> {
        let get = |name: &str| Ok(vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string()));
        let orders = Orders::from_lookup(get).expect("good");
        let info = TestInfo::nameless();
        sweep(&info, &orders, |sim| {
            let good = !fails(sim.seed());
            async move { sim.check("good", good, || "bad".into()) }
        })
    }

    /// A shard ran every seed, as all other shards did, and a sweep that its time budget cut after ten of a million seeds
    /// looked like one that had passed.
    #[test]
    fn what_a_system_without_hermetic_processes_cannot_do_is_refused_and_what_it_left_out_is_said() {
        for (name, value) in
            [("SIM_SHARD", "1/2"), ("SIM_TRACE", "text"), ("SIM_CALM", "1"), ("SIM_TAPE", "x"), ("SIM_MEMORY", "1G")]
        {
            let said = swept(&[(name, value)], |_| false).expect_err("refused");
            assert!(said.starts_with(name), "{said}");
        }
        let whole = swept(&[("SIM_SEEDS", "5")], |_| false).expect("they pass");
        assert!(whole.starts_with("sim: test=t seeds=5 passed=5 failed=0 "), "{whole}");
        let cut = swept(&[("SIM_SEEDS", "1000000000"), ("SIM_TIME_BUDGET", "1ms")], |_| false).expect("they pass");
        assert!(
            cut.contains("the time budget ended the sweep after ") && cut.contains(" of 1000000000 seeds\n"),
            "{cut}"
        );
    }

    #[test]
    fn the_first_failure_ends_a_sweep_unless_it_is_to_keep_going() {
        let first = swept(&[("SIM_SEEDS", "6")], |seed| seed % 2 == 1).expect_err("1 fails");
        assert!(
            first.contains("seed=0x1 verdict=check-failed") && first.contains("seeds=2 passed=1 failed=1"),
            "{first}"
        );
        let all = swept(&[("SIM_SEEDS", "6"), ("SIM_KEEP_GOING", "1")], |seed| seed % 2 == 1).expect_err("3 fail");
        assert!(all.contains("seed=0x5 ") && all.contains("seeds=6 passed=3 failed=3"), "{all}");
    }
}
