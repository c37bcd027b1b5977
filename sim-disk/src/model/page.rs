//! A page of a file: what everybody reads, what is durable, and the versions in between.
//!
//! Reading touches `now` alone, however much is unsynced. Versions are kept as what was written (a small write costs its
//! bytes, a whole page one shared block) and put together only at a power loss.

use super::crash::{Fate, Versions};
use std::ops::Range;
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

/// Blocks that nobody shares any more, to be used again: a few of a file's, so that writing what is written often allocates
/// nothing.
#[derive(Default)]
pub struct Spare(Vec<Block>);

impl Spare {
    const MOST: usize = 64;

    /// A block of these bytes.
    fn block(&mut self, bytes: &[u8]) -> Block {
        if let Some(mut block) = self.0.pop()
            && let Some(into) = Rc::get_mut(&mut block)
        {
            into.copy_from_slice(bytes);
            return block;
        }
        Block::from(bytes)
    }

    fn keep(&mut self, block: Block) {
        if self.0.len() < Self::MOST && Rc::strong_count(&block) == 1 {
            self.0.push(block);
        }
    }
}

/// A file's copy has none.
impl Clone for Spare {
    fn clone(&self) -> Spare {
        Spare::default()
    }
}

/// So many unsynced changes of a page in a row that wrote all of it are kept.
const WHOLE_MOST: usize = 6;

/// One unsynced change of a page; `seq` is the ordinal of the write or truncation in its file.
#[derive(Clone)]
struct Change {
    /// The ordinal of the first of those that it stands for: a sync that covers one of them covers it.
    first: u32,
    seq: u32,
    what: What,
}

#[derive(Clone)]
enum What {
    Bytes(u16, Box<[u8]>),
    Whole(Block),
    /// A truncation cut it from here on.
    Cut(u16),
}

impl Change {
    /// The sectors it may have changed, a bit for each.
    fn sectors(&self) -> u8 {
        let (from, to) = match &self.what {
            What::Bytes(offset, bytes) => (*offset as usize, *offset as usize + bytes.len()),
            What::Whole(_) => (0, PAGE),
            What::Cut(from) => (*from as usize, PAGE),
        };
        sectors(from, to)
    }

    /// A truncation that took the whole page: its blocks are free.
    fn frees(&self) -> bool {
        matches!(self.what, What::Cut(0))
    }
}

/// The sectors that hold the bytes `from..to` of a page, a bit for each.
fn sectors(from: usize, to: usize) -> u8 {
    let upto = |n: usize| ((1u16 << n) - 1) as u8;
    upto(to.div_ceil(SECTOR)) & !upto(from / SECTOR)
}

/// What the medium did to a page, over bytes that stay what they were: a write over it lifts it.
#[derive(Clone, Default)]
struct Damage {
    /// A latent sector error: the page cannot be read, nor written in part.
    unreadable: bool,
    /// Bytes that rotted, and which of their bits.
    flips: Vec<(u16, u8)>,
}

/// One page.
///
/// Version 0 is `durable`, version k what it was after the k-th change. Invariant: without changes, `now` is durable.
#[derive(Clone)]
pub struct Page {
    /// `None` is a hole: zeros.
    now: Option<Block>,
    durable: Option<Block>,
    changes: Vec<Change>,
    /// So many changes were given up by an fsync that failed: alone they never become durable.
    stranded: usize,
    /// How often the page was written back: the ordinal of its question.
    pub episode: u32,
    /// False once a truncation has cut it all: it takes no space.
    pub allocated: bool,
    damage: Option<Box<Damage>>,
}

impl Page {
    pub fn hole(episode: u32) -> Page {
        Page { now: None, durable: None, changes: Vec::new(), stranded: 0, episode, allocated: true, damage: None }
    }

    /// Appends its bytes to `out`. It must be readable.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let begin = out.len();
        match &self.now {
            Some(now) => out.extend_from_slice(&now[range.clone()]),
            None => out.resize(begin + range.len(), 0),
        }
        let Some(damage) = &self.damage else { return };
        assert!(!damage.unreadable, "an unreadable page was read");
        for (at, bits) in damage.flips.iter().filter(|(at, _)| range.contains(&(*at as usize))) {
            out[begin + *at as usize - range.start] ^= bits;
        }
    }

    /// What of these bytes of it, that memory shows, is other than a reader finds: from the first to the last that differ.
    pub fn differs(&self, shown: &[u8]) -> Option<Range<usize>> {
        let differs = |found: &[u8]| {
            // All of it at once first: mostly it is the same.
            (shown != found).then(|| {
                let differ = |(a, b): (&u8, &u8)| a != b;
                let first = shown.iter().zip(found).position(differ).unwrap_or(0);
                let last = shown.iter().zip(found).rposition(differ).unwrap_or(0);
                first..last + 1
            })
        };
        let range = match &self.now {
            Some(now) => differs(&now[..shown.len()]),
            None => differs(&[0; PAGE][..shown.len()]),
        }?;
        match &self.damage {
            None => Some(range),
            // Memory keeps what the medium lost, and writing it back mends all of it.
            Some(damage) if damage.unreadable => Some(0..shown.len()),
            Some(_) => {
                let mut found = Vec::with_capacity(PAGE);
                self.read(0..shown.len(), &mut found);
                differs(&found)
            }
        }
    }

    /// Whether it can be read, and written in part.
    pub fn is_readable(&self) -> bool {
        !self.damage.as_ref().is_some_and(|d| d.unreadable)
    }

    /// Whether the medium holds it and memory need not: what can be damaged.
    pub fn is_clean(&self) -> bool {
        self.changes.is_empty() && self.allocated && self.durable.is_some()
    }

    /// A latent sector error strikes it.
    pub fn becomes_unreadable(&mut self) {
        self.damage.get_or_insert_default().unreadable = true;
    }

    /// A bit of it rots.
    pub fn rots(&mut self, bit: usize) {
        self.damage.get_or_insert_default().flips.push(((bit / 8) as u16, 1 << (bit % 8)));
    }

    /// Its bytes on the medium, if all of it is there; zeros for a hole.
    pub fn on_medium(&self) -> Block {
        self.durable.clone().unwrap_or_else(zeros)
    }

    /// Its bytes as everybody reads them.
    pub fn in_memory(&self) -> Block {
        self.now.clone().unwrap_or_else(zeros)
    }

    /// Other bytes than those written lie there.
    pub fn is_misled(&mut self, bytes: Block) {
        debug_assert!(!self.is_unsettled());
        (self.now, self.durable, self.damage) = (Some(bytes.clone()), Some(bytes), None);
    }

    /// What is written over is no longer damaged.
    fn mend(&mut self, written: Range<usize>) {
        let Some(damage) = &mut self.damage else { return };
        damage.flips.retain(|(at, _)| !written.contains(&(*at as usize)));
        damage.unreadable &= written.len() < PAGE;
        if !damage.unreadable && damage.flips.is_empty() {
            self.damage = None;
        }
    }

    /// Whether an fsync that began after the change `through` would write it.
    pub fn is_dirty(&self, through: u32) -> bool {
        self.changes.get(self.stranded).is_some_and(|c| c.first <= through)
    }

    /// Whether a power loss could take something of it.
    pub fn is_unsettled(&self) -> bool {
        !self.changes.is_empty()
    }

    pub fn unsynced(&self) -> usize {
        self.changes.len()
    }

    /// What the unsynced changes take in memory, beside what everybody reads.
    pub fn pending_bytes(&self) -> usize {
        let bytes = |c: &Change| match &c.what {
            What::Bytes(_, bytes) => bytes.len() + 64,
            What::Whole(_) => PAGE + 64,
            What::Cut(_) => 64,
        };
        self.changes.iter().map(bytes).sum()
    }

    pub fn write(&mut self, seq: u32, offset: usize, bytes: &[u8], spare: &mut Spare) {
        debug_assert!(offset + bytes.len() <= PAGE);
        self.allocated = true;
        if self.damage.is_some() {
            self.mend(offset..offset + bytes.len());
        }
        if bytes.len() == PAGE {
            self.thin(spare);
            // Made in its place, and before the bytes are copied: what is moved just after so many stores waits for them all.
            self.changes.resize_with(self.changes.len() + 1, || Change { first: seq, seq, what: What::Cut(0) });
            let block = spare.block(bytes);
            self.now = Some(block.clone());
            if let Some(last) = self.changes.last_mut() {
                last.what = What::Whole(block);
            }
            return;
        }
        // The first write after a sync copies: the old block stays behind as the durable one.
        Rc::make_mut(self.now.get_or_insert_with(zeros))[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.changes.push(Change { first: seq, seq, what: What::Bytes(offset as u16, bytes.into()) });
    }

    /// A page that is written whole again and again keeps what is durable, the newest, and a few versions in between, the rarer
    /// the older: a power loss leaves none of the others. Before it is written whole once more.
    fn thin(&mut self, spare: &mut Spare) {
        let whole = |c: &Change| matches!(c.what, What::Whole(_));
        let Some(from) = self.changes.len().checked_sub(WHOLE_MOST).filter(|from| *from >= self.stranded) else {
            return;
        };
        let last = &mut self.changes[from..];
        if !last.iter().all(whole) {
            return;
        }
        for i in 0..WHOLE_MOST / 2 {
            last[2 * i + 1].first = last[2 * i].first;
            if let What::Whole(block) = std::mem::replace(&mut last[2 * i].what, What::Cut(0)) {
                spare.keep(block);
            }
            last.swap(i, 2 * i + 1);
        }
        self.changes.truncate(from + WHOLE_MOST / 2);
    }

    /// A truncation cut the page from `from` on.
    pub fn cut(&mut self, seq: u32, from: usize) {
        self.allocated &= from > 0;
        self.mend(from..PAGE);
        if from == 0 {
            self.now = None;
        } else if let Some(now) = &mut self.now {
            Rc::make_mut(now)[from..].fill(0);
        }
        self.changes.push(Change { first: seq, seq, what: What::Cut(from as u16) });
    }

    /// What everybody read after the change `through` is durable now.
    pub fn commit(&mut self, through: u32, spare: &mut Spare) {
        self.settle_first(self.until(through), spare);
        self.episode += 1;
    }

    /// An fsync failed: what was to be written counts as clean.
    pub fn strand(&mut self, through: u32) {
        self.stranded = self.changes.iter().take_while(|c| c.seq <= through).count();
    }

    /// Early write-back of the oldest `count` changes, as far as no truncation stands in the way: what was written after one
    /// that freed the page lies in new blocks, which are the file's only once the truncation is durable. Not for stranded ones.
    pub fn write_back(&mut self, count: usize, spare: &mut Spare) {
        if self.stranded == 0 {
            let freed = self.changes.iter().position(Change::frees);
            self.settle_first(count.min(freed.unwrap_or(count)), spare);
        }
    }

    /// A truncation is durable: no version from before it is left.
    pub fn settle_cuts(&mut self, through: u32, spare: &mut Spare) {
        self.settle_first(self.least(through), spare);
    }

    fn settle_first(&mut self, count: usize, spare: &mut Spare) {
        if count == 0 {
            return;
        }
        let durable = if count == self.changes.len() { self.now.clone() } else { self.version(count) };
        if let Some(old) = std::mem::replace(&mut self.durable, durable) {
            spare.keep(old);
        }
        for change in self.changes.drain(..count) {
            if let What::Whole(block) = change.what {
                spare.keep(block);
            }
        }
        self.stranded = self.stranded.saturating_sub(count);
    }

    fn until(&self, through: u32) -> usize {
        self.changes.iter().take_while(|c| c.first <= through).count()
    }

    /// The oldest version that truncations up to `kept` leave.
    fn least(&self, kept: u32) -> usize {
        let cut = |c: &Change| c.seq <= kept && matches!(c.what, What::Cut(_));
        self.changes.iter().rposition(cut).map_or(0, |i| i + 1)
    }

    /// The page after the first `k` changes; `None` is a hole.
    fn version(&self, k: usize) -> Option<Block> {
        if k == self.changes.len() && k > 0 {
            return self.now.clone();
        }
        // What came before a whole page was written no longer shows.
        let whole = self.changes[..k].iter().rposition(|c| matches!(c.what, What::Whole(_))).unwrap_or(0);
        let mut block = self.durable.clone();
        for change in &self.changes[whole..k] {
            match &change.what {
                What::Whole(b) => block = Some(b.clone()),
                What::Bytes(offset, bytes) => {
                    let at = *offset as usize;
                    Rc::make_mut(block.get_or_insert_with(zeros))[at..at + bytes.len()].copy_from_slice(bytes);
                }
                What::Cut(0) => block = None,
                What::Cut(from) => {
                    if let Some(block) = &mut block {
                        Rc::make_mut(block)[*from as usize..].fill(0);
                    }
                }
            }
        }
        block
    }

    /// What a power loss may leave, if truncations up to the change `kept` survived and those after it did not, and the file
    /// ends `len` bytes after the page begins.
    pub fn versions(&self, kept: u32, len: u64) -> Versions {
        let least = self.least(kept);
        let freed = self.changes.iter().position(|c| c.seq > kept && c.frees());
        let most = freed.unwrap_or(self.changes.len());
        let mut allowed: Vec<usize> = (least..=most).filter(|k| *k == 0 || *k > self.stranded).collect();
        if allowed.is_empty() {
            // Given up by a failed fsync and cut by a truncation that survived: the cut is what is left.
            allowed.push(least);
        }
        let visible = sectors(0, len.min(PAGE as u64) as usize);
        // The sectors in which each differs from the one before it.
        let between = |w: &[usize]| self.changes[w[0]..w[1]].iter().fold(0, |all, c| all | c.sectors()) & visible;
        let changed = allowed.windows(2).map(between).collect();
        Versions { allowed, changed }
    }

    /// Becomes what a power loss left.
    pub fn settle(&mut self, versions: &Versions, fate: Fate) -> Loss {
        let newest_index = *versions.allowed.last().expect("at least one version is allowed");
        let newest = self.version(newest_index);
        let (kept, loss) = match fate {
            Fate::Newest => (newest, Loss::Nothing),
            Fate::Older(i) => (self.version(versions.allowed[i]), Loss::Lost),
            Fate::Torn { older, newer, sectors } => {
                let old = self.version(versions.allowed[older]).unwrap_or_else(zeros);
                let new = self.version(versions.allowed[newer]).unwrap_or_else(zeros);
                let mut mix = old.clone();
                let bytes = Rc::make_mut(&mut mix);
                for sector in (0..PAGE / SECTOR).filter(|s| sectors >> s & 1 == 1) {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    bytes[range.clone()].copy_from_slice(&new[range]);
                }
                let loss = if mix == newest.unwrap_or_else(zeros) {
                    Loss::Nothing
                } else if mix == old || mix == new {
                    Loss::Lost
                } else {
                    Loss::Torn
                };
                (Some(mix), loss)
            }
        };
        self.allocated = kept.is_some();
        self.now.clone_from(&kept);
        self.durable = kept;
        self.changes.clear();
        let stranded = std::mem::take(&mut self.stranded) > 0 && newest_index == 0;
        self.episode += 1;
        if loss == Loss::Nothing && stranded { Loss::Lost } else { loss }
    }

    /// Zeros from `from` on, durable too: the file ends there.
    pub fn end_at(&mut self, from: usize) {
        debug_assert!(!self.is_unsettled());
        if let Some(now) = &mut self.now
            && now[from..].iter().any(|b| *b != 0)
        {
            self.durable = None;
            Rc::make_mut(now)[from..].fill(0);
            self.durable.clone_from(&self.now);
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
