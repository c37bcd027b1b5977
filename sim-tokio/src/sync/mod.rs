//! Synchronisation between tasks: tokio's own code, but for [`watch`] and [`Barrier`].
//!
//! It needs no runtime and holds no clock, so the real code runs here. Those two are ours: in tokio they draw from a random
//! generator that no seed decides (see [`watch`]). Nothing else in `tokio::sync` draws from it.
//!
//! # Simulation
//! Its wakes pass through the simulated queue like all others. `mpsc::Sender::send_timeout` is the one method that asks for
//! a real runtime: it panics; use `timeout(d, tx.send(v))`.

mod barrier;
pub mod watch;

pub use barrier::{Barrier, BarrierWaitResult};
pub use real::sync::{
    AcquireError, MappedMutexGuard, Mutex, MutexGuard, Notify, OnceCell, OwnedMappedMutexGuard, OwnedMutexGuard,
    OwnedRwLockMappedWriteGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock,
    RwLockMappedWriteGuard, RwLockReadGuard, RwLockWriteGuard, Semaphore, SemaphorePermit, SetError, SetOnce,
    SetOnceError, TryAcquireError, TryLockError, broadcast, futures, mpsc, oneshot,
};
