//! The failures that are known: one a line, `file::test  reason`. Empty lines and lines that begin with `#` say nothing.
//!
//! A reason that begins with `order:` is one of a test that assumes an order: it passes in the calm run, and may fail under a
//! seed. One that begins with `real:` is one of a test that fails without simulation too.

use super::Mode;
use super::run::Tested;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

#[derive(Default)]
pub struct Known {
    /// By file and test.
    failures: BTreeMap<(String, String), Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Simulated,
    Order,
    Real,
}

impl Known {
    /// None are known where there is no file.
    pub fn read(path: &Path) -> Result<Known, String> {
        match fs::read_to_string(path) {
            Ok(text) => Known::parse(&text).map_err(|why| format!("{}: {why}", path.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Known::default()),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Known, String> {
        let mut failures = BTreeMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let wrong = || format!("line {}: expected `file::test  reason`, found {line:?}", i + 1);
            let (name, reason) = line.split_once("  ").ok_or_else(wrong)?;
            let (file, test) = name.split_once("::").ok_or_else(wrong)?;
            let kind = match reason.trim() {
                "" => return Err(wrong()),
                r if r.starts_with("order:") => Kind::Order,
                r if r.starts_with("real:") => Kind::Real,
                _ => Kind::Simulated,
            };
            if failures.insert((file.to_owned(), test.to_owned()), kind).is_some() {
                return Err(format!("line {}: {name} is listed twice", i + 1));
            }
        }
        Ok(Known { failures })
    }

    /// What is not as it is known, a line each. `chosen` says of a file and a test whether it was to be run if it is there.
    pub fn compare(&self, results: &[Tested], mode: Mode, chosen: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        for Tested { file, test, end, .. } in results {
            let kind = self.failures.get(&(file.clone(), test.clone()));
            let may_fail = match kind {
                None => false,
                Some(Kind::Simulated) => mode != Mode::Off,
                Some(Kind::Order) => matches!(mode, Mode::Seeds(_)),
                Some(Kind::Real) => true,
            };
            // Few seeds may not find the order in which a test fails; and what the system refuses it may grant to simulation.
            let must_fail = mode == Mode::Calm && kind == Some(&Kind::Simulated);
            match end.failure() {
                Some(why) if !may_fail => lines.push(format!("fails: {file}::{test}  {why}")),
                None if must_fail => lines.push(format!("passes now: {file}::{test}")),
                _ => {}
            }
        }
        let is_there = |(file, test): &(String, String)| results.iter().any(|r| r.file == *file && r.test == *test);
        let missing = self.failures.keys().filter(|key| chosen(&key.0, &key.1) && !is_there(key));
        lines.extend(missing.map(|(file, test)| format!("there is no test {file}::{test}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::class::Class;
    use super::super::run::End;
    use super::*;

    const KNOWN: &str =
        "# about\n\ntime::a  wrong clock\ntime::m::b  order: the first of two\nnet::c  real: no network\n";

    fn surprises(mode: Mode, failing: &[&str]) -> Vec<String> {
        let tests = [("time", "a"), ("time", "m::b"), ("net", "c"), ("net", "d")];
        let result = |(file, test): (&str, &str)| {
            let end = if failing.contains(&test) { End::Failed("why".into()) } else { End::Passed };
            Tested { file: file.into(), test: test.into(), class: Class::S, end }
        };
        let results: Vec<Tested> = tests.into_iter().map(result).collect();
        Known::parse(KNOWN).unwrap_or_else(|why| panic!("{why}")).compare(&results, mode, |_, _| true)
    }

    #[test]
    fn one_failure_more_or_less_is_a_surprise() {
        assert!(surprises(Mode::Calm, &["a"]).is_empty());
        assert!(surprises(Mode::Calm, &["a", "c"]).is_empty());
        assert_eq!(surprises(Mode::Calm, &["a", "m::b"]), ["fails: time::m::b  why"]);
        assert_eq!(surprises(Mode::Calm, &["d"]), ["passes now: time::a", "fails: net::d  why"]);
        assert!(surprises(Mode::Seeds(20), &["a", "m::b"]).is_empty());
        assert!(surprises(Mode::Seeds(20), &[]).is_empty());
        assert!(surprises(Mode::Off, &["c"]).is_empty());
        assert_eq!(surprises(Mode::Off, &["a"]), ["fails: time::a  why"]);
    }

    #[test]
    fn a_failure_of_a_test_that_is_not_there_is_a_surprise() {
        let known = Known::parse("net::gone  it is slow").unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(known.compare(&[], Mode::Calm, |_, _| true).len(), 1);
        assert!(known.compare(&[], Mode::Calm, |_, _| false).is_empty());
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        for wrong in ["time::a", "time::a   ", "time  reason", "time::a  x\ntime::a  y"] {
            assert!(Known::parse(wrong).is_err(), "{wrong}");
        }
    }
}
