//! Where what was heard goes: the terminal, the progress bar, the JSON file, the JUnit report.

use super::Refused;
use super::junit::{Case, junit};
use super::say::{say, warn};
use super::select::Test;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Failing runs that are said of a test that was interrupted.
const MOST_SAID: usize = 10;

pub struct Output {
    json: Option<(PathBuf, BufWriter<File>)>,
    junit: Option<(PathBuf, File)>,
    /// Whether a file took everything so far.
    written: bool,
    bar: ProgressBar,
    seeds: u64,
    failed: u64,
    cases: Vec<Case>,
    /// Failing runs of the test that is running.
    failures: Vec<String>,
}

impl Output {
    /// Opens the files, before anything runs: one that cannot be written is misuse.
    pub fn open(json: Option<&Path>, junit: Option<&Path>) -> Result<Output, Refused> {
        let create = |path: &Path| match File::create(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(e) => Err(Refused(format!("{} cannot be written: {e}", path.display()))),
        };
        let json = json.map(create).transpose()?.map(|(path, file)| (path, BufWriter::new(file)));
        Ok(Output {
            json,
            junit: junit.map(create).transpose()?,
            written: true,
            bar: ProgressBar::hidden(),
            seeds: 0,
            failed: 0,
            cases: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Seeds run, and how many of them failed.
    pub fn seeds(&self) -> (u64, u64) {
        (self.seeds, self.failed)
    }

    pub fn message(&mut self, test: &Test, message: &Value) {
        match message["type"].as_str() {
            Some("hello") => self.begin_bar(test, message["seeds"].as_u64().unwrap_or(0)),
            Some("progress") => {
                self.bar.set_length(message["seeds"].as_u64().unwrap_or(0));
                self.bar.set_position(message["done"].as_u64().unwrap_or(0));
                self.bar.set_message(format!("{} failed", message["failed"]));
            }
            Some("say") => {
                let text = message["text"].as_str().unwrap_or_default();
                self.bar.suspend(|| say(text));
            }
            Some("verdict") => {
                self.seeds += 1;
                if message["verdict"] != "passed" {
                    self.failed += 1;
                    self.failures.push(format!(
                        "seed {}: {}\n{}",
                        message["seed"].as_str().unwrap_or_default(),
                        message["message"].as_str().unwrap_or_default(),
                        message["replay"].as_str().unwrap_or_default()
                    ));
                }
                self.write_json(message);
            }
            Some("tape" | "end") => self.write_json(message),
            _ => {}
        }
    }

    /// A test is over; `why` it failed, if it did and no verdict says it.
    pub fn ended(&mut self, test: &Test, took: Duration, why: Option<&str>) {
        let mut failures = std::mem::take(&mut self.failures);
        if let Some(why) = why.filter(|_| failures.is_empty()) {
            failures.push(why.to_owned());
        }
        self.cases.push(Case { krate: test.binary.krate.clone(), name: test.name.clone(), took, failures });
    }

    /// Says how the runs of the running test failed that are known by now: it cannot say it itself.
    pub fn say_failures(&self) {
        self.failures.iter().take(MOST_SAID).for_each(say);
        if self.failures.len() > MOST_SAID {
            say(format_args!("… and {} more", self.failures.len() - MOST_SAID));
        }
    }

    pub fn clear_bar(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    /// Writes what is written at the end. Whether the files have everything: if not, it was said.
    #[must_use]
    pub fn finish(mut self) -> bool {
        if let Some((path, mut file)) = self.junit.take() {
            let wrote = junit(&self.cases).and_then(|text| file.write_all(&text));
            if let Err(e) = wrote {
                warn(format_args!("{} could not be written: {e}", path.display()));
                self.written = false;
            }
        }
        if let Some((path, mut file)) = self.json.take()
            && let Err(e) = file.flush()
        {
            warn(format_args!("{} could not be written to its end: {e}", path.display()));
            self.written = false;
        }
        self.written
    }

    fn write_json(&mut self, message: &Value) {
        let Some((path, file)) = &mut self.json else { return };
        if let Err(e) = writeln!(file, "{message}") {
            warn(format_args!("{} can no longer be written, verdicts follow here only: {e}", path.display()));
            self.written = false;
            // Whatever is still in its buffer would fail again.
            let _full = self.json.take().map(|(_, file)| file.into_parts());
        }
    }

    fn begin_bar(&mut self, test: &Test, seeds: u64) {
        // Drawn on standard error, and only if that is a terminal.
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} seeds, {msg}, {per_sec}, {eta} left");
        self.bar = ProgressBar::new(seeds).with_prefix(test.full.clone()).with_message("0 failed");
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_take_its_end_is_no_success() {
        let full = Path::new("/dev/full");
        let open = |json, junit| Output::open(json, junit).unwrap_or_else(|Refused(message)| panic!("{message}"));
        let written = |mut output: Output| {
            output.write_json(&serde_json::json!({ "type": "verdict" }));
            output.finish()
        };
        assert!(!written(open(Some(full), None)) && !written(open(None, Some(full))));
        let null = Some(Path::new("/dev/null"));
        assert!(written(open(None, None)) && written(open(null, null)));
    }
}
