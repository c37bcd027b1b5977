//! Unix sockets as programs see them, against what Linux does.

use super::super::Config;
use super::super::errno::Attempt;
use super::*;
use sim_core::device::Bench;
use std::io::IoSlice;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const STREAM: UnixKind = UnixKind::Stream;
const DATAGRAM: UnixKind = UnixKind::Datagram;
const PACKETS: UnixKind = UnixKind::SeqPacket;
const ME: Credentials = Credentials { pid: 7, uid: 1000, gid: 1000 };

struct Lab {
    net: Network,
    bench: Bench,
}

impl Lab {
    fn new() -> Lab {
        let mut net = Network::new(Config::default());
        net.node_added(A, "a");
        net.node_added(B, "b");
        Lab { net, bench: Bench::default() }
    }

    fn socket(&mut self, kind: UnixKind) -> Id {
        self.net.unix_socket(A, kind, ME)
    }

    fn bound(&mut self, kind: UnixKind, name: &[u8]) -> Id {
        let id = self.socket(kind);
        assert_eq!(self.bind(id, name), Ok(()));
        id
    }

    fn bind(&mut self, id: Id, name: &[u8]) -> Result<(), Errno> {
        self.net.unix_bind(id, name, &mut self.bench.cx(A))
    }

    fn connect(&mut self, id: Id, name: &[u8]) -> Attempt<()> {
        self.net.unix_connect(id, name, &mut self.bench.cx(A))
    }

    fn send(&mut self, id: Id, bytes: &[u8]) -> Attempt<usize> {
        self.net.unix_send(id, None, &[IoSlice::new(bytes)])
    }

    fn send_to(&mut self, id: Id, to: &[u8], bytes: &[u8]) -> Attempt<usize> {
        self.net.unix_send(id, Some(to), &[IoSlice::new(bytes)])
    }

    fn recv(&mut self, id: Id, room: usize) -> Result<Option<Vec<u8>>, Errno> {
        let mut out = Vec::new();
        let how = Receive { room, ..Receive::default() };
        let got = self.net.unix_receive(id, how, false, |b| out.extend_from_slice(b))?;
        Ok(got.map(|r| {
            assert_eq!(r.len, out.len());
            out
        }))
    }

    /// How many bytes go in, by writes of `len`.
    fn fill(&mut self, kind: UnixKind, len: usize) -> usize {
        let [a, _b] = self.net.unix_pair(A, kind, ME);
        let bytes = vec![1; len];
        let mut all = 0;
        while let Ok(Some(n)) = self.send(a, &bytes) {
            all += n;
        }
        all
    }

    fn woken(&mut self) -> Vec<(Id, bool, bool)> {
        let ids: Vec<Id> = self.net.unix.socks.ids().collect();
        let named = |slot: u32| ids.iter().copied().find(|id| id.index == slot);
        let mut woken = Vec::new();
        for effect in self.net.effects.drain(..) {
            if let Effect::Unix { slot, read, write } = effect {
                woken.extend(named(slot).map(|id| (id, read, write)));
            }
        }
        woken
    }
}

#[test]
fn a_pair_takes_as_many_bytes_as_linux_does() {
    // Measured on Linux 6.18 with the default send buffer: the size of each write, then all that a stream and a
    // datagram socket took before EAGAIN.
    let measured = [
        (1, 278, 278),
        (100, 27_800, 27_800),
        (200, 33_400, 33_400),
        (1_000, 93_000, 93_000),
        (3_000, 147_000, 147_000),
        (4_000, 176_000, 104_000),
        (10_000, 170_000, 130_000),
        (20_000, 220_000, 220_000),
        (36_544, 219_264, 219_264),
        (50_000, 236_544, 200_000),
        (100_000, 236_544, 300_000),
        (200_000, 236_544, 400_000),
        (212_960, 212_960, 212_960),
        (1_000_000, 219_264, 0),
    ];
    for (len, stream, datagram) in measured {
        let mut lab = Lab::new();
        let took = [STREAM, DATAGRAM, PACKETS].map(|kind| lab.fill(kind, len));
        assert_eq!(took, [stream, datagram, datagram], "by writes of {len}");
    }
}

#[test]
fn a_writer_hears_of_room_when_three_quarters_are_free() {
    let mut lab = Lab::new();
    let [a, b] = lab.net.unix_pair(A, STREAM, ME);
    while let Ok(Some(_)) = lab.send(a, &[0; 3_000]) {}
    assert_eq!(lab.net.unix_ready(a).map(|r| r[1]), Ok(false));
    lab.woken();
    for read in 1.. {
        lab.recv(b, 3_000).expect("it is connected").expect("bytes wait");
        let free = lab.woken() == [(a, false, true)];
        // 49 pieces of 4,352 are charged; 12 of them are no more than a quarter of 212,992.
        assert_eq!(free, 49 - read <= 12, "after {read} reads");
        assert_eq!(lab.net.unix_ready(a).map(|r| r[1]), Ok(free));
        if free {
            break;
        }
    }
}

#[test]
fn a_stream_is_connected_before_it_is_accepted_and_knows_names_and_makers() {
    let mut lab = Lab::new();
    let listener = lab.bound(STREAM, b"/run/s");
    let client = lab.socket(STREAM);
    assert_eq!(lab.connect(client, b"/run/s"), Err(Errno::ECONNREFUSED));
    lab.net.unix_listen(listener, 1).expect("it has a name");
    lab.woken();
    assert_eq!(lab.connect(client, b"/run/s"), Ok(Some(())));
    assert_eq!(lab.woken(), [(listener, true, false)]);
    assert_eq!(lab.connect(client, b"/run/s"), Err(Errno::EISCONN));
    assert_eq!(lab.send(client, b"early"), Ok(Some(5)));
    let server = lab.net.unix_accept(listener, false).expect("it listens").expect("one waits");
    assert_eq!(lab.recv(server, 9), Ok(Some(b"early".to_vec())));
    assert_eq!(lab.net.unix_name(server).as_deref(), Ok(&b"/run/s"[..]));
    assert_eq!(lab.net.unix_peer_name(client).as_deref(), Ok(&b"/run/s"[..]));
    assert_eq!(lab.net.unix_peer_name(server).as_deref(), Ok(&b""[..]));
    assert_eq!(lab.net.unix_peer_owner(server), Ok(Some(ME)));
    assert_eq!(lab.net.unix_accept(listener, false), Ok(None));
}

#[test]
fn a_full_backlog_makes_wait_and_an_accept_wakes_who_waits() {
    let mut lab = Lab::new();
    let listener = lab.bound(STREAM, b"\0s");
    lab.net.unix_listen(listener, 2).expect("it has a name");
    let clients = [(); 4].map(|()| lab.socket(STREAM));
    let first: Vec<_> = clients.iter().map(|c| lab.connect(*c, b"\0s")).collect();
    assert_eq!(first, [Ok(Some(())), Ok(Some(())), Ok(Some(())), Ok(None)]);
    lab.woken();
    lab.net.unix_accept(listener, false).expect("it listens").expect("three wait");
    assert_eq!(lab.woken(), [(clients[3], false, true)]);
    assert_eq!(lab.connect(clients[3], b"\0s"), Ok(Some(())));
    lab.net.unix_close(listener);
    assert_eq!(lab.recv(clients[3], 1), Err(Errno::ECONNRESET));
    assert_eq!(lab.recv(clients[3], 1), Ok(Some(vec![])));
    assert_eq!(lab.send(clients[3], b"x"), Err(Errno::EPIPE));
    assert_eq!(lab.recv(clients[0], 1), Ok(None), "it was accepted before");
}

#[test]
fn a_path_outlives_its_socket_and_an_abstract_name_does_not() {
    let mut lab = Lab::new();
    for (name, gone) in [(&b"/s"[..], Errno::ENOENT), (b"\0s", Errno::ECONNREFUSED)] {
        let path = name[0] != 0;
        let client = lab.socket(STREAM);
        assert_eq!(lab.connect(client, name), Err(gone));
        let listener = lab.bound(STREAM, name);
        let second = lab.socket(STREAM);
        assert_eq!(lab.bind(second, name), Err(Errno::EADDRINUSE));
        assert_eq!(lab.bind(listener, b"/other"), Err(Errno::EINVAL));
        lab.net.unix_close(listener);
        assert_eq!(lab.connect(client, name), Err(Errno::ECONNREFUSED));
        assert_eq!(lab.bind(second, name), if path { Err(Errno::EADDRINUSE) } else { Ok(()) });
        assert_eq!(lab.net.unix_unlink(A, name), path);
        assert!(!lab.net.unix_unlink(A, name));
    }
    let again = lab.bound(STREAM, b"/s");
    lab.net.unix_listen(again, 0).expect("it has a name");
    assert!(lab.net.unix_is_bound(A, b"/s") && !lab.net.unix_is_bound(B, b"/s"), "names are a machine's own");
    // Unlinking lets another take the name; closing the first then frees nothing of the second.
    assert!(lab.net.unix_unlink(A, b"/s"));
    let other = lab.bound(STREAM, b"/s");
    lab.net.unix_listen(other, 0).expect("it has a name");
    lab.net.unix_close(again);
    let client = lab.socket(STREAM);
    assert_eq!(lab.connect(client, b"/s"), Ok(Some(())));
    let datagrams = lab.socket(DATAGRAM);
    assert_eq!(lab.connect(datagrams, b"/s"), Err(Errno::EPROTOTYPE));
}

#[test]
fn closing_with_unread_bytes_resets_and_without_ends() {
    let mut lab = Lab::new();
    let [a, b] = lab.net.unix_pair(A, STREAM, ME);
    assert_eq!(lab.send(a, b"unread"), Ok(Some(6)));
    assert_eq!(lab.send(b, b"last"), Ok(Some(4)));
    lab.net.unix_close(b);
    assert_eq!(lab.net.unix_ready(a), Ok([true, true, true, true, true, true]));
    assert_eq!(lab.recv(a, 9), Ok(Some(b"last".to_vec())), "bytes come before errors");
    assert_eq!(lab.recv(a, 9), Err(Errno::ECONNRESET));
    assert_eq!(lab.recv(a, 9), Ok(Some(vec![])));
    let [a, b] = lab.net.unix_pair(A, STREAM, ME);
    lab.net.unix_close(b);
    assert_eq!(lab.send(a, b"x"), Err(Errno::EPIPE));
    assert_eq!(lab.recv(a, 9), Ok(Some(vec![])));
    assert_eq!(lab.net.unix_peer_name(a).as_deref(), Ok(&b""[..]), "a closed peer is still the peer");
}

#[test]
fn half_closed_pairs_go_on_in_the_other_direction() {
    let mut lab = Lab::new();
    for kind in [STREAM, PACKETS] {
        let [a, b] = lab.net.unix_pair(A, kind, ME);
        assert_eq!(lab.send(a, b"bye"), Ok(Some(3)));
        lab.woken();
        lab.net.unix_shutdown(a, false, true).expect("it is open");
        assert_eq!(lab.woken(), [(a, true, true), (b, true, true)]);
        assert_eq!(lab.send(a, b"x"), Err(Errno::EPIPE));
        assert_eq!(lab.recv(b, 9), Ok(Some(b"bye".to_vec())));
        assert_eq!(lab.recv(b, 9), Ok(Some(vec![])));
        assert_eq!(lab.send(b, b"still"), Ok(Some(5)));
        assert_eq!(lab.recv(a, 9), Ok(Some(b"still".to_vec())));
        assert_eq!(lab.net.unix_ready(b), Ok([true, true, true, false, false, false]));
    }
}

#[test]
fn reads_of_a_stream_cross_writes_and_peeks_take_nothing() {
    let mut lab = Lab::new();
    let [a, b] = lab.net.unix_pair(A, STREAM, ME);
    for part in [&b"one"[..], b"two", b"three"] {
        assert_eq!(lab.send(a, part), Ok(Some(part.len())));
    }
    assert_eq!(lab.recv(b, 2), Ok(Some(b"on".to_vec())));
    for (offset, seen) in [(0, &b"etwoth"[..]), (2, b"wothre"), (8, b"e"), (9, b"")] {
        let mut out = Vec::new();
        let how = Receive { room: 6, peek: true, offset };
        lab.net.unix_receive(b, how, false, |b| out.extend_from_slice(b)).expect("open").expect("bytes wait");
        assert_eq!(out, seen, "from {offset}");
    }
    assert_eq!(lab.net.unix_unread(b), Ok(9));
    assert_eq!(lab.recv(b, 99), Ok(Some(b"etwothree".to_vec())));
    assert_eq!(lab.recv(b, 99), Ok(None));
}

#[test]
fn messages_stay_whole_and_tell_their_length_and_sender() {
    let mut lab = Lab::new();
    let sink = lab.bound(DATAGRAM, b"/sink");
    let sender = lab.bound(DATAGRAM, b"\0me");
    assert_eq!(lab.send_to(sender, b"/sink", b"hello"), Ok(Some(5)));
    assert_eq!(lab.send_to(sender, b"/sink", b""), Ok(Some(0)));
    let how = Receive { room: 3, ..Receive::default() };
    let mut out = Vec::new();
    let got = lab.net.unix_receive(sink, how, false, |b| out.extend_from_slice(b));
    assert_eq!(got, Ok(Some(Received { len: 3, full_len: 5, from: b"\0me"[..].into() })));
    assert_eq!((&out[..], lab.net.unix_unread(sink)), (&b"hel"[..], Ok(0)));
    assert_eq!(lab.recv(sink, 9), Ok(Some(vec![])), "an empty message is one");
    assert_eq!(lab.recv(sink, 9), Ok(None));
    assert_eq!(lab.send(sender, b"x"), Err(Errno::ENOTCONN));
    assert_eq!(lab.send_to(sender, b"/none", b"x"), Err(Errno::ENOENT));
}

#[test]
fn a_datagram_socket_queues_eleven_from_strangers() {
    let mut lab = Lab::new();
    let sink = lab.bound(DATAGRAM, b"/sink");
    let sender = lab.socket(DATAGRAM);
    let took = (0..20).take_while(|_| lab.send_to(sender, b"/sink", b"x") == Ok(Some(1))).count();
    assert_eq!((took, lab.send_to(sender, b"/sink", b"x")), (11, Ok(None)));
    assert_eq!(lab.connect(sender, b"/sink"), Ok(Some(())));
    assert_eq!(lab.net.unix_ready(sender).map(|r| r[1]), Ok(false));
    lab.woken();
    assert_eq!(lab.recv(sink, 9), Ok(Some(b"x".to_vec())));
    assert_eq!(lab.woken()[0], (sender, false, true));
    assert_eq!(lab.send(sender, b"x"), Ok(Some(1)));
}

#[test]
fn a_closed_peer_refuses_a_datagram_once_and_is_none_then() {
    let mut lab = Lab::new();
    let sink = lab.bound(DATAGRAM, b"/sink");
    let sender = lab.socket(DATAGRAM);
    let stranger = lab.socket(DATAGRAM);
    assert_eq!(lab.connect(sender, b"/sink"), Ok(Some(())));
    lab.bind(sender, b"/sender").expect("the name is free");
    assert_eq!(lab.connect(sink, b"/sender"), Ok(Some(())));
    assert_eq!(lab.send_to(stranger, b"/sink", b"x"), Err(Errno::EPERM));
    lab.net.unix_close(sink);
    assert_eq!(lab.send(sender, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(lab.send(sender, b"x"), Err(Errno::ENOTCONN));
}

#[test]
fn disconnecting_from_one_that_is_connected_back_resets_it() {
    let mut lab = Lab::new();
    let [a, b] = lab.net.unix_pair(A, DATAGRAM, ME);
    assert_eq!(lab.send(b, b"lost"), Ok(Some(4)));
    lab.net.unix_disconnect(a).expect("it is a datagram socket");
    assert_eq!(lab.recv(a, 9), Ok(None));
    assert_eq!(lab.recv(b, 9), Err(Errno::ECONNRESET));
    let [a, b] = lab.net.unix_pair(A, DATAGRAM, ME);
    lab.net.unix_disconnect(a).expect("it is a datagram socket");
    assert_eq!(lab.recv(b, 9), Ok(None), "nothing was lost");
}

#[test]
fn what_is_not_connected_yet_says_what_linux_says() {
    let mut lab = Lab::new();
    let [stream, datagram, packets] = [STREAM, DATAGRAM, PACKETS].map(|kind| lab.socket(kind));
    assert_eq!(lab.net.unix_ready(stream), Ok([false, true, false, false, true, false]));
    assert_eq!(lab.net.unix_ready(datagram), Ok([false, true, false, false, false, false]));
    assert_eq!((lab.recv(stream, 1), lab.send(stream, b"x")), (Err(Errno::EINVAL), Err(Errno::ENOTCONN)));
    assert_eq!((lab.recv(packets, 1), lab.send(packets, b"x")), (Err(Errno::ENOTCONN), Err(Errno::ENOTCONN)));
    assert_eq!((lab.recv(datagram, 1), lab.send(datagram, b"x")), (Ok(None), Err(Errno::ENOTCONN)));
    assert_eq!(lab.net.unix_listen(stream, 1), Err(Errno::EINVAL));
    assert_eq!(lab.net.unix_listen(datagram, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!((lab.net.unix_accept(stream, true), lab.net.unix_accept(datagram, true)), {
        (Err(Errno::EINVAL), Err(Errno::EOPNOTSUPP))
    });
    assert_eq!(lab.bind(stream, b""), Ok(()));
    assert_eq!(lab.net.unix_name(stream).as_deref(), Ok(&b"\x0000001"[..]));
}

#[test]
fn a_dead_node_has_no_sockets_and_keeps_its_paths() {
    let mut lab = Lab::new();
    let listener = lab.bound(STREAM, b"/s");
    lab.net.unix_listen(listener, 4).expect("it has a name");
    let client = lab.socket(STREAM);
    assert_eq!(lab.connect(client, b"/s"), Ok(Some(())));
    let other = lab.net.unix_socket(B, DATAGRAM, ME);
    lab.net.node_died(A, sim_core::Death::Kill, &mut lab.bench.cx(NodeId::OUTSIDE));
    assert_eq!(lab.send(client, b"x"), Err(Errno::EBADF));
    assert_eq!(lab.net.unix_kind(other), Ok(DATAGRAM));
    assert_eq!(lab.net.unix.socks.ids().count(), 1);
    let reborn = lab.socket(STREAM);
    assert_eq!(lab.bind(reborn, b"/s"), Err(Errno::EADDRINUSE));
    assert_eq!(lab.connect(reborn, b"/s"), Err(Errno::ECONNREFUSED));
}
