//! How a run ended.

use std::fmt;

/// The outcome of a run. Everything but [`Passed`](Verdict::Passed) is a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The test returned.
    Passed,
    /// The test, or the program of a node, panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column` of the panic, empty if unknown.
        location: String,
    },
    /// A named check of the test did not hold.
    CheckFailed {
        /// The check's name.
        check: String,
        /// What was found.
        message: String,
    },
    /// Nothing is ready and nothing is timed, but the test has not returned.
    Deadlock {
        /// One line for each blocked task: what it is, where it was spawned, what it waits for.
        blocked: Vec<String>,
    },
    /// Too many polls at one instant: tasks wake each other for ever.
    Livelock {
        /// The task that ran last.
        task: String,
        /// How many polls were made without time passing.
        polls: u64,
    },
    /// One poll does not end: found from outside, by a watchdog in real time. Or a thread does nothing but yield.
    Stuck {
        /// The task that was being polled, or the thread.
        task: String,
    },
    /// A limit was reached.
    Limit {
        /// Which: `time`, `events` or `memory`.
        what: &'static str,
        /// The limit in words.
        limit: String,
    },
    /// Run twice, the seed gave two different runs.
    Nondeterministic {
        /// Where they first differ, as far as is known.
        difference: String,
    },
    /// The program reached past the simulator.
    Escaped {
        /// The call, such as `pthread_create` or `open("/tmp/x", O_WRONLY)`.
        call: String,
        /// The place, as far as is known.
        place: String,
    },
    /// The process of the run ended by a signal or by calling `exit`.
    Crashed {
        /// How.
        how: String,
    },
}

impl Verdict {
    /// The one word that verdict lines and JSON use.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Panicked { .. } => "panicked",
            Verdict::CheckFailed { .. } => "check-failed",
            Verdict::Deadlock { .. } => "deadlock",
            Verdict::Livelock { .. } => "livelock",
            Verdict::Stuck { .. } => "stuck",
            Verdict::Limit { .. } => "limit",
            Verdict::Nondeterministic { .. } => "nondeterministic",
            Verdict::Escaped { .. } => "escaped",
            Verdict::Crashed { .. } => "crashed",
        }
    }

    /// Whether the run passed.
    pub fn passed(&self) -> bool {
        *self == Verdict::Passed
    }

    /// What makes two failures the same failure: the kind, the file, and the message up to its first figure or list. Not
    /// the line, which an edit moves, and not the figures, which every seed has its own of.
    pub fn fingerprint(&self) -> String {
        let detail = match self {
            Verdict::Passed => String::new(),
            Verdict::Panicked { message, location } => {
                format!("{} {}", location.split(':').next().unwrap_or(""), stem(message))
            }
            Verdict::CheckFailed { check, .. } => check.clone(),
            Verdict::Deadlock { .. } | Verdict::Nondeterministic { .. } => String::new(),
            Verdict::Livelock { task, .. } | Verdict::Stuck { task } => stem(task),
            Verdict::Limit { what, .. } => (*what).to_owned(),
            Verdict::Escaped { call, .. } => stem(call),
            Verdict::Crashed { how } => how.clone(),
        };
        format!("{} {detail}", self.name()).trim_end().to_owned()
    }
}

/// The first line of a message up to its first digit, quote or bracket.
fn stem(message: &str) -> String {
    let line = message.lines().next().unwrap_or("");
    let end = line.find(|c: char| c.is_ascii_digit() || "\"'`([{".contains(c)).unwrap_or(line.len());
    line[..end].trim_end().to_owned()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed => write!(f, "passed"),
            Verdict::Panicked { message, location } if location.is_empty() => write!(f, "panicked: {message}"),
            Verdict::Panicked { message, location } => write!(f, "panicked at {location}: {message}"),
            Verdict::CheckFailed { check, message } => write!(f, "check failed: {check}: {message}"),
            Verdict::Deadlock { blocked } => {
                write!(f, "deadlock: nothing is ready and nothing is timed")?;
                blocked.iter().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Verdict::Livelock { task, polls } => {
                write!(f, "livelock: {polls} polls without time passing; the last of {task}")
            }
            Verdict::Stuck { task } => write!(f, "stuck: one poll does not end: {task}"),
            Verdict::Limit { what, limit } => write!(f, "limit: {what}: {limit}"),
            Verdict::Nondeterministic { difference } => write!(f, "nondeterministic: {difference}"),
            Verdict::Escaped { call, place } if place.is_empty() => write!(f, "escaped: {call}"),
            Verdict::Escaped { call, place } => write!(f, "escaped: {call} at {place}"),
            Verdict::Crashed { how } => write!(f, "crashed: {how}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_forgets_lines_and_figures() {
        let at = |message: &str, location: &str| {
            Verdict::Panicked { message: message.into(), location: location.into() }.fingerprint()
        };
        assert_eq!(at("lost write: key 7 [..]", "src/a.rs:10:5"), "panicked src/a.rs lost write: key");
        assert_eq!(at("lost write: key 9", "src/a.rs:99:1"), at("lost write: key 7 [..]", "src/a.rs:10:5"));
        assert_ne!(at("stale read: key 9", "src/a.rs:99:1"), at("lost write: key 7", "src/a.rs:10:5"));
    }
}
