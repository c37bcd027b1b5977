//! Each test in a process of its own, several at a time.

use super::Mode;
use super::class::Class;
use super::project::Built;
use crate::app::of_the_shell;
use crate::app::say::warn;
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub struct How<'a> {
    pub mode: Mode,
    pub jobs: usize,
    pub timeout: Duration,
    /// In which tests run.
    pub folder: &'a Path,
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// One test and how it ended.
pub struct Tested {
    pub file: String,
    pub test: String,
    pub class: Class,
    pub end: End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Passed,
    /// Marked so in its source.
    Ignored,
    /// Why.
    Failed(String),
    /// It did not end in time.
    Hung,
    /// What the compiler said.
    NotBuilt(String),
}

impl End {
    /// One word.
    pub fn name(&self) -> &'static str {
        match self {
            End::Passed => "passed",
            End::Ignored => "ignored",
            End::Failed(_) => "failed",
            End::Hung => "hung",
            End::NotBuilt(_) => "not built",
        }
    }

    /// Why it is a failure, if it is one.
    pub fn failure(&self) -> Option<&str> {
        match self {
            End::Passed | End::Ignored => None,
            End::Failed(why) | End::NotBuilt(why) => Some(why),
            End::Hung => Some("it did not end in time"),
        }
    }
}

/// Runs all tests of all files, in the order of their names.
pub fn all(files: &[Built], how: &How) -> Result<Vec<Tested>, String> {
    let mut results = Vec::new();
    let mut waiting = Vec::new();
    for file in files {
        let tested = |test: &str, end| {
            let class = file.source.of(test);
            Tested { file: file.name.clone(), test: test.to_owned(), class, end }
        };
        match &file.binary {
            Err(error) => results.extend(file.source.names().map(|test| tested(test, End::NotBuilt(error.clone())))),
            Ok(binary) => {
                let ignored = list(binary, &["--ignored"])?;
                for test in list(binary, &[])? {
                    if !ignored.contains(&test) {
                        waiting.push((results.len(), binary));
                    }
                    results.push(tested(&test, End::Ignored));
                }
            }
        }
    }
    let place =
        tempfile::Builder::new().prefix("conformance").tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let next = AtomicUsize::new(0);
    let ends = Mutex::new(Vec::new());
    let work = |worker: usize| -> Result<(), String> {
        let own = place.path().join(worker.to_string());
        while let Some((index, binary)) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
            if (how.interrupted)() {
                return Err("interrupted".into());
            }
            let Tested { file, test, .. } = &results[*index];
            let end = one(file, test, binary, &own, how);
            ends.lock().map_err(|_| "a worker panicked".to_owned())?.push((*index, end?));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..how.jobs).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| Err("a worker panicked".into())))
    })?;
    for (index, end) in ends.into_inner().map_err(|_| "a worker panicked")? {
        results[index].end = end;
    }
    Ok(results)
}

fn list(binary: &Path, arguments: &[&str]) -> Result<Vec<String>, String> {
    let told = |what: &dyn std::fmt::Display| format!("{}: {what}", binary.display());
    let listed =
        Command::new(binary).args(["--list", "--format", "terse"]).args(arguments).stdin(Stdio::null()).output();
    let listed = listed.map_err(|e| told(&e))?;
    if !listed.status.success() {
        return Err(told(&format_args!("its tests cannot be listed ({})", listed.status)));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect())
}

/// Runs one test. `own` is a folder for what it leaves behind.
fn one(file: &str, test: &str, binary: &Path, own: &Path, how: &How) -> Result<End, String> {
    let told = |e: io::Error| format!("{file}::{test}: {e}");
    // Seeds that failed before are not run first: every run is to ask the same.
    match fs::remove_dir_all(own) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told(e)),
        _ => fs::create_dir_all(own).map_err(told)?,
    }
    let (results, output) = (own.join("results"), own.join("output"));
    let mut command = Command::new(binary);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).current_dir(how.folder);
    // Whoever runs them is to find the same.
    of_the_shell().chain(["SIM_DROP_IN"]).for_each(|name| {
        command.env_remove(name);
    });
    command.env("CARGO_MANIFEST_DIR", how.folder).env("CARGO_PKG_NAME", "conformance");
    if how.mode != Mode::Off {
        command.envs([("SIM_DROP_IN", "1"), ("SIM_MODE", "sweep"), ("SIM_TEST_CRATE", file)]);
        // All of them share so many jobs: with fewer, one would wait while another runs.
        command.env("SIM_JOBS", how.jobs.to_string());
        // None of them computes for a second between two waits: who does for five, never waits again.
        command.env("SIM_WATCHDOG", "5s");
        command.env("SIM_DIR", own).env("SIM_RESULTS", &results);
        match how.mode {
            Mode::Seeds(seeds) => command.env("SIM_SEEDS", seeds.to_string()),
            _ => command.env("SIM_CALM", "1"),
        };
    }
    let to = File::create(&output).map_err(told)?;
    command.stdin(Stdio::null()).stdout(to.try_clone().map_err(told)?).stderr(to).process_group(0);
    let mut child = command.spawn().map_err(told)?;
    let Some(status) = wait(&mut child, how).map_err(told)? else {
        warn(format_args!("{file}::{test} was ended, it took too long"));
        return Ok(End::Hung);
    };
    Ok(judge(status, how.mode, &read(&results), &read(&output)))
}

fn read(path: &Path) -> String {
    // It may have died before it wrote anything, and may print what is no text.
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits for the end; `None` where it did not come in time.
fn wait(child: &mut Child, how: &How) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > how.timeout || (how.interrupted)() {
            // The processes that it started are of its group.
            let group = format!("-{}", child.id());
            let _all_gone = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn judge(status: ExitStatus, mode: Mode, results: &str, output: &str) -> End {
    let mut lines = results.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    if status.success() {
        let simulated = lines.any(|line| line["type"] == "end" && line["status"] == "clean");
        return match mode {
            Mode::Off => End::Passed,
            _ if simulated => End::Passed,
            _ => End::Failed("it passed outside the simulator, where it was to run in it".into()),
        };
    }
    let failed = lines.filter(|line| line["type"] == "verdict").find(|line| line["verdict"] != "passed");
    let why = match failed {
        Some(line) => {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let place = if line["location"].is_string() { format!(" at {}", text("location")) } else { String::new() };
            format!("{}: {}{place}", text("verdict"), first_line(&text("message")))
        }
        None => {
            let said = output.lines().skip_while(|line| !line.contains("panicked at"));
            let said: String = said.take(2).flat_map(|line| [line.trim(), " "]).collect();
            if said.is_empty() { status.to_string() } else { said.trim_end().to_owned() }
        }
    };
    End::Failed(why)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    /// A binary that never entered the simulator passed on the real system, and was counted as one that passes in it.
    #[test]
    fn a_test_that_was_to_be_simulated_passes_only_if_it_was() {
        let (good, bad) = (ExitStatus::from_raw(0), ExitStatus::from_raw(101 << 8));
        let clean = r#"{"type":"end","status":"clean"}"#;
        let failed = r#"{"type":"verdict","verdict":"deadlock","message":"t waits\nfor u"}"#;
        assert_eq!(judge(good, Mode::Calm, clean, ""), End::Passed);
        assert_eq!(judge(good, Mode::Off, "", ""), End::Passed);
        let outside = judge(good, Mode::Seeds(3), "", "");
        assert!(outside.failure().is_some_and(|why| why.contains("outside the simulator")), "{outside:?}");
        assert_eq!(judge(bad, Mode::Calm, failed, ""), End::Failed("deadlock: t waits".into()));
    }
}
