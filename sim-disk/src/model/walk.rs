//! From paths to inodes: path_resolution(7).
//!
//! A path begins at the root, or at a directory that somebody has open: [`Volume::path_from`]. A path that leads to something of the system's own ends in EXDEV, and
//! [`Volume::leads_out`] says where it leads.

use super::below::BelowKind;
use super::errno::Errno;
use super::inode::{BelowFile, Directory, InodeId, Kind, Lower};
use super::names::Name;
use super::volume::{ROOT, Volume};

/// Linux's longest name (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Linux's longest path (`PATH_MAX`), with its final 0.
const PATH_MAX: usize = 4096;
/// So many symbolic links are followed: `MAXSYMLINKS` of include/linux/namei.h.
const LINKS_MAX: u32 = 40;

/// Permissions, as the bits of `others` in a mode.
pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const SEARCH: u32 = 1;

/// The directory and name that a path ends in.
pub struct Place {
    pub dir: InodeId,
    pub name: Name,
    /// It ended in a slash: only a directory may be meant.
    pub slash: bool,
}

pub enum Last {
    /// The path ends in a name.
    Name(Place),
    /// `/` and whatever leads to it.
    Root,
    Dot(InodeId),
    DotDot(InodeId),
}

/// Where a path leads.
pub struct Found {
    pub last: Last,
    /// What it names, if that exists.
    pub inode: Option<InodeId>,
}

pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn checked(path: &[u8]) -> Result<&[u8], Errno> {
    match path {
        [] => Err(Errno::ENOENT),
        p if p.len() >= PATH_MAX => Err(Errno::ENAMETOOLONG),
        p if p.contains(&0) => Err(Errno::EINVAL),
        p => Ok(p),
    }
}

impl Volume {
    /// `path` from the directory `dir` on, in a form that all calls of a disk take: what no path holds, a 0, then who the
    /// directory is, and the path. It names nothing once the directory is gone for good.
    pub fn path_from(&self, dir: InodeId, path: &[u8]) -> Vec<u8> {
        [[0].as_slice(), &dir.0.to_be_bytes(), &self.inode(dir).number.to_be_bytes(), path].concat()
    }

    /// Where a path begins, and the path from there on.
    fn begin<'a>(&self, path: &'a [u8]) -> Result<(InodeId, &'a [u8]), Errno> {
        let Some((slot, rest)) = path.strip_prefix(&[0]).and_then(|rest| rest.split_first_chunk::<4>()) else {
            return Ok((ROOT, checked(path)?));
        };
        let (number, rest) = rest.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
        let dir = InodeId(u32::from_be_bytes(*slot));
        match self.number_of(dir) == Some(u64::from_be_bytes(*number)) {
            true => Ok((dir, checked(rest)?)),
            false => Err(Errno::ENOENT),
        }
    }

    /// A path for reports.
    pub(crate) fn shown(&self, path: &[u8]) -> String {
        let path = match self.begin(path) {
            Ok((dir, rest)) if dir != ROOT => join(&self.path_of_dir(dir).unwrap_or_default(), rest),
            _ => path.to_vec(),
        };
        String::from_utf8_lossy(&path).into_owned()
    }

    /// The directory that `dir` is in. A directory that was removed is in none.
    fn parent(&self, dir: InodeId) -> Result<InodeId, Errno> {
        if dir != ROOT && self.inode(dir).links == 0 {
            return Err(Errno::ENOENT);
        }
        Ok(self.dir(dir).parent.unwrap_or(ROOT))
    }

    /// The file, directory or link of this path; what a symbolic link at its end leads to if `follow`.
    pub fn lookup(&mut self, path: &[u8], follow: bool) -> Result<InodeId, Errno> {
        self.find(path, follow)?.inode.ok_or(Errno::ENOENT)
    }

    /// Where in the tree below `path` leads if what it names is the system's own: a device, or something in `/proc`.
    pub fn leads_out(&mut self, path: &[u8], follow: bool) -> Option<Vec<u8>> {
        match self.find(path, follow) {
            Err(Errno::EXDEV) => Some(std::mem::take(&mut self.led_out_to)),
            Ok(Found { inode: Some(inode), .. }) => match &self.inode(inode).kind {
                Kind::Foreign(path) => Some(path.to_vec()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The path in the tree below of a file that is still what stands there.
    pub fn path_below(&self, inode: InodeId) -> Option<&[u8]> {
        match &self.inode(inode).kind {
            Kind::Below(file) => Some(&file.path),
            _ => None,
        }
    }

    /// Follows `path` to its end. With `follow`, or if it ends in a slash, through a symbolic link there too.
    pub(super) fn find(&mut self, path: &[u8], follow: bool) -> Result<Found, Errno> {
        self.find_or_create(path, follow, false)
    }

    /// The same; what is to be created must not end in a slash, nor must a link that leads there.
    pub(super) fn find_or_create(&mut self, path: &[u8], follow: bool, create: bool) -> Result<Found, Errno> {
        let mut hops = 0;
        let (mut from, path) = self.begin(path)?;
        let mut path = path.to_vec();
        let mut must_be_dir = false;
        loop {
            let last = self.place_from(from, &path, &mut hops)?;
            let place = match last {
                Last::Root => return Ok(Found { last: Last::Root, inode: Some(ROOT) }),
                Last::Dot(inode) => return Ok(Found { last: Last::Dot(inode), inode: Some(inode) }),
                Last::DotDot(inode) => return Ok(Found { last: Last::DotDot(inode), inode: Some(inode) }),
                Last::Name(place) if create && place.slash => return Err(Errno::EISDIR),
                Last::Name(place) => Place { slash: place.slash || must_be_dir, ..place },
            };
            let inode = self.child(place.dir, &place.name)?;
            if let Some(found) = inode
                && let Kind::Link(target) = &self.inode(found).kind
                && (follow || place.slash)
            {
                hops += 1;
                if hops > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                (from, path, must_be_dir) = (place.dir, target.to_vec(), place.slash);
                continue;
            }
            if let Some(found) = inode
                && place.slash
                && !self.is_dir(found)
            {
                return match &self.inode(found).kind {
                    Kind::Foreign(path) => {
                        self.led_out_to = join(path, b"");
                        Err(Errno::EXDEV)
                    }
                    _ => Err(Errno::ENOTDIR),
                };
            }
            return Ok(Found { last: Last::Name(place), inode });
        }
    }

    /// The directory of the last part of `path`, and that part: what calls need that make or remove a name.
    pub(super) fn place(&mut self, path: &[u8]) -> Result<Last, Errno> {
        let (from, path) = self.begin(path)?;
        self.place_from(from, path, &mut 0)
    }

    fn place_from(&mut self, from: InodeId, path: &[u8], hops: &mut u32) -> Result<Last, Errno> {
        let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
        if end == 0 {
            return Ok(Last::Root);
        }
        let start = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let dir = self.walk(from, &path[..start], hops).map_err(|e| self.leads_on(e, &path[start..]))?;
        if !self.may(dir, SEARCH) {
            return Err(Errno::EACCES);
        }
        Ok(match &path[start..end] {
            b"." => Last::Dot(dir),
            b".." => Last::DotDot(self.parent(dir)?),
            name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            name => Last::Name(Place { dir, name: Name::from(name), slash: end < path.len() }),
        })
    }

    /// What is behind where a path led out belongs to where it leads.
    fn leads_on(&mut self, error: Errno, rest: &[u8]) -> Errno {
        if error == Errno::EXDEV && !rest.is_empty() {
            self.led_out_to = join(&self.led_out_to, rest);
        }
        error
    }

    /// The directory that all of `path` leads to.
    fn walk(&mut self, from: InodeId, path: &[u8], hops: &mut u32) -> Result<InodeId, Errno> {
        let mut at = if path.first() == Some(&b'/') { ROOT } else { from };
        let mut rest = path;
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let part = &rest[..end];
            rest = &rest[(end + 1).min(rest.len())..];
            if !self.is_dir(at) {
                return Err(Errno::ENOTDIR);
            }
            if part.is_empty() {
                continue;
            }
            if !self.may(at, SEARCH) {
                return Err(Errno::EACCES);
            }
            let next = match part {
                b"." => at,
                b".." => self.parent(at)?,
                name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                name => self.child(at, name)?.ok_or(Errno::ENOENT)?,
            };
            at = match &self.inode(next).kind {
                Kind::Dir(_) => next,
                Kind::Link(target) => {
                    *hops += 1;
                    if *hops > LINKS_MAX {
                        return Err(Errno::ELOOP);
                    }
                    let target = target.to_vec();
                    self.walk(at, &target, hops).map_err(|e| self.leads_on(e, rest))?
                }
                Kind::Foreign(path) => {
                    self.led_out_to = join(path, rest);
                    return Err(Errno::EXDEV);
                }
                Kind::File(_) | Kind::Below(_) | Kind::Socket => return Err(Errno::ENOTDIR),
            };
        }
        if self.is_dir(at) { Ok(at) } else { Err(Errno::ENOTDIR) }
    }

    /// What `name` in `dir` is, looked up in the tree below if nobody has asked before.
    pub(super) fn child(&mut self, dir: InodeId, name: &[u8]) -> Result<Option<InodeId>, Errno> {
        let Kind::Dir(directory) = &self.inode(dir).kind else { return Err(Errno::ENOTDIR) };
        if let Some(inode) = directory.entries.get(name) {
            return Ok(Some(*inode));
        }
        let Some(lower) = directory.below.as_ref().filter(|l| !l.listed && !l.seen.contains(name)) else {
            return Ok(None);
        };
        let path = join(&lower.path, name);
        let Some(below) = self.below.clone() else { return Ok(None) };
        let entry = below.entry(&path)?;
        let name = Name::from(name);
        if let Some(lower) = &mut self.dir_mut(dir).below {
            lower.seen.insert(name.clone());
        }
        let Some(entry) = entry else { return Ok(None) };
        let boxed = path.clone().into_boxed_slice();
        let kind = match entry.kind {
            BelowKind::File(len) => Kind::Below(BelowFile { path: boxed, len, identity: entry.identity }),
            BelowKind::Link(target) => Kind::Link(target.into()),
            BelowKind::Foreign => Kind::Foreign(boxed),
            BelowKind::Dir => Kind::Dir(Directory {
                parent: Some(dir),
                name: Some(name.clone()),
                below: Some(Lower { path: boxed, seen: Default::default(), listed: false }),
                ..Directory::default()
            }),
        };
        let born_as = join(&self.path_of_dir(dir).unwrap_or_default(), &name);
        let inode = self.add_inode(kind, &born_as, sim_core::Instant::ZERO);
        let found = self.inode_mut(inode);
        (found.mode, found.owner, found.times) = (entry.mode, entry.owner, entry.times);
        (found.links, found.durable_links) = (1, 1);
        found.links_below = entry.links.saturating_sub(1);
        let directory = self.dir_mut(dir);
        directory.entries.insert(name.clone(), inode);
        directory.durable.insert(name, inode);
        Ok(Some(inode))
    }

    /// Looks up every name that the tree below has in `dir`.
    pub(super) fn list_below(&mut self, dir: InodeId) -> Result<(), Errno> {
        let Some(lower) = self.dir(dir).below.as_ref().filter(|l| !l.listed) else { return Ok(()) };
        let Some(below) = self.below.clone() else { return Ok(()) };
        let mut names = below.names(&lower.path)?;
        names.sort();
        for name in names {
            self.child(dir, &name)?;
        }
        if let Some(lower) = &mut self.dir_mut(dir).below {
            lower.listed = true;
        }
        Ok(())
    }

    /// The path that leads to a directory; `None` if it was removed.
    pub fn path_of_dir(&self, dir: InodeId) -> Option<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = dir;
        while at != ROOT {
            let inode = self.inode(at);
            let Kind::Dir(directory) = &inode.kind else { return None };
            if inode.links == 0 {
                return None;
            }
            parts.push(directory.name.as_deref()?);
            at = directory.parent?;
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }

    /// The absolute path without `.`, `..`, symbolic links and superfluous slashes: realpath(3).
    pub fn canonical(&mut self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let found = self.find(path, true)?;
        found.inode.ok_or(Errno::ENOENT)?;
        match found.last {
            Last::Name(place) => Ok(join(&self.path_of_dir(place.dir).ok_or(Errno::ENOENT)?, &place.name)),
            Last::Root => Ok(b"/".to_vec()),
            Last::Dot(dir) | Last::DotDot(dir) => self.path_of_dir(dir).ok_or(Errno::ENOENT),
        }
    }

    /// Whether the node's programs have all of these permissions on `inode`: inode_permission of fs/namei.c.
    pub(super) fn may(&self, inode: InodeId, wanted: u32) -> bool {
        let user = &self.user;
        if user.user == 0 {
            return true;
        }
        let inode = self.inode(inode);
        let (owner, group) = inode.owner;
        let shift = if user.user == owner {
            6
        } else if user.group == group || user.groups.contains(&group) {
            3
        } else {
            0
        };
        inode.mode >> shift & wanted == wanted
    }
}
