//! The network as a pure state machine: nodes' addresses, directed links, TCP, UDP, and within a node Unix sockets and
//! pipes. Input goes in with a [`DeviceCx`]; what a program may notice comes out as [`Effect`]s. No wakers, no `io::Error`, no clock of its own.
//!
//! A packet is one event: it asks for its fate when it is sent, and the link's blocks are looked at when it leaves and
//! when it arrives. Whatever is done for each packet finds its node, link and socket by index.

mod address;
mod arena;
mod errno;
mod fault;
mod link;
mod names;
mod pipe;
mod tcp;
mod udp;
mod unix;

#[cfg(test)]
mod tests;

pub use address::{BindOptions, Route};
pub use arena::Id;
pub use errno::{Attempt, Errno};
pub use link::{LinkConfig, Odds};
pub use names::{Interface, numeric_host, service_name, service_port};
pub use pipe::PipeEnd;
pub use tcp::{KeepAlive, Standing, StreamId, StreamState, TcpOptions};
pub use unix::{Credentials, Receive, Received, UnixKind};

use address::{Directory, Machine, NO_LINK};
use arena::Arena;
use link::{Fate, Link};
use pipe::Pipes;
use sim_core::choices::Stream;
use sim_core::{Death, DeviceCx, Instant, NodeId, hash};
use std::net::IpAddr;
use tcp::{Connection, Listener, Segment, Timer};
use udp::{Datagram, Socket};
use unix::Unix;

/// Sizes and defaults of the whole network.
#[derive(Clone, Debug)]
pub struct Config {
    /// What links between nodes are like, unless set for a link.
    pub link: LinkConfig,
    /// What a node's link to itself is like.
    pub loopback: LinkConfig,
    /// Bytes that a stream's writer may be ahead of the peer's acknowledgements. 256 KiB unless given.
    pub send_buffer_bytes: usize,
    /// Bytes that a stream holds for its reader; at least 4. 128 KiB unless given (the default of Linux' `tcp_rmem`).
    pub receive_buffer_bytes: usize,
    /// Bytes that a UDP socket holds for its reader; what exceeds them is dropped. 208 KiB unless given (`rmem_default`).
    pub datagram_buffer_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            link: LinkConfig::default(),
            loopback: LinkConfig::loopback(),
            send_buffer_bytes: 256 << 10,
            receive_buffer_bytes: 128 << 10,
            datagram_buffer_bytes: 208 << 10,
        }
    }
}

/// What a program that waits may notice now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Bytes, an end or an error at side `side` of the connection in slot `slot`.
    Readable {
        /// The connection's slot.
        slot: u32,
        /// 0 for the side that connected.
        side: u8,
    },
    /// Room for bytes, the end of connecting, or an error.
    Writable {
        /// The connection's slot.
        slot: u32,
        /// 0 for the side that connected.
        side: u8,
    },
    /// A connection waits in the queue of the listener in this slot.
    Acceptable(u32),
    /// A datagram or an error waits at the UDP socket in this slot.
    Received(u32),
    /// Something happened at the Unix socket in this slot.
    Unix {
        /// The socket's slot.
        slot: u32,
        /// Something to read or to accept, or a change of state.
        read: bool,
        /// Room, or a change of state.
        write: bool,
    },
    /// Something happened at an end of the pipe in this slot.
    Pipe {
        /// The pipe's slot.
        slot: u32,
        /// Which end.
        end: PipeEnd,
    },
}

/// Something under way on a link.
struct Packet {
    link: u32,
    sent: Instant,
    body: Body,
}

enum Body {
    Segment(Segment),
    Datagram(Datagram),
    /// ICMP "port unreachable" for a datagram of this socket.
    Unreachable {
        socket: Id,
    },
    /// An empty place.
    Free,
}

/// The state of the network.
pub struct Network {
    config: Config,
    directory: Directory,
    /// By node number; the outside is number 0 and has no part in it.
    machines: Vec<Machine>,
    links: Vec<Link>,
    roughness: Option<u64>,
    packets: Vec<Packet>,
    free_packets: Vec<u32>,
    connections: Arena<Connection>,
    listeners: Arena<Listener>,
    sockets: Arena<Socket>,
    unix: Unix,
    pipes: Pipes,
    buffers: Buffers,
    effects: Vec<Effect>,
}

/// Byte buffers to be used again.
#[derive(Default)]
struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    #[inline]
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    #[inline]
    fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < 64 && buffer.capacity() > 0 {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

/// What an event of this device is about.
enum Token {
    /// The packet in this place arrives.
    Arrival(u32),
    /// A timer of a connection.
    Timer(Timer, Id, u8),
}

impl Token {
    #[inline]
    fn pack(self) -> u64 {
        match self {
            Token::Arrival(place) => place as u64,
            Token::Timer(timer, id, side) => {
                let generation = (id.generation & 0xff_ffff) as u64;
                (timer as u64 + 1) << 60 | (side as u64) << 56 | generation << 32 | id.index as u64
            }
        }
    }
}

impl Network {
    /// A network without nodes.
    pub fn new(config: Config) -> Network {
        Network {
            config,
            directory: Directory::default(),
            machines: Vec::new(),
            links: Vec::new(),
            roughness: None,
            packets: Vec::new(),
            free_packets: Vec::new(),
            connections: Arena::default(),
            listeners: Arena::default(),
            sockets: Arena::default(),
            unix: Unix::default(),
            pipes: Pipes::default(),
            buffers: Buffers::default(),
            effects: Vec::new(),
        }
    }

    /// What waiting programs may notice since this was last emptied.
    #[inline]
    pub fn effects(&mut self) -> &mut Vec<Effect> {
        &mut self.effects
    }

    // ---- nodes ----------------------------------------------------------------------------------------------------

    /// A machine exists from now on.
    pub fn node_added(&mut self, node: NodeId, name: &str) {
        if self.machines.is_empty() {
            // The outside: it keeps node numbers and places equal, and has no address.
            let mut outside = Directory::default().add_machine(NodeId::OUTSIDE, "-");
            outside.down = true;
            self.machines.push(outside);
        }
        assert_eq!(self.machines.len(), node.0 as usize, "nodes are announced in order");
        let machine = self.directory.add_machine(node, name);
        self.machines.push(machine);
    }

    /// The machine's kernel runs.
    pub fn node_started(&mut self, node: NodeId) {
        self.machines[node.0 as usize].down = false;
    }

    /// The programs of a node have ended. Unless the power went, its kernel closes their sockets.
    pub fn node_died(&mut self, node: NodeId, how: Death, cx: &mut DeviceCx<'_>) {
        self.machines[node.0 as usize].down = how == Death::PowerOff;
        let listeners: Vec<Id> = self.listeners.ids().collect();
        for id in listeners {
            if self.listeners.get(id).is_some_and(|l| l.node == node) {
                match how {
                    Death::PowerOff => self.forget_listener(id),
                    Death::Exit | Death::Kill => self.close_listener(id, cx),
                }
            }
        }
        let connections: Vec<Id> = self.connections.ids().collect();
        for id in connections {
            self.connection_of_dead(id, node, how, cx);
        }
        if how == Death::PowerOff {
            self.machines[node.0 as usize].tcp.forget_lingering();
        }
        let sockets: Vec<Id> = self.sockets.ids().collect();
        for id in sockets {
            if self.sockets.get(id).is_some_and(|s| s.node == node) {
                self.close_udp(id);
            }
        }
        self.unix_node_died(node);
        self.pipes_node_died(node);
    }

    /// Gives a node one more address.
    ///
    /// # Panics
    /// If another node has it, or it is one no node can have (unspecified, loopback, multicast).
    pub fn assign(&mut self, node: NodeId, ip: IpAddr) {
        self.directory.assign(node, ip);
    }

    /// Lets a name resolve to these addresses, in this order.
    pub fn add_name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.directory.add_name(name, addresses);
    }

    /// The addresses of a name: a node's (IPv4 first), an added one, `localhost`, or an address as text.
    pub fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.directory.lookup(name)
    }

    /// The IPv4 and IPv6 addresses that a node has by its number.
    pub fn addresses(&self, node: NodeId) -> [IpAddr; 2] {
        let machine = &self.machines[node.0 as usize];
        [machine.v4.into(), machine.v6.into()]
    }

    fn name(&self, node: NodeId) -> &str {
        &self.machines[node.0 as usize].name
    }

    /// Whether programs of `node` may bind to `ip`.
    fn may_bind(&self, node: NodeId, ip: IpAddr, how: BindOptions) -> Result<(), Errno> {
        if how.v6_only && ip.is_ipv6() && ip.to_canonical().is_ipv4() {
            return Err(Errno::EINVAL);
        }
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_loopback() || self.directory.owns(node, ip) {
            return Ok(());
        }
        Err(Errno::EADDRNOTAVAIL)
    }

    fn route(&self, from: NodeId, to: IpAddr) -> Route {
        self.directory.route(from, &self.machines, to)
    }

    // ---- links ----------------------------------------------------------------------------------------------------

    /// The directed link between two nodes, made on first use.
    #[inline]
    fn link(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) -> u32 {
        match self.machines[from.0 as usize].links.get(to.0 as usize) {
            Some(link) if *link != NO_LINK => *link,
            _ => self.make_link(from, to, cx),
        }
    }

    #[cold]
    fn make_link(&mut self, from: NodeId, to: NodeId, cx: &mut DeviceCx<'_>) -> u32 {
        let key =
            hash::key(&[hash::text("link"), self.machines[from.0 as usize].key, self.machines[to.0 as usize].key]);
        cx.choices.name_key(key, || format!("link {}->{}", self.name(from), self.name(to)));
        let roughness = *self.roughness.get_or_insert_with(|| link::draw_roughness(cx.choices));
        let drawn = link::draw_link(cx.choices, roughness, key);
        let config = if from == to { &self.config.loopback } else { &self.config.link };
        let made = u32::try_from(self.links.len()).expect("fewer than 2^32 links");
        self.links.push(Link::new(from, to, drawn, config));
        let row = &mut self.machines[from.0 as usize].links;
        if row.len() <= to.0 as usize {
            row.resize(to.0 as usize + 1, NO_LINK);
        }
        row[to.0 as usize] = made;
        made
    }

    /// Sends a packet: asks for its fate, and lets it arrive or not.
    #[inline]
    fn transmit(&mut self, mut packet: Packet, question: sim_core::choices::Address, cx: &mut DeviceCx<'_>) {
        debug_assert_eq!(question.stream, Stream::NET);
        let link = &mut self.links[packet.link as usize];
        let (law, len) = match &packet.body {
            Body::Segment(s) => (link.segments, s.payload.len()),
            Body::Datagram(d) => (link.datagrams, d.payload.len()),
            Body::Unreachable { .. } | Body::Free => (link.segments, 0),
        };
        let fate = Fate::of(cx.ask(Stream::NET, question.key, question.n, law, "packet"));
        if link.blocks > 0 {
            return self.block_strikes(packet, cx);
        }
        let due = link.due(cx.now, len);
        match fate {
            Fate::Calm => self.under_way(packet, due, cx),
            Fate::Delayed(detail) => {
                let extra = link.extra(detail);
                self.fired("net.delay", &packet, cx, || format!(" by {extra:?}"));
                self.under_way(packet, due + extra, cx);
            }
            Fate::Lost => {
                self.fired("net.loss", &packet, cx, String::new);
                self.lost(packet, cx);
            }
            Fate::Doubled(detail) => {
                let extra = link.extra(detail >> 8);
                let twin = match &mut packet.body {
                    Body::Datagram(d) => Some(("net.duplicate", Body::Datagram(d.clone()))),
                    Body::Segment(s) => s.split(detail, &mut self.buffers).map(|s| ("net.split", Body::Segment(s))),
                    Body::Unreachable { .. } | Body::Free => None,
                };
                let Some((kind, body)) = twin else { return self.under_way(packet, due, cx) };
                self.fired(kind, &packet, cx, || format!(", the rest {extra:?} later"));
                let twin = Packet { link: packet.link, sent: packet.sent, body };
                self.under_way(packet, due, cx);
                self.under_way(twin, due + extra, cx);
            }
        }
    }

    /// Puts a packet on its link, or in the queue of a held link.
    #[inline]
    fn under_way(&mut self, packet: Packet, due: Instant, cx: &mut DeviceCx<'_>) {
        let held = self.links[packet.link as usize].held;
        if held {
            self.fired("net.hold", &packet, cx, String::new);
        }
        let link = packet.link;
        let place = match self.free_packets.pop() {
            Some(place) => {
                self.packets[place as usize] = packet;
                place
            }
            None => {
                self.packets.push(packet);
                u32::try_from(self.packets.len() - 1).expect("fewer than 2^32 packets under way")
            }
        };
        if held {
            self.links[link as usize].queue.push((place, due));
        } else {
            cx.schedule(due, Token::Arrival(place).pack());
        }
    }

    /// An event of this device.
    #[inline]
    pub fn on_event(&mut self, token: u64, cx: &mut DeviceCx<'_>) {
        if token >> 60 != 0 {
            return self.on_timer(token, cx);
        }
        let free = Packet { link: 0, sent: Instant::ZERO, body: Body::Free };
        let packet = std::mem::replace(&mut self.packets[token as usize], free);
        self.free_packets.push(token as u32);
        let link = &self.links[packet.link as usize];
        if link.blocks > 0 {
            return self.block_strikes(packet, cx);
        }
        let (from, to) = (link.from, link.to);
        if self.machines[to.0 as usize].down {
            cx.event(to, "net.drop", || format!("{}: the machine is off", self.describe(&packet)));
            return self.lost(packet, cx);
        }
        match packet.body {
            Body::Segment(segment) => self.segment_arrives(segment, packet.sent, cx),
            Body::Datagram(datagram) => {
                let took = cx.now - packet.sent;
                cx.metrics.latency(|| format!("udp {}->{}", self.name(from), self.name(to)), took);
                self.datagram_arrives(datagram, from, to, cx)
            }
            Body::Unreachable { socket } => self.unreachable_arrives(socket, cx),
            Body::Free => unreachable!("an event names a packet under way"),
        }
    }

    fn on_timer(&mut self, token: u64, cx: &mut DeviceCx<'_>) {
        let Some(id) = self.connections.id_at(token as u32) else { return };
        if id.generation & 0xff_ffff != (token >> 32) as u32 & 0xff_ffff {
            return;
        }
        let side = (token >> 56) as u8 & 1;
        match token >> 60 {
            1 => self.retransmission_due(id, side, cx),
            2 => self.credit_arrives(id, side, cx),
            3 => self.syn_due(id, cx),
            4 => self.syn_ack_due(id, cx),
            _ => self.keep_alive_due(id, side, cx),
        }
    }

    #[cold]
    fn block_strikes(&mut self, packet: Packet, cx: &mut DeviceCx<'_>) {
        self.fired("net.partition", &packet, cx, String::new);
        self.lost(packet, cx);
    }

    /// A packet will never arrive. Streams remember what to send again; of a datagram nobody ever hears.
    fn lost(&mut self, packet: Packet, cx: &mut DeviceCx<'_>) {
        match packet.body {
            Body::Segment(segment) => self.segment_lost(segment, cx),
            Body::Datagram(datagram) => self.buffers.give(datagram.payload),
            Body::Unreachable { .. } | Body::Free => {}
        }
    }

    fn fired(&self, kind: &'static str, packet: &Packet, cx: &mut DeviceCx<'_>, more: impl FnOnce() -> String) {
        let from = self.links[packet.link as usize].from;
        cx.fired(from, kind, || self.describe(packet) + &more());
    }

    fn describe(&self, packet: &Packet) -> String {
        let link = &self.links[packet.link as usize];
        let what = match &packet.body {
            Body::Segment(s) => s.describe(),
            Body::Datagram(d) => format!("udp {}->{}, {} bytes", d.from, d.to, d.payload.len()),
            Body::Unreachable { .. } | Body::Free => "icmp port unreachable".into(),
        };
        format!("{}->{} {what}", self.name(link.from), self.name(link.to))
    }
}
