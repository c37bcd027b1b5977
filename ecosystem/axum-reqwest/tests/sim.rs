//! Two banks, and customers of both who pay in under drawn trouble.

use bank::{Balance, Customer, Deposit, Http, Ledger};
use sim::{Plan, Sim, millis, secs};
use std::cell::RefCell;
use std::rc::Rc;

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

/// Ctrl-C reaches the machine that it is for, in each of its lives, and nobody else's.
#[sim::test(seeds = 100)]
async fn a_bank_closes_when_it_is_told_to(sim: Sim) {
    let closed = Rc::new(RefCell::new(Vec::new()));
    let banks = ["bank0", "bank1"].map(|name| {
        let closed = closed.clone();
        let bank = sim.node(name);
        bank.start(move || {
            let closed = closed.clone();
            async move {
                let ended = bank::serve("0.0.0.0:80", Ledger::default()).await;
                closed.borrow_mut().push(name);
                ended
            }
        });
        bank
    });
    let customer = sim.node("ann");
    let deposit =
        |number| async move { Customer::new(Http::One, "bank1", "ann").deposit(Deposit { number, amount: 1 }).await };
    for life in 1..=3 {
        customer.run(deposit(life)).await;
        banks[0].stop(secs(10)).await;
        assert_eq!(*closed.borrow(), vec!["bank0"; life as usize], "it had its last words");
        assert!(sim.elapsed() < secs(10), "nobody had to lose patience");
        assert_eq!(customer.run(deposit(10 + life)).await.deposits, 2 * life as usize);
        banks[0].restart();
    }
    banks[1].stop(secs(10)).await;
    assert_eq!(closed.borrow().last(), Some(&"bank1"));
}
