//! Listening for TCP connections.

use super::socket::bound;
use super::{TcpStream, ToSocketAddrs, each_addr};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

/// tokio's backlog.
const BACKLOG: u32 = 1024;

/// A TCP socket server.
#[derive(Debug)]
pub struct TcpListener {
    inner: sim_net::TcpListener,
}

impl TcpListener {
    pub(super) fn new(inner: sim_net::TcpListener) -> TcpListener {
        TcpListener { inner }
    }

    /// Listens at the first of these addresses that can be bound; port 0 for the next ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse`; `AddrNotAvailable` for an address of another machine; what resolving the name gave.
    ///
    /// # Panics
    /// Outside the machines.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        let bind = async |addr| Ok(TcpListener::new(bound(addr, true)?.listen(BACKLOG)?));
        each_addr(addr, bind).await
    }

    /// The next connection. Cancel safe: a dropped future takes none.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Polls for the next connection. All tasks that wait are woken, not the last one alone.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
        Poll::Ready(Ok((TcpStream::new(stream), peer)))
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// IP_TTL as it was set. No simulated link counts hops.
    pub fn ttl(&self) -> io::Result<u32> {
        self.inner.ttl()
    }

    /// Keeps IP_TTL.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.set_ttl(ttl)
    }
}
