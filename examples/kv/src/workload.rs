//! What tests and the demonstration do to a cluster: clients that write and read, and a record of what they saw.
//!
//! Every function takes servers as a list of `HOST:PORT` separated by commas and returns plain data. None of them fails when the
//! cluster does: an operation that did not succeed is recorded as such. All clients of one workload run in the
//! caller's process, so one clock measures them. Client identities: 1 and up for a [`Workload`], 1000 and up for the
//! functions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check::{Kind, Op};
use crate::client::Client;
use crate::register::Version;

/// The pause between two of the [`writes`].
const PACE: Duration = Duration::from_millis(80);

/// Writes `count` keys, each once, and returns the keys and values of the writes that were acknowledged.
///
/// One client, one write at a time, 80 ms apart: without faults, `count` of 200 takes about 17 s.
pub async fn writes(servers: &str, count: usize) -> BTreeSet<(String, String)> {
    let mut client = Client::new(1000, servers);
    let mut acked = BTreeSet::new();
    for i in 0..count {
        let (key, value) = (format!("write-{i:04}"), format!("value {i}"));
        if client.put(&key, value.clone()).await.is_ok() {
            acked.insert((key, value));
        }
        sleep(PACE).await;
    }
    acked
}

/// Reads every key there is, and returns those that could be read with their values.
pub async fn read_all(servers: &str) -> BTreeSet<(String, String)> {
    let mut client = Client::new(1001, servers);
    let mut found = BTreeSet::new();
    for key in client.keys().await.unwrap_or_default() {
        if let Ok(read) = client.get(&key).await
            && let Some(value) = read.value
        {
            found.insert((key, text(&value)));
        }
    }
    found
}

/// What each server holds itself, without asking the others: the versions of all its keys, in the order of `servers`.
/// A server that does not answer holds nothing.
pub async fn holdings(servers: &str) -> Vec<BTreeMap<String, Version>> {
    let mut all = Vec::new();
    for server in servers.split(',') {
        let held = Client::new(1002, server).held().await.unwrap_or_default();
        all.push(held.into_iter().collect());
    }
    all
}

/// Several clients that write and read the same few keys, and keys that are written only once, through all servers in
/// turn.
///
/// Of six operations of a client two are writes to shared keys and two are reads of them; one writes to a key that is
/// never written again, and one reads such a key, of any client. Of the writes to shared keys every sixth, and of
/// the others every second, is attempted only once, as by a client that died: it may stay half done for good.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The servers.
    pub servers: String,
    /// How many clients.
    pub clients: u64,
    /// How many operations each of them does.
    pub operations: u64,
    /// The mean pause of a client between two operations.
    pub pace: Duration,
    /// How many keys are shared.
    pub keys: u64,
}

/// What the clients of a workload saw.
#[derive(Clone, Debug)]
pub struct History {
    /// Every operation, in the order they ended.
    pub ops: Vec<Op>,
    /// When the clock read zero.
    origin: Instant,
}

impl Workload {
    /// Three clients, each with 170 operations about 100 ms apart, on two shared keys: about 18 s, 510 operations, and
    /// half of them writes.
    pub fn new(servers: impl Into<String>) -> Self {
        Self { servers: servers.into(), clients: 3, operations: 170, pace: Duration::from_millis(100), keys: 2 }
    }

    /// Runs all clients to their ends and returns what they saw.
    ///
    /// # Panics
    ///
    /// If there are no keys.
    pub async fn run(self) -> History {
        assert!(self.keys > 0, "a workload needs a key to share");
        let origin = Instant::now();
        let mut clients = JoinSet::new();
        for id in 1..=self.clients {
            clients.spawn(self.clone().client(id, origin));
        }
        let mut ops: Vec<Op> = clients.join_all().await.into_iter().flatten().collect();
        ops.sort_by_key(|op| (op.end, op.client));
        History { ops, origin }
    }

    async fn client(self, id: u64, origin: Instant) -> Vec<Op> {
        let mut recorder = Recorder::new(id, &self.servers, origin);
        for i in 0..self.operations {
            let round = i / 6;
            let shared = format!("shared-{}", (round + id) % self.keys);
            let value = format!("c{id}-{i}");
            match i % 6 {
                2 if round % 2 == 1 => recorder.write_once(&format!("own-{id}-{round}"), value).await,
                2 => recorder.write(&format!("own-{id}-{round}"), value).await,
                3 => {
                    let owner = 1 + (id + round) % self.clients;
                    recorder.read(&format!("own-{owner}-{}", round.saturating_sub(round % 3))).await;
                }
                4 if round % 3 == 1 => recorder.write_once(&shared, value).await,
                0 | 4 => recorder.write(&shared, value).await,
                _ => recorder.read(&shared).await,
            }
            // Between half the pace and one and a half, so that the clients drift through each other's operations.
            sleep(self.pace / 8 * (4 + (i * 5 + id * 3) as u32 % 9)).await;
        }
        recorder.ops
    }
}

impl History {
    /// Reads every key of the history through each of the servers, one server after the other, and adds those reads.
    ///
    /// For the end of a test, when faults are healed: what was acknowledged must be found now, and what one server
    /// has answered, the next must not deny.
    pub async fn read_back(&mut self, servers: &str) {
        let keys: BTreeSet<String> = self.ops.iter().map(|op| op.key.clone()).collect();
        for (i, server) in servers.split(',').enumerate() {
            let mut recorder = Recorder::new(2000 + i as u64, server, self.origin);
            for key in &keys {
                recorder.read(key).await;
            }
            self.ops.append(&mut recorder.ops);
        }
    }

    /// How many writes were acknowledged.
    pub fn acked(&self) -> usize {
        self.count(Kind::Write)
    }

    /// How many reads were answered.
    pub fn answered(&self) -> usize {
        self.count(Kind::Read)
    }

    fn count(&self, kind: Kind) -> usize {
        self.ops.iter().filter(|op| op.ok && op.kind == kind).count()
    }
}

/// One client and what it saw.
struct Recorder {
    client: Client,
    id: u64,
    origin: Instant,
    ops: Vec<Op>,
}

impl Recorder {
    fn new(id: u64, servers: &str, origin: Instant) -> Self {
        Self { client: Client::new(id, servers).starting_at(id as usize), id, origin, ops: Vec::new() }
    }

    async fn read(&mut self, key: &str) {
        let start = self.origin.elapsed();
        let read = self.client.get(key).await.ok();
        let value = read.as_ref().and_then(|read| read.value.as_ref()).map(text);
        self.record(Kind::Read, key, value, read.map(|read| read.version), start);
    }

    async fn write(&mut self, key: &str, value: String) {
        let start = self.origin.elapsed();
        let version = self.client.put(key, value.clone()).await.ok();
        self.record(Kind::Write, key, Some(value), version, start);
    }

    async fn write_once(&mut self, key: &str, value: String) {
        let start = self.origin.elapsed();
        let version = self.client.put_once(key, value.clone()).await.ok();
        self.record(Kind::Write, key, Some(value), version, start);
    }

    fn record(&mut self, kind: Kind, key: &str, value: Option<String>, version: Option<Version>, start: Duration) {
        let end = self.origin.elapsed();
        let ok = version.is_some();
        self.ops.push(Op { client: self.id, key: key.into(), kind, value, version, start, end, ok });
    }
}

fn text(value: &Bytes) -> String {
    String::from_utf8_lossy(value).into_owned()
}
