//! What is known of a file beside its bytes and names: stat, access, chmod, chown, utimensat. Durable at once.

use super::errno::Errno;
use super::inode::{FileKind, InodeId, Kind, Stamp, Stat};
use super::page::PAGE;
use super::volume::Volume;
use super::walk::{SEARCH, WRITE};
use sim_core::Instant;

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

/// A time to set: this one, or now.
pub type Time = Option<Stamp>;

impl Volume {
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
}
