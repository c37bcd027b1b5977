//! What no symbol catches: system calls that a program makes itself, those that libc makes to itself, and the processor's
//! time stamp counter.
//!
//! A seccomp filter (seccomp(2)) looks at the address of each system call. Ours come from one address and pass. Those from
//! libc, the loader and the vDSO pass too, but for a list of calls that only an escape makes: entropy, processes, sockets,
//! opening files for writing. What comes from anywhere else in the program is trapped. Reading the time stamp counter
//! raises SIGSEGV (prctl(2), PR_SET_TSC) while a run is on.
//!
//! In a run, a trapped call that has an answer by libc's name has the same answer here, and the counter shows the virtual
//! clock in nanoseconds. Any other is an escape: the run ends with the call and the task, and the call fails. Outside a run
//! it is made. The filter is installed on the thread that forks, and its children and their threads inherit it; it lasts as
//! long as they do. Once it is there, no process can be started from that thread or its children by libc itself, which does
//! so with all signals blocked: that ends the process by SIGSYS. A thread can be, since libc makes those of
//! `pthread_create` by the same call; the few functions that start one in secret are named in `interpose`.

use crate::interpose::{self, escapes};
use crate::line::Line;
use crate::process::{NoteKind, captured, handle, note};
use crate::raw;
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

thread_local! {
    /// Whether this thread has the filter. A fork's child goes on as the thread that forked, and so has this with it.
    static FILTERED: Cell<bool> = const { Cell::new(false) };
}

/// Where libc holds instructions, once the filter is there.
static LIBC: OnceLock<Vec<Text>> = OnceLock::new();

static TSC_FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// Installs the filter on the calling thread.
///
/// # Errors
/// `Unsupported` where libc is not a library of its own (a static binary) or lies across a boundary of 4 GiB; otherwise
/// what the kernel or the container says.
pub fn install() -> io::Result<()> {
    let text = libc_text()?;
    let program = filter(&text)?;
    LIBC.get_or_init(|| text);
    handle(libc::SIGSYS, trapped, libc::SA_ONSTACK | libc::SA_NODEFER);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: numbers; then a pointer to a local that names a vector, both of which live across the call and are only read.
    unsafe {
        raw::result(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as i64, 1, 0, 0, 0, 0])?;
        let mode = libc::SECCOMP_SET_MODE_FILTER as i64;
        raw::result(libc::SYS_seccomp, [mode, 0, &raw const filter as i64, 0, 0, 0])?;
    }
    FILTERED.set(true);
    Ok(())
}

/// Whether the calling thread has the filter.
pub fn is_installed() -> bool {
    FILTERED.get()
}

/// A thread begins whose maker had the filter, or not.
pub(crate) fn begin_thread(filtered: bool) {
    FILTERED.set(filtered);
}

/// Whether this process is one in which starting a process is trapped, run or not.
pub(crate) fn forbids_processes() -> bool {
    is_installed() && captured()
}

/// Whether reading the time stamp counter is forbidden at present, also to libc's clock.
pub(crate) fn tsc_is_trapped() -> bool {
    TSC_FORBIDDEN.load(Relaxed)
}

/// A run begins on this thread. Only a child of the launcher has the handlers for it.
pub(crate) fn enter() {
    if captured() && is_installed() && set_tsc(libc::PR_TSC_SIGSEGV) {
        TSC_FORBIDDEN.store(true, Relaxed);
    }
}

/// The run is over.
pub(crate) fn leave() {
    if TSC_FORBIDDEN.load(Relaxed) {
        set_tsc(libc::PR_TSC_ENABLE);
        TSC_FORBIDDEN.store(false, Relaxed);
    }
}

fn set_tsc(how: c_int) -> bool {
    // SAFETY: numbers only.
    unsafe { raw::call(libc::SYS_prctl, [libc::PR_SET_TSC as i64, how as i64, 0, 0, 0, 0]) == 0 }
}

/// A range of addresses that holds instructions.
type Text = std::ops::Range<u64>;

/// Whether the instruction before `address` is libc's.
fn is_libcs(address: u64) -> bool {
    LIBC.get().is_some_and(|text| text.iter().any(|t| t.contains(&address)))
}

/// Where libc, the loader and the vDSO hold instructions.
fn libc_text() -> io::Result<Vec<Text>> {
    const NAMES: [&str; 8] =
        ["/libc.so", "/libc-2", "/ld-linux", "linux-vdso", "/libpthread", "/librt", "/libresolv", "/libnss_"];

    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a valid description of a loaded object, whose headers stay as long as it is
        // loaded, and the pointer that `libc_text` gave it.
        unsafe {
            let (info, found) = (&*info, &mut *found.cast::<Vec<Text>>());
            let name = if info.dlpi_name.is_null() { c"" } else { CStr::from_ptr(info.dlpi_name) };
            let name = name.to_bytes();
            if !NAMES.iter().any(|n| name.windows(n.len()).any(|w| w == n.as_bytes())) {
                return 0;
            }
            for header in std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize) {
                if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                    let start = info.dlpi_addr + header.p_vaddr;
                    found.push(start..start + header.p_memsz);
                }
            }
        }
        0
    }

    let mut found: Vec<Text> = Vec::new();
    // SAFETY: `visit` gets the vector, which nobody else uses meanwhile, and does not unwind but on lack of memory.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    let same_half = |t: &Text| t.start >> 32 == t.end >> 32;
    let libc_found = found.iter().any(|t| t.contains(&(libc::gnu_get_libc_version as *const () as u64)));
    // Through the program's own table of addresses the function may have another address; two objects are libc and loader.
    if (libc_found || found.len() >= 2) && found.iter().all(same_half) {
        return Ok(found);
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "libc's instructions cannot be told from the program's"))
}

// Offsets in struct seccomp_data (linux/seccomp.h): number, architecture, instruction pointer, arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const POINTER_LOW: u32 = 8;
const POINTER_HIGH: u32 = 12;
const ARGUMENT: u32 = 16;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Calls from inside libc that only an escape makes: whatever their arguments …
const NEVER: [i64; 8] = [
    libc::SYS_getrandom,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
];
/// … or if the argument of this index has one of these bits.
const SOMETIMES: [(i64, u32, u32); 3] = [
    (libc::SYS_clone, 0, libc::CLONE_VFORK as u32),
    (libc::SYS_open, 1, WRITE_BITS),
    (libc::SYS_openat, 2, WRITE_BITS),
];
/// Its code and data, with room for what newer kernels add.
const VDSO_BYTES: u64 = 0x4000;
const WRITE_BITS: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;

/// The filter as a program of the classic packet filter.
fn filter(libc: &[Text]) -> io::Result<Vec<libc::sock_filter>> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Jumps count the instructions to skip if the comparison holds, and if not.
    let op = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut p = vec![
        op(LOAD, ARCHITECTURE, 0, 0),
        op(EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        // Ours?
        op(LOAD, POINTER_HIGH, 0, 0),
        op(EQUAL, (raw::return_address() >> 32) as u32, 0, 3),
        op(LOAD, POINTER_LOW, 0, 0),
        op(EQUAL, raw::return_address() as u32, 0, 1),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    // From libc's: if in a range, over the ranges left and the "no" behind them.
    let ranges = libc.len();
    for (i, text) in libc.iter().enumerate() {
        let over = u8::try_from(5 * (ranges - 1 - i) + 1)
            .map_err(|_| io::Error::new(io::ErrorKind::Unsupported, "libc lies in too many pieces"))?;
        p.extend([
            op(LOAD, POINTER_HIGH, 0, 0),
            op(EQUAL, (text.start >> 32) as u32, 0, 3),
            op(LOAD, POINTER_LOW, 0, 0),
            op(AT_LEAST, text.start as u32, 0, 1),
            op(AT_LEAST, text.end as u32, 0, over),
        ]);
    }
    p.push(op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0));
    p.push(op(LOAD, NUMBER, 0, 0));
    // Its flags lie in memory, which no filter sees. Without it libc calls clone, whose flags tell threads from processes.
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    p.extend([op(EQUAL, libc::SYS_clone3 as u32, 0, 1), op(RETURN, unknown, 0, 0)]);
    for number in NEVER {
        p.extend([op(EQUAL, number as u32, 0, 1), op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0)]);
    }
    for (number, argument, bits) in SOMETIMES {
        p.extend([
            op(EQUAL, number as u32, 0, 4),
            op(LOAD, ARGUMENT + 8 * argument, 0, 0),
            op(ANY_BIT, bits, 0, 1),
            op(RETURN, libc::SECCOMP_RET_TRAP, 0, 0),
            op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        ]);
    }
    p.push(op(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    Ok(p)
}

/// System calls about the program's memory, which may hold what is in a file of the run.
const MEMORY: [i64; 6] =
    [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_msync, libc::SYS_madvise];

/// System calls that touch nothing but the process itself: what a program's own allocator or lock makes.
const PRIVATE: [i64; 13] = [
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_prctl,
    libc::SYS_arch_prctl,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// System calls that read real files, which a run may do, where they are not about anything simulated.
const READING: [i64; 16] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
];

/// A system call was trapped. It stands where a function call might, so more than the usual is safe here; what is not is to
/// return to it without a result.
extern "C" fn trapped(_signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    const SYS_SECCOMP: i32 = 1;
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo and ucontext, which nobody else uses while this runs. The
    // registers hold the system call's number and arguments (seccomp(2), SECCOMP_RET_TRAP); a call that is made here is
    // made with what the program gave it.
    unsafe {
        if (*info).si_code != SYS_SECCOMP {
            return;
        }
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let number = registers[libc::REG_RAX as usize];
        let args = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9]
            .map(|r| registers[r as usize]);
        let by_libc = is_libcs(registers[libc::REG_RIP as usize] as u64);
        registers[libc::REG_RAX as usize] = answer(number, args, by_libc);
    }
}

/// # Safety
/// As the system call of that number.
unsafe fn answer(number: i64, args: [i64; 6], by_libc: bool) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let starts_thread = matches!(number, libc::SYS_clone | libc::SYS_clone3 | libc::SYS_vfork);
        let advises = number == libc::SYS_madvise && args[2] as i32 != libc::MADV_REMOVE;
        let is_private = advises || PRIVATE.contains(&number);
        let Some(world) = interpose::world().filter(|_| !is_private) else {
            // A thread made here would begin inside this handler.
            return if starts_thread { -libc::EAGAIN as i64 } else { raw::call(number, args) };
        };
        // Libc goes on with other calls on a socket, which are not trapped, and would mean the kernel's by its number.
        let half_way = matches!(number, libc::SYS_socket | libc::SYS_socketpair) && by_libc;
        if !half_way && let Some(answer) = interpose::syscall::answer(world, number, args) {
            return answer;
        }
        if READING.contains(&number) || MEMORY.contains(&number) {
            return raw::call(number, args);
        }
        let opens = match number {
            libc::SYS_open => Some((args[0], args[1])),
            libc::SYS_openat => Some((args[1], args[2])),
            _ => None,
        };
        if let Some((path, flags)) = opens {
            // Libc's own open of a file for writing, or the program's of any; both may be of the harmless sort.
            if escapes::may_open(world, "open", path as *const _, flags as i32) {
                return raw::call(number, args);
            }
        } else {
            let call = match escapes::forbidden(number, args) {
                Some(call) => format!("system call {call}, not by libc's name"),
                None => format!("system call {}, not by libc's name", name(number)),
            };
            let mut word = Line::<400>::new();
            note(NoteKind::Escaped, word.push(&call).bytes());
            interpose::escape(world, call);
        }
        escapes::refusal(number)
    }
}

/// The name of a system call that programs are known to make themselves, else its number.
fn name(number: i64) -> String {
    let known = match number {
        libc::SYS_getrandom => "getrandom",
        libc::SYS_clock_gettime => "clock_gettime",
        libc::SYS_gettimeofday => "gettimeofday",
        libc::SYS_nanosleep => "nanosleep",
        libc::SYS_clock_nanosleep => "clock_nanosleep",
        libc::SYS_sched_getaffinity => "sched_getaffinity",
        libc::SYS_getpid => "getpid",
        libc::SYS_write => "write",
        libc::SYS_sysinfo => "sysinfo",
        libc::SYS_uname => "uname",
        libc::SYS_connect => "connect",
        libc::SYS_bind => "bind",
        libc::SYS_sendto => "sendto",
        libc::SYS_recvfrom => "recvfrom",
        _ => "",
    };
    if known.is_empty() { format!("number {number}") } else { format!("{known} (number {number})") }
}

/// If this SIGSEGV is a forbidden reading of the time stamp counter, answers it and returns true: with the virtual clock,
/// as a counter of one gigahertz that began when the simulated machine did. Libc's clocks, in the vDSO, would take that for
/// the real counter: they are an escape, and read 0.
///
/// # Safety
/// `context` is what the kernel passed to the handler.
pub(crate) unsafe fn time_stamp(context: *mut c_void) -> bool {
    if !tsc_is_trapped() {
        return false;
    }
    // SAFETY: the kernel's ucontext is valid and ours while the handler runs. The faulting instruction was just fetched, so
    // its bytes can be read; the third only where the first two announce one. getauxval takes a number.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let at = registers[libc::REG_RIP as usize] as *const u8;
        if at.is_null() || registers[libc::REG_ERR as usize] & 0x10 != 0 {
            return false; // The fault was the fetch itself.
        }
        let (length, call) = match (at.read(), at.add(1).read()) {
            (0x0f, 0x31) => (2, "rdtsc"),
            (0x0f, 0x01) if at.add(2).read() == 0xf9 => (3, "rdtscp"),
            _ => return false,
        };
        let vdso = libc::getauxval(libc::AT_SYSINFO_EHDR);
        let counter = match interpose::world() {
            Some(world) if !(vdso..vdso + VDSO_BYTES).contains(&(at as u64)) => world.read_monotonic_ns(),
            Some(world) => {
                note(NoteKind::Escaped, call.as_bytes());
                interpose::escape(world, format!("{call} by libc itself"));
                0
            }
            None => 0,
        };
        registers[libc::REG_RIP as usize] += length;
        registers[libc::REG_RAX as usize] = counter as i64 & 0xffff_ffff;
        registers[libc::REG_RDX as usize] = (counter >> 32) as i64;
        if length == 3 {
            registers[libc::REG_RCX as usize] = 0; // The processor's number.
        }
        true
    }
}
