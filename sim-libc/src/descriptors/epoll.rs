//! epoll(7): who is interested in what, and what has become ready since it was last asked.
//!
//! As in the kernel (fs/eventpoll.c), an item is put into the ready list when its description is told of a change, and
//! taken out when a wait finds it ready or not ready after all. A level-triggered item that is ready goes to the list's
//! end again; an edge-triggered one waits for the next change. So an edge is one for each wake-up, also where nothing
//! looks different.
//!
//! Not modelled: which of several threads that wait for one epoll object is woken. All are; EPOLLEXCLUSIVE is accepted
//! and means the same. EPOLLWAKEUP is accepted and means nothing on a machine that never suspends.

use super::{Answer, Description, Errno, IN, Id, Object, steps};
use crate::ahead::{self, Ahead};
use crate::threads;
use sim_core::World;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

/// Flags that are no events.
const PRIVATE: u32 = (libc::EPOLLET | libc::EPOLLONESHOT | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;
/// Reported whether asked for or not.
const ALWAYS: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
/// How deep epoll objects may hold one another (`EP_MAX_NESTS` of fs/eventpoll.c).
const DEPTH: u32 = 4;

/// Names an item of one epoll object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    index: u32,
    generation: u32,
}

struct Item {
    number: i32,
    target: Weak<Description>,
    target_id: Id,
    events: u32,
    data: u64,
    linked: bool,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    item: Option<Item>,
}

/// The object behind an epoll descriptor.
#[derive(Default)]
pub(crate) struct Epoll {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    by_target: RefCell<BTreeMap<(i32, Id), Place>>,
    ready: RefCell<VecDeque<Place>>,
    /// What whoever waits for it will need.
    ahead: RefCell<Ahead>,
}

pub(super) fn of(description: &Description) -> Answer<&Epoll> {
    match &description.object {
        Object::Epoll(epoll) => Ok(epoll),
        _ => Err(Errno::INVALID),
    }
}

/// What an epoll object was told of since it was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Nothing,
    /// Sources of a runtime, whose tokens are addresses.
    OfSources,
    /// What the runtime's driver registered for itself, among others: its tokens are 0 and 1.
    OfDriver,
}

pub(super) fn told(own: &Description) -> Told {
    let Ok(epoll) = of(own) else { return Told::Nothing };
    let ready = epoll.ready.borrow();
    if ready.is_empty() {
        return Told::Nothing;
    }
    let of_driver = ready.iter().any(|place| epoll.with_item(*place, |item| item.data) < Some(2));
    if of_driver { Told::OfDriver } else { Told::OfSources }
}

/// Has `ahead` fetched when an item may be ready.
pub(super) fn look_ahead(own: &Description, ahead: Ahead) {
    if let Ok(epoll) = of(own) {
        *epoll.ahead.borrow_mut() = ahead;
    }
}

/// Whether an item is told of whatever its description may be ready for.
pub(super) fn hears_all(own: &Description, place: Place) -> bool {
    const BOTH: u32 = (libc::EPOLLIN | libc::EPOLLOUT) as u32;
    of(own).is_ok_and(|epoll| epoll.with_item(place, |item| item.events & BOTH == BOTH) == Some(true))
}

/// What an item is called.
pub(super) fn data_of(own: &Description, place: Place) -> Option<u64> {
    of(own).ok()?.with_item(place, |item| item.data)
}

/// Gives what is ready now to `put`.
pub(super) fn tell(own: &Description, put: &mut dyn FnMut(libc::epoll_event)) {
    if let Ok(epoll) = of(own) {
        epoll.collect(usize::MAX, put);
    }
}

impl Epoll {
    fn with_item<R>(&self, place: Place, f: impl FnOnce(&mut Item) -> R) -> Option<R> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(place.index as usize).filter(|s| s.generation == place.generation)?;
        slot.item.as_mut().map(f)
    }

    /// The item's description has changed so that it may be ready for `bits`.
    pub(crate) fn link(own: &Description, place: Place, bits: u32) {
        let Ok(epoll) = of(own) else { return };
        let wanted = epoll.with_item(place, |item| {
            let asked = item.events & !PRIVATE;
            // What was disarmed by EPOLLONESHOT has no events left.
            let wanted = asked != 0 && bits & (asked | ALWAYS) != 0;
            let link = wanted && !item.linked;
            item.linked |= wanted;
            (wanted, link, item.data)
        });
        let Some((wanted, link, data)) = wanted else { return };
        if link {
            let ahead = epoll.ahead.borrow();
            if !ahead.is_empty() {
                ahead.fetch();
                // A runtime's tokens are addresses.
                ahead::fetch(data as usize, 3);
            }
            epoll.ready.borrow_mut().push_back(place);
        }
        if wanted {
            own.notify(IN);
        }
    }

    /// The item's description is no more.
    pub(crate) fn forget(own: &Description, place: Place) {
        if let Ok(epoll) = of(own) {
            epoll.remove(place);
        }
    }

    fn remove(&self, place: Place) -> Option<Item> {
        let item = {
            let mut slots = self.slots.borrow_mut();
            let slot = slots.get_mut(place.index as usize).filter(|s| s.generation == place.generation)?;
            slot.generation = slot.generation.wrapping_add(1);
            slot.item.take()?
        };
        self.free.borrow_mut().push(place.index);
        self.by_target.borrow_mut().remove(&(item.number, item.target_id));
        Some(item)
    }

    /// epoll_ctl(2).
    pub(crate) fn control(
        own: &Rc<Description>,
        operation: i32,
        number: i32,
        target: &Rc<Description>,
        event: Option<libc::epoll_event>,
    ) -> Answer<()> {
        if !target.has_events() {
            return Err(Errno(libc::EPERM));
        }
        let epoll = of(own)?;
        if Rc::ptr_eq(own, target) {
            return Err(Errno::INVALID);
        }
        let key = (number, target.id);
        let known = epoll.by_target.borrow().get(&key).copied();
        if operation == libc::EPOLL_CTL_DEL {
            let place = known.ok_or(Errno(libc::ENOENT))?;
            epoll.remove(place);
            target.watchers.borrow_mut().retain(|(e, p)| *p != place || !is(e, own));
            return Ok(());
        }
        let event = event.ok_or(Errno::FAULT)?;
        let (events, data) = (event.events | ALWAYS, event.u64);
        let exclusive = libc::EPOLLEXCLUSIVE as u32;
        if event.events & exclusive != 0 {
            let others = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET | libc::EPOLLWAKEUP) as u32 | ALWAYS;
            let nested = matches!(target.object, Object::Epoll(_));
            if operation == libc::EPOLL_CTL_MOD || nested || event.events & !(exclusive | others) != 0 {
                return Err(Errno::INVALID);
            }
        }
        // What was told of before is no news to who asks for something else now.
        target.news();
        match operation {
            libc::EPOLL_CTL_ADD => {
                if known.is_some() {
                    return Err(Errno(libc::EEXIST));
                }
                if let Object::Epoll(inner) = &target.object
                    && (inner.holds(own, DEPTH)? || inner.depth(DEPTH)? >= DEPTH)
                {
                    return Err(Errno(libc::ELOOP));
                }
                let item =
                    Item { number, target: Rc::downgrade(target), target_id: target.id, events, data, linked: false };
                let place = epoll.insert(item);
                epoll.by_target.borrow_mut().insert(key, place);
                target.watchers.borrow_mut().push((Rc::downgrade(own), place));
                target.watch();
                Self::link_if_ready(own, target, place, events);
            }
            libc::EPOLL_CTL_MOD => {
                let place = known.ok_or(Errno(libc::ENOENT))?;
                if epoll.with_item(place, |item| item.events & exclusive != 0) == Some(true) {
                    return Err(Errno::INVALID);
                }
                epoll.with_item(place, |item| (item.events, item.data) = (events, data));
                Self::link_if_ready(own, target, place, events);
            }
            _ => return Err(Errno::INVALID),
        }
        Ok(())
    }

    fn link_if_ready(own: &Description, target: &Description, place: Place, events: u32) {
        let ready = target.ready() & events & !PRIVATE;
        if ready != 0 {
            Self::link(own, place, ready);
        }
    }

    fn insert(&self, item: Item) -> Place {
        let index = self.free.borrow_mut().pop();
        let mut slots = self.slots.borrow_mut();
        let index = index.unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() as u32 - 1
        });
        let slot = &mut slots[index as usize];
        slot.item = Some(item);
        Place { index, generation: slot.generation }
    }

    fn targets(&self) -> Vec<Rc<Description>> {
        self.slots.borrow().iter().filter_map(|s| s.item.as_ref()?.target.upgrade()).collect()
    }

    /// Whether `wanted` is held, directly or through others.
    fn holds(&self, wanted: &Rc<Description>, depth: u32) -> Answer<bool> {
        if depth == 0 {
            return Err(Errno(libc::ELOOP));
        }
        for target in self.targets() {
            if Rc::ptr_eq(&target, wanted) {
                return Ok(true);
            }
            if let Object::Epoll(inner) = &target.object
                && inner.holds(wanted, depth - 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn depth(&self, left: u32) -> Answer<u32> {
        if left == 0 {
            return Err(Errno(libc::ELOOP));
        }
        let mut deepest = 0;
        for target in self.targets() {
            if let Object::Epoll(inner) = &target.object {
                deepest = deepest.max(inner.depth(left - 1)?);
            }
        }
        Ok(deepest + 1)
    }

    /// Ready to read while an item is ready. Items that are not, after all, leave the list.
    pub(crate) fn ready(&self) -> u32 {
        loop {
            let Some(place) = self.ready.borrow().front().copied() else { return 0 };
            if self.look(place).is_some_and(|(_, ready)| ready != 0) {
                return IN;
            }
            self.take_ready();
            self.with_item(place, |item| item.linked = false);
        }
    }

    fn take_ready(&self) -> Option<Place> {
        let mut ready = self.ready.borrow_mut();
        let place = ready.pop_front();
        // One that is empty begins anew, where its memory was used a moment ago.
        if ready.is_empty() {
            ready.clear();
        }
        place
    }

    /// What an item has to say: its event, if it is ready.
    fn look(&self, place: Place) -> Option<(u64, u32)> {
        let (target, events, data) = self.with_item(place, |i| (i.target.upgrade(), i.events, i.data))?;
        Some((data, target?.ready() & events & !PRIVATE))
    }

    /// Gives up to `room` events of what is ready now to `put`, and says how many.
    fn collect(&self, room: usize, put: &mut dyn FnMut(libc::epoll_event)) -> usize {
        let looked_at = self.ready.borrow().len();
        let mut given = 0;
        let mut again = Vec::new();
        for _ in 0..looked_at {
            if given == room {
                break;
            }
            let Some(place) = self.take_ready() else { break };
            self.with_item(place, |item| item.linked = false);
            let Some((data, ready)) = self.look(place).filter(|(_, ready)| *ready != 0) else { continue };
            put(libc::epoll_event { events: ready, u64: data });
            given += 1;
            self.with_item(place, |item| {
                if item.events & libc::EPOLLONESHOT as u32 != 0 {
                    item.events &= PRIVATE;
                } else if item.events & libc::EPOLLET as u32 == 0 && !item.linked {
                    item.linked = true;
                    again.push(place);
                }
            });
        }
        if !again.is_empty() {
            self.ready.borrow_mut().extend(again);
        }
        given
    }
}

fn is(epoll: &Weak<Description>, own: &Rc<Description>) -> bool {
    std::ptr::eq(epoll.as_ptr(), Rc::as_ptr(own))
}

/// epoll_wait(2): up to `room` events, given to `put`; how many there were. `timeout` of `None` is for ever.
pub(crate) fn wait(
    world: &'static World,
    own: &Rc<Description>,
    room: usize,
    timeout: Option<Duration>,
    put: &mut dyn FnMut(libc::epoll_event),
) -> Answer<usize> {
    let epoll = of(own)?;
    // What the machine sent to itself is there, together with what was ready before: tokio moves a paused clock unless a park
    // brings something for the future of its `block_on`.
    world.let_due_happen();
    let given = epoll.collect(room, put);
    if given > 0 {
        return Ok(given);
    }
    let until = timeout.map(|timeout| world.now() + timeout);
    // A program may wait by epoll itself, inside one of its polls: that is no wait of the runtime.
    if steps::turn_waits(world, own, timeout, until) {
        return Ok(0);
    }
    if timeout == Some(Duration::ZERO) {
        threads::yield_now();
        return Ok(epoll.collect(room, put));
    }
    let waited = threads::wait("an event (epoll_wait)", until, |cx: &mut Context<'_>| match epoll.collect(room, put) {
        0 => {
            own.wake_later(cx.waker());
            Poll::Pending
        }
        given => Poll::Ready(given),
    });
    Ok(waited.unwrap_or_default())
}
