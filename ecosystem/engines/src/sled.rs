//! sled with its defaults. Each batch is flushed.

use crate::{Change, Error, Rows, Store};
use sled::{Batch, Db};
use std::path::Path;

const COUNTER: &[u8] = b"number";

struct Sled(Db);

/// Opens a database, or creates it where there is none.
pub fn open(path: &Path) -> Result<Box<dyn Store>, Error> {
    let db = sled::open(path)?;
    db.flush()?;
    Ok(Box::new(Sled(db)))
}

impl Store for Sled {
    fn commit(&mut self, number: u32, changes: &[Change]) -> Result<(), Error> {
        let mut batch = Batch::default();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.insert(&[*key], value.as_slice()),
                Change::Delete(key) => batch.remove(&[*key]),
            }
        }
        batch.insert(COUNTER, &number.to_le_bytes());
        self.0.apply_batch(batch)?;
        self.0.flush()?;
        Ok(())
    }

    fn read(&mut self) -> Result<(u32, Rows), Error> {
        let (mut number, mut rows) = (0, Rows::new());
        for row in self.0.iter() {
            let (key, value) = row?;
            if *key == *COUNTER {
                number = u32::from_le_bytes(value.as_ref().try_into()?);
            } else {
                rows.insert(key[0], value.to_vec());
            }
        }
        Ok((number, rows))
    }

    fn check(&mut self) -> Result<(), Error> {
        Ok(self.0.verify_integrity()?)
    }
}
