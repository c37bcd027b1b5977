//! Every seed twice: the second time in a new process, with another folder, another environment, another order and one
//! job. What a seed does not decide shows as a digest that differs.

use super::Refused;
use super::args::AuditArgs;
use super::process::{Ended, Interrupt, run_test_in};
use super::say::say;
use super::select::Test;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Seeds whose difference is looked into, per test.
const MOST_SHOWN: usize = 3;

/// By seed: digest and verdict.
type Digests = BTreeMap<String, (String, String)>;

pub fn audit(tests: &[Test], args: &AuditArgs, interrupt: &Interrupt) -> Result<bool, Refused> {
    let temporary = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let (mut same, mut differ, mut failed) = (0, 0, 0);
    let env = args.environment();
    for test in tests {
        let Some(first) = digests(test, &test.folder(), &env, interrupt)? else { continue };
        let elsewhere = twin(&test.folder(), temporary.path()).map_err(|e| format!("no temporary folder: {e}"))?;
        let mut other = env.clone();
        other.extend(other_environment());
        let Some(second) = digests(test, &elsewhere, &other, interrupt)? else { continue };
        if interrupt.is_pressed() {
            say(format_args!("cargo sim: interrupted in {}; what was found so far:", test.full));
            break;
        }
        let bad = first.values().filter(|(_, verdict)| verdict != "passed").count();
        failed += bad;
        let differing: Vec<&String> = first.iter().filter(|(s, d)| second.get(*s) != Some(d)).map(|(s, _)| s).collect();
        say(format_args!(
            "sim: test={} seeds={} same={} differ={} failed={bad}",
            test.full,
            first.len(),
            first.len() - differing.len(),
            differing.len()
        ));
        for seed in differing.iter().take(MOST_SHOWN) {
            let nothing = ("none".to_owned(), "not run".to_owned());
            let (a, b) = (&first[*seed], second.get(*seed).unwrap_or(&nothing));
            say(format_args!("  seed {seed}: digest {} ({}), elsewhere {} ({})", a.0, a.1, b.0, b.1));
            let env = args.looking_into(seed);
            say(format_args!("    {}", difference(test, &elsewhere, &env, interrupt)?));
        }
        same += first.len() - differing.len();
        differ += differing.len();
    }
    say(format_args!("{same} seeds the same, {differ} differ, {failed} failed"));
    Ok(differ == 0 && failed == 0)
}

pub(super) fn other_environment() -> Vec<(String, String)> {
    [("SIM_REVERSE", "1".to_owned()), ("SIM_JOBS", "1".to_owned()), ("AUDIT_PADDING", "x".repeat(3000))]
        .map(|(k, v)| (k.to_owned(), v))
        .to_vec()
}

/// Levels above a package's folder that its twin has, too: what a test reads by a relative path is mostly in its workspace.
const LEVELS: usize = 3;

/// A folder with another path than `folder`, in which and around which the same is found.
fn twin(folder: &Path, under: &Path) -> io::Result<PathBuf> {
    let Some((parent, name)) = folder.parent().zip(folder.file_name()) else { return Ok(under.to_owned()) };
    let mut levels: Vec<&Path> = parent.ancestors().take(LEVELS).collect();
    levels.reverse();
    let mut at = under.join("elsewhere");
    let _of_the_last_test = fs::remove_dir_all(&at);
    for (i, level) in levels.iter().enumerate() {
        let inner = levels.get(i + 1).and_then(|inner| inner.file_name()).unwrap_or(name);
        links(level, &at, Some(inner))?;
        at.push(inner);
    }
    links(folder, &at, None)?;
    Ok(at)
}

/// Makes `to`, with a link in it for each entry of `from` but `omitted`. What may not be listed has none.
fn links(from: &Path, to: &Path, omitted: Option<&OsStr>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).into_iter().flatten().flatten().map(|entry| entry.file_name());
    entries.filter(|name| Some(&**name) != omitted).try_for_each(|name| symlink(from.join(&name), to.join(&name)))
}

/// Runs a test's seeds; `None` for a plain test.
fn digests(
    test: &Test,
    folder: &Path,
    env: &[(String, String)],
    interrupt: &Interrupt,
) -> Result<Option<Digests>, Refused> {
    let mut found = Digests::new();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let ended = run_test_in(test, folder, env, interrupt, &mut |message| {
        if message["type"] == "verdict" {
            found.insert(text(&message["seed"]), (text(&message["digest"]), text(&message["verdict"])));
        }
    })?;
    Ok((!matches!(ended, Ended::Plain { .. })).then_some(found))
}

/// Where the two runs of a seed part, in words.
fn difference(
    test: &Test,
    elsewhere: &Path,
    env: &[(String, String)],
    interrupt: &Interrupt,
) -> Result<String, Refused> {
    let traced = |folder: &Path, env: &[(String, String)]| -> Result<Vec<String>, Refused> {
        let mut lines = Vec::new();
        run_test_in(test, folder, env, interrupt, &mut |message| {
            if message["type"] == "say" {
                let text = message["text"].as_str().unwrap_or_default().lines();
                // The verdict line has the real time in it.
                lines.extend(text.filter(|line| !line.starts_with("sim: ")).map(str::to_owned));
            }
        })?;
        Ok(lines)
    };
    let here = traced(&test.folder(), env)?;
    let there = traced(elsewhere, &[env, &other_environment()].concat())?;
    let first = here.iter().zip(&there).position(|(a, b)| a != b);
    Ok(match first {
        Some(i) => format!(
            "the first event that differs, line {} of the trace with its polls:\n      here      {}\n      elsewhere {}",
            i + 1,
            here[i],
            there[i]
        ),
        None if here.len() != there.len() => format!("one trace ends after {} lines", here.len().min(there.len())),
        None => "their traces are the same: replayed alone, this seed gave the same run twice".into(),
    })
}
