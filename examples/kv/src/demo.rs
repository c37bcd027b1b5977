//! Three servers, a few clients, one process, and a check of what the clients saw.

use std::fmt;
use std::io;
use std::time::Duration;

use kv::check::{self, Op, Violation};
use kv::workload::{Workload, holdings};
use kv::{Bug, Config};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The pause of a client between two operations, on average.
const PACE: Duration = Duration::from_millis(10);

/// What the demonstration found.
pub struct Report {
    /// What went wrong, if anything.
    pub violations: Vec<Violation>,
    ops: Vec<Op>,
    acked: usize,
    answered: usize,
}

/// Runs three servers on loopback, with their logs in temporary directories that are removed afterwards.
pub async fn run(length: Duration, bug: Option<Bug>) -> io::Result<Report> {
    let cluster = free_addresses().await?;
    let root = std::env::temp_dir().join(format!("kv-demo-{}", std::process::id()));
    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    for index in 0..cluster.len() {
        let config = Config::new(index, cluster.iter()).data(root.join(index.to_string())).bug(bug);
        let mut stopped = stopped.clone();
        servers.spawn(kv::serve_until(config, async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }));
    }

    let list = cluster.join(",");
    let operations = (length.as_millis() / PACE.as_millis()) as u64;
    let workload = Workload { pace: PACE, operations, ..Workload::new(&list) };
    let checked = async {
        let mut history = workload.run().await;
        let (acked, answered) = (history.acked(), history.answered());
        history.read_back(&list).await;
        let mut violations = check::history(&history.ops);
        violations.extend(check::held(&history.ops, &holdings(&list).await));
        Report { violations, ops: history.ops, acked, answered }
    };
    let report = tokio::select! {
        report = checked => Ok(report),
        // A server ends early only if it cannot run at all.
        Some(ended) = servers.join_next() => Err(match ended {
            Ok(Err(error)) => error,
            _ => io::Error::other("a server ended before the demonstration did"),
        }),
    };
    stop.send_replace(true);
    while servers.join_next().await.is_some() {}
    // Leaving a temporary directory behind is no reason to fail.
    let _ = tokio::fs::remove_dir_all(&root).await;
    report
}

/// Three loopback addresses that nobody listens on just now.
async fn free_addresses() -> io::Result<Vec<String>> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = |op: &Op| op.end - op.start;
        let mut times: Vec<Duration> = self.ops.iter().filter(|op| op.ok).map(took).collect();
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        writeln!(f, "{} writes acknowledged, {} reads answered", self.acked, self.answered)?;
        writeln!(f, "{} operations did not succeed", self.ops.iter().filter(|op| !op.ok).count())?;
        writeln!(f, "an operation took {:.1?} (median), {:.1?} (99 of 100)", at(50), at(99))?;
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        writeln!(f, "{}", if self.violations.is_empty() { "every check passed" } else { "the checks failed" })
    }
}
