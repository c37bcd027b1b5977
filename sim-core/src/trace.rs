//! The append-only record of what happened, and its running digest.
//!
//! Nothing here is read by the run: adding a line changes no decision. The digest is over choices and events, never over
//! text, paths or addresses, so it is the same in every process, directory and build.

use crate::hash::fold;
use crate::{Instant, NodeId};
use std::collections::BTreeMap;

/// One line of the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// Where; [`NodeId::OUTSIDE`] for the test itself.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// What kind of thing happened, such as `node.kill` or `tcp.connect`.
    pub kind: &'static str,
    /// The details.
    pub text: String,
}

/// Reads records as they are made.
pub trait Sink {
    /// One record.
    fn record(&mut self, record: &Record);
}

impl<F: FnMut(&Record)> Sink for F {
    fn record(&mut self, record: &Record) {
        self(record)
    }
}

/// The record of one run.
#[derive(Default)]
pub struct Trace {
    digest: u64,
    steps: u64,
    sink: Option<Box<dyn Sink>>,
    names: Vec<String>,
    fired: BTreeMap<&'static str, u64>,
    polls: bool,
}

impl Trace {
    /// Folds a step of the run into the digest.
    #[inline]
    pub fn step(&mut self, word: u64) {
        self.digest = fold(self.digest, word);
        self.steps += 1;
    }

    /// Folds a detail into the digest that is no step of its own.
    #[inline]
    pub fn fold(&mut self, word: u64) {
        self.digest = fold(self.digest, word);
    }

    /// Running hash over all steps.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many steps (polls and events) the run has made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether somebody reads records.
    #[inline]
    pub fn is_read(&self) -> bool {
        self.sink.is_some()
    }

    /// Lets `sink` read every record from now on.
    pub fn read_by(&mut self, sink: Box<dyn Sink>) {
        self.sink = Some(sink);
    }

    /// Lets the reader have a record of each poll too: what an audit compares to name the first step that differs.
    pub fn read_polls(&mut self) {
        self.polls = true;
    }

    /// Whether polls are recorded.
    #[inline]
    pub fn reads_polls(&self) -> bool {
        self.polls && self.sink.is_some()
    }

    /// Adds a record. The text is only made when somebody reads it.
    #[inline]
    pub fn event(&mut self, at: Instant, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        if self.sink.is_some() {
            self.write(at, node, kind, text());
        }
    }

    /// Counts a fault that struck, and adds a record of it.
    pub fn fired(&mut self, at: Instant, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        *self.fired.entry(kind).or_default() += 1;
        self.fold(crate::hash::text(kind) ^ node.0 as u64);
        self.event(at, node, kind, text);
    }

    /// How often each kind of fault struck.
    pub fn fired_counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.fired
    }

    #[cold]
    fn write(&mut self, at: Instant, node: NodeId, kind: &'static str, text: String) {
        let node_name = self.names.get(node.0 as usize).cloned().unwrap_or_default();
        if let Some(sink) = &mut self.sink {
            sink.record(&Record { at, node, node_name, kind, text });
        }
    }

    pub(crate) fn name_node(&mut self, node: NodeId, name: &str) {
        let index = node.0 as usize;
        if self.names.len() <= index {
            self.names.resize(index + 1, String::new());
        }
        self.names[index] = name.to_owned();
    }
}

/// A record as a line of text: `   3.214000000 kv0        node.kill  …`.
pub fn text_line(r: &Record) -> String {
    let node = if r.node == NodeId::OUTSIDE { "-" } else { &r.node_name };
    format!("{:>14} {:<10} {:<14} {}", r.at.to_string(), node, r.kind, r.text)
}

/// A record as one line of JSON.
pub fn json_line(r: &Record) -> String {
    format!(
        r#"{{"at_ns":{},"node":"{}","kind":"{}","text":"{}"}}"#,
        r.at.0,
        escape(&r.node_name),
        r.kind,
        escape(&r.text)
    )
}

/// The inside of a JSON string (RFC 8259 section 7).
fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_changes_no_digest() {
        let mut quiet = Trace::default();
        let mut read = Trace::default();
        read.read_by(Box::new(|_: &Record| {}));
        for t in [&mut quiet, &mut read] {
            t.step(1);
            t.event(Instant(5), NodeId(1), "tcp.connect", || "to b".into());
            t.fired(Instant(6), NodeId(1), "kill", String::new);
        }
        assert_eq!(quiet.digest(), read.digest());
        assert_eq!(quiet.fired_counts()["kill"], 1);
    }

    #[test]
    fn json_lines_escape_what_json_asks_for() {
        let r = Record { at: Instant(1), node: NodeId(1), node_name: "a\"b".into(), kind: "k", text: "x\ny\\".into() };
        assert_eq!(json_line(&r), r#"{"at_ns":1,"node":"a\"b","kind":"k","text":"x\u000ay\\"}"#);
    }
}
