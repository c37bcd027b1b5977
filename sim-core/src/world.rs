//! The World and its loop: poll what is ready; else take the next event; else the run is over.
//!
//! One World belongs to each thread that ever ran one. It is made once and used again for the next run, so starting a run
//! costs no large allocation, and a `&'static World` can be handed around without counting. Its parts are borrowed one
//! at a time and never across a call into the program: whoever polls, wakes or drops a future holds no borrow.

use crate::choices::{Choices, Entropy, Law, Ratio, Stream};
use crate::device::{Device, DeviceCx, DeviceId};
use crate::events::{Due, EventQueue};
use crate::guests::Guests;
use crate::metrics::{Metrics, Summary};
use crate::node::{GroupId, Node, NodeId};
use crate::schedule::Scheduler;
use crate::task::Spawn;
use crate::thread::Threads;
use crate::trace::Trace;
use crate::verdict::Verdict;
use crate::waker;
use crate::{Instant, choices, join};
use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

thread_local! {
    /// The World that this thread is running. The only thread-local of the crates above libc: what a run knows hangs on it.
    static HERE: Here = const { Here { running: Cell::new(None), made: Cell::new(None) } };
}

struct Here {
    running: Cell<Option<&'static World>>,
    made: Cell<Option<&'static World>>,
}

/// Limits and options of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The run ends with [`Verdict::Limit`] when the clock would pass this. One hour unless given.
    pub time_limit: Duration,
    /// The run ends with [`Verdict::Limit`] after so many polls and events. A thousand million unless given.
    pub step_limit: u64,
    /// The run ends with [`Verdict::Livelock`] after so many polls without time passing. A million unless given.
    pub livelock_polls: u64,
    /// Whether timers fire at whole milliseconds as tokio's do. True unless given.
    pub round_timers: bool,
    /// Whether the seed perturbs the order of ready tasks. True unless given.
    pub perturb_order: bool,
    /// The run ends with [`Verdict::Limit`] when it has used more memory; looked at every 1,024 polls and events. None unless
    /// given.
    pub memory: Option<MemoryLimit>,
}

/// How much memory a run may use.
#[derive(Clone, Copy, Debug)]
pub struct MemoryLimit {
    /// Bytes.
    pub most: u64,
    /// Says the most that it has used so far, bytes: of the same run always the same, but for what is small beside the limit.
    pub peak: fn() -> u64,
}

impl MemoryLimit {
    fn verdict(&self) -> Option<Verdict> {
        ((self.peak)() > self.most).then(|| MemoryLimit::passed(self.most))
    }

    /// The verdict on a run that used more than `most` bytes.
    pub fn passed(most: u64) -> Verdict {
        let limit = if most < 1 << 20 { format!("{most} bytes") } else { format!("{} MiB", most >> 20) };
        Verdict::Limit { what: "memory", limit }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            time_limit: Duration::from_secs(3600),
            step_limit: 1_000_000_000,
            livelock_polls: 1_000_000,
            round_timers: true,
            perturb_order: true,
            memory: None,
        }
    }
}

/// Clock, choices and record: what a device may touch.
pub(crate) struct Core {
    pub events: EventQueue,
    pub choices: Choices,
    pub trace: Trace,
    pub metrics: Metrics,
}

/// Who is acting: the task being polled, if any.
#[derive(Clone, Copy)]
pub(crate) struct Actor {
    pub task: u64,
    pub key: u64,
    pub node: NodeId,
    pub group: GroupId,
    pub spawn: Option<Spawn>,
}

impl Actor {
    pub const NOBODY: Actor = Actor { task: u64::MAX, key: 0, node: NodeId::OUTSIDE, group: GroupId(0), spawn: None };
}

struct Plugged {
    kind: TypeId,
    device: RefCell<Box<dyn Device>>,
}

/// One simulated run.
pub struct World {
    number: Cell<u16>,
    pub(crate) settings: RefCell<Settings>,
    pub(crate) now: Cell<u64>,
    pub(crate) clock: crate::clock::Clock,
    pub(crate) actor: Cell<Actor>,
    pub(crate) waits_for: Cell<&'static str>,
    pub(crate) core: RefCell<Core>,
    pub(crate) entropy: Cell<Entropy>,
    /// Counts of keys without a parent: roots, and what nobody in particular asks for.
    pub(crate) orphans: RefCell<crate::hash::Map<u64, u32>>,
    pub(crate) scheduler: RefCell<Scheduler>,
    pub(crate) guests: RefCell<Guests>,
    pub(crate) threads: Threads,
    pub(crate) nodes: RefCell<Vec<Node>>,
    /// For each group: its node, and whether it lives.
    pub(crate) groups: RefCell<Vec<(NodeId, bool)>>,
    devices: RefCell<Vec<Plugged>>,
    extensions: RefCell<Vec<(TypeId, Rc<dyn Any>)>>,
    wakes: RefCell<Vec<Waker>>,
    pub(crate) stop: RefCell<Option<Verdict>>,
    pub(crate) stopped: Cell<bool>,
    pub(crate) polls_at_instant: Cell<u64>,
    polls: Cell<u64>,
    panic_place: RefCell<String>,
}

/// A World is running on this thread already.
#[derive(Debug, PartialEq, Eq)]
pub struct Nested;

impl std::fmt::Display for Nested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a simulated run cannot start inside another: a thread runs one World at a time")
    }
}

impl std::error::Error for Nested {}

/// What a run leaves behind, whatever its verdict.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Over choices and events.
    pub digest: u64,
    /// Virtual time at the end.
    pub now: Instant,
    /// Polls and events.
    pub steps: u64,
    /// Choices that were not answered with 0.
    pub deviated: u64,
    /// How often each kind of fault struck.
    pub fired: BTreeMap<&'static str, u64>,
    /// The deviations, if they were recorded.
    pub deviations: Vec<choices::Deviation>,
    /// The latencies, if they were kept.
    pub latencies: Vec<Summary>,
}

/// This thread runs a World while this lives. Dropping it drops every task and device.
pub struct Entered {
    world: &'static World,
}

impl World {
    fn new() -> World {
        World {
            number: Cell::new(0),
            settings: RefCell::default(),
            now: Cell::new(0),
            clock: crate::clock::Clock::default(),
            actor: Cell::new(Actor::NOBODY),
            waits_for: Cell::new(""),
            core: RefCell::new(Core {
                events: EventQueue::default(),
                choices: Choices::seeded(0),
                trace: Trace::default(),
                metrics: Metrics::default(),
            }),
            entropy: Cell::new(Entropy::new(0)),
            orphans: RefCell::default(),
            scheduler: RefCell::default(),
            guests: RefCell::default(),
            threads: Threads::default(),
            nodes: RefCell::default(),
            groups: RefCell::default(),
            devices: RefCell::default(),
            extensions: RefCell::default(),
            wakes: RefCell::default(),
            stop: RefCell::default(),
            stopped: Cell::new(false),
            polls_at_instant: Cell::new(0),
            polls: Cell::new(0),
            panic_place: RefCell::default(),
        }
    }

    /// Makes this thread run a World until the guard is dropped.
    pub fn enter(settings: Settings, choices: Choices) -> Result<Entered, Nested> {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let world = HERE.with(|here| {
            if here.running.get().is_some() {
                return Err(Nested);
            }
            let world = here.made.get().unwrap_or_else(|| Box::leak(Box::new(World::new())));
            here.made.set(Some(world));
            here.running.set(Some(world));
            Ok(world)
        })?;
        // 0xffff is left out: it is the World of no task.
        world.number.set((NUMBERS.fetch_add(1, Ordering::Relaxed) % 0xfffe + 1) as u16);
        world.entropy.set(Entropy::new(choices.seed()));
        {
            let mut core = world.core.borrow_mut();
            core.choices = choices;
            core.trace = Trace::default();
            core.metrics = Metrics::default();
        }
        let perturb = settings.perturb_order;
        *world.settings.borrow_mut() = settings;
        world.begin_clock();
        world.begin_life();
        *world.guests.borrow_mut() = Guests::default();
        world.threads.begin();
        world.scheduler.borrow_mut().begin(world.number(), perturb, &mut world.core.borrow_mut().choices);
        Ok(Entered { world })
    }

    /// The World that this thread is running.
    #[inline]
    pub fn current() -> Option<&'static World> {
        HERE.try_with(|here| here.running.get()).ok().flatten()
    }

    /// Calls `f` with the running World; does nothing without one.
    pub fn with_current(f: impl FnOnce(&'static World)) {
        if let Some(world) = World::current() {
            f(world)
        }
    }

    /// Tells runs of this process apart.
    pub(crate) fn number(&self) -> u16 {
        self.number.get()
    }

    /// Makes `world` this thread's, too. It runs only while it has the baton.
    pub(crate) fn adopt(world: &'static World) {
        HERE.with(|here| here.running.set(Some(world)));
    }

    /// This thread has no World any more.
    pub(crate) fn disown() {
        // The thread is ending: its thread-locals may be gone.
        let _gone = HERE.try_with(|here| here.running.set(None));
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.core.borrow().choices.seed()
    }

    /// The virtual time. Reading it here does not move it.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant(self.now.get())
    }

    /// The node whose program is running, [`NodeId::OUTSIDE`] for the test itself.
    #[inline]
    pub fn acting_node(&self) -> NodeId {
        self.actor.get().node
    }

    /// Name and spawn place of the task being polled. Reads cells only: safe to ask from a signal handler.
    pub fn acting_task(&self) -> Option<Spawn> {
        self.actor.get().spawn
    }

    /// How many polls this thread's Worlds have begun. Reads a cell only: a watchdog sees by it whether one poll goes on.
    pub fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Asks a question on behalf of the running task; see [`Choices`].
    pub fn ask(&self, stream: Stream, key: u64, n: u32, law: Law, what: &'static str) -> u64 {
        let at = choices::Address { stream, key, n };
        self.core.borrow_mut().choices.ask(at, law, what, self.now(), self.actor.get().node)
    }

    /// Gives the choices of the run to `f`.
    pub fn with_choices<R>(&self, f: impl FnOnce(&mut Choices) -> R) -> R {
        f(&mut self.core.borrow_mut().choices)
    }

    /// Gives the record of the run to `f`.
    pub fn with_trace<R>(&self, f: impl FnOnce(&mut Trace) -> R) -> R {
        f(&mut self.core.borrow_mut().trace)
    }

    /// Gives the metrics of the run to `f`.
    pub fn with_metrics<R>(&self, f: impl FnOnce(&mut Metrics) -> R) -> R {
        f(&mut self.core.borrow_mut().metrics)
    }

    /// Adds a record about `node`. The text is only made when somebody reads it.
    pub fn event(&self, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        let mut core = self.core.borrow_mut();
        if core.trace.is_read() {
            core.trace.event(self.now(), node, kind, text);
        }
    }

    /// Counts a fault that struck `node`, and adds a record of it.
    pub fn fired(&self, node: NodeId, kind: &'static str, text: impl FnOnce() -> String) {
        self.core.borrow_mut().trace.fired(self.now(), node, kind, text);
    }

    // ---- devices ------------------------------------------------------------------------------------------------

    /// Plugs a device in. Nodes that exist already are announced to it.
    ///
    /// # Panics
    /// If a device of this type is plugged in already.
    pub fn plug<D: Device>(&'static self, device: D) {
        assert!(!self.has_device::<D>(), "a World holds one device of a kind");
        self.devices.borrow_mut().push(Plugged { kind: TypeId::of::<D>(), device: RefCell::new(Box::new(device)) });
        let names: Vec<String> = self.nodes.borrow().iter().map(|n| n.name.clone()).collect();
        for (i, name) in names.iter().enumerate().skip(1) {
            self.with_device(|d: &mut D, cx| d.node_added(NodeId(i as u16), name, cx));
        }
    }

    /// Whether a device of this type is plugged in.
    pub fn has_device<D: Device>(&self) -> bool {
        self.devices.borrow().iter().any(|p| p.kind == TypeId::of::<D>())
    }

    /// Whether [`with_device`](Self::with_device) would give it now: for callers that may not panic, and may be called
    /// while somebody else has it.
    pub fn lends<D: Device>(&self) -> bool {
        let Ok(devices) = self.devices.try_borrow() else { return false };
        let found = devices.iter().find(|p| p.kind == TypeId::of::<D>());
        let free = found.is_some_and(|p| p.device.try_borrow_mut().is_ok());
        free && self.core.try_borrow_mut().is_ok() && self.wakes.try_borrow_mut().is_ok()
    }

    /// Gives the device of this type to `f`, acting for the running task. What `f` hands to [`DeviceCx::wake`] is woken
    /// afterwards.
    ///
    /// # Panics
    /// If no such device is plugged in.
    #[inline]
    pub fn with_device<D: Device, R>(&self, f: impl FnOnce(&mut D, &mut DeviceCx<'_>) -> R) -> R {
        let devices = self.devices.borrow();
        let Some(index) = devices.iter().position(|p| p.kind == TypeId::of::<D>()) else {
            panic!("this World has no {}: plug the device in before it is used", std::any::type_name::<D>())
        };
        let mut device_ref = devices[index].device.borrow_mut();
        let device = (&mut **device_ref as &mut dyn Any).downcast_mut::<D>().expect("found by its type");
        let actor = self.actor.get();
        let result = self.lend(DeviceId(index as u8), actor.node, actor.key, |cx| f(device, cx));
        drop(device_ref);
        drop(devices);
        self.wake_all();
        result
    }

    /// Calls `f` for each device in the order they were plugged in.
    pub(crate) fn each_device(&self, mut f: impl FnMut(&mut dyn Device, &mut DeviceCx<'_>)) {
        let devices = self.devices.borrow();
        for (index, plugged) in devices.iter().enumerate() {
            let mut device = plugged.device.borrow_mut();
            self.lend(DeviceId(index as u8), NodeId::OUTSIDE, 0, |cx| f(&mut **device, cx));
        }
        drop(devices);
        self.wake_all();
    }

    #[inline]
    fn lend<R>(&self, device: DeviceId, node: NodeId, task_key: u64, f: impl FnOnce(&mut DeviceCx<'_>) -> R) -> R {
        let mut core = self.core.borrow_mut();
        let Core { events, choices, trace, metrics } = &mut *core;
        let wakes = &mut *self.wakes.borrow_mut();
        f(&mut DeviceCx { now: self.now(), node, task_key, device, events, choices, trace, metrics, wakes })
    }

    #[inline]
    fn wake_all(&self) {
        if self.wakes.borrow().is_empty() {
            return;
        }
        // Taken out while they are woken: a foreign waker may do anything, even call a device.
        let mut wakes = std::mem::take(&mut *self.wakes.borrow_mut());
        for waker in wakes.drain(..) {
            waker.wake();
        }
        let mut kept = self.wakes.borrow_mut();
        if kept.is_empty() {
            *kept = wakes;
        }
    }

    /// State of another layer that lives as long as the run: made on first use.
    #[inline]
    pub fn extension<T: Default + 'static>(&self) -> Rc<T> {
        let kind = TypeId::of::<T>();
        let extensions = self.extensions.borrow();
        if let Some((of, found)) = extensions.first()
            && *of == kind
            && let Ok(found) = found.clone().downcast()
        {
            return found;
        }
        drop(extensions);
        self.extension_further_on()
    }

    /// Found or made, and put first: mostly the same is asked for again.
    #[cold]
    fn extension_further_on<T: Default + 'static>(&self) -> Rc<T> {
        let kind = TypeId::of::<T>();
        let place = self.extensions.borrow().iter().position(|(of, _)| *of == kind);
        let place = place.unwrap_or_else(|| {
            let made: Rc<dyn Any> = Rc::new(T::default());
            let mut extensions = self.extensions.borrow_mut();
            extensions.push((kind, made));
            extensions.len() - 1
        });
        let mut extensions = self.extensions.borrow_mut();
        extensions.swap(0, place);
        extensions[0].1.clone().downcast().unwrap_or_else(|_| unreachable!("found by its type"))
    }

    // ---- the loop -----------------------------------------------------------------------------------------------

    /// Polls `future` as a task of `node`, and everything else, until it is done or the run ends otherwise.
    ///
    /// # Panics
    /// If called from inside the run: a task cannot block on another.
    pub fn block_on<F: Future>(&'static self, node: NodeId, future: F, spawn: Spawn) -> Result<F::Output, Verdict> {
        self.block_on_in(self.node_group(node), future, spawn)
    }

    /// The same as a task of `group`, which what it spawns belongs to as well.
    ///
    /// # Panics
    /// If called from inside the run: a task cannot block on another.
    pub fn block_on_in<F: Future>(
        &'static self,
        group: GroupId,
        future: F,
        spawn: Spawn,
    ) -> Result<F::Output, Verdict> {
        assert!(
            self.actor.get().task == Actor::NOBODY.task,
            "Cannot start a runtime from within a runtime. This happens because a function (like `block_on`) attempted \
             to block the current thread while the thread is being used to drive asynchronous tasks."
        );
        let mut future = pin!(future);
        let _driving = self.drive();
        let root = self.add_root(group, spawn);
        let waker = waker::waker(root);
        loop {
            if let Some(verdict) = self.stopped.get().then(|| self.stop.borrow().clone()).flatten() {
                // The future is dropped on the way out, as one of the dead: the run is over, and nobody acts any more.
                self.remove_root(root);
                self.end_groups();
                return Err(verdict);
            }
            let Some(next) = self.next_task() else {
                if !self.stopped.get() {
                    self.turn();
                }
                continue;
            };
            if next != root {
                self.run_task(next);
                continue;
            }
            if self.begin_poll(root).is_none() {
                continue;
            }
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
            self.put_back(root, None);
            self.actor.set(Actor::NOBODY);
            match polled {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(output)) if !self.stopped.get() => {
                    self.remove_root(root);
                    return Ok(output);
                }
                Ok(Poll::Ready(_)) => {}
                Err(payload) => {
                    self.stop_with(self.panic_verdict(&*payload));
                }
            }
        }
    }

    /// Lets happen what is due at the present time; says whether that was anything. For a caller that is about to say that
    /// nothing has come: what a kernel hands over at once, such as a packet of a machine to itself, has.
    ///
    /// Nothing of the World may be borrowed by the caller.
    #[inline]
    pub fn let_due_happen(&self) -> bool {
        let mut any = false;
        while !self.stopped.get() && self.core.borrow_mut().events.is_due(self.now()) {
            any = true;
            self.turn();
        }
        any
    }

    /// Nothing is ready: takes the next event, or ends the run.
    pub(crate) fn turn(&self) {
        if waker::woken_from_elsewhere(self.number()) {
            return self.stop_with(Verdict::Escaped {
                call: "a task was woken by a thread that is not simulated".into(),
                place: String::new(),
            });
        }
        let limit = self.settings.borrow().time_limit;
        let due = {
            let mut core = self.core.borrow_mut();
            let (at, due) = match core.events.pop_until(Instant::ZERO + limit) {
                Some(Ok(next)) => next,
                Some(Err(_)) => {
                    let limit = format!("{limit:?} of virtual time");
                    return self.stop_with(Verdict::Limit { what: "time", limit });
                }
                None => {
                    drop(core);
                    return self.stop_with(Verdict::Deadlock { blocked: self.blocked() });
                }
            };
            if at.0 > self.now.get() {
                self.now.set(at.0);
                self.polls_at_instant.set(0);
            }
            let word = match &due {
                Due::Wake(_) => at.0,
                Due::Device(device, token) => at.0 ^ token.rotate_left(24) ^ ((device.0 as u64 + 1) << 56),
            };
            core.trace.step(word);
            let steps = core.trace.steps();
            drop(core);
            // Polls look too; a run whose polls and events alternate would meet every 1,024th step only here.
            if steps & 1023 == 0 {
                self.check_limits(self.polls_at_instant.get(), steps);
            }
            due
        };
        match due {
            Due::Wake(waker) => waker.wake(),
            Due::Device(device, token) => {
                let devices = self.devices.borrow();
                let mut plugged = devices[device.0 as usize].device.borrow_mut();
                self.lend(device, NodeId::OUTSIDE, 0, |cx| plugged.on_event(token, cx));
                drop(plugged);
                drop(devices);
                self.wake_all();
            }
        }
    }

    /// Counts a poll and folds it into the digest; ends the run where a limit is reached.
    #[inline]
    pub(crate) fn count_poll(&self, key: u64) {
        let polls = self.polls_at_instant.get() + 1;
        self.polls_at_instant.set(polls);
        self.polls.set(self.polls.get() + 1);
        let steps = {
            let trace = &mut self.core.borrow_mut().trace;
            trace.step(key);
            if trace.reads_polls() {
                self.record_poll(trace);
            }
            trace.steps()
        };
        // One look at the settings every 1,024 polls: limits are round figures.
        if polls & 1023 == 0 || steps & 1023 == 0 {
            self.check_limits(polls, steps);
        }
    }

    #[cold]
    fn record_poll(&self, trace: &mut Trace) {
        let actor = self.actor.get();
        let text = || actor.spawn.map(|s| s.to_string()).unwrap_or_default();
        trace.event(self.now(), actor.node, "poll", text);
    }

    #[cold]
    pub(crate) fn check_limits(&self, polls: u64, steps: u64) {
        let settings = self.settings.borrow();
        if polls >= settings.livelock_polls {
            let spawn = self.actor.get().spawn;
            let task = spawn.map_or_else(|| self.describe_thread(self.running_thread()), |s| s.to_string());
            self.stop_with(Verdict::Livelock { task, polls });
        } else if steps >= settings.step_limit {
            self.stop_with(Verdict::Limit {
                what: "events",
                limit: format!("{} polls and events", settings.step_limit),
            });
        } else if let Some(verdict) = settings.memory.as_ref().and_then(MemoryLimit::verdict) {
            self.stop_with(verdict);
        }
    }

    /// The verdict on a run that would pass, once its memory was looked at a last time.
    pub fn passes(&self) -> Verdict {
        let memory = self.settings.borrow().memory;
        memory.and_then(|memory| memory.verdict()).unwrap_or(Verdict::Passed)
    }

    /// Ends the run with `verdict` as soon as the running poll returns. The first verdict counts.
    pub fn stop_with(&self, verdict: Verdict) {
        // Also called by interposed functions, which may not panic: whoever borrows it just now is giving a verdict.
        let Ok(mut stop) = self.stop.try_borrow_mut() else { return };
        if !self.stopped.get() {
            self.stopped.set(true);
            *stop = Some(verdict);
        }
    }

    /// Whether the run is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopped.get()
    }

    /// Keeps the place of a panic for the verdict. Called from a panic hook.
    pub fn note_panic(&self, location: &std::panic::Location<'_>) {
        if let Ok(mut place) = self.panic_place.try_borrow_mut() {
            *place = format!("{}:{}:{}", location.file(), location.line(), location.column());
        }
    }

    /// The verdict that a caught panic means.
    pub(crate) fn panic_verdict(&self, payload: &(dyn Any + Send)) -> Verdict {
        let location = std::mem::take(&mut *self.panic_place.borrow_mut());
        let message = join::panic_message(payload).unwrap_or("a panic without a text").to_owned();
        match payload.downcast_ref::<CheckFailure>() {
            Some(check) => Verdict::CheckFailed { check: check.check.clone(), message: check.message.clone() },
            None => Verdict::Panicked { message, location },
        }
    }

    /// What the run leaves behind so far.
    pub fn outcome(&self) -> Outcome {
        let mut core = self.core.borrow_mut();
        Outcome {
            digest: crate::hash::fold(core.trace.digest(), core.choices.digest()),
            now: self.now(),
            steps: core.trace.steps(),
            deviated: core.choices.counts().1,
            fired: core.trace.fired_counts().clone(),
            deviations: core.choices.take_deviations(),
            latencies: core.metrics.summaries(),
        }
    }
}

/// The payload of a panic that means a named check did not hold.
#[derive(Debug)]
pub struct CheckFailure {
    /// The check's name.
    pub check: String,
    /// What was found.
    pub message: String,
}

impl Entered {
    /// The World.
    pub fn world(&self) -> &'static World {
        self.world
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let world = self.world;
        // What destructors still do is no part of the run.
        world.core.borrow_mut().trace = Trace::default();
        world.end_life();
        // Wakers, devices and extensions may own what is left of futures. Each is taken out first and dropped while the
        // World still answers and nothing of it is borrowed.
        let events = world.core.borrow_mut().events.clear();
        drop_leftovers(events);
        let devices = world.devices.take();
        drop_leftovers(devices);
        let extensions = world.extensions.take();
        drop_leftovers(extensions);
        let wakes = world.wakes.take();
        drop_leftovers(wakes);
        let late = world.core.borrow_mut().events.clear();
        drop_leftovers(late);
        {
            let mut core = world.core.borrow_mut();
            core.trace = Trace::default();
            core.metrics = Metrics::default();
        }
        world.threads.end();
        world.orphans.borrow_mut().clear();
        world.stop.borrow_mut().take();
        world.stopped.set(false);
        world.polls_at_instant.set(0);
        world.now.set(0);
        world.actor.set(Actor::NOBODY);
        HERE.with(|here| here.running.set(None));
    }
}

/// A panic in a destructor after the run is nobody's: the thread leaves the World all the same.
fn drop_leftovers<T>(leftovers: T) {
    let _nobody_asks = catch_unwind(AssertUnwindSafe(move || drop(leftovers)));
}

/// How the intensity of perturbation is drawn: half of the runs calm or nearly so.
pub(crate) fn draw_intensity(choices: &mut Choices) -> (Ratio, Ratio) {
    let mut ask = |n, law, what| {
        let at = choices::Address { stream: Stream::CONFIG, key: 0, n };
        choices.ask(at, law, what, Instant::ZERO, NodeId::OUTSIDE)
    };
    let hold = match ask(0, Law::Weighted { none: 2, of: [3, 2, 1, 0] }, "how many wakes are held") {
        0 => Ratio::NEVER,
        1 => Ratio::new(1, 64),
        2 => Ratio::new(1, 8),
        _ => Ratio::ALWAYS,
    };
    let slow = match ask(1, Law::Chance(Ratio::new(1, 4)), "whether some tasks are slow") {
        0 => Ratio::NEVER,
        _ => Ratio::new(1, 4),
    };
    (hold, slow)
}
