//! What a disk is, without anybody who waits for it: no tokio, no system calls, no World.

pub mod attributes;
pub mod below;
pub mod bytes;
pub mod content;
pub mod crash;
pub mod durable;
pub mod errno;
pub mod faults;
pub mod inode;
pub mod locks;
pub mod maps;
pub mod names;
pub mod page;
pub mod power;
pub mod tree;
pub mod volume;
pub mod walk;
