//! Tasks that other executors poll inside the run: those of a generated tokio. Each has an identity, and stands in a list until
//! it has ended, so that a deadlock can name it.
//!
//! Absent: what such a task waits for, which only what it polls could tell.

use crate::hash;
use crate::node::GroupId;
use crate::schedule::readable;
use crate::world::World;

/// Most of them that a deadlock names.
const MOST_NAMED: usize = 64;

/// A power of two.
const RECENT: usize = 64;

/// Those that have not ended, in a slab, and how many each maker has made.
pub(crate) struct Guests {
    slots: Vec<Slot>,
    /// The first free slot; each names the next, and the last one [`NONE`].
    free: u32,
    made: u32,
    families: Vec<Family>,
    /// The places of families by their makers.
    places: hash::Map<u64, u32>,
    /// The same for the last maker of each remainder.
    recent: [(u64, u32); RECENT],
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Slot {
    /// 0 if the slot is free.
    key: u64,
    /// The type of its future; empty if it is not listed.
    name: &'static str,
    /// How many were made before it; of a free slot, the next free one.
    ordinal: u32,
    group: GroupId,
}

/// What one maker makes.
struct Family {
    key: u64,
    members: u32,
}

impl Family {
    fn of(maker: u64) -> Family {
        Family { key: hash::key(&[maker, 6]), members: 0 }
    }
}

impl Default for Guests {
    fn default() -> Self {
        Guests {
            slots: Vec::new(),
            free: NONE,
            made: 0,
            families: vec![Family::of(0)],
            places: [(0, 0)].into_iter().collect(),
            recent: [(0, 0); RECENT],
        }
    }
}

impl Guests {
    /// The key of a new one, and how many this maker made before it.
    #[inline]
    fn next_of(&mut self, maker: u64) -> (u64, u32) {
        let (recent, place) = self.recent[maker as usize % RECENT];
        let place = if recent == maker { place } else { self.look_up(maker) };
        let family = &mut self.families[place as usize];
        let n = family.members;
        family.members = n.wrapping_add(1);
        (hash::key(&[family.key, n as u64]), n)
    }

    #[cold]
    fn look_up(&mut self, maker: u64) -> u32 {
        let place = *self.places.entry(maker).or_insert_with(|| {
            self.families.push(Family::of(maker));
            self.families.len() as u32 - 1
        });
        self.recent[maker as usize % RECENT] = (maker, place);
        place
    }

    #[inline]
    fn insert(&mut self, key: u64, name: &'static str, group: GroupId) -> u32 {
        let slot = Slot { key, name, ordinal: self.made, group };
        self.made = self.made.wrapping_add(1);
        let at = self.free;
        match self.slots.get_mut(at as usize) {
            Some(free) => {
                self.free = free.ordinal;
                *free = slot;
                at
            }
            None => {
                // At once, not by doubling: the holes that a growing list leaves make every later allocation slower.
                if self.slots.is_empty() {
                    self.slots.reserve(1024);
                }
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    /// A slot of another key is another's by now, or another run's.
    #[inline]
    fn remove(&mut self, at: u32, key: u64) {
        if let Some(slot) = self.slots.get_mut(at as usize).filter(|slot| slot.key == key) {
            (slot.key, slot.ordinal) = (0, self.free);
            self.free = at;
        }
    }
}

impl World {
    /// Whoever acts makes a task for another executor; `future` is the type of what that will poll. Returns the task's stable
    /// identity, and its place for [`guest_ended`](Self::guest_ended). A deadlock names it if it is `listed`: not what is the
    /// executor's own.
    pub fn new_guest(&self, future: &'static str, listed: bool) -> (u64, u32) {
        let actor = self.actor.get();
        // The key of whoever acts tells its machine, too.
        let maker = if actor.key == 0 { self.place_key(actor.node) } else { actor.key };
        let mut guests = self.guests.borrow_mut();
        let (key, n) = guests.next_of(maker);
        let at = guests.insert(key, if listed { future } else { "" }, actor.group);
        drop(guests);
        let name = || format!("tokio task {n} of {} ({})", self.node_name(actor.node), readable(future));
        self.core.borrow_mut().choices.name_key(key, name);
        (key, at)
    }

    /// The task is complete, or cancelled. Does nothing when it is called again.
    #[inline]
    pub fn guest_ended(&self, key: u64, at: u32) {
        self.guests.borrow_mut().remove(at, key);
    }

    /// One line for each that has not ended, the oldest first.
    pub(crate) fn waiting_guests(&self) -> Vec<String> {
        let (guests, groups, nodes) = (self.guests.borrow(), self.groups.borrow(), self.nodes.borrow());
        let of = |slot: &Slot| {
            // A dead machine's are ended by nobody.
            let (node, alive) = groups[slot.group.0 as usize];
            let named = slot.key != 0 && alive && !slot.name.is_empty();
            named.then(|| (slot.ordinal, &nodes[node.0 as usize].name, slot.name))
        };
        let mut found: Vec<_> = guests.slots.iter().filter_map(of).collect();
        found.sort_unstable();
        let line =
            |(_, node, name): &(u32, &String, &str)| format!("{node}: tokio task {} has not ended", readable(name));
        let more = found.len().saturating_sub(MOST_NAMED);
        let more = (more > 0).then(|| format!("and {more} more tokio tasks"));
        found.iter().take(MOST_NAMED).map(line).chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Choices, NodeId, Settings};

    #[test]
    fn who_has_not_ended_is_named_oldest_first_and_no_more_than_a_page_of_them() {
        let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no other World");
        let world = entered.world();
        let (first, at) = world.new_guest("app::first::{{closure}}", true);
        world.new_guest("app::second::{{closure}}", true);
        world.new_guest("a worker", false);
        world.guest_ended(first, at);
        // Takes the place of the first one, which is told again that it has ended.
        world.new_guest("app::third", true);
        world.guest_ended(first, at);
        let line = |name: &str| format!("-: tokio task app::{name} has not ended");
        assert_eq!(world.waiting_guests(), [line("second"), line("third")]);
        (0..MOST_NAMED).for_each(|_| _ = world.new_guest("app::many", true));
        let lines = world.waiting_guests();
        assert_eq!(
            (lines.len(), &lines[1], &*lines[MOST_NAMED]),
            (MOST_NAMED + 1, &line("third"), "and 2 more tokio tasks")
        );
    }

    #[test]
    fn those_of_a_group_that_died_are_not_named() {
        let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no other World");
        let world = entered.world();
        world.new_guest("app::gone", true);
        world.end_group(world.node_group(NodeId::OUTSIDE));
        assert_eq!(world.waiting_guests(), Vec::<String>::new());
    }
}
