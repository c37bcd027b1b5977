//! UDP: datagrams that arrive whole, twice, late, out of order or never.
//!
//! Sending never waits: no send buffer is modelled. Not modelled: broadcast and multicast, fragmentation (a datagram is
//! lost or arrives as a whole).

use super::address::{Counter, Route, canonical, mapped};
use super::arena::Id;
use super::errno::{Attempt, Errno};
use super::{BindOptions, Body, Effect, Network, Packet};
use sim_core::choices::Address;
use sim_core::hash::{self, Map};
use sim_core::{DeviceCx, NodeId};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The greatest payload of a UDP datagram over IPv4.
const DATAGRAM_BYTES: usize = 65_507;
/// What a datagram takes from the receive buffer besides its bytes (an `sk_buff`, about).
const OVERHEAD_BYTES: usize = 256;

#[derive(Clone)]
pub(super) struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
    /// Who sent it, if that socket would hear of an ICMP error.
    sender: Option<Id>,
    pub question: Address,
}

/// What a socket knows about one destination.
struct Peer {
    /// As the program names it.
    to: SocketAddr,
    /// Where that is.
    at: SocketAddr,
    from: SocketAddr,
    link: u32,
    packets: Counter,
}

pub(super) struct Socket {
    pub node: NodeId,
    addr: SocketAddr,
    /// The address it was bound to, before connecting chose another.
    bound: IpAddr,
    connected: Option<SocketAddr>,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    queued_bytes: usize,
    error: Option<Errno>,
    peers: Vec<Peer>,
    by_addr: Map<(IpAddr, u16), u32>,
    last: u32,
    /// How often its port was bound before, as part of its packets' identity.
    ordinal: u32,
    ttl: u32,
    broadcast: bool,
    /// IPV6_V6ONLY, which binding to an address of IPv6 sets, too.
    v6_only: bool,
    /// What it holds for its reader; `None` for the network's default.
    capacity: Option<u32>,
    read_shut: bool,
    write_shut: bool,
}

impl Socket {
    /// Where `to` is. The unspecified address is the machine itself: the address that the socket sends from if that is
    /// one of IPv4 (`ip_route_output_key()`), or the loopback of the family that it is bound to.
    fn destination(&self, to: SocketAddr) -> SocketAddr {
        let own = self.addr.ip().to_canonical();
        let ip = match to.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() && own.is_ipv4() && !own.is_unspecified() => own,
            IpAddr::V6(ip) if ip.is_unspecified() && self.addr.is_ipv6() && own.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            _ => return canonical(to),
        };
        SocketAddr::new(ip, to.port())
    }
}

impl Network {
    /// Binds a UDP socket of `node`; port 0 for the next ephemeral one. With SO_REUSEADDR or with SO_REUSEPORT on both
    /// sides several may have one address: with the former the last one bound gets what comes, with the latter each its
    /// part of the senders, and a connected one always what its peer sends.
    pub fn bind_udp(
        &mut self,
        node: NodeId,
        addr: SocketAddr,
        how: BindOptions,
        cx: &mut DeviceCx<'_>,
    ) -> Result<Id, Errno> {
        self.may_bind(node, addr.ip(), how)?;
        let id = self.sockets.insert(Socket {
            node,
            addr,
            bound: addr.ip(),
            connected: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            error: None,
            peers: Vec::new(),
            by_addr: Map::default(),
            last: 0,
            ordinal: 0,
            ttl: 64,
            broadcast: false,
            v6_only: addr.is_ipv6()
                && (how.v6_only || !addr.ip().is_unspecified() && !addr.ip().to_canonical().is_ipv4()),
            capacity: None,
            read_shut: false,
            write_shut: false,
        });
        let machine = &mut self.machines[node.0 as usize];
        match machine.udp.bind(addr, how, id, cx.now) {
            Ok(addr) => {
                let binds = machine.udp_binds.entry(addr.port()).or_default();
                let socket = self.sockets.get_mut(id).expect("just inserted");
                (socket.addr, socket.ordinal) = (addr, *binds);
                *binds += 1;
                cx.event(node, "udp.bind", || addr.to_string());
                Ok(id)
            }
            Err(errno) => {
                self.sockets.remove(id);
                Err(errno)
            }
        }
    }

    #[inline]
    fn udp(&mut self, id: Id) -> Result<&mut Socket, Errno> {
        self.sockets.get_mut(id).ok_or(Errno::EBADF)
    }

    /// Where a socket is bound; once connected, with the address it sends from.
    pub fn udp_addr(&mut self, id: Id) -> Result<SocketAddr, Errno> {
        Ok(self.udp(id)?.addr)
    }

    /// Whom a socket is connected to.
    pub fn udp_peer(&mut self, id: Id) -> Result<SocketAddr, Errno> {
        let socket = self.udp(id)?;
        let peer = socket.connected.ok_or(Errno::ENOTCONN)?;
        Ok(if socket.addr.is_ipv6() { mapped(peer) } else { peer })
    }

    /// IP_TTL, kept for who asks.
    pub fn udp_ttl(&mut self, id: Id) -> Result<&mut u32, Errno> {
        Ok(&mut self.udp(id)?.ttl)
    }

    /// SO_BROADCAST, kept for who asks: without it a broadcast is refused (EACCES), with it nobody is reached.
    pub fn udp_broadcast(&mut self, id: Id) -> Result<&mut bool, Errno> {
        Ok(&mut self.udp(id)?.broadcast)
    }

    /// Bytes that a socket holds for its reader (SO_RCVBUF); `None` for the network's default.
    pub fn udp_receive_buffer(&mut self, id: Id) -> Result<&mut Option<u32>, Errno> {
        Ok(&mut self.udp(id)?.capacity)
    }

    /// The length of the next datagram; 0 if there is none (FIONREAD).
    pub fn udp_unread(&mut self, id: Id) -> Result<usize, Errno> {
        Ok(self.udp(id)?.queue.front().map_or(0, |(_, payload)| payload.len()))
    }

    /// Lets a socket have no peer any more, and again the address that it was bound to (`connect` with AF_UNSPEC).
    pub fn disconnect_udp(&mut self, id: Id) -> Result<(), Errno> {
        let socket = self.udp(id)?;
        socket.connected = None;
        socket.addr.set_ip(socket.bound);
        Ok(())
    }

    /// Ends one or both directions of a connected socket: reads that would wait give 0, sends give EPIPE.
    ///
    /// # Errors
    /// ENOTCONN for a socket that is not connected; it is shut down all the same, as on Linux.
    pub fn shutdown_udp(&mut self, id: Id, read: bool, write: bool) -> Result<(), Errno> {
        let socket = self.udp(id)?;
        socket.read_shut |= read;
        socket.write_shut |= write;
        let connected = socket.connected.is_some();
        self.effects.push(Effect::Received(id.index));
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    /// Which directions are shut down.
    pub fn udp_shut(&mut self, id: Id) -> Result<[bool; 2], Errno> {
        let socket = self.udp(id)?;
        Ok([socket.read_shut, socket.write_shut])
    }

    /// What went wrong, once (SO_ERROR).
    pub fn take_udp_error(&mut self, id: Id) -> Result<Option<Errno>, Errno> {
        Ok(self.udp(id)?.error.take())
    }

    /// What [`take_udp_error`](Self::take_udp_error) would take.
    pub fn udp_error(&mut self, id: Id) -> Result<Option<Errno>, Errno> {
        Ok(self.udp(id)?.error)
    }

    /// Lets a socket send to `to` by default, and receive from there only.
    pub fn connect_udp(&mut self, id: Id, to: SocketAddr, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let socket = self.udp(id)?;
        if to.is_ipv4() && socket.v6_only || to.is_ipv6() && socket.addr.is_ipv4() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let to = self.udp(id)?.destination(to);
        let peer = self.peer(id, to, cx)?;
        let socket = self.udp(id)?;
        if socket.addr.ip().is_unspecified() {
            let (node, addr) = (socket.node, socket.addr);
            let from = match peer {
                Some(peer) => socket.peers[peer as usize].from,
                None => SocketAddr::new(self.machines[node.0 as usize].source(addr.ip(), to.ip())?, addr.port()),
            };
            self.udp(id)?.addr = if addr.is_ipv6() { mapped(from) } else { from };
        }
        let socket = self.udp(id)?;
        socket.connected = Some(to);
        Ok(())
    }

    /// Sends a datagram, to the connected peer if `to` is not given.
    pub fn send(
        &mut self,
        id: Id,
        to: Option<SocketAddr>,
        bytes: &[u8],
        cx: &mut DeviceCx<'_>,
    ) -> Result<usize, Errno> {
        let socket = self.udp(id)?;
        let to = to.or(socket.connected).ok_or(Errno::EDESTADDRREQ)?;
        if bytes.len() > DATAGRAM_BYTES {
            return Err(Errno::EMSGSIZE);
        }
        let Some(peer) = self.peer(id, to, cx)? else {
            let node = self.may_send(id)?;
            cx.event(node, "net.drop", || format!("udp to {to}: nobody has the address"));
            return Ok(bytes.len());
        };
        self.may_send(id)?;
        let mut payload = self.buffers.take();
        payload.extend_from_slice(bytes);
        let socket = self.udp(id)?;
        let Peer { at, from, link, packets, .. } = &mut socket.peers[peer as usize];
        // Who sent to somebody else than its peer is not looked up by the error (Linux, __udp4_lib_err()).
        let sender = socket.connected.filter(|peer| peer == at).map(|_| id);
        let question = packets.next();
        let datagram = Datagram { from: *from, to: *at, payload, sender, question };
        let packet = Packet { link: *link, sent: cx.now, body: Body::Datagram(datagram) };
        self.transmit(packet, question, cx);
        Ok(bytes.len())
    }

    /// A pending error is told once, before anything is sent; then whether the socket was shut down. Both come after
    /// the question where the datagram would go, as in `sock_alloc_send_pskb()`.
    #[inline]
    fn may_send(&mut self, id: Id) -> Result<NodeId, Errno> {
        let socket = self.udp(id)?;
        match socket.error.take() {
            Some(error) => Err(error),
            None if socket.write_shut => Err(Errno::EPIPE),
            None => Ok(socket.node),
        }
    }

    /// The place of what a socket knows about `to`; `None` if nobody has that address.
    #[inline]
    fn peer(&mut self, id: Id, to: SocketAddr, cx: &mut DeviceCx<'_>) -> Result<Option<u32>, Errno> {
        let socket = self.udp(id)?;
        if socket.peers.get(socket.last as usize).is_some_and(|p| p.to == to) {
            return Ok(Some(socket.last));
        }
        // Programs go round: mostly it is the next one.
        let next = if (socket.last as usize) + 1 < socket.peers.len() { socket.last + 1 } else { 0 };
        if socket.peers.get(next as usize).is_some_and(|p| p.to == to) {
            socket.last = next;
            return Ok(Some(next));
        }
        if let Some(found) = socket.by_addr.get(&(to.ip(), to.port())) {
            socket.last = *found;
            return Ok(Some(*found));
        }
        self.meet(id, to, cx)
    }

    #[cold]
    fn meet(&mut self, id: Id, wanted: SocketAddr, cx: &mut DeviceCx<'_>) -> Result<Option<u32>, Errno> {
        let socket = self.udp(id)?;
        let (node, addr, ordinal) = (socket.node, socket.addr, socket.ordinal);
        if addr.is_ipv4() && wanted.is_ipv6() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let to = socket.destination(wanted);
        let bound = if addr.ip().is_unspecified() && to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { addr.ip() };
        if to.is_ipv4() && self.udp(id)?.v6_only {
            return Err(Errno::ENETUNREACH);
        }
        // A socket that is bound to IPv4 in IPv6 reaches IPv4 only.
        if to.is_ipv6() && addr.is_ipv6() && addr.ip().to_canonical().is_ipv4() {
            return Err(Errno::EAFNOSUPPORT);
        }
        if to.port() == 0 {
            return Err(Errno::EINVAL);
        }
        let broadcast = to.ip() == IpAddr::from(Ipv4Addr::BROADCAST);
        if broadcast && !*self.udp_broadcast(id)? {
            return Err(Errno(13));
        }
        let peer_node = match self.route(node, to.ip()) {
            Route::To(peer) => peer,
            Route::Nobody | Route::Beyond => return Ok(None),
            Route::Nowhere if broadcast => return Ok(None),
            Route::Nowhere => return Err(Errno::ENETUNREACH),
        };
        let link = self.link(node, peer_node, cx);
        let (machine, peer) = (&self.machines[node.0 as usize], &self.machines[peer_node.0 as usize]);
        let from = SocketAddr::new(machine.source(bound.to_canonical(), to.ip())?, addr.port());
        let ports = (addr.port() as u64) << 16 | to.port() as u64;
        let key = hash::key(&[hash::text("udp"), machine.key, peer.key, ports, ordinal as u64]);
        cx.choices.name_key(key, || format!("udp {}:{}->{}:{}", machine.name, addr.port(), peer.name, to.port()));
        let socket = self.udp(id)?;
        let place = socket.peers.len() as u32;
        socket.peers.push(Peer { to: wanted, at: to, from, link, packets: Counter::new(key) });
        socket.by_addr.insert((wanted.ip(), wanted.port()), place);
        socket.last = place;
        Ok(Some(place))
    }

    /// A datagram is at its machine, which runs.
    pub(super) fn datagram_arrives(&mut self, datagram: Datagram, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) {
        let Datagram { from: source, to: target, payload, sender, question } = datagram;
        let sockets = &self.sockets;
        // Who sends, and so whom it reaches, stays the same (Linux, udp_ehashfn()).
        let pick = |_| hash::key(&[question.key]);
        let found = self.machines[to.0 as usize].udp.find(target.ip(), target.port(), pick, |bound| {
            match sockets.get(bound.owner)?.connected {
                Some(peer) => (peer == source).then_some(1),
                None => Some(0),
            }
        });
        let Some((id, socket)) = found.and_then(|id| Some((id, self.sockets.get_mut(id)?))) else {
            self.buffers.give(payload);
            cx.event(to, "net.drop", || format!("udp {source}->{target}: nobody is bound there"));
            if let Some(socket) = sender {
                let link = self.link(to, from, cx);
                let packet = Packet { link, sent: cx.now, body: Body::Unreachable { socket } };
                let question = Address { key: hash::key(&[question.key, 1]), ..question };
                cx.choices.name_key(question.key, || format!("icmp {}->{}", self.name(to), self.name(from)));
                self.transmit(packet, question, cx);
            }
            return;
        };
        let source = if socket.addr.is_ipv6() { mapped(source) } else { source };
        let takes = payload.len() + OVERHEAD_BYTES;
        let capacity = socket.capacity.map_or(self.config.datagram_buffer_bytes, |b| b as usize);
        // As Linux does, what is there may be less than full when the last one comes in.
        if socket.queued_bytes > 0 && socket.queued_bytes + takes > capacity {
            self.buffers.give(payload);
            cx.event(to, "net.drop", || format!("udp {source}->{target}: the receive buffer is full"));
            return;
        }
        socket.queued_bytes += takes;
        socket.queue.push_back((source, payload));
        self.effects.push(Effect::Received(id.index));
    }

    pub(super) fn unreachable_arrives(&mut self, id: Id, cx: &mut DeviceCx<'_>) {
        if let Some(socket) = self.sockets.get_mut(id).filter(|s| s.connected.is_some()) {
            socket.error = Some(Errno::ECONNREFUSED);
            cx.event(socket.node, "udp.refused", String::new);
            self.effects.push(Effect::Received(id.index));
        }
    }

    /// Gives the next datagram, cut to `room` bytes, and who sent it to `put`, and says how many bytes those are.
    #[inline]
    pub fn receive(&mut self, id: Id, room: usize, put: impl FnOnce(&[u8], SocketAddr)) -> Attempt<usize> {
        let found = self.peek_datagram(id, room, put)?;
        if found.is_some() {
            let socket = self.udp(id)?;
            let (_, payload) = socket.queue.pop_front().expect("seen above");
            // One that is empty begins anew, where its memory was used a moment ago.
            if socket.queue.is_empty() {
                socket.queue.clear();
            }
            socket.queued_bytes -= payload.len() + OVERHEAD_BYTES;
            self.buffers.give(payload);
        }
        Ok(found)
    }

    /// The same without taking it.
    #[inline]
    pub fn peek_datagram(&mut self, id: Id, room: usize, put: impl FnOnce(&[u8], SocketAddr)) -> Attempt<usize> {
        let socket = self.udp(id)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let Some((from, payload)) = socket.queue.front() else { return Ok(None) };
        let n = payload.len().min(room);
        put(&payload[..n], *from);
        Ok(Some(n))
    }

    /// Whether a datagram or an error waits.
    pub fn received(&mut self, id: Id) -> Result<bool, Errno> {
        let socket = self.udp(id)?;
        Ok(!socket.queue.is_empty() || socket.error.is_some() || socket.read_shut)
    }

    /// Whether a datagram waits.
    pub fn unread_datagrams(&mut self, id: Id) -> Result<bool, Errno> {
        Ok(!self.udp(id)?.queue.is_empty())
    }

    /// Closes a UDP socket; what waits in it is gone.
    pub fn close_udp(&mut self, id: Id) {
        let Some(socket) = self.sockets.remove(id) else { return };
        self.machines[socket.node.0 as usize].udp.unbind(id, socket.addr.port());
        socket.queue.into_iter().for_each(|(_, payload)| self.buffers.give(payload));
    }
}
