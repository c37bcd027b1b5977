//! A server that says what it was told, and a client that keeps its connections for the next request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a server did since it was first started; it counts on when it restarts.
#[derive(Clone, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: Arc<AtomicUsize>,
    /// Requests answered.
    pub requests: Arc<AtomicUsize>,
}

/// Answers each request with its path and its body, a little later if the path ends in 7.
pub async fn serve(address: &str, counts: Counts) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        counts.connections.fetch_add(1, Ordering::Relaxed);
        let requests = counts.requests.clone();
        let service = service_fn(move |request| {
            requests.fetch_add(1, Ordering::Relaxed);
            echo(request)
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        // A client that went away is no error of the server.
        tokio::spawn(async move { drop(serving.await) });
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut answer = request.uri().path().as_bytes().to_vec();
    if answer.ends_with(b"7") {
        sleep(Duration::from_millis(50)).await;
    }
    answer.push(b' ');
    answer.extend(request.into_body().collect().await?.to_bytes());
    Ok(Response::new(Full::new(answer.into())))
}

/// A client with a pool of connections.
#[derive(Clone)]
pub struct Pool {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Pool {
    fn default() -> Pool {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_millis(500)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(3))
            .pool_max_idle_per_host(4)
            .build(connector);
        Pool { client }
    }
}

impl Pool {
    /// Says `body` to `http://server/path` until there is an answer, and returns it.
    pub async fn say(&self, server: &str, path: &str, body: &str) -> Bytes {
        loop {
            match timeout(Duration::from_millis(800), self.once(server, path, body)).await {
                Ok(Ok(answer)) => return answer,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn once(&self, server: &str, path: &str, body: &str) -> Result<Bytes, Failure> {
        let request = Request::post(format!("http://{server}{path}")).body(Full::new(body.to_owned().into()))?;
        Ok(self.client.request(request).await?.into_body().collect().await?.to_bytes())
    }
}
