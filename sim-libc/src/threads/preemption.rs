//! Where a worker of a runtime may lose its processor in the midst of a poll, as threads do on a real system.
//!
//! Absent: threads that no such runtime made, and what lies between two points: they lose it only where they wait.

use sim_core::World;
use std::cell::Cell;

/// A poll asks at most this often whether its worker loses its processor, as a power of two. tokio's own budget is 128.
const POINTS_BITS: u32 = 8;

/// Where a poll has come to that can be preempted.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// The task's; 0 where no such poll is under way.
    key: u64,
    /// The ordinal of the next question. Holds of the same task count from 0, these from 2^31, with a stretch for each poll.
    n: u32,
}

thread_local! {
    static POINT: Cell<Point> = const { Cell::new(Point { key: 0, n: 0 }) };
}

/// While this lives, its thread is a worker that polls a task, and others may poll other tasks of the same runtime meanwhile.
#[must_use = "the poll it stands for ends when this is dropped"]
#[derive(Debug)]
pub struct Preemptible {
    before: Point,
}

impl Preemptible {
    /// The `poll`th poll of the task of this key begins; of a task without a key, none that can be preempted.
    #[inline]
    pub fn begin(key: u64, poll: u32) -> Preemptible {
        let first = (1 << 31) | (poll << POINTS_BITS & !(1 << 31));
        Preemptible { before: POINT.replace(Point { key, n: first }) }
    }
}

impl Drop for Preemptible {
    #[inline]
    fn drop(&mut self) {
        POINT.set(self.before);
    }
}

/// Where locks, channels, semaphores and sockets begin: a worker may lose its processor here, so that what a task checks in one
/// step and does in the next can come apart within one poll. On a runtime of one thread no other task could act meanwhile.
#[inline]
pub fn preemption_point() {
    let point = POINT.get();
    if point.key != 0 {
        preempt(point);
    }
}

#[cold]
fn preempt(Point { key, n }: Point) {
    let last = (1 << POINTS_BITS) - 1;
    if let Some(world) = World::current().filter(|_| n & last != last) {
        POINT.set(Point { key, n: n + 1 });
        world.hold_thread(world.ask_preemption(key, n, world.acting_node()));
    }
}
