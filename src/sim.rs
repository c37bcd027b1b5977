//! What a test holds: the run ([`Sim`]) and its machines ([`Node`]).

use crate::drop_in::on_machine;
use crate::plan::{Fault, Plan, PlanState};
use sim_core::time::Timer;
use sim_core::{Death, JoinError, JoinHandle, NodeId, Spawn, World, node, program};
use sim_disk::Disk;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// So many seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// So many milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The run that is going on. A handle: copy it freely.
///
/// The body of a test stands outside the machines: it has no address and no fault strikes it. It makes nodes, starts
/// programs on them, plans trouble, and judges what came of it.
#[derive(Clone, Copy, Debug)]
pub struct Sim {
    _made_inside_a_run: (),
}

impl Sim {
    /// The run of this thread.
    ///
    /// # Panics
    /// Outside a run.
    #[track_caller]
    pub fn current() -> Sim {
        world();
        Sim { _made_inside_a_run: () }
    }

    /// The machine of this name; made, with an address and a disk, when it is first asked for.
    pub fn node(&self, name: impl AsRef<str>) -> Node {
        Node { id: world().node(name.as_ref()) }
    }

    /// All machines, in the order they were made.
    pub fn nodes(&self) -> Vec<Node> {
        world().node_ids().into_iter().map(|id| Node { id }).collect()
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        world().seed()
    }

    /// Virtual time since the run began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(world().now().as_nanos())
    }

    /// Waits for `d` of virtual time.
    pub async fn sleep(&self, d: Duration) {
        Timer::new(world().now() + d).await
    }

    /// Lets the faults of `plan` happen from now on. The nodes that a swarm strikes are those that run a program now.
    ///
    /// # Panics
    /// If the plan names a node that does not exist.
    #[track_caller]
    pub fn plan(&self, plan: Plan) {
        plan.begin(world());
    }

    /// Lets one fault happen now, for as long as it says.
    ///
    /// # Panics
    /// If it names a node that does not exist.
    #[track_caller]
    pub fn inject(&self, fault: Fault) {
        self.plan(Plan::new().at(Duration::ZERO, fault));
    }

    /// Waits until all planned faults are over and everything that broke is mended: links open, nodes started again.
    pub async fn healed(&self) {
        let state = world().extension::<PlanState>();
        state.healed().await
    }

    /// Whether a fault is active now.
    pub fn in_trouble(&self) -> bool {
        world().extension::<PlanState>().active() > 0
    }

    /// The names under which the strikes of the planned faults are counted (the keys of
    /// [`Outcome::fired`](sim_core::Outcome)). One that is planned and never strikes over a sweep tests nothing.
    pub fn planned(&self) -> std::collections::BTreeSet<&'static str> {
        world().extension::<PlanState>().planned()
    }

    /// From when to when at least one fault was active, as far as that is over.
    pub fn trouble(&self) -> Vec<(Duration, Duration)> {
        let since_start = |at: sim_core::Instant| Duration::from_nanos(at.as_nanos());
        let spans = world().extension::<PlanState>().trouble();
        spans.into_iter().map(|(from, to)| (since_start(from), since_start(to))).collect()
    }

    /// Ends the run with the verdict *check failed* unless `holds`. The name identifies the failure across seeds.
    #[track_caller]
    pub fn check(&self, name: &str, holds: bool, found: impl FnOnce() -> String) {
        if !holds {
            world().note_panic(std::panic::Location::caller());
            let failure = sim_core::CheckFailure { check: name.to_owned(), message: found() };
            std::panic::resume_unwind(Box::new(failure));
        }
    }

    /// Spawns a future that stands outside the machines, like the test itself.
    #[track_caller]
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        let world = world();
        world.spawn_in(world.node_group(NodeId::OUTSIDE), None, future, Spawn::of::<F>())
    }

    /// Adds a line to the trace of the run.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let world = world();
        world.event(world.acting_node(), "note", text);
    }

    /// Gives the simulated network to `f`, to set links by hand.
    pub fn net<R>(&self, f: impl FnOnce(&mut sim_net::Net, &mut sim_core::DeviceCx<'_>) -> R) -> R {
        world().with_device(f)
    }

    /// Gives the simulated disks to `f`, to set their faults by hand.
    pub fn disk<R>(&self, f: impl FnOnce(&mut Disk, &mut sim_core::DeviceCx<'_>) -> R) -> R {
        world().with_device(f)
    }

    /// A number below `bound` that the seed chooses; 0 in the calm run. `key` names the question: the same key gives the
    /// same sequence of answers whatever else the test asks.
    pub fn choose(&self, key: &str, n: u32, bound: u64) -> u64 {
        let world = world();
        let key_hash = sim_core::hash::text(key);
        world.with_choices(|c| c.name_key(key_hash, || key.to_owned()));
        world.ask(sim_core::choices::Stream::APP, key_hash, n, sim_core::choices::Law::Below(bound), "choice")
    }
}

#[track_caller]
pub(crate) fn world() -> &'static World {
    match World::current() {
        Some(world) => world,
        None => panic!("no simulated run is going on here: call this from a #[sim::test] or inside sim::run"),
    }
}

/// One machine: a name, an address, a clock and a disk of its own. A handle: copy it freely.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Node {
    id: NodeId,
}

impl Node {
    /// The machine's name.
    pub fn name(&self) -> String {
        world().node_name(self.id)
    }

    /// The number that the core knows it by.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Runs what `make` returns as the program of this machine, now and at every restart. When it returns, the process
    /// has ended; an error it returns is noted in the trace. When it panics, the run fails.
    ///
    /// # Panics
    /// If the machine runs a program already.
    #[track_caller]
    pub fn start<F, Fut>(&self, make: F) -> &Node
    where
        F: Fn() -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Ending,
    {
        self.launch(make, None)
    }

    /// As [`start`](Self::start), and starts the program again `delay` after it has ended by itself, as a supervisor does.
    #[track_caller]
    pub fn start_supervised<F, Fut>(&self, delay: Duration, make: F) -> &Node
    where
        F: Fn() -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Ending,
    {
        self.launch(make, Some(delay))
    }

    #[track_caller]
    fn launch<F, Fut>(&self, make: F, restart_after: Option<Duration>) -> &Node
    where
        F: Fn() -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: Ending,
    {
        let id = self.id;
        let spawn = Spawn::of::<Fut>();
        let make = move || {
            let program = make();
            on_machine(async move {
                if let Err(error) = program.await.ending() {
                    world().event(id, "node.error", || error);
                }
                if let Some(delay) = restart_after {
                    supervise(id, delay);
                }
            })
        };
        world().start(id, program(make), spawn);
        self
    }

    /// Runs `future` on this machine beside its program, as a client would. Await it for the output.
    #[track_caller]
    pub fn run<F>(&self, future: F) -> Run<F::Output>
    where
        F: Future + 'static,
    {
        let world = world();
        Run {
            node: self.id,
            handle: world.spawn_in(world.node_group(self.id), None, on_machine(future), Spawn::of::<F>()),
        }
    }

    /// Asks the program to end (as Ctrl-C does) and waits until it has, for `patience` at most; then kills it.
    pub async fn stop(&self, patience: Duration) {
        let world = world();
        world.send_ctrl_c(self.id);
        let deadline = world.now() + patience;
        while self.is_running() && world.now() < deadline {
            Sim::current().sleep(millis(1)).await;
        }
        world.end_node(self.id, Death::Kill);
    }

    /// kill -9: the process dies without a last word, its kernel closes the sockets, the page cache stays.
    pub fn kill(&self) {
        world().end_node(self.id, Death::Kill);
    }

    /// Waits until the programs of this machine have begun `count` more operations on its disk: the last of them is under way
    /// then. Asked from outside the machines, as the body of a test does, nothing comes between: a power loss that follows
    /// strikes within that operation. (Where a machine's own thread makes the call inside a poll, as with `std::fs` in an async
    /// function, it has taken effect by then.)
    ///
    /// Operations are what programs wait for: an open, a read, a write, a sync, a rename and so on, of all incarnations. If they
    /// begin fewer, this waits forever.
    pub async fn disk_operations(&self, count: u64) {
        disk_operations(self.id, count).await;
    }

    /// The machine falls silent and loses what its disk had not made durable, also if its program has ended before. Peers hear
    /// nothing; once it is on again, old connections are reset.
    pub fn power_off(&self) {
        world().end_node(self.id, Death::PowerOff);
    }

    /// Starts the program of a dead machine again. Does nothing if it runs.
    ///
    /// # Panics
    /// If the machine was never started.
    #[track_caller]
    pub fn restart(&self) {
        world().restart(self.id);
    }

    /// The program stands still (SIGSTOP): timers and packets come, nobody looks at them.
    pub fn pause(&self) {
        world().pause(self.id);
    }

    /// A paused program goes on.
    pub fn resume(&self) {
        world().resume(self.id);
    }

    /// Delivers Ctrl-C.
    pub fn ctrl_c(&self) {
        world().send_ctrl_c(self.id);
    }

    /// Puts the wall clock forward, or back if `backwards`. The monotonic clock is never touched.
    pub fn bump_clock(&self, by: Duration, backwards: bool) {
        let ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        world().bump_clock(self.id, if backwards { -ns } else { ns });
    }

    /// Lets the wall clock gain `ppm` millionths from now on; negative for a slow one.
    pub fn drift_clock(&self, ppm: i32) {
        world().drift_clock(self.id, ppm);
    }

    /// Whether its program runs, or stands still.
    pub fn is_running(&self) -> bool {
        matches!(world().node_state(self.id), node::State::Running | node::State::Paused)
    }

    /// How often it was started.
    pub fn incarnation(&self) -> u32 {
        world().incarnation(self.id)
    }
}

/// Until the programs of a node have begun `count` more operations on its disk.
pub(crate) async fn disk_operations(id: NodeId, count: u64) {
    let world = world();
    let last = world.with_device(|disk: &mut Disk, _| disk.operations(id)) + count;
    poll_fn(|cx| match world.with_device(|disk: &mut Disk, _| disk.await_operation(id, last, cx.waker())) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Starts the program of `id` again after `delay`, unless somebody else did.
fn supervise(id: NodeId, delay: Duration) {
    let world = world();
    let ended = world.incarnation(id);
    let again = async move {
        Timer::new(world.now() + delay).await;
        // Somebody who started it in the meantime has also a say in when it is down again.
        if world.incarnation(id) == ended {
            world.restart(id);
        }
    };
    let outside = world.node_group(NodeId::OUTSIDE);
    let _detached = world.spawn_in(outside, None, again, Spawn::named("supervisor"));
}

/// What a program may return.
pub trait Ending {
    /// The error in words, if it is one.
    fn ending(self) -> Result<(), String>;
}

impl Ending for () {
    fn ending(self) -> Result<(), String> {
        Ok(())
    }
}

impl<T: Ending, E: Debug> Ending for Result<T, E> {
    fn ending(self) -> Result<(), String> {
        match self {
            Ok(value) => value.ending(),
            Err(error) => Err(format!("{error:?}")),
        }
    }
}

impl Ending for std::convert::Infallible {
    fn ending(self) -> Result<(), String> {
        match self {}
    }
}

use never::Never;

/// What a function that never returns returns: the output of `async { loop { … } }`. The stable language names it only
/// in a function's type, so it is taken from one.
mod never {
    pub trait Returning {
        type Output;
    }

    impl<T> Returning for fn() -> T {
        type Output = T;
    }

    pub type Never = <fn() -> ! as Returning>::Output;
}

impl Ending for Never {
    fn ending(self) -> Result<(), String> {
        self
    }
}

/// A future that runs on a machine. Dropping it lets the future go on.
#[must_use = "await it for the output; dropping it lets the future go on unwatched"]
#[derive(Debug)]
pub struct Run<T> {
    node: NodeId,
    handle: JoinHandle<T>,
}

impl<T> Run<T> {
    /// The output, or how the future ended without one: cancelled if the machine died.
    pub async fn outcome(self) -> Result<T, JoinError> {
        self.handle.await
    }
}

impl<T> Future for Run<T> {
    type Output = T;

    /// # Panics
    /// If the future panicked, with its panic; if the machine died before the future was done.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match std::task::ready!(Pin::new(&mut self.handle).poll(cx)) {
            Ok(output) => Poll::Ready(output),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => panic!("node {} died before the future that runs on it was done", world().node_name(self.node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    /// A supervisor started a machine again that somebody else had started, and a fault had put down, in the meantime. So
    /// a power cut that was to last ten seconds lasted three. Now it minds the incarnation whose end it saw, and no other.
    #[test]
    fn a_supervisor_does_not_cut_a_later_fault_short() {
        let ended = Sim::run(1, |sim| async move {
            let first = Rc::new(Cell::new(true));
            let node = sim.node("a");
            node.start_supervised(secs(5), move || {
                let first = first.replace(false);
                async move {
                    if !first {
                        std::future::pending::<()>().await
                    }
                }
            });
            sim.sleep(secs(1)).await;
            node.restart();
            sim.sleep(secs(1)).await;
            node.power_off();
            sim.sleep(secs(8)).await;
            (node.is_running(), node.incarnation())
        });
        assert_eq!(ended.value, Some((false, 2)), "{}", ended.verdict);
    }
}
