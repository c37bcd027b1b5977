//! The generated tokio as a part of the project, behind a feature that is off by default.
//!
//! With the feature off it is tokio, file by file as it came from the registry, and no crate of ours is in the graph. So a
//! file that hunks change stands there twice, and the `mod` item that names it chooses by the feature. `lib.rs` has nobody
//! that names it: what hunks add to it are items, and each gets the feature as its condition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The feature.
pub const FEATURE: &str = "sim";

/// Files below `src`, by path.
pub type Texts = BTreeMap<PathBuf, String>;

/// Both trees in one: `operated` is `real` with changed and added files.
pub fn both(mut real: Texts, mut operated: Texts) -> Result<Texts, String> {
    let lib = Path::new("lib.rs");
    let is_changed = |path: &Path| real.get(path).is_some_and(|old| operated.get(path) != Some(old));
    let changed: Vec<PathBuf> = real.keys().filter(|path| is_changed(path) && *path != lib).cloned().collect();
    let variants: Vec<PathBuf> = changed.iter().map(|path| variant(path, &real)).collect();
    for (path, variant) in changed.iter().zip(&variants) {
        let (parent, name) = named_by(path, &real)?;
        // The changed version of the file that names it may stand in another folder.
        let operated_parent = changed.iter().position(|p| *p == parent).map_or(&parent, |i| &variants[i]);
        for (texts, stands) in [(&mut real, &parent), (&mut operated, operated_parent)] {
            let relative = variant.strip_prefix(stands.parent().unwrap_or(Path::new(""))).unwrap_or(variant);
            let text = texts.get_mut(&parent).ok_or_else(|| format!("tokio has no src/{}", parent.display()))?;
            *text = choose(text, &name, relative)
                .ok_or_else(|| format!("src/{} does not name its module {name}", parent.display()))?;
        }
    }
    if let (Some(old), Some(new)) = (real.get_mut(lib), operated.remove(lib)) {
        *old = conditional(old, &new)?;
    }
    for (path, variant) in changed.into_iter().zip(variants) {
        real.extend(operated.remove(&path).map(|text| (variant, text)));
    }
    for (path, text) in operated {
        real.entry(path).or_insert(text);
    }
    Ok(real)
}

/// Where the changed version of a file stands. Modules in it are looked for beside it, as in every file that a `path`
/// names.
fn variant(path: &Path, all: &Texts) -> PathBuf {
    let folder = path.with_extension("");
    if path.file_name().is_some_and(|n| n == "mod.rs") {
        path.with_file_name("mod_sim.rs")
    } else if all.keys().any(|other| other.starts_with(&folder)) {
        folder.join("mod_sim.rs")
    } else {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{name}_sim.rs"))
    }
}

/// The file that names a module, and the module's name.
fn named_by(path: &Path, all: &Texts) -> Result<(PathBuf, String), String> {
    let folder = if path.file_name().is_some_and(|n| n == "mod.rs") { path.parent() } else { None };
    let module = folder.map_or_else(|| path.with_extension(""), Path::to_owned);
    let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let outer = module.parent().unwrap_or(Path::new(""));
    let candidates = [outer.join("mod.rs"), outer.with_extension("rs"), outer.join("lib.rs")];
    let parent = candidates.into_iter().find(|p| all.contains_key(p));
    parent.map(|parent| (parent, name)).ok_or_else(|| format!("nobody names src/{}", path.display()))
}

/// A text whose `mod name;` is another file while the feature is on. It may stand there for several conditions.
fn choose(text: &str, name: &str, file: &Path) -> Option<String> {
    let item = format!("mod {name};");
    let names = |line: &&str| {
        let line = line.trim();
        line == item || (line.starts_with("pub") && line.ends_with(&format!(" {item}")))
    };
    text.lines().find(names)?;
    let line = |line: &str| {
        if !names(&line) {
            return format!("{line}\n");
        }
        format!("#[cfg_attr(feature = \"{FEATURE}\", path = \"{}\")]\n{line}\n", file.display())
    };
    Some(text.lines().map(line).collect())
}

/// `new` is `old` with more lines, which hold items: those become conditional.
fn conditional(old: &str, new: &str) -> Result<String, String> {
    let mut left = old.lines().peekable();
    let (mut text, mut added) = (String::new(), String::new());
    let put = |added: &mut String, text: &mut String| {
        if !added.trim().is_empty() {
            // A macro of tokio's own kind: it gives each of its items a condition.
            text.push_str(&format!(
                "macro_rules! cfg_operated {{ ($($item:item)*) => {{ $(#[cfg(feature = \"{FEATURE}\")] $item)* }} }}\n\
                 cfg_operated! {{\n{added}}}\n"
            ));
        }
        added.clear();
    };
    for line in new.lines() {
        if left.next_if(|old| *old == line).is_some() {
            put(&mut added, &mut text);
            text.push_str(&format!("{line}\n"));
        } else {
            added.push_str(&format!("{line}\n"));
        }
    }
    put(&mut added, &mut text);
    match left.next() {
        None => Ok(text),
        Some(line) => Err(format!("a change of lib.rs is not an addition, so it cannot be conditional: `{line}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[(&str, &str)]) -> Texts {
        of.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
    }

    #[test]
    fn a_changed_file_stands_there_twice_and_its_module_chooses() {
        let real = texts(&[
            ("lib.rs", "#![allow(x)]\nmod rt;\n"),
            (
                "rt/mod.rs",
                "cfg_rt! {\n    pub(crate) mod task;\n    mod park;\n}\ncfg_not_rt! {\n    pub mod park;\n}\n",
            ),
            ("rt/task.rs", "mod core;\nwas()\n"),
            ("rt/task/core.rs", "core()\n"),
            ("rt/park.rs", "park()\n"),
        ]);
        let mut operated = real.clone();
        operated.insert("rt/task.rs".into(), "mod core;\nis()\n".into());
        operated.insert("rt/task/core.rs".into(), "sim_core()\n".into());
        operated.insert("rt/park.rs".into(), "sim()\n".into());
        operated.insert("lib.rs".into(), "#![allow(x)]\npub mod __sim;\nmod rt;\n".into());
        operated.insert("__sim.rs".into(), "glue()\n".into());
        let both = both(real, operated).expect("they fit");
        let text = |path: &str| both.get(Path::new(path)).map(String::as_str);
        let choice = |path: &str| format!("#[cfg_attr(feature = \"sim\", path = \"{path}\")]\nmod core;\n");
        assert_eq!(text("rt/task.rs"), Some(format!("{}was()\n", choice("task/core_sim.rs")).as_str()));
        assert_eq!(text("rt/task/mod_sim.rs"), Some(format!("{}is()\n", choice("core_sim.rs")).as_str()));
        assert_eq!(text("rt/task/core_sim.rs"), Some("sim_core()\n"));
        assert_eq!((text("rt/park.rs"), text("rt/park_sim.rs")), (Some("park()\n"), Some("sim()\n")));
        assert_eq!(text("__sim.rs"), Some("glue()\n"));
        let names = text("rt/mod.rs").expect("is there");
        assert!(names.contains("path = \"task/mod_sim.rs\")]\n    pub(crate) mod task;"), "{names}");
        for item in ["mod park;", "pub mod park;"] {
            assert!(names.contains(&format!("path = \"park_sim.rs\")]\n    {item}")), "{names}");
        }
        let lib = text("lib.rs").expect("is there");
        assert!(
            lib.starts_with("#![allow(x)]\nmacro_rules!") && lib.contains("{\npub mod __sim;\n}\nmod rt;\n"),
            "{lib}"
        );
        assert!(!both.contains_key(Path::new("rt/mod_sim.rs")), "what only names others is there once");
    }

    #[test]
    fn a_changed_line_of_lib_rs_is_refused() {
        let why = conditional("a\nb\n", "a\nc\n").expect_err("b is gone");
        assert!(why.contains("`b`"), "{why}");
    }
}
