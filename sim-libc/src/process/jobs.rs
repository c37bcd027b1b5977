//! One limit of jobs for all test processes of a user: `cargo test` starts binaries side by side, each of which forks.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The right to run one job, until it is dropped or the process ends.
#[derive(Debug)]
pub struct JobSlot {
    _locked: File,
}

/// Waits until one of `n` jobs of all that share `dir` is free: files `0` to `n - 1` there, locked with flock(2). `None`
/// when none came free in time. The directory is made if it is missing.
///
/// Who waits holds the file `next` meanwhile, and nobody takes a job past its holder: who gives a job up and wants the next
/// would else have it again before anyone had looked.
///
/// # Errors
/// Those of making the directory and opening the files.
pub fn job_slots(dir: &Path, n: usize, timeout: Duration) -> io::Result<Option<JobSlot>> {
    std::fs::create_dir_all(dir)?;
    let began = Instant::now();
    // Each process begins elsewhere, so that a hundred of them do not all try the first file first.
    let first = std::process::id() as usize % n.max(1);
    let mut turn = None;
    loop {
        if turn.is_none() {
            turn = try_lock(dir, "next")?;
        }
        if turn.is_some() {
            for i in 0..n.max(1) {
                if let Some(file) = try_lock(dir, &((first + i) % n.max(1)).to_string())? {
                    return Ok(Some(JobSlot { _locked: file }));
                }
            }
        }
        if began.elapsed() >= timeout {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn try_lock(dir: &Path, name: &str) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(name))?;
    // SAFETY: flock takes two numbers; the descriptor is open as long as `file`.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    Ok(locked.then_some(file))
}
