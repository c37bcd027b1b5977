//! The nevers of this project that a few lines can check. Each rule names the file and the line that break it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder` but the modules of tests, in a fixed order.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root().join(folder)];
    while let Some(dir) = left.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for entry in entries {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|n| n != "tests.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {folder}: the rule would check nothing");
    found
}

/// Lines of code with their numbers: without comments and modules of tests.
fn code(path: &Path) -> Vec<(usize, String)> {
    shipped(&fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn shipped(text: &str) -> Vec<(usize, String)> {
    let mut lines = text.lines().enumerate().peekable();
    let mut shipped = Vec::new();
    while let Some((i, line)) = lines.next() {
        let begins = |(_, next): &(usize, &str)| next.starts_with("mod ") && next.ends_with('{');
        if line == "#[cfg(test)]" && lines.peek().is_some_and(begins) {
            // As rustfmt has it, the next brace without an indent ends the module.
            lines.by_ref().find(|(_, line)| *line == "}");
        } else {
            shipped.push((i + 1, line.split("//").next().unwrap_or("").to_owned()));
        }
    }
    shipped
}

/// Files name their tests' module at their top, and every rule here then read those few lines and nothing below.
#[test]
fn rules_see_all_of_a_file_but_its_modules_of_tests() {
    let text = "a\n#[cfg(test)]\nmod tests;\nb // c\n#[cfg(test)]\nmod more {\n    d\n}\ne\n";
    let seen: Vec<(usize, String)> = shipped(text);
    let seen: Vec<(usize, &str)> = seen.iter().map(|(i, line)| (*i, line.as_str())).collect();
    assert_eq!(seen, [(1, "a"), (2, "#[cfg(test)]"), (3, "mod tests;"), (4, "b "), (9, "e")]);
}

/// Fails if `word` stands in the code below one of `folders`, except in the files of `but`.
fn never(word: &str, folders: &[&str], but: &[&str], why: &str) {
    let mut broken = Vec::new();
    for path in folders.iter().flat_map(|f| sources(f)) {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if but.iter().any(|b| name.starts_with(b)) {
            continue;
        }
        for (line, text) in code(&path) {
            if text.contains(word) {
                broken.push(format!("{name}:{line}: {}", text.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "`{word}` must not stand here ({why}):\n{}", broken.join("\n"));
}

const RUNTIME: [&str; 4] = ["sim-core/src", "sim-net/src", "sim-disk/src", "src"];
const EVERYWHERE: [&str; 9] =
    ["sim-core", "sim-net", "sim-disk", "sim-libc", "src", "sim-tokio", "sim-macros", "cargo-sim", "examples"];

#[test]
fn the_feature_is_asked_for_in_one_file() {
    never("feature = \"sim\"", &EVERYWHERE, &["sim-tokio/src/lib.rs", "sim-tokio/tests"], "one switch");
}

#[test]
fn nothing_is_left_undone() {
    for word in ["todo!(", "unimplemented!(", "#[ignore"] {
        never(word, &EVERYWHERE, &[], "real or nothing");
    }
}

#[test]
fn above_libc_there_is_one_thread_local() {
    never("thread_local!", &EVERYWHERE, &["sim-core/src/world.rs", "sim-libc/"], "one path to the World");
}

#[test]
fn no_float_decides_and_none_is_stored() {
    for word in ["f64", "f32"] {
        never(word, &["sim-core/src", "sim-net/src", "sim-disk/src"], &[], "floats differ between builds");
    }
}

#[test]
fn hash_order_is_not_asked_for() {
    for word in ["HashMap", "HashSet"] {
        never(word, &RUNTIME, &["sim-core/src/hash.rs"], "look up in hash::Map, iterate a Vec or a BTreeMap");
    }
}

#[test]
fn the_core_knows_no_sockets_files_threads_or_clocks() {
    for word in ["std::net", "std::fs", "std::thread", "SystemTime", "extern \"C\"", "std::env", "tokio::"] {
        never(word, &["sim-core/src"], &[], "the core is pure");
    }
}

#[test]
fn models_see_no_wakers_no_runtime_and_no_system() {
    for word in ["Waker", "std::task", "tokio::", "crate::api", "std::fs::", "std::env", "std::thread", "World"] {
        never(word, &["sim-net/src/model", "sim-disk/src/model"], &[], "models are pure");
    }
}

#[test]
fn unsafe_code_has_one_home_and_three_counted_exceptions() {
    let exceptions = ["sim-core/src/waker.rs", "cargo-sim/src/dropin/hunks.rs", "cargo-sim/src/dropin/glue/__sim.rs"];
    for word in ["unsafe ", "unsafe_code)"] {
        never(word, &EVERYWHERE, &[&["sim-libc/"][..], &exceptions].concat(), "unsafe lives in sim-libc");
    }
    for exception in exceptions {
        let count = code(&root().join(exception)).iter().filter(|(_, l)| l.contains("unsafe {")).count();
        assert_eq!(count, 1, "{exception} holds one");
    }
}

#[test]
fn nothing_that_a_program_calls_by_libc_panics() {
    // The runner's side of processes, and other systems.
    let but = ["process/launcher.rs", "process/jobs.rs", "process/start.rs", "elsewhere.rs"];
    let but = but.map(|file| format!("sim-libc/src/{file}"));
    let but: Vec<&str> = but.iter().map(String::as_str).collect();
    for word in [".unwrap()", ".expect(", "panic!(", "assert!(", "assert_eq!(", "assert_ne!(", "unreachable!("] {
        never(word, &["sim-libc/src"], &but, "a panic must not leave an extern \"C\" function");
    }
}

/// Which crates of this workspace each one may depend on. Arrows point down only.
#[test]
fn arrows_point_down() {
    let allowed: [(&str, &[&str]); 7] = [
        ("sim-core", &[]),
        ("sim-net", &["sim-core"]),
        ("sim-disk", &["sim-core"]),
        ("sim-libc", &["sim-core", "sim-net", "sim-disk"]),
        ("sim-macros", &[]),
        ("cargo-sim", &[]),
        ("sim-tokio", &["sim", "sim-core", "sim-net", "sim-disk", "sim-macros"]),
    ];
    for (krate, down) in allowed {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).expect("every crate has a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).expect("every crate lists its dependencies");
        let dependencies = dependencies.split("[dev-dependencies]").next().unwrap_or("");
        for line in dependencies.lines() {
            let name = line.split([' ', '.', '=']).next().unwrap_or("");
            let ours = name == "sim" || name.starts_with("sim-");
            assert!(!ours || down.contains(&name), "{krate} must not depend on {name}");
            let tokio = line.starts_with("tokio") || line.contains("package = \"tokio\"");
            assert!(!tokio || krate == "sim-tokio", "{krate} must not depend on a tokio: {line}");
        }
    }
    let sim = fs::read_to_string(root().join("Cargo.toml")).expect("the root has a manifest");
    let own =
        sim.split("\n[dependencies]").nth(1).and_then(|d| d.split("\n[").next()).expect("it lists its dependencies");
    assert!(!own.contains("tokio"), "the crate `sim` stands beside any tokio and depends on none");
}
