//! Children in parallel: as many as there are jobs, shared with all other test processes of this user.

use super::child::TapeCell;
use super::judge::{Finished, Frame, judge};
use super::protocol::Lines;
use sim_core::choices::Address;
use sim_libc::process::{JobSlot, Launcher, Order, job_slots};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A run to be made.
pub(super) struct Job {
    pub order: Order,
    /// The answers of a tape run.
    pub answers: Option<Vec<(Address, u64)>>,
    /// Whether what it prints is wanted.
    pub printed: bool,
}

/// Where jobs come from and results go.
pub(super) trait Work {
    /// The next job; `None` if there is none now. Asked again after every result.
    fn next(&mut self) -> Option<Job>;
    /// A job is done.
    fn done(&mut self, order: Order, finished: Finished);
    /// Called now and then.
    fn tick(&mut self) {}
}

pub(super) struct Pool {
    launcher: Launcher,
    jobs: usize,
    tape: TapeCell,
    test: &'static str,
    memory_bytes: u64,
    aslr: bool,
    shared: PathBuf,
    /// How long a job is waited for while none of ours runs: first without a word, then for good.
    patience: [Duration; 2],
    /// What is said meanwhile, once.
    lines: Lines,
    has_waited: bool,
    held: Vec<(JobSlot, Instant)>,
    /// Which slot's output is wanted.
    printed: Vec<bool>,
}

/// A job is handed to other processes after this time, if they wait for one.
const TURN: Duration = Duration::from_millis(100);
const PATIENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3600)];
const TICK: Duration = Duration::from_millis(50);

impl Pool {
    pub fn new(
        launcher: Launcher,
        jobs: usize,
        tape: TapeCell,
        test: &'static str,
        memory_bytes: u64,
        aslr: bool,
        lines: Lines,
    ) -> Pool {
        let shared = super::system::shared_folder();
        let slots = launcher.slots();
        let (held, printed) = (Vec::with_capacity(slots), vec![false; slots]);
        Pool {
            launcher,
            jobs: jobs.min(slots),
            tape,
            test,
            memory_bytes,
            aslr,
            shared,
            patience: PATIENCE,
            lines,
            has_waited: false,
            held,
            printed,
        }
    }

    /// How many children work at a time.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Works until there is no job left and none runs.
    pub fn work(&mut self, work: &mut dyn Work) -> io::Result<()> {
        loop {
            while self.launcher.running() < self.jobs && self.may_run()? {
                let Some(job) = work.next() else { break };
                self.begin(job)?;
            }
            if self.launcher.running() == 0 {
                self.held.clear();
                return Ok(());
            }
            let frame = Frame { test: self.test, memory_bytes: self.memory_bytes, aslr: self.aslr, printed: true };
            match self.launcher.wait_any(TICK)? {
                Some(ended) => {
                    let frame = Frame { printed: self.printed[ended.slot], ..frame };
                    let (order, finished) = (ended.order, judge(&ended, &frame));
                    work.done(order, finished);
                    self.hand_over();
                }
                None => work.tick(),
            }
        }
    }

    fn begin(&mut self, job: Job) -> io::Result<()> {
        if let Some(answers) = job.answers {
            self.tape.fill(answers.into_iter());
        }
        let slot =
            self.launcher.free_slot().ok_or_else(|| io::Error::other("more children run than there are slots"))?;
        self.printed[slot] = job.printed;
        self.launcher.fork(slot, job.order)?;
        Ok(())
    }

    /// Whether one more child may run. Waits if none of ours runs yet, and not for ever: work that never began must not
    /// look done. Where locks cannot be had there is no sharing.
    fn may_run(&mut self) -> io::Result<bool> {
        if self.held.len() > self.launcher.running() {
            return Ok(true);
        }
        let idle = self.launcher.running() == 0;
        let [quiet, patience] = self.patience;
        let mut job = job_slots(&self.shared, self.jobs, if idle { quiet } else { Duration::ZERO });
        if idle && matches!(job, Ok(None)) {
            if !std::mem::replace(&mut self.has_waited, true) {
                self.lines.say(format!("sim: test={} waits for a job: {}", self.test, self.holders()));
                self.lines.flush();
            }
            job = job_slots(&self.shared, self.jobs, patience);
        }
        match job {
            Ok(Some(slot)) => self.held.push((slot, Instant::now())),
            Ok(None) if idle => {
                return Err(io::Error::other(format!("no job came free in {patience:?}: {}", self.holders())));
            }
            Ok(None) => return Ok(false),
            Err(_) => {}
        }
        Ok(true)
    }

    fn holders(&self) -> String {
        format!("other test processes hold all {} locks in {}", self.jobs, self.shared.display())
    }

    fn hand_over(&mut self) {
        let spare = self.held.len().saturating_sub(self.launcher.running());
        if spare > 0 && self.held.first().is_some_and(|(_, since)| since.elapsed() > TURN) {
            self.held.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim_libc::process::Limits;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    struct One(bool);

    impl Work for One {
        fn next(&mut self) -> Option<Job> {
            let order = Order { seed: 1, mode: 0, index: 0, argument: 0 };
            (!std::mem::replace(&mut self.0, true)).then_some(Job { order, answers: None, printed: false })
        }
        fn done(&mut self, _: Order, _: Finished) {}
    }

    /// All jobs of a machine were held by other processes for an hour. The sweep then ended as one that has no seeds does:
    /// clean, with zero runs.
    #[test]
    fn work_that_finds_no_job_is_an_error_and_not_done() {
        let Ok(launcher) = Launcher::start(1, Limits { trap: false, ..Limits::default() }, Box::new(|_| 0)) else {
            return assert!(!sim_libc::guarantees().is_empty(), "only a system that says so has no children");
        };
        let shared = tempfile::tempdir().expect("a folder");
        let taken = job_slots(shared.path(), 1, Duration::ZERO).expect("locks").expect("it is free");
        let (mut told, lines) = io::pipe().expect("a pipe");
        let lines = Lines::new(Some(File::from(OwnedFd::from(lines))));
        let mut pool = Pool::new(launcher, 1, TapeCell::new(), "t", 1 << 30, false, lines);
        (pool.shared, pool.patience) = (shared.path().to_owned(), [5, 10].map(Duration::from_millis));
        let mut work = One(false);
        let error = pool.work(&mut work).expect_err("the only job is taken").to_string();
        assert!(error.contains("hold all 1 locks") && !work.0, "{error}");
        drop(taken);
        pool.work(&mut work).expect("now it is free");
        assert!(work.0);
        drop(pool);
        let mut said = String::new();
        told.read_to_string(&mut said).expect("whoever may write is gone");
        assert!(said.contains("test=t waits for a job") && said.lines().count() == 1, "{said}");
    }
}
