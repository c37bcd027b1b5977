//! One node's disk: a tree of names over files and directories, what everybody sees of it and what is durable.
//!
//! The calls here are Linux's, with its errors in its order, and take no time; [`Disk`](crate::Disk) gives them
//! their latency and their faults. Paths are bytes; the working directory is always `/`. Permissions, owners and times are
//! durable at once; times of reading do not move (`noatime`).

use super::below::Below;
use super::crash::{Profile, Tearing};
use super::inode::{Directory, Inode, InodeId, Kind, Lower, Stamp, User};
use super::locks::Locks;
use super::names::{Journal, Name};
use super::page::PAGE;
use super::walk::{Found, Last};
use sim_core::{Instant, NodeId, hash};
use slab::Slab;
use std::rc::Rc;

pub(super) const ROOT: InodeId = InodeId(0);

/// One node's disk.
#[derive(Clone)]
pub struct Volume {
    pub(super) node: NodeId,
    pub(super) node_name: String,
    pub(super) key: u64,
    pub(super) profile: Profile,
    pub(super) tearing: Tearing,
    pub(super) user: User,
    pub(super) below: Option<Rc<dyn Below>>,
    /// Where a path led that led out of the disk.
    pub(super) led_out_to: Vec<u8>,
    pub(super) inodes: Slab<Inode>,
    pub(super) journal: Journal,
    /// How often each path (hashed) was created, and how many inodes there ever were.
    born: hash::Map<u64, u32>,
    numbers: u64,
    pub(super) power_losses: u32,
    pub(super) capacity_pages: u64,
    /// What the programs may take of it.
    pub(super) quota_pages: u64,
    pub(super) used_pages: u64,
    /// Whether everything that needs space fails.
    pub full: bool,
}

impl Volume {
    /// An empty disk with the directory `/tmp`, both durable.
    pub fn new(node: NodeId, node_name: &str, profile: Profile) -> Volume {
        let mut volume = Volume::bare(node, node_name, profile);
        volume.format();
        volume
    }

    /// A disk over the tree `below`, whose files it shows until a program of `user` changes them.
    pub fn over(below: Rc<dyn Below>, user: User, node: NodeId, node_name: &str, profile: Profile) -> Volume {
        let mut volume = Volume { below: Some(below), user, ..Volume::bare(node, node_name, profile) };
        volume.format();
        volume
    }

    /// All that was written is gone. Paths, inode numbers and power losses go on being counted: what is drawn for the new files
    /// is not what was drawn for the old.
    pub(crate) fn format(&mut self) {
        (self.inodes, self.journal, self.used_pages) = (Slab::new(), Journal::default(), 0);
        let lower = self.below.is_some().then(|| Lower {
            path: Box::from(b"/".as_slice()),
            seen: Default::default(),
            listed: false,
        });
        let directory = |below| Kind::Dir(Directory { parent: Some(ROOT), below, ..Directory::default() });
        let root = self.add_inode(directory(lower), b"/", Instant::ZERO);
        if let Some(Ok(Some(entry))) = self.below.as_ref().map(|below| below.entry(b"/")) {
            let root = self.inode_mut(root);
            (root.mode, root.owner, root.times) = (entry.mode, entry.owner, entry.times);
        }
        (self.inode_mut(root).links, self.inode_mut(root).durable_links) = (1, 1);
        if self.below.is_some() {
            return;
        }
        let tmp = self.add_inode(directory(None), b"/tmp", Instant::ZERO);
        let inode = self.inode_mut(tmp);
        (inode.links, inode.durable_links, inode.mode) = (1, 1, 0o1777);
        let name: Name = Name::from(b"tmp".as_slice());
        self.dir_mut(tmp).name = Some(name.clone());
        let root = self.dir_mut(root);
        root.entries.insert(name.clone(), tmp);
        root.durable.insert(name, tmp);
    }

    fn bare(node: NodeId, node_name: &str, profile: Profile) -> Volume {
        Volume {
            node,
            node_name: node_name.to_owned(),
            key: hash::key(&[hash::text("disk"), hash::text(node_name)]),
            profile,
            tearing: Tearing::default(),
            user: User::default(),
            below: None,
            led_out_to: Vec::new(),
            inodes: Slab::new(),
            journal: Journal::default(),
            born: hash::Map::default(),
            numbers: 1,
            power_losses: 0,
            capacity_pages: u64::MAX,
            quota_pages: u64::MAX,
            used_pages: 0,
            full: false,
        }
    }

    /// Sets what the file system promises, as a new mount does: what was written before is durable.
    pub fn set_profile(&mut self, profile: Profile) {
        if profile != self.profile {
            self.sync_all();
            self.profile = profile;
        }
    }

    /// Sets what a power loss does to a page that is being written.
    pub fn set_tearing(&mut self, tearing: Tearing) {
        self.tearing = tearing;
    }

    /// It was put into another machine.
    pub(crate) fn belongs_to(&mut self, node: NodeId) {
        self.node = node;
    }

    /// Sets the capacity in bytes, in whole pages; what is stored already stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_pages = bytes / PAGE as u64;
    }

    /// Sets what the programs of the node may take, in bytes, in whole pages.
    pub fn set_quota(&mut self, bytes: u64) {
        self.quota_pages = bytes / PAGE as u64;
    }

    /// Bytes that files take, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.used_pages * PAGE as u64
    }

    /// The locks of a file.
    pub fn locks(&mut self, inode: InodeId) -> &mut Locks {
        &mut self.inode_mut(inode).locks
    }

    /// Total and free pages, as statfs(2) says them.
    pub fn pages(&self) -> (u64, u64) {
        let total = self.capacity_pages.min(1 << 28);
        (total, if self.full { 0 } else { total.saturating_sub(self.used_pages) })
    }

    // ---- inodes ---------------------------------------------------------------------------------------------------

    pub(super) fn add_inode(&mut self, kind: Kind, path: &[u8], now: Instant) -> InodeId {
        let path_key = hash::text(&String::from_utf8_lossy(path));
        let born = self.born.entry(path_key).or_default();
        let key = hash::key(&[self.key, path_key, *born as u64]);
        *born += 1;
        self.numbers += 1;
        let inode = Inode {
            key,
            born_as: path.into(),
            number: self.numbers,
            mode: if matches!(kind, Kind::Dir(_)) { 0o755 } else { 0o644 },
            kind,
            owner: (0, 0),
            times: [Stamp::At(now); 3],
            links: 0,
            durable_links: 0,
            links_below: 0,
            journaled: 0,
            opens: 0,
            operations: 0,
            name_changes: 0,
            locks: Locks::default(),
        };
        InodeId(self.inodes.insert(inode) as u32)
    }

    /// The address of the next operation on `inode`: the key of its file, and the ordinal.
    pub(crate) fn next_operation(&mut self, inode: InodeId) -> (u64, u32) {
        let inode = self.inode_mut(inode);
        inode.operations += 1;
        (inode.key, inode.operations)
    }

    /// The path a file was created with, for reports.
    pub(crate) fn born_as(&self, inode: InodeId) -> String {
        String::from_utf8_lossy(&self.inode(inode).born_as).into_owned()
    }

    /// The name of the node.
    pub(crate) fn node_name(&self) -> &str {
        &self.node_name
    }

    /// What a call about `path` is about: what it names, else the directory that it would be in, else the root.
    pub(crate) fn subject(&mut self, path: &[u8]) -> InodeId {
        match self.find(path, true) {
            Ok(Found { inode: Some(inode), .. }) => inode,
            Ok(Found { last: Last::Name(place), .. }) => place.dir,
            _ => ROOT,
        }
    }

    /// The inode number behind a place, if there is anything.
    pub(super) fn number_of(&self, inode: InodeId) -> Option<u64> {
        self.inodes.get(inode.0 as usize).map(|i| i.number)
    }

    pub(super) fn inode(&self, inode: InodeId) -> &Inode {
        &self.inodes[inode.0 as usize]
    }

    pub(super) fn inode_mut(&mut self, inode: InodeId) -> &mut Inode {
        &mut self.inodes[inode.0 as usize]
    }

    pub(super) fn is_dir(&self, inode: InodeId) -> bool {
        matches!(self.inode(inode).kind, Kind::Dir(_))
    }

    pub(super) fn dir(&self, inode: InodeId) -> &Directory {
        match &self.inode(inode).kind {
            Kind::Dir(dir) => dir,
            _ => unreachable!("names stand in directories"),
        }
    }

    pub(super) fn dir_mut(&mut self, inode: InodeId) -> &mut Directory {
        match &mut self.inode_mut(inode).kind {
            Kind::Dir(dir) => dir,
            _ => unreachable!("names stand in directories"),
        }
    }
}
