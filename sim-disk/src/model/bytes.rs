//! The calls that read, write, cut and allocate the bytes of a file, and the space they take.

use super::content::{Content, Decay};
use super::errno::Errno;
use super::inode::{FileKind, InodeId, Kind};
use super::page::PAGE;
use super::volume::Volume;
use super::walk::WRITE;
use sim_core::Instant;
use std::ops::Range;

/// The greatest size of a file.
const SIZE_MAX: u64 = i64::MAX as u64;

/// What fallocate(2) does with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// It takes space. Nothing is written, and the space is not kept from others.
    Space,
    /// FALLOC_FL_ZERO_RANGE: it reads as zeros.
    Zeros,
    /// FALLOC_FL_PUNCH_HOLE: it reads as zeros. The pages go on taking space, as they may.
    Hole,
}

impl Volume {
    /// The bytes of a file become the disk's own.
    pub(super) fn own(&mut self, inode: InodeId) -> Result<(), Errno> {
        let Kind::Below(file) = &self.inode(inode).kind else { return Ok(()) };
        let Some(below) = &self.below else { return Ok(()) };
        let content = Content::durable(&below.bytes(&file.path)?);
        self.used_pages += content.allocated();
        let inode = self.inode_mut(inode);
        inode.kind = Kind::File(content);
        inode.links_below = 0;
        Ok(())
    }

    /// pread(2): appends what there is to `out`, up to what cannot be read.
    pub fn read(&self, inode: InodeId, at: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::EISDIR) };
        let there = content.size().saturating_sub(at).min(len as u64);
        match content.undamaged(at, there, false) {
            0 if there > 0 => Err(Errno::EIO),
            readable => {
                content.read(at, readable as usize, out);
                Ok(())
            }
        }
    }

    /// How many bytes a read of `len` from `at` on would give.
    pub(crate) fn readable(&self, inode: InodeId, at: u64, len: usize) -> u64 {
        let Kind::File(content) = &self.inode(inode).kind else { return 0 };
        content.undamaged(at, content.size().saturating_sub(at).min(len as u64), false)
    }

    /// Pages that may still be taken, and the error when there are none.
    fn free_pages(&self) -> (u64, Errno) {
        let free = if self.full { 0 } else { self.capacity_pages.saturating_sub(self.used_pages) };
        let allowed = self.quota_pages.saturating_sub(self.used_pages);
        if allowed < free { (allowed, Errno::EDQUOT) } else { (free, Errno::ENOSPC) }
    }

    /// lseek(2) with SEEK_DATA, or SEEK_HOLE if `hole`: the first byte from `at` on that is in a page that was written, or
    /// in none.
    pub fn seek_data(&self, inode: InodeId, at: u64, hole: bool) -> Result<u64, Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::EINVAL) };
        if at >= content.size() {
            return Err(Errno::ENXIO);
        }
        let found = content.first_page(at, !hole).min(content.size());
        if !hole && found == content.size() { Err(Errno::ENXIO) } else { Ok(found) }
    }

    /// fallocate(2): makes sure that `at..at + len` takes space, or punches a hole there; the file grows unless `keep_size`.
    pub fn allocate(
        &mut self,
        inode: InodeId,
        at: u64,
        len: u64,
        what: Allocate,
        keep_size: bool,
        now: Instant,
    ) -> Result<(), Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::ENODEV) };
        let end = at.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        let size = content.size();
        match what {
            Allocate::Zeros | Allocate::Hole => self.write_zeros(inode, at, end.min(size), now)?,
            Allocate::Space => {
                let (free, error) = self.free_pages();
                if free < u64::MAX / 2 && content.fitting(at, len as usize, free) < len as usize {
                    return Err(error);
                }
            }
        }
        if end > size && !keep_size {
            self.resize(inode, end, now);
        }
        Ok(())
    }

    /// pwrite(2): how many bytes were written, fewer than given if the disk fills up on the way.
    pub fn write(&mut self, inode: InodeId, at: u64, bytes: &[u8], now: Instant) -> Result<usize, Errno> {
        let (free, none_left) = self.free_pages();
        let i = &mut self.inodes[inode.0 as usize];
        let Kind::File(content) = &mut i.kind else { return Err(Errno::EBADF) };
        if bytes.is_empty() {
            return Ok(0);
        }
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > SIZE_MAX) {
            return Err(Errno::EFBIG);
        }
        // A disk without a limit need not be asked where it is holding.
        let fits = if free > u64::MAX / 2 { bytes.len() } else { content.fitting(at, bytes.len(), free) };
        if fits == 0 {
            return Err(none_left);
        }
        let fits = match content.undamaged(at, fits as u64, true) {
            0 if fits > 0 => return Err(Errno::EIO),
            undamaged => undamaged as usize,
        };
        let before = content.allocated();
        content.write(at, &bytes[..fits], self.journal.next());
        let overdue = content.overdue_sizes();
        self.used_pages = self.used_pages + content.allocated() - before;
        i.written(now);
        // Who writes a program cannot make it act for its owner: the bits go (inode(7)), but for user 0.
        if self.user.user != 0 && fits > 0 {
            i.mode &= if i.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
        }
        if let Some((journal, through)) = overdue {
            self.write_sizes_back(inode, journal, through);
        }
        Ok(fits)
    }

    /// Memory shows these bytes of a file from `at` on, the beginning of a page: what differs from what calls find was stored
    /// there, up to the end of the file. Space is taken even where there is none: the kernel would have ended the program by SIGBUS
    /// when it stored.
    pub fn store(&mut self, inode: InodeId, at: u64, shown: &[u8], now: Instant) {
        let i = &mut self.inodes[inode.0 as usize];
        let Kind::File(content) = &mut i.kind else { return };
        let before = content.allocated();
        if content.store(at, shown, self.journal.next()) {
            self.used_pages = self.used_pages + content.allocated() - before;
            i.written(now);
        }
    }

    /// The medium damages a page among these bytes: the page, if there is one whose bytes lie on the medium alone.
    pub fn decay(&mut self, inode: InodeId, at: u64, len: u64, how: Decay, detail: u64) -> Option<u64> {
        match &mut self.inode_mut(inode).kind {
            Kind::File(content) => content.decay(at, len, how, detail),
            _ => None,
        }
    }

    /// Zeros from `from` to `end`, but where there is a hole already.
    fn write_zeros(&mut self, inode: InodeId, from: u64, end: u64, now: Instant) -> Result<(), Errno> {
        let mut from = from;
        while from < end {
            let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::ENODEV) };
            from = content.first_page(from, true);
            let until = end.min((from / PAGE as u64).saturating_add(1).saturating_mul(PAGE as u64));
            if from < until {
                self.write(inode, from, &[0; PAGE][..(until - from) as usize], now)?;
            }
            from = until.max(from);
        }
        Ok(())
    }

    /// ftruncate(2).
    pub fn set_len(&mut self, inode: InodeId, len: u64, now: Instant) -> Result<(), Errno> {
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if self.is_dir(inode) {
            return Err(Errno::EINVAL);
        }
        self.resize(inode, len, now);
        Ok(())
    }

    pub(super) fn resize(&mut self, inode: InodeId, len: u64, now: Instant) {
        let i = &mut self.inodes[inode.0 as usize];
        let Kind::File(content) = &mut i.kind else { return };
        let before = content.allocated();
        let changed = content.set_len(len, self.journal.next());
        let overdue = content.overdue_sizes();
        self.used_pages = self.used_pages + content.allocated() - before;
        i.written(now);
        if let Some(seq) = changed {
            self.journal_truncation(inode, seq);
        }
        if let Some((journal, through)) = overdue {
            self.write_sizes_back(inode, journal, through);
        }
    }

    /// truncate(2).
    pub fn truncate(&mut self, path: &[u8], len: u64, now: Instant) -> Result<(), Errno> {
        let inode = self.lookup(path, true)?;
        match self.kind(inode) {
            FileKind::Dir => return Err(Errno::EISDIR),
            FileKind::File if self.may(inode, WRITE) => {}
            FileKind::File => return Err(Errno::EACCES),
            _ => return Err(Errno::EINVAL),
        }
        self.own(inode)?;
        self.set_len(inode, len, now)
    }

    /// The size of a file, 0 for a directory.
    pub fn size(&self, inode: InodeId) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.size(),
            Kind::Below(file) => file.len,
            _ => 0,
        }
    }

    /// How many pages a sync of these bytes would write.
    pub fn dirty_pages(&self, inode: InodeId, bytes: Range<u64>) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.dirty_pages(bytes),
            _ => 0,
        }
    }
}
