//! `cargo sim test` in projects that know nothing of it: what it takes, what it refuses and with which remedy, and that it
//! leaves no trace in them.
//!
//! Projects are made here, offline. Where a crate only has to be in a graph it is an empty one in a vendor folder.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A folder that is made anew for each test. Its place stays the same, so that cargo finds what it built before.
struct Project {
    top: PathBuf,
    /// Where the user stands.
    folder: PathBuf,
}

impl Project {
    fn new(name: &str) -> Project {
        let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("drop_in").join(name);
        let _none_yet = fs::remove_dir_all(&top);
        let folder = top.join("project");
        fs::create_dir_all(&folder).expect("a folder");
        Project { top, folder }
    }

    fn file(&self, path: &str, text: &str) -> &Project {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        self
    }

    /// A package with one plain test, and these dependencies.
    fn package(&self, dependencies: &str) -> &Project {
        self.file("Cargo.toml", &manifest("app", dependencies)).file("src/lib.rs", "#[test]\nfn plain() {}\n")
    }

    /// A crate in the project's vendor folder, which stands in for crates.io.
    fn vendored(&self, name: &str, version: &str) -> &Project {
        let folder = format!("vendor/{name}-{version}");
        self.file(".cargo/config.toml", VENDORED);
        self.file(
            &format!("{folder}/Cargo.toml"),
            &format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n"),
        );
        self.file(&format!("{folder}/src/lib.rs"), "");
        self.file(
            &format!("{folder}/.cargo-checksum.json"),
            &format!("{{\"files\":{{}},\"package\":\"{}\"}}", "0".repeat(64)),
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-sim"));
        command.args(arguments).current_dir(&self.folder);
        for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO_NET_OFFLINE"] {
            command.env_remove(name);
        }
        without_sim(&mut command);
        command
    }

    /// What is printed by a command line that must be refused.
    fn refusal(&self, arguments: &[&str]) -> String {
        refused(self.command(arguments))
    }

    /// All files of the project but those of its target folder, with their texts.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut left, mut found) = (vec![self.folder.clone()], Vec::new());
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).expect("readable").flatten() {
                let path = entry.path();
                if path.is_dir() && entry.file_name() != "target" {
                    left.push(path);
                } else if path.is_file() {
                    found.push((path.clone(), fs::read(path).expect("readable")));
                }
            }
        }
        found.sort();
        found
    }
}

/// These tests may be run by a cargo sim themselves.
fn without_sim(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SIM_")) {
        command.env_remove(name);
    }
}

const VENDORED: &str = "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"vendor\"\n";

fn manifest(name: &str, more: &str) -> String {
    format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n{more}\n")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn refused(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("Compiling"), "nothing is built before a refusal: {said}");
    said
}

fn accepted(mut command: Command) -> String {
    let output = command.output().expect("it starts");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    said
}

/// As Ctrl-C does.
fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(status.success());
}

/// A part of what must be said, which line breaks may divide.
fn says(said: &str, part: &str) {
    assert!(said.contains(part), "it says `{part}`: {said}");
}

#[test]
fn a_folder_that_is_no_project_is_refused() {
    // Not below this workspace.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut command = Project::new("no-project").command(&["test"]);
    command.current_dir(elsewhere.path());
    let said = refused(command);
    says(&said, "there is no project here");
    says(&said, "--manifest-path");
}

#[test]
fn a_tokio_before_1_is_refused() {
    let project = Project::new("tokio-0");
    project.package("tokio = \"0.2\"").vendored("tokio", "0.2.25");
    let said = project.refusal(&["test", "--offline"]);
    says(&said, "this project's tokio is 0.2.25 (app -> tokio 0.2.25)");
    says(&said, "upgrade");
}

#[test]
fn a_tokio_that_is_too_old_is_refused() {
    let project = Project::new("tokio-old");
    project.package("tokio = \"1\"").vendored("tokio", "1.8.1");
    let said = project.refusal(&["test", "--offline"]);
    says(&said, "tokio 1.8.1 is locked (app -> tokio 1.8.1), and only tokio 1.32 and newer");
    says(&said, "cargo update tokio --recursive");
}

#[test]
fn a_tokio_that_the_project_patches_itself_is_refused() {
    let project = Project::new("patched");
    project.package("tokio = \"1\"\n[patch.crates-io]\ntokio = { path = \"own\" }");
    project.file("own/Cargo.toml", &manifest("tokio", "").replace("0.1.0", "1.54.1")).file("own/src/lib.rs", "");
    let said = project.refusal(&["test", "--offline"]);
    says(&said, "is not the one from crates.io here");
    says(&said, "Take the patch out");
}

#[test]
fn an_anchor_that_is_not_there_is_refused_by_name_and_leaves_no_trace() {
    let project = Project::new("no-anchor");
    project.package("tokio = \"1\"").vendored("tokio", "1.99.0");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(&project.folder).output().expect("git is there");
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    let before = (project.state(), git(&["status", "--short", "--untracked-files=all"]));
    let said = project.refusal(&["test", "--offline"]);
    says(
        &said,
        "tokio 1.99.0 cannot be operated: `the module __sim` does not fit: its anchor in src/lib.rs is not there",
    );
    says(&said, "cargo update -p tokio --precise");
    let after = (project.state(), git(&["status", "--short", "--untracked-files=all"]));
    assert!(project.folder.join("target/sim").exists());
    assert!(before == after, "no file, no lock and nothing for git: {}", after.1);
}

#[test]
fn without_a_lock_and_a_network_the_remedy_is_named() {
    let project = Project::new("no-lock");
    project.package("tokio = \"1\"");
    let mut command = project.command(&["test", "--offline"]);
    // One in which nothing is downloaded.
    command.env("CARGO_HOME", project.top.join("cargo-home"));
    let said = refused(command);
    says(&said, "there is no Cargo.lock");
    says(&said, "cargo fetch");
    assert!(!project.folder.join("Cargo.lock").exists());
}

#[test]
fn a_locked_tokio_whose_source_is_not_at_hand_is_refused() {
    let project = Project::new("no-source");
    project.package("tokio = \"1\"").file(
        "Cargo.lock",
        "version = 3\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\"tokio\"]\n[[package]]\n\
         name = \"tokio\"\nversion = \"1.54.1\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
    );
    let before = project.state();
    let mut command = project.command(&["test", "--offline"]);
    command.env("CARGO_HOME", project.top.join("cargo-home"));
    says(&refused(command), "run `cargo fetch` once with a network");
    assert!(project.state() == before);
}

#[test]
fn locked_means_the_projects_own_lock() {
    let project = Project::new("locked");
    project.package("tokio = \"1\"").vendored("tokio", "1.54.1");
    let said = project.refusal(&["test", "--offline", "--locked"]);
    says(&said, "--locked was given, and Cargo.lock is missing or would change");
    assert!(!project.folder.join("Cargo.lock").exists());
    let frozen = project.refusal(&["test", "--frozen"]);
    says(&frozen, "--locked was given");
}

#[test]
fn two_simulators_are_refused() {
    let project = Project::new("two-cores");
    project.package("tokio = { version = \"1\", features = [\"rt\"] }\nsim-core = { path = \"core\" }");
    project.file("core/Cargo.toml", &manifest("sim-core", "").replace("0.1.0", "0.0.9")).file("core/src/lib.rs", "");
    let said = project.refusal(&["test", "--offline"]);
    says(&said, "more than one sim-core in the graph (0.0.9, ");
    says(&said, "SIM_SOURCE");
}

#[test]
fn what_sim_is_built_on_joins_vendored_dependencies() {
    let project = Project::new("vendored-sources");
    project.package("tokio = { version = \"1\", features = [\"rt\"] }");
    let mut vendor = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    vendor.args(["vendor", "--offline", "-q"]).current_dir(&project.folder);
    accepted(vendor);
    project.file(".cargo/config.toml", VENDORED);
    // All of it is resolved before two simulators can be told to be two.
    project.package("tokio = { version = \"1\", features = [\"rt\"] }\nsim-core = { path = \"core\" }");
    project.file("core/Cargo.toml", &manifest("sim-core", "").replace("0.1.0", "0.0.9")).file("core/src/lib.rs", "");
    let before = project.state();
    says(&project.refusal(&["test", "--offline"]), "more than one sim-core in the graph");
    assert!(project.state() == before);
}

/// mini-redis, with what it was published with, got a tokio that nobody operates. It depends on two packages that sim needs
/// newer versions of; cargo forgot all that it depends on with the first of them, and then liked an older tokio, which sim
/// does not come with, better than the second.
#[test]
fn versions_that_are_too_old_for_sim_are_moved_and_tokio_stays() {
    let project = Project::new("old-versions");
    let tokio = "tokio = { version = \"1\", features = [\"rt\"] }";
    project.package(tokio);
    let mut vendor = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    vendor.args(["vendor", "--offline", "-q"]).current_dir(&project.folder);
    accepted(vendor);
    project.vendored("pin-project", "1.0.7").vendored("thread_local", "1.1.3").vendored("tokio", "1.32.99").file(
        "vendor/tokio-1.32.99/Cargo.toml",
        "[package]\nname = \"tokio\"\nversion = \"1.32.99\"\nedition = \"2021\"\n[features]\nrt = []\n",
    );
    // What is refused has been resolved.
    project.package(&format!("{tokio}\npin-project = \"1\"\nthread_local = \"1\"\nsim-core = {{ path = \"core\" }}"));
    project.file("core/Cargo.toml", &manifest("sim-core", "").replace("0.1.0", "0.0.9")).file("core/src/lib.rs", "");
    let before = project.state();
    says(&project.refusal(&["test", "--offline"]), "more than one sim-core in the graph");
    assert!(project.state() == before);
}

#[test]
fn a_source_of_sim_that_is_none_is_refused() {
    let project = Project::new("no-sim");
    project.package("tokio = { version = \"1\", features = [\"rt\"] }");
    let mut command = project.command(&["test", "--offline"]);
    command.env("SIM_SOURCE", &project.folder);
    says(&refused(command), "Set SIM_SOURCE to a folder that does");
}

#[test]
fn a_target_that_is_not_there_is_refused() {
    let project = Project::new("no-target");
    project.package("").file("tests/it.rs", "");
    says(&project.refusal(&["test", "--test", "its"]), "there is no test target its here: expected one of it");
}

#[test]
fn where_nothing_can_be_written_the_remedy_is_named() {
    let project = Project::new("read-only");
    project.package("tokio = \"1\"").vendored("tokio", "1.99.0").file("target", "a file").file("cache", "another");
    let mut command = project.command(&["test", "--offline"]);
    command.env("XDG_CACHE_HOME", project.folder.join("cache"));
    says(&refused(command), "give --target-dir a folder that can");
    // With a cache it goes on, up to this tokio that cannot be operated.
    let mut command = project.command(&["test", "--offline"]);
    command.env("XDG_CACHE_HOME", project.top.join("cache"));
    says(&refused(command), "cannot be operated");
    assert!(project.top.join("cache/cargo-sim").is_dir());
}

#[test]
fn vendoring_spares_what_it_did_not_write() {
    let project = Project::new("vendor-spares");
    project.package("tokio = \"1\"").file("sim/tokio/notes.txt", "mine");
    says(&project.refusal(&["vendor", "--offline"]), "was not written by `cargo sim vendor`");
    assert!(project.folder.join("sim/tokio/notes.txt").exists());
}

/// One build of sim and tokio serves all tests that run something.
fn shared_target() -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("drop_in/target").display().to_string()
}

const TOKIO: &str = "tokio = { version = \"1\", features = [\"rt\", \"macros\", \"time\"] }";
const SLEEPS: &str =
    "#[tokio::test]\nasync fn sleeps() {\n    tokio::time::sleep(std::time::Duration::from_millis(1)).await;\n}\n";

#[test]
fn an_untouched_project_runs_and_a_second_time_builds_nothing() {
    let project = Project::new("untouched");
    let ignored = format!("#[test]\n#[{}]\nfn too_slow() {{\n    panic!(\"it is not run\");\n}}\n", "ignore");
    project.file("Cargo.toml", &manifest("app", TOKIO)).file("src/lib.rs", &format!("{SLEEPS}{ignored}"));
    let before = project.state();
    let target = shared_target();
    let test = ["test", "--seeds", "5", "--offline", "--target-dir", &target];
    let said = accepted(project.command(&test));
    says(&said, "app: drop-in, the whole graph over the generated tokio 1.");
    says(&said, "sim: test=app::sleeps seeds=5 passed=5 failed=0");
    let again = accepted(project.command(&test));
    assert!(!again.contains("Compiling"), "nothing is built again: {again}");
    says(&again, "1 passed, 0 failed");
    says(&again, "1 marked as ignored, left out: app::too_slow");
    let named = project.refusal(&["test", "too_slow", "--offline", "--target-dir", &target]);
    says(&named, "app::too_slow is marked as ignored: take the mark away to run it");
    assert!(project.state() == before, "also no lock");
}

#[test]
fn a_program_is_built_over_the_generated_tokio_and_is_where_it_says() {
    let project = Project::new("program");
    let main = "fn main() {\n    \
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();\n    \
                println!(\"{}\", runtime.block_on(async { 6 * 7 }));\n}\n";
    project.file("Cargo.toml", &manifest("app", TOKIO)).file("src/main.rs", main);
    let output =
        project.command(&["build", "--offline", "--target-dir", &shared_target()]).output().expect("it starts");
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    says(&said, "app: drop-in, the whole graph over the generated tokio 1.");
    let paths = String::from_utf8(output.stdout).expect("a path");
    assert_eq!(paths.lines().count(), 1, "nothing else is on standard output: {paths}");
    assert_eq!(accepted(Command::new(paths.trim())), "42\n", "it is the real program");
}

/// By hand, in a debugger: the binary ran the real test without a word, or simulated it and told no verdict.
#[test]
fn a_test_binary_runs_one_seed_in_place_or_says_that_it_runs_for_real() {
    let project = Project::new("by-hand");
    let fails = SLEEPS.replace("sleeps", "fails").replace(".await;", ".await;\n    panic!(\"it fails\");");
    let simulated = "#[sim::test]\nasync fn simulated(sim: sim::Sim) {\n    println!(\"seed {}\", sim.seed());\n}\n";
    let sim = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").display();
    project.file("Cargo.toml", &manifest("app", &format!("{TOKIO}\nsim = {{ path = \"{sim}\" }}")));
    project.file("src/lib.rs", &format!("{SLEEPS}{fails}{simulated}"));
    let mut build = project.command(&["build", "--lib", "--offline", "--target-dir", &shared_target()]);
    let output = build.output().expect("it starts");
    assert!(output.status.success(), "{}", text(&output));
    let binary = String::from_utf8(output.stdout).expect("a path");
    let run = |vars: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(binary.trim());
        without_sim(&mut command);
        let vars = vars.iter().copied();
        let output = command.current_dir(&project.folder).args(arguments).envs(vars).output().expect("it starts");
        (output.status.code(), text(&output))
    };
    let in_place = [("SIM_INPLACE", "1"), ("SIM_SEED", "3")];

    let (status, said) = run(&in_place, &["sleeps", "--exact"]);
    says(&said, "sim: test=app::sleeps seed=0x3 verdict=passed digest=");
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&in_place, &["fails", "--exact"]);
    says(&said, "sim: test=app::fails seed=0x3 verdict=panicked digest=");
    says(&said, "it fails");
    assert_eq!(status, Some(1), "{said}");
    let (status, said) = run(&in_place, &["simulated", "--exact"]);
    says(&said, "seed 3\n");
    says(&said, "sim: test=app::simulated seed=0x3 verdict=passed digest=");
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&in_place[..1], &["sleeps", "--exact"]);
    says(&said, "SIM_INPLACE=1 needs SIM_SEED");
    assert_eq!(status, Some(101), "{said}");
    let (status, said) = run(&in_place, &["sleeps"]);
    says(&said, "SIM_INPLACE=1 runs one test: expected its name and --exact");
    assert_eq!(status, Some(101), "{said}");

    let (status, said) = run(&in_place[1..], &["sleeps", "--exact"]);
    assert_eq!(said.matches("sim: ").count(), 1, "{said}");
    says(&said, "sim: SIM_SEED is set, but only a `#[sim::test]` heeds it here");
    assert!(status == Some(0) && said.contains("1 passed"), "it is the real test: {said}");
    let (_, said) = run(&in_place[1..], &["--list"]);
    assert!(!said.contains("sim: "), "{said}");
}

/// Two tasks that each say who they are, in a run that demands one order.
const RACES: &str = r#"
use std::sync::{Arc, Mutex};
use tokio::{runtime::Builder, task};

async fn says(who: u8, said: Arc<Mutex<Vec<u8>>>) {
    task::yield_now().await;
    said.lock().unwrap().push(who);
}

#[test]
fn workers() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let spawn = |who| runtime.spawn(says(who, said.clone()));
    [0, 1].map(spawn).map(|task| runtime.block_on(task).unwrap());
    assert_eq!(*said.lock().unwrap(), [0, 1], "another order");
}

#[test]
fn local_set() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let set = task::LocalSet::new();
    let tasks = [0, 1].map(|who| set.spawn_local(says(who, said.clone())));
    let runtime = Builder::new_current_thread().build().unwrap();
    tasks.map(|task| set.block_on(&runtime, task).unwrap());
    assert_eq!(*said.lock().unwrap(), [0, 1], "another order");
}
"#;

/// Only tasks of current-thread runtimes were held. Those that workers took from their queues ran first in, first out under
/// every seed, and so did those of a `LocalSet`: races that users have in production were never found.
#[test]
fn tasks_of_workers_and_of_a_local_set_change_places_under_some_seeds() {
    let project = Project::new("races");
    let tokio = TOKIO.replace("\"rt\"", "\"rt-multi-thread\"");
    project.file("Cargo.toml", &manifest("app", &tokio)).file("src/lib.rs", RACES);
    let mut test = project.command(&["test", "--seeds", "60", "--keep-going", "--offline"]);
    let said = text(&test.args(["--target-dir", &shared_target()]).output().expect("it starts"));
    for name in ["workers", "local_set"] {
        let line = said.lines().find(|l| l.starts_with(&format!("sim: test=app::{name} seeds=60"))).expect(&said);
        assert!(!line.contains("failed=0 ") && !line.contains("passed=0 "), "{line}");
    }
    says(&said, "another order");
    let command = said.lines().find(|l| l.contains("cargo sim bisect") && l.contains("app::workers")).expect(&said);
    let seed = command.rsplit(' ').next().expect("a seed");
    let mut bisect = project.command(&["bisect", "app::workers", "--seed", seed, "--offline"]);
    let said = text(&bisect.args(["--target-dir", &shared_target()]).output().expect("it starts"));
    says(&said, " of localhost (app::says) is ready, and the next");
}

/// Tasks that look whether any are left and take one in the next step: too many are taken if another comes in between.
const OVERSELLS: &str = r#"
use std::sync::Arc;
use tokio::sync::RwLock;

async fn sells() {
    let left = Arc::new(RwLock::new(4));
    let buys = |left: Arc<RwLock<u32>>| async move {
        let have = *left.read().await;
        if have > 0 {
            *left.write().await = have - 1;
        }
        have > 0
    };
    let tasks = [0; 8].map(|_| tokio::spawn(buys(left.clone())));
    let mut sold = 0;
    for task in tasks {
        sold += u32::from(task.await.unwrap());
    }
    assert_eq!(sold, 4, "oversold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers() {
    sells().await
}

#[tokio::test]
async fn one_thread() {
    sells().await
}
"#;

/// Workers changed places only before they polled a task, and nothing came between the steps of one poll. A check in one step
/// and the act in the next, each under a lock, passed under every seed; on the real tokio one run in a hundred fails.
#[test]
fn a_worker_is_preempted_between_two_steps_of_a_poll_under_some_seeds() {
    let project = Project::new("oversells");
    let tokio = TOKIO.replace("\"rt\"", "\"rt-multi-thread\", \"sync\"");
    project.file("Cargo.toml", &manifest("app", &tokio)).file("src/lib.rs", OVERSELLS);
    let sweep = || {
        let mut test = project.command(&["test", "--seeds", "100", "--keep-going", "--offline"]);
        text(&test.args(["--target-dir", &shared_target()]).output().expect("it starts"))
    };
    let said = sweep();
    says(&said, "oversold");
    let line = |name| said.lines().find(|l| l.starts_with(&format!("sim: test=app::{name} seeds=100"))).expect(&said);
    assert!(!line("workers").contains("failed=0 ") && !line("workers").contains("passed=0 "), "{}", line("workers"));
    assert!(line("one_thread").contains("passed=100 failed=0 "), "{}", line("one_thread"));
    let verdicts = |said: &str| -> Vec<String> {
        let failed = said.lines().filter(|l| l.starts_with("sim: test=app::workers seed=0x"));
        let mut failed: Vec<_> = failed.filter_map(|l| Some(l.split_once(" virtual=")?.0.to_owned())).collect();
        failed.sort();
        failed.dedup();
        failed
    };
    assert_eq!(verdicts(&said), verdicts(&sweep()), "the same seeds fail in the same way");
    // It begins with the calm run, which passes.
    let command = said.lines().find(|l| l.contains("cargo sim bisect") && l.contains("app::workers")).expect(&said);
    let seed = command.rsplit(' ').next().expect("a seed");
    let mut bisect = project.command(&["bisect", "app::workers", "--seed", seed, "--offline"]);
    let said = text(&bisect.args(["--target-dir", &shared_target()]).output().expect("it starts"));
    says(&said, " of localhost (app::sells) loses its processor, and goes on after");
}

/// Two tasks that take two locks in opposite orders, and one that has ended; and a std thread that waits for ever.
const DEADLOCKS: &str = r#"
#![cfg(test)]
use std::sync::{Arc, Mutex as StdMutex};
use tokio::sync::Mutex;
use tokio::task::yield_now;

async fn left_then_right(left: Arc<Mutex<()>>, right: Arc<Mutex<()>>) {
    let _left = left.lock().await;
    yield_now().await;
    let _right = right.lock().await;
}

async fn right_then_left(left: Arc<Mutex<()>>, right: Arc<Mutex<()>>) {
    let _right = right.lock().await;
    yield_now().await;
    let _left = left.lock().await;
}

async fn ends() {}

#[tokio::test]
async fn tasks() {
    let (left, right) = (Arc::default(), Arc::default());
    let ended = tokio::spawn(ends());
    let one = tokio::spawn(left_then_right(Arc::clone(&left), Arc::clone(&right)));
    let other = tokio::spawn(right_then_left(left, right));
    one.await.unwrap();
    other.await.unwrap();
    ended.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers() {
    let lock = Arc::new(Mutex::new(()));
    let _held = lock.lock().await;
    tokio::spawn(left_then_right(lock.clone(), Arc::default())).await.unwrap();
}

#[test]
fn threads() {
    let lock = Arc::new(StdMutex::new(()));
    let _held = lock.lock().unwrap();
    let other = lock.clone();
    std::thread::spawn(move || drop(other.lock())).join().unwrap();
}
"#;

/// The report named the thread of the test's runtime, which waited in epoll_wait, and none of the tasks.
#[test]
fn a_deadlock_names_the_tasks_and_the_threads() {
    let project = Project::new("deadlocks");
    let tokio = TOKIO.replace("\"rt\"", "\"rt-multi-thread\", \"sync\"");
    project.file("Cargo.toml", &manifest("app", &tokio)).file("src/lib.rs", DEADLOCKS);
    let mut test = project.command(&["test", "--seeds", "20", "--offline", "--target-dir", &shared_target()]);
    let said = text(&test.output().expect("it starts"));
    says(
        &said,
        "\n    localhost: tokio task app::left_then_right has not ended\
         \n    localhost: tokio task app::right_then_left has not ended\
         \n    localhost: thread 0 (main) waits for ",
    );
    says(&said, "\n    localhost: thread 1 (tasks) waits for ");
    assert!(!said.contains("app::ends"), "it has ended: {said}");
    assert!(!said.contains("task tokio::"), "workers are threads: {said}");
    says(&said, "\n    localhost: thread 2 (unnamed) waits for ");
}

#[test]
fn a_former_tokio_beside_the_operated_one_is_named() {
    let project = Project::new("two-majors");
    let old = "old = { package = \"tokio\", path = \"../old\" }";
    project.file("Cargo.toml", &manifest("app", &format!("{TOKIO}\n{old}"))).file("src/lib.rs", SLEEPS);
    project.file("../old/Cargo.toml", &manifest("tokio", "").replace("0.1.0", "0.2.25")).file("../old/src/lib.rs", "");
    let said = accepted(project.command(&["test", "--offline", "--target-dir", &shared_target()]));
    says(&said, "tokio 0.2.25 is in the graph too (app -> tokio 0.2.25); it is not simulated");
    says(&said, "1 passed, 0 failed");
}

#[test]
fn workspaces_and_paths_that_leave_them_are_found_in_the_shadow() {
    let project = Project::new("workspace");
    // A member with files of its own, one elsewhere, one without tokio, a target with a main of its own, and a path out of
    // the workspace to a package that inherits from another workspace, and leads on.
    project.file("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"a\", \"plain\", \"../elsewhere\"]\n");
    let dependencies =
        format!("{TOKIO}\noutside = {{ path = \"../../other/outside\" }}\n[[test]]\nname = \"own\"\nharness = false");
    project.file("a/Cargo.toml", &manifest("a", &dependencies));
    project
        .file("a/data.txt", "hello")
        .file("a/tests/own.rs", "fn main() {\n    assert_eq!(outside::name(), \"deep\");\n}\n");
    project.file(
        "a/src/lib.rs",
        &format!(
            "{SLEEPS}#[test]\nfn reads_its_own_files() {{\n    \
             let named = std::path::Path::new(env!(\"CARGO_MANIFEST_DIR\")).join(\"data.txt\");\n    \
             assert_eq!(std::fs::read_to_string(named).unwrap(), \"hello\");\n    \
             assert_eq!(std::fs::read_to_string(\"data.txt\").unwrap(), \"hello\");\n}}\n"
        ),
    );
    project.file("plain/Cargo.toml", &manifest("plain", "")).file("plain/src/lib.rs", "#[test]\nfn plain() {}\n");
    let elsewhere = manifest("elsewhere", TOKIO).replace("edition", "workspace = \"../project\"\nedition");
    project.file("../elsewhere/Cargo.toml", &elsewhere).file("../elsewhere/src/lib.rs", SLEEPS);
    project
        .file("../other/Cargo.toml", "[workspace]\nmembers = [\"outside\"]\n[workspace.package]\nedition = \"2021\"\n");
    project.file(
        "../other/outside/Cargo.toml",
        "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition.workspace = true\n[dependencies]\n\
         deep = { path = \"../../deep\" }\n",
    );
    project.file("../other/outside/src/lib.rs", "pub fn name() -> &'static str {\n    deep::NAME\n}\n");
    project.file("../deep/Cargo.toml", &manifest("deep", ""));
    project.file("../deep/src/lib.rs", "pub const NAME: &str = \"deep\";\n");
    let before = project.state();

    let target = shared_target();
    let said =
        accepted(project.command(&["test", "--seeds", "5", "--offline", "--workspace", "--target-dir", &target]));
    says(&said, "no tokio in the graph of plain; building as it is");
    says(&said, "drop-in, the whole graph over the generated tokio 1.");
    says(&said, "test plain::plain ... ok");
    for test in ["a::sleeps", "a::reads_its_own_files", "elsewhere::sleeps"] {
        says(&said, &format!("sim: test={test} seeds="));
    }
    says(&said, "5 passed, 0 failed");
    assert!(project.state() == before, "also no lock");

    let said = accepted(project.command(&["test", "-p", "a", "--test", "own", "--offline", "--target-dir", &target]));
    says(&said, "1 passed, 0 failed");
}

/// The lock file names no tokio, so nothing was resolved, and of a project whose tests then ran for real nothing was said.
#[test]
fn a_project_without_a_tokio_is_built_as_it_is_and_that_is_said() {
    let project = Project::new("no-tokio");
    project.package("").file("Cargo.lock", "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n");
    let said = accepted(project.command(&["test", "--offline"]));
    says(&said, "no tokio in the graph of app; building as it is");
    says(&said, "test app::plain ... ok");
}

/// A dependency on tokio had just been added, and the lock file did not name it yet: the tests ran for real, once.
#[test]
fn a_lock_that_is_older_than_the_manifest_does_not_say_that_there_is_no_tokio() {
    let project = Project::new("old-lock");
    let lock = "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n";
    project.package("tokio = \"1\"").vendored("tokio", "1.8.1").file("Cargo.lock", lock);
    says(&project.refusal(&["test", "--offline"]), "(app -> tokio 1.8.1), and only tokio 1.32 and newer");
}

/// Two at a time made one shadow together: what one wrote the other removed.
#[test]
fn one_project_is_prepared_by_one_at_a_time() {
    let project = Project::new("locked");
    project.package("tokio = \"1\"").vendored("tokio", "1.8.1");
    let refused = project.refusal(&["test", "--offline"]);
    let homes = fs::read_dir(project.folder.join("target/sim")).expect("it was prepared");
    let home = homes.flatten().find(|e| e.path().is_dir()).expect("the folder of this project").path();
    let held = fs::File::options().write(true).open(home.join("lock")).expect("a lock");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("nobody has it");
    let mut other = project.command(&["test", "--offline"]);
    let mut other = other.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = BufReader::new(other.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    says(&said.next().expect("a line"), "waiting for another cargo sim");
    // Who waits can be told not to.
    let mut third = project.command(&["test", "--offline"]);
    let mut third = third.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut waits = BufReader::new(third.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    says(&waits.next().expect("a line"), "waiting for another cargo sim");
    interrupt(&third);
    assert_eq!(third.wait().expect("it ends while the lock is held").signal(), Some(2));
    drop(held);
    let rest: Vec<String> = said.collect();
    assert_eq!(rest.join("\n"), refused.trim_end());
    assert_eq!(other.wait().expect("it ends").code(), Some(2));
}

/// A sweep ran in a terminal while an editor built what had just been changed, and its later tests were those of the new
/// build. Where a test began in the moment in which the linker had removed the old file, the whole sweep was refused.
#[test]
fn a_sweep_is_of_the_build_that_it_began_with() {
    let project = Project::new("rebuilt");
    let waits = "#[test]\nfn first() {\n    assert_eq!(std::fs::read_to_string(\"gate\").unwrap(), \"\");\n}\n";
    let source = |then: &str| format!("{waits}#[test]\nfn then() {{\n    {then}\n}}\n");
    project.package("").file("src/lib.rs", &source(""));
    accepted(project.command(&["build", "--lib", "--offline"]));
    let gate = project.folder.join("gate");
    assert!(Command::new("mkfifo").arg(&gate).status().expect("mkfifo is there").success());
    let mut sweep = project.command(&["test", "--offline"]);
    let sweep = sweep.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // Opened when the first test opens it, which waits until it is closed.
    let opened = fs::File::options().write(true).open(&gate).expect("a pipe");
    project.file("src/lib.rs", &source("panic!(\"a test of the other build\");"));
    says(&accepted(project.command(&["build", "--lib", "--offline"])), "Compiling app");
    drop(opened);
    let output = sweep.wait_with_output().expect("it ends");
    says(&text(&output), "2 passed, 0 failed");
}

/// The second runs of an audit were made in an empty folder: a test that reads a file of its package failed in them.
#[test]
fn an_audit_runs_elsewhere_and_finds_what_lies_beside_a_test() {
    let project = Project::new("audited");
    let reads = SLEEPS.replace("    tokio", "    assert_eq!(std::fs::read_to_string(\"data/own\").unwrap(), \"own\");\n    assert_eq!(std::fs::read_to_string(\"../beside\").unwrap(), \"beside\");\n    tokio");
    project.file("Cargo.toml", &manifest("app", TOKIO)).file("src/lib.rs", &reads);
    project.file("data/own", "own").file("../beside", "beside");
    let audit = ["audit", "--seeds", "3", "--offline", "--target-dir", &shared_target()];
    says(&accepted(project.command(&audit)), "seeds=3 same=3 differ=0 failed=0");
}

/// Settings of a profile for the project's tokio by its version, and ours by its name, were two for one package: nothing was built.
#[test]
fn settings_of_a_profile_for_one_version_of_tokio_hold() {
    let project = Project::new("profile");
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ecosystem/runtimes/Cargo.lock");
    let lock = fs::read_to_string(lock).expect("readable");
    let version = lock.split("name = \"tokio\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    let version = version.expect("it is locked");
    let exact = TOKIO.replace("\"1\"", &format!("\"={version}\""));
    let profile = format!("[profile.dev.package.\"tokio@{version}\"]\nopt-level = 1\n");
    project.file("Cargo.toml", &manifest("app", &format!("{exact}\n{profile}"))).file("src/lib.rs", SLEEPS);
    let said = accepted(project.command(&["test", "--seeds", "2", "--offline", "--target-dir", &shared_target()]));
    says(&said, "1 passed, 0 failed");
}

/// What was found before a refusal was neither counted nor written: the build server's report was an empty file.
#[test]
fn what_was_found_before_a_refusal_is_told() {
    let project = Project::new("refused_later");
    let sleeps = |name: &str| SLEEPS.replace("sleeps", name);
    let source = ["first", "second", "third"].map(sleeps).concat();
    project.file("Cargo.toml", &manifest("app", TOKIO)).file("src/lib.rs", &source);
    project.file("kept/sim-regressions/app.second.txt", "what is this?\n");
    let target = shared_target();
    let junit = ["--junit", "report.xml", "--seeds", "3", "--offline", "--target-dir", &target];
    let mut command = project.command(&[&["test"], &junit[..]].concat());
    let output = command.env("SIM_DIR", project.folder.join("kept")).output().expect("it starts");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    says(&said, "app.second.txt:1: expected seed, digest, fingerprint and command");
    says(&said, "1 passed, 0 failed, 1 refused; 3 seeds, 0 of them failed");
    let report = fs::read_to_string(project.folder.join("report.xml")).expect("it is written");
    says(&report, "name=\"first\"");
    says(&report, "expected seed, digest");
    assert!(!report.contains("third"), "{report}");
}

/// The manifest of a project was a link, and vendoring made it a file: the one it led to was not patched.
#[test]
fn a_manifest_that_is_a_link_stays_one() {
    let project = Project::new("vendor-link");
    project.file("shared.toml", &manifest("app", TOKIO)).file("src/lib.rs", "");
    std::os::unix::fs::symlink("shared.toml", project.folder.join("Cargo.toml")).expect("a link");
    says(&accepted(project.command(&["vendor", "--offline"])), "wrote tokio 1.");
    let path = project.folder.join("Cargo.toml");
    assert_eq!(fs::read_link(&path).expect("still a link"), Path::new("shared.toml"));
    says(&fs::read_to_string(project.folder.join("shared.toml")).expect("is there"), "[patch.crates-io]");
}

#[test]
fn a_vendored_tokio_is_the_real_one_until_its_feature_is_on() {
    let project = Project::new("vendored");
    project.file("Cargo.toml", &manifest("app", TOKIO)).file("src/lib.rs", SLEEPS);
    let target = shared_target();
    says(&accepted(project.command(&["vendor", "--offline"])), "it is the real one unless its feature `sim` is on");
    let text = fs::read_to_string(project.folder.join("Cargo.toml")).expect("is there");
    let more = "[features]\nsim = [\"tokio/sim\"]\n[workspace]\nmembers = [\"through\"]\n";
    project.file("Cargo.toml", &format!("{text}\n{more}"));
    project.file("through/Cargo.toml", &manifest("through", "app = { path = \"..\" }"));
    project.file("through/src/lib.rs", "#[test]\nfn plain() {}\n");

    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.args(["tree", "--offline", "--prefix=none"]).current_dir(&project.folder);
    let off = accepted(tree);
    assert!(off.contains("project/sim/tokio)") && !off.contains("sim-core"), "{off}");

    let said = accepted(project.command(&["test", "--offline", "--target-dir", &target]));
    says(&said, "app has a vendored tokio; building with feature `sim`");
    says(&said, "1 passed, 0 failed");
    // A package that reaches tokio through another was built as it is without a word.
    let said = accepted(project.command(&["test", "-p", "through", "--offline", "--target-dir", &target]));
    says(&said, "through: this project has a vendored tokio, which is not among its dependencies; building as it is");
    says(&said, "1 passed, 0 failed");
    says(&project.refusal(&["vendor", "--offline"]), "has a tokio of its own in sim/tokio");
}
