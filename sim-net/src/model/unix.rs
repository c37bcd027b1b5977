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

struct Message {
    bytes: Vec<u8>,
    at: usize,
    sender: Id,
    from: Rc<[u8]>,
    /// What it is charged to its sender.
    cost: usize,
}

struct Peer {
    id: Id,
    name: Rc<[u8]>,
    owner: Credentials,
}

pub(super) struct Sock {
    pub node: NodeId,
    kind: UnixKind,
    name: Rc<[u8]>,
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
    /// By node number.
    spaces: Vec<Space>,
}

/// The names of one machine; `None` for a file whose socket is closed.
#[derive(Default)]
struct Space {
    names: BTreeMap<Rc<[u8]>, Option<Id>>,
    autobound: u32,
}

/// What a message of `len` bytes takes of kernel memory (`truesize`), if up to `head` of them are not paged: an `sk_buff`,
/// a block from the allocator with room for `skb_shared_info`, and whole pages.
fn cost(len: usize, head: usize) -> usize {
    let paged = if len > head { (len - head).next_multiple_of(PAGE).min(len) } else { 0 };
    256 + (len - paged + 320).next_power_of_two().max(512) + paged.next_multiple_of(PAGE)
}

impl Sock {
    fn new(node: NodeId, kind: UnixKind, owner: Credentials) -> Sock {
        Sock {
            node,
            kind,
            name: Rc::default(),
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
        let id = match self.space(node).names.get(name) {
            Some(Some(id)) => *id,
            None if name[0] != 0 => return Err(Errno::ENOENT),
            Some(None) | None => return Err(Errno::ECONNREFUSED),
        };
        if self.get(id)?.kind == kind { Ok(id) } else { Err(Errno::EPROTOTYPE) }
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
            && let Some(owner) = place.names.get_mut(&sock.name)
            && *owner == Some(id)
        {
            *owner = None;
            if sock.name[0] == 0 {
                place.names.remove(&sock.name);
            }
        }
        let unread = !sock.queue.is_empty();
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
    /// nobody has.
    ///
    /// # Errors
    /// EADDRINUSE while the name is taken, a path also by a file whose socket is closed; EINVAL for a socket that has a
    /// name and for a name of more than 108 bytes.
    pub fn unix_bind(&mut self, id: Id, name: &[u8], cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        if !sock.name.is_empty() {
            // `unix_autobind()` is content with any name.
            return if name.is_empty() { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if name.len() > NAME_BYTES {
            return Err(Errno::EINVAL);
        }
        let node = sock.node;
        let space = self.unix.space(node);
        let name: Rc<[u8]> = if name.is_empty() { space.free_name() } else { name.into() };
        if space.names.contains_key(&name) {
            return Err(Errno::EADDRINUSE);
        }
        space.names.insert(name.clone(), Some(id));
        cx.event(node, "unix.bind", || show(&name));
        self.unix.get(id)?.name = name;
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
        if sock.name.is_empty() || sock.state == State::Connected {
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

    /// `unix_dgram_disconnected()`: what waits from a former peer is lost, and one that was connected back hears of it.
    fn unix_disconnect_from(&mut self, id: Id, keep: Option<Id>) -> Result<(), Errno> {
        let sock = self.unix.get(id)?;
        let Some(old) = sock.peer.take_if(|p| Some(p.id) != keep) else { return Ok(()) };
        sock.state = State::Unconnected;
        for message in std::mem::take(&mut sock.queue) {
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
    /// EINVAL for a socket that does not listen; EOPNOTSUPP for a datagram socket.
    pub fn unix_accept(&mut self, id: Id) -> Attempt<Id> {
        let sock = self.unix.get(id)?;
        if sock.kind == UnixKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if !matches!(sock.state, State::Listening { .. }) {
            return Err(Errno::EINVAL);
        }
        let Some(accepted) = sock.pending.pop_front() else {
            return if sock.read_shut { Err(Errno::EINVAL) } else { Ok(None) };
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
        if to.is_none() && sock.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
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
            // The peer was closed: said once, then it is no peer any more.
            let sock = self.unix.get(id)?;
            (sock.peer, sock.state) = (None, State::Unconnected);
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
        let sock = self.unix.get(id)?;
        let end = |from| Received { len: 0, full_len: 0, from };
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
                return Ok((sock.read_shut || how.room == 0).then(|| end(Rc::default())));
            }
            (UnixKind::SeqPacket, State::Connected) | (UnixKind::Datagram, _) => {}
        }
        if let Some(error) = sock.error.take() {
            return Err(error);
        }
        let Some(first) = sock.queue.front() else {
            let ended = sock.read_shut && (waits || sock.kind == UnixKind::SeqPacket);
            return Ok(ended.then(|| end(Rc::default())));
        };
        let (full_len, from) = (first.bytes.len(), first.from.clone());
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
        let from = sock.queue.front().map(|m| m.from.clone()).unwrap_or_default();
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
        Ok(self.unix.get(id)?.name.clone())
    }

    /// The name of a socket's peer, as it was when they were connected.
    pub fn unix_peer_name(&mut self, id: Id) -> Result<Rc<[u8]>, Errno> {
        self.unix.get(id)?.peer.as_ref().map(|p| p.name.clone()).ok_or(Errno::ENOTCONN)
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

    /// Bytes that wait: of a stream all, else those of the next message (FIONREAD).
    pub fn unix_unread(&mut self, id: Id) -> Result<usize, Errno> {
        let sock = self.unix.get(id)?;
        let all = if sock.kind == UnixKind::Stream { usize::MAX } else { 1 };
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
        path.first().is_some_and(|b| *b != 0) && self.unix.space(node).names.remove(path).is_some()
    }

    /// Whether a path is that of a socket file.
    pub fn unix_is_bound(&mut self, node: NodeId, path: &[u8]) -> bool {
        path.first().is_some_and(|b| *b != 0) && self.unix.space(node).names.contains_key(path)
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
    fn free_name(&mut self) -> Rc<[u8]> {
        loop {
            self.autobound = (self.autobound + 1) & 0xf_ffff;
            let name: Rc<[u8]> = format!("\0{:05x}", self.autobound).into_bytes().into();
            if !self.names.contains_key(&name) {
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
