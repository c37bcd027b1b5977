//! A seed is the same run wherever and however it is run: alone, late in a sweep, beside others, in another environment.
//!
//! This binary executes itself, as a user executes a test, and compares the digests that come back.

use sim::{Sim, millis};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::path::Path;
use std::process::Command;

// ---- subjects -----------------------------------------------------------------------------------------------------

#[sim::test(seeds = 3)]
async fn the_store(sim: Sim) {
    whole::store_trial(sim, 30).await;
}

/// What a program may see of its process decides how long this sleeps, and so becomes part of the digest.
#[allow(clippy::disallowed_types, reason = "a program under test may, and gets the seed's entropy")]
#[sim::test(seeds = 20)]
async fn what_a_program_sees(sim: Sim) {
    let seen = sim.node("a").run(async {
        let map: HashMap<u32, u32> = (0..100).map(|i| (i, i)).collect();
        let order = map.keys().fold(0, |sum, k| sum * 31u64 % 1_000_003 + *k as u64);
        let keys = std::hash::RandomState::new().hash_one("entropy");
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
        let processors = std::thread::available_parallelism().map_or(0, |n| n.get());
        let process = std::process::id() as u64;
        [order, keys, clock.as_nanos() as u64, processors as u64, process]
    });
    for word in seen.await {
        sim.sleep(millis(1 + word % 1009)).await;
    }
}

/// The same with addresses, which programs hash and sort by without knowing.
#[sim::test(seeds = 20)]
async fn where_a_program_finds_things(sim: Sim) {
    let found = sim.node("a").run(async {
        let on_stack = 7u8;
        let on_heap = Box::new(on_stack);
        [std::ptr::from_ref(&on_stack).addr(), std::ptr::from_ref(&*on_heap).addr(), plain as fn(&str) -> _ as usize]
    });
    for address in found.await {
        sim.sleep(millis(1 + address as u64 % 1009)).await;
    }
}

// ---- runs of them -------------------------------------------------------------------------------------------------

/// How a subject is run.
struct How<'a> {
    subject: &'a str,
    env: Vec<(&'a str, String)>,
    /// Whether nothing of this process's environment is passed on.
    bare: bool,
    folder: Option<&'a Path>,
    /// Words before the command, such as `unshare`.
    through: &'a [&'a str],
}

impl<'a> How<'a> {
    fn of(subject: &'a str) -> How<'a> {
        How { subject, env: Vec::new(), bare: false, folder: None, through: &[] }
    }

    fn env(mut self, name: &'a str, value: impl ToString) -> How<'a> {
        self.env.push((name, value.to_string()));
        self
    }

    /// The digests of the seeds that were run, all of which passed.
    fn digests(self) -> BTreeMap<String, String> {
        let results = tempfile::tempdir().expect("a temporary folder can be made");
        let file = results.path().join("results.jsonl");
        let exe = std::env::current_exe().expect("this binary has a path");
        let mut command = match self.through {
            [] => Command::new(exe),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(exe);
                command
            }
        };
        command.args([self.subject, "--exact", "--nocapture"]);
        if self.bare {
            command.env_clear();
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SIM_")) {
            command.env_remove(name);
        }
        command.env("SIM_DIR", results.path()).env("SIM_RESULTS", &file).envs(self.env);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        let output = command.output().expect("this binary can be executed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(&file).expect("results were written");
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("a line of JSON"));
        let verdicts = lines.filter(|l| l["type"] == "verdict");
        let digest = |l: &serde_json::Value, name: &str| l[name].as_str().expect("it is text").to_owned();
        let digests: BTreeMap<String, String> = verdicts.map(|l| (digest(&l, "seed"), digest(&l, "digest"))).collect();
        assert!(!digests.is_empty(), "no verdict in {text}");
        digests
    }
}

/// Where addresses cannot be fixed, what a program derives from them differs.
fn subjects() -> Vec<&'static str> {
    let mut subjects = vec!["the_store", "what_a_program_sees"];
    if Command::new("setarch").args(["-R", "true"]).status().is_ok_and(|s| s.success()) {
        subjects.push(ADDRESSES);
    } else {
        eprintln!("addresses cannot be fixed here: what a program derives from them is not compared");
    }
    subjects
}

const ADDRESSES: &str = "where_a_program_finds_things";

/// Seeds 0 to 9 as a plain sweep runs them.
fn plain(subject: &str) -> BTreeMap<String, String> {
    let digests = How::of(subject).env("SIM_SEEDS", 10).digests();
    assert_eq!(digests.len(), 10);
    if subject != ADDRESSES {
        let different: BTreeSet<&String> = digests.values().collect();
        assert_eq!(different.len(), 10, "{subject}: seeds differ from each other: {digests:?}");
    }
    digests
}

#[test]
fn a_seed_is_the_same_run_alone_and_in_a_sweep() {
    for subject in subjects() {
        let swept = plain(subject);
        for seed in [0, 1, 7] {
            let name = format!("{seed:#x}");
            let alone = How::of(subject).env("SIM_SEEDS", format!("{seed}..{}", seed + 1)).digests();
            assert_eq!(alone.get(&name), swept.get(&name), "{subject}, a sweep of seed {seed}");
            // A replay writes down what it sees, in the heap that the program shares.
            if subject == ADDRESSES {
                continue;
            }
            let alone = How::of(subject).env("SIM_SEED", seed).digests();
            assert_eq!(alone.get(&name), swept.get(&name), "{subject}, seed {seed}");
        }
    }
}

#[test]
fn a_seed_is_the_same_run_after_three_hundred_others() {
    for subject in subjects() {
        let late = How::of(subject).env("SIM_SEEDS", "10..320").digests();
        assert_eq!(late.len(), 310);
        let last = How::of(subject).env("SIM_SEEDS", "310..320").digests();
        assert_eq!(last.len(), 10);
        for (seed, digest) in &last {
            assert_eq!(late.get(seed), Some(digest), "{subject}, seed {seed}");
        }
        let backwards = How::of(subject).env("SIM_SEEDS", "310..320").env("SIM_REVERSE", 1).digests();
        assert_eq!(backwards, last, "{subject}");
    }
}

#[test]
fn the_number_of_jobs_changes_no_run() {
    for subject in subjects() {
        let one = How::of(subject).env("SIM_SEEDS", 40).env("SIM_JOBS", 1).digests();
        assert_eq!(one.len(), 40);
        assert_eq!(How::of(subject).env("SIM_SEEDS", 40).env("SIM_JOBS", 2).digests(), one, "{subject}");
    }
}

#[test]
fn the_environment_changes_no_run() {
    for subject in subjects() {
        let as_here = plain(subject);
        let ten = || How::of(subject).env("SIM_SEEDS", 10);
        let large = ten().env("PADDING", "x".repeat(4000)).digests();
        assert_eq!(large, as_here, "{subject} with 4000 bytes more");
        let bare = How { bare: true, ..ten() }.digests();
        assert_eq!(bare, as_here, "{subject} with nothing but what was asked");
        for backtrace in ["0", "1", "full"] {
            assert_eq!(
                ten().env("RUST_BACKTRACE", backtrace).digests(),
                as_here,
                "{subject}, RUST_BACKTRACE={backtrace}"
            );
        }
        let abroad = ten().env("TZ", "Asia/Kathmandu").env("LANG", "de_DE.UTF-8").env("HOSTNAME", "elsewhere");
        assert_eq!(abroad.digests(), as_here, "{subject} in another country");
    }
}

#[test]
fn the_working_directory_changes_no_run() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for subject in subjects() {
        let there = How { folder: Some(folder.path()), ..How::of(subject).env("SIM_SEEDS", 10) };
        assert_eq!(there.digests(), plain(subject), "{subject}");
    }
}

#[test]
fn the_name_of_the_real_machine_changes_no_run() {
    const RENAME: &str = "echo elsewhere > /proc/sys/kernel/hostname && ";
    let ways: [&[&str]; 2] = [&["unshare", "-u", "sh", "-c"], &["unshare", "-U", "-r", "-u", "sh", "-c"]];
    let works = |way: &&&[&str]| {
        let check = format!("{RENAME} test \"$(uname -n)\" = elsewhere");
        Command::new(way[0]).args(&way[1..]).arg(check).output().is_ok_and(|o| o.status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        eprintln!("this machine lets nobody unshare its name: the run under another name is skipped");
        return;
    };
    let script = format!("{RENAME} exec \"$0\" \"$@\"");
    let through: Vec<&str> = way.iter().copied().chain([script.as_str()]).collect();
    for subject in subjects() {
        let renamed = How { through: &through, ..How::of(subject).env("SIM_SEEDS", 10) };
        assert_eq!(renamed.digests(), plain(subject), "{subject}");
    }
}
