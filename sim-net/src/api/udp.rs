//! UDP handles.

use super::{Readiness, as_node, attempt, on, on_drop, poll, slot};
use crate::model::{BindOptions, Id};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker, ready};

/// Where a sender's address is put.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Puts a datagram into a slice and its sender beside it. Addresses go out this way and not through nested results,
/// whose repeated copies cost more than everything else a receive does.
fn noting<'a>(out: &'a mut [u8], from: &'a mut SocketAddr) -> impl FnOnce(&[u8], SocketAddr) + 'a {
    |bytes, sender| {
        out[..bytes.len()].copy_from_slice(bytes);
        *from = sender;
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    id: Id,
    epoch: u32,
}

impl UdpSocket {
    /// Binds a socket of the acting node; port 0 for the next ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` for an address of another machine; ENETDOWN for a dead program.
    ///
    /// # Panics
    /// Outside the machines.
    pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind_with(addr, BindOptions::default())
    }

    /// The same, sharing the address with others where `how` on both sides allows it.
    pub fn bind_with(addr: SocketAddr, how: BindOptions) -> io::Result<UdpSocket> {
        as_node("UdpSocket::bind", |net, node, cx| {
            Ok(UdpSocket { id: net.bind_udp(node, addr, how, cx)?, epoch: net.epoch })
        })
    }

    /// Sets the default destination, and receives from there only.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        on(self.epoch, |net, cx| net.connect_udp(self.id, to, cx))
    }

    /// Has no default destination any more, and receives from everywhere (`connect` with AF_UNSPEC).
    pub fn disconnect(&self) -> io::Result<()> {
        on(self.epoch, |net, _| net.disconnect_udp(self.id))
    }

    /// Ends one or both directions: reads that would wait give 0 bytes, sends give `BrokenPipe`.
    ///
    /// # Errors
    /// ENOTCONN for a socket that is not connected; it is shut down all the same, as on Linux.
    pub fn shutdown(&self, read: bool, write: bool) -> io::Result<()> {
        // The effects of a failed call count, too.
        on(self.epoch, |net, _| Ok(net.shutdown_udp(self.id, read, write)))?.map_err(super::error)
    }

    /// Sends a datagram, to the connected peer if `to` is not given. Never waits.
    ///
    /// # Errors
    /// EMSGSIZE above 65,507 bytes; EDESTADDRREQ without a destination; `ConnectionRefused` if an earlier datagram of a
    /// connected socket found nobody; `NetworkUnreachable` where no route leads.
    #[inline]
    pub fn send(&self, to: Option<SocketAddr>, bytes: &[u8]) -> io::Result<usize> {
        on(self.epoch, |net, cx| net.send(self.id, to, bytes, cx))
    }

    /// Takes the next datagram; what does not fit in `out` is cut off.
    #[inline]
    pub fn poll_recv(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut from = NOBODY;
        let n = ready!(self.poll_recv_with(cx, out.len(), noting(out, &mut from)))?;
        Poll::Ready(Ok((n, from)))
    }

    /// Gives the next datagram to `put`, cut to `room` bytes. With room for everything, `put` sees the whole of it and can
    /// tell how much it leaves out (MSG_TRUNC).
    #[inline]
    pub fn poll_recv_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        put: impl FnOnce(&[u8], SocketAddr),
    ) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "a UDP datagram",
            |net, _| Ok(net.receive(self.id, room, put)?.or(net.udp_shut(self.id)?[0].then_some(0))),
            |net, waker| slot(&mut net.sockets, self.id.index).readers.add(waker),
        )
    }

    /// Looks at the next datagram.
    pub fn poll_peek(&self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut from = NOBODY;
        let n = ready!(self.poll_peek_with(cx, out.len(), noting(out, &mut from)))?;
        Poll::Ready(Ok((n, from)))
    }

    /// Gives the next datagram to `put` without taking it.
    #[inline]
    pub fn poll_peek_with(
        &self,
        cx: &mut Context<'_>,
        room: usize,
        put: impl FnOnce(&[u8], SocketAddr),
    ) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "a UDP datagram",
            |net, _| net.peek_datagram(self.id, room, put),
            |net, waker| slot(&mut net.sockets, self.id.index).readers.add(waker),
        )
    }

    /// Ready when a datagram or an error waits.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll(
            self.epoch,
            cx,
            "a UDP datagram",
            |net, _| Ok(net.received(self.id)?.then_some(())),
            |net, waker| slot(&mut net.sockets, self.id.index).readers.add(waker),
        )
    }

    /// Takes the next datagram without waiting.
    pub fn try_recv(&self, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut from = NOBODY;
        Ok((self.try_recv_with(out.len(), noting(out, &mut from))?, from))
    }

    /// Gives the next datagram to `put`, cut to `room` bytes, without waiting.
    pub fn try_recv_with(&self, room: usize, put: impl FnOnce(&[u8], SocketAddr)) -> io::Result<usize> {
        attempt(self.epoch, |net, _| net.receive(self.id, room, put))
    }

    /// The same, and whether another datagram or an error waits.
    pub fn try_recv_on(&self, room: usize, put: impl FnOnce(&[u8], SocketAddr)) -> io::Result<(usize, bool)> {
        attempt(self.epoch, |net, _| match net.receive(self.id, room, put)? {
            Some(n) => Ok(Some((n, net.received(self.id)?))),
            None => Ok(None),
        })
    }

    /// Gives the next datagram to `put` without taking it and without waiting.
    pub fn try_peek_with(&self, room: usize, put: impl FnOnce(&[u8], SocketAddr)) -> io::Result<usize> {
        attempt(self.epoch, |net, _| net.peek_datagram(self.id, room, put))
    }

    /// Looks at the next datagram without waiting.
    pub fn try_peek(&self, out: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let mut from = NOBODY;
        let n = attempt(self.epoch, |net, _| net.peek_datagram(self.id, out.len(), noting(out, &mut from)))?;
        Ok((n, from))
    }

    /// Where it is bound; once connected, with the address it sends from.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, _| net.udp_addr(self.id))
    }

    /// Whom it is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        on(self.epoch, |net, _| net.udp_peer(self.id))
    }

    /// Takes a pending error.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        on(self.epoch, |net, _| net.take_udp_error(self.id)).map(|e| e.map(super::error))
    }

    /// What epoll says of the socket. It is always writable.
    pub fn readiness(&self) -> io::Result<Readiness> {
        on(self.epoch, |net, _| {
            let error = net.udp_error(self.id)?.is_some();
            let [read_closed, write_closed] = net.udp_shut(self.id)?;
            let hang_up = read_closed && write_closed;
            Ok(Readiness {
                // An error alone gives nothing to read (Linux, udp_poll()).
                readable: read_closed || net.unread_datagrams(self.id)?,
                writable: true,
                read_closed,
                write_closed,
                hang_up,
                error,
            })
        })
    }

    /// Whether an error waits for SO_ERROR.
    pub fn has_error(&self) -> io::Result<bool> {
        on(self.epoch, |net, _| Ok(net.udp_error(self.id)?.is_some()))
    }

    /// Sets the observer: woken at every datagram and every error, until it is replaced.
    pub fn observe(&self, observer: Waker) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.udp_addr(self.id)?;
            slot(&mut net.sockets, self.id.index).observe(observer);
            Ok(())
        })
    }

    /// Takes the observer away.
    pub fn unobserve(&self) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.udp_addr(self.id)?;
            slot(&mut net.sockets, self.id.index).unobserve();
            Ok(())
        })
    }

    /// The length of the next datagram, 0 if there is none (FIONREAD).
    pub fn unread(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.udp_unread(self.id))
    }

    /// Bytes that it holds for its reader, if set (SO_RCVBUF).
    pub fn receive_buffer(&self) -> io::Result<Option<u32>> {
        on(self.epoch, |net, _| net.udp_receive_buffer(self.id).copied())
    }

    /// Sets how many bytes it holds for its reader; what exceeds them is dropped.
    pub fn set_receive_buffer(&self, bytes: Option<u32>) -> io::Result<()> {
        on(self.epoch, |net, _| net.udp_receive_buffer(self.id).map(|b| *b = bytes))
    }

    /// IP_TTL, as it was set.
    pub fn ttl(&self) -> io::Result<u32> {
        on(self.epoch, |net, _| net.udp_ttl(self.id).copied())
    }

    /// Keeps IP_TTL; no link counts hops.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        on(self.epoch, |net, _| net.udp_ttl(self.id).map(|t| *t = ttl))
    }

    /// SO_BROADCAST, as it was set.
    pub fn broadcast(&self) -> io::Result<bool> {
        on(self.epoch, |net, _| net.udp_broadcast(self.id).copied())
    }

    /// Keeps SO_BROADCAST: without it a broadcast is refused, with it nobody is reached.
    pub fn set_broadcast(&self, yes: bool) -> io::Result<()> {
        on(self.epoch, |net, _| net.udp_broadcast(self.id).map(|b| *b = yes))
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        on_drop(self.epoch, |net, _| {
            if net.udp_addr(self.id).is_ok() {
                slot(&mut net.sockets, self.id.index).clear();
                net.close_udp(self.id);
            }
        });
    }
}
