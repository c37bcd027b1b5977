//! OS threads and the baton: how a thread begins, stands still, hands over, ends and is joined.
//!
//! A thread stands still at a word of its own. Whoever hands over sets the other's word, wakes it, and waits at its own. So
//! exactly one thread touches anything of the World or of this table, and setting and reading the word orders what it did
//! before what the next one does.
//!
//! A thread ends in the destructor of a pthread key, in the last of the rounds that libc makes over them: destructors of
//! thread-locals run before, may wait, and are part of the run. It hands over there and then ends for real, freeing
//! memory on its way, so the next holder first waits until it is gone; else heap addresses would depend on who is quicker.
//! For that all threads are made joinable, and `pthread_detach` is ours.
//!
//! The threads of a dead incarnation, and those that still wait when the run is over, stand where they stood for ever.

use super::{SEATED, arenas, of};
use crate::interpose::real::real;
use crate::{interpose, process, raw, trap};
use libc::{c_void, pthread_t};
use sim_core::{Baton, Instant, ThreadId, World};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Release};

/// The rounds that libc makes over the destructors of keys (PTHREAD_DESTRUCTOR_ITERATIONS).
const ROUNDS: usize = 4;
const ALT_STACK_BYTES: usize = 64 << 10;

unsafe extern "C" {
    fn pthread_attr_getdetachstate(attr: *const libc::pthread_attr_t, state: *mut i32) -> i32;
}

/// What a C program gives pthread_create to run. It may end by unwinding, which is how pthread_exit works.
pub(crate) type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// One thread.
struct Seat {
    /// 1 when it is this thread's turn.
    turn: AtomicU32,
    world: &'static World,
    id: Cell<ThreadId>,
    thread: Cell<pthread_t>,
    /// The kernel's name for it, once it has begun.
    tid: Cell<i32>,
    start: Cell<Option<(Start, *mut c_void)>>,
    alt_stack: Cell<*mut c_void>,
    /// Whether it inherits the filter of system calls.
    filtered: bool,
    detached: Cell<bool>,
    ended: Cell<bool>,
    /// What it returned, once libc's own join has happened.
    joined: Cell<Option<*mut c_void>>,
    /// Who waits for its end without a time limit, and who at all.
    joiner: Cell<Option<(ThreadId, bool)>>,
}

/// The threads of a World by number, and by libc's handle as long as the program may use that.
#[derive(Default)]
pub(crate) struct Seats {
    all: RefCell<Vec<Option<Rc<Seat>>>>,
    handles: RefCell<BTreeMap<pthread_t, ThreadId>>,
    /// Has handed over and is about to be gone.
    ending: RefCell<Option<Rc<Seat>>>,
    /// Whether any thread died with its incarnation.
    any_died: Cell<bool>,
    /// What a deadlock says of those who join.
    join_texts: RefCell<BTreeMap<ThreadId, &'static str>>,
}

struct OsBaton;

static BATON: OsBaton = OsBaton;

impl Baton for OsBaton {
    fn pass(&self, from: ThreadId, to: ThreadId) {
        let Some(world) = World::current() else { return };
        let threads = of(world);
        let (Some(mine), Some(next)) = (threads.seats.get(from), threads.seats.get(to)) else { return };
        // A count of references is changed by the holder alone: `next` is given up before the other runs.
        let turn = &raw const next.turn;
        drop(next);
        // SAFETY: the seat stays in the table until its thread is gone, for which it has to run first.
        unsafe { give(turn) };
        mine.await_turn();
        mine.holds();
        threads.seats.see_off();
    }

    fn died(&self, thread: ThreadId) {
        if let Some(world) = World::current() {
            let threads = of(world);
            threads.seats.any_died.set(true);
            threads.queues.died(world, thread);
        }
    }
}

/// Lets the thread go on whose word this is.
///
/// # Safety
/// The seat is in the table of the running World.
unsafe fn give(turn: *const AtomicU32) {
    // SAFETY: the caller's promise. The kernel compares the address and does not follow it, so it does not matter that the
    // other may be done already.
    unsafe {
        (*turn).store(1, Release);
        raw::call(libc::SYS_futex, [turn as i64, (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as i64, 1, 0, 0, 0]);
    }
}

impl Seat {
    fn new(world: &'static World) -> Seat {
        Seat {
            turn: AtomicU32::new(0),
            world,
            id: Cell::new(ThreadId::FIRST),
            thread: Cell::new(0),
            tid: Cell::new(0),
            start: Cell::new(None),
            alt_stack: Cell::new(null_mut()),
            filtered: trap::is_installed(),
            detached: Cell::new(false),
            ended: Cell::new(false),
            joined: Cell::new(None),
            joiner: Cell::new(None),
        }
    }

    fn await_turn(&self) {
        while self.turn.swap(0, Acquire) == 0 {
            let word = &raw const self.turn as i64;
            // SAFETY: the word lives as long as its thread. A signal ends the wait early.
            unsafe {
                raw::call(libc::SYS_futex, [word, (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as i64, 0, 0, 0, 0])
            };
        }
    }

    /// The calling thread, whose seat this is, has the baton.
    fn holds(&self) {
        process::watch(self.tid.get());
    }

    /// Has libc join the thread, which has ended or is about to, and keeps what it returned.
    fn join_for_real(&self) {
        if self.joined.get().is_some() {
            return;
        }
        let mut value = null_mut();
        real!(pthread_join(self.thread.get(), &raw mut value): fn(pthread_t, *mut *mut c_void) -> i32, else 0);
        self.joined.set(Some(value));
        if !self.alt_stack.get().is_null() {
            // SAFETY: mapped for this thread, which is gone.
            unsafe { raw::call(libc::SYS_munmap, [self.alt_stack.get() as i64, ALT_STACK_BYTES as i64, 0, 0, 0, 0]) };
        }
    }

    /// Waits until the kernel knows the thread no more.
    fn await_gone(&self) {
        // SAFETY: numbers only; signal 0 asks and does nothing. The id is taken until the kernel answers ESRCH, and no
        // thread is made between that and its being taken for another.
        unsafe {
            let pid = raw::call(libc::SYS_getpid, [0; 6]);
            while raw::call(libc::SYS_tgkill, [pid, self.tid.get() as i64, 0, 0, 0, 0]) == 0 {
                raw::call(libc::SYS_sched_yield, [0; 6]);
            }
        }
    }
}

impl Seats {
    fn get(&self, id: ThreadId) -> Option<Rc<Seat>> {
        self.all.borrow().get(id.0 as usize)?.clone()
    }

    fn insert(&self, id: ThreadId, seat: Rc<Seat>) {
        let mut all = self.all.borrow_mut();
        if all.len() <= id.0 as usize {
            all.resize(id.0 as usize + 1, None);
        }
        all[id.0 as usize] = Some(seat);
    }

    /// The program may not name the thread any more, and it is gone.
    fn forget(&self, seat: &Seat) {
        self.handles.borrow_mut().remove(&seat.thread.get());
        self.all.borrow_mut()[seat.id.get().0 as usize] = None;
    }

    /// Whether this is the kernel's name for a thread that died with its incarnation and stands still for ever.
    pub fn stands_dead(&self, world: &World, tid: i32) -> bool {
        let is_it = |seat: &Rc<Seat>| seat.tid.get() == tid && !seat.ended.get() && !world.thread_lives(seat.id.get());
        self.any_died.get() && self.all.borrow().iter().flatten().any(is_it)
    }

    fn by_handle(&self, thread: pthread_t) -> Option<Rc<Seat>> {
        let id = *self.handles.borrow().get(&thread)?;
        self.get(id)
    }

    /// The first act of whoever has got the baton: the thread that gave it away for the last time is gone when this
    /// returns.
    fn see_off(&self) {
        let Some(seat) = self.ending.take() else { return };
        if seat.detached.get() {
            seat.join_for_real();
            self.forget(&seat);
        } else if seat.joiner.get().is_some_and(|(_, for_ever)| for_ever) {
            seat.join_for_real();
        } else {
            // Libc must not use its handle again before the program has joined it.
            seat.await_gone();
        }
    }

    fn join_text(&self, id: ThreadId) -> &'static str {
        self.join_texts
            .borrow_mut()
            .entry(id)
            .or_insert_with(|| Box::leak(format!("thread {} to end", id.0).into_boxed_str()))
    }
}

/// Before the second thread of a World exists.
fn begin(world: &'static World) {
    let first = Seat::new(world);
    // SAFETY: numbers only; the calling thread's own.
    unsafe {
        first.thread.set(libc::pthread_self());
        first.tid.set(raw::call(libc::SYS_gettid, [0; 6]) as i32);
    }
    first.holds();
    if process::captured() {
        stay_on_this_processor();
        arenas::take_inherited();
    }
    of(world).seats.insert(ThreadId::FIRST, Rc::new(first));
    world.set_baton(&BATON);
    SEATED.set(true);
}

/// Handing over costs a third where both threads are on one processor (6.5 against 2.1 µs), and libc's allocator makes the
/// same number of arenas everywhere. A child runs one thread at a time anyway; other children use other processors.
fn stay_on_this_processor() {
    let mut processor = 0u32;
    let mut set = [0u64; 128];
    // SAFETY: locals. Where this is forbidden the run is slower and the same.
    unsafe {
        raw::call(libc::SYS_getcpu, [&raw mut processor as i64, 0, 0, 0, 0, 0]);
        set[(processor as usize / 64) % set.len()] = 1 << (processor % 64);
        raw::call(libc::SYS_sched_setaffinity, [0, size_of_val(&set) as i64, set.as_ptr() as i64, 0, 0, 0]);
    }
}

/// pthread_create in a run. Returns 0 or an errno.
///
/// # Safety
/// As pthread_create(3).
pub(crate) unsafe fn start(
    world: &'static World,
    out: *mut pthread_t,
    attr: *const libc::pthread_attr_t,
    start: Start,
    arg: *mut c_void,
) -> i32 {
    if !world.actor_lives() {
        return libc::EAGAIN;
    }
    let threads = of(world);
    if threads.seats.get(ThreadId::FIRST).is_none() {
        begin(world);
    }
    let seat = Rc::new(Seat::new(world));
    seat.start.set(Some((start, arg)));
    let mut own = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the caller's promise: `attr` is null or initialised. The copy is only read by libc, and only the field for
    // detaching is changed in it, so what it shares with the original stays as it is.
    let attr = unsafe {
        let mut state = libc::PTHREAD_CREATE_JOINABLE;
        if !attr.is_null() {
            pthread_attr_getdetachstate(attr, &mut state);
        }
        if state == libc::PTHREAD_CREATE_DETACHED {
            seat.detached.set(true);
            own.as_mut_ptr().copy_from_nonoverlapping(attr, 1);
            libc::pthread_attr_setdetachstate(own.as_mut_ptr(), libc::PTHREAD_CREATE_JOINABLE);
            own.as_ptr()
        } else {
            attr
        }
    };
    let mut thread: pthread_t = 0;
    // The seat is kept by the table as long as its thread lives.
    let place: *mut c_void = Rc::as_ptr(&seat).cast_mut().cast();
    let result = real!(
        pthread_create(&raw mut thread, attr, run, place):
            fn(*mut pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> i32,
        else libc::ENOSYS
    );
    if result != 0 {
        return result;
    }
    let id = world.add_thread("");
    seat.id.set(id);
    seat.thread.set(thread);
    threads.seats.handles.borrow_mut().insert(thread, id);
    threads.seats.insert(id, seat);
    // SAFETY: the caller's promise.
    unsafe { out.write(thread) };
    0
}

/// What a thread runs: nothing, until it is its turn for the first time.
unsafe extern "C-unwind" fn run(seat: *mut c_void) -> *mut c_void {
    // SAFETY: `start` passed the address of a seat that is kept while its thread lives.
    let seat = unsafe { &*seat.cast_const().cast::<Seat>() };
    seat.await_turn();
    interpose::begin_thread();
    trap::begin_thread(seat.filtered);
    SEATED.set(true);
    // SAFETY: numbers; a key of ours, and a value that is never followed.
    unsafe {
        seat.tid.set(raw::call(libc::SYS_gettid, [0; 6]) as i32);
        libc::pthread_setspecific(end_key(), ROUNDS as *const c_void);
    }
    seat.holds();
    seat.take_alt_stack();
    seat.world.begin_thread(seat.id.get());
    of(seat.world).seats.see_off();
    match seat.start.take() {
        // SAFETY: what the program gave pthread_create, called once, on the new thread.
        Some((start, arg)) => unsafe { start(arg) },
        None => null_mut(),
    }
}

/// The key whose destructor ends threads, made once for the process.
fn end_key() -> libc::pthread_key_t {
    static KEY: AtomicU64 = AtomicU64::new(u64::MAX);
    let known = KEY.load(Acquire);
    if known != u64::MAX {
        return known as libc::pthread_key_t;
    }
    let mut key = 0;
    // SAFETY: a local; a destructor of the right signature. Of two threads that make a key at a time (in two Worlds), one
    // gives it back.
    unsafe {
        libc::pthread_key_create(&mut key, Some(ends));
        match KEY.compare_exchange(u64::MAX, key as u64, Release, Acquire) {
            Ok(_) => key,
            Err(other) => {
                libc::pthread_key_delete(key);
                other as libc::pthread_key_t
            }
        }
    }
}

/// A round of libc over the keys of a thread that ends: in the last one it hands over.
unsafe extern "C" fn ends(rounds_left: *mut c_void) {
    let left = rounds_left as usize;
    if left > 1 {
        // SAFETY: as above.
        unsafe { libc::pthread_setspecific(end_key(), (left - 1) as *const c_void) };
        return;
    }
    let Some(world) = World::current() else { return };
    let threads = of(world);
    let Some(seat) = threads.seats.get(world.running_thread()) else { return };
    seat.ended.set(true);
    if let Some((joiner, _)) = seat.joiner.get() {
        world.wake_thread(joiner);
    }
    *threads.seats.ending.borrow_mut() = Some(seat);
    let next = world.end_thread();
    interpose::end_thread();
    SEATED.set(false);
    let Some(next) = threads.seats.get(next) else { return };
    let turn = &raw const next.turn;
    drop((next, threads));
    // SAFETY: the seat stays in the table until its thread is gone. Nothing of the World is touched after this.
    unsafe { give(turn) };
}

impl Seat {
    /// A stack for signal handlers, as std gives its threads one: a thread that C made has none.
    fn take_alt_stack(&self) {
        // SAFETY: a local that the kernel fills; then a fresh private mapping, unmapped when the thread is gone.
        unsafe {
            let map = raw::call(
                libc::SYS_mmap,
                [
                    0,
                    ALT_STACK_BYTES as i64,
                    (libc::PROT_READ | libc::PROT_WRITE) as i64,
                    (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as i64,
                    -1,
                    0,
                ],
            );
            if (-4095..0).contains(&map) {
                return;
            }
            self.alt_stack.set(map as *mut c_void);
            let stack = libc::stack_t { ss_sp: map as *mut c_void, ss_flags: 0, ss_size: ALT_STACK_BYTES };
            raw::call(libc::SYS_sigaltstack, [&raw const stack as i64, 0, 0, 0, 0, 0]);
        }
    }
}

/// pthread_join in a run, at once, until a time, or for ever. `None` if the thread is none of the run's.
///
/// # Safety
/// `out` is valid for writes, or null.
pub(crate) unsafe fn join(
    world: &'static World,
    thread: pthread_t,
    out: *mut *mut c_void,
    until: Option<Instant>,
) -> Option<i32> {
    let threads = of(world);
    let seat = threads.seats.by_handle(thread)?;
    let me = world.running_thread();
    if seat.id.get() == me {
        return Some(libc::EDEADLK);
    }
    if seat.detached.get() || seat.joiner.get().is_some() {
        return Some(libc::EINVAL);
    }
    seat.joiner.set(Some((me, until.is_none())));
    while !seat.ended.get() {
        if until.is_some_and(|until| world.now() >= until) {
            seat.joiner.set(None);
            return Some(libc::ETIMEDOUT);
        }
        world.block_thread(threads.seats.join_text(seat.id.get()), until);
    }
    seat.join_for_real();
    threads.seats.forget(&seat);
    if let (false, Some(value)) = (out.is_null(), seat.joined.get()) {
        // SAFETY: the caller's promise.
        unsafe { out.write(value) };
    }
    Some(0)
}

/// Which thread of the run a handle names.
pub(crate) fn number(world: &World, thread: pthread_t) -> Option<ThreadId> {
    // SAFETY: no preconditions.
    if thread == unsafe { libc::pthread_self() } {
        return Some(world.running_thread());
    }
    Some(of(world).seats.by_handle(thread)?.id.get())
}

/// pthread_detach in a run. `None` if the thread is none of the run's.
pub(crate) fn detach(world: &'static World, thread: pthread_t) -> Option<i32> {
    let threads = of(world);
    let seat = threads.seats.by_handle(thread)?;
    if seat.detached.replace(true) {
        return Some(libc::EINVAL);
    }
    if seat.ended.get() {
        seat.join_for_real();
        threads.seats.forget(&seat);
    }
    Some(0)
}

impl Drop for Seats {
    /// Threads that still stand somewhere stand there for ever, each at a word in its seat.
    fn drop(&mut self) {
        SEATED.set(false);
        for seat in self.all.get_mut().drain(..).flatten() {
            if seat.joined.get().is_none() {
                std::mem::forget(seat);
            }
        }
    }
}
