//! The command line of the register store.

mod demo;

use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use kv::{Bug, Client, Config, Error};

/// A replicated register store: a few servers, any of which may be asked.
///
/// Exit status: 0 done, 1 the cluster or a check failed, 2 the command line or a request was wrong.
#[derive(Parser)]
#[command(name = "kv", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one server of a cluster until ctrl-c
    Serve {
        /// Which of the peers this server is, counted from 0
        #[arg(long)]
        index: usize,
        /// HOST:PORT of every server, this one included, in the same order everywhere
        #[arg(long, value_delimiter = ',', required = true)]
        peers: Vec<String>,
        /// Directory of the server's log; made if it is not there
        #[arg(long)]
        data: PathBuf,
        /// Run with a planted bug
        #[arg(long, value_name = "NAME")]
        bug: Option<BugName>,
    },
    /// Write a value
    Put {
        /// Letters, digits, '.', '-' and '_'
        key: String,
        /// At most 1 MiB
        value: String,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print a value; exit status 1 if there is none
    Get {
        /// Letters, digits, '.', '-' and '_'
        key: String,
        #[command(flatten)]
        servers: Servers,
    },
    /// Print every key
    Keys {
        #[command(flatten)]
        servers: Servers,
    },
    /// Print what each server says of itself
    Status {
        #[command(flatten)]
        servers: Servers,
    },
    /// Run three servers and some clients in this process, and check what the clients saw
    Demo {
        /// How long the clients go on, in seconds
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
        /// Run with a planted bug, which shows only under faults
        #[arg(long, value_name = "NAME")]
        bug: Option<BugName>,
    },
}

#[derive(clap::Args)]
struct Servers {
    /// HOST:PORT of the servers to ask, in turn
    #[arg(long, default_value = kv::CLUSTER)]
    servers: String,
}

/// The planted bugs by their names on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum BugName {
    AckBeforeQuorum,
    ReadWithoutWriteBack,
    RetryAppliedTwice,
    CancelLosesRequest,
    AnswerBeforeSync,
}

impl From<BugName> for Bug {
    fn from(name: BugName) -> Self {
        match name {
            BugName::AckBeforeQuorum => Self::AckBeforeQuorum,
            BugName::ReadWithoutWriteBack => Self::ReadWithoutWriteBack,
            BugName::RetryAppliedTwice => Self::RetryAppliedTwice,
            BugName::CancelLosesRequest => Self::CancelLosesRequest,
            BugName::AnswerBeforeSync => Self::AnswerBeforeSync,
        }
    }
}

/// Why the program ends with something other than success.
enum Failure {
    /// Status 1.
    Failed(String),
    /// Status 2.
    Misuse(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("kv: {why}");
            ExitCode::from(1)
        }
        Err(Failure::Misuse(why)) => {
            eprintln!("kv: {why}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { index, peers, data, bug } => {
            let config = Config::new(index, peers).data(data).bug(bug.map(Bug::from));
            config.validate()?;
            eprintln!("kv: starting on {}; ctrl-c stops it", config.address());
            let interrupted = async {
                if tokio::signal::ctrl_c().await.is_err() {
                    std::future::pending().await
                }
            };
            Ok(kv::serve_until(config, interrupted).await?)
        }
        Command::Put { key, value, servers } => {
            let version = servers.client()?.put(&key, value).await?;
            println!("{version}");
            Ok(())
        }
        Command::Get { key, servers } => {
            let read = servers.client()?.get(&key).await?;
            let value = read.value.ok_or_else(|| Failure::Failed(format!("{key} was never written")))?;
            let mut out = std::io::stdout().lock();
            Ok(out.write_all(&value).and_then(|()| out.write_all(b"\n"))?)
        }
        Command::Keys { servers } => {
            for key in servers.client()?.keys().await? {
                println!("{key}");
            }
            Ok(())
        }
        Command::Status { servers } => {
            servers.check()?;
            let mut silent = 0;
            for server in servers.servers.split(',') {
                match Client::new(client_id(), server).attempts(3).status().await {
                    Ok(lines) => lines.iter().for_each(|line| println!("{server}: {line}")),
                    Err(error) => {
                        println!("{server}: {error}");
                        silent += 1;
                    }
                }
            }
            if silent > 0 { Err(Failure::Failed(format!("{silent} servers did not answer"))) } else { Ok(()) }
        }
        Command::Demo { seconds, bug } => {
            let report = demo::run(Duration::from_secs(seconds), bug.map(Bug::from)).await?;
            print!("{report}");
            match report.violations.len() {
                0 => Ok(()),
                count => Err(Failure::Failed(format!("{count} violations"))),
            }
        }
    }
}

impl Servers {
    fn client(&self) -> Result<Client, Failure> {
        self.check()?;
        Ok(Client::new(client_id(), &self.servers))
    }

    fn check(&self) -> Result<(), Failure> {
        for server in self.servers.split(',') {
            if server.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                return Err(Failure::Misuse(format!("{server:?} is not an address; it reads HOST:PORT")));
            }
        }
        Ok(())
    }
}

/// An identity that no other invocation has: chance, by way of the keys of the standard library's hash maps.
#[allow(clippy::disallowed_types, reason = "the command line draws real entropy once; the library draws none")]
fn client_id() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(_) => Self::Misuse(error.to_string()),
            Error::Unavailable(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidInput => Self::Misuse(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
