//! write(2) and writev(2): lines of a run's output begin with virtual time and node, and a captured output stays bounded.
//!
//! `[   1.234567890 kv0] listening`

use super::{errno, world};
use crate::descriptors::calls::answer;
use crate::line::Line;
use crate::{process, raw};
use sim_core::World;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// For stdout and stderr: whether a line has been begun and not ended, by whichever thread.
static OPEN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

fn emit(fd: i32, bytes: &[u8]) {
    if process::captured() { process::write_captured(bytes) } else { raw::write_all(fd, bytes) }
}

/// Writes a piece of the run's output. Never fails: what a full disk does to a test's log is not the test's matter.
fn prefixed(world: &World, fd: i32, bytes: &[u8]) {
    let mut prefix = Line::<160>::new();
    let now = world.now().0;
    prefix.push("[").push_number(now / 1_000_000_000, 0, 4).push(".").push_number(now % 1_000_000_000, 9, 9).push(" ");
    world.try_node_name(world.acting_node(), |name| {
        prefix.push_bytes(&name.as_bytes()[..name.len().min(100)]);
    });
    prefix.push("] ");
    let open = &OPEN[(fd == 2) as usize];
    // Gathered, so that a line is one write and one place in the log.
    let mut gathered = Line::<4096>::new();
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let head = if open.load(Relaxed) { &[][..] } else { prefix.bytes() };
        if !gathered.has_room(head.len() + line.len()) {
            emit(fd, gathered.bytes());
            gathered = Line::new();
        }
        if gathered.has_room(head.len() + line.len()) {
            gathered.push_bytes(head).push_bytes(line);
        } else {
            emit(fd, head);
            emit(fd, line);
        }
        open.store(line.last() != Some(&b'\n'), Relaxed);
    }
    emit(fd, gathered.bytes());
}

/// In the kernel's convention; `None` if this is none of our business.
///
/// # Safety
/// `bytes` is valid for `len` bytes, or null.
pub(super) unsafe fn put(fd: i32, bytes: *const u8, len: usize) -> Option<i64> {
    if fd != 1 && fd != 2 {
        return None;
    }
    let world = world();
    if world.is_none() && !process::captured() {
        return None;
    }
    if len == 0 {
        return Some(0);
    }
    if bytes.is_null() {
        return Some(-libc::EFAULT as i64);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, len) };
    match world {
        Some(world) => prefixed(world, fd, bytes),
        None => emit(fd, bytes),
    }
    Some(len as i64)
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn write(fd: i32, bytes: *const u8, len: usize) -> isize {
    // SAFETY: the caller's promise.
    let result = unsafe {
        let args = [fd as i64, bytes as i64, len as i64, 0, 0, 0];
        let answered = world().and_then(|world| answer(world, libc::SYS_write, args));
        answered.or_else(|| put(fd, bytes, len)).unwrap_or_else(|| raw::call(libc::SYS_write, args))
    };
    errno(result) as isize
}

/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn writev(fd: i32, parts: *const libc::iovec, count: i32) -> isize {
    // SAFETY: the caller's promise: `count` descriptions of valid memory.
    unsafe {
        let args = [fd as i64, parts as i64, count as i64, 0, 0, 0];
        if let Some(result) = world().and_then(|world| answer(world, libc::SYS_writev, args)) {
            return errno(result) as isize;
        }
        let output = (fd == 1 || fd == 2) && (process::captured() || world().is_some());
        if !output || parts.is_null() || count < 0 {
            return errno(raw::call(libc::SYS_writev, args)) as isize;
        }
        let mut sum = 0;
        for part in std::slice::from_raw_parts(parts, count as usize) {
            let wrote = write(fd, part.iov_base.cast(), part.iov_len);
            if wrote < 0 {
                return wrote;
            }
            sum += wrote;
        }
        sum
    }
}
