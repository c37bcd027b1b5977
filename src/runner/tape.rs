//! Tape files: the deviations of one run, as text.
//!
//! ```text
//! sim-tape 1
//! test kv::lost_writes
//! seed 0x2a
//! fingerprint panicked src/kv.rs lost write: key
//! digest 0x6a1f…
//!
//! # stream    key                n  value
//! net 0x9d2c01f4ab6e7731 12 40000    # 3.214000000 kv1: packet of kv0->kv1
//!
//! end 1
//! ```
//!
//! What a tape does not list is answered 0; so a file that was cut would be another run, and the last line counts the
//! answers. From `#` to the end of a line is for people only.

use super::orders::{Misuse, parse_seed};
use sim_core::choices::{Address, Stream};
use std::fmt::Write;
use std::path::Path;

/// The version this crate writes and reads.
pub const VERSION: u32 = 1;

/// What stands in a tape file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapeFile {
    /// The test it belongs to.
    pub test: String,
    /// The seed of the run, which still gives the program's own randomness.
    pub seed: u64,
    /// The failure it reproduces, empty if none.
    pub fingerprint: String,
    /// The digest of the run with these answers.
    pub digest: u64,
    /// The answers.
    pub answers: Vec<Answer>,
}

/// One line of a tape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Where the choice stands.
    pub at: Address,
    /// What is answered; never 0.
    pub value: u64,
    /// When, which node, what about: for people.
    pub comment: String,
}

impl TapeFile {
    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a String takes all");
        line(format_args!("sim-tape {VERSION}"));
        line(format_args!("test {}", self.test));
        line(format_args!("seed {:#x}", self.seed));
        line(format_args!("fingerprint {}", one_line(&self.fingerprint)));
        line(format_args!("digest {:#018x}", self.digest));
        line(format_args!("\n# stream key n value"));
        for a in &self.answers {
            let Address { stream, key, n } = a.at;
            let comment = one_line(&a.comment);
            line(format_args!("{} {key:#018x} {n} {}    # {comment}", stream.name(), a.value));
        }
        line(format_args!("\nend {}", self.answers.len()));
        out
    }

    /// Reads the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<TapeFile, Misuse> {
        let fail = |number: usize, expected: String| {
            let given = text.lines().nth(number.saturating_sub(1)).unwrap_or("the end of the file");
            Misuse(format!("{}:{number}: expected {expected}, found: {given}", path.display()))
        };
        let mut lines = text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
        match lines.next() {
            Some((_, first)) if first.trim_end() == format!("sim-tape {VERSION}") => {}
            Some((_, first)) if first.starts_with("sim-tape ") => {
                return Err(fail(1, format!("a tape of format version {VERSION} (`sim-tape {VERSION}`)")));
            }
            _ => return Err(fail(1, format!("`sim-tape {VERSION}`, the first line of a tape"))),
        }
        let mut header = |name: &str| {
            let (number, line) = lines.next().unwrap_or((text.lines().count() + 1, ""));
            match line.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
                Some(rest) => Ok((number, rest.trim())),
                None => Err(fail(number, format!("`{name} …`"))),
            }
        };
        let (_, test) = header("test")?;
        let (seed_line, seed) = header("seed")?;
        let (_, fingerprint) = header("fingerprint")?;
        let (digest_line, digest) = header("digest")?;
        let seed = parse_seed(seed).ok_or_else(|| fail(seed_line, "`seed` and a number below 2^64".into()))?;
        let digest = parse_seed(digest).ok_or_else(|| fail(digest_line, "`digest` and a number below 2^64".into()))?;
        let mut answers = Vec::new();
        let mut ended = false;
        for (number, line) in lines {
            let (facts, comment) = line.split_once('#').unwrap_or((line, ""));
            if facts.trim().is_empty() {
                continue;
            }
            if ended {
                return Err(fail(number, "nothing after `end`".into()));
            }
            if let Some(count) = facts.trim().strip_prefix("end ") {
                if count.trim().parse() != Ok(answers.len()) {
                    return Err(fail(number, format!("`end {}`, the number of answers above it", answers.len())));
                }
                ended = true;
                continue;
            }
            let answer = parse_answer(facts).map_err(|expected| fail(number, expected))?;
            answers.push(Answer { comment: comment.trim().to_owned(), ..answer });
        }
        if !ended {
            let last = format!("`end {}`, the last line of a tape: this file was cut", answers.len());
            return Err(fail(text.lines().count() + 1, last));
        }
        Ok(TapeFile { test: test.to_owned(), seed, fingerprint: fingerprint.to_owned(), digest, answers })
    }

    /// Reads the tape at `path`, which must be one of `test`.
    pub fn read(path: &Path, test: &str) -> Result<TapeFile, Misuse> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Misuse(format!("the tape {} cannot be read: {error}", path.display())))?;
        let tape = TapeFile::parse(path, &text)?;
        if tape.test != test {
            let path = path.display();
            return Err(Misuse(format!("{path}: expected a tape of the test {test}, found one of {}", tape.test)));
        }
        Ok(tape)
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn parse_answer(facts: &str) -> Result<Answer, String> {
    let words: Vec<&str> = facts.split_whitespace().collect();
    let [stream, key, n, value] = words[..] else {
        return Err("four words: stream, key, ordinal and value".into());
    };
    let stream = Stream::from_name(stream).ok_or_else(|| {
        let names: Vec<&str> = (0..Stream::COUNT as u8).map(|s| Stream(s).name()).collect();
        format!("a stream, one of {}", names.join(", "))
    })?;
    let key = parse_seed(key).ok_or("a key, decimal or 0x…, below 2^64")?;
    let n = n.parse().map_err(|_| "an ordinal below 2^32")?;
    let value = parse_seed(value).filter(|v| *v > 0).ok_or("a value from 1 to 2^64 - 1")?;
    Ok(Answer { at: Address { stream, key, n }, value, comment: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tape() -> TapeFile {
        let answer = |stream, n, value| Answer {
            at: Address { stream, key: 0xdead_beef, n },
            value,
            comment: "3.214000000 kv1: hold".into(),
        };
        TapeFile {
            test: "kv::lost".into(),
            seed: 42,
            fingerprint: "panicked src/kv.rs lost".into(),
            digest: u64::MAX,
            answers: vec![answer(Stream::NET, 0, 1), answer(Stream::SCHEDULE, 7, u64::MAX)],
        }
    }

    #[test]
    fn a_tape_survives_its_text() {
        assert_eq!(TapeFile::parse(Path::new("x.tape"), &tape().to_text()), Ok(tape()));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_refused() {
        let whole = tape().to_text();
        for cut in 0..whole.trim_end().len() {
            let cut = &whole[..cut];
            assert!(TapeFile::parse(Path::new("x.tape"), cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn errors_name_file_line_and_what_was_expected() {
        let good = tape().to_text();
        for (text, place, expected) in [
            ("".to_owned(), "x.tape:1:", "`sim-tape 1`"),
            (good.replace("sim-tape 1", "sim-tape 9"), "x.tape:1:", "format version 1"),
            (good.replace("seed 0x2a", "seed pi"), "x.tape:3:", "`seed`"),
            (good.replace("digest", "digits"), "x.tape:5:", "`digest …`"),
            (good.replace("net 0x", "nut 0x"), "x.tape:8:", "a stream, one of schedule, clock"),
            (good.replace(" 7 18446744073709551615", " 7 0"), "x.tape:9:", "a value from 1"),
            (good.replace(" 7 18446744073709551615", " 7"), "x.tape:9:", "four words"),
            (good.replace(" 0 1 ", " -1 1 "), "x.tape:8:", "an ordinal"),
            (good.replace("\nend 2\n", ""), "x.tape:10:", "`end 2`, the last line of a tape: this file was cut"),
            (good.replace("end 2", "end"), "x.tape:11:", "four words"),
            (good.replace("end 2", "end 3"), "x.tape:11:", "`end 2`, the number of answers"),
            (good.replace("end 2", "end 2\nend 2"), "x.tape:12:", "nothing after `end`"),
            ("sim-tape 1\ntest a\n".to_owned(), "x.tape:3:", "`seed …`"),
        ] {
            let message = TapeFile::parse(Path::new("x.tape"), &text).expect_err(expected).to_string();
            assert!(message.starts_with(place) && message.contains(expected), "{message}");
        }
    }
}
