//! The bytes of one file: pages and sizes, what is durable of them and what is not yet.

use super::crash::{Fate, Survivors};
use super::page::{Loss, PAGE, Page};
use sim_core::DeviceCx;
use sim_core::choices::{Law, Stream};
use sim_core::hash;
use std::collections::BTreeMap;

/// From so many unsynced changes of one page on the oldest half is written back: bounds memory, and is what Linux
/// does to pages that stay dirty.
const MAX_CHANGES: usize = 64;
/// The same for changes of a size.
const MAX_SIZES: usize = 1024;

/// A change of the size that is not durable yet.
struct Resize {
    seq: u32,
    to: u64,
}

/// The bytes of one file.
#[derive(Default)]
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
}

impl Content {
    /// A file that holds these bytes, and they are durable.
    pub fn durable(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(0, bytes);
        content.commit();
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

    /// Pages that an fsync would write.
    pub fn dirty_pages(&self) -> u64 {
        self.unsettled.iter().filter(|i| self.pages[i].is_dirty()).count() as u64
    }

    /// Appends to `out` up to `len` bytes from `at` on.
    pub fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) {
        let end = self.size.min(at.saturating_add(len as u64));
        let mut at = at;
        while at < end {
            let (index, offset) = (at / PAGE as u64, at as usize % PAGE);
            let n = (PAGE - offset).min((end - at) as usize);
            match self.pages.get(&index) {
                Some(page) => out.extend_from_slice(&page.bytes()[offset..offset + n]),
                None => out.resize(out.len() + n, 0),
            }
            at += n as u64;
        }
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

    /// Writes; the file grows if it must.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.seq += 1;
        let seq = self.seq;
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
            page.write(seq, offset, now);
            if page.unsynced() > MAX_CHANGES {
                self.bound(index);
            }
            at += now.len() as u64;
            rest = later;
        }
        if end > self.size {
            self.resize(seq, end);
        }
    }

    /// Cuts the file, or lets it grow by zeros.
    pub fn set_len(&mut self, to: u64) {
        if to == self.size {
            return;
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
        self.resize(seq, to);
    }

    fn resize(&mut self, seq: u32, to: u64) {
        self.size = to;
        self.resizes.push(Resize { seq, to });
        if self.resizes.len() > MAX_SIZES && self.stranded_resizes == 0 {
            if self.cuts().next().is_some() {
                self.commit();
            } else {
                let half = MAX_SIZES / 2;
                self.durable_size = self.resizes[half - 1].to;
                self.resizes.drain(..half);
            }
        }
    }

    /// The unsynced truncations: ordinal among the resizes, and in the file.
    fn cuts(&self) -> impl Iterator<Item = (usize, u32)> {
        let mut before = self.durable_size;
        self.resizes.iter().enumerate().filter_map(move |(i, r)| {
            let cut = r.to < before;
            before = r.to;
            cut.then_some((i, r.seq))
        })
    }

    #[cold]
    fn bound(&mut self, index: u64) {
        // A version from before a truncation must not be folded while it is open whether that survives.
        if self.cuts().next().is_none() {
            self.pages.get_mut(&index).expect("it was just written").write_back(MAX_CHANGES / 2);
        }
    }

    /// fsync and fdatasync: what everybody reads becomes durable, except what an earlier fsync gave up and nobody wrote since.
    pub fn commit(&mut self) {
        let (size, mut wrote) = (self.size, self.resizes.len() > self.stranded_resizes);
        let (pages, first_episode) = (&mut self.pages, &mut self.first_episode);
        self.unsettled.retain(|index| {
            let page = pages.get_mut(index).expect("unsettled pages exist");
            if !page.is_dirty() {
                return true;
            }
            wrote = true;
            if index * PAGE as u64 >= size {
                *first_episode = (*first_episode).max(page.episode + 1);
                pages.remove(index);
            } else {
                page.commit();
            }
            false
        });
        if wrote && !self.resizes.is_empty() {
            self.durable_size = self.size;
            self.resizes.clear();
            self.stranded_resizes = 0;
            self.size_episode += 1;
        }
    }

    /// An fsync failed: the pages count as clean, and only a power loss shows that they are not.
    pub fn strand(&mut self) {
        for index in &self.unsettled {
            self.pages.get_mut(index).expect("unsettled pages exist").strand();
        }
        self.stranded_resizes = self.resizes.len();
    }

    /// The power is gone: becomes what is durable plus what `cx` lets survive.
    pub fn power_off(&mut self, file: &FileName<'_>, data: Survivors, sizes: Survivors, cx: &mut DeviceCx<'_>) {
        if !self.is_unsettled() {
            return;
        }
        let (size, kept) = self.surviving_size(file, sizes, cx);
        let cut_kept = self.cuts().take_while(|(i, _)| *i < kept).last().map(|(_, seq)| seq);
        let cut_lost = self.cuts().find(|(i, _)| *i >= kept).map(|(_, seq)| seq);
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.sort_unstable();
        for index in unsettled {
            let page = self.pages.get_mut(&index).expect("unsettled pages exist");
            let key = hash::key(&[file.key, 3, index]);
            cx.choices.name_key(key, || format!("disk {} {} page {index}", file.node_name, file.path));
            let law = Law::Event(data.lost());
            let word = cx.ask(Stream::DISK, key, page.episode, law, "what a power loss keeps of a page");
            let allowed = page.allowed(cut_kept, cut_lost);
            let loss = page.settle(&allowed, Fate::of_answer(word, allowed.len()));
            // Beyond the end nobody can tell.
            if index * PAGE as u64 >= size {
                continue;
            }
            let text = || format!("{} page {index}", file.path);
            match loss {
                Loss::Nothing => {}
                Loss::Lost => cx.fired(cx.node, "disk.lost", text),
                Loss::Torn => cx.fired(cx.node, "disk.torn", text),
            }
        }
        self.end_at(size);
    }

    /// The size a power loss leaves, and how many resizes survived.
    fn surviving_size(&mut self, file: &FileName<'_>, leaning: Survivors, cx: &mut DeviceCx<'_>) -> (u64, usize) {
        let all = self.resizes.len();
        if all == 0 {
            return (self.size, 0);
        }
        let key = hash::key(&[file.key, 4]);
        cx.choices.name_key(key, || format!("disk {} {} size", file.node_name, file.path));
        let law = Law::Event(leaning.lost());
        let word = cx.ask(Stream::DISK, key, self.size_episode, law, "which size a power loss keeps");
        if word == 0 {
            return (self.size, all);
        }
        // Half of the answers mean the durable size, the others any of those since, or between it and the next.
        let kept = if word & 1 == 0 { 0 } else { (word >> 8) as usize % all };
        let mut size = if kept == 0 { self.durable_size } else { self.resizes[kept - 1].to };
        let next = self.resizes[kept].to;
        if word & 6 == 2 && next > size {
            let first = size / PAGE as u64 + 1;
            let boundaries = (next - 1) / PAGE as u64 + 1 - first;
            if boundaries > 0 {
                size = (first + (word >> 8) % boundaries) * PAGE as u64;
            }
        }
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

/// Who a file is, for keys and reports.
pub struct FileName<'a> {
    pub key: u64,
    pub node_name: &'a str,
    pub path: &'a str,
}
