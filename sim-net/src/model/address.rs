//! Who has which address, name and port.
//!
//! Node number 256·x + y has 10.0.x.y and fd00::xxyy; more can be assigned. Every node has 127.0.0.0/8 and ::1 to itself.
//! Names resolve at once and everywhere: the table stands for `/etc/hosts`. Not modelled: resolvers that are slow, stale
//! or down; multicast, broadcast, several interfaces, IPv6 zones.

use super::arena::Id;
use super::errno::Errno;
use sim_core::hash::{self, Map};
use sim_core::{NodeId, choices};
use std::collections::{BTreeMap, BTreeSet};
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

/// The bound ports of one protocol on one machine, sorted by port.
#[derive(Default)]
pub(super) struct Ports {
    bound: Vec<(u16, IpAddr, Id)>,
    /// Ports of connections that were opened from here.
    pub dialing: BTreeSet<u16>,
    next: u16,
}

impl Ports {
    fn at(&self, port: u16) -> &[(u16, IpAddr, Id)] {
        let from = self.bound.partition_point(|b| b.0 < port);
        let to = from + self.bound[from..].partition_point(|b| b.0 == port);
        &self.bound[from..to]
    }

    /// Binds `owner`, to the next free ephemeral port if `addr` names none.
    pub fn bind(&mut self, addr: SocketAddr, owner: Id) -> Result<SocketAddr, Errno> {
        let port = match addr.port() {
            0 => self.ephemeral()?,
            port => port,
        };
        if self.dialing.contains(&port) || self.at(port).iter().any(|b| overlap(b.1, addr.ip())) {
            return Err(Errno::EADDRINUSE);
        }
        let place = self.bound.partition_point(|b| b.0 <= port);
        self.bound.insert(place, (port, addr.ip(), owner));
        Ok(SocketAddr::new(addr.ip(), port))
    }

    pub fn unbind(&mut self, owner: Id, port: u16) {
        self.bound.retain(|b| b.0 != port || b.2 != owner);
    }

    /// Who gets what is sent to `ip`: whoever bound exactly that, else a wildcard of its family, else `[::]`.
    pub fn find(&self, ip: IpAddr, port: u16) -> Option<Id> {
        let at = self.at(port);
        let wildcard = |ip: IpAddr| if ip.is_ipv4() { any_v4() } else { any_v6() };
        [ip, wildcard(ip), any_v6()].iter().find_map(|want| at.iter().find(|b| b.1 == *want)).map(|b| b.2)
    }

    /// The next free port of the sequence that begins at 32768.
    pub fn ephemeral(&mut self) -> Result<u16, Errno> {
        for _ in EPHEMERAL {
            let port = if EPHEMERAL.contains(&self.next) { self.next } else { EPHEMERAL.start };
            self.next = port + 1;
            if !self.dialing.contains(&port) && self.at(port).is_empty() {
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

/// Whether two sockets of one port would get the same packets. `[::]` takes IPv4 too, as `bindv6only=0` has it.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let covers = |w: IpAddr, ip: IpAddr| w == any_v6() || (w == any_v4() && ip.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

/// Where an address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To this node.
    To(NodeId),
    /// Into the network, where nobody has it: packets vanish, and after three seconds ARP gives up.
    Nobody,
    /// Nowhere: no route.
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

    /// Lets a name resolve to these addresses, replacing what it resolved to.
    pub fn add_name(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.names.insert(name.to_ascii_lowercase(), addresses);
    }

    pub fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Ok(ip) = name.parse() {
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
        match self.routes.get(&ip) {
            Some(node) => Route::To(*node),
            None if attached => Route::Nobody,
            None => Route::Nowhere,
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
            _ if to.is_loopback() => to,
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
