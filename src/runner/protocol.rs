//! What the processes of a test tell each other: one JSON object a line, with a `type`.
//!
//! | type | says |
//! |---|---|
//! | `hello` | first line: protocol version, test, how many seeds, whether addresses are random |
//! | `verdict` | one run: the names of the verdict line, and for a failure message, fingerprint and replay command |
//! | `progress` | how many runs are done and how many failed; at most ten a second |
//! | `say` | text for people |
//! | `tape` | what a minimisation found |
//! | `end` | last line: the counts, and `status`: `clean`, `failed` or `misuse` |
//!
//! The inner process writes to the descriptor it has as standard input; the outer one passes all on to `SIM_RESULTS`, a
//! file (everything but `say` and `progress`) or a Unix socket (everything).

use crate::json::{Json, object};
use sim_libc::process;
use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The version of this protocol. `cargo sim` and the library must agree.
pub const PROTOCOL: u32 = 1;

/// Says to a process that it is the inner one, and for which test. Of fixed width, so that the stack's shape does not
/// depend on the name's length.
pub(crate) const INNER: &str = "SIM_INNER";
const INNER_WIDTH: usize = 480;

/// The value of [`INNER`] for a test.
pub(crate) fn inner_value(test: &str) -> String {
    format!("{test:<INNER_WIDTH$}")
}

/// The simulated test that the program of this process turned out to be.
static BECAME: OnceLock<String> = OnceLock::new();

/// This process goes on as the inner one of a test that was found in its program.
pub(crate) fn became_inner(test: String) {
    BECAME
        .set(test)
        .unwrap_or_else(|other| unreachable!("a process becomes the inner one of one test, not of {other}"));
}

/// The test that this process is the inner one of.
pub(crate) fn inner_test() -> Option<String> {
    if let Some(test) = BECAME.get() {
        return Some(test.clone());
    }
    std::env::var(INNER).ok().map(|v| v.trim_end().to_owned())
}

/// Writes lines to the outer process, in batches.
pub(super) struct Lines {
    /// `None` prints what is for people and drops the rest: there is no outer process under a debugger. It prints past std's
    /// stdout, which a test harness captures and a thread of the run may hold.
    to: Option<File>,
    batch: Vec<u8>,
    written: Instant,
}

const BATCH_BYTES: usize = 64 << 10;
const BATCH_AGE: Duration = Duration::from_millis(50);

impl Lines {
    pub fn new(to: Option<File>) -> Lines {
        Lines { to, batch: Vec::with_capacity(2 * BATCH_BYTES), written: Instant::now() }
    }

    /// A second writer to the same outer process. What either has in its batch comes when that one goes out.
    pub fn beside(&self) -> io::Result<Lines> {
        Ok(Lines::new(self.to.as_ref().map(File::try_clone).transpose()?))
    }

    /// Adds a line; it goes out when the batch is full or old.
    pub fn send(&mut self, kind: &str, mut object: Json) {
        if self.to.is_none() {
            match (kind, object.text("text"), object.text("message")) {
                ("say", Some(text), _) | ("end", _, Some(text)) => process::print(&format!("{text}\n")),
                _ => {}
            }
            return;
        }
        object.set("type", kind);
        self.batch.extend_from_slice(format!("{object}\n").as_bytes());
        if self.batch.len() >= BATCH_BYTES || self.written.elapsed() >= BATCH_AGE {
            self.flush();
        }
    }

    /// Text for people, without its last line's end.
    pub fn say(&mut self, text: impl Into<String>) {
        self.send("say", object! { "text": text.into() });
    }

    pub fn flush(&mut self) {
        self.written = Instant::now();
        if let Some(to) = &mut self.to {
            // A reader that is gone has no use for the rest, and this process is about to be killed with it.
            let _gone: io::Result<()> = to.write_all(&self.batch);
        }
        self.batch.clear();
    }
}
