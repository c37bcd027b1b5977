//! The rules of the model, without an executor: a network, a bench, and a hand-moved clock.

use super::*;
use sim_core::choices::{Address, Choices, Ratio, Tape};
use sim_core::device::Bench;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const PORT: u16 = 7000;
const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// Three machines `a`, `b`, `c`, a bench, and words for what tests do.
struct Lab {
    net: Network,
    bench: Bench,
}

impl Lab {
    /// The calm run.
    fn new() -> Lab {
        Lab::with(Config::default(), Bench::default())
    }

    fn with(config: Config, bench: Bench) -> Lab {
        let mut net = Network::new(config);
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            net.node_added(NodeId(i as u16 + 1), name);
        }
        Lab { net, bench }
    }

    fn act<R>(&mut self, f: impl FnOnce(&mut Network, &mut DeviceCx<'_>) -> R) -> R {
        f(&mut self.net, &mut self.bench.cx(NodeId::OUTSIDE))
    }

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        let until = self.bench.now + time;
        while self.bench.events.next_at().is_some_and(|at| at <= until) {
            let token = self.bench.step().expect("something is due");
            self.act(|net, cx| net.on_event(token, cx));
        }
        self.bench.now = until;
    }

    fn listen(&mut self, node: NodeId, backlog: u32) -> Id {
        let addr = SocketAddr::from(([0, 0, 0, 0], PORT));
        let id = self.act(|net, cx| net.bind_tcp(node, addr, BindOptions::default(), cx)).expect("the port is free");
        self.act(|net, cx| net.listen(id, backlog, cx)).expect("it is bound");
        id
    }

    fn addr(&self, node: NodeId) -> SocketAddr {
        SocketAddr::new(self.net.addresses(node)[0], PORT)
    }

    fn dial(&mut self, from: NodeId, to: SocketAddr) -> StreamId {
        self.act(|net, cx| net.connect(from, None, to, TcpOptions::default(), cx)).expect("there is a route")
    }

    /// Client on `a`, server on `b`, connected and accepted.
    fn pair(&mut self) -> (StreamId, StreamId) {
        let listener = self.listen(B, 16);
        let to = self.addr(B);
        let client = self.dial(A, to);
        self.wait(10 * MS);
        assert_eq!(self.net.connected(client), Ok(Some(())));
        let (server, _) = self.act(|net, cx| net.accept(listener, cx)).expect("it listens").expect("it was connected");
        (client, server)
    }

    fn write(&mut self, id: StreamId, bytes: &[u8]) -> Attempt<usize> {
        self.act(|net, cx| net.write(id, &[IoSlice::new(bytes)], cx))
    }

    fn read(&mut self, id: StreamId, room: usize) -> Result<Option<Vec<u8>>, Errno> {
        let mut out = Vec::new();
        let n = self.act(|net, cx| net.read(id, room, |bytes| out.extend_from_slice(bytes), cx))?;
        Ok(n.map(|n| {
            assert_eq!(n, out.len());
            out
        }))
    }

    fn close(&mut self, id: StreamId) {
        self.act(|net, cx| net.close_stream(id, cx));
    }

    fn udp(&mut self, node: NodeId, port: u16) -> Id {
        let addr = SocketAddr::from(([0, 0, 0, 0], port));
        self.act(|net, cx| net.bind_udp(node, addr, BindOptions::default(), cx)).expect("the port is free")
    }

    fn send(&mut self, id: Id, to: impl Into<Option<SocketAddr>>, bytes: &[u8]) -> Result<usize, Errno> {
        let to = to.into();
        self.act(|net, cx| net.send(id, to, bytes, cx))
    }

    fn receive(&mut self, id: Id) -> Result<Option<Vec<u8>>, Errno> {
        let mut out = Vec::new();
        let got = self.net.receive(id, 1 << 16, |bytes, _| out.extend_from_slice(bytes))?;
        Ok(got.map(|_| out))
    }

    fn fired(&self, kind: &str) -> u64 {
        self.bench.trace.fired_counts().get(kind).copied().unwrap_or(0)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

// ---- connecting -----------------------------------------------------------------------------------------------------

#[test]
fn connecting_takes_one_round_trip_and_accepting_half_of_one_more() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 16);
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(2 * MS - Duration::from_nanos(1));
    assert_eq!(lab.net.connected(client), Ok(None));
    lab.wait(Duration::from_nanos(1));
    assert_eq!(lab.net.connected(client), Ok(Some(())));
    assert_eq!(lab.net.acceptable(listener), Ok(false));
    lab.wait(MS);
    assert_eq!(lab.net.acceptable(listener), Ok(true));
    let [local, peer] = lab.net.stream_addrs(client).expect("it is held");
    assert_eq!((local.to_string(), peer.to_string()), ("10.0.0.1:32768".into(), "10.0.0.2:7000".into()));
}

#[test]
fn nobody_listening_refuses_and_no_machine_is_unreachable() {
    let mut lab = Lab::new();
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(2 * MS);
    assert_eq!(lab.net.connected(client), Err(Errno::ECONNREFUSED));
    let nobody = lab.dial(A, SocketAddr::from(([10, 0, 9, 9], 1)));
    lab.wait(Duration::from_millis(2_999));
    assert_eq!(lab.net.connected(nobody), Ok(None));
    lab.wait(MS);
    assert_eq!(lab.net.connected(nobody), Err(Errno::EHOSTUNREACH));
    for nowhere in ["[2001:db8::1]:53", "255.255.255.255:53", "224.0.0.1:53", "0.0.0.9:53"] {
        let nowhere = nowhere.parse().expect("an address");
        let refused = lab.act(|net, cx| net.connect(A, None, nowhere, TcpOptions::default(), cx));
        assert_eq!(refused, Err(Errno::ENETUNREACH), "{nowhere}");
    }
}

/// Tests of timeouts connect to an address that nobody has (192.0.2.1, RFC 5737) and expect to hear nothing, as from any machine with
/// a default route. Here it was ENETUNREACH at once. Programs also learn their own address by "connecting" UDP to one of the internet.
#[test]
fn beyond_the_gateway_nobody_answers() {
    let mut lab = Lab::new();
    let client = lab.dial(A, SocketAddr::from(([192, 0, 2, 1], 81)));
    lab.wait(Duration::from_millis(126_999));
    assert_eq!(lab.net.connected(client), Ok(None));
    lab.wait(MS);
    assert_eq!(lab.net.connected(client), Err(Errno::ETIMEDOUT));
    let from = lab.udp(A, 0);
    lab.act(|net, cx| net.connect_udp(from, SocketAddr::from(([8, 8, 8, 8], 53)), cx)).expect("a route");
    let local = lab.net.udp_addr(from).expect("it is held");
    assert_eq!((local.ip().to_string(), local.port() > 0), ("10.0.0.1".into(), true));
    assert_eq!(lab.send(from, None, b"x"), Ok(1));
}

#[test]
fn unanswered_syns_are_sent_seven_times_and_time_out_after_127_seconds() {
    let mut lab = Lab::new();
    lab.listen(B, 16);
    lab.act(|net, cx| net.block(A, B, cx));
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(127 * SEC - MS);
    assert_eq!(lab.net.connected(client), Ok(None));
    assert_eq!(lab.fired("net.partition"), 7);
    lab.wait(MS);
    assert_eq!(lab.net.connected(client), Err(Errno::ETIMEDOUT));
}

#[test]
fn a_syn_that_finds_the_backlog_full_is_tried_again() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 1);
    let to = lab.addr(B);
    let clients: Vec<_> = (0..3).map(|_| lab.dial(A, to)).collect();
    lab.wait(10 * MS);
    assert_eq!(lab.net.connected(clients[1]), Ok(Some(())), "backlog + 1 may wait");
    assert_eq!(lab.net.connected(clients[2]), Ok(None));
    assert!(lab.act(|net, cx| net.accept(listener, cx)).expect("it listens").is_some());
    lab.wait(SEC);
    assert_eq!(lab.net.connected(clients[2]), Ok(Some(())));
}

#[test]
fn a_lost_third_step_is_made_up_for() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 16);
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(MS);
    lab.act(|net, cx| net.block(A, B, cx));
    lab.wait(5 * MS);
    lab.act(|net, cx| net.heal(cx));
    assert_eq!((lab.net.connected(client), lab.net.acceptable(listener)), (Ok(Some(())), Ok(false)));
    lab.wait(2 * SEC);
    assert_eq!(lab.net.acceptable(listener), Ok(true));
}

#[test]
fn closing_a_listener_resets_what_nobody_accepted() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 16);
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(10 * MS);
    lab.act(|net, cx| net.close_listener(listener, cx));
    lab.wait(10 * MS);
    assert_eq!(lab.read(client, 9), Err(Errno::ECONNRESET));
}

#[test]
fn a_bind_is_refused_where_linux_refuses_it() {
    let mut lab = Lab::new();
    lab.listen(B, 16);
    let mut bind = |node, addr: &str| {
        let addr = addr.parse().expect("an address");
        lab.act(|net, cx| net.bind_tcp(node, addr, BindOptions::default(), cx)).map(|_| ())
    };
    assert_eq!(bind(B, "10.0.0.2:7000"), Err(Errno::EADDRINUSE), "a wildcard covers it");
    assert_eq!(bind(B, "[::]:7000"), Err(Errno::EADDRINUSE), "it would take IPv4 as well");
    assert_eq!(bind(B, "[fd00::2]:7000"), Ok(()));
    assert_eq!(bind(A, "10.0.0.2:7000"), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(bind(A, "127.0.0.1:7000"), Ok(()));
    assert_eq!(bind(A, "127.0.0.2:7000"), Ok(()));
    assert_eq!(bind(A, "0.0.0.0:7000"), Err(Errno::EADDRINUSE));
}

#[test]
fn a_dual_stack_listener_shows_ipv4_peers_as_mapped() {
    let mut lab = Lab::new();
    let any = "[::]:7000".parse().expect("an address");
    let listener = lab.act(|net, cx| net.bind_tcp(B, any, BindOptions::default(), cx)).expect("the port is free");
    lab.act(|net, cx| net.listen(listener, 16, cx)).expect("it is bound");
    let four = lab.addr(B);
    lab.dial(A, four);
    let six = SocketAddr::new(lab.net.addresses(B)[1], PORT);
    lab.dial(A, six);
    lab.wait(10 * MS);
    let mut peer = || lab.act(|net, cx| net.accept(listener, cx)).map(|s| s.map(|(_, peer)| peer.to_string()));
    assert_eq!(peer(), Ok(Some("[::ffff:10.0.0.1]:32768".into())));
    assert_eq!(peer(), Ok(Some("[fd00::1]:32769".into())));
}

#[test]
fn loopback_stays_on_the_machine_and_is_quick() {
    let mut lab = Lab::new();
    let here = SocketAddr::from(([127, 0, 0, 1], PORT));
    let elsewhere = lab.dial(B, here);
    let listener = lab.act(|net, cx| net.bind_tcp(A, here, BindOptions::default(), cx)).expect("the port is free");
    lab.act(|net, cx| net.listen(listener, 16, cx)).expect("it is bound");
    let from_outside = lab.addr(A);
    let outside = lab.dial(B, from_outside);
    let client = lab.dial(A, SocketAddr::from(([0, 0, 0, 0], PORT)));
    lab.wait(Duration::from_micros(30));
    assert_eq!(lab.net.connected(client), Ok(Some(())), "the unspecified address is the machine itself");
    lab.wait(10 * MS);
    assert_eq!(lab.net.connected(elsewhere), Err(Errno::ECONNREFUSED));
    assert_eq!(lab.net.connected(outside), Err(Errno::ECONNREFUSED));
}

/// An address, how it is bound, and whether it listens then.
type Claimant = (&'static str, BindOptions, bool);

#[test]
fn addresses_are_shared_where_linux_shares_them() {
    use Errno as E;
    let plain = BindOptions::default();
    let addr = BindOptions { reuse_addr: true, ..plain };
    let port = BindOptions { reuse_port: true, ..plain };
    let only = BindOptions { v6_only: true, ..plain };
    // Each pair was tried on Linux 6.18: what the second bind says, and then its listen.
    let tried: [(Claimant, Claimant, Result<(), E>); 15] = [
        (("127.0.0.1:7", plain, false), ("127.0.0.1:7", plain, false), Err(E::EADDRINUSE)),
        (("127.0.0.1:7", addr, false), ("127.0.0.1:7", plain, false), Err(E::EADDRINUSE)),
        (("127.0.0.1:7", addr, false), ("127.0.0.1:7", addr, true), Ok(())),
        (("127.0.0.1:7", addr, true), ("127.0.0.1:7", addr, false), Err(E::EADDRINUSE)),
        (("127.0.0.1:7", addr, true), ("0.0.0.0:7", addr, false), Err(E::EADDRINUSE)),
        (("127.0.0.1:7", addr, true), ("127.0.0.2:7", plain, true), Ok(())),
        (("127.0.0.1:7", port, true), ("127.0.0.1:7", port, true), Ok(())),
        (("127.0.0.1:7", port, true), ("127.0.0.1:7", addr, false), Err(E::EADDRINUSE)),
        (("[::]:7", plain, false), ("0.0.0.0:7", plain, false), Err(E::EADDRINUSE)),
        (("[::]:7", plain, false), ("127.0.0.1:7", plain, false), Err(E::EADDRINUSE)),
        (("[::]:7", only, true), ("0.0.0.0:7", plain, true), Ok(())),
        (("[::]:7", only, false), ("[::1]:7", only, false), Err(E::EADDRINUSE)),
        (("[::ffff:127.0.0.1]:7", plain, false), ("127.0.0.1:7", plain, false), Err(E::EADDRINUSE)),
        (("[::ffff:127.0.0.1]:7", plain, true), ("[::]:7", only, true), Ok(())),
        (("[::1]:7", plain, true), ("127.0.0.1:7", plain, true), Ok(())),
    ];
    for (first, second, expected) in tried {
        let mut lab = Lab::new();
        let mut claim = |(addr, how, listens): Claimant| {
            let addr: SocketAddr = addr.parse().expect("an address");
            let id = lab.act(|net, cx| net.bind_tcp(A, addr, how, cx))?;
            assert_eq!(lab.net.listener_addr(id), Ok(addr));
            if listens { lab.act(|net, cx| net.listen(id, 1, cx)) } else { Ok(()) }
        };
        assert_eq!(claim(first), Ok(()));
        assert_eq!(claim(second), expected, "{second:?} after {first:?}");
    }
    // Both may be bound; only one may listen.
    let mut lab = Lab::new();
    let here = SocketAddr::from(([127, 0, 0, 1], 7));
    let [one, two] = [(); 2].map(|()| lab.act(|net, cx| net.bind_tcp(A, here, addr, cx)).expect("both share it"));
    assert_eq!(
        (lab.act(|net, cx| net.listen(two, 1, cx)), lab.act(|net, cx| net.listen(one, 1, cx))),
        (Ok(()), Err(E::EADDRINUSE))
    );
    assert_eq!(lab.act(|net, cx| net.stop_listening(two, cx)), Ok(()));
    assert_eq!(
        (lab.act(|net, cx| net.listen(one, 1, cx)), lab.act(|net, cx| net.listen(one, 9, cx))),
        (Ok(()), Ok(())),
        "twice is another backlog"
    );
}

/// A server that was closed first is remembered for a minute by its side of each connection; one whose peers closed first
/// starts again at once. Either way SO_REUSEADDR ignores it, and a reset or a power loss ends it.
#[test]
fn a_port_is_in_use_while_connections_of_its_last_listener_are_and_a_minute_after() {
    let reuse = BindOptions { reuse_addr: true, ..BindOptions::default() };
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    let bind = |lab: &mut Lab, how| {
        let bound = lab.act(|net, cx| net.bind_tcp(B, any, how, cx))?;
        lab.act(|net, cx| net.close_listener(bound, cx));
        Ok(())
    };
    let start = |how| {
        let mut lab = Lab::new();
        let listener = lab.act(|net, cx| net.bind_tcp(B, any, how, cx)).expect("the port is free");
        lab.act(|net, cx| net.listen(listener, 16, cx)).expect("it is bound");
        let to = lab.addr(B);
        let client = lab.dial(A, to);
        lab.wait(10 * MS);
        let (server, _) = lab.act(|net, cx| net.accept(listener, cx)).expect("it listens").expect("it is there");
        lab.act(|net, cx| net.close_listener(listener, cx));
        (lab, client, server)
    };
    let plain = BindOptions::default();
    let (mut lab, client, server) = start(plain);
    assert_eq!((bind(&mut lab, plain), bind(&mut lab, reuse)), (Err(Errno::EADDRINUSE), Err(Errno::EADDRINUSE)));
    lab.close(server);
    lab.close(client);
    lab.wait(59 * SEC);
    assert_eq!(bind(&mut lab, plain), Err(Errno::EADDRINUSE));
    lab.wait(2 * SEC);
    assert_eq!(bind(&mut lab, plain), Ok(()));

    let (mut lab, client, server) = start(plain);
    lab.close(client);
    lab.wait(10 * MS);
    lab.close(server);
    assert_eq!(bind(&mut lab, plain), Ok(()), "the other side remembers");

    let (mut lab, client, server) = start(plain);
    lab.write(server, b"never read").expect("it is connected");
    lab.wait(10 * MS);
    lab.close(server);
    lab.close(client);
    assert_eq!(bind(&mut lab, plain), Ok(()), "an RST is the end");

    let (mut lab, _, server) = start(reuse);
    assert_eq!((bind(&mut lab, reuse), bind(&mut lab, plain)), (Ok(()), Err(Errno::EADDRINUSE)));
    lab.close(server);
    assert_eq!((bind(&mut lab, reuse), bind(&mut lab, plain)), (Ok(()), Err(Errno::EADDRINUSE)));
    lab.act(|net, cx| net.node_died(B, Death::PowerOff, cx));
    lab.net.node_started(B);
    assert_eq!(bind(&mut lab, plain), Ok(()), "the power was off");
}

#[test]
fn which_of_those_who_share_a_port_gets_a_connection_is_the_seeds() {
    let how = BindOptions { reuse_port: true, ..BindOptions::default() };
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    let first_got = |seed| {
        let mut lab = Lab::with(Config::default(), Bench::seeded(seed));
        let [one, _two] = [(); 2].map(|()| {
            let id = lab.act(|net, cx| net.bind_tcp(B, any, how, cx)).expect("they share it");
            lab.act(|net, cx| net.listen(id, 9, cx)).expect("they share it");
            id
        });
        let to = lab.addr(B);
        lab.dial(A, to);
        lab.wait(SEC);
        lab.act(|net, cx| net.accept(one, cx)).expect("it listens").is_some()
    };
    let got: Vec<bool> = (0..40).map(first_got).collect();
    assert_eq!(got, (0..40).map(first_got).collect::<Vec<_>>());
    let often = got.iter().filter(|one| **one).count();
    assert!((8..=32).contains(&often), "{often} of 40");
}

#[test]
fn sharing_listeners_each_get_a_part_of_the_connections() {
    let mut lab = Lab::new();
    let how = BindOptions { reuse_port: true, ..BindOptions::default() };
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listeners = [(); 3].map(|()| {
        let id = lab.act(|net, cx| net.bind_tcp(B, any, how, cx)).expect("they share it");
        lab.act(|net, cx| net.listen(id, 99, cx)).expect("they share it");
        id
    });
    let to = lab.addr(B);
    for _ in 0..60 {
        lab.dial(A, to);
    }
    lab.wait(10 * MS);
    let mut took = listeners.map(|id| {
        let accept = |lab: &mut Lab| lab.act(|net, cx| net.accept(id, cx)).expect("it listens").is_some();
        std::iter::repeat_with(|| accept(&mut lab)).take_while(|more| *more).count()
    });
    assert_eq!(took.iter().sum::<usize>(), 60);
    took.sort();
    assert!(took[0] >= 10, "{took:?}");
}

#[test]
fn a_listener_that_stops_resets_who_waits_and_stays_bound() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 16);
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(10 * MS);
    assert_eq!(lab.act(|net, cx| net.stop_listening(listener, cx)), Ok(()));
    lab.wait(MS);
    assert_eq!(lab.read(client, 9), Err(Errno::ECONNRESET));
    let refused = lab.dial(A, to);
    lab.wait(10 * MS);
    assert_eq!(lab.net.connected(refused), Err(Errno::ECONNREFUSED));
    assert_eq!(lab.net.listener_addr(listener).map(|a| a.port()), Ok(PORT));
}

#[test]
fn accepted_streams_begin_with_the_options_of_their_listener() {
    let mut lab = Lab::new();
    let listener = lab.listen(B, 16);
    let options = lab.net.listener_options(listener).expect("it is bound");
    *options = TcpOptions { nodelay: true, ttl: 9, receive_buffer_bytes: Some(1000), ..*options };
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    lab.wait(10 * MS);
    let (server, _) = lab.act(|net, cx| net.accept(listener, cx)).expect("it listens").expect("one waits");
    let begun = lab.net.stream_options(server).expect("it is held");
    assert_eq!((begun.nodelay, begun.ttl), (true, 9));
    lab.write(client, &[0; 5000]).expect("it is connected");
    lab.wait(SEC);
    assert_eq!(lab.net.unread(server), Ok(1000), "the window is the listener's");
    assert_eq!(lab.act(|net, cx| net.unacknowledged(client, cx)), Ok(4000));
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

#[test]
fn bytes_arrive_after_the_latency_and_reads_may_be_short() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    assert_eq!(lab.write(client, b"hello world"), Ok(Some(11)));
    assert_eq!(lab.read(server, 5), Ok(None));
    lab.wait(MS);
    assert_eq!(lab.net.peek(server, 0, 5, |bytes| assert_eq!(bytes, b"hello")), Ok(Some(5)));
    assert_eq!(lab.read(server, 5), Ok(Some(b"hello".to_vec())));
    assert_eq!(lab.read(server, 99), Ok(Some(b" world".to_vec())));
    assert_eq!(lab.read(server, 99), Ok(None));
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_no_byte_is_lost() {
    let config = Config { send_buffer_bytes: 3000, receive_buffer_bytes: 2000, ..Config::default() };
    let mut lab = Lab::with(config, Bench::default());
    let (client, server) = lab.pair();
    let data = pattern(100_000);
    assert_eq!(lab.write(client, &data), Ok(Some(3000)), "a short write");
    assert_eq!(lab.write(client, &data[3000..]), Ok(None));
    lab.wait(10 * SEC);
    let more = lab.write(client, &data[3000..]);
    assert_eq!(more, Ok(Some(2000)), "what the receiver holds is acknowledged");
    lab.wait(10 * SEC);
    assert_eq!(lab.write(client, &data[5000..]), Ok(None), "the window is shut");
    lab.net.effects().clear();
    let (mut at, mut got) = (5000, Vec::new());
    for _ in 0..10_000 {
        if got.len() == data.len() {
            break;
        }
        got.extend(lab.read(server, 700).expect("it is connected").unwrap_or_default());
        lab.wait(3 * MS);
        at += lab.write(client, &data[at..]).expect("it is connected").unwrap_or(0);
    }
    assert!(lab.net.effects().contains(&Effect::Writable { slot: client.connection.index, side: 0 }));
    assert_eq!(got, data);
}

#[test]
fn a_shutdown_ends_one_direction_after_its_bytes() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.write(client, b"last").expect("it is connected");
    lab.act(|net, cx| net.shutdown(client, false, true, cx)).expect("it is connected");
    assert_eq!(lab.write(client, b"more"), Err(Errno::EPIPE));
    lab.wait(MS);
    assert_eq!(lab.read(server, 9), Ok(Some(b"last".to_vec())));
    assert_eq!((lab.read(server, 9), lab.read(server, 9)), (Ok(Some(vec![])), Ok(Some(vec![]))));
    assert_eq!(lab.write(server, b"answer"), Ok(Some(6)));
    lab.wait(MS);
    assert_eq!(lab.read(client, 9), Ok(Some(b"answer".to_vec())));
    assert_eq!(lab.read(client, 9), Ok(None));
}

#[test]
fn a_close_after_everything_was_read_is_an_end_and_writes_to_it_break() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.close(server);
    lab.wait(MS);
    assert_eq!(lab.read(client, 9), Ok(Some(vec![])));
    assert_eq!(lab.write(client, b"x"), Ok(Some(1)), "the first write meets nobody yet");
    lab.wait(2 * MS);
    assert_eq!(lab.write(client, b"x"), Err(Errno::EPIPE));
    assert_eq!(lab.read(client, 9), Ok(Some(vec![])), "the end came before the reset");
}

#[test]
fn a_close_with_bytes_unread_resets() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.write(server, b"early").expect("it is connected");
    lab.write(client, b"unread").expect("it is connected");
    lab.wait(MS);
    lab.close(server);
    lab.wait(MS);
    assert_eq!(lab.read(client, 9), Ok(Some(b"early".to_vec())), "what came before the reset can be read");
    assert_eq!(lab.read(client, 9), Err(Errno::ECONNRESET));
    assert_eq!((lab.read(client, 9), lab.write(client, b"x")), (Ok(Some(vec![])), Err(Errno::EPIPE)));
}

#[test]
fn a_close_with_linger_zero_resets() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.act(|net, cx| net.set_stream_options(server, |o| o.linger = Some(Duration::ZERO), cx)).expect("it is held");
    lab.close(server);
    lab.wait(MS);
    assert_eq!(lab.write(client, b"x"), Err(Errno::ECONNRESET));
}

#[test]
fn a_connection_is_closed_when_both_ends_are_acknowledged() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    let state = |lab: &mut Lab, id| lab.act(|net, cx| net.stream_state(id, cx)).expect("it is held");
    let shut = |lab: &mut Lab, id, read, write| lab.act(|net, cx| net.shutdown(id, read, write, cx));
    assert_eq!(shut(&mut lab, client, false, true), Ok(()));
    lab.wait(MS);
    assert_eq!(shut(&mut lab, server, false, true), Ok(()));
    lab.wait(MS);
    assert_eq!((state(&mut lab, client), state(&mut lab, server)), (StreamState::Closed, StreamState::Connected));
    lab.wait(MS);
    assert_eq!(state(&mut lab, server), StreamState::Closed);
    // As measured on Linux 6.18: ENOTCONN for any shutdown, EPIPE for a write, an end for a read.
    for id in [client, server] {
        assert_eq!(shut(&mut lab, id, true, false), Err(Errno::ENOTCONN));
        assert_eq!((lab.write(id, b"x"), lab.read(id, 9)), (Err(Errno::EPIPE), Ok(Some(vec![]))));
    }
}

#[test]
fn a_side_shut_for_reading_ends_when_nothing_waits_and_still_takes_what_comes() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.act(|net, cx| net.shutdown(client, true, false, cx)).expect("it is connected");
    assert_eq!((lab.read(client, 9), lab.net.read_ended(client)), (Ok(Some(vec![])), Ok(true)));
    assert_eq!(lab.write(server, b"late"), Ok(Some(4)));
    lab.wait(MS);
    assert_eq!(lab.read(client, 9), Ok(Some(b"late".to_vec())));
    assert_eq!(lab.read(client, 9), Ok(Some(vec![])));
    assert_eq!(lab.write(client, b"x"), Ok(Some(1)), "the other direction is open");
}

#[test]
fn a_shutdown_while_connecting_gives_the_handshake_up() {
    let mut lab = Lab::new();
    lab.listen(B, 16);
    let to = lab.addr(B);
    let client = lab.dial(A, to);
    assert_eq!(lab.act(|net, cx| net.shutdown(client, false, true, cx)), Ok(()));
    assert_eq!(lab.net.connected(client), Err(Errno::ECONNRESET));
    lab.close(client);
    lab.wait(SEC);
    assert_eq!(lab.net.connections.ids().count(), 0);
    assert!(lab.bench.events.is_empty());
}

#[test]
fn a_lingering_close_waits_until_everything_is_acknowledged() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    let drained = |lab: &mut Lab| lab.act(|net, cx| net.drained(client, cx)).expect("it is held");
    assert!(drained(&mut lab));
    lab.write(client, b"last").expect("it is connected");
    lab.act(|net, cx| net.shutdown(client, false, true, cx)).expect("it is connected");
    lab.wait(MS);
    assert!(!drained(&mut lab));
    lab.net.effects().clear();
    lab.wait(MS);
    assert!(lab.net.effects().contains(&Effect::Writable { slot: client.connection.index, side: 0 }));
    assert!(drained(&mut lab));
    assert_eq!(lab.read(server, 9), Ok(Some(b"last".to_vec())));
}

#[test]
fn a_peek_can_begin_further_on() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.write(client, b"one").expect("it is connected");
    lab.write(client, b"two").expect("it is connected");
    lab.wait(MS);
    for (offset, expected) in [(0, Some("onet")), (2, Some("etwo")), (5, Some("o")), (6, None)] {
        let mut out = Vec::new();
        let n = lab.net.peek(server, offset, 4, |b| out.extend_from_slice(b)).expect("it is connected");
        assert_eq!((n, &out[..]), (expected.map(str::len), expected.unwrap_or("").as_bytes()), "from {offset}");
    }
    assert_eq!(lab.read(server, 99), Ok(Some(b"onetwo".to_vec())));
}

// ---- keep-alive -----------------------------------------------------------------------------------------------------

const PROBING: KeepAlive =
    KeepAlive { on: true, idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 3 };

fn keep_alive(lab: &mut Lab, id: StreamId, user_timeout: Option<Duration>) {
    let change = |o: &mut TcpOptions| (o.keep_alive, o.user_timeout) = (PROBING, user_timeout);
    lab.act(|net, cx| net.set_stream_options(id, change, cx)).expect("it is held");
}

#[test]
fn an_idle_connection_with_keep_alive_lives_on_and_without_it_nothing_is_timed() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    assert!(lab.bench.events.is_empty(), "nothing is timed while keep-alive is off");
    keep_alive(&mut lab, client, None);
    lab.wait(3600 * SEC);
    assert_eq!((lab.read(client, 9), lab.read(server, 9)), (Ok(None), Ok(None)));
    lab.close(client);
    lab.close(server);
    lab.wait(SEC);
    assert!(lab.bench.events.is_empty(), "nobody is watched any more");
}

#[test]
fn an_idle_connection_over_a_partition_times_out_by_keep_alive() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    keep_alive(&mut lab, client, None);
    lab.wait(10 * SEC);
    lab.write(server, b"x").expect("it is connected");
    lab.wait(MS);
    lab.read(client, 9).expect("it is connected");
    lab.act(|net, cx| net.partition(&[&[A], &[B]], cx));
    // 30 s after the last byte, and three probes 10 s apart.
    lab.wait(60 * SEC - MS);
    assert_eq!(lab.read(client, 9), Ok(None));
    assert_eq!(lab.fired("net.partition"), 3);
    lab.wait(2 * MS);
    assert_eq!(lab.read(client, 9), Err(Errno::ETIMEDOUT));
    assert_eq!(lab.read(server, 9), Ok(None), "the reset was lost");
}

#[test]
fn one_answer_to_a_keep_alive_probe_is_enough() {
    let mut lab = Lab::new();
    let (client, _server) = lab.pair();
    keep_alive(&mut lab, client, None);
    lab.act(|net, cx| net.block(B, A, cx));
    lab.wait(45 * SEC);
    assert_eq!(lab.fired("net.partition"), 2, "two answers met it");
    lab.act(|net, cx| net.unblock(B, A, cx));
    lab.wait(1000 * SEC);
    assert_eq!(lab.read(client, 9), Ok(None));
}

#[test]
fn the_user_timeout_cuts_keep_alive_short() {
    let mut lab = Lab::new();
    let (client, _server) = lab.pair();
    keep_alive(&mut lab, client, Some(35 * SEC));
    lab.act(|net, cx| net.block(B, A, cx));
    // At 30 s there was no probe to wait for, at 40 s one without an answer.
    lab.wait(39 * SEC);
    assert_eq!(lab.read(client, 9), Ok(None));
    lab.wait(SEC);
    assert_eq!(lab.read(client, 9), Err(Errno::ETIMEDOUT));
}

#[test]
fn the_user_timeout_ends_retransmission() {
    let mut lab = Lab::new();
    let (client, _server) = lab.pair();
    let change = |o: &mut TcpOptions| o.user_timeout = Some(5 * SEC);
    lab.act(|net, cx| net.set_stream_options(client, change, cx)).expect("it is held");
    lab.act(|net, cx| net.partition(&[&[A], &[B]], cx));
    lab.write(client, b"x").expect("it is connected");
    lab.wait(5 * SEC - MS);
    assert_eq!(lab.read(client, 9), Ok(None));
    lab.wait(2 * MS);
    assert_eq!(lab.read(client, 9), Err(Errno::ETIMEDOUT));
}

#[test]
fn keep_alive_finds_a_machine_that_was_restarted() {
    let mut lab = Lab::new();
    let (client, _server) = lab.pair();
    keep_alive(&mut lab, client, None);
    lab.act(|net, cx| net.node_died(B, Death::PowerOff, cx));
    lab.act(|net, _| net.node_started(B));
    lab.wait(30 * SEC + 2 * MS);
    assert_eq!(lab.read(client, 9), Err(Errno::ECONNRESET));
}

#[test]
fn everything_is_freed_when_both_sides_are_closed() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.write(client, &pattern(1000)).expect("it is connected");
    lab.close(client);
    lab.close(server);
    lab.wait(10 * SEC);
    assert_eq!(lab.net.connections.ids().count(), 0);
    assert!(lab.net.machines.iter().all(|m| !m.tcp.is_live(PORT) && !m.tcp.is_live(32768)));
    assert!(lab.bench.events.is_empty());
    assert_eq!(lab.read(client, 9), Err(Errno::EBADF));
}

// ---- trouble --------------------------------------------------------------------------------------------------------

/// A bench whose choices are the calm run except for packet `n` of the connection's given direction.
fn one_fate(side: u64, n: u32, fate: u64) -> Bench {
    let key = hash::key(&[hash::text("tcp"), hash::text("a"), hash::text("b"), PORT as u64, 0]);
    let at = Address { stream: Stream::NET, key: hash::key(&[key, side]), n };
    let choices = Choices::from_source(0, Box::new(Tape::new([(at, fate)])));
    Bench { choices: Some(choices), ..Bench::default() }
}

#[test]
fn a_lost_segment_delays_the_stream_by_a_retransmission_timeout() {
    // The SYN and the last step of the handshake are packets 0 and 1; 3 is the second write.
    let mut lab = Lab::with(Config::default(), one_fate(0, 3, 2));
    let (client, server) = lab.pair();
    for part in [b"one", b"two", b"six"] {
        lab.write(client, part).expect("it is connected");
    }
    lab.wait(MS);
    assert_eq!(lab.read(server, 99), Ok(Some(b"one".to_vec())));
    lab.wait(199 * MS);
    assert_eq!(lab.read(server, 99), Ok(None), "what comes after the gap has to wait");
    lab.wait(MS);
    assert_eq!(lab.read(server, 99), Ok(Some(b"twosix".to_vec())));
    assert_eq!(lab.fired("net.loss"), 1);
}

#[test]
fn a_delayed_segment_reorders_nothing_in_a_stream_and_a_split_one_is_seen_in_parts() {
    let delayed = 1 | (0x7fff << 2);
    let mut lab = Lab::with(Config::default(), one_fate(0, 2, delayed));
    let (client, server) = lab.pair();
    lab.write(client, b"first").expect("it is connected");
    lab.write(client, b"second").expect("it is connected");
    lab.wait(MS);
    assert_eq!(lab.read(server, 99), Ok(None));
    lab.wait(SEC);
    assert_eq!(lab.read(server, 99), Ok(Some(b"firstsecond".to_vec())));
    assert_eq!(lab.fired("net.delay"), 1);

    let mut lab = Lab::with(Config::default(), one_fate(0, 2, 3 | (2 << 2)));
    let (client, server) = lab.pair();
    lab.write(client, b"first").expect("it is connected");
    lab.wait(MS);
    assert_eq!(lab.read(server, 99), Ok(Some(b"fir".to_vec())));
    lab.wait(SEC);
    assert_eq!(lab.read(server, 99), Ok(Some(b"st".to_vec())));
    assert_eq!(lab.fired("net.split"), 1);
}

#[test]
fn a_stream_survives_any_loss_and_delay_unchanged() {
    for seed in 0..100 {
        let config = Config { send_buffer_bytes: 5000, receive_buffer_bytes: 1500, ..Config::default() };
        let mut lab = Lab::with(config, Bench::seeded(seed));
        let (client, server) = lab.pair_patiently();
        let rough = LinkConfig {
            delay: Odds::Set(Ratio::new(1, 4)),
            loss: Odds::Set(Ratio::new(1, 4)),
            split: Odds::Set(Ratio::new(1, 4)),
            ..LinkConfig::default()
        };
        lab.net.set_default_link(rough);
        let data = pattern(20_000);
        let (mut at, mut got, mut closed) = (0, Vec::new(), false);
        for _ in 0..100_000 {
            if at < data.len() {
                at += lab.write(client, &data[at..(at + 300).min(data.len())]).expect("connected").unwrap_or(0);
            } else if !std::mem::replace(&mut closed, true) {
                lab.close(client);
            }
            match lab.read(server, 200).expect("never reset") {
                Some(bytes) if bytes.is_empty() => break,
                bytes => got.extend(bytes.unwrap_or_default()),
            }
            lab.wait(MS);
        }
        assert_eq!(got.len(), data.len(), "seed {seed}: it came to its end");
        assert_eq!(got, data, "seed {seed}");
    }
}

impl Lab {
    fn pair_patiently(&mut self) -> (StreamId, StreamId) {
        let listener = self.listen(B, 16);
        let to = self.addr(B);
        let client = self.dial(A, to);
        self.wait(200 * SEC);
        let (server, _) = self.act(|net, cx| net.accept(listener, cx)).expect("it listens").expect("it was connected");
        (client, server)
    }
}

#[test]
fn a_healed_partition_lets_the_stream_go_on() {
    // Both directions, or acknowledgements alone: the writer cannot tell.
    for both in [true, false] {
        let mut lab = Lab::new();
        let (client, server) = lab.pair();
        lab.act(|net, cx| {
            net.block(B, A, cx);
            if both {
                net.block(A, B, cx);
            }
        });
        lab.write(client, b"through").expect("the kernel takes it");
        lab.wait(100 * SEC);
        assert_eq!(lab.read(server, 99), Ok((!both).then(|| b"through".to_vec())));
        let strikes = lab.fired("net.partition");
        assert!((9..=12).contains(&strikes), "back-off doubles: {strikes}");
        lab.act(|net, cx| net.heal(cx));
        lab.wait(120 * SEC);
        assert_eq!(lab.read(server, 99), Ok(both.then(|| b"through".to_vec())));
        lab.wait(2000 * SEC);
        assert_eq!(lab.write(client, b"x"), Ok(Some(1)), "it did not time out");
    }
}

#[test]
fn a_partition_that_lasts_ends_in_a_timeout_after_924_seconds() {
    for both in [true, false] {
        let mut lab = Lab::new();
        let (client, _server) = lab.pair();
        lab.act(|net, cx| net.block(if both { A } else { B }, if both { B } else { A }, cx));
        lab.write(client, b"x").expect("the kernel takes it");
        lab.wait(Duration::from_millis(924_500));
        assert_eq!(lab.read(client, 9), Ok(None));
        lab.wait(Duration::from_millis(200));
        assert_eq!(lab.read(client, 9), Err(Errno::ETIMEDOUT));
    }
}

#[test]
fn a_partition_that_no_packet_met_counts_nothing_and_blocks_add_up() {
    let mut lab = Lab::new();
    let socket = lab.udp(B, 9);
    let from = lab.udp(A, 0);
    let to = SocketAddr::from(([10, 0, 0, 2], 9));
    lab.act(|net, cx| net.partition(&[&[A], &[B, NodeId(3)]], cx));
    lab.wait(SEC);
    assert_eq!(lab.fired("net.partition"), 0);
    lab.act(|net, cx| net.block(A, B, cx));
    lab.act(|net, cx| net.rejoin(&[&[A], &[B, NodeId(3)]], cx));
    lab.send(from, to, b"dropped").expect("it is sent");
    lab.wait(SEC);
    assert_eq!((lab.receive(socket), lab.fired("net.partition")), (Ok(None), 1));
    lab.act(|net, cx| net.unblock(A, B, cx));
    lab.send(from, to, b"arrives").expect("it is sent");
    lab.act(|net, cx| net.block(A, B, cx));
    lab.wait(SEC);
    assert_eq!((lab.receive(socket), lab.fired("net.partition")), (Ok(None), 2), "it was under way");
}

#[test]
fn a_held_link_keeps_packets_and_their_order() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.act(|net, cx| net.hold(A, B, cx));
    lab.write(client, b"one ").expect("it is connected");
    lab.write(client, b"two").expect("it is connected");
    lab.wait(500 * SEC);
    assert_eq!((lab.read(server, 99), lab.fired("net.hold")), (Ok(None), 2));
    lab.act(|net, cx| net.release(A, B, cx));
    lab.wait(MS);
    assert_eq!(lab.read(server, 99), Ok(Some(b"one two".to_vec())));
}

#[test]
fn acknowledgements_wait_on_a_held_link_too() {
    let config = Config { send_buffer_bytes: 10, ..Config::default() };
    let mut lab = Lab::with(config, Bench::default());
    let (client, _server) = lab.pair();
    lab.act(|net, cx| net.hold(B, A, cx));
    assert_eq!(lab.write(client, &pattern(10)), Ok(Some(10)));
    lab.wait(SEC);
    assert_eq!(lab.write(client, b"x"), Ok(None));
    lab.act(|net, cx| net.release(B, A, cx));
    lab.wait(MS);
    assert_eq!(lab.write(client, b"x"), Ok(Some(1)));
}

#[test]
fn a_node_without_power_is_silent_and_resets_old_streams_once_it_is_up() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    lab.act(|net, cx| net.node_died(B, Death::PowerOff, cx));
    lab.write(client, b"x").expect("the kernel takes it");
    let to = lab.addr(B);
    let dialing = lab.dial(A, to);
    lab.wait(SEC);
    assert_eq!((lab.read(client, 9), lab.net.connected(dialing)), (Ok(None), Ok(None)));
    assert_eq!(lab.read(server, 9), Err(Errno::EBADF), "a handle of the dead");
    lab.net.node_started(B);
    lab.wait(10 * SEC);
    assert_eq!(lab.read(client, 9), Err(Errno::ECONNRESET));
    assert_eq!(lab.net.connected(dialing), Err(Errno::ECONNREFUSED));
    lab.listen(B, 16);
}

#[test]
fn a_killed_program_leaves_ends_and_resets_behind() {
    for (unread, expected) in [(false, Ok(Some(vec![]))), (true, Err(Errno::ECONNRESET))] {
        let mut lab = Lab::new();
        let (client, _server) = lab.pair();
        if unread {
            lab.write(client, b"unread").expect("it is connected");
            lab.wait(10 * MS);
        }
        lab.act(|net, cx| net.node_died(B, Death::Kill, cx));
        lab.wait(10 * MS);
        assert_eq!(lab.read(client, 9), expected);
    }
}

#[test]
fn bandwidth_spreads_a_stream_over_time() {
    let mut lab = Lab::new();
    let (client, server) = lab.pair();
    let slow = LinkConfig { bandwidth: Some(10_000), ..LinkConfig::default() };
    lab.act(|net, cx| net.set_link(A, B, slow, cx));
    for part in pattern(10_000).chunks(1000) {
        lab.write(client, part).expect("it is connected");
    }
    lab.wait(500 * MS + MS);
    assert_eq!(lab.read(server, 1 << 16).map(|b| b.map(|b| b.len())), Ok(Some(5000)));
    lab.act(|net, cx| net.reset_link(A, B, cx));
    assert_eq!(lab.net.link_config(A, B), LinkConfig::default());
}

// ---- datagrams ------------------------------------------------------------------------------------------------------

#[test]
fn datagrams_arrive_whole_cut_to_the_buffer_or_not_at_all() {
    let mut lab = Lab::new();
    let (socket, from) = (lab.udp(B, 9), lab.udp(A, 0));
    let to = SocketAddr::from(([10, 0, 0, 2], 9));
    assert_eq!(lab.send(from, to, b"long text"), Ok(9));
    assert_eq!(lab.send(from, to, b""), Ok(0));
    lab.wait(MS);
    assert_eq!(lab.net.received(socket), Ok(true));
    let peer = SocketAddr::from(([10, 0, 0, 1], 32768));
    assert_eq!(lab.net.peek_datagram(socket, 4, |b, from| assert_eq!((b, from), (&b"long"[..], peer))), Ok(Some(4)));
    assert_eq!(lab.net.receive(socket, 4, |b, from| assert_eq!((b, from), (&b"long"[..], peer))), Ok(Some(4)));
    assert_eq!((lab.receive(socket), lab.receive(socket)), (Ok(Some(vec![])), Ok(None)));
    assert_eq!(lab.send(from, to, &pattern(65_507)), Ok(65_507));
    assert_eq!(lab.send(from, to, &pattern(65_508)), Err(Errno::EMSGSIZE));
    assert_eq!(lab.send(from, None, b"x"), Err(Errno::EDESTADDRREQ));
    assert_eq!(lab.send(from, SocketAddr::from(([8, 8, 8, 8], 9)), b"x"), Ok(1));
    assert_eq!(lab.send(from, SocketAddr::from(([240, 0, 0, 1], 9)), b"x"), Err(Errno::ENETUNREACH));
    assert_eq!(lab.send(from, "[fd00::2]:9".parse::<SocketAddr>().expect("one"), b"x"), Err(Errno::EAFNOSUPPORT));
}

#[test]
fn a_full_receive_buffer_drops_what_comes() {
    let config = Config { datagram_buffer_bytes: 3000, ..Config::default() };
    let mut lab = Lab::with(config, Bench::default());
    let (socket, from) = (lab.udp(B, 9), lab.udp(A, 0));
    for n in 0..10 {
        lab.send(from, SocketAddr::from(([10, 0, 0, 2], 9)), &[n; 500]).expect("it is sent");
    }
    lab.wait(MS);
    let got: Vec<u8> = std::iter::from_fn(|| lab.receive(socket).expect("no error")).map(|b| b[0]).collect();
    assert_eq!(got, [0, 1, 2]);
}

#[test]
fn only_a_connected_socket_hears_that_nobody_is_there() {
    let mut lab = Lab::new();
    let (connected, other) = (lab.udp(A, 0), lab.udp(A, 0));
    let to = SocketAddr::from(([10, 0, 0, 2], 9));
    lab.act(|net, cx| net.connect_udp(connected, to, cx)).expect("there is a route");
    assert_eq!(lab.net.udp_addr(connected).map(|a| a.to_string()), Ok("10.0.0.1:32768".into()));
    lab.send(connected, None, b"x").expect("it is sent");
    lab.send(other, to, b"x").expect("it is sent");
    lab.wait(2 * MS);
    assert_eq!((lab.receive(connected), lab.receive(other)), (Err(Errno::ECONNREFUSED), Ok(None)));
    assert_eq!(lab.receive(connected), Ok(None), "it is told once");
    let (friend, stranger) = (lab.udp(B, 9), lab.udp(NodeId(3), 9));
    let back = SocketAddr::from(([10, 0, 0, 1], 32768));
    lab.send(stranger, back, b"stranger").expect("it is sent");
    lab.send(friend, back, b"friend").expect("it is sent");
    lab.wait(2 * MS);
    assert_eq!((lab.receive(connected), lab.receive(connected)), (Ok(Some(b"friend".to_vec())), Ok(None)));
}

#[test]
fn datagrams_are_lost_doubled_and_reordered_as_often_as_configured() {
    let mut lab = Lab::with(Config::default(), Bench::seeded(1));
    let odds = Odds::Set(Ratio::new(1, 8));
    lab.net.set_default_link(LinkConfig { delay: odds, loss: odds, duplicate: odds, ..LinkConfig::default() });
    let (socket, from) = (lab.udp(B, 9), lab.udp(A, 0));
    let mut got = Vec::new();
    for n in 0..4000u32 {
        lab.send(from, SocketAddr::from(([10, 0, 0, 2], 9)), &n.to_le_bytes()).expect("it is sent");
        lab.wait(MS);
        while let Some(bytes) = lab.receive(socket).expect("no error") {
            got.push(u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        }
    }
    assert!(got.windows(2).any(|w| w[0] > w[1]), "some are overtaken");
    got.sort();
    let doubled = got.windows(2).filter(|w| w[0] == w[1]).count() as u64;
    assert!((400..600).contains(&doubled) && doubled <= lab.fired("net.duplicate"), "{doubled}");
    got.dedup();
    assert!((3400..3600).contains(&got.len()), "{} arrived", got.len());
    assert!((400..600).contains(&lab.fired("net.loss")) && (400..600).contains(&lab.fired("net.delay")));
}

#[test]
fn a_connected_socket_hides_the_others_of_its_port_from_its_peer_only() {
    let mut lab = Lab::new();
    let how = BindOptions { reuse_addr: true, ..BindOptions::default() };
    let any = SocketAddr::from(([0, 0, 0, 0], 9));
    let mut bind = || lab.act(|net, cx| net.bind_udp(B, any, how, cx)).expect("they share it");
    let [first, connected, last] = [bind(), bind(), bind()];
    let (peer, other) = (lab.udp(A, 5), lab.udp(A, 6));
    lab.act(|net, cx| net.connect_udp(connected, SocketAddr::from(([10, 0, 0, 1], 5)), cx)).expect("there is a route");
    for (from, bytes) in [(peer, &b"peer"[..]), (other, b"other")] {
        lab.send(from, SocketAddr::from(([10, 0, 0, 2], 9)), bytes).expect("it is sent");
        lab.wait(2 * MS);
    }
    assert_eq!(lab.receive(connected), Ok(Some(b"peer".to_vec())));
    assert_eq!(lab.receive(last), Ok(Some(b"other".to_vec())), "of the others the last one bound");
    assert_eq!([first, connected, last].map(|id| lab.receive(id)), [Ok(None), Ok(None), Ok(None)]);
}

#[test]
fn a_datagram_that_only_a_connected_stranger_could_take_found_nobody() {
    let mut lab = Lab::new();
    let (server, client) = (lab.udp(B, 9), lab.udp(A, 5));
    lab.act(|net, cx| net.connect_udp(server, SocketAddr::from(([10, 0, 0, 1], 77)), cx)).expect("there is a route");
    lab.act(|net, cx| net.connect_udp(client, SocketAddr::from(([10, 0, 0, 2], 9)), cx)).expect("there is a route");
    lab.send(client, None, b"x").expect("it is sent");
    lab.wait(2 * MS);
    assert_eq!((lab.receive(client), lab.receive(server)), (Err(Errno::ECONNREFUSED), Ok(None)));
    lab.net.disconnect_udp(server).expect("it is bound");
    assert_eq!(lab.net.udp_addr(server), Ok(SocketAddr::from(([0, 0, 0, 0], 9))));
    lab.send(client, None, b"x").expect("it is sent");
    lab.wait(2 * MS);
    assert_eq!(lab.receive(server), Ok(Some(b"x".to_vec())));
}

#[test]
fn a_datagram_socket_can_be_shut_down_and_holds_as_much_as_it_was_told() {
    let mut lab = Lab::new();
    let (server, client) = (lab.udp(B, 9), lab.udp(A, 5));
    let to = SocketAddr::from(([10, 0, 0, 2], 9));
    *lab.net.udp_receive_buffer(server).expect("it is bound") = Some(1000);
    for _ in 0..5 {
        lab.send(client, to, &[0; 200]).expect("it is sent");
    }
    lab.wait(2 * MS);
    assert_eq!(lab.net.udp_unread(server), Ok(200));
    let got = (0..5).map_while(|_| lab.receive(server).expect("no error")).count();
    assert_eq!(got, 2, "two datagrams of 200 bytes and what each takes besides fit in 1,000");
    assert_eq!(lab.net.shutdown_udp(client, true, true), Err(Errno::ENOTCONN));
    assert_eq!((lab.net.received(client), lab.receive(client)), (Ok(true), Ok(None)));
    assert_eq!(lab.send(client, to, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_port_bound_again_asks_other_questions() {
    let mut lab = Lab::new();
    let to = SocketAddr::from(([10, 0, 0, 2], 9));
    let mut key = || {
        let socket = lab.udp(A, 5);
        lab.send(socket, to, b"x").expect("it is sent");
        let key = lab.net.packets.iter().rev().find_map(|p| match &p.body {
            Body::Datagram(d) => Some(d.question.key),
            _ => None,
        });
        lab.net.close_udp(socket);
        lab.wait(SEC);
        key
    };
    let (first, second) = (key(), key());
    assert!(first.is_some() && first != second);
}

// ---- names ----------------------------------------------------------------------------------------------------------

#[test]
fn names_resolve_ipv4_first_and_more_can_be_added() {
    let mut lab = Lab::new();
    let text = |net: &Network, name| net.lookup(name).map(|a| a.iter().map(|ip| ip.to_string()).collect::<Vec<_>>());
    assert_eq!(text(&lab.net, "B"), Some(vec!["10.0.0.2".into(), "fd00::2".into()]));
    assert_eq!(text(&lab.net, "localhost"), Some(vec!["127.0.0.1".into(), "::1".into()]));
    assert_eq!(text(&lab.net, "192.0.2.7"), Some(vec!["192.0.2.7".into()]));
    assert_eq!(text(&lab.net, "d"), None);
    let public = Ipv4Addr::new(192, 0, 2, 7).into();
    lab.net.assign(B, public);
    lab.net.add_name("db.example", vec![public]);
    assert_eq!(text(&lab.net, "db.example"), Some(vec!["192.0.2.7".into()]));
    lab.listen(B, 16);
    let client = lab.dial(A, SocketAddr::new(public, PORT));
    lab.wait(10 * MS);
    assert_eq!(lab.net.connected(client), Ok(Some(())));
}
