//! Plans as text: `sim-plan 1`, then a line for each fault, `3s kill kv0 for 2s`. Blank lines and `#` comments are passed
//! over. Times are whole numbers with a unit: `ns`, `us`, `ms` or `s`.

use super::{DiskTrouble, Fault, Kind, Plan, Planned};
use sim_core::choices::Ratio;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const HEADER: &str = "sim-plan 1";

/// What is wrong with the text of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParsePlanError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was found and what was expected.
    pub message: String,
}

impl fmt::Display for ParsePlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plan, line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParsePlanError {}

impl fmt::Display for Plan {
    /// The faults of the list. What a swarm will draw is not known before the run; the run's trace has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.faults.iter().try_for_each(|p| writeln!(f, "{p}"))
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Span(self.at), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match &self.kind {
            Kind::Partition { a, b } => write!(f, "{name} {} | {}", a.join(" "), b.join(" "))?,
            Kind::OneWay { from, to } => write!(f, "{name} {} | {}", from.join(" "), to.join(" "))?,
            Kind::Delay { from, to, by } => write!(f, "{name} {from} {to} {}", Span(*by))?,
            Kind::Loss { from, to, ratio } => write!(f, "{name} {from} {to} {}/{}", ratio.num(), ratio.den())?,
            Kind::Kill { node }
            | Kind::PowerCycle { node }
            | Kind::Pause { node }
            | Kind::DiskFull { node }
            | Kind::Wipe { node } => write!(f, "{name} {node}")?,
            Kind::PowerCut { node, operation } => write!(f, "{name} {node} at-operation {operation}")?,
            Kind::SwapDisks { a, b } => write!(f, "{name} {a} {b}")?,
            Kind::ClockBump { node, by_ns } => {
                let sign = if *by_ns < 0 { "-" } else { "+" };
                write!(f, "{name} {node} {sign}{}", Span(Duration::from_nanos(by_ns.unsigned_abs())))?
            }
            Kind::ClockDrift { node, ppm } => write!(f, "{name} {node} {ppm}ppm")?,
            Kind::DiskError { node, ratio } | Kind::Disk { node, ratio, .. } => {
                write!(f, "{name} {node} {}/{}", ratio.num(), ratio.den())?
            }
            Kind::DiskSlow { node, factor } => write!(f, "{name} {node} {factor}x")?,
        }
        write!(f, " for {}", Span(self.lasts))
    }
}

/// A duration as the greatest unit that keeps it whole.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let (unit, per) = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)]
            .into_iter()
            .find(|(_, per)| ns.is_multiple_of(*per))
            .unwrap_or(("ns", 1));
        write!(f, "{}{unit}", ns / per)
    }
}

impl FromStr for Plan {
    type Err = ParsePlanError;

    fn from_str(text: &str) -> Result<Plan, ParsePlanError> {
        let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l.trim()));
        let header = lines.next().map_or("", |(_, l)| l);
        if header != HEADER {
            let message = format!("found {header:?}, expected the header {HEADER:?}");
            return Err(ParsePlanError { line: 1, message });
        }
        let mut plan = Plan::new();
        for (line, content) in lines.filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let planned = parse_line(content).map_err(|message| ParsePlanError { line, message })?;
            plan.faults.push(planned);
        }
        plan.faults.sort_by_key(|p| p.at);
        Ok(plan)
    }
}

impl FromStr for Planned {
    type Err = ParsePlanError;

    /// One line of a plan.
    fn from_str(line: &str) -> Result<Planned, ParsePlanError> {
        parse_line(line).map_err(|message| ParsePlanError { line: 1, message })
    }
}

fn parse_line(line: &str) -> Result<Planned, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [at, name, rest @ .., "for", lasts] = &words[..] else {
        return Err(format!("found {line:?}, expected `TIME KIND … for TIME`"));
    };
    let kind = parse_kind(name, rest)?;
    Ok(Planned { at: parse_span(at)?, fault: Fault { kind, lasts: parse_span(lasts)? } })
}

fn parse_kind(name: &str, rest: &[&str]) -> Result<Kind, String> {
    let node = |n: &&str| (*n).to_owned();
    let kind = match (name, rest) {
        ("partition" | "one-way", sides) => {
            let mut sides = sides.split(|w| *w == "|").map(|s| s.iter().map(node).collect::<Vec<_>>());
            let (Some(a), Some(b), None) = (sides.next(), sides.next(), sides.next()) else {
                return Err(format!("{name} needs two sides: `{name} a b | c d`"));
            };
            if a.is_empty() || b.is_empty() {
                return Err(format!("{name} needs a node on each side of `|`"));
            }
            if name == "partition" { Kind::Partition { a, b } } else { Kind::OneWay { from: a, to: b } }
        }
        ("delay", [from, to, by]) => Kind::Delay { from: node(from), to: node(to), by: parse_span(by)? },
        ("loss", [from, to, ratio]) => Kind::Loss { from: node(from), to: node(to), ratio: parse_ratio(ratio)? },
        ("kill", [n]) => Kind::Kill { node: node(n) },
        ("power-cycle", [n]) => Kind::PowerCycle { node: node(n) },
        ("power-cut", [n, "at-operation", operation]) => match operation.parse() {
            Ok(operation @ 1..) => Kind::PowerCut { node: node(n), operation },
            _ => return Err(format!("found {operation:?}, expected the number of an operation, counted from 1")),
        },
        ("pause", [n]) => Kind::Pause { node: node(n) },
        ("clock-bump", [n, by]) => {
            let (sign, span) = match (by.strip_prefix('+'), by.strip_prefix('-')) {
                (Some(span), _) => (1, span),
                (_, Some(span)) => (-1, span),
                _ => return Err(format!("found {by:?}, expected a signed time such as +2s")),
            };
            let ns = i64::try_from(parse_span(span)?.as_nanos()).map_err(|_| format!("{by} is too long"))?;
            Kind::ClockBump { node: node(n), by_ns: sign * ns }
        }
        ("clock-drift", [n, ppm]) => Kind::ClockDrift { node: node(n), ppm: parse_suffixed(ppm, "ppm")? },
        ("disk-error", [n, ratio]) => Kind::DiskError { node: node(n), ratio: parse_ratio(ratio)? },
        ("wipe", [n]) => Kind::Wipe { node: node(n) },
        ("swap-disks", [a, b]) => Kind::SwapDisks { a: node(a), b: node(b) },
        ("disk-full", [n]) => Kind::DiskFull { node: node(n) },
        ("disk-slow", [n, factor]) => Kind::DiskSlow { node: node(n), factor: parse_suffixed(factor, "x")? },
        (name, [n, ratio]) if DiskTrouble::named(name).is_some() => {
            let trouble = DiskTrouble::named(name).expect("it was just found");
            Kind::Disk { node: node(n), trouble, ratio: parse_ratio(ratio)? }
        }
        _ => return Err(format!("found `{name} {}`, expected a fault such as `kill NODE`", rest.join(" "))),
    };
    Ok(kind)
}

fn parse_suffixed<T: FromStr>(word: &str, suffix: &str) -> Result<T, String> {
    let number = word.strip_suffix(suffix).and_then(|n| n.parse().ok());
    number.ok_or_else(|| format!("found {word:?}, expected a whole number followed by {suffix}"))
}

fn parse_ratio(word: &str) -> Result<Ratio, String> {
    let parts = word.split_once('/').and_then(|(n, d)| Some((n.parse::<u32>().ok()?, d.parse::<u32>().ok()?)));
    match parts {
        Some((num, den)) if den > 0 && num <= den => Ok(Ratio::new(num, den)),
        _ => Err(format!("found {word:?}, expected a ratio such as 1/8")),
    }
}

fn parse_span(word: &str) -> Result<Duration, String> {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let per: u64 = match unit {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        "ns" => 1,
        _ => return Err(format!("found {word:?}, expected a time such as 250ms")),
    };
    let ns = number.parse::<u64>().ok().and_then(|n| n.checked_mul(per));
    ns.map(Duration::from_nanos).ok_or_else(|| format!("found {word:?}, expected a time such as 250ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_being_printed_and_parsed() {
        let text = "sim-plan 1\n\
            0s partition a b | c for 1s\n\
            1ms one-way a | b c for 5us\n\
            2ms delay a b 40ms for 1s\n\
            3ms loss a b 1/8 for 1s\n\
            4ms kill a for 1s\n\
            5ms power-cycle a for 1s\n\
            6ms pause a for 1s\n\
            7ms clock-bump a -1500ms for 1s\n\
            8ms clock-drift a -200ppm for 1s\n\
            9ms disk-error a 1/16 for 1s\n\
            10ms disk-full a for 1s\n\
            11ms disk-slow a 10x for 7ns\n\
            12ms disk-open-error a 1/8 for 1s\n\
            12ms disk-short a 1/8 for 1s\n\
            12ms disk-interrupt a 1/8 for 1s\n\
            12ms disk-stall a 1/8 for 1s\n\
            12ms disk-sync-full a 1/8 for 1s\n\
            12ms disk-lie a 1/8 for 1s\n\
            12ms disk-latent a 1/8 for 1s\n\
            12ms disk-rot a 1/8 for 1s\n\
            12ms disk-astray a 1/8 for 1s\n\
            13ms wipe a for 1s\n\
            14ms swap-disks a b for 1s\n\
            15ms power-cut a at-operation 17 for 1s\n";
        let plan: Plan = text.parse().expect("it is well formed");
        assert_eq!(plan.faults().len(), 24);
        assert_eq!(plan.to_string(), text);
    }

    #[test]
    fn an_error_names_the_line_what_was_found_and_what_was_expected() {
        let error = |text: &str| text.parse::<Plan>().expect_err("it is malformed").to_string();
        assert_eq!(error("sim-plan 2\n"), "plan, line 1: found \"sim-plan 2\", expected the header \"sim-plan 1\"");
        let line2 = |line: &str| error(&format!("sim-plan 1\n{line}\n"));
        assert_eq!(line2("3x kill a for 1s"), "plan, line 2: found \"3x\", expected a time such as 250ms");
        assert!(line2("3s kill a").contains("expected `TIME KIND … for TIME`"));
        assert!(line2("3s loss a b 9/8 for 1s").contains("expected a ratio"));
        assert!(line2("3s power-cut a at-operation 0 for 1s").contains("counted from 1"));
        assert!(line2("3s partition a | for 1s").contains("a node on each side"));
        assert!(line2("3s explode a for 1s").contains("expected a fault such as"));
    }
}
