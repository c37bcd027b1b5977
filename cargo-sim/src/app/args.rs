//! What can be asked for, and the environment that asks the library for it.

use crate::conformance::ConformanceArgs;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// Deterministic simulation testing: sweep seeds, replay, audit and minimise.
#[derive(Parser, Debug)]
///
/// In a project that uses tokio, `cargo sim test` runs its tests in simulation: over many seeds, with the clock, the network
/// and the disks of simulated machines. The project is not changed, and needs no dependency on sim: its own tokio, of
/// exactly the locked version, is operated by the simulator. A package that depends on sim-tokio is built with its feature
/// instead, and one without a tokio as it is; which way was taken is said in one line.
#[command(name = "cargo sim", bin_name = "cargo sim", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 clean, 1 a run failed or a file could not be written,\n2 misuse (and nothing failed before), 130 interrupted.\n\n\
Examples:\n  cargo sim test                          every test, as many seeds as each asks for\n  \
cargo sim test lost_writes --seeds 10000\n  cargo sim replay lost_writes --seed 0x2a --trace text\n  \
cargo sim bisect lost_writes --seed 0x2a"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run tests over their seeds
    #[command(
        after_help = "Examples:\n  cargo sim test                          in any project that uses tokio, unchanged\n  cargo sim test -p kv\n  cargo sim test lost_writes --seed-range 0x1000..0x2000 --jobs 4\n  \
cargo sim test --shard 2/8 --time-budget 10m --keep-going --junit results.xml\n\n\
Seeds are counted from 0. Failing seeds are kept in sim-regressions/TEST.txt and run first by every later sweep."
    )]
    Test(TestArgs),
    /// Run one seed again, with its trace and latencies
    #[command(after_help = "Examples:\n  cargo sim replay lost_writes --seed 0x2a\n  \
cargo sim replay lost_writes --seed 0x2a --trace json\n  \
cargo sim replay lost_writes --seed 0x2a --tape sim-results/kv.lost_writes-0x2a.tape")]
    Replay(ReplayArgs),
    /// Run every seed twice, the second time in a new process with another folder, environment and order, and compare
    #[command(after_help = "Examples:\n  cargo sim audit --seeds 200\n  cargo sim audit lost_writes")]
    Audit(AuditArgs),
    /// Find the few deviations that a failing seed needs, and write them as a tape
    #[command(after_help = "Examples:\n  cargo sim bisect lost_writes --seed 0x2a\n  \
cargo sim bisect lost_writes --seed 0x2a --json why.jsonl")]
    Bisect(BisectArgs),
    /// Build the programs of the project as its tests are built, and print where they are
    #[command(after_help = "Examples:\n  cargo sim build --release\n  cargo sim build --test lost_writes\n\n\
A program that is built so is in the real world until it calls sim::Sim::run: for benches, profilers and debuggers.")]
    Build(BuildArgs),
    /// Write a tokio into the project that is the real one unless its feature `sim` is on
    #[command(after_help = "Examples:\n  cargo sim vendor\n  cargo sim vendor --offline\n\n\
`cargo sim test` needs none of this. It is for those who want `cargo test --features sim`, or to read what is changed in \
tokio.\nIt writes sim/tokio, of the version in Cargo.lock, and names it in [patch.crates-io] of Cargo.toml.")]
    Vendor(VendorArgs),
    /// Run tokio's own tests over the generated tokio, and compare with the failures that are known
    #[command(
        after_help = "Examples:\n  cargo sim conformance\n  cargo sim conformance --only 'sync_*' --seeds 20\n  \
cargo sim conformance --tokio 1.44.2 --classes AS --json results.json"
    )]
    Conformance(ConformanceArgs),
}

/// Which tests are built, as for `cargo test`.
#[derive(Args, Debug, Default)]
pub struct Select {
    /// The package
    #[arg(short, long, value_name = "PKG")]
    pub package: Vec<String>,
    /// All packages of the workspace
    #[arg(long)]
    pub workspace: bool,
    /// Only the library's unit tests
    #[arg(long, help_heading = "Options of cargo test")]
    pub lib: bool,
    /// Only this integration test target
    #[arg(long = "test", value_name = "NAME", help_heading = "Options of cargo test")]
    pub targets: Vec<String>,
    /// Features to turn on
    #[arg(short = 'F', long, value_name = "FEATURES", help_heading = "Options of cargo test")]
    pub features: Vec<String>,
    /// Turn all features on
    #[arg(long, help_heading = "Options of cargo test")]
    pub all_features: bool,
    /// Leave the default features off
    #[arg(long, help_heading = "Options of cargo test")]
    pub no_default_features: bool,
    /// Build with optimisations
    #[arg(short, long, help_heading = "Options of cargo test")]
    pub release: bool,
    /// Build with this profile of Cargo.toml
    #[arg(long, value_name = "NAME", conflicts_with = "release", help_heading = "Options of cargo test")]
    pub profile: Option<String>,
    /// The Cargo.toml of the project
    #[arg(long, value_name = "PATH", help_heading = "Options of cargo test")]
    pub manifest_path: Option<PathBuf>,
    /// Where cargo builds
    #[arg(long, value_name = "DIR", help_heading = "Options of cargo test")]
    pub target_dir: Option<PathBuf>,
    /// Stop if Cargo.lock would change
    #[arg(long, help_heading = "Options of cargo test")]
    pub locked: bool,
    /// Stay off the network
    #[arg(long, help_heading = "Options of cargo test")]
    pub offline: bool,
    /// The same as --locked and --offline
    #[arg(long, help_heading = "Options of cargo test")]
    pub frozen: bool,
}

#[derive(Args, Debug)]
pub struct BuildArgs {
    #[command(flatten)]
    pub select: Select,
}

#[derive(Args, Debug)]
pub struct VendorArgs {
    /// The Cargo.toml of the project
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,
    /// Stay off the network
    #[arg(long)]
    pub offline: bool,
}

#[derive(Args, Debug)]
pub struct TestArgs {
    /// The test: its name, or a part that no other has. All tests unless given
    #[arg(value_name = "TEST")]
    pub name: Option<String>,
    #[command(flatten)]
    pub select: Select,
    /// How many seeds, counted from 0
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count, conflicts_with_all = ["seed", "seed_range"])]
    pub seeds: Option<u64>,
    /// One seed, decimal or 0x…
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = seed, conflicts_with = "seed_range")]
    pub seed: Option<u64>,
    /// The seeds from A to B, without B
    #[arg(long, value_name = "A..B", allow_hyphen_values = true, value_parser = range)]
    pub seed_range: Option<Range<u64>>,
    /// Only the I-th of N parts of the seeds, for a sweep that N machines share
    #[arg(long, value_name = "I/N", allow_hyphen_values = true, value_parser = shard)]
    pub shard: Option<String>,
    /// How many seeds run at a time; as many as there are processors unless given
    #[arg(short, long, value_name = "J", allow_hyphen_values = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Most memory that a run touches, such as 512M or 4G; in place of what the test says, or 1G
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    pub memory: Option<String>,
    /// Begin no new seed after this time, shared among the tests
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = duration)]
    pub time_budget: Option<Duration>,
    /// Run all seeds, also after one has failed
    #[arg(long)]
    pub keep_going: bool,
    /// Write every verdict to FILE as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a JUnit report to FILE
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Which run is meant.
#[derive(Args, Debug)]
pub struct Run {
    /// The test: its name, or a part that no other has
    #[arg(value_name = "TEST")]
    pub name: String,
    #[command(flatten)]
    pub select: Select,
    /// The seed, decimal or 0x…
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = seed)]
    pub seed: u64,
    /// Most memory that a run touches, such as 512M or 4G; in place of what the test says, or 1G
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    pub memory: Option<String>,
}

#[derive(Args, Debug)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub run: Run,
    /// Exact answers in place of the seed's
    #[arg(long, value_name = "FILE")]
    pub tape: Option<PathBuf>,
    /// Print the whole trace
    #[arg(long, value_enum)]
    pub trace: Option<TraceShape>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TraceShape {
    /// Columns for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Args, Debug)]
pub struct AuditArgs {
    /// The test: its name, or a part that no other has. All tests unless given
    #[arg(value_name = "TEST")]
    pub name: Option<String>,
    #[command(flatten)]
    pub select: Select,
    /// How many seeds, counted from 0
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = count)]
    pub seeds: Option<u64>,
    /// Most memory that a run touches, such as 512M or 4G; in place of what the test says, or 1G
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = size)]
    pub memory: Option<String>,
}

#[derive(Args, Debug)]
pub struct BisectArgs {
    #[command(flatten)]
    pub run: Run,
    /// Write what was found to FILE as lines of JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Most runs; 2000 unless given
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Most real time; 60s unless given
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = duration)]
    pub time_budget: Option<Duration>,
}

/// What this program tells a test by its environment, and the flag that people tell it by. What somebody set for the whole shell
/// gives way: it would change what the command line asks for.
const DECIDED: [(&str, &str); 15] = [
    ("SIM_MODE", ""),
    ("SIM_SEED", "seed"),
    ("SIM_SEEDS", "seeds"),
    ("SIM_SHARD", "shard"),
    ("SIM_JOBS", "jobs"),
    ("SIM_MEMORY", "memory"),
    ("SIM_TIME_BUDGET", "time-budget"),
    ("SIM_KEEP_GOING", "keep-going"),
    ("SIM_TAPE", "tape"),
    ("SIM_TRACE", "trace"),
    ("SIM_BISECT_RUNS", "runs"),
    ("SIM_BISECT_TIME", "time-budget"),
    ("SIM_REVERSE", ""),
    ("SIM_INPLACE", ""),
    ("SIM_RESULTS", "json"),
];
/// What has no flag and is passed on, though it changes what a sweep finds.
const PASSED_ON: [&str; 3] = ["SIM_CALM", "SIM_AUDIT_PERCENT", "SIM_WATCHDOG"];

/// The names of the variables that give way.
pub fn decided() -> impl Iterator<Item = &'static str> {
    DECIDED.into_iter().map(|(name, _)| name)
}

/// The names of all variables that change what a run of tests finds.
pub fn of_the_shell() -> impl Iterator<Item = &'static str> {
    decided().chain(PASSED_ON)
}

/// A line for each variable of the shell that this command ignores, and for each that it lets pass.
pub fn environment_said(command: &str, lookup: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let cli = Cli::command();
    let flags: Vec<&str> =
        cli.find_subcommand(command).into_iter().flat_map(|c| c.get_arguments()).filter_map(|a| a.get_long()).collect();
    let ignored = DECIDED.into_iter().filter_map(|(name, flag)| {
        let value = lookup(name)?;
        let flag = if value.contains("..") { "seed-range" } else { flag };
        let value_of_flag = if flag == "keep-going" { String::new() } else { format!(" {value}") };
        let remedy = if flags.contains(&flag) { format!(": give --{flag}{value_of_flag}") } else { String::new() };
        Some(format!("{name}={value} is ignored here{remedy}"))
    });
    let passed_on =
        PASSED_ON.into_iter().filter_map(|name| Some(format!("{name}={} is set, and holds", lookup(name)?)));
    ignored.chain(passed_on).collect()
}

type Environment = Vec<(String, String)>;

fn var(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn millis(d: Duration) -> String {
    format!("{}ms", d.as_millis().max(1))
}

impl Select {
    /// The choice of features, as cargo takes it.
    pub fn feature_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = self.features.iter().flat_map(|f| ["--features".into(), f.clone()]).collect();
        arguments.extend(self.all_features.then(|| "--all-features".into()));
        arguments.extend(self.no_default_features.then(|| "--no-default-features".into()));
        arguments
    }

    /// The options that a command for the same build repeats, each after a space: what failure reports put into the
    /// commands they print.
    fn repeated(&self) -> (String, String) {
        let mut options = String::new();
        let mut valued = |flag: &str, value: &str| {
            // What has a zero byte came from no command line.
            options += &format!(" {flag} {}", shlex::try_quote(value).unwrap_or(value.into()));
        };
        for features in &self.features {
            valued("--features", features);
        }
        for (flag, path) in [("--manifest-path", &self.manifest_path), ("--target-dir", &self.target_dir)] {
            if let Some(path) = path {
                valued(flag, &path.display().to_string());
            }
        }
        if let Some(profile) = &self.profile {
            valued("--profile", profile);
        }
        for (flag, given) in [
            (" --all-features", self.all_features),
            (" --no-default-features", self.no_default_features),
            (" --release", self.release),
        ] {
            if given {
                options += flag;
            }
        }
        var("SIM_OPTIONS", options)
    }
}

impl TestArgs {
    pub fn environment(&self, budget: Option<Duration>) -> Environment {
        let mut env = vec![var("SIM_MODE", "sweep"), self.select.repeated()];
        env.extend(self.seeds.map(|n| var("SIM_SEEDS", n)));
        env.extend(self.seed.map(|s| var("SIM_SEED", s)));
        env.extend(self.seed_range.as_ref().map(|r| var("SIM_SEEDS", format!("{}..{}", r.start, r.end))));
        env.extend(self.shard.as_ref().map(|s| var("SIM_SHARD", s)));
        env.extend(self.jobs.map(|j| var("SIM_JOBS", j)));
        env.extend(budget.map(|b| var("SIM_TIME_BUDGET", millis(b))));
        env.extend(self.keep_going.then(|| var("SIM_KEEP_GOING", 1)));
        env.extend(self.memory.as_ref().map(|m| var("SIM_MEMORY", m)));
        env
    }
}

impl AuditArgs {
    pub fn environment(&self) -> Environment {
        let mut env = vec![var("SIM_MODE", "digests")];
        env.extend(self.seeds.map(|n| var("SIM_SEEDS", n)));
        env.extend(self.memory.as_ref().map(|m| var("SIM_MEMORY", m)));
        env
    }

    /// For a run whose digests differ: everything that happens in it.
    pub fn looking_into(&self, seed: &str) -> Environment {
        let mut env = vec![var("SIM_MODE", "replay"), var("SIM_SEED", seed), var("SIM_TRACE", "polls")];
        env.extend(self.memory.as_ref().map(|m| var("SIM_MEMORY", m)));
        env
    }
}

impl ReplayArgs {
    pub fn environment(&self) -> Result<Environment, String> {
        let mut env = vec![var("SIM_MODE", "replay"), var("SIM_SEED", self.run.seed), self.run.select.repeated()];
        if let Some(tape) = &self.tape {
            let whole = std::path::absolute(tape).map_err(|e| format!("the tape {}: {e}", tape.display()))?;
            env.push(var("SIM_TAPE", whole.display()));
        }
        env.extend(self.run.memory.as_ref().map(|m| var("SIM_MEMORY", m)));
        env.extend(self.trace.map(|t| var("SIM_TRACE", format!("{t:?}").to_lowercase())));
        Ok(env)
    }
}

impl BisectArgs {
    pub fn environment(&self) -> Environment {
        let mut env = vec![var("SIM_MODE", "bisect"), var("SIM_SEED", self.run.seed), self.run.select.repeated()];
        env.extend(self.run.memory.as_ref().map(|m| var("SIM_MEMORY", m)));
        env.extend(self.runs.map(|n| var("SIM_BISECT_RUNS", n)));
        env.extend(self.time_budget.map(|t| var("SIM_BISECT_TIME", millis(t))));
        env
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| "expected a seed, decimal or 0x…, below 2^64".into())
}

fn count(text: &str) -> Result<u64, String> {
    number(text).filter(|n| *n > 0).ok_or_else(|| "expected how many seeds, at least 1".into())
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| number(a).zip(number(b)));
    match ends {
        Some((a, b)) if a < b => Ok(a..b),
        Some(_) => Err("expected A..B with A < B: this range is empty".into()),
        None => Err("expected a range of seeds A..B, decimal or 0x…".into()),
    }
}

fn shard(text: &str) -> Result<String, String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse::<u64>().ok()?, n.parse::<u64>().ok()?)));
    match parts {
        Some((i, n)) if 1 <= i && i <= n => Ok(text.to_owned()),
        _ => Err("expected I/N with 1 <= I <= N".into()),
    }
}

fn size(text: &str) -> Result<String, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figure, unit) = text.split_at(digits);
    let factor: Option<u64> = match unit {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|factor| figure.parse::<u64>().ok()?.checked_mul(factor)).filter(|n| *n > 0);
    bytes.map(|_| text.to_owned()).ok_or_else(|| "expected a size such as 512M or 4G, below 2^64 bytes".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figure, unit) = text.split_at(digits);
    let factor_ms = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let ms = factor_ms.and_then(|f: u64| figure.parse::<u64>().ok()?.checked_mul(f)).filter(|ms| *ms > 0);
    ms.map(Duration::from_millis).ok_or_else(|| "expected a duration such as 60s, 500ms or 5m".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        for command in Cli::command().get_subcommands() {
            for option in command.get_arguments() {
                assert!(option.get_help().is_some(), "{} {} has no help", command.get_name(), option.get_id());
            }
        }
    }

    /// A shell had SIM_TIME_BUDGET set, and every sweep of `cargo sim` was cut; another had SIM_SHARD set for `cargo test`, and
    /// `cargo sim` ran all seeds. Neither was said.
    #[test]
    fn what_the_shells_environment_says_is_named_with_the_flag_for_it() {
        let with = |command, set: &'static str, value: &'static str| {
            environment_said(command, move |n| (n == set).then(|| value.to_owned()))
        };
        for (command, set, value, said) in [
            ("test", "SIM_SEED", "0x2", "SIM_SEED=0x2 is ignored here: give --seed 0x2"),
            ("test", "SIM_SEEDS", "50", "SIM_SEEDS=50 is ignored here: give --seeds 50"),
            ("test", "SIM_SEEDS", "5..9", "SIM_SEEDS=5..9 is ignored here: give --seed-range 5..9"),
            ("test", "SIM_SHARD", "1/2", "SIM_SHARD=1/2 is ignored here: give --shard 1/2"),
            ("test", "SIM_TIME_BUDGET", "9s", "SIM_TIME_BUDGET=9s is ignored here: give --time-budget 9s"),
            ("test", "SIM_KEEP_GOING", "1", "SIM_KEEP_GOING=1 is ignored here: give --keep-going"),
            ("test", "SIM_TAPE", "x", "SIM_TAPE=x is ignored here"),
            ("replay", "SIM_TAPE", "x", "SIM_TAPE=x is ignored here: give --tape x"),
            ("replay", "SIM_SHARD", "1/2", "SIM_SHARD=1/2 is ignored here"),
            ("audit", "SIM_REVERSE", "1", "SIM_REVERSE=1 is ignored here"),
            ("test", "SIM_CALM", "1", "SIM_CALM=1 is set, and holds"),
        ] {
            assert_eq!(with(command, set, value), [said]);
        }
        assert!(with("test", "SIM_DIR", "x").is_empty());
    }

    /// What one command sets and another leaves away must not come from the shell.
    #[test]
    fn all_that_a_command_line_decides_gives_way() {
        let cli = |line: &[&str]| Cli::parse_from([&["cargo sim"], line].concat()).command;
        let all = ["test", "--seeds", "2", "--shard", "1/2", "--jobs", "1", "--keep-going", "--time-budget", "1s"];
        let Command::Test(test) = cli(&all) else { panic!("it is `test`") };
        let Command::Replay(replay) = cli(&["replay", "t", "--seed", "1", "--tape", "x", "--trace", "text"]) else {
            panic!("it is `replay`")
        };
        let Command::Bisect(bisect) = cli(&["bisect", "t", "--seed", "1", "--runs", "1", "--time-budget", "1s"]) else {
            panic!("it is `bisect`")
        };
        let set =
            [test.environment(test.time_budget), replay.environment().expect("a path"), bisect.environment()].concat();
        let (audits, options) = (super::super::audit::other_environment(), ("SIM_OPTIONS", "AUDIT_PADDING"));
        for (name, _) in set.into_iter().chain(audits).filter(|(name, _)| *name != options.0 && *name != options.1) {
            assert!(decided().any(|decided| decided == name), "{name}");
        }
    }

    #[test]
    fn flags_become_the_environment_of_the_library() {
        let cli = Cli::parse_from([
            "cargo sim",
            "test",
            "-p",
            "kv",
            "lost",
            "--seed-range",
            "0x10..32",
            "--shard",
            "1/2",
            "--jobs",
            "3",
            "--keep-going",
            "--features",
            "planted other",
            "--target-dir",
            "/my target",
        ]);
        let Command::Test(test) = cli.command else { panic!("it is `test`") };
        let env = test.environment(Some(Duration::from_secs(60)));
        for (name, value) in [
            ("SIM_SEEDS", "16..32"),
            ("SIM_OPTIONS", " --features 'planted other' --target-dir '/my target'"),
            ("SIM_SHARD", "1/2"),
            ("SIM_JOBS", "3"),
            ("SIM_TIME_BUDGET", "60000ms"),
            ("SIM_KEEP_GOING", "1"),
        ] {
            assert!(env.contains(&var(name, value)), "{name}={value} in {env:?}");
        }
    }

    #[test]
    fn misuse_is_refused_with_what_was_expected() {
        for (given, expected) in [
            (vec!["test", "--seed", "x"], "decimal or 0x"),
            (vec!["test", "--seed", "-1"], "expected a seed, decimal or 0x"),
            (vec!["replay", "t", "--seed", "-1"], "expected a seed, decimal or 0x"),
            (vec!["test", "--seeds", "-1"], "at least 1"),
            (vec!["test", "--seed-range", "-1..3"], "A..B"),
            (vec!["test", "--time-budget", "-1s"], "a duration"),
            (vec!["test", "--jobs", "-1"], "1..=64"),
            (vec!["test", "--memory", "-1"], "a size such as 512M"),
            (vec!["audit", "--memory", "1T"], "a size such as 512M"),
            (vec!["audit", "--memory", "99999999999G"], "below 2^64 bytes"),
            (vec!["test", "--seeds", "0"], "at least 1"),
            (vec!["test", "--seed-range", "9..3"], "this range is empty"),
            (vec!["test", "--seed-range", "9"], "A..B"),
            (vec!["test", "--shard", "3/2"], "1 <= I <= N"),
            (vec!["test", "--time-budget", "soon"], "a duration"),
            (vec!["test", "--seed", "1", "--seeds", "2"], "cannot be used with"),
            (vec!["replay", "t"], "--seed"),
            (vec!["replay", "--seed", "1"], "<TEST>"),
        ] {
            let error = Cli::try_parse_from([&["cargo sim"], &given[..]].concat()).expect_err("misuse");
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
