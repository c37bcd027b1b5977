//! What is sent and received, and what it is charged: the sizes of the kernel's buffers.

use super::super::arena::Id;
use super::super::errno::{Attempt, Errno};
use super::super::{Effect, Network, tcp};
use super::names::Name;
use super::{State, Unix, UnixKind, readable, writable};
use std::io::IoSlice;
use std::rc::Rc;

const PAGE: usize = 4096;
/// What fits into a kernel buffer beside its `skb_shared_info`: of one page, and of the greatest that is not paged.
const HEAD_ONE_PAGE: usize = PAGE - 320;
const HEAD_GREATEST: usize = 4 * PAGE - 320;
/// How much of a message is paged at most (`MAX_SKB_FRAGS`).
const PAGED_GREATEST: usize = 17 * PAGE;
/// The greatest piece of a stream (`SKB_MAX_HEAD(0) + UNIX_SKB_FRAGS_SZ`).
const PIECE_BYTES: usize = HEAD_ONE_PAGE + 32_768;

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

pub(super) struct Message {
    pub bytes: Vec<u8>,
    pub at: usize,
    sender: Id,
    from: Name,
    /// What it is charged to its sender.
    cost: usize,
}

/// What a message of `len` bytes takes of kernel memory (`truesize`), if up to `head` of them are not paged: an `sk_buff`,
/// a block from the allocator with room for `skb_shared_info`, and whole pages.
fn cost(len: usize, head: usize) -> usize {
    let paged = if len > head { (len - head).min(PAGED_GREATEST).next_multiple_of(PAGE).min(len) } else { 0 };
    256 + (len - paged + 320).next_power_of_two().max(512) + paged.next_multiple_of(PAGE)
}

impl Unix {
    /// A message is read or thrown away: its sender has more room.
    pub(super) fn uncharge(&mut self, message: &Message, effects: &mut Vec<Effect>) {
        if let Some(sender) = self.socks.get_mut(message.sender) {
            sender.charged -= message.cost;
            if sender.has_room() {
                writable(effects, message.sender);
            }
        }
    }

    /// What a read at the end gives.
    fn end(&self) -> Received {
        Received { len: 0, full_len: 0, from: self.unnamed.clone() }
    }
}

impl Network {
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
        let mut source = tcp::Source::new(bytes);
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
}
