//! Tiny programs and the states that they leave, as text: the language of `allowed.txt`.

use std::collections::BTreeSet;
use std::fmt;

/// One call of a program. Paths are relative to the root, which is `/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    Create(String),
    Write(String, u64, Vec<u8>),
    SetLen(String, u64),
    Sync(String),
    DataSync(String),
    Rename(String, String),
    Exchange(String, String),
    Link(String, String),
    Unlink(String),
    Mkdir(String),
    Rmdir(String),
}

impl Call {
    pub fn parse(text: &str) -> Call {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{text}: {word} is no number"));
        let own = |word: &str| word.to_owned();
        match words[..] {
            ["create", f] => Call::Create(own(f)),
            ["write", f, at, bytes] => Call::Write(own(f), number(at), bytes_of(bytes)),
            ["set_len", f, len] => Call::SetLen(own(f), number(len)),
            ["sync", f] => Call::Sync(own(f)),
            ["datasync", f] => Call::DataSync(own(f)),
            ["rename", from, to] => Call::Rename(own(from), own(to)),
            ["exchange", a, b] => Call::Exchange(own(a), own(b)),
            ["link", from, to] => Call::Link(own(from), own(to)),
            ["unlink", f] => Call::Unlink(own(f)),
            ["mkdir", d] => Call::Mkdir(own(d)),
            ["rmdir", d] => Call::Rmdir(own(d)),
            _ => panic!("{text} is no call"),
        }
    }
}

/// What is durable before a program begins: `d/`, or a file and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    pub path: String,
    /// `None` for a directory.
    pub bytes: Option<Vec<u8>>,
}

impl Given {
    pub fn parse(text: &str) -> Given {
        match text.split_once(' ') {
            Some((path, bytes)) => Given { path: path.to_owned(), bytes: Some(bytes_of(bytes)) },
            None => {
                Given { path: text.strip_suffix('/').expect("a directory ends with a slash").to_owned(), bytes: None }
            }
        }
    }
}

pub struct Program {
    pub title: String,
    pub given: Vec<Given>,
    pub does: Vec<Call>,
    pub linux: BTreeSet<String>,
    pub strict: BTreeSet<String>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.title, self.does)
    }
}

/// The programs of `allowed.txt`.
pub fn allowed() -> Vec<Program> {
    let text = include_str!("allowed.txt");
    let blocks = text.split("\n\n").filter(|block| !block.trim_start().starts_with('#'));
    blocks.filter(|block| !block.trim().is_empty()).map(parse_program).collect()
}

fn parse_program(block: &str) -> Program {
    let mut lines = block.trim().lines();
    let title = lines.next().expect("a title").to_owned();
    assert!(title.contains("(R"), "{title}: names no rule");
    let (none, mut given, mut does) = (BTreeSet::new(), Vec::new(), Vec::new());
    let (mut linux, mut strict) = (none.clone(), none);
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{title}: {line}"));
        let states = || rest.split('|').map(|s| s.trim().to_owned()).collect::<BTreeSet<String>>();
        match word {
            "given" => given.push(Given::parse(rest.trim())),
            "does" => does = rest.split(';').map(|call| Call::parse(call.trim())).collect(),
            "both" => (linux, strict) = (states(), states()),
            "linux" => (linux, strict) = (states(), states()),
            "strict+" => strict.extend(states()),
            "strict" => strict = states(),
            _ => panic!("{title}: {line}"),
        }
    }
    assert!(!does.is_empty() && !linux.is_empty(), "{title}: says too little");
    Program { title, given, does, linux, strict }
}

/// `a3b1` → `aaab`; a dot is zero.
pub fn bytes_of(runs: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = runs;
    while let Some(letter) = rest.bytes().next() {
        let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
        let count: usize = rest[1..=digits].parse().expect("a letter and a number");
        let byte = if letter == b'.' { 0 } else { letter };
        bytes.resize(bytes.len() + count, byte);
        rest = &rest[1 + digits..];
    }
    bytes
}

/// `aaab` → `a3b1`.
pub fn runs_of(bytes: &[u8]) -> String {
    let (mut runs, mut rest) = (String::new(), bytes);
    while let Some(first) = rest.first() {
        let same = [*first; 64];
        let chunks = rest.chunks_exact(64).take_while(|chunk| *chunk == same).count() * 64;
        let len = chunks + rest[chunks..].iter().take_while(|byte| *byte == first).count();
        runs.push(if *first == 0 { '.' } else { *first as char });
        runs.push_str(&len.to_string());
        rest = &rest[len..];
    }
    runs
}

/// A state: its paths in order, files with their runs.
pub fn state_of(mut found: Vec<String>) -> String {
    found.sort();
    if found.is_empty() { "nothing".to_owned() } else { found.join(" ") }
}
