//! Sockets as system calls show them, over the devices of sim-net.
//!
//! What is kept here is what a kernel keeps beside its protocols: the life of a socket before it is bound or connected, its
//! options, which errors which call gives in which state, and where a call that blocks waits. Everything that travels is
//! the network's.
//!
//! What is deliberately absent: raw and packet sockets (EPERM, as for any program without CAP_NET_RAW), netlink (ends the
//! run as escaped: what it says about the real machine is nobody's business), SIGPIPE (Rust programs ignore it),
//! out-of-band data, and ancillary data other than what is ignored in good faith.

mod address;
pub(crate) mod calls;
mod options;
mod tcp;
mod udp;

pub use crate::descriptors::epoll::{EpollId, Idle, step};
use crate::descriptors::{Answer, Description, ERR, EVERY, Errno, HUP, IN, OUT, READ_HUP};
use address::{Address, Bytes};
use options::{Kind, Options};
use sim_core::{Instant, NodeId, World};
use sim_net::Readiness;
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Waker;
use tcp::Tcp;
use udp::Udp;

/// A socket of any kind.
pub(crate) struct Socket {
    kind: Kind,
    options: Cell<Options>,
    body: Body,
}

enum Body {
    Tcp(Tcp),
    Udp(Udp),
}

/// What a receive gave besides the bytes.
#[derive(Default)]
pub(crate) struct Received {
    /// As the call reports it: with MSG_TRUNC the whole length of a datagram.
    pub len: usize,
    /// A datagram was longer than there was room for.
    pub cut: bool,
    pub from: Option<Bytes>,
}

/// What epoll says, from what the network says.
fn bits(readiness: Readiness) -> u32 {
    let when = |yes, bits| if yes { bits } else { 0 };
    when(readiness.readable, IN)
        | when(readiness.writable, OUT)
        | when(readiness.read_closed, READ_HUP | IN)
        | when(readiness.hang_up, HUP)
        | when(readiness.error, ERR)
}

/// The node that acts has a network; the outside and a World without one have not.
fn on_a_machine(world: &World, call: &str) -> Answer<()> {
    if world.acting_node() == NodeId::OUTSIDE {
        let what = format!("{call} outside the machines, where there is no address");
        crate::interpose::escape(world, what);
        return Err(Errno(libc::ENETDOWN));
    }
    if !world.has_device::<sim_net::Net>() {
        return Err(Errno(libc::EAFNOSUPPORT));
    }
    Ok(())
}

/// `addr` in the family of a socket, if it has a place there.
fn in_family(kind: Kind, addr: SocketAddr) -> Answer<SocketAddr> {
    if (kind.family == libc::AF_INET6) == addr.is_ipv6() { Ok(addr) } else { Err(Errno(libc::EAFNOSUPPORT)) }
}

fn nowhere(kind: Kind) -> SocketAddr {
    match kind.family {
        libc::AF_INET6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

/// Puts bytes into buffers, one part after the other.
fn filling<'a>(into: &'a mut [IoSliceMut<'_>]) -> impl FnMut(&[u8]) + 'a {
    let (mut part, mut at) = (0, 0);
    move |mut bytes| {
        while !bytes.is_empty() && part < into.len() {
            let n = bytes.len().min(into[part].len() - at);
            into[part][at..at + n].copy_from_slice(&bytes[..n]);
            (bytes, at) = (&bytes[n..], at + n);
            if at == into[part].len() {
                (part, at) = (part + 1, 0);
            }
        }
    }
}

fn room(into: &[IoSliceMut<'_>]) -> usize {
    into.iter().map(|part| part.len()).sum()
}

impl Socket {
    /// socket(2), after its flags were taken off.
    pub(crate) fn new(world: &World, family: i32, kind: i32, protocol: i32) -> Answer<Socket> {
        const PROTOCOL: Errno = Errno(libc::EPROTONOSUPPORT);
        let body = match (family, kind) {
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) => match protocol {
                0 | libc::IPPROTO_TCP => Body::Tcp(Tcp::default()),
                _ => return Err(PROTOCOL),
            },
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => match protocol {
                0 | libc::IPPROTO_UDP => Body::Udp(Udp::default()),
                _ => return Err(PROTOCOL),
            },
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW) if protocol == 0 => return Err(PROTOCOL),
            (libc::AF_INET | libc::AF_INET6 | libc::AF_PACKET, libc::SOCK_RAW) | (libc::AF_PACKET, _) => {
                return Err(Errno(libc::EPERM));
            }
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_SEQPACKET | libc::SOCK_RDM) => {
                return Err(Errno(libc::ESOCKTNOSUPPORT));
            }
            (libc::AF_INET | libc::AF_INET6, _) => return Err(Errno::INVALID),
            (libc::AF_NETLINK, _) => {
                crate::interpose::escape(world, "socket(AF_NETLINK)".into());
                return Err(Errno(libc::EPERM));
            }
            _ => return Err(Errno(libc::EAFNOSUPPORT)),
        };
        on_a_machine(world, "socket")?;
        let protocol = match &body {
            Body::Tcp(_) => libc::IPPROTO_TCP,
            Body::Udp(_) => libc::IPPROTO_UDP,
        };
        let kind = Kind { family, kind, protocol };
        Ok(Socket { kind, options: Cell::new(Options::new(kind)), body })
    }

    pub(crate) fn ready(&self) -> u32 {
        match &self.body {
            Body::Tcp(tcp) => tcp.ready(),
            Body::Udp(udp) => udp.ready(),
        }
    }

    pub(crate) fn observe(&self, observer: Waker) {
        // A socket whose machine died has nothing to tell any more.
        let _nothing_to_tell = match &self.body {
            Body::Tcp(tcp) => tcp.observe(observer),
            Body::Udp(udp) => udp.observe(observer),
        };
    }

    /// What has happened since the last call: the bits that an observer that was woken is to tell.
    pub(crate) fn news(&self) -> u32 {
        match &self.body {
            Body::Tcp(tcp) => tcp.news(),
            Body::Udp(_) => EVERY,
        }
    }

    fn until(world: &World, timeout: Option<std::time::Duration>) -> Option<Instant> {
        timeout.map(|timeout| world.now() + timeout)
    }

    pub(crate) fn bind(&self, own: &Description, world: &World, to: Address) -> Answer<()> {
        on_a_machine(world, "bind")?;
        let addr = match to {
            Address::Ip(addr) => in_family(self.kind, addr)?,
            // Linux, __inet_bind(): programs of old left the family of an unspecified address out.
            Address::Unspecified if self.kind.family == libc::AF_INET => nowhere(self.kind),
            Address::Unix(_) | Address::Unspecified | Address::Strange => return Err(Errno(libc::EAFNOSUPPORT)),
        };
        match &self.body {
            Body::Tcp(tcp) => tcp.bind(addr, &self.options.get())?,
            Body::Udp(udp) => udp.bind(addr, &self.options.get())?,
        }
        own.observe();
        Ok(())
    }

    pub(crate) fn listen(&self, own: &Description, world: &World, backlog: i32) -> Answer<()> {
        match &self.body {
            Body::Tcp(tcp) => {
                on_a_machine(world, "listen")?;
                tcp.listen(nowhere(self.kind), &self.options.get(), backlog)?;
                own.observe();
                own.notify(EVERY);
                Ok(())
            }
            Body::Udp(_) => Err(Errno(libc::EOPNOTSUPP)),
        }
    }

    /// accept(2): a socket of the same kind, and its peer's address.
    pub(crate) fn accept(&self, own: &Description, world: &World) -> Answer<(Socket, Bytes)> {
        let options = self.options.get();
        match &self.body {
            Body::Tcp(tcp) => {
                let until = Self::until(world, options.receive_timeout);
                let (stream, peer) = own.wait("a TCP connection to accept", false, until, || tcp.accept())?;
                let accepted = Socket { kind: self.kind, options: self.options.clone(), body: Body::Tcp(stream) };
                accepted.apply();
                Ok((accepted, Bytes::of_family(peer, self.kind.family == libc::AF_INET6)))
            }
            Body::Udp(_) => Err(Errno(libc::EOPNOTSUPP)),
        }
    }

    pub(crate) fn connect(&self, own: &Description, world: &World, to: Address) -> Answer<()> {
        on_a_machine(world, "connect")?;
        match &self.body {
            Body::Tcp(tcp) => {
                let to = match to {
                    Address::Ip(addr) => in_family(self.kind, addr)?,
                    Address::Unspecified => {
                        tcp.disconnect();
                        own.observe();
                        own.notify(EVERY);
                        return Ok(());
                    }
                    Address::Unix(_) | Address::Strange => return Err(Errno(libc::EAFNOSUPPORT)),
                };
                if tcp.connect(to)? {
                    return Ok(());
                }
                self.apply();
                own.observe();
                own.notify(EVERY);
                if own.is_nonblocking() {
                    return Err(Errno(libc::EINPROGRESS));
                }
                let until = Self::until(world, self.options.get().send_timeout);
                match own.wait("a TCP connection to be established", false, until, || tcp.connected()) {
                    Err(Errno::AGAIN) => Err(Errno(libc::EINPROGRESS)),
                    done => done,
                }
            }
            Body::Udp(udp) => {
                let to = match to {
                    Address::Ip(addr) if self.kind.family == libc::AF_INET6 && addr.is_ipv4() => addr,
                    Address::Ip(addr) => in_family(self.kind, addr)?,
                    Address::Unspecified => return udp.disconnect(),
                    Address::Unix(_) | Address::Strange => return Err(Errno(libc::EAFNOSUPPORT)),
                };
                udp.connect(nowhere(self.kind), to, &self.options.get())?;
                own.observe();
                Ok(())
            }
        }
    }

    /// shutdown(2).
    pub(crate) fn shut_down(&self, own: &Description, how: i32) -> Answer<()> {
        if !(libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) {
            return Err(Errno::INVALID);
        }
        let (read, write) = (how != libc::SHUT_WR, how != libc::SHUT_RD);
        match &self.body {
            Body::Tcp(tcp) => tcp.shut_down(read, write)?,
            Body::Udp(udp) => udp.shut_down(read, write)?,
        }
        own.observe();
        own.notify(EVERY);
        Ok(())
    }

    /// Sends, to `to` or to the peer.
    pub(crate) fn send(
        &self,
        own: &Description,
        world: &World,
        from: &[IoSlice<'_>],
        flags: i32,
        to: Option<Address>,
    ) -> Answer<usize> {
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let options = self.options.get();
        let dont_wait = flags & libc::MSG_DONTWAIT != 0;
        match &self.body {
            Body::Tcp(tcp) => {
                let until = Self::until(world, options.send_timeout);
                let len: usize = from.iter().map(|part| part.len()).sum();
                let mut sent = 0;
                // A socket that blocks sends all of it; what was sent before an error is what counts.
                loop {
                    let rest = Rest { parts: from, from: sent };
                    match own.wait("room in a TCP stream", dont_wait, until, || rest.with(|parts| tcp.write(parts))) {
                        Ok(n) => sent += n,
                        Err(errno) if sent == 0 => return Err(errno),
                        Err(_) => return Ok(sent),
                    }
                    if sent >= len {
                        return Ok(sent);
                    }
                }
            }
            Body::Udp(udp) => {
                on_a_machine(world, "sendto")?;
                let to = match to {
                    None => None,
                    Some(Address::Ip(addr)) if self.kind.family == libc::AF_INET6 && addr.is_ipv4() => Some(addr),
                    Some(Address::Ip(addr)) => Some(in_family(self.kind, addr)?),
                    Some(Address::Unspecified) if self.kind.family == libc::AF_INET6 => None,
                    Some(Address::Unspecified) => return Err(Errno::INVALID),
                    Some(Address::Unix(_) | Address::Strange) => return Err(Errno(libc::EAFNOSUPPORT)),
                };
                let gathered: Vec<u8>;
                let bytes: &[u8] = match from {
                    [one] => one,
                    parts => {
                        gathered = parts.iter().flat_map(|part| part.iter().copied()).collect();
                        &gathered
                    }
                };
                let fresh = !udp.is_bound();
                let sent = udp.send(nowhere(self.kind), to, bytes, &options);
                if fresh {
                    own.observe();
                }
                sent
            }
        }
    }

    /// Receives.
    pub(crate) fn receive(
        &self,
        own: &Description,
        world: &World,
        into: &mut [IoSliceMut<'_>],
        flags: i32,
    ) -> Answer<Received> {
        let options = self.options.get();
        let until = Self::until(world, options.receive_timeout);
        let (dont_wait, peek) = (flags & libc::MSG_DONTWAIT != 0, flags & libc::MSG_PEEK != 0);
        // Nothing is ever put there here.
        if flags & libc::MSG_ERRQUEUE != 0 {
            return Err(Errno::AGAIN);
        }
        match &self.body {
            Body::Tcp(tcp) => {
                if flags & libc::MSG_OOB != 0 {
                    return Err(Errno::INVALID);
                }
                let all = flags & libc::MSG_WAITALL != 0 && !peek;
                let throw_away = flags & libc::MSG_TRUNC != 0;
                let wanted = room(into);
                let mut fill = filling(into);
                let mut got = 0;
                loop {
                    let put = |bytes: &[u8]| {
                        if !throw_away {
                            fill(bytes);
                        }
                    };
                    let mut put = put;
                    let read = own.wait("bytes from a TCP stream", dont_wait, until, || {
                        tcp.read(wanted - got, peek, &mut put)
                    });
                    match read {
                        Ok(n) => {
                            got += n;
                            if n == 0 || got == wanted || !all {
                                return Ok(Received { len: got, ..Received::default() });
                            }
                        }
                        Err(errno) if got == 0 => return Err(errno),
                        Err(_) => return Ok(Received { len: got, ..Received::default() }),
                    }
                }
            }
            Body::Udp(udp) => {
                if flags & libc::MSG_OOB != 0 {
                    return Err(Errno(libc::EOPNOTSUPP));
                }
                let (whole, from) =
                    own.wait("a UDP datagram", dont_wait, until, || udp.receive(into, peek))?;
                let cut = whole > room(into);
                Ok(Received {
                    len: if flags & libc::MSG_TRUNC != 0 { whole } else { whole.min(room(into)) },
                    cut,
                    from: Some(Bytes::of_family(from, self.kind.family == libc::AF_INET6)),
                })
            }
        }
    }

    /// Bytes that a read would give (FIONREAD).
    pub(crate) fn unread(&self) -> Answer<usize> {
        match &self.body {
            Body::Tcp(tcp) => tcp.unread(),
            Body::Udp(udp) => udp.unread(),
        }
    }

    /// getsockname(2).
    pub(crate) fn name(&self) -> Answer<Bytes> {
        let addr = match &self.body {
            Body::Tcp(tcp) => tcp.name()?,
            Body::Udp(udp) => udp.name()?,
        };
        let addr = addr.unwrap_or_else(|| nowhere(self.kind));
        Ok(Bytes::of_family(addr, self.kind.family == libc::AF_INET6))
    }

    /// getpeername(2).
    pub(crate) fn peer(&self) -> Answer<Bytes> {
        let addr = match &self.body {
            Body::Tcp(tcp) => tcp.peer()?,
            Body::Udp(udp) => udp.peer()?,
        };
        Ok(Bytes::of_family(addr, self.kind.family == libc::AF_INET6))
    }

    pub(crate) fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Answer<()> {
        let mut options = self.options.get();
        if (level, name) == (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) && self.is_bound() {
            return Err(Errno::INVALID);
        }
        options.set(self.kind, level, name, value)?;
        self.options.set(options);
        self.apply();
        Ok(())
    }

    pub(crate) fn option(&self, level: i32, name: i32) -> Answer<Vec<u8>> {
        let int = |value: i32| Ok(value.to_ne_bytes().to_vec());
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => int(match &self.body {
                Body::Tcp(tcp) => tcp.take_error(),
                Body::Udp(udp) => udp.take_error(),
            }
            .map_or(0, |errno| errno.0)),
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => int(match &self.body {
                Body::Tcp(tcp) => tcp.listens() as i32,
                Body::Udp(_) => 0,
            }),
            _ => self.options.get().get(self.kind, level, name),
        }
    }

    fn is_bound(&self) -> bool {
        match &self.body {
            Body::Tcp(tcp) => !tcp.is_new(),
            Body::Udp(udp) => udp.is_bound(),
        }
    }

    /// Hands what the network wants to know of the options to it.
    fn apply(&self) {
        let options = self.options.get();
        match &self.body {
            Body::Tcp(tcp) => tcp.apply(&options),
            Body::Udp(udp) => udp.apply(&options),
        }
    }
}

/// What is left to be sent of several buffers.
struct Rest<'a> {
    parts: &'a [IoSlice<'a>],
    from: usize,
}

impl Rest<'_> {
    fn with<R>(&self, f: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        if self.from == 0 {
            return f(self.parts);
        }
        let mut skip = self.from;
        let mut rest = Vec::new();
        for part in self.parts {
            let bytes = &part[skip.min(part.len())..];
            skip = skip.saturating_sub(part.len());
            if !bytes.is_empty() {
                rest.push(IoSlice::new(bytes));
            }
        }
        f(&rest)
    }
}
