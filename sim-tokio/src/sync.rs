//! tokio's own synchronisation: it needs no runtime and holds no clock, so the real code runs here.
//!
//! # Simulation
//! Its wakes pass through the simulated queue like all others. `mpsc::Sender::send_timeout` is the one method that asks for
//! a real runtime: it panics; use `timeout(d, tx.send(v))`.

pub use real::sync::{
    AcquireError, Barrier, BarrierWaitResult, MappedMutexGuard, Mutex, MutexGuard, Notify, OnceCell,
    OwnedMappedMutexGuard, OwnedMutexGuard, OwnedRwLockMappedWriteGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard,
    OwnedSemaphorePermit, RwLock, RwLockMappedWriteGuard, RwLockReadGuard, RwLockWriteGuard, Semaphore,
    SemaphorePermit, SetError, SetOnce, SetOnceError, TryAcquireError, TryLockError, broadcast, futures, mpsc, oneshot,
    watch,
};
