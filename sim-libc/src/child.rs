//! What a process of a run is told, and how its end is told: plain values, the same on every system.

use std::time::Duration;

/// The number of `abort`'s signal, on every system that has it.
const SIGABRT: i32 = 6;

/// What a child is to do; the meaning of the numbers is the body's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// The seed of the run.
    pub seed: u64,
    /// How to run it.
    pub mode: u32,
    /// Which of a list it is.
    pub index: u64,
    /// Whatever else the body needs.
    pub argument: u64,
}

/// What a child may use before the kernel ends it, and it alone.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Private memory, heap and stacks, that it touched, bytes, counted with what the parent has. At twice as much it is ended,
    /// unless it has ended itself. It may reserve 32 times as much, as a thousand threads do for their stacks
    /// (setrlimit(2), RLIMIT_DATA). 2 GiB unless given.
    pub memory_bytes: u64,
    /// Whether system calls that no symbol of libc catches, and the time stamp counter, are trapped; see [`crate::trap`].
    /// True unless given.
    pub trap: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory_bytes: 2 << 30, trap: true }
    }
}

/// How a child ended, as the kernel saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It returned this from its body, or called `exit` with it.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

/// A child that ended. Its bytes are valid until its slot is used again.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The slot it ran in.
    pub slot: usize,
    /// What it had to do.
    pub order: Order,
    /// How it ended.
    pub exit: Exit,
    /// Whether [`Launcher::kill`](crate::process::Launcher::kill) ended it.
    pub killed: bool,
    /// Real time from order to end.
    pub wall: Duration,
    /// Whether it was ended because it had touched more memory than its limit.
    pub hoarded: bool,
    /// The most memory it had, bytes.
    pub peak_bytes: u64,
    /// What it handed over with [`report`](crate::process::report).
    pub report: &'a [u8],
    /// Its last words, if a handler of ours spoke them.
    pub note: Option<Note<'a>>,
    /// What it printed.
    pub output: Output<'a>,
}

impl Ended<'_> {
    /// Whether it ended because of its limit of memory: it touched more, or an allocation found none, which std says and aborts.
    pub fn out_of_memory(&self) -> bool {
        let says = |part: &[u8]| {
            let end = &part[part.len().saturating_sub(4096)..];
            end.windows(21).any(|w| w == b"memory allocation of ")
        };
        self.hoarded
            || self.exit == Exit::Signal(SIGABRT) && (says(self.output.head) || self.output.tail.into_iter().any(says))
    }
}

/// Why a child ended, as it saw it itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteKind {
    /// One poll did not end; the text names the task.
    Stuck,
    /// A signal ended it; the text names signal and task.
    Crashed,
    /// It reached past the simulator where the run could not go on; the text names the call and the task.
    Escaped,
}

/// The last words of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note<'a> {
    /// What it is about.
    pub kind: NoteKind,
    /// The call, the signal, or nothing.
    pub what: &'a str,
    /// The task that was being polled and where it was spawned, as far as is known.
    pub task: &'a str,
}

/// What a child printed: beginning and end, if it was much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output<'a> {
    /// The beginning.
    pub head: &'a [u8],
    /// Bytes between head and tail that were not kept.
    pub lost: u64,
    /// The end, in two parts.
    pub tail: [&'a [u8]; 2],
}

impl Output<'_> {
    /// Everything that was kept, with a line in place of what was not.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = self.head.to_vec();
        if self.lost > 0 {
            all.extend_from_slice(format!("\n[… {} bytes of output not kept …]\n", self.lost).as_bytes());
        }
        self.tail.iter().for_each(|part| all.extend_from_slice(part));
        all
    }

    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }
}
