//! Descriptors of a run: small numbers behind which no kernel stands.
//!
//! One table for the World, since its nodes share one process: a number leads to an *open description* ([`Description`]),
//! which several numbers may share after `dup`, and which ends with the last of them. Numbers are given out from 32 up, the
//! lowest free one first, as POSIX has it. What is below belongs to the kernel (stdin, stdout, stderr, real files opened
//! for reading), and so does what is at 4096 and above. A process may have as many as lie between; when those of all
//! processes together are more, numbers go on at 2^20, where the kernel's never come (`fs.nr_open`, as Linux sets it).
//!
//! Each number belongs to the node and the incarnation that made it. What the code of a dead incarnation still calls ends
//! with EBADF and changes nothing, except that its own numbers are given back when they are closed.
//!
//! Nothing here is locked: the thread that calls holds the baton, so the World is its own. Nothing stays borrowed while a
//! thread waits, and nobody's waker is woken while something is.
//!
//! What is deliberately absent: chance, time and packets are the devices'. This module knows who waits, not for how long.

pub(crate) mod calls;
pub(crate) mod epoll;
mod eventfd;
mod few;
mod poll;
mod stat;
pub(crate) mod steps;
pub(crate) mod symbols;
mod timerfd;

use crate::sockets::Socket;
use crate::sockets::pipe::PipeEnd;
use crate::{raw, threads};
use epoll::Epoll;
use eventfd::EventFd;
use few::Few;
use sim_core::{GroupId, Instant, NodeId, World};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use timerfd::TimerFd;

/// The first number that a run gives out.
pub(crate) const FIRST: i32 = 32;
/// Where the kernel's own numbers go on, so that they never meet the run's.
pub(crate) const KERNEL_FROM: i32 = 4096;
/// The greatest number that a process may ask for.
const LAST: i32 = KERNEL_FROM - 1;
/// As many as a process may have (`RLIMIT_NOFILE`).
const MOST: u32 = (KERNEL_FROM - FIRST) as u32;
/// Where the run's numbers go on when those below [`KERNEL_FROM`] are taken.
const HIGH: i32 = 1 << 20;

/// Where a number that a run may have stands in its table. Below [`FIRST`] it has what `dup2` put there.
#[inline]
fn place_of(number: i32) -> Option<usize> {
    match number {
        0..KERNEL_FROM => Some(number as usize),
        HIGH.. => Some((number - HIGH + KERNEL_FROM) as usize),
        _ => None,
    }
}

/// The number of a place in the table.
fn number_of(place: usize) -> Option<i32> {
    let place = i32::try_from(place).ok()?;
    if place < KERNEL_FROM { Some(place) } else { (place - KERNEL_FROM).checked_add(HIGH) }
}

/// All bits that a description can be ready for.
pub(crate) const EVERY: u32 = u32::MAX;
/// Ready to read.
pub(crate) const IN: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
/// Ready to write.
pub(crate) const OUT: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
/// The peer writes no more.
pub(crate) const READ_HUP: u32 = libc::EPOLLRDHUP as u32;
/// Both directions have ended.
pub(crate) const HUP: u32 = libc::EPOLLHUP as u32;
/// An error waits.
pub(crate) const ERR: u32 = libc::EPOLLERR as u32;

/// An error number of Linux.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub i32);

impl Errno {
    pub const AGAIN: Errno = Errno(libc::EAGAIN);
    pub const BAD: Errno = Errno(libc::EBADF);
    pub const INVALID: Errno = Errno(libc::EINVAL);
    pub const FAULT: Errno = Errno(libc::EFAULT);
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// What a call gives, or its error.
pub(crate) type Answer<T> = Result<T, Errno>;

/// In the kernel's convention.
pub(crate) fn number(answer: Answer<impl TryInto<i64>>) -> i64 {
    match answer {
        Ok(value) => value.try_into().unwrap_or(i64::MAX),
        Err(Errno(errno)) => -errno as i64,
    }
}

/// What stands behind a number.
pub(crate) enum Object {
    Socket(Socket),
    Pipe(PipeEnd),
    EventFd(EventFd),
    Timer(TimerFd),
    Epoll(Epoll),
    /// A real description that was moved here by `dup2`: calls go to the kernel, under its number there.
    Kernel(KernelNumber),
    /// What another module made: a file.
    Other(Box<dyn Opened>),
}

/// A descriptor of the kernel, closed with its owner.
pub(crate) struct KernelNumber(i32);

impl KernelNumber {
    /// Takes what the kernel has just opened and nobody knows yet, out of the program's reach.
    pub(crate) fn new(opened: i64) -> KernelNumber {
        // SAFETY: numbers only.
        let moved = unsafe {
            let [command, from] = [libc::F_DUPFD_CLOEXEC, KERNEL_FROM].map(i64::from);
            raw::call(libc::SYS_fcntl, [opened, command, from, 0, 0, 0])
        };
        let opened = KernelNumber(opened as i32);
        // The limit may be lower than where it should go; it is nobody else's where it is either.
        if moved < 0 { opened } else { KernelNumber(moved as i32) }
    }

    pub(crate) fn get(&self) -> i64 {
        self.0 as i64
    }
}

impl Drop for KernelNumber {
    fn drop(&mut self) {
        // SAFETY: the number was made for this owner alone.
        unsafe { raw::call(libc::SYS_close, [self.0 as i64, 0, 0, 0, 0, 0]) };
    }
}

/// An open description that this module knows nothing about. Never waits by `poll`: a file is always ready.
pub(crate) trait Opened: Any {
    /// Reads at `at`, or where the description stands, and moves it.
    fn read(&self, own: &Description, at: Option<u64>, into: &mut [IoSliceMut<'_>]) -> Answer<usize>;
    /// Writes at `at`, or where the description stands, and moves it.
    fn write(&self, own: &Description, at: Option<u64>, from: &[IoSlice<'_>]) -> Answer<usize>;
    /// Whether epoll takes it: it does not take regular files and folders (EPERM).
    fn has_events(&self) -> bool {
        false
    }
    /// Bytes to be read (FIONREAD).
    fn unread(&self) -> Answer<usize> {
        Err(Errno(libc::ENOTTY))
    }
    /// One of its numbers was closed; others may lead to it still.
    fn number_closed(&self) {}
    /// What fcntl(2) says to a command that concerns files only: locks, leases, seals, sizes. `None`: EINVAL.
    fn control(&self, _own: &Description, _command: i32, _argument: i64) -> Option<Answer<i64>> {
        None
    }
}

/// Names one description for as long as it lives; later its name finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Id {
    place: u32,
    generation: u32,
}

/// An open description: an object, its status flags, and who waits for it.
pub(crate) struct Description {
    pub(crate) id: Id,
    pub(crate) object: Object,
    /// What F_GETFL says: O_NONBLOCK, O_APPEND and the access mode.
    pub(crate) status: Cell<i32>,
    /// Whether the device tells us of changes.
    watched: Cell<bool>,
    /// Epoll objects that hold it, and under which place.
    watchers: RefCell<Few<(Weak<Description>, epoll::Place)>>,
    /// Threads that wait, to be woken once.
    waiters: RefCell<Few<Waker>>,
}

/// After so many calls that gave nothing, others go on.
const PATIENCE: u32 = 64;
/// About what they take on a real system.
const PATIENCE_NS: u64 = 32_000;

/// Whom a device wakes: finds the description by its name, so that it may be woken late, or never.
mod observer {
    use super::{Descriptors, Id};
    use sim_core::World;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    /// A name has the size of a pointer, or this does not build.
    const _: [(); size_of::<Id>()] = [(); size_of::<usize>()];

    /// Wakes whoever waits for the description of this name.
    pub fn waker(Id { place, generation }: Id) -> Waker {
        let data = (place as usize) << 32 | generation as usize;
        // SAFETY: RawWaker's contract asks that the four functions of the table uphold what Waker promises for this data,
        // also on other threads. The data is a number in the shape of a pointer, which none of them dereferences: `clone`
        // copies it, `drop` does nothing, and `wake` looks it up in the World of the thread it is called on, if there is
        // one. All four are safe functions.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::without_provenance(data), &TABLE)) }
    }

    static TABLE: RawWakerVTable = RawWakerVTable::new(|data| RawWaker::new(data, &TABLE), wake, wake, |_| {});

    fn wake(data: *const ()) {
        let id = Id { place: (data.addr() >> 32) as u32, generation: data.addr() as u32 };
        World::with_current(|world| {
            if let Some(description) = Descriptors::of(world).find(id) {
                description.told();
            }
        });
    }
}

impl Description {
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.status.get() & libc::O_NONBLOCK != 0
    }

    /// What it is ready for now.
    pub(crate) fn ready(&self) -> u32 {
        match &self.object {
            Object::Socket(socket) => socket.ready(),
            Object::Pipe(pipe) => pipe.ready(),
            Object::EventFd(eventfd) => eventfd.ready(),
            Object::Timer(timer) => timer.ready(),
            Object::Epoll(epoll) => epoll.ready(),
            Object::Kernel(_) | Object::Other(_) => IN | OUT,
        }
    }

    /// A device tells of a change.
    fn told(&self) {
        // Mostly one runtime watches, which wants to hear of reading and of writing: whatever it is.
        let watched_for_all = {
            let watchers = self.watchers.borrow();
            match (watchers.get(0), watchers.get(1)) {
                (Some((epoll, place)), None) => epoll.upgrade().is_some_and(|epoll| epoll::hears_all(&epoll, *place)),
                _ => false,
            }
        };
        self.notify(if watched_for_all { EVERY } else { self.news() });
    }

    /// What a device that told of a change may have meant.
    fn news(&self) -> u32 {
        match &self.object {
            Object::Socket(socket) => socket.news(),
            Object::Pipe(pipe) => pipe.news(),
            _ => EVERY,
        }
    }

    /// Whether it can be waited for with epoll.
    fn has_events(&self) -> bool {
        match &self.object {
            Object::Other(other) => other.has_events(),
            Object::Kernel(_) => false,
            _ => true,
        }
    }

    /// From now on changes are told to those who wait.
    pub(crate) fn watch(&self) {
        if !self.watched.replace(true) {
            self.observe();
        }
    }

    /// Lets the device know whom to tell; again after a socket has become another thing.
    pub(crate) fn observe(&self) {
        if !self.watched.get() {
            return;
        }
        match &self.object {
            Object::Socket(socket) => socket.observe(self.observer()),
            Object::Pipe(pipe) => pipe.observe(self.observer()),
            Object::EventFd(_) | Object::Timer(_) | Object::Epoll(_) | Object::Kernel(_) | Object::Other(_) => {}
        }
    }

    /// Wakes whoever waits for this description.
    pub(crate) fn observer(&self) -> Waker {
        observer::waker(self.id)
    }

    /// What the first epoll object that holds it was told to call it.
    fn token(&self) -> Option<u64> {
        let watchers = self.watchers.borrow();
        let (epoll, place) = watchers.get(0)?;
        epoll::data_of(&*epoll.upgrade()?, *place)
    }

    /// Something has changed that may make it ready for `bits`.
    pub(crate) fn notify(&self, bits: u32) {
        let mut i = 0;
        loop {
            let watcher = self.watchers.borrow().get(i).map(|(epoll, place)| (epoll.upgrade(), *place));
            let Some((epoll, place)) = watcher else { break };
            if let Some(epoll) = epoll {
                Epoll::link(&epoll, place, bits);
            }
            i += 1;
        }
        if self.waiters.borrow().is_empty() {
            return;
        }
        let waiters = self.waiters.take();
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Wakes `waker` once, at the next change.
    pub(crate) fn wake_later(&self, waker: &Waker) {
        let mut waiters = self.waiters.borrow_mut();
        if !waiters.iter().any(|w| w.will_wake(waker)) {
            waiters.push(waker.clone());
        }
    }

    /// Repeats `attempt`, which fails with EAGAIN while it has to wait, until it does something else. A description that
    /// does not block, or a call that must not (`dont_wait`), gets that EAGAIN; so does one that has waited until `until`.
    pub(crate) fn wait<T>(
        &self,
        what: &'static str,
        dont_wait: bool,
        until: Option<Instant>,
        mut attempt: impl FnMut() -> Answer<T>,
    ) -> Answer<T> {
        let done = attempt();
        if !matches!(done, Err(Errno::AGAIN)) {
            return done;
        }
        if dont_wait || self.is_nonblocking() {
            // What the machine sent to itself is there.
            if World::current().is_some_and(|world| world.let_due_happen()) {
                return attempt();
            }
            in_vain();
            return done;
        }
        self.watch();
        let waited = threads::wait(what, until, |cx: &mut Context<'_>| match attempt() {
            Err(Errno::AGAIN) => {
                self.wake_later(cx.waker());
                Poll::Pending
            }
            done => Poll::Ready(done),
        });
        waited.unwrap_or(Err(Errno::AGAIN))
    }
}

/// Counts a call that gave nothing, as one that had to wait and must not, or read the end once more. A thread that makes them over
/// and over, until another thread has done something, never waits; the kernel would take the processor from it.
pub(crate) fn in_vain() {
    let waits = World::current().filter(|world| threads::stands_still(world));
    if waits.is_some_and(|world| world.count_in_vain() >= PATIENCE) {
        threads::yield_after(PATIENCE_NS);
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        for (epoll, place) in self.watchers.take() {
            if let Some(epoll) = epoll.upgrade() {
                Epoll::forget(&epoll, place);
            }
        }
        World::with_current(|world| Descriptors::of(world).free(self.id));
    }
}

struct Entry {
    node: NodeId,
    group: GroupId,
    close_on_exec: bool,
    description: Rc<Description>,
}

impl Entry {
    /// Whether it belongs to the acting incarnation.
    fn is_of(&self, world: &World) -> bool {
        self.group == world.acting_group() && self.node == world.acting_node()
    }
}

#[derive(Default)]
struct Slot {
    generation: u32,
    description: Weak<Description>,
}

/// The table of a World.
#[derive(Default)]
pub(crate) struct Descriptors {
    /// By [`place_of`].
    numbers: RefCell<Vec<Option<Entry>>>,
    /// Below this all places from that of [`FIRST`] are taken.
    lowest: Cell<usize>,
    /// How many numbers each group has.
    counts: RefCell<Vec<u32>>,
    names: RefCell<Vec<Slot>>,
    unused: RefCell<Vec<u32>>,
    /// The kernel's numbers that programs were given.
    given: RefCell<BTreeSet<i32>>,
}

/// Whose a number is.
pub(crate) enum Owner {
    Run(Rc<Description>),
    Kernel,
    /// Nobody's, or the caller is dead.
    Nobody,
}

impl Descriptors {
    pub(crate) fn of(world: &World) -> Rc<Descriptors> {
        world.extension()
    }

    /// A new description, under no number yet.
    pub(crate) fn open(&self, object: Object, status: i32) -> Rc<Description> {
        let place = self.unused.borrow_mut().pop();
        let mut names = self.names.borrow_mut();
        let place = place.unwrap_or_else(|| {
            names.push(Slot::default());
            names.len() as u32 - 1
        });
        let id = Id { place, generation: names[place as usize].generation };
        let made = Rc::new(Description {
            id,
            object,
            status: Cell::new(status),
            watched: Cell::new(false),
            watchers: RefCell::default(),
            waiters: RefCell::default(),
        });
        names[place as usize].description = Rc::downgrade(&made);
        made
    }

    fn free(&self, id: Id) {
        let mut names = self.names.borrow_mut();
        // In the table of an earlier run it would be somebody else's place.
        if let Some(slot) = names.get_mut(id.place as usize).filter(|s| s.generation == id.generation) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.description = Weak::new();
            self.unused.borrow_mut().push(id.place);
        }
    }

    pub(crate) fn find(&self, id: Id) -> Option<Rc<Description>> {
        let names = self.names.borrow();
        names.get(id.place as usize).filter(|s| s.generation == id.generation)?.description.upgrade()
    }

    /// Gives a description the lowest free number that is not below `from`.
    pub(crate) fn assign(
        &self,
        world: &World,
        description: Rc<Description>,
        from: i32,
        close_on_exec: bool,
    ) -> Answer<i32> {
        const FULL: Errno = Errno(libc::EMFILE);
        if self.count(world.acting_group()) >= MOST {
            return Err(FULL);
        }
        let first = (from.max(FIRST) as usize).max(self.lowest.get());
        let place = {
            let numbers = self.numbers.borrow();
            (first..).find(|n| numbers.get(*n).is_none_or(Option::is_none)).ok_or(FULL)?
        };
        let number = number_of(place).ok_or(FULL)?;
        self.put(place, Entry { node: world.acting_node(), group: world.acting_group(), close_on_exec, description });
        if from <= FIRST {
            self.lowest.set(place + 1);
        }
        Ok(number)
    }

    fn count(&self, group: GroupId) -> u32 {
        self.counts.borrow().get(group.0 as usize).copied().unwrap_or(0)
    }

    /// Puts an entry into its place, and hands out what was there.
    fn put(&self, place: usize, entry: Entry) -> Option<Entry> {
        let group = entry.group.0 as usize;
        let before = {
            let mut numbers = self.numbers.borrow_mut();
            if numbers.len() <= place {
                numbers.resize_with(place + 1, || None);
            }
            numbers[place].replace(entry)
        };
        let mut counts = self.counts.borrow_mut();
        if counts.len() <= group {
            counts.resize(group + 1, 0);
        }
        counts[group] += 1;
        if let Some(before) = &before {
            counts[before.group.0 as usize] -= 1;
        }
        before
    }

    /// A new description under the lowest free number.
    pub(crate) fn add(&self, world: &World, object: Object, status: i32, close_on_exec: bool) -> Answer<i32> {
        self.assign(world, self.open(object, status), FIRST, close_on_exec)
    }

    /// Whose `number` is, for a call of the acting thread.
    #[inline]
    pub(crate) fn owner(&self, world: &World, number: i32) -> Owner {
        let Some(place) = place_of(number) else { return Owner::Kernel };
        let found = self.numbers.borrow().get(place).and_then(|e| e.as_ref().map(|entry| entry.description.clone()));
        match found {
            Some(description) if world.actor_lives() => Owner::Run(description),
            None if number < FIRST => Owner::Kernel,
            Some(_) | None => Owner::Nobody,
        }
    }

    /// Whether the acting incarnation has this number, dead or alive. A destructor asks before it closes (std does).
    fn has(&self, world: &World, number: i32) -> bool {
        let numbers = self.numbers.borrow();
        let entry = place_of(number).and_then(|n| numbers.get(n)?.as_ref());
        entry.is_some_and(|entry| entry.is_of(world))
    }

    /// The same of an eventfd.
    fn has_counter(&self, world: &World, number: i32) -> bool {
        let numbers = self.numbers.borrow();
        let entry = place_of(number).and_then(|n| numbers.get(n)?.as_ref());
        entry.is_some_and(|entry| entry.is_of(world) && matches!(entry.description.object, Object::EventFd(_)))
    }

    /// Changes the flag FD_CLOEXEC of a number of the run, or reads it.
    fn close_on_exec(&self, number: i32, change: Option<bool>) -> Answer<bool> {
        let mut numbers = self.numbers.borrow_mut();
        let entry = place_of(number).and_then(|n| numbers.get_mut(n)?.as_mut()).ok_or(Errno::BAD)?;
        if let Some(flag) = change {
            entry.close_on_exec = flag;
        }
        Ok(entry.close_on_exec)
    }

    /// Takes a number back. The description ends with its last number and the last call that uses it.
    pub(crate) fn close(&self, world: &World, number: i32) -> Answer<()> {
        let place = place_of(number).ok_or(Errno::BAD)?;
        let taken = {
            let mut numbers = self.numbers.borrow_mut();
            let entry = numbers.get_mut(place).ok_or(Errno::BAD)?;
            // A dead incarnation's destructors close what was its own; by now the number may be somebody else's.
            if !world.actor_lives() && !entry.as_ref().is_some_and(|e| e.is_of(world)) {
                return Err(Errno::BAD);
            }
            entry.take().ok_or(Errno::BAD)?
        };
        self.counts.borrow_mut()[taken.group.0 as usize] -= 1;
        self.lowest.set(self.lowest.get().min(place));
        number_ends(world, taken);
        Ok(())
    }

    /// Gives `description` just this number, closing what it was before (dup2).
    fn replace(&self, world: &World, number: i32, description: Rc<Description>, close_on_exec: bool) -> Answer<()> {
        let taken = |place: &usize| self.numbers.borrow().get(*place).is_some_and(Option::is_some);
        let place = place_of(number).filter(|place| number <= LAST || taken(place)).ok_or(Errno::BAD)?;
        let entry = Entry { node: world.acting_node(), group: world.acting_group(), close_on_exec, description };
        if let Some(before) = self.put(place, entry) {
            number_ends(world, before);
        }
        Ok(())
    }

    /// A number that the kernel gave out for a program, where it cannot meet the run's. In the kernel's convention.
    pub(crate) fn give(&self, number: i64) -> i64 {
        let number = keep_apart(number);
        if number >= 0 {
            self.given.borrow_mut().insert(number as i32);
        }
        number
    }

    /// The kernel's numbers between `from` and `to` that programs were given, both included.
    fn given_in(&self, from: u32, to: u32) -> Vec<i32> {
        self.given.borrow().iter().copied().filter(|number| (from..=to).contains(&(*number as u32))).collect()
    }

    /// The numbers of the run between `from` and `to`, both included.
    fn numbers_in(&self, from: usize, to: usize) -> Vec<i32> {
        let numbers = self.numbers.borrow();
        let taken = numbers.iter().enumerate().filter(|(_, entry)| entry.is_some());
        let taken = taken.filter_map(|(place, _)| number_of(place));
        taken.filter(|number| (from..=to).contains(&(*number as usize))).collect()
    }
}

/// What a description is told when one of its numbers leads to it no more, by close or dup2.
fn number_ends(world: &World, entry: Entry) {
    let own = &entry.description;
    if let Object::Other(other) = &own.object {
        other.number_closed();
    }
    if let Object::Socket(socket) = &own.object
        && world.actor_lives()
        && Rc::strong_count(own) == 1
    {
        socket.linger(own, world);
    }
}

/// Moves a number that the kernel gave out to where it cannot meet the run's. In the kernel's convention.
fn keep_apart(number: i64) -> i64 {
    if !(FIRST as i64..KERNEL_FROM as i64).contains(&number) {
        return number;
    }
    // SAFETY: the number was just made and nobody knows it yet.
    unsafe {
        let flags = raw::call(libc::SYS_fcntl, [number, libc::F_GETFD as i64, 0, 0, 0, 0]);
        let command = if flags & libc::FD_CLOEXEC as i64 != 0 { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
        let moved = raw::call(libc::SYS_fcntl, [number, command as i64, KERNEL_FROM as i64, 0, 0, 0]);
        raw::call(libc::SYS_close, [number, 0, 0, 0, 0, 0]);
        // The limit may be lower than where it should go: to the program its table is full.
        if moved == -libc::EINVAL as i64 { -libc::EMFILE as i64 } else { moved }
    }
}
