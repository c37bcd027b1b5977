//! A deviation in plain words.

use crate::plan::{DiskTrouble, Fault, Kind, Planned};
use crate::report::Deviation;
use sim_core::{Instant, nanos};
use std::time::Duration;

/// One line: when, where, and what the run did that the calm run does not.
pub(super) fn describe(d: &Deviation) -> String {
    if let Some(Planned { at, fault }) = planned(d) {
        return format!("at {}: {}", seconds(nanos(at)), fault_in_words(&fault));
    }
    let place = match d.node.as_str() {
        "" => String::new(),
        node => format!(", node {node}"),
    };
    format!("at {}{place}: {}", seconds(d.at_ns), event(d))
}

/// When it shows in the run, ns: of a planned fault when it strikes, not when it was drawn.
pub(super) fn shows_at_ns(d: &Deviation) -> u64 {
    planned(d).map_or(d.at_ns, |p| nanos(p.at))
}

fn planned(d: &Deviation) -> Option<Planned> {
    if d.what == "planned fault" { d.subject.parse().ok() } else { None }
}

fn fault_in_words(fault: &Fault) -> String {
    // A side of several nodes in brackets, so that one sees where it ends.
    let sides = |nodes: &[String]| if nodes.len() == 1 { nodes[0].clone() } else { format!("({})", nodes.join(", ")) };
    let span = |d: Duration| seconds(nanos(d));
    let what = match &fault.kind {
        Kind::Partition { a, b } => format!("no packet passes between {} and {}", sides(a), sides(b)),
        Kind::OneWay { from, to } => format!("no packet from {} reaches {}", sides(from), sides(to)),
        Kind::Delay { from, to, by } => format!("packets from {from} to {to} are {} late", span(*by)),
        Kind::Loss { from, to, ratio } => {
            format!("{} of {} packets from {from} to {to} are lost", ratio.num(), ratio.den())
        }
        Kind::Kill { node } => format!("{node} is killed (kill -9), and down"),
        Kind::PowerCycle { node } => format!("{node} loses its power, and is down"),
        Kind::PowerCut { node, operation } => {
            format!("{node} loses its power within operation {operation} of its disk, and is down")
        }
        Kind::Pause { node } => format!("{node} stands still"),
        Kind::ClockBump { node, by_ns } => {
            let way = if *by_ns < 0 { "back" } else { "forward" };
            format!("the wall clock of {node} jumps {way} by {}", seconds(by_ns.unsigned_abs()))
        }
        Kind::ClockDrift { node, ppm } => format!("the wall clock of {node} drifts by {ppm} ppm"),
        Kind::DiskError { node, ratio } => {
            format!("{} of {} operations of the disk of {node} fail with EIO", ratio.num(), ratio.den())
        }
        Kind::Disk { node, trouble, ratio } => {
            let met = match trouble {
                DiskTrouble::OpenError => "opens fail with EIO",
                DiskTrouble::Short => "reads and writes are cut short",
                DiskTrouble::Interrupt => "calls fail with EINTR",
                DiskTrouble::Stall => "operations stall",
                DiskTrouble::SyncFull => "fsyncs fail with ENOSPC",
                DiskTrouble::Lie => "fsyncs lie",
                DiskTrouble::Latent => "reads make a page unreadable",
                DiskTrouble::Rot => "reads meet a bit that flipped",
                DiskTrouble::Astray => "fsyncs write a page to a wrong place",
            };
            format!("on the disk of {node} {} of {} {met}", ratio.num(), ratio.den())
        }
        Kind::Wipe { node } => format!("{node} loses its power and its disk, and is down"),
        Kind::SwapDisks { a, b } => format!("{a} and {b} lose their power, get each other's disks, and are down"),
        Kind::DiskFull { node } => format!("the disk of {node} is full"),
        Kind::DiskSlow { node, factor } => format!("the disk of {node} is {factor} times slower"),
    };
    format!("{what} for {}", span(fault.lasts))
}

fn event(d: &Deviation) -> String {
    let value = d.value;
    let about = |nobody: &str| if d.subject.is_empty() { nobody.to_owned() } else { d.subject.clone() };
    match d.what.as_str() {
        "hold" if value == 1 => format!("{} is ready, and the next wake passes it", about("a task")),
        "hold" => format!("{} is ready, and the next {value} wakes pass it", about("a task")),
        "preemption" if value == 1 => {
            format!("{} loses its processor, and goes on after the next wake", about("a task"))
        }
        "preemption" => format!("{} loses its processor, and goes on after {value} wakes", about("a task")),
        "slow task" => format!("{} is slow: {} wakes pass each of its own", about("a task"), 1u64 << value.min(63)),
        "select! branch" => format!("select! in {} looks at its branch {} first", about("a task"), value + 1),
        // The kind is in the lowest two bits (sim-net, `Fate`).
        "packet" => {
            let fate = match value & 3 {
                1 => "late",
                2 => "lost",
                _ => "doubled, or split in two",
            };
            format!("a packet of {} is {fate}", about("some link"))
        }
        "SO_REUSEPORT listener" => format!("{} is given to another of those who share the port", about("a connection")),
        // The kind is in the lowest two bits (sim-disk, `Drive::draw`).
        "how a read ends" | "how a write ends" | "how an fsync ends" | "how an open ends" => {
            let end = match (value & 3, d.what.as_str()) {
                (1, _) => "fails with EIO",
                (2, "how an fsync ends") => "fails with ENOSPC",
                (2, _) => "is cut short",
                (_, "how an fsync ends") => "lies",
                _ => "fails with EINTR",
            };
            let call = d.what.trim_start_matches("how ").trim_end_matches(" ends");
            format!("{call} {end}: {}", about("some disk"))
        }
        "what decays under a read" if value & 3 == 1 => {
            format!("a page cannot be read any more: {}", about("some disk"))
        }
        "what decays under a read" => format!("a bit rots: {}", about("some disk")),
        "whether a page is written astray" => format!("an fsync writes one page over another: {}", about("some disk")),
        "latency of a disk operation" => format!("an operation takes longer than usual: {}", about("some disk")),
        "what a power loss keeps of a page" => format!("the power loss takes or tears {}", about("a page")),
        "which size a power loss keeps" => format!("the power loss takes the end of a file: {}", about("some disk")),
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
            (
                words("preemption", "kv::serve", 2, "kv1"),
                "at 3.214 s, node kv1: kv::serve loses its processor, and goes on after 2 wakes",
            ),
            (
                words("planned fault", "2500ms one-way a b | c for 1s", 7, ""),
                "at 2.5 s: no packet from (a, b) reaches c for 1 s",
            ),
            (
                words("how an fsync ends", "disk kv0 wal errors", 3, "kv0"),
                "at 3.214 s, node kv0: an fsync lies: disk kv0 wal errors",
            ),
            (
                words("whether a power loss takes a name", "disk kv0 names of wal", 1, "kv0"),
                "at 3.214 s, node kv0: whether a power loss takes a name: disk kv0 names of wal",
            ),
            (words("how rough a link is", "", 3, ""), "at 3.214 s: how rough a link is: 3"),
        ] {
            assert_eq!(line, expected);
        }
        assert_eq!([seconds(0), seconds(10_000_000_000), seconds(1)], ["0 s", "10 s", "0.000000001 s"]);
    }
}
