//! What a server is told when it starts.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How one server of a cluster is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which member of `cluster` this server is, counted from 0.
    pub index: usize,
    /// `HOST:PORT` of every member, this one included, in the same order everywhere. The server listens on its own.
    pub cluster: Vec<String>,
    /// The directory of the log; made if it is not there. No two servers share one.
    pub data: PathBuf,
    /// How long a coordinator waits for one answer of one replica.
    pub replica_timeout: Duration,
    /// A planted bug to run with, for tests of tests.
    pub bug: Option<Bug>,
}

/// A planted bug: each is one small deviation at one place of the code, of a kind that real stores have had.
///
/// Without faults all of them pass every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The coordinator waits for a majority for 50 ms, and then makes do with the answers it has
    /// (`Coordinator::majority`).
    ///
    /// A coordinator that is cut off from the other replicas, or whose calls to them are slow, acknowledges writes that
    /// only it holds, picks counters that are in use, and answers reads alone.
    AckBeforeQuorum,
    /// A read answers with the newest register it found, without making sure that a majority holds it
    /// (`Coordinator::get`).
    ///
    /// A write that reached one replica (its coordinator was cut off or died, its client gave up) is seen by a read that asks
    /// that replica, and not by a later read that asks the others.
    ReadWithoutWriteBack,
    /// The coordinator picks the version of a write on arrival, instead of the one that the client chose once
    /// (`Coordinator::put`).
    ///
    /// When the answer to a write is late or lost, its client repeats it through another server, and the value is written
    /// again under a higher version, over whatever was written in between.
    RetryAppliedTwice,
    /// The replica's task commits inside the branch expression of a `select!`, where another branch drops it
    /// half-way (`Writer::run` in `replica`).
    ///
    /// When a call to a peer fails while a batch is being synced, the news of it wins the `select!`: the batch is gone from the
    /// queue and not in memory, and the next batch acknowledges everything up to its own number.
    CancelLosesRequest,
    /// The log is left to the operating system to write out, instead of being synced before answering (`Log::append`).
    ///
    /// Harmless while machines keep their power. A power loss takes what the replica had acknowledged since it
    /// started; it shows once another replica had missed the same write.
    AnswerBeforeSync,
}

impl Bug {
    /// Every planted bug.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeQuorum,
        Self::ReadWithoutWriteBack,
        Self::RetryAppliedTwice,
        Self::CancelLosesRequest,
        Self::AnswerBeforeSync,
    ];
}

impl Config {
    /// Member `index` of the default cluster: `kv0:7000`, `kv1:7000` and `kv2:7000`, each with its log in `/var/lib/kv`.
    pub fn member(index: usize) -> Self {
        Self::new(index, crate::CLUSTER.split(','))
    }

    /// Member `index` of a cluster with these addresses, with its log in `/var/lib/kv`.
    pub fn new(index: usize, cluster: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            index,
            cluster: cluster.into_iter().map(Into::into).collect(),
            data: "/var/lib/kv".into(),
            replica_timeout: Duration::from_millis(300),
            bug: None,
        }
    }

    /// The same server with its log in another directory.
    pub fn data(self, data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), ..self }
    }

    /// The same server with a planted bug, or with none.
    pub fn bug(self, bug: impl Into<Option<Bug>>) -> Self {
        Self { bug: bug.into(), ..self }
    }

    /// `HOST:PORT` of this server.
    ///
    /// # Panics
    ///
    /// If `index` is not below the number of members.
    pub fn address(&self) -> &str {
        &self.cluster[self.index]
    }

    /// Says what makes this configuration unusable, as an error of kind `InvalidInput`.
    pub fn validate(&self) -> io::Result<()> {
        let count = self.cluster.len();
        let bad = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if !matches!(count, 1 | 3 | 5 | 7) {
            return bad(format!("a cluster has 1, 3, 5 or 7 members, not {count}"));
        }
        if self.index >= count {
            return bad(format!("index {} is not one of the {count} members, which count from 0", self.index));
        }
        for (i, address) in self.cluster.iter().enumerate() {
            if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                return bad(format!("{address:?} is not an address; it reads HOST:PORT"));
            }
            if self.cluster[..i].contains(address) {
                return bad(format!("{address:?} is listed twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_configurations_are_refused_by_name() {
        assert!(Config::member(2).validate().is_ok());
        let check = |index, cluster: &[&str], expected: &str| {
            let text = Config::new(index, cluster.iter().copied()).validate().unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        };
        check(3, &["a:1", "b:1", "c:1"], "index 3");
        check(0, &["a:1", "b:1"], "not 2");
        check(0, &["a:1", "b", "c:1"], "\"b\" is not an address");
        check(0, &["a:1", "b:1", "a:1"], "listed twice");
    }
}
