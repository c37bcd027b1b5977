//! The generated tokio: a copy of exactly the version that a project has locked, with the hunks applied and one more
//! dependency, the crate `sim`.
//!
//! It stays named `tokio`, of the same version, with every feature: cargo takes a patch only then. Its tests, benches and
//! examples stay behind, and so do its dev-dependencies.

use super::files::{Wish, Wishes, bring_about};
use super::hunks::{ADDED, HUNKS, MOVED, TESTED};
use super::vendor::{self, Texts};
use crate::metadata::Package;
use std::fs;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, InlineTable, Item, Table, Value, value};

/// The oldest minor version of tokio 1 that the hunks are written for.
pub const OLDEST: u64 = 32;

/// With this begins the manifest of a tokio that `cargo sim vendor` wrote.
pub const VENDORED: &str = "# Written by `cargo sim vendor`, which will write it again: do not edit.\n";

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
        self.write(folder, self.operated(self.real()?)?, operated_manifest(&self.manifest()?, extra)?)
    }

    /// Writes a copy that is the real tokio unless its feature is on.
    pub fn vendor(&self, folder: &Path, extra: &Extra) -> Result<(), String> {
        let real = self.real()?;
        let operated = self.operated(real.clone())?;
        let both =
            vendor::both(real, operated).map_err(|why| format!("tokio {} cannot be vendored: {why}", self.version))?;
        self.write(folder, both, vendored_manifest(&self.manifest()?, extra)?)
    }

    fn manifest(&self) -> Result<String, String> {
        let path = self.folder.join("Cargo.toml");
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn write(&self, folder: &Path, texts: Texts, manifest: String) -> Result<(), String> {
        let mut wishes = Wishes::from([("Cargo.toml".into(), Wish::File(manifest.into_bytes()))]);
        for name in ["LICENSE", "README.md"] {
            // The README is part of some versions' documentation; that it is missing is cargo's to say.
            if let Ok(text) = fs::read(self.folder.join(name)) {
                wishes.insert(name.into(), Wish::File(text));
            }
        }
        for (path, text) in texts {
            let path = Path::new("src").join(path);
            for folder in path.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty()) {
                wishes.insert(folder.to_owned(), Wish::Folder);
            }
            wishes.insert(path, Wish::File(text.into_bytes()));
        }
        bring_about(folder, &wishes)
    }

    /// The files below `src` as they are.
    fn real(&self) -> Result<Texts, String> {
        let mut texts = Texts::new();
        read(&self.folder.join("src"), Path::new(""), &mut texts)?;
        Ok(texts)
    }

    /// The same with the hunks, and what is added.
    fn operated(&self, mut texts: Texts) -> Result<Texts, String> {
        let refused = |why: String| {
            let (tried, newest) = (TESTED.join(", "), TESTED[TESTED.len() - 1]);
            format!(
                "tokio {} cannot be operated: {why}; use a version that was tried ({tried}), as with `cargo update -p tokio \
                 --precise {newest}`",
                self.version
            )
        };
        for hunk in HUNKS {
            let missing = || refused(format!("`{}` does not fit: there is no file src/{}", hunk.name, hunk.file));
            let moved = MOVED.iter().filter(|(now, _)| *now == hunk.file).map(|(_, before)| *before);
            let file = std::iter::once(hunk.file).chain(moved).map(Path::new).find(|file| texts.contains_key(*file));
            let text = file.and_then(|file| texts.get_mut(file)).ok_or_else(missing)?;
            *text = hunk.apply(text).map_err(refused)?;
        }
        texts.extend(ADDED.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())));
        Ok(texts)
    }
}

/// Reads all files below a folder.
fn read(top: &Path, below: &Path, texts: &mut Texts) -> Result<(), String> {
    let folder = top.join(below);
    let entries =
        fs::read_dir(&folder).map_err(|e| format!("tokio's source is not there: {}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let below = below.join(entry.file_name());
        if entry.path().is_dir() {
            read(top, &below, texts)?;
        } else {
            let text = fs::read_to_string(entry.path()).map_err(|e| format!("{}: {e}", entry.path().display()))?;
            texts.insert(below, text);
        }
    }
    Ok(())
}

/// The manifest of the copy.
fn operated_manifest(text: &str, extra: &Extra) -> Result<String, String> {
    let (mut manifest, _) = with_extra(text, extra, false)?;
    // A path dependency's warnings are shown, and these are not the user's.
    allow_warnings(&mut manifest);
    Ok(manifest.to_string())
}

/// The manifest of the copy that is a part of a project.
fn vendored_manifest(text: &str, extra: &Extra) -> Result<String, String> {
    let (mut manifest, names) = with_extra(text, extra, true)?;
    allow_warnings(&mut manifest);
    let features = manifest.entry("features").or_insert(Item::Table(Table::new()));
    let features = features.as_table_like_mut().ok_or("the manifest of tokio: its features are no table")?;
    features.insert(vendor::FEATURE, value(Value::from_iter(names.iter().map(|name| format!("dep:{name}")))));
    Ok(format!("{VENDORED}{manifest}"))
}

/// The manifest without its tests and with more dependencies, whose names are told.
fn with_extra(text: &str, extra: &Extra, optional: bool) -> Result<(DocumentMut, Vec<String>), String> {
    let mut manifest: DocumentMut = text.parse().map_err(|e| format!("the manifest of tokio: {e}"))?;
    for key in ["dev-dependencies", "test", "bench", "example"] {
        manifest.remove(key);
    }
    if let Some(targets) = manifest.get_mut("target").and_then(Item::as_table_like_mut) {
        for (_, target) in targets.iter_mut() {
            target.as_table_like_mut().map(|t| t.remove("dev-dependencies"));
        }
    }
    let sim: InlineTable = extra.sim.iter().map(|(k, v)| (k.as_str(), Value::from(v.as_str()))).collect();
    let mut more = vec![("sim".to_owned(), sim)];
    for (i, version) in extra.rustix.iter().enumerate() {
        let mut rustix = InlineTable::new();
        rustix.insert("package", "rustix".into());
        rustix.insert("version", format!("={version}").into());
        rustix.insert("default-features", false.into());
        rustix.insert("features", Value::from_iter(["use-libc"]));
        more.push((format!("sim-rustix-{i}"), rustix));
    }
    let dependencies = manifest.entry("dependencies").or_insert(Item::Table(Table::new()));
    let dependencies =
        dependencies.as_table_like_mut().ok_or("the manifest of tokio: its dependencies are no table")?;
    let mut names = Vec::new();
    for (name, mut dependency) in more {
        if optional {
            dependency.insert("optional", true.into());
        }
        dependencies.insert(&name, value(dependency));
        names.push(name);
    }
    // It is nobody's member, whatever manifests stand in the folders around it.
    manifest.insert("workspace", Item::Table(Table::new()));
    Ok((manifest, names))
}

fn allow_warnings(manifest: &mut DocumentMut) {
    let lints = manifest.entry("lints").or_insert(Item::Table(Table::new()));
    let rust = lints.as_table_like_mut().map(|l| l.entry("rust").or_insert(Item::Table(Table::new())));
    if let Some(rust) = rust.and_then(Item::as_table_like_mut) {
        rust.insert("warnings", value("allow"));
    }
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
        let made: DocumentMut = operated_manifest(text, &extra).expect("a manifest").parse().expect("a manifest");
        assert_eq!(made["features"]["full"][0].as_str(), Some("rt"));
        assert_eq!(made["dependencies"]["sim"]["path"].as_str(), Some("/sim"));
        assert_eq!(made["dependencies"]["sim-rustix-0"]["version"].as_str(), Some("=1.1.6"));
        assert_eq!(made["target"]["cfg(unix)"]["dependencies"]["libc"]["version"].as_str(), Some("0.2"));
        assert!(made["target"]["cfg(unix)"].get("dev-dependencies").is_none());
        assert!(made.get("dev-dependencies").is_none() && made.get("test").is_none());
        assert!(made.get("workspace").is_some());
        assert_eq!(made["lints"]["rust"]["warnings"].as_str(), Some("allow"));
    }

    #[test]
    fn vendored_it_has_a_feature_that_brings_what_is_more_than_tokio() {
        let text = "[package]\nname = \"tokio\"\n[features]\nfull = [\"rt\"]\n";
        let extra = Extra { sim: vec![("path".into(), "../..".into())], rustix: vec!["1.1.6".into()] };
        let text = vendored_manifest(text, &extra).expect("a manifest");
        assert!(text.starts_with(VENDORED));
        let made: DocumentMut = text.parse().expect("a manifest");
        assert_eq!(made["dependencies"]["sim"]["optional"].as_bool(), Some(true));
        assert_eq!(made["features"]["sim"][0].as_str(), Some("dep:sim"));
        assert_eq!(made["features"]["sim"][1].as_str(), Some("dep:sim-rustix-0"));
    }
}
