//! What the environment asks of a test: the variables that `cargo sim` sets and that people set by hand.
//!
//! Everything is checked before anything runs: a variable that cannot be understood is misuse, named with what was given
//! and what was expected, and never replaced by a default.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Misuse: something was given that cannot be understood, or that does not fit. Nothing was run or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// What is to be done with the test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Run many seeds and report the failures.
    #[default]
    Sweep,
    /// Run one seed, or a tape, and show it.
    Replay,
    /// Run every seed and print its digest, for comparison with another process. No seed is run twice, none is kept.
    Digests,
    /// Find the few deviations that a failing seed needs.
    Bisect,
}

/// In which shape a trace is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceShape {
    /// Columns for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Columns, with a line for each poll: what an audit compares.
    Polls,
}

/// All of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Orders {
    /// `SIM_MODE`.
    pub mode: Mode,
    /// `SIM_SEED` or `SIM_SEEDS`; `None` leaves it to the test.
    pub seeds: Option<Range<u64>>,
    /// Whether `SIM_SEED` gave them: one seed, run in place.
    pub one_seed: bool,
    /// `SIM_SHARD`: only seeds that are `index` modulo `count`.
    pub shard: Option<Shard>,
    /// `SIM_TAPE`.
    pub tape: Option<PathBuf>,
    /// `SIM_TRACE`.
    pub trace: Option<TraceShape>,
    /// `SIM_JOBS`.
    pub jobs: Option<usize>,
    /// `SIM_AUDIT_PERCENT`: how many of a hundred seeds of a sweep are run twice.
    pub audit_percent: u32,
    /// `SIM_KEEP_GOING`.
    pub keep_going: bool,
    /// `SIM_TIME_BUDGET`: no new seed is begun after so much real time.
    pub time_budget: Option<Duration>,
    /// `SIM_WATCHDOG`: how long one poll may take.
    pub watchdog: Duration,
    /// `SIM_MEMORY`: most memory that a run touches; `None` leaves it to the test.
    pub memory_bytes: Option<u64>,
    /// `SIM_RESULTS`: a file that JSON lines are appended to, or a socket they are sent to.
    pub results: Option<PathBuf>,
    /// `SIM_DIR`: where `sim-regressions` and `sim-results` are kept; beside the package's manifest unless given.
    pub folder: Option<PathBuf>,
    /// `SIM_REVERSE`: the seeds in falling order.
    pub reverse: bool,
    /// `SIM_BISECT_RUNS`: most runs of one minimisation.
    pub bisect_runs: u32,
    /// `SIM_BISECT_TIME`: most real time of one minimisation.
    pub bisect_time: Duration,
    /// `SIM_CALM`: every answer is 0. One run unless seeds are given, and those decide nothing but entropy.
    pub calm: bool,
    /// `SIM_INPLACE`: no second process, for a debugger.
    pub in_place: bool,
    /// `SIM_LOG`: which of the program's own log lines become records of the trace, as `RUST_LOG` says it. `info` unless given.
    pub log: Targets,
}

/// One part of a sweep that several machines share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u64,
    /// How many parts.
    pub count: u64,
}

impl Orders {
    /// Reads the environment.
    pub fn from_env() -> Result<Orders, Misuse> {
        Orders::from_lookup(|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(Misuse(format!("{name} is not valid UTF-8"))),
        })
    }

    /// Reads variables through `get`.
    pub fn from_lookup(get: impl Fn(&str) -> Result<Option<String>, Misuse>) -> Result<Orders, Misuse> {
        let parsed = |name: &'static str| {
            let get = &get;
            move || get(name).map(|value| value.map(|v| Given { name, value: v }))
        };
        let mode = parsed("SIM_MODE")()?.map(|g| g.mode()).transpose()?.unwrap_or_default();
        let one = parsed("SIM_SEED")()?.map(|g| g.seed()).transpose()?;
        let many = parsed("SIM_SEEDS")()?.map(|g| g.seeds()).transpose()?;
        if let (Some(one), Some(many)) = (one, &many) {
            return Err(Misuse(format!(
                "SIM_SEED={one} and SIM_SEEDS={}..{} are both set: expected one of them",
                many.start, many.end
            )));
        }
        let tape = parsed("SIM_TAPE")()?.map(|g| PathBuf::from(g.value));
        if mode == Mode::Bisect && one.is_none() {
            return Err(Misuse("SIM_MODE=bisect needs SIM_SEED: which failing seed is to be minimised".into()));
        }
        let orders = Orders {
            mode,
            seeds: one.map(|s| s..s.saturating_add(1)).or(many),
            one_seed: one.is_some(),
            shard: parsed("SIM_SHARD")()?.map(|g| g.shard()).transpose()?,
            tape,
            trace: parsed("SIM_TRACE")()?.map(|g| g.trace()).transpose()?,
            jobs: parsed("SIM_JOBS")()?.map(|g| g.between(1, MOST_JOBS as u64)).transpose()?.map(|n| n as usize),
            audit_percent: parsed("SIM_AUDIT_PERCENT")()?.map(|g| g.between(0, 100)).transpose()?.unwrap_or(2) as u32,
            keep_going: parsed("SIM_KEEP_GOING")()?.map(|g| g.flag()).transpose()?.unwrap_or(false),
            time_budget: parsed("SIM_TIME_BUDGET")()?.map(|g| g.duration()).transpose()?,
            watchdog: parsed("SIM_WATCHDOG")()?.map(|g| g.duration()).transpose()?.unwrap_or(Duration::from_secs(10)),
            memory_bytes: parsed("SIM_MEMORY")()?.map(|g| g.size()).transpose()?,
            results: parsed("SIM_RESULTS")()?.map(|g| PathBuf::from(g.value)),
            folder: parsed("SIM_DIR")()?.map(|g| PathBuf::from(g.value)),
            reverse: parsed("SIM_REVERSE")()?.map(|g| g.flag()).transpose()?.unwrap_or(false),
            bisect_runs: parsed("SIM_BISECT_RUNS")()?
                .map(|g| g.between(1, u32::MAX as u64))
                .transpose()?
                .unwrap_or(2000) as u32,
            bisect_time: parsed("SIM_BISECT_TIME")()?
                .map(|g| g.duration())
                .transpose()?
                .unwrap_or(Duration::from_secs(60)),
            calm: parsed("SIM_CALM")()?.map(|g| g.flag()).transpose()?.unwrap_or(false),
            in_place: parsed("SIM_INPLACE")()?.map(|g| g.flag()).transpose()?.unwrap_or(false),
            log: parsed("SIM_LOG")()?
                .map(|g| g.log())
                .transpose()?
                .unwrap_or(Targets::new().with_default(LevelFilter::INFO)),
        };
        let other = if orders.mode == Mode::Bisect {
            Some("SIM_MODE=bisect")
        } else {
            orders.tape.as_ref().map(|_| "SIM_TAPE")
        };
        if let Some(other) = other.filter(|_| orders.calm) {
            return Err(Misuse(format!("SIM_CALM=1 and {other} are both set: the calm run has its answers, all 0")));
        }
        if orders.in_place && orders.calm {
            return Err(Misuse("SIM_INPLACE=1 runs a seed: expected no SIM_CALM beside it".into()));
        }
        if orders.in_place && !orders.one_seed {
            return Err(Misuse("SIM_INPLACE=1 needs SIM_SEED: one process runs one seed".into()));
        }
        Ok(orders)
    }

    /// Where files about a test of the package at `manifest_dir` are kept.
    pub fn folder(&self, manifest_dir: &str) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| PathBuf::from(manifest_dir))
    }

    /// Whether one run is wanted, in place: a seed or a tape, and nothing else.
    pub fn single(&self) -> bool {
        matches!(self.mode, Mode::Sweep | Mode::Replay) && (self.one_seed || self.tape.is_some())
    }
}

/// Tables are made for so many jobs, whatever the number used, so that addresses do not depend on it.
pub const MOST_JOBS: usize = 64;

struct Given {
    name: &'static str,
    value: String,
}

impl Given {
    fn misuse(&self, expected: &str) -> Misuse {
        Misuse(format!("{}={}: expected {expected}", self.name, self.value))
    }

    fn seed(&self) -> Result<u64, Misuse> {
        parse_seed(&self.value).ok_or_else(|| self.misuse("a seed, decimal or 0x…, below 2^64"))
    }

    fn log(&self) -> Result<Targets, Misuse> {
        self.value.parse().map_err(|e| self.misuse(&format!("what to log, as in `info,my_crate::part=debug`: {e}")))
    }

    fn seeds(&self) -> Result<Range<u64>, Misuse> {
        let expected = "how many seeds, or a range A..B with A < B, decimal or 0x…";
        let range = match self.value.split_once("..") {
            Some((a, b)) => parse_seed(a).zip(parse_seed(b)).map(|(a, b)| a..b),
            None => parse_seed(&self.value).map(|n| 0..n),
        };
        range.filter(|r| r.start < r.end).ok_or_else(|| self.misuse(expected))
    }

    fn shard(&self) -> Result<Shard, Misuse> {
        let parse = |(i, n): (&str, &str)| Some((i.parse::<u64>().ok()?, n.parse::<u64>().ok()?));
        match self.value.split_once('/').and_then(parse) {
            Some((i, n)) if 1 <= i && i <= n => Ok(Shard { index: i - 1, count: n }),
            _ => Err(self.misuse("I/N with 1 <= I <= N")),
        }
    }

    fn mode(&self) -> Result<Mode, Misuse> {
        match self.value.as_str() {
            "sweep" => Ok(Mode::Sweep),
            "replay" => Ok(Mode::Replay),
            "digests" => Ok(Mode::Digests),
            "bisect" => Ok(Mode::Bisect),
            _ => Err(self.misuse("sweep, replay, digests or bisect")),
        }
    }

    fn trace(&self) -> Result<TraceShape, Misuse> {
        match self.value.as_str() {
            "text" => Ok(TraceShape::Text),
            "json" => Ok(TraceShape::Json),
            "polls" => Ok(TraceShape::Polls),
            _ => Err(self.misuse("text, json or polls")),
        }
    }

    fn flag(&self) -> Result<bool, Misuse> {
        match self.value.as_str() {
            "1" => Ok(true),
            "0" | "" => Ok(false),
            _ => Err(self.misuse("1 or 0")),
        }
    }

    fn between(&self, least: u64, most: u64) -> Result<u64, Misuse> {
        let n = self.value.parse().ok().filter(|n| (least..=most).contains(n));
        n.ok_or_else(|| self.misuse(&format!("an integer from {least} to {most}")))
    }

    fn size(&self) -> Result<u64, Misuse> {
        parse_size(&self.value).ok_or_else(|| self.misuse("a size such as 512M or 4G"))
    }

    fn duration(&self) -> Result<Duration, Misuse> {
        parse_duration(&self.value).ok_or_else(|| self.misuse("a duration such as 60s, 500ms or 5m"))
    }
}

/// A seed: decimal or `0x…`.
pub fn parse_seed(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A duration such as `60s`; a bare integer is seconds. `None` for zero too.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figure, unit) = text.split_at(digits);
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let ms = figure.parse::<u64>().ok()?.checked_mul(factor_ms)?;
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// A size in bytes such as `512M`; a bare integer is bytes. `None` for zero too.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figure, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    figure.parse::<u64>().ok()?.checked_mul(factor).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Orders, Misuse> {
        Orders::from_lookup(|name| Ok(vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())))
    }

    #[test]
    fn seeds_are_decimal_or_hexadecimal_counts_or_ranges() {
        assert_eq!(read(&[("SIM_SEEDS", "10")]).expect("good").seeds, Some(0..10));
        assert_eq!(read(&[("SIM_SEEDS", "0x10..0x20")]).expect("good").seeds, Some(16..32));
        assert_eq!(read(&[("SIM_SEED", "0x2a")]).expect("good").seeds, Some(42..43));
        assert_eq!(read(&[]).expect("good").seeds, None);
        assert_eq!(read(&[("SIM_SHARD", "2/4")]).expect("good").shard, Some(Shard { index: 1, count: 4 }));
    }

    #[test]
    fn misuse_names_what_was_given_and_what_was_expected() {
        for (vars, given, expected) in [
            (vec![("SIM_SEED", "seven")], "SIM_SEED=seven", "decimal or 0x"),
            (vec![("SIM_SEED", "-1")], "SIM_SEED=-1", "decimal or 0x"),
            (vec![("SIM_SEED", "18446744073709551616")], "SIM_SEED=18446744073709551616", "below 2^64"),
            (vec![("SIM_SEEDS", "5..5")], "SIM_SEEDS=5..5", "A < B"),
            (vec![("SIM_SEEDS", "9..3")], "SIM_SEEDS=9..3", "A < B"),
            (vec![("SIM_SEEDS", "0")], "SIM_SEEDS=0", "how many seeds"),
            (vec![("SIM_SEEDS", "")], "SIM_SEEDS=", "how many seeds"),
            (vec![("SIM_SHARD", "0/4")], "SIM_SHARD=0/4", "1 <= I <= N"),
            (vec![("SIM_SHARD", "5/4")], "SIM_SHARD=5/4", "1 <= I <= N"),
            (vec![("SIM_JOBS", "0")], "SIM_JOBS=0", "from 1 to 64"),
            (vec![("SIM_TRACE", "xml")], "SIM_TRACE=xml", "text, json or polls"),
            (vec![("SIM_WATCHDOG", "fast")], "SIM_WATCHDOG=fast", "a duration"),
            (vec![("SIM_MEMORY", "much")], "SIM_MEMORY=much", "a size"),
            (vec![("SIM_MEMORY", "0G")], "SIM_MEMORY=0G", "a size"),
            (vec![("SIM_KEEP_GOING", "yes")], "SIM_KEEP_GOING=yes", "1 or 0"),
            (vec![("SIM_LOG", "kv=loud")], "SIM_LOG=kv=loud", "info,my_crate::part=debug"),
            (vec![("SIM_SEED", "1"), ("SIM_SEEDS", "2")], "SIM_SEED=1", "one of them"),
            (vec![("SIM_MODE", "bisect")], "SIM_MODE=bisect", "SIM_SEED"),
            (vec![("SIM_INPLACE", "1")], "SIM_INPLACE=1", "SIM_SEED"),
        ] {
            let message = read(&vars).expect_err(given).to_string();
            assert!(message.contains(given) && message.contains(expected), "{message}");
        }
    }
}
