//! Judges a recorded history: was any acknowledged write lost, did any read go back in time? Pure: no clocks, no I/O.
//!
//! Times are compared strictly: of two operations, one came before the other only if it ended before the other began.
//! An operation that did not succeed may have taken effect at any time after it began, or never; it proves nothing, but
//! reads may return what it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::register::Version;

/// One operation of one client, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The client's identity.
    pub client: u64,
    /// The key.
    pub key: String,
    /// Reading or writing.
    pub kind: Kind,
    /// What a write wrote; what a successful read returned, if there was anything. No two writes write the same value.
    pub value: Option<String>,
    /// The version that a successful operation returned.
    pub version: Option<Version>,
    /// When it began, on one clock for all clients of a history.
    pub start: Duration,
    /// When it ended, on the same clock.
    pub end: Duration,
    /// Whether it succeeded: a write was acknowledged, a read was answered.
    pub ok: bool,
}

/// Whether an operation reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A read of one key.
    Read,
    /// A write of one key.
    Write,
}

/// Something that a correct store never does. The text begins with the name of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// `lost write`: a read, or the read inside a write, missed an acknowledged write that came before it.
    LostWrite {
        /// The acknowledged write.
        write: Op,
        /// The operation that missed it.
        by: Op,
    },
    /// `stale read`: a read, or the read inside a write, missed what an earlier read had returned.
    StaleRead {
        /// The read that returned the newer value.
        earlier: Op,
        /// The operation that missed it.
        by: Op,
    },
    /// `applied twice`: one write took effect under two versions.
    AppliedTwice {
        /// An operation that found the value under one version.
        one: Op,
        /// An operation that found it under another.
        other: Op,
    },
    /// `phantom read`: a read returned what nobody had begun to write to that key.
    PhantomRead {
        /// The read.
        read: Op,
    },
    /// `thin write`: fewer than a majority of the replicas hold an acknowledged write, or a newer one.
    ThinWrite {
        /// The acknowledged write.
        write: Op,
        /// How many replicas hold it.
        holders: usize,
        /// How many replicas there are.
        replicas: usize,
    },
}

/// Every violation in a history, in the order of the operations that show them; at most one for each operation.
pub fn history(ops: &[Op]) -> Vec<Violation> {
    let mut by_key: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        by_key.entry(&op.key).or_default().push(op);
    }
    let mut found: Vec<(Duration, Violation)> = by_key.into_values().flat_map(one_key).collect();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, violation)| violation).collect()
}

fn one_key(ops: Vec<&Op>) -> Vec<(Duration, Violation)> {
    let begun: BTreeMap<&str, Duration> = ops
        .iter()
        .filter(|op| op.kind == Kind::Write)
        .filter_map(|op| Some((op.value.as_deref()?, op.start)))
        .collect();
    let mut by_start: Vec<&Op> = ops.into_iter().filter(|op| op.ok && op.version.is_some()).collect();
    let mut by_end = by_start.clone();
    by_start.sort_by_key(|op| op.start);
    by_end.sort_by_key(|op| op.end);

    let mut ended = by_end.into_iter().peekable();
    // The newest of the operations that ended before the one looked at began, and the newest write among them.
    let (mut newest, mut newest_write): (Option<&Op>, Option<&Op>) = (None, None);
    let mut seen_under: BTreeMap<&str, &Op> = BTreeMap::new();
    let mut found = Vec::new();
    for op in by_start {
        while let Some(before) = ended.next_if(|before| before.end < op.start) {
            if newest.is_none_or(|held| before.version > held.version) {
                newest = Some(before);
            }
            if before.kind == Kind::Write && newest_write.is_none_or(|held| before.version > held.version) {
                newest_write = Some(before);
            }
        }
        // A read may return the newest version found before it; a write must take one above it.
        let missed = |earlier: &&Op| match op.kind {
            Kind::Read => op.version < earlier.version,
            Kind::Write => op.version <= earlier.version,
        };
        let same_value = op.value.as_deref().and_then(|value| seen_under.get(value).copied());
        let violation = if let Some(one) = same_value.filter(|one| one.version != op.version) {
            Some(Violation::AppliedTwice { one: one.clone(), other: op.clone() })
        } else if let Some(write) = newest_write.filter(missed) {
            Some(Violation::LostWrite { write: write.clone(), by: op.clone() })
        } else if let Some(earlier) = newest.filter(missed) {
            Some(Violation::StaleRead { earlier: earlier.clone(), by: op.clone() })
        } else if op.value.as_deref().is_some_and(|value| begun.get(value).is_none_or(|start| *start > op.end)) {
            Some(Violation::PhantomRead { read: op.clone() })
        } else {
            None
        };
        found.extend(violation.map(|violation| (op.start, violation)));
        if let Some(value) = &op.value {
            seen_under.entry(value).or_insert(op);
        }
    }
    found
}

/// Every acknowledged write of a history that fewer than a majority of the replicas hold: `replicas` is what each
/// of them says it holds itself, at any time after the writes ended.
///
/// Stricter than [`history`]: a write can be too thin to survive the next fault and still be found by lucky reads.
pub fn held(ops: &[Op], replicas: &[BTreeMap<String, Version>]) -> Vec<Violation> {
    let acked = ops.iter().filter(|op| op.ok && op.kind == Kind::Write);
    let thin = acked.filter_map(|write| {
        let holds = |held: &&BTreeMap<String, Version>| held.get(&write.key).copied() >= write.version;
        let holders = replicas.iter().filter(holds).count();
        let replicas = replicas.len();
        (holders <= replicas / 2).then(|| Violation::ThinWrite { write: write.clone(), holders, replicas })
    });
    thin.collect()
}

/// The keys and values of every acknowledged write.
pub fn acked(ops: &[Op]) -> BTreeSet<(String, String)> {
    let acked = ops.iter().filter(|op| op.ok && op.kind == Kind::Write);
    acked.filter_map(|op| Some((op.key.clone(), op.value.clone()?))).collect()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let did = match (self.kind, self.ok) {
            (Kind::Read, true) => "read",
            (Kind::Read, false) => "tried to read",
            (Kind::Write, true) => "wrote",
            (Kind::Write, false) => "tried to write",
        };
        write!(f, "client {} {did} {} = ", self.client, self.key)?;
        match &self.value {
            Some(value) => write!(f, "{value:?}")?,
            None => write!(f, "nothing")?,
        }
        if let Some(version) = self.version {
            write!(f, " (version {version})")?;
        }
        write!(f, " from {} to {} ms", Millis(self.start), Millis(self.end))
    }
}

/// Milliseconds to three places.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_millis(), self.0.as_micros() % 1000)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostWrite { write, by } => write!(f, "lost write: {by}, though {write}"),
            Self::StaleRead { earlier, by } => write!(f, "stale read: {by}, though {earlier}"),
            Self::AppliedTwice { one, other } => write!(f, "applied twice: {other}, though {one}"),
            Self::PhantomRead { read } => write!(f, "phantom read: {read}, which nobody wrote"),
            Self::ThinWrite { write, holders, replicas } => {
                write!(f, "thin write: {holders} of {replicas} replicas hold what {write}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Writer;

    fn version(counter: u64) -> Option<Version> {
        Some(Version { counter, writer: Writer { client: 1, sequence: counter } })
    }

    /// A successful operation on key `k` from `start` to `end` ms; counter 0 stands for a key never written.
    fn op(kind: Kind, value: &str, counter: u64, start: u64, end: u64) -> Op {
        Op {
            client: 1,
            key: "k".into(),
            kind,
            value: (counter > 0).then(|| value.into()),
            version: if counter > 0 { version(counter) } else { Some(Version::default()) },
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            ok: true,
        }
    }

    fn read(value: &str, counter: u64, start: u64, end: u64) -> Op {
        op(Kind::Read, value, counter, start, end)
    }

    fn write(value: &str, counter: u64, start: u64, end: u64) -> Op {
        op(Kind::Write, value, counter, start, end)
    }

    /// A write that was not acknowledged.
    fn unseen(value: &str, start: u64, end: u64) -> Op {
        Op { ok: false, version: None, ..write(value, 1, start, end) }
    }

    /// Checks the history as it is and backwards, since the order it was recorded in means nothing.
    fn check(expected: &[&str], mut ops: Vec<Op>) {
        for _ in 0..2 {
            let found: Vec<String> = history(&ops).iter().map(ToString::to_string).collect();
            let names: Vec<&str> = found.iter().map(|text| text.split(':').next().unwrap()).collect();
            assert_eq!(names, expected, "{found:#?}");
            ops.reverse();
        }
    }

    #[test]
    fn reads_that_follow_the_writes_pass() {
        check(&[], vec![]);
        check(
            &[],
            vec![read("", 0, 0, 1), write("a", 1, 2, 3), read("a", 1, 4, 5), write("b", 2, 6, 7), read("b", 2, 8, 9)],
        );
    }

    #[test]
    fn a_read_beside_a_write_may_see_either_value() {
        check(&[], vec![write("a", 1, 0, 1), write("b", 2, 5, 9), read("a", 1, 6, 7)]);
        check(&[], vec![write("a", 1, 0, 1), write("b", 2, 5, 9), read("b", 2, 6, 7)]);
        check(&[], vec![write("a", 1, 0, 1), write("b", 2, 5, 9), read("a", 1, 9, 10)]);
    }

    #[test]
    fn an_acknowledged_write_that_a_later_read_misses_is_lost() {
        check(&["lost write"], vec![write("a", 1, 0, 1), write("b", 2, 2, 3), read("a", 1, 4, 5)]);
        check(&["lost write"], vec![write("a", 1, 0, 1), read("", 0, 4, 5)]);
    }

    #[test]
    fn a_later_write_that_missed_an_acknowledged_one_shows_it_lost() {
        let mut second = write("b", 1, 2, 3);
        second.version = Some(Version { counter: 1, writer: Writer { client: 0, sequence: 1 } });
        check(&["lost write"], vec![write("a", 1, 0, 1), second]);
    }

    #[test]
    fn a_write_nobody_acknowledged_may_vanish_until_it_was_read() {
        check(&[], vec![write("a", 1, 0, 1), unseen("b", 2, 3), read("a", 1, 4, 5)]);
        check(&[], vec![write("a", 1, 0, 1), unseen("b", 2, 3), read("b", 2, 40, 50)]);
        check(&["stale read"], vec![write("a", 1, 0, 1), unseen("b", 2, 3), read("b", 2, 4, 5), read("a", 1, 6, 7)]);
        check(&[], vec![write("a", 1, 0, 1), unseen("b", 2, 3), read("b", 2, 4, 6), read("a", 1, 5, 7)]);
    }

    #[test]
    fn one_value_under_two_versions_was_applied_twice() {
        check(&["applied twice"], vec![write("a", 3, 0, 9), read("a", 1, 2, 3), write("b", 2, 4, 5)]);
    }

    #[test]
    fn a_value_nobody_began_to_write_is_a_phantom() {
        check(&["phantom read"], vec![read("a", 1, 0, 1)]);
        check(&["phantom read"], vec![read("a", 1, 0, 1), unseen("a", 2, 3)]);
        let elsewhere = Op { key: "other".into(), ..write("a", 1, 0, 1) };
        check(&["phantom read"], vec![elsewhere, read("a", 1, 2, 3)]);
    }

    #[test]
    fn keys_are_judged_apart() {
        let other = Op { key: "other".into(), ..write("b", 9, 0, 1) };
        check(&[], vec![other, write("a", 1, 2, 3), read("a", 1, 4, 5)]);
    }

    #[test]
    fn an_acknowledged_write_needs_a_majority_of_holders() {
        let replica = |counter| version(counter).map(|version| ("k".to_owned(), version)).into_iter().collect();
        let thin = |ops: &[Op], counters: [u64; 3]| {
            let replicas: Vec<BTreeMap<String, Version>> = counters.map(replica).into();
            held(ops, &replicas).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(thin(&[write("a", 5, 0, 1)], [5, 4, 6]).is_empty());
        assert!(thin(&[unseen("a", 0, 1)], [0, 0, 0]).is_empty());
        let found = thin(&[write("a", 5, 0, 1)], [4, 4, 6]);
        assert!(found[0].starts_with("thin write: 1 of 3 replicas"), "{found:?}");
    }
}
