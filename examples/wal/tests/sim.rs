//! The log in simulation: its machine loses power, or its process is killed, in the middle of one operation of the disk after
//! the other, while the disk makes trouble of its own. What was acknowledged must be found, and nothing else.

use sim::core::choices::{Choices, Tape};
use sim::core::{Settings, Verdict};
use sim::disk::Profile;
use sim::{Plan, Sim, millis};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use wal::{Bug, Records, Wal};

const DIR: &str = "/journal";
/// How often the program comes to a sudden end in a run.
const DEATHS: u32 = 8;
/// So many operations on the disk a life lasts at most.
const OPERATIONS: u64 = 60;

/// What the log must hold, as far as its user can know.
struct Expected {
    sim: Sim,
    records: Records,
    /// What the log would hold after the change that was begun and neither acknowledged nor decided by a later look.
    or: Option<Records>,
    /// Changes begun in this run.
    begun: u32,
    acknowledged: u32,
    looks: u32,
}

impl Expected {
    /// Judges what was found. Whatever it was, it must be found from now on.
    fn look(&mut self, found: Records) {
        let allowed = found == self.records || self.or.as_ref() == Some(&found);
        let rule = match () {
            () if allowed => "the log holds what it should",
            () if found.first < self.records.first => "cut records stay away",
            () if found.contents.len() < self.records.contents.len() => "acknowledged records are there",
            () => "nothing is there that was not appended",
        };
        self.sim.check(rule, allowed, || {
            let or = self.or.as_ref().map_or(String::new(), |or| format!(", or {}", brief(or)));
            format!("found {}\n    expected {}{or}", brief(&found), brief(&self.records))
        });
        (self.records, self.or) = (found, None);
        self.looks += 1;
    }

    fn acknowledge(&mut self) {
        self.records = self.or.take().expect("it was begun");
        self.acknowledged += 1;
    }
}

/// The number of the first record, and the length of each with the change that made it.
fn brief(records: &Records) -> String {
    let words = |content: &Vec<u8>| match content.first_chunk() {
        Some(change) => format!("{}:{}", u32::from_le_bytes(*change), content.len()),
        None => format!("{} bytes", content.len()),
    };
    let contents: Vec<String> = records.contents.iter().map(words).collect();
    format!("{} [{}]", records.first, contents.join(" "))
}

/// One life of the program: it looks at the log, then changes it until something ends it.
async fn life(bug: Option<Bug>, expected: Rc<RefCell<Expected>>) -> io::Result<()> {
    let sim = Sim::current();
    let opened = Wal::open_with(DIR, bug).await;
    let damaged = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData);
    sim.check("the log is never damaged", !damaged, || "its beginning is not one".into());
    let (mut wal, found) = opened?;
    expected.borrow_mut().look(found);
    loop {
        let n = expected.borrow().begun;
        let mut after = expected.borrow().records.clone();
        expected.borrow_mut().begun += 1;
        let held = after.contents.len() as u64;
        // One change in eight cuts; one record in four is larger than a page.
        if sim.choose("append or cut", n, 8) == 7 {
            let away = sim.choose("how many records are cut off", n, held + 1);
            after.contents.drain(..away as usize);
            after.first += away;
            let first = after.first;
            expected.borrow_mut().or = Some(after);
            wal.cut(first).await?;
        } else {
            let scale = [100, 100, 1_000, 20_000][sim.choose("how large a record is", n, 4) as usize];
            let mut content = n.to_le_bytes().to_vec();
            content.resize(4 + sim.choose("its length", n, scale) as usize, n as u8 | 1);
            after.contents.push(content.clone());
            expected.borrow_mut().or = Some(after);
            wal.append(&content).await?;
        }
        expected.borrow_mut().acknowledge();
        sim.sleep(millis(1)).await;
    }
}

/// A run: sudden ends in the middle of operations, a swarm of disk faults meanwhile, and a last look when all is mended.
async fn trial(sim: Sim, bug: Option<Bug>) -> (u32, u32) {
    let records = Records { first: 1, contents: Vec::new() };
    let expected = Expected { sim, records, or: None, begun: 0, acknowledged: 0, looks: 0 };
    let expected = Rc::new(RefCell::new(expected));
    let node = sim.node("server");
    if sim.choose("what the file system promises", 0, 2) == 1 {
        sim.disk(|disk, cx| disk.set_profile(node.id(), Profile::Strict, cx));
    }
    let program = expected.clone();
    node.start_supervised(millis(1), move || life(bug, program.clone()));
    let kinds =
        ["disk-error", "disk-full", "disk-slow", "disk-open-error", "disk-sync-full", "disk-short", "disk-interrupt"];
    sim.plan(Plan::swarm().only(&kinds).until(millis(500)));
    for death in 0..DEATHS {
        node.disk_operations(OPERATIONS - sim.choose("how long it lives", death, OPERATIONS)).await;
        match sim.choose("how it ends", death, 4) {
            3 => node.kill(),
            _ => node.power_off(),
        }
        sim.sleep(millis(1)).await;
        node.restart();
    }
    sim.healed().await;
    let looks = expected.borrow().looks;
    // Its last words, whatever the faults had stopped it from.
    while expected.borrow().looks == looks {
        node.kill();
        node.restart();
        sim.sleep(millis(500)).await;
    }
    let expected = expected.borrow();
    (expected.acknowledged, expected.looks)
}

#[sim::test(seeds = 200)]
async fn acknowledged_records_survive(sim: Sim) {
    trial(sim, None).await;
}

/// A sweep finds each planted bug, and it goes unnoticed in the calm run, in which a power loss takes nothing.
fn is_found(bug: Bug) {
    let calm = Choices::from_source(0, Box::new(Tape::new([])));
    let ended = Sim::run_with(Settings::default(), calm, |sim| trial(sim, Some(bug)));
    assert!(ended.verdict.passed(), "{bug:?} shows in the calm run: {}", ended.verdict);
    let mut verdicts = (0..200).map(|seed| Sim::run(seed, |sim| trial(sim, Some(bug))).verdict);
    let failure = verdicts.find(|verdict| !verdict.passed());
    assert!(matches!(failure, Some(Verdict::CheckFailed { .. })), "{bug:?} was not found in 200 seeds: {failure:?}");
}

#[test]
fn a_file_that_is_not_synced_is_found() {
    is_found(Bug::FileNotSynced);
}

#[test]
fn a_directory_that_is_not_synced_is_found() {
    is_found(Bug::DirectoryNotSynced);
}

#[test]
fn a_rename_before_the_sync_is_found() {
    is_found(Bug::RenamedBeforeSync);
}

#[test]
fn a_checksum_without_the_length_is_found() {
    is_found(Bug::LengthNotCovered);
}

/// The oracle judges real work.
#[test]
fn runs_do_real_work() {
    let mut done: Vec<(u32, u32)> = (0..100)
        .map(|seed| {
            let ended = Sim::run(seed, |sim| trial(sim, None));
            ended.value.unwrap_or_else(|| panic!("seed {seed}: {}", ended.verdict))
        })
        .collect();
    done.sort();
    let (acknowledged, looks) = done[50];
    println!("in the median run {acknowledged} changes are acknowledged, and {looks} looks judged");
    assert!(acknowledged >= 50, "{acknowledged} changes in the median run");
    assert!(looks > DEATHS, "{looks} looks in the median run");
}

/// Tests that fail, to try `cargo sim replay` and `cargo sim bisect` on.
#[cfg(feature = "planted")]
mod planted {
    use super::*;

    #[sim::test(seeds = 200)]
    async fn file_not_synced(sim: Sim) {
        trial(sim, Some(Bug::FileNotSynced)).await;
    }

    #[sim::test(seeds = 200)]
    async fn directory_not_synced(sim: Sim) {
        trial(sim, Some(Bug::DirectoryNotSynced)).await;
    }

    #[sim::test(seeds = 200)]
    async fn renamed_before_sync(sim: Sim) {
        trial(sim, Some(Bug::RenamedBeforeSync)).await;
    }

    #[sim::test(seeds = 200)]
    async fn length_not_covered(sim: Sim) {
        trial(sim, Some(Bug::LengthNotCovered)).await;
    }
}
