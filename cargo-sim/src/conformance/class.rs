//! Which tests are about what: by the name of their file, and within it by what they ask for.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What a test is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Needs no runtime of its own: `sync`, traits and utilities of `io`, macros.
    A,
    /// Runs on one thread: time, tasks, runtime, sockets, files.
    S,
    /// Asks for the multi-thread flavour.
    M,
    /// Calls the system itself: threads, `std::net`, descriptors, raw sockets.
    O,
    /// About processes, io_uring, Windows and unstable features, which are not simulated; and signals, which are: `--only 'signal_*'`.
    N,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::A, Class::S, Class::M, Class::O, Class::N];

    pub fn letter(self) -> char {
        char::from(b"ASMON"[self as usize])
    }
}

/// Classes by their letters.
pub fn several(text: &str) -> Result<Vec<Class>, String> {
    let class = |letter| Class::ALL.into_iter().find(|c| c.letter() == letter);
    text.chars().map(|l| class(l).ok_or_else(|| "expected some of the letters A, S, M, O, N".into())).collect()
}

/// The first that fits decides; the others are of class S.
const FILES: [(Class, &str); 3] = [
    (
        Class::N,
        "process_* signal_* fs_uring* io_async_fd* io_poll_aio net_unix_pipe net_named_pipe tracing_* dump task_trace_* \
         *_windows rt_unstable_* rt_worker_index rt_poll_callbacks time_wasm task_builder task_hooks task_yield_now \
         *emscripten* _require_full io_driver_drop net_quickack net_bind_resource uds_cred rt_blocking_thread_exhaust \
         rt_busy_tick",
    ),
    (Class::M, "rt_threaded time_alt rt_spawn_blocking"),
    (
        Class::A,
        "async_send_sync duplex_stream io_async_read io_buf_* io_chain io_copy io_join io_lines io_mem_stream io_read* \
         io_repeat io_sink io_split io_take io_util_empty io_write* macros_* sync_* unwindsafe",
    ),
];

/// What in its body makes a test one of class O.
const SYSTEM: [&str; 12] = [
    "std::thread",
    "thread::spawn",
    "thread::scope",
    "thread::Builder",
    "thread::sleep",
    "std::net::",
    "std::os::",
    "socket2",
    "mio::",
    "nix::",
    "libc::",
    "as_raw_fd",
];

/// The class of a file, by its name without `.rs`.
pub fn of_file(file: &str) -> Class {
    let listed = |patterns: &str| patterns.split_whitespace().any(|p| fits(p.as_bytes(), file.as_bytes()));
    FILES.into_iter().find(|(_, patterns)| listed(patterns)).map_or(Class::S, |(class, _)| class)
}

/// Whether a file may have tests of one of these classes: those of classes A and S have some of M and O.
pub fn may_hold(file: &str, classes: &[Class]) -> bool {
    let own = of_file(file);
    let mixed = matches!(own, Class::A | Class::S);
    classes.iter().any(|class| *class == own || mixed && matches!(class, Class::M | Class::O))
}

/// The tests of one file, as far as they can be found by reading it.
pub struct File {
    class: Class,
    /// By the last part of the name; macros make one function a test of several modules.
    tests: BTreeMap<String, Found>,
}

#[derive(Default)]
struct Found {
    threads: bool,
    system: bool,
}

impl File {
    /// Reads a file that rustfmt has written: a function ends with the first brace that stands where it began.
    pub fn read(file: &str, text: &str) -> File {
        let mut tests = BTreeMap::new();
        let (mut attributes, mut is_test) = (String::new(), false);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("#[")
                || !attributes.is_empty() && attributes.matches('[').count() > attributes.matches(']').count()
            {
                is_test |= is_attribute_of_test(trimmed);
                attributes.push_str(trimmed);
                continue;
            }
            if let Some(name) = name_of_function(trimmed).filter(|_| is_test) {
                let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
                let body: String =
                    lines.by_ref().take_while(|line| *line != end).flat_map(|line| [line, "\n"]).collect();
                let found = Found {
                    threads: attributes.contains("multi_thread") || body.contains("new_multi_thread"),
                    system: SYSTEM.iter().any(|word| body.contains(word)) || body.contains("std::sync::Barrier"),
                };
                tests.insert(name.to_owned(), found);
            }
            if !trimmed.starts_with("//") {
                attributes.clear();
                is_test = false;
            }
        }
        File { class: of_file(file), tests }
    }

    /// The names of its tests.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tests.keys().map(String::as_str)
    }

    /// The class of a test, by its name with those of its modules.
    pub fn of(&self, test: &str) -> Class {
        if matches!(self.class, Class::N | Class::M) {
            return self.class;
        }
        let found = self.tests.get(test.rsplit("::").next().unwrap_or(test));
        match found {
            _ if test.contains("threaded") => Class::M,
            Some(Found { threads: true, .. }) => Class::M,
            Some(Found { system: true, .. }) => Class::O,
            _ => self.class,
        }
    }
}

/// `#[test]`, `#[tokio::test(…)]`, `#[maybe_tokio_test]`.
fn is_attribute_of_test(line: &str) -> bool {
    let path: String = line.chars().skip(2).take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
    let last = path.rsplit("::").next().unwrap_or("");
    last == "test" || last.ends_with("tokio_test")
}

fn name_of_function(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let qualifiers = ["pub", "async", "unsafe", "const"];
    before.split_whitespace().all(|word| qualifiers.contains(&word)).then_some(())?;
    after.split(['(', '<']).next()
}

/// A pattern in which `*` stands for any text.
#[derive(Clone, Debug)]
pub struct Glob(String);

impl Glob {
    pub fn fits(&self, name: &str) -> bool {
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

impl FromStr for Glob {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Glob, Self::Err> {
        Ok(Glob(text.to_owned()))
    }
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        Some((letter, rest)) => name.first() == Some(letter) && fits(rest, &name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_the_class_that_lists_it_first() {
        let classes: String = [
            "sync_mpsc",
            "io_read_to_end",
            "rt_threaded",
            "process_arg0",
            "fs_open_options_windows",
            "net_lookup_host",
        ]
        .map(|file| of_file(file).letter())
        .into_iter()
        .collect();
        assert_eq!(classes, "AAMNNS");
        let held =
            |file| Class::ALL.into_iter().filter(|c| may_hold(file, &[*c])).map(Class::letter).collect::<String>();
        assert_eq!(["sync_mpsc", "net_lookup_host", "rt_threaded", "dump"].map(held), ["AMO", "SMO", "M", "N"]);
    }

    #[test]
    fn a_test_is_classed_by_what_it_asks_for() {
        let text = "\
#[tokio::test]
async fn plain() {
    accept().await;
}

#[tokio::test(
    flavor = \"multi_thread\"
)]
// On two threads.
async fn threads() {
}

fn no_test() {
    std::thread::spawn(|| ());
}

mod inner {
    #[test]
    #[should_panic]
    fn system() {
        if true {
            std::thread::spawn(|| ());
        }
    }
}
";
        let file = File::read("net", text);
        assert_eq!(file.names().collect::<Vec<_>>(), ["plain", "system", "threads"]);
        let classes = ["plain", "threads", "inner::system", "threaded_scheduler::plain", "unknown"];
        assert_eq!(classes.map(|test| file.of(test)), [Class::S, Class::M, Class::O, Class::M, Class::S]);
        assert_eq!(File::read("time_alt", text).of("plain"), Class::M);
    }
}
