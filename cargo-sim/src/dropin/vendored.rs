//! Projects that keep the source of their dependencies in a folder of their own (`cargo vendor`). What sim is built on is
//! not in that folder, so one is made that has both: links to all of theirs, and to what cargo has downloaded of ours.

use super::files::{Wish, Wishes, bring_about};
use crate::metadata::{Package, cargo, metadata_by};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use toml_edit::DocumentMut;

/// The name of cargo's file in every package of such a folder.
const CHECKSUM: &str = ".cargo-checksum.json";

/// The folder that a package comes from, if it is such a one.
pub fn folder_of(package: &Path) -> Option<PathBuf> {
    package.join(CHECKSUM).is_file().then(|| package.parent().map(Path::to_owned))?
}

/// Makes a folder of all packages in `theirs` and of what the crate `sim` at a path is built on.
pub fn join(theirs: &Path, sim: &Path, joined: &Path, platform: &str, offline: bool) -> Result<(), String> {
    let mut wishes = Wishes::new();
    let entries = fs::read_dir(theirs).map_err(|e| format!("{}: {e}", theirs.display()))?;
    for entry in entries.flatten().filter(|e| e.path().join(CHECKSUM).is_file()) {
        wishes.insert(entry.file_name().into(), Wish::Link(entry.path()));
    }
    let has = versions_in(theirs);
    for (package, checksum) in ours(sim, platform, offline)? {
        if has.contains(&(package.name.clone(), package.version.clone())) {
            continue;
        }
        let below = PathBuf::from(format!("{}-{}-of-sim", package.name, package.version));
        let entries = fs::read_dir(package.folder()).map_err(|e| format!("{}: {e}", package.folder().display()))?;
        for entry in entries.flatten().filter(|e| e.file_name() != CHECKSUM) {
            wishes.insert(below.join(entry.file_name()), Wish::Link(entry.path()));
        }
        let text = serde_json::json!({ "files": {}, "package": checksum }).to_string();
        wishes.insert(below.join(CHECKSUM), Wish::File(text.into_bytes()));
        wishes.insert(below, Wish::Folder);
    }
    bring_about(joined, &wishes)
}

/// What tells cargo to look there.
pub fn arguments(joined: &Path) -> Vec<String> {
    let path = toml_edit::Value::from(joined.display().to_string());
    let settings =
        ["source.crates-io.replace-with=\"sim-joined\"".to_owned(), format!("source.sim-joined.directory={path}")];
    settings.into_iter().flat_map(|setting| ["--config".into(), setting]).collect()
}

/// Name and version of each package in a folder.
fn versions_in(folder: &Path) -> BTreeSet<(String, String)> {
    let of = |path: PathBuf| {
        let manifest: DocumentMut = fs::read_to_string(path.join("Cargo.toml")).ok()?.parse().ok()?;
        let text = |key: &str| Some(manifest.get("package")?.get(key)?.as_str()?.to_owned());
        Some((text("name")?, text("version")?))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| of(entry.path())).collect()
}

/// What sim is built on from crates.io, with the checksums of its own lock file.
fn ours(sim: &Path, platform: &str, offline: bool) -> Result<Vec<(Package, String)>, String> {
    // Away from the project, or its configuration would send cargo to the folder again.
    let mut command = cargo();
    command.current_dir(sim);
    let mut arguments = vec!["--locked".to_owned(), "--filter-platform".into(), platform.into()];
    arguments.extend(offline.then(|| "--offline".into()));
    let graph = metadata_by(command, Some(&sim.join("Cargo.toml")), &arguments).map_err(|cargo| {
        format!("{cargo}\nthis project's dependencies are vendored, and what the crate sim is built on is not at hand: run once with a network")
    })?;
    let path = sim.join("Cargo.lock");
    let lock = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lock: DocumentMut = lock.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    let locked = lock.get("package").and_then(|p| p.as_array_of_tables());
    let text = |t: &toml_edit::Table, key: &str| t.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let checksums: BTreeMap<(String, String), String> = locked
        .into_iter()
        .flatten()
        .filter_map(|t| Some(((text(t, "name")?, text(t, "version")?), text(t, "checksum")?)))
        .collect();
    let root = graph.named("sim").find(|p| p.source.is_none()).map(|p| p.id.clone()).unwrap_or_default();
    let built_on: Vec<String> = graph.built_on(&root).iter().map(|p| p.id.clone()).collect();
    let found = graph.packages.into_iter().filter(|p| built_on.contains(&p.id) && p.is_from_crates_io());
    Ok(found
        .filter_map(|p| {
            let checksum = checksums.get(&(p.name.clone(), p.version.clone()))?.clone();
            Some((p, checksum))
        })
        .collect())
}
