//! libc's streams of directories (`DIR`), over descriptors of the run.
//!
//! A stream is ours if it stands in the World's list; any other is libc's own.

use super::calls::{Route, description, file_of, route, said};
use super::{Files, calls};
use crate::descriptors::{Answer, Errno};
use sim_core::World;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;

/// The streams of a World, by their addresses.
#[derive(Default)]
pub(crate) struct Streams {
    list: RefCell<BTreeMap<usize, Box<Stream>>>,
}

/// What a `DIR` points to.
struct Stream {
    number: i32,
    /// The entry that was read last.
    entry: libc::dirent64,
}

/// opendir(3): the path's own stream, or, as a path, what libc is to open.
pub(super) fn open(world: &'static World, path: &[u8]) -> Answer<Result<*mut c_void, Vec<u8>>> {
    match route(world, libc::AT_FDCWD as i64, path, true)? {
        Route::Kernel(path) => return Ok(Err(path)),
        Route::Elsewhere => return Ok(Err(path.to_vec())),
        Route::Disk(_) | Route::Open(..) => {}
    }
    let name = std::ffi::CString::new(path).map_err(|_| Errno::INVALID)?;
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NONBLOCK) as i64;
    // SAFETY: a C string that lives across the call.
    let number = unsafe {
        calls::answer(world, libc::SYS_openat, [libc::AT_FDCWD as i64, name.as_ptr() as i64, flags, 0, 0, 0])
    };
    match number {
        Some(number @ 0..) => Ok(Ok(over(world, number as i32))),
        Some(failed) => Err(Errno(-failed as i32)),
        None => Ok(Err(path.to_vec())),
    }
}

/// fdopendir(3); `None` if the number is none of a file of the run.
pub(super) fn open_number(world: &'static World, number: i32) -> Option<Answer<*mut c_void>> {
    let own = description(world, number as i64)?;
    let file = file_of(&own)?;
    Some(file.is_dir(world).and_then(|is_dir| if is_dir { Ok(over(world, number)) } else { Err(Errno(libc::ENOTDIR)) }))
}

fn over(world: &World, number: i32) -> *mut c_void {
    // SAFETY: a structure of numbers, for which zero is a value.
    let stream = Box::new(Stream { number, entry: unsafe { std::mem::zeroed() } });
    let at = (&raw const *stream) as usize;
    Files::of(world).dirs.list.borrow_mut().insert(at, stream);
    at as *mut c_void
}

/// The number behind a stream of ours.
pub(super) fn number(world: &World, stream: *mut c_void) -> Option<i32> {
    Files::of(world).dirs.list.borrow().get(&(stream as usize)).map(|s| s.number)
}

/// readdir(3): the address of the next entry, 0 at the end; `None` if the stream is not ours.
pub(super) fn read(world: &'static World, stream: *mut c_void) -> Option<Answer<*mut libc::dirent64>> {
    let own = description(world, number(world, stream)? as i64);
    let mut next = None;
    let listed = own.as_deref().and_then(file_of).ok_or(Errno::BAD).and_then(|file| {
        file.list(world, |ino, kind, name, offset| {
            if next.is_some() {
                return false;
            }
            // SAFETY: as above.
            let mut entry: libc::dirent64 = unsafe { std::mem::zeroed() };
            (entry.d_ino, entry.d_off, entry.d_type) = (ino, offset as i64, kind);
            entry.d_reclen = size_of::<libc::dirent64>() as u16;
            // One byte stays 0: the end of the name. A name has at most 255.
            let places = entry.d_name.iter_mut().take(255);
            places.zip(name).for_each(|(place, byte)| *place = *byte as i8);
            next = Some(entry);
            true
        })
    });
    let files = Files::of(world);
    let mut list = files.dirs.list.borrow_mut();
    let stream = list.get_mut(&(stream as usize))?;
    Some(listed.map(|()| match next {
        Some(entry) => {
            stream.entry = entry;
            &raw mut stream.entry
        }
        None => std::ptr::null_mut(),
    }))
}

/// closedir(3), but for the descriptor, whose number this returns.
pub(super) fn close(world: &World, stream: *mut c_void) -> Option<i32> {
    Files::of(world).dirs.list.borrow_mut().remove(&(stream as usize)).map(|s| s.number)
}

/// rewinddir(3), seekdir(3) and telldir(3), in libc's convention.
pub(super) fn seek(world: &'static World, stream: *mut c_void, offset: i64, whence: i32) -> Option<i64> {
    let own = description(world, number(world, stream)? as i64);
    let file = own.as_deref().and_then(file_of).ok_or(Errno::BAD);
    Some(said(file.and_then(|file| file.seek(world, offset, whence))))
}
