//! One of the servers, and how it reaches the others.

use crate::store::{Disk, Machine};
use crate::wire::{Answer, Peer, Request, receive, send};
use crate::{Raft, Types};
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{BasicNode, Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// Where server `id` listens.
pub fn address(id: u64) -> String {
    format!("scribe{id}:7000")
}

/// Server `id` of `count`.
pub async fn serve(id: u64, count: u64, disk: Disk) -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7000").await?;
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 300,
        election_timeout_max: 600,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(20),
        max_in_snapshot_log_to_keep: 5,
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(io::Error::other)?);
    let machine = Machine::new(disk.clone());
    let raft = Raft::new(id, config, Network, disk, machine.clone()).await.map_err(io::Error::other)?;
    if !raft.is_initialized().await.map_err(io::Error::other)? {
        let members: BTreeMap<u64, BasicNode> = (0..count).map(|id| (id, BasicNode::new(address(id)))).collect();
        // All servers name the same members. One that has heard of a leader in the meantime refuses, and needs it no more.
        drop(raft.initialize(members).await);
    }
    loop {
        let (stream, _) = listener.accept().await?;
        // A peer that went away is no error of the server.
        let (raft, machine) = (raft.clone(), machine.clone());
        tokio::spawn(async move { drop(converse(stream, raft, machine).await) });
    }
}

async fn converse(mut stream: TcpStream, raft: Raft, machine: Machine) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let answer = match receive(&mut stream).await? {
            Request::Append(request) => Answer::Append(raft.append_entries(request).await),
            Request::Snapshot(request) => Answer::Snapshot(raft.install_snapshot(request).await),
            Request::Vote(request) => Answer::Vote(raft.vote(request).await),
            Request::Write(line) => match raft.client_write(line).await {
                Ok(written) => Answer::Written(written.data),
                Err(error) => elsewhere(error.forward_to_leader()),
            },
            Request::Read => match raft.ensure_linearizable().await {
                Ok(_) => Answer::Lines(machine.lines()),
                Err(error) => elsewhere(error.forward_to_leader()),
            },
        };
        send(&mut stream, &answer).await?;
    }
}

fn elsewhere(to: Option<&openraft::error::ForwardToLeader<u64, BasicNode>>) -> Answer {
    Answer::Elsewhere(to.and_then(|to| to.leader_node.clone()))
}

/// Makes connections to the other servers.
struct Network;

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        Connection { target, peer: Peer::new(node.addr.clone()) }
    }
}

struct Connection {
    target: u64,
    peer: Peer,
}

type Failure<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

impl Connection {
    async fn ask<T, E: std::error::Error>(
        &mut self,
        request: Request,
        of: impl FnOnce(Answer) -> Option<Result<T, RaftError<u64, E>>>,
    ) -> Result<T, Failure<E>> {
        let answer = self.peer.ask(&request).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => RPCError::Unreachable(Unreachable::new(&error)),
            _ => RPCError::Network(NetworkError::new(&error)),
        })?;
        let other = io::Error::from(io::ErrorKind::InvalidData);
        let answer = of(answer).ok_or_else(|| RPCError::Network(NetworkError::new(&other)))?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        let of = |answer| if let Answer::Append(answer) = answer { Some(answer) } else { None };
        self.ask(Request::Append(request), of).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        let of = |answer| if let Answer::Snapshot(answer) = answer { Some(answer) } else { None };
        self.ask(Request::Snapshot(request), of).await
    }

    async fn vote(&mut self, request: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, Failure> {
        let of = |answer| if let Answer::Vote(answer) = answer { Some(answer) } else { None };
        self.ask(Request::Vote(request), of).await
    }
}
