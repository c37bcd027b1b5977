//! Memory maps of simulated files: memory of the kernel's that holds a file's bytes, one for each file that a node maps.
//!
//! Every map of a file is a map of that memory, so maps agree with each other, end in SIGBUS where the file ends, and are cut,
//! moved and protected by the kernel. What a call changes in the file is copied there. What programs store there nobody says:
//! while a map can be written to, each call that looks at the file first compares the memory with the disk, page by page as far
//! as there are any, and writes what differs. So a store is a write that took effect at the next such call: the page cache
//! keeps it, fsync(2) and msync(2) make it durable, and a power loss takes it or not, as any other. A map that is only read
//! costs its file twice the memory, and nothing more.
//!
//! When a node's programs end, what they stored last is gathered, and their memory is no file's any more: code of theirs that
//! still runs stores into a ghost.
//!
//! Deliberately absent: stores to one sector between two calls survive together or not at all; a full disk takes what was stored
//! in a hole. A file of the real tree that only was read is mapped from there, and goes on showing that if the node changes
//! it later by another descriptor.

use super::calls::{description, file_of, kernel};
use super::symbols::make;
use super::{Files, perform, with_disk, with_volume, world};
use crate::descriptors::{Answer, Errno, KernelNumber};
use crate::interpose::errno;
use crate::raw;
use sim_core::{Instant, NodeId, World};
use sim_disk::{Disk, FileId, InodeId, Op, Volume};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const PAGE: usize = 4096;

/// Whether any file of a run was mapped in this process: until then a call about memory looks nothing up.
static MAPPED: AtomicBool = AtomicBool::new(false);

/// The maps of a World's files.
#[derive(Default)]
pub(crate) struct Maps {
    /// By where they begin. None overlap.
    pieces: RefCell<BTreeMap<usize, Piece>>,
    memory: RefCell<BTreeMap<(NodeId, InodeId), Weak<Memory>>>,
}

/// A stretch of addresses at which a file is mapped.
#[derive(Clone)]
struct Piece {
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    memory: Rc<Memory>,
    file: Rc<Held>,
    shared: bool,
    /// Whether it may be made writable: the descriptor was.
    may_write: bool,
    writes: bool,
}

impl Piece {
    /// The part of it between these addresses, of which it has some; it begins at `at`.
    fn part(&self, at: usize, range: &Range<usize>) -> (usize, Piece) {
        let (from, to) = (at.max(range.start), (at + self.len).min(range.end));
        (from, Piece { len: to - from, offset: self.offset + (from - at) as u64, ..self.clone() })
    }
}

/// A file that is kept open, as by a descriptor.
struct Held(FileId);

impl Drop for Held {
    fn drop(&mut self) {
        World::with_current(|world| {
            if world.lends::<Disk>() {
                with_disk(world, |disk, cx| disk.close(self.0, cx));
            }
        });
    }
}

/// A file's bytes, in memory that the kernel knows as a file: memfd_create(2).
struct Memory {
    node: NodeId,
    inode: InodeId,
    number: KernelNumber,
    size: Cell<u64>,
    /// All of it, for ourselves.
    view: Cell<(usize, usize)>,
    /// Whether it could not follow its file, whose bytes it holds no more: it ends at 0, and who looks there gets SIGBUS.
    lost: Cell<bool>,
}

impl Memory {
    fn new(node: NodeId, inode: InodeId) -> Answer<Memory> {
        // SAFETY: a C string that lives for ever, and flags.
        let number = kernel(unsafe {
            let name = c"file of a run".as_ptr() as i64;
            raw::call(libc::SYS_memfd_create, [name, libc::MFD_CLOEXEC as i64, 0, 0, 0, 0])
        })?;
        let number = KernelNumber::new(number);
        Ok(Memory { node, inode, number, size: Cell::new(0), view: Cell::new((0, 0)), lost: Cell::new(false) })
    }

    /// Its bytes, in whole pages, as far as they are in the file; nobody stores there meanwhile, since one thread of a run runs
    /// at a time.
    #[allow(clippy::mut_from_ref, reason = "who has one does not ask for another")]
    fn bytes(&self) -> &mut [u8] {
        let (at, len) = self.view.get();
        if len == 0 {
            return &mut [];
        }
        // SAFETY: mapped by `resize`, to be read and written, and as long as the memory is.
        unsafe { std::slice::from_raw_parts_mut(at as *mut u8, len) }
    }

    /// Is of the file's size, or lost.
    fn resize(&self, size: u64) -> Answer<()> {
        let resized = self.try_resize(size);
        if resized.is_err() {
            self.lost.set(true);
            let _ = self.end_at(0);
        }
        resized
    }

    fn end_at(&self, size: u64) -> Answer<()> {
        let number = self.number.get();
        // SAFETY: numbers.
        with_room(size, || kernel(unsafe { raw::call(libc::SYS_ftruncate, [number, size as i64, 0, 0, 0, 0]) }))?;
        self.size.set(size);
        Ok(())
    }

    fn try_resize(&self, size: u64) -> Answer<()> {
        let (before, (at, len)) = (self.size.get(), self.view.get());
        let pages = usize::try_from(size).ok().and_then(|size| size.checked_next_multiple_of(PAGE));
        let pages = pages.ok_or(Errno(libc::ENOMEM))?;
        if before < size {
            // What was stored behind the end is not the file's.
            self.bytes()[before as usize..].fill(0);
        }
        if pages != len {
            let protection = (libc::PROT_READ | libc::PROT_WRITE) as i64;
            let args = [0, pages as i64, protection, libc::MAP_SHARED as i64, self.number.get(), 0];
            // SAFETY: the new view is at a place of the kernel's choice, the old one is no longer used.
            unsafe {
                let new = if pages > 0 { kernel(raw::call(libc::SYS_mmap, args))? } else { 0 };
                self.view.set((new as usize, pages));
                if len > 0 {
                    raw::call(libc::SYS_munmap, [at as i64, len as i64, 0, 0, 0, 0]);
                }
            }
        }
        self.end_at(size)
    }

    /// Is of the file's size, and holds its bytes among these.
    fn show(&self, volume: &Volume, bytes: Range<u64>) -> Answer<()> {
        let size = volume.size(self.inode);
        if size != self.size.get() {
            self.resize(size)?;
        }
        let (mut at, end) = (bytes.start, bytes.end.min(size));
        let mut found = Vec::new();
        while at < end {
            // Where nothing was ever written there are zeros.
            let Ok(from) = volume.seek_data(self.inode, at, false) else { return Ok(()) };
            let to = volume.seek_data(self.inode, from, true).map_or(end, |to| to.min(end));
            if from >= to {
                return Ok(());
            }
            found.clear();
            volume.read(self.inode, from, (to - from) as usize, &mut found)?;
            self.bytes()[from as usize..][..found.len()].copy_from_slice(&found);
            if found.len() < (to - from) as usize {
                return Err(Errno(libc::EIO));
            }
            at = to;
        }
        Ok(())
    }

    /// Gives every page that exists to the disk.
    fn gather(&self, volume: &mut Volume, now: Instant) {
        let size = self.size.get();
        // SAFETY: numbers.
        let seek = |at: u64, whence: i32| unsafe {
            raw::call(libc::SYS_lseek, [self.number.get(), at as i64, whence as i64, 0, 0, 0])
        };
        let mut at = 0;
        while at < size {
            let from = seek(at, libc::SEEK_DATA);
            let to = if from < 0 { from } else { seek(from as u64, libc::SEEK_HOLE) };
            if to <= from {
                return;
            }
            let bytes = &self.bytes()[from as usize..(to as usize).min(size as usize)];
            volume.store(self.inode, from as u64, bytes, now);
            at = to as u64;
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (at, len) = self.view.get();
        if len > 0 {
            // SAFETY: ours alone.
            unsafe { raw::call(libc::SYS_munmap, [at as i64, len as i64, 0, 0, 0, 0]) };
        }
    }
}

/// Calls `f`, which makes a file of so many bytes, though the process's output may have fewer (RLIMIT_FSIZE).
fn with_room<R>(bytes: u64, f: impl FnOnce() -> R) -> R {
    let limit = |new: *const libc::rlimit, old: *mut libc::rlimit| {
        // SAFETY: null, or the addresses of locals that live across the call.
        unsafe { raw::call(libc::SYS_prlimit64, [0, libc::RLIMIT_FSIZE as i64, new as i64, old as i64, 0, 0]) }
    };
    let mut before = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    limit(std::ptr::null(), &mut before);
    if before.rlim_cur >= bytes {
        return f();
    }
    limit(&libc::rlimit { rlim_cur: before.rlim_max, ..before }, std::ptr::null_mut());
    let result = f();
    limit(&before, std::ptr::null_mut());
    result
}

impl sim_disk::Maps for Maps {
    fn gather(&self, node: NodeId, file: Option<InodeId>, volume: &mut Volume, now: Instant) {
        let of = |m: &Memory| m.node == node && file.is_none_or(|inode| m.inode == inode) && !m.lost.get();
        let mut stored: Vec<Rc<Memory>> = Vec::new();
        for piece in self.pieces.borrow().values().filter(|p| p.writes && of(&p.memory)) {
            if !stored.iter().any(|m| Rc::ptr_eq(m, &piece.memory)) {
                stored.push(piece.memory.clone());
            }
        }
        stored.iter().for_each(|memory| memory.gather(volume, now));
    }

    fn show(&self, node: NodeId, file: Option<InodeId>, volume: &Volume, bytes: Range<u64>) {
        let all = self.memory.borrow();
        let shown = all.iter().filter(|((of, inode), _)| *of == node && file.is_none_or(|file| *inode == file));
        for memory in shown.filter_map(|(_, memory)| memory.upgrade()).filter(|memory| !memory.lost.get()) {
            // A page that cannot be read stays as it was in memory; a size that the kernel has no room for loses it.
            let _ = memory.show(volume, bytes.clone());
        }
    }

    fn died(&self, node: NodeId) {
        self.memory.borrow_mut().retain(|(of, _), _| *of != node);
        self.pieces.borrow_mut().retain(|_, piece| piece.memory.node != node);
    }
}

impl Maps {
    /// The memory of a file of the acting node.
    fn memory(self: &Rc<Self>, world: &World, inode: InodeId) -> Answer<Rc<Memory>> {
        let key = (world.acting_node(), inode);
        let there = self.memory.borrow().get(&key).and_then(Weak::upgrade);
        if let Some(memory) = there.filter(|memory| !memory.lost.get()) {
            return Ok(memory);
        }
        let memory = Rc::new(Memory::new(key.0, inode)?);
        with_volume(world, |volume| memory.show(volume, 0..u64::MAX))?;
        with_disk(world, |disk, _| disk.show_in(self.clone()));
        let mut all = self.memory.borrow_mut();
        all.retain(|_, memory| memory.strong_count() > 0);
        all.insert(key, Rc::downgrade(&memory));
        Ok(memory)
    }

    /// Whether one of them lies there, if only in part. While they are being changed an allocator may ask, whose memory is none.
    fn touches(&self, range: &Range<usize>) -> bool {
        let Ok(pieces) = self.pieces.try_borrow() else { return false };
        let last = pieces.range(..range.end).next_back();
        !range.is_empty() && last.is_some_and(|(at, piece)| range.start < at + piece.len)
    }

    /// Those that lie there, cut to what does.
    fn within(&self, range: &Range<usize>) -> Vec<(usize, Piece)> {
        let pieces = self.pieces.borrow();
        let before = pieces.range(..range.end).rev().take_while(|(at, piece)| range.start < *at + piece.len);
        let mut found: Vec<_> = before.map(|(at, piece)| piece.part(*at, range)).collect();
        found.reverse();
        found
    }

    /// What lies there may go, or be written to no more: what was stored there is written.
    fn gather(&self, world: &World, range: &Range<usize>) {
        for (_, piece) in self.within(range).into_iter().filter(|(_, piece)| piece.writes) {
            with_disk(world, |disk, cx| disk.gather(piece.memory.node, Some(piece.memory.inode), cx.now));
        }
    }

    /// Takes out those that lie there; of those that lie there in part the rest stays.
    fn take(&self, range: &Range<usize>) -> Vec<(usize, Piece)> {
        let taken = self.within(range);
        let mut pieces = self.pieces.borrow_mut();
        // Dropped when nothing is borrowed any more: a file may be closed by that.
        let mut cut = Vec::new();
        for (at, _) in &taken {
            let Some((start, whole)) = pieces.range(..=*at).next_back().map(|(start, p)| (*start, p.clone())) else {
                continue;
            };
            cut.extend(pieces.remove(&start));
            for rest in [0..range.start, range.end..usize::MAX] {
                if start < rest.end && rest.start < start + whole.len {
                    let (at, part) = whole.part(start, &rest);
                    pieces.insert(at, part);
                }
            }
            cut.push(whole);
        }
        drop(pieces);
        taken
    }

    /// What lies there is no map of a file any more.
    fn forget(&self, world: &World, range: &Range<usize>) {
        if self.touches(range) {
            self.gather(world, range);
            self.take(range);
        }
    }
}

/// The addresses of so many bytes from `at` on, in whole pages.
fn addresses(at: i64, len: i64) -> Range<usize> {
    let at = at as usize;
    at..at.saturating_add(len as usize).checked_next_multiple_of(PAGE).unwrap_or(usize::MAX)
}

/// Those of the World, if any file was mapped yet.
fn of(world: &World) -> Option<Rc<Maps>> {
    MAPPED.load(Relaxed).then(|| Files::of(world).maps.clone())
}

/// mmap(2); `None` if it is none of a file of the run.
///
/// # Safety
/// As mmap(2).
pub(super) unsafe fn map(
    world: &'static World,
    [at, len, protection, flags, number, offset]: [i64; 6],
) -> Option<Answer<i64>> {
    let (protection, flags) = (protection as i32, flags as i32);
    if flags & libc::MAP_ANONYMOUS != 0 && !MAPPED.load(Relaxed) {
        return None;
    }
    let maps = &Files::of(world).maps;
    let covered = addresses(at, if flags & libc::MAP_FIXED != 0 { len } else { 0 });
    let covers = maps.touches(&covered);
    let made = |number: i64| {
        if covers {
            maps.gather(world, &covered);
        }
        let args = [at, len, protection as i64, flags as i64, number, offset];
        // SAFETY: the caller's promise.
        let place = kernel(unsafe { raw::call(libc::SYS_mmap, args) })?;
        // What was there before, also if somebody unmapped it unnoticed.
        maps.take(&addresses(place, len));
        Ok(place)
    };
    if flags & libc::MAP_ANONYMOUS != 0 {
        return covers.then(|| made(number));
    }
    let Some(own) = description(world, number) else {
        // The kernel's, who is asked elsewhere.
        maps.forget(world, &covered);
        return None;
    };
    let file = file_of(&own)?;
    let status = own.status.get();
    let access = status & libc::O_ACCMODE;
    let mapped = || -> Answer<i64> {
        let inode = file.inode(world)?;
        let shared = matches!(flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
        let writes = shared && protection & libc::PROT_WRITE != 0;
        if len <= 0 || offset < 0 || !(offset as usize).is_multiple_of(PAGE) {
            return Err(Errno::INVALID);
        }
        if status & libc::O_PATH != 0 {
            return Err(Errno::BAD);
        }
        if access == libc::O_WRONLY || writes && access != libc::O_RDWR {
            return Err(Errno(libc::EACCES));
        }
        if file.is_dir(world)? {
            return Err(Errno(libc::ENODEV));
        }
        if let Some(real) = file.real(world) {
            return made(real);
        }
        let memory = maps.memory(world, inode)?;
        with_disk(world, |disk, _| disk.share(file.file))?;
        let (file, may_write) = (Rc::new(Held(file.file)), access == libc::O_RDWR);
        let at = made(memory.number.get())?;
        let range = addresses(at, len);
        let piece = Piece { len: range.len(), offset: offset as u64, memory, file, shared, may_write, writes };
        MAPPED.store(true, Relaxed);
        maps.pieces.borrow_mut().insert(range.start, piece);
        Ok(at)
    };
    Some(mapped())
}

/// mremap(2); `None` if no map of a file lies there.
///
/// # Safety
/// As mremap(2).
pub(super) unsafe fn remap(world: &World, args: [i64; 6]) -> Option<i64> {
    let [at, old, new, flags, to, _] = args;
    let maps = of(world)?;
    let covered = addresses(to, if flags as i32 & libc::MREMAP_FIXED != 0 { new } else { 0 });
    // Of nothing at all it makes a second map: mremap(2), old_size.
    let from = addresses(at, if old == 0 { 1 } else { old });
    let covers = maps.touches(&covered);
    if !maps.touches(&from) && !covers {
        return None;
    }
    maps.gather(world, &from);
    if covers {
        maps.gather(world, &covered);
    }
    // SAFETY: the caller's promise.
    let moved = unsafe { raw::call(libc::SYS_mremap, args) };
    if moved < 0 {
        return Some(moved);
    }
    if covers {
        maps.take(&covered);
    }
    let stays = old == 0 || flags as i32 & libc::MREMAP_DONTUNMAP != 0;
    let mut pieces = if stays { maps.within(&from) } else { maps.take(&from) };
    let target = addresses(moved, new);
    // What grows is one map: mremap(2), EFAULT.
    if let [(_, piece)] = &mut pieces[..] {
        piece.len = target.len();
    }
    for (place, piece) in pieces {
        let place = place - from.start + target.start;
        if place < target.end {
            maps.pieces.borrow_mut().extend([piece.part(place, &target)]);
        }
    }
    Some(moved)
}

/// mprotect(2); `None` if no map of a file lies there.
///
/// # Safety
/// As mprotect(2).
pub(super) unsafe fn protect(world: &World, args: [i64; 6]) -> Option<Answer<i64>> {
    let [at, len, protection, ..] = args;
    let range = addresses(at, len);
    let maps = of(world)?;
    if !maps.touches(&range) {
        return None;
    }
    let writes = protection as i32 & libc::PROT_WRITE != 0;
    let refuses = |piece: &Piece| piece.shared && writes && !piece.may_write;
    if maps.within(&range).iter().any(|(_, piece)| refuses(piece)) {
        return Some(Err(Errno(libc::EACCES)));
    }
    maps.gather(world, &range);
    // SAFETY: the caller's promise.
    let done = kernel(unsafe { raw::call(libc::SYS_mprotect, args) });
    if done.is_ok() {
        let taken = maps.take(&range).into_iter();
        let changed = taken.map(|(at, piece)| (at, Piece { writes: writes && piece.shared, ..piece }));
        maps.pieces.borrow_mut().extend(changed);
    }
    Some(done)
}

/// msync(2); `None` if no map of a file lies there. What is to be written some time is written some time anyway.
///
/// # Safety
/// As msync(2).
pub(super) unsafe fn sync(world: &'static World, [at, len, flags, ..]: [i64; 6]) -> Option<Answer<i64>> {
    let range = addresses(at, len);
    let maps = of(world)?;
    if flags as i32 & libc::MS_SYNC == 0 || !maps.touches(&range) {
        return None;
    }
    // SAFETY: the caller's promise. Whether the flags are some, and all of the memory is mapped.
    let complete = kernel(unsafe { raw::call(libc::SYS_msync, [at, len, flags, 0, 0, 0]) });
    if complete == Err(Errno::INVALID) {
        return Some(complete);
    }
    for (_, piece) in maps.within(&range).into_iter().filter(|(_, piece)| piece.shared) {
        let bytes = piece.offset..piece.offset.saturating_add(piece.len as u64);
        if let Err(error) = perform(world, Op::SyncRange(piece.file.0, bytes)) {
            return Some(Err(error));
        }
    }
    Some(complete)
}

/// madvise(2); `None` if it changes no file. A hole in our memory is none of the file's, so none is punched: fallocate(2) does
/// that.
pub(super) fn advise(world: &World, [at, len, advice, ..]: [i64; 6]) -> Option<Answer<i64>> {
    if advice as i32 != libc::MADV_REMOVE || !(at as usize).is_multiple_of(PAGE) {
        return None;
    }
    let (maps, range) = (of(world)?, addresses(at, len));
    let shared = maps.touches(&range) && maps.within(&range).iter().any(|(_, piece)| piece.shared);
    shared.then_some(Err(Errno(libc::EOPNOTSUPP)))
}

/// munmap(2) is about to be made.
pub(super) fn unmapped(at: usize, len: usize) {
    if MAPPED.load(Relaxed)
        && at.is_multiple_of(PAGE)
        && let Some(world) = world()
    {
        Files::of(world).maps.forget(world, &addresses(at as i64, len as i64));
    }
}

// ---- libc's names -----------------------------------------------------------------------------------------------------

/// Allocators call this before anything else works: what is anonymous and has no fixed place is one comparison more than the
/// kernel's.
///
/// # Safety
/// As mmap(2).
unsafe fn map_by_name(args: [i64; 6]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        if args[3] as i32 & (libc::MAP_ANONYMOUS | libc::MAP_FIXED) == libc::MAP_ANONYMOUS {
            return raw::call(libc::SYS_mmap, args);
        }
        make(libc::SYS_mmap, args)
    }
}

macro_rules! maps {
    ($($name:ident)*) => {$(
        /// # Safety
        /// As mmap(2).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(
            at: *mut c_void,
            len: usize,
            protection: i32,
            flags: i32,
            fd: i32,
            offset: i64,
        ) -> *mut c_void {
            // SAFETY: the caller's promise.
            unsafe {
                errno(map_by_name([at as i64, len as i64, protection as i64, flags as i64, fd as i64, offset])) as *mut c_void
            }
        }
    )*};
}

maps!(mmap mmap64);

/// # Safety
/// As munmap(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> i32 {
    unmapped(at as usize, len);
    // SAFETY: the caller's promise.
    unsafe { errno(raw::call(libc::SYS_munmap, [at as i64, len as i64, 0, 0, 0, 0])) as i32 }
}

/// # Safety
/// As mremap(2). The last argument stands in the register that one of fixed arity is read from.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mremap(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: i32,
    to: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe {
        errno(make(libc::SYS_mremap, [at as i64, old as i64, new as i64, flags as i64, to as i64, 0])) as *mut c_void
    }
}

/// # Safety
/// As mprotect(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mprotect(at: *mut c_void, len: usize, protection: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { errno(make(libc::SYS_mprotect, [at as i64, len as i64, protection as i64, 0, 0, 0])) as i32 }
}

/// # Safety
/// As msync(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn msync(at: *mut c_void, len: usize, flags: i32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { errno(make(libc::SYS_msync, [at as i64, len as i64, flags as i64, 0, 0, 0])) as i32 }
}

/// Allocators call this too: what only advises is the kernel's at once.
///
/// # Safety
/// As madvise(2).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn madvise(at: *mut c_void, len: usize, advice: i32) -> i32 {
    let args = [at as i64, len as i64, advice as i64, 0, 0, 0];
    // SAFETY: the caller's promise.
    let answer = unsafe {
        match advice {
            libc::MADV_REMOVE => make(libc::SYS_madvise, args),
            _ => raw::call(libc::SYS_madvise, args),
        }
    };
    errno(answer) as i32
}
