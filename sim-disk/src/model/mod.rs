//! What a disk is, without anybody who waits for it: no tokio, no system calls, no World.

pub mod content;
pub mod crash;
pub mod errno;
pub mod faults;
pub mod names;
pub mod page;
pub mod volume;
