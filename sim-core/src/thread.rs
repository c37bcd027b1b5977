//! Threads of a run: OS threads of which exactly one runs, and which change places only where they block.
//!
//! A thread is an entry of the World's ready queue like a task: it is woken, held and passed over by the same rules. What is
//! deliberately absent is the thread itself: how an OS thread stands still until it is its turn is the business of the
//! [`Baton`] that was given to the World.
//!
//! Tasks are polled by the thread that called [`World::block_on`], the *driver*. While it is blocked inside a poll, threads
//! and events go on, tasks wait for it. A thread that finds a task ready and the driver idle lets the driver run.

use crate::choices::{Address, Law, Ratio, Stream};
use crate::events::Due;
use crate::hash;
use crate::node::{GroupId, NodeId, State};
use crate::schedule::MAX_HOLD;
use crate::waker;
use crate::world::{Actor, World};
use crate::{Instant, Verdict};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

/// What a thread that yields lets pass, so that those who wait for a time get their turn. One that yields on and on, while
/// nothing happens, waits for a time itself or for somebody who does: each [`PATIENCE`] yields this doubles, up to a
/// millisecond. It never passes by an event.
const YIELD_NS: u64 = 1_000;
const PATIENCE: u32 = 64;
const DOUBLINGS: u32 = 10;
/// Where not even a task is polled between the yields, it doubles once more each so many, to 18 minutes: who waits in vain
/// for what nobody will do comes to the end of a year in a million yields.
const LONG_PATIENCE: u32 = 1 << 15;
const LONG_DOUBLINGS: u32 = 20;

/// Which thread of the World. The one that entered it is [`ThreadId::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ThreadId(pub u32);

impl ThreadId {
    /// The thread that entered the World. It is never held.
    pub const FIRST: ThreadId = ThreadId(0);
}

/// Lets OS threads run one at a time.
pub trait Baton {
    /// Lets `to` go on and returns when somebody lets `from`, the calling thread, go on again.
    fn pass(&self, from: ThreadId, to: ThreadId);

    /// `thread` died with its machine and never runs again: whatever it was woken for is for others to take.
    fn died(&self, thread: ThreadId);
}

/// What is done when the run has ended while no thread can return from it: report, and end the process.
pub type LastWords = Rc<dyn Fn(&'static World)>;

struct Thread {
    name: String,
    key: u64,
    node: NodeId,
    group: GroupId,
    wakes: u32,
    queued: bool,
    ended: bool,
    waits_for: &'static str,
    /// Yields since it waited for anything else.
    yields: u64,
}

#[derive(Default)]
pub(crate) struct Threads {
    list: RefCell<Vec<Thread>>,
    running: Cell<u32>,
    baton: Cell<Option<&'static dyn Baton>>,
    /// The thread in `block_on`.
    driver: Cell<Option<ThreadId>>,
    /// Whether the driver gave the baton away between polls, so that it can take a task.
    driver_is_idle: Cell<bool>,
    /// The task that the driver is to poll next, if another thread found it.
    claimed: Cell<Option<u64>>,
    /// Tasks that were ready while the driver was blocked inside a poll.
    stalled: RefCell<VecDeque<u64>>,
    last_words: RefCell<Option<LastWords>>,
    /// Yields since anything else happened but polls.
    idle_yields: Cell<u32>,
    /// How many polls there had been at the last of them.
    polls_at_yield: Cell<u64>,
    /// Calls that gave nothing, in a row, of what runs.
    pub(crate) in_vain: Cell<u32>,
    /// Whether any thread but the first drew entropy.
    pub(crate) drew_entropy: Cell<bool>,
}

impl Threads {
    pub fn begin(&self) {
        *self.list.borrow_mut() = vec![Thread {
            name: "main".to_owned(),
            key: 0,
            node: NodeId::OUTSIDE,
            group: GroupId(0),
            wakes: 0,
            queued: false,
            ended: false,
            waits_for: "",
            yields: 0,
        }];
        self.running.set(0);
        self.driver.set(None);
        self.driver_is_idle.set(false);
        self.claimed.set(None);
        self.idle_yields.set(0);
        self.in_vain.set(0);
        self.drew_entropy.set(false);
        self.stalled.borrow_mut().clear();
    }

    pub fn end(&self) {
        self.list.borrow_mut().clear();
        self.baton.set(None);
        let words = self.last_words.borrow_mut().take();
        drop(words);
    }
}

/// As `thread 1 (name)`.
fn titled(id: u32, name: &str) -> String {
    format!("thread {id} ({})", if name.is_empty() { "unnamed" } else { name })
}

/// While a `block_on` lasts: who drives.
pub(crate) struct Driving<'a>(&'a Threads);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.driver.set(None);
    }
}

impl World {
    // ---- what the home of OS threads calls ------------------------------------------------------------------------

    /// Says how threads change places. Needed before [`add_thread`](Self::add_thread).
    pub fn set_baton(&self, baton: &'static dyn Baton) {
        self.threads.baton.set(Some(baton));
    }

    /// Says what is done when the run has ended while the program cannot be returned from.
    pub fn set_last_words(&self, words: LastWords) {
        *self.threads.last_words.borrow_mut() = Some(words);
    }

    /// A new thread of the acting node, ready to run. Its key hangs on the key of who starts it and on how many it started.
    pub fn add_thread(&self, name: &str) -> ThreadId {
        let actor = self.actor.get();
        let family = hash::key(&[actor.key, 5, self.place_key(actor.node)]);
        let key = hash::key(&[family, self.next_orphan(family) as u64]);
        let id = {
            let mut list = self.threads.list.borrow_mut();
            list.push(Thread {
                name: name.to_owned(),
                key,
                node: actor.node,
                group: actor.group,
                wakes: 0,
                queued: false,
                ended: false,
                waits_for: "",
                yields: 0,
            });
            ThreadId(list.len() as u32 - 1)
        };
        self.core.borrow_mut().choices.name_key(key, || titled(id.0, name));
        self.wake_thread(id);
        id
    }

    /// Called first on the OS thread of `id`, when it has the baton: the World is this thread's, too.
    pub fn begin_thread(&'static self, id: ThreadId) {
        World::adopt(self);
        debug_assert_eq!(self.running_thread(), id);
        self.thread_acts(id);
    }

    /// The running thread has ended. Returns who is to go on: the caller lets that one run, and nothing of the World is
    /// this thread's any more.
    pub fn end_thread(&'static self) -> ThreadId {
        let me = self.running_thread();
        if let Some(thread) = self.threads.list.borrow_mut().get_mut(me.0 as usize) {
            thread.ended = true;
        }
        let next = self.find_next(me);
        self.threads.running.set(next.0);
        World::disown();
        next
    }

    /// The thread that has the baton.
    pub fn running_thread(&self) -> ThreadId {
        ThreadId(self.threads.running.get())
    }

    /// How many threads have not ended, the first one included.
    pub fn live_threads(&self) -> usize {
        self.threads.list.try_borrow().map_or(0, |list| list.iter().filter(|t| !t.ended).count())
    }

    /// Whether this thread has not ended, by itself or with its node.
    pub fn thread_lives(&self, id: ThreadId) -> bool {
        self.threads.list.borrow().get(id.0 as usize).is_some_and(|t| !t.ended)
    }

    /// The name of a thread, for reports.
    pub fn name_thread(&self, id: ThreadId, name: &str) {
        if let Some(thread) = self.threads.list.borrow_mut().get_mut(id.0 as usize) {
            name.clone_into(&mut thread.name);
        }
    }

    /// Gives the name of the running thread to `f`, unless the threads are being changed: for callers that may not panic.
    pub fn try_thread_name(&self, f: impl FnOnce(&str)) -> Option<()> {
        let list = self.threads.list.try_borrow().ok()?;
        list.get(self.running_thread().0 as usize).map(|thread| f(&thread.name))
    }

    /// A waker that is a number; it wakes this thread from [`block_thread`](Self::block_thread).
    pub fn thread_waker(&self, id: ThreadId) -> Waker {
        waker::waker(waker::pack(self.number(), id.0, waker::THREAD))
    }

    /// The running thread waits for `what` and others run, until it is woken or, if a time is given, until that has come.
    /// Returns false in the latter case. Like all waits this may return early: the caller looks again.
    ///
    /// Nothing of the World may be borrowed by the caller.
    pub fn block_thread(&'static self, what: &'static str, until: Option<Instant>) -> bool {
        if let Some(thread) = self.threads.list.borrow_mut().get_mut(self.running_thread().0 as usize) {
            thread.yields = 0;
        }
        self.stand_still(what, until)
    }

    fn stand_still(&'static self, what: &'static str, until: Option<Instant>) -> bool {
        let me = self.running_thread();
        let waits_before = self.set_waiting(me, what);
        let event = until.filter(|at| *at != Instant::NEVER).map(|at| {
            let waker = self.thread_waker(me);
            self.core.borrow_mut().events.insert(at.max(self.now()), Due::Wake(waker))
        });
        let next = self.find_next(me);
        if next != me {
            self.pass_baton(next);
        }
        self.count_switch(me);
        self.set_waiting(me, waits_before);
        match event {
            Some(event) => self.core.borrow_mut().events.take(event).is_some(),
            None => true,
        }
    }

    /// Lets everything else that is ready run, and a little time pass.
    ///
    /// The run ends with [`Verdict::Stuck`] when a thread only yields until its end: the limit of time where nothing else
    /// happens, as many yields as a livelock has polls where something does.
    pub fn yield_thread(&'static self) {
        self.yield_thread_after(YIELD_NS);
    }

    /// The same for a thread whose calls since it last let others run would have taken this long.
    pub fn yield_thread_after(&'static self, ns: u64) {
        let Threads { idle_yields, polls_at_yield, .. } = &self.threads;
        let (idle, now) = (idle_yields.get(), self.now.get());
        // One of them is this thread's own.
        let at_work = self.polls() > polls_at_yield.get() + 1;
        if !at_work {
            self.polls_at_instant.set(0);
        }
        let more = if at_work { 0 } else { (idle / LONG_PATIENCE).min(LONG_DOUBLINGS) };
        let doublings = (idle / PATIENCE).min(DOUBLINGS) + more;
        let next = self.core.borrow_mut().events.next_at().map_or(u64::MAX, |at| at.0);
        self.now.set((now + (YIELD_NS << doublings).max(ns)).min(next).max(now + YIELD_NS));
        polls_at_yield.set(self.polls());
        let nothing_happens = !self.let_due_happen() && !self.others_ready();
        idle_yields.set(if nothing_happens { idle.saturating_add(1) } else { 0 });
        self.end_if_only_yields();
        self.wake_thread(self.running_thread());
        self.stand_still("its turn", None);
    }

    /// The running thread lets the next `hold` wakes pass it, as if it had lost its processor for a moment. No time passes for it.
    pub fn hold_thread(&'static self, hold: u64) {
        let me = self.running_thread();
        if hold == 0 || me == ThreadId::FIRST {
            return;
        }
        let is_woken = match self.threads.list.borrow_mut().get_mut(me.0 as usize) {
            Some(thread) => std::mem::replace(&mut thread.queued, true),
            None => return,
        };
        if !is_woken {
            let entry = waker::pack(self.number(), me.0, waker::THREAD);
            self.scheduler.borrow_mut().ready.push(entry, hold);
        }
        self.stand_still("its turn", None);
    }

    /// Lets those go on who are ready, or due by now, if there are any. No time passes.
    pub fn give_way(&'static self) {
        self.let_due_happen();
        if self.others_ready() {
            self.wake_thread(self.running_thread());
            self.stand_still("its turn", None);
        }
    }

    /// Counts a call that gave nothing. Returns how many there were since another thread, or a task of the World, began to run.
    pub fn count_in_vain(&self) -> u32 {
        let calls = self.threads.in_vain.get().saturating_add(1);
        self.threads.in_vain.set(calls);
        calls
    }

    /// Counts a yield.
    fn end_if_only_yields(&self) {
        let me = self.running_thread();
        let Some(yields) = self.threads.list.borrow_mut().get_mut(me.0 as usize).map(|thread| {
            thread.yields += 1;
            thread.yields
        }) else {
            return;
        };
        let settings = self.settings.borrow();
        let idle = self.threads.idle_yields.get() > PATIENCE;
        if yields >= settings.livelock_polls || idle && self.now() > Instant::ZERO + settings.time_limit {
            let task = format!("{}, which yields on and on", self.describe_thread(me));
            self.stop_with(Verdict::Stuck { task });
        }
    }

    /// As `thread 1 (name)`.
    pub(crate) fn describe_thread(&self, id: ThreadId) -> String {
        let list = self.threads.list.borrow();
        titled(id.0, list.get(id.0 as usize).map_or("", |thread| &thread.name))
    }

    /// Whether anything is ready to run beside the running thread.
    #[inline]
    pub fn others_ready(&self) -> bool {
        !self.scheduler.borrow().ready.is_empty()
    }

    /// Until when nothing can happen but what the running thread does: nothing is ready, and no event comes until then. `None` if
    /// something can happen now.
    #[inline]
    pub fn alone_until(&self) -> Option<Instant> {
        if self.others_ready() || self.stopped.get() || waker::is_woken_from_elsewhere(self.number()) {
            return None;
        }
        let limit = Instant::ZERO + self.settings.borrow().time_limit;
        match self.core.borrow_mut().events.next_at() {
            Some(next) if next <= self.now() => None,
            Some(next) => Some(limit.min(Instant(next.0 - 1))),
            None => Some(limit),
        }
    }

    /// Lets time pass until `at` as if the running thread had waited, which nobody would have seen: it is
    /// [alone until then](Self::alone_until).
    #[inline]
    pub fn pass_alone(&'static self, at: Instant) {
        let steps = {
            let mut core = self.core.borrow_mut();
            core.trace.step(at.0);
            core.trace.steps()
        };
        if at > self.now() {
            self.now.set(at.0);
            self.polls_at_instant.set(0);
        }
        if steps & 1023 == 0 {
            self.check_limits(self.polls_at_instant.get(), steps);
        }
        self.count_switch(self.running_thread());
    }

    // ---- order ----------------------------------------------------------------------------------------------------

    /// A thread is to go on.
    pub fn wake_thread(&self, id: ThreadId) {
        let (key, node, n) = {
            let mut list = self.threads.list.borrow_mut();
            let Some(thread) = list.get_mut(id.0 as usize).filter(|t| !t.ended && !t.queued) else { return };
            thread.queued = true;
            let n = thread.wakes;
            thread.wakes = n.wrapping_add(1);
            (thread.key, thread.node, n)
        };
        let hold = if id == ThreadId::FIRST { 0 } else { self.ask_hold(key, n, node) };
        self.scheduler.borrow_mut().ready.push(waker::pack(self.number(), id.0, waker::THREAD), hold);
    }

    /// Asks how many later wakes may pass the `n`th wake of what `key` names. For owners of ready entries or queues of
    /// their own: a tokio runtime asks for each of its tasks.
    pub fn ask_hold(&self, key: u64, n: u32, node: NodeId) -> u64 {
        let Some(p) = self.scheduler.borrow().hold() else { return 0 };
        self.ask_wakes(p, "hold", key, n, node)
    }

    /// Asks how many wakes pass the running thread before it goes on with the task that `key` names, for
    /// [`hold_thread`](Self::hold_thread). There are many such places between two wakes, and mostly one is enough to show a race:
    /// so it happens to a quarter of those that a hold would.
    pub fn ask_preemption(&self, key: u64, n: u32, node: NodeId) -> u64 {
        let Some(p) = self.scheduler.borrow().hold() else { return 0 };
        self.ask_wakes(Ratio::new(p.num(), 4 * p.den()), "preemption", key, n, node)
    }

    fn ask_wakes(&self, p: Ratio, what: &'static str, key: u64, n: u32, node: NodeId) -> u64 {
        if node == NodeId::OUTSIDE {
            return 0;
        }
        let at = Address { stream: Stream::SCHEDULE, key, n };
        self.core.borrow_mut().choices.ask(at, Law::Rare { p, max: MAX_HOLD }, what, self.now(), node)
    }

    /// The thread that runs next, if `me` does not: `me` itself when it has been woken. Time passes while nothing is ready.
    fn find_next(&'static self, me: ThreadId) -> ThreadId {
        let threads = &self.threads;
        loop {
            if self.stopped.get() {
                return self.end_of_run(me);
            }
            let Some(next) = self.next_entry() else {
                self.turn();
                continue;
            };
            if let Some(thread) = waker::thread_of(next) {
                return thread;
            }
            match threads.driver.get().filter(|d| *d != me && threads.driver_is_idle.get()) {
                Some(driver) => {
                    threads.claimed.set(Some(next));
                    return driver;
                }
                None => threads.stalled.borrow_mut().push_back(next),
            }
        }
    }

    /// The run is over and `me` cannot return from where it waits: the driver can, or the process has to end.
    fn end_of_run(&'static self, me: ThreadId) -> ThreadId {
        let threads = &self.threads;
        if let Some(driver) = threads.driver.get().filter(|d| *d != me && threads.driver_is_idle.get()) {
            return driver;
        }
        self.say_last_words();
        let verdict = self.stop.borrow().clone();
        eprintln!("sim: the run ended while no thread could return from it: {verdict:?}");
        std::process::abort()
    }

    /// Does what was to be done at the end of the run. Returns if nobody said what.
    pub fn say_last_words(&'static self) {
        let words = self.threads.last_words.borrow().clone();
        if let Some(words) = words {
            words(self);
        }
    }

    /// The next ready entry whose owner may act.
    #[inline]
    fn next_entry(&self) -> Option<u64> {
        loop {
            let next = self.scheduler.borrow_mut().ready.pop()?;
            let Some(id) = waker::thread_of(next) else { return Some(next) };
            let mut list = self.threads.list.borrow_mut();
            let Some(thread) = list.get_mut(id.0 as usize).filter(|t| !t.ended) else { continue };
            let mut nodes = self.nodes.borrow_mut();
            let node = &mut nodes[thread.node.0 as usize];
            if node.state == State::Paused {
                node.parked.push(next);
                continue;
            }
            thread.queued = false;
            return Some(next);
        }
    }

    /// For the driver between polls: a task to poll. Threads that are ready before it run first.
    #[inline]
    pub(crate) fn next_task(&'static self) -> Option<u64> {
        let threads = &self.threads;
        if let Some(next) = threads.claimed.take() {
            return Some(next);
        }
        if let Some(next) = self.pop_stalled() {
            return Some(next);
        }
        loop {
            let next = self.next_entry()?;
            let Some(thread) = waker::thread_of(next) else { return Some(next) };
            threads.driver_is_idle.set(true);
            self.pass_baton(thread);
            threads.driver_is_idle.set(false);
            if self.stopped.get() {
                return None;
            }
            if let Some(next) = threads.claimed.take() {
                return Some(next);
            }
        }
    }

    #[inline]
    fn pop_stalled(&self) -> Option<u64> {
        self.threads.stalled.borrow_mut().pop_front()
    }

    /// The running thread drives tasks until the guard is dropped.
    ///
    /// # Panics
    /// If another thread does.
    pub(crate) fn drive(&self) -> Driving<'_> {
        let before = self.threads.driver.replace(Some(self.running_thread()));
        assert!(
            before.is_none(),
            "a second thread called block_on on the simulated executor: its tasks are polled by one thread. Spawn them, or \
             run the project as a drop-in (`cargo sim test` without the feature)"
        );
        Driving(&self.threads)
    }

    fn pass_baton(&self, to: ThreadId) {
        let me = self.running_thread();
        let actor = self.actor.get();
        let Some(baton) = self.threads.baton.get() else { unreachable!("threads exist only where a baton was set") };
        self.threads.running.set(to.0);
        baton.pass(me, to);
        debug_assert_eq!(self.running_thread(), me);
        self.actor.set(actor);
        let skew = self.nodes.borrow()[actor.node.0 as usize].clock;
        self.clock_acts_for(skew);
    }

    /// Makes the thread itself the actor: what runs on it is no task.
    fn thread_acts(&self, id: ThreadId) {
        let actor = {
            let list = self.threads.list.borrow();
            let thread = &list[id.0 as usize];
            Actor { key: thread.key, node: thread.node, group: thread.group, ..Actor::NOBODY }
        };
        self.actor.set(actor);
        let skew = self.nodes.borrow()[actor.node.0 as usize].clock;
        self.clock_acts_for(skew);
        self.count_switch(id);
    }

    /// The running thread acts for `node` from now on: the main thread of a program that is simulated as a whole.
    pub fn settle_thread(&self, node: NodeId) {
        let me = self.running_thread();
        let group = self.node_group(node);
        if let Some(thread) = self.threads.list.borrow_mut().get_mut(me.0 as usize) {
            (thread.node, thread.group) = (node, group);
        }
        self.thread_acts(me);
    }

    fn count_switch(&self, id: ThreadId) {
        self.threads.in_vain.set(0);
        let key = self.threads.list.borrow()[id.0 as usize].key;
        self.count_poll(key);
    }

    fn set_waiting(&self, id: ThreadId, what: &'static str) -> &'static str {
        match self.threads.list.borrow_mut().get_mut(id.0 as usize) {
            Some(thread) => std::mem::replace(&mut thread.waits_for, what),
            None => "",
        }
    }

    // ---- death ----------------------------------------------------------------------------------------------------

    /// Threads that `which` picks never run again. Their stacks, and what they hold, stay as they are: a dead machine runs
    /// no destructors.
    pub(crate) fn end_threads(&self, which: impl Fn(NodeId, GroupId) -> bool) {
        let mut died = Vec::new();
        for (i, thread) in self.threads.list.borrow_mut().iter_mut().enumerate() {
            if i != ThreadId::FIRST.0 as usize && !thread.ended && which(thread.node, thread.group) {
                thread.ended = true;
                died.push(ThreadId(i as u32));
            }
        }
        if let Some(baton) = self.threads.baton.get() {
            died.into_iter().for_each(|thread| baton.died(thread));
        }
    }

    /// Whether any thread but the first drew entropy: a test harness on the first does.
    pub fn threads_drew_entropy(&self) -> bool {
        self.threads.drew_entropy.get()
    }

    /// One line for each thread that waits.
    pub(crate) fn blocked_threads(&self) -> Vec<String> {
        let nodes = self.nodes.borrow();
        let list = self.threads.list.borrow();
        let waiting = list.iter().enumerate().filter(|(_, t)| !t.ended && !t.waits_for.is_empty());
        let line = |(i, t): (usize, &Thread)| {
            let waits = if t.queued { "to go on: its node is paused" } else { t.waits_for };
            format!("{}: {} waits for {waits}", nodes[t.node.0 as usize].name, titled(i as u32, &t.name))
        };
        waiting.map(line).collect()
    }

    /// The verdict of a run that was ended, if it was.
    pub fn verdict(&self) -> Option<Verdict> {
        self.stop.borrow().clone()
    }
}
