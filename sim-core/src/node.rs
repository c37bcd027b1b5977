//! Machines: names, incarnations, whether they run, and how far their wall clocks are off.

use crate::device::Death;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// Which machine of the World.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// Not a machine: where the body of a test stands. It has no address and no fault strikes it.
    pub const OUTSIDE: NodeId = NodeId(0);
}

/// Tasks that live and die together: one incarnation of a node, or one tokio `Runtime` of a plain test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct GroupId(pub u32);

/// What a node is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its programs have not been started yet; what is run on it runs.
    New,
    /// Its programs run.
    Running,
    /// Its programs stand still; its kernel goes on acknowledging packets.
    Paused,
    /// Its programs have ended.
    Dead(Death),
}

/// Makes the future that a node runs from its start on.
pub type Factory = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

pub(crate) struct Node {
    pub name: String,
    pub state: State,
    /// How often it was started.
    pub incarnation: u32,
    /// The tasks of the present incarnation.
    pub group: GroupId,
    pub factory: Option<Factory>,
    pub clock: Skew,
    /// Wakes that came while it was paused, in order.
    pub parked: Vec<u64>,
}

/// How a node's wall clock differs from the World's. The monotonic clock is never touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Skew {
    /// Added to the wall clock, ns.
    pub offset_ns: i64,
    /// Gained per second of the World, in millionths; negative if it loses time.
    pub drift_ppm: i32,
    /// When the drift began, ns of the World.
    pub drift_since_ns: u64,
}

impl Skew {
    /// What the wall clock is ahead of the World's, ns.
    pub fn ahead_ns(&self, now_ns: u64) -> i64 {
        let elapsed = now_ns.saturating_sub(self.drift_since_ns) as i128;
        (self.offset_ns as i128 + elapsed * self.drift_ppm as i128 / 1_000_000) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_adds_up_from_its_beginning() {
        let skew = Skew { offset_ns: -5, drift_ppm: 200, drift_since_ns: 1_000_000_000 };
        assert_eq!(skew.ahead_ns(1_000_000_000), -5);
        assert_eq!(skew.ahead_ns(11_000_000_000), 2_000_000 - 5);
    }
}
