//! The log file of a replica: one file, replaced as a whole whenever it can no longer be appended to.
//!
//! `log` holds everything the replica ever acknowledged. It is only ever appended to, and a new one takes its place by
//! being written and synced beside it, renamed over it, and having the directory synced: whichever of the two a
//! crash leaves, it holds every acknowledged register.
//!
//! A segment is given up for good at its first failed write or sync. After a failed sync the kernel may have dropped
//! the dirty pages and marked them clean, so that the next sync succeeds without them (LWN, "PostgreSQL's fsync() surprise",
//! 2018): asking again proves nothing. The tail after a power loss is given up the same way: reading stops at the
//! first damaged record, and appending continues in a new file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::config::Bug;
use crate::record;
use crate::register::Register;

/// A log is rewritten when it has grown by this much, and to twice its size.
const GROWTH_BYTES: usize = 4 << 20;

/// The open log of one replica.
pub struct Log {
    dir: PathBuf,
    /// The file to append to; nothing once it cannot be trusted.
    segment: Option<File>,
    /// Length of the segment when it was written as a whole.
    base_bytes: usize,
    /// What has been appended to it since.
    grown_bytes: usize,
    bug: Option<Bug>,
}

impl Log {
    /// Reads what an earlier life left in `dir` and opens a fresh log with the same registers.
    ///
    /// A damaged tail is left out; a file that cannot be read is an error, never an empty log.
    pub async fn open(dir: &Path, bug: Option<Bug>) -> io::Result<(Self, BTreeMap<String, Register>)> {
        fs::create_dir_all(dir).await?;
        sync_ancestors(dir).await?;
        let registers = match fs::read(dir.join("log")).await {
            Ok(bytes) => record::replay(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let mut log = Self { dir: dir.into(), segment: None, base_bytes: 0, grown_bytes: 0, bug };
        log.rewrite(&registers).await?;
        Ok((log, registers))
    }

    /// Whether [`append`](Self::append) may be called: if not, the log must be [rewritten](Self::rewrite).
    pub fn can_append(&self) -> bool {
        self.segment.is_some() && self.grown_bytes <= self.base_bytes.max(GROWTH_BYTES)
    }

    /// Adds registers and syncs them. After an error, or if the future is dropped, the segment is given up.
    pub async fn append(&mut self, registers: &BTreeMap<String, Register>) -> io::Result<()> {
        let bytes = encode(registers);
        let mut segment = self.segment.take().ok_or_else(|| io::Error::other("this log segment was given up"))?;
        segment.write_all(&bytes).await?;
        // tokio's File reports the error of a write at the next flush, and not from sync_all.
        segment.flush().await?;
        if self.bug != Some(Bug::AnswerBeforeSync) {
            segment.sync_all().await?;
        }
        self.grown_bytes += bytes.len();
        self.segment = Some(segment);
        Ok(())
    }

    /// Replaces the log by a new one that holds exactly these registers, synced. After an error, whichever of the
    /// two logs is found on disk must be taken to hold too little, so rewrite again before answering.
    pub async fn rewrite(&mut self, registers: &BTreeMap<String, Register>) -> io::Result<()> {
        self.segment = None;
        let (old, new) = (self.dir.join("log"), self.dir.join("log.new"));
        // A leftover is not reused: its pages may be in doubt, and on a full disk its space is needed.
        match fs::remove_file(&new).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let bytes = encode(registers);
        let mut segment = OpenOptions::new().write(true).create_new(true).open(&new).await?;
        segment.write_all(&bytes).await?;
        segment.flush().await?;
        segment.sync_all().await?;
        fs::rename(&new, &old).await?;
        File::open(&self.dir).await?.sync_all().await?;
        (self.segment, self.base_bytes, self.grown_bytes) = (Some(segment), bytes.len(), 0);
        Ok(())
    }
}

fn encode(registers: &BTreeMap<String, Register>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, register) in registers {
        record::encode(key, register, &mut bytes);
    }
    bytes
}

/// Makes the names on the path to `dir` durable: a directory's own name lies in its parent.
///
/// All of them, each time: one that exists may have been made by an earlier life that died before syncing it.
/// A parent we may not open is somebody else's to look after.
async fn sync_ancestors(dir: &Path) -> io::Result<()> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match File::open(parent).await {
            Ok(opened) => opened.sync_all().await?,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::{Version, Writer};

    fn register(key: &str, counter: u64) -> BTreeMap<String, Register> {
        let version = Version { counter, writer: Writer { client: 1, sequence: counter } };
        BTreeMap::from([(key.to_owned(), Register { version, value: format!("{key} {counter}").into() })])
    }

    /// Writes `a`, spoils the end of the file, writes `b` in a second life, and counts the keys of the third.
    async fn check(name: &str, spoil: impl AsyncFnOnce(&Path)) {
        let dir = std::env::temp_dir().join(format!("kv-log-{}-{name}", std::process::id()));
        let (mut log, found) = Log::open(&dir, None).await.unwrap();
        assert!(found.is_empty());
        log.append(&register("a", 1)).await.unwrap();
        log.append(&register("torn", 1)).await.unwrap();
        drop(log);
        spoil(&dir.join("log")).await;

        let (mut log, found) = Log::open(&dir, None).await.unwrap();
        assert_eq!(found, register("a", 1));
        log.append(&register("b", 1)).await.unwrap();
        drop(log);

        let (_log, found) = Log::open(&dir, None).await.unwrap();
        assert_eq!(found.into_keys().collect::<String>(), "ab");
        fs::remove_file(dir.join("log")).await.unwrap();
    }

    async fn set_len(path: &Path, change: impl FnOnce(u64) -> u64) {
        let file = OpenOptions::new().write(true).open(path).await.unwrap();
        let length = file.metadata().await.unwrap().len();
        file.set_len(change(length)).await.unwrap();
    }

    #[tokio::test]
    async fn appending_continues_after_a_torn_record() {
        check("torn", async |path| set_len(path, |length| length - 1).await).await;
    }

    #[tokio::test]
    async fn appending_continues_after_a_tail_of_zeros() {
        check("zeros", async |path| {
            set_len(path, |length| length - 5).await;
            set_len(path, |length| length + 4096).await;
        })
        .await;
    }

    #[tokio::test]
    async fn a_rewrite_that_was_cut_short_is_ignored() {
        check("short", async |path| {
            set_len(path, |length| length - 1).await;
            File::create(path.with_extension("new")).await.unwrap().write_all(b"half").await.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_not_an_empty_one() {
        let dir = std::env::temp_dir().join(format!("kv-log-{}-unreadable", std::process::id()));
        fs::create_dir_all(dir.join("log")).await.unwrap();
        assert!(Log::open(&dir, None).await.is_err());
    }
}
