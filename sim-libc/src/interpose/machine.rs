//! What a program asks its machine: processors, memory, processor time, process id, host name.
//!
//! A simulated machine has one processor. That is what it has, since one thread runs at a time; and it is the one count
//! that no quota of the real machine's control group can lower (std divides by it).

use super::real::real;
use super::{errno, time, world};
use crate::raw;
use sim_core::{NodeId, ThreadId, World};

const PROCESSORS: i64 = 1;
/// The process on node `n` has the id `FIRST_PID + n`.
const FIRST_PID: i64 = 1000;
/// Thread `n` of the run has the id `FIRST_TID + n`: beyond all process ids.
const FIRST_TID: i64 = 100_000;

/// The id of the acting node's process.
pub(crate) fn pid(world: &World) -> i64 {
    FIRST_PID + world.acting_node().0 as i64
}

/// The id of the running thread. The first thread of a process has the process's, and tasks run on it.
pub(super) fn tid(world: &World) -> i64 {
    let thread = world.running_thread();
    if thread == ThreadId::FIRST || world.in_task() { pid(world) } else { FIRST_TID + thread.0 as i64 }
}

/// The set with processor 0 alone, in the kernel's convention: the number of bytes written.
///
/// # Safety
/// `mask` is valid for `len` bytes, or null.
pub(super) unsafe fn affinity(mask: *mut u8, len: usize) -> i64 {
    if mask.is_null() {
        return -libc::EFAULT as i64;
    }
    if len < 8 || !len.is_multiple_of(8) {
        return -libc::EINVAL as i64;
    }
    // SAFETY: the caller's promise; len is at least 8.
    unsafe {
        std::ptr::write_bytes(mask, 0, len);
        mask.write(1);
    }
    8
}

/// # Safety
/// As sched_getaffinity(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sched_getaffinity(pid: i32, len: usize, mask: *mut u8) -> i32 {
    // SAFETY: the caller's promise. The kernel writes and returns fewer bytes than it was given; libc clears the rest.
    let result = unsafe {
        match world() {
            Some(_) => affinity(mask, len),
            None => {
                let wrote = raw::call(libc::SYS_sched_getaffinity, [pid as i64, len as i64, mask as i64, 0, 0, 0]);
                if wrote >= 0 && (wrote as usize) < len {
                    std::ptr::write_bytes(mask.add(wrote as usize), 0, len - wrote as usize);
                }
                wrote
            }
        }
    };
    errno(result.min(0)) as i32
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sysconf(name: i32) -> i64 {
    if world().is_some() {
        match name {
            libc::_SC_NPROCESSORS_ONLN | libc::_SC_NPROCESSORS_CONF => return PROCESSORS,
            libc::_SC_PHYS_PAGES => return (MEMORY_BYTES / PAGE_BYTES) as i64,
            libc::_SC_AVPHYS_PAGES => return (MEMORY_BYTES / 2 / PAGE_BYTES) as i64,
            _ => {}
        }
    }
    real!(sysconf(name): fn(i32) -> i64, else -1)
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn get_nprocs() -> i32 {
    // SAFETY: no preconditions.
    unsafe { sysconf(libc::_SC_NPROCESSORS_ONLN) as i32 }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn get_phys_pages() -> i64 {
    // SAFETY: no preconditions.
    unsafe { sysconf(libc::_SC_PHYS_PAGES) }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn get_avphys_pages() -> i64 {
    // SAFETY: no preconditions.
    unsafe { sysconf(libc::_SC_AVPHYS_PAGES) }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn get_nprocs_conf() -> i32 {
    // SAFETY: no preconditions.
    unsafe { sysconf(libc::_SC_NPROCESSORS_CONF) as i32 }
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getpid() -> i32 {
    // SAFETY: the call takes nothing.
    world().map_or_else(|| unsafe { raw::call(libc::SYS_getpid, [0; 6]) }, pid) as i32
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getppid() -> i32 {
    // SAFETY: the call takes nothing.
    world().map_or_else(|| unsafe { raw::call(libc::SYS_getppid, [0; 6]) }, |_| 1) as i32
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gettid() -> i32 {
    // SAFETY: the call takes nothing.
    world().map_or_else(|| unsafe { raw::call(libc::SYS_gettid, [0; 6]) }, tid) as i32
}

/// In a run no set of processors but the one is taken, and nothing changes.
///
/// # Safety
/// As sched_setaffinity(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sched_setaffinity(pid: i32, len: usize, mask: *const u8) -> i32 {
    // SAFETY: the caller's promise.
    let result = unsafe {
        match world() {
            Some(_) => set_affinity(mask, len),
            None => raw::call(libc::SYS_sched_setaffinity, [pid as i64, len as i64, mask as i64, 0, 0, 0]),
        }
    };
    errno(result) as i32
}

/// In the kernel's convention.
///
/// # Safety
/// `mask` is valid for `len` bytes, or null.
pub(super) unsafe fn set_affinity(mask: *const u8, len: usize) -> i64 {
    if mask.is_null() {
        return -libc::EFAULT as i64;
    }
    // SAFETY: the caller's promise.
    if len > 0 && unsafe { mask.read() } & 1 == 1 { 0 } else { -libc::EINVAL as i64 }
}

/// # Safety
/// As pthread_setaffinity_np(3), which returns the error instead of setting errno.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_setaffinity_np(thread: libc::pthread_t, len: usize, mask: *const u8) -> i32 {
    if world().is_some() {
        // SAFETY: the caller's promise.
        return -unsafe { set_affinity(mask, len) } as i32;
    }
    real!(
        pthread_setaffinity_np(thread, len, mask): fn(libc::pthread_t, usize, *const u8) -> i32,
        else libc::ENOSYS
    )
}

/// # Safety
/// As pthread_getaffinity_np(3), which returns the error instead of setting errno.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_getaffinity_np(thread: libc::pthread_t, len: usize, mask: *mut u8) -> i32 {
    if world().is_some() {
        // SAFETY: the caller's promise.
        return -unsafe { affinity(mask, len) }.min(0) as i32;
    }
    real!(
        pthread_getaffinity_np(thread, len, mask): fn(libc::pthread_t, usize, *mut u8) -> i32,
        else libc::ENOSYS
    )
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sched_getcpu() -> i32 {
    let mut processor = 0u32;
    // SAFETY: a local, and null, which the kernel allows.
    match unsafe { getcpu(&mut processor, std::ptr::null_mut()) } {
        0 => processor as i32,
        failed => failed,
    }
}

/// # Safety
/// As getcpu(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getcpu(processor: *mut u32, memory: *mut u32) -> i32 {
    if world().is_some() {
        for out in [processor, memory] {
            if !out.is_null() {
                // SAFETY: the caller's promise.
                unsafe { out.write(0) };
            }
        }
        return 0;
    }
    // SAFETY: the caller's promise.
    errno(unsafe { raw::call(libc::SYS_getcpu, [processor as i64, memory as i64, 0, 0, 0, 0]) }) as i32
}

/// Writes the acting node's name, cut to `len` bytes with its end.
///
/// # Safety
/// `out` is valid for `len` bytes, at least one.
unsafe fn write_name(world: &World, out: *mut u8, len: usize) {
    let node = world.acting_node();
    let write = |name: &str| {
        let kept = name.len().min(len - 1);
        // SAFETY: the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(name.as_ptr(), out, kept);
            out.add(kept).write(0);
        }
    };
    if node == NodeId::OUTSIDE || world.try_node_name(node, write).is_none() {
        write("localhost");
    }
}

/// # Safety
/// As gethostname(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gethostname(out: *mut u8, len: usize) -> i32 {
    if out.is_null() || len == 0 {
        return errno(-libc::EINVAL as i64) as i32;
    }
    if let Some(world) = world() {
        // SAFETY: the caller's promise; len was checked.
        unsafe { write_name(world, out, len) };
        return 0;
    }
    real!(gethostname(out, len): fn(*mut u8, usize) -> i32, else -1)
}

/// # Safety
/// As uname(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn uname(out: *mut libc::utsname) -> i32 {
    // SAFETY: the caller's promise.
    errno(unsafe {
        match world() {
            Some(world) => describe(world, out),
            None => raw::call(libc::SYS_uname, [out as i64, 0, 0, 0, 0, 0]),
        }
    }) as i32
}

/// The same system on every machine, in the kernel's convention.
///
/// # Safety
/// `out` is valid for a utsname, or null.
pub(super) unsafe fn describe(world: &World, out: *mut libc::utsname) -> i64 {
    // SAFETY: the caller's promise.
    let Some(out) = (unsafe { out.as_mut() }) else { return -libc::EFAULT as i64 };
    // SAFETY: a structure of bytes, for which zero is a value.
    *out = unsafe { std::mem::zeroed() };
    let places = [&mut out.sysname, &mut out.release, &mut out.version, &mut out.machine, &mut out.domainname];
    for (place, text) in places.into_iter().zip(["Linux", "6.1.0", "#1 SMP", "x86_64", "(none)"]) {
        place.iter_mut().zip(text.bytes()).for_each(|(place, byte)| *place = byte as libc::c_char);
    }
    // SAFETY: a field of 65 bytes.
    unsafe { write_name(world, out.nodename.as_mut_ptr().cast(), out.nodename.len()) };
    0
}

// ---- memory and processor time ------------------------------------------------------------------------------------------

/// A machine has as much memory, and half of it is free.
const MEMORY_BYTES: u64 = 8 << 30;
const PAGE_BYTES: u64 = 4096;
/// What getrusage(2) says of a program's memory.
const RESIDENT_KIB: i64 = 64 << 10;
/// How finely times(2) counts (`_SC_CLK_TCK`).
const TICK_NS: u64 = 10_000_000;

/// In the kernel's convention.
///
/// # Safety
/// `out` is valid for a sysinfo, or null.
pub(super) unsafe fn show(world: &World, out: *mut libc::sysinfo) -> i64 {
    // SAFETY: the caller's promise.
    let Some(out) = (unsafe { out.as_mut() }) else { return -libc::EFAULT as i64 };
    // SAFETY: a structure of numbers, for which zero is a value.
    *out = unsafe { std::mem::zeroed() };
    out.uptime = (world.read_monotonic_ns() / 1_000_000_000) as i64;
    (out.totalram, out.freeram, out.mem_unit, out.procs) = (MEMORY_BYTES, MEMORY_BYTES / 2, 1, 1);
    0
}

/// # Safety
/// As sysinfo(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sysinfo(out: *mut libc::sysinfo) -> i32 {
    // SAFETY: the caller's promise.
    errno(unsafe {
        match world() {
            Some(world) => show(world, out),
            None => raw::call(libc::SYS_sysinfo, [out as i64, 0, 0, 0, 0, 0]),
        }
    }) as i32
}

/// The processor time of the acting process: nothing else uses the processor.
fn processor_ns(world: &World) -> u64 {
    time::read_ns(world, libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// In the kernel's convention.
///
/// # Safety
/// `out` is valid for a rusage, or null.
pub(super) unsafe fn usage(world: &World, of: i32, out: *mut libc::rusage) -> i64 {
    if ![libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN, libc::RUSAGE_THREAD].contains(&of) {
        return -libc::EINVAL as i64;
    }
    // SAFETY: the caller's promise.
    let Some(out) = (unsafe { out.as_mut() }) else { return -libc::EFAULT as i64 };
    // SAFETY: a structure of numbers, for which zero is a value.
    *out = unsafe { std::mem::zeroed() };
    // Nobody here has children.
    if of != libc::RUSAGE_CHILDREN {
        let us = processor_ns(world) / 1_000;
        out.ru_utime = libc::timeval { tv_sec: (us / 1_000_000) as i64, tv_usec: (us % 1_000_000) as i64 };
        out.ru_maxrss = RESIDENT_KIB;
    }
    0
}

/// # Safety
/// As getrusage(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getrusage(of: i32, out: *mut libc::rusage) -> i32 {
    // SAFETY: the caller's promise.
    errno(unsafe {
        match world() {
            Some(world) => usage(world, of, out),
            None => raw::call(libc::SYS_getrusage, [of as i64, out as i64, 0, 0, 0, 0]),
        }
    }) as i32
}

/// In the kernel's convention.
///
/// # Safety
/// `out` is valid for a tms, or null.
pub(super) unsafe fn ticks(world: &World, out: *mut libc::tms) -> i64 {
    let used = (processor_ns(world) / TICK_NS) as i64;
    // SAFETY: the caller's promise.
    if let Some(out) = unsafe { out.as_mut() } {
        *out = libc::tms { tms_utime: used, tms_stime: 0, tms_cutime: 0, tms_cstime: 0 };
    }
    (world.read_monotonic_ns() / TICK_NS) as i64
}

/// # Safety
/// As times(2).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn times(out: *mut libc::tms) -> i64 {
    // SAFETY: the caller's promise.
    errno(unsafe {
        match world() {
            Some(world) => ticks(world, out),
            None => raw::call(libc::SYS_times, [out as i64, 0, 0, 0, 0, 0]),
        }
    })
}

/// # Safety
/// None beyond the C calling convention.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn clock() -> i64 {
    match world() {
        Some(world) => (processor_ns(world) / 1_000) as i64,
        None => real!(clock(): fn() -> i64, else -1),
    }
}

/// # Safety
/// As getloadavg(3).
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn getloadavg(out: *mut f64, count: i32) -> i32 {
    if world().is_none() {
        return real!(getloadavg(out, count): fn(*mut f64, i32) -> i32, else -1);
    }
    let count = count.clamp(0, 3);
    // SAFETY: the caller's promise: room for `count` numbers.
    unsafe { std::ptr::write_bytes(out, 0, count as usize) };
    count
}
