//! Judging the graph of a project's packages: which tokio it has, whether it can be operated, and afterwards, whether no
//! other is left.

use super::tokio::{OLDEST, Place, Source};
use crate::metadata::{Metadata, Package};
use std::path::Path;

/// The tokio to operate; `None` where a graph has none at all.
pub fn find(graph: &Metadata) -> Result<Option<Source>, String> {
    let (ones, older): (Vec<&Package>, Vec<&Package>) =
        graph.named("tokio").partition(|p| p.version_numbers() >= (1, 0));
    let through = |package: &Package| graph.through(&|p| p.id == package.id);
    match (&ones[..], &older[..]) {
        ([], []) => Ok(None),
        ([], [old, ..]) => Err(format!(
            "this project's tokio is {} ({}), and only tokio 1.{OLDEST} and newer can be simulated: upgrade what asks for \
             it to tokio 1",
            old.version,
            through(old)
        )),
        ([one], _) if !one.is_from_crates_io() => {
            let from = one.source.as_deref().map_or_else(|| one.folder().display().to_string(), str::to_owned);
            Err(format!(
                "tokio {} is not the one from crates.io here but {from} ({}): a tokio that the project patches itself \
                 cannot be operated. Take the patch out, or the dependency on git or a path",
                one.version,
                through(one)
            ))
        }
        ([one], _) if one.version_numbers() < (1, OLDEST) => Err(format!(
            "tokio {} is locked ({}), and only tokio 1.{OLDEST} and newer can be simulated: `cargo update tokio \
             --recursive` takes the newest that the project allows",
            one.version,
            through(one)
        )),
        ([one], _) => Ok(Some(Source::of(one))),
        (many, _) => {
            let each: Vec<String> = many.iter().map(|p| through(p)).collect();
            Err(format!(
                "there is more than one tokio 1 in this project's graph, from different sources ({}): let all of them come \
                 from crates.io",
                each.join("; ")
            ))
        }
    }
}

/// A tokio of a former major version beside the one that is operated: it stays as it is.
pub fn left_real(graph: &Metadata) -> Vec<String> {
    let older = graph.named("tokio").filter(|p| p.version_numbers() < (1, 0));
    let line = |p: &Package| {
        let through = graph.through(&|q| q.id == p.id);
        format!("tokio {} is in the graph too ({through}); it is not simulated, and what it does may escape", p.version)
    };
    older.map(line).collect()
}

/// The crate `sim` that a project has in its graph already: two of them must not meet.
pub fn sim(graph: &Metadata) -> Result<Option<Place>, String> {
    let is_ours = |p: &&Package| p.dependencies.iter().any(|d| d.name == "sim-core");
    let Some(sim) = graph.named("sim").find(is_ours) else { return Ok(None) };
    let Some(source) = &sim.source else { return Ok(Some(vec![("path".into(), sim.folder().display().to_string())])) };
    if let Some(git) = source.strip_prefix("git+") {
        let (url, _commit) = git.split_once('#').unwrap_or((git, ""));
        let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
        let mut place = vec![("git".to_owned(), url.to_owned())];
        if let Some((key, value)) = query.and_then(|q| q.split_once('=')) {
            place.push((key.to_owned(), value.to_owned()));
        }
        return Ok(Some(place));
    }
    if sim.is_from_crates_io() {
        return Ok(Some(vec![("version".into(), format!("={}", sim.version))]));
    }
    Err(format!("the crate sim comes from {source} here; depend on it by path, git or crates.io"))
}

/// The versions of a package in a graph.
pub fn versions(graph: &Metadata, name: &str) -> Vec<String> {
    let mut versions: Vec<String> = graph.named(name).map(|p| p.version.clone()).collect();
    versions.sort_unstable();
    versions
}

/// Whether the copy in `folder` is the one tokio 1 of a graph, over one simulator.
pub fn check(graph: &Metadata, folder: &Path) -> Result<(), String> {
    let is_copy = |p: &Package| p.name == "tokio" && p.source.is_none() && p.folder() == folder;
    let is_other = |p: &Package| p.name == "tokio" && p.version_numbers() >= (1, 0) && !is_copy(p);
    if graph.packages.iter().any(is_other) {
        return Err(format!(
            "a tokio 1 that is not operated is left in the graph ({}): cargo did not take the generated one in its place. \
             Something asks for a version or a source that the lock does not have; `cargo update -p tokio` may help",
            graph.through(&is_other)
        ));
    }
    if !graph.packages.iter().any(is_copy) {
        return Err("cargo did not take the generated tokio into the graph".into());
    }
    let cores = versions(graph, "sim-core");
    if cores.len() != 1 {
        return Err(format!(
            "there is more than one sim-core in the graph ({}): a run would have two worlds. Let the project's crates of \
             sim come from one place, or name it with SIM_SOURCE=FOLDER",
            cores.join(", ")
        ));
    }
    Ok(())
}

/// Packages that had another version before: `libc 0.2.98 -> 0.2.188`.
pub fn moved(before: &Metadata, after: &Metadata) -> Vec<String> {
    let mut moved = Vec::new();
    for old in before.packages.iter().filter(|p| p.is_from_crates_io() && p.name != "tokio") {
        if after.named(&old.name).any(|new| new.version == old.version) {
            continue;
        }
        let is_next = |new: &&Package| !before.named(&new.name).any(|p| p.version == new.version);
        if let Some(new) = after.named(&old.name).find(is_next) {
            moved.push(format!("{} {} -> {}", old.name, old.version, new.version));
        }
    }
    moved
}
