//! The one home of foreign functions: libc symbols that answer from the World, and hermetic processes.
#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")), deny(unsafe_code))]
#![warn(missing_docs)]

mod line;
pub mod process;
mod raw;
