//! redb's storage: one file.
//!
//! ```
//! use sim_core::NodeId;
//! use sim_disk::{Profile, Volume};
//! use sim_disk_adapters::{SharedVolume, redb::File};
//! use redb::ReadableDatabase;
//! const TABLE: redb::TableDefinition<u64, u64> = redb::TableDefinition::new("t");
//!
//! let disk = SharedVolume::new(Volume::new(NodeId(1), "a", Profile::Linux));
//! let db = redb::Builder::new().create_with_backend(File::create(&disk, "/db").unwrap()).unwrap();
//! let change = db.begin_write().unwrap();
//! change.open_table(TABLE).unwrap().insert(1, 2).unwrap();
//! change.commit().unwrap();
//! // Whatever the power leaves, what was committed is there.
//! for state in disk.crash_states() {
//!     let disk = SharedVolume::new(state.volume);
//!     let db = redb::Builder::new().create_with_backend(File::create(&disk, "/db").unwrap()).unwrap();
//!     let found = db.begin_read().unwrap().open_table(TABLE).unwrap().get(1).unwrap();
//!     assert_eq!(found.map(|found| found.value()), Some(2));
//! }
//! ```

use crate::SharedVolume;
use sim_disk::{InodeId, OpenHow};
use std::io;

/// A file of a shared disk, for `redb::Builder::create_with_backend`.
///
/// It knows no locks, so redb assumes that nobody else has it open.
#[derive(Debug)]
pub struct File {
    disk: SharedVolume,
    inode: InodeId,
}

impl File {
    /// Opens a file, and creates it if it is not there. Its name is durable when its directory was synced, which neither this nor
    /// redb does; with [`Profile::Linux`](sim_disk::Profile::Linux) when it was itself synced.
    ///
    /// # Errors
    /// As open(2).
    pub fn create(disk: &SharedVolume, path: &str) -> io::Result<File> {
        let how = OpenHow { read: true, write: true, create: true, ..OpenHow::default() };
        let inode = disk.change(|volume, now| volume.open(path.as_bytes(), how, now))?;
        Ok(File { disk: disk.clone(), inode })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let closed = self.disk.look(|volume| {
            volume.close(self.inode);
            Ok(())
        });
        debug_assert!(closed.is_ok(), "closing has no errors");
    }
}

impl redb::StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        self.disk.look(|volume| Ok(volume.size(self.inode)))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(out.len());
        self.disk.look(|volume| volume.read(self.inode, offset, out.len(), &mut bytes))?;
        if bytes.len() < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(|volume, now| volume.set_len(self.inode, len, now))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change(|volume, _| {
            volume.sync(self.inode, true);
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < data.len() {
            let at = offset + written as u64;
            written += self.disk.change(|volume, now| volume.write(self.inode, at, &data[written..], now))?;
        }
        Ok(())
    }
}
