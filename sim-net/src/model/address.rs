//! Who has which address, name and port.
//!
//! Node number 256·x + y has 10.0.x.y and fd00::xxyy; more can be assigned. Every node has 127.0.0.0/8 and ::1 to itself.
//! Names resolve at once and everywhere: the table stands for `/etc/hosts`. Not modelled: resolvers that are slow, stale
//! or down; multicast, broadcast, several interfaces, IPv6 zones.

use super::arena::Id;
use super::errno::Errno;
use super::names::numeric_host;
use sim_core::hash::{self, Map};
use sim_core::{Instant, NodeId, choices};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first ephemeral port and the one after the last (`ip_local_port_range` as Linux sets it).
const EPHEMERAL: std::ops::Range<u16> = 32768..61000;

/// A network's view of a machine.
pub(super) struct Machine {
    pub name: String,
    pub key: u64,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    /// Powered off: it answers nothing until it starts again.
    pub down: bool,
    /// Links to other nodes by their number; [`NO_LINK`] until first used.
    pub links: Vec<u32>,
    pub tcp: Ports,
    pub udp: Ports,
    /// How many connections were opened to a service, by its node's key and port: part of a connection's identity.
    pub dialed: Map<(u64, u16), u32>,
    /// How often a UDP port was bound: part of its packets' identity.
    pub udp_binds: Map<u16, u32>,
}

pub(super) const NO_LINK: u32 = u32::MAX;

/// With whom a socket may share its address, and whether an IPv6 one takes IPv4 too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BindOptions {
    /// SO_REUSEADDR.
    pub reuse_addr: bool,
    /// SO_REUSEPORT: packets are spread over all who share the address.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
}

/// A port that somebody has.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    port: u16,
    /// IPv4 for IPv4 in IPv6.
    ip: IpAddr,
    pub owner: Id,
    how: BindOptions,
    /// A TCP socket that listens.
    pub listens: bool,
    /// Its program named the port.
    named: bool,
}

impl Bound {
    fn overlaps(&self, other: &Bound) -> bool {
        let covers = |w: &Bound, ip: IpAddr| {
            w.ip == any_v6() && (ip.is_ipv6() || !w.how.v6_only) || w.ip == any_v4() && ip.is_ipv4()
        };
        // `[::]` takes IPv4 too, as `bindv6only=0` has it, so it and a wildcard of IPv4 would get the same packets.
        self.port == other.port && (self.ip == other.ip || covers(self, other.ip) || covers(other, self.ip))
    }

    /// `inet_bind_conflict()`. UDP sockets never listen.
    fn conflicts(&self, other: &Bound) -> bool {
        let reuse = self.how.reuse_addr && other.how.reuse_addr && !other.listens;
        let share = self.how.reuse_port && other.how.reuse_port;
        self.overlaps(other) && !reuse && !share
    }

    /// How well it fits a packet to `ip`: an exact address before a wildcard of its family before `[::]` for IPv4.
    fn fits(&self, ip: IpAddr) -> Option<u8> {
        match () {
            () if self.ip == ip => Some(2),
            () if self.ip.is_unspecified() && self.ip.is_ipv4() == ip.is_ipv4() => Some(1),
            () if self.ip == any_v6() && !self.how.v6_only => Some(0),
            () => None,
        }
    }
}

/// What a connection keeps from others: its port, its own address, and with whom its socket would share them.
pub(super) type Held = (u16, IpAddr, BindOptions);

/// How many connections hold the same.
struct Holders {
    live: u32,
    /// Closed by their programs; the last of them is forgotten at `until`.
    lingering: u32,
    until: Instant,
}

/// The bound ports of one protocol on one machine, sorted by port.
#[derive(Default)]
pub(super) struct Ports {
    bound: Vec<Bound>,
    /// What connections hold, on both of their sides.
    held: BTreeMap<Held, Holders>,
    next: u16,
}

impl Ports {
    fn at(&self, port: u16) -> &[Bound] {
        let from = self.bound.partition_point(|b| b.port < port);
        let to = from + self.bound[from..].partition_point(|b| b.port == port);
        &self.bound[from..to]
    }

    /// Binds `owner`, to the next free ephemeral port if `addr` names none.
    pub fn bind(&mut self, addr: SocketAddr, how: BindOptions, owner: Id, now: Instant) -> Result<SocketAddr, Errno> {
        let port = match addr.port() {
            0 => self.ephemeral()?,
            port => port,
        };
        let named = addr.port() != 0;
        let bound = Bound { port, ip: addr.ip().to_canonical(), owner, how, listens: false, named };
        if named && self.is_held_from(&bound, now) || self.at(port).iter().any(|b| bound.conflicts(b)) {
            return Err(Errno::EADDRINUSE);
        }
        let place = self.bound.partition_point(|b| b.port <= port);
        self.bound.insert(place, bound);
        Ok(SocketAddr::new(addr.ip(), port))
    }

    /// A bound socket begins to listen.
    pub fn listen(&mut self, owner: Id, port: u16, now: Instant) -> Result<(), Errno> {
        let Some(place) = self.bound.iter().position(|b| b.owner == owner) else { return Err(Errno::EBADF) };
        let own = self.bound[place];
        if self.is_held_from(&own, now) {
            return Err(Errno::EADDRINUSE);
        }
        if self.at(port).iter().any(|b| b.owner != owner && b.listens && own.conflicts(b)) {
            return Err(Errno::EADDRINUSE);
        }
        self.bound[place].listens = true;
        Ok(())
    }

    /// A bound socket listens no more.
    pub fn listen_no_more(&mut self, owner: Id) {
        self.bound.iter_mut().filter(|b| b.owner == owner).for_each(|b| b.listens = false);
    }

    pub fn unbind(&mut self, owner: Id, port: u16) {
        self.bound.retain(|b| b.port != port || b.owner != owner);
    }

    /// With whom connections of a bound socket share its port, and whether its program named it.
    pub fn how(&self, owner: Id, port: u16) -> (BindOptions, bool) {
        let own = self.at(port).iter().find(|b| b.owner == owner);
        own.map(|b| (b.how, b.named)).unwrap_or_default()
    }

    // ---- what connections hold ------------------------------------------------------------------------------------

    fn held_at(&self, port: u16) -> impl Iterator<Item = (&Held, &Holders)> {
        let first = (port, any_v4(), BindOptions::default());
        self.held.range(first..).take_while(move |((p, ..), _)| *p == port)
    }

    /// Whether a connection keeps what `bound` wants: `inet_csk_bind_conflict()` goes through them like through any socket.
    fn is_held_from(&self, bound: &Bound, now: Instant) -> bool {
        self.held_at(bound.port).any(|((port, ip, how), by)| {
            let other = Bound { port: *port, ip: *ip, how: *how, listens: false, ..*bound };
            (by.live > 0 || by.lingering > 0 && now < by.until) && bound.conflicts(&other)
        })
    }

    /// A connection holds this from now on.
    pub fn hold(&mut self, held: Held) {
        self.held.entry(held).or_insert(Holders { live: 0, lingering: 0, until: Instant::ZERO }).live += 1;
    }

    /// A connection is gone.
    pub fn release(&mut self, held: Held) {
        if let Some(by) = self.held.get_mut(&held) {
            by.live -= 1;
            if by.live == 0 && by.lingering == 0 {
                self.held.remove(&held);
            }
        }
    }

    /// A connection is closed here, and remembered until then.
    pub fn linger(&mut self, held: Held, until: Instant, now: Instant) {
        if let Some(by) = self.held.get_mut(&held) {
            by.live -= 1;
            by.lingering = if now < by.until { by.lingering + 1 } else { 1 };
            by.until = by.until.max(until);
        }
    }

    /// What was to be remembered until then is forgotten.
    pub fn linger_no_more(&mut self, held: Held, until: Instant, now: Instant) {
        if let Some(by) = self.held.get_mut(&held).filter(|_| now < until) {
            by.lingering = by.lingering.saturating_sub(1);
            if by.live == 0 && by.lingering == 0 {
                self.held.remove(&held);
            }
        }
    }

    /// The machine lost power: it remembers nothing.
    pub fn forget_lingering(&mut self) {
        self.held.retain(|_, by| {
            by.lingering = 0;
            by.live > 0
        });
    }

    /// Whether a connection that its program has not closed is at this port.
    pub fn is_live(&self, port: u16) -> bool {
        self.held_at(port).any(|(_, by)| by.live > 0)
    }

    /// Who gets what is sent to `ip`, among those whom `rank` lets have it and ranks: the best, of equals the one bound
    /// last, or with SO_REUSEPORT the one that `pick` takes of so many.
    #[inline]
    pub fn find(
        &self,
        ip: IpAddr,
        port: u16,
        pick: impl FnOnce(u64) -> u64,
        rank: impl Fn(&Bound) -> Option<u8>,
    ) -> Option<Id> {
        let score = |b: &Bound| Some(b.fits(ip)? + 4 * rank(b)?);
        match self.at(port) {
            [] => None,
            [only] => score(only).map(|_| only.owner),
            several => {
                let best = several.iter().filter_map(score).max()?;
                let equals = || several.iter().filter(|b| score(b) == Some(best));
                let last = equals().next_back()?;
                if !last.how.reuse_port {
                    return Some(last.owner);
                }
                let count = equals().count() as u64;
                equals().nth((pick(count) % count) as usize).map(|b| b.owner)
            }
        }
    }

    /// The next free port of the sequence that begins at 32768. One that a closed connection is remembered by is free for
    /// who names none: Linux would take others first, which here all have had their turn.
    pub fn ephemeral(&mut self) -> Result<u16, Errno> {
        for _ in EPHEMERAL {
            let port = if EPHEMERAL.contains(&self.next) { self.next } else { EPHEMERAL.start };
            self.next = port + 1;
            if !self.is_live(port) && self.at(port).is_empty() {
                return Ok(port);
            }
        }
        Err(Errno::EADDRNOTAVAIL)
    }
}

fn any_v4() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

fn any_v6() -> IpAddr {
    Ipv6Addr::UNSPECIFIED.into()
}

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To this node.
    To(NodeId),
    /// Into the network, where nobody has it: packets vanish, and after three seconds ARP gives up.
    Nobody,
    /// To the default gateway, behind which nobody has it: packets vanish, and nobody says so.
    Beyond,
    /// Nowhere: no route. The gateway speaks IPv4 only, as at most places.
    Nowhere,
}

/// Names and addresses of all nodes.
#[derive(Default)]
pub(super) struct Directory {
    names: BTreeMap<String, Vec<IpAddr>>,
    routes: BTreeMap<IpAddr, NodeId>,
}

impl Directory {
    pub fn add_machine(&mut self, node: NodeId, name: &str) -> Machine {
        let [x, y] = node.0.to_be_bytes();
        let (v4, v6) = (Ipv4Addr::new(10, 0, x, y), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, node.0));
        for ip in [IpAddr::from(v4), v6.into()] {
            let before = self.routes.insert(ip, node);
            assert!(before.is_none(), "{ip} was assigned by hand before node {name} came and got it by its number");
        }
        self.names.insert(name.to_ascii_lowercase(), vec![v4.into(), v6.into()]);
        Machine {
            name: name.to_owned(),
            key: hash::text(name),
            v4,
            v6,
            down: false,
            links: Vec::new(),
            tcp: Ports::default(),
            udp: Ports::default(),
            dialed: Map::default(),
            udp_binds: Map::default(),
        }
    }

    /// Gives `node` one more address.
    ///
    /// # Panics
    /// If another node has it, or no node can have it.
    pub fn assign(&mut self, node: NodeId, ip: IpAddr) {
        let usable = !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast();
        assert!(usable, "{ip} cannot be the address of a node");
        let before = self.routes.insert(ip, node);
        assert!(before.is_none_or(|n| n == node), "another node has the address {ip}");
    }

    pub fn owns(&self, node: NodeId, ip: IpAddr) -> bool {
        self.routes.get(&ip) == Some(&node)
    }

    /// Who has an address.
    pub fn owner(&self, ip: IpAddr) -> Option<NodeId> {
        self.routes.get(&ip).copied()
    }

    /// All addresses of a node, in order.
    pub fn addresses_of(&self, node: NodeId) -> impl Iterator<Item = IpAddr> + '_ {
        self.routes.iter().filter(move |(_, n)| **n == node).map(|(ip, _)| *ip)
    }

    /// Lets a name resolve to these addresses, replacing what it resolved to.
    pub fn add_name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.names.insert(name.to_ascii_lowercase(), addresses);
    }

    pub fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(ip) = numeric_host(name) {
            return Some(vec![ip]);
        }
        let name = name.to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        // RFC 6761, section 6.3: always the loopback addresses, also where a node has that name.
        if name == "localhost" {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.names.get(name).cloned()
    }

    pub fn route(&self, from: NodeId, machines: &[Machine], ip: IpAddr) -> Route {
        // Linux takes the unspecified address for the machine itself.
        if ip.is_loopback() || ip.is_unspecified() {
            return Route::To(from);
        }
        if let IpAddr::V4(v4) = ip {
            let [.., x, y] = v4.octets();
            let guess = u16::from_be_bytes([x, y]);
            if guess != 0 && machines.get(guess as usize).is_some_and(|m| m.v4 == v4) {
                return Route::To(NodeId(guess));
            }
        }
        let attached = match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.octets()[0] == 0xfd,
        };
        match (self.routes.get(&ip), ip) {
            (Some(node), _) => Route::To(*node),
            _ if attached => Route::Nobody,
            // Multicast, and what is reserved, are nobody's address.
            (None, IpAddr::V4(v4)) if (1..224).contains(&v4.octets()[0]) => Route::Beyond,
            _ => Route::Nowhere,
        }
    }
}

impl Machine {
    /// The address that packets to `to` leave from, if the socket was bound to `bound`.
    pub fn source(&self, bound: IpAddr, to: IpAddr) -> Result<IpAddr, Errno> {
        let from = match to {
            _ if !bound.is_unspecified() => bound,
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            // Also for 127.0.0.2: what the local routing table prefers.
            IpAddr::V4(_) if to.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) if to.is_loopback() => to,
            IpAddr::V4(_) => self.v4.into(),
            IpAddr::V6(_) => self.v6.into(),
        };
        // A packet from 127.0.0.1 never leaves the machine (Linux: EINVAL from `connect` and `sendto`).
        let leaves = !to.is_loopback() && !to.is_unspecified();
        if from.is_loopback() && leaves && to != IpAddr::from(self.v4) && to != IpAddr::from(self.v6) {
            return Err(Errno::EINVAL);
        }
        Ok(from)
    }
}

/// The unspecified address as the loopback that Linux takes it for; IPv4 in IPv6 as IPv4.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// An address as a dual-stack IPv6 socket shows it: `::ffff:10.0.0.1`.
pub(super) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The `n`-th packet of a stream of packets; `key` is its identity.
#[derive(Clone, Copy, Default)]
pub(super) struct Counter {
    pub key: u64,
    n: u32,
}

impl Counter {
    pub fn new(key: u64) -> Counter {
        Counter { key, n: 0 }
    }

    #[inline]
    pub fn next(&mut self) -> choices::Address {
        let n = self.n;
        self.n = n.wrapping_add(1);
        choices::Address { stream: choices::Stream::NET, key: self.key, n }
    }
}
