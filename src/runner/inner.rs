//! The inner process: forks, judges, and tells the outer one.

use super::child::{Child, Frame, TapeCell, hook_panics};
use super::orders::{MOST_JOBS, Misuse, Mode, Orders};
use super::pool::Pool;
use super::protocol::{Lines, PROTOCOL};
use super::{DEFAULT_MEMORY_BYTES, TestInfo, minimise, regressions, replay, sweep};
use crate::json::object;
use crate::{Ending, Sim};
use sim_libc::process::{self, Launcher, Limits, Order};
use std::future::Future;
use std::io;
use std::sync::Arc;

/// Does what the environment asks for, and ends the process.
pub(super) fn work<B, F>(info: TestInfo, body: B) -> !
where
    B: Fn(Sim) -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Ending,
{
    process::begin();
    let served = serve(info, false, |frame| {
        let child = Child { frame, body };
        Box::new(move |order| child.run(order))
    });
    // Not past the harness: an ordinary exit, so that coverage and sanitizers write what they have. The outer process goes
    // by what it was told; where there is none, by the status.
    std::process::exit(match served {
        Inner::Done(status) => status,
        Inner::Met(_) => unreachable!("the child of a simulated test runs that test"),
    })
}

/// What a forked child does with its order.
pub(super) type ChildBody = Box<dyn Fn(&Order) -> i32 + Send>;

/// What came of serving.
pub(crate) enum Inner {
    /// All that was asked for was done. The status is for a process that has no outer one.
    Done(i32),
    /// Nothing was done: the program contains this simulated test.
    Met(String),
}

/// Does what the environment asks for. A whole program is looked at first: it may contain a test with a runner of its own,
/// and what leaves the seed nothing to decide runs once.
pub(crate) fn serve(info: TestInfo, whole: bool, child: impl FnOnce(Frame) -> ChildBody) -> Inner {
    let in_place = Orders::from_env().is_ok_and(|orders| orders.in_place);
    let mut lines = if in_place { Lines::new(None) } else { lines_to_outer() };
    let clean = match told(info, whole, child, &mut lines) {
        Ok(Told::Clean(clean)) => clean,
        Ok(Told::Met(name)) => return Inner::Met(name),
        Err(error) => {
            let (status, message) = match error {
                Failure::Misuse(Misuse(message)) => ("misuse", message),
                Failure::Io(error) => ("failed", format!("the runner itself failed: {error}")),
            };
            lines.send("end", object! { "test": info.name, "status": status, "message": message });
            false
        }
    };
    lines.flush();
    Inner::Done(i32::from(in_place && !clean))
}

enum Told {
    Clean(bool),
    Met(String),
}

fn lines_to_outer() -> Lines {
    match super::system::pipe_to_outer() {
        Ok(pipe) => Lines::new(Some(pipe)),
        Err(error) => {
            eprintln!("sim: the pipe to the outer process is gone: {error}");
            std::process::exit(1)
        }
    }
}

/// Why the runner could not do what was asked.
pub(super) enum Failure {
    Misuse(Misuse),
    Io(io::Error),
}

impl From<Misuse> for Failure {
    fn from(misuse: Misuse) -> Failure {
        Failure::Misuse(misuse)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

fn told(
    mut info: TestInfo,
    whole: bool,
    child: impl FnOnce(Frame) -> ChildBody,
    lines: &mut Lines,
) -> Result<Told, Failure> {
    let mut orders = Orders::from_env()?;
    info.memory_bytes = orders.memory_bytes.or(info.memory_bytes);
    let known = regressions::read(&regressions::path(&orders.folder(info.manifest_dir), info.name))?;
    let aslr = !process::aslr_off();
    let mut seeds =
        if orders.single() || orders.mode == Mode::Bisect { 1 } else { sweep::planned(&info, &orders, &known) };
    if !whole {
        say_hello(&info, seeds, aslr, lines);
    }
    let threads = process::threads()?;
    // The harness's main thread, and the one of the test.
    if threads.len() > 2 {
        return Err(Failure::Io(io::Error::other(format!(
            "threads run before the first seed is forked: {}. Start none from constructors or before the test's body: \
             a lock that one of them holds would never be released in a fork",
            threads.join(", ")
        ))));
    }
    let memory_bytes = info.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES);
    let tape = TapeCell::new();
    hook_panics();
    let frame = Frame {
        info,
        tape: tape.clone(),
        watchdog: orders.watchdog,
        dispatch: crate::run::subscriber(orders.log.clone()),
        told_here: Arc::default(),
    };
    let here = frame.clone();
    // A debugger and a sanitizer make system calls of their own.
    let limits = Limits { memory_bytes, trap: !orders.in_place };
    let mut launcher = Launcher::start(MOST_JOBS, limits, child(frame))?;
    if orders.in_place {
        let order = replay::order(&orders)?;
        launcher.run_here(order);
        return Ok(Told::Clean(here.say_here(order.seed, lines)));
    }
    let jobs = orders.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let mut pool = Pool::new(launcher, jobs, tape, info.name, memory_bytes, aslr, lines.beside()?);
    if whole {
        let first = sweep::run_once(&mut pool, 0, 0, None)?;
        if let Some(met) = first.met {
            return Ok(Told::Met(met));
        }
        if first.undecided && orders.mode == Mode::Sweep && !orders.single() {
            orders.seeds = Some(0..1);
            orders.shard = None;
            seeds = 1;
        }
        say_hello(&info, seeds, aslr, lines);
    }
    match orders.mode {
        Mode::Bisect => minimise::bisect(&mut pool, &info, &orders, lines),
        Mode::Sweep | Mode::Replay if orders.single() => replay::replay(&mut pool, &info, &orders, &known, lines),
        Mode::Replay => {
            Err(Misuse("SIM_MODE=replay needs SIM_SEED or SIM_TAPE: what is to be run again".into()).into())
        }
        Mode::Sweep | Mode::Digests => Ok(sweep::sweep(&mut pool, &info, &orders, &known, lines)?),
    }
    .map(|()| Told::Clean(true))
}

/// The first lines to the outer process.
fn say_hello(info: &TestInfo, seeds: u64, aslr: bool, lines: &mut Lines) {
    lines.send(
        "hello",
        object! { "protocol": PROTOCOL, "test": info.name, "seeds": seeds, "aslr": if aslr { "on" } else { "off" } },
    );
    if aslr {
        lines.say(
            "sim: this system does not let addresses be fixed: what is derived from them differs between processes",
        );
    }
    lines.flush();
}
