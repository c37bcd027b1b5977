//! hyper's client and server, unchanged, over the simulated network.
//!
//! TCP hides loss and delay: every request succeeds, its bytes intact. A partition it cannot hide, and nothing else may
//! make a request fail.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sim::core::choices::Ratio;
use sim::net::{LinkConfig, Odds};
use sim::{Fault, Kind, Plan, Sim, millis, secs};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const NUMBER: &str = "request-number";

/// The bytes of a request's or an answer's body: 0 to 64 KiB, other ones for every number.
fn body(number: u64, answer: bool) -> Bytes {
    let mut state = sim::core::hash::key(&[number, answer as u64]);
    // Of four bodies three are short, as on most servers.
    let most = if number.is_multiple_of(4) { 64 << 10 } else { 2 << 10 };
    let len = (state % (most + 1)) as usize;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Answers each request with the body of its number; a request that arrives changed gets an empty 400.
async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:80").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        // How a connection ends is the client's affair.
        tokio::spawn(async { drop(connection.await) });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = request.headers().get(NUMBER).and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
    let got = request.into_body().collect().await.map(|b| b.to_bytes()).ok();
    Ok(match (number, got) {
        (Some(number), Some(got)) if got == body(number, false) => Response::new(Full::new(body(number, true))),
        _ => {
            let mut refusal = Response::new(Full::default());
            *refusal.status_mut() = hyper::StatusCode::BAD_REQUEST;
            refusal
        }
    })
}

type Failure = Box<dyn std::error::Error>;

async fn connect(server: &str) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect((server, 80)).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// One request.
///
/// # Panics
/// If the server did not get what was sent, or this side does not get what the server sent.
async fn call(connection: &mut SendRequest<Full<Bytes>>, server: &str, number: u64) -> Result<(), Failure> {
    let request =
        Request::post("/").header("host", server).header(NUMBER, number).body(Full::new(body(number, false)))?;
    connection.ready().await?;
    let answer = connection.send_request(request).await?;
    assert_eq!(answer.status(), 200, "request {number} arrived changed");
    let got = answer.into_body().collect().await?.to_bytes();
    assert!(got == body(number, true), "the answer to request {number} arrived changed");
    Ok(())
}

/// So many requests over one connection; returns how many succeeded.
async fn keep_alive(numbers: std::ops::Range<u64>) -> u64 {
    let mut connection = connect("server").await.expect("loss and delay refuse nobody");
    let mut succeeded = 0;
    for number in numbers {
        call(&mut connection, "server", number).await.unwrap_or_else(|e| panic!("request {number}: {e}"));
        succeeded += 1;
    }
    succeeded
}

#[test]
fn every_request_survives_loss_and_delay() {
    const CONNECTIONS: u64 = 5;
    const EACH: u64 = 2_000;
    let mut succeeded = 0;
    for seed in 0..4 {
        let ended = Sim::run(seed, |sim| async move {
            let (server, client) = (sim.node("server"), sim.node("client"));
            server.start(serve);
            let rough = LinkConfig {
                delay: Odds::Set(Ratio::new(1, 8)),
                loss: Odds::Set(Ratio::new(1, 50)),
                split: Odds::Set(Ratio::new(1, 8)),
                ..LinkConfig::default()
            };
            sim.net(|net, cx| {
                net.set_link(client.id(), server.id(), rough.clone(), cx);
                net.set_link(server.id(), client.id(), rough, cx);
            });
            let first = seed * CONNECTIONS * EACH;
            let running: Vec<_> =
                (0..CONNECTIONS).map(|c| client.run(keep_alive(first + c * EACH..first + (c + 1) * EACH))).collect();
            let mut succeeded = 0;
            for one in running {
                succeeded += one.await;
            }
            succeeded
        });
        succeeded += ended.value.unwrap_or_else(|| panic!("seed {seed}: {}", ended.verdict));
        for kind in ["net.loss", "net.delay", "net.split"] {
            assert!(ended.outcome.fired.get(kind).is_some_and(|n| *n > 50), "{kind}: {:?}", ended.outcome.fired);
        }
    }
    assert_eq!(succeeded, 4 * 10_000);
}

/// The same with the loss and delay of a plan, which come and go.
#[test]
fn every_request_survives_a_plan_of_loss_and_delay() {
    let plan = "sim-plan 1\n\
        100ms loss client server 1/4 for 2s\n\
        200ms loss server client 1/4 for 2s\n\
        500ms delay client server 80ms for 3s\n\
        600ms delay server client 30ms for 1s\n";
    for seed in 0..4 {
        let ended = Sim::run(seed, |sim| async move {
            sim.node("server").start(serve);
            let client = sim.node("client");
            sim.plan(plan.parse().expect("it is well formed"));
            let running: Vec<_> = (0..5).map(|c| client.run(keep_alive(c * 50..(c + 1) * 50))).collect();
            for one in running {
                assert_eq!(one.await, 50);
            }
        });
        assert!(ended.verdict.passed(), "seed {seed}: {}", ended.verdict);
        assert!(ended.outcome.fired.contains_key("net.loss"), "{:?}", ended.outcome.fired);
        assert_eq!(ended.outcome.fired.get("delay"), Some(&2));
    }
}

/// A request and what became of it, in time since the run began.
struct Tried {
    server: &'static str,
    from: Duration,
    to: Duration,
    failed: bool,
}

/// Requests to one server, one after the other, until `end`. A connection on which one failed is replaced.
async fn patient(sim: Sim, server: &'static str, end: Duration) -> Vec<Tried> {
    let mut tried = Vec::new();
    let mut connection = None;
    for number in 0.. {
        let from = sim.elapsed();
        if from >= end {
            break;
        }
        let attempt = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => connect(server).await?,
            };
            call(&mut open, server, number).await?;
            Ok::<_, Failure>(open)
        };
        connection = timeout(millis(700), attempt).await.ok().and_then(Result::ok);
        tried.push(Tried { server, from, to: sim.elapsed(), failed: connection.is_none() });
        sleep(millis(20)).await;
    }
    tried
}

#[test]
fn a_request_fails_only_while_its_link_is_partitioned() {
    let cut = |server: &str| Fault::partition(["client"], [server]);
    let deaf = |from: &str, to: &str| Fault::of(Kind::OneWay { from: vec![from.into()], to: vec![to.into()] });
    let times = [
        (secs(2), cut("a").lasting(secs(2)), "a"),
        (secs(3), cut("b").lasting(secs(3)), "b"),
        (secs(8), deaf("client", "a").lasting(secs(2)), "a"),
        (secs(12), deaf("b", "client").lasting(secs(2)), "b"),
        // Shorter than a request's patience: it may be survived.
        (secs(16), cut("a").lasting(millis(300)), "a"),
        (secs(16), deaf("a", "client").lasting(secs(1)), "a"),
    ];
    let healed = secs(18);
    for seed in 0..10 {
        let plan = times.iter().fold(Plan::new(), |plan, (at, fault, _)| plan.at(*at, fault.clone()));
        let ended = Sim::run(seed, |sim| async move {
            sim.node("a").start(serve);
            sim.node("b").start(serve);
            let client = sim.node("client");
            sim.plan(plan);
            let a = client.run(patient(sim, "a", healed + secs(4)));
            let b = client.run(patient(sim, "b", healed + secs(4)));
            (a.await, b.await, sim.trouble())
        });
        let (a, b, trouble) = ended.value.unwrap_or_else(|| panic!("seed {seed}: {}", ended.verdict));
        let overlaps = |t: &Tried, from: Duration, to: Duration| t.from < to && from < t.to;
        for failed in a.iter().chain(&b).filter(|t| t.failed) {
            let explained = times
                .iter()
                .any(|(at, fault, server)| *server == failed.server && overlaps(failed, *at, *at + fault.lasts));
            assert!(explained, "seed {seed}: to {} from {:?} to {:?}", failed.server, failed.from, failed.to);
            assert!(trouble.iter().any(|(from, to)| overlaps(failed, *from, *to)), "seed {seed}: {trouble:?}");
        }
        for (at, fault, server) in times.iter().filter(|(_, fault, _)| fault.lasts >= secs(2)) {
            let tried = if *server == "a" { &a } else { &b };
            let failed = tried.iter().filter(|t| t.failed && overlaps(t, *at, *at + fault.lasts)).count();
            assert!(failed >= 2, "seed {seed}: {failed} requests failed during `{fault}`");
        }
        for tried in [&a, &b] {
            let after: Vec<&Tried> = tried.iter().filter(|t| t.from >= healed).collect();
            assert!(after.len() >= 10, "seed {seed}: {} requests after healing", after.len());
            assert!(after.iter().all(|t| !t.failed), "seed {seed}");
        }
        assert!(ended.outcome.fired.get("net.partition").is_some_and(|n| *n > 0));
    }
}
