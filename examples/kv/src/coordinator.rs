//! What a server does for clients: reads and writes by majority. Holds no state; why it is right is told in the crate's
//! documentation.
//!
//! Every round goes to all replicas at once, each call in a task of its own: the coordinator goes on when a majority has
//! answered, and so do the calls that are still out, even if the client hangs up.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::{Bug, Config};
use crate::register::{Register, Version, Writer};
use crate::remote::Remote;
use crate::replica::Replica;

/// How long [`Bug::AckBeforeQuorum`] waits for a majority.
const SHORT_WAIT: Duration = Duration::from_millis(50);

/// Serves clients on behalf of the whole cluster.
pub struct Coordinator {
    members: Vec<Member>,
    here: Replica,
    replica_timeout: Duration,
    bug: Option<Bug>,
}

/// Fewer than a majority of the replicas answered in time; the operation may or may not have taken effect.
#[derive(Debug)]
pub struct NoMajority {
    answered: usize,
    needed: usize,
}

impl Coordinator {
    /// A coordinator on the server that `config` describes and whose replica is `here`.
    pub fn new(config: &Config, here: Replica) -> Self {
        let member = |(i, address): (usize, &String)| match i == config.index {
            true => Member::Here(here.clone()),
            false => Member::There(Arc::new(Remote::new(address)), here.clone()),
        };
        let members = config.cluster.iter().enumerate().map(member).collect();
        Self { members, here, replica_timeout: config.replica_timeout, bug: config.bug }
    }

    /// This server's own replica.
    pub fn here(&self) -> &Replica {
        &self.here
    }

    /// Reads a register; the default one if the key was never written.
    pub async fn get(&self, key: &str) -> Result<Register, NoMajority> {
        let found = self.ask_registers(key).await?;
        let newest = found.iter().max_by_key(|register| register.version).cloned().unwrap_or_default();
        let agreed = found.iter().all(|register| register.version == newest.version);
        if !agreed && self.bug != Some(Bug::ReadWithoutWriteBack) {
            self.store(key, newest.clone()).await?;
        }
        Ok(newest)
    }

    /// A counter above that of every write that has ended. Has no effect.
    pub async fn next(&self, key: &str) -> Result<u64, NoMajority> {
        let found = self.ask_registers(key).await?;
        Ok(1 + found.iter().map(|register| register.version.counter).max().unwrap_or(0))
    }

    /// Writes a value under the version made of `counter` and `writer`, and returns that version.
    ///
    /// With no counter the coordinator picks one, and then the request must not be repeated: it would be another write.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        counter: Option<u64>,
        writer: Writer,
    ) -> Result<Version, NoMajority> {
        let counter = match counter {
            Some(chosen) if self.bug != Some(Bug::RetryAppliedTwice) => chosen,
            _ => self.next(key).await?,
        };
        let version = Version { counter, writer };
        self.store(key, Register { version, value }).await?;
        Ok(version)
    }

    /// Every key whose write has ended, and some whose write has not.
    pub async fn keys(&self) -> Result<BTreeSet<String>, NoMajority> {
        let found = self.majority(|member| async move { member.keys().await }).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn ask_registers(&self, key: &str) -> Result<Vec<Register>, NoMajority> {
        let key: Arc<str> = key.into();
        self.majority(move |member| {
            let key = Arc::clone(&key);
            async move { member.query(&key).await }
        })
        .await
    }

    async fn store(&self, key: &str, register: Register) -> Result<(), NoMajority> {
        let key: Arc<str> = key.into();
        let store = move |member: Member| {
            let (key, register) = (Arc::clone(&key), register.clone());
            async move { member.store(&key, register).await }
        };
        self.majority(store).await.map(drop)
    }

    /// Calls every replica and returns the first answers that make a majority.
    async fn majority<T, F>(&self, call: impl Fn(Member) -> F) -> Result<Vec<T>, NoMajority>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>> + Send + 'static,
    {
        let (answer, mut answers) = mpsc::channel(self.members.len());
        for member in &self.members {
            let (answer, member, limit) = (answer.clone(), member.clone(), self.replica_timeout);
            let called = call(member.clone());
            tokio::spawn(async move {
                let result = timeout(limit, called).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                if result.is_err() {
                    member.note_failure();
                }
                // A coordinator that has its majority no longer listens.
                let _ = answer.send(result).await;
            });
        }
        drop(answer);

        let needed = self.members.len() / 2 + 1;
        let mut found = Vec::with_capacity(needed);
        let collecting = async {
            while let Some(result) = answers.recv().await {
                found.extend(result.ok());
                if found.len() == needed {
                    return;
                }
            }
        };
        if self.bug == Some(Bug::AckBeforeQuorum) {
            let _ = timeout(SHORT_WAIT, collecting).await;
            return Ok(found);
        }
        collecting.await;
        if found.len() == needed {
            return Ok(found);
        }
        Err(NoMajority { answered: found.len(), needed })
    }
}

/// A replica as the coordinator sees it: its own, or one behind HTTP (with its own replica, to tell it of failures).
#[derive(Clone)]
enum Member {
    Here(Replica),
    There(Arc<Remote>, Replica),
}

impl Member {
    async fn query(&self, key: &str) -> io::Result<Register> {
        match self {
            Self::Here(replica) => Ok(replica.query(key)),
            Self::There(remote, _) => {
                let answer = succeed(remote.call(request(Method::GET, key, Bytes::new())).await?)?;
                Ok(Register { version: version_of(&answer)?, value: answer.into_body() })
            }
        }
    }

    async fn store(&self, key: &str, register: Register) -> io::Result<()> {
        match self {
            Self::Here(replica) => replica.store(key, register).await,
            Self::There(remote, _) => {
                let mut request = request(Method::PUT, key, register.value);
                request.headers_mut().insert("version", text(register.version));
                succeed(remote.call(request).await?).map(drop)
            }
        }
    }

    async fn keys(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Here(replica) => Ok(replica.versions().into_keys().collect()),
            Self::There(remote, _) => {
                let answer = succeed(remote.call(request(Method::GET, "", Bytes::new())).await?)?;
                let lines = String::from_utf8_lossy(answer.body()).into_owned();
                Ok(lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
            }
        }
    }

    fn note_failure(&self) {
        if let Self::There(remote, here) = self {
            here.note_failure(remote.address());
        }
    }
}

/// A request to a replica itself, as opposed to the cluster.
fn request(method: Method, key: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = format!("/replica/{key}").parse().expect("keys are checked on arrival");
    request
}

fn succeed(answer: Response<Bytes>) -> io::Result<Response<Bytes>> {
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(answer.body())))),
    }
}

/// The version an answer names in its header.
pub fn version_of(answer: &Response<Bytes>) -> io::Result<Version> {
    let header = answer.headers().get("version").and_then(|value| value.to_str().ok());
    header
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::other("the answer names no version; is this a kv server?"))
}

/// A header value that shows something made of digits and punctuation.
pub fn text(shown: impl fmt::Display) -> HeaderValue {
    HeaderValue::try_from(shown.to_string()).expect("versions and idempotency keys are plain ASCII")
}

impl fmt::Display for NoMajority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replicas answered in time; {} are needed", self.answered, self.needed)
    }
}
