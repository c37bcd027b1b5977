//! The disks of the machines: files, page cache, crashes.
//!
//! Every node has one disk. It belongs to the machine: it survives the death of its programs and every restart. What a
//! program wrote stands first in the page cache, which all programs of the node see and which `kill -9` does not touch;
//! when the power goes, what was synced is there again, and of the rest a subset that the run's choices draw.
//!
//! | word | is |
//! |---|---|
//! | [`Disk`] | the device: the disks of all nodes, their open files, the operations under way |
//! | [`Volume`] | one node's disk: files and directories, what of them is durable, what is not yet |
//! | [`Op`] | one system call; it takes time, and completes through an event |
//! | [`Handle`] | an open file of a program; closes itself |
//! | [`DiskFaults`] | what may go wrong on a node's disk |
//! | [`Profile`] | what the file system promises beyond POSIX |
//! | [`Maps`] | memory in which programs see files, and store to them |
//! | [`CrashStates`] | everything that a power loss could leave of a volume |
//!
//! `model` is pure: time and chance come in, states go out; wakers are only kept for the device to wake. `api` is what
//! fronts in the shape of tokio or of libc call.
//!
//! ```
//! use sim_core::{Instant, NodeId, device::Bench};
//! use sim_disk::{OpenHow, Profile, Volume};
//!
//! let mut disk = Volume::new(NodeId(1), "kv0", Profile::Linux);
//! let how = OpenHow { read: true, write: true, create: true, ..OpenHow::default() };
//! let log = disk.open(b"/log", how, Instant::ZERO).unwrap();
//! disk.write(log, 0, b"synced ", Instant::ZERO).unwrap();
//! disk.sync(log, true);
//! disk.write(log, 7, b"perhaps", Instant::ZERO).unwrap();
//! disk.close(log);
//!
//! disk.power_off(&mut Bench::seeded(7).cx(NodeId::OUTSIDE));
//! let (log, mut found) = (disk.lookup(b"/log", true).unwrap(), Vec::new());
//! disk.read(log, 0, 100, &mut found).unwrap();
//! assert!(found.starts_with(b"synced "));
//! ```
//!
//! Not here: extended attributes, more than one file system per node.

mod api;
mod control;
mod device;
mod drive;
mod model;
mod op;
mod open_file;

pub use api::{Handle, OpFuture, control, submit};
pub use device::{Begun, Disk, OpId};
pub use model::attributes::{Change, Time};
pub use model::below::{Below, BelowEntry, BelowKind};
pub use model::bytes::Allocate;
pub use model::crash::{Profile, Survivors, Tearing};
pub use model::durable::SyncPoint;
pub use model::errno::Errno;
pub use model::faults::DiskFaults;
pub use model::inode::{Entry, FileKind, InodeId, Stamp, Stat, User};
pub use model::locks::{Holder, RangeLock};
pub use model::maps::Maps;
pub use model::power::{CrashState, CrashStates};
pub use model::tree::{OpenHow, Taken, WriteSync};
pub use model::volume::Volume;
pub use op::{Op, Reply};
pub use open_file::FileId;
