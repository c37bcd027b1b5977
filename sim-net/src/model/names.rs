//! What a program can ask about names and interfaces beside the addresses of a name: ports of services, the name of an
//! address, the interfaces of its machine.
//!
//! The table of services stands for `/etc/services` and holds the few that programs ask for by name.

use super::Network;
use sim_core::NodeId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Name, port, whether over TCP, whether over UDP.
const SERVICES: [(&str, u16, bool, bool); 18] = [
    ("echo", 7, true, true),
    ("discard", 9, true, true),
    ("ftp", 21, true, false),
    ("ssh", 22, true, false),
    ("telnet", 23, true, false),
    ("smtp", 25, true, false),
    ("domain", 53, true, true),
    ("tftp", 69, false, true),
    ("http", 80, true, false),
    ("pop3", 110, true, false),
    ("ntp", 123, false, true),
    ("imap2", 143, true, false),
    ("ldap", 389, true, true),
    ("https", 443, true, true),
    ("imaps", 993, true, false),
    ("mysql", 3306, true, false),
    ("postgresql", 5432, true, false),
    ("http-alt", 8080, true, true),
];

/// The port of a service, given by name or number. `udp` chooses the protocol.
pub fn service_port(name: &str, udp: bool) -> Option<u16> {
    let named = || SERVICES.iter().find(|s| s.0 == name && (if udp { s.3 } else { s.2 })).map(|s| s.1);
    name.parse().ok().or_else(named)
}

/// The name of the service at a port.
pub fn service_name(port: u16, udp: bool) -> Option<&'static str> {
    SERVICES.iter().find(|s| s.1 == port && (if udp { s.3 } else { s.2 })).map(|s| s.0)
}

/// An address given in figures: IPv6, dotted IPv4, and what `inet_aton(3)` takes (`127.1`, `0x7f.1`, `2130706433`).
pub fn numeric_host(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| aton(text).map(IpAddr::from))
}

fn aton(text: &str) -> Option<Ipv4Addr> {
    let part = |p: &str| match p.as_bytes() {
        [b'0', b'x' | b'X', ..] => u32::from_str_radix(&p[2..], 16).ok(),
        [b'0', _, ..] => u32::from_str_radix(&p[1..], 8).ok(),
        [b'0'..=b'9', ..] => p.parse().ok(),
        _ => None,
    };
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    // The last part fills all the bytes that are left.
    let left = 32 - 8 * u32::try_from(first.len()).ok().filter(|n| *n < 4)?;
    if first.iter().any(|p| *p > 255) || (left < 32 && *last >> left != 0) {
        return None;
    }
    let head = first.iter().fold(0u32, |all, p| all << 8 | p);
    Some(Ipv4Addr::from(if left < 32 { head << left | last } else { *last }))
}

/// A network interface of a machine, as `getifaddrs(3)` shows it. All are up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// `lo` or `eth0`.
    pub name: &'static str,
    /// Its number, from 1.
    pub index: u32,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Its hardware address: zero for the loopback interface.
    pub hardware: [u8; 6],
    /// The greatest packet, bytes.
    pub mtu_bytes: u32,
    /// Addresses and the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Network {
    /// The interfaces of a node: `lo`, and `eth0` with all its addresses.
    pub fn interfaces(&self, node: NodeId) -> [Interface; 2] {
        let lo = Interface {
            name: "lo",
            index: 1,
            loopback: true,
            hardware: [0; 6],
            mtu_bytes: 65_536,
            addresses: vec![(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)],
        };
        let own = self.addresses(node);
        let assigned = self.directory.addresses_of(node).filter(|ip| !own.contains(ip));
        let prefix = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if v4.octets()[0] == 10 => 8,
            IpAddr::V6(v6) if v6.octets()[0] == 0xfd => 8,
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let [x, y] = node.0.to_be_bytes();
        let eth0 = Interface {
            name: "eth0",
            index: 2,
            loopback: false,
            // Administered locally, as the addresses are.
            hardware: [0x02, 0, 10, 0, x, y],
            mtu_bytes: 1500,
            addresses: own.into_iter().chain(assigned).map(|ip| (ip, prefix(ip))).collect(),
        };
        [lo, eth0]
    }

    /// The name of an address: `localhost`, or that of the node that has it.
    pub fn reverse(&self, ip: IpAddr) -> Option<&str> {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return Some("localhost");
        }
        Some(self.name(self.directory.owner(ip)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn services_have_names_and_numbers() {
        assert_eq!((service_port("https", false), service_port("8443", true)), (Some(443), Some(8443)));
        assert_eq!((service_port("ssh", true), service_port("65536", false)), (None, None));
        assert_eq!((service_name(53, true), service_name(22, true)), (Some("domain"), None));
    }

    #[test]
    fn addresses_in_figures_are_those_of_inet_aton() {
        let given = ["127.1", "0x7f.1", "0177.0.0.1", "2130706433", "10.1.258", "::1", "1.2.3.4"];
        let meant = ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "10.1.1.2", "::1", "1.2.3.4"];
        for (text, ip) in given.into_iter().zip(meant) {
            assert_eq!(numeric_host(text), ip.parse().ok(), "{text}");
        }
        for text in ["", "kv0", "1.2.3.4.5", "256.1", "1.16777216", "4294967296", "1..2", "08", "0x"] {
            assert_eq!(numeric_host(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_node_has_a_loopback_and_one_interface_with_all_its_addresses() {
        let mut net = Network::new(Config::default());
        for (i, name) in [(1, "a"), (2, "b")] {
            net.node_added(NodeId(i), name);
        }
        let more: IpAddr = [192, 168, 1, 9].into();
        net.assign(NodeId(2), more);
        let [lo, eth0] = net.interfaces(NodeId(2));
        assert_eq!((lo.name, lo.loopback, eth0.name, eth0.index), ("lo", true, "eth0", 2));
        let shown: Vec<String> = eth0.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
        assert_eq!(shown, ["10.0.0.2/8", "fd00::2/8", "192.168.1.9/32"]);
        assert_eq!((net.reverse(more), net.reverse([10, 0, 0, 1].into())), (Some("b"), Some("a")));
        assert_eq!((net.reverse([127, 0, 0, 9].into()), net.reverse([8, 8, 8, 8].into())), (Some("localhost"), None));
    }
}
