//! The drop-in: a project's own tokio, operated by the simulator, without an edit of the project.
//!
//! `shadow` makes a tree of links in which cargo may resolve and build; `tokio` copies the locked tokio and changes it by
//! the table in `hunks`; `graph` judges what cargo made of it. All of that is before the first build, and refuses with a
//! remedy. A second time everything is found as it was left, and cargo builds nothing.
//!
//! It reads the project and writes nothing into it but below its target folder, and not even there if it may not.

pub mod files;
mod graph;
mod hunk;
mod hunks;
mod lock;
mod shadow;
mod tokio;
mod troublemakers;
mod vendor;
mod vendored;

pub use hunks::TESTED;

use crate::app::say::warn;
use crate::metadata::{Metadata, Package, metadata};
use serde::{Deserialize, Serialize};
use shadow::Shadow;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use tokio::{Extra, Place, Source};

/// How a project is to be resolved.
pub struct Ask {
    /// Where cargo would build.
    pub target: PathBuf,
    /// `--features` and its like.
    pub features: Vec<String>,
    pub locked: bool,
    pub offline: bool,
    /// The platform that is built for.
    pub platform: String,
}

/// A project over its generated tokio, ready to be built.
pub struct DropIn {
    pub shadow: Shadow,
    pub graph: Metadata,
    /// What every call of cargo in the shadow has to say.
    pub arguments: Vec<String>,
    /// Where cargo builds the shadow.
    pub target: PathBuf,
    /// The version of its tokio.
    pub version: String,
    /// What to say before it is built.
    pub remarks: Vec<String>,
    /// Nobody else changes the shadow until this is gone.
    _lock: File,
}

impl DropIn {
    /// A member of the project, as it is in the shadow.
    pub fn member(&self, member: &Package) -> Option<&Package> {
        self.graph.members().find(|p| p.name == member.name)
    }

    /// Whether a member of the project has the tokio in its graph.
    pub fn takes(&self, member: &Package) -> bool {
        self.member(member)
            .is_some_and(|p| !self.graph.chain(&p.id, &|p| p.name == "tokio" && p.source.is_none()).is_empty())
    }
}

/// What is known of a project from the last time.
#[derive(Serialize, Deserialize)]
struct Known {
    /// The project's lock file, if it has one.
    lock: Option<String>,
    features: Vec<String>,
    version: String,
    folder: PathBuf,
    /// Where the project has the crate sim from, if it has it.
    sim: Option<Place>,
    rustix: Vec<String>,
    moved: Vec<String>,
}

/// Resolves the project in its shadow with a generated tokio; `None` where there is no tokio in its graph.
pub fn prepare(project: &Metadata, ask: &Ask) -> Result<Option<DropIn>, String> {
    let (home, mut remarks) = home(project, &ask.target)?;
    let lock = lock(&home)?;
    let shadow = Shadow::cast(project, home.join("tree"))?;
    let preparation = Preparation { project, ask, home: &home, shadow: &shadow };
    let Some((known, graph)) = preparation.resolve()? else { return Ok(None) };
    remarks.extend(known.source().untested());
    remarks.extend(graph::left_real(&graph));
    remarks.extend(troublemakers::in_graph(&graph));
    if !known.moved.is_empty() {
        remarks.push(format!("sim needs newer versions than the lock has: {}", known.moved.join(", ")));
    }
    let arguments = preparation.arguments(&known);
    // Projects that share a target folder share what they are built on, as they do with cargo.
    let target = home.with_file_name("build");
    Ok(Some(DropIn { graph, arguments, target, version: known.version, remarks, shadow, _lock: lock }))
}

/// Where a project keeps a tokio of its own.
const OWN: &str = "sim/tokio";

/// Whether `spec` may mean this package and is not its bare name: `tokio@1.54.1`, `tokio:1.54.1`, or an address.
fn is_other_spec(spec: &str, package: &str) -> bool {
    spec.strip_prefix(package).is_some_and(|rest| rest.starts_with(['@', ':'])) || spec.contains("://")
}

/// The packages of the simulator, built first of all while everything waits for them.
const OURS: [&str; 6] = ["sim", "sim-core", "sim-net", "sim-disk", "sim-libc", "sim-macros"];

/// The folder of the tokio that `cargo sim vendor` once wrote into a project, if its manifest names it.
pub fn vendored_in(project: &Metadata) -> Option<PathBuf> {
    let manifest = fs::read_to_string(project.workspace_root.join("Cargo.toml")).ok()?;
    let manifest: toml_edit::DocumentMut = manifest.parse().ok()?;
    let path = manifest.get("patch")?.get("crates-io")?.get("tokio")?.get("path")?.as_str()?;
    let folder = project.workspace_root.join(path);
    fs::read_to_string(folder.join("Cargo.toml")).ok()?.starts_with(tokio::VENDORED).then_some(folder)
}

/// Writes the generated tokio into the project and names it in the project's manifest. What to say about it is in `Ok`.
pub fn vendor(project: &Metadata, ask: &Ask) -> Result<Vec<String>, String> {
    let root = &project.workspace_root;
    let folder = root.join(OWN);
    if vendored_in(project).is_some() {
        return Err(format!(
            "this project has a tokio of its own in {OWN}: to write another, take `tokio` out of [patch.crates-io] in \
             Cargo.toml, run `cargo update -p tokio`, and vendor again"
        ));
    }
    let is_ours = |text: String| text.starts_with(tokio::VENDORED);
    if folder.exists() && !fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(is_ours) {
        return Err(format!("{} is there and was not written by `cargo sim vendor`: move it away", folder.display()));
    }
    let (home, mut remarks) = home(project, &ask.target)?;
    let _lock = lock(&home)?;
    let shadow = Shadow::cast(project, home.join("tree"))?;
    let preparation = Preparation { project, ask, home: &home, shadow: &shadow };
    let Some((known, _)) = preparation.resolve()? else {
        return Err("there is no tokio in this project's graph".into());
    };
    let mut sim = known.sim()?;
    if let Some((_, path)) = sim.iter_mut().find(|(key, _)| key == "path") {
        let original = shadow.behind(Path::new(path));
        *path = match original.strip_prefix(root) {
            Ok(below) => Path::new("../..").join(below).display().to_string(),
            Err(_) => {
                remarks.push(format!(
                    "{OWN} takes the crate sim from {}, which other machines may not have: depend on sim in this project, \
                     and vendor again",
                    original.display()
                ));
                original.display().to_string()
            }
        };
    }
    known.source().vendor(&folder, &Extra { sim, rustix: known.rustix.clone() })?;
    let manifest = root.join("Cargo.toml");
    // Where it is a link, it stays one.
    let manifest = manifest.canonicalize().map_err(|e| format!("{}: {e}", manifest.display()))?;
    let text = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
    let text = patched(&text, OWN)?;
    files::write(&manifest, text.as_bytes()).map_err(|e| format!("{}: {e}", manifest.display()))?;
    if !known.moved.is_empty() {
        let names: String = known.moved.iter().filter_map(|m| Some(format!(" -p {}", m.split(' ').next()?))).collect();
        remarks.push(format!("Cargo.lock has versions older than sim needs: run `cargo update{names}`"));
    }
    remarks.push(format!(
        "wrote tokio {} to {OWN} and named it in Cargo.toml: it is the real one unless its feature `{}` is on",
        known.version,
        vendor::FEATURE
    ));
    remarks.push(format!(
        "in the packages that depend on tokio, add to Cargo.toml:\n\n[features]\n{0} = [\"tokio/{0}\"]\n",
        vendor::FEATURE
    ));
    Ok(remarks)
}

fn lock(home: &Path) -> Result<File, String> {
    let waiting = || warn("waiting for another cargo sim that prepares or builds this project");
    files::lock(home, waiting).map_err(|e| format!("{}: {e}", home.display()))
}

/// A manifest with the patch.
fn patched(text: &str, folder: &str) -> Result<String, String> {
    let mut manifest: toml_edit::DocumentMut = text.parse().map_err(|e| format!("Cargo.toml: {e}"))?;
    let mut implicit = toml_edit::Table::new();
    implicit.set_implicit(true);
    let patch = manifest.entry("patch").or_insert(toml_edit::Item::Table(implicit));
    let patch = patch.as_table_like_mut().ok_or("Cargo.toml: [patch] is no table")?;
    let registry = patch.entry("crates-io").or_insert(toml_edit::Item::Table(toml_edit::Table::new()));
    let registry = registry.as_table_like_mut().ok_or("Cargo.toml: [patch.crates-io] is no table")?;
    let mut place = toml_edit::InlineTable::new();
    place.insert("path", folder.into());
    registry.insert("tokio", toml_edit::value(place));
    Ok(manifest.to_string())
}

/// `--locked` means the project's own lock file, which the shadow has its own copy of.
fn locked(project: &Metadata, ask: &Ask) -> Result<(), String> {
    let mut arguments = vec!["--locked".to_owned()];
    arguments.extend(ask.resolving());
    let manifest = project.workspace_root.join("Cargo.toml");
    metadata(Some(&manifest), &arguments).map(drop).map_err(|cargo| {
        format!("{cargo}\n--locked was given, and Cargo.lock is missing or would change: run `cargo update --workspace`, or leave --locked away")
    })
}

/// The folder of all that is made for a project: below its target folder, or where that cannot be written, in the
/// user's cache.
fn home(project: &Metadata, target: &Path) -> Result<(PathBuf, Vec<String>), String> {
    let root = &project.workspace_root;
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{name}-{:08x}", hasher.finish() as u32);
    let wished = target.join("sim").join(&name);
    let Err(error) = writable(&wished) else { return Ok((wished, Vec::new())) };
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let Some(cache) = cache else {
        return Err(format!("{}: {error}; give --target-dir a folder that can be written", wished.display()));
    };
    let other = cache.join("cargo-sim").join(&name);
    writable(&other).map_err(|e| {
        format!(
            "neither {} ({error}) nor {} ({e}) can be written; give --target-dir a folder that can",
            wished.display(),
            other.display()
        )
    })?;
    let remark = format!("{} cannot be written ({error}); building in {}", wished.display(), other.display());
    Ok((other, vec![remark]))
}

fn writable(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder)?;
    // Also a project that does not ignore its target folder looks as before to git.
    files::write(&folder.with_file_name(".gitignore"), b"*\n")
}

fn read_if_there(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

impl Ask {
    fn resolving(&self) -> Vec<String> {
        let mut arguments = vec!["--filter-platform".to_owned(), self.platform.clone()];
        arguments.extend(self.features.iter().cloned());
        if self.offline {
            arguments.push("--offline".into());
        }
        arguments
    }
}

impl Known {
    fn source(&self) -> Source {
        Source { version: self.version.clone(), folder: self.folder.clone() }
    }

    /// Where the crate `sim` is taken from.
    fn sim(&self) -> Result<Place, String> {
        self.sim.clone().map_or_else(sim_beside_this, Ok)
    }

    /// Whether sim comes into a project that keeps its dependencies' source in a folder of its own.
    fn is_vendored(&self) -> bool {
        self.sim.is_none() && vendored::folder_of(&self.folder).is_some()
    }
}

struct Preparation<'a> {
    project: &'a Metadata,
    ask: &'a Ask,
    home: &'a Path,
    shadow: &'a Shadow,
}

impl Preparation<'_> {
    fn known(&self) -> Option<Known> {
        serde_json::from_slice(&fs::read(self.home.join("known.json")).ok()?).ok()
    }

    fn copy(&self) -> PathBuf {
        self.home.join("tokio")
    }

    fn manifest(&self) -> PathBuf {
        self.shadow.of(&self.project.workspace_root).join("Cargo.toml")
    }

    fn joined(&self) -> PathBuf {
        self.home.join("vendored")
    }

    fn arguments(&self, known: &Known) -> Vec<String> {
        let path = toml_edit::Value::from(self.copy().display().to_string());
        let mut arguments = vec!["--config".into(), format!("patch.crates-io.tokio.path={path}")];
        let specs = self.profile_specs();
        let mut set = |package: &str, what: &str| {
            // Cargo takes no two specs for one package.
            if !specs.iter().any(|spec| is_other_spec(spec, package)) {
                arguments.extend(["--config".into(), format!("profile.dev.package.{package}.{what}")]);
            }
        };
        // Cargo takes what lies in a folder for the user's own and builds it so that an edit costs little. Nobody edits
        // these: built as packages of a registry are, they take a quarter less time.
        for package in OURS.into_iter().chain(["tokio"]) {
            set(package, "incremental=false");
        }
        // A backtrace names our functions all the same.
        for package in OURS {
            set(package, "debug=false");
        }
        arguments.extend(self.sources(known));
        arguments
    }

    /// The packages for which the project has settings of a profile, as it names them.
    fn profile_specs(&self) -> Vec<String> {
        let root = &self.project.workspace_root;
        let files = [root.join("Cargo.toml"), root.join(".cargo/config.toml"), root.join(".cargo/config")];
        let tables =
            files.iter().filter_map(|path| fs::read_to_string(path).ok()?.parse::<toml_edit::DocumentMut>().ok());
        let packages = |table: toml_edit::DocumentMut| -> Option<Vec<String>> {
            let profiles = table.get("profile")?.as_table_like()?;
            let packages = profiles.iter().filter_map(|(_, profile)| profile.get("package")?.as_table_like());
            Some(packages.flat_map(|packages| packages.iter().map(|(spec, _)| spec.to_owned())).collect())
        };
        tables.filter_map(packages).flatten().collect()
    }

    /// Where cargo looks for packages, if that is not where the project says.
    fn sources(&self, known: &Known) -> Vec<String> {
        if known.is_vendored() { vendored::arguments(&self.joined()) } else { Vec::new() }
    }

    /// What is known of the project, and its graph over the generated tokio.
    fn resolve(&self) -> Result<Option<(Known, Metadata)>, String> {
        if self.ask.locked {
            locked(self.project, self.ask)?;
        }
        let lock = read_if_there(&self.project.workspace_root.join("Cargo.lock"))?;
        let is_still = |k: &Known| k.lock == lock && k.features == self.ask.features && self.shadow.lock().exists();
        // What was known may be out of date in ways that only cargo sees, as when a manifest was edited.
        if let Some(Ok(resolved)) = self.known().filter(is_still).map(|known| self.patch(known)) {
            return Ok(Some(resolved));
        }
        self.learn(lock)?.map(|learned| self.patch(learned)).transpose()
    }

    /// Resolves the project as it is, in the shadow, from its own lock file.
    fn learn(&self, lock: Option<String>) -> Result<Option<Known>, String> {
        let path = self.shadow.lock();
        let told = |e: std::io::Error| format!("{}: {e}", path.display());
        // Without one, what an earlier resolution chose stays chosen.
        if let Some(text) = &lock {
            files::write(&path, text.as_bytes()).map_err(told)?;
        }
        let graph = metadata(Some(&self.manifest()), &self.ask.resolving()).map_err(|cargo| {
            let is_fetched = ["network", "offline", "download", "registry"].iter().any(|word| cargo.contains(word));
            let remedy = match (&lock, self.ask.offline) {
                _ if !is_fetched => "`cargo test` cannot resolve this project either",
                (None, true) => {
                    "there is no Cargo.lock: run `cargo generate-lockfile` and `cargo fetch` once with a network"
                }
                (None, false) => {
                    "there is no Cargo.lock, and one cannot be made here: run `cargo fetch` where there is a network"
                }
                (Some(_), true) => "run `cargo fetch` once with a network",
                (Some(_), false) => "`cargo test` cannot resolve this project either",
            };
            format!("{cargo}\nthe project cannot be resolved; nothing was built: {remedy}")
        })?;
        let Some(source) = graph::find(&graph)? else { return Ok(None) };
        let known = Known {
            lock,
            features: self.ask.features.clone(),
            version: source.version,
            folder: source.folder,
            sim: graph::sim(&graph)?,
            rustix: graph::versions(&graph, "rustix"),
            moved: Vec::new(),
        };
        let (mut known, after) = self.patch(known)?;
        known.moved = graph::moved(&graph, &after);
        let text = serde_json::to_vec(&known).map_err(|e| format!("known.json: {e}"))?;
        let path = self.home.join("known.json");
        files::write(&path, &text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Some(known))
    }

    /// Generates the tokio that is known, and resolves the project with it.
    fn patch(&self, known: Known) -> Result<(Known, Metadata), String> {
        let sim = known.sim()?;
        known.source().generate(&self.copy(), &Extra { sim: sim.clone(), rustix: known.rustix.clone() })?;
        let path = sim.iter().find(|(key, _)| key == "path").map(|(_, path)| PathBuf::from(path));
        if let (true, Some(theirs), Some(sim)) = (known.is_vendored(), vendored::folder_of(&known.folder), path) {
            vendored::join(&theirs, &sim, &self.joined(), &self.ask.platform, self.ask.offline)?;
        }
        let graph = self.resolve_patched(&known).map_err(|cargo| {
            format!(
                "{cargo}\nthe project cannot be resolved with the generated tokio, which needs the crate sim and what that \
                 depends on; nothing was built: if they are not at hand, run once with a network"
            )
        })?;
        graph::check(&graph, &self.copy())?;
        if graph::versions(&graph, "rustix") != known.rustix {
            return Err("the versions of rustix in the graph are not those that the generated tokio asks for".into());
        }
        Ok((known, graph))
    }

    /// Resolves with the patch. Versions that the lock has and sim cannot live with are let go, one conflict at a time.
    fn resolve_patched(&self, known: &Known) -> Result<Metadata, String> {
        let mut arguments = self.arguments(known);
        arguments.extend(self.ask.resolving());
        // All that sim needs may be at hand, and then no network is waited for.
        let mut at_hand = arguments.clone();
        if !self.ask.offline {
            at_hand.push("--offline".into());
        }
        let mut elsewhere = (!self.ask.offline).then_some(&arguments);
        let mut tried = &at_hand;
        let mut let_go = BTreeSet::new();
        loop {
            let cargo = match metadata(Some(&self.manifest()), tried) {
                Ok(graph) => return Ok(graph),
                Err(cargo) => cargo,
            };
            let names: Vec<String> =
                lock::conflicting(&cargo).into_iter().filter(|n| let_go.insert(n.clone())).collect();
            let mut without_patch = self.sources(known);
            without_patch.extend(tried.iter().filter(|argument| *argument == "--offline").cloned());
            if names.is_empty() || !lock::let_go(&self.shadow.lock(), &names, &without_patch)? {
                tried = elsewhere.take().ok_or(cargo)?;
                // There may be newer ones.
                let_go.clear();
            }
        }
    }
}

/// The crate `sim` that belongs to this program.
fn sim_beside_this() -> Result<Place, String> {
    let named = std::env::var_os("SIM_SOURCE").filter(|v| !v.is_empty()).map(PathBuf::from);
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let folder = named.clone().or(built_from).unwrap_or_default();
    let is_sim = fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"sim\""));
    if !is_sim {
        let from = if named.is_some() { "SIM_SOURCE" } else { "this program was built from it, and it" };
        return Err(format!(
            "the source of the crate sim is needed and is not in {}: {from} does not hold it. Set SIM_SOURCE to a folder \
             that does, or depend on sim in the project",
            folder.display()
        ));
    }
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(vec![("path".into(), folder.display().to_string())])
}
