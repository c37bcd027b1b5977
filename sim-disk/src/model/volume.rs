//! One node's disk: a tree of names over files and directories, what everybody sees of it and what is durable.
//!
//! The calls here are Linux's, with its errors in its order, and take no time; [`Disk`](crate::Disk) gives them
//! their latency and their faults. Paths are bytes; the working directory is always `/`. Permissions, owners and times are
//! durable at once; times of reading do not move (`noatime`).

use super::below::Below;
use super::content::{Content, FileName};
use super::crash::{Profile, Survivors};
use super::errno::Errno;
use super::inode::{Directory, Entry, FileKind, Inode, InodeId, Kind, Lower, Stamp, Stat, User};
use super::locks::Locks;
use super::names::{Journal, Name, NameChange, Rebind};
use super::page::PAGE;
use super::walk::{Found, Last, Place, READ, SEARCH, WRITE, join};
use sim_core::choices::{Law, Ratio, Stream};
use sim_core::{DeviceCx, Instant, NodeId, hash};
use slab::Slab;
use std::rc::Rc;

pub(super) const ROOT: InodeId = InodeId(0);
/// The greatest size of a file.
const SIZE_MAX: u64 = i64::MAX as u64;
/// The most names of one file: ext4's `EXT4_LINK_MAX`.
const NAMES_MAX: u32 = 65_000;

/// How a file is to be opened: the flags of open(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenHow {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_CREAT.
    pub create: bool,
    /// O_EXCL with O_CREAT.
    pub exclusive: bool,
    /// O_DIRECTORY.
    pub directory: bool,
    /// O_NOFOLLOW: a symbolic link at the end of the path is not followed, and cannot be opened but with `path_only`.
    pub no_follow: bool,
    /// O_PATH: neither reading nor writing, the file is only named.
    pub path_only: bool,
    /// O_TMPFILE: a new file without a name, on the disk of the directory that the path names.
    pub unnamed: bool,
    /// The permissions of a file that is created, the umask already taken off. 0o644 by default.
    pub mode: u32,
}

impl Default for OpenHow {
    fn default() -> Self {
        OpenHow {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            exclusive: false,
            directory: false,
            no_follow: false,
            path_only: false,
            unnamed: false,
            mode: 0o644,
        }
    }
}

/// What rename(2) does about a name that is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Taken {
    /// It is replaced.
    #[default]
    Replace,
    /// RENAME_NOREPLACE: EEXIST.
    Refuse,
    /// RENAME_EXCHANGE: both names stay, and mean each other's files.
    Exchange,
}

/// What chmod(2), chown(2) and utimensat(2) change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The permissions.
    Mode(u32),
    /// Owner and group, where given.
    Owner(Option<u32>, Option<u32>),
    /// When it was read and written last, where given; `None` in a [`Time`] is now.
    Times(Option<Time>, Option<Time>),
}

/// What fallocate(2) does with a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// It takes space. Nothing is written, and the space is not kept from others.
    Space,
    /// FALLOC_FL_ZERO_RANGE: it reads as zeros.
    Zeros,
    /// FALLOC_FL_PUNCH_HOLE: it reads as zeros. The pages go on taking space, as they may.
    Hole,
}

/// A time to set: this one, or now.
pub type Time = Option<Stamp>;

/// One node's disk.
pub struct Volume {
    node: NodeId,
    node_name: String,
    key: u64,
    profile: Profile,
    pub(super) user: User,
    pub(super) below: Option<Rc<dyn Below>>,
    /// Where a path led that led out of the disk.
    pub(super) led_out_to: Vec<u8>,
    inodes: Slab<Inode>,
    journal: Journal,
    /// How often each path (hashed) was created, and how many inodes there ever were.
    born: hash::Map<u64, u32>,
    numbers: u64,
    power_losses: u32,
    capacity_pages: u64,
    used_pages: u64,
    /// Whether everything that needs space fails.
    pub full: bool,
}

impl Volume {
    /// An empty disk with the directory `/tmp`, both durable.
    pub fn new(node: NodeId, node_name: &str, profile: Profile) -> Volume {
        let mut volume = Volume::bare(node, node_name, profile);
        let directory = || Kind::Dir(Directory { parent: Some(ROOT), ..Directory::default() });
        let root = volume.add_inode(directory(), b"/", Instant::ZERO);
        let tmp = volume.add_inode(directory(), b"/tmp", Instant::ZERO);
        for inode in [root, tmp] {
            (volume.inode_mut(inode).links, volume.inode_mut(inode).durable_links) = (1, 1);
        }
        volume.inode_mut(tmp).mode = 0o1777;
        let name: Name = Name::from(b"tmp".as_slice());
        volume.dir_mut(tmp).name = Some(name.clone());
        let root = volume.dir_mut(root);
        root.entries.insert(name.clone(), tmp);
        root.durable.insert(name, tmp);
        volume
    }

    /// A disk over the tree `below`, whose files it shows until a program of `user` changes them.
    pub fn over(below: Rc<dyn Below>, user: User, node: NodeId, node_name: &str, profile: Profile) -> Volume {
        let mut volume = Volume::bare(node, node_name, profile);
        let lower = Lower { path: Box::from(b"/".as_slice()), seen: Default::default(), listed: false };
        let directory = Directory { parent: Some(ROOT), below: Some(lower), ..Directory::default() };
        let root = volume.add_inode(Kind::Dir(directory), b"/", Instant::ZERO);
        let root = volume.inode_mut(root);
        (root.links, root.durable_links) = (1, 1);
        if let Ok(Some(entry)) = below.entry(b"/") {
            (root.mode, root.owner, root.times) = (entry.mode, entry.owner, entry.times);
        }
        volume.below = Some(below);
        volume.user = user;
        volume
    }

    fn bare(node: NodeId, node_name: &str, profile: Profile) -> Volume {
        Volume {
            node,
            node_name: node_name.to_owned(),
            key: hash::key(&[hash::text("disk"), hash::text(node_name)]),
            profile,
            user: User::default(),
            below: None,
            led_out_to: Vec::new(),
            inodes: Slab::new(),
            journal: Journal::default(),
            born: hash::Map::default(),
            numbers: 1,
            power_losses: 0,
            capacity_pages: u64::MAX,
            used_pages: 0,
            full: false,
        }
    }

    /// Sets what the file system promises, from now on.
    pub fn set_profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// Sets the capacity in bytes, in whole pages; what is stored already stays.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.capacity_pages = bytes / PAGE as u64;
    }

    /// Bytes that files take, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.used_pages * PAGE as u64
    }

    // ---- names ----------------------------------------------------------------------------------------------------

    /// open(2). The inode stays until [`close`](Self::close), whatever becomes of its name.
    pub fn open(&mut self, path: &[u8], how: OpenHow, now: Instant) -> Result<InodeId, Errno> {
        let writes = how.write || how.append;
        if !how.read && !writes && !how.path_only {
            return Err(Errno::EINVAL);
        }
        if how.unnamed {
            return self.open_unnamed(path, how, now);
        }
        let found = self.find_or_create(path, !(how.no_follow || how.create && how.exclusive), how.create)?;
        let inode = match (found.inode, found.last) {
            (Some(_), _) if how.create && how.exclusive => return Err(Errno::EEXIST),
            (Some(inode), _) => {
                self.may_open(inode, how)?;
                if !how.path_only {
                    self.own(inode)?;
                }
                if how.truncate {
                    self.resize(inode, 0, now);
                }
                inode
            }
            (None, Last::Name(place)) if how.create => {
                self.create(place, Kind::File(Content::default()), how.mode, "create", now)?
            }
            (None, _) => return Err(Errno::ENOENT),
        };
        self.inode_mut(inode).opens += 1;
        Ok(inode)
    }

    /// Opens a file for reading that stays what stands below; `None` if the path names none. Ends with [`close`](Self::close).
    pub fn open_below(&mut self, path: &[u8], how: OpenHow) -> Result<Option<InodeId>, Errno> {
        let Ok(inode) = self.lookup(path, !how.no_follow) else { return Ok(None) };
        if self.path_below(inode).is_none() {
            return Ok(None);
        }
        self.may_open(inode, how)?;
        self.inode_mut(inode).opens += 1;
        Ok(Some(inode))
    }

    /// What open(2) says of a file that exists, in the order of do_open, fs/namei.c.
    fn may_open(&self, inode: InodeId, how: OpenHow) -> Result<(), Errno> {
        let (writes, kind) = (how.write || how.append, self.inode(inode).file_kind());
        if how.create && kind == FileKind::Dir {
            return Err(Errno::EISDIR);
        }
        if how.directory && kind != FileKind::Dir {
            return Err(Errno::ENOTDIR);
        }
        if how.path_only {
            return Ok(());
        }
        match kind {
            FileKind::Link => return Err(Errno::ELOOP),
            FileKind::Socket => return Err(Errno::ENXIO),
            FileKind::Foreign => return Err(Errno::EXDEV),
            FileKind::Dir if writes || how.truncate => return Err(Errno::EISDIR),
            _ => {}
        }
        let wanted = if how.read { READ } else { 0 } | if writes || how.truncate { WRITE } else { 0 };
        if self.may(inode, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn open_unnamed(&mut self, path: &[u8], how: OpenHow, now: Instant) -> Result<InodeId, Errno> {
        if !(how.write || how.append) {
            return Err(Errno::EINVAL);
        }
        let dir = self.lookup(path, !how.no_follow)?;
        if !self.is_dir(dir) {
            return Err(Errno::ENOTDIR);
        }
        if !self.may(dir, WRITE | SEARCH) {
            return Err(Errno::EACCES);
        }
        if self.full {
            return Err(Errno::ENOSPC);
        }
        let born_as = join(&self.path_of_dir(dir).ok_or(Errno::ENOENT)?, b"#unnamed");
        let inode = self.add_inode(Kind::File(Content::default()), &born_as, now);
        let owner = (self.user.user, self.user.group);
        let new = self.inode_mut(inode);
        (new.mode, new.owner, new.opens) = (how.mode & 0o7777, owner, 1);
        Ok(inode)
    }

    /// Ends what [`open`](Self::open) began. Nothing becomes durable by it.
    pub fn close(&mut self, inode: InodeId) {
        self.inode_mut(inode).opens -= 1;
        self.release(inode);
    }

    /// The place of a name that is to be made: EEXIST if it is taken.
    fn new_place(&mut self, path: &[u8], is_dir: bool) -> Result<Place, Errno> {
        let Last::Name(place) = self.place(path)? else { return Err(Errno::EEXIST) };
        if self.child(place.dir, &place.name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        // A slash behind a name that is none, and is not to become a directory: filename_create, fs/namei.c.
        if place.slash && !is_dir { Err(Errno::ENOENT) } else { Ok(place) }
    }

    /// mkdir(2), with these permissions.
    pub fn create_dir(&mut self, path: &[u8], mode: u32, now: Instant) -> Result<(), Errno> {
        let place = self.new_place(path, true)?;
        let directory = Directory { parent: Some(place.dir), name: Some(place.name.clone()), ..Directory::default() };
        self.create(place, Kind::Dir(directory), mode & 0o1777, "mkdir", now).map(drop)
    }

    /// symlink(2).
    pub fn create_link(&mut self, target: &[u8], path: &[u8], now: Instant) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() >= PAGE {
            return Err(Errno::ENAMETOOLONG);
        }
        let place = self.new_place(path, false)?;
        self.create(place, Kind::Link(target.into()), 0o777, "symlink", now).map(drop)
    }

    /// The name of a socket that is bound there: unix_bind_bsd of net/unix/af_unix.c.
    pub fn create_socket(&mut self, path: &[u8], mode: u32, now: Instant) -> Result<InodeId, Errno> {
        let place = self.new_place(path, false)?;
        self.create(place, Kind::Socket, mode, "bind", now)
    }

    /// readlink(2).
    pub fn read_link(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let inode = self.lookup(path, false)?;
        self.target(inode)
    }

    /// Where a symbolic link leads.
    pub fn target(&self, inode: InodeId) -> Result<Vec<u8>, Errno> {
        match &self.inode(inode).kind {
            Kind::Link(target) => Ok(target.to_vec()),
            Kind::Foreign(_) => Err(Errno::EXDEV),
            _ => Err(Errno::EINVAL),
        }
    }

    fn create(
        &mut self,
        place: Place,
        kind: Kind,
        mode: u32,
        call: &'static str,
        now: Instant,
    ) -> Result<InodeId, Errno> {
        let mut path = self.path_of_dir(place.dir).ok_or(Errno::ENOENT)?;
        if !self.may(place.dir, WRITE | SEARCH) {
            return Err(Errno::EACCES);
        }
        if self.full {
            return Err(Errno::ENOSPC);
        }
        path = join(&path, &place.name);
        let (parent, is_dir) = (self.inode(place.dir), matches!(kind, Kind::Dir(_)));
        // The group of a directory with the set-group-ID bit is inherited, and so is the bit: inode(7).
        let inherits = parent.mode & 0o2000 != 0;
        let group = if inherits { parent.owner.1 } else { self.user.group };
        let owner = (self.user.user, group);
        let inode = self.add_inode(kind, &path, now);
        let new = self.inode_mut(inode);
        (new.mode, new.owner) = (mode & 0o7777 | if inherits && is_dir { 0o2000 } else { 0 }, owner);
        self.rebind(inode, true, call, vec![Rebind { dir: place.dir, name: place.name, to: Some(inode) }], now);
        Ok(inode)
    }

    /// link(2): another name for a file. With `follow` for what a symbolic link leads to (AT_SYMLINK_FOLLOW), else for the
    /// link itself.
    pub fn link(&mut self, from: &[u8], to: &[u8], follow: bool, now: Instant) -> Result<(), Errno> {
        let inode = self.lookup(from, follow)?;
        self.link_inode(inode, to, now)
    }

    /// A name for a file that is open: linkat(2) with AT_EMPTY_PATH. One that was unlinked stays without, unless it never had
    /// a name.
    pub fn link_inode(&mut self, inode: InodeId, to: &[u8], now: Instant) -> Result<(), Errno> {
        let place = self.new_place(to, false)?;
        let mut path = self.path_of_dir(place.dir).ok_or(Errno::ENOENT)?;
        if !self.may(place.dir, WRITE | SEARCH) {
            return Err(Errno::EACCES);
        }
        let (links, names, kind) = {
            let i = self.inode(inode);
            (i.links, i.name_changes, i.file_kind())
        };
        match kind {
            FileKind::Dir => return Err(Errno::EPERM),
            FileKind::Foreign => return Err(Errno::EXDEV),
            FileKind::File | FileKind::Link | FileKind::Socket => {}
        }
        if links == 0 && names > 0 {
            return Err(Errno::ENOENT);
        }
        if links >= NAMES_MAX {
            return Err(Errno::EMLINK);
        }
        if self.full {
            return Err(Errno::ENOSPC);
        }
        self.own(inode)?;
        path = join(&path, &place.name);
        if links == 0 {
            self.inode_mut(inode).born_as = path.into();
        }
        self.rebind(inode, links == 0, "link", vec![Rebind { dir: place.dir, name: place.name, to: Some(inode) }], now);
        Ok(())
    }

    /// Whether the node's programs may take a name out of `dir`: may_delete of fs/namei.c.
    fn may_remove(&self, dir: InodeId, inode: InodeId) -> Result<(), Errno> {
        if !self.may(dir, WRITE | SEARCH) {
            return Err(Errno::EACCES);
        }
        let (user, parent) = (self.user.user, self.inode(dir));
        let sticky = parent.mode & 0o1000 != 0;
        if sticky && user != 0 && user != parent.owner.0 && user != self.inode(inode).owner.0 {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// unlink(2). An open file goes on until it is closed.
    pub fn remove_file(&mut self, path: &[u8], now: Instant) -> Result<(), Errno> {
        let Last::Name(place) = self.place(path)? else { return Err(Errno::EISDIR) };
        let inode = self.child(place.dir, &place.name)?.ok_or(Errno::ENOENT)?;
        match (self.is_dir(inode), place.slash) {
            (true, true) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (_, false) => {}
        }
        self.may_remove(place.dir, inode)?;
        if self.is_dir(inode) {
            return Err(Errno::EISDIR);
        }
        self.rebind(inode, false, "unlink", vec![Rebind { dir: place.dir, name: place.name, to: None }], now);
        Ok(())
    }

    /// rmdir(2).
    pub fn remove_dir(&mut self, path: &[u8], now: Instant) -> Result<(), Errno> {
        let place = match self.place(path)? {
            Last::Name(place) => place,
            Last::Root => return Err(Errno::EBUSY),
            Last::Dot(_) => return Err(Errno::EINVAL),
            Last::DotDot(_) => return Err(Errno::ENOTEMPTY),
        };
        let inode = self.child(place.dir, &place.name)?.ok_or(Errno::ENOENT)?;
        self.may_remove(place.dir, inode)?;
        match self.inode(inode).kind {
            Kind::Dir(_) => {}
            // What the system has mounted is busy.
            Kind::Foreign(_) => return Err(Errno::EBUSY),
            _ => return Err(Errno::ENOTDIR),
        }
        if !self.is_empty(inode)? {
            return Err(Errno::ENOTEMPTY);
        }
        self.rebind(inode, false, "rmdir", vec![Rebind { dir: place.dir, name: place.name, to: None }], now);
        Ok(())
    }

    fn is_empty(&mut self, dir: InodeId) -> Result<bool, Errno> {
        if !self.dir(dir).entries.is_empty() {
            return Ok(false);
        }
        self.list_below(dir)?;
        Ok(self.dir(dir).entries.is_empty())
    }

    /// rename(2): what `to` named before is gone in the same instant.
    pub fn rename(&mut self, from: &[u8], to: &[u8], taken: Taken, now: Instant) -> Result<(), Errno> {
        // Both parents before either name: the order of fs/namei.c, do_renameat2.
        let (from, to) = (self.place(from)?, self.place(to)?);
        let Last::Name(from) = from else { return Err(Errno::EBUSY) };
        let Last::Name(to) = to else {
            return Err(if taken == Taken::Refuse { Errno::EEXIST } else { Errno::EBUSY });
        };
        let moved = self.child(from.dir, &from.name)?.ok_or(Errno::ENOENT)?;
        if self.inode(to.dir).links == 0 {
            return Err(Errno::ENOENT);
        }
        let replaced = self.child(to.dir, &to.name)?;
        let moves_dir = self.is_dir(moved);
        match (taken, replaced) {
            (Taken::Refuse, Some(_)) => return Err(Errno::EEXIST),
            (Taken::Exchange, None) => return Err(Errno::ENOENT),
            (Taken::Exchange, Some(other)) if !self.is_dir(other) && to.slash => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if !moves_dir && (from.slash || taken != Taken::Exchange && to.slash) {
            return Err(Errno::ENOTDIR);
        }
        if self.is_within(to.dir, moved) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced
            && self.is_within(from.dir, replaced)
        {
            return Err(if taken == Taken::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if replaced == Some(moved) {
            return Ok(());
        }
        self.may_remove(from.dir, moved)?;
        match replaced {
            Some(replaced) => self.may_remove(to.dir, replaced)?,
            None if !self.may(to.dir, WRITE | SEARCH) => return Err(Errno::EACCES),
            None => {}
        }
        if let (Some(other), Taken::Exchange) = (replaced, taken) {
            self.exchange((from, moved), (to, other), now);
            return Ok(());
        }
        if let Some(replaced) = replaced {
            match (self.is_dir(replaced), moves_dir) {
                (true, false) => return Err(Errno::EISDIR),
                (false, true) => return Err(Errno::ENOTDIR),
                (true, true) if !self.is_empty(replaced)? => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        // A directory that moves to another one gets another `..`.
        if moves_dir && from.dir != to.dir && !self.may(moved, WRITE) {
            return Err(Errno::EACCES);
        }
        self.put_dir(moved, &to);
        let rebinds = vec![
            Rebind { dir: from.dir, name: from.name, to: None },
            Rebind { dir: to.dir, name: to.name, to: Some(moved) },
        ];
        self.rebind(moved, false, "rename", rebinds, now);
        Ok(())
    }

    /// Two names mean each other's files. Where directories move it is durable at once, with all changes before it, as if
    /// written back early: which moves of others depend on both places is not kept track of.
    fn exchange(&mut self, a: (Place, InodeId), b: (Place, InodeId), now: Instant) {
        self.put_dir(a.1, &b.0);
        self.put_dir(b.1, &a.0);
        let moves_dir = self.is_dir(a.1) || self.is_dir(b.1);
        let rebinds = vec![
            Rebind { dir: a.0.dir, name: a.0.name, to: Some(b.1) },
            Rebind { dir: b.0.dir, name: b.0.name, to: Some(a.1) },
        ];
        self.rebind(a.1, false, "exchange", rebinds, now);
        if moves_dir {
            for change in self.journal.take_through(|_| true) {
                self.settle_names(change, true);
            }
        }
    }

    /// Tells a directory where it is from now on.
    fn put_dir(&mut self, inode: InodeId, to: &Place) {
        if let Kind::Dir(dir) = &mut self.inode_mut(inode).kind {
            (dir.parent, dir.name) = (Some(to.dir), Some(to.name.clone()));
        }
    }

    /// Whether `dir` is `ancestor` or below it.
    fn is_within(&self, dir: InodeId, ancestor: InodeId) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.dir(at).parent.unwrap_or(ROOT);
        }
    }

    /// The entries of a directory. Their order is that of a hash of their names, as on ext4: stable, and not the alphabet's.
    pub fn read_dir(&mut self, inode: InodeId) -> Result<Vec<Entry>, Errno> {
        if !self.is_dir(inode) {
            return Err(Errno::ENOTDIR);
        }
        self.list_below(inode)?;
        let dir = self.dir(inode);
        let mut found: Vec<(u64, Entry)> = dir
            .entries
            .iter()
            .map(|(name, inode)| {
                let word = name.iter().fold(self.inode(*inode).key, |h, b| hash::fold(h, *b as u64));
                let entry = Entry { name: name.to_vec(), kind: self.kind(*inode), ino: self.stat(*inode).ino };
                (hash::key(&[word]), entry)
            })
            .collect();
        found.sort_by_key(|(order, _)| *order);
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }

    /// What something is.
    pub fn kind(&self, inode: InodeId) -> FileKind {
        self.inode(inode).file_kind()
    }

    /// stat(2).
    pub fn stat(&self, inode: InodeId) -> Stat {
        let i = self.inode(inode);
        let (len, allocated) = match &i.kind {
            Kind::File(content) => (content.size(), content.allocated() * PAGE as u64),
            Kind::Below(file) => (file.len, file.len.div_ceil(512) * 512),
            Kind::Dir(_) => (PAGE as u64, PAGE as u64),
            Kind::Link(target) => (target.len() as u64, 0),
            Kind::Socket | Kind::Foreign(_) => (0, 0),
        };
        let links = match &i.kind {
            Kind::Dir(_) if i.links == 0 => 0,
            // Its own `.`, and the `..` of each directory in it.
            Kind::Dir(dir) => 2 + dir.entries.values().filter(|i| self.is_dir(**i)).count() as u32,
            _ => i.links + i.links_below,
        };
        let below = match &i.kind {
            Kind::Below(file) => Some(file.identity),
            _ => None,
        };
        let modified = match i.times[1] {
            Stamp::At(at) => at,
            Stamp::Wall(..) => Instant::ZERO,
        };
        let ino = below.map_or(i.number, |(_, ino)| ino);
        let (kind, times) = (i.file_kind(), i.times);
        Stat { kind, len, modified, ino, mode: i.mode, owner: i.owner, links, allocated, times, below }
    }

    /// access(2): whether the node's programs may do all of this, in the bits of `R_OK`, `W_OK` and `X_OK`.
    pub fn access(&self, inode: InodeId, wanted: u32) -> Result<(), Errno> {
        let i = self.inode(inode);
        // Even user 0 executes nothing that nobody may execute.
        let runs = i.mode & 0o111 != 0 || matches!(i.kind, Kind::Dir(_)) || wanted & SEARCH == 0;
        if self.may(inode, wanted) && runs { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// chmod(2), chown(2), utimensat(2). Durable at once, as if it had been written back early.
    pub fn change(&mut self, inode: InodeId, change: Change, now: Instant) -> Result<(), Errno> {
        let user = self.user.user;
        let owns = user == 0 || user == self.inode(inode).owner.0;
        let (is_link, group) = (self.kind(inode) == FileKind::Link, self.inode(inode).owner.1);
        match change {
            Change::Mode(_) if is_link => return Err(Errno::EOPNOTSUPP),
            Change::Mode(_) if !owns => return Err(Errno::EPERM),
            Change::Owner(to, group_to) if user != 0 => {
                let mine = |g: u32| g == group || g == self.user.group || self.user.groups.contains(&g);
                let same = to.is_none_or(|to| to == self.inode(inode).owner.0);
                if !(same && owns && group_to.is_none_or(mine)) && (to.is_some() || group_to.is_some()) {
                    return Err(Errno::EPERM);
                }
            }
            // Both to now asks for permission to write, anything else for being the owner: utimensat(2).
            Change::Times(Some(None), Some(None)) if !owns && !self.may(inode, WRITE) => return Err(Errno::EACCES),
            Change::Times(Some(Some(_)), _) | Change::Times(_, Some(Some(_))) if !owns => return Err(Errno::EPERM),
            _ => {}
        }
        self.own(inode)?;
        let (my_group, my_groups) = (self.user.group, self.user.groups.clone());
        let i = self.inode_mut(inode);
        match change {
            Change::Mode(mode) => {
                // Somebody who is not in the file's group gives nobody its rights: chmod(2).
                let outsider = user != 0 && i.owner.1 != my_group && !my_groups.contains(&i.owner.1);
                i.mode = mode & if outsider { 0o5777 } else { 0o7777 };
            }
            Change::Owner(owner, group) => {
                i.owner = (owner.unwrap_or(i.owner.0), group.unwrap_or(i.owner.1));
                // A file that changes hands loses the bits by which it acts for its owner: chown(2).
                if !matches!(i.kind, Kind::Dir(_)) && (owner.is_some() || group.is_some()) {
                    i.mode &= if i.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
                }
            }
            Change::Times(read, written) => {
                for (at, to) in [(0, read), (1, written)] {
                    if let Some(time) = to {
                        i.times[at] = time.unwrap_or(Stamp::At(now));
                    }
                }
            }
        }
        i.changed(now);
        Ok(())
    }

    /// The bytes of a file become the disk's own.
    fn own(&mut self, inode: InodeId) -> Result<(), Errno> {
        let Kind::Below(file) = &self.inode(inode).kind else { return Ok(()) };
        let Some(below) = &self.below else { return Ok(()) };
        let content = Content::durable(&below.bytes(&file.path)?);
        self.used_pages += content.allocated();
        let inode = self.inode_mut(inode);
        inode.kind = Kind::File(content);
        inode.links_below = 0;
        Ok(())
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

    // ---- bytes ----------------------------------------------------------------------------------------------------

    /// pread(2): appends what there is to `out`.
    pub fn read(&self, inode: InodeId, at: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::EISDIR) };
        content.read(at, len, out);
        Ok(())
    }

    /// lseek(2) with SEEK_DATA, or SEEK_HOLE if `hole`: the first byte from `at` on that is in a page that was written, or
    /// in none.
    pub fn seek_data(&self, inode: InodeId, at: u64, hole: bool) -> Result<u64, Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::EINVAL) };
        if at >= content.size() {
            return Err(Errno::ENXIO);
        }
        let found = content.first_page(at, !hole).min(content.size());
        if !hole && found == content.size() { Err(Errno::ENXIO) } else { Ok(found) }
    }

    /// fallocate(2): makes sure that `at..at + len` takes space, or punches a hole there; the file grows unless `keep_size`.
    pub fn allocate(
        &mut self,
        inode: InodeId,
        at: u64,
        len: u64,
        what: Allocate,
        keep_size: bool,
        now: Instant,
    ) -> Result<(), Errno> {
        let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::ENODEV) };
        let end = at.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        let size = content.size();
        match what {
            Allocate::Zeros | Allocate::Hole => self.write_zeros(inode, at, end.min(size), now)?,
            Allocate::Space => {
                let free = if self.full { 0 } else { self.capacity_pages.saturating_sub(self.used_pages) };
                if free < u64::MAX / 2 && content.fitting(at, len as usize, free) < len as usize {
                    return Err(Errno::ENOSPC);
                }
            }
        }
        if end > size && !keep_size {
            self.resize(inode, end, now);
        }
        Ok(())
    }

    /// pwrite(2): how many bytes were written, fewer than given if the disk fills up on the way.
    pub fn write(&mut self, inode: InodeId, at: u64, bytes: &[u8], now: Instant) -> Result<usize, Errno> {
        let free = if self.full { 0 } else { self.capacity_pages.saturating_sub(self.used_pages) };
        let i = &mut self.inodes[inode.0 as usize];
        let Kind::File(content) = &mut i.kind else { return Err(Errno::EBADF) };
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > SIZE_MAX) {
            return Err(Errno::EFBIG);
        }
        // A disk without a limit need not be asked where it is holding.
        let fits = if free > u64::MAX / 2 { bytes.len() } else { content.fitting(at, bytes.len(), free) };
        if fits == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let before = content.allocated();
        content.write(at, &bytes[..fits]);
        self.used_pages = self.used_pages + content.allocated() - before;
        i.written(now);
        // Who writes a program cannot make it act for its owner: the bits go (inode(7)), but for user 0.
        if self.user.user != 0 && fits > 0 {
            i.mode &= if i.mode & 0o010 != 0 { !0o6000 } else { !0o4000 };
        }
        Ok(fits)
    }

    /// Zeros from `from` to `end`, but where there is a hole already.
    fn write_zeros(&mut self, inode: InodeId, from: u64, end: u64, now: Instant) -> Result<(), Errno> {
        let mut from = from;
        while from < end {
            let Kind::File(content) = &self.inode(inode).kind else { return Err(Errno::ENODEV) };
            from = content.first_page(from, true);
            let until = end.min((from / PAGE as u64).saturating_add(1).saturating_mul(PAGE as u64));
            if from < until {
                self.write(inode, from, &[0; PAGE][..(until - from) as usize], now)?;
            }
            from = until.max(from);
        }
        Ok(())
    }

    /// ftruncate(2).
    pub fn set_len(&mut self, inode: InodeId, len: u64, now: Instant) -> Result<(), Errno> {
        if len > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if self.is_dir(inode) {
            return Err(Errno::EINVAL);
        }
        self.resize(inode, len, now);
        Ok(())
    }

    fn resize(&mut self, inode: InodeId, len: u64, now: Instant) {
        let i = &mut self.inodes[inode.0 as usize];
        let Kind::File(content) = &mut i.kind else { return };
        let before = content.allocated();
        content.set_len(len);
        self.used_pages = self.used_pages + content.allocated() - before;
        i.written(now);
    }

    /// truncate(2).
    pub fn truncate(&mut self, path: &[u8], len: u64, now: Instant) -> Result<(), Errno> {
        let inode = self.lookup(path, true)?;
        match self.kind(inode) {
            FileKind::Dir => return Err(Errno::EISDIR),
            FileKind::File if self.may(inode, WRITE) => {}
            FileKind::File => return Err(Errno::EACCES),
            _ => return Err(Errno::EINVAL),
        }
        self.own(inode)?;
        self.set_len(inode, len, now)
    }

    /// The size of a file, 0 for a directory.
    pub fn size(&self, inode: InodeId) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.size(),
            Kind::Below(file) => file.len,
            _ => 0,
        }
    }

    /// How many pages an fsync would write.
    pub fn dirty_pages(&self, inode: InodeId) -> u64 {
        match &self.inode(inode).kind {
            Kind::File(content) => content.dirty_pages(),
            _ => 0,
        }
    }

    /// fsync(2), or fdatasync(2) if `data_only`. Which names become durable with it is the [`Profile`]'s.
    pub fn sync(&mut self, inode: InodeId, data_only: bool) {
        let durable = match &mut self.inodes[inode.0 as usize].kind {
            Kind::File(content) => {
                content.commit();
                match self.profile {
                    Profile::Linux => self.journal.take_through(|c| c.subject == inode && (c.creates || !data_only)),
                    Profile::Strict => Vec::new(),
                }
            }
            Kind::Dir(_) => match self.profile {
                Profile::Linux => {
                    self.journal.take_through(|c| c.subject == inode || c.rebinds.iter().any(|r| r.dir == inode))
                }
                Profile::Strict => self.journal.take_of_directory(inode),
            },
            Kind::Below(_) | Kind::Link(_) | Kind::Socket | Kind::Foreign(_) => Vec::new(),
        };
        for change in durable {
            self.settle_names(change, true);
        }
    }

    /// sync(2): all that was written is durable.
    pub fn sync_all(&mut self) {
        for (_, inode) in self.inodes.iter_mut() {
            if let Kind::File(content) = &mut inode.kind {
                content.commit();
            }
        }
        for change in self.journal.take_through(|_| true) {
            self.settle_names(change, true);
        }
    }

    /// An fsync that fails: the pages count as clean, and are not durable.
    pub fn sync_fails(&mut self, inode: InodeId) {
        if let Kind::File(content) = &mut self.inodes[inode.0 as usize].kind {
            content.strand();
        }
    }

    // ---- what is durable ------------------------------------------------------------------------------------------

    /// Changes names for everybody, and notes that it is not durable yet.
    fn rebind(&mut self, subject: InodeId, creates: bool, call: &'static str, rebinds: Vec<Rebind>, now: Instant) {
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
        let subject_is_dir = self.is_dir(subject);
        let inode = self.inode_mut(subject);
        inode.journaled += 1;
        inode.name_changes += 1;
        inode.changed(now);
        let (key, n) = (hash::key(&[inode.key, 5]), inode.name_changes);
        self.journal.changes.push(NameChange { rebinds, subject, subject_is_dir, creates, key, n, call });
        for inode in replaced {
            self.release(inode);
        }
    }

    /// A change of names is decided: it became durable, or it never will.
    fn settle_names(&mut self, change: NameChange, durable: bool) {
        let mut touched = vec![change.subject];
        self.inode_mut(change.subject).journaled -= 1;
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
    fn release(&mut self, inode: InodeId) {
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

    /// The power is gone. What remains is what was durable, and of the rest what the choices of `cx` let survive.
    pub fn power_off(&mut self, cx: &mut DeviceCx<'_>) {
        let n = self.power_losses;
        self.power_losses += 1;
        let unsettled = |i: &Inode| matches!(&i.kind, Kind::File(c) if c.is_unsettled());
        if self.journal.changes.is_empty() && !self.inodes.iter().any(|(_, i)| unsettled(i)) {
            self.reboot();
            return;
        }
        let [data, sizes, names] = [0, 1, 2].map(|what| {
            let key = hash::key(&[self.key, 1, what]);
            let about = ["data", "sizes", "names"][what as usize];
            cx.choices.name_key(key, || format!("disk {} {about}", self.node_name));
            let law = Law::Weighted { none: 1, of: [1, 1, 1, 0] };
            Survivors::from_answer(cx.ask(Stream::FAULT, key, n, law, "how much a power loss leaves"))
        });
        let (node, changes) = (self.node, self.journal.changes.len());
        cx.event(node, "disk.crash", || {
            format!("data {data:?}, sizes {sizes:?}, names {names:?}; {changes} changes of names unsynced")
        });
        let actor = std::mem::replace(&mut cx.node, node);

        let lost: Vec<bool> = self.journal.changes.iter().map(|c| self.ask_for_name(c, names.lost(), cx)).collect();
        let in_order = self.profile == Profile::Linux;
        for (change, survives) in self.journal.survivors(&lost, in_order) {
            if !survives {
                let born_as = &self.inode(change.subject).born_as;
                cx.fired(node, "disk.lost", || format!("{} {}", change.call, String::from_utf8_lossy(born_as)));
            }
            self.settle_names(change, survives);
        }
        for (_, inode) in self.inodes.iter_mut() {
            if let Kind::File(content) = &mut inode.kind
                && content.is_unsettled()
            {
                let path = String::from_utf8_lossy(&inode.born_as);
                let file = FileName { key: inode.key, node_name: &self.node_name, path: &path };
                content.power_off(&file, data, sizes, cx);
            }
        }
        cx.node = actor;
        self.reboot();
    }

    fn ask_for_name(&self, change: &NameChange, lost: Ratio, cx: &mut DeviceCx<'_>) -> bool {
        let inode = self.inode(change.subject);
        cx.choices.name_key(change.key, || {
            format!("disk {} names of {}", self.node_name, String::from_utf8_lossy(&inode.born_as))
        });
        cx.ask(Stream::DISK, change.key, change.n, Law::Chance(lost), "whether a power loss takes a name") != 0
    }

    /// Everybody sees what is durable; nothing is open, and what no name leads to is gone.
    fn reboot(&mut self) {
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
        self.inodes.retain(|i, _| marked[i]);
        self.used_pages = 0;
        for (id, inode) in self.inodes.iter_mut() {
            if id == ROOT.0 as usize {
                inode.links = 1;
            }
            (inode.durable_links, inode.journaled, inode.opens) = (inode.links, 0, 0);
            inode.locks = Locks::default();
            if let Kind::File(content) = &mut inode.kind {
                assert!(!content.is_unsettled(), "a power loss leaves nothing undecided");
                self.used_pages += content.claim_space();
            }
        }
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
