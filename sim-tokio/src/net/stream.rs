//! TCP connections.

use super::split::{ReadHalf, WriteHalf};
use super::split_owned::{OwnedReadHalf, OwnedWriteHalf};
use super::{ToSocketAddrs, each_addr, poll_interest, split_owned};
use bytes::BufMut;
use real::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// A TCP stream between two simulated machines, or within one.
#[derive(Debug)]
pub struct TcpStream {
    inner: sim_net::TcpStream,
}

impl TcpStream {
    pub(super) fn new(inner: sim_net::TcpStream) -> TcpStream {
        TcpStream { inner }
    }

    /// Connects to the first of these addresses that answers.
    ///
    /// # Errors
    /// `ConnectionRefused` where nobody listens; `HostUnreachable` where no machine is, after three seconds;
    /// `NetworkUnreachable` where no route leads; `TimedOut` after 127 s without an answer.
    ///
    /// # Panics
    /// Outside the machines.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, async |addr| TcpStream::finish(sim_net::TcpStream::connect(addr)?).await).await
    }

    /// Waits until a connection under way is established.
    pub(super) async fn finish(inner: sim_net::TcpStream) -> io::Result<TcpStream> {
        poll_fn(|cx| inner.poll_connected(cx)).await?;
        Ok(TcpStream::new(inner))
    }

    pub(super) fn inner(&self) -> &sim_net::TcpStream {
        &self.inner
    }

    /// Ends the direction from here. One that has ended on both sides is no error, as tokio has it.
    pub(super) fn end_write(&self) -> io::Result<()> {
        match self.inner.shutdown_write() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// The error that broke the stream, if no call has told it yet.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    /// Looks at what can be read without taking it.
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_peek_with(cx, buf.remaining(), |bytes| buf.put_slice(bytes))
    }

    /// Looks at what can be read without taking it. Cancel safe.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_peek(cx, &mut ReadBuf::new(buf))).await
    }

    /// Waits until one of the directions asked for is ready. Cancel safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let poll = |cx: &mut Context<'_>| {
            let read = |cx: &mut Context<'_>| self.inner.poll_read_ready(cx);
            poll_interest(interest, cx, read, |cx| self.inner.poll_write_ready(cx))
        };
        let mut ready = poll_fn(poll).await?;
        let now = self.inner.readiness()?;
        if now.read_closed && interest.is_readable() {
            ready |= Ready::READ_CLOSED;
        }
        if now.write_closed && interest.is_writable() {
            ready |= Ready::WRITE_CLOSED;
        }
        Ok(ready)
    }

    /// Waits until there is something to read. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_read_ready(cx)).await
    }

    /// Polls for something to read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_ready(cx)
    }

    /// Waits until there is room to write. Cancel safe.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_write_ready(cx)).await
    }

    /// Polls for room to write.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_write_ready(cx)
    }

    /// Reads what is there; `WouldBlock` if there is nothing.
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(buf)
    }

    /// Reads what is there into several buffers.
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.try_read_vectored(bufs)
    }

    /// Reads what is there into `buf`, advancing it.
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        let room = buf.chunk_mut().len();
        self.inner.try_read_with(room, |bytes| buf.put_slice(bytes))
    }

    /// Writes what there is room for; `WouldBlock` if there is none.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.try_write(buf)
    }

    /// Writes several buffers, as far as there is room.
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write_vectored(bufs)
    }

    /// TCP_NODELAY as it was set. Nagle's algorithm is not modelled: every write is sent at once.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.inner.options()?.nodelay)
    }

    /// Keeps TCP_NODELAY.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.inner.set_options(|o| o.nodelay = nodelay)
    }

    /// SO_LINGER as it was set.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.inner.options()?.linger)
    }

    /// Sets SO_LINGER. Zero lets a close send RST; anything else changes nothing, as closing never waits.
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.inner.set_options(|o| o.linger = dur)
    }

    /// Lets a close send RST.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// IP_TTL as it was set. No simulated link counts hops.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.inner.options()?.ttl)
    }

    /// Keeps IP_TTL.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_options(|o| o.ttl = ttl)
    }

    /// A half for reading and one for writing, borrowed.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        (ReadHalf(self), WriteHalf(self))
    }

    /// A half for reading and one for writing, which may go to different tasks.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split_owned::split(self)
    }

    #[inline]
    pub(super) fn read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_with(cx, buf.remaining(), |bytes| buf.put_slice(bytes)).map_ok(|_| ())
    }
}

impl AsyncRead for TcpStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.read(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is under way already.
    #[inline]
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end_write())
    }
}
