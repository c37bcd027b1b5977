//! A sweep where there are no hermetic processes: every seed in this one, one after the other.
//!
//! For systems other than x86_64 Linux with glibc. The seed decides everything inside the World. What the process brings
//! along (clocks and entropy that do not go through `tokio`, addresses, statics) is the machine's, and a run that crashes or
//! hangs takes the others with it. Absent: the audit, tapes, minimisation, traces of failures.

use super::orders::{Mode, Orders};
use super::{DEFAULT_SEEDS, TestInfo};
use crate::run::{Observe, run_one};
use crate::{Ending, Sim};
use sim_core::{Choices, Spawn};
use std::future::Future;
use std::time::Instant;

/// Runs the seeds; the error is what is to be said about the first failure.
pub(super) fn sweep<B, F>(info: &TestInfo, orders: &Orders, body: B) -> Result<(), String>
where
    B: Fn(Sim) -> F,
    F: Future,
    F::Output: Ending,
{
    if orders.mode != Mode::Sweep || orders.tape.is_some() {
        return Err("replays from tapes, audits and minimisation need hermetic processes, which this system has not: \
                    expected a sweep, or one seed by SIM_SEED"
            .into());
    }
    let began = Instant::now();
    let seeds = orders.seeds.clone().unwrap_or(0..info.seeds.unwrap_or(DEFAULT_SEEDS));
    for seed in seeds {
        if orders.time_budget.is_some_and(|most| began.elapsed() > most) {
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
        if !report.passed() {
            let missing = sim_libc::guarantees().join("; ");
            return Err(format!("{}\n{}\nsim: not guaranteed here: {missing}", report.verdict, report.line()));
        }
    }
    Ok(())
}
