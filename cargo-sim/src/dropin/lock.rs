//! The shadow's lock file, where it must give way: a project may have locked versions that are older than what sim can be
//! built on, and cargo does not move a locked version for a patched package by itself.

use super::files;
use crate::metadata::cargo;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use toml_edit::{DocumentMut, Item};

/// The packages whose locked versions are in the way, from what cargo says of a conflict.
pub fn conflicting(cargo: &str) -> Vec<String> {
    let quoted = |line: &str, before: &str| {
        let name = line.trim_start().strip_prefix(before)?.split(['`', ' ']).next()?;
        (name != "tokio" && !name.is_empty()).then(|| name.to_owned())
    };
    let mut names: Vec<String> = cargo.lines().filter_map(|l| quoted(l, "previously selected package `")).collect();
    if names.is_empty() {
        names.extend(cargo.lines().find_map(|l| quoted(l, "error: failed to select a version for `")));
        names.extend(cargo.lines().find_map(|l| quoted(l, "error: failed to select a version for the requirement `")));
    }
    names
}

/// Lets packages move to newer versions in a lock file; whether any could. `arguments` tell cargo where it finds them.
///
/// By cargo without the patch where it can: what it then locks is a whole. A package that is only taken out lets go of all
/// that the project's own packages depend on, tokio with them, and cargo then looks past the patched one without a word.
pub fn let_go(path: &Path, names: &[String], arguments: &[String]) -> Result<bool, String> {
    let told = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = fs::read_to_string(path).map_err(|e| told(&e))?;
    let mut lock: DocumentMut = text.parse().map_err(|e| told(&e))?;
    let Some(packages) = lock.get_mut("package").and_then(Item::as_array_of_tables_mut) else { return Ok(false) };
    let word = |p: &toml_edit::Table, key: &str| p.get(key).and_then(|w| w.as_str()).map(str::to_owned);
    // Not those of the project itself, which have no source.
    let is_named =
        |p: &toml_edit::Table| p.contains_key("source") && word(p, "name").is_some_and(|name| names.contains(&name));
    let named = packages.iter().filter(|p| is_named(p));
    let named: Vec<String> =
        named.filter_map(|p| Some(format!("{}@{}", word(p, "name")?, word(p, "version")?))).collect();
    if named.is_empty() {
        return Ok(false);
    }
    let mut command = cargo();
    command.arg("update").args(&named).arg("--manifest-path").arg(path.with_file_name("Cargo.toml")).args(arguments);
    let updated = command.stdin(Stdio::null()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    if updated.status.success() && fs::read_to_string(path).map_err(|e| told(&e))? != text {
        return Ok(true);
    }
    packages.retain(|p| !is_named(p));
    files::write(path, lock.to_string().as_bytes()).map_err(|e| told(&e))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_the_versions_that_are_in_the_way() {
        let cargo = "error: failed to select a version for `tracing-core`.\n    ... required by package `tracing-subscriber \
                     v0.3.0`\nall possible versions conflict with previously selected packages.\n\n  previously selected \
                     package `tracing-core v0.1.18`\n    ... which satisfies dependency `tracing-core = \"^0.1.18\"`\n";
        assert_eq!(conflicting(cargo), ["tracing-core"]);
        assert_eq!(conflicting("error: failed to select a version for `libc`.\n"), ["libc"]);
        let none =
            "error: no matching package named `hdrhistogram` found\n  previously selected package `tokio v1.32.0`\n";
        assert!(conflicting(none).is_empty());
    }

    #[test]
    fn only_locked_packages_that_are_named_are_let_go() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("Cargo.lock");
        let text = "version = 4\n\n[[package]]\nname = \"libc\"\nversion = \"0.2.98\"\nsource = \"registry\"\n\n\
                    [[package]]\nname = \"mine\"\nversion = \"1.0.0\"\n";
        fs::write(&path, text).expect("written");
        assert_eq!(let_go(&path, &["mine".into(), "bytes".into()], &[]), Ok(false));
        assert_eq!(let_go(&path, &["libc".into()], &[]), Ok(true));
        let left = fs::read_to_string(&path).expect("is there");
        assert!(left.contains("mine") && !left.contains("libc"), "{left}");
    }
}
