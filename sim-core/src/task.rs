//! Tasks in a slab: where each one is in its life, and the keys its choices are asked under.

use crate::hash;
use crate::join::{Body, Id};
use crate::node::{GroupId, NodeId};
use crate::waker;
use std::panic::Location;
use std::pin::Pin;

/// How a new task is made.
#[derive(Clone, Copy, Debug)]
pub struct Spawn {
    /// What it is called: the type of its future, or a name the user gave.
    pub name: &'static str,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
}

/// One task.
pub(crate) struct Task {
    pub generation: u32,
    pub alive: bool,
    pub queued: bool,
    pub aborted: bool,
    /// Whether it is the program of its node, with which the node's process ends.
    pub program: bool,
    /// How far each wake of a slow task is held; 0 for the others.
    pub slow_hold: u16,
    pub node: NodeId,
    pub group: GroupId,
    /// How many times it was woken: the ordinal of its scheduling choices.
    pub wakes: u32,
    /// Stable identity: parent's key, node, incarnation, name, ordinal of that name in the parent.
    pub key: u64,
    pub body: Option<Pin<Box<dyn Body>>>,
    pub id: Id,
    pub spawn: Spawn,
    /// What it waited for when it was last polled.
    pub waits_for: &'static str,
    /// How many children of each name it has spawned.
    pub children: Vec<(u64, u32)>,
    /// Ordinals of questions asked under its key by others: `select!`, entropy.
    pub selects: u32,
    pub entropy: u32,
    /// Its LocalSet, if it has one: it is only polled while that is open.
    pub gate: Option<u32>,
}

/// All tasks of a World.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: Vec<Task>,
    free: Vec<u32>,
    live: usize,
    generation: u32,
    /// The number of the run: names of other runs' tasks name nobody here.
    world: u16,
}

impl Tasks {
    /// Begins a run of this number.
    pub fn begin(&mut self, world: u16) {
        self.world = world;
    }

    /// A new task in a free slot; returns its packed name.
    pub fn insert(&mut self, make: impl FnOnce(u64) -> Task) -> u64 {
        self.generation = (self.generation + 1) % waker::THREAD;
        let index = self.free.pop().unwrap_or_else(|| {
            assert!(self.slots.len() < 1 << 24, "a World holds at most 16,777,216 tasks at a time");
            self.slots.len() as u32
        });
        let packed = waker::pack(self.world, index, self.generation);
        let task = Task { generation: self.generation, ..make(packed) };
        match self.slots.get_mut(index as usize) {
            Some(slot) => *slot = task,
            None => self.slots.push(task),
        }
        self.live += 1;
        packed
    }

    /// The task, if it still lives.
    #[inline]
    pub fn get(&mut self, packed: u64) -> Option<&mut Task> {
        if waker::world_of(packed) != self.world {
            return None;
        }
        let task = self.slots.get_mut(waker::slot_of(packed))?;
        (task.generation == waker::generation_of(packed) && task.alive).then_some(task)
    }

    /// Frees the slot. The body, if the executor does not hold it, is handed back to be dropped outside any borrow.
    pub fn remove(&mut self, packed: u64) -> Option<Pin<Box<dyn Body>>> {
        let task = self.get(packed)?;
        task.alive = false;
        let body = task.body.take();
        self.free.push(waker::slot_of(packed) as u32);
        self.live -= 1;
        body
    }

    pub fn live(&self) -> usize {
        self.live
    }

    /// Living tasks in order of slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Task)> {
        self.slots.iter().enumerate().filter(|(_, t)| t.alive).map(|(i, t)| (i as u32, t))
    }

    /// Packed names of the living tasks that `which` picks, oldest first.
    pub fn names(&self, which: impl Fn(&Task) -> bool) -> Vec<u64> {
        let mut found: Vec<(Id, u64)> = self
            .iter()
            .filter(|(_, t)| which(t))
            .map(|(i, t)| (t.id, waker::pack(self.world, i, t.generation)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, packed)| packed).collect()
    }

    pub fn clear(&mut self) {
        debug_assert_eq!(self.live, 0);
        self.slots.clear();
        self.free.clear();
    }
}

impl Task {
    /// The ordinal of the next child of this name.
    pub fn next_child(&mut self, name: u64) -> u32 {
        if let Some((_, count)) = self.children.iter_mut().find(|(n, _)| *n == name) {
            *count += 1;
            return *count;
        }
        self.children.push((name, 0));
        0
    }
}

/// Hashes of spawn names, remembered by where the name lies in memory. The address is only a place to look: what is
/// found there is a function of the text.
pub(crate) struct NameHashes([(&'static str, u64); 64]);

impl Default for NameHashes {
    fn default() -> Self {
        NameHashes([("", 0); 64])
    }
}

impl NameHashes {
    /// The name of a spawn for its key: the type of the future, unless that says nothing (a boxed one), then the place in
    /// the source, without the line, which any edit above it moves.
    pub fn of(&mut self, spawn: &Spawn) -> u64 {
        if spawn.name.starts_with("core::pin::Pin<alloc::boxed::Box<dyn") {
            return hash::key(&[hash::text(spawn.location.file()), spawn.location.column() as u64]);
        }
        let entry = &mut self.0[(spawn.name.as_ptr().addr() >> 3) % 64];
        // Equal address and length: the same text.
        if !std::ptr::eq(entry.0, spawn.name) {
            *entry = (spawn.name, hash::text(spawn.name));
        }
        entry.1
    }
}
