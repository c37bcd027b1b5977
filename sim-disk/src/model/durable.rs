//! What of a disk is durable: syncs, the journal, early write-back, and the loss of power.

use super::content::{FileName, PowerLoss};
use super::crash::{Profile, Survivors};
use super::inode::{Inode, InodeId, Kind};
use super::locks::Locks;
use super::names::{Name, NameChange, Rebind};
use super::volume::{ROOT, Volume};
use sim_core::choices::{Choices, Deviation, Law, Ratio, Stream, Walk};
use sim_core::device::Bench;
use sim_core::{DeviceCx, Instant, NodeId, hash};

/// From so many unsynced changes of names on the oldest half is written back: bounds memory, and is what a journal does
/// every few seconds.
const MAX_JOURNAL: usize = 4096;

/// What an fsync that begins now covers: what was written and renamed before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncPoint {
    data: u32,
    journal: u64,
}

impl SyncPoint {
    /// Everything so far.
    pub const NOW: SyncPoint = SyncPoint { data: u32::MAX, journal: u64::MAX };
}

/// Everything that a power loss may leave of a [`Volume`], one state after the other: [`Volume::crash_states`].
pub struct CrashStates {
    volume: Volume,
    /// `None` once all were visited.
    walk: Option<Walk>,
}

/// One state that a power loss may leave.
pub struct CrashState {
    /// The disk when the power is back.
    pub volume: Volume,
    /// What was lost, as a tape lists it. Empty in the first state, where all survived.
    pub lost: Vec<Deviation>,
}

impl Iterator for CrashStates {
    type Item = CrashState;

    fn next(&mut self) -> Option<CrashState> {
        let walk = self.walk.as_mut()?;
        let mut choices = Choices::from_source(0, walk.source());
        choices.record();
        let mut bench = Bench { choices: Some(choices), ..Bench::default() };
        let mut volume = self.volume.clone();
        volume.power_off(&mut bench.cx(NodeId::OUTSIDE));
        let lost = bench.choices.as_mut().map(Choices::take_deviations).unwrap_or_default();
        if !walk.step() {
            self.walk = None;
        }
        Some(CrashState { volume, lost })
    }
}

impl Volume {
    /// Every state that a power loss could leave now, for exhaustive tests of short programs: after each call of the program,
    /// each of these states must be one that it recovers from ("Finding Crash-Consistency Bugs with Bounded Black-Box Crash
    /// Testing", OSDI 2018). A crash within a call is one after it that lost a part; within an fsync, one before it.
    ///
    /// The states come from the questions that a run asks its seed, so they are the same: nothing is here that no seed
    /// leaves, and no seed leaves what is not here. Some come more than once. Their number is the product over everything
    /// unsynced: 256 for a page that was written whole, unless [`set_tearing`](Self::set_tearing) says that it does not tear.
    ///
    /// ```
    /// # use sim_core::{Instant, NodeId};
    /// # use sim_disk::{OpenHow, Profile, Volume};
    /// let mut disk = Volume::new(NodeId(1), "a", Profile::Strict);
    /// let how = OpenHow { write: true, create: true, ..OpenHow::default() };
    /// let file = disk.open(b"/f", how, Instant::ZERO).unwrap();
    /// disk.write(file, 0, b"x", Instant::ZERO).unwrap();
    /// disk.sync(file, false);
    /// // Synced, but who synced the directory?
    /// let there = |disk: &mut Volume| disk.lookup(b"/f", true).is_ok();
    /// let found: Vec<bool> = disk.crash_states().map(|mut state| there(&mut state.volume)).collect();
    /// assert_eq!(found, [true, false]);
    /// ```
    pub fn crash_states(&self) -> CrashStates {
        CrashStates { volume: self.clone(), walk: Some(Walk::over(Stream::DISK)) }
    }

    // ---- syncs ----------------------------------------------------------------------------------------------------

    /// fsync(2), or fdatasync(2) if `data_only`. Which names become durable with it is the [`Profile`]'s.
    pub fn sync(&mut self, inode: InodeId, data_only: bool) {
        self.sync_as_of(inode, data_only, SyncPoint::NOW);
    }

    /// Where an fsync of this file stands that begins now.
    pub fn sync_point(&self, inode: InodeId) -> SyncPoint {
        let data = match &self.inode(inode).kind {
            Kind::File(content) => content.position(),
            _ => 0,
        };
        SyncPoint { data, journal: self.journal.next() }
    }

    /// The end of an fsync that began at `point`: what came since is as durable as before.
    pub fn sync_as_of(&mut self, inode: InodeId, data_only: bool, point: SyncPoint) {
        self.sync_astray(inode, data_only, point, 0);
    }

    /// The same, but unless `astray` is 0 one of the pages goes to the place of another of the file: which ones, if there are
    /// any.
    pub(crate) fn sync_astray(
        &mut self,
        inode: InodeId,
        data_only: bool,
        point: SyncPoint,
        astray: u64,
    ) -> Option<(u64, u64)> {
        let strict = self.profile == Profile::Strict;
        match &mut self.inodes[inode.0 as usize].kind {
            Kind::File(content) => {
                if !strict {
                    let needs = content.size_needs(point.data);
                    let own = self.journal.changes().filter(|c| c.subject == inode && c.serial < point.journal);
                    let logged = |c: &&NameChange| c.creates || c.truncates.is_some() || !data_only;
                    let needs = own.filter(logged).last().map_or(needs, |c| needs.max(c.serial + 1));
                    self.settle_journal(needs);
                }
                if let Kind::File(content) = &mut self.inode_mut(inode).kind {
                    if astray > 0 {
                        return content.commit_astray(point.data, astray);
                    }
                    content.commit(point.data);
                }
            }
            Kind::Dir(_) if strict => {
                for change in self.journal.take_of_directory(inode, point.journal) {
                    self.settle(change, true);
                }
            }
            Kind::Dir(_) => {
                let own = |c: &&NameChange| c.subject == inode || c.rebinds.iter().any(|r| r.dir == inode);
                let last = self.journal.changes().filter(|c| c.serial < point.journal).filter(own).last();
                if let Some(last) = last.map(|c| c.serial) {
                    self.settle_journal(last + 1);
                }
            }
            Kind::Below(_) | Kind::Link(_) | Kind::Socket | Kind::Foreign(_) => {}
        }
        None
    }

    /// sync(2): all that was written is durable.
    pub fn sync_all(&mut self) {
        self.settle_journal(u64::MAX);
        for (_, inode) in self.inodes.iter_mut() {
            if let Kind::File(content) = &mut inode.kind {
                content.commit(u32::MAX);
            }
        }
    }

    /// An fsync that began at `point` fails: the pages count as clean, and are not durable.
    pub fn sync_fails(&mut self, inode: InodeId, point: SyncPoint) {
        if let Kind::File(content) = &mut self.inodes[inode.0 as usize].kind {
            content.strand(point.data);
        }
    }

    // ---- the journal ----------------------------------------------------------------------------------------------

    /// Changes names for everybody, and notes that it is not durable yet. `takes` are the names that it finds and takes away.
    pub(super) fn rebind(
        &mut self,
        subject: InodeId,
        creates: bool,
        call: &'static str,
        takes: Vec<(InodeId, Name, InodeId)>,
        rebinds: Vec<Rebind>,
        now: Instant,
    ) {
        let mut replaced = Vec::new();
        for r in &rebinds {
            let entries = &mut self.dir_mut(r.dir).entries;
            let before = match r.to {
                Some(to) => entries.insert(r.name.clone(), to),
                None => entries.remove(&r.name),
            };
            self.inode_mut(r.dir).written(now);
            self.inode_mut(r.dir).journaled += 1;
            if let Some(to) = r.to {
                self.inode_mut(to).links += 1;
            }
            if let Some(before) = before {
                let inode = self.inode_mut(before);
                inode.links -= 1;
                inode.changed(now);
                replaced.push(before);
            }
        }
        let inode = self.inode_mut(subject);
        inode.name_changes += 1;
        inode.changed(now);
        self.note(subject, creates, None, call, takes, rebinds);
        for inode in replaced {
            self.release(inode);
        }
    }

    /// A truncation is journaled, where there is a journal.
    pub(super) fn journal_truncation(&mut self, subject: InodeId, seq: u32) {
        if self.profile == Profile::Linux {
            self.note(subject, false, Some(seq), "truncate", Vec::new(), Vec::new());
        }
    }

    fn note(
        &mut self,
        subject: InodeId,
        creates: bool,
        truncates: Option<u32>,
        call: &'static str,
        takes: Vec<(InodeId, Name, InodeId)>,
        rebinds: Vec<Rebind>,
    ) {
        let subject_is_dir = self.is_dir(subject);
        let inode = self.inode_mut(subject);
        inode.journaled += 1;
        let (key, n) = match truncates {
            None => (hash::key(&[inode.key, 5]), inode.name_changes),
            Some(seq) => (hash::key(&[inode.key, 7]), seq),
        };
        let serial = self.journal.next();
        self.journal.push(NameChange {
            serial,
            rebinds,
            takes,
            subject,
            subject_is_dir,
            creates,
            truncates,
            key,
            n,
            call,
        });
        if self.journal.len() > MAX_JOURNAL {
            self.settle_journal(self.journal.next() - MAX_JOURNAL as u64 / 2);
        }
    }

    /// The journal before the change `before` is durable.
    pub(super) fn settle_journal(&mut self, before: u64) {
        for change in self.journal.take_through(|c| c.serial < before) {
            self.settle(change, true);
        }
    }

    /// Early write-back of a file's sizes up to the change `through`, which need the journal before `journal`.
    pub(super) fn write_sizes_back(&mut self, inode: InodeId, journal: u64, through: u32) {
        if self.profile == Profile::Linux {
            self.settle_journal(journal);
        }
        if let Kind::File(content) = &mut self.inode_mut(inode).kind {
            content.settle_sizes(through);
        }
    }

    /// A journaled change is decided: it became durable, or it never will.
    fn settle(&mut self, change: NameChange, durable: bool) {
        let mut touched = vec![change.subject];
        self.inode_mut(change.subject).journaled -= 1;
        if let (Some(seq), Kind::File(content), true) =
            (change.truncates, &mut self.inode_mut(change.subject).kind, durable)
        {
            content.settle_sizes(seq);
        }
        for r in change.rebinds {
            self.inode_mut(r.dir).journaled -= 1;
            touched.push(r.dir);
            if !durable {
                continue;
            }
            let entries = &mut self.dir_mut(r.dir).durable;
            let before = match r.to {
                Some(to) => entries.insert(r.name, to),
                None => entries.remove(&r.name),
            };
            if let Some(to) = r.to {
                self.inode_mut(to).durable_links += 1;
            }
            if let Some(before) = before {
                self.inode_mut(before).durable_links -= 1;
                touched.push(before);
            }
        }
        for inode in touched {
            self.release(inode);
        }
    }

    /// Frees an inode that nothing leads to any more.
    pub(super) fn release(&mut self, inode: InodeId) {
        let Some(i) = self.inodes.get_mut(inode.0 as usize) else { return };
        if i.links > 0 || i.opens > 0 {
            return;
        }
        if let Kind::File(content) = &mut i.kind {
            // Its space is free for others, even if a power loss may bring it back.
            self.used_pages -= content.release_space();
        }
        if i.durable_links == 0 && i.journaled == 0 {
            let gone = self.inodes.remove(inode.0 as usize);
            if let Kind::Dir(dir) = gone.kind {
                for (_, child) in dir.durable {
                    self.inode_mut(child).durable_links -= 1;
                    self.release(child);
                }
            }
        }
    }

    // ---- the loss of power ----------------------------------------------------------------------------------------

    /// The power is gone. What remains is what was durable, and of the rest what the choices of `cx` let survive.
    pub fn power_off(&mut self, cx: &mut DeviceCx<'_>) {
        let n = self.power_losses;
        self.power_losses += 1;
        let unsettled = |i: &Inode| matches!(&i.kind, Kind::File(c) if c.is_unsettled());
        if self.journal.len() == 0 && !self.inodes.iter().any(|(_, i)| unsettled(i)) {
            self.back_to_durable_names();
            self.restart();
            return;
        }
        let [data, sizes, names] = [0, 1, 2].map(|what| {
            let key = hash::key(&[self.key, 1, what]);
            let about = ["data", "sizes", "names"][what as usize];
            cx.choices.name_key(key, || format!("disk {} {about}", self.node_name));
            let law = Law::Weighted { none: 1, of: [1, 1, 1, 0] };
            Survivors::from_answer(cx.ask(Stream::FAULT, key, n, law, "how much a power loss leaves"))
        });
        let (node, changes) = (self.node, self.journal.len());
        cx.event(node, "disk.crash", || {
            format!("data {data:?}, sizes {sizes:?}, names {names:?}; {changes} changes of names unsynced")
        });
        let actor = std::mem::replace(&mut cx.node, node);
        let kept = self.decide_journal(names.lost(), cx);
        self.back_to_durable_names();
        let journal = (self.profile == Profile::Linux).then_some(kept);
        let loss = PowerLoss { profile: self.profile, tearing: self.tearing, data, sizes, journal };
        for (_, inode) in self.inodes.iter_mut() {
            if let Kind::File(content) = &mut inode.kind
                && content.is_unsettled()
            {
                let path = String::from_utf8_lossy(&inode.born_as);
                let file = FileName { key: inode.key, node_name: &self.node_name, path: &path };
                content.power_off(&file, &loss, cx);
            }
        }
        cx.node = actor;
        self.restart();
    }

    /// Asks of each journaled change whether it survives. The serial of the first that does not.
    fn decide_journal(&mut self, lost: Ratio, cx: &mut DeviceCx<'_>) -> u64 {
        let mut kept = self.journal.next();
        for change in self.journal.take() {
            let subject = self.inode(change.subject);
            cx.choices.name_key(change.key, || {
                format!("disk {} names of {}", self.node_name, String::from_utf8_lossy(&subject.born_as))
            });
            let possible = match self.profile {
                Profile::Linux => change.serial < kept,
                Profile::Strict => self.makes_sense(&change),
            };
            let law = Law::Chance(if possible { lost } else { Ratio::NEVER });
            let asked = cx.ask(Stream::DISK, change.key, change.n, law, "whether a power loss takes a name");
            let survives = possible && asked == 0;
            if !survives {
                kept = kept.min(change.serial);
                let born_as = String::from_utf8_lossy(&subject.born_as);
                cx.fired(self.node, "disk.lost", || format!("{} {born_as}", change.call));
            }
            // What is left of a truncation is the file's to say.
            self.settle(NameChange { truncates: None, ..change }, survives);
        }
        kept
    }

    /// Whether what a change takes away is durable, and no directory comes to lie below itself: one that moves below another
    /// whose own move was lost.
    fn makes_sense(&self, change: &NameChange) -> bool {
        let found = change.takes.iter().all(|(dir, name, inode)| self.dir(*dir).durable.get(name) == Some(inode));
        let moves = change.subject_is_dir && !change.creates;
        let into = change.rebinds.iter().filter(|r| moves && r.to.is_some());
        found && into.into_iter().all(|r| !self.is_durably_within(r.dir, change.subject))
    }

    fn is_durably_within(&self, dir: InodeId, ancestor: InodeId) -> bool {
        let mut below = vec![ancestor];
        while let Some(at) = below.pop() {
            if at == dir {
                return true;
            }
            if let Kind::Dir(dir) = &self.inode(at).kind {
                below.extend(dir.durable.values().filter(|i| self.is_dir(**i)));
            }
        }
        false
    }

    /// Everybody sees the names that are durable, and what none of them leads to is gone.
    fn back_to_durable_names(&mut self) {
        let mut reached = vec![ROOT];
        let mut marked = vec![false; self.inodes.capacity()];
        marked[0] = true;
        let mut next = 0;
        while next < reached.len() {
            let at = reached[next];
            next += 1;
            let inode = self.inode_mut(at);
            let Kind::Dir(dir) = &mut inode.kind else { continue };
            dir.entries.clone_from(&dir.durable);
            let children: Vec<(Name, InodeId)> = dir.entries.iter().map(|(n, i)| (n.clone(), *i)).collect();
            for (name, child) in children {
                let again = std::mem::replace(&mut marked[child.0 as usize], true);
                let inode = self.inode_mut(child);
                inode.links = if again { inode.links + 1 } else { 1 };
                if let Kind::Dir(dir) = &mut inode.kind {
                    assert!(!again, "a directory has one name");
                    (dir.parent, dir.name) = (Some(at), Some(name));
                }
                if !again {
                    reached.push(child);
                }
            }
        }
        self.inode_mut(ROOT).links = 1;
        self.inodes.retain(|i, _| marked[i]);
    }

    /// Nothing is open or locked, and all that is there takes space.
    fn restart(&mut self) {
        self.used_pages = 0;
        for (_, inode) in self.inodes.iter_mut() {
            (inode.durable_links, inode.journaled, inode.opens) = (inode.links, 0, 0);
            inode.locks = Locks::default();
            if let Kind::File(content) = &mut inode.kind {
                assert!(!content.is_unsettled(), "a power loss leaves nothing undecided");
                self.used_pages += content.claim_space();
            }
        }
    }
}
