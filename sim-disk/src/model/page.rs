//! A page of a file: what everybody reads, what is durable, and the versions in between.
//!
//! Reading touches `now` alone, however much is unsynced. Versions are kept as what was written (a small write costs its
//! bytes, a whole page one shared block) and put together only at a power loss.

use super::crash::Fate;
use std::rc::Rc;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Bytes of a sector, the unit of tearing.
pub const SECTOR: usize = 512;

/// A page's bytes, shared until somebody writes.
pub type Block = Rc<[u8]>;

pub fn zeros() -> Block {
    Rc::from([0u8; PAGE].as_slice())
}

/// One unsynced change of a page; `seq` is the ordinal of the write or truncation in its file.
struct Change {
    seq: u32,
    what: What,
}

enum What {
    Bytes(u16, Box<[u8]>),
    Whole(Block),
    /// A truncation cut it from here on.
    Cut(u16),
}

/// One page.
///
/// Version 0 is `durable`, version k what it was after the k-th change. Invariant: without changes, `now` is durable.
pub struct Page {
    now: Block,
    /// `None` is a hole: zeros.
    durable: Option<Block>,
    changes: Vec<Change>,
    /// So many changes were given up by an fsync that failed: alone they never become durable.
    stranded: usize,
    /// How often the page was written back: the ordinal of its question.
    pub episode: u32,
    /// False once a truncation has cut it all: it takes no space.
    pub allocated: bool,
}

impl Page {
    pub fn hole(episode: u32) -> Page {
        Page { now: zeros(), durable: None, changes: Vec::new(), stranded: 0, episode, allocated: true }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// Whether an fsync would write it.
    pub fn is_dirty(&self) -> bool {
        self.changes.len() > self.stranded
    }

    /// Whether a power loss could take something of it.
    pub fn is_unsettled(&self) -> bool {
        !self.changes.is_empty()
    }

    pub fn unsynced(&self) -> usize {
        self.changes.len()
    }

    pub fn write(&mut self, seq: u32, offset: usize, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() <= PAGE);
        self.allocated = true;
        let what = if bytes.len() == PAGE {
            self.now = Rc::from(bytes);
            What::Whole(self.now.clone())
        } else {
            // The first write after a sync copies: the old block stays behind as the durable one.
            Rc::make_mut(&mut self.now)[offset..offset + bytes.len()].copy_from_slice(bytes);
            What::Bytes(offset as u16, bytes.into())
        };
        self.changes.push(Change { seq, what });
    }

    /// A truncation cut the page from `from` on.
    pub fn cut(&mut self, seq: u32, from: usize) {
        self.allocated &= from > 0;
        Rc::make_mut(&mut self.now)[from..].fill(0);
        self.changes.push(Change { seq, what: What::Cut(from as u16) });
    }

    /// What everybody reads is durable now.
    pub fn commit(&mut self) {
        self.durable = Some(self.now.clone());
        self.changes.clear();
        self.stranded = 0;
        self.episode += 1;
    }

    /// An fsync failed: what was to be written counts as clean.
    pub fn strand(&mut self) {
        self.stranded = self.changes.len();
    }

    /// Early write-back of the oldest `count` changes. Not for stranded ones.
    pub fn write_back(&mut self, count: usize) {
        if self.stranded > 0 {
            return;
        }
        self.durable = self.version(count);
        self.changes.drain(..count);
    }

    /// The page after the first `k` changes; `None` is a hole.
    fn version(&self, k: usize) -> Option<Block> {
        if k == self.changes.len() && k > 0 {
            return Some(self.now.clone());
        }
        let mut block = self.durable.clone();
        for change in &self.changes[..k] {
            match &change.what {
                What::Whole(b) => block = Some(b.clone()),
                What::Bytes(offset, bytes) => {
                    let at = *offset as usize;
                    Rc::make_mut(block.get_or_insert_with(zeros))[at..at + bytes.len()].copy_from_slice(bytes);
                }
                What::Cut(from) => Rc::make_mut(block.get_or_insert_with(zeros))[*from as usize..].fill(0),
            }
        }
        block
    }

    /// The versions a power loss may leave, oldest first, if truncations up to `cut_kept` survived and those from
    /// `cut_lost` on did not.
    pub fn allowed(&self, cut_kept: Option<u32>, cut_lost: Option<u32>) -> Vec<usize> {
        let until = |bound: &dyn Fn(u32) -> bool| self.changes.iter().take_while(|c| bound(c.seq)).count();
        let least = cut_kept.map_or(0, |seq| until(&|s| s <= seq));
        let most = cut_lost.map_or(self.changes.len(), |seq| until(&|s| s < seq));
        let mut versions: Vec<usize> = (least..=most).filter(|k| *k == 0 || *k > self.stranded).collect();
        if versions.is_empty() {
            // Given up by a failed fsync and cut by a truncation that survived: the cut is what is left.
            versions.push(least);
        }
        versions
    }

    /// Becomes what a power loss left. True if that is not the newest of `allowed`, and whether it is torn.
    pub fn settle(&mut self, allowed: &[usize], fate: Fate) -> Loss {
        let newest_index = *allowed.last().expect("at least one version is allowed");
        let newest = self.version(newest_index);
        let (kept, loss) = match fate {
            Fate::Newest => (newest, Loss::Nothing),
            Fate::Older(i) => (self.version(allowed[i]), Loss::Lost),
            Fate::Torn { older, newest_sectors } => {
                let old = self.version(allowed[older]).unwrap_or_else(zeros);
                let new = newest.unwrap_or_else(zeros);
                let mut mix = old.clone();
                let bytes = Rc::make_mut(&mut mix);
                for sector in (0..PAGE / SECTOR).filter(|s| newest_sectors >> s & 1 == 1) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    bytes[range.clone()].copy_from_slice(&new[range]);
                }
                let loss = if mix == new {
                    Loss::Nothing
                } else if mix == old {
                    Loss::Lost
                } else {
                    Loss::Torn
                };
                (Some(mix), loss)
            }
        };
        self.allocated = kept.is_some();
        self.now = kept.clone().unwrap_or_else(zeros);
        self.durable = kept;
        self.changes.clear();
        let stranded = std::mem::take(&mut self.stranded) > 0 && newest_index == 0;
        self.episode += 1;
        if loss == Loss::Nothing && stranded { Loss::Lost } else { loss }
    }

    /// Zeros from `from` on, durable too: the file ends there.
    pub fn end_at(&mut self, from: usize) {
        debug_assert!(!self.is_unsettled());
        if self.now[from..].iter().any(|b| *b != 0) {
            self.durable = None;
            Rc::make_mut(&mut self.now)[from..].fill(0);
            self.durable = Some(self.now.clone());
        }
    }

    /// Whether it holds nothing durable and nothing else.
    pub fn is_hole(&self) -> bool {
        self.durable.is_none() && self.changes.is_empty()
    }
}

/// What a power loss did to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    Nothing,
    Lost,
    Torn,
}
