//! A list that three servers keep together: whoever appends to it learns the place, and whoever reads it sees all that
//! was acknowledged before.

mod client;
mod server;
mod store;
mod wire;

pub use client::Client;
pub use server::{address, serve};
pub use store::Disk;

use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// Something to append. Of lines of an author with the same number only the first counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Whose it is.
    pub author: String,
    /// Counts the author's lines.
    pub number: u64,
}

/// The place of a line in the list; none for what is no line.
pub type Place = Option<usize>;

openraft::declare_raft_types!(
    /// What openraft is told about this program.
    pub Types: D = Line, R = Place,
);

type Raft = openraft::Raft<Types>;
