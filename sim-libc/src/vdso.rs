//! The kernel's functions in user space (vdso(7)): clocks that libc and some crates call without a system call or a symbol of
//! libc's. Their code is overwritten with jumps to ours.

use crate::interpose::{self, time};
use crate::raw;
use libc::{c_void, clockid_t, timespec, timeval};

/// `mov rax, address; jmp rax`.
const JUMP_BYTES: usize = 12;
const PAGE_BYTES: i64 = 4096;
const MOST_PAGES: i64 = 16;

/// Overwrites the functions of this process, for good. Where that is forbidden they stay, and reading the time by them is
/// an escape, since they read the time stamp counter.
pub(crate) fn replace() {
    // SAFETY: a C string; nothing is loaded.
    let vdso = unsafe { libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if vdso.is_null() || !allow_writing(true) {
        return;
    }
    let ours = [
        (c"__vdso_clock_gettime", clock_gettime as *const ()),
        (c"__vdso_gettimeofday", gettimeofday as *const ()),
        (c"__vdso_time", seconds as *const ()),
        (c"__vdso_getcpu", getcpu as *const ()),
        (c"__vdso_getrandom", getrandom as *const ()),
    ];
    for (name, ours) in ours {
        // SAFETY: an open handle and a C string.
        let theirs = unsafe { libc::dlsym(vdso, name.as_ptr()) };
        if !theirs.is_null() {
            // SAFETY: a function of the vDSO, each of which is longer than a jump; ours takes the same arguments.
            unsafe { redirect(theirs.cast(), ours) };
        }
    }
    allow_writing(false);
    // SAFETY: opened above.
    unsafe { libc::dlclose(vdso) };
}

/// Allows or forbids writing to the vDSO. The kernel lets it be changed as a whole only, and does not say how long it is.
fn allow_writing(allow: bool) -> bool {
    let how = libc::PROT_READ | libc::PROT_EXEC | if allow { libc::PROT_WRITE } else { 0 };
    // SAFETY: the first page of the vDSO and as many more as belong to it, which stay readable and executable. The kernel
    // gives this process its own copy of what is written.
    (1..=MOST_PAGES).any(|pages| unsafe {
        let begin = libc::getauxval(libc::AT_SYSINFO_EHDR) as i64;
        raw::call(libc::SYS_mprotect, [begin, pages * PAGE_BYTES, how as i64, 0, 0, 0]) == 0
    })
}

/// # Safety
/// `from` is a function of at least [`JUMP_BYTES`] that nobody runs just now, in memory that may be written.
unsafe fn redirect(from: *mut u8, to: *const ()) {
    let mut jump: [u8; JUMP_BYTES] = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0];
    jump[2..10].copy_from_slice(&(to as u64).to_le_bytes());
    // SAFETY: the caller's promise.
    unsafe { from.copy_from_nonoverlapping(jump.as_ptr(), JUMP_BYTES) };
}

// In the kernel's convention, as the originals. Outside a run they make the system call.

unsafe extern "C" fn clock_gettime(clock: clockid_t, out: *mut timespec) -> i64 {
    // SAFETY: the promise of the caller, who called it by the system call's name.
    unsafe {
        match interpose::world() {
            Some(world) => time::get(world, clock, out),
            None => raw::call(libc::SYS_clock_gettime, [clock as i64, out as i64, 0, 0, 0, 0]),
        }
    }
}

unsafe extern "C" fn gettimeofday(out: *mut timeval, zone: *mut c_void) -> i64 {
    // SAFETY: as above.
    unsafe {
        match interpose::world() {
            Some(world) => time::get_day(world, out),
            None => raw::call(libc::SYS_gettimeofday, [out as i64, zone as i64, 0, 0, 0, 0]),
        }
    }
}

unsafe extern "C" fn seconds(out: *mut libc::time_t) -> libc::time_t {
    // SAFETY: as above, and a local.
    unsafe {
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        clock_gettime(libc::CLOCK_REALTIME, &mut now);
        if !out.is_null() {
            out.write(now.tv_sec);
        }
        now.tv_sec
    }
}

unsafe extern "C" fn getcpu(processor: *mut u32, memory: *mut u32, _: *mut c_void) -> i64 {
    if interpose::world().is_none() {
        // SAFETY: as above.
        return unsafe { raw::call(libc::SYS_getcpu, [processor as i64, memory as i64, 0, 0, 0, 0]) };
    }
    for out in [processor, memory] {
        if !out.is_null() {
            // SAFETY: as above.
            unsafe { out.write(0) };
        }
    }
    0
}

/// Its generator lives in the caller's memory and takes no answer: callers make the system call instead.
unsafe extern "C" fn getrandom(_: *mut c_void, _: usize, _: u32, _: *mut c_void, _: usize) -> i64 {
    -libc::ENOSYS as i64
}
