//! The bytes of one file: pages and sizes, what is durable of them and what is not yet.

use super::crash::{Profile, Survivors, Tearing};
use super::page::{Loss, PAGE, Page, Spare};
use sim_core::DeviceCx;
use sim_core::choices::{Law, Stream};
use sim_core::hash;
use std::collections::BTreeMap;
use std::ops::Range;

/// From so many unsynced changes of one page on the oldest half is written back: bounds memory, and is what Linux
/// does to pages that stay dirty.
const MAX_CHANGES: usize = 64;
/// The same for changes of a size.
const MAX_SIZES: usize = 1024;
/// The same for all unsynced bytes of a file: the pages that have been dirty for longest are written back.
const MAX_PENDING: usize = 64 << 20;

/// All bytes of a file.
pub const ALL: Range<u64> = 0..u64::MAX;

/// The pages that hold these bytes.
fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start / PAGE as u64..bytes.end.div_ceil(PAGE as u64)
}

/// A change of the size that is not durable yet.
#[derive(Clone, Copy)]
struct Resize {
    seq: u32,
    to: u64,
    /// How many changes there were in the journal before it.
    journal: u64,
    /// A write that made the file grow, from which byte on it wrote; `None` for a truncation, which is journaled itself.
    grew_by_write_at: Option<u64>,
}

/// The bytes of one file.
#[derive(Clone, Default)]
pub struct Content {
    size: u64,
    pages: BTreeMap<u64, Page>,
    /// Pages with changes that are not durable, in the order they became so.
    unsettled: Vec<u64>,
    durable_size: u64,
    resizes: Vec<Resize>,
    /// So many of them were given up by an fsync that failed.
    stranded_resizes: usize,
    /// The ordinal of the size's question.
    size_episode: u32,
    /// The ordinal of the next write or truncation.
    seq: u32,
    /// What a new page's episodes begin with: no page that was dropped had more.
    first_episode: u32,
    allocated: u64,
    /// At most so many bytes were written since the pending ones were counted last.
    pending: usize,
    /// At most so many pages cannot be read.
    unreadable: u32,
    spare: Spare,
}

/// How the medium damages a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decay {
    /// A latent sector error: EIO, until all of the page is written anew.
    Unreadable,
    /// A bit flips, and stays so until it is overwritten.
    Rot,
}

impl Content {
    /// A file that holds these bytes, and they are durable.
    pub fn durable(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(0, bytes, 0);
        content.commit(u32::MAX);
        content
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first byte from `at` on whose page was written, or was not; `u64::MAX` if there is none.
    pub fn first_page(&self, at: u64, written: bool) -> u64 {
        let is_written = |index: u64| self.pages.get(&index).is_some_and(|p| p.allocated);
        let mut index = at / PAGE as u64;
        let first = if written {
            self.pages.range(index..).find(|(_, p)| p.allocated).map(|(i, _)| *i)
        } else {
            while is_written(index) {
                index += 1;
            }
            Some(index)
        };
        first.map_or(u64::MAX, |i| at.max(i * PAGE as u64))
    }

    /// Pages that take space.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Nobody can reach the file any more: its pages take no space. Returns how many did.
    pub fn release_space(&mut self) -> u64 {
        for page in self.pages.values_mut() {
            page.allocated = false;
        }
        std::mem::take(&mut self.allocated)
    }

    /// All pages take space. Returns how many do.
    pub fn claim_space(&mut self) -> u64 {
        for page in self.pages.values_mut() {
            page.allocated = true;
        }
        self.allocated = self.pages.len() as u64;
        self.allocated
    }

    /// Whether something is not durable.
    pub fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty() || !self.resizes.is_empty()
    }

    /// Pages that a sync of these bytes would write.
    pub fn dirty_pages(&self, bytes: Range<u64>) -> u64 {
        let indices = pages_of(&bytes);
        self.unsettled.iter().filter(|i| indices.contains(i) && self.pages[i].is_dirty(u32::MAX)).count() as u64
    }

    /// Appends to `out` up to `len` bytes from `at` on.
    pub fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) {
        let end = self.size.min(at.saturating_add(len as u64));
        let mut at = at;
        if at >= end {
            return;
        }
        out.reserve((end - at) as usize);
        for (index, page) in self.pages.range(at / PAGE as u64..end.div_ceil(PAGE as u64)) {
            let begin = index * PAGE as u64;
            // A hole before the page.
            out.resize(out.len() + begin.saturating_sub(at) as usize, 0);
            at = at.max(begin);
            let until = end.min(begin + PAGE as u64);
            page.read((at - begin) as usize..(until - begin) as usize, out);
            at = until;
        }
        out.resize(out.len() + (end - at) as usize, 0);
    }

    /// How many of these bytes can be read before an unreadable page, or written, which needs those pages that are written in
    /// part.
    pub fn undamaged(&self, at: u64, len: u64, to_write: bool) -> u64 {
        if self.unreadable == 0 {
            return len;
        }
        let end = at.saturating_add(len);
        let first = self.pages.range(at / PAGE as u64..end.div_ceil(PAGE as u64)).find(|(index, page)| {
            let begin = *index * PAGE as u64;
            let whole = at <= begin && begin + PAGE as u64 <= end;
            !(page.is_readable() || to_write && whole)
        });
        first.map_or(len, |(index, _)| (index * PAGE as u64).saturating_sub(at))
    }

    /// The medium damages a page among these bytes, which and how is in `detail`. `None` if nothing of it lies on the medium
    /// alone.
    pub fn decay(&mut self, at: u64, len: u64, how: Decay, detail: u64) -> Option<u64> {
        let end = self.size.min(at.saturating_add(len));
        let range = at / PAGE as u64..end.div_ceil(PAGE as u64).max(at / PAGE as u64);
        let clean: Vec<u64> = self.pages.range(range).filter(|(_, p)| p.is_clean()).map(|(i, _)| *i).collect();
        let index = *clean.get(detail.checked_rem(clean.len() as u64)? as usize)?;
        let page = self.pages.get_mut(&index).expect("it was just found");
        let visible = (self.size - index * PAGE as u64).min(PAGE as u64);
        match how {
            Decay::Unreadable => {
                page.becomes_unreadable();
                self.unreadable += 1;
            }
            Decay::Rot => page.rots((detail / clean.len() as u64 % (visible * 8)) as usize),
        }
        Some(index)
    }

    /// [`commit`](Self::commit), but one of the pages goes to the place of another, which `detail` says: the one keeps its old
    /// bytes, the other holds those of the first. Both pages; `None` if there is no other, and nothing went astray.
    pub fn commit_astray(&mut self, through: u32, detail: u64) -> Option<(u64, u64)> {
        let written: Vec<u64> = self.unsettled.iter().copied().filter(|i| self.pages[i].is_dirty(through)).collect();
        let others: Vec<u64> = self.pages.iter().filter(|(_, p)| p.is_clean()).map(|(i, _)| *i).collect();
        let from = written.get(detail.checked_rem(written.len() as u64).unwrap_or(0) as usize).copied();
        let to = others.get((detail >> 12).checked_rem(others.len() as u64).unwrap_or(0) as usize).copied();
        let old = from.map(|from| self.pages[&from].on_medium());
        self.commit(through);
        let (from, to, old) = (from?, to?, old?);
        let new = self.pages.get(&from).filter(|p| p.is_clean())?.in_memory();
        for (index, bytes) in [(from, old), (to, new)] {
            self.pages.get_mut(&index)?.is_misled(bytes);
        }
        Some((from, to))
    }

    /// How many bytes of a write fit if only `free` more pages may be allocated.
    pub fn fitting(&self, at: u64, len: usize, mut free: u64) -> usize {
        let end = at + len as u64;
        let mut fits = at;
        while fits < end {
            let index = fits / PAGE as u64;
            if !self.pages.get(&index).is_some_and(|p| p.allocated) {
                if free == 0 {
                    break;
                }
                free -= 1;
            }
            fits = end.min((index + 1) * PAGE as u64);
        }
        (fits - at) as usize
    }

    /// Writes; the file grows if it must. `journal` is how many changes the journal has had.
    pub fn write(&mut self, at: u64, bytes: &[u8], journal: u64) {
        if bytes.is_empty() {
            return;
        }
        self.seq += 1;
        let (seq, begin) = (self.seq, at);
        let (mut at, mut rest) = (at, bytes);
        let end = at + bytes.len() as u64;
        while !rest.is_empty() {
            let (index, offset) = (at / PAGE as u64, at as usize % PAGE);
            let (now, later) = rest.split_at(rest.len().min(PAGE - offset));
            let (first_episode, allocated) = (self.first_episode, &mut self.allocated);
            let page = self.pages.entry(index).or_insert_with(|| {
                *allocated += 1;
                Page::hole(first_episode)
            });
            *allocated += !page.allocated as u64;
            if !page.is_unsettled() {
                self.unsettled.push(index);
            }
            page.write(seq, offset, now, &mut self.spare);
            if page.unsynced() > MAX_CHANGES {
                page.write_back(MAX_CHANGES / 2, &mut self.spare);
            }
            at += now.len() as u64;
            rest = later;
        }
        if end > self.size {
            self.size = end;
            self.resizes.push(Resize { seq, to: end, journal, grew_by_write_at: Some(begin) });
        }
        self.pending += bytes.len() + 64;
        if self.pending > MAX_PENDING {
            self.write_back();
        }
    }

    /// Memory shows these bytes of the file from `at` on, the beginning of a page: writes those that differ, as far as the file
    /// goes. Whether there were any.
    pub fn store(&mut self, at: u64, shown: &[u8], journal: u64) -> bool {
        let shown = &shown[..shown.len().min(self.size.saturating_sub(at) as usize)];
        let mut stored = false;
        for (i, bytes) in shown.chunks(PAGE).enumerate() {
            let begin = at + (i * PAGE) as u64;
            let differs = match self.pages.get(&(begin / PAGE as u64)) {
                Some(page) => page.differs(bytes),
                None => Page::hole(0).differs(bytes),
            };
            if let Some(range) = differs {
                self.write(begin + range.start as u64, &bytes[range], journal);
                stored = true;
            }
        }
        stored
    }

    /// Early write-back of the pages that have been dirty for longest, until half of what may be pending is.
    #[cold]
    fn write_back(&mut self) {
        self.pending = self.unsettled.iter().map(|i| self.pages[i].pending_bytes()).sum();
        let mut left = self.pending.saturating_sub(MAX_PENDING / 2);
        let (pages, spare) = (&mut self.pages, &mut self.spare);
        self.unsettled.retain(|index| {
            let page = pages.get_mut(index).expect("unsettled pages exist");
            if left > 0 {
                let before = page.pending_bytes();
                page.write_back(page.unsynced(), spare);
                let freed = before - page.pending_bytes();
                (left, self.pending) = (left.saturating_sub(freed), self.pending - freed);
            }
            page.is_unsettled()
        });
        // What could not be written back is not counted again until as much was written anew.
        self.pending = self.pending.min(MAX_PENDING / 2);
    }

    /// Cuts the file, or lets it grow by zeros: the change `journal` of the journal. The ordinal of it in the file; `None` if
    /// nothing changes.
    pub fn set_len(&mut self, to: u64, journal: u64) -> Option<u32> {
        if to == self.size {
            return None;
        }
        self.seq += 1;
        let seq = self.seq;
        if to < self.size {
            for (index, page) in self.pages.range_mut(to / PAGE as u64..) {
                let from = to.saturating_sub(index * PAGE as u64) as usize;
                if from >= PAGE || (from == 0 && !page.allocated) {
                    continue;
                }
                if !page.is_unsettled() {
                    self.unsettled.push(*index);
                }
                self.allocated -= (from == 0 && page.allocated) as u64;
                page.cut(seq, from);
            }
        }
        self.size = to;
        self.resizes.push(Resize { seq, to, journal, grew_by_write_at: None });
        Some(seq)
    }

    /// If so many changes of the size are unsynced that the oldest half should be written back: what the journal must have had
    /// before, and the ordinal to give to [`settle_sizes`](Self::settle_sizes).
    pub fn overdue_sizes(&self) -> Option<(u64, u32)> {
        if self.resizes.len() <= MAX_SIZES || self.stranded_resizes > 0 {
            return None;
        }
        let last = self.resizes[MAX_SIZES / 2];
        Some((last.journal + last.grew_by_write_at.is_none() as u64, last.seq))
    }

    /// The size as it was after the change `through` is durable, and what truncations up to there cut is gone.
    pub fn settle_sizes(&mut self, through: u32) {
        let count = self.resizes.iter().take_while(|r| r.seq <= through).count();
        let Some(last) = count.checked_sub(1) else { return };
        let mut before = self.durable_size;
        let cuts = self.resizes[..count].iter().any(|r| std::mem::replace(&mut before, r.to) > r.to);
        self.durable_size = self.resizes[last].to;
        self.resizes.drain(..count);
        self.stranded_resizes = self.stranded_resizes.saturating_sub(count);
        if cuts {
            let (pages, spare) = (&mut self.pages, &mut self.spare);
            self.unsettled.retain(|index| {
                let page = pages.get_mut(index).expect("unsettled pages exist");
                page.settle_cuts(through, spare);
                page.is_unsettled()
            });
        }
    }

    /// The ordinal of the last write or truncation: what an fsync that begins now covers.
    pub fn position(&self) -> u32 {
        self.seq
    }

    /// How much of the journal must be durable before the size as it was after the change `through`.
    pub fn size_needs(&self, through: u32) -> u64 {
        let grew = self.resizes.iter().rev().find(|r| r.seq <= through && r.grew_by_write_at.is_some());
        grew.map_or(0, |r| r.journal)
    }

    /// fsync and fdatasync: what everybody read after the change `through` becomes durable, except what an earlier fsync gave
    /// up and nobody wrote since.
    pub fn commit(&mut self, through: u32) {
        let fresh = self.resizes.get(self.stranded_resizes).is_some_and(|r| r.seq <= through);
        let wrote = self.commit_pages(through, ALL);
        if (wrote || fresh) && self.resizes.first().is_some_and(|r| r.seq <= through) {
            self.settle_sizes(through);
            self.size_episode += 1;
        }
    }

    /// The same for these bytes alone: their pages, and as much of the size as they need to be found again (POSIX,
    /// synchronized I/O data integrity completion).
    pub fn commit_range(&mut self, through: u32, bytes: Range<u64>) {
        let reached = self.reached(through, bytes.end);
        let first = self.resizes.get(self.stranded_resizes);
        let fresh = first.is_some_and(|r| reached.is_some_and(|seq| r.seq <= seq));
        let wrote = self.commit_pages(through, bytes);
        if let Some(seq) = reached
            && (wrote || fresh)
        {
            self.settle_sizes(seq);
            self.size_episode += 1;
        }
    }

    /// The last change of the size, not after `through`, without which the file would not reach `end`, or its end.
    pub fn reached(&self, through: u32, end: u64) -> Option<u32> {
        let count = self.resizes.iter().take_while(|r| r.seq <= through).count();
        let last = self.resizes[..count].last()?;
        let before = |i: usize| if i == 0 { self.durable_size } else { self.resizes[i - 1].to };
        (0..count).rev().find(|i| before(*i) < end.min(last.to)).map(|i| self.resizes[i].seq)
    }

    /// The dirty pages that hold these bytes are durable as they were after the change `through`. Whether there were any.
    fn commit_pages(&mut self, through: u32, bytes: Range<u64>) -> bool {
        let (size, mut wrote) = (self.size, false);
        let indices = pages_of(&bytes);
        let (pages, spare, first_episode) = (&mut self.pages, &mut self.spare, &mut self.first_episode);
        self.unsettled.retain(|index| {
            let page = pages.get_mut(index).expect("unsettled pages exist");
            if !indices.contains(index) || !page.is_dirty(through) {
                return true;
            }
            wrote = true;
            page.commit(through, spare);
            if !page.is_unsettled() && index * PAGE as u64 >= size {
                *first_episode = (*first_episode).max(page.episode);
                pages.remove(index);
                return false;
            }
            page.is_unsettled()
        });
        if self.unsettled.is_empty() {
            self.pending = 0;
        }
        wrote
    }

    /// An fsync of these bytes failed that began after the change `through`: their pages count as clean, and only a power loss
    /// shows that they are not.
    pub fn strand(&mut self, through: u32, bytes: Range<u64>) {
        let indices = pages_of(&bytes);
        for index in self.unsettled.iter().filter(|i| indices.contains(i)) {
            self.pages.get_mut(index).expect("unsettled pages exist").strand(through);
        }
        let lost = match bytes == ALL {
            true => Some(through),
            false => self.reached(through, bytes.end),
        };
        let count = self.resizes.iter().take_while(|r| lost.is_some_and(|lost| r.seq <= lost)).count();
        self.stranded_resizes = self.stranded_resizes.max(count);
    }

    /// The power is gone: becomes what is durable plus what `cx` lets survive.
    pub fn power_off(&mut self, file: &FileName<'_>, loss: &PowerLoss, cx: &mut DeviceCx<'_>) {
        if !self.is_unsettled() {
            return;
        }
        let (size, kept) = self.surviving_size(file, loss, cx);
        let kept = kept.checked_sub(1).map_or(0, |last| self.resizes[last].seq);
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.sort_unstable();
        for index in unsettled {
            let page = self.pages.get_mut(&index).expect("unsettled pages exist");
            let visible = size.saturating_sub(index * PAGE as u64);
            let versions = page.versions(kept, visible);
            let fate = if visible == 0 {
                // Beyond the end nobody can tell.
                versions.fate(0)
            } else {
                let key = hash::key(&[file.key, 3, index]);
                cx.choices.name_key(key, || format!("disk {} {} page {index}", file.node_name, file.path));
                let law = versions.law(loss.data.lost(), loss.tearing);
                versions.fate(cx.ask(Stream::DISK, key, page.episode, law, "what a power loss keeps of a page"))
            };
            let lost = page.settle(&versions, fate);
            let text = || format!("{} page {index}", file.path);
            match lost {
                _ if visible == 0 => {}
                Loss::Nothing => {}
                Loss::Lost => cx.fired(cx.node, "disk.lost", text),
                Loss::Torn => cx.fired(cx.node, "disk.torn", text),
            }
        }
        self.pending = 0;
        self.end_at(size);
    }

    /// The size a power loss leaves, and how many resizes survived.
    fn surviving_size(&self, file: &FileName<'_>, loss: &PowerLoss, cx: &mut DeviceCx<'_>) -> (u64, usize) {
        if self.resizes.is_empty() {
            return (self.size, 0);
        }
        let key = hash::key(&[file.key, 4]);
        cx.choices.name_key(key, || format!("disk {} {} size", file.node_name, file.path));
        // With a journal, its truncations have been decided.
        let decided = |r: &Resize| match loss.journal {
            Some(kept) if r.grew_by_write_at.is_none() => Some(r.journal < kept),
            Some(kept) if r.journal > kept => Some(false),
            _ => None,
        };
        let least = self.resizes.iter().rposition(|r| decided(r) == Some(true)).map_or(0, |i| i + 1);
        let most = self.resizes.iter().position(|r| decided(r) == Some(false)).unwrap_or(self.resizes.len());
        let after = |kept: usize| if kept == 0 { self.durable_size } else { self.resizes[kept - 1].to };
        // The page boundaries between each of these sizes and the next at which it may stand, as (first, how many).
        let pieces = |kept: usize| {
            let (from, next) = (after(kept), self.resizes[kept]);
            let (low, high) = match (loss.profile, next.grew_by_write_at) {
                (Profile::Strict, _) => (from.min(next.to), from.max(next.to)),
                (Profile::Linux, Some(at)) => (from.max(at), next.to),
                (Profile::Linux, None) => return (0, 0),
            };
            let first = low / PAGE as u64 + 1;
            (first, high.div_ceil(PAGE as u64).saturating_sub(first))
        };
        let all_pieces: u64 = (least..most).map(|kept| pieces(kept).1).sum();
        let older = (most - least) as u32;
        let sizes = [older.min(1), older.saturating_sub(1), all_pieces.min(u32::MAX as u64 / 2) as u32];
        // Of nine answers that are not 0, four are the oldest size, three any other but the newest, two one in between.
        let law = Law::Grouped { p: loss.sizes.lost(), weights: [4, 3, 2], sizes };
        let answer = cx.ask(Stream::DISK, key, self.size_episode, law, "which size a power loss keeps");
        let (size, kept) = match answer {
            0 => (after(most), most),
            answer if answer <= older as u64 => (after(least + answer as usize - 1), least + answer as usize - 1),
            answer => {
                let mut index = answer - 1 - older as u64;
                let mut kept = least;
                while index >= pieces(kept).1 {
                    index -= pieces(kept).1;
                    kept += 1;
                }
                ((pieces(kept).0 + index) * PAGE as u64, kept)
            }
        };
        if size != self.size {
            let newest = self.size;
            cx.fired(cx.node, "disk.lost", || format!("{} size {size} instead of {newest}", file.path));
        }
        (size, kept)
    }

    /// Everything is settled; the file ends at `size`, and beyond it lies nothing.
    fn end_at(&mut self, size: u64) {
        self.size = size;
        self.durable_size = size;
        self.resizes.clear();
        self.stranded_resizes = 0;
        self.size_episode += 1;
        let first_cut = size.div_ceil(PAGE as u64);
        let first_episode = &mut self.first_episode;
        self.pages.retain(|index, page| {
            debug_assert!(!page.is_unsettled());
            let keep = *index < first_cut && !page.is_hole();
            if !keep {
                *first_episode = (*first_episode).max(page.episode + 1);
            }
            keep
        });
        if !size.is_multiple_of(PAGE as u64)
            && let Some(page) = self.pages.get_mut(&(size / PAGE as u64))
        {
            page.end_at(size as usize % PAGE);
        }
    }
}

/// What is decided of a power loss before it comes to the files.
pub struct PowerLoss {
    pub profile: Profile,
    pub tearing: Tearing,
    pub data: Survivors,
    pub sizes: Survivors,
    /// How many changes of the journal survived, if truncations are among them.
    pub journal: Option<u64>,
}

/// Who a file is, for keys and reports.
pub struct FileName<'a> {
    pub key: u64,
    pub node_name: &'a str,
    pub path: &'a str,
}
