//! The same functions on other systems, so that the crates above are the same everywhere. What needs a process of its own
//! is refused with `Unsupported`; interposition answers nothing, which [`guarantees`](crate::guarantees) says.

/// Libc's symbols are the system's own here.
pub mod interpose {
    use std::marker::PhantomData;

    /// Stands for a run being on; changes nothing on this system.
    #[derive(Debug)]
    #[must_use = "interposition ends when this is dropped"]
    pub struct Interposed {
        stays_on_thread: PhantomData<*const ()>,
    }

    /// Changes nothing on this system: clocks, entropy and threads of the program are real.
    pub fn enable() -> Interposed {
        Interposed { stays_on_thread: PhantomData }
    }

    /// Calls `f`.
    pub fn pass_through<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// Files that a program asks libc for are the system's own here.
pub mod files {
    use sim_disk::{Disk, User};

    /// Disks over nothing: what programs reach by `sim_disk` alone.
    pub fn disk() -> Disk {
        Disk::new()
    }

    /// The same: without a tree below there is nobody to be.
    pub fn disk_of(_user: User) -> Disk {
        Disk::new()
    }
}

/// Nothing is trapped here.
pub mod trap {
    use std::io;

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn install() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never.
    pub fn is_installed() -> bool {
        false
    }
}

/// No process of its own for each run: what forks or starts again is refused.
pub mod process {
    use std::io;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    pub use crate::child::{Ended, Exit, Limits, Note, NoteKind, Order, Output};

    #[derive(Clone, Copy, Debug)]
    enum Never {}

    /// A thread that forks: there is none here.
    pub struct Launcher {
        never: Never,
    }

    impl Launcher {
        /// Refuses.
        ///
        /// # Errors
        /// Always `Unsupported`.
        pub fn start(
            _max_jobs: usize,
            _limits: Limits,
            _body: Box<dyn Fn(&Order) -> i32 + Send>,
        ) -> io::Result<Launcher> {
            Err(io::ErrorKind::Unsupported.into())
        }

        /// The number of slots.
        pub fn slots(&self) -> usize {
            match self.never {}
        }

        /// A slot in which no child runs.
        pub fn free_slot(&self) -> Option<usize> {
            match self.never {}
        }

        /// How many children live.
        pub fn running(&self) -> usize {
            match self.never {}
        }

        /// What the child in `slot` is doing, and for how long.
        pub fn running_in(&self, _slot: usize) -> Option<(Order, Duration)> {
            match self.never {}
        }

        /// Forks a child.
        ///
        /// # Errors
        /// There is no launcher to call this on.
        pub fn fork(&mut self, _slot: usize, _order: Order) -> io::Result<i32> {
            match self.never {}
        }

        /// Runs the body here, without forking.
        pub fn run_here(&mut self, _order: Order) -> i32 {
            match self.never {}
        }

        /// Ends a child.
        pub fn kill(&mut self, _slot: usize) {
            match self.never {}
        }

        /// Waits until a child has ended.
        ///
        /// # Errors
        /// There is no launcher to call this on.
        pub fn wait_any(&mut self, _timeout: Duration) -> io::Result<Option<Ended<'_>>> {
            match self.never {}
        }
    }

    /// The right to run one job.
    #[derive(Debug)]
    pub struct JobSlot {}

    /// Gives the right at once: nothing is shared between processes here.
    ///
    /// # Errors
    /// None on this system.
    pub fn job_slots(_dir: &Path, _n: usize, _timeout: Duration) -> io::Result<Option<JobSlot>> {
        Ok(Some(JobSlot {}))
    }

    /// A program that can be run in place of itself. There is none here.
    #[derive(Clone, Copy, Debug)]
    pub struct Program {
        never: Never,
    }

    impl Program {
        /// Runs it.
        pub fn run(&self) -> i32 {
            match self.never {}
        }

        /// Runs it and ends the process.
        pub fn run_to_exit(&self) -> ! {
            match self.never {}
        }

        /// Its arguments.
        pub fn args(&self) -> Vec<std::ffi::OsString> {
            match self.never {}
        }
    }

    /// Takes nothing over: `main` runs as ever, see [`can_take_over`].
    pub fn take_over(_taker: fn(Program) -> i32) {}

    /// Never.
    pub fn can_take_over() -> bool {
        false
    }

    /// Of a program that was taken over, and there is none: `last` is not called.
    pub fn at_exit(_last: fn(i32)) {}

    /// Ends the process.
    pub fn exit_now(status: i32) -> ! {
        std::process::exit(status)
    }

    /// Writes to the output of this process.
    pub fn print(text: &str) {
        print!("{text}");
    }

    /// Refuses: there is no parent to hand anything to.
    pub fn report(_bytes: &[u8]) -> bool {
        false
    }

    /// Never.
    pub fn is_child() -> bool {
        false
    }

    /// Not known.
    pub fn peak_bytes() -> u64 {
        0
    }

    /// No descriptor is a run's here.
    pub fn has_room_for_descriptors() -> bool {
        true
    }

    /// Unknown here, so taken as no.
    pub fn aslr_off() -> bool {
        false
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn hermetic_command(_exe: &Path) -> io::Result<Command> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Refuses.
    pub fn exec_in_place(_command: Command) -> io::Error {
        io::ErrorKind::Unsupported.into()
    }

    /// Has nothing to set right: no process is started a second time here.
    pub fn begin() {}

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn threads() -> io::Result<Vec<String>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always `Unsupported`.
    pub fn watchdog(_limit: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Changes nothing here: a fatal signal ends the process without last words.
    pub fn catch_fatal_signals() {}
}

/// Threads of a run: real ones here.
pub mod threads {
    /// Lets other threads of the system go on.
    pub fn yield_now() {
        std::thread::yield_now();
    }

    /// Nothing: the system preempts.
    #[derive(Debug)]
    pub struct Preemptible;

    impl Preemptible {
        /// Nothing begins.
        pub fn begin(_key: u64, _poll: u32) -> Preemptible {
            Preemptible
        }
    }

    /// Nothing happens.
    pub fn preemption_point() {}
}

/// Runtimes that are turned from outside: none here.
pub mod sockets {
    use sim_core::Instant;
    use std::task::{Context, Poll};
    use std::time::Duration;

    /// Where a runtime would have waited.
    #[derive(Debug)]
    pub struct Idle {
        /// Until when.
        pub until: Instant,
    }

    impl Idle {
        /// Nothing is fetched.
        pub fn look_ahead(&self, _ahead: Ahead) {}

        /// Ready: nothing is known of what it waits for.
        pub fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    /// What steps of one runtime have in common: nothing.
    #[derive(Debug, Default)]
    pub struct Steps(());

    /// Runs `run`, which waits as it will: no wait is noticed here.
    pub fn step(_steps: &Steps, run: impl FnOnce(), _on_idle: impl FnMut(bool)) -> Option<Idle> {
        run();
        None
    }

    /// Never.
    pub fn is_stepped() -> bool {
        false
    }

    /// What is known of a runtime's timers: nothing.
    #[derive(Debug, Default)]
    pub struct Timers(());

    impl Timers {
        /// Nobody knew anything.
        pub fn clock_pauses() {}

        /// Nobody asks.
        pub fn turn(&self) {}

        /// Never.
        pub fn is_turned(&self) -> bool {
            false
        }

        /// Nobody asks.
        pub fn add(&self, _tick: u64) {}

        /// Nobody asks.
        pub fn take(&self) {}

        /// Nobody asks.
        pub fn fire(&self) {}

        /// Not known.
        pub fn rest(&self, _moment: Moment, _tick: impl FnOnce() -> u64) -> Rest {
            Rest::Unknown
        }
    }

    /// Where a stepped runtime looks at its drivers.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[expect(missing_docs, reason = "nobody tells them apart")]
    pub enum Moment {
        Begins,
        Yields,
        Parks,
    }

    /// What a stepped runtime finds there.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[expect(missing_docs, reason = "only the first is met")]
    pub enum Rest {
        Unknown,
        Told,
        Due,
        DueAndTold,
        Nothing,
    }

    /// What epoll tells of a source, as mio reads it.
    #[derive(Clone, Copy, Debug)]
    #[expect(missing_docs, reason = "they are what mio calls them")]
    pub struct Event {
        pub token: usize,
        pub readable: bool,
        pub writable: bool,
        pub read_closed: bool,
        pub write_closed: bool,
        pub priority: bool,
        pub error: bool,
    }

    /// There are none.
    pub fn events(_tell: impl FnMut(Event)) {}

    /// Nobody knew anything.
    pub fn nothing_is_drained() {}

    /// Not known.
    pub fn is_drained(_token: usize) -> bool {
        false
    }

    /// Where something lies: not kept.
    #[derive(Clone, Debug, Default)]
    pub struct Ahead(());

    impl Ahead {
        /// Not kept.
        pub fn add<T: ?Sized>(&mut self, _value: &T) {}

        /// Not kept.
        pub fn add_shared<T>(&mut self, _value: &std::sync::Arc<T>) {}

        /// There is nothing to ask for.
        pub fn fetch(&self) {}
    }

    /// Never: it has to wait itself.
    pub fn parks(_place: usize, _timeout: Option<Duration>) -> bool {
        false
    }

    /// Nobody parks elsewhere than where it waits itself.
    pub fn unparks(_place: usize) {}

    /// Never: it reads its clock itself.
    pub fn work_begins() -> bool {
        false
    }

    /// Not known.
    pub fn work_ends() -> Option<u64> {
        None
    }
}
