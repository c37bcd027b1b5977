//! Unix socket handles.

use super::{Net, News, Readiness, attempt, on, on_drop, poll, slot, within};
use crate::model::{Attempt, Credentials, Id, Receive, Received, UnixKind};
use sim_core::DeviceCx;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A Unix socket, from its creation on: what it becomes (listener, connection, one end of a pair) is its state.
///
/// Names are those of `sockaddr_un` without their length: empty for no name, first byte 0 for an abstract one, else a path
/// without its closing 0. A path is a name of the machine as it stands; relative ones are the caller's to complete.
///
/// # Simulation
/// Sizes, the order of errors, and who is woken when are those of Linux 6 (`net/unix/af_unix.c`). What is written can be
/// read at once. Absent: ancillary data, out-of-band bytes.
#[derive(Debug)]
pub struct UnixSocket {
    id: Id,
    epoch: u32,
}

impl UnixSocket {
    /// A socket of the acting node, made by `owner`: what the peer is told by SO_PEERCRED.
    ///
    /// # Errors
    /// ENETDOWN for a dead program.
    pub fn new(kind: UnixKind, owner: Credentials) -> io::Result<UnixSocket> {
        within(|net, node, _| Ok(UnixSocket { id: net.unix_socket(node, kind, owner), epoch: net.epoch }))
    }

    /// Two sockets that are connected to each other (`socketpair`). Errors and panics are those of [`new`](Self::new).
    pub fn pair(kind: UnixKind, owner: Credentials) -> io::Result<[UnixSocket; 2]> {
        within(|net, node, _| {
            let epoch = net.epoch;
            Ok(net.unix_pair(node, kind, owner).map(|id| UnixSocket { id, epoch }))
        })
    }

    /// Gives it a name; an empty one for any free abstract name.
    ///
    /// # Errors
    /// `AddrInUse` for a name that is taken, a path also by a file whose socket is closed; EINVAL for a socket that has a
    /// name, and for a name of more than 108 bytes.
    pub fn bind(&self, name: &[u8]) -> io::Result<()> {
        on(self.epoch, |net, cx| net.unix_bind(self.id, name, cx))
    }

    /// Gives it the name of a path whose file the caller keeps. Who connects or sends to it asks for `place`.
    ///
    /// # Errors
    /// EINVAL for a socket that has a name.
    pub fn bind_at(&self, name: &[u8], place: &[u8]) -> io::Result<()> {
        on(self.epoch, |net, cx| net.unix_bind_at(self.id, name, place, cx))
    }

    /// Takes connections. `backlog` + 1 may wait to be accepted. A second call changes the backlog.
    ///
    /// # Errors
    /// EOPNOTSUPP for a datagram socket; EINVAL without a name or when connected.
    pub fn listen(&self, backlog: u32) -> io::Result<()> {
        on(self.epoch, |net, _| net.unix_listen(self.id, backlog))
    }

    /// Connects without waiting.
    ///
    /// # Errors
    /// EAGAIN when the listener's queue is full; ENOENT for a path that nobody bound; `ConnectionRefused` where nobody
    /// listens any more; EPROTOTYPE for a socket of another kind; EISCONN; EINVAL for a listener and for no name; EPERM for
    /// a datagram socket that is connected to somebody else.
    pub fn try_connect(&self, name: &[u8]) -> io::Result<()> {
        attempt(self.epoch, |net, cx| net.unix_connect(self.id, name, cx))
    }

    /// Connects, and waits while the listener's queue is full. Errors are those of [`try_connect`](Self::try_connect).
    pub fn poll_connect(&self, cx: &mut Context<'_>, name: &[u8]) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "a Unix listener to have room in its queue",
            |net, cx| net.unix_connect(self.id, name, cx),
            |net, waker| slot(&mut net.unix, self.id.index).writers.add(waker),
        )
    }

    /// Lets a datagram socket have no peer (`connect` with AF_UNSPEC).
    pub fn disconnect(&self) -> io::Result<()> {
        on(self.epoch, |net, _| net.unix_disconnect(self.id))
    }

    /// The next connection, without waiting.
    ///
    /// # Errors
    /// EAGAIN; EINVAL for a socket that does not listen; EOPNOTSUPP for a datagram socket.
    pub fn try_accept(&self) -> io::Result<UnixSocket> {
        attempt(self.epoch, |net, _| self.accepted(net, false))
    }

    /// The next connection.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixSocket>> {
        poll(
            self.epoch,
            cx,
            "a Unix connection to accept",
            |net, _| self.accepted(net, true),
            |net, waker| slot(&mut net.unix, self.id.index).readers.add(waker),
        )
    }

    fn accepted(&self, net: &mut Net, waits: bool) -> Attempt<UnixSocket> {
        Ok(net.unix_accept(self.id, waits)?.map(|id| UnixSocket { id, epoch: self.epoch }))
    }

    /// Sends without waiting: as many bytes as a stream has room for, or one message. `to` is for datagram sockets.
    ///
    /// # Errors
    /// EAGAIN; ENOTCONN; `BrokenPipe`; EMSGSIZE; ECONNREFUSED once when a datagram socket's peer has closed; those of
    /// [`try_connect`](Self::try_connect) for a destination that is named.
    pub fn try_send(&self, to: Option<&[u8]>, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        attempt(self.epoch, |net, _| net.unix_send(self.id, to, bytes))
    }

    /// Sends when there is room. Of a stream it may take less than all.
    pub fn poll_send(&self, cx: &mut Context<'_>, to: Option<&[u8]>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "room in a Unix socket",
            |net, _| net.unix_send(self.id, to, bytes),
            |net, waker| slot(&mut net.unix, self.id.index).writers.add(waker),
        )
    }

    /// Gives what waits to `put`, which may be called several times, without waiting.
    ///
    /// # Errors
    /// EAGAIN; EINVAL for a stream and ENOTCONN for a packet socket that is not connected; ECONNRESET once.
    pub fn try_recv(&self, how: Receive, put: impl FnMut(&[u8])) -> io::Result<Received> {
        attempt(self.epoch, |net, _| net.unix_receive(self.id, how, false, put))
    }

    /// Gives what waits to `put`: 0 bytes at an end.
    pub fn poll_recv(&self, cx: &mut Context<'_>, how: Receive, put: impl FnMut(&[u8])) -> Poll<io::Result<Received>> {
        poll(
            self.epoch,
            cx,
            "bytes from a Unix socket",
            |net, _| net.unix_receive(self.id, how, true, put),
            |net, waker| slot(&mut net.unix, self.id.index).readers.add(waker),
        )
    }

    /// Ends one or both directions.
    pub fn shutdown(&self, read: bool, write: bool) -> io::Result<()> {
        on(self.epoch, |net, _| net.unix_shutdown(self.id, read, write))
    }

    /// What epoll says of the socket. A datagram socket that is connected to a full one is woken when that has room.
    pub fn readiness(&self) -> io::Result<Readiness> {
        on(self.epoch, |net, _| {
            let [readable, writable, read_closed, write_closed, hang_up, error] = net.unix_ready(self.id)?;
            Ok(Readiness { readable, writable, read_closed, write_closed, hang_up, error })
        })
    }

    /// Its name; empty if it has none.
    pub fn name(&self) -> io::Result<Rc<[u8]>> {
        on(self.epoch, |net, _| net.unix_name(self.id))
    }

    /// Its peer's name, also after the peer has closed.
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn peer_name(&self) -> io::Result<Rc<[u8]>> {
        on(self.epoch, |net, _| net.unix_peer_name(self.id))
    }

    /// Who made its peer (SO_PEERCRED); `None` if it has none, for which Linux says pid 0 and ids of -1.
    pub fn peer_owner(&self) -> io::Result<Option<Credentials>> {
        on(self.epoch, |net, _| net.unix_peer_owner(self.id))
    }

    /// Stream, datagram or packet (SO_TYPE).
    pub fn kind(&self) -> io::Result<UnixKind> {
        on(self.epoch, |net, _| net.unix_kind(self.id))
    }

    /// Whether it listens (SO_ACCEPTCONN).
    pub fn is_listening(&self) -> io::Result<bool> {
        on(self.epoch, |net, _| net.unix_listens(self.id))
    }

    /// Takes a pending error (SO_ERROR).
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        on(self.epoch, |net, _| net.take_unix_error(self.id)).map(|e| e.map(super::error))
    }

    /// Bytes that wait to be read (FIONREAD): of a connection all, else those of the next message. EINVAL for a listener.
    pub fn unread(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.unix_unread(self.id))
    }

    /// The send buffer as Linux gives it back: twice what was set.
    pub fn send_buffer(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.unix_send_buffer(self.id).copied())
    }

    /// Sets the send buffer to twice `bytes`, within Linux' limits (`wmem_max`, SOCK_MIN_SNDBUF).
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        on(self.epoch, |net, _| net.unix_send_buffer(self.id).map(|b| *b = (bytes.min(212_992) * 2).max(4_608)))
    }

    /// Sets the observer: woken at every message and end, at room, and at every change of state, until it is replaced.
    pub fn observe(&self, observer: Waker) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.unix_kind(self.id)?;
            slot(&mut net.unix, self.id.index).observe(observer);
            Ok(())
        })
    }

    /// Takes the observer away.
    pub fn unobserve(&self) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.unix_kind(self.id)?;
            slot(&mut net.unix, self.id.index).unobserve();
            Ok(())
        })
    }

    /// What the observer was woken for since the last call.
    pub fn take_news(&self) -> io::Result<News> {
        on(self.epoch, |net, _| {
            net.unix_kind(self.id)?;
            Ok(slot(&mut net.unix, self.id.index).take_news())
        })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        on_drop(self.epoch, |net: &mut Net, _: &mut DeviceCx<'_>| {
            if net.unix_kind(self.id).is_ok() {
                slot(&mut net.unix, self.id.index).clear();
                net.unix_close(self.id);
            }
        });
    }
}

/// Frees the path of a socket on the acting node, as unlinking its file does: whoever is bound there stays so, and nobody
/// finds it any more. False if no socket was bound there.
pub fn unix_unlink(path: &[u8]) -> io::Result<bool> {
    within(|net, node, _| Ok(net.unix_unlink(node, path)))
}

/// Whether a path of the acting node is that of a socket's file.
pub fn unix_is_bound(path: &[u8]) -> io::Result<bool> {
    within(|net, node, _| Ok(net.unix_is_bound(node, path)))
}
