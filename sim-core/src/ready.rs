//! The ready queue: first in, first out, except that a wake may be *held*.
//!
//! Each wake takes a ticket. A wake held by `d` lets the next `d` wakes pass it: it runs as if it had the ticket `d`
//! places later. A hold counts wakes, not places in the queue, so it means the same thing whatever else is ready; and it
//! is finite, so nothing starves. Knows nothing of tasks: an entry is whatever its owner puts in.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Entries that are ready to run.
pub struct ReadyQueue<E> {
    ring: VecDeque<(u64, E)>,
    held: BinaryHeap<Reverse<(u64, u64, E)>>,
    ticket: u64,
}

impl<E: Copy + Ord> Default for ReadyQueue<E> {
    fn default() -> Self {
        ReadyQueue { ring: VecDeque::new(), held: BinaryHeap::new(), ticket: 0 }
    }
}

impl<E: Copy + Ord> ReadyQueue<E> {
    /// Adds an entry; the next `hold` entries added after it will pass it.
    #[inline]
    pub fn push(&mut self, entry: E, hold: u64) {
        self.ticket += 1;
        if hold == 0 {
            self.ring.push_back((self.ticket, entry));
        } else {
            self.held.push(Reverse((self.ticket + hold, self.ticket, entry)));
        }
    }

    /// The entry that runs next.
    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        let Some(Reverse((due, ..))) = self.held.peek() else {
            return self.ring.pop_front().map(|(_, entry)| entry);
        };
        if self.ring.front().is_some_and(|(ticket, _)| ticket <= due) {
            return self.ring.pop_front().map(|(_, entry)| entry);
        }
        let Reverse((due, _, entry)) = self.held.pop()?;
        // Nothing else is ready: what is added from now on comes after the entry that runs now.
        if self.ring.is_empty() {
            self.ticket = self.ticket.max(due);
        }
        Some(entry)
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.held.clear();
        self.ticket = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(pushes: &[(char, u64)]) -> String {
        let mut q = ReadyQueue::default();
        for (entry, hold) in pushes {
            q.push(*entry, *hold);
        }
        std::iter::from_fn(|| q.pop()).collect()
    }

    #[test]
    fn without_holds_it_is_a_queue() {
        assert_eq!(order(&[('a', 0), ('b', 0), ('c', 0)]), "abc");
    }

    #[test]
    fn a_hold_of_two_lets_two_pass() {
        assert_eq!(order(&[('a', 2), ('b', 0), ('c', 0), ('d', 0)]), "bcad");
    }

    #[test]
    fn a_held_entry_runs_at_once_when_nothing_else_is_ready() {
        assert_eq!(order(&[('a', 1000)]), "a");
    }

    #[test]
    fn what_comes_after_an_early_release_queues_behind_the_other_holds() {
        let mut q = ReadyQueue::default();
        q.push('a', 10);
        q.push('b', 20);
        assert_eq!(q.pop(), Some('a'));
        q.push('c', 0);
        assert_eq!((q.pop(), q.pop(), q.pop()), (Some('c'), Some('b'), None));
    }
}
