//! getrandom(2), getentropy(3), arc4random(3): bytes of the seed, keyed by the running task.

use super::{errno, world};
use crate::raw;
use sim_core::World;

/// In the kernel's convention.
///
/// # Safety
/// `out` is valid for `len` bytes, or null.
pub(crate) unsafe fn fill(world: &World, out: *mut u8, len: usize) -> i64 {
    if len == 0 {
        return 0;
    }
    if out.is_null() {
        return -libc::EFAULT as i64;
    }
    // The kernel's own bound (man 2 getrandom: at most 33,554,431 bytes are returned).
    let len = len.min(0x01ff_ffff);
    // SAFETY: the caller's promise. The bytes are written only, so it does not matter what they held.
    unsafe {
        std::ptr::write_bytes(out, 0, len);
        world.entropy(std::slice::from_raw_parts_mut(out, len));
    }
    len as i64
}

/// # Safety
/// As getrandom(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getrandom(out: *mut u8, len: usize, flags: u32) -> isize {
    // SAFETY: the caller's promise.
    let result = unsafe {
        match world() {
            Some(world) => fill(world, out, len),
            None => raw::call(libc::SYS_getrandom, [out as i64, len as i64, flags as i64, 0, 0, 0]),
        }
    };
    errno(result) as isize
}

/// # Safety
/// As getentropy(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getentropy(out: *mut u8, len: usize) -> i32 {
    if len > 256 {
        return errno(-libc::EIO as i64) as i32;
    }
    // SAFETY: the caller's promise. 256 bytes and fewer come whole (man 2 getrandom).
    match unsafe { getrandom(out, len, 0) } {
        -1 => -1,
        _ => 0,
    }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn arc4random() -> u32 {
    let mut word = [0u8; 4];
    // SAFETY: the local array is valid for its length.
    unsafe { arc4random_buf(word.as_mut_ptr(), word.len()) };
    u32::from_ne_bytes(word)
}

/// # Safety
/// `out` is valid for `len` bytes.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn arc4random_buf(out: *mut u8, len: usize) {
    let mut done = 0;
    while done < len {
        // SAFETY: the range lies inside what the caller promised.
        let got = unsafe { getrandom(out.add(done), len - done, 0) };
        if got < 0 {
            // It cannot fail, says its manual, and glibc ends the process where it does.
            raw::exit(127);
        }
        done += got as usize;
    }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn arc4random_uniform(bound: u32) -> u32 {
    // SAFETY: no preconditions.
    let [high, low] = unsafe { [arc4random(), arc4random()] };
    let wide = (high as u64) << 32 | low as u64;
    // 64 bits scaled: the bias is below one in four thousand million.
    ((wide as u128 * bound as u128) >> 64) as u32
}
