//! Which tests there are, and which one is meant.

use super::Refused;
use super::args::Select;
use super::build::{Binary, Kind, build};
use super::say::warn;
use std::path::PathBuf;
use std::rc::Rc;

/// A test of a binary.
#[derive(Clone)]
pub struct Test {
    pub binary: Rc<Binary>,
    /// What its binary calls it.
    pub name: String,
    /// The same, crate first.
    pub full: String,
}

impl Test {
    /// The folder in which cargo runs it.
    pub fn folder(&self) -> PathBuf {
        self.binary.folder.clone()
    }
}

/// Builds, lists and selects. Tests that are marked to be ignored are, as by `cargo test`.
pub fn tests(select: &Select, name: Option<&str>) -> Result<Vec<Test>, Refused> {
    let (mut all, mut ignored) = (Vec::new(), Vec::new());
    for binary in build(select, Kind::Test)? {
        list(Rc::new(binary), &mut all, &mut ignored)?;
    }
    let Some(name) = name else {
        if !ignored.is_empty() {
            warn(format_args!("{} marked as ignored, left out: {}", ignored.len(), ignored.join(", ")));
        }
        return if all.is_empty() { Err(Refused("there are no tests here".into())) } else { Ok(all) };
    };
    if let Some(test) = ignored.iter().find(|test| *test == name || test.ends_with(&format!("::{name}"))) {
        return Err(Refused(format!("{test} is marked as ignored: take the mark away to run it")));
    }
    let names: Vec<(&str, &str)> = all.iter().map(|t| (t.full.as_str(), t.name.as_str())).collect();
    let index = pick(&names, name)?;
    Ok(vec![all[index].clone()])
}

fn list(binary: Rc<Binary>, all: &mut Vec<Test>, ignored: &mut Vec<String>) -> Result<(), Refused> {
    if !binary.harness {
        // Its `main` does what it likes with arguments; all of it is one test.
        let name = binary.krate.clone();
        all.push(Test { binary, full: name.clone(), name });
        return Ok(());
    }
    let Some((names, marked)) = names(&binary, &[])?.zip(names(&binary, &["--ignored"])?) else {
        warn(format_args!("{} cannot list its tests and is left out", binary.executable.path().display()));
        return Ok(());
    };
    for name in names {
        let full = format!("{}::{name}", binary.krate);
        if marked.contains(&name) {
            ignored.push(full);
        } else {
            all.push(Test { binary: binary.clone(), name, full });
        }
    }
    Ok(())
}

/// What a binary calls its tests.
fn names(binary: &Binary, which: &[&str]) -> Result<Option<Vec<String>>, Refused> {
    let mut command = binary.executable.command().map_err(Refused)?;
    command.args(["--list", "--format", "terse"]).args(which).current_dir(&binary.folder);
    // Not to enter a World for it.
    command.envs(binary.environment.iter().filter(|(name, _)| !name.starts_with("SIM_")).map(|(k, v)| (k, v)));
    let output = command.output().ok().filter(|output| output.status.success());
    let listed = |output: std::process::Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
    };
    Ok(output.map(listed))
}

/// The one that `name` means: exactly, or as a part that no other has. `names` are full and short ones.
fn pick(names: &[(&str, &str)], name: &str) -> Result<usize, Refused> {
    let matching = |test: &dyn Fn(&(&str, &str)) -> bool| -> Vec<usize> {
        names.iter().enumerate().filter(|(_, n)| test(n)).map(|(i, _)| i).collect()
    };
    let mut found = matching(&|(full, _)| *full == name);
    if found.is_empty() {
        found = matching(&|(_, short)| *short == name);
    }
    if found.is_empty() {
        found = matching(&|(full, _)| full.contains(name));
    }
    let listed = |indexes: &[usize]| {
        const MOST: usize = 50;
        let mut text: String = indexes.iter().take(MOST).map(|i| format!("\n  {}", names[*i].0)).collect();
        if indexes.len() > MOST {
            text.push_str(&format!("\n  … and {} more", indexes.len() - MOST));
        }
        text
    };
    match found[..] {
        [one] => Ok(one),
        [] => {
            let all: Vec<usize> = (0..names.len()).collect();
            Err(Refused(format!("there is no test {name}; expected one of{}", listed(&all))))
        }
        _ => Err(Refused(format!("{name} is a part of several names; expected one of{}", listed(&found)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, &str); 4] = [
        ("kv::lost", "lost"),
        ("kv::lost_writes", "lost_writes"),
        ("api::lost_reads", "lost_reads"),
        ("api::m::x", "m::x"),
    ];

    #[test]
    fn a_name_is_exact_or_a_part_that_no_other_has() {
        let picked = |name| pick(&NAMES, name).map_err(|Refused(message)| message);
        assert_eq!(picked("lost"), Ok(0));
        assert_eq!(picked("kv::lost_writes"), Ok(1));
        assert_eq!(picked("reads"), Ok(2));
        assert!(
            picked("lost_").is_err_and(|m| m.contains("several") && m.contains("kv::lost_writes\n  api::lost_reads"))
        );
        assert!(picked("stale").is_err_and(|m| m.contains("no test stale") && m.contains("api::m::x")));
    }
}
