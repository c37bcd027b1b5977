//! The heaps of threads: addresses that a thread is given must not depend on what the parent's threads did before the fork.
//!
//! In a forked child glibc's allocator (malloc/arena.c) gives new threads first the arenas that the parent's other threads
//! used, in the state in which the fork found them. So before the first thread of a run, as many threads that do nothing else
//! take those arenas and keep them for ever; the threads of the run get fresh ones. And there may be any number of arenas,
//! while glibc would let threads share them from a number on that depends on the processors.

use super::seat::Start;
use crate::interpose::real::real;
use crate::raw;
use libc::{c_void, pthread_t};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

const M_ARENA_MAX: i32 = -8;
const KEEPER_STACK_BYTES: usize = 64 << 10;

unsafe extern "C" {
    fn malloc_info(options: i32, to: *mut libc::FILE) -> i32;
    fn open_memstream(text: *mut *mut libc::c_char, len: *mut usize) -> *mut libc::FILE;
}

/// How many arenas the process had before its first fork.
static BEFORE_FORK: AtomicUsize = AtomicUsize::new(1);
/// How many threads have taken theirs.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Called in the parent when all threads are there that children will find.
pub(crate) fn count() {
    let (mut text, mut len) = (null_mut(), 0);
    // SAFETY: locals that libc fills; the text is valid for `len` bytes once the stream is closed, and freed once.
    unsafe {
        let stream = open_memstream(&mut text, &mut len);
        if stream.is_null() {
            return;
        }
        malloc_info(0, stream);
        libc::fclose(stream);
        let written = std::slice::from_raw_parts(text.cast::<u8>(), len);
        let arenas = written.windows(10).filter(|w| *w == b"<heap nr=\"").count();
        libc::free(text.cast());
        BEFORE_FORK.store(arenas.max(1), Relaxed);
    }
}

/// Called in a child before its first thread.
pub(super) fn take_inherited() {
    // SAFETY: numbers.
    unsafe { libc::mallopt(M_ARENA_MAX, 1 << 20) };
    // The calling thread has one of them.
    for nth in 1..BEFORE_FORK.load(Relaxed) as u32 {
        if !start_keeper() {
            return;
        }
        while TAKEN.load(Acquire) < nth {
            futex(libc::FUTEX_WAIT, nth - 1);
        }
    }
}

/// A thread that no signal is for.
fn start_keeper() -> bool {
    let mut id: pthread_t = 0;
    // SAFETY: locals, initialised before use; the attributes are destroyed once. The old mask is put back.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        let mut attr = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        libc::pthread_attr_init(&mut attr);
        libc::pthread_attr_setstacksize(&mut attr, KEEPER_STACK_BYTES);
        let place = &raw const attr;
        let started = create(&raw mut id, place);
        libc::pthread_attr_destroy(&mut attr);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, null_mut());
        started
    }
}

fn create(id: *mut pthread_t, attr: *const libc::pthread_attr_t) -> bool {
    let result = real!(
        pthread_create(id, attr, keep, null_mut()):
            fn(*mut pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> i32,
        else libc::ENOSYS
    );
    result == 0
}

unsafe extern "C-unwind" fn keep(_: *mut c_void) -> *mut c_void {
    // SAFETY: memory that nobody uses. It stays, so that the arena is not empty in any later eyes.
    std::hint::black_box(unsafe { libc::malloc(1) });
    TAKEN.fetch_add(1, Release);
    futex(libc::FUTEX_WAKE, 1);
    static NEVER: AtomicU32 = AtomicU32::new(0);
    loop {
        // SAFETY: a static word.
        unsafe { raw::call(libc::SYS_futex, [NEVER.as_ptr() as i64, libc::FUTEX_WAIT as i64, 0, 0, 0, 0]) };
    }
}

fn futex(operation: i32, value: u32) {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as i64;
    // SAFETY: a static word.
    unsafe { raw::call(libc::SYS_futex, [TAKEN.as_ptr() as i64, operation, value as i64, 0, 0, 0]) };
}
