//! The project whose tests are tokio's own: made from tokio's manifest, and built as a drop-in.

use super::class;
use crate::dropin::files::{Wish, Wishes, bring_about};
use crate::dropin::{Ask, DropIn, prepare};
use crate::metadata::{cargo, host, metadata};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

pub struct Project {
    folder: PathBuf,
    tests: PathBuf,
    drop_in: DropIn,
    offline: bool,
}

/// A file of tests after it was built.
pub struct Built {
    /// Its name without `.rs`.
    pub name: String,
    pub source: class::File,
    /// The binary, or the compiler's first error.
    pub binary: Result<PathBuf, String>,
}

impl Project {
    /// Makes the project below `target`, and generates its tokio.
    pub fn make(version: &str, target: &Path, offline: bool) -> Result<Project, String> {
        let target = target.join("conformance");
        let folder = target.join(version);
        let source = source(version, &folder.join("source"), offline)?;
        let manifest = source.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
        let tests = source.join("tests");
        if !tests.is_dir() {
            return Err(format!("there are no tests in the archive of tokio {version}: {}", source.display()));
        }
        let folder = folder.join("project");
        let wishes = Wishes::from([
            ("Cargo.toml".into(), Wish::File(tested(&text, version)?.into_bytes())),
            ("Cargo.lock".into(), Wish::Keep),
            ("src".into(), Wish::Folder),
            ("src/lib.rs".into(), Wish::File(Vec::new())),
            ("tests".into(), Wish::Link(tests.clone())),
        ]);
        bring_about(&folder, &wishes)?;
        let project = metadata(Some(&folder.join("Cargo.toml")), &["--no-deps".to_owned()])?;
        let ask = Ask { target, features: Vec::new(), locked: false, offline, platform: host()? };
        let drop_in = prepare(&project, &ask)?.ok_or("the project of tokio's tests has no tokio in its graph")?;
        Ok(Project { folder, tests, drop_in, offline })
    }

    /// The folder in which tests run: one of them looks for tokio's address in its manifest.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The names of the files of tests that are wished for.
    pub fn files(&self, wished: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
        let entries = fs::read_dir(&self.tests).map_err(|e| format!("{}: {e}", self.tests.display()))?;
        let names = entries.flatten().filter_map(|e| e.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned));
        let mut names: Vec<String> = names.filter(|name| wished(name)).collect();
        names.sort();
        if names.is_empty() { Err("there are no such files of tests".into()) } else { Ok(names) }
    }

    /// Builds them. One that cannot be compiled does not stop the others.
    pub fn build(&self, files: &[String]) -> Result<Vec<Built>, String> {
        let manifest = self.drop_in.shadow.of(&self.folder).join("Cargo.toml");
        let mut command = cargo();
        command.args(["build", "--keep-going", "--message-format=json", "--manifest-path"]).arg(manifest);
        command.args(&self.drop_in.arguments).arg("--target-dir").arg(&self.drop_in.target);
        files.iter().for_each(|name| {
            command.args(["--test", name]);
        });
        if self.offline {
            command.arg("--offline");
        }
        let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
        let (mut binaries, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for message in output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<Json>(l).ok()) {
            let target = &message["target"];
            let Some(name) = target["name"].as_str() else { continue };
            let is_test = target["kind"][0] == "test";
            match (message["reason"].as_str(), message["executable"].as_str(), message["message"]["level"].as_str()) {
                (Some("compiler-artifact"), Some(path), _) if is_test => {
                    binaries.insert(name.to_owned(), PathBuf::from(path));
                }
                (Some("compiler-message"), _, Some("error")) => {
                    let text = message["message"]["message"].as_str().unwrap_or_default().to_owned();
                    if !is_test {
                        return Err(format!("{name} does not build: {text}"));
                    }
                    errors.entry(name.to_owned()).or_insert(text);
                }
                _ => {}
            }
        }
        if binaries.is_empty() {
            return Err("nothing was built".into());
        }
        let built = |name: &String| {
            let path = self.tests.join(format!("{name}.rs"));
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let error = || errors.remove(name).unwrap_or_else(|| "it was not built".into());
            let binary = binaries.remove(name).ok_or_else(error);
            Ok(Built { name: name.clone(), source: class::File::read(name, &text), binary })
        };
        files.iter().map(built).collect()
    }
}

/// The source of a tokio from cargo's registry, downloaded if it is not there yet.
fn source(version: &str, folder: &Path, offline: bool) -> Result<PathBuf, String> {
    let manifest = format!(
        "[package]\nname = \"source\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\ntokio = \"={version}\"\n[workspace]\n"
    );
    let wishes = Wishes::from([
        ("Cargo.toml".into(), Wish::File(manifest.into_bytes())),
        ("Cargo.lock".into(), Wish::Keep),
        ("src".into(), Wish::Folder),
        ("src/lib.rs".into(), Wish::File(Vec::new())),
    ]);
    bring_about(folder, &wishes)?;
    let mut arguments = vec!["--filter-platform".to_owned(), host()?];
    arguments.extend(offline.then(|| "--offline".to_owned()));
    let graph = metadata(Some(&folder.join("Cargo.toml")), &arguments)?;
    let found = graph.named("tokio").find(|p| p.version == version).map(|p| p.folder().to_owned());
    found.ok_or_else(|| format!("cargo has no tokio {version}"))
}

/// The project's manifest: tokio's own, with a tokio among the dependencies in place of its library.
///
/// The tests ask for features by name (`#![cfg(feature = "full")]`), so it has those of tokio, empty ones; and they use what
/// tokio itself depends on.
fn tested(text: &str, version: &str) -> Result<String, String> {
    let mut manifest: DocumentMut = text.parse().map_err(|e| format!("the manifest of tokio {version}: {e}"))?;
    for key in ["lib", "test", "bench", "example", "badges"] {
        manifest.remove(key);
    }
    let package = manifest["package"].as_table_like_mut().ok_or("the manifest of tokio has no package")?;
    for (key, replaced) in [
        ("name", value("conformance")),
        ("version", value("0.0.0")),
        ("autotests", value(true)),
        ("publish", value(false)),
    ] {
        package.insert(key, replaced);
    }
    for key in ["readme", "include", "autolib", "rust-version"] {
        package.remove(key);
    }
    plain_features(&mut manifest)?;

    let root = manifest.as_table_mut();
    dependencies_that_are_there(root);
    if let Some(targets) = root.get_mut("target").and_then(Item::as_table_like_mut) {
        targets.iter_mut().filter_map(|(_, t)| t.as_table_mut()).for_each(dependencies_that_are_there);
    }
    let dependencies = root.entry("dependencies").or_insert(Item::Table(Table::new()));
    let dependencies = dependencies.as_table_like_mut().ok_or("the dependencies of tokio are no table")?;
    dependencies.remove("tokio-macros");
    dependencies.insert("tokio", dependency(&format!("={version}"), &["full", "test-util"]));
    let dev = root.entry("dev-dependencies").or_insert(Item::Table(Table::new()));
    let dev = dev.as_table_like_mut().ok_or("the dev-dependencies of tokio are no table")?;
    for (name, versions) in beside(version) {
        let features = if name == "tokio-util" { &["rt"][..] } else { &[] };
        dev.insert(name, dependency(versions, features));
    }

    let mut profile = Table::new();
    profile.insert("debug", value(false));
    profile.insert("incremental", value(false));
    root.insert("profile", Item::Table(Table::from_iter([("dev", Item::Table(profile))])));
    root.insert(
        "lints",
        Item::Table(Table::from_iter([("rust", Item::Table(Table::from_iter([("unexpected_cfgs", value("allow"))])))])),
    );
    root.insert("workspace", Item::Table(Table::new()));
    Ok(manifest.to_string())
}

/// The crates around tokio that its tests use. Newer ones use what an older tokio does not have, and do not say that they
/// need it. (That tests use tokio-util an archive's manifest does not say: it is a path among the dev-dependencies.)
fn beside(version: &str) -> [(&'static str, &'static str); 2] {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
    match minor {
        ..38 => [("tokio-util", ">=0.7, <0.7.11"), ("tokio-stream", ">=0.1, <0.1.15")],
        38..47 => [("tokio-util", ">=0.7, <0.7.18"), ("tokio-stream", "0.1")],
        _ => [("tokio-util", "0.7"), ("tokio-stream", "0.1")],
    }
}

/// Features that only turn on each other.
fn plain_features(manifest: &mut DocumentMut) -> Result<(), String> {
    let features = manifest["features"].as_table_like_mut().ok_or("the manifest of tokio has no features")?;
    let names: Vec<String> = features.iter().map(|(name, _)| name.to_owned()).collect();
    for name in &names {
        let on = features.get(name).and_then(Item::as_array);
        let on = on.into_iter().flatten().filter_map(Value::as_str).filter(|f| names.iter().any(|n| n == f));
        let on = Array::from_iter(on);
        features.insert(name, value(on));
    }
    features.insert("default", value(Array::from_iter(["full", "test-util"])));
    Ok(())
}

/// None of them is optional: there is no feature that would turn it on.
fn dependencies_that_are_there(of: &mut Table) {
    let Some(dependencies) = of.get_mut("dependencies").and_then(Item::as_table_like_mut) else { return };
    for (_, dependency) in dependencies.iter_mut() {
        dependency.as_table_like_mut().map(|d| d.remove("optional"));
    }
}

fn dependency(version: &str, features: &[&str]) -> Item {
    let mut dependency = InlineTable::new();
    dependency.insert("version", version.into());
    dependency.insert("features", Value::from_iter(features.iter().copied()));
    value(dependency)
}
