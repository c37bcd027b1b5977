//! Open file descriptions: cursors, who shares them, and the locks that hang on them.

use crate::device::Disk;
use crate::model::errno::Errno;
use crate::model::inode::InodeId;
use crate::model::locks::{Holder, RangeLock};
use crate::model::tree::OpenHow;
use crate::model::volume::Volume;
use sim_core::{DeviceCx, Instant, NodeId};
use std::task::Waker;

/// An open file description: its cursor is shared by all handles that were cloned from one another.
///
/// Names one and no other: a name from an earlier incarnation, or from another run, names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    pub(crate) disk: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

pub(crate) struct OpenFile {
    pub generation: u32,
    pub node: NodeId,
    pub inode: InodeId,
    pub cursor: u64,
    pub how: OpenHow,
    /// Handles that share it.
    pub handles: u32,
}

impl OpenFile {
    pub fn read(&self, volume: &Volume, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if !self.how.read {
            return Err(Errno::EBADF);
        }
        let mut bytes = Vec::new();
        volume.read(self.inode, at, len, &mut bytes).map(|()| bytes)
    }

    /// Where it wrote, and how much. O_APPEND wins over an offset: pwrite(2), BUGS. Nothing is written nowhere: the cursor stays
    /// (generic_write_checks, fs/read_write.c).
    pub fn write(&self, volume: &mut Volume, at: u64, bytes: &[u8], now: Instant) -> Result<(u64, usize), Errno> {
        if !(self.how.write || self.how.append) {
            return Err(Errno::EBADF);
        }
        let at = if self.how.append && !bytes.is_empty() { volume.size(self.inode) } else { at };
        volume.write(self.inode, at, bytes, now).map(|n| (at, n))
    }
}

impl Disk {
    pub(crate) fn file(&mut self, id: FileId) -> Option<&mut OpenFile> {
        let found = self.files.get_mut(id.slot as usize);
        found.filter(|f| f.generation == id.generation && id.disk == self.number)
    }

    /// Opens what is still a file of the tree below, for a caller that reads it there, and says its path in that tree. Takes
    /// no time, and no fault strikes it. `None` if the path names no such file.
    ///
    /// # Errors
    /// EACCES: it may not be read.
    pub fn open_below(&mut self, node: NodeId, path: &[u8], follow: bool) -> Result<Option<(FileId, Vec<u8>)>, Errno> {
        let how = OpenHow { read: true, no_follow: !follow, ..OpenHow::default() };
        let volume = self.volume(node);
        let Some(inode) = volume.open_below(path, how)? else { return Ok(None) };
        let below = volume.path_below(inode).unwrap_or_default().to_vec();
        self.generation += 1;
        let (disk, generation) = (self.number, self.generation);
        let slot = self.files.insert(OpenFile { generation, node, inode, cursor: 0, how, handles: 1 }) as u32;
        Ok(Some((FileId { disk, slot, generation }, below)))
    }

    /// Whether a file is open, and whose it is.
    pub fn node_of(&mut self, file: FileId) -> Option<NodeId> {
        self.file(file).map(|f| f.node)
    }

    /// One more handle of an open file: dup(2).
    pub fn share(&mut self, file: FileId) -> Result<(), Errno> {
        self.file(file).ok_or(Errno::EBADF)?.handles += 1;
        Ok(())
    }

    /// One handle fewer. Does nothing if the file is not open any more.
    pub fn close(&mut self, file: FileId, cx: &mut DeviceCx<'_>) {
        let Some(open) = self.file(file) else { return };
        open.handles -= 1;
        if open.handles == 0 {
            let open = self.files.remove(file.slot as usize);
            let volume = &mut self.drive(open.node).volume;
            let freed = volume.locks(open.inode).description_closed(file.description());
            volume.close(open.inode);
            if freed {
                self.wake_lock_waiters(cx);
            }
        }
    }

    /// The file behind an open file, for calls on its node's [`volume`](Self::volume). `None` if it is not open any more.
    pub fn inode_of(&mut self, file: FileId) -> Option<(NodeId, InodeId)> {
        self.file(file).map(|f| (f.node, f.inode))
    }

    /// Where an open file stands.
    pub fn cursor(&mut self, file: FileId) -> Option<u64> {
        self.file(file).map(|f| f.cursor)
    }

    /// A file goes on at `at`: for a caller that has read the tree below itself so far.
    pub fn set_cursor(&mut self, file: FileId, at: u64) -> Result<(), Errno> {
        self.file(file).ok_or(Errno::EBADF)?.cursor = at;
        Ok(())
    }

    /// How a file was opened.
    pub fn how(&mut self, file: FileId) -> Option<OpenHow> {
        self.file(file).map(|f| f.how)
    }

    /// fcntl(2), F_SETFL with or without O_APPEND.
    pub fn set_append(&mut self, file: FileId, append: bool) -> Result<(), Errno> {
        let how = &mut self.file(file).ok_or(Errno::EBADF)?.how;
        // Mostly it is so already.
        if how.append != (append && how.write) {
            how.append = append && how.write;
        }
        Ok(())
    }

    // ---- locks ----------------------------------------------------------------------------------------------------

    /// flock(2): takes the lock, alone if `exclusive`. False if another holds it.
    pub fn lock(&mut self, file: FileId, exclusive: bool, cx: &mut DeviceCx<'_>) -> Result<bool, Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        let locks = self.drive(node).volume.locks(inode);
        let lost = locks.unlock_unless(file.description(), exclusive);
        let taken = locks.lock(file.description(), exclusive);
        if lost {
            self.wake_lock_waiters(cx);
        }
        Ok(taken)
    }

    /// flock(2) with LOCK_UN.
    pub fn unlock(&mut self, file: FileId, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        if self.drive(node).volume.locks(inode).unlock(file.description()) {
            self.wake_lock_waiters(cx);
        }
        Ok(())
    }

    /// fcntl(2), F_SETLK, or F_OFD_SETLK if `of_description`: takes the bytes `start..=last`, alone if `exclusive` is
    /// true, or gives them up if it is `None`. False if another's lock is in the way.
    pub fn lock_range(
        &mut self,
        file: FileId,
        of_description: bool,
        exclusive: Option<bool>,
        (start, last): (u64, u64),
        cx: &mut DeviceCx<'_>,
    ) -> Result<bool, Errno> {
        let open = self.file(file).ok_or(Errno::EBADF)?;
        // F_RDLCK needs a file that can be read, F_WRLCK one that can be written: fcntl(2).
        let able = match exclusive {
            Some(true) => open.how.write || open.how.append,
            Some(false) => open.how.read,
            None => true,
        };
        if !able {
            return Err(Errno::EBADF);
        }
        let (node, inode) = (open.node, open.inode);
        let holder = file.holder(of_description);
        let locks = self.drive(node).volume.locks(inode);
        let (taken, freed) = match exclusive {
            Some(exclusive) => {
                let had_more = !exclusive;
                let taken = locks.lock_range(RangeLock { holder, exclusive, start, last });
                (taken, taken && had_more)
            }
            None => (true, locks.unlock_range(holder, start, last)),
        };
        if freed {
            self.wake_lock_waiters(cx);
        }
        Ok(taken)
    }

    /// fcntl(2), F_GETLK, or F_OFD_GETLK if `of_description`: the lock that would be in the way.
    pub fn conflict(
        &mut self,
        file: FileId,
        of_description: bool,
        exclusive: bool,
        (start, last): (u64, u64),
    ) -> Result<Option<RangeLock>, Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        let holder = file.holder(of_description);
        Ok(self.drive(node).volume.locks(inode).conflict(&RangeLock { holder, exclusive, start, last }))
    }

    /// A descriptor of this file was closed: the process loses what it locked of it, whichever descriptor it used. The
    /// rule that makes POSIX locks what they are: fcntl(2).
    pub fn descriptor_closed(&mut self, file: FileId, cx: &mut DeviceCx<'_>) {
        let Some((node, inode)) = self.inode_of(file) else { return };
        if self.drive(node).volume.locks(inode).unlock_range(Holder::Process, 0, u64::MAX) {
            self.wake_lock_waiters(cx);
        }
    }

    /// Wakes `waker` when a lock of any file is given up.
    pub fn await_unlock(&mut self, waker: &Waker) {
        if !self.lock_waiters.iter().any(|w| w.will_wake(waker)) {
            self.lock_waiters.push(waker.clone());
        }
    }

    pub(crate) fn wake_lock_waiters(&mut self, cx: &mut DeviceCx<'_>) {
        for waker in self.lock_waiters.drain(..) {
            cx.wake(waker);
        }
    }
}

impl FileId {
    /// Names it among the holders of locks.
    pub(crate) fn description(self) -> u64 {
        (self.slot as u64) << 32 | self.generation as u64
    }

    fn holder(self, of_description: bool) -> Holder {
        if of_description { Holder::Description(self.description()) } else { Holder::Process }
    }
}
