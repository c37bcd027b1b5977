//! The changes to tokio's source, and the files added to it. Which versions they were tried with stands in [`TESTED`].

use super::hunk::Hunk;

/// Every change, applied in this order.
pub const HUNKS: &[Hunk] = &[
    Hunk {
        name: "the module __sim",
        file: "lib.rs",
        anchor: "mod loom;",
        replace: "#[doc(hidden)]\npub mod __sim;\nmod loom;",
    },
    // A task's stable identity and the count of its wakes, in its header.
    Hunk {
        name: "a task's identity",
        file: "runtime/task/core.rs",
        anchor: "    pub(super) queue_next: UnsafeCell<Option<NonNull<Header>>>,",
        replace: "    pub(super) queue_next: UnsafeCell<Option<NonNull<Header>>>,\n\n    pub(super) sim: crate::__sim::Tag,",
    },
    Hunk {
        name: "a new task's identity",
        file: "runtime/task/core.rs",
        anchor: "queue_next: UnsafeCell::new(None),",
        replace: "queue_next: UnsafeCell::new(None),\n                sim,",
    },
    Hunk {
        name: "a new header's identity",
        file: "runtime/task/core.rs",
        anchor: "            vtable: &'static Vtable,\n",
        replace: "            vtable: &'static Vtable,\n            sim: crate::__sim::Tag,\n",
    },
    Hunk {
        name: "what a new task is called",
        file: "runtime/task/core.rs",
        anchor: "                state,\n                vtable,\n",
        replace: "\
                state,
                vtable,
                crate::__sim::Tag::new(std::any::type_name::<T>()),
",
    },
    // Every scheduler polls its tasks here.
    Hunk {
        name: "a poll, and how far a wake is held",
        file: "runtime/task/mod.rs",
        anchor: "\
impl<S: Schedule> LocalNotified<S> {
    /// Runs the task.
    pub(crate) fn run(self) {
        let raw = self.task.raw;
        mem::forget(self);
        raw.poll();",
        replace: "\
impl<S: 'static> Notified<S> {
    pub(crate) fn sim_hold(&self) -> u64 {
        self.0.raw.header().sim.hold()
    }
}

impl<S: Schedule> LocalNotified<S> {
    pub(crate) fn sim_hold_thread(&self) -> crate::__sim::Preemptible {
        self.task.header().sim.hold_thread()
    }

    /// Runs the task.
    pub(crate) fn run(self) {
        let raw = self.task.raw;
        mem::forget(self);
        let _acting = crate::__sim::Acting::begin(&raw.header().sim);
        raw.poll();",
    },
    Hunk {
        name: "the end of a task",
        file: "runtime/task/harness.rs",
        anchor: "    fn complete(self) {\n",
        replace: "    fn complete(self) {\n        self.header().sim.ended();\n",
    },
    // The order of ready tasks.
    Hunk {
        name: "the queue",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    tasks: VecDeque<Notified>,",
        replace: "    tasks: crate::__sim::Queue<Notified>,",
    },
    Hunk {
        name: "a new queue",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "tasks: VecDeque::with_capacity(INITIAL_CAPACITY),",
        replace: "tasks: crate::__sim::Queue::with_capacity(INITIAL_CAPACITY),",
    },
    Hunk {
        name: "a wake",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "        self.tasks.push_back(task);",
        replace: "        let hold = task.sim_hold();\n        self.tasks.push_back(task, hold);",
    },
    Hunk {
        name: "a wake from elsewhere",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn next_task(&mut self, handle: &Handle) -> Option<Notified> {",
        replace: "\
    fn sim_next_task(&mut self, handle: &Handle) -> Option<Notified> {
        if self.tick % self.global_queue_interval != 0 && self.tasks.has_next() {
            return self.next_local_task(handle);
        }
        while let Some(task) = handle.next_remote_task() {
            match task.sim_hold() {
                0 => return Some(task),
                hold => self.tasks.push_back(task, hold),
            }
        }
        self.next_local_task(handle)
    }

    fn next_task(&mut self, handle: &Handle) -> Option<Notified> {
        if crate::__sim::on() {
            return self.sim_next_task(handle);
        }",
    },
    // Workers share their queues: the one that took a task is held, and others take the next ones.
    Hunk {
        name: "a worker with a task",
        file: "runtime/scheduler/multi_thread/worker.rs",
        anchor: "        // Make the core available to the runtime context",
        replace: "\
        let _preemptible = task.sim_hold_thread();
        // Make the core available to the runtime context",
    },
    Hunk {
        name: "a worker with a task that was just woken",
        file: "runtime/scheduler/multi_thread/worker.rs",
        anchor: "                let task = self.worker.handle.shared.owned.assert_owner(task);\n",
        replace: "\
                let task = self.worker.handle.shared.owned.assert_owner(task);
                let _preemptible = task.sim_hold_thread();
",
    },
    // What locks, channels, semaphores and sockets do first.
    Hunk {
        name: "a point where a worker may lose its processor",
        file: "task/coop/mod.rs",
        anchor: "fn poll_proceed(cx: &mut Context<'_>) -> Poll<RestoreOnPending> {\n",
        replace: "\
fn poll_proceed(cx: &mut Context<'_>) -> Poll<RestoreOnPending> {
        crate::__sim::preemption_point();
",
    },
    Hunk {
        name: "the queue of a LocalSet",
        file: "task/local.rs",
        anchor: "use std::collections::VecDeque;",
        replace: "use crate::__sim::Queue as VecDeque;",
    },
    Hunk {
        name: "a wake in a LocalSet",
        file: "task/local.rs",
        anchor: "(*ptr).push_back(task)",
        replace: "(*ptr).push_back(task, hold)",
    },
    Hunk {
        name: "how far a wake in a LocalSet is held",
        file: "task/local.rs",
        anchor: "    unsafe fn task_push_back(&self, task: task::Notified<Arc<Shared>>) {\n",
        replace: "\
    unsafe fn task_push_back(&self, task: task::Notified<Arc<Shared>>) {
        let hold = task.sim_hold();
",
    },
    Hunk {
        name: "a wake in a LocalSet from elsewhere",
        file: "task/local.rs",
        anchor: "queue.push_back(task);",
        replace: "\
let hold = task.sim_hold();
                        queue.push_back(task, hold);",
    },
    Hunk {
        name: "the wake that ends a turn",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    // reset woken to false and return original value",
        replace: "\
    pub(crate) fn sim_wake_root(&self) {
        self.shared.woken.store(true, Release);
    }

    // reset woken to false and return original value",
    },
    // A machine's runtime is entered for each of its turns by the shortest way: what it needs stays with it.
    Hunk {
        name: "a machine's scheduler",
        file: "runtime/runtime.rs",
        anchor: "\
    /// Runs a future to completion on the Tokio runtime.",
        replace: "\
    pub(crate) fn sim_scheduler(&self) -> &CurrentThread {
        match &self.scheduler {
            Scheduler::CurrentThread(exec) => exec,
            #[allow(unreachable_patterns)]
            _ => unreachable!(\"a machine's runtime has one thread\"),
        }
    }

    /// Runs a future to completion on the Tokio runtime.",
    },
    Hunk {
        name: "the beginning and the end of what a machine keeps",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn take_core(&self, handle: &Arc<Handle>) -> Option<CoreGuard<'_>> {",
        replace: "\
    pub(crate) fn sim_keep(&self, handle: &scheduler::Handle) -> SimKept {
        SimKept {
            context: Box::new(scheduler::Context::CurrentThread(Context {
                handle: handle.as_current_thread().clone(),
                core: RefCell::new(self.core.take()),
                defer: Defer::new(),
            })),
            handle: Some(handle.clone()),
        }
    }

    pub(crate) fn sim_keep_no_more(&self, kept: SimKept) {
        if let Some(core) = kept.context.expect_current_thread().core.take() {
            self.core.set(core);
        }
    }

    fn take_core(&self, handle: &Arc<Handle>) -> Option<CoreGuard<'_>> {",
    },
    Hunk {
        name: "what a machine keeps between its turns",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "/// Handle to the current thread scheduler\n",
        replace: "\
/// Of a machine, from turn to turn: in a turn, its core is where its context is, and its handle is the current one.
pub(crate) struct SimKept {
    context: Box<scheduler::Context>,
    handle: Option<scheduler::Handle>,
}

impl SimKept {
    pub(crate) fn turn<F: Future>(&mut self, handle: &Handle, future: F) -> F::Output {
        let context = &self.context;
        crate::runtime::context::sim_enter(&mut self.handle, || {
            pin!(future);
            let _turned = handle.driver.sim_timers().map(crate::__sim::Timers::turn);
            CoreGuard::sim_block_on(context, future)
        })
    }

    pub(crate) fn lies(&self, ahead: &mut ::sim::drop_in::Ahead) {
        ahead.add(&*self.context);
        if let Some(core) = &*self.context.expect_current_thread().core.borrow() {
            ahead.add(&**core);
        }
    }
}

/// Handle to the current thread scheduler
",
    },
    Hunk {
        name: "where that is known",
        file: "runtime/scheduler/mod.rs",
        anchor: "    pub(crate) use current_thread::CurrentThread;",
        replace: "    pub(crate) use current_thread::{CurrentThread, SimKept};",
    },
    Hunk {
        name: "a loop over what is kept",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn block_on<F: Future>(self, ",
        replace: "    fn sim_block_on<F: Future>(kept: &scheduler::Context, ",
    },
    Hunk {
        name: "a scope over what is kept",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "        let ret = self.enter(|mut core, context| {\n",
        replace: "\
        fn sim_enter<R>(kept: &scheduler::Context, f: impl FnOnce(Box<Core>, &Context) -> (Box<Core>, R)) -> R {
            let context = kept.expect_current_thread();
            let core = context.core.borrow_mut().take().expect(\"core missing\");
            let (core, ret) = context::set_scheduler(kept, || f(core, context));
            *context.core.borrow_mut() = Some(core);
            ret
        }

        let ret = sim_enter(kept, |mut core, context| {
",
    },
    Hunk {
        name: "a block_on as before",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "core.block_on(",
        replace: "CoreGuard::sim_block_on(&core.context, ",
    },
    // As `enter_runtime`, without a seed for a generator that nobody draws from.
    Hunk {
        name: "a turn's context",
        file: "runtime/context.rs",
        anchor: "    pub(crate) use runtime::{EnterRuntime, enter_runtime};",
        replace: "\
    pub(crate) use runtime::{EnterRuntime, enter_runtime};

    pub(crate) fn sim_enter<R>(handle: &mut Option<scheduler::Handle>, f: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a mut Option<scheduler::Handle>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                CONTEXT.with(|c| {
                    c.runtime.set(EnterRuntime::NotEntered);
                    c.current.sim_swap(self.0);
                });
            }
        }
        CONTEXT.with(|c| {
            assert!(!c.runtime.get().is_entered(), \"a machine is turned by the simulator alone\");
            c.runtime.set(EnterRuntime::Entered { allow_block_in_place: false });
            c.current.sim_swap(handle);
        });
        let _leave = Leave(handle);
        f()
    }",
    },
    Hunk {
        name: "the current handle in a turn",
        file: "runtime/context/current.rs",
        anchor: "impl HandleCell {\n",
        replace: "\
impl HandleCell {
    pub(super) fn sim_swap(&self, handle: &mut Option<scheduler::Handle>) {
        std::mem::swap(&mut *self.handle.borrow_mut(), handle);
    }

",
    },
    // Where a machine would look at its drivers, mostly all is known without them: what epoll would tell is told, the timers that
    // are due fire, or the turn ends.
    Hunk {
        name: "the beginning of a turn",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "            'outer: loop {\n",
        replace: "\
            core = context.sim_look(core, &context.handle, crate::__sim::Moment::Begins).0;

            'outer: loop {
",
    },
    Hunk {
        name: "a park of the scheduler",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn park(&self, mut core: Box<Core>, handle: &Handle) -> Box<Core> {\n",
        replace: "\
    fn sim_look(&self, mut core: Box<Core>, handle: &Handle, moment: crate::__sim::Moment) -> (Box<Core>, bool) {
        use crate::__sim::{Moment, Rest};

        let rest = handle.driver.sim_rest(moment);
        if rest == Rest::Nothing && moment == Moment::Parks {
            core.metrics.about_to_park();
        }
        if rest == Rest::Unknown || rest == Rest::Nothing && self.defer.is_empty() {
            return (core, rest == Rest::Nothing);
        }
        let (core, ()) = self.enter(core, || {
            if matches!(rest, Rest::Told | Rest::DueAndTold) {
                handle.driver.sim_tell();
            }
            if matches!(rest, Rest::Due | Rest::DueAndTold) {
                handle.driver.sim_fire();
            }
            self.defer.wake();
        });
        (core, true)
    }

    fn park(&self, core: Box<Core>, handle: &Handle) -> Box<Core> {
        let (mut core, looked) = self.sim_look(core, handle, crate::__sim::Moment::Parks);
        if looked {
            core.submit_metrics(handle);
            return core;
        }
",
    },
    Hunk {
        name: "a look of the scheduler",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn park_yield(&self, mut core: Box<Core>, handle: &Handle) -> Box<Core> {\n",
        replace: "\
    fn park_yield(&self, core: Box<Core>, handle: &Handle) -> Box<Core> {
        let (mut core, looked) = self.sim_look(core, handle, crate::__sim::Moment::Yields);
        if looked {
            core.submit_metrics(handle);
            return core;
        }
",
    },
    // As `turn`, of what the simulator's epoll has to tell.
    Hunk {
        name: "events",
        file: "runtime/io/driver.rs",
        anchor: "impl Handle {\n    /// Forces a reactor blocked",
        replace: "\
/// Before tokio 1.33 a driver counts its turns.
trait SimTick {
    fn sim_tick(self, turn: u8) -> Tick;
}

impl SimTick for Tick {
    fn sim_tick(self, _: u8) -> Tick {
        self
    }
}

impl<F: FnOnce(u8) -> Tick> SimTick for F {
    fn sim_tick(self, turn: u8) -> Tick {
        self(turn)
    }
}

impl Handle {
    pub(crate) fn sim_tell(&self, event: crate::__sim::Event) {
        use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

        static TURNS: AtomicU8 = AtomicU8::new(0);
        let turn = TURNS.load(Relaxed);
        TURNS.store(turn.wrapping_add(1), Relaxed);
        let mut ready = Ready::EMPTY;
        for (is, what) in [
            (event.readable, Ready::READABLE),
            (event.writable, Ready::WRITABLE),
            (event.read_closed, Ready::READ_CLOSED),
            (event.write_closed, Ready::WRITE_CLOSED),
            (event.priority, Ready::PRIORITY),
            (event.error, Ready::ERROR),
        ] {
            if is {
                ready = ready | what;
            }
        }
        // Safety: as in `turn`: what a token points to is freed by `turn` alone, after it was deregistered.
        let io: &ScheduledIo = unsafe { &*(event.token as *const ScheduledIo) };
        io.set_readiness(Tick::Set.sim_tick(turn), |curr| curr | ready);
        io.wake(ready);
        self.metrics.incr_ready_count_by(1);
    }

    /// Forces a reactor blocked",
    },
    // tokio knows that a source is drained by reading less than there was room for; of a machine's it is known at once.
    Hunk {
        name: "what is drained",
        file: "runtime/io/registration.rs",
        anchor: "    fn handle(&self) -> &Handle {",
        replace: "\
    pub(crate) fn sim_drained(&self) {
        if crate::__sim::is_drained(Arc::as_ptr(&self.shared) as usize) {
            self.clear_readiness(self.shared.ready_event(Interest::READABLE));
        }
    }

    fn handle(&self) -> &Handle {",
    },
    Hunk {
        name: "an operation that may drain its source",
        file: "runtime/io/registration.rs",
        anchor: "\
        mut f: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {",
        replace: "\
        mut f: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let mut f = || {
            crate::__sim::nothing_is_drained();
            let done = f();
            if done.is_ok() {
                self.sim_drained();
            }
            done
        };
        loop {",
    },
    Hunk {
        name: "a read that may drain its source",
        file: "io/poll_evented.rs",
        anchor: "                        // Safety: We trust `TcpStream::read` to have filled up",
        replace: "\
                        self.registration.sim_drained();
                        // Safety: We trust `TcpStream::read` to have filled up",
    },
    Hunk {
        name: "the state of the timers",
        file: "runtime/time/source.rs",
        anchor: "    start_time: Instant,\n",
        replace: "    start_time: Instant,\n    pub(crate) sim: crate::__sim::Timers,\n",
    },
    Hunk {
        name: "the first state of the timers",
        file: "runtime/time/source.rs",
        anchor: "            start_time: clock.now(),\n",
        replace: "            start_time: clock.now(),\n            sim: crate::__sim::Timers::default(),\n",
    },
    Hunk {
        name: "where the state of the timers is",
        file: "runtime/driver.rs",
        anchor: "impl Handle {\n    pub(crate) fn unpark(&self) {",
        replace: "\
impl Handle {
    pub(crate) fn sim_timers(&self) -> Option<&crate::__sim::Timers> {
        #[cfg(feature = \"time\")]
        let timers = self.time.as_ref().map(|time| &time.time_source().sim);
        #[cfg(not(feature = \"time\"))]
        let timers = None;
        timers
    }

    pub(crate) fn sim_rest(&self, moment: crate::__sim::Moment) -> crate::__sim::Rest {
        #[cfg(feature = \"time\")]
        if let Some(time) = &self.time {
            let time = time.time_source();
            return time.sim.rest(moment, || time.now(self.clock()));
        }
        crate::__sim::Rest::Unknown
    }

    pub(crate) fn sim_tell(&self) {
        #[cfg(any(feature = \"net\", feature = \"process\", feature = \"signal\"))]
        crate::__sim::events(|event| self.io().sim_tell(event));
    }

    pub(crate) fn sim_fire(&self) {
        #[cfg(feature = \"time\")]
        self.time().process(self.clock());
    }

    pub(crate) fn unpark(&self) {",
    },
    Hunk {
        name: "a timer that goes",
        file: "runtime/time/mod.rs",
        anchor: "            if entry.as_ref().might_be_registered() {\n",
        replace: "            if entry.as_ref().might_be_registered() {\n                self.time_source.sim.take();\n",
    },
    Hunk {
        name: "a timer that comes",
        file: "runtime/time/mod.rs",
        anchor: "            // We may have raced with a firing/deregistration, so check before",
        replace: "\
            self.time_source.sim.add(new_tick);
            // We may have raced with a firing/deregistration, so check before",
    },
    // A machine that is being turned looks at its timers before it rests.
    Hunk {
        name: "an unpark for a timer",
        file: "runtime/time/mod.rs",
        anchor: "                            unpark.unpark();",
        replace: "\
                            if !self.time_source.sim.is_turned() {
                                unpark.unpark();
                            }",
    },
    Hunk {
        name: "a pause of the clock",
        file: "time/clock.rs",
        anchor: "        pub(crate) fn pause(&self) -> Result<(), &'static str> {\n",
        replace: "\
        pub(crate) fn pause(&self) -> Result<(), &'static str> {
            crate::__sim::Timers::clock_pauses();
",
    },
    // One thread of a run runs at a time: nothing has to be exchanged in one step. On the way into a turn and out of it that
    // is much of the time.
    Hunk {
        name: "a wake of the root",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "        self.shared.woken.swap(false, AcqRel)",
        replace: "\
        if crate::__sim::is_stepped() {
            let woken = self.shared.woken.load(std::sync::atomic::Ordering::Relaxed);
            self.shared.woken.store(false, std::sync::atomic::Ordering::Relaxed);
            return woken;
        }
        self.shared.woken.swap(false, AcqRel)",
    },
    Hunk {
        name: "a second wake of the root",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "    fn wake_by_ref(arc_self: &Arc<Self>) {\n",
        replace: "\
    fn wake_by_ref(arc_self: &Arc<Self>) {
        if crate::__sim::is_stepped() && arc_self.shared.woken.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
",
    },
    Hunk {
        name: "a core that changes hands",
        file: "util/atomic_cell.rs",
        anchor: "        let old = self.data.swap(to_raw(val), AcqRel);",
        replace: "\
        if crate::__sim::is_stepped() {
            let old = self.data.load(std::sync::atomic::Ordering::Relaxed);
            self.data.store(to_raw(val), std::sync::atomic::Ordering::Relaxed);
            return from_raw(old);
        }
        let old = self.data.swap(to_raw(val), AcqRel);",
    },
    // Nobody else waits for a machine's core.
    Hunk {
        name: "a core that is free",
        file: "runtime/scheduler/current_thread/mod.rs",
        anchor: "            // Wake up other possible threads that could steal the driver.",
        replace: "\
            if crate::__sim::is_stepped() {
                return;
            }
            // Wake up other possible threads that could steal the driver.",
    },
    // Of the levels of a wheel most are empty, and each lies elsewhere: only those are looked at that an entry was added to.
    Hunk {
        name: "which levels are in use",
        file: "runtime/time/wheel/mod.rs",
        anchor: "    elapsed: u64,\n",
        replace: "    elapsed: u64,\n    sim_levels: std::cell::Cell<u8>,\n",
    },
    Hunk {
        name: "no level is in use",
        file: "runtime/time/wheel/mod.rs",
        anchor: "            elapsed: 0,\n",
        replace: "            elapsed: 0,\n            sim_levels: std::cell::Cell::new(0),\n",
    },
    Hunk {
        name: "a level is in use",
        file: "runtime/time/wheel/mod.rs",
        anchor: "        // Get the level at which the entry should be stored\n",
        replace: "\
        self.sim_levels.set(self.sim_levels.get() | 1 << self.level_for(when));
        // Get the level at which the entry should be stored
",
    },
    Hunk {
        name: "an entry of another level",
        file: "runtime/time/wheel/mod.rs",
        anchor: "                Err(expiration_tick) => {\n",
        replace: "\
                Err(expiration_tick) => {
                    self.sim_levels.set((1 << NUM_LEVELS) - 1);
",
    },
    Hunk {
        name: "the first level in use",
        file: "runtime/time/wheel/mod.rs",
        anchor: "        // Check all levels\n",
        replace: "\
        if crate::__sim::on() {
            let mut used = self.sim_levels.get();
            let mut found = None;
            while found.is_none() && used != 0 {
                found = self.levels[used.trailing_zeros() as usize].next_expiration(self.elapsed);
                if found.is_none() {
                    used &= used - 1;
                }
            }
            self.sim_levels.set(used);
            return found;
        }
        // Check all levels
",
    },
    // A machine has no processes.
    Hunk {
        name: "orphans",
        file: "process/unix/orphan.rs",
        anchor: "        if let Some(mut sigchild_guard) = self.sigchild.try_lock() {",
        replace: "\
        if crate::__sim::is_stepped() {
            return;
        }
        if let Some(mut sigchild_guard) = self.sigchild.try_lock() {",
    },
    // What is due is known to `sim`, which is asked in place of the driver.
    Hunk {
        name: "timers that fire",
        file: "runtime/time/mod.rs",
        anchor: "    pub(self) fn process(&self, clock: &Clock) {\n",
        replace: "\
    pub(crate) fn process(&self, clock: &Clock) {
        self.time_source.sim.fire();
",
    },
    Hunk {
        name: "timers that are not due",
        file: "runtime/time/mod.rs",
        anchor: ".poll_at()",
        replace: ".poll_at().inspect(|tick| self.time_source.sim.add(*tick))",
    },
    // On a machine names are known at once: asking for one is a task's work and not a thread's.
    Hunk {
        name: "a name to look up",
        file: "net/addr.rs",
        anchor: "            let s = self.to_owned();\n",
        replace: "\
            let s = self.to_owned();
            #[cfg(feature = \"rt\")]
            if crate::__sim::is_stepped() {
                return MaybeReady(sealed::State::Blocking(crate::task::spawn(async move {
                    std::net::ToSocketAddrs::to_socket_addrs(&s)
                })));
            }
",
    },
    Hunk {
        name: "a host to look up",
        file: "net/addr.rs",
        anchor: "            let host = host.to_owned();\n",
        replace: "\
            let host = host.to_owned();
            #[cfg(feature = \"rt\")]
            if crate::__sim::is_stepped() {
                return MaybeReady(sealed::State::Blocking(crate::task::spawn(async move {
                    std::net::ToSocketAddrs::to_socket_addrs(&(&host[..], port))
                })));
            }
",
    },
    // How long a machine's runtime works is read from the simulator, not twice from the clock.
    Hunk {
        name: "work begins",
        file: "runtime/metrics/batch.rs",
        anchor: "    pub(crate) fn start_processing_scheduled_tasks(&mut self) {",
        replace: "\
    pub(crate) fn start_processing_scheduled_tasks(&mut self) {
        if crate::__sim::work_begins() {
            return;
        }",
    },
    Hunk {
        name: "work ends",
        file: "runtime/metrics/batch.rs",
        anchor: "    pub(crate) fn end_processing_scheduled_tasks(&mut self) {",
        replace: "\
    pub(crate) fn end_processing_scheduled_tasks(&mut self) {
        if let Some(worked_ns) = crate::__sim::work_ends() {
            self.busy_duration_total += worked_ns;
            return;
        }",
    },
    // A worker that is never idle looks at the driver now and then, if no other does: there it lets other threads run.
    Hunk {
        name: "a busy worker",
        file: "runtime/scheduler/multi_thread/park.rs",
        anchor: "        if let Some(mut driver) = self.inner.shared.driver.try_lock() {",
        replace: "\
        crate::__sim::breathe();
        if let Some(mut driver) = self.inner.shared.driver.try_lock() {",
    },
    // A future that wakes itself at each poll keeps the thread of a `block_on` busy without a call that waits.
    Hunk {
        name: "a busy block_on",
        file: "runtime/park.rs",
        anchor: "\
    fn park(&self) {
        // If we were previously notified then we consume this notification and
        // return quickly.
        if self
            .state
            .compare_exchange(NOTIFIED, EMPTY, SeqCst, SeqCst)
            .is_ok()
        {",
        replace: "\
    fn park(&self) {
        // If we were previously notified then we consume this notification and
        // return quickly.
        if self
            .state
            .compare_exchange(NOTIFIED, EMPTY, SeqCst, SeqCst)
            .is_ok()
        {
            crate::__sim::breathe();",
    },
    // A runtime without an I/O driver waits here: a machine's says so, and its turn ends.
    Hunk {
        name: "a park",
        file: "runtime/park.rs",
        anchor: "        // Otherwise we need to coordinate going to sleep",
        replace: "\
        if crate::__sim::parks(self as *const Inner as usize, None) {
            return;
        }
        // Otherwise we need to coordinate going to sleep",
    },
    Hunk {
        name: "a park with a time limit",
        file: "runtime/park.rs",
        anchor: "        if dur == Duration::from_millis(0) {",
        replace: "\
        if crate::__sim::parks(self as *const Inner as usize, Some(dur)) {
            return;
        }
        if dur == Duration::from_millis(0) {",
    },
    Hunk {
        name: "an unpark",
        file: "runtime/park.rs",
        anchor: "        match self.state.swap(NOTIFIED, SeqCst) {",
        replace: "\
        crate::__sim::unparks(self as *const Inner as usize);
        match self.state.swap(NOTIFIED, SeqCst) {",
    },
    Hunk {
        name: "the seeds of its generators",
        file: "loom/std/mod.rs",
        anchor: "    pub(crate) fn seed() -> u64 {",
        replace: "\
    pub(crate) fn seed() -> u64 {
        if let Some(seed) = crate::__sim::generator_seed() {
            return seed;
        }",
    },
    Hunk {
        name: "the draws of select! and watch",
        file: "runtime/context.rs",
        anchor: "pub(crate) fn thread_rng_n(n: u32) -> u32 {",
        replace: "\
pub(crate) fn thread_rng_n(n: u32) -> u32 {
    if let Some(drawn) = crate::__sim::draw(n) {
        return drawn;
    }",
    },
    // Each machine hears of its own signals.
    Hunk {
        name: "who is told of signals",
        file: "signal/registry.rs",
        anchor: "pub(crate) fn globals() -> &'static Globals",
        replace: "\
pub(crate) fn globals() -> &'static Globals {
    crate::__sim::of_incarnation(globals_init).unwrap_or_else(sim_globals_of_the_process)
}

fn sim_globals_of_the_process() -> &'static Globals",
    },
    // Of its sixty-odd signals a machine mostly waits for none: a channel is made for those that it does wait for.
    Hunk {
        name: "who listens to a signal",
        file: "signal/registry.rs",
        anchor: "    tx: watch::Sender<()>,",
        replace: "    tx: std::sync::OnceLock<watch::Sender<()>>,",
    },
    Hunk {
        name: "nobody listens to a signal",
        file: "signal/registry.rs",
        anchor: "        let (tx, _rx) = watch::channel(());\n",
        replace: "        let tx = std::sync::OnceLock::new();\n",
    },
    Hunk {
        name: "the first who listens to a signal",
        file: "signal/registry.rs",
        anchor: "            .tx\n            .subscribe()",
        replace: "            .tx\n            .get_or_init(|| watch::channel(()).0)\n            .subscribe()",
    },
    Hunk {
        name: "a signal to those who listen",
        file: "signal/registry.rs",
        anchor: "event_info.tx.send(()).is_ok()",
        replace: "event_info.tx.get().is_some_and(|tx| tx.send(()).is_ok())",
    },
    Hunk {
        name: "a handler of a signal",
        file: "signal/unix.rs",
        anchor: "signal_hook_registry::register(signal, move || action(globals, signal))",
        replace: "crate::__sim::handle_signal(signal, move || action(globals, signal))",
    },
];

/// Where versions before a file moved have it: its path in `src` as the hunks call it, its former one.
pub const MOVED: &[(&str, &str)] = &[("task/coop/mod.rs", "runtime/coop.rs")];

/// Files that are added: path in `src`, text.
pub const ADDED: &[(&str, &str)] = &[("__sim.rs", include_str!("glue/__sim.rs"))];

/// The versions of tokio whose own tests were run with these changes. Another one whose anchors all fit gets a warning.
pub const TESTED: &[&str] = &["1.32.0", "1.44.2", "1.47.5", "1.53.3", "1.54.1"];
