//! Names: paths, which outlive their sockets, and abstract names, which do not.

use super::super::Network;
use super::super::arena::Id;
use super::super::errno::Errno;
use super::{Sock, Unix, UnixKind};
use sim_core::{DeviceCx, NodeId};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// `sun_path`.
const NAME_BYTES: usize = 108;

/// A socket's name, empty until it is bound. Whoever was its peer or had a message from it shares it, so that it is known
/// also if it is bound later, and when it is closed.
pub(super) type Name = Rc<OnceCell<Rc<[u8]>>>;

/// The names of one machine.
#[derive(Default)]
pub(super) struct Space {
    /// `None` for a file whose socket is closed.
    paths: BTreeMap<Rc<[u8]>, Option<Id>>,
    /// By kind, each of which has its own.
    abstracts: [BTreeMap<Rc<[u8]>, Id>; 3],
    autobound: u32,
}

impl Space {
    /// `unix_autobind()`: five hexadecimal digits, here the next ones that are free.
    fn free_name(&mut self, kind: UnixKind) -> Rc<[u8]> {
        loop {
            self.autobound = (self.autobound + 1) & 0xf_ffff;
            let name: Rc<[u8]> = format!("\0{:05x}", self.autobound).into_bytes().into();
            if !self.abstracts[kind as usize].contains_key(&name) {
                return name;
            }
        }
    }
}

impl Unix {
    /// A socket is closed: its abstract name is free, its path stays and leads nowhere.
    pub(super) fn forget_name(&mut self, id: Id, sock: &Sock) {
        let Some(name) = sock.name.get() else { return };
        let Some(space) = self.spaces.get_mut(sock.node.0 as usize) else { return };
        if let Some(owner) = space.paths.get_mut(sock.place.as_ref().unwrap_or(name)).filter(|o| **o == Some(id)) {
            *owner = None;
        }
        let abstracts = &mut space.abstracts[sock.kind as usize];
        if abstracts.get(name) == Some(&id) {
            abstracts.remove(name);
        }
    }

    fn space(&mut self, node: NodeId) -> &mut Space {
        let place = node.0 as usize;
        if self.spaces.len() <= place {
            self.spaces.resize_with(place + 1, Space::default);
        }
        &mut self.spaces[place]
    }

    /// The socket of a name, for one of this kind.
    pub(super) fn find(&mut self, node: NodeId, name: &[u8], kind: UnixKind) -> Result<Id, Errno> {
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(Errno::EINVAL);
        }
        let space = self.space(node);
        if name[0] == 0 {
            return space.abstracts[kind as usize].get(name).copied().ok_or(Errno::ECONNREFUSED);
        }
        let id = match space.paths.get(name) {
            Some(Some(id)) => *id,
            Some(None) => return Err(Errno::ECONNREFUSED),
            None => return Err(Errno::ENOENT),
        };
        if self.get(id)?.kind == kind { Ok(id) } else { Err(Errno::EPROTOTYPE) }
    }

    pub(super) fn shown(&self, name: &Name) -> Rc<[u8]> {
        name.get().unwrap_or(&self.unnamed).clone()
    }
}

impl Network {
    /// Gives a socket a name: a path, or an abstract name (first byte 0), or with an empty one an abstract name that
    /// nobody has. Each kind of socket has abstract names of its own.
    ///
    /// # Errors
    /// EADDRINUSE while the name is taken, a path also by a file whose socket is closed; EINVAL for a socket that has a
    /// name and for a name of more than 108 bytes.
    pub fn unix_bind(&mut self, id: Id, name: &[u8], cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        let (node, kind) = (sock.node, sock.kind);
        if sock.name.get().is_some() {
            // `unix_autobind()` is content with any name; a path is made before the socket is looked at.
            return match name {
                [] => Ok(()),
                _ if self.unix_is_bound(node, name) => Err(Errno::EADDRINUSE),
                _ => Err(Errno::EINVAL),
            };
        }
        if name.len() > NAME_BYTES {
            return Err(Errno::EINVAL);
        }
        let space = self.unix.space(node);
        let name: Rc<[u8]> = if name.is_empty() { space.free_name(kind) } else { name.into() };
        let abstracts = &mut space.abstracts[kind as usize];
        if space.paths.contains_key(&name) || abstracts.contains_key(&name) {
            return Err(Errno::EADDRINUSE);
        }
        if name[0] == 0 {
            abstracts.insert(name.clone(), id);
        } else {
            space.paths.insert(name.clone(), Some(id));
        }
        cx.event(node, "unix.bind", || show(&name));
        self.unix.get(id)?.name.get_or_init(|| name);
        Ok(())
    }

    /// The same for a path whose file the caller keeps: the socket is called `name`, and is found by `place`, which is no
    /// other file's, ever.
    ///
    /// # Errors
    /// EINVAL for a socket that has a name.
    pub fn unix_bind_at(&mut self, id: Id, name: &[u8], place: &[u8], cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        if sock.name.get().is_some() {
            return Err(Errno::EINVAL);
        }
        let node = sock.node;
        let place: Rc<[u8]> = place.into();
        sock.place = Some(place.clone());
        sock.name.get_or_init(|| name.into());
        self.unix.space(node).paths.insert(place, Some(id));
        cx.event(node, "unix.bind", || show(name));
        Ok(())
    }

    /// A socket's name; empty if it has none.
    pub fn unix_name(&mut self, id: Id) -> Result<Rc<[u8]>, Errno> {
        let name = self.unix.get(id)?.name.clone();
        Ok(self.unix.shown(&name))
    }

    /// The name of a socket's peer, also when that is closed.
    pub fn unix_peer_name(&mut self, id: Id) -> Result<Rc<[u8]>, Errno> {
        let name = self.unix.get(id)?.peer.as_ref().map(|p| p.name.clone()).ok_or(Errno::ENOTCONN)?;
        Ok(self.unix.shown(&name))
    }

    /// Frees a path, as unlinking the socket's file does: who is bound there stays so, and nobody finds it any more. False
    /// if no socket was ever bound there.
    pub fn unix_unlink(&mut self, node: NodeId, path: &[u8]) -> bool {
        self.unix.space(node).paths.remove(path).is_some()
    }

    /// Whether a path is that of a socket file.
    pub fn unix_is_bound(&mut self, node: NodeId, path: &[u8]) -> bool {
        self.unix.space(node).paths.contains_key(path)
    }
}

pub(super) fn show(name: &[u8]) -> String {
    match name {
        [0, rest @ ..] => format!("@{}", rest.escape_ascii()),
        path => path.escape_ascii().to_string(),
    }
}
