//! Options of a runtime.

use super::current::{Record, Runtimes};
use super::{Handle, Runtime, RuntimeFlavor};
use crate::time::Duration;
use sim_core::World;
use std::cell::Cell;
use std::io;

/// Options of a [`Runtime`].
///
/// # Simulation
/// Sizes and intervals of tokio's threads and queues are accepted and tune nothing, since there are no threads and no
/// polling of the kernel; each says so. The callbacks of threads (`on_thread_start` and so on) are absent.
#[derive(Debug)]
pub struct Builder {
    flavor: RuntimeFlavor,
    workers: usize,
    name: Option<String>,
    time_enabled: bool,
    start_paused: bool,
}

/// What tokio would take on a machine with four processors: a constant, since a run asks no real machine.
const DEFAULT_WORKERS: usize = 4;

impl Builder {
    fn new(flavor: RuntimeFlavor, workers: usize) -> Builder {
        Builder { flavor, workers, name: None, time_enabled: false, start_paused: false }
    }

    /// A runtime whose tasks run only during [`Runtime::block_on`].
    pub fn new_current_thread() -> Builder {
        Builder::new(RuntimeFlavor::CurrentThread, 1)
    }

    /// A runtime whose tasks run whenever the World does.
    pub fn new_multi_thread() -> Builder {
        Builder::new(RuntimeFlavor::MultiThread, DEFAULT_WORKERS)
    }

    /// Enables timers and sockets.
    pub fn enable_all(&mut self) -> &mut Self {
        self.enable_time()
    }

    /// Enables timers. Without it `sleep` panics.
    pub fn enable_time(&mut self) -> &mut Self {
        self.time_enabled = true;
        self
    }

    /// Enables sockets, which the simulator always does.
    pub fn enable_io(&mut self) -> &mut Self {
        self
    }

    /// How many workers [`RuntimeMetrics::num_workers`](super::RuntimeMetrics::num_workers) counts. The simulator has no
    /// worker threads; the order of tasks is the seed's either way.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn worker_threads(&mut self, n: usize) -> &mut Self {
        assert!(n > 0, "Worker threads cannot be set to 0");
        if self.flavor == RuntimeFlavor::MultiThread {
            self.workers = n;
        }
        self
    }

    /// The name that [`Handle::name`] returns.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Starts with the clock [`pause`](crate::time::pause)d.
    pub fn start_paused(&mut self, paused: bool) -> &mut Self {
        self.start_paused = paused;
        self
    }

    /// Names worker threads, of which there are none.
    pub fn thread_name(&mut self, _name: impl Into<String>) -> &mut Self {
        self
    }

    /// Sizes the stacks of worker threads, of which there are none.
    pub fn thread_stack_size(&mut self, _bytes: usize) -> &mut Self {
        self
    }

    /// How long an idle blocking thread lives; there are none.
    pub fn thread_keep_alive(&mut self, _duration: Duration) -> &mut Self {
        self
    }

    /// How often tokio looks for events of the kernel; the World looks after each poll.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn event_interval(&mut self, ticks: u32) -> &mut Self {
        assert!(ticks > 0, "event_interval must be greater than 0");
        self
    }

    /// How often a worker looks at the shared queue; the World has one queue.
    ///
    /// # Panics
    /// If it is zero.
    #[track_caller]
    pub fn global_queue_interval(&mut self, ticks: u32) -> &mut Self {
        assert!(ticks > 0, "global_queue_interval must be greater than 0");
        self
    }

    /// How many events tokio takes from the kernel at once; the World takes one.
    pub fn max_io_events_per_tick(&mut self, _capacity: usize) -> &mut Self {
        self
    }

    /// Builds it. Outside a run, the first runtime of a thread enters a World.
    ///
    /// # Panics
    /// With [`start_paused`](Builder::start_paused) in a `multi_thread` runtime, as tokio's.
    #[track_caller]
    pub fn build(&mut self) -> io::Result<Runtime> {
        let record = self.record(true);
        let (world, runtimes, node) = Runtimes::world_to_build_in();
        let gate = (self.flavor == RuntimeFlavor::CurrentThread).then(|| world.new_gate());
        let group = world.new_group(node);
        runtimes.add(group, Record { gate, ..record });
        Ok(Runtime::from_handle(Handle::new(runtimes.token, group)))
    }

    /// Gives the options to the runtime that the program of the acting node finds around itself.
    pub(crate) fn adopt(&self, world: &World) {
        let record = self.record(false);
        record.root.set(world.task_id());
        world.extension::<Runtimes>().add(world.acting_group(), record);
    }

    #[track_caller]
    fn record(&self, built: bool) -> Record {
        let record = Record {
            flavor: self.flavor,
            workers: self.workers,
            name: self.name.clone(),
            time_enabled: self.time_enabled,
            gate: None,
            frozen: Cell::new(false),
            root: Cell::new(None),
            built,
        };
        if self.start_paused
            && let Err(text) = record.freeze()
        {
            panic!("{text}");
        }
        record
    }
}
