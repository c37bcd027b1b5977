//! One machine's drive: its volume, what goes wrong with it, and how long an operation takes.
//!
//! | operation | base latency | source |
//! |---|---|---|
//! | open, stat, rename, … | 10 µs | a warm system call behind a thread pool's hand-over |
//! | read | 15 µs, 1 µs for each 8 KiB | page cache |
//! | write | 10 µs, 1 µs for each 4 KiB | page cache |
//! | fsync, fdatasync, msync | 500 µs, 2 µs for each dirty page | NVMe without power-loss protection |
//! | write with O_SYNC, O_DSYNC | both | |
//! | seek | 1 µs | no I/O |
//!
//! To that one operation in sixteen adds a tail, up to 32 times its base, every power of two equally likely.
//!
//! All that may strike an operation is drawn when it begins. Each operation of a class asks the same questions, whatever the
//! faults are: those are only the laws of the answers.

use crate::model::content::Decay;
use crate::model::durable::SyncPoint;
use crate::model::errno::Errno;
use crate::model::faults::DiskFaults;
use crate::model::inode::InodeId;
use crate::model::tree::WriteSync;
use crate::model::volume::Volume;
use crate::op::{Class, Op, Outline};
use sim_core::choices::{Law, Ratio, Stream};
use sim_core::{DeviceCx, NodeId, hash};
use std::collections::BTreeSet;
use std::ops::Range;
use std::task::Waker;
use std::time::Duration;

/// The greatest tail, in bases.
const TAIL_MAX: u64 = 32;

/// How much longer an operation takes, in 64ths of its base.
const TAIL: Law = Law::Rare { p: Ratio::new(1, 16), max: TAIL_MAX * 64 };
/// What a sync takes, and for each dirty page more.
const SYNC_NS: u64 = 500_000;
const PAGE_SYNC_NS: u64 = 2_000;

/// A node's disk and its faults.
pub(crate) struct Drive {
    pub volume: Volume,
    faults: DiskFaults,
    /// The files, by key, whose operations of a class go on failing.
    stuck: BTreeSet<(u64, Class)>,
    /// Since the faults were set, a page went to the place of another.
    strayed: bool,
    /// Nothing damages its bytes: the budget went to other disks.
    pub spared: bool,
    /// How many operations have begun, and who waits for one.
    operations: u64,
    awaited: Vec<(u64, Waker)>,
}

/// How an operation ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Works,
    Fails(Errno),
    /// It transfers less than it could; how much is drawn from this.
    Short(u64),
    /// An fsync that does nothing and says it did.
    Lies,
}

/// What was drawn for an operation when it began.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    pub fate: Fate,
    /// What an fsync covers: what was written before it began.
    pub covers: SyncPoint,
    /// What the medium does to a page that is read.
    pub decay: Option<(Decay, u64)>,
    /// Unless it is 0, an fsync writes one page to the place of another.
    pub astray: u64,
    /// How the sync ends that a write to a file with O_SYNC ends with; `None` if it does not come to it.
    pub write_sync: Option<Fate>,
}

impl Course {
    /// Nothing strikes it.
    pub const CALM: Course =
        Course { fate: Fate::Works, covers: SyncPoint::NOW, decay: None, astray: 0, write_sync: Some(Fate::Works) };
}

/// How an operation goes, and the address of its questions.
pub(crate) struct Drawn {
    pub latency: Duration,
    pub course: Course,
    pub key: u64,
    pub n: u32,
}

impl Drawn {
    /// It takes no time, and nothing strikes it.
    pub const CALM: Drawn = Drawn { latency: Duration::ZERO, course: Course::CALM, key: 0, n: 0 };
}

impl Drive {
    pub fn new(volume: Volume) -> Drive {
        Drive {
            volume,
            faults: DiskFaults::default(),
            stuck: BTreeSet::new(),
            strayed: false,
            spared: false,
            operations: 0,
            awaited: Vec::new(),
        }
    }

    pub fn faults(&self) -> DiskFaults {
        self.faults
    }

    /// Other faults from now on. Those that stuck no longer do.
    pub fn set_faults(&mut self, faults: DiskFaults) {
        self.faults = faults;
        self.volume.full = faults.full;
        self.stuck.clear();
        self.strayed = false;
    }

    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Whether so many operations have begun; if not, `waker` is woken when they have.
    pub fn await_operation(&mut self, count: u64, waker: &Waker) -> bool {
        if self.operations >= count {
            return true;
        }
        if !self.awaited.iter().any(|(c, w)| *c == count && w.will_wake(waker)) {
            self.awaited.push((count, waker.clone()));
        }
        false
    }

    /// Asks how long an operation on `subject` takes, how it ends, and what it meets.
    pub fn draw(
        &mut self,
        node: NodeId,
        op: &Outline,
        subject: InodeId,
        syncs: WriteSync,
        cx: &mut DeviceCx<'_>,
    ) -> Drawn {
        self.operations += 1;
        let begun = self.operations;
        if !self.awaited.is_empty() {
            self.awaited.extract_if(.., |(count, _)| *count <= begun).for_each(|(_, waker)| cx.wake(waker));
        }
        let (volume, faults) = (&mut self.volume, &self.faults);
        let (file_key, n) = volume.next_operation(subject);
        let words = |what: &str| format!("disk {} {} {what}", volume.node_name(), volume.born_as(subject));
        let ask = |number, about, law: Law, question, cx: &mut DeviceCx<'_>| {
            // Most faults are off: what can only be answered with 0 needs no address.
            if cx.choices.skips(Stream::DISK, &law) {
                return 0;
            }
            let key = if number == 0 { file_key } else { hash::key(&[file_key, number]) };
            cx.choices.name_key(key, || words(about));
            cx.ask(Stream::DISK, key, n, law, question)
        };
        let class = op.class;

        // What ends an operation early, and the name of the question. The other operations end as they should.
        let ends = match class {
            Class::Read => Some(([faults.read_error, faults.short_read, faults.interrupted], "how a read ends")),
            Class::Write => Some(([faults.write_error, faults.short_write, faults.interrupted], "how a write ends")),
            Class::Sync => Some(([faults.sync_error, faults.sync_full, faults.sync_lie], "how an fsync ends")),
            Class::Open => Some(([faults.open_error, Ratio::NEVER, faults.interrupted], "how an open ends")),
            Class::Name | Class::Free => None,
        };
        let answer =
            ends.map_or(0, |(odds, question)| ask(1, "errors", Law::Kinds(odds.map(Ratio::threshold)), question, cx));
        let fate_of = |answer: u64, class| match (answer & 3, class) {
            (0, _) => Fate::Works,
            (1, _) => Fate::Fails(Errno::EIO),
            (2, Class::Sync) => Fate::Fails(Errno::ENOSPC),
            (2, _) => Fate::Short(answer >> 2),
            (_, Class::Sync) => Fate::Lies,
            (_, _) => Fate::Fails(Errno::EINTR),
        };
        let mut fate = fate_of(answer, class);
        let (mut write_sync, mut write_sync_ns) = (Fate::Works, 0);
        if class == Class::Write && op.bytes > 0 && syncs != WriteSync::Nothing {
            let odds = [faults.sync_error, faults.sync_full, faults.sync_lie].map(Ratio::threshold);
            let answer = ask(10, "syncs of writes", Law::Kinds(odds), "how the sync of a write ends", cx);
            write_sync = fate_of(answer, Class::Sync);
            write_sync_ns = SYNC_NS + PAGE_SYNC_NS * op.bytes.div_ceil(4096);
        }
        let mut sticks = |fate: &mut Fate, class| {
            if self.stuck.contains(&(file_key, class)) {
                *fate = Fate::Fails(Errno::EIO);
            } else if faults.error_sticks && *fate == Fate::Fails(Errno::EIO) {
                self.stuck.insert((file_key, class));
            }
        };
        sticks(&mut fate, class);
        if write_sync_ns > 0 {
            sticks(&mut write_sync, Class::Sync);
        }
        let write_sync = Some(write_sync);

        let damage = |ratio: Ratio| if self.spared { Ratio::NEVER } else { ratio };
        let mut decay = None;
        if class == Class::Read {
            let odds = [damage(faults.latent_error), damage(faults.bit_rot), Ratio::NEVER];
            let law = Law::Kinds(odds.map(Ratio::threshold));
            let answer = ask(8, "decay", law, "what decays under a read", cx);
            let how = if answer & 3 == 1 { Decay::Unreadable } else { Decay::Rot };
            decay = (answer != 0).then_some((how, answer >> 2));
        }
        let mut astray = 0;
        if class == Class::Sync {
            let ratio = if self.strayed { Ratio::NEVER } else { damage(faults.misdirected) };
            astray = ask(9, "stray writes", Law::Event(ratio), "whether a page is written astray", cx);
        }

        let base_ns = match class {
            Class::Read => 15_000 + op.bytes.min(volume.size(subject)) / 8,
            Class::Write => 10_000 + op.bytes / 4 + write_sync_ns,
            Class::Sync => SYNC_NS + PAGE_SYNC_NS * volume.dirty_pages(subject, op.synced.clone()),
            Class::Free => 1_000,
            Class::Open | Class::Name => 10_000,
        };
        let tail = ask(0, "latency", TAIL, "latency of a disk operation", cx);
        let mut latency_ns = base_ns + base_ns / 64 * tail;
        if faults.slow_factor > 1 {
            latency_ns = latency_ns.saturating_mul(faults.slow_factor as u64);
            cx.fired(node, "disk.slow", || format!("{} {}", op.name, words("")));
        }
        if ask(2, "stalls", Law::Chance(faults.stall), "whether a disk operation stalls", cx) != 0 {
            latency_ns = latency_ns.saturating_add(sim_core::nanos(faults.stall_for));
            cx.fired(node, "disk.stall", || format!("{} {}", op.name, words("")));
        }
        let latency = Duration::from_nanos(latency_ns);
        match class {
            Class::Read => cx.metrics.latency(|| format!("read {}", volume.node_name()), latency),
            Class::Write => cx.metrics.latency(|| format!("write {}", volume.node_name()), latency),
            Class::Sync => cx.metrics.latency(|| format!("fsync {}", volume.node_name()), latency),
            Class::Open | Class::Name | Class::Free => {}
        }
        let covers = if class == Class::Sync { volume.sync_point(subject) } else { SyncPoint::NOW };
        Drawn { latency, course: Course { fate, covers, decay, astray, write_sync }, key: file_key, n }
    }

    /// A read of `len` bytes from `at` on: what the medium does to them first.
    pub fn decays(&mut self, node: NodeId, inode: InodeId, at: u64, len: usize, course: Course, cx: &mut DeviceCx<'_>) {
        let Some((how, detail)) = course.decay else { return };
        let Some(page) = self.volume.decay(inode, at, len as u64, how, detail) else { return };
        let kind = match how {
            Decay::Unreadable => "disk.latent",
            Decay::Rot => "disk.rot",
        };
        cx.fired(node, kind, || format!("{} page {page}", self.volume.born_as(inode)));
    }

    /// A write to a file with O_SYNC or O_DSYNC has written these bytes, and syncs them.
    pub fn sync_write(
        &mut self,
        node: NodeId,
        inode: InodeId,
        (syncs, fate): (WriteSync, Option<Fate>),
        bytes: Range<u64>,
        cx: &mut DeviceCx<'_>,
    ) -> Result<(), Errno> {
        let data_only = match syncs {
            WriteSync::Nothing => return Ok(()),
            WriteSync::Data => true,
            WriteSync::All => false,
        };
        let volume = &mut self.volume;
        match fate {
            None => {}
            Some(Fate::Fails(error)) => {
                volume.sync_fails(inode, SyncPoint::NOW, bytes);
                return Err(error);
            }
            Some(Fate::Lies) if !self.spared => {
                cx.fired(node, "disk.lie", || format!("sync of a write to {}", volume.born_as(inode)));
            }
            Some(_) => {
                volume.sync_range(inode, data_only, bytes);
            }
        }
        Ok(())
    }

    /// The end of a sync that works or lies.
    pub fn sync(&mut self, node: NodeId, inode: InodeId, op: &Op, course: Course, cx: &mut DeviceCx<'_>) {
        let name = op.name();
        if course.fate == Fate::Lies && !self.spared {
            cx.fired(node, "disk.lie", || format!("{name} {}", self.volume.born_as(inode)));
            return;
        }
        let data_only = matches!(op, Op::SyncData(_) | Op::SyncRange(..));
        // At most one page is astray at a time, also where two fsyncs drew it.
        let astray = if self.strayed { 0 } else { course.astray };
        let strayed = self.volume.sync_astray(inode, data_only, course.covers, op.synced(), astray);
        let volume = &self.volume;
        cx.event(node, "disk.fsync", || format!("{name} {}", volume.born_as(inode)));
        if let Some((from, to)) = strayed {
            self.strayed = true;
            cx.fired(node, "disk.astray", || format!("{} page {from} to page {to}", volume.born_as(inode)));
        }
    }
}
