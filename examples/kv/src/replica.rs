//! One server's copy of all registers: memory, log, and the one task that changes them.
//!
//! Registers to store are queued, numbered in the order they are queued. The task takes all that are waiting, commits
//! them to the log with one sync, changes memory, and announces the number up to which everything is durable; that
//! releases everyone who waited for a number up to it. So nothing taken from the queue may ever be dropped: a batch that
//! cannot be committed is tried again, in a new log, until it is.
//!
//! Memory never runs ahead of the log: what [`Replica::query`] returns is durable.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::config::Bug;
use crate::log::Log;
use crate::record::keep_newer;
use crate::register::{Register, Version};

/// How many registers may wait to be stored before more are refused.
const QUEUE: usize = 1024;

/// The most registers committed with one sync.
const BATCH: usize = 256;

/// The pause after a log could not be written at all.
const DISK_PAUSE: Duration = Duration::from_millis(100);

/// A handle on this server's copy of the registers; clones share it.
#[derive(Clone)]
pub struct Replica {
    registers: Arc<Mutex<BTreeMap<String, Register>>>,
    failures: Arc<Mutex<BTreeMap<String, u64>>>,
    inbox: Arc<Mutex<Inbox>>,
    durable: watch::Receiver<u64>,
    news: mpsc::Sender<String>,
}

/// The queue's entrance: number and place in the queue are given out together.
struct Inbox {
    last: u64,
    orders: mpsc::Sender<Order>,
}

/// A register to store.
struct Order {
    number: u64,
    key: String,
    register: Register,
}

impl Replica {
    /// Recovers the registers from `dir` and starts the task that owns them. The task ends with the last handle.
    ///
    /// Waits for as long as the disk fails or is full; an error is one that waiting does not cure.
    pub async fn start(dir: &Path, bug: Option<Bug>) -> io::Result<Self> {
        let (log, registers) = loop {
            match Log::open(dir, bug).await {
                Ok(opened) => break opened,
                Err(error) if may_pass(&error) => sleep(DISK_PAUSE).await,
                Err(error) => return Err(error),
            }
        };
        let registers = Arc::new(Mutex::new(registers));
        let failures = Arc::default();
        let (orders, queue) = mpsc::channel(QUEUE);
        let (news, failed) = mpsc::channel(QUEUE);
        let (announce, durable) = watch::channel(0);
        let committer = Committer { log, registers: Arc::clone(&registers), announce };
        let writer = Writer { committer, queue, failed, failures: Arc::clone(&failures), bug };
        tokio::spawn(writer.run());
        Ok(Self { registers, failures, inbox: Arc::new(Mutex::new(Inbox { last: 0, orders })), durable, news })
    }

    /// The register held for a key; the default one if there is none.
    pub fn query(&self, key: &str) -> Register {
        lock(&self.registers).get(key).cloned().unwrap_or_default()
    }

    /// Every key held, and its version.
    pub fn versions(&self) -> BTreeMap<String, Version> {
        lock(&self.registers).iter().map(|(key, register)| (key.clone(), register.version)).collect()
    }

    /// Stores a register unless a newer one is held. When this returns `Ok`, this or a newer one is durable.
    ///
    /// The register may be stored even if the caller stops waiting. Fails if too many are waiting already.
    pub async fn store(&self, key: &str, register: Register) -> io::Result<()> {
        if self.query(key).version >= register.version {
            return Ok(());
        }
        let number = {
            let mut inbox = lock(&self.inbox);
            let number = inbox.last + 1;
            let order = Order { number, key: key.into(), register };
            inbox.orders.try_send(order).map_err(|_| io::Error::other("too many writes are waiting for the disk"))?;
            inbox.last = number;
            number
        };
        let mut durable = self.durable.clone();
        let waited = durable.wait_for(|durable| *durable >= number).await;
        waited.map(drop).map_err(|_| io::Error::other("the log's task has ended"))
    }

    /// Takes note that a call to another server failed, for [`failures`](Self::failures).
    pub fn note_failure(&self, peer: &str) {
        // With that many unread, one more changes nothing.
        let _ = self.news.try_send(peer.into());
    }

    /// How many calls to each other server have failed.
    pub fn failures(&self) -> BTreeMap<String, u64> {
        lock(&self.failures).clone()
    }
}

/// The task behind a [`Replica`].
struct Writer {
    committer: Committer,
    queue: mpsc::Receiver<Order>,
    failed: mpsc::Receiver<String>,
    failures: Arc<Mutex<BTreeMap<String, u64>>>,
    bug: Option<Bug>,
}

impl Writer {
    async fn run(self) {
        let Self { mut committer, mut queue, mut failed, failures, bug } = self;
        loop {
            let batch = tokio::select! {
                batch = async {
                    // This branch may be dropped at any await: harmless while waiting for orders, which are taken and
                    // returned in one step, but a batch dropped inside `commit` would be nowhere.
                    let batch = next_batch(&mut queue).await;
                    if bug == Some(Bug::CancelLosesRequest) {
                        committer.commit(&batch).await;
                    }
                    batch
                } => batch,
                Some(peer) = failed.recv() => {
                    *lock(&failures).entry(peer).or_default() += 1;
                    continue;
                }
            };
            if batch.is_empty() {
                return;
            }
            committer.commit(&batch).await;
        }
    }
}

/// Waits for an order and takes all that are there; none if there will be no more. Cancel safe.
async fn next_batch(queue: &mut mpsc::Receiver<Order>) -> Vec<Order> {
    let mut batch = Vec::new();
    queue.recv_many(&mut batch, BATCH).await;
    batch
}

/// What a commit changes: the log, then memory, then the number that is announced.
struct Committer {
    log: Log,
    registers: Arc<Mutex<BTreeMap<String, Register>>>,
    announce: watch::Sender<u64>,
}

impl Committer {
    /// Makes a batch durable, however long the disk takes, and announces it. Must not be dropped half-way.
    async fn commit(&mut self, batch: &[Order]) {
        let Some(last) = batch.last() else { return };
        let mut newer = BTreeMap::new();
        for order in batch {
            keep_newer(&mut newer, order.key.clone(), order.register.clone());
        }
        {
            let held = lock(&self.registers);
            newer.retain(|key, register| held.get(key).is_none_or(|held| held.version < register.version));
        }
        if !newer.is_empty() {
            self.log_all(&newer).await;
            lock(&self.registers).append(&mut newer);
        }
        self.announce.send_replace(last.number);
    }

    async fn log_all(&mut self, newer: &BTreeMap<String, Register>) {
        if self.log.can_append() && self.log.append(newer).await.is_ok() {
            return;
        }
        let mut all = lock(&self.registers).clone();
        all.extend(newer.iter().map(|(key, register)| (key.clone(), register.clone())));
        while self.log.rewrite(&all).await.is_err() {
            sleep(DISK_PAUSE).await;
        }
    }
}

/// Whether the same call may succeed later: a failing or full disk, not a wrong path or missing permission.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied};
    use io::ErrorKind::{ReadOnlyFilesystem, Unsupported};
    !matches!(
        error.kind(),
        AlreadyExists
            | InvalidInput
            | IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | ReadOnlyFilesystem
            | Unsupported
    )
}

/// Locks what no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
