//! One step of a runtime that is turned from outside: its loop runs until it would wait, and says for what.
//!
//! tokio waits in one of two ways: by epoll, where it has an I/O driver, or else parked on a condition variable.

use super::epoll::{self, Told};
use super::{Description, ERR, HUP, READ_HUP};
use crate::ahead::Ahead;
use sim_core::{Instant, World};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

thread_local! {
    /// Set while this thread runs a step.
    static STEPPING: Cell<Option<*const Stepping<'static>>> = const { Cell::new(None) };
}

/// What a runtime waits for.
enum Waited {
    /// That this epoll object has something to tell.
    Epoll(Weak<Description>),
    /// To be unparked where it parks, by address.
    Unpark(usize),
}

/// Where a runtime would have waited.
pub struct Idle {
    waits_for: Waited,
    /// And until when.
    pub until: Instant,
}

/// What steps of one runtime have in common.
#[derive(Debug, Default)]
pub struct Steps {
    /// Its epoll object, once it has waited for one.
    epoll: RefCell<Weak<Description>>,
    /// When its next timer is due, by the World's time.
    until: Cell<Instant>,
    clocks: OnceCell<Rc<Clocks>>,
}

struct Stepping<'a> {
    on_idle: RefCell<&'a mut dyn FnMut(bool)>,
    steps: &'a Steps,
    /// Who acts where no task of the runtime does.
    turner: u64,
    /// Where it would have waited, and until when.
    waits_for: RefCell<Option<Waited>>,
    until: Cell<Instant>,
    /// Whether it has looked, without waiting, once.
    looked: Cell<bool>,
    /// When its runtime last began to work.
    busy_since: Cell<Instant>,
    /// What the runtime calls the source that was just read until nothing was left, 0 if there is none.
    drained: Cell<usize>,
}

impl Stepping<'_> {
    /// The runtime has nothing to do, unless it only looks, for the first time: it does so before it lets its due timers
    /// fire, and what they wake belongs to the same step.
    fn found_nothing(&self, waits_for: Waited, timeout: Option<Duration>, until: Option<Instant>) {
        let looks = timeout == Some(Duration::ZERO);
        if !looks || self.looked.replace(true) {
            self.wait(waits_for, until.unwrap_or(Instant::NEVER), looks);
        }
    }

    /// The step is over, though the runtime may have `more` to do.
    fn wait(&self, waits_for: Waited, until: Instant, more: bool) {
        *self.waits_for.borrow_mut() = Some(waits_for);
        self.until.set(until);
        if let Ok(mut on_idle) = self.on_idle.try_borrow_mut() {
            on_idle(more);
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

/// Whether this thread runs a step, and its runtime itself acts.
#[inline]
pub(crate) fn runtime_acts(world: &World) -> bool {
    stepping().is_some_and(|stepping| stepping.is_at_work(world))
}

/// Runs a runtime's loop until it has nothing to do, or has done enough for now. While `run` runs, a wait of the runtime's that
/// finds nothing ready returns at once; before that it calls `on_idle`, which has to make `run` return, at once if it is told that the
/// runtime has more to do. A
/// runtime that only looks and does not wait (a timeout of zero) has had its turn when it does so again: then `until` is now.
/// Returns where the last such wait was, or `None` if there was none.
pub fn step(steps: &Steps, run: impl FnOnce(), mut on_idle: impl FnMut(bool)) -> Option<Idle> {
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
        waits_for: RefCell::new(None),
        until: Cell::new(Instant::NEVER),
        looked: Cell::new(false),
        busy_since: Cell::new(Instant::ZERO),
        drained: Cell::new(0),
    };
    let _back = Back(STEPPING.replace(Some((&raw const stepping).cast())));
    run();
    let until = stepping.until.get();
    stepping.waits_for.take().map(|waits_for| Idle { waits_for, until })
}

/// Whether the calling thread steps a runtime, which waits for an epoll object that has nothing to tell.
pub(super) fn turn_waits(
    world: &World,
    epoll: &Rc<Description>,
    timeout: Option<Duration>,
    until: Option<Instant>,
) -> bool {
    let Some(stepping) = stepping().filter(|stepping| stepping.is_at_work(world)) else { return false };
    *stepping.steps.epoll.borrow_mut() = Rc::downgrade(epoll);
    stepping.found_nothing(Waited::Epoll(Rc::downgrade(epoll)), timeout, until);
    true
}

/// Whether a clock of the run was ever paused: then tokio alone knows what its ticks are.
#[derive(Debug, Default)]
struct Clocks {
    paused: Cell<bool>,
}

/// What is known of a runtime's timers: it lies where tokio keeps them. Ticks are tokio's, milliseconds since it began.
#[derive(Debug, Default)]
pub struct Timers {
    /// Whether a step is under way, in which they are looked at before it ends.
    turned: AtomicBool,
    /// None is due before this tick. At first, and when one was taken away, 0: they are to be looked at.
    next: AtomicU64,
    /// Whether [`Steps::until`] is the time of that tick.
    timed: AtomicBool,
}

/// Until it is dropped, the runtime is turned.
#[derive(Debug)]
#[must_use]
pub struct Turned<'a>(&'a Timers);

impl Drop for Turned<'_> {
    fn drop(&mut self) {
        self.0.turned.store(false, Relaxed);
    }
}

impl Timers {
    /// A clock is paused.
    pub fn clock_pauses() {
        if let Some(world) = World::current() {
            world.extension::<Clocks>().paused.set(true);
        }
    }

    /// A turn of the runtime begins.
    pub fn turn(&self) -> Turned<'_> {
        self.turned.store(true, Relaxed);
        Turned(self)
    }

    /// Whether the runtime is being turned.
    #[inline]
    pub fn is_turned(&self) -> bool {
        self.turned.load(Relaxed)
    }

    fn set(&self, next: u64) {
        self.next.store(next, Relaxed);
        self.timed.store(false, Relaxed);
    }

    /// One was added that is due at this tick, or there is one that is not due before it.
    #[inline]
    pub fn add(&self, tick: u64) {
        if tick < self.next.load(Relaxed) {
            self.set(tick);
        }
    }

    /// One was taken away.
    #[inline]
    pub fn take(&self) {
        self.set(0);
    }

    /// The due ones fire now; of the others, [`Self::add`] will be told.
    #[inline]
    pub fn fire(&self) {
        self.set(u64::MAX);
    }

    /// What the stepped runtime finds where it would look at its drivers. `tick` reads its clock.
    pub fn rest(&self, moment: Moment, tick: impl FnOnce() -> u64) -> Rest {
        let (Some(stepping), Some(world)) = (stepping(), World::current()) else { return Rest::Unknown };
        // What happens now may change a timer.
        world.let_due_happen();
        let steps = stepping.steps;
        if steps.clocks.get_or_init(|| world.extension()).paused.get() {
            return Rest::Unknown;
        }
        // First of all: a reading of the clock may let threads run.
        let now = if self.timed.load(Relaxed) { 0 } else { tick() };
        if !self.timed.load(Relaxed) {
            self.timed.store(true, Relaxed);
            steps.until.set(match self.next.load(Relaxed) {
                u64::MAX => Instant::NEVER,
                // As tokio's drivers count: whole milliseconds from now, for an epoll_wait that counts them in an int.
                next => world.now() + Duration::from_millis(next.saturating_sub(now).min(i32::MAX as u64)),
            });
        }
        let own = steps.epoll.borrow().upgrade();
        let Some(own) = own.filter(|_| world.actor_lives()) else { return Rest::Unknown };
        let told = epoll::told(&own);
        if told == Told::OfDriver {
            return Rest::Unknown;
        }
        if steps.until.get() <= world.now() {
            return if told == Told::Nothing { Rest::Due } else { Rest::DueAndTold };
        }
        if told == Told::OfSources {
            return Rest::Told;
        }
        match moment {
            Moment::Begins => {}
            Moment::Yields => {
                stepping.found_nothing(Waited::Epoll(Rc::downgrade(&own)), Some(Duration::ZERO), Some(world.now()))
            }
            Moment::Parks => stepping.wait(Waited::Epoll(Rc::downgrade(&own)), steps.until.get(), false),
        }
        Rest::Nothing
    }
}

/// Where a stepped runtime looks at its drivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Before its tasks run.
    Begins,
    /// It has tasks that are ready.
    Yields,
    /// It has none and would wait: if there is nothing it counts as having waited, and its step is over.
    Parks,
}

/// What a stepped runtime finds there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It has to look itself.
    Unknown,
    /// Epoll has something to tell of its sources: [`events`].
    Told,
    /// Timers may be due.
    Due,
    /// Both.
    DueAndTold,
    /// Neither.
    Nothing,
}

/// What epoll tells of a source, as mio reads it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are what mio calls them")]
pub struct Event {
    /// What the runtime calls the source.
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
    pub read_closed: bool,
    pub write_closed: bool,
    pub priority: bool,
    pub error: bool,
}

/// Gives what epoll has to tell the stepped runtime to `tell`.
pub fn events(mut tell: impl FnMut(Event)) {
    let Some(own) = stepping().and_then(|stepping| stepping.steps.epoll.borrow().upgrade()) else { return };
    epoll::tell(&own, &mut |event| {
        let bits = event.events;
        let any = |of: i32| bits & of as u32 != 0;
        let hung_up = bits & HUP != 0;
        let error = bits & ERR != 0;
        let (readable, writable) = (any(libc::EPOLLIN), any(libc::EPOLLOUT));
        let priority = any(libc::EPOLLPRI);
        tell(Event {
            token: event.u64 as usize,
            readable: readable || priority,
            writable,
            read_closed: hung_up || readable && bits & READ_HUP != 0,
            write_closed: hung_up || writable && error || bits == ERR,
            priority,
            error,
        })
    });
}

/// A program has read from `own`: nothing is left there, and whatever comes will be told of, or else that is not known.
#[inline]
pub(crate) fn has_read(own: &Description, drained: bool) {
    if let Some(stepping) = stepping() {
        stepping.drained.set(if drained { own.token().unwrap_or(0) as usize } else { 0 });
    }
}

/// Forgets what was read before.
#[inline]
pub fn nothing_is_drained() {
    if let Some(stepping) = stepping() {
        stepping.drained.set(0);
    }
}

/// Whether what was read last is the source of this token, and nothing is left there: the stepped runtime need not try
/// again before it is told of more. False where that is not known.
#[inline]
pub fn is_drained(token: usize) -> bool {
    stepping().is_some_and(|stepping| stepping.drained.replace(0) == token)
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

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Idle {
    /// Has `ahead` fetched when there is something to tell.
    pub fn look_ahead(&self, ahead: Ahead) {
        if let Waited::Epoll(epoll) = &self.waits_for
            && let Some(own) = epoll.upgrade()
        {
            epoll::look_ahead(&own, ahead);
        }
    }

    /// Ready when what it waits for has happened, or never will. The deadline is the caller's.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::current() else { return Poll::Ready(()) };
        match &self.waits_for {
            Waited::Epoll(epoll) => {
                let Some(epoll) = epoll.upgrade() else { return Poll::Ready(()) };
                if epoll.ready() != 0 {
                    return Poll::Ready(());
                }
                epoll.wake_later(cx.waker());
            }
            Waited::Unpark(place) => {
                let parks = world.extension::<Parks>();
                let mut parks = parks.0.borrow_mut();
                let Some(park) = parks.get_mut(place).filter(|park| !park.unparked) else { return Poll::Ready(()) };
                park.waker = Some(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}
