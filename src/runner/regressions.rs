//! Seeds that failed once: `sim-regressions/TEST.txt` beside the manifest of the test's package, run first by every later
//! sweep.
//!
//! One line a seed: seed, digest, fingerprint and the command that replays it, with tabs between them. Lines that begin
//! with `#` are for people. Keep the file under version control; delete a line when its seed has nothing left to say.

use super::orders::{Misuse, parse_seed};
use crate::report::Report;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Regression {
    pub seed: u64,
    pub digest: u64,
    pub fingerprint: String,
}

/// The file of a test.
pub(super) fn path(folder: &Path, test: &str) -> PathBuf {
    folder.join("sim-regressions").join(format!("{}.txt", test.replace("::", ".")))
}

/// Reads the file; no file is an empty one.
pub(super) fn read(path: &Path) -> Result<Vec<Regression>, Misuse> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Misuse(format!("the regression file {} cannot be read: {e}", path.display()))),
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(i, line)| {
            let mut fields = line.split('\t');
            let seed = fields.next().and_then(parse_seed);
            let digest = fields.next().and_then(parse_seed);
            match (seed, digest, fields.next()) {
                (Some(seed), Some(digest), Some(fingerprint)) => {
                    Ok(Regression { seed, digest, fingerprint: fingerprint.to_owned() })
                }
                _ => Err(Misuse(format!(
                    "{}:{}: expected seed, digest, fingerprint and command with tabs between them, found: {line}",
                    path.display(),
                    i + 1
                ))),
            }
        })
        .collect()
}

/// Appends failures that are not in the file yet, one line for each seed and fingerprint; says how many were new.
pub(super) fn append(path: &Path, known: &[Regression], failures: &[(&Report, String)]) -> io::Result<usize> {
    let is_known =
        |r: &Report| known.iter().any(|k| k.seed == r.seed && k.fingerprint == one_line(&r.verdict.fingerprint()));
    let fresh: Vec<_> = failures.iter().filter(|(report, _)| !is_known(report)).collect();
    if fresh.is_empty() {
        return Ok(0);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut text = String::new();
    if !path.exists() {
        text.push_str("# Seeds that failed once, run first by every sweep: seed, digest, fingerprint, command.\n");
    }
    for (report, command) in &fresh {
        let fingerprint = one_line(&report.verdict.fingerprint());
        text.push_str(&format!("{:#x}\t{:#018x}\t{fingerprint}\t{command}\n", report.seed, report.digest));
    }
    // One write, so that two processes that append at the same time do not mix their lines.
    std::fs::File::options().create(true).append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(fresh.len())
}

fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
