//! Meters: a gRPC service with a method of each kind, unary, client streaming, server streaming and both.
//!
//! Whoever sees no answer says it again, so every reading has a number, and one that comes twice counts once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

mod generated {
    #![allow(clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/meter.Meters.rs"));
}

use generated::meters_client::MetersClient;
use generated::meters_server::{Meters, MetersServer};

/// Something to add to a meter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reading {
    /// Which meter.
    #[prost(string, tag = "1")]
    pub meter: String,
    /// Of readings of a meter with the same number only the first counts.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// How much.
    #[prost(uint64, tag = "3")]
    pub amount: u64,
}

/// The name of a meter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Meter {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What a meter shows.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Total {
    /// The sum of all readings.
    #[prost(uint64, tag = "1")]
    pub amount: u64,
    /// How many there were.
    #[prost(uint64, tag = "2")]
    pub readings: u64,
}

/// All meters. They stand for a database on another machine: they outlive the server's process.
#[derive(Clone, Default)]
pub struct Store {
    meters: Arc<Mutex<BTreeMap<String, Kept>>>,
}

#[derive(Default)]
struct Kept {
    readings: BTreeMap<u64, u64>,
    total: watch::Sender<Total>,
}

impl Store {
    fn add(&self, reading: &Reading) -> Total {
        let mut meters = self.meters.lock().unwrap();
        let meter = meters.entry(reading.meter.clone()).or_default();
        meter.readings.entry(reading.number).or_insert(reading.amount);
        let total = Total { amount: meter.readings.values().sum(), readings: meter.readings.len() as u64 };
        meter.total.send_replace(total);
        total
    }

    fn watch(&self, meter: &str) -> watch::Receiver<Total> {
        self.meters.lock().unwrap().entry(meter.to_owned()).or_default().total.subscribe()
    }

    /// What a meter shows now.
    pub fn total(&self, meter: &str) -> Total {
        *self.watch(meter).borrow()
    }
}

/// Serves the meters of `store`.
pub async fn serve(address: SocketAddr, store: Store) -> Result<(), tonic::transport::Error> {
    Server::builder().add_service(MetersServer::new(store)).serve(address).await
}

type Totals = ReceiverStream<Result<Total, Status>>;

#[tonic::async_trait]
impl Meters for Store {
    type AddEachStream = Totals;
    type WatchStream = Totals;

    async fn add(&self, request: Request<Reading>) -> Result<Response<Total>, Status> {
        Ok(Response::new(Store::add(self, request.get_ref())))
    }

    async fn add_all(&self, request: Request<Streaming<Reading>>) -> Result<Response<Total>, Status> {
        let (mut readings, mut total) = (request.into_inner(), None);
        while let Some(reading) = readings.message().await? {
            total = Some(Store::add(self, &reading));
        }
        total.map(Response::new).ok_or_else(|| Status::invalid_argument("no reading"))
    }

    async fn add_each(&self, request: Request<Streaming<Reading>>) -> Result<Response<Totals>, Status> {
        let (mut readings, store) = (request.into_inner(), self.clone());
        let (say, totals) = mpsc::channel(2);
        tokio::spawn(async move {
            while let Ok(Some(reading)) = readings.message().await {
                if say.send(Ok(Store::add(&store, &reading))).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(totals)))
    }

    async fn watch(&self, request: Request<Meter>) -> Result<Response<Totals>, Status> {
        let mut total = Store::watch(self, &request.get_ref().name);
        let (say, totals) = mpsc::channel(2);
        total.mark_changed();
        tokio::spawn(async move {
            while total.changed().await.is_ok() {
                let now = *total.borrow_and_update();
                if say.send(Ok(now)).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(totals)))
    }
}

/// A client with one channel, which connects again by itself.
#[derive(Clone)]
pub struct Client {
    meters: MetersClient<Channel>,
}

/// How long an answer may take before the client asks again.
const PATIENCE: Duration = Duration::from_millis(800);

impl Client {
    /// A client of `server`, `name:port`.
    ///
    /// # Panics
    /// If that is no part of a URI.
    pub fn new(server: &str) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{server}")).expect("a name and a port");
        let endpoint = endpoint
            .connect_timeout(Duration::from_millis(500))
            .http2_keep_alive_interval(Duration::from_secs(1))
            .keep_alive_timeout(Duration::from_secs(1));
        Client { meters: MetersClient::new(endpoint.connect_lazy()) }
    }

    /// Adds one reading.
    pub async fn add(&self, reading: &Reading) -> Total {
        self.until_answered(async |mut meters| Ok(meters.add(reading.clone()).await?.into_inner())).await
    }

    /// Adds all readings in one request.
    pub async fn add_all(&self, readings: &[Reading]) -> Total {
        let request = async |mut meters: MetersClient<Channel>| {
            Ok(meters.add_all(tokio_stream::iter(readings.to_vec())).await?.into_inner())
        };
        self.until_answered(request).await
    }

    /// Adds all readings in one conversation; the totals after each.
    pub async fn add_each(&self, readings: &[Reading]) -> Vec<Total> {
        let request = async |mut meters: MetersClient<Channel>| {
            let totals = meters.add_each(tokio_stream::iter(readings.to_vec())).await?.into_inner();
            let totals = totals.collect::<Result<Vec<_>, _>>().await?;
            if totals.len() == readings.len() { Ok(totals) } else { Err(Status::unavailable("it broke off")) }
        };
        self.until_answered(request).await
    }

    /// The totals of a meter as they change, until the connection breaks.
    pub async fn watch(&self, meter: &str) -> impl Stream<Item = Total> + use<> {
        let request = async |mut meters: MetersClient<Channel>| {
            Ok(meters.watch(Meter { name: meter.to_owned() }).await?.into_inner())
        };
        self.until_answered(request).await.map_while(Result::ok)
    }

    async fn until_answered<T>(&self, request: impl AsyncFn(MetersClient<Channel>) -> Result<T, Status>) -> T {
        loop {
            match timeout(PATIENCE, request(self.meters.clone())).await {
                Ok(Ok(answer)) => return answer,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
