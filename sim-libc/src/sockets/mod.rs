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
pub(crate) mod names;
mod options;
pub(crate) mod pipe;
mod tcp;
mod udp;
mod unix;

pub use crate::ahead::Ahead;
use crate::descriptors::steps::has_read;
pub use crate::descriptors::steps::{
    Event, Idle, Moment, Rest, Steps, Timers, events, is_drained, is_stepped, nothing_is_drained, parks, step, unparks,
    work_begins, work_ends,
};
use crate::descriptors::{Answer, Description, ERR, EVERY, Errno, HUP, IN, OUT, READ_HUP, in_vain};
use address::{Address, Bytes, Given};
use options::{Control, Kind, Options};
use sim_core::{Instant, NodeId, World};
use sim_net::Readiness;
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Waker;
use tcp::Tcp;
use udp::Udp;
use unix::Unix;

/// A socket of any kind.
pub(crate) struct Socket {
    kind: Kind,
    options: Cell<Options>,
    body: Body,
}

enum Body {
    Tcp(Tcp),
    Udp(Udp),
    Unix(Unix),
}

/// What a receive gave besides the bytes.
#[derive(Default)]
pub(crate) struct Besides {
    /// A datagram was longer than there was room for.
    pub cut: bool,
    pub from: Option<Address>,
    /// What the program asked to be told about the datagram.
    pub control: Vec<Control>,
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

/// There is a network to ask: for what never leaves the machine, and may stand outside the machines as well.
fn in_a_network(world: &World) -> Answer<()> {
    if world.has_device::<sim_net::Net>() { Ok(()) } else { Err(Errno(libc::EAFNOSUPPORT)) }
}

/// The node that acts has a network; the outside and a World without one have not.
fn on_a_machine(world: &World, call: &str) -> Answer<()> {
    if world.acting_node() == NodeId::OUTSIDE {
        let what = format!("{call} outside the machines, where there is no address");
        crate::interpose::escape(world, what);
        return Err(Errno(libc::ENETDOWN));
    }
    in_a_network(world)
}

fn nowhere(kind: Kind) -> SocketAddr {
    match kind.family {
        libc::AF_INET6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

/// Who connects to the unspecified address reaches his own machine.
fn reachable(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        to => to,
    }
}

/// Puts bytes into buffers, one part after the other, behind the first `skip` bytes of room.
fn filling<'a>(into: &'a mut [IoSliceMut<'_>], skip: usize) -> impl FnMut(&[u8]) + 'a {
    let (mut part, mut at) = (0, skip);
    while part < into.len() && at >= into[part].len() {
        (part, at) = (part + 1, at - into[part].len());
    }
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
                // Echo requests are for the groups of `ping_group_range`: nobody, as Linux sets it.
                libc::IPPROTO_ICMP if family == libc::AF_INET => return Err(Errno(libc::EACCES)),
                libc::IPPROTO_ICMPV6 if family == libc::AF_INET6 => return Err(Errno(libc::EACCES)),
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
            (libc::AF_UNIX, _) if protocol != 0 && protocol != libc::AF_UNIX => return Err(PROTOCOL),
            (libc::AF_UNIX, _) => {
                unix::kind_of(kind)?;
                in_a_network(world)?;
                Body::Unix(Unix::new(world, kind)?)
            }
            (libc::AF_NETLINK, _) => {
                crate::interpose::escape(world, "socket(AF_NETLINK)".into());
                return Err(Errno(libc::EPERM));
            }
            _ => return Err(Errno(libc::EAFNOSUPPORT)),
        };
        if !matches!(body, Body::Unix(_)) {
            on_a_machine(world, "socket")?;
        }
        let protocol = match &body {
            Body::Tcp(_) => libc::IPPROTO_TCP,
            Body::Udp(_) => libc::IPPROTO_UDP,
            Body::Unix(_) => 0,
        };
        let kind = if kind == libc::SOCK_RAW { libc::SOCK_DGRAM } else { kind };
        let kind = Kind { family, kind, protocol };
        Ok(Socket { kind, options: Cell::new(Options::new(kind)), body })
    }

    /// socketpair(2), after its flags were taken off.
    pub(crate) fn pair(world: &World, family: i32, kind: i32, protocol: i32) -> Answer<[Socket; 2]> {
        if family != libc::AF_UNIX {
            // The kernel makes them first, and then finds that they cannot be paired.
            Socket::new(world, family, kind, protocol)?;
            return Err(Errno(libc::EOPNOTSUPP));
        }
        if protocol != 0 && protocol != libc::AF_UNIX {
            return Err(Errno(libc::EPROTONOSUPPORT));
        }
        unix::kind_of(kind)?;
        in_a_network(world)?;
        let kept = Kind { family, kind: if kind == libc::SOCK_RAW { libc::SOCK_DGRAM } else { kind }, protocol: 0 };
        let wrap = |unix| Socket { kind: kept, options: Cell::new(Options::new(kept)), body: Body::Unix(unix) };
        Ok(Unix::pair(world, kind)?.map(wrap))
    }

    pub(crate) fn ready(&self) -> u32 {
        match &self.body {
            Body::Unix(unix) => unix.ready(),
            Body::Tcp(tcp) => tcp.ready(),
            Body::Udp(udp) => udp.ready(),
        }
    }

    pub(crate) fn observe(&self, observer: Waker) {
        // A socket whose machine died has nothing to tell any more.
        let _nothing_to_tell = match &self.body {
            Body::Tcp(tcp) => tcp.observe(observer),
            Body::Udp(udp) => udp.observe(observer),
            Body::Unix(unix) => unix.observe(observer),
        };
    }

    /// What has happened since the last call: the bits that an observer that was woken is to tell.
    pub(crate) fn news(&self) -> u32 {
        match &self.body {
            Body::Tcp(tcp) => tcp.news(),
            Body::Udp(udp) => udp.news(),
            Body::Unix(unix) => unix.news(),
        }
    }

    fn until(world: &World, timeout: Option<std::time::Duration>) -> Option<Instant> {
        timeout.map(|timeout| world.now() + timeout)
    }

    pub(crate) fn bind(&self, own: &Description, world: &'static World, to: Given) -> Answer<()> {
        if let Body::Unix(unix) = &self.body {
            unix.bind(world, &name_given(to)?)?;
            own.observe();
            return Ok(());
        }
        on_a_machine(world, "bind")?;
        let addr = match to.of_family(self.kind.family)? {
            Some(addr) => addr,
            // Linux, __inet_bind(): programs of old left the family of an unspecified address out.
            None if to.address == Address::Unspecified && self.kind.family == libc::AF_INET => nowhere(self.kind),
            None => return Err(Errno(libc::EAFNOSUPPORT)),
        };
        let mut options = self.options.get();
        match &self.body {
            Body::Tcp(tcp) => tcp.bind(addr, &options)?,
            Body::Udp(udp) => udp.bind(addr, &options)?,
            Body::Unix(_) => {}
        }
        // Linux, __inet6_bind(): who has an address of IPv6 has no other.
        if let SocketAddr::V6(v6) = addr
            && !v6.ip().is_unspecified()
            && v6.ip().to_ipv4_mapped().is_none()
        {
            options.v6_only = 1;
            self.options.set(options);
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
            Body::Unix(unix) => unix.listen(backlog),
        }
    }

    /// accept(2): a socket of the same kind, and its peer's address.
    pub(crate) fn accept(&self, own: &Description, world: &World) -> Answer<(Socket, Bytes)> {
        let options = self.options.get();
        match &self.body {
            Body::Tcp(tcp) => {
                let until = Self::until(world, options.receive_timeout);
                let (stream, peer) = own.wait("a TCP connection to accept", false, until, || tcp.accept())?;
                let accepted = Socket { kind: self.kind, options: Cell::new(options), body: Body::Tcp(stream) };
                accepted.apply();
                Ok((accepted, Bytes::of_family(peer, self.kind.family == libc::AF_INET6)))
            }
            Body::Udp(_) => Err(Errno(libc::EOPNOTSUPP)),
            Body::Unix(unix) => {
                let until = Self::until(world, options.receive_timeout);
                let accepted = own.wait("a Unix connection to accept", false, until, || unix.accept())?;
                let peer = Bytes::of_unix(&accepted.peer().unwrap_or_default());
                let fresh = Cell::new(Options::new(self.kind));
                Ok((Socket { kind: self.kind, options: fresh, body: Body::Unix(accepted) }, peer))
            }
        }
    }

    pub(crate) fn connect(&self, own: &Description, world: &'static World, to: Given) -> Answer<()> {
        if self.kind.family != libc::AF_UNIX {
            on_a_machine(world, "connect")?;
        }
        match &self.body {
            Body::Tcp(tcp) => {
                if to.address == Address::Unspecified {
                    tcp.disconnect();
                    own.observe();
                    own.notify(EVERY);
                    return Ok(());
                }
                // What is under way comes first: its end, before the address is looked at.
                match tcp.settled()? {
                    Some(how) => {
                        // Linux, tcp_disconnect(): the failure is reported once more as the socket is made new.
                        if how.is_err() {
                            own.notify(ERR);
                        }
                        return how;
                    }
                    None if !tcp.is_connecting() => {
                        tcp.connect(reachable(to.in_family(self.kind.family)?), &self.options.get())?;
                        own.observe();
                        own.notify(EVERY);
                    }
                    None if own.is_nonblocking() => return Err(Errno(libc::EALREADY)),
                    None => {}
                }
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
                let to = match to.address {
                    Address::Unspecified => return udp.disconnect(),
                    Address::Ip(addr) if self.kind.family == libc::AF_INET6 && addr.is_ipv4() => {
                        if self.options.get().v6_only != 0 {
                            return Err(Errno(libc::EAFNOSUPPORT));
                        }
                        addr
                    }
                    _ => {
                        udp.bind_anywhere(nowhere(self.kind), &self.options.get())?;
                        own.observe();
                        to.in_family(self.kind.family)?
                    }
                };
                udp.connect(nowhere(self.kind), reachable(to), &self.options.get())?;
                own.observe();
                Ok(())
            }
            Body::Unix(unix) => {
                if to.address == Address::Unspecified {
                    return unix.disconnect();
                }
                let name = Unix::find(world, name_given(to)?)?;
                let until = Self::until(world, self.options.get().send_timeout);
                own.wait("a Unix listener to have room in its queue", false, until, || unix.connect(&name))
            }
        }
    }

    /// shutdown(2).
    pub(crate) fn shut_down(&self, own: &Description, how: i32) -> Answer<()> {
        if !(libc::SHUT_RD..=libc::SHUT_RDWR).contains(&how) {
            return Err(Errno::INVALID);
        }
        let (read, write) = (how != libc::SHUT_WR, how != libc::SHUT_RD);
        let done = match &self.body {
            Body::Tcp(tcp) => tcp.shut_down(read, write),
            Body::Udp(udp) => udp.shut_down(read, write),
            Body::Unix(unix) => unix.shut_down(read, write),
        };
        // Also where it failed it has shut something down (Linux, inet_shutdown()).
        own.observe();
        own.notify(EVERY);
        done
    }

    /// Sends, to `to` or to the peer.
    pub(crate) fn send(
        &self,
        own: &Description,
        world: &'static World,
        from: &[IoSlice<'_>],
        flags: i32,
        to: Option<Given>,
    ) -> Answer<usize> {
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        // Options are read one by one: there are more of them than a cache line or two hold.
        let options = &self.options;
        let dont_wait = flags & libc::MSG_DONTWAIT != 0;
        match &self.body {
            Body::Tcp(tcp) => {
                let until = Self::until(world, options.get().send_timeout);
                // An address is ignored (Linux, tcp_sendmsg()).
                let mut sent = false;
                send_all(from, |rest| {
                    // An error that comes after some bytes is the next call's (Linux, tcp_sendmsg_locked()).
                    if std::mem::replace(&mut sent, true) && tcp.has_error() {
                        return Err(Errno(libc::EPIPE));
                    }
                    own.wait("room in a TCP stream", dont_wait, until, || tcp.write(rest))
                })
            }
            Body::Unix(unix) => {
                let until = Self::until(world, options.get().send_timeout);
                if self.kind.kind == libc::SOCK_STREAM {
                    if to.is_some() {
                        let connected = unix.peer().is_ok();
                        return Err(Errno(if connected { libc::EISCONN } else { libc::EOPNOTSUPP }));
                    }
                    return send_all(from, |rest| {
                        own.wait("room in a Unix socket", dont_wait, until, || unix.send(None, rest))
                    });
                }
                // Linux, unix_seqpacket_sendmsg(): an address is ignored.
                let to = to.filter(|_| self.kind.kind == libc::SOCK_DGRAM).map(name_given).transpose()?;
                if to.as_ref().is_some_and(Vec::is_empty) {
                    return Err(Errno::INVALID);
                }
                let to = to.map(|name| Unix::find(world, name)).transpose()?;
                own.wait("room in a Unix socket", dont_wait, until, || unix.send(to.as_deref(), from))
            }
            Body::Udp(udp) => {
                on_a_machine(world, "sendto")?;
                let fresh = !udp.is_bound();
                if fresh {
                    udp.bind_anywhere(nowhere(self.kind), &options.get())?;
                    own.observe();
                }
                let v6 = self.kind.family == libc::AF_INET6;
                let to = match to {
                    None => None,
                    Some(Given { address: Address::Ip(addr), .. }) if v6 && addr.is_ipv4() => {
                        if options.get().v6_only != 0 {
                            return Err(Errno(libc::ENETUNREACH));
                        }
                        Some(addr)
                    }
                    Some(Given { address: Address::Unspecified, .. }) if v6 => None,
                    Some(to) => match to.of_family(self.kind.family)? {
                        Some(addr) => Some(addr),
                        None if v6 || to.address == Address::Unspecified => return Err(Errno::INVALID),
                        None => return Err(Errno(libc::EAFNOSUPPORT)),
                    },
                };
                let gathered: Vec<u8>;
                let bytes: &[u8] = match from {
                    [one] => one,
                    parts => {
                        gathered = parts.iter().flat_map(|part| part.iter().copied()).collect();
                        &gathered
                    }
                };
                udp.send(to, bytes)
            }
        }
    }

    /// Receives. Gives the length as the call reports it: with MSG_TRUNC the whole length of a datagram.
    pub(crate) fn receive(
        &self,
        own: &Description,
        world: &World,
        into: &mut [IoSliceMut<'_>],
        flags: i32,
        besides: &mut Besides,
    ) -> Answer<usize> {
        let until = Self::until(world, self.options.get().receive_timeout);
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
                receive_all(room(into), all, |got| {
                    // As above (tcp_recvmsg_locked()).
                    if got > 0 && tcp.has_error() {
                        return Ok(0);
                    }
                    let (len, more) = own.wait("bytes from a TCP stream", dont_wait, until, || {
                        let wanted = room(into) - got;
                        if throw_away {
                            return tcp.read(wanted, peek, &mut |_| {});
                        }
                        tcp.read(wanted, peek, &mut filling(into, got))
                    })?;
                    has_read(own, !more);
                    Ok(len)
                })
            }
            Body::Unix(unix) => {
                let waits = !dont_wait && !own.is_nonblocking();
                let mut from = None;
                let mut whole = 0;
                let stream = self.kind.kind == libc::SOCK_STREAM;
                let all = stream && flags & libc::MSG_WAITALL != 0 && !peek;
                let len = receive_all(room(into), all, |got| {
                    let received =
                        own.wait("bytes from a Unix socket", dont_wait, until, || unix.receive(into, got, peek, waits));
                    received.map(|(len, full, name)| {
                        whole = full;
                        from = Some(name).filter(|name| !name.is_empty());
                        len
                    })
                })?;
                besides.cut = !stream && whole > len;
                besides.from = from.map(|name| Address::Unix(name.to_vec()));
                Ok(if besides.cut && flags & libc::MSG_TRUNC != 0 { whole } else { len })
            }
            Body::Udp(udp) => {
                if flags & libc::MSG_OOB != 0 {
                    return Err(Errno(libc::EOPNOTSUPP));
                }
                let waits = !dont_wait && !own.is_nonblocking();
                let (whole, from, more) =
                    own.wait("a UDP datagram", dont_wait, until, || udp.receive(into, peek, waits))?;
                has_read(own, !more);
                besides.cut = whole > room(into);
                besides.from = Some(Address::Ip(address::as_shown(from, self.kind.family == libc::AF_INET6)));
                if self.options.get().tells() {
                    besides.control = self.options.get().control(self.kind, udp.destination(from)?);
                }
                Ok(if flags & libc::MSG_TRUNC != 0 { whole } else { whole.min(room(into)) })
            }
        }
    }

    /// Bytes that a read would give (FIONREAD).
    pub(crate) fn unread(&self) -> Answer<usize> {
        match &self.body {
            Body::Tcp(tcp) => tcp.unread(),
            Body::Udp(udp) => udp.unread(),
            Body::Unix(unix) => unix.unread(),
        }
    }

    /// getsockname(2).
    pub(crate) fn name(&self) -> Answer<Bytes> {
        let addr = match &self.body {
            Body::Tcp(tcp) => tcp.name()?,
            Body::Udp(udp) => udp.name()?,
            Body::Unix(unix) => return Ok(Bytes::of_unix(&unix.name()?)),
        };
        let addr = match addr {
            Some(addr) if addr.ip().is_unspecified() => SocketAddr::new(nowhere(self.kind).ip(), addr.port()),
            Some(addr) => addr,
            None => nowhere(self.kind),
        };
        Ok(Bytes::of_family(addr, self.kind.family == libc::AF_INET6))
    }

    /// getpeername(2).
    pub(crate) fn peer(&self) -> Answer<Bytes> {
        let addr = match &self.body {
            Body::Tcp(tcp) => tcp.peer()?,
            Body::Udp(udp) => udp.peer()?,
            Body::Unix(unix) => return Ok(Bytes::of_unix(&unix.peer()?)),
        };
        Ok(Bytes::of_family(addr, self.kind.family == libc::AF_INET6))
    }

    pub(crate) fn set_option(&self, level: i32, name: i32, value: &[u8]) -> Answer<()> {
        let mut options = self.options.get();
        if level != libc::SOL_SOCKET && self.kind.family == libc::AF_UNIX {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let v6 = self.kind.family == libc::AF_INET6;
        if v6 && (level, name) == (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) && self.is_bound() {
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
                Body::Unix(unix) => unix.take_error(),
            }
            .map_or(0, |errno| errno.0)),
            (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => int(match &self.body {
                Body::Tcp(tcp) => tcp.listens() as i32,
                Body::Udp(_) => 0,
                Body::Unix(unix) => unix.listens() as i32,
            }),
            (libc::SOL_SOCKET, libc::SO_PEERCRED) => match &self.body {
                Body::Unix(unix) => unix.peer_owner(),
                Body::Tcp(_) | Body::Udp(_) => Ok([0, -1, -1].map(i32::to_ne_bytes).concat()),
            },
            _ if level != libc::SOL_SOCKET && self.kind.family == libc::AF_UNIX => Err(Errno(libc::EOPNOTSUPP)),
            // Linux, do_ip_getsockopt(), where what no protocol knows ends up.
            _ if ![libc::SOL_SOCKET, libc::IPPROTO_IP, self.kind.protocol].contains(&level)
                && self.kind.family == libc::AF_INET =>
            {
                Err(Errno(libc::EOPNOTSUPP))
            }
            _ => self.options.get().get(self.kind, level, name),
        }
    }

    /// SO_LINGER: the last close of a stream waits until the peer has everything, but not for ever. Zero means RST, which
    /// needs no waiting.
    pub(crate) fn linger(&self, own: &Description, world: &World) {
        let Body::Tcp(tcp) = &self.body else { return };
        let Some(seconds) = self.options.get().linger.filter(|s| *s > 0) else { return };
        own.status.set(own.status.get() & !libc::O_NONBLOCK);
        let until = world.now() + std::time::Duration::from_secs(seconds as u64);
        let _given_up = own.wait("a TCP peer to have read everything (SO_LINGER)", false, Some(until), || tcp.drain());
    }

    fn is_bound(&self) -> bool {
        match &self.body {
            Body::Tcp(tcp) => tcp.has_port(),
            Body::Udp(udp) => udp.is_bound(),
            Body::Unix(_) => false,
        }
    }

    /// Hands what the network wants to know of the options to it.
    fn apply(&self) {
        let options = self.options.get();
        match &self.body {
            Body::Tcp(tcp) => tcp.apply(&options),
            Body::Udp(udp) => udp.apply(&options),
            Body::Unix(unix) => unix.apply(&options),
        }
    }
}

/// The name that a Unix socket was given.
fn name_given(to: Given) -> Answer<Vec<u8>> {
    match to.address {
        Address::Unix(name) => Ok(name),
        Address::Ip(_) | Address::Unspecified | Address::Strange => Err(Errno::INVALID),
    }
}

/// Sends piece by piece until all is sent. What was sent before an error is what counts, and the error is lost.
fn send_all(from: &[IoSlice<'_>], mut send: impl FnMut(&[IoSlice<'_>]) -> Answer<usize>) -> Answer<usize> {
    let len: usize = from.iter().map(|part| part.len()).sum();
    let mut sent = send(from)?;
    while sent < len {
        let mut skip = sent;
        let mut rest = Vec::new();
        for part in from {
            let bytes = &part[skip.min(part.len())..];
            skip = skip.saturating_sub(part.len());
            if !bytes.is_empty() {
                rest.push(IoSlice::new(bytes));
            }
        }
        match send(&rest) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// Receives once, or, for `all`, until there is no room, an end or an error. `receive` is told how much came before.
fn receive_all(room: usize, all: bool, mut receive: impl FnMut(usize) -> Answer<usize>) -> Answer<usize> {
    let mut got = receive(0)?;
    while all && got > 0 && got < room {
        match receive(got) {
            Ok(0) | Err(_) => break,
            Ok(n) => got += n,
        }
    }
    if got == 0 {
        in_vain();
    }
    Ok(got)
}
