//! A deviation in plain words.

use crate::report::Deviation;
use sim_core::Instant;

/// One line: when, where, and what the run did that the calm run does not.
pub(super) fn describe(d: &Deviation) -> String {
    let place = match d.node.as_str() {
        "" => String::new(),
        node => format!(", node {node}"),
    };
    format!("at {}{place}: {}", seconds(d.at_ns), event(d))
}

fn event(d: &Deviation) -> String {
    let value = d.value;
    let about = |nobody: &str| if d.subject.is_empty() { nobody.to_owned() } else { d.subject.clone() };
    match d.what.as_str() {
        "hold" if value == 1 => format!("{} is ready, and the next wake passes it", about("a task")),
        "hold" => format!("{} is ready, and the next {value} wakes pass it", about("a task")),
        "slow task" => format!("{} is slow: {} wakes pass each of its own", about("a task"), 1u64 << value.min(63)),
        "select! branch" => format!("select! in {} looks at its branch {} first", about("a task"), value + 1),
        "planned fault" => format!("fault: {}", about("of an unknown kind")),
        "packet" => format!("a packet of {} is lost, late or doubled ({value:#x})", about("some link")),
        "choice" => format!("the test's choice `{}` is {value}", about("?")),
        // Everything else speaks for itself: whether something happens, or how much of it.
        what if d.subject.is_empty() => format!("{what}: {value}"),
        what if value == 1 => format!("{what}: {}", d.subject),
        what => format!("{what}: {} ({value})", d.subject),
    }
}

/// `3.214 s`, with as many digits as are not zero.
fn seconds(at_ns: u64) -> String {
    let text = Instant(at_ns).to_string();
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{} s", if text.is_empty() { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(what: &str, subject: &str, value: u64, node: &str) -> String {
        describe(&Deviation {
            stream: "net".into(),
            key: 0,
            n: 0,
            value,
            at_ns: 3_214_000_000,
            node: node.into(),
            what: what.into(),
            subject: subject.into(),
        })
    }

    #[test]
    fn deviations_read_as_sentences() {
        for (line, expected) in [
            (
                words("hold", "kv::serve", 31, "kv1"),
                "at 3.214 s, node kv1: kv::serve is ready, and the next 31 wakes pass it",
            ),
            (words("planned fault", "2s kill kv0 1s", 7, ""), "at 3.214 s: fault: 2s kill kv0 1s"),
            (
                words("whether an fsync lies", "disk kv0 wal", 1, "kv0"),
                "at 3.214 s, node kv0: whether an fsync lies: disk kv0 wal",
            ),
            (words("how rough a link is", "", 3, ""), "at 3.214 s: how rough a link is: 3"),
        ] {
            assert_eq!(line, expected);
        }
        assert_eq!([seconds(0), seconds(10_000_000_000), seconds(1)], ["0 s", "10 s", "0.000000001 s"]);
    }
}
