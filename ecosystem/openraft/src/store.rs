//! What a server remembers. A [`Disk`] outlives the process; the [`Machine`] is made anew from it at each start.

use crate::{Line, Place, Types};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    BasicNode, Entry, EntryPayload, LogId, RaftLogId, RaftLogReader, RaftSnapshotBuilder, SnapshotMeta, StorageError,
    StoredMembership, Vote,
};
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard};

type Stored<T> = Result<T, StorageError<u64>>;

/// A disk that has written what it was told when it was told. It stands for a real one, and survives a kill.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    vote: Option<Vote<u64>>,
    committed: Option<LogId<u64>>,
    purged: Option<LogId<u64>>,
    log: std::collections::BTreeMap<u64, Entry<Types>>,
    snapshot: Option<(SnapshotMeta<u64, BasicNode>, Vec<u8>)>,
}

impl Disk {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// How many entries the log has that no snapshot replaced.
    pub fn log_len(&self) -> usize {
        self.content().log.len()
    }

    /// Whether a snapshot was written or received.
    pub fn has_snapshot(&self) -> bool {
        self.content().snapshot.is_some()
    }

    fn snapshot(&self) -> Option<Snapshot<Types>> {
        let (meta, data) = self.content().snapshot.clone()?;
        Some(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}

impl RaftLogReader<Types> for Disk {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        Ok(self.content().log.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Disk {
    type LogReader = Disk;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        let content = self.content();
        let last = content.log.last_key_value().map(|(_, entry)| *entry.get_log_id());
        Ok(LogState { last_purged_log_id: content.purged, last_log_id: last.or(content.purged) })
    }

    async fn get_log_reader(&mut self) -> Disk {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored<()> {
        self.content().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        Ok(self.content().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Stored<()> {
        self.content().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Stored<Option<LogId<u64>>> {
        Ok(self.content().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        self.content().log.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId<u64>) -> Stored<()> {
        self.content().log.split_off(&since.index);
        Ok(())
    }

    async fn purge(&mut self, until: LogId<u64>) -> Stored<()> {
        let mut content = self.content();
        content.purged = Some(until);
        content.log = content.log.split_off(&(until.index + 1));
        Ok(())
    }
}

/// The list, as far as this server knows it.
#[derive(Clone)]
pub struct Machine {
    disk: Disk,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, BasicNode>,
    lines: Vec<Line>,
}

impl State {
    /// The place of a line; appended unless it is there.
    fn append(&mut self, line: Line) -> usize {
        self.lines.iter().position(|known| *known == line).unwrap_or_else(|| {
            self.lines.push(line);
            self.lines.len() - 1
        })
    }

    fn restore(meta: &SnapshotMeta<u64, BasicNode>, data: &[u8]) -> State {
        let lines = serde_json::from_slice(data).expect("a snapshot is what build_snapshot wrote");
        State { applied: meta.last_log_id, membership: meta.last_membership.clone(), lines }
    }
}

impl Machine {
    /// The state of the disk's last snapshot.
    pub fn new(disk: Disk) -> Machine {
        let state = match &disk.content().snapshot {
            Some((meta, data)) => State::restore(meta, data),
            None => State::default(),
        };
        Machine { disk, state: Arc::new(Mutex::new(state)) }
    }

    /// All lines.
    pub fn lines(&self) -> Vec<Line> {
        self.state().lines.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Stored<(Option<LogId<u64>>, StoredMembership<u64, BasicNode>)> {
        let state = self.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<Place>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut state = self.state();
        let apply = |entry: Entry<Types>| {
            state.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(line) => Some(state.append(line)),
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    None
                }
            }
        };
        Ok(entries.into_iter().map(apply).collect())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        let data = snapshot.into_inner();
        *self.state() = State::restore(meta, &data);
        self.disk.content().snapshot = Some((meta.clone(), data));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(self.disk.snapshot())
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let state = self.state();
        let data = serde_json::to_vec(&state.lines).expect("lines are JSON");
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
            snapshot_id: state.applied.map_or("none".into(), |id| id.to_string()),
        };
        self.disk.content().snapshot = Some((meta.clone(), data.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
