//! Hermetic processes: the same binary again without address randomisation, and a fork of it for each run.
//!
//! A test's process executes itself once more ([`hermetic_command`]), which calls [`begin`], starts a [`Launcher`] and has
//! it fork a child for each seed. The child inherits everything as it was, so whatever libraries keep per process (first-use
//! probes, counters, cached hash keys) is the same for every seed. The parent sees how each ended ([`Ended`]): what the
//! body reported, what it printed, and whether it hung, crashed or was killed.
//!
//! What is deliberately absent: this module knows no verdicts and no seeds' meaning. It carries bytes.

mod channel;
mod jobs;
mod launcher;
mod program;
mod signals;
mod start;

pub use crate::child::{Ended, Exit, Limits, Note, NoteKind, Order, Output};
pub use channel::{is_child, print, report};
pub use jobs::{JobSlot, job_slots};
pub use launcher::{Launcher, peak_bytes};
pub use program::{Program, at_exit, can_take_over, exit_now, take_over};
pub use signals::{catch_fatal_signals, watchdog};
pub use start::{aslr_off, begin, exec_in_place, has_room_for_descriptors, hermetic_command, threads};

pub(crate) use channel::{captured, note, task_line, write_captured};
pub(crate) use signals::{STUCK_STATUS, handle, watch};
