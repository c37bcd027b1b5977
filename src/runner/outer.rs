//! The outer process: executes the test binary again for one test, passes on what the inner one tells, and fails the test.

use super::orders::Orders;
use super::protocol::{INNER, inner_value};
use super::{TestInfo, plain};
use crate::json::{Json, object};
use crate::{Ending, Sim};
use sim_libc::process::{exec_in_place, hermetic_command};
use std::ffi::OsStr;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Of what the inner process prints itself, this much is kept for the case that it dies.
const NOISE_BYTES: usize = 64 << 10;

pub(super) fn work<B, F>(info: TestInfo, body: B)
where
    B: Fn(Sim) -> F,
    F: Future,
    F::Output: Ending,
{
    match serve(&info, &arguments(&info), inner_value(info.name)) {
        Served::Clean => {}
        Served::Failed => give_up(),
        Served::Unsupported(orders) => match plain::sweep(&info, &orders, body) {
            Ok(said) => println!("{said}"),
            Err(message) => {
                println!("sim: test={} {message}", info.name);
                give_up()
            }
        },
    }
}

/// What the binary is told that is to run this test.
fn arguments(info: &TestInfo) -> [&'static str; 4] {
    [info.libtest_name(), "--exact", "--nocapture", "--test-threads=1"]
}

/// Replaces this process by the inner one of the test; returns only if that fails.
pub(crate) fn become_inner_of(info: &TestInfo) -> io::Error {
    match hermetic_command(Path::new("/proc/self/exe")) {
        Ok(mut command) => {
            command.args(arguments(info)).env(INNER, inner_value(info.name));
            exec_in_place(command)
        }
        Err(error) => error,
    }
}

/// How a test ended that was executed again.
pub(crate) enum Served {
    /// Every run passed.
    Clean,
    /// A run failed, or none could be made; everything was said.
    Failed,
    /// There are no hermetic processes here.
    Unsupported(Box<Orders>),
}

/// Executes the binary again with `args`, and passes on what it tells. `inner` says to it what it is.
pub(crate) fn serve<A: AsRef<OsStr>>(info: &TestInfo, args: &[A], inner: String) -> Served {
    let failed = |message: &str| {
        println!("{message}");
        Served::Failed
    };
    let orders = match Orders::from_env() {
        Ok(orders) => orders,
        Err(misuse) => {
            let message = misuse.to_string();
            let end = object! { "type": "end", "test": info.name, "status": "misuse", "message": &message };
            if let Some(path) = std::env::var_os("SIM_RESULTS") {
                Results::open(Some(Path::new(&path))).pass_on("end", &end.to_string());
            }
            return failed(&format!("sim: {message}"));
        }
    };
    // Another build may have put a new file where this program was. This name is that of the one that is running.
    let running = Path::new("/proc/self/exe");
    let exe = if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() };
    let command = match exe.and_then(|exe| hermetic_command(&exe)) {
        Ok(mut command) => {
            command.args(args).env(INNER, inner);
            command
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Served::Unsupported(Box::new(orders)),
        Err(error) => return failed(&format!("sim: the test binary cannot be executed again: {error}")),
    };
    if orders.in_place {
        let error = exec_in_place(command);
        return failed(&format!("sim: the test binary cannot be executed again: {error}"));
    }
    let mut results = Results::open(orders.results.as_deref());
    match run(command, &mut results) {
        Ok(Heard { end: Some(end), .. }) => match (end.text("status"), end.text("message")) {
            (Some("clean"), _) => Served::Clean,
            (_, Some(message)) => failed(&format!("sim: test={} {message}", info.name)),
            _ => Served::Failed,
        },
        Ok(Heard { status, noise, .. }) => {
            let message = format!("the process of the test ended before it was done: {status}");
            let end = object! { "type": "end", "test": info.name, "status": "failed", "message": &message };
            results.pass_on("end", &end.to_string());
            failed(&format!("sim: test={} {message}\n{noise}", info.name))
        }
        Err(error) => failed(&format!("sim: test={} the runner itself failed: {error}", info.name)),
    }
}

struct Heard {
    end: Option<Json>,
    status: ExitStatus,
    noise: String,
}

fn run(mut command: Command, results: &mut Results) -> io::Result<Heard> {
    let (from_inner, to_outer) = io::pipe()?;
    let (noise, noisy) = io::pipe()?;
    // The inner process writes its lines to what it has as standard input: a descriptor that the standard library passes
    // on by itself, and that no program under test expects anything of.
    command.stdin(Stdio::from(to_outer)).stdout(noisy.try_clone()?).stderr(noisy);
    let mut child = command.spawn()?;
    drop(command);
    let listener = std::thread::spawn(move || tail(noise));
    let mut end = None;
    for line in BufReader::new(from_inner).lines() {
        let line = line?;
        let Ok(message) = line.parse::<Json>() else { continue };
        let kind = message.text("type").unwrap_or_default();
        if let ("say", Some(text)) = (kind, message.text("text")) {
            // Not `print!` of the whole: libtest captures either, but one call keeps the lines together.
            println!("{text}");
        }
        results.pass_on(kind, &line);
        if kind == "end" {
            end = Some(message);
        }
    }
    let status = child.wait()?;
    let noise = listener.join().unwrap_or_default();
    Ok(Heard { end, status, noise })
}

/// The end of what comes out of a pipe.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * NOISE_BYTES {
            kept.drain(..kept.len() - NOISE_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Where results go besides the terminal.
enum Results {
    Nowhere,
    /// Somebody listens now: everything.
    Socket(Box<dyn Write>),
    /// Somebody reads later: runs and their ends.
    File(File),
}

impl Results {
    fn open(path: Option<&Path>) -> Results {
        let Some(path) = path else { return Results::Nowhere };
        let opened = match super::system::connect(path) {
            Some(socket) => socket.map(Results::Socket),
            None => File::options().create(true).append(true).open(path).map(Results::File),
        };
        opened.unwrap_or_else(|error| {
            println!("sim: SIM_RESULTS={}: results cannot be written there: {error}", path.display());
            Results::Nowhere
        })
    }

    fn pass_on(&mut self, kind: &str, line: &str) {
        let line = format!("{line}\n");
        let wrote = match self {
            Results::Nowhere => Ok(()),
            Results::Socket(socket) => socket.write_all(line.as_bytes()),
            Results::File(_) if matches!(kind, "say" | "progress") => Ok(()),
            Results::File(file) => file.write_all(line.as_bytes()),
        };
        if let Err(error) = wrote {
            println!("sim: results can no longer be written, verdicts follow here only: {error}");
            *self = Results::Nowhere;
        }
    }
}

/// Fails the test without another word: everything was said, and a backtrace of ours would help nobody.
fn give_up() {
    std::panic::resume_unwind(Box::new("the simulated test failed"))
}
