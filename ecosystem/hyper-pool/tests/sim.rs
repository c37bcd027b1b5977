//! Two servers, and clients that share pools, under drawn trouble.

use pool::{Counts, Pool};
use sim::{Plan, Sim, millis, secs};
use std::sync::atomic::Ordering;

/// Everything but the disk's faults: the server has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const CLIENTS: usize = 2;
const ROUNDS: usize = 10;
const AT_ONCE: usize = 4;

/// Four requests at a time through one pool, to both servers.
async fn client(sim: Sim, number: usize) -> usize {
    let pool = Pool::default();
    let mut answered = 0;
    for round in 0..ROUNDS {
        let requests: Vec<_> = (0..AT_ONCE)
            .map(|i| {
                let (pool, path) = (pool.clone(), format!("/{number}/{}", round * AT_ONCE + i));
                tokio::spawn(async move {
                    let body = "x".repeat(i * 3000);
                    let answer = pool.say(&format!("server{}", i % 2), &path, &body).await;
                    (answer, format!("{path} {body}"))
                })
            })
            .collect();
        for request in requests {
            let (answer, expected) = request.await.expect("it does not panic");
            sim.check("an answer to another request", answer == expected, || {
                format!("{} bytes that begin with {:?}", answer.len(), answer.get(..20.min(answer.len())))
            });
            answered += 1;
        }
        tokio::time::sleep(millis(1700)).await;
    }
    answered
}

#[sim::test(seeds = 500)]
async fn every_answer_belongs_to_its_request(sim: Sim) {
    let counts = [Counts::default(), Counts::default()];
    for (i, counts) in counts.iter().cloned().enumerate() {
        sim.node(format!("server{i}")).start(move || {
            let counts = counts.clone();
            async move { pool::serve("0.0.0.0:80", counts).await }
        });
    }
    let clients: Vec<_> = (0..CLIENTS).map(|i| (i, sim.node(format!("client{i}")))).collect();
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let working: Vec<_> = clients.into_iter().map(|(i, node)| node.run(client(sim, i))).collect();
    let mut answered = 0;
    for client in working {
        answered += client.await;
    }
    assert_eq!(answered, CLIENTS * ROUNDS * AT_ONCE);
    sim.healed().await;
    let count = |of: fn(&Counts) -> usize| counts.iter().map(of).sum::<usize>();
    let requests = count(|c| c.requests.load(Ordering::Relaxed));
    let connections = count(|c| c.connections.load(Ordering::Relaxed));
    sim.check("answers from nobody", requests >= answered, || format!("{requests} requests for {answered} answers"));
    sim.note(|| format!("{requests} requests over {connections} connections"));
    // Without trouble each of the two clients needs two connections to each of the two servers, and uses them again.
    sim.check("nothing was pooled", !sim.trouble().is_empty() || connections <= 8, || {
        format!("{requests} requests over {connections} connections")
    });
}
