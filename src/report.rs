//! What a run came to, as people and scripts read it.

use crate::json::{Json, object};
use serde::{Deserialize, Serialize};
use sim_core::choices::{Address, Stream};
use sim_core::{Instant, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// The verdict of one run, with everything needed to say why and to run it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The test's name.
    pub test: String,
    /// The seed.
    pub seed: u64,
    /// How the run ended.
    pub verdict: Verdict,
    /// Over choices and events. 0 where the process ended before it could tell.
    pub digest: u64,
    /// Virtual time at the end.
    pub now: Instant,
    /// Polls and events.
    pub events: u64,
    /// Real time.
    pub wall: Duration,
    /// Choices that were not answered with 0.
    pub deviated: u64,
    /// How often each kind of fault struck.
    pub fired: BTreeMap<String, u64>,
    /// The kinds of faults that were asked for.
    pub configured: BTreeSet<String>,
    /// The deviations in the order they were asked, if they were recorded.
    pub deviations: Vec<Deviation>,
    /// The latencies, if they were kept.
    pub latencies: Vec<Latency>,
    /// Whether addresses were randomised: what is derived from them differs in the next process.
    pub aslr: bool,
}

/// A choice that was not answered with 0, with words for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deviation {
    /// The stream's name.
    pub stream: String,
    /// The identity concerned.
    pub key: u64,
    /// The ordinal within stream and key.
    pub n: u32,
    /// What was answered; never 0.
    pub value: u64,
    /// When it was asked, ns of virtual time.
    pub at_ns: u64,
    /// The node that was acting, empty if none.
    pub node: String,
    /// The question in a word or two.
    pub what: String,
    /// The subject, in words.
    pub subject: String,
}

impl Deviation {
    /// Where the choice stands; `None` if the stream is unknown.
    pub fn address(&self) -> Option<Address> {
        Stream::from_name(&self.stream).map(|stream| Address { stream, key: self.key, n: self.n })
    }
}

/// The latencies of one link or operation, in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The link or operation.
    pub name: String,
    /// How many.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// The greatest.
    pub max_ns: u64,
}

impl Report {
    /// A verdict, and nothing known of the run.
    pub(crate) fn bare(verdict: Verdict) -> Report {
        Report {
            test: String::new(),
            seed: 0,
            verdict,
            digest: 0,
            now: Instant::ZERO,
            events: 0,
            wall: Duration::ZERO,
            deviated: 0,
            fired: BTreeMap::new(),
            configured: BTreeSet::new(),
            deviations: Vec::new(),
            latencies: Vec::new(),
            aslr: false,
        }
    }

    /// Whether the run passed.
    pub fn passed(&self) -> bool {
        self.verdict.passed()
    }

    /// The one line that scripts read:
    /// `sim: test=NAME seed=0x… verdict=… digest=… virtual=… events=… wall=…`.
    pub fn line(&self) -> String {
        let mut line = format!(
            "sim: test={} seed={:#x} verdict={} digest={:#018x} virtual={}s events={} wall={}",
            self.test,
            self.seed,
            self.verdict.name(),
            self.digest,
            self.now,
            self.events,
            wall_text(self.wall),
        );
        if self.aslr {
            line.push_str(" aslr=on");
        }
        line
    }

    /// The same names as an object of JSON, and more.
    pub fn to_json(&self) -> String {
        self.json().to_string()
    }

    pub(crate) fn json(&self) -> Json {
        let mut object = object! {
            "test": &self.test,
            "seed": format!("{:#x}", self.seed),
            "verdict": self.verdict.name(),
            "digest": format!("{:#018x}", self.digest),
            "virtual": format!("{}s", self.now),
            "events": self.events,
            "wall": wall_text(self.wall),
        };
        if self.aslr {
            object.set("aslr", "on");
        }
        if !self.passed() {
            object.set("message", self.verdict.to_string());
            object.set("fingerprint", self.verdict.fingerprint());
        }
        object
    }

    /// The table of latencies, empty if none were kept.
    pub fn latency_table(&self) -> String {
        let mut out = String::new();
        if self.latencies.is_empty() {
            return out;
        }
        let width = self.latencies.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(9);
        let mut row = |name: &str, cells: [&str; 4]| {
            let [count, p50, p99, max] = cells;
            writeln!(out, "  {name:<width$} {count:>8} {p50:>10} {p99:>10} {max:>10}").expect("a String takes all");
        };
        row("latencies", ["count", "p50", "p99", "max"]);
        for l in &self.latencies {
            let time = |ns| format!("{:.1?}", Duration::from_nanos(ns));
            row(&l.name, [&l.count.to_string(), &time(l.p50_ns), &time(l.p99_ns), &time(l.max_ns)]);
        }
        out
    }
}

/// Seconds with six digits.
pub(crate) fn wall_text(wall: Duration) -> String {
    format!("{}.{:06}s", wall.as_secs(), wall.subsec_micros())
}

/// [`Verdict`] for serde: what a child tells its parent.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict", rename_all = "kebab-case")]
pub(crate) enum VerdictText {
    Passed,
    Panicked {
        message: String,
        location: String,
    },
    CheckFailed {
        check: String,
        message: String,
    },
    Deadlock {
        blocked: Vec<String>,
    },
    Livelock {
        task: String,
        polls: u64,
    },
    Stuck {
        task: String,
    },
    Limit {
        #[serde(deserialize_with = "limit_name")]
        what: LimitName,
        limit: String,
    },
    Nondeterministic {
        difference: String,
    },
    Escaped {
        call: String,
        place: String,
    },
    Crashed {
        how: String,
    },
}

/// Named, so that serde does not take it for text borrowed from its input.
type LimitName = &'static str;

fn limit_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<LimitName, D::Error> {
    let name = String::deserialize(from)?;
    let known = ["time", "events", "memory"].into_iter().find(|n| *n == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("unknown limit {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdict: Verdict) -> Report {
        let (now, wall) = (Instant(3_214_000_000), Duration::from_micros(1500));
        Report { test: "kv::lost".into(), seed: 42, digest: 0xab, now, events: 17, wall, ..Report::bare(verdict) }
    }

    #[test]
    fn a_verdict_is_one_line_with_the_names_of_the_contract() {
        assert_eq!(
            report(Verdict::Passed).line(),
            "sim: test=kv::lost seed=0x2a verdict=passed digest=0x00000000000000ab virtual=3.214000000s events=17 \
             wall=0.001500s"
        );
    }

    #[test]
    fn json_has_the_same_names_and_the_failure() {
        let json = report(Verdict::Stuck { task: "t".into() }).json();
        for name in ["test", "seed", "verdict", "digest", "virtual", "events", "wall", "message", "fingerprint"] {
            assert!(json.get(name).is_some(), "{name} in {json}");
        }
    }

    #[test]
    fn latencies_are_a_table_with_units() {
        let mut r = report(Verdict::Passed);
        assert_eq!(r.latency_table(), "");
        let latency =
            Latency { name: "fsync kv2".into(), count: 3, p50_ns: 1_500, p99_ns: 2_000_000, max_ns: 3_000_000_000 };
        r.latencies.push(latency);
        let table = r.latency_table();
        assert!(table.contains("fsync kv2        3      1.5µs      2.0ms       3.0s"), "{table}");
    }
}
