//! The one event queue: everything that will happen, ordered by `(instant, sequence)`.
//!
//! A timing wheel of eight levels over ticks of 2^18 ns (about 262 µs). What falls into the current tick lies in a small
//! heap that gives the exact order; everything later lies unsorted in doubly linked lists, one for each slot, so that
//! inserting and cancelling cost O(1) however many timers there are. An event moves down at most once per level.
//!
//! An event names only its owner (a waker, or a device and its token), never an operation, so that subsystems change
//! without touching this file.

use crate::Instant;
use crate::device::DeviceId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

const TICK_BITS: u32 = 18;
const LEVELS: usize = 8;
const NIL: u32 = u32::MAX;
const IN_HEAP: u16 = u16::MAX;
const FREE: u16 = u16::MAX - 1;

/// Names one event until it happened or was cancelled. Later uses of the name do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventId {
    index: u32,
    generation: u32,
}

/// What an event does when its time has come.
#[derive(Debug)]
pub enum Due {
    /// Wakes a future.
    Wake(Waker),
    /// Is handed to a device.
    Device(DeviceId, u64),
}

struct Slot {
    at: u64,
    sequence: u64,
    generation: u32,
    place: u16,
    prev: u32,
    next: u32,
    due: Option<Due>,
}

/// All that will happen.
pub struct EventQueue {
    slots: Vec<Slot>,
    free: Vec<u32>,
    heads: [u32; LEVELS * 64],
    occupied: [u64; LEVELS],
    /// Events up to and including this tick are in `near`.
    tick: u64,
    near: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    sequence: u64,
    len: usize,
}

impl Default for EventQueue {
    fn default() -> Self {
        EventQueue {
            slots: Vec::new(),
            free: Vec::new(),
            heads: [NIL; LEVELS * 64],
            occupied: [0; LEVELS],
            tick: 0,
            near: BinaryHeap::new(),
            sequence: 0,
            len: 0,
        }
    }
}

impl EventQueue {
    /// How many events are due some time.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is due any more.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event. Among events of the same instant, the one added first happens first.
    pub fn insert(&mut self, at: Instant, due: Due) -> EventId {
        let sequence = self.sequence;
        self.sequence += 1;
        // A new slot begins with a generation that no slot ever had, also before `clear`: a name is given once.
        let generation = sequence as u32;
        let fresh = Slot { at: at.0, sequence, generation, place: FREE, prev: NIL, next: NIL, due: Some(due) };
        let index = match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                *slot = Slot { generation: slot.generation, ..fresh };
                index
            }
            None => {
                self.slots.push(fresh);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events")
            }
        };
        self.len += 1;
        self.file(index);
        EventId { index, generation: self.slots[index as usize].generation }
    }

    /// Takes a device's event back. False if it happened already or was cancelled before.
    pub fn cancel(&mut self, id: EventId) -> bool {
        self.take(id).is_some()
    }

    /// Takes an event back and hands out what it would have done: a waker may run destructors of the program, so it is
    /// dropped where nothing is borrowed. `None` if it happened already or was cancelled before.
    pub fn take(&mut self, id: EventId) -> Option<Due> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation != id.generation || slot.place == FREE {
            return None;
        }
        if slot.place != IN_HEAP {
            self.unlink(id.index);
        }
        self.release(id.index)
    }

    /// Changes whom a waiting event wakes, and hands the old waker out; the new one if it happened already.
    pub fn rewake(&mut self, id: EventId, waker: Waker) -> Result<Waker, Waker> {
        match self.slots.get_mut(id.index as usize) {
            Some(slot) if slot.generation == id.generation && slot.place != FREE => match &mut slot.due {
                Some(Due::Wake(old)) => Ok(std::mem::replace(old, waker)),
                _ => unreachable!("only timers are woken"),
            },
            _ => Err(waker),
        }
    }

    /// When the next event is due.
    pub fn next_at(&mut self) -> Option<Instant> {
        loop {
            while let Some(Reverse((at, _, index, generation))) = self.near.peek().copied() {
                if self.slots[index as usize].generation == generation {
                    return Some(Instant(at));
                }
                self.near.pop();
            }
            if !self.advance() {
                return None;
            }
        }
    }

    /// Whether an event is due at `now` or was before.
    #[inline]
    pub fn is_due(&mut self, now: Instant) -> bool {
        // What is not in the heap is later than the tick. Cancelled events on top of it are no later than what is below.
        let later = now.0 >> TICK_BITS <= self.tick && self.near.peek().is_none_or(|Reverse((at, ..))| *at > now.0);
        !later && self.next_at().is_some_and(|at| at <= now)
    }

    /// Takes the next event out.
    pub fn pop(&mut self) -> Option<(Instant, Due)> {
        self.pop_until(Instant::NEVER)?.ok()
    }

    /// Takes the next event out if it is due by `limit`, else says when it is.
    #[inline]
    pub fn pop_until(&mut self, limit: Instant) -> Option<Result<(Instant, Due), Instant>> {
        let next = self.next_at()?;
        if next > limit {
            return Some(Err(next));
        }
        let Reverse((at, _, index, _)) = self.near.pop()?;
        let due = self.release(index).expect("an event in the queue has something to do");
        Some(Ok((Instant(at), due)))
    }

    /// Forgets everything, keeps the memory. What would have happened is handed out, to be dropped where nothing is
    /// borrowed.
    #[must_use = "wakers may run destructors of the program: drop them where nothing is borrowed"]
    pub fn clear(&mut self) -> Vec<Due> {
        let left = self.slots.drain(..).filter_map(|slot| slot.due).collect();
        self.free.clear();
        self.near.clear();
        for level in 0..LEVELS {
            while self.occupied[level] != 0 {
                let s = self.occupied[level].trailing_zeros() as usize;
                self.heads[level * 64 + s] = NIL;
                self.occupied[level] &= self.occupied[level] - 1;
            }
        }
        (self.tick, self.len) = (0, 0);
        left
    }

    fn release(&mut self, index: u32) -> Option<Due> {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.place = FREE;
        self.free.push(index);
        self.len -= 1;
        slot.due.take()
    }

    /// Puts a slot where its time says: the heap, or the list of the highest digit in which it differs from now.
    fn file(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let tick = slot.at >> TICK_BITS;
        if tick <= self.tick {
            slot.place = IN_HEAP;
            self.near.push(Reverse((slot.at, slot.sequence, index, slot.generation)));
            return;
        }
        let level = (63 - (tick ^ self.tick).leading_zeros() as usize) / 6;
        let digit = (tick >> (6 * level)) as usize & 63;
        let place = level * 64 + digit;
        slot.place = place as u16;
        slot.prev = NIL;
        slot.next = self.heads[place];
        let next = slot.next;
        if next != NIL {
            self.slots[next as usize].prev = index;
        }
        self.heads[place] = index;
        self.occupied[level] |= 1 << digit;
    }

    fn unlink(&mut self, index: u32) {
        let Slot { prev, next, place, .. } = self.slots[index as usize];
        if next != NIL {
            self.slots[next as usize].prev = prev;
        }
        if prev != NIL {
            self.slots[prev as usize].next = next;
        } else {
            self.heads[place as usize] = next;
            if next == NIL {
                self.occupied[place as usize / 64] &= !(1 << (place % 64));
            }
        }
    }

    /// Moves the tick to the next occupied slot and brings its events nearer. False if there is none.
    fn advance(&mut self) -> bool {
        let digit = |tick: u64, level: usize| (tick >> (6 * level)) & 63;
        // Everything in the wheel is later than `tick`, so at its level only greater digits can be occupied.
        let later = |level: usize| self.occupied[level] & (u64::MAX << digit(self.tick, level));
        let Some(level) = (0..LEVELS).find(|l| later(*l) != 0) else { return false };
        let next = later(level).trailing_zeros() as u64;
        let low = 6 * level as u32;
        self.tick = (self.tick >> (low + 6)) << (low + 6) | next << low;
        let place = level * 64 + next as usize;
        let mut index = std::mem::replace(&mut self.heads[place], NIL);
        self.occupied[level] &= !(1 << next);
        while index != NIL {
            let following = self.slots[index as usize].next;
            self.file(index);
            index = following;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::mix;

    fn drain(q: &mut EventQueue) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| q.pop())
            .map(|(at, due)| match due {
                Due::Device(_, token) => (at.0, token),
                Due::Wake(_) => unreachable!("only device events were added"),
            })
            .collect()
    }

    #[test]
    fn events_come_by_instant_then_by_order_of_insertion() {
        let mut q = EventQueue::default();
        let mut expected = Vec::new();
        for n in 0..20_000u64 {
            let word = mix(3, 5, n, 0);
            // Every magnitude from nanoseconds to centuries, and many equal instants.
            let at = (word >> (word % 60)) & !7;
            q.insert(Instant(at), Due::Device(DeviceId(0), n));
            expected.push((at, n));
        }
        expected.sort();
        assert_eq!(drain(&mut q), expected);
        assert!(q.is_empty());
    }

    #[test]
    fn a_queue_in_use_agrees_with_a_sorted_list() {
        let mut q = EventQueue::default();
        let mut model: Vec<(u64, u64, EventId)> = Vec::new();
        let mut now = 0;
        for n in 0..50_000u64 {
            let word = mix(11, 17, n, 0);
            match word % 4 {
                0 | 1 => {
                    let at = now + ((word >> 8) >> (word % 56));
                    let id = q.insert(Instant(at), Due::Device(DeviceId(0), n));
                    model.push((at, n, id));
                }
                2 if !model.is_empty() => {
                    let (_, _, id) = model.swap_remove((word >> 32) as usize % model.len());
                    assert!(q.cancel(id));
                    assert!(!q.cancel(id), "an event can be cancelled once");
                }
                _ => {
                    let first = (0..model.len()).min_by_key(|i| (model[*i].0, model[*i].1));
                    let expected = first.map(|i| model.swap_remove(i)).map(|(at, n, _)| (at, n));
                    let got = q.pop().map(|(at, due)| match due {
                        Due::Device(_, token) => (at.0, token),
                        Due::Wake(_) => unreachable!("only device events were added"),
                    });
                    assert_eq!(got, expected);
                    now = got.map_or(now, |(at, _)| at);
                }
            }
            assert_eq!(q.len(), model.len());
        }
    }

    #[test]
    fn an_event_inserted_before_an_already_seen_deadline_still_comes_first() {
        let mut q = EventQueue::default();
        q.insert(Instant(10_000_000_000), Due::Device(DeviceId(0), 1));
        assert_eq!(q.next_at(), Some(Instant(10_000_000_000)));
        q.insert(Instant(5), Due::Device(DeviceId(0), 2));
        assert_eq!(drain(&mut q), [(5, 2), (10_000_000_000, 1)]);
    }
}
