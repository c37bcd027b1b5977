//! Three mini-redis servers and their clients under drawn trouble.

use bytes::Bytes;
use cache::Cache;
use sim::{Node, Plan, Sim, millis, secs};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Everything but the disk's faults: mini-redis has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const SERVERS: usize = 3;
const CLIENTS: usize = 3;
const ROUNDS: usize = 12;

fn address(server: usize) -> String {
    format!("redis{server}:6379")
}

fn start_servers(sim: Sim) -> Vec<Node> {
    let server = |i| *sim.node(format!("redis{i}")).start(|| cache::serve("0.0.0.0:6379"));
    (0..SERVERS).map(server).collect()
}

/// Writes keys that nobody else writes and reads them again; how many requests were answered.
async fn client(sim: Sim, servers: Vec<Node>, number: usize) -> usize {
    let mut cache = Cache::new((0..SERVERS).map(address));
    let mut answered = 0;
    // When each key was written: the incarnation of its server that certainly has it.
    let mut written = BTreeMap::new();
    for round in 0..ROUNDS {
        for i in 0..SERVERS {
            let key = (round * CLIENTS + number) * SERVERS + i;
            let before = servers[i].incarnation();
            cache.set(key, value(key)).await;
            answered += 1;
            written.insert(key, before);
        }
        for (&key, &since) in written.iter().rev().take(6) {
            let found = cache.get(key).await;
            answered += 1;
            sim.check("a value that was never set", found.is_none() || found == Some(value(key)), || {
                format!("client {number} asked for {key} and got {found:?}")
            });
            let forgotten = found.is_none() && servers[key % SERVERS].incarnation() == since;
            sim.check("forgotten without a restart", !forgotten, || {
                format!("client {number} wrote {key} to incarnation {since}, which does not know it")
            });
        }
        tokio::time::sleep(millis(1500)).await;
    }
    answered
}

fn value(key: usize) -> Bytes {
    format!("the value of {key}").into()
}

#[sim::test(seeds = 500)]
async fn the_cache_may_forget_and_never_lies(sim: Sim) {
    let servers = start_servers(sim);
    let clients: Vec<Node> = (0..CLIENTS).map(|i| sim.node(format!("client{i}"))).collect();
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let running: Vec<_> =
        clients.iter().enumerate().map(|(i, node)| node.run(client(sim, servers.clone(), i))).collect();
    let mut answered = 0;
    for client in running {
        answered += client.await;
    }
    assert_eq!(answered, CLIENTS * (ROUNDS * (SERVERS + 6) - 3));
    sim.healed().await;
}

#[sim::test(seeds = 500)]
async fn a_message_is_heard_once_at_most(sim: Sim) {
    start_servers(sim);
    let (press, reader) = (sim.node("press"), sim.node("reader"));
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let heard = Rc::new(RefCell::new(Vec::new()));
    let hearing = heard.clone();
    let _listens_on = reader.run(async move {
        cache::listen(&address(0), "news", |since, what| hearing.borrow_mut().push((since, what))).await
    });
    let said = press.run(async {
        let mut counted = 0;
        for i in 0..100 {
            counted += cache::publish(&address(0), "news", i.to_string().into()).await.unwrap_or(0);
            tokio::time::sleep(millis(250)).await;
        }
        counted
    });
    let counted = said.await;
    sim.healed().await;
    let heard = heard.borrow();
    let distinct: BTreeSet<_> = heard.iter().map(|(_, what)| what.clone()).collect();
    sim.check("heard twice", distinct.len() == heard.len(), || format!("{heard:?}"));
    let said: BTreeSet<Bytes> = (0..100).map(|i| i.to_string().into()).collect();
    sim.check("never said", distinct.is_subset(&said), || format!("{:?}", distinct.difference(&said)));
    // Trouble ends after 20 of the 25 seconds.
    assert!(counted > 0 && !heard.is_empty(), "{counted} counted, {} heard", heard.len());
}

/// Both only yield, in the futures that their machines' runtimes block on.
#[sim::test(seeds = 20)]
async fn programs_that_yield_in_a_loop_let_other_machines_run(sim: Sim) {
    let done = std::rc::Rc::new(std::cell::Cell::new(false));
    let seen = done.clone();
    let waits = sim.node("waits").run(async move {
        while !seen.get() {
            tokio::task::yield_now().await;
        }
    });
    let works = sim.node("works").run(async move {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        done.set(true);
    });
    works.await;
    waits.await;
}

/// Who reads the clock on and on lets threads run, which may ask for a timer while the runtime makes up its mind how long to wait.
#[sim::test(seeds = 20)]
async fn a_timer_of_a_thread_is_in_time_on_a_machine_that_reads_the_clock(sim: Sim) {
    let program = async {
        tokio::task::spawn_blocking(|| ()).await.expect("it does not panic");
        let began = tokio::time::Instant::now();
        for _ in 0..1_100 {
            let _ = tokio::time::Instant::now();
        }
        let handle = tokio::runtime::Handle::current();
        let sleeps = tokio::task::spawn_blocking(move || {
            handle.block_on(tokio::time::sleep(std::time::Duration::from_millis(5)))
        });
        tokio::time::timeout_at(began + std::time::Duration::from_secs(600), sleeps)
            .await
            .expect("in time")
            .expect("no panic");
        began.elapsed()
    };
    let took = sim.node("server").run(program).await;
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}
