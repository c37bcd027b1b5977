//! Tests of whole programs in simulation. What several of them need stands here.

use kv::workload::{History, Workload};
use kv::{CLUSTER, Config};
use sim::{Plan, Sim, secs};

/// Three servers of the example store, clients that work while a swarm of faults strikes, and, once all is mended, every
/// key read back: much of what the simulator has, in one run.
pub async fn store_trial(sim: Sim, operations: u64) -> History {
    for i in 0..3 {
        sim.node(format!("kv{i}")).start_supervised(secs(1), move || kv::serve(Config::member(i)));
    }
    sim.plan(Plan::swarm().keep_majority().until(secs(20)));
    let client = sim.node("client");
    let history = client.run(Workload { keys: 1, operations, ..Workload::new(CLUSTER) }.run()).await;
    sim.healed().await;
    let read_back = async {
        let mut history = history;
        history.read_back(CLUSTER).await;
        history
    };
    client.run(read_back).await
}
