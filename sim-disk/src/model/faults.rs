//! What may go wrong on a disk while it runs. What a power loss does is [`crash`](super::crash)'s.

use sim_core::choices::Ratio;
use std::time::Duration;

/// The faults of one node's disk. The default is a healthy disk.
///
/// Each operation asks one question for its error and one for its stall, also while the disk is healthy; the ratios
/// here are only the laws of the answers. A fault that strikes is counted as `disk.eio`, `disk.enospc`, `disk.lie`,
/// `disk.slow` or `disk.stall`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskFaults {
    /// How many reads fail with EIO.
    pub read_error: Ratio,
    /// How many writes fail with EIO, having written nothing.
    pub write_error: Ratio,
    /// How many fsyncs and fdatasyncs fail with EIO. As on Linux the pages count as clean afterwards: they stay in the
    /// page cache, a second fsync succeeds without writing them, and the next power loss takes them (Rebello et al.,
    /// "Can Applications Recover from fsync Failures?", ATC 2020; ext4 and XFS).
    pub sync_error: Ratio,
    /// How many fsyncs say they succeeded and did nothing, as drives with a volatile cache do. What they should have
    /// written is still unsynced, and the next honest fsync writes it.
    pub sync_lie: Ratio,
    /// Whether everything that needs space fails with ENOSPC.
    pub full: bool,
    /// How many times longer every operation takes; 0 and 1 mean: not longer.
    pub slow_factor: u32,
    /// How many operations stall.
    pub stall: Ratio,
    /// For how long they do.
    pub stall_for: Duration,
}

impl Default for DiskFaults {
    fn default() -> Self {
        DiskFaults {
            read_error: Ratio::NEVER,
            write_error: Ratio::NEVER,
            sync_error: Ratio::NEVER,
            sync_lie: Ratio::NEVER,
            full: false,
            slow_factor: 1,
            stall: Ratio::NEVER,
            stall_for: Duration::from_secs(1),
        }
    }
}
