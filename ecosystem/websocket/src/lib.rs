//! A chat over WebSockets: everybody hears everything, in one order.
//!
//! A guest says first how many lines it has heard, and gets the others. It says each of its own until it hears it, so each
//! has a number, and one that comes twice counts once.

use futures_util::{SinkExt, StreamExt};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Something that was said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Who said it.
    pub author: String,
    /// Counts the author's lines.
    pub number: usize,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.author, self.number)
    }
}

impl FromStr for Line {
    type Err = Error;

    fn from_str(text: &str) -> Result<Line, Error> {
        let (author, number) = text.split_once(' ').ok_or_else(nonsense)?;
        Ok(Line { author: author.to_owned(), number: number.parse().map_err(|_| nonsense())? })
    }
}

fn nonsense() -> Error {
    Error::Utf8("this is not what the other side says".into())
}

/// All that was said. It stands for a database on another machine: it outlives the server's process.
#[derive(Clone, Default)]
pub struct Log(Arc<watch::Sender<Vec<Line>>>);

impl Log {
    fn say(&self, line: Line) {
        self.0.send_if_modified(|lines| {
            let new = !lines.contains(&line);
            if new {
                lines.push(line);
            }
            new
        });
    }

    /// All that was said until now.
    pub fn lines(&self) -> Vec<Line> {
        self.0.borrow().clone()
    }
}

/// Serves the chat.
pub async fn serve(address: &str, log: Log) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A guest that went away is no error of the server.
        let guest = host(stream, log.clone());
        tokio::spawn(async move { drop(guest.await) });
    }
}

async fn host(stream: TcpStream, log: Log) -> Result<(), Error> {
    let mut guest = tokio_tungstenite::accept_async(stream).await?;
    let Some(first) = guest.next().await else { return Ok(()) };
    let mut told: usize = first?.to_text()?.parse().map_err(|_| nonsense())?;
    let mut lines = log.0.subscribe();
    lines.mark_changed();
    loop {
        tokio::select! {
            said = guest.next() => match said {
                Some(message) => match message? {
                    Message::Text(line) => log.say(line.parse()?),
                    Message::Close(_) => return Ok(()),
                    _ => {}
                },
                None => return Ok(()),
            },
            _ = lines.changed() => {
                let new: Vec<Line> = lines.borrow_and_update().get(told..).unwrap_or_default().to_vec();
                told += new.len();
                for line in new {
                    guest.feed(Message::text(line.to_string())).await?;
                }
                guest.flush().await?;
            }
        }
    }
}

/// A guest that says `lines` lines, with `pause` between them, and calls `hear` with every line of the chat in order.
/// Returns when it has heard the last of its own.
pub async fn visit(server: &str, name: &str, lines: usize, pause: Duration, hear: impl FnMut(&Line)) {
    let mut guest = Guest { server, name, lines, pause, hear, heard: 0, own: 0 };
    while let Err(_broken) = guest.stay().await {
        sleep(Duration::from_millis(100)).await;
    }
}

struct Guest<'a, F> {
    server: &'a str,
    name: &'a str,
    lines: usize,
    pause: Duration,
    hear: F,
    /// How many lines it has heard.
    heard: usize,
    /// How many of them were its own.
    own: usize,
}

impl<F: FnMut(&Line)> Guest<'_, F> {
    /// One connection, until all is said, or it breaks, or nothing is heard for a second.
    async fn stay(&mut self) -> Result<(), Error> {
        let connecting = tokio_tungstenite::connect_async(format!("ws://{}/", self.server));
        let (mut chat, _) = patiently(connecting).await??;
        chat.send(Message::text(self.heard.to_string())).await?;
        while self.own < self.lines {
            let line = Line { author: self.name.to_owned(), number: self.own };
            chat.send(Message::text(line.to_string())).await?;
            while self.own == line.number {
                let message = patiently(chat.next()).await?.ok_or(Error::ConnectionClosed)??;
                if let Message::Text(line) = message {
                    let line: Line = line.parse()?;
                    (self.hear)(&line);
                    self.heard += 1;
                    self.own += usize::from(line.author == self.name);
                }
            }
            sleep(self.pause).await;
        }
        chat.close(None).await
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    timeout(Duration::from_secs(1), future).await.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))
}
