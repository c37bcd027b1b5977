//! The command line of the log.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wal::Wal;

/// A write-ahead log: what was appended is still there after any crash.
///
/// Exit status: 0 done, 1 the log could not be read or written, 2 the command line was wrong.
#[derive(Parser)]
#[command(
    name = "wal",
    version,
    after_help = "Example:\n  wal append /tmp/journal first second && wal print /tmp/journal"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Append each text as a record, and print its number once it is durable
    Append {
        /// Directory of the log; made if it is not there
        dir: PathBuf,
        #[arg(required = true)]
        texts: Vec<String>,
    },
    /// Print the records, each with its number
    Print {
        /// Directory of the log
        dir: PathBuf,
    },
    /// Cut off the records before this number
    Cut {
        /// Directory of the log
        dir: PathBuf,
        first: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wal: {error}");
            ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Append { dir, texts } => {
            let (mut wal, _) = Wal::open(dir).await?;
            for text in texts {
                println!("{}", wal.append(text.as_bytes()).await?);
            }
        }
        Command::Print { dir } => {
            // Opening makes a log where there is none; printing should not.
            tokio::fs::metadata(dir.join("log")).await?;
            let (_, records) = Wal::open(dir).await?;
            for (number, content) in (records.first..).zip(&records.contents) {
                println!("{number} {}", String::from_utf8_lossy(content));
            }
        }
        Command::Cut { dir, first } => Wal::open(dir).await?.0.cut(first).await?,
    }
    Ok(())
}
