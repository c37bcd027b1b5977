//! The store in simulation: whole runs of three or five servers and their clients under drawn trouble, judged by
//! [`kv::check`].

use kv::check::{self, Op, Violation};
use kv::workload::{self, History, Workload};
use kv::{Bug, CLUSTER, Config};
use sim::core::choices::{Choices, Tape};
use sim::core::{Settings, Verdict};
use sim::{Plan, Sim, secs};
use std::collections::BTreeSet;

/// Starts the cluster, lets a swarm of faults loose on it while clients work, waits until all is mended, and judges.
async fn trial(sim: Sim, bug: Option<Bug>, plan: Plan) -> History {
    for i in 0..3 {
        sim.node(format!("kv{i}")).start_supervised(secs(1), move || kv::serve(Config::member(i).bug(bug)));
    }
    sim.plan(plan);
    let client = sim.node("client");
    let history = client.run(Workload { keys: 1, ..Workload::new(CLUSTER) }.run()).await;
    sim.healed().await;
    sim.sleep(secs(2)).await;
    let (history, held) = client
        .run(async {
            let mut history = history;
            // What each server holds is asked before reads mend it.
            let held = workload::holdings(CLUSTER).await;
            history.read_back(CLUSTER).await;
            (history, held)
        })
        .await;
    let mut violations = check::history(&history.ops);
    violations.extend(check::held(&history.ops, &held));
    judge(sim, &violations);
    history
}

/// Ends the run if a rule was broken, under the name of the first one.
fn judge(sim: Sim, violations: &[Violation]) {
    let Some(first) = violations.first() else { return };
    let name = first.to_string();
    let name = name.split(':').next().unwrap_or("violation");
    sim.check(name, false, || {
        let lines: Vec<String> = violations.iter().take(5).map(|v| v.to_string()).collect();
        format!("{} violations, the first of them\n    {}", violations.len(), lines.join("\n    "))
    });
}

/// Every seed its own trouble; a majority of the servers stays whole, and all of it is mended after 20 s.
fn trouble() -> Plan {
    Plan::swarm().keep_majority().until(secs(20))
}

#[sim::test(seeds = 200)]
async fn acknowledged_writes_survive(sim: Sim) {
    trial(sim, None, trouble()).await;
}

#[sim::test(seeds = 50)]
async fn five_servers_survive_it_too(sim: Sim) {
    let servers: Vec<String> = (0..5).map(|i| format!("kv{i}:7000")).collect();
    for i in 0..5 {
        let servers = servers.clone();
        sim.node(format!("kv{i}")).start_supervised(secs(1), move || kv::serve(Config::new(i, servers.clone())));
    }
    sim.plan(trouble());
    let client = sim.node("client");
    let all = servers.join(",");
    let history = client.run(Workload::new(all.clone()).run()).await;
    sim.healed().await;
    let history = client
        .run(async move {
            let mut history = history;
            history.read_back(&all).await;
            history
        })
        .await;
    judge(sim, &check::history(&history.ops));
}

/// A sweep finds each planted bug, and it goes unnoticed in the calm run: that is why it needs a simulator.
fn is_found_by_trouble_and_by_nothing_else(bug: Bug) {
    let calm = Choices::from_source(0, Box::new(Tape::new([])));
    let ended = Sim::run_with(Settings::default(), calm, |sim| trial(sim, Some(bug), trouble()));
    assert!(ended.verdict.passed(), "{bug:?} shows in the calm run: {}", ended.verdict);
    let verdicts = (0..200).map(|seed| Sim::run(seed, |sim| trial(sim, Some(bug), trouble())).verdict);
    let failure = verdicts.into_iter().find(|verdict| !verdict.passed());
    assert!(matches!(failure, Some(Verdict::CheckFailed { .. })), "{bug:?} was not found in 200 seeds: {failure:?}");
}

#[test]
fn ack_before_quorum_is_found() {
    is_found_by_trouble_and_by_nothing_else(Bug::AckBeforeQuorum);
}

#[test]
fn read_without_write_back_is_found() {
    is_found_by_trouble_and_by_nothing_else(Bug::ReadWithoutWriteBack);
}

#[test]
fn retry_applied_twice_is_found() {
    is_found_by_trouble_and_by_nothing_else(Bug::RetryAppliedTwice);
}

#[test]
fn cancel_loses_request_is_found() {
    is_found_by_trouble_and_by_nothing_else(Bug::CancelLosesRequest);
}

#[test]
fn answer_before_sync_is_found() {
    is_found_by_trouble_and_by_nothing_else(Bug::AnswerBeforeSync);
}

/// The oracles judge real work: most runs acknowledge many writes, many of them while faults are active, and over a
/// sweep every kind of fault strikes.
#[test]
fn runs_do_real_work_under_fire() {
    let mut acked = Vec::new();
    let mut under_fire = (0, 0);
    let (mut planned, mut struck) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..100 {
        let ended = Sim::run(seed, |sim| async move {
            let history = trial(sim, None, trouble()).await;
            (history, sim.trouble(), sim.planned())
        });
        let (history, trouble, kinds) = ended.value.unwrap_or_else(|| panic!("seed {seed}: {}", ended.verdict));
        let during = |op: &&Op| trouble.iter().any(|(from, to)| op.start < *to && *from < op.end);
        let writes: Vec<&Op> = history.ops.iter().filter(|op| op.ok && op.kind == check::Kind::Write).collect();
        under_fire.0 += writes.iter().copied().filter(during).count();
        under_fire.1 += writes.len();
        acked.push(writes.len());
        planned.extend(kinds);
        struck.extend(ended.outcome.fired.into_keys());
    }
    acked.sort();
    println!(
        "acknowledged writes: median {}, least {}; under fire {} of {}",
        acked[50], acked[0], under_fire.0, under_fire.1
    );
    assert!(acked[50] >= 100, "the median run acknowledges {} writes", acked[50]);
    assert!(under_fire.0 * 3 >= under_fire.1, "{} of {} writes while a fault is active", under_fire.0, under_fire.1);
    assert_eq!(planned.difference(&struck).collect::<Vec<_>>(), Vec::<&&str>::new(), "planned, but never struck");
    assert!(planned.len() >= 8, "{planned:?}");
}

/// Tests that fail, to try `cargo sim replay` and `cargo sim bisect` on.
#[cfg(feature = "planted")]
mod planted {
    use super::*;

    #[sim::test(seeds = 200)]
    async fn ack_before_quorum(sim: Sim) {
        trial(sim, Some(Bug::AckBeforeQuorum), trouble()).await;
    }

    #[sim::test(seeds = 200)]
    async fn read_without_write_back(sim: Sim) {
        trial(sim, Some(Bug::ReadWithoutWriteBack), trouble()).await;
    }

    #[sim::test(seeds = 200)]
    async fn retry_applied_twice(sim: Sim) {
        trial(sim, Some(Bug::RetryAppliedTwice), trouble()).await;
    }

    #[sim::test(seeds = 200)]
    async fn cancel_loses_request(sim: Sim) {
        trial(sim, Some(Bug::CancelLosesRequest), trouble()).await;
    }

    #[sim::test(seeds = 200)]
    async fn answer_before_sync(sim: Sim) {
        trial(sim, Some(Bug::AnswerBeforeSync), trouble()).await;
    }
}
