//! One test in a process of its own, and the lines it sends.

use super::Refused;
use super::say::say;
use super::select::Test;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The version of the protocol with the library.
pub const PROTOCOL: u64 = 1;
/// Of what a test prints past the protocol, this much is kept.
const TEXT_BYTES: usize = 1 << 20;
const BEAT: Duration = Duration::from_millis(5);

/// Whether somebody has pressed Ctrl-C, once that is listened for. Before, it ends this program at once, as it does cargo: also
/// where it waits for another one's lock.
#[derive(Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on what was found so far is shown first.
    pub fn listen(&self) -> Result<(), Refused> {
        let set = self.0.clone();
        ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))
            .map_err(|e| Refused(format!("Ctrl-C cannot be listened for: {e}")))
    }

    pub fn is_pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a test ended.
pub enum Ended {
    /// It has seeds. The message is why it failed, where that is no verdict.
    Simulated { failed: bool, message: String },
    /// It never entered a World.
    Plain { passed: bool, text: String },
    /// Ctrl-C.
    Interrupted,
}

/// Runs a test; `hear` gets every line it sends.
pub fn run_test(
    test: &Test,
    env: &[(String, String)],
    interrupt: &Interrupt,
    hear: &mut dyn FnMut(&Value),
) -> Result<Ended, Refused> {
    run_test_in(test, &test.folder(), env, interrupt, hear)
}

/// The same in another folder.
pub fn run_test_in(
    test: &Test,
    folder: &Path,
    env: &[(String, String)],
    interrupt: &Interrupt,
    hear: &mut dyn FnMut(&Value),
) -> Result<Ended, Refused> {
    let place =
        tempfile::Builder::new().prefix("cargo-sim").tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let socket = place.path().join("results");
    let listener = UnixListener::bind(&socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    listener.set_nonblocking(true).map_err(|e| format!("{}: {e}", socket.display()))?;

    let executable = &test.binary.executable;
    let mut command = executable.command()?;
    if test.binary.harness {
        command.args([test.name.as_str(), "--exact", "--nocapture", "--test-threads=1"]);
    }
    command.current_dir(folder);
    // What somebody set for the whole shell gives way to the command line.
    super::args::decided().for_each(|name| {
        command.env_remove(name);
    });
    command.envs(test.binary.environment.iter().chain(env).map(|(k, v)| (k, v))).env("SIM_RESULTS", &socket);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{}: {e}", executable.path().display()))?;
    let texts = [keep(child.stdout.take()), keep(child.stderr.take())];

    let over = Arc::new(AtomicBool::new(false));
    let (sender, lines) = channel();
    let listening = {
        let over = over.clone();
        std::thread::spawn(move || listen(listener, &over, &sender))
    };
    let heard = follow(test, &mut child, &over, &lines, interrupt, hear);
    over.store(true, Ordering::Relaxed);
    if heard.is_err() || interrupt.is_pressed() {
        // It may have ended by itself already.
        let _gone = child.kill();
    }
    let status = child.wait().map_err(|e| format!("{}: {e}", test.full))?;
    let _listened = listening.join();
    let text: String = texts.into_iter().map(|t| t.join().unwrap_or_default()).collect();
    let heard = heard?;
    if interrupt.is_pressed() {
        return Ok(Ended::Interrupted);
    }
    match heard.end {
        Some(end) if end["status"] == "misuse" => {
            Err(Refused(format!("{}: {}", test.full, end["message"].as_str().unwrap_or("misuse"))))
        }
        Some(end) => {
            let message = end["message"].as_str().unwrap_or_default().to_owned();
            if !message.is_empty() {
                say(format_args!("{message}\n{}", text.trim_end()));
            }
            Ok(Ended::Simulated { failed: end["status"] != "clean", message })
        }
        None if heard.hello => {
            let message = format!("{}: the process ended before its sweep did: {status}", test.full);
            say(format_args!("{message}\n{}", text.trim_end()));
            Ok(Ended::Simulated { failed: true, message })
        }
        None => Ok(Ended::Plain { passed: status.success(), text }),
    }
}

#[derive(Default)]
struct Heard {
    hello: bool,
    end: Option<Value>,
}

/// Reads lines until there are no more.
fn follow(
    test: &Test,
    child: &mut Child,
    over: &AtomicBool,
    lines: &Receiver<String>,
    interrupt: &Interrupt,
    hear: &mut dyn FnMut(&Value),
) -> Result<Heard, Refused> {
    let mut heard = Heard::default();
    loop {
        if interrupt.is_pressed() {
            return Ok(heard);
        }
        match lines.recv_timeout(BEAT) {
            Ok(line) => {
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                match message["type"].as_str() {
                    Some("hello") if message["protocol"] != PROTOCOL => {
                        return Err(Refused(format!(
                            "{}: its sim library speaks protocol {}, this cargo-sim speaks {PROTOCOL}: use the same \
                             version of both",
                            test.full, message["protocol"]
                        )));
                    }
                    Some("hello") => heard.hello = true,
                    Some("end") => heard.end = Some(message.clone()),
                    _ => {}
                }
                hear(&message);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(heard),
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait().map_err(|e| format!("{}: {e}", test.full))?.is_some() {
                    over.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Takes the one connection of a test, if it makes one before it is over, and passes its lines on.
fn listen(listener: UnixListener, over: &AtomicBool, to: &Sender<String>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => return pass_on(stream, to),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !over.load(Ordering::Relaxed) => {
                std::thread::sleep(BEAT)
            }
            // One may have come between the last look and the end.
            Err(_) => match listener.accept() {
                Ok((stream, _)) => return pass_on(stream, to),
                Err(_) => return,
            },
        }
    }
}

fn pass_on(stream: UnixStream, to: &Sender<String>) {
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if to.send(line).is_err() {
            return;
        }
    }
}

/// The beginning of what comes out of a pipe; the rest is read and dropped.
fn keep(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut from) = from {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let room = TEXT_BYTES - kept.len();
                kept.extend_from_slice(&buffer[..n.min(room)]);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}
