//! The calls that make, find and move names: open, mkdir, link, rename and their like, as fs/namei.c does them.
//!
//! They change what everybody sees, at once; when it becomes durable is [`durable`](super::durable)'s.

use super::content::Content;
use super::errno::Errno;
use super::inode::{Directory, Entry, FileKind, InodeId, Kind};
use super::names::Rebind;
use super::page::PAGE;
use super::volume::{ROOT, Volume};
use super::walk::{Last, Place, READ, SEARCH, WRITE, join};
use sim_core::{Instant, hash};
use std::fmt;

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
    /// What each write syncs before it returns.
    pub syncs: WriteSync,
    /// The permissions of a file that is created, the umask already taken off. 0o644 by default.
    pub mode: u32,
}

/// As strace(1) shows the flags.
impl fmt::Display for OpenHow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.path_only, self.read, self.write) {
            (true, ..) => "O_PATH",
            (_, true, true) => "O_RDWR",
            (_, false, true) => "O_WRONLY",
            (_, _, false) => "O_RDONLY",
        })?;
        let flags = [
            (self.create, "O_CREAT"),
            (self.exclusive, "O_EXCL"),
            (self.truncate, "O_TRUNC"),
            (self.append, "O_APPEND"),
            (self.directory, "O_DIRECTORY"),
            (self.no_follow, "O_NOFOLLOW"),
            (self.unnamed, "O_TMPFILE"),
            (self.syncs == WriteSync::Data, "O_DSYNC"),
            (self.syncs == WriteSync::All, "O_SYNC"),
        ];
        for (_, name) in flags.iter().filter(|(is, _)| *is) {
            write!(f, "|{name}")?;
        }
        if self.create || self.unnamed { write!(f, ", {:#o}", self.mode) } else { Ok(()) }
    }
}

/// What a write to an open file syncs of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteSync {
    /// Nothing.
    #[default]
    Nothing,
    /// O_DSYNC: as an fdatasync of the bytes that were written.
    Data,
    /// O_SYNC: as an fsync of them.
    All,
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
            syncs: WriteSync::Nothing,
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

/// The most names of one file: ext4's `EXT4_LINK_MAX`.
const NAMES_MAX: u32 = 65_000;

impl Volume {
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
        self.rebind(inode, true, call, vec![], vec![Rebind { dir: place.dir, name: place.name, to: Some(inode) }], now);
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
        self.rebind(
            inode,
            links == 0,
            "link",
            vec![],
            vec![Rebind { dir: place.dir, name: place.name, to: Some(inode) }],
            now,
        );
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
        let takes = vec![(place.dir, place.name.clone(), inode)];
        let rebinds = vec![Rebind { dir: place.dir, name: place.name, to: None }];
        self.rebind(inode, false, "unlink", takes, rebinds, now);
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
        let takes = vec![(place.dir, place.name.clone(), inode)];
        let rebinds = vec![Rebind { dir: place.dir, name: place.name, to: None }];
        self.rebind(inode, false, "rmdir", takes, rebinds, now);
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
        let takes = vec![(from.dir, from.name.clone(), moved)];
        let rebinds = vec![
            Rebind { dir: from.dir, name: from.name, to: None },
            Rebind { dir: to.dir, name: to.name, to: Some(moved) },
        ];
        self.rebind(moved, false, "rename", takes, rebinds, now);
        Ok(())
    }

    /// Two names mean each other's files. Where directories move it is durable at once, with all changes before it, as if
    /// written back early: which moves of others depend on both places is not kept track of.
    fn exchange(&mut self, a: (Place, InodeId), b: (Place, InodeId), now: Instant) {
        self.put_dir(a.1, &b.0);
        self.put_dir(b.1, &a.0);
        let moves_dir = self.is_dir(a.1) || self.is_dir(b.1);
        let takes = vec![(a.0.dir, a.0.name.clone(), a.1), (b.0.dir, b.0.name.clone(), b.1)];
        let rebinds = vec![
            Rebind { dir: a.0.dir, name: a.0.name, to: Some(b.1) },
            Rebind { dir: b.0.dir, name: b.0.name, to: Some(a.1) },
        ];
        self.rebind(a.1, false, "exchange", takes, rebinds, now);
        if moves_dir {
            self.settle_journal(u64::MAX);
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
}
