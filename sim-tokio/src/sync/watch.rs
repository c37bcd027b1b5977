//! A channel that keeps the last value only, for those who want to know what it is now and when it changes.
//!
//! Tokio's whole API, with one list of waiting receivers, first in, first out. The list is tokio's own [`Notify`].
//!
//! ```
//! use sim_tokio as tokio;
//! use tokio::sync::watch;
//!
//! tokio::runtime::Runtime::new().unwrap().block_on(async {
//!     let (tx, mut rx) = watch::channel("hello");
//!     let task = tokio::spawn(async move {
//!         while rx.changed().await.is_ok() {
//!             assert_eq!(*rx.borrow_and_update(), "world");
//!         }
//!     });
//!     tx.send("world").unwrap();
//!     tokio::task::yield_now().await;
//!     drop(tx);
//!     task.await.unwrap();
//! });
//! ```
//!
//! # Simulation
//! Tokio spreads receivers over eight such lists, to keep threads off each other's lock, and picks the list by a generator
//! that is seeded from the process, not from the run: receivers wake in an order that a seed does not decide. In a
//! simulation such chance is forbidden, so this is not tokio's. A change wakes its receivers in the order in which they
//! began to wait; whether they run in that order is for the seed to say. A program cannot tell, as tokio promises no order.

use real::sync::Notify;
use std::fmt;
use std::mem;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// What sending and waiting can end in.
pub mod error {
    use std::error::Error;
    use std::fmt;

    pub use real::sync::watch::error::SendError;

    /// All senders are gone.
    #[derive(Debug, Clone)]
    pub struct RecvError(pub(super) ());

    impl fmt::Display for RecvError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("channel closed")
        }
    }

    impl Error for RecvError {}
}

use error::{RecvError, SendError};

/// In [`Shared::state`]: the last sender is gone. Never unset, as senders come from senders only.
const CLOSED: usize = 1;
/// In [`Shared::state`]: one version. They wrap around, past the bit.
const STEP: usize = 2;

/// Changes the value. Clones are equals; the channel closes for receivers when the last is dropped.
#[derive(Debug)]
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// Sees the value, and remembers which version of it was the last it has seen.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: usize,
}

/// The value, borrowed: a read lock. A change waits until it is dropped, so do not hold it for long.
///
/// # Simulation
/// As with tokio on one thread, a task that changes the value while it, or another that sleeps, holds one of these never
/// goes on: the run hangs.
#[derive(Debug)]
pub struct Ref<'a, T> {
    inner: RwLockReadGuard<'a, T>,
    has_changed: bool,
}

struct Shared<T> {
    value: RwLock<T>,
    /// The version of the value, which moves under its write lock only, and [`CLOSED`].
    state: AtomicUsize,
    receivers: AtomicUsize,
    senders: AtomicUsize,
    /// Told when the value changes and when the last sender goes.
    changed: Notify,
    /// Told when the last receiver goes.
    abandoned: Notify,
}

/// A channel that holds `init`, which its receiver counts as seen.
pub fn channel<T>(init: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        value: RwLock::new(init),
        state: AtomicUsize::new(0),
        receivers: AtomicUsize::new(1),
        senders: AtomicUsize::new(1),
        changed: Notify::new(),
        abandoned: Notify::new(),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, seen: 0 })
}

impl<T> Sender<T> {
    /// A sender without receivers yet: see [`subscribe`](Self::subscribe).
    pub fn new(init: T) -> Self {
        channel(init).0
    }

    /// Puts `value` in the place of the old one and wakes those who wait.
    ///
    /// # Errors
    /// Without a receiver nothing is changed, and the value comes back.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.is_closed() {
            return Err(SendError(value));
        }
        self.send_replace(value);
        Ok(())
    }

    /// Lets `modify` change the value in place and wakes those who wait, even without a receiver.
    ///
    /// # Panics
    /// If `modify` does. What it has done to the value by then stays, nobody is told, and the channel goes on working.
    pub fn send_modify<F>(&self, modify: F)
    where
        F: FnOnce(&mut T),
    {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    /// As [`send_modify`](Self::send_modify), but this is a change only if `modify` says so. Returns what it said.
    ///
    /// # Panics
    /// If `modify` does. What it has done to the value by then stays, nobody is told, and the channel goes on working.
    pub fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        {
            let mut value = self.shared.value.write().unwrap_or_else(PoisonError::into_inner);
            // Caught, so that the lock is given back by a thread that does not panic, and is not poisoned.
            match catch_unwind(AssertUnwindSafe(|| modify(&mut value))) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(panic) => {
                    drop(value);
                    resume_unwind(panic);
                }
            }
            // Under the lock: who holds a `Ref` knows which version it is of.
            self.shared.state.fetch_add(STEP, Release);
        }
        self.shared.changed.notify_waiters();
        true
    }

    /// Puts `value` in the place of the old one, which it returns, and wakes those who wait, even without a receiver.
    pub fn send_replace(&self, mut value: T) -> T {
        self.send_modify(|old| mem::swap(old, &mut value));
        value
    }

    /// The value. It never counts as changed for a sender.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref { has_changed: false, ..self.shared.look(0) }
    }

    /// Whether there is no receiver now.
    pub fn is_closed(&self) -> bool {
        self.receiver_count() == 0
    }

    /// Waits until there is no receiver.
    ///
    /// # Cancel safety
    /// Cancel safe: it holds nothing.
    pub async fn closed(&self) {
        while !self.is_closed() {
            // Asked for before the second look, so that no last receiver goes unnoticed in between.
            let abandoned = self.shared.abandoned.notified();
            if self.is_closed() {
                return;
            }
            // There may be receivers again when this task runs, so look again.
            abandoned.await;
        }
    }

    /// A receiver for which the present value counts as seen.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver::new(self.shared.clone(), self.shared.version())
    }

    /// How many receivers there are.
    pub fn receiver_count(&self) -> usize {
        self.shared.receivers.load(Relaxed)
    }

    /// How many senders there are.
    pub fn sender_count(&self) -> usize {
        self.shared.senders.load(Relaxed)
    }

    /// Whether both send into one channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Receiver<T> {
    fn new(shared: Arc<Shared<T>>, seen: usize) -> Self {
        shared.receivers.fetch_add(1, Relaxed);
        Receiver { shared, seen }
    }

    /// The value, without counting it as seen.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.shared.look(self.seen)
    }

    /// The value, which counts as seen from now on.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.shared.look_and_update(&mut self.seen)
    }

    /// Whether the value is one not seen yet.
    ///
    /// # Errors
    /// If all senders are gone, even when the last value is not seen.
    pub fn has_changed(&self) -> Result<bool, RecvError> {
        let state = self.shared.state.load(Acquire);
        if state & CLOSED != 0 { Err(RecvError(())) } else { Ok(state & !CLOSED != self.seen) }
    }

    /// Whether all senders are gone.
    pub fn is_closed(&self) -> bool {
        self.shared.state.load(Acquire) & CLOSED != 0
    }

    /// Counts the value as one not seen.
    pub fn mark_changed(&mut self) {
        self.seen = self.seen.wrapping_sub(STEP);
    }

    /// Counts the value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.version();
    }

    /// Waits for a value not seen yet, and counts it as seen.
    ///
    /// # Errors
    /// If all senders are gone and their last value is seen.
    ///
    /// # Cancel safety
    /// Cancel safe: who drops it has missed no change.
    pub async fn changed(&mut self) -> Result<(), RecvError> {
        self.shared.changed(&mut self.seen).await
    }

    /// Waits until `f` accepts the value, beginning with the present one; each that it is shown counts as seen.
    ///
    /// # Errors
    /// If all senders are gone and `f` has refused their last value.
    ///
    /// # Panics
    /// If `f` does; the channel goes on working.
    ///
    /// # Cancel safety
    /// Cancel safe: who drops it has lost no value, for the last one can be asked for at any time.
    pub async fn wait_for(&mut self, mut f: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
        let mut closed = false;
        loop {
            {
                let value = self.shared.look_and_update(&mut self.seen);
                // The last value of a closed channel is shown once.
                if (!closed || value.has_changed) && f(&value) {
                    return Ok(value);
                }
            }
            if closed {
                return Err(RecvError(()));
            }
            closed = self.shared.changed(&mut self.seen).await.is_err();
        }
    }

    /// Whether both receive from one channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl<T> Shared<T> {
    fn version(&self) -> usize {
        self.state.load(Acquire) & !CLOSED
    }

    /// The value, for one who has seen the version `seen`.
    fn look(&self, seen: usize) -> Ref<'_, T> {
        let inner = self.value.read().unwrap_or_else(PoisonError::into_inner);
        // After the lock: now the version is the one of this value.
        Ref { has_changed: self.version() != seen, inner }
    }

    fn look_and_update(&self, seen: &mut usize) -> Ref<'_, T> {
        let value = self.look(*seen);
        *seen = self.version();
        value
    }

    async fn changed(&self, seen: &mut usize) -> Result<(), RecvError> {
        loop {
            // Asked for before the look, so that no change goes unnoticed in between.
            let changed = self.changed.notified();
            let state = self.state.load(Acquire);
            if state & !CLOSED != *seen {
                *seen = state & !CLOSED;
                return Ok(());
            }
            if state & CLOSED != 0 {
                return Err(RecvError(()));
            }
            changed.await;
        }
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Ref<'_, T> {
    /// Whether the receiver had not seen this value before. Always false for a sender.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Relaxed);
        Sender { shared: self.shared.clone() }
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, AcqRel) == 1 {
            self.shared.state.fetch_or(CLOSED, Release);
            self.shared.changed.notify_waiters();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Relaxed) == 1 {
            self.shared.abandoned.notify_waiters();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Acquire);
        f.debug_struct("Shared")
            .field("value", &self.value)
            .field("version", &(state & !CLOSED))
            .field("is_closed", &(state & CLOSED != 0))
            .field("ref_count_rx", &self.receivers)
            .finish()
    }
}
