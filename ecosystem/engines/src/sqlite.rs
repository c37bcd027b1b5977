//! SQLite, as it is bundled with rusqlite.

use crate::{Change, Error, Rows, Store};
use rusqlite::Connection;
use std::path::Path;

/// How a database is opened: what `PRAGMA` sets.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// DELETE, TRUNCATE, WAL.
    pub journal: &'static str,
    /// OFF, NORMAL, FULL, EXTRA.
    pub synchronous: &'static str,
    /// Whether one connection keeps the file to itself; a WAL then needs no shared memory.
    pub exclusive: bool,
}

/// One connection to write and, where others may have the file open too, one to read.
struct Sqlite {
    writer: Connection,
    reader: Option<Connection>,
}

/// Opens a database, or creates it where there is none.
pub fn open(path: &Path, settings: Settings) -> Result<Box<dyn Store>, Error> {
    let writer = connect(path, settings)?;
    writer.execute_batch(
        "BEGIN IMMEDIATE;
         CREATE TABLE IF NOT EXISTS rows (key INTEGER PRIMARY KEY, value BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS counter (number INTEGER NOT NULL);
         INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT * FROM counter);
         COMMIT;",
    )?;
    let reader = if settings.exclusive { None } else { Some(connect(path, settings)?) };
    Ok(Box::new(Sqlite { writer, reader }))
}

impl Sqlite {
    fn reader(&self) -> &Connection {
        self.reader.as_ref().unwrap_or(&self.writer)
    }
}

fn connect(path: &Path, settings: Settings) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "locking_mode", if settings.exclusive { "EXCLUSIVE" } else { "NORMAL" })?;
    connection.pragma_update(None, "journal_mode", settings.journal)?;
    connection.pragma_update(None, "synchronous", settings.synchronous)?;
    // Small ones, so that pages are written before a commit, and the log goes over into the file often.
    connection.pragma_update(None, "cache_size", 10)?;
    connection.pragma_update(None, "wal_autocheckpoint", 30)?;
    Ok(connection)
}

impl Store for Sqlite {
    fn commit(&mut self, number: u32, changes: &[Change]) -> Result<(), Error> {
        let transaction = self.writer.transaction()?;
        for change in changes {
            match change {
                Change::Put(key, value) => {
                    transaction.prepare_cached("INSERT OR REPLACE INTO rows VALUES (?, ?)")?.execute((key, value))?
                }
                Change::Delete(key) => transaction.prepare_cached("DELETE FROM rows WHERE key = ?")?.execute([key])?,
            };
        }
        transaction.prepare_cached("UPDATE counter SET number = ?")?.execute([number])?;
        Ok(transaction.commit()?)
    }

    fn read(&mut self) -> Result<(u32, Rows), Error> {
        let reader = self.reader();
        // Both of one state, whoever writes meanwhile.
        let transaction = reader.unchecked_transaction()?;
        let number = transaction.query_row("SELECT number FROM counter", [], |row| row.get(0))?;
        let mut rows = Rows::new();
        let mut statement = transaction.prepare_cached("SELECT key, value FROM rows")?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            rows.insert(row.get(0)?, row.get(1)?);
        }
        Ok((number, rows))
    }

    fn check(&mut self) -> Result<(), Error> {
        let found: String = self.reader().query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(found.into()) }
    }
}
