//! Three servers and their clients under drawn trouble: the list is linearizable.

use scribe::{Client, Disk, Line};
use sim::{Plan, Sim, millis, secs};
use std::cell::Cell;
use std::rc::Rc;

/// Everything but the disk's faults: the server's disk is its own.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const SERVERS: u64 = 3;
const AUTHORS: usize = 3;
const LINES: u64 = 15;

/// Appends and reads by turns. `known` is how long the list certainly is, as far as any client was told.
async fn write(sim: Sim, author: String, known: Rc<Cell<usize>>) -> Vec<(usize, Line)> {
    let mut client = Client::new(SERVERS);
    let mut written: Vec<(usize, Line)> = Vec::new();
    for number in 0..LINES {
        let line = Line { author: author.clone(), number };
        let before = known.get();
        let place = client.append(line.clone()).await;
        sim.check("a line among older ones", place >= before, || {
            format!("{line:?} stands at {place}, and {before} were there before it was sent")
        });
        known.set(known.get().max(place + 1));
        written.push((place, line));

        let before = known.get();
        let list = client.read().await;
        sim.check("a stale read", list.len() >= before, || format!("{} lines of {before}", list.len()));
        for (place, line) in &written {
            sim.check("an acknowledged line is elsewhere", list.get(*place) == Some(line), || {
                format!("{line:?} is not at {place} of {list:?}")
            });
        }
        known.set(known.get().max(list.len()));
        tokio::time::sleep(millis(1100)).await;
    }
    written
}

#[sim::test(seeds = 500)]
async fn the_list_is_linearizable(sim: Sim) {
    let disks: Vec<Disk> = (0..SERVERS).map(|_| Disk::default()).collect();
    for (id, disk) in disks.iter().cloned().enumerate() {
        sim.node(format!("scribe{id}")).start(move || scribe::serve(id as u64, SERVERS, disk.clone()));
    }
    let authors: Vec<_> = (0..AUTHORS).map(|i| format!("author{i}")).map(|name| (sim.node(&name), name)).collect();
    sim.plan(Plan::swarm().only(&TROUBLE).keep_majority().until(secs(20)));
    let known = Rc::new(Cell::new(0));
    let writing: Vec<_> = authors.into_iter().map(|(node, name)| node.run(write(sim, name, known.clone()))).collect();
    // Three authors, fifteen lines, one read after each: 90 requests in every run.
    let mut written = Vec::new();
    for author in writing {
        written.extend(author.await);
    }
    sim.healed().await;
    written.sort();
    let places: Vec<usize> = written.iter().map(|(place, _)| *place).collect();
    sim.check("places are not all different", places.iter().copied().eq(0..written.len()), || format!("{places:?}"));
    let list = sim.node("reader").run(async { Client::new(SERVERS).read().await }).await;
    let expected: Vec<Line> = written.into_iter().map(|(_, line)| line).collect();
    sim.check("the list differs", list == expected, || format!("{list:?} in place of {expected:?}"));
    // 48 entries and a snapshot after each 20: logs were cut.
    let lengths: Vec<_> = disks.iter().map(|disk| (disk.has_snapshot(), disk.log_len())).collect();
    sim.note(|| format!("snapshots and logs: {lengths:?}"));
    assert!(lengths.iter().filter(|(snapshot, _)| *snapshot).count() >= 2, "{lengths:?}");
}
