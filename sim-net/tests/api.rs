//! Handles in a World: programs on nodes, wakers, death, determinism. One helper touches the API; tests feed it data.

use sim_core::choices::{Choices, Tape};
use sim_core::time::Timer;
use sim_core::{Death, JoinHandle, NodeId, Outcome, Settings, Spawn, Verdict, World, program};
use sim_net::{LinkConfig, Net, Odds, TcpBound, TcpListener, TcpStream, UdpSocket, lookup};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
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
