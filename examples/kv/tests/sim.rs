//! The store in simulation: whole runs of three or five servers and their clients under drawn trouble, judged by
//! [`kv::check`].

use kv::check::{self, Violation};
use kv::workload::{self, History, Workload};
use kv::{Bug, CLUSTER, Config};
use sim::{Plan, Sim, secs};

/// Starts the cluster, lets a swarm of faults loose on it while clients work, waits until all is mended, and judges.
async fn trial(sim: Sim, bug: Option<Bug>, plan: Plan) -> History {
    for i in 0..3 {
        sim.node(format!("kv{i}")).start_supervised(secs(1), move || kv::serve(Config::member(i).bug(bug)));
    }
    sim.plan(plan);
    let client = sim.node("client");
    let history = client.run(Workload::new(CLUSTER).run()).await;
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

/// A sweep must find each planted bug: these tests pass when some seed fails.
mod canaries {
    use super::*;

    #[sim::test(seeds = 200, canary)]
    async fn ack_before_quorum_is_found(sim: Sim) {
        trial(sim, Some(Bug::AckBeforeQuorum), trouble()).await;
    }

    #[sim::test(seeds = 200, canary)]
    async fn read_without_write_back_is_found(sim: Sim) {
        trial(sim, Some(Bug::ReadWithoutWriteBack), trouble()).await;
    }

    #[sim::test(seeds = 200, canary)]
    async fn retry_applied_twice_is_found(sim: Sim) {
        trial(sim, Some(Bug::RetryAppliedTwice), trouble()).await;
    }

    #[sim::test(seeds = 200, canary)]
    async fn cancel_loses_request_is_found(sim: Sim) {
        trial(sim, Some(Bug::CancelLosesRequest), trouble()).await;
    }

    #[sim::test(seeds = 200, canary)]
    async fn answer_before_sync_is_found(sim: Sim) {
        trial(sim, Some(Bug::AnswerBeforeSync), trouble()).await;
    }
}

/// Without faults every planted bug goes unnoticed: that is why they need a simulator.
mod calm {
    use super::*;

    #[sim::test(calm)]
    async fn no_bug_shows_in_the_calm_run(sim: Sim) {
        trial(sim, None, Plan::new()).await;
    }

    #[sim::test(calm)]
    async fn ack_before_quorum(sim: Sim) {
        trial(sim, Some(Bug::AckBeforeQuorum), trouble()).await;
    }

    #[sim::test(calm)]
    async fn read_without_write_back(sim: Sim) {
        trial(sim, Some(Bug::ReadWithoutWriteBack), trouble()).await;
    }

    #[sim::test(calm)]
    async fn retry_applied_twice(sim: Sim) {
        trial(sim, Some(Bug::RetryAppliedTwice), trouble()).await;
    }

    #[sim::test(calm)]
    async fn cancel_loses_request(sim: Sim) {
        trial(sim, Some(Bug::CancelLosesRequest), trouble()).await;
    }

    #[sim::test(calm)]
    async fn answer_before_sync(sim: Sim) {
        trial(sim, Some(Bug::AnswerBeforeSync), trouble()).await;
    }
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
