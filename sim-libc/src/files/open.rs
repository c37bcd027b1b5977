//! What stands behind a descriptor of a run's file: an open file or directory of a node's disk, or random bytes.
//!
//! A regular file of the real tree that is opened for reading is not copied: as long as the disk has no bytes of its own for
//! it, they are read from the kernel, which takes no time. All else about it (times, permissions, locks) is the disk's.

use super::calls::kernel;
use super::{Time, await_reply, inode_of, perform, with_disk, with_volume};
use crate::descriptors::{Answer, Description, Errno, KernelNumber, Opened};
use crate::interpose::entropy;
use crate::{raw, threads};
use sim_core::{DeviceCx, NodeId, World};
use sim_disk::{Disk, Entry, FileId, Holder, InodeId, Op, RangeLock, Reply, Stat};
use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::task::{Context, Poll};
use std::time::Duration;

/// An open file or directory; closed with its last descriptor.
pub(crate) struct OpenFile {
    pub file: FileId,
    /// The path it was opened with, absolute: what `/proc/self/fd` says.
    pub path: Vec<u8>,
    pub list: RefCell<Listing>,
    /// Where its bytes are read while they are those of the tree below.
    real: RefCell<Option<KernelNumber>>,
}

/// How far a directory has been read.
#[derive(Default)]
pub(crate) struct Listing {
    /// What it held when it was read from the beginning.
    entries: Option<Vec<Entry>>,
    next: usize,
}

fn current() -> Answer<&'static World> {
    World::current().ok_or(Errno(libc::EIO))
}

impl OpenFile {
    pub fn new(file: FileId, path: Vec<u8>) -> OpenFile {
        OpenFile { file, path, list: RefCell::default(), real: RefCell::default() }
    }

    /// A file of the tree below, which the kernel has opened too.
    pub fn over(file: FileId, path: Vec<u8>, real: KernelNumber) -> OpenFile {
        let opened = OpenFile::new(file, path);
        opened.real.replace(Some(real));
        opened
    }

    /// The kernel's number of it, as long as the bytes there are what the disk has. Once they are not, it is read from the
    /// disk from where it stood.
    pub fn real(&self, world: &World) -> Option<i64> {
        let number = self.real.borrow().as_ref()?.get();
        let inode = self.inode(world).ok()?;
        if with_volume(world, |volume| volume.path_below(inode).is_some()) {
            return Some(number);
        }
        // SAFETY: numbers only.
        let at = unsafe { raw::call(libc::SYS_lseek, [number, 0, libc::SEEK_CUR as i64, 0, 0, 0]) };
        with_disk(world, |disk, _| disk.set_cursor(self.file, at.max(0) as u64)).ok()?;
        self.real.take();
        None
    }

    /// fstat(2).
    pub fn stat(&self, world: &'static World) -> Answer<Stat> {
        let (file, inode) = (self.id(world)?, self.inode(world)?);
        if self.real(world).is_some() {
            return Ok(with_volume(world, |volume| volume.stat(inode)));
        }
        match perform(world, Op::StatFile(file))? {
            Reply::Stat(found) => Ok(found),
            _ => Err(Errno(libc::EIO)),
        }
    }

    /// The file, if it is one of the acting node that still is open.
    pub fn id(&self, world: &World) -> Answer<FileId> {
        inode_of(world, self.file).map(|_| self.file)
    }

    pub fn inode(&self, world: &World) -> Answer<InodeId> {
        inode_of(world, self.file)
    }

    pub fn is_dir(&self, world: &World) -> Answer<bool> {
        let inode = self.inode(world)?;
        Ok(with_volume(world, |volume| volume.stat(inode).is_dir()))
    }

    pub fn read_bytes(&self, world: &'static World, at: Option<u64>, len: usize) -> Answer<Vec<u8>> {
        let file = self.id(world)?;
        if at.is_some_and(|at| at > i64::MAX as u64) {
            return Err(Errno::INVALID);
        }
        if let Some(number) = self.real(world) {
            let inode = self.inode(world)?;
            let size = with_volume(world, |volume| volume.size(inode));
            let mut bytes = vec![0; len.min(size as usize)];
            let n = read_real(number, at, &mut [IoSliceMut::new(&mut bytes)])?;
            bytes.truncate(n);
            return Ok(bytes);
        }
        match perform(world, at.map_or(Op::Read(file, len), |at| Op::ReadAt(file, at, len)))? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(Errno(libc::EIO)),
        }
    }

    /// Writes, at the end if `append` says so, and as the file was opened if it says nothing.
    pub fn write_bytes(
        &self,
        world: &'static World,
        at: Option<u64>,
        append: Option<bool>,
        bytes: &[u8],
    ) -> Answer<usize> {
        if at.is_some_and(|at| at > i64::MAX as u64) {
            return Err(Errno::INVALID);
        }
        // The dead have no descriptors that would lead here.
        let (node, file) = (world.acting_node(), self.file);
        let time = Time::of(world);
        let (took, written) = with_disk(world, |disk, cx| {
            if let Some(append) = append
                && let Err(error) = disk.set_append(file, append)
            {
                return (Duration::ZERO, Err(error));
            }
            disk.write_if(node, file, at, bytes, |takes, cx| time.passes(takes, cx), cx)
        });
        let begun = match written {
            Ok(Err(begun)) => begun,
            Ok(Ok(n)) => {
                time.pass(world, took);
                return Ok(n);
            }
            Err(error) => {
                time.pass(world, took);
                return Err(error.into());
            }
        };
        let op = match at {
            None => Op::Write(file, bytes.to_vec()),
            Some(at) => Op::WriteAt(file, at, bytes.to_vec()),
        };
        match await_reply(world, op, begun)? {
            Reply::Count(n) => Ok(n as usize),
            _ => Err(Errno(libc::EIO)),
        }
    }

    /// lseek(2). The offset of a directory is the ordinal of its next entry.
    pub fn seek(&self, world: &'static World, offset: i64, whence: i32) -> Answer<i64> {
        let file = self.id(world)?;
        if let Some(number) = self.real(world) {
            // SAFETY: numbers only.
            return kernel(unsafe { raw::call(libc::SYS_lseek, [number, offset, whence as i64, 0, 0, 0]) });
        }
        if self.is_dir(world)? {
            let mut list = self.list.borrow_mut();
            let target = match whence {
                libc::SEEK_SET => Some(offset),
                libc::SEEK_CUR => (list.next as i64).checked_add(offset),
                _ => None,
            };
            let target = target.and_then(|t| usize::try_from(t).ok()).ok_or(Errno::INVALID)?;
            if target == 0 {
                list.entries = None;
            }
            list.next = target;
            return Ok(target as i64);
        }
        let op = match whence {
            libc::SEEK_SET => Op::Seek(file, SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::INVALID)?)),
            libc::SEEK_CUR => Op::Seek(file, SeekFrom::Current(offset)),
            libc::SEEK_END => Op::Seek(file, SeekFrom::End(offset)),
            libc::SEEK_DATA | libc::SEEK_HOLE => {
                let at = u64::try_from(offset).map_err(|_| Errno(libc::ENXIO))?;
                Op::SeekData(file, at, whence == libc::SEEK_HOLE)
            }
            _ => return Err(Errno::INVALID),
        };
        match perform(world, op)? {
            Reply::Count(at) => i64::try_from(at).map_err(|_| Errno(libc::EOVERFLOW)),
            _ => Err(Errno(libc::EIO)),
        }
    }

    /// Gives the entries of a directory to `each`, from where it stands, until that says false. The first two are `.` and
    /// `..`. The entries are those of the moment when it was read from the beginning.
    pub fn list(&self, world: &'static World, mut each: impl FnMut(u64, u8, &[u8], usize) -> bool) -> Answer<()> {
        let file = self.id(world)?;
        if !self.is_dir(world)? {
            return Err(Errno(libc::ENOTDIR));
        }
        if self.list.borrow().entries.is_none() {
            let Reply::Entries(entries) = perform(world, Op::ReadDirFile(file))? else {
                return Err(Errno(libc::EIO));
            };
            self.list.borrow_mut().entries = Some(entries);
        }
        let inode = self.inode(world)?;
        let number = with_volume(world, |volume| volume.stat(inode).ino);
        let mut list = self.list.borrow_mut();
        let Listing { entries, next } = &mut *list;
        let entries = entries.as_deref().unwrap_or_default();
        loop {
            let (ino, kind, name) = match *next {
                0 => (number, libc::DT_DIR, b".".as_slice()),
                1 => (number, libc::DT_DIR, b"..".as_slice()),
                n => match entries.get(n - 2) {
                    Some(entry) => (entry.ino, super::stat::entry_kind(entry.kind), entry.name.as_slice()),
                    None => return Ok(()),
                },
            };
            if !each(ino, kind, name, *next + 1) {
                return Ok(());
            }
            *next += 1;
        }
    }

    // ---- locks ----------------------------------------------------------------------------------------------------

    /// flock(2).
    pub fn flock(&self, world: &'static World, operation: i32) -> Answer<i64> {
        let (file, waits) = (self.id(world)?, operation & libc::LOCK_NB == 0);
        match operation & !libc::LOCK_NB {
            libc::LOCK_UN => with_disk(world, |disk, cx| disk.unlock(file, cx))?,
            libc::LOCK_SH | libc::LOCK_EX => {
                let exclusive = operation & libc::LOCK_EX != 0;
                take(world, waits, Errno(libc::EWOULDBLOCK), |disk, cx| disk.lock(file, exclusive, cx))?;
            }
            _ => return Err(Errno::INVALID),
        }
        Ok(0)
    }

    /// The locks of fcntl(2). Two processes that wait for each other's are not told so (EDEADLK): the run ends in a
    /// deadlock that names both.
    fn lock_range(&self, world: &'static World, command: i32, lock: &mut libc::flock) -> Answer<i64> {
        let file = self.id(world)?;
        let of_description = matches!(command, libc::F_OFD_GETLK | libc::F_OFD_SETLK | libc::F_OFD_SETLKW);
        if of_description && lock.l_pid != 0 {
            return Err(Errno::INVALID);
        }
        let range = self.range(world, lock)?;
        let kind = match lock.l_type as i32 {
            libc::F_RDLCK => Some(false),
            libc::F_WRLCK => Some(true),
            libc::F_UNLCK => None,
            _ => return Err(Errno::INVALID),
        };
        match (command, kind) {
            (libc::F_GETLK | libc::F_OFD_GETLK, None) => Err(Errno::INVALID),
            (libc::F_GETLK | libc::F_OFD_GETLK, Some(exclusive)) => {
                match with_disk(world, |disk, _| disk.conflict(file, of_description, exclusive, range))? {
                    Some(other) => describe(world, other, lock),
                    None => lock.l_type = libc::F_UNLCK as i16,
                }
                Ok(0)
            }
            (_, kind) => {
                let waits = matches!(command, libc::F_SETLKW | libc::F_OFD_SETLKW);
                take(world, waits, Errno::AGAIN, |disk, cx| disk.lock_range(file, of_description, kind, range, cx))?;
                Ok(0)
            }
        }
    }

    /// The bytes that a lock is about: flock_to_posix_lock of fs/locks.c.
    fn range(&self, world: &'static World, lock: &libc::flock) -> Answer<(u64, u64)> {
        let base = match lock.l_whence as i32 {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => self.cursor(world)? as i64,
            libc::SEEK_END => {
                let inode = self.inode(world)?;
                with_volume(world, |volume| volume.size(inode)) as i64
            }
            _ => return Err(Errno::INVALID),
        };
        let overflow = Errno(libc::EOVERFLOW);
        let start = base.checked_add(lock.l_start).ok_or(overflow)?;
        let (first, last) = match lock.l_len {
            0 => (start, i64::MAX),
            len @ 1.. => (start, start.checked_add(len - 1).ok_or(overflow)?),
            len => (start.checked_add(len).ok_or(Errno::INVALID)?, start - 1),
        };
        if first < 0 || start < 0 {
            return Err(Errno::INVALID);
        }
        Ok((first as u64, last as u64))
    }

    pub fn cursor(&self, world: &'static World) -> Answer<u64> {
        if self.real(world).is_some() {
            return self.seek(world, 0, libc::SEEK_CUR).map(|at| at as u64);
        }
        with_disk(world, |disk, _| disk.cursor(self.file)).ok_or(Errno::BAD)
    }
}

/// A read from the kernel.
fn read_real(number: i64, at: Option<u64>, into: &mut [IoSliceMut<'_>]) -> Answer<usize> {
    let (call, at) = at.map_or((libc::SYS_readv, 0), |at| (libc::SYS_preadv, at as i64));
    // SAFETY: an IoSliceMut has the layout of an iovec, as its documentation promises, and names a buffer of the caller's.
    kernel(unsafe { raw::call(call, [number, into.as_mut_ptr() as i64, into.len() as i64, at, 0, 0]) })
        .map(|n| n as usize)
}

/// Takes a lock, and waits for it if it may.
fn take(
    world: &'static World,
    waits: bool,
    refused: Errno,
    mut attempt: impl FnMut(&mut Disk, &mut DeviceCx<'_>) -> Result<bool, sim_disk::Errno>,
) -> Answer<()> {
    if with_disk(world, &mut attempt)? {
        return Ok(());
    }
    if !waits {
        return Err(refused);
    }
    let waited = threads::wait("a lock of a file", None, |cx: &mut Context<'_>| {
        let attempted = with_disk(world, |disk, dx| {
            let taken = attempt(disk, dx);
            if taken == Ok(false) {
                disk.await_unlock(cx.waker());
            }
            taken
        });
        match attempted {
            Ok(false) => Poll::Pending,
            done => Poll::Ready(done),
        }
    });
    match waited {
        Some(done) => Ok(done.map(|_| ())?),
        None => Err(Errno(libc::EINTR)),
    }
}

fn describe(world: &World, other: RangeLock, lock: &mut libc::flock) {
    lock.l_type = if other.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = other.start as i64;
    lock.l_len = if other.last >= i64::MAX as u64 { 0 } else { (other.last - other.start + 1) as i64 };
    lock.l_pid = match other.holder {
        Holder::Process => crate::interpose::pid(world) as i32,
        Holder::Description(_) => -1,
    };
}

impl Opened for OpenFile {
    fn read(&self, _own: &Description, at: Option<u64>, into: &mut [IoSliceMut<'_>]) -> Answer<usize> {
        let world = current()?;
        if let Some(number) = self.real(world) {
            return read_real(number, at, into);
        }
        let len = into.iter().map(|part| part.len()).fold(0usize, usize::saturating_add).min(0x7fff_f000);
        let bytes = self.read_bytes(world, at, len)?;
        let mut rest = bytes.as_slice();
        for part in into {
            let (now, later) = rest.split_at(rest.len().min(part.len()));
            part[..now.len()].copy_from_slice(now);
            rest = later;
        }
        Ok(bytes.len())
    }

    fn write(&self, own: &Description, at: Option<u64>, from: &[IoSlice<'_>]) -> Answer<usize> {
        let world = current()?;
        let append = own.status.get() & libc::O_APPEND != 0;
        let joined;
        let bytes = match from {
            [one] => &one[..],
            parts => {
                joined = parts.iter().map(|part| &part[..]).collect::<Vec<_>>().concat();
                &joined
            }
        };
        self.write_bytes(world, at, Some(append), &bytes[..bytes.len().min(0x7fff_f000)])
    }

    fn unread(&self) -> Answer<usize> {
        let world = current()?;
        let inode = self.inode(world)?;
        let size = with_volume(world, |volume| volume.size(inode));
        Ok(size.saturating_sub(self.cursor(world)?) as usize)
    }

    fn number_closed(&self) {
        World::with_current(|world| {
            if world.lends::<Disk>() {
                with_disk(world, |disk, cx| disk.descriptor_closed(self.file, cx));
            }
        });
    }

    fn control(&self, own: &Description, command: i32, argument: i64) -> Option<Answer<i64>> {
        if own.status.get() & libc::O_PATH != 0 {
            return Some(Err(Errno::BAD));
        }
        match command {
            libc::F_GETLK | libc::F_SETLK | libc::F_SETLKW => {}
            libc::F_OFD_GETLK | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => {}
            _ => return None,
        }
        // SAFETY: fcntl(2): with these commands the argument is the address of a struct flock, or the caller's mistake.
        let Some(lock) = (unsafe { (argument as *mut libc::flock).as_mut() }) else {
            return Some(Err(Errno::FAULT));
        };
        Some(current().and_then(|world| self.lock_range(world, command, lock)))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        World::with_current(|world| {
            if world.lends::<Disk>() {
                with_disk(world, |disk, cx| disk.close(self.file, cx));
            }
        });
    }
}

/// `/dev/urandom`: the run's own random bytes.
pub(crate) struct Random;

impl Opened for Random {
    fn read(&self, _own: &Description, _at: Option<u64>, into: &mut [IoSliceMut<'_>]) -> Answer<usize> {
        let world = current()?;
        let mut sum = 0;
        for part in into {
            // SAFETY: a buffer that is ours alone while this runs.
            let n = unsafe { entropy::fill(world, part.as_mut_ptr(), part.len()) };
            if n < 0 {
                return Err(Errno(-n as i32));
            }
            sum += n as usize;
        }
        Ok(sum)
    }

    /// What is written is mixed in, which changes nothing that is ever seen.
    fn write(&self, _own: &Description, _at: Option<u64>, from: &[IoSlice<'_>]) -> Answer<usize> {
        Ok(from.iter().map(|part| part.len()).sum())
    }
}

/// The device number of an incarnation's files. Libraries keep tables of files by device and inode number in memory that all
/// incarnations of a process share (SQLite does, with the locks it holds): what the dead left there is nobody's file.
pub(crate) fn device_of(node: NodeId, incarnation: u32) -> u64 {
    // From 4096 on: no disk of a real machine has such a number.
    libc::makedev(4096 + u32::from(node.0), incarnation)
}
