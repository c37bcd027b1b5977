//! A cache over several mini-redis servers, each of which holds a part of the keys.
//!
//! A server keeps everything in memory: what it was told is gone when it restarts. So the cache may forget, and must
//! never give a key a value that nobody gave it.

use bytes::Bytes;
use mini_redis::client::{self, Client};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// How long a request may take before it is tried again.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait before trying again.
const BREATH: Duration = Duration::from_millis(100);

/// One server, until it is killed.
pub async fn serve(address: &str) -> mini_redis::Result<()> {
    mini_redis::server::run(TcpListener::bind(address).await?, std::future::pending::<()>()).await
}

/// A client of all servers, with at most one connection to each.
pub struct Cache {
    shards: Vec<Shard>,
}

struct Shard {
    address: String,
    connection: Option<Client>,
}

impl Cache {
    /// A client of these servers.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Cache {
        Cache { shards: servers.into_iter().map(|address| Shard { address, connection: None }).collect() }
    }

    /// Returns when the server has acknowledged it.
    pub async fn set(&mut self, key: usize, value: Bytes) {
        let name = key.to_string();
        self.shard(key).ask(async |client| client.set(&name, value.clone()).await).await
    }

    /// The value, or nothing if the server does not have it.
    pub async fn get(&mut self, key: usize) -> Option<Bytes> {
        let name = key.to_string();
        self.shard(key).ask(async |client| client.get(&name).await).await
    }

    fn shard(&mut self, key: usize) -> &mut Shard {
        let count = self.shards.len();
        &mut self.shards[key % count]
    }
}

impl Shard {
    /// Asks until there is an answer.
    async fn ask<T>(&mut self, request: impl AsyncFn(&mut Client) -> mini_redis::Result<T>) -> T {
        loop {
            match timeout(PATIENCE, self.once(&request)).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => self.connection = None,
                // The answer may still come, and would be taken for the answer to the next request.
                Err(_late) if cfg!(not(feature = "planted")) => self.connection = None,
                Err(_late) => {}
            }
            sleep(BREATH).await;
        }
    }

    async fn once<T>(&mut self, request: impl AsyncFn(&mut Client) -> mini_redis::Result<T>) -> mini_redis::Result<T> {
        let client = match &mut self.connection {
            Some(client) => client,
            none => none.insert(client::connect(&self.address).await?),
        };
        request(client).await
    }
}

/// Tells the channel's subscribers; how many of them there were, if the server said so in time. It is not said twice.
pub async fn publish(server: &str, channel: &str, message: Bytes) -> Option<u64> {
    let once = async { client::connect(server).await?.publish(channel, message).await };
    timeout(PATIENCE, once).await.ok()?.ok()
}

/// Hears what is said in the channel, with a new subscription whenever one ends or nothing was heard for two seconds.
/// The first argument of `hear` counts the subscriptions.
pub async fn listen(server: &str, channel: &str, mut hear: impl FnMut(usize, Bytes)) {
    for subscription in 0.. {
        let subscribe = async { client::connect(server).await?.subscribe(vec![channel.to_owned()]).await };
        if let Ok(Ok(mut subscriber)) = timeout(PATIENCE, subscribe).await {
            while let Ok(Ok(Some(message))) = timeout(Duration::from_secs(2), subscriber.next_message()).await {
                hear(subscription, message.content);
            }
        }
        sleep(BREATH).await;
    }
}
