//! Addresses as programs write them. Names resolve at once: the simulated name table stands for `/etc/hosts`.

use super::invalid;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What sockets can be bound and connected to: addresses, and names of machines with a port, as in `"kv0:7000"`.
///
/// Sealed, as tokio's.
pub trait ToSocketAddrs: sealed::Resolve {}

impl<T: sealed::Resolve + ?Sized> ToSocketAddrs for T {}

/// The addresses of `host`, IPv4 first.
///
/// # Errors
/// The error of `getaddrinfo` for a name that nobody has; `InvalidInput` for text that is no name and port.
///
/// # Panics
/// For a name, outside a run.
pub async fn lookup_host<T: ToSocketAddrs>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>> {
    resolve(host)
}

#[inline]
pub(super) fn resolve<T: ToSocketAddrs>(addrs: T) -> io::Result<Addrs> {
    addrs.resolve()
}

/// Mostly one address, which takes no memory.
pub enum Addrs {
    One(Option<SocketAddr>),
    Many(std::vec::IntoIter<SocketAddr>),
}

impl Iterator for Addrs {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Addrs::One(addr) => addr.take(),
            Addrs::Many(addrs) => addrs.next(),
        }
    }
}

mod sealed {
    use super::Addrs;
    use std::io;

    pub trait Resolve {
        fn resolve(&self) -> io::Result<Addrs>;
    }
}

use sealed::Resolve;

impl<T: Resolve + ?Sized> Resolve for &T {
    fn resolve(&self) -> io::Result<Addrs> {
        (**self).resolve()
    }
}

impl Resolve for SocketAddr {
    fn resolve(&self) -> io::Result<Addrs> {
        Ok(Addrs::One(Some(*self)))
    }
}

impl Resolve for SocketAddrV4 {
    fn resolve(&self) -> io::Result<Addrs> {
        SocketAddr::V4(*self).resolve()
    }
}

impl Resolve for SocketAddrV6 {
    fn resolve(&self) -> io::Result<Addrs> {
        SocketAddr::V6(*self).resolve()
    }
}

impl Resolve for (IpAddr, u16) {
    fn resolve(&self) -> io::Result<Addrs> {
        SocketAddr::from(*self).resolve()
    }
}

impl Resolve for (Ipv4Addr, u16) {
    fn resolve(&self) -> io::Result<Addrs> {
        SocketAddr::from(*self).resolve()
    }
}

impl Resolve for (Ipv6Addr, u16) {
    fn resolve(&self) -> io::Result<Addrs> {
        SocketAddr::from(*self).resolve()
    }
}

impl Resolve for [SocketAddr] {
    fn resolve(&self) -> io::Result<Addrs> {
        Ok(Addrs::Many(Vec::from(self).into_iter()))
    }
}

impl Resolve for (&str, u16) {
    fn resolve(&self) -> io::Result<Addrs> {
        let (host, port) = *self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return (ip, port).resolve();
        }
        let addrs: Vec<SocketAddr> = sim_net::lookup(host)?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Ok(Addrs::Many(addrs.into_iter()))
    }
}

impl Resolve for (String, u16) {
    fn resolve(&self) -> io::Result<Addrs> {
        (self.0.as_str(), self.1).resolve()
    }
}

impl Resolve for str {
    fn resolve(&self) -> io::Result<Addrs> {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return addr.resolve();
        }
        // Split and refused as std's ToSocketAddrs for str does.
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        let port: u16 = port.parse().map_err(|_| invalid("invalid port value"))?;
        (host, port).resolve()
    }
}

impl Resolve for String {
    fn resolve(&self) -> io::Result<Addrs> {
        self.as_str().resolve()
    }
}
