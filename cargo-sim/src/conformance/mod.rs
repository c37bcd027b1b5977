//! tokio's own tests, run against the generated tokio in simulation.
//!
//! The archive of a tokio on crates.io carries its integration tests. They become the tests of a small project of their own
//! (`project`), which is built as a drop-in like any other; each test runs in a process of its own (`run`), in the calm run or
//! over seeds. What fails is compared with the failures that are known, each with its reason (`known`): one more, or one
//! less, fails the command.
//!
//! It does not judge tests of tokio that are about what is not simulated (class N, see `class`).

mod class;
mod known;
mod project;
mod report;
mod run;

use crate::app::say::{say, warn};
use crate::metadata;
use clap::Args;
use class::{Class, Glob};
use known::Known;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
pub struct ConformanceArgs {
    /// Which tokio: the tests are those of the same version
    #[arg(long, value_name = "VERSION", default_value = crate::dropin::TESTED[crate::dropin::TESTED.len() - 1])]
    pub tokio: String,
    /// Which classes: A needs no runtime, S one thread, M several, O the system itself, N is not simulated
    #[arg(long, value_name = "CLASSES", default_value = "ASMO", value_parser = class::several)]
    pub classes: std::vec::Vec<Class>,
    /// Only files of this name, such as `sync_*`
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub only: Glob,
    /// So many seeds of each test, in place of the calm run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "off")]
    pub seeds: Option<u64>,
    /// Run the same binaries without simulation: compiled in but off
    #[arg(long)]
    pub off: bool,
    /// How many tests run at a time; as many as there are processors unless given
    #[arg(short, long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// How long one run of a test may take, in seconds of real time: with N seeds a test may take N times as long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// Write all results to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The known failures; `conformance/VERSION.txt` beside this program's source unless given
    #[arg(long, value_name = "FILE")]
    pub known: Option<PathBuf>,
    /// Where everything is made and built
    #[arg(long, value_name = "DIR")]
    pub target_dir: Option<PathBuf>,
    /// Stay off the network
    #[arg(long)]
    pub offline: bool,
}

/// How tests are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Once, every choice 0.
    Calm,
    /// Once for each of so many seeds.
    Seeds(u64),
    /// Not simulated.
    Off,
}

/// Whether what failed is what was known to. `interrupted` is asked now and then.
pub fn conformance(args: &ConformanceArgs, interrupted: &(dyn Fn() -> bool + Sync)) -> Result<bool, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned();
    let path = args.known.clone().unwrap_or_else(|| source.join("conformance").join(format!("{}.txt", args.tokio)));
    let known = Known::read(&path)?;
    let target = match (&args.target_dir, std::env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty())) {
        (Some(folder), _) => folder.clone(),
        (None, Some(folder)) => folder.into(),
        (None, None) => source.join("target"),
    };
    let target = metadata::as_cargo_names(&target).map_err(|e| format!("{}: {e}", target.display()))?;

    let project = project::Project::make(&args.tokio, &target, args.offline)?;
    let files = project.files(|file| args.only.fits(file) && class::may_hold(file, &args.classes))?;
    warn(format_args!("{} files of tokio {}'s tests", files.len(), args.tokio));
    let built = project.build(&files)?;
    // With the lock on its shadow: who only runs tests keeps nobody waiting.
    let folder = project.folder().to_owned();
    drop(project);

    let mode = match args.seeds {
        Some(seeds) => Mode::Seeds(seeds),
        None if args.off => Mode::Off,
        None => Mode::Calm,
    };
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let timeout = Duration::from_secs(args.timeout.saturating_mul(args.seeds.unwrap_or(1)));
    let how = run::How { mode, jobs, timeout, folder: &folder, interrupted };
    let results = run::all(&built, &how)?;
    let (results, others): (Vec<_>, Vec<_>) = results.into_iter().partition(|r| args.classes.contains(&r.class));
    report::table(&results);
    if let Some(path) = &args.json {
        report::json(&results, path)?;
    }
    let is_other = |file: &str, test: &str| others.iter().any(|o| o.file == file && o.test == test);
    let chosen = |file: &str, test: &str| files.iter().any(|f| f == file) && !is_other(file, test);
    let surprises = known.compare(&results, mode, chosen);
    surprises.iter().for_each(say);
    say(format_args!("{} not as {} says", surprises.len(), path.display()));
    Ok(surprises.is_empty())
}
