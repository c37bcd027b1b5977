//! fjall with one worker and small tables, so that it writes them often. Each commit is synced.

use crate::{Change, Error, Rows, Store};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

struct Fjall {
    db: Database,
    rows: Keyspace,
    counter: Keyspace,
}

/// Opens a database, or creates it where there is none.
pub fn open(path: &Path) -> Result<Box<dyn Store>, Error> {
    let db = Database::builder(path).worker_threads(1).open()?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(16 << 10);
    let (rows, counter) = (db.keyspace("rows", options)?, db.keyspace("counter", options)?);
    db.persist(PersistMode::SyncAll)?;
    Ok(Box::new(Fjall { db, rows, counter }))
}

impl Store for Fjall {
    fn commit(&mut self, number: u32, changes: &[Change]) -> Result<(), Error> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for change in changes {
            match change {
                Change::Put(key, value) => batch.insert(&self.rows, [*key], value.as_slice()),
                Change::Delete(key) => batch.remove(&self.rows, [*key]),
            }
        }
        batch.insert(&self.counter, "number", number.to_le_bytes());
        Ok(batch.commit()?)
    }

    fn read(&mut self) -> Result<(u32, Rows), Error> {
        let number = match self.counter.get("number")? {
            Some(bytes) => u32::from_le_bytes(bytes.as_ref().try_into()?),
            None => 0,
        };
        let mut rows = Rows::new();
        for row in self.rows.iter() {
            let (key, value) = row.into_inner()?;
            rows.insert(key[0], value.to_vec());
        }
        Ok((number, rows))
    }

    /// It has none.
    fn check(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
