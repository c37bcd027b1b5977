//! The loss of power: what survives is asked, and the disk is what survived. And all that could, one after the other.

use super::content::{FileName, PowerLoss};
use super::crash::{Profile, Survivors};
use super::inode::{Inode, InodeId, Kind};
use super::locks::Locks;
use super::names::{Name, NameChange};
use super::volume::{ROOT, Volume};
use sim_core::choices::{Choices, Deviation, Law, Ratio, Stream, Walk};
use sim_core::device::Bench;
use sim_core::{DeviceCx, NodeId, hash};

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
