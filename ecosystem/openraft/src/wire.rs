//! Requests and answers between servers, and from clients: JSON behind its length, one after the other on a connection.

use crate::{Line, Place, Types};
use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Serialize, Deserialize)]
pub enum Request {
    Append(AppendEntriesRequest<Types>),
    Snapshot(InstallSnapshotRequest<Types>),
    Vote(VoteRequest<u64>),
    Write(Line),
    Read,
}

#[derive(Serialize, Deserialize)]
pub enum Answer {
    Append(Result<AppendEntriesResponse<u64>, RaftError<u64>>),
    Snapshot(Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>),
    Vote(Result<VoteResponse<u64>, RaftError<u64>>),
    Written(Place),
    Lines(Vec<Line>),
    /// Not this server; this one, if it is known.
    Elsewhere(Option<BasicNode>),
}

/// Longer than any message of this program.
const LONGEST: u32 = 1 << 24;

pub async fn send(stream: &mut TcpStream, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    stream.write_u32(body.len() as u32).await?;
    stream.write_all(&body).await
}

pub async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let length = stream.read_u32().await?;
    if length > LONGEST {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// A connection that is made when it is needed.
pub struct Peer {
    address: String,
    stream: Option<TcpStream>,
}

impl Peer {
    pub fn new(address: String) -> Peer {
        Peer { address, stream: None }
    }

    /// Asks once. A connection whose answer was not awaited to the end is not used again.
    pub async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address).await?,
        };
        stream.set_nodelay(true)?;
        send(&mut stream, request).await?;
        let answer = receive(&mut stream).await?;
        self.stream = Some(stream);
        Ok(answer)
    }
}
