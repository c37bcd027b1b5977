//! The ready queue: first in, first out, except that a wake may be *held*.
//!
//! Each wake takes a ticket. A wake held by `d` lets the next `d` wakes pass it: it waits in a wheel of tickets and joins
//! the back of the queue when the ticket `d` places later has been given out. A hold counts wakes, not places in the
//! queue, so it means the same thing whatever else is ready; and it is finite, so nothing starves: when nothing else is
//! ready, the tickets jump to the next held wake. Knows nothing of tasks: an entry is whatever its owner puts in.

use std::collections::VecDeque;

/// Tickets that the wheel spans; a longer hold is cut to this.
const SPAN: usize = 4096;
const NIL: u32 = u32::MAX;

/// Entries that are ready to run.
pub struct ReadyQueue<E> {
    ring: VecDeque<E>,
    ticket: u64,
    wheel: Wheel<E>,
}

/// Held entries by the ticket they wait for: a list for each of the next [`SPAN`] tickets.
struct Wheel<E> {
    lists: Box<[(u32, u32)]>,
    entries: Vec<(E, u32)>,
    free: u32,
    occupied: [u64; SPAN / 64],
    len: usize,
}

impl<E: Copy> Default for ReadyQueue<E> {
    fn default() -> Self {
        let wheel = Wheel {
            lists: vec![(NIL, NIL); SPAN].into(),
            entries: Vec::new(),
            free: NIL,
            occupied: [0; SPAN / 64],
            len: 0,
        };
        ReadyQueue { ring: VecDeque::new(), ticket: 0, wheel }
    }
}

impl<E: Copy> ReadyQueue<E> {
    /// Adds an entry; the next `hold` entries added after it will pass it.
    #[inline]
    pub fn push(&mut self, entry: E, hold: u64) {
        self.ticket += 1;
        if hold == 0 {
            self.ring.push_back(entry);
        } else {
            self.wheel.insert(self.ticket + hold.min(SPAN as u64 - 1), entry);
        }
        if self.wheel.len > 0 {
            self.wheel.release(self.ticket, &mut self.ring);
        }
    }

    /// Whether nothing is ready, held or not.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.wheel.len == 0
    }

    /// The entry that runs next.
    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        if self.ring.is_empty() && self.wheel.len > 0 {
            self.ticket += self.wheel.distance(self.ticket);
            self.wheel.release(self.ticket, &mut self.ring);
        }
        self.ring.pop_front()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
        self.wheel.entries.clear();
        self.wheel.free = NIL;
        self.ticket = 0;
    }
}

impl<E: Copy> Wheel<E> {
    fn insert(&mut self, due: u64, entry: E) {
        let index = if self.free == NIL {
            self.entries.push((entry, NIL));
            self.entries.len() as u32 - 1
        } else {
            let index = self.free;
            self.free = std::mem::replace(&mut self.entries[index as usize], (entry, NIL)).1;
            index
        };
        let place = due as usize % SPAN;
        let (head, tail) = self.lists[place];
        self.lists[place] = (if head == NIL { index } else { head }, index);
        if tail != NIL {
            self.entries[tail as usize].1 = index;
        }
        self.occupied[place / 64] |= 1 << (place % 64);
        self.len += 1;
    }

    /// Moves what waited for `ticket` to the back of `ring`, in the order it came.
    #[inline]
    fn release(&mut self, ticket: u64, ring: &mut VecDeque<E>) {
        let place = ticket as usize % SPAN;
        if self.occupied[place / 64] >> (place % 64) & 1 == 0 {
            return;
        }
        self.occupied[place / 64] &= !(1 << (place % 64));
        let (mut index, _) = std::mem::replace(&mut self.lists[place], (NIL, NIL));
        while index != NIL {
            let (entry, next) = self.entries[index as usize];
            ring.push_back(entry);
            self.entries[index as usize].1 = self.free;
            self.free = index;
            self.len -= 1;
            index = next;
        }
    }

    /// How many tickets after `ticket` the next held entry waits for. There is one.
    fn distance(&self, ticket: u64) -> u64 {
        let first = (ticket as usize + 1) % SPAN;
        let word = first / 64;
        let rest = self.occupied[word] & (u64::MAX << (first % 64));
        let place = if rest != 0 {
            word * 64 + rest.trailing_zeros() as usize
        } else {
            let words = (1..=SPAN / 64).map(|i| (word + i) % (SPAN / 64));
            let word = words.into_iter().find(|w| self.occupied[*w] != 0).expect("an entry is held");
            word * 64 + self.occupied[word].trailing_zeros() as usize
        };
        ((place + SPAN - first) % SPAN) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::mix;

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

    /// The same rule as a sorted list: by the ticket an entry waits for, then by its own.
    #[test]
    fn the_wheel_agrees_with_a_sorted_list() {
        let mut q = ReadyQueue::default();
        let (mut model, mut ticket): (Vec<(u64, u64)>, u64) = (Vec::new(), 0);
        for n in 0..200_000u64 {
            let word = mix(21, 34, n, 0);
            // Longer and shorter queues in turn, so that the tickets jump now and then.
            if word % 100 < if n / 10_000 % 2 == 0 { 55 } else { 45 } {
                let hold = if word >> 60 == 0 { (word >> 20) % 2300 } else { 0 };
                ticket += 1;
                model.push((ticket + hold, ticket));
                q.push(ticket, hold);
            } else {
                if let Some(nearest) = model.iter().map(|m| m.0).min().filter(|due| *due > ticket) {
                    ticket = nearest;
                }
                let first = (0..model.len()).min_by_key(|i| (model[*i].0, hold_last(model[*i]), model[*i].1));
                let expected = first.map(|i| model.remove(i));
                assert_eq!(q.pop(), expected.map(|(_, own)| own), "step {n}");
            }
        }
    }

    /// At equal places the entry that was not held goes first.
    fn hold_last((due, own): (u64, u64)) -> bool {
        due != own
    }
}
