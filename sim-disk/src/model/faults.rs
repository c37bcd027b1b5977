//! What may go wrong on a disk while it runs. What a power loss does is [`crash`](super::crash)'s.

use sim_core::choices::Ratio;
use std::time::Duration;

/// The faults of one node's disk. The default is a healthy disk.
///
/// Each operation asks its questions also while the disk is healthy; the ratios here are only the laws of the answers. What
/// strikes is counted under the name at the end of each contract.
///
/// `latent_error`, `bit_rot`, `misdirected` and `sync_lie` take away what was acknowledged: no program survives them on a
/// majority of its replicas. [`Disk::limit_damage`](crate::Disk::limit_damage) keeps them within a budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFaults {
    /// How many opens fail with EIO; nothing is opened or created. `disk.eio`
    pub open_error: Ratio,
    /// How many reads fail with EIO. The bytes are as they were; another read may work. `disk.eio`
    pub read_error: Ratio,
    /// How many writes and truncations fail with EIO, having changed nothing. `disk.eio`
    pub write_error: Ratio,
    /// How many fsyncs and fdatasyncs fail with EIO. As on Linux the pages count as clean afterwards: they stay in the
    /// page cache, a second fsync succeeds without writing them, and the next power loss takes them (Rebello et al.,
    /// "Can Applications Recover from fsync Failures?", ATC 2020; ext4 and XFS). `disk.eio`
    pub sync_error: Ratio,
    /// Whether a file on which an operation failed with EIO goes on failing for all operations of that kind, until the faults
    /// are set anew. `disk.eio`
    pub error_sticks: bool,
    /// How many fsyncs fail with ENOSPC: the blocks of what was written were only now to be allocated (delayed allocation,
    /// thin provisioning, NFS). Else as `sync_error`. `disk.enospc`
    pub sync_full: Ratio,
    /// How many fsyncs say they succeeded and did nothing, as drives with a volatile cache do. What they should have
    /// written is still unsynced, and the next honest fsync writes it. `disk.lie`
    pub sync_lie: Ratio,
    /// How many reads return fewer bytes than there are, at least one: read(2) allows it. `disk.short`
    pub short_read: Ratio,
    /// How many writes write fewer bytes than given, at least one: write(2) allows it. `disk.short`
    pub short_write: Ratio,
    /// How many opens, reads and writes fail with EINTR, having done nothing: a signal came first. On Linux's own disks this
    /// does not happen; on NFS and FUSE it does. `disk.eintr`
    pub interrupted: Ratio,
    /// How many reads meet a latent sector error: a page among those read, that was written back and not changed since, cannot be
    /// read any more (EIO), nor written in part, until all of it is written. `disk.latent`, and each EIO that
    /// follows `disk.eio`
    pub latent_error: Ratio,
    /// How many reads meet a bit that flipped, in such a page. It stays flipped, for every reader, until its byte is
    /// overwritten. `disk.rot`
    pub bit_rot: Ratio,
    /// How many fsyncs write one of their pages to the place of another page of the file: the one keeps its old bytes, the
    /// other is overwritten, and the fsync succeeds. At most once until the faults are set anew. `disk.astray`
    pub misdirected: Ratio,
    /// Whether everything that needs space fails with ENOSPC. `disk.enospc`
    pub full: bool,
    /// How many times longer every operation takes; 0 and 1 mean: not longer. `disk.slow`
    pub slow_factor: u32,
    /// How many operations stall. `disk.stall`
    pub stall: Ratio,
    /// For how long they do.
    pub stall_for: Duration,
}

impl DiskFaults {
    /// Whether a call may do nothing, or a part, without being refused.
    pub(crate) fn may_be_partial(&self) -> bool {
        self.short_write != Ratio::NEVER || self.interrupted != Ratio::NEVER
    }
}

impl Default for DiskFaults {
    fn default() -> Self {
        DiskFaults {
            open_error: Ratio::NEVER,
            read_error: Ratio::NEVER,
            write_error: Ratio::NEVER,
            sync_error: Ratio::NEVER,
            error_sticks: false,
            sync_full: Ratio::NEVER,
            sync_lie: Ratio::NEVER,
            short_read: Ratio::NEVER,
            short_write: Ratio::NEVER,
            interrupted: Ratio::NEVER,
            latent_error: Ratio::NEVER,
            bit_rot: Ratio::NEVER,
            misdirected: Ratio::NEVER,
            full: false,
            slow_factor: 1,
            stall: Ratio::NEVER,
            stall_for: Duration::from_secs(1),
        }
    }
}
