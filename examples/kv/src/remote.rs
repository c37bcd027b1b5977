//! HTTP to one server: requests in, whole answers out, over connections that are kept and replaced.
//!
//! Knows nothing of quorums or retries. One request at a time runs on a connection; a second one opens another.
//! Every request this program sends can be repeated harmlessly, so one that fails on a kept connection, which
//! may have died since it was last used, is sent again on a new one.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::register::MAX_VALUE_BYTES;

/// How many idle connections are kept.
const IDLE: usize = 8;

/// The longest answer accepted; a list of keys may be longer than a value.
const ANSWER_BYTES: usize = 16 * MAX_VALUE_BYTES;

/// One server, and the idle connections to it.
pub struct Remote {
    address: String,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Remote {
    /// A server to be reached at `HOST:PORT`. Connects when first called.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), idle: Mutex::default() }
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request (built without a `host` header) and returns the whole answer, whatever its status.
    ///
    /// Waits without limit. Dropping the future closes the connection it used, and no other.
    pub async fn call(&self, mut request: Request<Full<Bytes>>) -> io::Result<Response<Bytes>> {
        let host = self.address.parse().map_err(|_| io::Error::other(format!("{:?} is no host", self.address)))?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(connection) = self.take_idle() {
            match self.call_on(connection, request.clone()).await {
                Ok(answer) => return Ok(answer),
                // What befell this connection has probably befallen the others.
                Err(_) => self.lock_idle().clear(),
            }
        }
        let connection = connect(&self.address).await?;
        self.call_on(connection, request).await
    }

    async fn call_on(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> io::Result<Response<Bytes>> {
        let (parts, body) = connection.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(io::Error::other)?.to_bytes();
        let mut idle = self.lock_idle();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        Ok(Response::from_parts(parts, body))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.lock_idle();
        while let Some(connection) = idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    fn lock_idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection and starts the task that drives it; the task ends when the returned handle is dropped.
async fn connect(address: &str) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // Whoever sent a request learns of the failure from its answer.
        let _ = connection.await;
    });
    Ok(sender)
}
