//! The generated tokio: a copy of exactly the version that a project has locked, with the hunks applied and one more
//! dependency, the crate `sim`.
//!
//! It stays named `tokio`, of the same version, with every feature: cargo takes a patch only then. Its tests, benches and
//! examples stay behind, and so do its dev-dependencies.

use super::files::{Wish, Wishes, bring_about};
use super::hunk::{Hunk, apply};
use super::hunks::{ADDED, HUNKS, TESTED};
use crate::metadata::Package;
use std::fs;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value, value};

/// The oldest minor version of tokio 1 that the hunks are written for.
pub const OLDEST: u64 = 32;

/// Where the crate `sim` is, as a dependency says it: `path = …`, `git = …`.
pub type Place = Vec<(String, String)>;

/// What the copy depends on besides what tokio does.
pub struct Extra {
    pub sim: Place,
    /// The versions of rustix in the graph. Built on libc, its calls can be answered by the simulator; its own system
    /// calls cannot.
    pub rustix: Vec<String>,
}

/// A tokio that is to be copied.
pub struct Source {
    pub version: String,
    /// The folder of its manifest.
    pub folder: PathBuf,
}

impl Source {
    pub fn of(package: &Package) -> Source {
        Source { version: package.version.clone(), folder: package.folder().to_owned() }
    }

    fn minor(&self) -> u64 {
        self.version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
    }

    /// A remark about a version that nobody has tried.
    pub fn untested(&self) -> Option<String> {
        let tested = TESTED.contains(&self.version.as_str());
        (!tested).then(|| {
            let versions = TESTED.join(", ");
            format!("tokio {} was not tried with this version of sim, though it fits (tried: {versions})", self.version)
        })
    }

    /// Writes the copy to `folder`.
    pub fn generate(&self, folder: &Path, extra: &Extra) -> Result<(), String> {
        bring_about(folder, &self.wishes(extra)?)
    }

    fn wishes(&self, extra: &Extra) -> Result<Wishes, String> {
        let manifest = self.folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let mut wishes = Wishes::new();
        wishes.insert("Cargo.toml".into(), Wish::File(operated(&text, extra)?.into_bytes()));
        for name in ["LICENSE", "README.md"] {
            // The README is part of some versions' documentation; that it is missing is cargo's to say.
            if let Ok(text) = fs::read(self.folder.join(name)) {
                wishes.insert(name.into(), Wish::File(text));
            }
        }
        copied(&self.folder, Path::new("src"), &mut wishes)?;
        self.change(&mut wishes)?;
        for (path, text) in ADDED {
            wishes.insert(Path::new("src").join(path), Wish::File(text.as_bytes().to_vec()));
        }
        Ok(wishes)
    }

    /// Applies the hunks that are for this version.
    fn change(&self, wishes: &mut Wishes) -> Result<(), String> {
        let hunks: Vec<&Hunk> = HUNKS.iter().filter(|h| h.versions.hold(self.minor())).collect();
        let mut files: Vec<&str> = hunks.iter().map(|h| h.file).collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            let path = Path::new("src").join(file);
            let refused = |why: String| {
                format!(
                    "tokio {} cannot be operated: {why}; use a version that was tried ({}), as with `cargo update -p tokio \
                     --precise {}`",
                    self.version,
                    TESTED.join(", "),
                    TESTED[TESTED.len() - 1]
                )
            };
            let Some(Wish::File(text)) = wishes.get(&path) else {
                return Err(refused(format!("it has no file src/{file}")));
            };
            let text = String::from_utf8_lossy(text);
            let changed = apply(&text, hunks.iter().copied().filter(|h| h.file == file)).map_err(refused)?;
            wishes.insert(path, Wish::File(changed.into_bytes()));
        }
        Ok(())
    }
}

/// Wishes for all files below a folder.
fn copied(from: &Path, below: &Path, wishes: &mut Wishes) -> Result<(), String> {
    let folder = from.join(below);
    let entries =
        fs::read_dir(&folder).map_err(|e| format!("tokio's source is not there: {}: {e}", folder.display()))?;
    wishes.insert(below.to_owned(), Wish::Folder);
    for entry in entries.flatten() {
        let below = below.join(entry.file_name());
        if entry.path().is_dir() {
            copied(from, &below, wishes)?;
        } else {
            let text = fs::read(entry.path()).map_err(|e| format!("{}: {e}", entry.path().display()))?;
            wishes.insert(below, Wish::File(text));
        }
    }
    Ok(())
}

/// The manifest of the copy.
fn operated(text: &str, extra: &Extra) -> Result<String, String> {
    let mut manifest: DocumentMut = text.parse().map_err(|e| format!("the manifest of tokio: {e}"))?;
    for key in ["dev-dependencies", "test", "bench", "example"] {
        manifest.remove(key);
    }
    if let Some(targets) = manifest.get_mut("target").and_then(Item::as_table_like_mut) {
        for (_, target) in targets.iter_mut() {
            target.as_table_like_mut().map(|t| t.remove("dev-dependencies"));
        }
    }
    let dependencies = manifest.entry("dependencies").or_insert(Item::Table(Table::new()));
    let dependencies =
        dependencies.as_table_like_mut().ok_or("the manifest of tokio: its dependencies are no table")?;
    let sim: InlineTable = extra.sim.iter().map(|(k, v)| (k.as_str(), Value::from(v.as_str()))).collect();
    dependencies.insert("sim", value(sim));
    for (i, version) in extra.rustix.iter().enumerate() {
        let mut rustix = InlineTable::new();
        rustix.insert("package", "rustix".into());
        rustix.insert("version", format!("={version}").into());
        rustix.insert("default-features", false.into());
        rustix.insert("features", Value::from_iter(["use-libc"]));
        dependencies.insert(&format!("sim-rustix-{i}"), value(rustix));
    }
    // A path dependency's warnings are shown, and these are not the user's.
    let lints = manifest.entry("lints").or_insert(Item::Table(Table::new()));
    let rust = lints.as_table_like_mut().map(|l| l.entry("rust").or_insert(Item::Table(Table::new())));
    if let Some(rust) = rust.and_then(Item::as_table_like_mut) {
        rust.insert("warnings", value("allow"));
    }
    // It is nobody's member, whatever manifests stand in the folders around it.
    manifest.insert("workspace", Item::Table(Table::new()));
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_keeps_its_features_and_loses_its_tests() {
        let text = "[package]\nname = \"tokio\"\n[features]\nfull = [\"rt\"]\n[dependencies.mio]\nversion = \"1\"\n\
                    [dev-dependencies.loom]\nversion = \"1\"\n[[test]]\nname = \"a\"\n[[test]]\nname = \"b\"\n\
                    [target.\"cfg(unix)\".dependencies.libc]\nversion = \"0.2\"\n\
                    [target.\"cfg(unix)\".dev-dependencies.nix]\nversion = \"0.2\"\n";
        let extra = Extra { sim: vec![("path".into(), "/sim".into())], rustix: vec!["1.1.6".into()] };
        let made: DocumentMut = operated(text, &extra).expect("a manifest").parse().expect("a manifest");
        assert_eq!(made["features"]["full"][0].as_str(), Some("rt"));
        assert_eq!(made["dependencies"]["sim"]["path"].as_str(), Some("/sim"));
        assert_eq!(made["dependencies"]["sim-rustix-0"]["version"].as_str(), Some("=1.1.6"));
        assert_eq!(made["target"]["cfg(unix)"]["dependencies"]["libc"]["version"].as_str(), Some("0.2"));
        assert!(made["target"]["cfg(unix)"].get("dev-dependencies").is_none());
        assert!(made.get("dev-dependencies").is_none() && made.get("test").is_none());
        assert!(made.get("workspace").is_some());
        assert_eq!(made["lints"]["rust"]["warnings"].as_str(), Some("allow"));
    }
}
