//! Builds test binaries, and programs, with cargo, in one of three ways for each package: with the feature that swaps its tokio, as a
//! drop-in, or as it is.

use super::Refused;
use super::args::Select;
use super::executable::Executable;
use super::say::warn;
use crate::dropin::{Ask, DropIn, prepare, vendored_in};
use crate::metadata::{Metadata, Package, as_cargo_names, cargo, host, metadata};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use toml_edit::DocumentMut;

/// What is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The tests that are selected.
    Test,
    /// The binaries of the packages that are.
    Program,
}

/// A test binary, or a program.
pub struct Binary {
    pub executable: Executable,
    /// The name of its crate, with which full names of tests begin.
    pub krate: String,
    /// The folder of its package's manifest, in which cargo runs tests.
    pub folder: PathBuf,
    /// What cargo sets when it runs tests, and for a drop-in, what makes the binary enter a World before its `main`.
    pub environment: Vec<(String, String)>,
    /// Whether its `main` is that of the usual test harness, which can list tests.
    pub harness: bool,
}

/// The workspace that is meant.
pub fn project(select: &Select) -> Result<Metadata, Refused> {
    let found = metadata(select.manifest_path.as_deref(), &["--no-deps".to_owned()]).map_err(|cargo| {
        format!("{cargo}\nthere is no project here that can be tested: go to the folder of a Cargo.toml, or give --manifest-path")
    });
    found.map_err(Refused)
}

/// Builds the test binaries, or the programs.
pub fn build(select: &Select, kind: Kind) -> Result<Vec<Binary>, Refused> {
    let project = project(select)?;
    let chosen = with_targets(select, chosen(select, &project)?)?;
    let ways = ways(select, &project, &chosen)?;
    let mut binaries = Vec::new();
    for way in &ways {
        binaries.extend(build_one(select, &project, way, kind)?);
    }
    Ok(binaries)
}

/// Packages that are built together.
struct Together<'a> {
    packages: Vec<&'a Package>,
    way: Way,
}

enum Way {
    /// As they are: no tokio is in their graph.
    Plain,
    /// With this feature of theirs on.
    Feature(String),
    /// The same, where it turns on the tokio that the project keeps itself.
    Vendored(String),
    DropIn(Box<DropIn>),
}

/// Decides for each package, and says so. What cannot be decided is refused before anything is built.
fn ways<'a>(select: &Select, project: &Metadata, chosen: &[&'a Package]) -> Result<Vec<Together<'a>>, Refused> {
    let mut ways = Vec::new();
    let mut rest = Vec::new();
    let vendored = vendored_in(project);
    for package in chosen {
        let own = vendored.as_ref().and_then(|_| feature(package, "tokio"));
        // Standard error, so that scripts can read standard output.
        let (way, why) = match (feature(package, "sim-tokio"), own) {
            _ if package.name == "sim-tokio" => (Way::Feature("sim".into()), "is the other tokio itself"),
            (Some(feature), _) => (Way::Feature(feature), "depends on sim-tokio"),
            (None, Some(feature)) => (Way::Vendored(feature), "has a vendored tokio"),
            (None, None) => {
                rest.push(*package);
                continue;
            }
        };
        if let Way::Feature(feature) | Way::Vendored(feature) = &way {
            warn(format_args!("{} {why}; building with feature `{feature}`", package.name));
        }
        ways.push(Together { packages: vec![package], way });
    }
    if rest.is_empty() {
        return Ok(ways);
    }
    let as_it_is = vendored.is_some() || locked_without_tokio(project);
    let drop_in = if as_it_is { None } else { prepare(project, &ask(select, project)?)? };
    let Some(drop_in) = drop_in else {
        if vendored.is_some() {
            warn(format_args!(
                "{}: this project has a vendored tokio, which is not among its dependencies; building as it is, not simulated. If \
                 another crate brings tokio in, depend on tokio here too",
                names(&rest)
            ));
        } else {
            say_plain(&rest);
        }
        ways.insert(0, Together { packages: rest, way: Way::Plain });
        return Ok(ways);
    };
    let (with, without): (Vec<&Package>, Vec<&Package>) = rest.iter().copied().partition(|p| drop_in.takes(p));
    if !without.is_empty() {
        say_plain(&without);
    }
    if !with.is_empty() {
        drop_in.remarks.iter().for_each(warn);
        warn(format_args!(
            "{}: drop-in, the whole graph over the generated tokio {} (no sim-tokio among the dependencies)",
            names(&with),
            drop_in.version
        ));
    }
    if with.is_empty() && project.workspace_root.join("Cargo.lock").exists() {
        ways.insert(0, Together { packages: rest, way: Way::Plain });
        return Ok(ways);
    }
    // Those without a tokio are built in the shadow too, or cargo would make a lock in a project that has none.
    ways.push(Together { packages: rest, way: Way::DropIn(Box::new(drop_in)) });
    Ok(ways)
}

fn say_plain(packages: &[&Package]) {
    warn(format_args!("no tokio in the graph of {}; building as it is", names(packages)));
}

fn names(packages: &[&Package]) -> String {
    packages.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Spares a resolution. A lock that lacks what a manifest asks for is older than that, and says nothing.
fn locked_without_tokio(project: &Metadata) -> bool {
    let Ok(lock) = fs::read_to_string(project.workspace_root.join("Cargo.lock")) else { return false };
    let has = |name: &str| lock.contains(&format!("name = \"{name}\""));
    !has("tokio") && project.members().flat_map(|member| &member.dependencies).all(|asked| has(&asked.name))
}

/// How the project is to be resolved.
pub fn ask(select: &Select, project: &Metadata) -> Result<Ask, Refused> {
    Ok(Ask {
        target: target(select, project)?,
        features: select.feature_arguments(),
        locked: select.locked || select.frozen,
        offline: select.offline || select.frozen,
        platform: host()?,
    })
}

/// Where cargo would build the project.
fn target(select: &Select, project: &Metadata) -> Result<PathBuf, Refused> {
    let Some(folder) = &select.target_dir else { return Ok(project.target_directory.clone()) };
    as_cargo_names(folder).map_err(|e| Refused(format!("{}: {e}", folder.display())))
}

/// The packages that cargo would test.
fn chosen<'a>(select: &Select, project: &'a Metadata) -> Result<Vec<&'a Package>, Refused> {
    let packages: Vec<&Package> = project.members().collect();
    if !select.package.is_empty() {
        let find = |name: &String| {
            packages.iter().copied().find(|p| p.name == *name).ok_or_else(|| {
                let all = names(&packages);
                Refused(format!("there is no package {name} in this workspace: expected one of {all}"))
            })
        };
        return select.package.iter().map(find).collect();
    }
    let here = match &select.manifest_path {
        Some(path) => path.canonicalize().ok().and_then(|p| Some(p.parent()?.to_owned())),
        None => std::env::current_dir().ok().and_then(|p| p.canonicalize().ok()),
    };
    let folder = |p: &Package| p.folder().canonicalize().ok();
    let holds = |p: &&&Package| folder(p).zip(here.clone()).is_some_and(|(f, here)| here.starts_with(f));
    let nearest = packages.iter().filter(holds).max_by_key(|p| folder(p).map_or(0, |f| f.components().count()));
    match nearest {
        _ if select.workspace => Ok(packages),
        Some(package) if package.folder() != project.workspace_root => Ok(vec![package]),
        _ => Ok(project.default_members()),
    }
}

/// Of these packages, those that have one of the targets that are asked for.
fn with_targets<'a>(select: &Select, packages: Vec<&'a Package>) -> Result<Vec<&'a Package>, Refused> {
    if select.targets.is_empty() {
        return Ok(packages);
    }
    let tests = |p: &&'a Package| p.targets.iter().filter(|t| t.kind.iter().any(|k| k == "test")).collect::<Vec<_>>();
    let all: Vec<&str> = packages.iter().flat_map(tests).map(|t| t.name.as_str()).collect();
    if let Some(missing) = select.targets.iter().find(|name| !all.contains(&name.as_str())) {
        let expected = if all.is_empty() { "there are none".to_owned() } else { all.join(", ") };
        return Err(Refused(format!("there is no test target {missing} here: expected one of {expected}")));
    }
    let has = |p: &&Package| p.targets.iter().any(|t| select.targets.contains(&t.name));
    Ok(packages.into_iter().filter(has).collect())
}

/// The feature that swaps tokio in a package with this dependency: its own one named `sim`, else the dependency's.
fn feature(package: &Package, dependency: &str) -> Option<String> {
    let dependency = package.dependencies.iter().find(|d| d.name == dependency)?;
    if package.features.contains_key("sim") {
        return Some("sim".into());
    }
    let name = dependency.rename.as_deref().unwrap_or(&dependency.name);
    Some(format!("{name}/sim"))
}

fn build_one(select: &Select, project: &Metadata, together: &Together, kind: Kind) -> Result<Vec<Binary>, Refused> {
    let mut command = cargo();
    match kind {
        Kind::Test => command.args(["test", "--no-run"]),
        Kind::Program => command.args(["build", "--bins"]),
    };
    command.arg("--message-format=json-render-diagnostics");
    for package in &together.packages {
        let built = match &together.way {
            Way::DropIn(drop_in) => drop_in.member(package).unwrap_or(package),
            Way::Plain | Way::Feature(_) | Way::Vendored(_) => package,
        };
        command.args(["-p", built.spec()]);
    }
    // Of several packages, each has some of them.
    let is_here = |t: &&String| together.packages.iter().any(|p| p.targets.iter().any(|have| have.name == **t));
    select.targets.iter().filter(is_here).for_each(|t| {
        command.args(["--test", t]);
    });
    command.args(select.feature_arguments());
    if let Way::Feature(feature) | Way::Vendored(feature) = &together.way {
        command.args(["--features", feature]);
    }
    for (flag, given) in [("--lib", select.lib), ("--release", select.release)] {
        if given {
            command.arg(flag);
        }
    }
    if let Some(profile) = &select.profile {
        command.args(["--profile", profile]);
    }
    match &together.way {
        Way::DropIn(drop_in) => {
            // Feature names may be those of one member only.
            let manifest = match &together.packages[..] {
                [one] => one.manifest_path.clone(),
                _ => project.workspace_root.join("Cargo.toml"),
            };
            command.arg("--manifest-path").arg(drop_in.shadow.of(&manifest)).args(&drop_in.arguments);
            command.arg("--target-dir").arg(&drop_in.target);
            if select.offline || select.frozen {
                command.arg("--offline");
            }
        }
        Way::Plain | Way::Feature(_) | Way::Vendored(_) => {
            for (flag, given) in
                [("--locked", select.locked), ("--offline", select.offline), ("--frozen", select.frozen)]
            {
                if given {
                    command.arg(flag);
                }
            }
            if let Some(path) = &select.manifest_path {
                command.arg("--manifest-path").arg(path);
            }
            if let Some(folder) = &select.target_dir {
                command.arg("--target-dir").arg(folder);
            }
        }
    }
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    if !output.status.success() {
        return Err(Refused(match kind {
            Kind::Test => "the tests do not build; nothing was run".into(),
            Kind::Program => "the programs do not build".into(),
        }));
    }
    let messages = output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    messages.filter_map(|m| binary(&m, together, kind)).collect()
}

/// The binary that a message of cargo's is about, if it is about one.
fn binary(message: &Value, together: &Together, wanted: Kind) -> Option<Result<Binary, Refused>> {
    let is_wanted = message["reason"] == "compiler-artifact"
        && match wanted {
            Kind::Test => message["profile"]["test"] == true,
            Kind::Program => message["profile"]["test"] == false && message["target"]["kind"][0] == "bin",
        };
    let path = PathBuf::from(message["executable"].as_str().filter(|_| is_wanted)?);
    let target = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let krate = target.replace('-', "_");
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let manifest = match &together.way {
        Way::DropIn(drop_in) => drop_in.shadow.behind(manifest),
        Way::Plain | Way::Feature(_) | Way::Vendored(_) => manifest.to_owned(),
    };
    let package = together.packages.iter().find(|p| p.manifest_path == manifest)?;
    let folder = package.folder().to_owned();
    let mut environment = vec![
        ("CARGO_MANIFEST_DIR".to_owned(), folder.display().to_string()),
        ("CARGO_MANIFEST_PATH".to_owned(), manifest.display().to_string()),
        ("CARGO_PKG_NAME".to_owned(), package.name.clone()),
        ("CARGO_PKG_VERSION".to_owned(), package.version.clone()),
    ];
    if kind == "proc-macro" {
        // The compiler's own libraries.
        environment.extend(compiler_libraries().map(|path| ("LD_LIBRARY_PATH".to_owned(), path)));
    }
    let enters = match &together.way {
        Way::DropIn(drop_in) => drop_in.takes(package),
        Way::Vendored(_) => true,
        Way::Plain | Way::Feature(_) => false,
    };
    if enters {
        environment.push(("SIM_DROP_IN".to_owned(), "1".to_owned()));
        environment.push(("SIM_TEST_CRATE".to_owned(), krate.clone()));
        if std::env::var_os("SIM_DIR").is_none() {
            let kept = kept(&together.way, package);
            environment.push(("SIM_DIR".to_owned(), kept.display().to_string()));
        }
    }
    let harness = fs::read_to_string(&manifest).is_ok_and(|text| harness(&text, kind, target));
    let executable = Executable::open(path).map_err(Refused);
    Some(executable.map(|executable| Binary { executable, krate, folder, environment, harness }))
}

/// Where failed seeds and tapes of a package's tests are kept. A project that knows of the simulator, because it depends on
/// `sim` or has a folder for them, has them beside its manifest. Any other one is left as it is.
fn kept(way: &Way, package: &Package) -> PathBuf {
    let folder = package.folder();
    let knows = package.dependencies.iter().any(|d| d.name == "sim") || folder.join("sim-regressions").is_dir();
    match way {
        Way::DropIn(drop_in) if !knows => drop_in.shadow.kept(&package.name),
        _ => folder.to_owned(),
    }
}

/// Where the tests of macros find the libraries that they are linked to.
fn compiler_libraries() -> Option<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let library = format!("{}/lib", String::from_utf8_lossy(&output.stdout).trim());
    Some(std::env::var("LD_LIBRARY_PATH").map_or(library.clone(), |path| format!("{library}:{path}")))
}

/// Whether a target of a manifest has the usual test harness: all have that do not say otherwise.
fn harness(manifest: &str, kind: &str, target: &str) -> bool {
    let Ok(manifest) = manifest.parse::<DocumentMut>() else { return true };
    let is_off = |table: &toml_edit::Table| table.get("harness").and_then(|h| h.as_bool()) == Some(false);
    match manifest.get(kind).and_then(|listed| listed.as_array_of_tables()) {
        Some(listed) => {
            let named = |t: &&toml_edit::Table| t.get("name").and_then(|n| n.as_str()) == Some(target);
            !listed.iter().filter(named).any(is_off)
        }
        // A package has one library, of whatever kind.
        None if !["test", "bin", "example", "bench"].contains(&kind) => {
            !manifest.get("lib").and_then(|lib| lib.as_table()).is_some_and(is_off)
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_feature_is_the_packages_own_or_its_dependencys() {
        let on = |features: Value, name: &str, rename: Value| {
            let package = json!({
                "id": "a", "name": "a", "version": "1.0.0", "source": null, "manifest_path": "/a/Cargo.toml", "targets": [],
                "features": features, "dependencies": [{ "name": name, "rename": rename, "path": null }],
            });
            feature(&serde_json::from_value(package).expect("a package"), "sim-tokio")
        };
        assert_eq!(on(json!({ "sim": ["tokio/sim"] }), "sim-tokio", json!("tokio")), Some("sim".into()));
        assert_eq!(on(json!({}), "sim-tokio", json!("tokio")), Some("tokio/sim".into()));
        assert_eq!(on(json!({}), "sim-tokio", Value::Null), Some("sim-tokio/sim".into()));
        assert_eq!(on(json!({}), "tokio", Value::Null), None);
    }

    #[test]
    fn a_target_has_the_usual_harness_unless_it_says_otherwise() {
        let manifest =
            "[lib]\nharness = false\n[[test]]\nname = \"own\"\nharness = false\n[[test]]\nname = \"usual\"\n";
        let off = |kind: &str, target: &str| !harness(manifest, kind, target);
        assert!(off("test", "own") && off("lib", "own") && off("proc-macro", "own"));
        assert!(!off("test", "usual") && !off("test", "unlisted") && !off("bin", "own"));
    }
}
