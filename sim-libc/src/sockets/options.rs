//! Options of sockets: kept as they were set, and read back as Linux would show them.
//!
//! Those with an effect are read where they have it: timeouts by the calls that wait, linger and the rest by the network.
//! All others are kept for who asks, because no program can see more of them here than on its own machine's loopback:
//! Nagle, quick acknowledgements, type of service, hops. What a datagram socket asks to be told with each datagram is told by
//! recvmsg: the address it was sent to, and the type of service and hops of a network that carries neither. An option that is
//! not listed, or would have an effect that is not modelled, is refused (ENOPROTOOPT), as by a kernel without it.

use crate::descriptors::{Answer, Errno};
use sim_net::{BindOptions, KeepAlive, TcpOptions};
use std::net::IpAddr;
use std::time::Duration;

/// What a socket is, as far as options ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub family: i32,
    pub kind: i32,
    pub protocol: i32,
}

/// The options of one socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub reuse_address: i32,
    pub reuse_port: i32,
    pub broadcast: i32,
    pub keep_alive: i32,
    /// SO_LINGER, seconds.
    pub linger: Option<i32>,
    receive_bytes: i32,
    send_bytes: i32,
    /// The sizes that the program asked for.
    pub receive_asked: Option<i32>,
    pub send_asked: Option<i32>,
    pub receive_timeout: Option<Duration>,
    pub send_timeout: Option<Duration>,
    pub nodelay: i32,
    pub keep_idle_s: i32,
    pub keep_interval_s: i32,
    pub keep_count: i32,
    pub user_timeout_ms: i32,
    pub hops: i32,
    pub v6_only: i32,
    max_segment: i32,
    cork: i32,
    quick_ack: i32,
    defer_accept_s: i32,
    linger2_s: i32,
    syn_count: i32,
    not_sent_low: i32,
    window_clamp: i32,
    type_of_service: i32,
    traffic_class: i32,
    unicast_hops: i32,
    multicast_hops: i32,
    multicast_loop: i32,
    multicast_hops_v6: i32,
    multicast_loop_v6: i32,
    mtu_discover: i32,
    mtu_discover_v6: i32,
    receive_errors: i32,
    receive_errors_v6: i32,
    packet_info: i32,
    packet_info_v6: i32,
    receive_tos: i32,
    receive_class: i32,
    receive_hops: i32,
    priority: i32,
    dont_route: i32,
    out_of_band_inline: i32,
    time_stamps: i32,
    pub pass_credentials: i32,
    receive_low: i32,
}

/// The least buffers (`SOCK_MIN_RCVBUF`, `SOCK_MIN_SNDBUF`) and the greatest that may be asked for (`rmem_max`, `wmem_max`).
const LEAST_RECEIVE: i32 = 2304;
const LEAST_SEND: i32 = 4608;
const GREATEST: i32 = 212_992;

impl Options {
    pub(crate) fn new(kind: Kind) -> Options {
        let stream = kind.kind == libc::SOCK_STREAM && kind.family != libc::AF_UNIX;
        Options {
            reuse_address: 0,
            reuse_port: 0,
            broadcast: 0,
            keep_alive: 0,
            linger: None,
            receive_bytes: if stream { 131_072 } else { 212_992 },
            send_bytes: if stream { 16_384 } else { 212_992 },
            receive_asked: None,
            send_asked: None,
            receive_timeout: None,
            send_timeout: None,
            nodelay: 0,
            keep_idle_s: 7200,
            keep_interval_s: 75,
            keep_count: 9,
            user_timeout_ms: 0,
            hops: 64,
            v6_only: 0,
            max_segment: if kind.family == libc::AF_INET6 { 1220 } else { 536 },
            cork: 0,
            quick_ack: 1,
            defer_accept_s: 0,
            linger2_s: 60,
            syn_count: 6,
            not_sent_low: -1,
            window_clamp: 0,
            type_of_service: 0,
            traffic_class: 0,
            unicast_hops: 64,
            multicast_hops: 1,
            multicast_loop: 1,
            multicast_hops_v6: 1,
            multicast_loop_v6: 1,
            mtu_discover: 1,
            mtu_discover_v6: 1,
            receive_errors: 0,
            receive_errors_v6: 0,
            packet_info: 0,
            packet_info_v6: 0,
            receive_tos: 0,
            receive_class: 0,
            receive_hops: 0,
            priority: 0,
            dont_route: 0,
            out_of_band_inline: 0,
            time_stamps: 0,
            pass_credentials: 0,
            receive_low: 1,
        }
    }
}

/// What recvmsg(2) tells of a datagram besides its bytes: level, type and value (cmsg(3)).
pub(crate) struct Control {
    pub level: i32,
    pub name: i32,
    pub value: Vec<u8>,
}

impl Options {
    /// Whether anything is told with each datagram.
    pub(crate) fn tells(&self) -> bool {
        let asked = [self.packet_info, self.packet_info_v6, self.receive_tos, self.receive_class, self.receive_hops];
        asked.iter().any(|asked| *asked != 0)
    }

    /// What is told of a datagram that was sent to `to`: of one by IPv4 what was asked at that level, also on a socket of
    /// IPv6 (ip_cmsg_recv_offset, net/ipv4/ip_sockglue.c; ip6_datagram_recv_ctl, net/ipv6/datagram.c).
    pub(crate) fn control(&self, kind: Kind, to: IpAddr) -> Vec<Control> {
        const HOPS: i32 = 64;
        let (v4, v6) = (libc::IPPROTO_IP, libc::IPPROTO_IPV6);
        let interface: i32 = if to.to_canonical().is_loopback() { 1 } else { 2 };
        let mut told = Vec::new();
        let mut tell = |asked: i32, level, name, value: Vec<u8>| {
            if asked != 0 {
                told.push(Control { level, name, value });
            }
        };
        if let IpAddr::V4(to) = to.to_canonical() {
            // struct in_pktinfo: interface, address here, address in the packet.
            let info = [&interface.to_ne_bytes()[..], &to.octets(), &to.octets()].concat();
            tell(self.packet_info, v4, libc::IP_PKTINFO, info);
            tell(self.receive_hops, v4, libc::IP_TTL, HOPS.to_ne_bytes().to_vec());
            tell(self.receive_tos, v4, libc::IP_TOS, vec![0]);
        }
        if kind.family == libc::AF_INET6 {
            let address = match to {
                IpAddr::V4(to) => to.to_ipv6_mapped(),
                IpAddr::V6(to) => to,
            };
            let info = [&address.octets()[..], &interface.to_ne_bytes()].concat();
            tell(self.packet_info_v6, v6, libc::IPV6_PKTINFO, info);
            tell(self.receive_class, v6, libc::IPV6_TCLASS, 0i32.to_ne_bytes().to_vec());
        }
        told
    }
}

/// What values an option takes.
enum Takes {
    /// 0 or 1: whatever is not 0 is kept as 1.
    Flag,
    /// From … to, else EINVAL.
    Range(i32, i32),
    /// The same; -1 sets it to the default.
    RangeOr(i32, i32, i32),
    Any,
    /// None but its default: what others would change is not modelled.
    Only(i32),
    /// One byte of it, without the bits that congestion control has of a stream.
    TypeOfService,
}

/// The place of an option that is one number.
fn number(o: &mut Options, kind: Kind, level: i32, name: i32) -> Option<(&mut i32, Takes)> {
    use Takes::*;
    let ip = kind.family != libc::AF_UNIX;
    let v6 = kind.family == libc::AF_INET6;
    let tcp = ip && kind.kind == libc::SOCK_STREAM;
    Some(match (level, name) {
        (libc::SOL_SOCKET, name) => match name {
            libc::SO_REUSEADDR => (&mut o.reuse_address, Flag),
            libc::SO_REUSEPORT => (&mut o.reuse_port, Flag),
            libc::SO_BROADCAST => (&mut o.broadcast, Flag),
            libc::SO_KEEPALIVE => (&mut o.keep_alive, Flag),
            libc::SO_DONTROUTE => (&mut o.dont_route, Flag),
            libc::SO_OOBINLINE => (&mut o.out_of_band_inline, Flag),
            libc::SO_TIMESTAMP => (&mut o.time_stamps, Only(0)),
            libc::SO_PASSCRED => (&mut o.pass_credentials, Only(0)),
            libc::SO_PRIORITY => (&mut o.priority, Range(0, 6)),
            libc::SO_RCVLOWAT => (&mut o.receive_low, Only(1)),
            _ => return None,
        },
        (libc::IPPROTO_TCP, name) if tcp => match name {
            libc::TCP_NODELAY => (&mut o.nodelay, Flag),
            libc::TCP_CORK => (&mut o.cork, Flag),
            libc::TCP_QUICKACK => (&mut o.quick_ack, Flag),
            libc::TCP_MAXSEG => (&mut o.max_segment, Range(88, 32_767)),
            libc::TCP_KEEPIDLE => (&mut o.keep_idle_s, Range(1, 32_767)),
            libc::TCP_KEEPINTVL => (&mut o.keep_interval_s, Range(1, 32_767)),
            libc::TCP_KEEPCNT => (&mut o.keep_count, Range(1, 127)),
            libc::TCP_SYNCNT => (&mut o.syn_count, Range(1, 127)),
            libc::TCP_LINGER2 => (&mut o.linger2_s, Any),
            libc::TCP_DEFER_ACCEPT => (&mut o.defer_accept_s, Only(0)),
            libc::TCP_WINDOW_CLAMP => (&mut o.window_clamp, Any),
            libc::TCP_USER_TIMEOUT => (&mut o.user_timeout_ms, Range(0, i32::MAX)),
            libc::TCP_NOTSENT_LOWAT => (&mut o.not_sent_low, Any),
            _ => return None,
        },
        (libc::IPPROTO_IP, name) if ip => match name {
            libc::IP_TTL => (&mut o.hops, RangeOr(1, 255, 64)),
            libc::IP_TOS => (&mut o.type_of_service, TypeOfService),
            libc::IP_MULTICAST_TTL => (&mut o.multicast_hops, RangeOr(0, 255, 1)),
            libc::IP_MULTICAST_LOOP => (&mut o.multicast_loop, Flag),
            libc::IP_MTU_DISCOVER => (&mut o.mtu_discover, Range(0, 5)),
            libc::IP_RECVERR => (&mut o.receive_errors, Flag),
            libc::IP_PKTINFO => (&mut o.packet_info, Flag),
            libc::IP_RECVTOS => (&mut o.receive_tos, Flag),
            libc::IP_RECVTTL => (&mut o.receive_hops, Flag),
            _ => return None,
        },
        (libc::IPPROTO_IPV6, name) if v6 => match name {
            libc::IPV6_V6ONLY => (&mut o.v6_only, Flag),
            libc::IPV6_UNICAST_HOPS => (&mut o.unicast_hops, RangeOr(0, 255, 64)),
            libc::IPV6_MULTICAST_HOPS => (&mut o.multicast_hops_v6, RangeOr(0, 255, 1)),
            libc::IPV6_MULTICAST_LOOP => (&mut o.multicast_loop_v6, Range(0, 1)),
            libc::IPV6_MTU_DISCOVER => (&mut o.mtu_discover_v6, Range(0, 5)),
            libc::IPV6_RECVERR => (&mut o.receive_errors_v6, Flag),
            libc::IPV6_RECVPKTINFO => (&mut o.packet_info_v6, Flag),
            libc::IPV6_TCLASS => (&mut o.traffic_class, RangeOr(0, 255, 0)),
            libc::IPV6_RECVTCLASS => (&mut o.receive_class, Flag),
            _ => return None,
        },
        _ => return None,
    })
}

/// The value of an option that is a number, from what the program gave. One byte will do for some at the level of IP.
fn given(level: i32, value: &[u8]) -> Answer<i32> {
    match value {
        [a, b, c, d, ..] => Ok(i32::from_ne_bytes([*a, *b, *c, *d])),
        [one, ..] if level == libc::IPPROTO_IP => Ok(*one as i32),
        _ => Err(Errno::INVALID),
    }
}

fn given_time(value: &[u8]) -> Answer<Option<Duration>> {
    let [a, b] = pair(value)?;
    if !(0..1_000_000).contains(&b) {
        return Err(Errno(libc::EDOM));
    }
    // Linux, sock_set_timeout(): negative seconds mean not to wait at all.
    if a < 0 {
        return Ok(Some(Duration::ZERO));
    }
    let time = Duration::new(a as u64, b as u32 * 1_000);
    Ok((time != Duration::ZERO).then_some(time))
}

/// Two 64-bit numbers: a `timeval`.
fn pair(value: &[u8]) -> Answer<[i64; 2]> {
    let number = |i: usize| Some(i64::from_ne_bytes(value.get(8 * i..8 * i + 8)?.try_into().ok()?));
    Ok([number(0).ok_or(Errno::INVALID)?, number(1).ok_or(Errno::INVALID)?])
}

/// SO_RCVTIMEO and SO_SNDTIMEO have two numbers each: with `time_t` of the old and of the new kind, here of one size.
const RECEIVE_TIMEOUTS: [i32; 2] = [libc::SO_RCVTIMEO, 66];
const SEND_TIMEOUTS: [i32; 2] = [libc::SO_SNDTIMEO, 67];

impl Options {
    /// With whom the socket may share its address.
    pub(crate) fn sharing(&self) -> BindOptions {
        BindOptions {
            reuse_addr: self.reuse_address != 0,
            reuse_port: self.reuse_port != 0,
            v6_only: self.v6_only != 0,
        }
    }

    /// What the network wants to know of them for TCP.
    pub(crate) fn of_tcp(&self) -> TcpOptions {
        let seconds = |s: i32| Duration::from_secs(s.max(0) as u64);
        TcpOptions {
            nodelay: self.nodelay != 0,
            ttl: self.hops as u32,
            linger: self.linger.map(seconds),
            keep_alive: KeepAlive {
                on: self.keep_alive != 0,
                idle: seconds(self.keep_idle_s),
                interval: seconds(self.keep_interval_s),
                count: self.keep_count as u32,
            },
            user_timeout: (self.user_timeout_ms > 0).then(|| Duration::from_millis(self.user_timeout_ms as u64)),
            // The kernel doubles what is asked for, for its own needs (man 7 socket): half of it holds bytes.
            send_buffer_bytes: self.send_asked.map(|n| n as u32),
            receive_buffer_bytes: self.receive_asked.map(|n| n as u32),
        }
    }

    /// setsockopt(2).
    pub(crate) fn set(&mut self, kind: Kind, level: i32, name: i32, value: &[u8]) -> Answer<()> {
        let tcp = kind.family != libc::AF_UNIX && kind.kind == libc::SOCK_STREAM;
        if value.len() < 4 && (level == libc::SOL_SOCKET || (level == libc::IPPROTO_TCP && tcp)) {
            return Err(Errno::INVALID);
        }
        if level == libc::SOL_SOCKET {
            match name {
                libc::SO_LINGER => {
                    let on = given(level, value)?;
                    let seconds = given(level, value.get(4..).unwrap_or(&[]))?;
                    self.linger = (on != 0).then_some(seconds);
                    return Ok(());
                }
                libc::SO_RCVBUF => {
                    self.receive_bytes = (given(level, value)?.clamp(0, GREATEST) * 2).max(LEAST_RECEIVE);
                    self.receive_asked = Some(self.receive_bytes / 2);
                    return Ok(());
                }
                libc::SO_SNDBUF => {
                    self.send_bytes = (given(level, value)?.clamp(0, GREATEST) * 2).max(LEAST_SEND);
                    self.send_asked = Some(self.send_bytes / 2);
                    return Ok(());
                }
                name if RECEIVE_TIMEOUTS.contains(&name) => {
                    self.receive_timeout = given_time(value)?;
                    return Ok(());
                }
                name if SEND_TIMEOUTS.contains(&name) => {
                    self.send_timeout = given_time(value)?;
                    return Ok(());
                }
                libc::SO_TYPE | libc::SO_PROTOCOL | libc::SO_DOMAIN | libc::SO_ERROR | libc::SO_ACCEPTCONN => {
                    return Err(Errno(libc::ENOPROTOOPT));
                }
                // Needs CAP_NET_ADMIN or CAP_NET_RAW.
                libc::SO_MARK | libc::SO_BINDTODEVICE | libc::SO_RCVBUFFORCE | libc::SO_SNDBUFFORCE => {
                    return Err(Errno(libc::EPERM));
                }
                _ => {}
            }
        }
        let (place, takes) = number(self, kind, level, name).ok_or(Errno(libc::ENOPROTOOPT))?;
        let given = given(level, value)?;
        *place = match takes {
            Takes::Flag => (given != 0) as i32,
            Takes::Any => given,
            Takes::Only(default) if given == default => given,
            Takes::Only(_) => return Err(Errno(libc::ENOPROTOOPT)),
            Takes::TypeOfService => given & if tcp { 0xfc } else { 0xff },
            Takes::Range(least, most) | Takes::RangeOr(least, most, _) if (least..=most).contains(&given) => given,
            Takes::RangeOr(_, _, default) if given == -1 => default,
            Takes::Range(..) | Takes::RangeOr(..) => return Err(Errno::INVALID),
        };
        Ok(())
    }

    /// getsockopt(2), for those that are kept here.
    pub(crate) fn get(&mut self, kind: Kind, level: i32, name: i32) -> Answer<Vec<u8>> {
        let int = |value: i32| Ok(value.to_ne_bytes().to_vec());
        let time = |time: Option<Duration>| {
            let time = time.unwrap_or_default();
            let parts = [time.as_secs() as i64, time.subsec_micros() as i64];
            Ok(parts.iter().flat_map(|p| p.to_ne_bytes()).collect())
        };
        if level == libc::SOL_SOCKET {
            match name {
                libc::SO_TYPE => return int(kind.kind),
                libc::SO_DOMAIN => return int(kind.family),
                libc::SO_PROTOCOL => return int(kind.protocol),
                libc::SO_RCVBUF => return int(self.receive_bytes),
                libc::SO_SNDBUF => return int(self.send_bytes),
                libc::SO_LINGER => {
                    let parts = [self.linger.is_some() as i32, self.linger.unwrap_or(0)];
                    return Ok(parts.iter().flat_map(|p| p.to_ne_bytes()).collect());
                }
                name if RECEIVE_TIMEOUTS.contains(&name) => return time(self.receive_timeout),
                name if SEND_TIMEOUTS.contains(&name) => return time(self.send_timeout),
                _ => {}
            }
        }
        let (place, _) = number(self, kind, level, name).ok_or(Errno(libc::ENOPROTOOPT))?;
        int(*place)
    }
}
