//! UDP sockets.

use super::{ToSocketAddrs, each_addr, invalid, poll_interest, resolve};
use bytes::BufMut;
use real::io::{Interest, ReadBuf, Ready};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, ready};

/// Where a sender's address is put.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A UDP socket.
///
/// # Simulation
/// Sending never waits. What does not fit into the receiver's buffer is dropped, as on Linux.
#[derive(Debug)]
pub struct UdpSocket {
    inner: sim_net::UdpSocket,
}

impl UdpSocket {
    /// Binds to the first of these addresses that can be bound; port 0 for the next ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` for an address of another machine; what resolving the name gave.
    ///
    /// # Panics
    /// Outside the machines.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        each_addr(addr, async |addr| Ok(UdpSocket { inner: sim_net::UdpSocket::bind(addr)? })).await
    }

    /// Where it is bound; once connected, with the address it sends from.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Whom it is connected to.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// Sets the default destination, and receives from there only.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_addr(addr, async |addr| self.inner.connect(addr)).await
    }

    /// Waits until one of the directions asked for is ready. Cancel safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let poll = |cx: &mut Context<'_>| {
            let read = |cx: &mut Context<'_>| self.inner.poll_recv_ready(cx);
            poll_interest(interest, cx, read, |_| Poll::Ready(Ok(())))
        };
        poll_fn(poll).await
    }

    /// Ready at once: sending never waits.
    pub async fn writable(&self) -> io::Result<()> {
        Ok(())
    }

    /// Ready at once: sending never waits.
    pub fn poll_send_ready(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends to the connected peer.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.send(None, buf)
    }

    /// Sends to the connected peer.
    pub fn poll_send(&self, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.inner.send(None, buf))
    }

    /// Sends to the connected peer.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.send(None, buf)
    }

    /// Sends to the first of these addresses.
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], target: A) -> io::Result<usize> {
        let target = resolve(target)?.next().ok_or_else(|| invalid("no addresses to send data to"))?;
        self.inner.send(Some(target), buf)
    }

    /// Sends to `target`.
    pub fn poll_send_to(&self, _cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        Poll::Ready(self.inner.send(Some(target), buf))
    }

    /// Sends to `target`.
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.inner.send(Some(target), buf)
    }

    /// Waits until a datagram can be received. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_recv_ready(cx)).await
    }

    /// Polls for a datagram.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_recv_ready(cx)
    }

    /// Receives a datagram, cut to the buffer's length. Cancel safe.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(poll_fn(|cx| self.inner.poll_recv(cx, buf)).await?.0)
    }

    /// Polls for a datagram.
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(|_| ())
    }

    /// Receives a datagram; `WouldBlock` if there is none.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.inner.try_recv(buf)?.0)
    }

    /// Receives a datagram into `buf`, advancing it; `WouldBlock` if there is none.
    pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        Ok(self.try_recv_buf_from(buf)?.0)
    }

    /// Receives a datagram into `buf`, advancing it. Cancel safe.
    pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        Ok(self.recv_buf_from(buf).await?.0)
    }

    /// Receives a datagram into `buf`, advancing it; `WouldBlock` if there is none.
    pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let (room, mut from) = (buf.chunk_mut().len(), NOBODY);
        let put = |bytes: &[u8], sender| {
            buf.put_slice(bytes);
            from = sender;
        };
        Ok((self.inner.try_recv_with(room, put)?, from))
    }

    /// Receives a datagram into `buf`, advancing it. Cancel safe.
    pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let poll = |cx: &mut Context<'_>| {
            let (room, mut from) = (buf.chunk_mut().len(), NOBODY);
            let put = |bytes: &[u8], sender| {
                buf.put_slice(bytes);
                from = sender;
            };
            let n = ready!(self.inner.poll_recv_with(cx, room, put))?;
            Poll::Ready(Ok((n, from)))
        };
        poll_fn(poll).await
    }

    /// Receives a datagram and its sender's address. Cancel safe.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.inner.poll_recv(cx, buf)).await
    }

    /// Polls for a datagram and its sender's address.
    pub fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        let (room, mut from) = (buf.remaining(), NOBODY);
        let put = |bytes: &[u8], sender| {
            buf.put_slice(bytes);
            from = sender;
        };
        ready!(self.inner.poll_recv_with(cx, room, put))?;
        Poll::Ready(Ok(from))
    }

    /// Receives a datagram and its sender's address; `WouldBlock` if there is none.
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.try_recv(buf)
    }

    /// Looks at the next datagram. Cancel safe.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.peek_from(buf).await?.0)
    }

    /// Polls for a look at the next datagram.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_peek_from(cx, buf).map_ok(|_| ())
    }

    /// Looks at the next datagram; `WouldBlock` if there is none.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.inner.try_peek(buf)?.0)
    }

    /// Looks at the next datagram and its sender's address. Cancel safe.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.inner.poll_peek(cx, buf)).await
    }

    /// Polls for a look at the next datagram and its sender's address.
    pub fn poll_peek_from(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>> {
        let (room, mut from) = (buf.remaining(), NOBODY);
        let put = |bytes: &[u8], sender| {
            buf.put_slice(bytes);
            from = sender;
        };
        ready!(self.inner.poll_peek_with(cx, room, put))?;
        Poll::Ready(Ok(from))
    }

    /// Looks at the next datagram and its sender's address; `WouldBlock` if there is none.
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.try_peek(buf)
    }

    /// Who sent the next datagram. Cancel safe.
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        Ok(self.peek_from(&mut []).await?.1)
    }

    /// Polls for who sent the next datagram.
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        self.poll_peek_from(cx, &mut ReadBuf::new(&mut []))
    }

    /// Who sent the next datagram; `WouldBlock` if there is none.
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.try_peek(&mut [])?.1)
    }

    /// SO_BROADCAST as it was set.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.inner.broadcast()
    }

    /// Sets SO_BROADCAST: without it a broadcast is refused, with it nobody is reached.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.inner.set_broadcast(on)
    }

    /// IP_TTL as it was set. No simulated link counts hops.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.ttl()
    }

    /// Keeps IP_TTL.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_ttl(ttl)
    }

    /// The error that a datagram sent earlier came to, if no call has told it yet.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }
}
