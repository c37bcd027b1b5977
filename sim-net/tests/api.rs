//! Handles in a World: programs on nodes, wakers, death, determinism. One helper touches the API; tests feed it data.

use sim_core::choices::{Choices, Tape};
use sim_core::time::Timer;
use sim_core::{Death, JoinHandle, NodeId, Outcome, Settings, Spawn, Verdict, World, program};
use sim_net::{
    Credentials, LinkConfig, Net, News, Odds, Pipe, Readiness, Receive, TcpBound, TcpListener, TcpStream, UdpSocket,
    UnixKind, UnixSocket, lookup, unix_is_bound, unix_unlink,
};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

fn run<F: Future>(choices: Choices, body: F) -> (Result<F::Output, Verdict>, Outcome) {
    let entered = World::enter(Settings::default(), choices).expect("no World runs here yet");
    entered.world().plug(Net::new());
    let result = entered.world().block_on(NodeId::OUTSIDE, body, Spawn::named("test"));
    (result, entered.world().outcome())
}

fn calm<F: Future>(body: F) -> F::Output {
    run(Choices::from_source(0, Box::new(Tape::new([]))), body).0.expect("the run passes")
}

fn world() -> &'static World {
    World::current().expect("inside a run")
}

fn on<F: Future + 'static>(node: &str, body: F) -> JoinHandle<F::Output> {
    let node = world().node(node);
    world().spawn_in(world().node_group(node), None, body, Spawn::named("body"))
}

fn net<R>(f: impl FnOnce(&mut Net, &mut sim_core::DeviceCx<'_>) -> R) -> R {
    world().with_device(f)
}

async fn sleep_ms(ms: u64) {
    Timer::new(world().now() + Duration::from_millis(ms)).await
}

fn addr(name: &str, port: u16) -> SocketAddr {
    SocketAddr::new(lookup(name).expect("it is a node")[0], port)
}

fn listen(port: u16) -> TcpListener {
    TcpBound::bind(SocketAddr::from(([0, 0, 0, 0], port))).and_then(|b| b.listen(1024)).expect("the port is free")
}

async fn accept(listener: &TcpListener) -> TcpStream {
    poll_fn(|cx| listener.poll_accept(cx)).await.expect("it listens").0
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    poll_fn(|cx| stream.poll_connected(cx)).await?;
    Ok(stream)
}

async fn read(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut out = [0; 4096];
    let n = poll_fn(|cx| stream.poll_read(cx, &mut out)).await?;
    Ok(out[..n].to_vec())
}

async fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, rest)).await?;
        rest = &rest[n..];
    }
    Ok(())
}

async fn echo_server() {
    let listener = listen(7);
    loop {
        let stream = accept(&listener).await;
        let serve = async move {
            while let Ok(bytes) = read(&stream).await {
                if bytes.is_empty() || write(&stream, &bytes).await.is_err() {
                    return;
                }
            }
        };
        world().spawn(serve, Spawn::named("serve"));
    }
}

#[test]
fn an_echo_takes_a_round_trip_to_connect_and_one_to_answer() {
    let times = calm(async {
        on("server", echo_server());
        let client = async {
            let start = world().now();
            let stream = connect(addr("server", 7)).await.expect("it listens");
            let connected = world().now() - start;
            write(&stream, b"hello").await.expect("it is connected");
            assert_eq!(read(&stream).await.expect("it echoes"), b"hello");
            (connected, world().now() - start)
        };
        on("client", client).await.expect("nobody cancels it")
    });
    assert_eq!(times, (Duration::from_millis(2), Duration::from_millis(4)));
}

/// Clients and datagrams between four nodes, with a partition, loss, and a kill. Gives what was echoed.
async fn turmoil() -> Vec<Result<Vec<u8>, ErrorKind>> {
    let server = world().node("server");
    world().start(server, program(echo_server), Spawn::named("server"));
    let rough = LinkConfig { loss: Odds::Drawn, duplicate: Odds::Drawn, ..LinkConfig::default() };
    net(|net, _| net.set_default_link(rough));
    let received = Rc::new(RefCell::new(0));
    let count = received.clone();
    on("sink", async move {
        let socket = UdpSocket::bind(([0, 0, 0, 0], 9).into()).expect("the port is free");
        loop {
            poll_fn(|cx| socket.poll_recv(cx, &mut [0; 64])).await.expect("no error");
            *count.borrow_mut() += 1;
        }
    });
    let clients: Vec<_> = (0..3u8)
        .map(|i| {
            on(&format!("client{i}"), async move {
                let noise = UdpSocket::bind(([0, 0, 0, 0], 0).into()).expect("a port is free");
                let mut echoed = Vec::new();
                for round in 0..20u8 {
                    noise.send(Some(addr("sink", 9)), &[i, round]).map_err(|e| e.kind())?;
                    let stream = connect(addr("server", 7)).await.map_err(|e| e.kind())?;
                    write(&stream, &[i, round]).await.map_err(|e| e.kind())?;
                    echoed.extend(read(&stream).await.map_err(|e| e.kind())?);
                    sleep_ms(1).await;
                }
                Ok(echoed)
            })
        })
        .collect();
    sleep_ms(10).await;
    let first = world().node("client0");
    net(|net, cx| net.partition(&[&[server], &[first]], cx));
    sleep_ms(500).await;
    net(|net, cx| net.heal(cx));
    sleep_ms(3).await;
    world().end_node(server, Death::Kill);
    world().restart(server);
    let mut all = Vec::new();
    for client in clients {
        all.push(client.await.expect("nobody cancels it"));
    }
    assert!(*received.borrow() > 0);
    all
}

#[test]
fn the_same_seed_gives_the_same_digest_and_the_tape_replays_it() {
    let mut digests = Vec::new();
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let mut choices = Choices::seeded(seed);
        choices.record();
        let (a, first) = run(choices, turmoil());
        let (b, second) = run(Choices::seeded(seed), turmoil());
        assert_eq!((&a, first.digest), (&b, second.digest), "seed {seed}");
        let tape = Tape::new(first.deviations.iter().map(|d| (d.at, d.value)));
        let (c, replayed) = run(Choices::from_source(seed, Box::new(tape)), turmoil());
        assert_eq!((&a, first.digest), (&c, replayed.digest), "seed {seed}");
        // The tape without what was drawn for links: each packet's own choice means the same.
        let fates: Vec<_> = first.deviations.iter().filter(|d| d.what == "packet").collect();
        assert!(fates.iter().all(|d| !d.subject.is_empty()), "keys have names");
        let tape =
            Tape::new(first.deviations.iter().filter(|d| !d.what.starts_with("how rough")).map(|d| (d.at, d.value)));
        let (d, bare) = run(Choices::from_source(seed, Box::new(tape)), turmoil());
        assert_eq!((&a, &first.fired), (&d, &bare.fired), "seed {seed}");
        kinds.extend(first.fired.keys().copied());
        digests.push(first.digest);
    }
    digests.sort();
    digests.dedup();
    assert!(digests.len() > 50);
    assert!(
        ["net.delay", "net.duplicate", "net.loss", "net.partition", "net.split"].iter().all(|k| kinds.contains(k)),
        "{kinds:?}"
    );
}

#[test]
fn a_killed_programs_streams_end_and_a_machine_without_power_is_silent() {
    for (how, expected) in [(Death::Kill, Some(Ok(vec![]))), (Death::PowerOff, None)] {
        let seen = calm(async move {
            let server = world().node("server");
            world().start(server, program(echo_server), Spawn::named("server"));
            let client = on("client", async {
                let stream = connect(addr("server", 7)).await.expect("it listens");
                write(&stream, b"x").await.expect("it is connected");
                assert_eq!(read(&stream).await.expect("it echoes"), b"x");
                read(&stream).await.map_err(|e| e.kind())
            });
            sleep_ms(100).await;
            world().end_node(server, how);
            sleep_ms(3_000_000).await;
            if client.is_finished() { Some(client.await.expect("nobody cancels it")) } else { None }
        });
        assert_eq!(seen, expected, "{how:?}");
    }
}

#[test]
fn a_stream_of_an_earlier_life_is_reset_once_the_machine_is_up_again() {
    let seen = calm(async {
        let server = world().node("server");
        world().start(server, program(echo_server), Spawn::named("server"));
        let client = on("client", async {
            let stream = connect(addr("server", 7)).await.expect("it listens");
            sleep_ms(100).await;
            write(&stream, b"x").await.expect("the kernel takes it");
            read(&stream).await.map_err(|e| e.kind())
        });
        sleep_ms(50).await;
        world().end_node(server, Death::PowerOff);
        sleep_ms(1000).await;
        world().restart(server);
        client.await.expect("nobody cancels it")
    });
    assert_eq!(seen, Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_port_is_free_again_after_a_restart_and_handles_of_the_dead_do_nothing() {
    let echoed = calm(async {
        let server = world().node("server");
        world().start(server, program(echo_server), Spawn::named("server"));
        for how in [Death::Kill, Death::PowerOff, Death::Exit] {
            sleep_ms(10).await;
            world().end_node(server, how);
            world().restart(server);
        }
        sleep_ms(10).await;
        let client = on("client", async {
            let stream = connect(addr("server", 7)).await.expect("it listens again");
            write(&stream, b"again").await.expect("it is connected");
            read(&stream).await.expect("it echoes")
        });
        client.await.expect("nobody cancels it")
    });
    assert_eq!(echoed, b"again");
}

#[test]
fn a_dropped_future_takes_nothing() {
    calm(async {
        let sink = on("sink", async {
            let socket = UdpSocket::bind(([0, 0, 0, 0], 9).into()).expect("the port is free");
            // Polled once, dropped, polled again later.
            let mut first = true;
            poll_fn(|cx| {
                let polled = socket.poll_recv(cx, &mut [0; 8]);
                assert!(polled.is_pending() || !first);
                first = false;
                std::task::Poll::Ready(())
            })
            .await;
            sleep_ms(50).await;
            let mut out = [0; 8];
            let (n, _) = poll_fn(|cx| socket.poll_recv(cx, &mut out)).await.expect("no error");
            out[..n].to_vec()
        });
        sleep_ms(1).await;
        on("source", async {
            let socket = UdpSocket::bind(([0, 0, 0, 0], 0).into()).expect("a port is free");
            socket.send(Some(addr("sink", 9)), b"kept").expect("it is sent");
        });
        assert_eq!(sink.await.expect("nobody cancels it"), b"kept");
    });
}

#[test]
fn a_dropped_connect_leaves_an_end_of_stream_or_a_reset_never_a_hang() {
    let seen = calm(async {
        let server = on("server", async {
            let listener = listen(7);
            let stream = accept(&listener).await;
            read(&stream).await.map_err(|e| e.kind())
        });
        on("client", async {
            // Dropped while the SYN-ACK is on its way: RST, and the next one is served.
            let stream = TcpStream::connect(addr("server", 7)).expect("it starts");
            sleep_ms(1).await;
            drop(stream);
            let stream = connect(addr("server", 7)).await.expect("it listens");
            write(&stream, b"second").await.expect("it is connected");
            sleep_ms(10).await;
        });
        server.await.expect("nobody cancels it")
    });
    assert_eq!(seen, Ok(b"second".to_vec()));
}

#[test]
fn several_tasks_may_wait_for_one_socket() {
    let total = calm(async {
        let sink = on("sink", async {
            let socket = Rc::new(UdpSocket::bind(([0, 0, 0, 0], 9).into()).expect("the port is free"));
            let waiters: Vec<_> = (0..5)
                .map(|_| {
                    let socket = socket.clone();
                    let wait =
                        async move { poll_fn(|cx| socket.poll_recv(cx, &mut [0; 8])).await.expect("no error").0 };
                    world().spawn(wait, Spawn::named("waiter"))
                })
                .collect();
            let mut total = 0;
            for w in waiters {
                total += w.await.expect("nobody cancels it");
            }
            total
        });
        on("source", async {
            let socket = UdpSocket::bind(([0, 0, 0, 0], 0).into()).expect("a port is free");
            for n in 1..=5 {
                socket.send(Some(addr("sink", 9)), &[0; 8][..n]).expect("it is sent");
                sleep_ms(3).await;
            }
        });
        sink.await.expect("nobody cancels it")
    });
    assert_eq!(total, 15);
}

#[test]
fn outside_the_machines_there_is_no_address() {
    let (result, _) = run(Choices::seeded(0), async { TcpStream::connect(([10, 0, 0, 1], 7).into()).err() });
    assert!(
        matches!(&result, Err(Verdict::Panicked { message, .. }) if message.contains("TcpStream::connect") && message.contains("sim.node(\"client\").run")),
        "{result:?}"
    );
}

#[test]
#[should_panic(expected = "there is no reactor running, must be called from the context of a Tokio 1.x runtime")]
fn without_a_world_there_is_no_reactor() {
    drop(UdpSocket::bind(([0, 0, 0, 0], 0).into()));
}

#[test]
fn an_unknown_name_is_the_resolvers_error() {
    let text = calm(async { lookup("nobody").expect_err("nobody has it").to_string() });
    assert_eq!(text, "failed to lookup address information: Name or service not known");
}

#[test]
fn a_handle_of_an_earlier_run_does_nothing_in_a_later_one() {
    let kept = calm(async { on("a", async { listen(7) }).await.expect("nobody cancels it") });
    calm(async move {
        on("a", async move {
            let mine = listen(7);
            drop(kept);
            assert!(mine.local_addr().is_ok(), "its slot has the same number");
        })
        .await
        .expect("nobody cancels it")
    });
}

// ---- observers and readiness ----------------------------------------------------------------------------------------

/// Counts how often it is woken: what an epoll would hang on a socket.
#[derive(Default)]
struct Bell(AtomicU32);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn new() -> (Arc<Bell>, Waker) {
        let bell = Arc::new(Bell::default());
        (bell.clone(), bell.into())
    }

    /// How often it rang since the last question.
    fn rang(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Readiness in the words of `poll(2)`.
fn words(r: io::Result<Readiness>) -> String {
    let r = r.expect("the socket is open");
    let named =
        [(r.readable, "IN"), (r.writable, "OUT"), (r.read_closed, "RDHUP"), (r.hang_up, "HUP"), (r.error, "ERR")];
    named.iter().filter(|n| n.0).map(|n| n.1).collect::<Vec<_>>().join(" ")
}

/// A connection within one machine: the client's and the server's side.
async fn loopback() -> (TcpStream, TcpStream) {
    let listener = listen(7);
    let client = connect(([127, 0, 0, 1], 7).into()).await.expect("it listens");
    let server = accept(&listener).await;
    (client, server)
}

#[test]
fn streams_poll_as_they_do_on_linux() {
    // All that is compared with was polled on Linux 6.18.
    let ended = on_one_node(async {
        let (c, s) = loopback().await;
        assert_eq!(words(c.readiness()), "OUT");
        c.shutdown_write().expect("it is connected");
        sleep_ms(1).await;
        assert_eq!((words(c.readiness()), words(s.readiness())), ("OUT".into(), "IN OUT RDHUP".into()));
        s.shutdown_write().expect("it is connected");
        sleep_ms(1).await;
        assert_eq!(words(c.readiness()), "IN OUT RDHUP HUP");
        assert_eq!(words(s.readiness()), "IN OUT RDHUP HUP");
        assert_eq!(c.peer_addr().map_err(|e| e.kind()), Err(ErrorKind::NotConnected));

        let (c, s) = loopback().await;
        c.shutdown(true, false).expect("it is connected");
        assert_eq!(words(c.readiness()), "IN OUT RDHUP");
        s.set_options(|o| o.linger = Some(Duration::ZERO)).expect("it is open");
        drop(s);
        sleep_ms(1).await;
        assert_eq!(words(c.readiness()), "IN OUT RDHUP HUP ERR");
        assert_eq!(c.try_read(&mut [0; 9]).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
        assert_eq!(words(c.readiness()), "IN OUT RDHUP HUP");

        let refused = TcpStream::connect(([127, 0, 0, 1], 9).into()).expect("it starts");
        assert_eq!(words(refused.readiness()), "");
        sleep_ms(1).await;
        assert_eq!(words(refused.readiness()), "IN OUT RDHUP HUP ERR");
        let error = refused.take_error().expect("it is open").expect("it was refused");
        assert_eq!(
            (error.kind(), words(refused.readiness())),
            (ErrorKind::ConnectionRefused, "IN OUT RDHUP HUP".into())
        );
    });
    assert!(ended.is_some());
}

/// Runs a body on a machine to its end.
fn on_one_node<F: Future + 'static>(body: F) -> Option<F::Output> {
    calm(async { on("a", body).await.ok() })
}

#[test]
fn an_observer_hears_of_every_event_also_when_nothing_changes() {
    let heard = on_one_node(async {
        let listener = listen(8);
        let (bell, waker) = Bell::new();
        listener.observe(waker.clone()).expect("it listens");
        let c = TcpStream::connect(([127, 0, 0, 1], 8).into()).expect("it starts");
        let (connecting, for_c) = Bell::new();
        c.observe(for_c).expect("it is open");
        sleep_ms(1).await;
        assert_eq!((bell.rang(), connecting.rang()), (1, 1));
        assert_eq!(words(listener.readiness()), "IN");
        let s = accept(&listener).await;
        s.observe(waker.clone()).expect("it is open");
        for _ in 0..3 {
            c.try_write(b"x").expect("there is room");
            sleep_ms(1).await;
            assert_eq!(bell.rang(), 1, "readable before, and told again");
            assert_eq!(s.take_news().expect("it is open").0, News { read: true, write: false });
        }
        s.unobserve().expect("it is open");
        c.try_write(b"x").expect("there is room");
        sleep_ms(1).await;
        assert_eq!(bell.rang(), 0);
        drop(s);
        sleep_ms(1).await;
        assert!(connecting.rang() > 0, "a reset");
        assert_eq!(c.take_news().expect("it is open").0, News { read: true, write: true });
    });
    assert!(heard.is_some());
}

#[test]
fn a_short_write_is_followed_by_an_edge_when_there_is_room_again() {
    let heard = on_one_node(async {
        let (c, s) = loopback().await;
        let (bell, waker) = Bell::new();
        c.observe(waker).expect("it is open");
        // Two buffers: less than all goes in, and nobody calls again to hear EAGAIN.
        let mut wrote = 0;
        while let Ok(n) = c.try_write(&[7; 100_000]) {
            wrote += n;
            if n < 100_000 {
                break;
            }
            sleep_ms(1).await;
        }
        sleep_ms(1).await;
        bell.rang();
        assert_eq!(words(c.readiness()), "");
        let mut read = 0;
        while let Ok(n) = s.try_read(&mut [0; 50_000]) {
            read += n;
            sleep_ms(1).await;
        }
        assert_eq!(read, wrote);
        assert!(bell.rang() > 0);
        assert_eq!(words(c.readiness()), "OUT");
    });
    assert!(heard.is_some());
}

#[test]
fn datagram_sockets_poll_as_they_do_on_linux() {
    let ended = on_one_node(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (a, b) = (UdpSocket::bind(any).expect("free"), UdpSocket::bind(any).expect("free"));
        let (bell, waker) = Bell::new();
        a.observe(waker).expect("it is open");
        assert_eq!(words(a.readiness()), "OUT");
        let to = a.local_addr().expect("it is bound");
        (0..2).for_each(|_| drop(b.send(Some(to), b"datagram")));
        sleep_ms(1).await;
        assert_eq!((bell.rang(), words(a.readiness())), (2, "IN OUT".into()));
        let mut whole = 0;
        assert_eq!(a.try_recv_with(usize::MAX, |bytes, _| whole = bytes.len()).ok(), Some(8));
        assert_eq!((whole, a.unread().ok()), (8, Some(8)));
        drop(b);
        a.try_recv(&mut []).expect("one waits");
        a.connect(([127, 0, 0, 1], 9).into()).expect("there is a route");
        a.send(None, b"nobody").expect("it is sent");
        sleep_ms(1).await;
        assert_eq!((bell.rang(), words(a.readiness())), (1, "OUT ERR".into()));
        assert!(a.take_error().expect("it is open").is_some());
        a.shutdown(true, true).expect("it is connected");
        assert_eq!(words(a.readiness()), "IN OUT RDHUP HUP");
        assert_eq!(poll_fn(|cx| a.poll_recv(cx, &mut [0; 9])).await.map(|r| r.0).ok(), Some(0));
        assert_eq!(a.try_recv(&mut [0; 9]).map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
    });
    assert!(ended.is_some());
}

// ---- within a machine -----------------------------------------------------------------------------------------------

const ME: Credentials = Credentials { pid: 1, uid: 1000, gid: 1000 };

async fn recv(socket: &UnixSocket) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let how = Receive { room: 4096, ..Receive::default() };
    poll_fn(|cx| socket.poll_recv(cx, how, |b| out.extend_from_slice(b))).await?;
    Ok(out)
}

async fn send(socket: &UnixSocket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| socket.poll_send(cx, None, &[IoSlice::new(bytes)])).await?;
        bytes = &bytes[n..];
    }
    Ok(())
}

#[test]
fn programs_of_one_machine_talk_over_unix_sockets_and_back_pressure_holds() {
    let len = 3_000_000;
    let got = calm(async move {
        let server = on("a", async move {
            let listener = UnixSocket::new(UnixKind::Stream, ME)?;
            listener.bind(b"/run/server")?;
            listener.listen(0)?;
            let stream = poll_fn(|cx| listener.poll_accept(cx)).await?;
            assert_eq!(stream.peer_owner()?, Some(ME));
            let mut all = Vec::new();
            loop {
                let bytes = recv(&stream).await?;
                if bytes.is_empty() {
                    return io::Result::Ok(all);
                }
                all.extend(bytes);
                sleep_ms(1).await;
            }
        });
        let stranger = on("b", async {
            sleep_ms(1).await;
            UnixSocket::new(UnixKind::Stream, ME)?.try_connect(b"/run/server")
        });
        assert_eq!(stranger.await.expect("nobody cancels it").map_err(|e| e.kind()), Err(ErrorKind::NotFound));
        let client = on("a", async move {
            let stream = UnixSocket::new(UnixKind::Stream, ME)?;
            poll_fn(|cx| stream.poll_connect(cx, b"/run/server")).await?;
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            send(&stream, &bytes).await?;
            let took = world().now();
            io::Result::Ok((bytes, took))
        });
        let (sent, took) = client.await.expect("nobody cancels it").expect("it is connected");
        assert!(took.0 > 500_000_000, "the writer waits for the reader: {took:?}");
        sent == server.await.expect("nobody cancels it").expect("it listens")
    });
    assert!(got, "the bytes come out as they went in");
}

#[test]
fn a_full_unix_listener_makes_connects_wait_in_turn() {
    let order = on_one_node(async {
        let listener = UnixSocket::new(UnixKind::Stream, ME).expect("the machine runs");
        listener.bind(b"\0queue").expect("the name is free");
        listener.listen(0).expect("it has a name");
        let order = Rc::new(RefCell::new(Vec::new()));
        let clients: Vec<_> = (0..4)
            .map(|i| {
                let order = order.clone();
                let client = async move {
                    let stream = UnixSocket::new(UnixKind::Stream, ME).expect("the machine runs");
                    poll_fn(|cx| stream.poll_connect(cx, b"\0queue")).await.expect("it listens");
                    order.borrow_mut().push(i);
                    recv(&stream).await.map_err(|e| e.kind())
                };
                world().spawn(client, Spawn::named("client"))
            })
            .collect();
        for _ in 0..3 {
            sleep_ms(1).await;
            let stream = poll_fn(|cx| listener.poll_accept(cx)).await.expect("it listens");
            send(&stream, b"x").await.expect("it is connected");
        }
        sleep_ms(1).await;
        drop(listener);
        let mut ends = Vec::new();
        for client in clients {
            ends.push(client.await.expect("nobody cancels it"));
        }
        assert_eq!(ends.iter().filter(|e| **e == Err(ErrorKind::ConnectionReset)).count(), 1, "{ends:?}");
        order.take()
    });
    assert_eq!(order, Some(vec![0, 1, 2, 3]));
}

#[test]
fn observers_of_unix_sockets_and_pipes_hear_of_bytes_room_and_ends() {
    let heard = on_one_node(async {
        let [a, b] = UnixSocket::pair(UnixKind::Stream, ME).expect("the machine runs");
        let (bell, waker) = Bell::new();
        a.observe(waker.clone()).expect("it is open");
        b.try_send(None, &[IoSlice::new(b"x")]).expect("there is room");
        assert_eq!((bell.rang(), words(a.readiness())), (1, "IN OUT".into()));
        drop(b);
        assert_eq!((bell.rang(), words(a.readiness())), (1, "IN OUT RDHUP HUP".into()));
        assert_eq!(a.take_news().expect("it is open"), News { read: true, write: true });

        let [reader, writer] = Pipe::new().expect("the machine runs");
        reader.observe(waker.clone()).expect("it is open");
        while writer.try_write(&[IoSlice::new(&[0; 4096])]).is_ok() {}
        // Also for the one that found no room, as Linux does.
        assert_eq!((bell.rang(), words(reader.readiness()), words(writer.readiness())), (17, "IN".into(), "".into()));
        writer.observe(waker).expect("it is open");
        reader.try_read(4096, |_| ()).expect("bytes wait");
        assert_eq!((bell.rang(), words(writer.readiness())), (1, "OUT".into()));
        assert_eq!(writer.try_read(1, |_| ()).map_err(|e| e.raw_os_error()), Err(Some(9)));
        drop(reader);
        assert_eq!((bell.rang(), words(writer.readiness())), (1, "OUT ERR".into()));
        assert_eq!(writer.try_write(&[IoSlice::new(b"x")]).map_err(|e| e.kind()), Err(ErrorKind::BrokenPipe));
    });
    assert!(heard.is_some());
}

#[test]
fn a_pipe_carries_bytes_between_tasks_and_ends() {
    let got = on_one_node(async {
        let [reader, writer] = Pipe::new().expect("the machine runs");
        let bytes: Vec<u8> = (0..1_000_000).map(|i| (i % 241) as u8).collect();
        let copy = bytes.clone();
        let write = async move {
            let mut rest = &copy[..];
            while !rest.is_empty() {
                let n = poll_fn(|cx| writer.poll_write(cx, &[IoSlice::new(rest)])).await.expect("it is read");
                rest = &rest[n..];
            }
        };
        world().spawn(write, Spawn::named("writer"));
        let mut all = Vec::new();
        while poll_fn(|cx| reader.poll_read(cx, 10_000, |b| all.extend_from_slice(b))).await.expect("it is open") > 0 {}
        all == bytes
    });
    assert_eq!(got, Some(true));
}

#[test]
fn unix_sockets_and_pipes_of_the_dead_do_nothing() {
    calm(async {
        let kept = Rc::new(RefCell::new(Vec::<(UnixSocket, [Pipe; 2])>::new()));
        let keep = kept.clone();
        let a = world().node("a");
        let program = program(move || {
            let keep = keep.clone();
            async move {
                let socket = UnixSocket::new(UnixKind::Datagram, ME).expect("the machine runs");
                socket
                    .bind(b"/s")
                    .or_else(|_| unix_unlink(b"/s").and_then(|_| socket.bind(b"/s")))
                    .expect("it is free");
                keep.borrow_mut().push((socket, Pipe::new().expect("the machine runs")));
                sleep_ms(1_000_000).await;
            }
        });
        world().start(a, program, Spawn::named("a"));
        sleep_ms(1).await;
        world().end_node(a, Death::Kill);
        world().restart(a);
        sleep_ms(1).await;
        let living = kept.borrow_mut().remove(1);
        let dead = kept.borrow_mut().remove(0);
        assert_eq!(dead.0.try_send(Some(b"/s"), &[]).map_err(|e| e.raw_os_error()), Err(Some(9)));
        assert_eq!(dead.1[1].try_write(&[IoSlice::new(b"x")]).map_err(|e| e.raw_os_error()), Err(Some(9)));
        drop(dead);
        assert_eq!(living.0.name().expect("it is open")[..], b"/s"[..]);
        assert_eq!(living.1[1].try_write(&[IoSlice::new(b"x")]).expect("it is open"), 1);
        assert!(on("a", async { unix_is_bound(b"/s") }).await.expect("nobody cancels it").expect("it runs"));
    });
}
