//! Connections: listening, connecting, accepting, and what datagram sockets call so.

use super::super::Network;
use super::super::arena::Id;
use super::super::errno::{Attempt, Errno};
use super::names::show;
use super::{Peer, Sock, State, Unix, UnixKind, changed, readable};
use sim_core::DeviceCx;

/// `somaxconn`.
const BACKLOG_MAX: u32 = 4096;

impl Unix {
    /// Joins two sockets, each of which knows the other's name and maker.
    pub(super) fn join(&mut self, a: Id, b: Id) {
        for (one, other) in [(a, b), (b, a)] {
            let Some(peer) = self.socks.get(other) else { return };
            let peer = Peer { id: other, name: peer.name.clone(), owner: peer.owner };
            if let Some(sock) = self.socks.get_mut(one) {
                sock.peer = Some(peer);
                sock.state = State::Connected;
            }
        }
    }
}

impl Network {
    /// Lets a named stream or packet socket take connections; `backlog` + 1 of them may wait. A second time it changes
    /// the backlog.
    ///
    /// # Errors
    /// EOPNOTSUPP for a datagram socket; EINVAL without a name or when connected.
    pub fn unix_listen(&mut self, id: Id, backlog: u32) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        if sock.kind == UnixKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if sock.name.get().is_none() || sock.state == State::Connected {
            return Err(Errno::EINVAL);
        }
        sock.state = State::Listening { backlog: backlog.min(BACKLOG_MAX) };
        if !sock.is_full() {
            self.unix.wake_waiting(id, &mut self.effects);
        }
        Ok(())
    }

    /// Connects to the socket of a name. A stream is connected at once, before it is accepted; `Ok(None)` if the queue of
    /// the listener is full.
    ///
    /// # Errors
    /// ENOENT for a path that nobody bound; ECONNREFUSED where nobody listens any more, or nobody has the abstract name;
    /// EPROTOTYPE for a socket of another kind; EISCONN; EINVAL for a listener; EPERM for a datagram socket that is
    /// connected to somebody else.
    pub fn unix_connect(&mut self, id: Id, name: &[u8], cx: &mut DeviceCx<'_>) -> Attempt<()> {
        let sock = self.unix.get(id)?;
        let (node, kind, owner) = (sock.node, sock.kind, sock.owner);
        let to = self.unix.find(node, name, kind)?;
        if kind == UnixKind::Datagram {
            return self.unix_connect_datagrams(id, to).map(Some);
        }
        let listener = self.unix.get(to)?;
        if !matches!(listener.state, State::Listening { .. }) || listener.read_shut {
            return Err(Errno::ECONNREFUSED);
        }
        if listener.is_full() {
            self.unix.wait_for(to, id);
            return Ok(None);
        }
        match self.unix.get(id)?.state {
            State::Unconnected => {}
            State::Connected => return Err(Errno::EISCONN),
            State::Listening { .. } => return Err(Errno::EINVAL),
        }
        let listener = self.unix.get(to)?;
        let mut accepted = Sock::new(node, kind, listener.owner);
        accepted.name = listener.name.clone();
        let accepted = self.unix.socks.insert(accepted);
        self.unix.join(accepted, id);
        debug_assert_eq!(self.unix.get(accepted)?.peer.as_ref().map(|p| p.owner), Some(owner));
        self.unix.get(to)?.pending.push_back(accepted);
        readable(&mut self.effects, to);
        cx.event(node, "unix.connect", || show(name));
        Ok(Some(()))
    }

    fn unix_connect_datagrams(&mut self, id: Id, to: Id) -> Result<(), Errno> {
        let other = self.unix.get(to)?;
        if other.peer.as_ref().is_some_and(|p| p.id != id) {
            return Err(Errno::EPERM);
        }
        let peer = Peer { id: to, name: other.name.clone(), owner: other.owner };
        self.unix_disconnect_from(id, Some(to))?;
        let sock = self.unix.get(id)?;
        (sock.peer, sock.state) = (Some(peer), State::Connected);
        Ok(())
    }

    /// Lets a datagram socket have no peer any more (`connect` with AF_UNSPEC).
    pub fn unix_disconnect(&mut self, id: Id) -> Result<(), Errno> {
        if self.unix.get(id)?.kind != UnixKind::Datagram {
            return Err(Errno::EINVAL);
        }
        self.unix_disconnect_from(id, None)
    }

    /// `unix_dgram_disconnected()`: what waits is lost, and if that is anything, a former peer that is connected back hears of it.
    pub(super) fn unix_disconnect_from(&mut self, id: Id, keep: Option<Id>) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        let Some(old) = sock.peer.take_if(|p| Some(p.id) != keep) else { return Ok(()) };
        sock.state = State::Unconnected;
        let lost = std::mem::take(&mut sock.queue);
        if lost.is_empty() {
            return Ok(());
        }
        for message in lost {
            self.unix.uncharge(&message, &mut self.effects);
            self.buffers.give(message.bytes);
        }
        self.unix.wake_waiting(id, &mut self.effects);
        if let Some(other) = self.unix.socks.get_mut(old.id)
            && other.is_connected_to(id)
        {
            other.error = Some(Errno::ECONNRESET);
            changed(&mut self.effects, old.id);
        }
        Ok(())
    }

    /// The next connection of a listener's queue.
    ///
    /// # Errors
    /// EINVAL for a socket that does not listen, and for one that was shut down if the caller `waits`; EOPNOTSUPP for a
    /// datagram socket.
    pub fn unix_accept(&mut self, id: Id, waits: bool) -> Attempt<Id> {
        let sock = self.unix.get(id)?;
        if sock.kind == UnixKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if !matches!(sock.state, State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        let Some(accepted) = sock.pending.pop_front() else {
            return if sock.read_shut && waits { Err(Errno::EINVAL) } else { Ok(None) };
        };
        self.unix.wake_waiting(id, &mut self.effects);
        Ok(Some(accepted))
    }
}
