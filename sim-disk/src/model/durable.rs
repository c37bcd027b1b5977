//! What of a disk is durable: syncs, the journal, early write-back.

use super::content::ALL;
use super::crash::Profile;
use super::inode::{InodeId, Kind};
use super::names::{Name, NameChange, Rebind};
use super::volume::Volume;
use sim_core::{Instant, hash};
use std::ops::Range;

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

impl Volume {
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
        self.sync_astray(inode, data_only, point, ALL, 0);
    }

    /// The same, now, for these bytes of a file alone: msync(2), and a write with O_DSYNC, or O_SYNC unless `data_only`
    /// (vfs_fsync_range, fs/sync.c).
    pub fn sync_range(&mut self, inode: InodeId, data_only: bool, bytes: Range<u64>) {
        self.sync_astray(inode, data_only, SyncPoint::NOW, bytes, 0);
    }

    /// The end of a sync of these bytes that began at `point`. If they are all, and `astray` is not 0, one of the pages goes to
    /// the place of another of the file: which ones, if there are any.
    pub(crate) fn sync_astray(
        &mut self,
        inode: InodeId,
        data_only: bool,
        point: SyncPoint,
        bytes: Range<u64>,
        astray: u64,
    ) -> Option<(u64, u64)> {
        let strict = self.profile == Profile::Strict;
        match &mut self.inodes[inode.0 as usize].kind {
            Kind::File(content) => {
                if !strict {
                    let through = if bytes == ALL { Some(point.data) } else { content.reached(point.data, bytes.end) };
                    let needs = through.map_or(0, |through| content.size_needs(through));
                    let own = self.journal.changes().filter(|c| c.subject == inode && c.serial < point.journal);
                    let logged = |c: &&NameChange| c.creates || c.truncates.is_some() || !data_only;
                    let needs = own.filter(logged).last().map_or(needs, |c| needs.max(c.serial + 1));
                    self.settle_journal(needs);
                }
                if let Kind::File(content) = &mut self.inode_mut(inode).kind {
                    match bytes == ALL {
                        true if astray > 0 => return content.commit_astray(point.data, astray),
                        true => content.commit(point.data),
                        false => content.commit_range(point.data, bytes),
                    }
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

    /// An fsync of these bytes that began at `point` fails: the pages count as clean, and are not durable.
    pub fn sync_fails(&mut self, inode: InodeId, point: SyncPoint, bytes: Range<u64>) {
        if let Kind::File(content) = &mut self.inodes[inode.0 as usize].kind {
            content.strand(point.data, bytes);
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
    pub(super) fn settle(&mut self, change: NameChange, durable: bool) {
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
}
