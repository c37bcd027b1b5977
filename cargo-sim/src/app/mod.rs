//! `cargo sim`: builds the tests of a project, hands out seeds, and reads what came of them.
//!
//! It never links the program under test and never interprets a run: the library in the test binary does both and tells
//! what happened in lines of JSON over a socket.

mod args;
mod audit;
mod build;
mod executable;
mod junit;
mod output;
mod process;
pub mod say;
mod select;

use crate::conformance::conformance;
pub use args::of_the_shell;
use args::{Cli, Command};
use build::Kind;
use clap::Parser;
use output::Output;
use process::{Ended, Interrupt, run_test};
use say::{say, warn};
use select::Test;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Misuse, or nothing could be run: said once, exit status 2.
struct Refused(String);

impl From<String> for Refused {
    fn from(message: String) -> Refused {
        Refused(message)
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    // As `cargo sim …` cargo passes the name of the subcommand on.
    let mut given: Vec<_> = std::env::args_os().collect();
    if given.get(1).is_some_and(|first| first == "sim") {
        given.remove(1);
    }
    let cli = Cli::parse_from(given);
    let interrupt = Interrupt::default();
    match work(cli, &interrupt) {
        // As a shell says of what Ctrl-C ended: what was not run was neither good nor bad.
        Ok(_) if interrupt.is_pressed() => ExitCode::from(130),
        Err(_) if interrupt.is_pressed() => {
            warn("interrupted");
            ExitCode::from(130)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Refused(message)) => {
            warn(message);
            ExitCode::from(2)
        }
    }
}

fn work(cli: Cli, interrupt: &Interrupt) -> Result<bool, Refused> {
    let runs = match &cli.command {
        Command::Test(_) => Some("test"),
        Command::Replay(_) => Some("replay"),
        Command::Audit(_) => Some("audit"),
        Command::Bisect(_) => Some("bisect"),
        Command::Build(_) | Command::Vendor(_) | Command::Conformance(_) => None,
    };
    let said = |command| args::environment_said(command, |name| std::env::var(name).ok());
    runs.map(said).into_iter().flatten().for_each(warn);
    match cli.command {
        Command::Test(test) => {
            let tests = select::tests(&test.select, test.name.as_deref())?;
            interrupt.listen()?;
            let mut output = Output::open(test.json.as_deref(), test.junit.as_deref())?;
            let clean = sweep(&tests, &test, &mut output, interrupt);
            // What a build server was to read and cannot is no success.
            let written = output.finish();
            Ok(clean? && written)
        }
        Command::Replay(replay) => {
            let tests = select::tests(&replay.run.select, Some(&replay.run.name))?;
            interrupt.listen()?;
            let mut output = Output::open(None, None)?;
            one(&tests[0], &replay.environment()?, &mut output, interrupt)
        }
        Command::Bisect(bisect) => {
            let tests = select::tests(&bisect.run.select, Some(&bisect.run.name))?;
            interrupt.listen()?;
            let mut output = Output::open(bisect.json.as_deref(), None)?;
            let clean = one(&tests[0], &bisect.environment(), &mut output, interrupt)?;
            Ok(output.finish() && clean)
        }
        Command::Audit(audit) => {
            let tests = select::tests(&audit.select, audit.name.as_deref())?;
            interrupt.listen()?;
            audit::audit(&tests, &audit, interrupt)
        }
        Command::Build(args) => {
            // With a target of tests it is those that are wanted.
            let tests = args.select.lib || !args.select.targets.is_empty();
            let built = build::build(&args.select, if tests { Kind::Test } else { Kind::Program })?;
            built.iter().for_each(|binary| say(binary.executable.path().display()));
            Ok(true)
        }
        Command::Vendor(vendor) => {
            let select = args::Select {
                manifest_path: vendor.manifest_path,
                offline: vendor.offline,
                ..args::Select::default()
            };
            let project = build::project(&select)?;
            crate::dropin::vendor(&project, &build::ask(&select, &project)?)?.into_iter().for_each(say);
            Ok(true)
        }
        Command::Conformance(args) => {
            interrupt.listen()?;
            Ok(conformance(&args, &|| interrupt.is_pressed())?)
        }
    }
}

/// Runs one simulated test and says what it says.
fn one(test: &Test, env: &[(String, String)], output: &mut Output, interrupt: &Interrupt) -> Result<bool, Refused> {
    let ended = run_test(test, env, interrupt, &mut |message| output.message(test, message))?;
    output.clear_bar();
    match ended {
        Ended::Simulated { failed, .. } => Ok(!failed),
        Ended::Plain { .. } => {
            Err(Refused(format!("{} is a plain test: it enters no World and has no seeds", test.full)))
        }
        Ended::Interrupted => {
            say(format_args!("cargo sim: interrupted in {}", test.full));
            Ok(false)
        }
    }
}

/// All tests, one after the other; each uses all jobs.
fn sweep(tests: &[Test], args: &args::TestArgs, output: &mut Output, interrupt: &Interrupt) -> Result<bool, Refused> {
    let began = Instant::now();
    let (mut passed, mut failed, mut interrupted) = (0u64, 0u64, false);
    let mut refused = None;
    for (i, test) in tests.iter().enumerate() {
        // What is left of the time is shared evenly among the tests that are left.
        let budget = args.time_budget.map(|all| {
            let left = all.saturating_sub(began.elapsed()) / (tests.len() - i) as u32;
            left.max(Duration::from_millis(1))
        });
        let began = Instant::now();
        let ended = run_test(test, &args.environment(budget), interrupt, &mut |message| output.message(test, message));
        output.clear_bar();
        let ended = match ended {
            Ok(ended) => ended,
            Err(Refused(message)) => {
                output.ended(test, began.elapsed(), Some(&message));
                refused = Some(Refused(message));
                break;
            }
        };
        match ended {
            Ended::Simulated { failed: true, message } => {
                failed += 1;
                output.ended(test, began.elapsed(), Some(&message));
            }
            Ended::Plain { passed: false, text } => {
                failed += 1;
                say(format_args!("{text}\ntest {} ... FAILED", test.full));
                output.ended(test, began.elapsed(), Some(&text));
            }
            Ended::Simulated { .. } => {
                passed += 1;
                output.ended(test, began.elapsed(), None);
            }
            Ended::Plain { .. } => {
                passed += 1;
                say(format_args!("test {} ... ok", test.full));
                output.ended(test, began.elapsed(), None);
            }
            Ended::Interrupted => {
                say(format_args!("cargo sim: interrupted in {}; what was found so far:", test.full));
                output.say_failures();
                interrupted = true;
                output.ended(test, began.elapsed(), Some("interrupted"));
                break;
            }
        }
    }
    let (seeds, bad) = output.seeds();
    let cut_short = match (&refused, interrupted) {
        (Some(_), _) => ", 1 refused",
        (None, true) => ", 1 interrupted",
        (None, false) => "",
    };
    say(format_args!("{passed} passed, {failed} failed{cut_short}; {seeds} seeds, {bad} of them failed"));
    match refused {
        // What failed says more than what is misunderstood.
        Some(Refused(message)) if failed > 0 => {
            warn(message);
            Ok(false)
        }
        Some(refused) => Err(refused),
        None => Ok(failed == 0),
    }
}
