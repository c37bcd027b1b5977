//! A key-value store behind TLS 1.3: one request a line, one answer a line.
//!
//! Whoever sees no answer says it again, and an old request may come late: each value has a version, and a lower one
//! changes nothing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig, crypto::ring};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What was put. It stands for a database on another machine: it outlives the server's process.
pub type Store = Arc<Mutex<BTreeMap<String, u64>>>;

/// Serves `store` under this certificate.
pub async fn serve(
    address: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    store: Store,
) -> io::Result<()> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that went away is no error of the server.
        let client = answer(acceptor.clone(), stream, store.clone());
        tokio::spawn(async move { drop(client.await) });
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream, store: Store) -> io::Result<()> {
    let mut client = BufReader::new(acceptor.accept(stream).await?);
    let mut line = String::new();
    while client.read_line(&mut line).await? > 0 {
        let answer = obey(&line, &store)?;
        client.write_all(format!("{answer}\n").as_bytes()).await?;
        client.flush().await?;
        line.clear();
    }
    client.shutdown().await
}

/// `put KEY VERSION` or `get KEY`; the version that the key has now, 0 for none.
fn obey(line: &str, store: &Store) -> io::Result<u64> {
    let mut store = store.lock().unwrap();
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["put", key, version] => {
            let version: u64 = version.parse().map_err(|_| ErrorKind::InvalidData)?;
            let kept = store.entry(key.to_owned()).or_default();
            *kept = version.max(*kept);
            Ok(*kept)
        }
        ["get", key] => Ok(store.get(key).copied().unwrap_or(0)),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// A client of one server, with at most one connection.
pub struct Client {
    server: String,
    name: ServerName<'static>,
    connector: TlsConnector,
    connection: Option<BufReader<TlsStream<TcpStream>>>,
    handshakes: Handshakes,
}

/// How the connections began.
#[derive(Clone, Copy, Default, Debug)]
pub struct Handshakes {
    /// With the certificate.
    pub full: usize,
    /// With a ticket of an earlier connection.
    pub resumed: usize,
}

impl Client {
    /// A client of the server `name` at `port`, which believes only `root`.
    ///
    /// # Panics
    /// If `name` is no name of a server, or `root` no certificate.
    pub fn new(name: &str, port: u16, root: CertificateDer<'static>) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(root).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Client {
            server: format!("{name}:{port}"),
            name: ServerName::try_from(name.to_owned()).expect("a name"),
            connector: TlsConnector::from(Arc::new(config)),
            connection: None,
            handshakes: Handshakes::default(),
        }
    }

    /// Puts a version until the server says which it has.
    pub async fn put(&mut self, key: &str, version: u64) -> u64 {
        self.ask(&format!("put {key} {version}\n")).await
    }

    /// The version of a key, 0 for none.
    pub async fn get(&mut self, key: &str) -> u64 {
        self.ask(&format!("get {key}\n")).await
    }

    /// Ends the connection in good order.
    pub async fn close(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _gone = timeout(Duration::from_millis(500), connection.shutdown()).await;
        }
    }

    /// How its connections began so far.
    pub fn handshakes(&self) -> Handshakes {
        self.handshakes
    }

    async fn ask(&mut self, request: &str) -> u64 {
        loop {
            match timeout(Duration::from_millis(800), self.once(request)).await {
                Ok(Ok(answer)) => return answer,
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Asks once. A connection whose answer was not awaited to the end is not used again.
    pub async fn once(&mut self, request: &str) -> io::Result<u64> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let answer = line.trim_end().parse().map_err(|_| ErrorKind::UnexpectedEof)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&mut self) -> io::Result<BufReader<TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(&self.server).await?;
        let stream = self.connector.connect(self.name.clone(), stream).await?;
        match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => self.handshakes.resumed += 1,
            _ => self.handshakes.full += 1,
        }
        Ok(BufReader::new(stream))
    }
}
