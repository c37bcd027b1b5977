//! TCP handles.

use super::wakers::Watch;
use super::{Net, News, Readiness, as_node, attempt, filling, on, on_drop, poll, slot};
use crate::model::{Attempt, BindOptions, Errno, Id, Standing, StreamId, StreamState, TcpOptions};
use sim_core::DeviceCx;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

/// A bound TCP socket that neither listens nor connects yet.
#[derive(Debug)]
pub struct TcpBound {
    id: Id,
    epoch: u32,
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct TcpListener {
    id: Id,
    epoch: u32,
}

/// One side of a TCP connection, connecting or connected. Reading and writing may be done by different tasks.
#[derive(Debug)]
pub struct TcpStream {
    id: StreamId,
    epoch: u32,
}

impl TcpBound {
    /// Binds a socket of the acting node; port 0 for the next ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` for an address of another machine; ENETDOWN for a dead program.
    ///
    /// # Panics
    /// Outside the machines.
    pub fn bind(addr: SocketAddr) -> io::Result<TcpBound> {
        TcpBound::bind_with(addr, BindOptions::default())
    }

    /// The same, sharing the address with others where `how` on both sides allows it.
    pub fn bind_with(addr: SocketAddr, how: BindOptions) -> io::Result<TcpBound> {
        as_node("TcpListener::bind", |net, node, cx| {
            Ok(TcpBound { id: net.bind_tcp(node, addr, how, cx)?, epoch: net.epoch })
        })
    }

    /// The options of the stream, or of the streams of the listener, that comes from it.
    pub fn options(&self) -> io::Result<TcpOptions> {
        on(self.epoch, |net, _| net.listener_options(self.id).copied())
    }

    /// Changes them.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        on(self.epoch, |net, _| net.listener_options(self.id).map(change))
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, _| net.listener_addr(self.id))
    }

    /// Listens. `backlog` + 1 connections may wait to be accepted; SYNs of more are dropped.
    ///
    /// # Errors
    /// `AddrInUse` if a socket that shares the address listens already; the socket stays bound then.
    pub fn try_listen(self, backlog: u32) -> Result<TcpListener, (TcpBound, io::Error)> {
        let (id, epoch) = (self.id, self.epoch);
        match on(epoch, |net, cx| net.listen(id, backlog, cx)) {
            Ok(()) => {
                std::mem::forget(self);
                Ok(TcpListener { id, epoch })
            }
            Err(error) => Err((self, error)),
        }
    }

    /// The same where a failure is the end of the socket.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.try_listen(backlog).map_err(|(_, error)| error)
    }

    /// Starts to connect from here.
    pub fn connect(self, to: SocketAddr) -> io::Result<TcpStream> {
        self.try_connect(to).map_err(|(_, error)| error)
    }

    /// The same, giving the socket back, still bound, if connecting cannot even begin.
    pub fn try_connect(self, to: SocketAddr) -> Result<TcpStream, (TcpBound, io::Error)> {
        let (id, epoch) = (self.id, self.epoch);
        let connecting =
            as_node("TcpSocket::connect", |net, node, cx| net.connect(node, Some(id), to, TcpOptions::default(), cx));
        match connecting {
            // The name of `self` is stale now, and its drop finds nothing.
            Ok(id) => Ok(TcpStream { id, epoch }),
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for TcpBound {
    fn drop(&mut self) {
        on_drop(self.epoch, |net, cx| net.close_listener(self.id, cx));
    }
}

impl TcpListener {
    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, _| net.listener_addr(self.id))
    }

    /// The next connection and its peer's address.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let epoch = self.epoch;
        poll(
            epoch,
            cx,
            "a TCP connection to accept",
            |net, cx| Ok(net.accept(self.id, cx)?.map(|(id, peer)| (TcpStream { id, epoch }, peer))),
            |net, waker| slot(&mut net.listeners, self.id.index).readers.add(waker),
        )
    }

    /// The same without waiting.
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let epoch = self.epoch;
        attempt(epoch, |net, cx| Ok(net.accept(self.id, cx)?.map(|(id, peer)| (TcpStream { id, epoch }, peer))))
    }

    /// Ready when a connection waits.
    pub fn poll_accept_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "a TCP connection to accept",
            |net, _| Ok(net.acceptable(self.id)?.then_some(())),
            |net, waker| slot(&mut net.listeners, self.id.index).readers.add(waker),
        )
    }

    /// What epoll says of a listener: readable when a connection waits.
    pub fn readiness(&self) -> io::Result<Readiness> {
        on(self.epoch, |net, _| Ok(Readiness { readable: net.acceptable(self.id)?, ..Readiness::default() }))
    }

    /// Sets the observer: woken at every connection that comes to the queue, until it is replaced.
    pub fn observe(&self, observer: Waker) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.listener_addr(self.id)?;
            slot(&mut net.listeners, self.id.index).observe(observer);
            Ok(())
        })
    }

    /// Takes the observer away.
    pub fn unobserve(&self) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.listener_addr(self.id)?;
            slot(&mut net.listeners, self.id.index).unobserve();
            Ok(())
        })
    }

    /// IP_TTL, as it was set.
    pub fn ttl(&self) -> io::Result<u32> {
        on(self.epoch, |net, _| Ok(net.listener_options(self.id)?.ttl))
    }

    /// Keeps IP_TTL; no link counts hops.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_options(|o| o.ttl = ttl)
    }

    /// The options that accepted streams begin with.
    pub fn options(&self) -> io::Result<TcpOptions> {
        on(self.epoch, |net, _| net.listener_options(self.id).copied())
    }

    /// Changes them, for streams whose handshake has not begun.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        on(self.epoch, |net, _| net.listener_options(self.id).map(change))
    }

    /// Stops listening, and stays bound (`shutdown` of a listener). Connections that nobody accepted are reset.
    pub fn stop(self) -> io::Result<TcpBound> {
        let (id, epoch) = (self.id, self.epoch);
        on(epoch, |net, cx| {
            net.stop_listening(id, cx)?;
            slot(&mut net.listeners, id.index).clear();
            Ok(())
        })?;
        std::mem::forget(self);
        Ok(TcpBound { id, epoch })
    }

    /// Listens a second time: `backlog` + 1 connections may wait from now on.
    pub fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        on(self.epoch, |net, cx| net.listen(self.id, backlog, cx))
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        on_drop(self.epoch, |net, cx| {
            if net.listener_addr(self.id).is_ok() {
                slot(&mut net.listeners, self.id.index).clear();
                net.close_listener(self.id, cx);
            }
        });
    }
}

impl TcpStream {
    /// Starts to connect from the acting node; [`poll_connected`](Self::poll_connected) says how it goes on.
    ///
    /// # Errors
    /// `NetworkUnreachable` where no route leads; `AddrNotAvailable` when no ephemeral port is left.
    ///
    /// # Panics
    /// Outside the machines.
    pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_with(to, TcpOptions::default())
    }

    /// The same with options that were set before.
    pub fn connect_with(to: SocketAddr, options: TcpOptions) -> io::Result<TcpStream> {
        as_node("TcpStream::connect", |net, node, cx| {
            Ok(TcpStream { id: net.connect(node, None, to, options, cx)?, epoch: net.epoch })
        })
    }

    /// Ready when connecting is done.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens, `HostUnreachable` where no machine is, `TimedOut` after 127 s without
    /// an answer.
    pub fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "a TCP connection to be established",
            |net, _| net.connected(self.id),
            |net, waker| self.watch(net).writers.add(waker),
        )
    }

    /// Reads what is there: 0 at the end of the stream.
    #[inline]
    pub fn poll_read(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, out.len(), filling(out))
    }

    /// Gives up to `room` bytes of what is there to `put`, which may be called several times.
    #[inline]
    pub fn poll_read_with(&self, cx: &mut Context<'_>, room: usize, put: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "bytes from a TCP stream",
            |net, cx| net.read(self.id, room, put, cx),
            |net, waker| self.watch(net).readers.add(waker),
        )
    }

    /// Looks at what is there.
    pub fn poll_peek_with(&self, cx: &mut Context<'_>, room: usize, put: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        self.poll_peek_from(cx, 0, room, put)
    }

    /// Looks at what is there behind the next `offset` bytes (SO_PEEK_OFF).
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        offset: usize,
        room: usize,
        put: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "bytes from a TCP stream",
            |net, _| net.peek(self.id, offset, room, put),
            |net, waker| self.watch(net).readers.add(waker),
        )
    }

    /// Writes as much as there is room for.
    #[inline]
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// Writes as much as there is room for, the slices one after the other.
    #[inline]
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "room in a TCP stream",
            |net, cx| self.write(net, bytes, cx),
            |net, waker| self.watch(net).writers.add(waker),
        )
    }

    /// Ready when a read would not wait.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "bytes from a TCP stream",
            |net, _| Ok(net.readable(self.id)?.then_some(())),
            |net, waker| self.watch(net).readers.add(waker),
        )
    }

    /// Ready when a write would not wait.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "room in a TCP stream",
            |net, cx| Ok(net.writable(self.id, cx)?.then_some(())),
            |net, waker| self.watch(net).writers.add(waker),
        )
    }

    /// Looks at what is there behind the next `offset` bytes, without waiting.
    pub fn try_peek_from(&self, offset: usize, room: usize, put: impl FnMut(&[u8])) -> io::Result<usize> {
        attempt(self.epoch, |net, _| net.peek(self.id, offset, room, put))
    }

    /// Reads without waiting.
    pub fn try_read(&self, out: &mut [u8]) -> io::Result<usize> {
        self.try_read_with(out.len(), filling(out))
    }

    /// Gives up to `room` bytes of what is there to `put`, without waiting.
    pub fn try_read_with(&self, room: usize, put: impl FnMut(&[u8])) -> io::Result<usize> {
        attempt(self.epoch, |net, cx| net.read(self.id, room, put, cx))
    }

    /// The same, and whether a read would give something again: more bytes, an end, or an error.
    pub fn try_read_on(&self, room: usize, put: impl FnMut(&[u8])) -> io::Result<(usize, bool)> {
        attempt(self.epoch, |net, cx| match net.read(self.id, room, put, cx)? {
            Some(n) => Ok(Some((n, net.readable(self.id)?))),
            None => Ok(None),
        })
    }

    /// Reads without waiting, filling the slices one after the other.
    pub fn try_read_vectored(&self, out: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = out.iter().map(|part| part.len()).sum();
        let (mut part, mut at) = (0, 0);
        self.try_read_with(room, |mut bytes| {
            while !bytes.is_empty() {
                let n = bytes.len().min(out[part].len() - at);
                out[part][at..at + n].copy_from_slice(&bytes[..n]);
                (bytes, at) = (&bytes[n..], at + n);
                if at == out[part].len() {
                    (part, at) = (part + 1, 0);
                }
            }
        })
    }

    /// Writes without waiting.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    /// Writes without waiting, the slices one after the other.
    pub fn try_write_vectored(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        attempt(self.epoch, |net, cx| self.write(net, bytes, cx))
    }

    /// Ends this side's direction; the peer reads an end after what was written.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.shutdown(false, true)
    }

    /// Ends one or both directions. After the reading one was, reads give what is there and what still comes, then 0.
    /// Shutting a stream down that is connecting gives the handshake up.
    ///
    /// # Errors
    /// ENOTCONN once the connection is closed.
    pub fn shutdown(&self, read: bool, write: bool) -> io::Result<()> {
        on(self.epoch, |net, cx| net.shutdown(self.id, read, write, cx))
    }

    /// Ready when the peer has acknowledged everything, the end too if there is one, or the connection is gone: what
    /// closing with SO_LINGER waits for.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "a TCP peer to acknowledge everything",
            |net, cx| Ok(net.drained(self.id, cx)?.then_some(())),
            |net, waker| self.watch(net).writers.add(waker),
        )
    }

    /// Where the connection stands: what `connect`, `getpeername` and TCP_INFO go by.
    pub fn state(&self) -> io::Result<StreamState> {
        on(self.epoch, |net, cx| net.stream_state(self.id, cx))
    }

    /// Bytes that wait to be read (FIONREAD).
    pub fn unread(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.unread(self.id))
    }

    /// Bytes that were written and are not acknowledged yet (SIOCOUTQ).
    pub fn unacknowledged(&self) -> io::Result<usize> {
        on(self.epoch, |net, cx| net.unacknowledged(self.id, cx))
    }

    /// Whether a read or a write would not wait, and whether each direction has ended: what epoll says.
    pub fn readiness(&self) -> io::Result<Readiness> {
        self.readiness_as(|readiness| readiness)
    }

    /// The same, in the caller's words.
    #[inline]
    pub fn readiness_as<R>(&self, words: impl FnOnce(Readiness) -> R) -> io::Result<R> {
        on(self.epoch, |net, cx| Ok(words(net.standing(self.id, cx)?.into())))
    }

    /// Sets the observer: woken at every arrival of bytes, at an end, a reset or an error, when connecting is done or has
    /// failed, and when there is room again after a write or [`readiness`](Self::readiness) found too little. It is woken
    /// also if nothing changed in what the socket is ready for, and stays until it is replaced.
    pub fn observe(&self, observer: Waker) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.stream_addrs(self.id)?;
            self.watch(net).observe(observer);
            Ok(())
        })
    }

    /// Takes the observer away.
    pub fn unobserve(&self) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.stream_addrs(self.id)?;
            self.watch(net).unobserve();
            Ok(())
        })
    }

    /// What the observer was woken for since the last call, and what can be done now.
    pub fn take_news(&self) -> io::Result<(News, Readiness)> {
        on(self.epoch, |net, cx| {
            let standing = net.standing(self.id, cx)?;
            Ok((self.watch(net).take_news(), standing.into()))
        })
    }

    #[inline]
    fn watch<'a>(&self, net: &'a mut Net) -> &'a mut Watch {
        &mut slot(&mut net.streams, self.id.connection.index)[self.id.side as usize]
    }

    /// Writes; an observed stream that took less than all remembers that somebody wants to hear of room, as SOCK_NOSPACE
    /// does: readers of edges count a short write as the last one before the next edge.
    #[inline]
    fn write(&self, net: &mut Net, bytes: &[IoSlice<'_>], cx: &mut DeviceCx<'_>) -> Attempt<usize> {
        let wrote = net.write(self.id, bytes, cx)?;
        if let Some(n) = wrote
            && self.watch(net).is_observed()
            && n < bytes.iter().map(|b| b.len()).sum()
        {
            net.writable(self.id, cx)?;
        }
        Ok(wrote)
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, _| Ok(net.stream_addrs(self.id)?[0]))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// ENOTCONN before the handshake is done and once the connection is closed.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, cx| match net.stream_state(self.id, cx)? {
            StreamState::Connected => Ok(net.stream_addrs(self.id)?[1]),
            StreamState::Connecting | StreamState::Closed => Err(Errno::ENOTCONN),
        })
    }

    /// Takes the error that broke the stream, if nobody was told yet.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        on(self.epoch, |net, _| net.take_stream_error(self.id)).map(|e| e.map(super::error))
    }

    /// The options, as they were set.
    pub fn options(&self) -> io::Result<TcpOptions> {
        on(self.epoch, |net, _| net.stream_options(self.id))
    }

    /// Changes options.
    pub fn set_options(&self, change: impl FnOnce(&mut TcpOptions)) -> io::Result<()> {
        on(self.epoch, |net, cx| net.set_stream_options(self.id, change, cx))
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        on_drop(self.epoch, |net, cx| {
            if net.stream_addrs(self.id).is_ok() {
                self.watch(net).clear();
                net.close_stream(self.id, cx);
            }
        });
    }
}

impl From<Standing> for Readiness {
    fn from(standing: Standing) -> Readiness {
        let Standing { readable, writable, read_ended, write_ended, error } = standing;
        let hang_up = read_ended && write_ended;
        Readiness { readable, writable, read_closed: read_ended, write_closed: write_ended, hang_up, error }
    }
}
