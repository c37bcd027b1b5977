//! Memory in which programs see files, beside the calls.
//!
//! Such memory is of the page cache: what a program stores there is as good as written, and nobody says so. So the disk asks,
//! before any call looks at the file, and shows there what a call has changed.

use super::inode::InodeId;
use super::volume::Volume;
use sim_core::{Instant, NodeId};
use std::ops::Range;

/// The memory maps of the files of all nodes.
pub trait Maps {
    /// Gives to [`Volume::store`] what memory shows of this file, or of all of the node's, if something may have been stored
    /// there since this was asked last.
    fn gather(&self, node: NodeId, file: Option<InodeId>, volume: &mut Volume, now: Instant);

    /// A call has changed these bytes of the file, or of any, or the size: memory shows it from now on.
    fn show(&self, node: NodeId, file: Option<InodeId>, volume: &Volume, bytes: Range<u64>);

    /// The programs of the node have ended: what their code still stores is nobody's.
    fn died(&self, node: NodeId);
}
