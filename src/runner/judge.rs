//! From how a child ended to the verdict of its run.

use super::child::{Bare, Heard, TRACE_MARK, hear};
use crate::report::Report;
use sim_core::{MemoryLimit, Verdict};
use sim_libc::process::{Ended, Exit, NoteKind};

/// A child that ended, as the parent keeps it.
pub(super) struct Finished {
    pub report: Report,
    /// The deviations without words, if they were asked for.
    pub bare: Vec<Bare>,
    /// Whether the run left the seed nothing to decide.
    pub undecided: bool,
    /// The simulated test that the program came upon instead of running to its end.
    pub met: Option<String>,
    /// What the program printed, and the trace, if they were asked for.
    pub printed: Printed,
}

/// A child's output: lines of the program and of the trace, in the order they came.
#[derive(Default)]
pub(super) struct Printed(Vec<Line>);

struct Line {
    of_trace: bool,
    text: String,
}

impl Printed {
    /// The lines of the trace.
    pub fn trace(&self) -> Vec<&str> {
        self.0.iter().filter(|l| l.of_trace).map(|l| l.text.as_str()).collect()
    }

    /// The lines of the program.
    pub fn output(&self) -> Vec<&str> {
        self.0.iter().filter(|l| !l.of_trace).map(|l| l.text.as_str()).collect()
    }

    /// All lines.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|l| l.text.as_str())
    }
}

/// What is known about the test besides the child.
pub(super) struct Frame<'a> {
    pub test: &'a str,
    pub memory_bytes: u64,
    pub aslr: bool,
    /// Whether what it printed is wanted.
    pub printed: bool,
}

/// Judges how a child ended.
pub(super) fn judge(ended: &Ended<'_>, frame: &Frame<'_>) -> Finished {
    let Heard { report, bare, undecided, met } = hear(ended.report);
    let told = report.filter(|_| ended.exit == Exit::Status(0));
    let mut report = told.unwrap_or_else(|| Report::bare(verdict_of(ended, frame)));
    report.test = frame.test.to_owned();
    report.seed = ended.order.seed;
    report.wall = ended.wall;
    report.aslr = frame.aslr;
    let printed = if frame.printed { take_apart(&ended.output.to_bytes()) } else { Printed::default() };
    Finished { report, bare, undecided, met, printed }
}

/// The verdict on a child that told none itself.
fn verdict_of(ended: &Ended<'_>, frame: &Frame<'_>) -> Verdict {
    let crashed = |how: String| Verdict::Crashed { how };
    if ran_out_of_memory(ended) {
        return MemoryLimit::passed(frame.memory_bytes);
    }
    if let Some(note) = &ended.note {
        let task = note.task.to_owned();
        return match note.kind {
            NoteKind::Stuck if task.is_empty() => Verdict::Stuck { task: "outside any task".into() },
            NoteKind::Stuck if task.starts_with("thread ") => Verdict::Stuck {
                task: format!(
                    "{task}, which lets no other thread run: where it looks at memory until that changes, \
                     std::thread::yield_now() in the loop does"
                ),
            },
            NoteKind::Stuck => Verdict::Stuck { task },
            NoteKind::Escaped => Verdict::Escaped { call: note.what.to_owned(), place: task },
            // Without the address, which is not the same in every run of the same bug.
            NoteKind::Crashed => {
                let signal = note.what.split(" at 0x").next().unwrap_or(note.what);
                crashed(if task.is_empty() { signal.to_owned() } else { format!("{signal} in {task}") })
            }
        };
    }
    match ended.exit {
        Exit::Signal(_) if ended.killed => crashed("killed by the runner".into()),
        Exit::Signal(9) => crashed("SIGKILL, not from the runner: was the machine out of memory?".into()),
        Exit::Signal(n) => crashed(format!("signal {n}")),
        Exit::Status(status) => crashed(format!("the program ended the process: exit({status})")),
    }
}

/// Whether an allocation found no memory within the limit. std says so and aborts, but on its way there it may print a
/// long backtrace, or die of trying to.
fn ran_out_of_memory(ended: &Ended<'_>) -> bool {
    let died = ended.note.is_some() || matches!(ended.exit, Exit::Signal(_));
    ended.out_of_memory() || (died && says_out_of_memory(&ended.output.to_bytes()))
}

fn says_out_of_memory(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    let after = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(" bytes failed");
    text.split("memory allocation of ").skip(1).any(after)
}

/// What two runs of the same seed must share. A run whose process died told no digest, and how far it came before that
/// depends on what else was in its memory or how fast the machine is: of it only the verdict.
pub(super) fn ending(report: &Report) -> (u64, String) {
    let died = matches!(
        report.verdict,
        Verdict::Crashed { .. } | Verdict::Stuck { .. } | Verdict::Limit { what: "memory", .. }
    );
    (if died { 0 } else { report.digest }, report.verdict.fingerprint())
}

fn take_apart(bytes: &[u8]) -> Printed {
    let mut lines = Vec::new();
    let mut push = |of_trace, text: &str| lines.push(Line { of_trace, text: text.to_owned() });
    for line in String::from_utf8_lossy(bytes).lines() {
        // What the program printed without an end of line may stand before a line of the trace.
        match line.split_once(TRACE_MARK) {
            Some((before, trace)) => {
                if !before.is_empty() {
                    push(false, before);
                }
                push(true, trace);
            }
            None => push(false, line),
        }
    }
    Printed(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_known_by_what_std_says_wherever_it_stands() {
        let backtrace = "   0: frame\n".repeat(2000);
        let said = format!("no end of linememory allocation of 1048576 bytes failed\n{backtrace}");
        assert!(says_out_of_memory(said.as_bytes()));
        for other in ["", "memory allocation of pages is done", "an allocation of 7 bytes failed"] {
            assert!(!says_out_of_memory(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_digest_of_a_run_whose_process_died_is_compared_with_none() {
        let of = |verdict: Verdict| ending(&Report { digest: 5, ..Report::bare(verdict) }).0;
        assert_eq!(of(Verdict::Crashed { how: "SIGSEGV".into() }), 0);
        assert_eq!(of(Verdict::Stuck { task: "t".into() }), 0);
        assert_eq!(of(Verdict::Limit { what: "memory", limit: "1 MiB".into() }), 0);
        assert_eq!(of(Verdict::Limit { what: "events", limit: "10".into() }), 5);
        assert_eq!(of(Verdict::Passed), 5);
    }
}
