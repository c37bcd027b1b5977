//! A store of numbered transactions over embedded engines: each changes some of 256 keys and sets a counter.

use std::collections::BTreeMap;

#[cfg(feature = "fjall")]
pub mod fjall;
pub mod redb;
#[cfg(feature = "sled")]
pub mod sled;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Rows = BTreeMap<u8, Vec<u8>>;

/// What a transaction does to a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    Put(u8, Vec<u8>),
    Delete(u8),
}

/// A database that is open.
pub trait Store {
    /// Makes the changes of a transaction, all or none. When it returns they are durable, as far as the engine promises.
    fn commit(&mut self, number: u32, changes: &[Change]) -> Result<(), Error>;

    /// The number of the last transaction, 0 before the first, and all rows.
    fn read(&mut self) -> Result<(u32, Rows), Error>;

    /// The engine's own check of everything, if it has one.
    fn check(&mut self) -> Result<(), Error>;
}
