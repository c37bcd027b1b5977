//! TCP sockets before they listen or connect.

use super::{TcpListener, TcpStream};
use sim_net::{BindOptions, TcpBound};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A TCP socket that is neither a listener nor a stream yet.
#[derive(Debug)]
pub struct TcpSocket {
    v6: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bound: Option<TcpBound>,
    reuseaddr: bool,
    nodelay: bool,
    linger: Option<Duration>,
}

/// A TCP socket at this address.
pub(super) fn bound(addr: SocketAddr, reuse_addr: bool) -> io::Result<TcpBound> {
    TcpBound::bind_with(addr, BindOptions { reuse_addr, ..BindOptions::default() })
}

impl TcpSocket {
    /// An IPv4 socket.
    pub fn new_v4() -> io::Result<TcpSocket> {
        Ok(TcpSocket { v6: false, state: Mutex::default() })
    }

    /// An IPv6 socket.
    pub fn new_v6() -> io::Result<TcpSocket> {
        Ok(TcpSocket { v6: true, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// SO_REUSEADDR as it was set.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.state().reuseaddr)
    }

    /// Sets SO_REUSEADDR, for a bind to come: without it a port is in use while connections of an earlier listener are at
    /// it, and for a minute after this side closed them first (TIME_WAIT).
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.state().reuseaddr = reuseaddr;
        Ok(())
    }

    /// TCP_NODELAY as it was set.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.state().nodelay)
    }

    /// Sets TCP_NODELAY of the stream to come. Nagle's algorithm is not modelled.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.state().nodelay = nodelay;
        Ok(())
    }

    /// SO_LINGER as it was set.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.state().linger)
    }

    /// Sets SO_LINGER of the stream to come. Zero lets a close send RST.
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.state().linger = dur;
        Ok(())
    }

    /// Lets a close of the stream to come send RST.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.set_linger(Some(Duration::ZERO))
    }

    /// Where it is bound; the unspecified address if it is not.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.state().bound {
            Some(bound) => bound.local_addr(),
            None => Ok(self.any()),
        }
    }

    fn any(&self) -> SocketAddr {
        match self.v6 {
            true => (Ipv6Addr::UNSPECIFIED, 0).into(),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// Binds it; port 0 for the next ephemeral one.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable`; `InvalidInput` the second time; EAFNOSUPPORT for the other family.
    ///
    /// # Panics
    /// Outside the machines.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        let mut state = self.state();
        if state.bound.is_some() {
            return Err(io::Error::from_raw_os_error(sim_net::Errno::EINVAL.0));
        }
        self.check_family(addr)?;
        state.bound = Some(bound(addr, state.reuseaddr)?);
        Ok(())
    }

    fn check_family(&self, addr: SocketAddr) -> io::Result<()> {
        if addr.is_ipv6() == self.v6 {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(sim_net::Errno::EAFNOSUPPORT.0))
    }

    /// Connects, from where it is bound if it is. Errors are those of [`TcpStream::connect`].
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        self.check_family(addr)?;
        let state = self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let connecting = match state.bound {
            Some(bound) => bound.connect(addr)?,
            None => sim_net::TcpStream::connect(addr)?,
        };
        connecting.set_options(|o| (o.nodelay, o.linger) = (state.nodelay, state.linger))?;
        TcpStream::finish(connecting).await
    }

    /// Listens, at an ephemeral port if it is not bound. `backlog` + 1 connections may wait, as on Linux.
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        let any = self.any();
        let state = self.state.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bound = state.bound.map_or_else(|| bound(any, state.reuseaddr), Ok)?;
        Ok(TcpListener::new(bound.listen(backlog)?))
    }
}
