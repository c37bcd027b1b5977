//! Unix sockets: streams, datagrams and sequenced packets between programs of one machine.
//!
//! What is written can be read at once: nothing is lost, delayed or asked of chance; only the order in which programs wake
//! is the scheduler's. Rules and sizes are those of `net/unix/af_unix.c`: a sender is charged what the kernel's buffer
//! for each message takes, may write while less than its send buffer is charged, and hears of room again when three
//! quarters of it are free. So a program fills a socket here with exactly as many bytes as on Linux.
//!
//! Each machine has names of its own. A path outlives its socket, as the file does, until somebody unlinks it; an abstract
//! name (first byte 0) does not. Not modelled: descriptors and credentials as ancillary data, out-of-band bytes, FIFOs,
//! permissions, and links or renames of socket files.

mod connect;
mod messages;
mod names;
#[cfg(test)]
mod tests;

pub use messages::{Receive, Received};

use super::arena::{Arena, Id};
use super::errno::Errno;
use super::{Buffers, Effect, Network};
use messages::Message;
use names::{Name, Space};
use sim_core::NodeId;
use std::collections::VecDeque;
use std::rc::Rc;

/// `wmem_default`.
const SEND_BUFFER_BYTES: usize = 212_992;
/// `max_dgram_qlen`: a datagram socket with more messages than this takes none from strangers.
const DATAGRAM_QUEUE: usize = 10;

/// What kind of Unix socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnixKind {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_SEQPACKET: connections like a stream's, with messages like datagrams.
    SeqPacket,
}

/// Who made a socket (`struct ucred`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Unconnected,
    Listening { backlog: u32 },
    Connected,
}

struct Peer {
    id: Id,
    name: Name,
    owner: Credentials,
}

pub(super) struct Sock {
    pub node: NodeId,
    kind: UnixKind,
    name: Name,
    /// What its path is known by, if not by itself.
    place: Option<Rc<[u8]>>,
    owner: Credentials,
    state: State,
    /// Stays when the peer is closed; its id finds nothing then.
    peer: Option<Peer>,
    queue: VecDeque<Message>,
    /// Connections to be accepted.
    pending: VecDeque<Id>,
    /// What it sent and nobody has read yet, in kernel memory.
    charged: usize,
    send_buffer: usize,
    read_shut: bool,
    write_shut: bool,
    error: Option<Errno>,
    /// Sockets that found this one full.
    waiting: Vec<Id>,
}

/// The Unix sockets of all machines.
#[derive(Default)]
pub(super) struct Unix {
    socks: Arena<Sock>,
    unnamed: Rc<[u8]>,
    /// By node number.
    spaces: Vec<Space>,
}

impl Sock {
    fn new(node: NodeId, kind: UnixKind, owner: Credentials) -> Sock {
        Sock {
            node,
            kind,
            name: Name::default(),
            place: None,
            owner,
            state: State::Unconnected,
            peer: None,
            queue: VecDeque::new(),
            pending: VecDeque::new(),
            charged: 0,
            send_buffer: SEND_BUFFER_BYTES,
            read_shut: false,
            write_shut: false,
            error: None,
            waiting: Vec::new(),
        }
    }

    /// `unix_writable()`.
    fn has_room(&self) -> bool {
        !matches!(self.state, State::Listening { .. }) && self.charged * 4 <= self.send_buffer
    }

    fn is_full(&self) -> bool {
        match self.state {
            State::Listening { backlog } => self.pending.len() > backlog as usize,
            State::Unconnected | State::Connected => self.queue.len() > DATAGRAM_QUEUE,
        }
    }

    fn is_connected_to(&self, id: Id) -> bool {
        self.peer.as_ref().is_some_and(|p| p.id == id)
    }
}

fn changed(effects: &mut Vec<Effect>, id: Id) {
    effects.push(Effect::Unix { slot: id.index, read: true, write: true });
}

fn readable(effects: &mut Vec<Effect>, id: Id) {
    effects.push(Effect::Unix { slot: id.index, read: true, write: false });
}

fn writable(effects: &mut Vec<Effect>, id: Id) {
    effects.push(Effect::Unix { slot: id.index, read: false, write: true });
}

impl Unix {
    fn get(&mut self, id: Id) -> Result<&mut Sock, Errno> {
        self.socks.get_mut(id).ok_or(Errno::EBADF)
    }

    fn wake_waiting(&mut self, id: Id, effects: &mut Vec<Effect>) {
        if let Some(sock) = self.socks.get_mut(id) {
            sock.waiting.drain(..).for_each(|w| writable(effects, w));
        }
    }

    /// Remembers that `waiter` waits for room at `full`.
    fn wait_for(&mut self, full: Id, waiter: Id) {
        if let Some(sock) = self.socks.get_mut(full)
            && !sock.waiting.contains(&waiter)
        {
            sock.waiting.push(waiter);
        }
    }

    fn close(&mut self, id: Id, buffers: &mut Buffers, effects: &mut Vec<Effect>) {
        self.wake_waiting(id, effects);
        let Some(sock) = self.socks.remove(id) else { return };
        self.forget_name(id, &sock);
        // Linux, unix_release_sock(): an empty message in front counts as read.
        let passed = sock.queue.front().is_some_and(|m| m.bytes.len() == m.at) as usize;
        let unread = sock.queue.len() > passed;
        for message in sock.queue {
            self.uncharge(&message, effects);
            buffers.give(message.bytes);
        }
        if sock.kind != UnixKind::Datagram
            && let Some(peer) = sock.peer
        {
            self.peer_closed(peer.id, unread, effects);
        }
        for embryo in sock.pending {
            let peer = self.socks.get_mut(embryo).and_then(|e| e.peer.take());
            self.close(embryo, buffers, effects);
            if let Some(peer) = peer {
                self.peer_closed(peer.id, true, effects);
            }
        }
    }

    /// `unix_release_sock()` about the other side: reset if it had written what nobody read.
    fn peer_closed(&mut self, id: Id, reset: bool, effects: &mut Vec<Effect>) {
        if let Some(sock) = self.socks.get_mut(id) {
            (sock.read_shut, sock.write_shut) = (true, true);
            if reset {
                sock.error = Some(Errno::ECONNRESET);
            }
            changed(effects, id);
        }
    }
}

impl Network {
    /// A new socket of `node`, without a name.
    pub fn unix_socket(&mut self, node: NodeId, kind: UnixKind, owner: Credentials) -> Id {
        self.unix.socks.insert(Sock::new(node, kind, owner))
    }

    /// Two sockets that are connected to each other.
    pub fn unix_pair(&mut self, node: NodeId, kind: UnixKind, owner: Credentials) -> [Id; 2] {
        let pair = [(); 2].map(|()| self.unix_socket(node, kind, owner));
        self.unix.join(pair[0], pair[1]);
        pair
    }

    /// Ends one or both directions, of a stream's peer, too.
    pub fn unix_shutdown(&mut self, id: Id, read: bool, write: bool) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        sock.read_shut |= read;
        sock.write_shut |= write;
        changed(&mut self.effects, id);
        let sock = self.unix.get(id)?;
        if sock.kind != UnixKind::Datagram
            && let Some(peer) = sock.peer.as_ref().map(|p| p.id)
            && let Some(other) = self.unix.socks.get_mut(peer)
        {
            other.read_shut |= write;
            other.write_shut |= read;
            changed(&mut self.effects, peer);
        }
        Ok(())
    }

    /// What `unix_poll()` and `unix_dgram_poll()` say: readable, writable, shut for reading, shut for writing, hung up,
    /// with an error.
    pub fn unix_ready(&mut self, id: Id) -> Result<[bool; 6], Errno> {
        let sock = self.unix.get(id)?;
        let connects = sock.kind != UnixKind::Datagram;
        let readable = sock.read_shut || !sock.queue.is_empty() || !sock.pending.is_empty();
        let hang_up = sock.read_shut && sock.write_shut || connects && sock.state == State::Unconnected;
        let (read_shut, write_shut, error) = (sock.read_shut, sock.write_shut, sock.error.is_some());
        let mut writable = sock.has_room();
        let peer = sock.peer.as_ref().map(|p| p.id).filter(|p| sock.kind != UnixKind::Stream && *p != id);
        if writable
            && let Some(peer) = peer
            && self.unix.socks.get(peer).is_some_and(|o| !o.is_connected_to(id) && o.is_full())
        {
            self.unix.wait_for(peer, id);
            writable = false;
        }
        Ok([readable, writable, read_shut, write_shut, hang_up, error])
    }

    /// Who made the peer (SO_PEERCRED); nobody for a socket that has none.
    pub fn unix_peer_owner(&mut self, id: Id) -> Result<Option<Credentials>, Errno> {
        Ok(self.unix.get(id)?.peer.as_ref().map(|p| p.owner))
    }

    /// Whether a socket listens (SO_ACCEPTCONN).
    pub fn unix_listens(&mut self, id: Id) -> Result<bool, Errno> {
        Ok(matches!(self.unix.get(id)?.state, State::Listening { .. }))
    }

    /// Of what kind a socket is.
    pub fn unix_kind(&mut self, id: Id) -> Result<UnixKind, Errno> {
        Ok(self.unix.get(id)?.kind)
    }

    /// What went wrong, once (SO_ERROR).
    pub fn take_unix_error(&mut self, id: Id) -> Result<Option<Errno>, Errno> {
        Ok(self.unix.get(id)?.error.take())
    }

    /// The send buffer in bytes of kernel memory (SO_SNDBUF as Linux gives it back: twice what was set).
    pub fn unix_send_buffer(&mut self, id: Id) -> Result<&mut usize, Errno> {
        Ok(&mut self.unix.get(id)?.send_buffer)
    }

    /// Closes a socket. Its path stays taken until somebody unlinks it.
    pub fn unix_close(&mut self, id: Id) {
        self.unix.close(id, &mut self.buffers, &mut self.effects);
    }

    /// The programs of a node have ended, and with them their sockets.
    pub(super) fn unix_node_died(&mut self, node: NodeId) {
        let all: Vec<Id> = self.unix.socks.ids().collect();
        for id in all {
            if self.unix.socks.get(id).is_some_and(|s| s.node == node) {
                self.unix_close(id);
            }
        }
    }
}
