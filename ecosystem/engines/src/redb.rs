//! redb with its defaults, but for a small cache: each commit is durable.

use crate::{Change, Error, Rows, Store};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const ROWS: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("rows");
const COUNTER: TableDefinition<'_, (), u32> = TableDefinition::new("counter");

struct Redb(Database);

/// Opens a database, or creates it where there is none.
pub fn open(path: &Path) -> Result<Box<dyn Store>, Error> {
    let db = Database::builder().set_cache_size(64 << 10).create(path)?;
    let transaction = db.begin_write()?;
    transaction.open_table(ROWS)?;
    transaction.open_table(COUNTER)?;
    transaction.commit()?;
    Ok(Box::new(Redb(db)))
}

impl Store for Redb {
    fn commit(&mut self, number: u32, changes: &[Change]) -> Result<(), Error> {
        let transaction = self.0.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for change in changes {
                match change {
                    Change::Put(key, value) => drop(rows.insert(key, value.as_slice())?),
                    Change::Delete(key) => drop(rows.remove(key)?),
                }
            }
            transaction.open_table(COUNTER)?.insert((), number)?;
        }
        Ok(transaction.commit()?)
    }

    fn read(&mut self) -> Result<(u32, Rows), Error> {
        let transaction = self.0.begin_read()?;
        let number = transaction.open_table(COUNTER)?.get(())?.map_or(0, |number| number.value());
        let mut rows = Rows::new();
        for row in transaction.open_table(ROWS)?.iter()? {
            let (key, value) = row?;
            rows.insert(key.value(), value.value().to_vec());
        }
        Ok((number, rows))
    }

    fn check(&mut self) -> Result<(), Error> {
        if self.0.check_integrity()? { Ok(()) } else { Err("check_integrity found damage".into()) }
    }
}
