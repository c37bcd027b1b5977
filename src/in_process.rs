//! A run in this very process, without the hermetic one around it: for benches, for property tests that bring their own
//! inputs, for the `Runtime` of a plain `#[test]`.

use crate::drop_in::outside;
use crate::run::{Observe, begin};
use crate::sim::Sim;
use sim_core::{Choices, Entered, Nested, NodeId, Outcome, Settings, Spawn, Verdict, World};
use std::future::Future;
use std::sync::Once;

/// How a run in this process ended.
#[derive(Clone, Debug)]
pub struct Ended<T> {
    /// The verdict.
    pub verdict: Verdict,
    /// Digest, virtual time, counts.
    pub outcome: Outcome,
    /// What the body returned, if it did.
    pub value: Option<T>,
}

/// Makes this thread run a World with a network and disks until the guard is dropped.
pub fn enter(settings: Settings, choices: Choices) -> Result<Entered, Nested> {
    let entered = World::enter(settings, choices)?;
    entered.world().plug(crate::drop_in::net());
    entered.world().plug(crate::drop_in::disk());
    hook_panics();
    Ok(entered)
}

/// Lets a panic inside a run note its place for the verdict, before the hook that was there.
fn hook_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let (Some(world), Some(location)) = (World::current(), info.location()) {
                world.note_panic(location);
            }
            before(info)
        }));
    });
}

impl Sim {
    /// Runs `body` once, in this process, under `seed`, outside the machines of a new World.
    ///
    /// # Simulation
    /// What a process keeps between runs (statics, the hash keys that std caches per thread, the heap) is the same for a
    /// seed only if the process did the same before. `#[sim::test]` gives each seed a process of its own; this is the
    /// way where that is not wanted.
    ///
    /// # Panics
    /// Inside another run.
    ///
    /// ```
    /// use sim::{Sim, secs};
    ///
    /// let ended = Sim::run(7, |sim| async move { sim.sleep(secs(60)).await });
    /// assert!(ended.verdict.passed());
    /// assert_eq!(ended.outcome.now.as_nanos(), 60_000_000_000);
    /// ```
    #[track_caller]
    pub fn run<F, Fut>(seed: u64, body: F) -> Ended<Fut::Output>
    where
        F: FnOnce(Sim) -> Fut,
        Fut: Future,
    {
        Sim::run_with(Settings::default(), Choices::seeded(seed), body)
    }

    /// As [`run`](Self::run), with these limits and these choices.
    ///
    /// # Panics
    /// Inside another run.
    #[track_caller]
    pub fn run_with<F, Fut>(settings: Settings, choices: Choices, body: F) -> Ended<Fut::Output>
    where
        F: FnOnce(Sim) -> Fut,
        Fut: Future,
    {
        let begun = begin(settings, choices, Observe::default());
        let world = begun.world();
        let body = outside(async { body(Sim::current()).await });
        let result = world.block_on(NodeId::OUTSIDE, body, Spawn::named("test"));
        let outcome = world.outcome();
        match result {
            Ok(value) => Ended { verdict: Verdict::Passed, outcome, value: Some(value) },
            Err(verdict) => Ended { verdict, outcome, value: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    /// A future that nobody finishes is dropped when the run ends. Its destructors closed descriptors of the kernel's, under
    /// the numbers of the run's, and read the real clock: libc had stopped to answer from the World.
    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
    fn destructors_at_the_end_of_a_run_still_ask_the_world() {
        struct Last(Rc<Cell<Option<Duration>>>, Instant);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.set(Some(self.1.elapsed()));
            }
        }
        let lasted = Rc::new(Cell::new(None));
        let noted = lasted.clone();
        let ended = Sim::run(7, |sim| async move {
            let _nobody_waits = sim.node("kv0").run(async move {
                let _last = Last(noted, Instant::now());
                std::future::pending::<()>().await
            });
            sim.sleep(Duration::from_secs(3600)).await;
        });
        assert!(ended.verdict.passed(), "{}", ended.verdict);
        assert_eq!(lasted.get(), Some(Duration::from_secs(3600)));
    }
}
