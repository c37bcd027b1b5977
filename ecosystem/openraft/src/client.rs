//! A client that finds the leader and asks until it has an answer.

use crate::wire::{Answer, Peer, Request};
use crate::{Line, address};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A client of all servers.
pub struct Client {
    servers: Vec<String>,
    /// Who is asked next.
    next: usize,
    leader: Peer,
}

impl Client {
    /// A client of `count` servers.
    pub fn new(count: u64) -> Client {
        Client { servers: (0..count).map(address).collect(), next: 0, leader: Peer::new(address(0)) }
    }

    /// Appends a line; its place in the list.
    pub async fn append(&mut self, line: Line) -> usize {
        self.ask(&Request::Write(line), |answer| if let Answer::Written(place) = answer { place } else { None }).await
    }

    /// The whole list.
    pub async fn read(&mut self) -> Vec<Line> {
        self.ask(&Request::Read, |answer| if let Answer::Lines(lines) = answer { Some(lines) } else { None }).await
    }

    async fn ask<T>(&mut self, request: &Request, of: impl Fn(Answer) -> Option<T>) -> T {
        loop {
            let leader = match timeout(Duration::from_millis(800), self.leader.ask(request)).await {
                Ok(Ok(Answer::Elsewhere(leader))) => leader.map(|node| node.addr),
                Ok(Ok(answer)) => match of(answer) {
                    Some(answer) => return answer,
                    None => None,
                },
                _ => None,
            };
            let leader = leader.unwrap_or_else(|| {
                self.next = (self.next + 1) % self.servers.len();
                self.servers[self.next].clone()
            });
            self.leader = Peer::new(leader);
            sleep(Duration::from_millis(100)).await;
        }
    }
}
