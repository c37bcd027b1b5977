//! The tokio runtime of a machine: made when the first of its programs begins, turned by a task of its own, ended with that
//! task when the machine dies.
//!
//! A machine's programs are *residents* of its runtime: they are polled where tokio polls the future of a `block_on`, inside
//! the scheduler, with its budget, before the tasks that are ready. The body of a test stands outside the machines; it is
//! polled by the World and only knows its runtime.

use super::task::{Acting, Tag};
use super::{Ahead, Idle, tokio};
use sim_core::time::Timer;
use sim_core::{GroupId, Instant, Spawn, World, waiting_for};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

/// A tokio that makes runtimes.
pub trait Tokio {
    /// A new runtime of the acting node.
    fn runtime(&self) -> Rc<dyn Runtime>;
}

/// A runtime that is driven from outside.
pub trait Runtime {
    /// Calls `f` with this as the current runtime.
    fn within(&self, f: &mut dyn FnMut());

    /// Runs what is ready until nothing is, or for a while. `residents` is called inside the scheduler, at first and
    /// whenever the waker it was given is woken; it says whether it did anything. Says what the runtime waits for then, if
    /// it does.
    fn turn(&self, residents: &mut dyn FnMut(&mut Context<'_>) -> bool) -> Option<Idle>;

    /// Adds where it lies.
    fn lies(&self, ahead: &mut Ahead);

    /// Ends it and drops its tasks, without waiting for its threads.
    fn shut_down(&self);
}

/// The runtime of one incarnation of a machine, and who lives in it.
struct House {
    runtime: Rc<dyn Runtime>,
    residents: RefCell<Vec<Rc<Resident>>>,
    /// Whether any of them was woken.
    woken: Arc<AtomicBool>,
    /// Of the task that turns it.
    turning: RefCell<Option<Waker>>,
    /// Whether somebody has moved in.
    moved: Cell<bool>,
    /// Whether there are more machines than a cache keeps.
    many: bool,
}

/// From so many machines on, where they lie is noted to be fetched before a turn: each has some 3 KiB that a turn looks at.
const MANY: usize = 128;

/// The houses of the machines' present incarnations.
#[derive(Default)]
struct Houses(RefCell<BTreeMap<GroupId, Rc<House>>>);

impl Houses {
    /// The acting group's, made and set going at first. `None` where there is no tokio, or the group is dead.
    fn of_actor(world: &'static World) -> Option<Rc<House>> {
        let tokio = tokio()?;
        let group = world.acting_group();
        let houses = world.extension::<Houses>();
        if let Some(house) = houses.0.borrow().get(&group) {
            return Some(house.clone());
        }
        if !world.actor_lives() {
            return None;
        }
        let house = Rc::new(House {
            runtime: tokio.runtime(),
            residents: RefCell::default(),
            woken: Arc::default(),
            turning: RefCell::default(),
            moved: Cell::new(true),
            many: houses.0.borrow().len() >= MANY,
        });
        houses.0.borrow_mut().insert(group, house.clone());
        let turning =
            Turning { house: house.clone(), group, until: Instant::NEVER, timer: None, ahead: Ahead::default() };
        let _lives_with_its_group = world.spawn_in(group, None, turning, Spawn::named("tokio runtime"));
        Some(house)
    }
}

impl House {
    fn admit(&self, resident: Rc<Resident>) {
        self.residents.borrow_mut().push(resident);
        self.moved.set(true);
        self.woken.store(true, Relaxed);
        if let Some(turning) = self.turning.borrow().as_ref() {
            turning.wake_by_ref();
        }
    }

    /// Where all of it lies that a turn needs.
    fn lies(&self) -> Ahead {
        let mut ahead = Ahead::default();
        ahead.add(self);
        self.runtime.lies(&mut ahead);
        ahead.add_shared(&self.woken);
        for resident in &*self.residents.borrow() {
            ahead.add(&**resident);
            ahead.add_shared(&resident.woken);
            if let Some(body) = &*resident.body.borrow() {
                ahead.add(&**body);
            }
        }
        ahead
    }

    /// Polls the residents that were woken. Returns whether there were any.
    fn poll_residents(&self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        if !take(&self.woken) {
            return any;
        }
        let mut i = 0;
        loop {
            // One at a time: a resident may admit others, or evict some.
            let Some(resident) = self.residents.borrow().get(i).cloned() else { return any };
            i += 1;
            if !take(&resident.woken.flag) {
                continue;
            }
            any = true;
            let is_done = resident.poll(cx.waker());
            let mut residents = self.residents.borrow_mut();
            if !is_done && residents.get(i - 1).is_some_and(|other| Rc::ptr_eq(other, &resident)) {
                continue;
            }
            let at = residents.iter().position(|other| Rc::ptr_eq(other, &resident));
            if let Some(at) = at.filter(|_| is_done) {
                residents.remove(at);
            }
            i = at.map_or(0, |at| at + usize::from(!is_done));
        }
    }
}

/// Whether it was set. One thread of a run runs at a time: nothing has to be exchanged in one step.
fn take(flag: &AtomicBool) -> bool {
    let set = flag.load(Relaxed);
    if set {
        flag.store(false, Relaxed);
    }
    set
}

/// A program on a machine.
struct Resident {
    tag: Tag,
    woken: Arc<Woken>,
    waker: Waker,
    /// `None` while it is polled, and when it is done.
    body: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    /// Whether nobody waits for it any more.
    evicted: Cell<bool>,
    panic: RefCell<Option<Box<dyn Any + Send>>>,
    /// Who waits for it.
    owner: RefCell<Option<Waker>>,
    done: Cell<bool>,
}

/// Which residents are to be polled.
struct Woken {
    flag: AtomicBool,
    /// That of the house.
    any: Arc<AtomicBool>,
    root: OnceLock<Waker>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Relaxed);
        self.any.store(true, Relaxed);
        if let Some(root) = self.root.get() {
            root.wake_by_ref();
        }
    }
}

impl Resident {
    /// Returns whether it is done.
    fn poll(&self, root: &Waker) -> bool {
        let Some(mut body) = self.body.borrow_mut().take() else { return true };
        self.woken.root.get_or_init(|| root.clone());
        let _acting = Acting::begin(&self.tag);
        let polled = catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(&mut Context::from_waker(&self.waker))));
        match polled {
            Ok(Poll::Pending) if !self.evicted.get() => {
                *self.body.borrow_mut() = Some(body);
                return false;
            }
            Ok(_) => {}
            Err(payload) => *self.panic.borrow_mut() = Some(payload),
        }
        self.done.set(true);
        drop(body);
        if let Some(owner) = self.owner.borrow_mut().take() {
            owner.wake();
        }
        true
    }
}

/// `future` as a program of the machine that it is polled on.
pub(crate) fn on_machine<F: Future + 'static>(future: F) -> OnMachine<F>
where
    F::Output: 'static,
{
    OnMachine { future: Some(Box::pin(future)), living: None }
}

/// A program of a machine. Without a tokio of ours it is polled by the World.
pub(crate) struct OnMachine<F: Future> {
    future: Option<Pin<Box<F>>>,
    living: Option<Living<F::Output>>,
}

struct Living<T> {
    house: Rc<House>,
    resident: Rc<Resident>,
    output: Rc<RefCell<Option<T>>>,
}

impl<F: Future> Unpin for OnMachine<F> {}

impl<F: Future + 'static> Future for OnMachine<F>
where
    F::Output: 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.living.is_none() {
            let Some(house) = World::current().and_then(Houses::of_actor) else {
                let Some(future) = &mut self.future else { unreachable!("a program is not polled after its end") };
                return future.as_mut().poll(cx);
            };
            self.living = self.future.take().map(|future| move_in(house, future));
        }
        let Some(living) = &self.living else { unreachable!("a program is not polled after its end") };
        let resident = &living.resident;
        if !resident.done.get() {
            *resident.owner.borrow_mut() = Some(cx.waker().clone());
            waiting_for("what it does in its tokio runtime");
            return Poll::Pending;
        }
        if let Some(panic) = resident.panic.borrow_mut().take() {
            resume_unwind(panic);
        }
        match living.output.borrow_mut().take() {
            Some(output) => Poll::Ready(output),
            None => Poll::Pending,
        }
    }
}

fn move_in<F: Future + 'static>(house: Rc<House>, future: Pin<Box<F>>) -> Living<F::Output>
where
    F::Output: 'static,
{
    let output = Rc::new(RefCell::new(None));
    let place = output.clone();
    let body = async move {
        let value = future.await;
        *place.borrow_mut() = Some(value);
    };
    let woken = Arc::new(Woken { flag: AtomicBool::new(true), any: house.woken.clone(), root: OnceLock::new() });
    let resident = Rc::new(Resident {
        tag: Tag::new(std::any::type_name::<F>()),
        waker: Waker::from(woken.clone()),
        woken,
        body: RefCell::new(Some(Box::pin(body))),
        evicted: Cell::new(false),
        panic: RefCell::default(),
        owner: RefCell::default(),
        done: Cell::new(false),
    });
    house.admit(resident.clone());
    Living { house, resident, output }
}

impl<F: Future> Drop for OnMachine<F> {
    fn drop(&mut self) {
        let Some(Living { house, resident, output }) = self.living.take() else { return };
        resident.evicted.set(true);
        house.residents.borrow_mut().retain(|other| !Rc::ptr_eq(other, &resident));
        let mut body = resident.body.borrow_mut().take();
        let mut output = output.borrow_mut().take();
        house.runtime.within(&mut || drop((body.take(), output.take())));
    }
}

/// `future`, the body of a test, which stands outside the machines: polled by the World, inside a runtime of its own.
pub(crate) async fn outside<F: Future>(future: F) -> F::Output {
    let house = World::current().and_then(Houses::of_actor);
    let mut future = Box::pin(future);
    let Some(house) = house else { return future.await };
    let output = std::future::poll_fn(|cx| {
        let mut polled = Poll::Pending;
        house.runtime.within(&mut || polled = future.as_mut().poll(cx));
        polled
    })
    .await;
    let mut future = Some(future);
    house.runtime.within(&mut || drop(future.take()));
    output
}

/// The task that turns a machine's runtime: woken when something of it is ready, or its next timer is due.
struct Turning {
    house: Rc<House>,
    group: GroupId,
    /// When the timer wakes it, if there is one.
    until: Instant,
    timer: Option<Timer>,
    /// Where all of it lies that a turn needs.
    ahead: Ahead,
}

impl Future for Turning {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // It was fetched when epoll was told of something, but not for a timer.
        if World::current().is_some_and(|world| this.until <= world.now()) {
            this.ahead.fetch();
        }
        let house = &this.house;
        house.turning.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        let turned = house.runtime.turn(&mut |cx| house.poll_residents(cx));
        let Some(idle) = turned.as_ref().filter(|idle| idle.poll_ready(cx).is_pending()) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        if house.many && house.moved.replace(false) {
            let mut ahead = house.lies();
            ahead.add(this);
            this.ahead = ahead;
            idle.look_ahead(this.ahead.clone());
        }
        let until = idle.until;
        // One that has not fired and is for the same time goes on.
        if until != this.until || World::current().is_some_and(|world| until <= world.now()) {
            (this.until, this.timer) = (until, None);
            if Pin::new(this.timer.insert(Timer::exact(until))).poll(cx).is_ready() {
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
            let taken = world.extension::<Houses>().0.borrow_mut().remove(&self.group);
            drop(taken);
        }
        self.house.runtime.shut_down();
    }
}
