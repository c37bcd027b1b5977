//! The log on disk: opened, appended to, replaced.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::record;

/// A log that is open.
#[derive(Debug)]
pub struct Wal {
    dir: PathBuf,
    /// The file to append to; nothing once it cannot be trusted.
    file: Option<File>,
    first: u64,
    next: u64,
    bug: Option<Bug>,
}

/// What a log holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Records {
    /// The number of the first record that is there or will be.
    pub first: u64,
    /// The records from there on.
    pub contents: Vec<Vec<u8>>,
}

/// A planted bug: one call less, or two in the wrong order. Until the power goes, none of them can be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A record that was appended is left to the operating system to write out.
    FileNotSynced,
    /// A file that took the place of another is synced, and its directory is not: the name leads to the old one again.
    DirectoryNotSynced,
    /// The new file gets the name before it is synced: the name leads to a file without its content.
    RenamedBeforeSync,
    /// The checksum of a record leaves out its length: eight zero bytes are a record without content.
    LengthNotCovered,
}

impl Bug {
    /// Every planted bug.
    pub const ALL: [Bug; 4] =
        [Bug::FileNotSynced, Bug::DirectoryNotSynced, Bug::RenamedBeforeSync, Bug::LengthNotCovered];
}

impl Wal {
    /// Opens the log of this directory, which is made if it is not there; its parent must be. What is found is durable.
    ///
    /// # Errors
    /// What the disk says. `InvalidData` if the log does not begin as a log does: it is never taken for an empty one.
    pub async fn open(dir: impl AsRef<Path>) -> io::Result<(Wal, Records)> {
        Wal::open_with(dir, None).await
    }

    /// As [`open`](Self::open), with a planted bug.
    pub async fn open_with(dir: impl AsRef<Path>, bug: Option<Bug>) -> io::Result<(Wal, Records)> {
        let dir = dir.as_ref();
        match fs::create_dir(dir).await {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Always: an earlier life may have made the directory and died.
        sync_directory(dir.parent().unwrap_or(dir)).await?;
        let mut wal = Wal { dir: dir.into(), file: None, first: 1, next: 1, bug };
        let records = wal.read().await?;
        wal.replace(&records).await?;
        Ok((wal, records))
    }

    /// The number of the record that is appended next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Appends a record and returns its number. It is durable then. After an error, or if the future is dropped, it may be there
    /// or not, and the log must be opened again.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// # Panics
    /// If the record has 4 GiB or more.
    pub async fn append(&mut self, content: &[u8]) -> io::Result<u64> {
        let mut file = self.trusted()?;
        let mut bytes = Vec::new();
        record::add(content, self.bug, &mut bytes);
        file.write_all(&bytes).await?;
        // tokio's File reports the error of a write at the next flush, and not from sync_data.
        file.flush().await?;
        if self.bug != Some(Bug::FileNotSynced) {
            file.sync_data().await?;
        }
        self.file = Some(file);
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Cuts off the records before number `first`. They are gone for good then. After an error, or if the future is dropped, they
    /// may be there or not, and the log must be opened again.
    ///
    /// # Errors
    /// What the disk says. `InvalidInput` if `first` lies before the first record or beyond the next; the log stays open then.
    pub async fn cut(&mut self, first: u64) -> io::Result<()> {
        if !(self.first..=self.next).contains(&first) {
            let text = format!("cannot cut at record {first}; expected {} to {}", self.first, self.next);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.trusted()?;
        let mut records = self.read().await?;
        records.contents.drain(..(first - records.first) as usize);
        records.first = first;
        self.replace(&records).await
    }

    /// The file to append to, which is given up unless it is put back.
    fn trusted(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("the log was given up after an error; open it again"))
    }

    async fn read(&self) -> io::Result<Records> {
        let bytes = match fs::read(self.dir.join("log")).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => record::head(1),
            Err(error) => return Err(error),
        };
        match record::read(&bytes, self.bug) {
            Some((first, contents)) => Ok(Records { first, contents }),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the log does not begin as a log does")),
        }
    }

    /// Puts a new file with these records in the place of the log.
    async fn replace(&mut self, records: &Records) -> io::Result<()> {
        let (name, new) = (self.dir.join("log"), self.dir.join("log.new"));
        // A leftover is not reused: its pages may be in doubt, and on a full disk its space is needed.
        match fs::remove_file(&new).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut bytes = record::head(records.first);
        for content in &records.contents {
            record::add(content, self.bug, &mut bytes);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new).await?;
        file.write_all(&bytes).await?;
        file.flush().await?;
        if self.bug == Some(Bug::RenamedBeforeSync) {
            fs::rename(&new, &name).await?;
            file.sync_all().await?;
        } else {
            file.sync_all().await?;
            fs::rename(&new, &name).await?;
        }
        if self.bug != Some(Bug::DirectoryNotSynced) {
            sync_directory(&self.dir).await?;
        }
        (self.first, self.next) = (records.first, records.first + records.contents.len() as u64);
        self.file = Some(file);
        Ok(())
    }
}

/// Makes the names in a directory durable.
async fn sync_directory(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).await?.sync_all().await
}
