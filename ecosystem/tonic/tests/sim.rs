//! Two servers, and clients who use every kind of method, under drawn trouble.

use meter::{Client, Reading, Store};
use sim::{Plan, Sim, millis, secs};
use std::cell::Cell;
use std::rc::Rc;
use tokio_stream::StreamExt;

/// Everything but the disk's faults: the server has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const ROUNDS: u64 = 10;

/// Adds eight readings of 1 in each round, in three requests of different kinds, one after the other.
async fn count(sim: Sim, server: String, meter: &'static str, acknowledged: Rc<Cell<u64>>) {
    let client = Client::new(&server);
    for round in 0..ROUNDS {
        let reading = |i: u64| Reading { meter: meter.to_owned(), number: 8 * round + i, amount: 1 };
        let readings: Vec<Reading> = (0..8).map(reading).collect();
        let check = |total: meter::Total, expected: u64| {
            sim.check("a total is wrong", total.amount == expected && total.readings == expected, || {
                format!("{meter}: {total:?} in place of {expected}")
            });
            acknowledged.set(expected);
        };
        check(client.add(&readings[0]).await, 8 * round + 1);
        check(client.add_all(&readings[1..5]).await, 8 * round + 5);
        let totals = client.add_each(&readings[5..]).await;
        // The first try may have added some of them, or all.
        let amounts: Vec<u64> = totals.iter().map(|total| total.amount).collect();
        sim.check("totals go down", amounts.is_sorted(), || format!("{meter}: {amounts:?}"));
        check(totals[2], 8 * round + 8);
        tokio::time::sleep(millis(1700)).await;
    }
}

/// Watches a meter: what it shows never goes down, and is never less than what was acknowledged before the watch began.
async fn watch(sim: Sim, server: String, meter: &'static str, acknowledged: Rc<Cell<u64>>, seen: Rc<Cell<usize>>) {
    let client = Client::new(&server);
    loop {
        let mut least = acknowledged.get();
        let mut totals = client.watch(meter).await;
        while let Some(total) = totals.next().await {
            sim.check("a watched total goes down", total.amount >= least, || {
                format!("{meter}: {} after {least}", total.amount)
            });
            least = total.amount;
            seen.set(seen.get() + 1);
        }
        tokio::time::sleep(millis(100)).await;
    }
}

#[sim::test(seeds = 500)]
async fn acknowledged_readings_stay(sim: Sim) {
    let stores = [Store::default(), Store::default()];
    for (i, store) in stores.iter().cloned().enumerate() {
        sim.node(format!("meters{i}")).start(move || meter::serve("0.0.0.0:50051".parse().unwrap(), store.clone()));
    }
    let meters = ["gas", "water", "power"].into_iter().enumerate();
    let meters: Vec<_> =
        meters.map(|(i, name)| (i % 2, name, sim.node(name), sim.node(format!("{name}-display")))).collect();
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let seen = Rc::new(Cell::new(0));
    let mut counting = Vec::new();
    for (i, name, node, display) in &meters {
        let (server, acknowledged) = (format!("meters{i}:50051"), Rc::new(Cell::new(0)));
        let _watches_on = display.run(watch(sim, server.clone(), name, acknowledged.clone(), seen.clone()));
        counting.push(node.run(count(sim, server, name, acknowledged)));
    }
    // Three meters, ten rounds, three requests in each: 90 requests in every run.
    for counts in counting {
        counts.await;
    }
    for (i, name, ..) in &meters {
        let total = stores[*i].total(name);
        assert_eq!((total.amount, total.readings), (8 * ROUNDS, 8 * ROUNDS), "{name}");
    }
    sim.healed().await;
    sim.sleep(secs(3)).await;
    sim.check("nothing was watched", seen.get() >= meters.len(), || format!("{} totals", seen.get()));
}
