//! Seeds that somebody recorded must mean the same runs tomorrow: ten digests that only a change on purpose may move.
//!
//! They are the same in debug and release builds and in every process that does the same: this is the one test of its
//! binary that enters a World, and it runs its seeds in rising order.

use sim::Sim;
use std::path::PathBuf;

const SEEDS: u64 = 10;

fn file(below_package: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below_package)
}

/// The digest of a seed, in a thread of its own: what std caches per thread begins anew in each.
fn digest(seed: u64) -> String {
    let run = move || {
        let ended = Sim::run(seed, |sim| whole::store_trial(sim, 170));
        assert!(ended.verdict.passed(), "seed {seed}: {}", ended.verdict);
        format!("{seed} {:#018x} steps={} virtual={}", ended.outcome.digest, ended.outcome.steps, ended.outcome.now)
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn recorded_seeds_mean_the_same_runs() {
    let found: Vec<String> = (0..SEEDS).map(digest).collect();
    let path = file("golden.txt");
    if std::env::var_os("SIM_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, found.join("\n") + "\n").expect("the golden digests can be written");
    }
    let text = std::fs::read_to_string(&path).expect("the golden digests are recorded");
    let golden: Vec<&str> = text.lines().collect();
    assert_eq!(golden.len(), found.len(), "golden.txt holds {} seeds, expected {SEEDS}", golden.len());
    let changed: Vec<String> = golden
        .iter()
        .zip(&found)
        .filter(|(golden, found)| *golden != found)
        .map(|(golden, found)| format!("  recorded {golden}\n  found    {found}"))
        .collect();
    assert!(
        changed.is_empty(),
        "{} of {SEEDS} golden digests changed:\n{}\nSeeds that users have recorded now mean other runs. If that is meant, \
         record anew with\n  SIM_BLESS=1 cargo test -p whole --test golden\nand add a line \"golden digests: …\" to \
         CHANGELOG.md that says why.",
        changed.len(),
        changed.join("\n")
    );
}

#[test]
fn the_changelog_tells_of_the_golden_digests() {
    let changelog = std::fs::read_to_string(file("../../CHANGELOG.md")).expect("there is a changelog");
    assert!(changelog.contains("golden digests"), "a change of the golden digests needs a line in CHANGELOG.md");
}
