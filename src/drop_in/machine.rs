//! The tokio runtime of a machine: made when the first of its programs is polled, turned by a task of its own, ended with
//! that task when the machine dies.

use super::{Idle, tokio};
use pin_project::{pin_project, pinned_drop};
use sim_core::time::Timer;
use sim_core::{GroupId, Spawn, World, waiting_for};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A tokio that makes runtimes.
pub trait Tokio {
    /// A new runtime of the acting node.
    fn runtime(&self) -> Rc<dyn Runtime>;
}

/// A runtime that is driven from outside.
pub trait Runtime {
    /// Calls `f` with this as the current runtime.
    fn within(&self, f: &mut dyn FnMut());

    /// Runs what is ready until nothing is, or for a while. Says what it waits for then, if it does.
    fn turn(&self) -> Option<Idle>;

    /// Ends it and drops its tasks, without waiting for its threads.
    fn shut_down(&self);
}

/// The runtimes of the machines' present incarnations.
#[derive(Default)]
struct Runtimes(RefCell<BTreeMap<GroupId, Rc<dyn Runtime>>>);

impl Runtimes {
    /// The acting group's, made and set going at first.
    fn of_actor(world: &'static World) -> Option<Rc<dyn Runtime>> {
        let tokio = tokio()?;
        let group = world.acting_group();
        let runtimes = world.extension::<Runtimes>();
        if let Some(runtime) = runtimes.0.borrow().get(&group) {
            return Some(runtime.clone());
        }
        if !world.actor_lives() {
            return None;
        }
        let runtime = tokio.runtime();
        runtimes.0.borrow_mut().insert(group, runtime.clone());
        let turning = Turning { runtime: runtime.clone(), group, timer: None };
        let _lives_with_its_group = world.spawn_in(group, None, turning, Spawn::named("tokio runtime"));
        Some(runtime)
    }
}

/// `future`, polled and dropped inside the runtime of the machine that it runs on, if this process has such runtimes.
pub(crate) fn on_machine<F: Future>(future: F) -> OnMachine<F> {
    match tokio() {
        None => OnMachine::Plain(future),
        Some(_) => OnMachine::Inside { future: Some(Box::pin(future)), runtime: None },
    }
}

#[pin_project(PinnedDrop, project = Projected)]
pub(crate) enum OnMachine<F> {
    Plain(#[pin] F),
    Inside { future: Option<Pin<Box<F>>>, runtime: Option<Rc<dyn Runtime>> },
}

impl<F: Future> Future for OnMachine<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (future, runtime) = match self.project() {
            Projected::Plain(future) => return future.poll(cx),
            Projected::Inside { future, runtime } => (future, runtime),
        };
        let Some(inner) = future else { unreachable!("a future is not polled after it was done") };
        if runtime.is_none() {
            *runtime = World::current().and_then(Runtimes::of_actor);
        }
        let Some(runtime) = runtime else { return inner.as_mut().poll(cx) };
        let mut polled = Poll::Pending;
        runtime.within(&mut || polled = inner.as_mut().poll(cx));
        if polled.is_ready() {
            runtime.within(&mut || drop(future.take()));
        }
        polled
    }
}

#[pinned_drop]
impl<F> PinnedDrop for OnMachine<F> {
    fn drop(self: Pin<&mut Self>) {
        if let Projected::Inside { future, runtime: Some(runtime) } = self.project() {
            runtime.within(&mut || drop(future.take()));
        }
    }
}

/// The task that turns a machine's runtime: woken when something of it is ready, or its next timer is due.
struct Turning {
    runtime: Rc<dyn Runtime>,
    group: GroupId,
    timer: Option<Timer>,
}

impl Future for Turning {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.timer = None;
        let Some(idle) = self.runtime.turn().filter(|idle| idle.poll_ready(cx).is_pending()) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if let Some(until) = idle.until {
            let timer = self.timer.insert(Timer::exact(until));
            if Pin::new(timer).poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        waiting_for("something of its tokio runtime: a socket, a timer, a wake");
        Poll::Pending
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        if let Some(world) = World::current() {
            let taken = world.extension::<Runtimes>().0.borrow_mut().remove(&self.group);
            drop(taken);
        }
        self.runtime.shut_down();
    }
}
