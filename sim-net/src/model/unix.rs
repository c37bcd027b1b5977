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

use super::arena::{Arena, Id};
use super::errno::{Attempt, Errno};
use super::{Buffers, Effect, Network};
use sim_core::{DeviceCx, NodeId};
use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::rc::Rc;

/// `wmem_default`.
const SEND_BUFFER_BYTES: usize = 212_992;
/// `max_dgram_qlen`: a datagram socket with more messages than this takes none from strangers.
const DATAGRAM_QUEUE: usize = 10;
/// `somaxconn`.
const BACKLOG_MAX: u32 = 4096;
/// `sun_path`.
const NAME_BYTES: usize = 108;
const PAGE: usize = 4096;
/// What fits into a kernel buffer beside its `skb_shared_info`: of one page, and of the greatest that is not paged.
const HEAD_ONE_PAGE: usize = PAGE - 320;
const HEAD_GREATEST: usize = 4 * PAGE - 320;
/// How much of a message is paged at most (`MAX_SKB_FRAGS`).
const PAGED_GREATEST: usize = 17 * PAGE;
/// The greatest piece of a stream (`SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ`).
const PIECE_BYTES: usize = HEAD_ONE_PAGE + 32_768;

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

/// What a call received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// How many bytes were given.
    pub len: usize,
    /// How long the message was; of a stream, the same as `len`.
    pub full_len: usize,
    /// The sender's name; empty if it has none.
    pub from: Rc<[u8]>,
}

/// How a receive goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receive {
    /// The most bytes to give.
    pub room: usize,
    /// Leave what is given where it is (MSG_PEEK).
    pub peek: bool,
    /// When peeking at a stream, begin behind so many bytes (SO_PEEK_OFF).
    pub offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Unconnected,
    Listening { backlog: u32 },
    Connected,
}

/// A socket's name, empty until it is bound. Whoever was its peer or had a message from it shares it, so that it is known
/// also if it is bound later, and when it is closed.
type Name = Rc<OnceCell<Rc<[u8]>>>;

struct Message {
    bytes: Vec<u8>,
    at: usize,
    sender: Id,
    from: Name,
    /// What it is charged to its sender.
    cost: usize,
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

/// The names of one machine.
#[derive(Default)]
struct Space {
    /// `None` for a file whose socket is closed.
    paths: BTreeMap<Rc<[u8]>, Option<Id>>,
    /// By kind, each of which has its own.
    abstracts: [BTreeMap<Rc<[u8]>, Id>; 3],
    autobound: u32,
}

/// What a message of `len` bytes takes of kernel memory (`truesize`), if up to `head` of them are not paged: an `sk_buff`,
/// a block from the allocator with room for `skb_shared_info`, and whole pages.
fn cost(len: usize, head: usize) -> usize {
    let paged = if len > head { (len - head).min(PAGED_GREATEST).next_multiple_of(PAGE).min(len) } else { 0 };
    256 + (len - paged + 320).next_power_of_two().max(512) + paged.next_multiple_of(PAGE)
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

    fn space(&mut self, node: NodeId) -> &mut Space {
        let place = node.0 as usize;
        if self.spaces.len() <= place {
            self.spaces.resize_with(place + 1, Space::default);
        }
        &mut self.spaces[place]
    }

    /// The socket of a name, for one of this kind.
    fn find(&mut self, node: NodeId, name: &[u8], kind: UnixKind) -> Result<Id, Errno> {
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

    fn shown(&self, name: &Name) -> Rc<[u8]> {
        name.get().unwrap_or(&self.unnamed).clone()
    }

    /// What a read at the end gives.
    fn end(&self) -> Received {
        Received { len: 0, full_len: 0, from: self.unnamed.clone() }
    }

    /// Joins two sockets, each of which knows the other's name and maker.
    fn join(&mut self, a: Id, b: Id) {
        for (one, other) in [(a, b), (b, a)] {
            let Some(peer) = self.socks.get(other) else { return };
            let peer = Peer { id: other, name: peer.name.clone(), owner: peer.owner };
            if let Some(sock) = self.socks.get_mut(one) {
                sock.peer = Some(peer);
                sock.state = State::Connected;
            }
        }
    }

    /// A message is read or thrown away: its sender has more room.
    fn uncharge(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        if let Some(sender) = self.socks.get_mut(message.sender) {
            sender.charged -= message.cost;
            if sender.has_room() {
                writable(effects, message.sender);
            }
        }
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
        if let Some(place) = self.spaces.get_mut(sock.node.0 as usize)
            && let Some(name) = sock.name.get()
        {
            if let Some(owner) = place.paths.get_mut(sock.place.as_ref().unwrap_or(name)).filter(|o| **o == Some(id)) {
                *owner = None;
            }
            if place.abstracts[sock.kind as usize].get(name) == Some(&id) {
                place.abstracts[sock.kind as usize].remove(name);
            }
        }
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
    fn unix_disconnect_from(&mut self, id: Id, keep: Option<Id>) -> Result<(), Errno> {
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

    /// Sends: of a stream as many bytes as there is room for, else the whole as one message. `Ok(None)` if there is no
    /// room.
    ///
    /// # Errors
    /// ENOTCONN; EPIPE after a shutdown or when a stream's peer has closed; EMSGSIZE for a message greater than the send
    /// buffer; those of [`unix_connect`](Self::unix_connect) for a named destination; ECONNREFUSED once when the peer of
    /// a datagram socket has closed; EISCONN or EOPNOTSUPP for a destination given to a stream.
    pub fn unix_send(&mut self, id: Id, to: Option<&[u8]>, bytes: &[IoSlice<'_>]) -> Attempt<usize> {
        match self.unix.get(id)?.kind {
            UnixKind::Stream => self.unix_write(id, to, bytes),
            UnixKind::Datagram | UnixKind::SeqPacket => self.unix_send_message(id, to, bytes),
        }
    }

    fn unix_write(&mut self, id: Id, to: Option<&[u8]>, bytes: &[IoSlice<'_>]) -> Attempt<usize> {
        let sock = self.unix.get(id)?;
        if to.is_some() {
            let connected = sock.state == State::Connected;
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = sock.peer.as_ref().ok_or(Errno::ENOTCONN)?.id;
        if sock.write_shut {
            return Err(Errno::EPIPE);
        }
        let len: usize = bytes.iter().map(|b| b.len()).sum();
        let (send_buffer, from) = (sock.send_buffer, sock.name.clone());
        let greatest = PIECE_BYTES.min((send_buffer / 2).saturating_sub(64)).max(1);
        let mut source = super::tcp::Source::new(bytes);
        let mut sent = 0;
        while sent < len {
            let sock = self.unix.get(id)?;
            if let Some(error) = sock.error.take() {
                return if sent > 0 { Ok(Some(sent)) } else { Err(error) };
            }
            if sock.charged >= send_buffer {
                break;
            }
            let other = self.unix.socks.get(peer);
            if other.is_none_or(|o| o.read_shut) {
                return if sent > 0 { Ok(Some(sent)) } else { Err(Errno::EPIPE) };
            }
            let n = greatest.min(len - sent);
            let mut piece = self.buffers.take();
            source.move_to(&mut piece, n);
            let message = Message { bytes: piece, at: 0, sender: id, from: from.clone(), cost: cost(n, HEAD_ONE_PAGE) };
            self.unix_deliver(message, peer)?;
            sent += n;
        }
        Ok((sent > 0 || len == 0).then_some(sent))
    }

    fn unix_send_message(&mut self, id: Id, to: Option<&[u8]>, bytes: &[IoSlice<'_>]) -> Attempt<usize> {
        let sock = self.unix.get(id)?;
        let (node, kind) = (sock.node, sock.kind);
        if kind == UnixKind::SeqPacket {
            if let Some(error) = sock.error.take() {
                return Err(error);
            }
            if sock.state != State::Connected {
                return Err(Errno::ENOTCONN);
            }
        }
        let to = to.filter(|_| kind == UnixKind::Datagram);
        let len: usize = bytes.iter().map(|b| b.len()).sum();
        if len > sock.send_buffer.saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if let Some(error) = sock.error.take() {
            return Err(error);
        }
        if sock.write_shut {
            return Err(Errno::EPIPE);
        }
        if sock.charged >= sock.send_buffer {
            return Ok(None);
        }
        let other = match (to, &sock.peer) {
            (Some(name), _) => self.unix.find(node, name, kind)?,
            (None, Some(peer)) => peer.id,
            (None, None) => return Err(Errno::ENOTCONN),
        };
        let Some(receiver) = self.unix.socks.get(other) else {
            // The peer was closed: said once, then it is no peer any more, and what it sent is lost.
            self.unix_disconnect_from(id, None)?;
            return Err(Errno::ECONNREFUSED);
        };
        if receiver.peer.as_ref().is_some_and(|p| p.id != id) {
            return Err(Errno::EPERM);
        }
        if receiver.read_shut {
            return Err(Errno::EPIPE);
        }
        if other != id && !receiver.is_connected_to(id) && receiver.is_full() {
            self.unix.wait_for(other, id);
            return Ok(None);
        }
        let mut payload = self.buffers.take();
        bytes.iter().for_each(|b| payload.extend_from_slice(b));
        let from = self.unix.get(id)?.name.clone();
        let message = Message { bytes: payload, at: 0, sender: id, from, cost: cost(len, HEAD_GREATEST) };
        self.unix_deliver(message, other)?;
        Ok(Some(len))
    }

    fn unix_deliver(&mut self, message: Message, to: Id) -> Result<(), Errno> {
        self.unix.get(message.sender)?.charged += message.cost;
        self.unix.get(to)?.queue.push_back(message);
        readable(&mut self.effects, to);
        Ok(())
    }

    /// Gives what waits to `put`, which may be called several times: bytes of a stream, 0 at its end, or one message cut
    /// to the room. `Ok(None)` if nothing waits. `waits` says that the caller would: a datagram socket that was shut
    /// down for reading gives 0 to those and nothing to others.
    ///
    /// # Errors
    /// EINVAL for a stream, ENOTCONN for a packet socket that is not connected; ECONNRESET once, behind a stream's bytes
    /// and before messages.
    pub fn unix_receive(&mut self, id: Id, how: Receive, waits: bool, mut put: impl FnMut(&[u8])) -> Attempt<Received> {
        let sock = self.unix.socks.get_mut(id).ok_or(Errno::EBADF)?;
        match (sock.kind, sock.state) {
            (UnixKind::Stream, State::Unconnected | State::Listening { .. }) => return Err(Errno::EINVAL),
            (UnixKind::SeqPacket, State::Unconnected | State::Listening { .. }) => return Err(Errno::ENOTCONN),
            (UnixKind::Stream, State::Connected) => {
                if !sock.queue.is_empty() {
                    return Ok(Some(self.unix_read(id, how, put)));
                }
                if let Some(error) = sock.error.take() {
                    return Err(error);
                }
                return Ok(sock.read_shut.then(|| self.unix.end()));
            }
            (UnixKind::SeqPacket, State::Connected) | (UnixKind::Datagram, _) => {}
        }
        if let Some(error) = sock.error.take() {
            return Err(error);
        }
        let Some(first) = sock.queue.front() else {
            let ended = sock.read_shut && (waits || sock.kind == UnixKind::SeqPacket);
            return Ok(ended.then(|| self.unix.end()));
        };
        let (full_len, from) = (first.bytes.len(), first.from.get().unwrap_or(&self.unix.unnamed).clone());
        let len = full_len.min(how.room);
        put(&first.bytes[..len]);
        if !how.peek
            && let Some(message) = sock.queue.pop_front()
        {
            self.unix.wake_waiting(id, &mut self.effects);
            self.unix.uncharge(&message, &mut self.effects);
            self.buffers.give(message.bytes);
        }
        Ok(Some(Received { len, full_len, from }))
    }

    fn unix_read(&mut self, id: Id, how: Receive, mut put: impl FnMut(&[u8])) -> Received {
        let Some(sock) = self.unix.socks.get_mut(id) else { unreachable!("its caller found it") };
        let from = sock.queue.front().and_then(|m| m.from.get()).unwrap_or(&self.unix.unnamed).clone();
        let (mut len, mut skip) = (0, how.offset);
        if how.peek {
            for message in &sock.queue {
                let rest = &message.bytes[message.at..];
                let skipped = skip.min(rest.len());
                skip -= skipped;
                let n = (rest.len() - skipped).min(how.room - len);
                put(&rest[skipped..skipped + n]);
                len += n;
            }
            return Received { len, full_len: len, from };
        }
        while len < how.room
            && let Some(sock) = self.unix.socks.get_mut(id)
            && let Some(message) = sock.queue.front_mut()
        {
            let n = (message.bytes.len() - message.at).min(how.room - len);
            put(&message.bytes[message.at..message.at + n]);
            message.at += n;
            len += n;
            if message.at == message.bytes.len()
                && let Some(message) = sock.queue.pop_front()
            {
                self.unix.uncharge(&message, &mut self.effects);
                self.buffers.give(message.bytes);
            }
        }
        Received { len, full_len: len, from }
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

    /// Bytes that wait: of a connection all, else those of the next message (FIONREAD).
    ///
    /// # Errors
    /// EINVAL for a listener.
    pub fn unix_unread(&mut self, id: Id) -> Result<usize, Errno> {
        let sock = self.unix.get(id)?;
        if matches!(sock.state, State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        let all = if sock.kind == UnixKind::Datagram { 1 } else { usize::MAX };
        Ok(sock.queue.iter().take(all).map(|m| m.bytes.len() - m.at).sum())
    }

    /// The send buffer in bytes of kernel memory (SO_SNDBUF as Linux gives it back: twice what was set).
    pub fn unix_send_buffer(&mut self, id: Id) -> Result<&mut usize, Errno> {
        Ok(&mut self.unix.get(id)?.send_buffer)
    }

    /// Closes a socket. Its path stays taken until somebody unlinks it.
    pub fn unix_close(&mut self, id: Id) {
        self.unix.close(id, &mut self.buffers, &mut self.effects);
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

fn show(name: &[u8]) -> String {
    match name {
        [0, rest @ ..] => format!("@{}", rest.escape_ascii()),
        path => path.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use sim_core::device::Bench;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const STREAM: UnixKind = UnixKind::Stream;
    const DATAGRAM: UnixKind = UnixKind::Datagram;
    const PACKETS: UnixKind = UnixKind::SeqPacket;
    const ME: Credentials = Credentials { pid: 7, uid: 1000, gid: 1000 };

    struct Lab {
        net: Network,
        bench: Bench,
    }

    impl Lab {
        fn new() -> Lab {
            let mut net = Network::new(Config::default());
            net.node_added(A, "a");
            net.node_added(B, "b");
            Lab { net, bench: Bench::default() }
        }

        fn socket(&mut self, kind: UnixKind) -> Id {
            self.net.unix_socket(A, kind, ME)
        }

        fn bound(&mut self, kind: UnixKind, name: &[u8]) -> Id {
            let id = self.socket(kind);
            assert_eq!(self.bind(id, name), Ok(()));
            id
        }

        fn bind(&mut self, id: Id, name: &[u8]) -> Result<(), Errno> {
            self.net.unix_bind(id, name, &mut self.bench.cx(A))
        }

        fn connect(&mut self, id: Id, name: &[u8]) -> Attempt<()> {
            self.net.unix_connect(id, name, &mut self.bench.cx(A))
        }

        fn send(&mut self, id: Id, bytes: &[u8]) -> Attempt<usize> {
            self.net.unix_send(id, None, &[IoSlice::new(bytes)])
        }

        fn send_to(&mut self, id: Id, to: &[u8], bytes: &[u8]) -> Attempt<usize> {
            self.net.unix_send(id, Some(to), &[IoSlice::new(bytes)])
        }

        fn recv(&mut self, id: Id, room: usize) -> Result<Option<Vec<u8>>, Errno> {
            let mut out = Vec::new();
            let how = Receive { room, ..Receive::default() };
            let got = self.net.unix_receive(id, how, false, |b| out.extend_from_slice(b))?;
            Ok(got.map(|r| {
                assert_eq!(r.len, out.len());
                out
            }))
        }

        /// How many bytes go in, by writes of `len`.
        fn fill(&mut self, kind: UnixKind, len: usize) -> usize {
            let [a, _b] = self.net.unix_pair(A, kind, ME);
            let bytes = vec![1; len];
            let mut all = 0;
            while let Ok(Some(n)) = self.send(a, &bytes) {
                all += n;
            }
            all
        }

        fn woken(&mut self) -> Vec<(Id, bool, bool)> {
            let ids: Vec<Id> = self.net.unix.socks.ids().collect();
            let named = |slot: u32| ids.iter().copied().find(|id| id.index == slot);
            let mut woken = Vec::new();
            for effect in self.net.effects.drain(..) {
                if let Effect::Unix { slot, read, write } = effect {
                    woken.extend(named(slot).map(|id| (id, read, write)));
                }
            }
            woken
        }
    }

    #[test]
    fn a_pair_takes_as_many_bytes_as_linux_does() {
        // Measured on Linux 6.18 with the default send buffer: the size of each write, then all that a stream and a
        // datagram socket took before EAGAIN.
        let measured = [
            (1, 278, 278),
            (100, 27_800, 27_800),
            (200, 33_400, 33_400),
            (1_000, 93_000, 93_000),
            (3_000, 147_000, 147_000),
            (4_000, 176_000, 104_000),
            (10_000, 170_000, 130_000),
            (20_000, 220_000, 220_000),
            (36_544, 219_264, 219_264),
            (50_000, 236_544, 200_000),
            (100_000, 236_544, 300_000),
            (200_000, 236_544, 400_000),
            (212_960, 212_960, 212_960),
            (1_000_000, 219_264, 0),
        ];
        for (len, stream, datagram) in measured {
            let mut lab = Lab::new();
            let took = [STREAM, DATAGRAM, PACKETS].map(|kind| lab.fill(kind, len));
            assert_eq!(took, [stream, datagram, datagram], "by writes of {len}");
        }
    }

    #[test]
    fn a_writer_hears_of_room_when_three_quarters_are_free() {
        let mut lab = Lab::new();
        let [a, b] = lab.net.unix_pair(A, STREAM, ME);
        while let Ok(Some(_)) = lab.send(a, &[0; 3_000]) {}
        assert_eq!(lab.net.unix_ready(a).map(|r| r[1]), Ok(false));
        lab.woken();
        for read in 1.. {
            lab.recv(b, 3_000).expect("it is connected").expect("bytes wait");
            let free = lab.woken() == [(a, false, true)];
            // 49 pieces of 4,352 are charged; 12 of them are no more than a quarter of 212,992.
            assert_eq!(free, 49 - read <= 12, "after {read} reads");
            assert_eq!(lab.net.unix_ready(a).map(|r| r[1]), Ok(free));
            if free {
                break;
            }
        }
    }

    #[test]
    fn a_stream_is_connected_before_it_is_accepted_and_knows_names_and_makers() {
        let mut lab = Lab::new();
        let listener = lab.bound(STREAM, b"/run/s");
        let client = lab.socket(STREAM);
        assert_eq!(lab.connect(client, b"/run/s"), Err(Errno::ECONNREFUSED));
        lab.net.unix_listen(listener, 1).expect("it has a name");
        lab.woken();
        assert_eq!(lab.connect(client, b"/run/s"), Ok(Some(())));
        assert_eq!(lab.woken(), [(listener, true, false)]);
        assert_eq!(lab.connect(client, b"/run/s"), Err(Errno::EISCONN));
        assert_eq!(lab.send(client, b"early"), Ok(Some(5)));
        let server = lab.net.unix_accept(listener, false).expect("it listens").expect("one waits");
        assert_eq!(lab.recv(server, 9), Ok(Some(b"early".to_vec())));
        assert_eq!(lab.net.unix_name(server).as_deref(), Ok(&b"/run/s"[..]));
        assert_eq!(lab.net.unix_peer_name(client).as_deref(), Ok(&b"/run/s"[..]));
        assert_eq!(lab.net.unix_peer_name(server).as_deref(), Ok(&b""[..]));
        assert_eq!(lab.net.unix_peer_owner(server), Ok(Some(ME)));
        assert_eq!(lab.net.unix_accept(listener, false), Ok(None));
    }

    #[test]
    fn a_full_backlog_makes_wait_and_an_accept_wakes_who_waits() {
        let mut lab = Lab::new();
        let listener = lab.bound(STREAM, b"\0s");
        lab.net.unix_listen(listener, 2).expect("it has a name");
        let clients = [(); 4].map(|()| lab.socket(STREAM));
        let first: Vec<_> = clients.iter().map(|c| lab.connect(*c, b"\0s")).collect();
        assert_eq!(first, [Ok(Some(())), Ok(Some(())), Ok(Some(())), Ok(None)]);
        lab.woken();
        lab.net.unix_accept(listener, false).expect("it listens").expect("three wait");
        assert_eq!(lab.woken(), [(clients[3], false, true)]);
        assert_eq!(lab.connect(clients[3], b"\0s"), Ok(Some(())));
        lab.net.unix_close(listener);
        assert_eq!(lab.recv(clients[3], 1), Err(Errno::ECONNRESET));
        assert_eq!(lab.recv(clients[3], 1), Ok(Some(vec![])));
        assert_eq!(lab.send(clients[3], b"x"), Err(Errno::EPIPE));
        assert_eq!(lab.recv(clients[0], 1), Ok(None), "it was accepted before");
    }

    #[test]
    fn a_path_outlives_its_socket_and_an_abstract_name_does_not() {
        let mut lab = Lab::new();
        for (name, gone) in [(&b"/s"[..], Errno::ENOENT), (b"\0s", Errno::ECONNREFUSED)] {
            let path = name[0] != 0;
            let client = lab.socket(STREAM);
            assert_eq!(lab.connect(client, name), Err(gone));
            let listener = lab.bound(STREAM, name);
            let second = lab.socket(STREAM);
            assert_eq!(lab.bind(second, name), Err(Errno::EADDRINUSE));
            assert_eq!(lab.bind(listener, b"/other"), Err(Errno::EINVAL));
            lab.net.unix_close(listener);
            assert_eq!(lab.connect(client, name), Err(Errno::ECONNREFUSED));
            assert_eq!(lab.bind(second, name), if path { Err(Errno::EADDRINUSE) } else { Ok(()) });
            assert_eq!(lab.net.unix_unlink(A, name), path);
            assert!(!lab.net.unix_unlink(A, name));
        }
        let again = lab.bound(STREAM, b"/s");
        lab.net.unix_listen(again, 0).expect("it has a name");
        assert!(lab.net.unix_is_bound(A, b"/s") && !lab.net.unix_is_bound(B, b"/s"), "names are a machine's own");
        // Unlinking lets another take the name; closing the first then frees nothing of the second.
        assert!(lab.net.unix_unlink(A, b"/s"));
        let other = lab.bound(STREAM, b"/s");
        lab.net.unix_listen(other, 0).expect("it has a name");
        lab.net.unix_close(again);
        let client = lab.socket(STREAM);
        assert_eq!(lab.connect(client, b"/s"), Ok(Some(())));
        let datagrams = lab.socket(DATAGRAM);
        assert_eq!(lab.connect(datagrams, b"/s"), Err(Errno::EPROTOTYPE));
    }

    #[test]
    fn closing_with_unread_bytes_resets_and_without_ends() {
        let mut lab = Lab::new();
        let [a, b] = lab.net.unix_pair(A, STREAM, ME);
        assert_eq!(lab.send(a, b"unread"), Ok(Some(6)));
        assert_eq!(lab.send(b, b"last"), Ok(Some(4)));
        lab.net.unix_close(b);
        assert_eq!(lab.net.unix_ready(a), Ok([true, true, true, true, true, true]));
        assert_eq!(lab.recv(a, 9), Ok(Some(b"last".to_vec())), "bytes come before errors");
        assert_eq!(lab.recv(a, 9), Err(Errno::ECONNRESET));
        assert_eq!(lab.recv(a, 9), Ok(Some(vec![])));
        let [a, b] = lab.net.unix_pair(A, STREAM, ME);
        lab.net.unix_close(b);
        assert_eq!(lab.send(a, b"x"), Err(Errno::EPIPE));
        assert_eq!(lab.recv(a, 9), Ok(Some(vec![])));
        assert_eq!(lab.net.unix_peer_name(a).as_deref(), Ok(&b""[..]), "a closed peer is still the peer");
    }

    #[test]
    fn half_closed_pairs_go_on_in_the_other_direction() {
        let mut lab = Lab::new();
        for kind in [STREAM, PACKETS] {
            let [a, b] = lab.net.unix_pair(A, kind, ME);
            assert_eq!(lab.send(a, b"bye"), Ok(Some(3)));
            lab.woken();
            lab.net.unix_shutdown(a, false, true).expect("it is open");
            assert_eq!(lab.woken(), [(a, true, true), (b, true, true)]);
            assert_eq!(lab.send(a, b"x"), Err(Errno::EPIPE));
            assert_eq!(lab.recv(b, 9), Ok(Some(b"bye".to_vec())));
            assert_eq!(lab.recv(b, 9), Ok(Some(vec![])));
            assert_eq!(lab.send(b, b"still"), Ok(Some(5)));
            assert_eq!(lab.recv(a, 9), Ok(Some(b"still".to_vec())));
            assert_eq!(lab.net.unix_ready(b), Ok([true, true, true, false, false, false]));
        }
    }

    #[test]
    fn reads_of_a_stream_cross_writes_and_peeks_take_nothing() {
        let mut lab = Lab::new();
        let [a, b] = lab.net.unix_pair(A, STREAM, ME);
        for part in [&b"one"[..], b"two", b"three"] {
            assert_eq!(lab.send(a, part), Ok(Some(part.len())));
        }
        assert_eq!(lab.recv(b, 2), Ok(Some(b"on".to_vec())));
        for (offset, seen) in [(0, &b"etwoth"[..]), (2, b"wothre"), (8, b"e"), (9, b"")] {
            let mut out = Vec::new();
            let how = Receive { room: 6, peek: true, offset };
            lab.net.unix_receive(b, how, false, |b| out.extend_from_slice(b)).expect("open").expect("bytes wait");
            assert_eq!(out, seen, "from {offset}");
        }
        assert_eq!(lab.net.unix_unread(b), Ok(9));
        assert_eq!(lab.recv(b, 99), Ok(Some(b"etwothree".to_vec())));
        assert_eq!(lab.recv(b, 99), Ok(None));
    }

    #[test]
    fn messages_stay_whole_and_tell_their_length_and_sender() {
        let mut lab = Lab::new();
        let sink = lab.bound(DATAGRAM, b"/sink");
        let sender = lab.bound(DATAGRAM, b"\0me");
        assert_eq!(lab.send_to(sender, b"/sink", b"hello"), Ok(Some(5)));
        assert_eq!(lab.send_to(sender, b"/sink", b""), Ok(Some(0)));
        let how = Receive { room: 3, ..Receive::default() };
        let mut out = Vec::new();
        let got = lab.net.unix_receive(sink, how, false, |b| out.extend_from_slice(b));
        assert_eq!(got, Ok(Some(Received { len: 3, full_len: 5, from: b"\0me"[..].into() })));
        assert_eq!((&out[..], lab.net.unix_unread(sink)), (&b"hel"[..], Ok(0)));
        assert_eq!(lab.recv(sink, 9), Ok(Some(vec![])), "an empty message is one");
        assert_eq!(lab.recv(sink, 9), Ok(None));
        assert_eq!(lab.send(sender, b"x"), Err(Errno::ENOTCONN));
        assert_eq!(lab.send_to(sender, b"/none", b"x"), Err(Errno::ENOENT));
    }

    #[test]
    fn a_datagram_socket_queues_eleven_from_strangers() {
        let mut lab = Lab::new();
        let sink = lab.bound(DATAGRAM, b"/sink");
        let sender = lab.socket(DATAGRAM);
        let took = (0..20).take_while(|_| lab.send_to(sender, b"/sink", b"x") == Ok(Some(1))).count();
        assert_eq!((took, lab.send_to(sender, b"/sink", b"x")), (11, Ok(None)));
        assert_eq!(lab.connect(sender, b"/sink"), Ok(Some(())));
        assert_eq!(lab.net.unix_ready(sender).map(|r| r[1]), Ok(false));
        lab.woken();
        assert_eq!(lab.recv(sink, 9), Ok(Some(b"x".to_vec())));
        assert_eq!(lab.woken()[0], (sender, false, true));
        assert_eq!(lab.send(sender, b"x"), Ok(Some(1)));
    }

    #[test]
    fn a_closed_peer_refuses_a_datagram_once_and_is_none_then() {
        let mut lab = Lab::new();
        let sink = lab.bound(DATAGRAM, b"/sink");
        let sender = lab.socket(DATAGRAM);
        let stranger = lab.socket(DATAGRAM);
        assert_eq!(lab.connect(sender, b"/sink"), Ok(Some(())));
        lab.bind(sender, b"/sender").expect("the name is free");
        assert_eq!(lab.connect(sink, b"/sender"), Ok(Some(())));
        assert_eq!(lab.send_to(stranger, b"/sink", b"x"), Err(Errno::EPERM));
        lab.net.unix_close(sink);
        assert_eq!(lab.send(sender, b"x"), Err(Errno::ECONNREFUSED));
        assert_eq!(lab.send(sender, b"x"), Err(Errno::ENOTCONN));
    }

    #[test]
    fn disconnecting_from_one_that_is_connected_back_resets_it() {
        let mut lab = Lab::new();
        let [a, b] = lab.net.unix_pair(A, DATAGRAM, ME);
        assert_eq!(lab.send(b, b"lost"), Ok(Some(4)));
        lab.net.unix_disconnect(a).expect("it is a datagram socket");
        assert_eq!(lab.recv(a, 9), Ok(None));
        assert_eq!(lab.recv(b, 9), Err(Errno::ECONNRESET));
        let [a, b] = lab.net.unix_pair(A, DATAGRAM, ME);
        lab.net.unix_disconnect(a).expect("it is a datagram socket");
        assert_eq!(lab.recv(b, 9), Ok(None), "nothing was lost");
    }

    #[test]
    fn what_is_not_connected_yet_says_what_linux_says() {
        let mut lab = Lab::new();
        let [stream, datagram, packets] = [STREAM, DATAGRAM, PACKETS].map(|kind| lab.socket(kind));
        assert_eq!(lab.net.unix_ready(stream), Ok([false, true, false, false, true, false]));
        assert_eq!(lab.net.unix_ready(datagram), Ok([false, true, false, false, false, false]));
        assert_eq!((lab.recv(stream, 1), lab.send(stream, b"x")), (Err(Errno::EINVAL), Err(Errno::ENOTCONN)));
        assert_eq!((lab.recv(packets, 1), lab.send(packets, b"x")), (Err(Errno::ENOTCONN), Err(Errno::ENOTCONN)));
        assert_eq!((lab.recv(datagram, 1), lab.send(datagram, b"x")), (Ok(None), Err(Errno::ENOTCONN)));
        assert_eq!(lab.net.unix_listen(stream, 1), Err(Errno::EINVAL));
        assert_eq!(lab.net.unix_listen(datagram, 1), Err(Errno::EOPNOTSUPP));
        assert_eq!((lab.net.unix_accept(stream, true), lab.net.unix_accept(datagram, true)), {
            (Err(Errno::EINVAL), Err(Errno::EOPNOTSUPP))
        });
        assert_eq!(lab.bind(stream, b""), Ok(()));
        assert_eq!(lab.net.unix_name(stream).as_deref(), Ok(&b"\x0000001"[..]));
    }

    #[test]
    fn a_dead_node_has_no_sockets_and_keeps_its_paths() {
        let mut lab = Lab::new();
        let listener = lab.bound(STREAM, b"/s");
        lab.net.unix_listen(listener, 4).expect("it has a name");
        let client = lab.socket(STREAM);
        assert_eq!(lab.connect(client, b"/s"), Ok(Some(())));
        let other = lab.net.unix_socket(B, DATAGRAM, ME);
        lab.net.node_died(A, sim_core::Death::Kill, &mut lab.bench.cx(NodeId::OUTSIDE));
        assert_eq!(lab.send(client, b"x"), Err(Errno::EBADF));
        assert_eq!(lab.net.unix_kind(other), Ok(DATAGRAM));
        assert_eq!(lab.net.unix.socks.ids().count(), 1);
        let reborn = lab.socket(STREAM);
        assert_eq!(lab.bind(reborn, b"/s"), Err(Errno::EADDRINUSE));
        assert_eq!(lab.connect(reborn, b"/s"), Err(Errno::ECONNREFUSED));
    }
}
