//! One feature a test, each as a user would first try it.

use sim::core::Verdict;
use sim::core::choices::{Choices, Ratio, Tape};
use sim::net::{LinkConfig, Odds};
use sim::{DiskTrouble, Fault, Kind, Plan, Planned, Sim, millis, secs};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{interval, sleep, timeout};

// ---- life and death -----------------------------------------------------------------------------------------------

#[sim::test(seeds = 20)]
async fn a_killed_program_starts_anew(sim: Sim) {
    let starts = Rc::new(Cell::new(0));
    let counted = starts.clone();
    let node = sim.node("a");
    node.start(move || {
        counted.set(counted.get() + 1);
        pending::<()>()
    });
    sim.sleep(secs(1)).await;
    assert_eq!((starts.get(), node.incarnation(), node.is_running()), (1, 1, true));
    node.kill();
    assert!(!node.is_running());
    sim.sleep(secs(1)).await;
    assert_eq!(starts.get(), 1);
    node.restart();
    node.restart();
    sim.sleep(secs(1)).await;
    assert_eq!((starts.get(), node.incarnation(), node.is_running()), (2, 2, true));
}

#[sim::test(seeds = 20)]
async fn a_supervised_program_comes_back_by_itself(sim: Sim) {
    let node = sim.node("a");
    node.start_supervised(secs(1), || async {
        sleep(secs(1)).await;
        Err::<(), _>("out of luck")
    });
    sim.sleep(millis(6500)).await;
    assert_eq!(node.incarnation(), 4, "it runs for a second, and is away for a second");
}

#[sim::test(seeds = 20)]
async fn a_paused_program_stands_still(sim: Sim) {
    let ticks = Rc::new(Cell::new(0));
    let counted = ticks.clone();
    let node = sim.node("a");
    node.start(move || {
        let ticks = counted.clone();
        async move {
            let mut every = interval(millis(10));
            loop {
                every.tick().await;
                ticks.set(ticks.get() + 1);
            }
        }
    });
    sim.sleep(secs(1)).await;
    node.pause();
    let before = ticks.get();
    assert!((99..=102).contains(&before), "{before}");
    sim.sleep(secs(1)).await;
    assert_eq!(ticks.get(), before);
    assert!(node.is_running(), "it is not dead");
    node.resume();
    sim.sleep(millis(50)).await;
    assert!(ticks.get() >= before + 100, "an interval catches up: {}", ticks.get());
}

#[sim::test(seeds = 20)]
async fn a_program_that_listens_for_ctrl_c_ends_in_its_own_time(sim: Sim) {
    let done = Rc::new(Cell::new(false));
    let told = done.clone();
    let node = sim.node("a");
    node.start(move || {
        let done = told.clone();
        async move {
            tokio::signal::ctrl_c().await?;
            sleep(secs(2)).await;
            done.set(true);
            io::Result::Ok(())
        }
    });
    sim.sleep(secs(1)).await;
    node.stop(secs(10)).await;
    assert!(done.get());
    assert!(sim.elapsed() >= secs(3) && sim.elapsed() < secs(4), "{:?}", sim.elapsed());
    assert!(!node.is_running());
}

#[sim::test(seeds = 20)]
async fn patience_with_a_program_that_does_not_end_is_finite(sim: Sim) {
    let node = sim.node("a");
    node.start(|| async {
        loop {
            tokio::signal::ctrl_c().await.expect("it can be listened for");
        }
    });
    sim.sleep(secs(1)).await;
    node.stop(secs(5)).await;
    assert!(!node.is_running());
    assert!(sim.elapsed() >= secs(6), "{:?}", sim.elapsed());
}

// ---- clocks -------------------------------------------------------------------------------------------------------

#[sim::test(seeds = 20)]
async fn a_bump_moves_the_wall_clock_and_no_other(sim: Sim) {
    let node = sim.node("a");
    let looks = node.run(async {
        let (wall, steady) = (SystemTime::now(), Instant::now());
        sleep(secs(10)).await;
        (SystemTime::now().duration_since(wall).expect("it went forward"), steady.elapsed())
    });
    let elsewhere = sim.node("b").run(async {
        let wall = SystemTime::now();
        sleep(secs(10)).await;
        wall.elapsed().expect("it went forward")
    });
    sim.sleep(secs(1)).await;
    node.bump_clock(secs(3600), false);
    let (wall, steady) = looks.await;
    assert!(wall >= secs(3610) && wall < secs(3611), "{wall:?}");
    assert!(steady >= secs(10) && steady < secs(11), "{steady:?}");
    assert!(elsewhere.await < secs(11));
    let before = node.run(async { SystemTime::now() }).await;
    node.bump_clock(secs(60), true);
    let after = node.run(async { SystemTime::now() }).await;
    assert!(before.duration_since(after).expect("it went back") > secs(59));
}

#[sim::test(seeds = 20)]
async fn a_drifting_wall_clock_gains_on_the_others(sim: Sim) {
    sim.node("a").drift_clock(1_000);
    let look = |name| sim.node(name).run(async { SystemTime::now() });
    let (a, b) = (look("a").await, look("b").await);
    sim.sleep(secs(1000)).await;
    let a = look("a").await.duration_since(a).expect("it went forward");
    let b = look("b").await.duration_since(b).expect("it went forward");
    let gained = a - b;
    assert!(gained > millis(990) && gained < millis(1010), "{gained:?}");
}

// ---- the network --------------------------------------------------------------------------------------------------

/// Sends back what it gets.
async fn echo() -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7").await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

async fn say(stream: &mut TcpStream, words: &str) -> io::Result<String> {
    stream.write_all(words.as_bytes()).await?;
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).await?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

#[sim::test(seeds = 20)]
async fn where_nobody_listens_connections_are_refused(sim: Sim) {
    let server = sim.node("server");
    server.start(echo);
    sim.sleep(millis(10)).await;
    let connect = |port| sim.node("client").run(async move { TcpStream::connect(("server", port)).await.map(drop) });
    assert!(connect(7).await.is_ok());
    assert_eq!(connect(8).await.expect_err("nobody is there").kind(), ErrorKind::ConnectionRefused);
    server.kill();
    assert_eq!(connect(7).await.expect_err("its program is dead").kind(), ErrorKind::ConnectionRefused);
}

#[sim::test(seeds = 20)]
async fn the_kernel_of_a_killed_program_closes_its_connections(sim: Sim) {
    let server = sim.node("server");
    server.start(echo);
    sim.sleep(millis(10)).await;
    let client = sim.node("client").run(async {
        let mut stream = TcpStream::connect("server:7").await?;
        assert_eq!(say(&mut stream, "hello").await?, "hello");
        let died = stream.read(&mut [0; 8]).await;
        assert!(matches!(&died, Ok(0)) || died.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        // The answer to what is sent to a closed connection is a reset.
        let _sent = stream.write_all(b"anybody?").await;
        sleep(secs(1)).await;
        stream.write_all(b"anybody?").await
    });
    sim.sleep(secs(1)).await;
    server.kill();
    let error = client.await.expect_err("nobody is there");
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

#[sim::test(seeds = 20)]
async fn a_machine_without_power_is_silent_and_resets_later(sim: Sim) {
    let server = sim.node("server");
    server.start(echo);
    sim.sleep(millis(10)).await;
    let old = sim.node("client").run(async {
        let mut stream = TcpStream::connect("server:7").await?;
        assert_eq!(say(&mut stream, "hello").await?, "hello");
        sleep(secs(2)).await;
        let silence = timeout(secs(5), say(&mut stream, "anybody?")).await;
        assert!(silence.is_err(), "not even a reset: {silence:?}");
        let mut byte = [0];
        stream.read(&mut byte).await
    });
    sim.sleep(secs(1)).await;
    server.power_off();
    let new = sim.node("client").run(timeout(secs(2), TcpStream::connect("server:7")));
    assert!(new.await.is_err(), "a connection is neither made nor refused");
    sim.sleep(secs(10)).await;
    server.restart();
    let error = old.await.expect_err("the new kernel knows no such connection");
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::ConnectionReset, Some(104)));
    let fresh = sim.node("client").run(async { say(&mut TcpStream::connect("server:7").await?, "again").await });
    assert_eq!(fresh.await.expect("it is up"), "again");
}

#[sim::test(seeds = 20)]
async fn datagrams_are_lost_as_often_as_a_link_says(sim: Sim) {
    let (server, client) = (sim.node("server"), sim.node("client"));
    async fn echo_datagrams() -> io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:7").await?;
        let mut buffer = [0; 64];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await?;
            socket.send_to(&buffer[..n], from).await?;
        }
    }
    server.start(echo_datagrams);
    let half = LinkConfig { loss: Odds::Set(Ratio::new(1, 2)), ..LinkConfig::default() };
    sim.net(|net, cx| net.set_link(client.id(), server.id(), half, cx));
    let heard = client.run(async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        let mut heard = 0;
        for i in 0..100u8 {
            socket.send_to(&[i], "server:7").await?;
            let mut byte = [0];
            while let Ok(got) = timeout(millis(500), socket.recv_from(&mut byte)).await {
                got?;
                assert_eq!(byte, [i]);
                heard += 1;
            }
        }
        io::Result::Ok(heard)
    });
    let heard = heard.await.expect("no call fails");
    assert!((20..=80).contains(&heard), "{heard} of 100");
}

#[sim::test(seeds = 20)]
async fn names_of_nodes_are_names_of_hosts(sim: Sim) {
    let server = sim.node("server");
    server.start(echo);
    sim.node("client")
        .run(async {
            let found: Vec<_> = tokio::net::lookup_host("server:7").await?.collect();
            assert!(!found.is_empty() && found.iter().all(|a| a.port() == 7), "{found:?}");
            assert!(tokio::net::lookup_host("nobody:7").await.is_err());
            let stream = TcpStream::connect(&found[..]).await?;
            assert_eq!(stream.peer_addr()?, found[0]);
            io::Result::Ok(())
        })
        .await
        .expect("the server is found and answers");
}

// ---- disks --------------------------------------------------------------------------------------------------------

/// What is left of a synced and an unsynced file after a power loss.
fn after_power_loss(seed: u64) -> (String, Option<String>) {
    let ended = Sim::run(seed, |sim| async move {
        let node = sim.node("a");
        node.start(pending::<()>);
        let written = node.run(async {
            let mut file = tokio::fs::File::create("/synced").await?;
            file.write_all(b"for ever").await?;
            file.sync_all().await?;
            tokio::fs::File::open("/").await?.sync_all().await?;
            tokio::fs::write("/unsynced", "perhaps").await
        });
        written.await.expect("the disk is well");
        node.power_off();
        sim.sleep(secs(1)).await;
        node.restart();
        node.run(async {
            let synced = tokio::fs::read_to_string("/synced").await.expect("it was synced");
            (synced, tokio::fs::read_to_string("/unsynced").await.ok())
        })
        .await
    });
    ended.value.unwrap_or_else(|| panic!("seed {seed}: {}", ended.verdict))
}

#[test]
fn what_was_synced_survives_a_power_loss_and_the_rest_may() {
    let mut ends = BTreeSet::new();
    for seed in 0..200 {
        let (synced, unsynced) = after_power_loss(seed);
        assert_eq!(synced, "for ever", "seed {seed}");
        ends.insert(unsynced.is_some_and(|text| text == "perhaps"));
    }
    assert_eq!(ends, BTreeSet::from([false, true]), "both happen");
}

#[sim::test(seeds = 20)]
async fn a_killed_program_leaves_its_page_cache(sim: Sim) {
    let node = sim.node("a");
    node.start(pending::<()>);
    node.run(tokio::fs::write("/unsynced", "there")).await.expect("the disk is well");
    node.kill();
    node.restart();
    assert_eq!(node.run(tokio::fs::read_to_string("/unsynced")).await.expect("nothing was lost"), "there");
}

#[sim::test(seeds = 20)]
async fn a_full_disk_says_so(sim: Sim) {
    let node = sim.node("a");
    node.run(tokio::fs::write("/before", "x")).await.expect("there is room");
    sim.inject(Fault::of(Kind::DiskFull { node: "a".into() }).lasting(secs(5)));
    sim.sleep(millis(1)).await;
    let error = node.run(tokio::fs::write("/during", "x")).await.expect_err("there is none");
    assert_eq!((error.raw_os_error(), error.kind()), (Some(28), ErrorKind::StorageFull));
    assert_eq!(node.run(tokio::fs::read_to_string("/before")).await.expect("reading needs no room"), "x");
    sim.healed().await;
    node.run(tokio::fs::write("/after", "x")).await.expect("there is room again");
}

#[sim::test(seeds = 20)]
async fn a_failing_disk_says_so(sim: Sim) {
    let node = sim.node("a");
    node.run(tokio::fs::write("/before", "x")).await.expect("the disk is well");
    sim.inject(Fault::of(Kind::DiskError { node: "a".into(), ratio: Ratio::ALWAYS }).lasting(secs(5)));
    sim.sleep(millis(1)).await;
    let error = node.run(tokio::fs::read("/before")).await.expect_err("no read succeeds");
    assert_eq!(error.raw_os_error(), Some(5));
    let error = node.run(tokio::fs::write("/before", "y")).await.expect_err("no write succeeds");
    assert_eq!(error.raw_os_error(), Some(5));
    sim.healed().await;
    node.run(tokio::fs::write("/before", "z")).await.expect("the disk is well");
}

/// A program that appends records and reads them all again, whatever goes wrong: an error is tried again later, the rest of a
/// short write is written, what was damaged is written anew.
async fn diligent() {
    for half in [0, 1].into_iter().cycle() {
        let work = async {
            let mut file = tokio::fs::OpenOptions::new().read(true).write(true).create(true).open("/data").await?;
            file.seek(io::SeekFrom::Start(half * 4 * 4096)).await?;
            for page in 0..4u8 {
                file.write_all(&[page; 4096]).await?;
            }
            file.sync_all().await?;
            file.seek(io::SeekFrom::Start(0)).await?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).await?;
            io::Result::Ok(())
        };
        work.await.ok();
        sleep(millis(10)).await;
    }
}

/// tokio's files are std's underneath, which calls again: nobody sees these faults but a program that calls libc itself.
#[sim::test(seeds = 50)]
async fn interrupted_calls_and_short_writes_are_made_again(sim: Sim) {
    let node = sim.node("a");
    for trouble in [DiskTrouble::Short, DiskTrouble::Interrupt] {
        let kind = Kind::Disk { node: "a".into(), trouble, ratio: Ratio::new(3, 4) };
        sim.inject(Fault::of(kind).lasting(secs(3600)));
    }
    sim.sleep(millis(1)).await;
    let text: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
    let wanted = text.clone();
    let found = node.run(async move {
        tokio::fs::write("/whole", &text).await?;
        let mut file = tokio::fs::File::create("/pieces").await?;
        for piece in text.chunks(700) {
            file.write_all(piece).await?;
        }
        file.flush().await?;
        io::Result::Ok((tokio::fs::read("/whole").await?, tokio::fs::read("/pieces").await?))
    });
    let (whole, pieces) = found.await.expect("no call fails");
    assert!(whole == wanted && pieces == wanted, "{} and {} bytes of {}", whole.len(), pieces.len(), wanted.len());
}

#[test]
fn every_trouble_of_a_disk_strikes_when_it_is_planned() {
    for trouble in DiskTrouble::ALL {
        let fault = Kind::Disk { node: "a".into(), trouble, ratio: Ratio::new(1, 4) };
        let fault = Fault::of(fault).lasting(secs(5));
        let (name, counter) = (fault.name(), fault.counter());
        let ended = Sim::run(1, move |sim| async move {
            sim.node("a").start(diligent);
            sim.inject(fault);
            sim.sleep(secs(6)).await;
        });
        assert!(ended.verdict.passed(), "{name}: {}", ended.verdict);
        assert!(ended.outcome.fired.get(counter).is_some_and(|count| *count > 0), "{name} never struck");
    }
}

#[sim::test(seeds = 20)]
async fn a_wiped_machine_starts_on_an_empty_disk_and_swapped_ones_on_each_others(sim: Sim) {
    let (a, b) = (sim.node("a"), sim.node("b"));
    for (node, name) in [(&a, "a"), (&b, "b")] {
        node.start(pending::<()>);
        let written = node.run(async move {
            tokio::fs::write("/who", name).await?;
            tokio::fs::File::open("/who").await?.sync_all().await
        });
        written.await.expect("the disk is well");
    }
    sim.inject("0s swap-disks a b for 1s".parse::<Planned>().expect("it is well formed").fault);
    sim.healed().await;
    assert_eq!(a.run(tokio::fs::read_to_string("/who")).await.expect("it was synced"), "b");
    assert_eq!(b.run(tokio::fs::read_to_string("/who")).await.expect("it was synced"), "a");
    sim.inject(Fault::of(Kind::Wipe { node: "a".into() }));
    sim.healed().await;
    let gone = a.run(tokio::fs::read_to_string("/who")).await.expect_err("it was wiped");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(b.run(tokio::fs::read_to_string("/who")).await.expect("it is another's"), "a");
    assert_eq!((a.incarnation(), b.incarnation()), (3, 2));
}

/// The first two operations are an open and a write, and the power goes within the second: never before the open, and never
/// with the sync begun.
#[sim::test(seeds = 20)]
async fn the_power_is_cut_within_the_operation_that_the_plan_names(sim: Sim) {
    let a = sim.node("a");
    let syncs = Rc::new(Cell::new(0));
    let begun = syncs.clone();
    sim.plan(
        "sim-plan 1\n0s power-cut a at-operation 2 for 1s\n0s power-cut a at-operation 1000 for 5s\n"
            .parse()
            .expect("a plan"),
    );
    sim.sleep(millis(1)).await;
    a.start(move || {
        let begun = begun.clone();
        async move {
            let mut file = tokio::fs::File::create("/f").await?;
            file.write_all(b"text").await?;
            file.flush().await?;
            begun.set(begun.get() + 1);
            file.sync_all().await?;
            pending::<io::Result<()>>().await
        }
    });
    sim.sleep(millis(500)).await;
    assert!(!a.is_running() && syncs.get() == 0);
    sim.healed().await;
    assert!(a.is_running() && syncs.get() == 1);
    assert_eq!(a.incarnation(), 2, "a thousand operations were never begun");
}

// ---- plans --------------------------------------------------------------------------------------------------------

#[sim::test(seeds = 20)]
async fn a_plan_happens_as_it_is_written(sim: Sim) {
    let (a, b) = (sim.node("a"), sim.node("b"));
    a.start(pending::<()>);
    b.start(pending::<()>);
    let by_hand =
        Plan::new().at(secs(1), Fault::kill("a").lasting(secs(2))).at(secs(4), Fault::pause("b").lasting(secs(1)));
    let parsed: Plan = "sim-plan 1\n1s kill a for 2s\n4s pause b for 1s\n".parse().expect("it is well formed");
    assert_eq!(parsed, by_hand);
    sim.plan(parsed);
    assert!(!sim.in_trouble());
    sim.sleep(secs(2)).await;
    assert!(sim.in_trouble() && !a.is_running() && b.is_running());
    sim.healed().await;
    assert!(a.is_running() && a.incarnation() == 2 && b.incarnation() == 1);
    let about: Vec<_> = sim.trouble().iter().map(|(from, to)| (from.as_secs(), to.as_secs())).collect();
    assert_eq!(about, [(1, 3), (4, 5)]);
    assert_eq!(sim.planned(), BTreeSet::from(["kill", "pause"]));
}

#[test]
fn a_plan_with_an_unknown_node_is_refused() {
    let ended = Sim::run(0, |sim| async move {
        sim.node("kv0");
        sim.plan(Plan::new().at(secs(1), Fault::kill("kv9")));
    });
    let Verdict::Panicked { message, location } = ended.verdict else { panic!("{}", ended.verdict) };
    assert_eq!(message, "the plan names the node \"kv9\", which does not exist: `1s kill kv9 for 1s`");
    assert!(location.contains("bodies.rs"), "the panic is the caller's: {location}");
}

// ---- choices and verdicts -----------------------------------------------------------------------------------------

fn chosen(choices: Choices) -> Vec<u64> {
    let body = |sim: Sim| async move { (0..20).map(|n| sim.choose("dice", n, 6)).collect() };
    Sim::run_with(Default::default(), choices, body).value.expect("it passes")
}

#[test]
fn the_seed_chooses_and_the_calm_run_chooses_nothing() {
    assert_eq!(chosen(Choices::from_source(3, Box::new(Tape::new([])))), [0; 20]);
    assert_eq!(chosen(Choices::seeded(3)), chosen(Choices::seeded(3)));
    assert_ne!(chosen(Choices::seeded(3)), chosen(Choices::seeded(4)));
    let seen: BTreeSet<u64> = (0..20).flat_map(|seed| chosen(Choices::seeded(seed))).collect();
    assert_eq!(seen, (0..6).collect());
}

#[test]
fn a_failed_check_is_known_by_its_name() {
    let ended = Sim::run(0, |sim| async move {
        sim.check("no two leaders", true, || unreachable!("it holds"));
        sim.sleep(secs(1)).await;
        sim.check("no two leaders", false, || "kv0 and kv2 in term 7".into());
    });
    assert_eq!(ended.verdict.name(), "check-failed");
    assert_eq!(
        ended.verdict,
        Verdict::CheckFailed { check: "no two leaders".into(), message: "kv0 and kv2 in term 7".into() }
    );
    assert_eq!(ended.outcome.now.as_nanos(), 1_000_000_000);
}

#[test]
fn a_deadlock_names_who_waits_and_for_what() {
    let ended = Sim::run(0, |sim| async move {
        let stuck = sim.node("stuck");
        stuck.start(|| async {
            let socket = UdpSocket::bind("0.0.0.0:7").await?;
            socket.recv_from(&mut [0; 8]).await.map(drop)
        });
        stuck.run(pending::<()>()).await;
    });
    let Verdict::Deadlock { blocked } = ended.verdict else { panic!("{}", ended.verdict) };
    let all = blocked.join("\n");
    assert!(blocked.len() >= 3, "the test, the program and the task beside it: {all}");
    assert!(all.contains("stuck") && all.contains("bodies.rs"), "{all}");
    assert!(blocked.iter().any(|line| line.contains("datagram")), "{all}");
}

#[test]
fn a_panic_of_a_program_ends_the_run() {
    let ended = Sim::run(0, |sim| async move {
        sim.node("a").start(|| async { panic!("invariant broken") });
        sim.sleep(secs(1)).await;
    });
    let Verdict::Panicked { message, .. } = ended.verdict else { panic!("{}", ended.verdict) };
    assert_eq!(message, "invariant broken");
}

#[test]
fn notes_and_faults_reach_the_trace() {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let kept = lines.clone();
    let ended = Sim::run(0, |sim| async move {
        let world = sim::core::World::current().expect("inside a run");
        world.with_trace(|trace| {
            trace.read_by(Box::new(move |r: &sim::core::trace::Record| {
                kept.borrow_mut().push(format!("{} {} {}", r.at.as_nanos(), r.kind, r.text))
            }))
        });
        let node = sim.node("a");
        node.start(pending::<()>);
        sim.note(|| "here we go".into());
        node.bump_clock(secs(1), false);
        node.drift_clock(-50);
        sim.inject(Fault::kill("a"));
        sim.healed().await;
    });
    assert!(ended.verdict.passed(), "{}", ended.verdict);
    let all = lines.take().join("\n");
    for expected in ["0 note here we go", "node.clock-bump", "node.clock-drift", "fault kill a for 1s", "node.kill"] {
        assert!(all.contains(expected), "expected {expected:?} in\n{all}");
    }
    assert_eq!(ended.outcome.fired.get("kill"), Some(&1));
}
