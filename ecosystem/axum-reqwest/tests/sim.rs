//! Two banks, and customers of both who pay in under drawn trouble.

use bank::{Balance, Customer, Deposit, Http, Ledger};
use sim::{Plan, Sim, millis, secs};

/// Everything but the disk's faults: the server has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const DEPOSITS: u64 = 20;

/// Two deposits at a time, each checked in the balance that the bank answers with.
async fn pay_in(sim: Sim, customer: Customer) -> u64 {
    let mut acknowledged = 0;
    for number in (0..DEPOSITS).step_by(2) {
        let second = customer.clone();
        let second = tokio::spawn(async move { second.deposit(Deposit { number: number + 1, amount: 100 }).await });
        let first = customer.deposit(Deposit { number, amount: 1 }).await;
        let second = second.await.expect("it does not panic");
        acknowledged += 101;
        let told = first.total.max(second.total);
        sim.check("an acknowledged deposit is missing", told == acknowledged, || {
            format!("{acknowledged} were paid in, the bank said {first:?} and {second:?}")
        });
        let now = customer.balance().await;
        sim.check("a balance is wrong", now.total == acknowledged, || format!("{now:?} in place of {acknowledged}"));
        tokio::time::sleep(millis(1500)).await;
    }
    acknowledged
}

async fn trial(sim: Sim, http: Http) {
    let ledgers = [Ledger::default(), Ledger::default()];
    for (i, ledger) in ledgers.iter().cloned().enumerate() {
        sim.node(format!("bank{i}")).start(move || {
            let ledger = ledger.clone();
            async move { bank::serve("0.0.0.0:80", ledger).await }
        });
    }
    let customers: Vec<_> = ["ann", "bob", "cid", "dee"].map(|name| (name, sim.node(name))).into();
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let paying: Vec<_> = customers
        .into_iter()
        .enumerate()
        .map(|(i, (name, node))| {
            let work = async move { pay_in(sim, Customer::new(http, &format!("bank{}", i % 2), name)).await };
            (i % 2, name, node.run(work))
        })
        .collect();
    for (bank, name, paid) in paying {
        let paid = paid.await;
        // 20 deposits and 10 balances each, so 120 requests in every run.
        let expected = Balance { total: paid, deposits: DEPOSITS as usize };
        let kept = ledgers[bank].balance(name);
        sim.check("the ledger differs", kept == expected, || format!("{name}: {kept:?} in place of {expected:?}"));
    }
    sim.healed().await;
}

#[sim::test(seeds = 500)]
async fn acknowledged_deposits_stay_over_http1(sim: Sim) {
    trial(sim, Http::One).await;
}

#[sim::test(seeds = 500)]
async fn acknowledged_deposits_stay_over_http2(sim: Sim) {
    trial(sim, Http::Two).await;
}
