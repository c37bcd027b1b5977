//! Memory maps of simulated files: anonymous memory that holds a copy of their bytes.
//!
//! A map that nobody writes through is all that a copy can be, as long as the copy follows the file: one that is shared is
//! kept here and filled again after each write to the file. A map that is shared and can be written to would have to be
//! watched page by page; it ends the run as escaped, naming the file. A map of which the program unmaps or moves a part follows
//! nothing any more.

use super::calls::{description, file_of, kernel};
use super::symbols::make;
use super::{Files, with_volume, world};
use crate::descriptors::{Answer, Errno};
use crate::interpose::{errno, escape};
use crate::raw;
use sim_core::{NodeId, World};
use sim_disk::InodeId;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

/// The shared maps of a World's files.
#[derive(Default)]
pub(crate) struct Maps {
    list: RefCell<Vec<Map>>,
    any: Cell<bool>,
}

struct Map {
    node: NodeId,
    inode: InodeId,
    offset: u64,
    at: usize,
    len: usize,
}

const PAGE: usize = 4096;

/// mmap(2); `None` if it is none of a file of the run.
///
/// # Safety
/// As mmap(2).
pub(super) unsafe fn map(
    world: &'static World,
    [at, len, protection, flags, number, offset]: [i64; 6],
) -> Option<Answer<i64>> {
    let (protection, flags) = (protection as i32, flags as i32);
    if flags & libc::MAP_FIXED != 0 {
        Files::of(world).maps.forget(at as usize, len as usize);
    }
    if flags & libc::MAP_ANONYMOUS != 0 {
        return None;
    }
    let own = description(world, number)?;
    let file = file_of(&own)?;
    let status = own.status.get();
    let access = status & libc::O_ACCMODE;
    let mapped = || -> Answer<i64> {
        let inode = file.inode(world)?;
        let shared = matches!(flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
        let writes = protection & libc::PROT_WRITE != 0;
        if len <= 0 || offset < 0 || !(offset as usize).is_multiple_of(PAGE) {
            return Err(Errno::INVALID);
        }
        if status & libc::O_PATH != 0 {
            return Err(Errno::BAD);
        }
        if access == libc::O_WRONLY || shared && writes && access != libc::O_RDWR {
            return Err(Errno(libc::EACCES));
        }
        if file.is_dir(world)? {
            return Err(Errno(libc::ENODEV));
        }
        if let Some(real) = file.real(world) {
            // SAFETY: the caller's promise.
            return kernel(unsafe {
                raw::call(libc::SYS_mmap, [at, len, protection as i64, flags as i64, real, offset])
            });
        }
        if shared && writes {
            let name = String::from_utf8_lossy(&file.path).into_owned();
            escape(world, format!("mmap({name:?}), shared and to be written"));
            return Err(Errno(libc::EPERM));
        }
        let plain = flags & !libc::MAP_TYPE | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let writable = (libc::PROT_READ | libc::PROT_WRITE) as i64;
        // SAFETY: the caller's promise about the place; the memory is new and nobody else's until it is returned.
        unsafe {
            let made = raw::call(libc::SYS_mmap, [at, len, writable, plain as i64, -1, 0]);
            if made < 0 {
                return Err(Errno(-made as i32));
            }
            fill(world, inode, offset as u64, made as usize, len as usize);
            raw::call(libc::SYS_mprotect, [made, len, protection as i64, 0, 0, 0]);
            if shared {
                Files::of(world).maps.keep(Map {
                    node: world.acting_node(),
                    inode,
                    offset: offset as u64,
                    at: made as usize,
                    len: (len as usize).next_multiple_of(PAGE),
                });
            }
            Ok(made)
        }
    };
    Some(mapped())
}

/// Copies the file's bytes to memory, and zeros behind its end.
///
/// # Safety
/// `at` is valid for `len` bytes, to be written by us alone.
unsafe fn fill(world: &World, inode: InodeId, offset: u64, at: usize, len: usize) {
    let mut bytes = Vec::new();
    // A directory was refused before; anything else can be read.
    if with_volume(world, |volume| volume.read(inode, offset, len, &mut bytes)).is_err() {
        return;
    }
    let at = at as *mut u8;
    // SAFETY: the caller's promise; no more than `len` bytes were read.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
        std::ptr::write_bytes(at.add(bytes.len()), 0, len - bytes.len());
    }
}

impl Maps {
    fn keep(&self, map: Map) {
        self.list.borrow_mut().push(map);
        self.any.set(true);
    }

    /// The file was written: its shared maps follow.
    pub fn refresh(&self, world: &World, inode: InodeId) {
        if !self.any.get() {
            return;
        }
        let node = world.acting_node();
        let protect = |map: &Map, how: i32| {
            // SAFETY: numbers; the memory was made by `map`, and is the program's to read.
            unsafe { raw::call(libc::SYS_mprotect, [map.at as i64, map.len as i64, how as i64, 0, 0, 0]) == 0 }
        };
        self.list.borrow_mut().retain(|map| {
            if map.node != node || map.inode != inode {
                return true;
            }
            // What is there no more was unmapped in a way that nobody told of.
            if !protect(map, libc::PROT_READ | libc::PROT_WRITE) {
                return false;
            }
            // SAFETY: the memory was made by `map`, follows each move, and can be written now; the program only reads it, and
            // does not at present.
            unsafe { fill(world, map.inode, map.offset, map.at, map.len) };
            protect(map, libc::PROT_READ)
        });
    }

    /// Whether one of them lies there, if only in part.
    fn touches(&self, at: usize, len: usize) -> bool {
        self.any.get() && self.list.borrow().iter().any(|m| m.at < at.saturating_add(len) && at < m.at + m.len)
    }

    /// Memory was unmapped: maps that lay there, even in part, follow nothing any more.
    pub fn forget(&self, at: usize, len: usize) {
        if self.any.get() {
            self.list.borrow_mut().retain(|m| m.at + m.len <= at || at + len <= m.at);
        }
    }
}

/// mremap(2): a map that moves is followed to where it goes; `None` if none lies there.
///
/// # Safety
/// As mremap(2).
pub(super) unsafe fn remap(world: &World, args: [i64; 6]) -> Option<i64> {
    let [at, old, new, flags, to, _] = args.map(|a| a as usize);
    let maps = &Files::of(world).maps;
    if flags & libc::MREMAP_FIXED as usize != 0 {
        maps.forget(to, new);
    }
    if !maps.touches(at, old) {
        return None;
    }
    let whole = maps.list.borrow().iter().position(|m| m.at == at && m.len == old.next_multiple_of(PAGE));
    // SAFETY: the caller's promise.
    let moved = unsafe { raw::call(libc::SYS_mremap, args) };
    if moved < 0 {
        return Some(moved);
    }
    match whole {
        None => maps.forget(at, old),
        Some(place) => {
            let inode = {
                let map = &mut maps.list.borrow_mut()[place];
                (map.at, map.len) = (moved as usize, new.next_multiple_of(PAGE));
                map.inode
            };
            // What it has grown by shows the file, too.
            maps.refresh(world, inode);
        }
    }
    Some(moved)
}

/// mprotect(2): what is shared must not be written to; `None` if it is not.
pub(super) fn protect(world: &World, [at, len, protection, ..]: [i64; 6]) -> Option<Answer<i64>> {
    let writes = protection as i32 & libc::PROT_WRITE != 0;
    if !writes || !Files::of(world).maps.touches(at as usize, len as usize) {
        return None;
    }
    escape(world, "mprotect of a shared map of a file, to be written".into());
    Some(Err(Errno(libc::EACCES)))
}

/// munmap(2) is about to be made.
pub(super) fn unmapped(at: usize, len: usize) {
    if let Some(world) = world() {
        Files::of(world).maps.forget(at, len);
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
