//! What a disk is, without anybody who waits for it: no tokio, no system calls, no World.

pub mod below;
pub mod content;
pub mod crash;
pub mod errno;
pub mod faults;
pub mod inode;
pub mod locks;
pub mod names;
pub mod page;
pub mod volume;
pub mod walk;
