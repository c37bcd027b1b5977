//! A whole program as the body of a run: `main` and everything that it does, on a machine called `localhost`.
//!
//! As with `#[sim::test]`, an outer process executes the same binary again, that inner one forks a child for each seed, and
//! a child calls the real `main` in a World. First of all, one child finds out what the program is: one that contains its
//! own simulated test is left to that test's runner; one that asks the seed nothing runs this once and no more.

use super::DROP_IN;
use crate::run::{Begun, begin, collect};
use crate::runner::{
    Frame, Inner, Order, SIMULATED_TEST, Served, TestInfo, became_inner, become_inner_of, inner_test, inner_value,
    serve_inner, serve_outer,
};
use sim_core::{Settings, Spawn, Verdict, World};
use sim_libc::interpose::pass_through;
use sim_libc::process::{self, Program};
use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What the inner process of a whole program is called, before the test's name.
const WHOLE: &str = "program ";
/// Programs sleep for days where a test of ours would not.
const TIME_LIMIT: Duration = Duration::from_secs(366 * 24 * 3600);

/// Programs poll by the million on purpose, where a test of ours would not.
const LIVELOCK_POLLS: u64 = 20_000_000;

/// What the status of a test binary is when a test failed.
const FAILED: i32 = 101;

/// What people set who want a run of a seed.
const BY_HAND: [&str; 4] = ["SIM_SEED", "SIM_SEEDS", "SIM_TAPE", "SIM_MODE"];

/// The last panic of this process: message and place.
static LAST_PANIC: Mutex<Option<(String, String)>> = Mutex::new(None);

/// Whether this process is a run of a whole program.
static IN_CHILD: AtomicBool = AtomicBool::new(false);

/// Runs in place of `main`.
pub(super) fn main(program: Program) -> i32 {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    // A debugger's: nobody sets it for anything else.
    let in_place = set("SIM_INPLACE");
    let inner = inner_test();
    if inner.as_ref().is_some_and(|name| !name.starts_with(WHOLE)) {
        return program.run();
    }
    let args = program.args();
    let lists = args.iter().any(|a| a == "--list");
    if !set(DROP_IN) && !in_place {
        // What a plain test starts inherits all this from its `cargo sim`, which also says where results go.
        let by_hand = std::env::var_os("SIM_RESULTS").is_none() && !lists;
        let found = BY_HAND.into_iter().find(|name| std::env::var_os(name).is_some());
        if let Some(name) = found.filter(|_| by_hand) {
            eprintln!(
                "sim: {name} is set, but only a `#[sim::test]` heeds it here; everything else runs for real. `cargo sim test` \
                 simulates this program, SIM_INPLACE=1 beside SIM_SEED one test of it in this process"
            );
        }
        return program.run();
    }
    let Some(info) = info(&args) else {
        if in_place && !lists {
            eprintln!("sim: SIM_INPLACE=1 runs one test: expected its name and --exact");
            return FAILED;
        }
        return program.run();
    };
    if inner.is_none() {
        // Its harness is another one's child from here on.
        let inner = inner_value(&format!("{WHOLE}{}", info.name));
        return match serve_outer(&info, &args[1..], inner) {
            Served::Clean => 0,
            Served::Failed => FAILED,
            Served::Unsupported(_) => {
                eprintln!(
                    "sim: test={}: this system has no hermetic processes, and a whole program is simulated in no other: use \
                     the feature flag of sim-tokio here",
                    info.name
                );
                FAILED
            }
        };
    }
    process::begin();
    match serve_inner(info, true, |frame| Box::new(move |order| child(&frame, program, order))) {
        Inner::Done(status) => status,
        Inner::Met(test) => {
            became_inner(test);
            program.run()
        }
    }
}

/// What is known of the test that the arguments select. `None` for other uses of the binary, such as `--list`.
fn info(args: &[OsString]) -> Option<TestInfo> {
    let exact = args.iter().any(|a| a == "--exact");
    let name = args.iter().skip(1).find(|a| !a.to_string_lossy().starts_with('-')).filter(|_| exact)?;
    let krate = std::env::var("SIM_TEST_CRATE").ok().or_else(crate_of_this_binary).unwrap_or_else(|| "test".into());
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let kept = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    Some(TestInfo {
        name: kept(format!("{krate}::{}", name.to_string_lossy())),
        location: Spawn::named("main").location,
        package: kept(var("CARGO_PKG_NAME")),
        manifest_dir: kept(var("CARGO_MANIFEST_DIR")),
        seeds: None,
        time_limit_ns: Some(TIME_LIMIT.as_nanos() as u64),
        step_limit: None,
        memory_bytes: None,
        perturb: true,
    })
}

/// Cargo calls test binaries by their crate and a hash.
fn crate_of_this_binary() -> Option<String> {
    let exe = std::env::current_exe().ok()?;
    let name = exe.file_name()?.to_string_lossy();
    let krate = name.rsplit_once('-').map_or(&*name, |(krate, _)| krate);
    Some(krate.replace('-', "_"))
}

/// A run: it ends the process.
fn child(frame: &Frame, program: Program, order: &Order) -> i32 {
    let Some((choices, observe)) = frame.begin(order) else { return 1 };
    IN_CHILD.store(true, Relaxed);
    note_panics();
    let settings = Settings { livelock_polls: LIVELOCK_POLLS, ..frame.info.settings() };
    let begun = begin(settings, choices, observe);
    let world = begun.world();
    world.settle_thread(world.node("localhost"));
    let ending = Rc::new(Ending { frame: frame.clone(), seed: order.seed, begun: RefCell::new(Some(begun)) });
    world.set_last_words(Rc::new(move |world| {
        let verdict = world.verdict().unwrap_or(Verdict::Passed);
        ending.end(world, verdict)
    }));
    process::at_exit(exited);
    program.run_to_exit()
}

struct Ending {
    frame: Frame,
    seed: u64,
    begun: RefCell<Option<Begun>>,
}

impl Ending {
    /// Reports and ends the process: nothing of the program runs any more.
    fn end(&self, world: &'static World, verdict: Verdict) -> ! {
        std::mem::forget(self.begun.borrow_mut().take());
        process::exit_now(pass_through(|| match self.frame.tell(collect(world, verdict), self.seed) {
            0 if !process::is_child() => self.frame.end_here(self.seed),
            told => told,
        }))
    }
}

/// The program has ended with `status`.
fn exited(status: i32) {
    let Some(world) = World::current() else { return };
    if world.verdict().is_none() && status != 0 {
        let panic = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (message, location) =
            panic.unwrap_or_else(|| (format!("the program ended with exit status {status}"), String::new()));
        world.stop_with(Verdict::Panicked { message, location });
    }
    world.say_last_words();
}

/// Called by the runner of a simulated test inside a run: the run was only to find it. In place of a run that has no process
/// of its own, this one goes on as that test's inner one. Returns where it is a mistake.
pub(crate) fn met_simulated_test(info: &TestInfo) {
    if !IN_CHILD.load(Relaxed) {
        return;
    }
    if !process::is_child() {
        let error = pass_through(|| become_inner_of(info));
        panic!("{}: the test binary cannot be executed again: {error}", info.name);
    }
    if process::report(format!("{SIMULATED_TEST}{}", info.name).as_bytes()) {
        process::exit_now(0)
    }
}

/// Keeps the last panic: if the program fails, that is why.
fn note_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().map(|s| s.to_string());
        let message = message.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let location = info.location().map(|l| format!("{}:{}:{}", l.file(), l.line(), l.column())).unwrap_or_default();
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some((message, location));
        before(info)
    }));
}
