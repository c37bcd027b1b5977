//! Who waits at which address.
//!
//! Two kinds of queue. Whoever *parks* is taken out by the one who wakes it, and has then got what it waited for: futex,
//! condition variable, barrier. Whoever *lines up* stays in its place until it has got it by its own attempt, so that one
//! who came by and was quicker takes nobody's place: mutex, semaphore, read-write lock.

use super::of;
use sim_core::{Instant, ThreadId, World};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many wait in all Worlds of the process, so that a lock that nobody waits for looks nothing up.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// What an address is waited at for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Futex,
    Mutex,
    Condition,
    ReadWrite,
    Semaphore,
    Barrier,
    Once,
}

pub(crate) type Key = (Kind, usize);

/// Every bit: woken by any wake.
pub(crate) const ANY: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Waiter {
    thread: ThreadId,
    bits: u32,
}

/// All queues of a World. Looked up by address, never iterated.
#[derive(Default)]
pub(crate) struct Queues {
    lines: RefCell<BTreeMap<Key, VecDeque<Waiter>>>,
    /// For each thread, the queue it stands in.
    places: RefCell<Vec<Option<Key>>>,
    /// For each thread, the queue in which it was woken, until it runs.
    called: RefCell<Vec<Option<Key>>>,
    /// The pthread_once functions being run.
    pub running_once: RefCell<Vec<usize>>,
}

impl Queues {
    fn set_place(&self, thread: ThreadId, place: Option<Key>) -> Option<Key> {
        set(&self.places, thread, place)
    }

    /// Lets a thread go on because of what happened at `key`.
    fn call(&self, world: &World, thread: ThreadId, key: Key) {
        set(&self.called, thread, Some(key));
        world.wake_thread(thread);
    }

    /// The thread goes on.
    fn answered(&self, thread: ThreadId) {
        set(&self.called, thread, None);
    }

    /// The thread died with its machine. If it was woken and did not run, the next in its queue is woken instead: the
    /// queue may be at a lock that machines share, as a `static` is.
    pub fn died(&self, world: &World, thread: ThreadId) {
        self.leave(thread);
        match set(&self.called, thread, None) {
            Some(key @ (Kind::Mutex | Kind::ReadWrite | Kind::Semaphore, _)) => self.call_first(world, key),
            Some(key) => {
                self.wake(world, key, ANY, 1);
            }
            None => {}
        }
        // It may have held a mutex that others wait for: theirs now (`interpose/lock.rs`).
        let mut mutexes: Vec<Key> = Vec::new();
        for key in self.places.borrow().iter().flatten().filter(|(kind, _)| *kind == Kind::Mutex) {
            if !mutexes.contains(key) {
                mutexes.push(*key);
            }
        }
        mutexes.into_iter().for_each(|key| self.call_first(world, key));
    }

    fn join(&self, key: Key, thread: ThreadId, bits: u32) {
        WAITING.fetch_add(1, Relaxed);
        self.set_place(thread, Some(key));
        self.lines.borrow_mut().entry(key).or_default().push_back(Waiter { thread, bits });
    }

    fn leave(&self, thread: ThreadId) {
        let Some(key) = self.set_place(thread, None) else { return };
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&key) else { return };
        line.retain(|w| w.thread != thread);
        if line.is_empty() {
            lines.remove(&key);
        }
        WAITING.fetch_sub(1, Relaxed);
    }

    fn stands_in_line(&self, thread: ThreadId) -> bool {
        self.places.borrow().get(thread.0 as usize).is_some_and(Option::is_some)
    }

    /// How many wait.
    pub fn waiting(&self, key: Key) -> usize {
        self.lines.borrow().get(&key).map_or(0, VecDeque::len)
    }

    /// The first in the queue that can ever run again. Those that cannot are forgotten.
    fn first(&self, world: &World, key: Key, bits: u32) -> Option<ThreadId> {
        loop {
            let first = self.lines.borrow().get(&key)?.iter().find(|w| w.bits & bits != 0)?.thread;
            if world.thread_lives(first) {
                return Some(first);
            }
            self.leave(first);
        }
    }

    /// Wakes at most `most` of those parked at `key` with one of `bits`, who came first first. Returns how many.
    pub fn wake(&self, world: &World, key: Key, bits: u32, most: usize) -> usize {
        let mut woken = 0;
        while woken < most
            && let Some(thread) = self.first(world, key, bits)
        {
            self.leave(thread);
            self.call(world, thread, key);
            woken += 1;
        }
        woken
    }

    /// Moves at most `most` of those parked at `from` to the back of the queue at `to`. Returns how many.
    pub fn requeue(&self, from: Key, to: Key, most: usize) -> usize {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(&from) else { return 0 };
        let moved: Vec<Waiter> = line.drain(..line.len().min(most)).collect();
        if line.is_empty() {
            lines.remove(&from);
        }
        if !moved.is_empty() {
            lines.entry(to).or_default().extend(&moved);
        }
        drop(lines);
        for waiter in &moved {
            self.set_place(waiter.thread, Some(to));
        }
        moved.len()
    }

    /// Lets the first of those lined up at `key` try.
    pub fn call_first(&self, world: &World, key: Key) {
        if let Some(thread) = self.first(world, key, ANY) {
            self.call(world, thread, key);
        }
    }
}

fn set(of: &RefCell<Vec<Option<Key>>>, thread: ThreadId, key: Option<Key>) -> Option<Key> {
    let (mut of, at) = (of.borrow_mut(), thread.0 as usize);
    if of.len() <= at {
        of.resize(at + 1, None);
    }
    std::mem::replace(&mut of[at], key)
}

/// Whether anybody waits anywhere.
#[inline]
pub(crate) fn anybody_waits() -> bool {
    WAITING.load(Relaxed) > 0
}

/// Parks the calling thread at `key`. False if `until` came before a wake.
pub(crate) fn park(world: &'static World, key: Key, bits: u32, what: &'static str, until: Option<Instant>) -> bool {
    let (threads, me) = (of(world), world.running_thread());
    threads.queues.join(key, me, bits);
    loop {
        world.block_thread(what, until);
        threads.queues.answered(me);
        if !threads.queues.stands_in_line(me) {
            return true;
        }
        if until.is_some_and(|until| world.now() >= until) {
            threads.queues.leave(me);
            return false;
        }
    }
}

/// Lines the calling thread up at `key` until `attempt` returns anything but EBUSY, or ETIMEDOUT is returned because
/// `until` has come. With `chain` the next in line may try when this one has succeeded, as several may hold the thing.
pub(crate) fn line_up(
    world: &'static World,
    key: Key,
    chain: bool,
    what: &'static str,
    until: Option<Instant>,
    mut attempt: impl FnMut() -> i32,
) -> i32 {
    let (threads, me) = (of(world), world.running_thread());
    threads.queues.join(key, me, ANY);
    loop {
        world.block_thread(what, until);
        threads.queues.answered(me);
        let result = attempt();
        let late = result == libc::EBUSY && until.is_some_and(|until| world.now() >= until);
        if result == libc::EBUSY && !late {
            continue;
        }
        threads.queues.leave(me);
        if chain || late {
            threads.queues.call_first(world, key);
        }
        return if late { libc::ETIMEDOUT } else { result };
    }
}

/// Lets the first of those lined up at `key` try, if there are any.
#[inline]
pub(crate) fn call_first(key: Key) {
    if anybody_waits()
        && let Some(world) = super::world()
    {
        of(world).queues.call_first(world, key);
    }
}
