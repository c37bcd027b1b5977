//! A write-ahead log: records that are still there, whole and in order, after any crash that came once
//! [`Wal::append`] had returned.
//!
//! It is an ordinary tokio program; `cargo run -p wal -- append DIR TEXT` runs it for real. It is also what the simulated disk is
//! tried on, so four bugs are planted in it ([`Bug`]), each off unless [`Wal::open_with`] is asked for it.
//!
//! # How it works
//!
//! A directory holds one file, `log`: the number of its first record, then the records ([`record`]). It changes in two ways.
//! A record is *appended* and synced. Or the file is *replaced*: a new one is written beside it, synced, renamed over it, and the
//! directory is synced. So records are cut off at the front when nobody needs them, and so every log begins its life.
//!
//! # Why it is right
//!
//! 1. *`log` is whole up to its last acknowledged record.* The name only ever leads to a file that was synced before it got the
//!    name; what is appended is synced before it is acknowledged.
//! 2. *What lies behind that is not mistaken for a record.* A power loss may leave anything there: a part of a record, zeros, some
//!    sectors of several. The checksum of a record covers its length too, and the first that does not match is the end.
//! 3. *What a reader has seen stays.* [`Wal::open`] may find a record that was never synced: it is in the page cache, or was
//!    written back by luck. So the log is replaced by what was found before anybody sees it. Appending never goes
//!    on behind a damaged tail, nor in a file of which a sync once failed, whose pages the kernel may have given up.
//!
//! What is assumed: a disk keeps what it has synced; one process at a time opens a directory.

mod log;
pub mod record;

pub use log::{Bug, Records, Wal};
