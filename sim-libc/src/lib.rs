//! The one home of foreign functions: libc symbols that answer from the World, hermetic processes, and traps for what
//! neither catches.
//!
//! [`process`] starts a test's binary a second time with fixed addresses and forks it for each run; [`interpose`] answers
//! what a program asks libc; `trap` notices what goes past it. All of it is for Linux with glibc on x86-64. Elsewhere the
//! crate has the same functions; they refuse, or do nothing where [`guarantees`] says what is then not promised.
//!
//! What is deliberately absent: no choice is taken here, and no verdict but "escaped". The rest of the simulator calls no
//! foreign function.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")), deny(unsafe_code))]
#![warn(missing_docs)]

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod ahead;
mod child;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod descriptors;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod files;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod interpose;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod line;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod process;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod raw;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod sockets;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod threads;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
pub mod trap;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod vdso;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
mod elsewhere;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
pub use elsewhere::{files, interpose, process, sockets, threads, trap};

/// What is not promised in this process, in words, one thing each. Empty in a child of a [`process::Launcher`] whose
/// process was started by [`process::hermetic_command`], on a system that allows all of it.
pub fn guarantees() -> Vec<&'static str> {
    let mut gone = Vec::new();
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        gone.push("libc is not interposed on this system: clocks, entropy and threads of the program are real");
    }
    if !process::aslr_off() {
        gone.push("addresses are randomised: what hashes or orders by address differs from run to run");
    }
    if !process::is_child() {
        gone.push("the run has no process of its own: what libraries keep per process carries over from run to run");
    }
    if !trap::is_installed() {
        gone.push("system calls that bypass libc, and the time stamp counter, go unnoticed");
    }
    if !process::has_room_for_descriptors() {
        gone.push(
            "the limit of open files is low (ulimit -Hn): opening devices and what is in /proc fails with EMFILE",
        );
    }
    gone
}
