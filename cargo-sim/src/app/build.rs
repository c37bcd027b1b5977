//! Builds test binaries with cargo, and finds out which features make them simulated ones.

use super::Refused;
use super::args::Select;
use super::say::warn;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A test binary.
pub struct Binary {
    pub path: PathBuf,
    /// The name of its crate, with which full names of tests begin.
    pub krate: String,
    /// The folder of its package's manifest, in which cargo runs tests.
    pub folder: PathBuf,
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the test binaries.
pub fn build(select: &Select) -> Result<Vec<Binary>, Refused> {
    let mut binaries = Vec::new();
    for (packages, feature) in plan(select)? {
        binaries.extend(build_one(select, &packages, feature)?);
    }
    Ok(binaries)
}

/// Packages that are built together, and the feature that turns the simulation on for them.
type Together = (Vec<String>, Option<String>);

fn plan(select: &Select) -> Result<Vec<Together>, Refused> {
    let mut command = cargo();
    command.args(["metadata", "--format-version=1", "--no-deps"]);
    if let Some(path) = &select.manifest_path {
        command.arg("--manifest-path").arg(path);
    }
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    if !output.status.success() {
        return Err(Refused("cargo metadata failed: there is no project here that can be tested".into()));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata cannot be read: {e}"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let chosen = chosen(select, &packages)?;
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for package in chosen {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        match feature(package) {
            None => together.push(name),
            Some(feature) => {
                // Standard error, so that scripts can read standard output.
                warn(format_args!("{name} depends on sim-tokio; building with feature `{feature}`"));
                alone.push((vec![name], Some(feature)));
            }
        }
    }
    if !together.is_empty() {
        alone.insert(0, (together, None));
    }
    Ok(alone)
}

/// The packages that cargo would test.
fn chosen<'a>(select: &Select, packages: &'a [Value]) -> Result<Vec<&'a Value>, Refused> {
    let names = || packages.iter().filter_map(|p| p["name"].as_str()).collect::<Vec<_>>().join(", ");
    if !select.package.is_empty() {
        let find = |name: &String| {
            packages.iter().find(|p| p["name"] == name.as_str()).ok_or_else(|| {
                Refused(format!("there is no package {name} in this workspace: expected one of {}", names()))
            })
        };
        return select.package.iter().map(find).collect();
    }
    let here = match &select.manifest_path {
        Some(path) => path.canonicalize().ok().and_then(|p| Some(p.parent()?.to_owned())),
        None => std::env::current_dir().ok().and_then(|p| p.canonicalize().ok()),
    };
    let folder = |p: &Value| Path::new(p["manifest_path"].as_str()?).parent()?.canonicalize().ok();
    let holds = |p: &&Value| folder(p).zip(here.clone()).is_some_and(|(f, here)| here.starts_with(f));
    let nearest = packages.iter().filter(holds).max_by_key(|p| folder(p).map_or(0, |f| f.components().count()));
    match nearest.filter(|_| !select.workspace) {
        Some(package) => Ok(vec![package]),
        None => Ok(packages.iter().collect()),
    }
}

/// The feature that swaps tokio in this package: its own one named `sim`, else the one of its dependency.
fn feature(package: &Value) -> Option<String> {
    let dependency = package["dependencies"].as_array()?.iter().find(|d| d["name"] == "sim-tokio")?;
    if package["features"].get("sim").is_some() {
        return Some("sim".into());
    }
    let name = dependency["rename"].as_str().unwrap_or("sim-tokio");
    Some(format!("{name}/sim"))
}

fn build_one(select: &Select, packages: &[String], feature: Option<String>) -> Result<Vec<Binary>, Refused> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    packages.iter().for_each(|p| {
        command.args(["-p", p]);
    });
    select.targets.iter().for_each(|t| {
        command.args(["--test", t]);
    });
    select.features.iter().chain(&feature).for_each(|f| {
        command.args(["--features", f]);
    });
    for (flag, given) in [
        ("--lib", select.lib),
        ("--all-features", select.all_features),
        ("--no-default-features", select.no_default_features),
        ("--release", select.release),
        ("--locked", select.locked),
        ("--offline", select.offline),
        ("--frozen", select.frozen),
    ] {
        if given {
            command.arg(flag);
        }
    }
    if let Some(profile) = &select.profile {
        command.args(["--profile", profile]);
    }
    if let Some(path) = &select.manifest_path {
        command.arg("--manifest-path").arg(path);
    }
    if let Some(folder) = &select.target_dir {
        command.arg("--target-dir").arg(folder);
    }
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("cargo cannot be executed: {e}"))?;
    if !output.status.success() {
        return Err(Refused("the tests do not build; nothing was run".into()));
    }
    let messages = output.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    Ok(messages.filter_map(|m| binary(&m)).collect())
}

fn binary(message: &Value) -> Option<Binary> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let path = PathBuf::from(message["executable"].as_str().filter(|_| is_test)?);
    let krate = message["target"]["name"].as_str()?.replace('-', "_");
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(Binary { path, krate, folder })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_feature_is_the_packages_own_or_its_dependencys() {
        let on = |features: Value, rename: Value| {
            feature(&json!({ "features": features, "dependencies": [{ "name": "sim-tokio", "rename": rename }] }))
        };
        assert_eq!(on(json!({ "sim": ["tokio/sim"] }), json!("tokio")), Some("sim".into()));
        assert_eq!(on(json!({}), json!("tokio")), Some("tokio/sim".into()));
        assert_eq!(on(json!({}), Value::Null), Some("sim-tokio/sim".into()));
        assert_eq!(feature(&json!({ "features": {}, "dependencies": [{ "name": "tokio" }] })), None);
    }
}
