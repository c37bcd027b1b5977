//! One server: recovers its replica, listens, and answers HTTP for clients and for other servers.
//!
//! | request | answer |
//! |---|---|
//! | `GET /kv/KEY` | the value, its version in header `version`; 404 if it was never written |
//! | `GET /next/KEY` | a counter to write under |
//! | `PUT /kv/KEY` | writes the body; headers `idempotency-key: CLIENT:SEQUENCE`, and `counter` from `/next` |
//! | `GET /kv/` | every key, one a line |
//! | `GET /status` | one line on the server's own replica, and one for each other server that ever failed to answer |
//! | `GET`, `PUT /replica/KEY` | this server's own copy, without asking the others; header `version` |
//! | `GET /replica/` | every key this server holds and its version, one a line |
//!
//! 503 means that no majority answered: the request may or may not have taken effect, and may be repeated.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::coordinator::{Coordinator, text};
use crate::register::{MAX_VALUE_BYTES, Register, Version, Writer, check_key};
use crate::replica::Replica;

/// How long requests under way may take to finish once the server was told to stop.
const GRACE: Duration = Duration::from_secs(2);

/// The pause after a connection could not be accepted, which is mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Reply = Response<Full<Bytes>>;

/// A request that is not carried out: the status, and why.
struct Refusal(StatusCode, String);

/// Runs one server until it fails: see [`serve_until`].
pub async fn serve(config: Config) -> io::Result<()> {
    serve_until(config, pending()).await
}

/// Runs one server until `stop` is ready, then lets requests under way finish.
///
/// It listens once its log is recovered. A full or failing disk is waited for; an error is one of the configuration
/// (`InvalidInput`), of an address that cannot be listened on, or of a data directory that cannot be used.
pub async fn serve_until(config: Config, stop: impl Future<Output = ()>) -> io::Result<()> {
    config.validate()?;
    let context = |what: String| move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let replica = Replica::start(&config.data, config.bug)
        .await
        .map_err(context(format!("the data directory {} cannot be used", config.data.display())))?;
    let listener = TcpListener::bind(config.address())
        .await
        .map_err(context(format!("{} cannot be listened on", config.address())))?;
    let coordinator = Arc::new(Coordinator::new(&config, replica));

    let mut stop = pin!(stop);
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&coordinator), stopped.clone()))),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Serves one connection until the other side closes it, or until its last request after `stopped`.
async fn connection(stream: TcpStream, coordinator: Arc<Coordinator>, mut stopped: watch::Receiver<bool>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let coordinator = Arc::clone(&coordinator);
        async move {
            let answer = answer(&coordinator, request).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|Refusal(status, why)| reply(status, why)))
        }
    });
    // No date: it would be the one thing here that reads the wall clock.
    let served = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    // How a connection ended is the client's affair.
    let told_to_stop = async { drop(stopped.wait_for(|stopped| *stopped).await) };
    tokio::select! {
        _ = served.as_mut() => {}
        () = told_to_stop => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// Answers one request.
async fn answer(coordinator: &Coordinator, request: Request<Incoming>) -> Result<Reply, Refusal> {
    let path = request.uri().path().to_owned();
    let relative = path.strip_prefix('/').unwrap_or(&path);
    let (area, key) = relative.split_once('/').unwrap_or((relative, ""));
    if !key.is_empty() {
        check_key(key).map_err(|wrong| refuse(StatusCode::BAD_REQUEST, wrong))?;
    }
    let unavailable = |no_majority| refuse(StatusCode::SERVICE_UNAVAILABLE, no_majority);
    match (request.method(), area, key) {
        (&Method::GET, "kv", "") => {
            let keys = coordinator.keys().await.map_err(unavailable)?;
            Ok(reply(StatusCode::OK, lines(keys)))
        }
        (&Method::GET, "kv", key) => {
            let register = coordinator.get(key).await.map_err(unavailable)?;
            let found = if register.version.is_written() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            Ok(with_register(found, register))
        }
        (&Method::GET, "next", key) if !key.is_empty() => {
            let counter = coordinator.next(key).await.map_err(unavailable)?;
            Ok(reply(StatusCode::OK, counter))
        }
        (&Method::PUT, "kv", key) if !key.is_empty() => {
            let writer: Option<Writer> = header(&request, "idempotency-key")?;
            let counter: Option<u64> = header(&request, "counter")?;
            let writer = writer
                .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "header idempotency-key: CLIENT:SEQUENCE is missing"))?;
            if counter == Some(0) {
                return Err(refuse(StatusCode::BAD_REQUEST, "counters begin at 1"));
            }
            let value = body(request).await?;
            let version = coordinator.put(key, value, counter, writer).await.map_err(unavailable)?;
            Ok(with_register(StatusCode::OK, Register { version, value: Bytes::new() }))
        }
        (&Method::GET, "replica", "") => {
            let versions = coordinator.here().versions();
            Ok(reply(StatusCode::OK, lines(versions.iter().map(|(key, version)| format!("{key} {version}")))))
        }
        (&Method::GET, "replica", key) => Ok(with_register(StatusCode::OK, coordinator.here().query(key))),
        (&Method::PUT, "replica", key) if !key.is_empty() => {
            let version: Option<Version> = header(&request, "version")?;
            let version = version.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "header version is missing"))?;
            let value = body(request).await?;
            let stored = coordinator.here().store(key, Register { version, value }).await;
            stored.map_err(|error| refuse(StatusCode::SERVICE_UNAVAILABLE, error))?;
            Ok(reply(StatusCode::OK, ""))
        }
        (&Method::GET, "status", "") => {
            let held = format!("holds {} keys", coordinator.here().versions().len());
            let failures = coordinator.here().failures();
            let failures = failures.iter().map(|(peer, count)| format!("{peer} failed to answer {count} times"));
            Ok(reply(StatusCode::OK, lines([held].into_iter().chain(failures))))
        }
        (method, ..) => Err(refuse(StatusCode::NOT_FOUND, format!("there is no {method} {path} here"))),
    }
}

/// The value of a header, if it is there; the refusal, if it is wrong.
fn header<T: std::str::FromStr>(request: &Request<Incoming>, name: &str) -> Result<Option<T>, Refusal> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| refuse(StatusCode::BAD_REQUEST, format!("header {name}: {value:?} is malformed")))
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refusal> {
    let body = Limited::new(request.into_body(), MAX_VALUE_BYTES).collect().await;
    let too_long = |_| refuse(StatusCode::PAYLOAD_TOO_LARGE, format!("a value has at most {MAX_VALUE_BYTES} bytes"));
    body.map(http_body_util::Collected::to_bytes).map_err(too_long)
}

fn with_register(status: StatusCode, register: Register) -> Reply {
    let mut reply = Response::new(Full::new(register.value));
    *reply.status_mut() = status;
    reply.headers_mut().insert("version", text(register.version));
    reply
}

fn reply(status: StatusCode, shown: impl Display) -> Reply {
    let mut reply = Response::new(Full::new(shown.to_string().into()));
    *reply.status_mut() = status;
    reply
}

fn refuse(status: StatusCode, why: impl Display) -> Refusal {
    Refusal(status, why.to_string())
}

fn lines(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| format!("{item}\n")).collect()
}
