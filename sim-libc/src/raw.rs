//! System calls without libc: one `syscall` instruction, at one address.
//!
//! Everything in this crate that must work while libc's symbols are ours, inside a signal handler, or between `fork` and
//! the body of a run comes through here. That the instruction stands at one known address is what lets [`crate::trap`]
//! tell our own calls from those of the program.

use std::arch::global_asm;
use std::io;

// The System V calling convention to the kernel's: number and six arguments move one register down, the sixth comes from
// the stack. glibc's `syscall` (sysdeps/unix/sysv/linux/x86_64/syscall.S) does the same.
global_asm!(
    ".pushsection .text.sim_libc_syscall,\"ax\",@progbits",
    ".hidden sim_libc_syscall",
    ".globl sim_libc_syscall",
    ".type sim_libc_syscall,@function",
    "sim_libc_syscall:",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "mov r10, r8",
    "mov r8, r9",
    "mov r9, [rsp + 8]",
    "syscall",
    ".hidden sim_libc_syscall_end",
    ".globl sim_libc_syscall_end",
    "sim_libc_syscall_end:",
    "ret",
    ".size sim_libc_syscall, . - sim_libc_syscall",
    ".popsection",
);

unsafe extern "C" {
    fn sim_libc_syscall(n: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64;
    static sim_libc_syscall_end: u8;
}

/// The address that the kernel sees for our calls: the one behind the `syscall` instruction.
pub(crate) fn return_address() -> u64 {
    &raw const sim_libc_syscall_end as u64
}

/// A system call; a negative result is `-errno`.
///
/// # Safety
/// As the call itself: pointers among the arguments must be valid for what the kernel does with them.
#[inline]
pub(crate) unsafe fn call(n: i64, args: [i64; 6]) -> i64 {
    // SAFETY: the routine above follows the C calling convention, changes no callee-saved register and no stack; what the
    // kernel does with the arguments is the caller's promise.
    unsafe { sim_libc_syscall(n, args[0], args[1], args[2], args[3], args[4], args[5]) }
}

/// A system call as `io::Result`.
///
/// # Safety
/// See [`call`].
pub(crate) unsafe fn result(n: i64, args: [i64; 6]) -> io::Result<i64> {
    // SAFETY: the caller's promise.
    match unsafe { call(n, args) } {
        failed if (-4095..0).contains(&failed) => Err(io::Error::from_raw_os_error(-failed as i32)),
        value => Ok(value),
    }
}

/// Writes to a descriptor, as far as it takes it. Safe to call from a signal handler.
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the kernel reads `bytes.len()` bytes from a slice that lives across the call.
        let wrote = unsafe { call(libc::SYS_write, [fd as i64, bytes.as_ptr() as i64, bytes.len() as i64, 0, 0, 0]) };
        if wrote == -libc::EINTR as i64 {
            continue;
        }
        if wrote <= 0 {
            return;
        }
        bytes = &bytes[(wrote as usize).min(bytes.len())..];
    }
}

/// Ends the process at once: no destructor, no buffer, no handler.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        unsafe { call(libc::SYS_exit_group, [code as i64, 0, 0, 0, 0, 0]) };
    }
}
