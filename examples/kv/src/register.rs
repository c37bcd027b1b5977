//! A register: a value and the version it was written under. Pure data; the argument that versions suffice is in the
//! crate's documentation.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 128;

/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// Who wrote a value: the idempotency key of the write, `CLIENT:SEQUENCE` as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// The client's identity; no two clients share one.
    pub client: u64,
    /// Which of the client's writes, counted from 1.
    pub sequence: u64,
}

/// When a value was written, in the order all replicas agree on: `COUNTER@CLIENT:SEQUENCE` as text.
///
/// The default, counter 0, is the version of a register that was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// One more than the highest counter the writer found. Compared first.
    pub counter: u64,
    /// Decides between writers that took the same counter.
    pub writer: Writer,
}

/// A value and its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    /// The version the value was written under.
    pub version: Version,
    /// The value; empty in a register that was never written.
    pub value: Bytes,
}

impl Version {
    /// Whether anything was ever written under this version.
    pub fn is_written(self) -> bool {
        self.counter > 0
    }
}

/// Says what is wrong with a key that cannot be stored.
///
/// A key is 1 to [`MAX_KEY_BYTES`] letters, digits, dots, dashes and underscores, so that it needs no escaping in a path.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("a key must not be empty".into());
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(format!("the key has {} bytes; {MAX_KEY_BYTES} are allowed", key.len()));
    }
    match key.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
        Some(bad) => Err(format!("the key {key:?} contains {bad:?}; use letters, digits, '.', '-' and '_'")),
        None => Ok(()),
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.sequence)
    }
}

impl FromStr for Writer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(client, sequence)| {
            Some(Self { client: client.parse().ok()?, sequence: sequence.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("{text:?} is not an idempotency key; it reads CLIENT:SEQUENCE, two numbers"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.counter, self.writer)
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('@')
            .and_then(|(counter, writer)| Some(Self { counter: counter.parse().ok()?, writer: writer.parse().ok()? }));
        parsed.ok_or_else(|| format!("{text:?} is not a version; it reads COUNTER@CLIENT:SEQUENCE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(counter: u64, client: u64, sequence: u64) -> Version {
        Version { counter, writer: Writer { client, sequence } }
    }

    #[test]
    fn the_counter_decides_before_the_writer() {
        assert!(version(2, 1, 1) > version(1, 9, 9));
        assert!(version(2, 2, 1) > version(2, 1, 9));
        assert!(version(1, 0, 1) > Version::default());
    }

    #[test]
    fn versions_survive_a_trip_through_text() {
        let v = version(u64::MAX, 3, 45);
        assert_eq!(v.to_string().parse(), Ok(v));
        assert!("".parse::<Version>().is_err());
        assert!("1@2".parse::<Version>().is_err());
        assert!("1@2:-3".parse::<Version>().is_err());
    }

    #[test]
    fn keys_that_need_escaping_are_refused() {
        assert_eq!(check_key("user.17_a-B"), Ok(()));
        for bad in ["", "a/b", "a b", "ä", "%2f", &"x".repeat(MAX_KEY_BYTES + 1)] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }
}
