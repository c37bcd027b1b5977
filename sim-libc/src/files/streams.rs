//! libc's streams of bytes (`FILE`), over descriptors of the run.
//!
//! libc opens files for them by calls to itself, which pass by no symbol. So a stream of a file of the run is one that libc
//! makes of functions (fopencookie(3)): ours, which read, seek and close by the run's number. A file of the kernel's is opened
//! by libc, under the name that it has there. What would write to a stream is an escape.

use super::calls::{Route, route, text};
use super::symbols::{address, make};
use super::{Files, with_volume, world};
use crate::descriptors::{Answer, Descriptors, Errno, Owner};
use crate::interpose::real::real;
use crate::interpose::{self, errno, escape, escapes};
use libc::c_char;
use sim_core::World;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};

/// The numbers behind a World's streams, by the addresses of these.
#[derive(Default)]
pub(crate) struct Streams {
    numbers: RefCell<BTreeMap<usize, i32>>,
}

/// cookie_io_functions_t.
#[repr(C)]
struct Functions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, usize) -> isize,
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize>,
    seek: unsafe extern "C" fn(*mut c_void, *mut i64, i32) -> i32,
    close: unsafe extern "C" fn(*mut c_void) -> i32,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut c_void;
}

/// A call by a stream about its number. A stream that outlives its run has none any more.
fn ask(call: i64, cookie: *mut c_void, b: i64, c: i64) -> i64 {
    if interpose::world().is_none() {
        return errno(-libc::EBADF as i64);
    }
    // SAFETY: the callers pass numbers, or the buffer and the length that libc gave them.
    errno(unsafe { make(call, [cookie as i64, b, c, 0, 0, 0]) })
}

unsafe extern "C" fn read(cookie: *mut c_void, to: *mut c_char, len: usize) -> isize {
    ask(libc::SYS_read, cookie, to as i64, len as i64) as isize
}

unsafe extern "C" fn seek(cookie: *mut c_void, at: *mut i64, whence: i32) -> i32 {
    // SAFETY: fopencookie(3): the address of the offset, which the new one replaces.
    unsafe {
        let found = ask(libc::SYS_lseek, cookie, at.read(), whence as i64);
        if found < 0 {
            return -1;
        }
        at.write(found);
    }
    0
}

unsafe extern "C" fn close(cookie: *mut c_void) -> i32 {
    if let Some(world) = world() {
        Files::of(world).streams.numbers.borrow_mut().retain(|_, number| *number as usize != cookie as usize);
    }
    ask(libc::SYS_close, cookie, 0, 0) as i32
}

/// A stream that reads from a number of the run, and closes it at its end.
fn over(world: &World, number: i32) -> Answer<*mut c_void> {
    // SAFETY: a C string, and functions of the types that fopencookie(3) says; the cookie is no address.
    let stream = unsafe {
        fopencookie(number as usize as *mut c_void, c"r".as_ptr(), Functions { read, write: None, seek, close })
    };
    if stream.is_null() {
        return Err(Errno(libc::ENOMEM));
    }
    Files::of(world).streams.numbers.borrow_mut().insert(stream as usize, number);
    Ok(stream)
}

/// Where a stream for reading comes from.
enum Opened {
    Run(*mut c_void),
    /// From libc, under this name.
    Libc(CString),
}

fn open(world: &'static World, path: &[u8], mode: &[u8]) -> Answer<Opened> {
    let c_string = |path: &[u8]| CString::new(path).map_err(|_| Errno::INVALID);
    let kernels = match route(world, libc::AT_FDCWD as i64, path, true)? {
        Route::Kernel(path) => Some(path),
        Route::Elsewhere => Some(path.to_vec()),
        Route::Disk(_) | Route::Open(..) => None,
    };
    if let Some(path) = kernels {
        return Ok(Opened::Libc(c_string(&path)?));
    }
    let flags = libc::O_RDONLY | if mode.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    let name = c_string(path)?;
    // SAFETY: a C string that lives across the call.
    let number =
        unsafe { make(libc::SYS_openat, [libc::AT_FDCWD as i64, name.as_ptr() as i64, flags as i64, 0, 0, 0]) };
    if number < 0 {
        return Err(Errno(-number as i32));
    }
    let stream = over(world, number as i32).inspect_err(|_| {
        // SAFETY: a number that nobody else knows.
        unsafe { make(libc::SYS_close, [number, 0, 0, 0, 0, 0]) };
    });
    Ok(Opened::Run(stream?))
}

fn writes(mode: &[u8]) -> bool {
    mode.iter().any(|b| b"wa+".contains(b))
}

/// Whether libc may open this file for a stream.
///
/// # Safety
/// `path` is a C string.
unsafe fn may_open(world: &World, call: &str, path: *const c_char, mode: &[u8]) -> bool {
    let flags = if writes(mode) { libc::O_RDWR | libc::O_CREAT } else { libc::O_RDONLY };
    // SAFETY: the caller's promise.
    unsafe { escapes::may_open(world, call, path, flags) }
}

macro_rules! opens_stream {
    ($($name:ident)*) => {$(
        /// # Safety
        /// As fopen(3).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut c_void {
            let mut path = path;
            let found;
            // SAFETY: the caller's promise: two C strings.
            let given = unsafe { (text(path as i64), text(mode as i64)) };
            if let (Some(world), (Ok(name), Ok(how))) = (interpose::world(), given) {
                // SAFETY: as above.
                if !unsafe { may_open(world, "fopen", path, how) } {
                    return address(Err(Errno(libc::EPERM)));
                }
                if super::is_simulated(world) {
                    match open(world, name, how) {
                        Ok(Opened::Run(stream)) => return stream,
                        Ok(Opened::Libc(name)) => {
                            found = name;
                            path = found.as_ptr();
                        }
                        Err(error) => return address(Err(error)),
                    }
                }
            }
            real!(
                $name(path, mode): fn(*const c_char, *const c_char) -> *mut c_void,
                else std::ptr::null_mut()
            )
        }
    )*};
}

opens_stream!(fopen fopen64);

/// The name of a file for libc, which leads a stream that it has made elsewhere; `None` if only the run has the file.
fn name_for_libc(world: &'static World, path: &[u8]) -> Option<CString> {
    let name = match route(world, libc::AT_FDCWD as i64, path, true) {
        Ok(Route::Disk(path)) => with_volume(world, |volume| match volume.lookup(&path, true) {
            Ok(inode) => volume.path_below(inode).map(<[u8]>::to_vec),
            // Removed by the run; the real one may be there still.
            Err(_) => None,
        })?,
        Ok(Route::Open(..)) => return None,
        Ok(Route::Kernel(path)) => path,
        Ok(Route::Elsewhere) | Err(_) => path.to_vec(),
    };
    CString::new(name).ok()
}

macro_rules! opens_stream_again {
    ($($name:ident)*) => {$(
        /// Of what can be read from the kernel: a stream that libc has made cannot be led to what only the run has.
        ///
        /// # Safety
        /// As freopen(3).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(
            path: *const c_char,
            mode: *const c_char,
            stream: *mut c_void,
        ) -> *mut c_void {
            let mut path = path;
            let found;
            // SAFETY: the caller's promise: two C strings, of which the first may be null.
            let given = unsafe { (text(path as i64), text(mode as i64)) };
            if let (Some(world), (Ok(name), Ok(how))) = (interpose::world(), given) {
                // SAFETY: as above.
                if !unsafe { may_open(world, "freopen", path, how) } {
                    return address(Err(Errno(libc::EPERM)));
                }
                if super::is_simulated(world) {
                    let Some(name) = name_for_libc(world, name) else {
                        escape(world, format!("freopen({:?})", String::from_utf8_lossy(name)));
                        return address(Err(Errno(libc::EPERM)));
                    };
                    found = name;
                    path = found.as_ptr();
                }
            }
            real!(
                $name(path, mode, stream): fn(*const c_char, *const c_char, *mut c_void) -> *mut c_void,
                else std::ptr::null_mut()
            )
        }
    )*};
}

opens_stream_again!(freopen freopen64);

/// # Safety
/// As tmpfile(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tmpfile() -> *mut c_void {
    if let Some(world) = interpose::world() {
        escape(world, "tmpfile".into());
        return address(Err(Errno(libc::EPERM)));
    }
    real!(tmpfile(): fn() -> *mut c_void, else std::ptr::null_mut())
}

/// # Safety
/// As tmpfile(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn tmpfile64() -> *mut c_void {
    // SAFETY: the call takes nothing.
    unsafe { tmpfile() }
}

/// # Safety
/// As fdopen(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn fdopen(fd: i32, mode: *const c_char) -> *mut c_void {
    if let Some(world) = interpose::world() {
        // SAFETY: the caller's promise: a C string.
        let reads = unsafe { text(mode as i64) }.is_ok_and(|how| !writes(how));
        match Descriptors::of(world).owner(world, fd) {
            Owner::Kernel => {}
            Owner::Nobody => return address(Err(Errno::BAD)),
            Owner::Run(_) if reads => return address(over(world, fd)),
            Owner::Run(_) => {
                escape(world, format!("fdopen({fd})"));
                return address(Err(Errno(libc::EPERM)));
            }
        }
    }
    real!(fdopen(fd, mode): fn(i32, *const c_char) -> *mut c_void, else std::ptr::null_mut())
}

macro_rules! numbers_of_streams {
    ($($name:ident)*) => {$(
        /// # Safety
        /// As fileno(3).
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(stream: *mut c_void) -> i32 {
            let known = interpose::world()
                .and_then(|world| Files::of(world).streams.numbers.borrow().get(&(stream as usize)).copied());
            match known {
                Some(number) => number,
                None => real!($name(stream): fn(*mut c_void) -> i32, else -1),
            }
        }
    )*};
}

numbers_of_streams!(fileno fileno_unlocked);
