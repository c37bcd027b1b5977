//! What the tasks of a generated tokio ask of the World: who they are, how far a wake of theirs is held, where a worker
//! that polls them loses its processor, which branch of a `select!` goes first, and that a poll is counted.

use sim_core::World;
use sim_libc::threads::Preemptible;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Whether this thread is in a run.
#[inline]
pub fn on() -> bool {
    World::current().is_some()
}

/// Lets other threads of the run go on, and a little time pass: for a thread that works on and on.
pub fn breathe() {
    if on() {
        sim_libc::threads::yield_now();
    }
}

/// Which of `n` a task takes that does not care, as `select!` asks; `None` outside a run.
pub fn draw(n: u32) -> Option<u32> {
    Some(World::current()?.draw_for_actor(n))
}

/// The seed of a new generator of a runtime's own; `None` outside a run.
pub fn generator_seed() -> Option<u64> {
    Some(World::current()?.generator_seed())
}

/// A task's stable identity and the count of its wakes. It lies in the task's header.
#[derive(Debug)]
pub struct Tag {
    key: u64,
    /// Its place in the World's list of those that have not ended; outside a run, none.
    place: u32,
    /// Changed only by the thread that has the baton.
    wakes: AtomicU32,
}

/// How those of the blocking pool's tasks begin that are tokio's own: the workers of a multi-thread runtime, which are threads of
/// the run.
const WORKERS: &str = "tokio::runtime::blocking::task::BlockingTask<tokio::runtime::";

impl Tag {
    /// The identity of a new child of whoever acts; `future` is the type of what it polls, for reports.
    pub fn new(future: &'static str) -> Tag {
        let (key, place) =
            World::current().map_or((0, u32::MAX), |world| world.new_guest(future, !future.starts_with(WORKERS)));
        Tag { key, place, wakes: AtomicU32::new(0) }
    }

    /// The task is complete, or cancelled.
    #[inline]
    pub fn ended(&self) {
        if let Some(world) = World::current() {
            world.guest_ended(self.key, self.place);
        }
    }

    /// How many wakes may pass the one that happens now.
    #[inline]
    pub fn hold(&self) -> u64 {
        let Some(world) = World::current().filter(|_| self.key != 0) else { return 0 };
        let n = self.wakes.load(Relaxed);
        self.wakes.store(n.wrapping_add(1), Relaxed);
        world.ask_hold(self.key, n, world.acting_node())
    }

    /// Before the task is polled by one of several threads, which took it from a queue that they share: the thread is held, and
    /// the others take what comes after it. A queue of a single thread asks for the [`hold`](Self::hold) instead.
    #[inline]
    pub fn hold_thread(&self) -> Preemptible {
        let poll = self.wakes.load(Relaxed);
        let hold = self.hold();
        if let Some(world) = World::current().filter(|_| hold > 0) {
            world.hold_thread(hold);
        }
        Preemptible::begin(self.key, poll)
    }
}

/// While this lives, the task of its tag acts.
#[must_use = "the poll it stands for ends when this is dropped"]
pub struct Acting {
    before: Option<(&'static World, u64)>,
}

impl Acting {
    /// Counts a poll of the task, and makes it the actor.
    #[inline]
    pub fn begin(tag: &Tag) -> Acting {
        let world = World::current().filter(|_| tag.key != 0);
        Acting { before: world.map(|world| (world, world.begin_entry(tag.key))) }
    }
}

impl Drop for Acting {
    #[inline]
    fn drop(&mut self) {
        if let Some((world, before)) = self.before {
            world.end_entry(before);
        }
    }
}

/// Ready tasks: first in, first out, except for those that are held. As the World's own ready queue, for what it cannot
/// copy: an entry held by `d` lets the next `d` entries pass, and all holds end when nothing else is ready.
#[derive(Debug)]
pub struct Queue<T> {
    ring: VecDeque<T>,
    /// How many entries were added.
    ticket: u64,
    held: BinaryHeap<Reverse<Held<T>>>,
}

#[derive(Debug)]
struct Held<T> {
    /// It joins the ring when the entry of this ticket was added.
    due: u64,
    own: u64,
    entry: T,
}

impl<T> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own
    }
}

impl<T> Eq for Held<T> {}

impl<T> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Held<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.own).cmp(&(other.due, other.own))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue::with_capacity(0)
    }
}

/// What is left, in the order in which it would run.
impl<T> Iterator for Queue<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.pop_front()
    }
}

impl<T> Queue<T> {
    /// An empty one with room for `capacity` entries that are not held.
    pub fn with_capacity(capacity: usize) -> Queue<T> {
        Queue { ring: VecDeque::with_capacity(capacity), ticket: 0, held: BinaryHeap::new() }
    }

    /// Adds an entry; the next `hold` entries added after it will pass it.
    #[inline]
    pub fn push_back(&mut self, entry: T, hold: u64) {
        self.ticket += 1;
        if hold == 0 {
            self.ring.push_back(entry);
        } else {
            self.held.push(Reverse(Held { due: self.ticket + hold, own: self.ticket, entry }));
        }
        if !self.held.is_empty() {
            self.release();
        }
    }

    /// Whether an entry is ready that is not held.
    #[inline]
    pub fn has_next(&self) -> bool {
        !self.ring.is_empty()
    }

    /// The entry that runs next.
    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        if self.ring.is_empty() {
            self.ticket = self.held.peek()?.0.due;
            self.release();
        }
        let entry = self.ring.pop_front();
        // A ring that is empty begins anew, where its memory was used a moment ago.
        if self.ring.is_empty() {
            self.ring.clear();
        }
        entry
    }

    /// How many entries there are, held ones too.
    #[inline]
    pub fn len(&self) -> usize {
        self.ring.len() + self.held.len()
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn release(&mut self) {
        while self.held.peek().is_some_and(|Reverse(held)| held.due <= self.ticket) {
            if let Some(Reverse(held)) = self.held.pop() {
                self.ring.push_back(held.entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(pushes: &[(char, u64)]) -> String {
        let mut queue = Queue::with_capacity(4);
        pushes.iter().for_each(|(entry, hold)| queue.push_back(*entry, *hold));
        std::iter::from_fn(|| queue.pop_front()).collect()
    }

    #[test]
    fn a_held_entry_lets_as_many_pass_as_it_is_held() {
        assert_eq!(order(&[('a', 0), ('b', 0), ('c', 0)]), "abc");
        assert_eq!(order(&[('a', 2), ('b', 0), ('c', 0), ('d', 0)]), "bcad");
        assert_eq!(order(&[('a', 2000)]), "a");
    }

    #[test]
    fn holds_end_in_the_order_of_their_tickets_when_nothing_else_is_ready() {
        assert_eq!(order(&[('a', 9), ('b', 5), ('c', 0)]), "cba");
    }
}
