//! A client of the cluster: finds a server that answers, and repeats until one does.
//!
//! Every request goes to the next server of the list in turn. The first attempt waits briefly, since any other server will
//! do, and each further one twice as long. Why a write may be repeated through another server is told in the crate's
//! documentation.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{sleep, timeout};

use crate::coordinator::{text, version_of};
use crate::register::{MAX_VALUE_BYTES, Version, Writer, check_key};
use crate::remote::Remote;

/// How long the first attempt waits for its answer.
const FIRST_PATIENCE: Duration = Duration::from_millis(100);

/// How long any attempt waits at most.
const MOST_PATIENCE: Duration = Duration::from_millis(800);

/// The longest pause between attempts, before jitter.
const MOST_PAUSE_MS: u64 = 320;

/// A client. One identity, one operation at a time.
pub struct Client {
    id: u64,
    sequence: u64,
    servers: Vec<Remote>,
    turn: usize,
    attempts: u32,
}

/// What a read found: the value, if the key was ever written, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The value.
    pub value: Option<Bytes>,
    /// The version it was written under, or the default one.
    pub version: Version,
}

/// Why an operation did not succeed.
#[derive(Debug)]
pub enum Error {
    /// The request was wrong, and was not sent or not carried out.
    Refused(String),
    /// No server carried it out in the attempts allowed; a write may have taken effect, or may yet.
    Unavailable(String),
}

impl Client {
    /// A client that talks to these servers, a list of `HOST:PORT` separated by commas, and begins with the first.
    ///
    /// No two clients of a cluster, at any time, may share an `id`: it is what tells their writes apart.
    pub fn new(id: u64, servers: &str) -> Self {
        let servers = servers.split(',').map(|server| Remote::new(server.trim())).collect();
        Self { id, sequence: 0, servers, turn: 0, attempts: 12 }
    }

    /// The same client, beginning with another server of its list.
    pub fn starting_at(self, turn: usize) -> Self {
        Self { turn, ..self }
    }

    /// The same client, making up to `attempts` attempts at each request instead of 12.
    ///
    /// # Panics
    ///
    /// If `attempts` is 0.
    pub fn attempts(self, attempts: u32) -> Self {
        assert!(attempts > 0, "a client that never tries never succeeds");
        Self { attempts, ..self }
    }

    /// Reads a key.
    pub async fn get(&mut self, key: &str) -> Result<Read, Error> {
        check_key(key).map_err(Error::Refused)?;
        let answer = self.repeat(&get(format!("/kv/{key}")), self.attempts).await?;
        let version = version_of(&answer).map_err(|error| Error::Refused(error.to_string()))?;
        Ok(Read { value: version.is_written().then(|| answer.into_body()), version })
    }

    /// Writes a key and returns the version it was written under.
    pub async fn put(&mut self, key: &str, value: impl Into<Bytes>) -> Result<Version, Error> {
        self.put_with_attempts(key, value.into(), self.attempts).await
    }

    /// Writes a key with one attempt, and gives up: what clients do that die, or do not care.
    pub async fn put_once(&mut self, key: &str, value: impl Into<Bytes>) -> Result<Version, Error> {
        self.put_with_attempts(key, value.into(), 1).await
    }

    async fn put_with_attempts(&mut self, key: &str, value: Bytes, attempts: u32) -> Result<Version, Error> {
        check_key(key).map_err(Error::Refused)?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(Error::Refused(format!("the value has {} bytes; {MAX_VALUE_BYTES} are allowed", value.len())));
        }
        let answer = self.repeat(&get(format!("/next/{key}")), self.attempts).await?;
        let counter: Option<u64> = std::str::from_utf8(answer.body()).ok().and_then(|text| text.parse().ok());
        let counter = counter.ok_or_else(|| Error::Refused("the server gave no counter; is it a kv server?".into()))?;

        self.sequence += 1;
        let mut request = get(format!("/kv/{key}"));
        *request.method_mut() = Method::PUT;
        *request.body_mut() = Full::new(value);
        let writer = Writer { client: self.id, sequence: self.sequence };
        request.headers_mut().insert("idempotency-key", text(writer));
        request.headers_mut().insert("counter", text(counter));
        let answer = self.repeat(&request, attempts).await?;
        version_of(&answer).map_err(|error| Error::Refused(error.to_string()))
    }

    /// Every key that was written.
    pub async fn keys(&mut self) -> Result<Vec<String>, Error> {
        self.lines("/kv/").await
    }

    /// Every key that the server asked holds itself, and its version. Ask one server only: give the client one.
    pub async fn held(&mut self) -> Result<Vec<(String, Version)>, Error> {
        let malformed = |line: &str| Error::Refused(format!("{line:?} is not a key and its version"));
        let parse = |line: &String| {
            let (key, version) = line.split_once(' ')?;
            Some((key.to_owned(), version.parse().ok()?))
        };
        self.lines("/replica/").await?.iter().map(|line| parse(line).ok_or_else(|| malformed(line))).collect()
    }

    /// What the server asked says of itself, one fact a line.
    pub async fn status(&mut self) -> Result<Vec<String>, Error> {
        self.lines("/status").await
    }

    async fn lines(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let answer = self.repeat(&get(path.into()), self.attempts).await?;
        Ok(String::from_utf8_lossy(answer.body()).lines().map(str::to_owned).collect())
    }

    /// Sends a request to one server after the other until one has an answer to it.
    async fn repeat(&mut self, request: &Request<Full<Bytes>>, attempts: u32) -> Result<Response<Bytes>, Error> {
        let mut last = String::new();
        for attempt in 0..attempts {
            if attempt > 0 {
                sleep(self.pause(attempt)).await;
            }
            let server = &self.servers[self.turn % self.servers.len()];
            self.turn += 1;
            let patience = (FIRST_PATIENCE * (1 << attempt.min(8))).min(MOST_PATIENCE);
            let why = match timeout(patience, server.call(request.clone())).await {
                Ok(Ok(answer)) => match answer.status() {
                    StatusCode::OK => return Ok(answer),
                    StatusCode::NOT_FOUND if answer.headers().contains_key("version") => return Ok(answer),
                    status => {
                        let why = format!("{status}: {}", String::from_utf8_lossy(answer.body()));
                        if status.is_client_error() {
                            return Err(Error::Refused(format!("{}: {why}", server.address())));
                        }
                        why
                    }
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {} ms", patience.as_millis()),
            };
            last = format!("{}: {why}", server.address());
        }
        Err(Error::Unavailable(format!("gave up after {attempts} attempts; the last, {last}")))
    }

    /// The pause before an attempt: doubling, and spread over half as much again so that clients do not return in step.
    /// The spread needs to differ between clients, not to surprise anyone.
    fn pause(&self, attempt: u32) -> Duration {
        let base_ms = (20 << attempt.min(8)).min(MOST_PAUSE_MS);
        let mixed = (self.id ^ (self.turn as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        Duration::from_millis(base_ms + mixed % (base_ms / 2))
    }
}

fn get(path: String) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = path.parse().expect("keys are checked before they come here");
    request
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Unavailable(why) => write!(f, "unavailable: {why}"),
        }
    }
}

impl std::error::Error for Error {}
