//! libc's streams of directories (`DIR`), over descriptors of the run.
//!
//! A stream is ours if it stands in the World's list; any other is libc's own.

use super::calls::{Route, description, file_of, route, said, text};
use super::symbols::{address, make};
use super::{Files, calls, world};
use crate::descriptors::{Answer, Errno};
use crate::interpose::real::real;
use crate::interpose::{errno, escape};
use libc::c_char;
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

// ---- libc's names -----------------------------------------------------------------------------------------------------

/// # Safety
/// As opendir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn opendir(path: *const c_char) -> *mut c_void {
    // SAFETY: the caller's promise: a C string.
    if let (Some(world), Ok(name)) = (world(), unsafe { text(path as i64) }) {
        match open(world, name) {
            Ok(Ok(stream)) => return stream,
            Ok(Err(_real)) => {}
            Err(error) => return address(Err(error)),
        }
    }
    real!(opendir(path): fn(*const c_char) -> *mut c_void, else std::ptr::null_mut())
}

/// # Safety
/// As fdopendir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fdopendir(fd: i32) -> *mut c_void {
    if let Some(opened) = world().and_then(|world| open_number(world, fd)) {
        return address(opened);
    }
    real!(fdopendir(fd): fn(i32) -> *mut c_void, else std::ptr::null_mut())
}

macro_rules! reads_directory {
    ($($name:ident $again:ident;)*) => {$(
        /// # Safety
        /// As readdir(3).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(stream: *mut c_void) -> *mut libc::dirent64 {
            if let Some(entry) = world().and_then(|world| read(world, stream)) {
                return address(entry);
            }
            real!($name(stream): fn(*mut c_void) -> *mut libc::dirent64, else std::ptr::null_mut())
        }

        /// # Safety
        /// As readdir_r(3).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $again(
            stream: *mut c_void,
            entry: *mut libc::dirent64,
            found: *mut *mut libc::dirent64,
        ) -> i32 {
            match world().and_then(|world| read(world, stream)) {
                None => real!(
                    $again(stream, entry, found):
                        fn(*mut c_void, *mut libc::dirent64, *mut *mut libc::dirent64) -> i32,
                    else libc::ENOSYS
                ),
                Some(Err(Errno(error))) => error,
                Some(Ok(next)) => {
                    // SAFETY: the caller's promise: room for an entry, and for an address.
                    unsafe {
                        match next.as_ref() {
                            Some(next) => {
                                entry.write(*next);
                                found.write(entry);
                            }
                            None => found.write(std::ptr::null_mut()),
                        }
                    }
                    0
                }
            }
        }
    )*};
}

reads_directory! {
    readdir readdir_r;
    readdir64 readdir64_r;
}

/// # Safety
/// As closedir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn closedir(stream: *mut c_void) -> i32 {
    if let Some(number) = world().and_then(|world| close(world, stream)) {
        // SAFETY: a number of the run.
        return unsafe { errno(make(libc::SYS_close, [number as i64, 0, 0, 0, 0, 0])) as i32 };
    }
    real!(closedir(stream): fn(*mut c_void) -> i32, else -1)
}

/// # Safety
/// As dirfd(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dirfd(stream: *mut c_void) -> i32 {
    if let Some(number) = world().and_then(|world| number(world, stream)) {
        return number;
    }
    real!(dirfd(stream): fn(*mut c_void) -> i32, else -1)
}

/// # Safety
/// As rewinddir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn rewinddir(stream: *mut c_void) {
    if world().and_then(|world| seek(world, stream, 0, libc::SEEK_SET)).is_none() {
        real!(rewinddir(stream): fn(*mut c_void) -> (), else ());
    }
}

/// # Safety
/// As seekdir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn seekdir(stream: *mut c_void, offset: i64) {
    if world().and_then(|world| seek(world, stream, offset, libc::SEEK_SET)).is_none() {
        real!(seekdir(stream, offset): fn(*mut c_void, i64) -> (), else ());
    }
}

/// # Safety
/// As telldir(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn telldir(stream: *mut c_void) -> i64 {
    if let Some(at) = world().and_then(|world| seek(world, stream, 0, libc::SEEK_CUR)) {
        return at;
    }
    real!(telldir(stream): fn(*mut c_void) -> i64, else -1)
}

/// Walks of libc over directories, which it makes by calls to itself: they would see the real tree alone.
macro_rules! walks {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        /// # Safety
        /// As the function of that name in libc.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(path: *const c_char, $($arg: $type),*) -> i32 {
            // SAFETY: the caller's promise: a C string.
            if let (Some(world), Ok(name)) = (world(), unsafe { text(path as i64) }) {
                escape(world, format!("{}({:?})", stringify!($name), String::from_utf8_lossy(name)));
                return errno(-libc::EPERM as i64) as i32;
            }
            real!($name(path, $($arg),*): fn(*const c_char, $($type),*) -> i32, else -1)
        }
    )*};
}

walks! {
    scandir(list: *mut c_void, filter: *mut c_void, compare: *mut c_void);
    scandir64(list: *mut c_void, filter: *mut c_void, compare: *mut c_void);
    ftw(each: *mut c_void, numbers: i32);
    ftw64(each: *mut c_void, numbers: i32);
    nftw(each: *mut c_void, numbers: i32, flags: i32);
    nftw64(each: *mut c_void, numbers: i32, flags: i32);
    glob(flags: i32, failed: *mut c_void, found: *mut c_void);
    glob64(flags: i32, failed: *mut c_void, found: *mut c_void);
}
