//! TCP and UDP of the simulated machine the program runs on, in tokio's shape.
//!
//! # Simulation
//! A peer on another machine is one simulated link away; what links do, and what is not modelled, says `sim_net`. Bound
//! and connected sockets belong to the machine that made them. Outside the machines, in the body of a `#[sim::test]`,
//! there is no address: binding and connecting panic there and name the remedy.
//!
//! Absent, so that it fails to compile: Unix sockets, `from_std`, `into_std` and file descriptors, `try_io` and
//! `async_io` (they run a system call of the caller's), buffer sizes, keep-alive, type of service, devices, multicast.

mod addr;
mod listener;
mod socket;
mod split;
mod split_owned;
mod stream;
mod udp;

pub use addr::{ToSocketAddrs, lookup_host};
pub use listener::TcpListener;
pub use socket::TcpSocket;
pub use stream::TcpStream;
pub use udp::UdpSocket;

/// The halves of a [`TcpStream`].
pub mod tcp {
    pub use super::split::{ReadHalf, WriteHalf};
    pub use super::split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
}

use addr::resolve;
use real::io::{Interest, Ready};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// The first address for which `f` succeeds, else the last error.
async fn each_addr<T>(addrs: impl ToSocketAddrs, mut f: impl AsyncFnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let mut last = None;
    for addr in resolve(addrs)? {
        match f(addr).await {
            Ok(value) => return Ok(value),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| invalid("could not resolve to any address")))
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Ready when one of the directions asked for is. `Poll::Pending` leaves the waker with all of them.
fn poll_interest(
    interest: Interest,
    cx: &mut Context<'_>,
    read: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<()>>,
    write: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<Ready>> {
    let mut ready = Ready::EMPTY;
    if interest.is_readable() && read(cx)?.is_ready() {
        ready |= Ready::READABLE;
    }
    if interest.is_writable() && write(cx)?.is_ready() {
        ready |= Ready::WRITABLE;
    }
    if ready.is_empty() { Poll::Pending } else { Poll::Ready(Ok(ready)) }
}
