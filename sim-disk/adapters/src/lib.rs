//! The simulated disk behind the traits by which libraries take their storage.
//!
//! For exhaustive tests of what stands on such a library: no run, no machine, no time, one thread. After any call, or
//! [after each](SharedVolume::after_each_change), every state that a power loss can leave is visited, and the library is opened on it.
//! (In a run none of this is needed: there redb's own files and object_store's `LocalFileSystem` are on the machine's disk.)
//!
//! * [`redb`]: a file for `redb::Builder::create_with_backend`.
//! * [`object_store`]: an `object_store::ObjectStore` whose objects are files.

#[cfg(feature = "object-store")]
pub mod object_store;
#[cfg(feature = "redb")]
pub mod redb;

use send_wrapper::SendWrapper;
use sim_core::Instant;
use sim_disk::{CrashStates, Errno, Volume};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A disk that several handles share.
///
/// It belongs to the thread that made it: used or dropped for the last time on another, it panics. (Libraries ask for `Send` and
/// `Sync`, and in a test of one thread make no use of them.)
#[derive(Clone)]
pub struct SharedVolume {
    inner: Arc<SendWrapper<Inner>>,
}

struct Inner {
    volume: RefCell<Volume>,
    changes: Cell<u64>,
    watcher: RefCell<Option<Watcher>>,
}

type Watcher = Box<dyn FnMut(&Volume)>;

impl SharedVolume {
    /// Shares a disk.
    pub fn new(volume: Volume) -> SharedVolume {
        let inner = Inner { volume: RefCell::new(volume), changes: Cell::new(0), watcher: RefCell::new(None) };
        SharedVolume { inner: Arc::new(SendWrapper::new(inner)) }
    }

    /// Every state that a power loss could leave now: [`Volume::crash_states`].
    pub fn crash_states(&self) -> CrashStates {
        self.inner.volume.borrow().crash_states()
    }

    /// Lets `watcher` see the disk after each call that may have changed it, in place of the watcher before. What it opens
    /// must stand on a copy of the disk, as the crash states do.
    pub fn after_each_change(&self, watcher: impl FnMut(&Volume) + 'static) {
        *self.inner.watcher.borrow_mut() = Some(Box::new(watcher));
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// If there is no such directory.
    pub fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.change(|volume, _| {
            let dir = volume.lookup(path.as_bytes(), true)?;
            volume.sync(dir, false);
            Ok(())
        })
    }

    /// Calls so far that may have changed it.
    #[cfg(feature = "object-store")]
    fn count(&self) -> u64 {
        self.inner.changes.get()
    }

    /// A look at the disk that changes nothing.
    fn look<R>(&self, look: impl FnOnce(&mut Volume) -> Result<R, Errno>) -> io::Result<R> {
        look(&mut self.inner.volume.borrow_mut()).map_err(error)
    }

    /// A call that may change it, and the time of the call: each takes a microsecond.
    fn change<R>(&self, call: impl FnOnce(&mut Volume, Instant) -> Result<R, Errno>) -> io::Result<R> {
        let inner = &*self.inner;
        inner.changes.set(inner.changes.get() + 1);
        let now = Instant::ZERO + Duration::from_micros(inner.changes.get());
        let result = call(&mut inner.volume.borrow_mut(), now);
        if let Some(watcher) = inner.watcher.borrow_mut().as_mut() {
            watcher(&inner.volume.borrow());
        }
        result.map_err(error)
    }
}

impl fmt::Debug for SharedVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedVolume").finish_non_exhaustive()
    }
}

fn error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}
