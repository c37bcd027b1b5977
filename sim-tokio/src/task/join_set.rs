//! Many tasks, joined in the order in which they end.

use crate::runtime::Handle;
use crate::task::{AbortHandle, Id, JoinError, JoinHandle, LocalSet};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Tasks that are joined in the order in which they end. Dropping it aborts them all.
pub struct JoinSet<T> {
    /// In the order of their spawning.
    entries: BTreeMap<u64, JoinHandle<T>>,
    next: u64,
    ended: Arc<Ended>,
}

/// Which entries have ended, and who wants to know.
#[derive(Default)]
struct Ended {
    state: Mutex<EndedState>,
}

#[derive(Default)]
struct EndedState {
    queue: VecDeque<u64>,
    waiter: Option<Waker>,
}

impl Ended {
    fn with<R>(&self, f: impl FnOnce(&mut EndedState) -> R) -> R {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The waker of one entry.
struct EntryWaker {
    entry: u64,
    ended: Arc<Ended>,
}

impl Wake for EntryWaker {
    fn wake(self: Arc<Self>) {
        let waiter = self.ended.with(|state| {
            state.queue.push_back(self.entry);
            state.waiter.take()
        });
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> JoinSet<T> {
        JoinSet { entries: BTreeMap::new(), next: 0, ended: Arc::default() }
    }

    /// How many tasks it holds that have not been joined.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T: 'static> JoinSet<T> {
    /// Spawns a task into the current runtime.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn spawn<F>(&mut self, task: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.insert(crate::task::spawn(task))
    }

    /// Spawns a task into the runtime of `handle`.
    #[track_caller]
    pub fn spawn_on<F>(&mut self, task: F, handle: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
        T: Send,
    {
        self.insert(handle.spawn(task))
    }

    /// Spawns a task into the current [`LocalSet`].
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, task: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.insert(crate::task::spawn_local(task))
    }

    /// Spawns a task into `local_set`.
    #[track_caller]
    pub fn spawn_local_on<F>(&mut self, task: F, local_set: &LocalSet) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.insert(local_set.spawn_local(task))
    }

    fn insert(&mut self, handle: JoinHandle<T>) -> AbortHandle {
        let abort = handle.abort_handle();
        let entry = self.next;
        self.next += 1;
        handle.when_ended(Waker::from(Arc::new(EntryWaker { entry, ended: self.ended.clone() })));
        self.entries.insert(entry, handle);
        abort
    }

    /// Waits for the next task to end; `None` if the set is empty. Cancelling it loses nothing.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// The same, with the task's id.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        poll_fn(|cx| self.poll_join_next_with_id(cx)).await
    }

    /// The output of a task that has ended; `None` if there is none.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.take_ended().map(|(_, result)| result)
    }

    /// The same, with the task's id.
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.take_ended().map(|(id, result)| result.map(|output| (id, output)))
    }

    /// Aborts all tasks and waits until they have ended.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// All outputs, in the order in which the tasks end.
    ///
    /// # Panics
    /// If a task panicked, with its panic, or was aborted; the other tasks are aborted then.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut outputs = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            match result {
                Ok(output) => outputs.push(output),
                Err(e) if e.is_panic() => resume_unwind(e.into_panic()),
                Err(e) => panic!("{e}"),
            }
        }
        outputs
    }

    /// Aborts all tasks. They stay in the set until they are joined.
    pub fn abort_all(&mut self) {
        self.entries.values().for_each(JoinHandle::abort);
    }

    /// Lets all tasks go: they run on, and the set is empty.
    pub fn detach_all(&mut self) {
        self.entries.clear();
        self.ended.with(|state| state.queue.clear());
    }

    /// Polls for the next task to end; ready with `None` if the set is empty.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.poll_ended(cx).map(|ended| ended.map(|(_, result)| result))
    }

    /// The same, with the task's id.
    pub fn poll_join_next_with_id(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Id, T), JoinError>>> {
        self.poll_ended(cx).map(|ended| ended.map(|(id, result)| result.map(|output| (id, output))))
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Id, Result<T, JoinError>)>> {
        if let Some(ended) = self.take_ended() {
            return Poll::Ready(Some(ended));
        }
        if self.is_empty() {
            return Poll::Ready(None);
        }
        sim_core::waiting_for("a task of a JoinSet to end");
        self.ended.with(|state| state.waiter = Some(cx.waker().clone()));
        Poll::Pending
    }

    fn take_ended(&mut self) -> Option<(Id, Result<T, JoinError>)> {
        loop {
            let entry = self.ended.with(|state| state.queue.pop_front())?;
            // Nothing there: the entry was detached after it ended.
            if let Some(mut handle) = self.entries.remove(&entry) {
                let result = handle.try_take().expect("an entry is queued when its task has ended");
                return Some((handle.id(), result));
            }
        }
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.entries.values().for_each(JoinHandle::abort);
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        JoinSet::new()
    }
}

impl<T, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(tasks: I) -> Self {
        let mut set = JoinSet::new();
        set.extend(tasks);
        set
    }
}

impl<T, F> Extend<F> for JoinSet<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    #[track_caller]
    fn extend<I: IntoIterator<Item = F>>(&mut self, tasks: I) {
        for task in tasks {
            self.spawn(task);
        }
    }
}
