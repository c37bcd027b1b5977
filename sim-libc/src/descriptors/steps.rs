//! One step of a runtime that is turned from outside: its loop runs until it would wait, and says for what.
//!
//! tokio waits in one of two ways: by epoll, where it has an I/O driver, or else parked on a condition variable.

use super::epoll::{self, Epoll};
use super::{Descriptors, Id};
use sim_core::{Instant, World};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

thread_local! {
    /// Set while this thread runs a step.
    static STEPPING: Cell<Option<*const Stepping<'static>>> = const { Cell::new(None) };
}

/// What a runtime waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waited {
    /// That this epoll object has something to tell.
    Epoll(Id),
    /// To be unparked where it parks, by address.
    Unpark(usize),
}

/// Where a runtime would have waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idle {
    waits_for: Waited,
    /// And until when; `None` for ever.
    pub until: Option<Instant>,
}

/// What steps of one runtime have in common.
#[derive(Debug, Default)]
pub struct Steps {
    /// Its epoll object, once it has waited for one.
    epoll: Cell<Option<Id>>,
}

struct Stepping<'a> {
    on_idle: RefCell<&'a mut dyn FnMut()>,
    steps: &'a Steps,
    /// Who acts where no task of the runtime does.
    turner: u64,
    idle: Cell<Option<Idle>>,
    /// Whether it has looked, without waiting, once.
    looked: Cell<bool>,
    /// Whether its last wait found nothing and would have lasted.
    waits: Cell<bool>,
    /// When its runtime last began to work.
    busy_since: Cell<Instant>,
}

impl Stepping<'_> {
    /// The runtime has nothing to do, unless it only looks, for the first time: it does so before it lets its due timers
    /// fire, and what they wake belongs to the same step.
    fn found_nothing(&self, waits_for: Waited, timeout: Option<Duration>, until: Option<Instant>) {
        self.waits.set(timeout != Some(Duration::ZERO));
        if !self.waits.get() && !self.looked.replace(true) {
            return;
        }
        self.idle.set(Some(Idle { waits_for, until }));
        if let Ok(mut on_idle) = self.on_idle.try_borrow_mut() {
            on_idle();
        }
    }

    /// Whether the runtime itself acts. A program may wait too, inside one of its polls: that is no wait of the runtime.
    fn is_at_work(&self, world: &World) -> bool {
        self.turner == world.acting_key()
    }
}

/// Whether this thread runs a step of a runtime.
#[inline]
pub fn is_stepped() -> bool {
    STEPPING.get().is_some()
}

/// The step that this thread runs.
#[inline]
fn stepping() -> Option<&'static Stepping<'static>> {
    // SAFETY: the pointer is set while `step` runs on this thread, below the frame that owns it, and no caller keeps what it
    // is given.
    STEPPING.get().map(|stepping| unsafe { &*stepping })
}

/// Runs a runtime's loop until it has nothing to do, or has done enough for now. While `run` runs, a wait of the runtime's that
/// finds nothing ready returns at once; before that it calls `on_idle`, which has to make `run` return. A
/// runtime that only looks and does not wait (a timeout of zero) has had its turn when it does so again: then `until` is now.
/// Returns where the last such wait was, or `None` if there was none.
pub fn step(steps: &Steps, run: impl FnOnce(), mut on_idle: impl FnMut()) -> Option<Idle> {
    struct Back(Option<*const Stepping<'static>>);
    impl Drop for Back {
        fn drop(&mut self) {
            STEPPING.set(self.0);
        }
    }
    let stepping = Stepping {
        on_idle: RefCell::new(&mut on_idle),
        steps,
        turner: World::current().map_or(0, World::acting_key),
        idle: Cell::new(None),
        looked: Cell::new(false),
        waits: Cell::new(false),
        busy_since: Cell::new(Instant::ZERO),
    };
    let _back = Back(STEPPING.replace(Some((&raw const stepping).cast())));
    run();
    stepping.idle.get()
}

/// Whether the calling thread steps a runtime, which waits for an epoll object that has nothing to tell.
pub(super) fn turn_waits(world: &World, epoll: Id, timeout: Option<Duration>, until: Option<Instant>) -> bool {
    let Some(stepping) = stepping().filter(|stepping| stepping.is_at_work(world)) else { return false };
    stepping.steps.epoll.set(Some(epoll));
    stepping.found_nothing(Waited::Epoll(epoll), timeout, until);
    true
}

/// Whether an `epoll_wait` that the stepped runtime is about to make would find nothing; then it counts as made. False
/// where that is not known without making it, and outside a step.
pub fn wait_finds_nothing(timeout: Option<Duration>) -> bool {
    let (Some(stepping), Some(world)) = (stepping(), World::current()) else { return false };
    stepping.waits.set(false);
    let Some(id) = stepping.steps.epoll.get().filter(|_| world.actor_lives()) else { return false };
    world.let_due_happen();
    let found = Descriptors::of(world).find(id);
    if !found.is_some_and(|own| epoll::of(&own).is_ok_and(Epoll::is_quiet)) {
        return false;
    }
    // Rounded as mio does it, for an epoll_wait that counts milliseconds in an int.
    let whole = |t: Duration| t.as_secs().saturating_mul(1000) + t.subsec_nanos().div_ceil(1_000_000) as u64;
    let timeout = timeout.map(|t| Duration::from_millis(whole(t).min(i32::MAX as u64)));
    stepping.found_nothing(Waited::Epoll(id), timeout, timeout.map(|timeout| world.now() + timeout));
    true
}

/// Whether the stepped runtime waits for a time to come: no timer of its is due before that.
#[inline]
pub fn no_timer_is_due() -> bool {
    stepping().is_some_and(|stepping| stepping.waits.get())
}

/// The stepped runtime begins to work. False outside a step: it reads its clock itself.
#[inline]
pub fn work_begins() -> bool {
    let stepping = stepping().zip(World::current());
    stepping.is_some_and(|(stepping, world)| {
        stepping.busy_since.set(world.now());
        true
    })
}

/// How long the stepped runtime has worked, ns; `None` outside a step.
#[inline]
pub fn work_ends() -> Option<u64> {
    let (stepping, world) = stepping().zip(World::current())?;
    Some(world.now().since(stepping.busy_since.get()).as_nanos() as u64)
}

/// The places where runtimes parked in their last steps. Looked up by address, never iterated.
#[derive(Default)]
struct Parks(RefCell<BTreeMap<usize, Park>>);

#[derive(Default)]
struct Park {
    unparked: bool,
    /// Whom to tell of that.
    waker: Option<Waker>,
}

/// Whether a stepped runtime parks at `place`, which nobody has unparked: then it counts as done, and it must not wait.
pub fn parks(place: usize, timeout: Option<Duration>) -> bool {
    let (Some(stepping), Some(world)) = (stepping(), World::current()) else { return false };
    if !stepping.is_at_work(world) {
        return false;
    }
    world.extension::<Parks>().0.borrow_mut().insert(place, Park::default());
    stepping.found_nothing(Waited::Unpark(place), timeout, timeout.map(|timeout| world.now() + timeout));
    true
}

/// Somebody unparks whoever parks at `place`.
pub fn unparks(place: usize) {
    let Some(world) = World::current() else { return };
    let waker = world.extension::<Parks>().0.borrow_mut().get_mut(&place).and_then(|park| {
        park.unparked = true;
        park.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Idle {
    /// Ready when what it waits for has happened, or never will. The deadline is the caller's.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::current() else { return Poll::Ready(()) };
        match self.waits_for {
            Waited::Epoll(id) => {
                let Some(epoll) = Descriptors::of(world).find(id) else { return Poll::Ready(()) };
                if epoll.ready() != 0 {
                    return Poll::Ready(());
                }
                epoll.wake_later(cx.waker());
            }
            Waited::Unpark(place) => {
                let parks = world.extension::<Parks>();
                let mut parks = parks.0.borrow_mut();
                let Some(park) = parks.get_mut(&place).filter(|park| !park.unparked) else { return Poll::Ready(()) };
                park.waker = Some(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
