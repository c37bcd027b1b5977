//! Where a number of tasks meet before any of them goes on.

use super::watch;
use std::sync::{Mutex, PoisonError};

/// Lets a number of tasks wait for each other, again and again.
///
/// ```
/// use sim_tokio as tokio;
/// use std::sync::Arc;
/// use tokio::sync::Barrier;
///
/// tokio::runtime::Runtime::new().unwrap().block_on(async {
///     let barrier = Arc::new(Barrier::new(2));
///     let other = tokio::spawn({
///         let barrier = barrier.clone();
///         async move { barrier.wait().await.is_leader() }
///     });
///     let me = barrier.wait().await.is_leader();
///     assert_ne!(me, other.await.unwrap(), "one of them leads");
/// });
/// ```
///
/// # Simulation
/// Tokio's waits in its `watch`, and so does this one in [ours](super::watch): the order in which it wakes is the order in
/// which tasks began to wait.
#[derive(Debug)]
pub struct Barrier {
    state: Mutex<State>,
    /// Has never seen a value; each that waits clones it.
    passed: watch::Receiver<usize>,
    n: usize,
}

#[derive(Debug)]
struct State {
    /// The last generation that is complete.
    pass: watch::Sender<usize>,
    arrived: usize,
    generation: usize,
}

/// Tells the one leader of a generation from the others.
#[derive(Debug, Clone)]
pub struct BarrierWaitResult(bool);

impl Barrier {
    /// A barrier that opens when `n` wait. Zero behaves as one, as in `std`.
    pub fn new(n: usize) -> Barrier {
        let (pass, passed) = watch::channel(0);
        Barrier { state: Mutex::new(State { pass, arrived: 0, generation: 1 }), passed, n: n.max(1) }
    }

    /// Waits until `n` tasks have arrived; the last of them is the leader.
    ///
    /// # Cancel safety
    /// Not cancel safe: who was counted stays counted.
    pub async fn wait(&self) -> BarrierWaitResult {
        let generation = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.arrived += 1;
            if state.arrived == self.n {
                // Still under the lock, so that generations are announced in their order.
                state.pass.send_replace(state.generation);
                state.arrived = 0;
                state.generation += 1;
                return BarrierWaitResult(true);
            }
            state.generation
        };
        let mut passed = self.passed.clone();
        // It cannot close while `self`, which holds its sender, is borrowed.
        let _ = passed.wait_for(|&last| last >= generation).await;
        BarrierWaitResult(false)
    }
}

impl BarrierWaitResult {
    /// Whether this was the task that opened the barrier.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
