//! What `cargo metadata` tells, as far as it is asked for here, and how cargo is started.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// A workspace, and where it was asked to resolve, the graph of its packages.
#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_members: Vec<String>,
    /// What cargo tests in the root of a workspace. Before 1.71 it did not tell.
    #[serde(default)]
    workspace_default_members: Vec<String>,
    pub workspace_root: PathBuf,
    pub target_directory: PathBuf,
    resolve: Option<Resolve>,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    /// `None` for a path.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub features: BTreeMap<String, Vec<String>>,
    pub targets: Vec<Target>,
}

/// What cargo builds of a package.
#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    pub rename: Option<String>,
    pub path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    /// `None` for what is neither for tests nor for build scripts.
    kind: Option<String>,
}

/// The cargo that this was started by, in the folder that the user stands in: so toolchain files and cargo's own
/// configuration apply as they do to `cargo test`.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// What cargo says of a project that it refuses is in `Err`, in its own words.
pub fn metadata(manifest: Option<&Path>, arguments: &[String]) -> Result<Metadata, String> {
    metadata_by(cargo(), manifest, arguments)
}

/// The same by a cargo that stands elsewhere.
pub fn metadata_by(mut command: Command, manifest: Option<&Path>, arguments: &[String]) -> Result<Metadata, String> {
    command.args(["metadata", "--format-version=1"]).args(arguments);
    if let Some(path) = manifest {
        command.arg("--manifest-path").arg(path);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata cannot be read: {e}"))
}

/// The platform that cargo builds for unless told otherwise.
pub fn host() -> Result<String, String> {
    let output = cargo().arg("-vV").output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| "`cargo -vV` names no host platform".into())
}

impl Metadata {
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Package> {
        self.packages.iter().filter(move |p| p.name == name)
    }

    /// The members of the workspace.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|p| self.workspace_members.contains(&p.id))
    }

    /// Those that cargo takes in the root of the workspace.
    pub fn default_members(&self) -> Vec<&Package> {
        let is_default =
            |p: &&Package| self.workspace_default_members.is_empty() || self.workspace_default_members.contains(&p.id);
        self.members().filter(is_default).collect()
    }

    fn package(&self, id: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.id == id)
    }

    /// All that a package is built on, itself included.
    pub fn built_on(&self, from: &str) -> Vec<&Package> {
        let nodes = self.nodes();
        let mut seen = BTreeSet::from([from]);
        let mut left = vec![from];
        while let Some(id) = left.pop() {
            for edge in nodes.get(id).into_iter().flat_map(|n| &n.deps) {
                let is_built = edge.dep_kinds.iter().any(|k| k.kind.as_deref() != Some("dev"));
                if is_built && seen.insert(&edge.pkg) {
                    left.push(&edge.pkg);
                }
            }
        }
        self.packages.iter().filter(|p| seen.contains(p.id.as_str())).collect()
    }

    fn nodes(&self) -> BTreeMap<&str, &Node> {
        self.resolve.iter().flat_map(|r| &r.nodes).map(|n| (n.id.as_str(), n)).collect()
    }

    /// The shortest chain of dependencies from a package to one that fits, both included; empty where there is none.
    pub fn chain(&self, from: &str, fits: &dyn Fn(&Package) -> bool) -> Vec<&Package> {
        let nodes = self.nodes();
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut seen = BTreeSet::from([from]);
        let mut left = VecDeque::from([from]);
        while let Some(id) = left.pop_front() {
            if self.package(id).is_some_and(fits) {
                let mut chain: Vec<&Package> = Vec::new();
                let mut next = Some(id);
                while let Some(id) = next {
                    chain.extend(self.package(id));
                    next = came_from.get(id).copied();
                }
                chain.reverse();
                return chain;
            }
            for to in nodes.get(id).into_iter().flat_map(|n| &n.dependencies) {
                if seen.insert(to) {
                    came_from.insert(to, id);
                    left.push_back(to);
                }
            }
        }
        Vec::new()
    }

    /// The same from any member, as text: `app -> warp -> tokio 0.2.25`.
    pub fn through(&self, fits: &dyn Fn(&Package) -> bool) -> String {
        let chains = self.members().map(|m| self.chain(&m.id, fits)).filter(|chain| !chain.is_empty());
        let Some(shortest) = chains.min_by_key(Vec::len) else { return "nobody in this workspace".into() };
        let (last, before) = shortest.split_last().expect("a chain has an end");
        let names: String = before.iter().map(|p| format!("{} -> ", p.name)).collect();
        format!("{names}{} {}", last.name, last.version)
    }
}

impl Package {
    /// What `-p` takes for this package and for no other of its name.
    pub fn spec(&self) -> &str {
        // Before 1.77 an identity was of another shape.
        if self.id.contains('#') { &self.id } else { &self.name }
    }

    pub fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// Whether crates.io, or what stands in for it, is where cargo has it from.
    pub fn is_from_crates_io(&self) -> bool {
        self.source.as_deref().is_some_and(|source| {
            source == "registry+https://github.com/rust-lang/crates.io-index"
                || source == "sparse+https://index.crates.io/"
        })
    }

    /// Major and minor version.
    pub fn version_numbers(&self) -> (u64, u64) {
        let mut parts = self.version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// A path as cargo names it: from the root on, and `..` taken by its word, whatever links there are.
pub fn as_cargo_names(path: &Path) -> std::io::Result<PathBuf> {
    let mut named = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => drop(named.pop()),
            part => named.push(part),
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_as_cargo_does() {
        let named = |path: &str| as_cargo_names(Path::new(path)).expect("a path");
        assert_eq!(named("/a/b/../c/./d"), Path::new("/a/c/d"));
        assert_eq!(named("/../a"), Path::new("/a"));
        assert!(named("a/../b").is_absolute() && named("a/../b").ends_with("b"));
    }
}
