//! The runner from outside: this binary runs its own simulated tests again with the environment that `cargo sim` sets.
//!
//! A *canary* is a simulated test that is harmless until `CANARY` names it; then it does what one verdict is for, and a
//! plain test proves that the verdict is found, and that it costs no other seed its run.

use serde_json::Value;
use sim::{Sim, secs};
use std::path::PathBuf;
use std::process::Command;

// ---- canaries -----------------------------------------------------------------------------------------------------

fn armed(canary: &str) -> bool {
    std::env::var("CANARY").is_ok_and(|name| name == canary)
}

/// Seed 3 is the one that fails.
fn strikes(sim: Sim, canary: &str) -> bool {
    armed(canary) && sim.seed() == 3
}

#[sim::test(seeds = 6)]
async fn canary_panic(sim: Sim) {
    println!("seed {} says hello", sim.seed());
    sim.sleep(secs(2)).await;
    sim.note(|| "two seconds later".into());
    assert!(!strikes(sim, "canary_panic"), "lost write: key {}", sim.seed());
}

#[sim::test(seeds = 6)]
async fn canary_error(sim: Sim) -> Result<(), String> {
    if strikes(sim, "canary_error") { Err("no quorum".into()) } else { Ok(()) }
}

#[sim::test(seeds = 6)]
async fn canary_check(sim: Sim) {
    sim.check("linearizable", !strikes(sim, "canary_check"), || "read 3 before it was written".into());
}

#[sim::test(seeds = 6)]
async fn canary_deadlock(sim: Sim) {
    if strikes(sim, "canary_deadlock") {
        std::future::pending::<()>().await;
    }
}

#[sim::test(seeds = 6)]
async fn canary_livelock(sim: Sim) {
    if strikes(sim, "canary_livelock") {
        std::future::poll_fn::<(), _>(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

#[sim::test(seeds = 6)]
async fn canary_stuck(sim: Sim) {
    while strikes(sim, "canary_stuck") {
        std::hint::spin_loop();
    }
}

#[sim::test(seeds = 6, time_limit = "60s")]
async fn canary_time(sim: Sim) {
    sim.sleep(secs(if strikes(sim, "canary_time") { 61 } else { 59 })).await;
}

#[sim::test(seeds = 6, step_limit = 10_000)]
async fn canary_events(sim: Sim) {
    for _ in 0..if strikes(sim, "canary_events") { 20_000 } else { 1 } {
        sim.sleep(secs(0) + sim::millis(1)).await;
    }
}

#[sim::test(seeds = 6, memory = "128M")]
async fn canary_memory(sim: Sim) {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    while strikes(sim, "canary_memory") {
        hoard.push(vec![1; 1 << 20]);
    }
}

/// Given back at once: no look from outside would surely see it.
#[sim::test(seeds = 6, memory = "128M")]
async fn canary_memory_for_a_moment(sim: Sim) {
    if strikes(sim, "canary_memory_for_a_moment") {
        drop(std::hint::black_box(vec![1u8; 160 << 20]));
    }
}

#[sim::test(seeds = 6)]
async fn canary_abort(sim: Sim) {
    if strikes(sim, "canary_abort") {
        std::process::abort();
    }
}

#[sim::test(seeds = 6)]
async fn canary_exit(sim: Sim) {
    if strikes(sim, "canary_exit") {
        std::process::exit(0);
    }
}

#[sim::test(seeds = 6)]
async fn canary_overflow(sim: Sim) {
    fn deep(n: u64) -> u64 {
        let room = std::hint::black_box([n; 512]);
        if n == 0 { room[0] } else { deep(n - 1) + room[511] }
    }
    if strikes(sim, "canary_overflow") {
        deep(1 << 30);
    }
}

#[sim::test(seeds = 6)]
async fn canary_process(sim: Sim) {
    if strikes(sim, "canary_process") {
        let _stray = std::process::Command::new("true").spawn();
    }
}

/// Two threads that take two locks in opposite order; the test's own is one of them, so nothing can return.
#[sim::test(seeds = 6)]
async fn canary_lock_order(sim: Sim) {
    use std::sync::{Arc, Mutex};
    let nap = || std::thread::sleep(std::time::Duration::from_millis(1));
    if strikes(sim, "canary_lock_order") {
        let locks = Arc::new((Mutex::new(()), Mutex::new(())));
        let other = locks.clone();
        let backwards = std::thread::Builder::new().name("backwards".into());
        let thread = backwards.spawn(move || {
            let _two = other.1.lock();
            nap();
            let _one = other.0.lock();
        });
        let _one = locks.0.lock();
        nap();
        let _two = locks.1.lock();
        drop(thread);
    }
}

/// A thread that never waits.
#[sim::test(seeds = 6)]
async fn canary_spinning_thread(sim: Sim) {
    if strikes(sim, "canary_spinning_thread") {
        let spinner = std::thread::Builder::new().name("spinner".into());
        let thread = spinner.spawn(|| while std::hint::black_box(true) {});
        let _never = thread.expect("it starts").join();
    }
}

#[sim::test(seeds = 6)]
async fn canary_file(sim: Sim) {
    if strikes(sim, "canary_file") {
        let _denied = std::fs::write("/tmp/written-by-a-simulated-program", "x");
    }
}

/// Every run counts how often it ran in a file outside the simulation, which no simulated program could do.
#[sim::test(seeds = 6)]
async fn canary_nondeterminism(sim: Sim) {
    if strikes(sim, "canary_nondeterminism") {
        let path = PathBuf::from(std::env::var("CANARY_FILE").expect("given with the canary"));
        let ran_before = sim_libc::interpose::pass_through(|| {
            let existed = path.exists();
            std::fs::write(&path, "").expect("a temporary folder can be written");
            existed
        });
        if ran_before {
            sim.sleep(secs(1)).await;
        }
    }
}

/// Fails when four of the first 200 answers are high, which most seeds give somewhere: something to minimise.
#[sim::test(seeds = 6)]
async fn canary_choices(sim: Sim) {
    if armed("canary_choices") {
        let high = (0..200).filter(|n| sim.choose("roll", *n, 1000) > 500).filter(|n| n % 50 == 7).count();
        assert!(high < 2, "{high} high rolls");
    }
}

#[sim::test(seeds = 6)]
async fn canary_nested(sim: Sim) {
    if strikes(sim, "canary_nested") {
        canary_panic();
    }
}

// ---- proofs -------------------------------------------------------------------------------------------------------

/// What a simulated test of this binary came to.
struct Swept {
    passed: bool,
    stdout: String,
    lines: Vec<Value>,
    folder: tempfile::TempDir,
}

impl Swept {
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |l| l["type"] == kind)
    }

    fn failures(&self) -> Vec<&Value> {
        self.of("verdict").filter(|l| l["verdict"] != "passed").collect()
    }

    fn end(&self) -> &Value {
        self.of("end").next().unwrap_or_else(|| panic!("no end in {}", self.stdout))
    }

    #[track_caller]
    fn says(&self, expected: &str) -> &Self {
        assert!(self.stdout.contains(expected), "expected: {expected}\n{}", self.stdout);
        self
    }
}

/// Runs one test of this binary with these variables in a folder of its own.
fn run(test: &str, env: &[(&str, &str)]) -> Swept {
    run_in(tempfile::tempdir().expect("a temporary folder can be made"), test, env)
}

fn run_in(folder: tempfile::TempDir, test: &str, env: &[(&str, &str)]) -> Swept {
    let results = folder.path().join("results.jsonl");
    let _none_yet = std::fs::remove_file(&results);
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command.args([test, "--exact", "--nocapture"]).env("SIM_DIR", folder.path()).env("SIM_RESULTS", &results);
    for name in ["SIM_SEED", "SIM_SEEDS", "SIM_JOBS", "SIM_AUDIT_PERCENT", "SIM_TRACE", "SIM_TAPE", "SIM_MODE"] {
        command.env_remove(name);
    }
    command.envs(env.iter().copied());
    let output = command.output().expect("this binary can be executed");
    let text = std::fs::read_to_string(&results).unwrap_or_default();
    let lines = text.lines().map(|l| serde_json::from_str(l).expect("a line of JSON")).collect();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Swept { passed: output.status.success(), stdout, lines, folder }
}

/// Arms a canary and expects exactly one failing seed of its six, with this verdict and this in its message.
#[track_caller]
fn found(canary: &str, verdict: &str, message: &str) -> Swept {
    let result = run(canary, &[("CANARY", canary), ("SIM_KEEP_GOING", "1"), ("SIM_WATCHDOG", "300ms")]);
    assert!(!result.passed, "{}", result.stdout);
    let failures = result.failures();
    assert_eq!(failures.len(), 1, "one seed fails: {}", result.stdout);
    assert_eq!((&failures[0]["verdict"], &failures[0]["seed"]), (&verdict.into(), &"0x3".into()), "{}", result.stdout);
    let found = failures[0]["message"].as_str().unwrap_or_default();
    assert!(found.contains(message), "expected: {message}\nfound: {found}");
    assert_eq!(result.end()["passed"], 5, "the other seeds ran: {}", result.stdout);
    result
        .says(&format!("seed=0x3 verdict={verdict} "))
        .says(&format!("cargo sim replay -p sim runner::{canary} --seed 0x3"));
    result
}

#[test]
fn a_panic_is_found_and_shown_with_trace_and_output() {
    let result = found("canary_panic", "panicked", "tests/runner.rs");
    result.says("lost write: key 3").says("two seconds later").says("seed 3 says hello").says("[   0.000000000");
    assert!(!result.stdout.contains("seed 2 says hello"), "{}", result.stdout);
}

#[test]
fn an_error_that_a_test_returns_is_found() {
    found("canary_error", "panicked", "no quorum");
}

#[test]
fn a_failed_check_is_found() {
    found("canary_check", "check-failed", "linearizable: read 3 before it was written");
}

#[test]
fn a_deadlock_is_found() {
    found("canary_deadlock", "deadlock", "nothing is ready");
}

#[test]
fn a_livelock_is_found() {
    found("canary_livelock", "livelock", "polls without time passing");
}

#[test]
fn a_poll_that_never_ends_is_found() {
    found("canary_stuck", "stuck", "test (spawned at");
}

#[test]
fn limits_are_found() {
    found("canary_time", "limit", "time: 60s");
    found("canary_events", "limit", "events: 10000");
    found("canary_memory", "limit", "memory: 128 MiB");
}

#[test]
fn memory_that_was_used_for_a_moment_is_found_each_time_with_a_digest() {
    let result = found("canary_memory_for_a_moment", "limit", "memory: 128 MiB");
    assert_ne!(result.failures()[0]["digest"], "0x0", "{}", result.stdout);
    assert!(!result.stdout.contains("the seed does not decide"), "{}", result.stdout);
}

/// What a test of an untouched project cannot say itself, its user can.
#[test]
fn the_memory_of_a_run_is_what_the_environment_says() {
    let canary = "canary_memory_for_a_moment";
    let enough = run(canary, &[("CANARY", canary), ("SIM_MEMORY", "512M")]);
    assert!(enough.failures().is_empty(), "{}", enough.stdout);
    let less = run(canary, &[("CANARY", canary), ("SIM_MEMORY", "150M")]);
    let failure = &less.failures()[0];
    assert_eq!(failure["message"], "limit: memory: 150 MiB", "{}", less.stdout);
    assert!(failure["replay"].as_str().is_some_and(|command| command.contains(" --memory 150M ")), "{failure}");
}

/// With a backtrace after it, which needs memory too and reads files, it is still the same verdict.
#[test]
fn a_failed_allocation_is_a_limit_whatever_is_printed_of_it() {
    for backtrace in ["0", "1", "full"] {
        let env = [("CANARY", "canary_memory"), ("RUST_BACKTRACE", backtrace), ("SIM_AUDIT_PERCENT", "100")];
        let result = run("canary_memory", &env);
        assert_eq!(result.failures()[0]["verdict"], "limit", "RUST_BACKTRACE={backtrace}: {}", result.stdout);
        assert!(!result.stdout.contains("the seed does not decide"), "{}", result.stdout);
    }
}

#[test]
fn crashes_are_found() {
    found("canary_abort", "crashed", "SIGABRT");
    found("canary_exit", "crashed", "exit(0)");
    found("canary_overflow", "crashed", "stack overflow");
}

#[test]
fn threads_that_hang_are_found() {
    found("canary_lock_order", "deadlock", "(backwards) waits for a lock");
    found("canary_spinning_thread", "stuck", "thread 1 (spinner), which lets no other thread run");
}

#[test]
fn escapes_are_found() {
    found("canary_process", "escaped", "posix_spawn");
    found("canary_file", "escaped", "open");
    assert!(!std::path::Path::new("/tmp/written-by-a-simulated-program").exists());
}

#[test]
fn nondeterminism_is_found_by_the_audit() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("ran").display().to_string();
    let env = [("CANARY", "canary_nondeterminism"), ("CANARY_FILE", &file), ("SIM_AUDIT_PERCENT", "100")];
    let result = run("canary_nondeterminism", &env);
    assert_eq!(result.failures()[0]["verdict"], "nondeterministic", "{}", result.stdout);
    assert!(!result.passed);
}

#[test]
fn a_run_inside_a_run_is_refused() {
    found("canary_nested", "panicked", "a run cannot start inside another");
}

#[test]
fn a_failing_seed_is_kept_and_run_first_afterwards() {
    let first = run("canary_panic", &[("CANARY", "canary_panic")]);
    assert_eq!(first.end()["failed"], 1);
    let file = first.folder.path().join("sim-regressions/runner.canary_panic.txt");
    let kept = std::fs::read_to_string(&file).expect("the seed was kept");
    assert!(
        kept.contains("0x3\t0x") && kept.contains("cargo sim replay -p sim runner::canary_panic --seed 0x3"),
        "{kept}"
    );
    let again =
        run_in(first.folder, "canary_panic", &[("CANARY", "canary_panic"), ("SIM_SEEDS", "50..60"), ("SIM_JOBS", "1")]);
    assert_eq!(again.of("verdict").next().map(|v| &v["seed"]), Some(&"0x3".into()));
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), kept, "nothing is kept twice");
}

/// A package had more regression seeds than its sweep has seeds. The time budget cut the sweep, and since what was taken was
/// compared with the seeds alone, nothing said that most of it had not run.
#[test]
fn a_sweep_that_its_time_budget_cuts_says_so_also_among_regression_seeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("sim-regressions");
    std::fs::create_dir(&kept).expect("a folder");
    let lines: String = (100..400).map(|seed| format!("{seed:#x}\t0x1\tpanicked\tcommand\n")).collect();
    std::fs::write(kept.join("runner.canary_panic.txt"), lines).expect("written");
    let cut = run_in(folder, "canary_panic", &[("SIM_SEEDS", "1"), ("SIM_JOBS", "1"), ("SIM_TIME_BUDGET", "20ms")]);
    assert!(cut.passed, "{}", cut.stdout);
    cut.says("the time budget ended the sweep after ").says(" of 301 seeds");
}

/// The calm run failed, was kept as the seed that it had run beside, and the commands that were printed replayed that seed:
/// another run, which passed.
#[test]
fn a_calm_run_that_fails_is_no_seed_and_its_command_runs_it_again() {
    let (calm, armed) = (("SIM_CALM", "1"), ("CANARY", "canary_panic"));
    let failed = run("canary_panic", &[calm, armed, ("SIM_SEEDS", "3..4")]);
    assert!(!failed.passed);
    let command = "SIM_CALM=1 cargo sim replay -p sim runner::canary_panic --seed 0x3";
    failed.says(command);
    assert_eq!(failed.failures()[0]["replay"], command);
    assert!(!failed.stdout.contains("cargo sim bisect"), "there is nothing to minimise: {}", failed.stdout);
    assert!(!failed.folder.path().join("sim-regressions").exists(), "{}", failed.stdout);
    let again = run("canary_panic", &[calm, armed, ("SIM_MODE", "replay"), ("SIM_SEED", "3")]);
    assert_eq!(again.failures()[0]["digest"], failed.failures()[0]["digest"]);
    again.says(command);
    run("canary_panic", &[calm, ("SIM_TAPE", "/nowhere.tape")]).says("SIM_CALM=1 and SIM_TAPE");
    run("canary_panic", &[calm, ("SIM_MODE", "bisect"), ("SIM_SEED", "3")]).says("SIM_CALM=1 and SIM_MODE=bisect");
}

#[test]
fn a_seed_replays_with_the_same_digest_and_its_trace() {
    let swept = run("canary_panic", &[("CANARY", "canary_panic")]);
    let replayed = run("canary_panic", &[("CANARY", "canary_panic"), ("SIM_SEED", "3"), ("SIM_TRACE", "json")]);
    assert_eq!(replayed.of("verdict").count(), 1);
    assert_eq!(replayed.failures()[0]["digest"], swept.failures()[0]["digest"]);
    replayed.says(r#""at_ns":2000000000"#).says("two seconds later");
    let calm = run("canary_panic", &[("SIM_SEED", "3"), ("SIM_TRACE", "text")]);
    assert!(calm.passed);
    calm.says("2.000000000 -          note           two seconds later").says("seed 3 says hello");
}

#[test]
fn a_run_in_place_is_the_run_that_a_fork_makes() {
    let forked = run("canary_panic", &[("CANARY", "canary_panic"), ("SIM_SEED", "3")]);
    let here = run("canary_panic", &[("CANARY", "canary_panic"), ("SIM_SEED", "3"), ("SIM_INPLACE", "1")]);
    assert!(!here.passed);
    let digest = forked.failures()[0]["digest"].as_str().expect("a digest").to_owned();
    here.says(&format!("seed=0x3 verdict=panicked digest={digest}"));
    assert!(run("canary_panic", &[("SIM_SEED", "4"), ("SIM_INPLACE", "1")]).passed);
    run("canary_panic", &[("SIM_INPLACE", "1")]).says("SIM_INPLACE=1 needs SIM_SEED");
}

#[test]
fn jobs_change_no_digest() {
    let digests = |jobs| -> Vec<(String, String)> {
        let result = run("canary_choices", &[("SIM_SEEDS", "40"), ("SIM_JOBS", jobs), ("SIM_AUDIT_PERCENT", "0")]);
        let mut all: Vec<_> = result.of("verdict").map(|v| (v["seed"].to_string(), v["digest"].to_string())).collect();
        all.sort();
        all
    };
    assert_eq!(digests("1").len(), 40);
    assert_eq!(digests("1"), digests("4"));
}

#[test]
fn a_failure_is_minimised_to_what_it_needs_and_its_tape_replays() {
    let swept = run("canary_choices", &[("CANARY", "canary_choices")]);
    let seed = swept.failures()[0]["seed"].as_str().expect("a seed").to_owned();
    let result = run("canary_choices", &[("CANARY", "canary_choices"), ("SIM_MODE", "bisect"), ("SIM_SEED", &seed)]);
    let tape = result.of("tape").next().unwrap_or_else(|| panic!("no tape in {}", result.stdout));
    let deviations = tape["deviations"].as_array().expect("a list");
    assert_eq!(deviations.len(), 2, "{}", result.stdout);
    assert!(deviations.iter().all(|d| d["subject"] == "roll"), "{}", result.stdout);
    assert_eq!(tape["minimal"], true);
    result.says("the test's choice `roll` is ");
    let path = tape["path"].as_str().expect("a path").to_owned();
    let replay = format!("cargo sim replay -p sim runner::canary_choices --seed {seed} --tape {path}");
    result.says(&replay);
    assert_eq!(result.failures()[0]["replay"], replay);
    assert!(!result.stdout.contains("cargo sim bisect"), "{}", result.stdout);
    let env = [("CANARY", "canary_choices"), ("SIM_TAPE", &path)];
    let replayed = run_in(result.folder, "canary_choices", &env);
    assert_eq!(replayed.failures()[0]["fingerprint"], swept.failures()[0]["fingerprint"], "{}", replayed.stdout);
    replayed.says(&replay);
    assert!(!replayed.stdout.contains("cargo sim bisect"), "{}", replayed.stdout);
    let mistaken = run("canary_choices", &[("SIM_TAPE", &path), ("SIM_SEED", "0x77")]);
    mistaken.says(&format!("--seed 0x77 (SIM_SEED): expected {seed}, the seed of the tape"));
    // One run is no time to minimise anything; what is there is kept.
    let env = [("CANARY", "canary_choices"), ("SIM_MODE", "bisect"), ("SIM_SEED", &seed), ("SIM_BISECT_RUNS", "1")];
    let hasty = run_in(replayed.folder, "canary_choices", &env);
    hasty.says("it gives the same failure with fewer deviations, 2").says(" more in the tape").says(&replay);
    let other = run("canary_panic", &[("SIM_TAPE", &path)]);
    assert_eq!(other.end()["status"], "misuse");
    other.says("expected a tape of the test runner::canary_panic, found one of runner::canary_choices");
}

#[test]
fn misuse_runs_nothing_and_says_what_was_given_and_expected() {
    for (name, value, expected) in [
        ("SIM_SEED", "seven", "SIM_SEED=seven: expected a seed, decimal or 0x…, below 2^64"),
        ("SIM_SEEDS", "9..3", "SIM_SEEDS=9..3: expected how many seeds, or a range A..B with A < B"),
        ("SIM_TAPE", "/nowhere.tape", "the tape /nowhere.tape cannot be read"),
        ("SIM_MODE", "dance", "SIM_MODE=dance: expected sweep"),
    ] {
        let result = run("canary_panic", &[(name, value)]);
        assert!(!result.passed);
        assert_eq!(result.of("verdict").count(), 0, "{}", result.stdout);
        assert_eq!(result.end()["status"], "misuse");
        result.says(expected);
    }
    let passing = run("canary_panic", &[("SIM_MODE", "bisect"), ("SIM_SEED", "0")]);
    passing.says("seed 0x0 passes: expected one that fails");
}
