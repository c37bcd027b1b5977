//! A server and its guests under drawn trouble.

use chat::{Line, Log};
use sim::{Plan, Sim, millis, secs};
use std::cell::RefCell;
use std::rc::Rc;

/// Everything but the disk's faults: the server has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const GUESTS: usize = 4;
const LINES: usize = 20;

#[sim::test(seeds = 500)]
async fn everybody_hears_everything_in_one_order(sim: Sim) {
    let log = Log::default();
    let kept = log.clone();
    sim.node("server").start(move || {
        let log = kept.clone();
        async move { chat::serve("0.0.0.0:80", log).await }
    });
    let guests: Vec<_> = (0..GUESTS).map(|i| format!("guest{i}")).map(|name| (sim.node(&name), name)).collect();
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let visits: Vec<_> = guests
        .into_iter()
        .map(|(node, name)| {
            let (heard, log) = (Rc::new(RefCell::new(Vec::new())), log.clone());
            let visit = node.run({
                let (name, heard) = (name.clone(), heard.clone());
                async move {
                    chat::visit("server:80", &name, LINES, millis(800), |line: &Line| {
                        let said = log.lines();
                        let mut heard = heard.borrow_mut();
                        sim.check("heard in another order", said.get(heard.len()) == Some(line), || {
                            format!("{name} heard {line} after {} lines of {said:?}", heard.len())
                        });
                        heard.push(line.clone());
                    })
                    .await
                }
            });
            (name, heard, visit)
        })
        .collect();
    // Four guests, twenty lines, each heard by at least its author: 80 requests in every run.
    for (name, heard, visit) in visits {
        visit.await;
        let own: Vec<usize> =
            heard.borrow().iter().filter(|line| line.author == name).map(|line| line.number).collect();
        sim.check("own lines", own.iter().copied().eq(0..LINES), || format!("{name} heard {own:?}"));
    }
    let said = log.lines();
    sim.check("the log", said.len() == GUESTS * LINES, || format!("{} lines: {said:?}", said.len()));
    sim.healed().await;
}
