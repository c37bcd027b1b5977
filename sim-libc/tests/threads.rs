//! Programs with threads, each run in a child of its own: what they do, and that the seed alone decides in which order.
//!
//! A binary of its own, without libtest, whose other threads are not to be counted on when a child is forked.

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod linux {
    use sim_core::{Choices, Death, NodeId, Settings, Spawn, Verdict, World};
    use sim_libc::process::{self, Ended, Exit, Launcher, Limits, NoteKind, Order};
    use sim_libc::{interpose, threads};
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::hint::black_box;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock, mpsc};
    use std::task::Poll;
    use std::thread;
    use std::time::{Duration, Instant};

    /// What a program saw, one thing after the other.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    impl Log {
        fn add(&self, what: impl std::fmt::Display) {
            use std::fmt::Write;
            let mut log = self.0.lock().unwrap_or_else(|e| e.into_inner());
            write!(log, "{what} ").expect("a string takes everything");
        }
    }

    /// A kind of program.
    type Program = fn(&Log);

    const PROGRAMS: [(&str, Program); 16] = [
        ("mutex, condvar, timeouts", condvar_with_timeouts),
        ("sync_channel and sleep", channel_and_sleep),
        ("park and unpark", park_and_unpark),
        ("scope and yield", scope_and_yield),
        ("barrier, rwlock, once", barrier_rwlock_once),
        ("panic, poison, destructors", panic_poison_destructors),
        ("hash order, clock, addresses", hash_order_clock_addresses),
        ("five hundred threads", five_hundred_threads),
        ("detached threads", detached_threads),
        ("joins that do not wait", joins_that_do_not_wait),
        ("pthread mutexes", pthread_mutexes),
        ("pthread condition variables", pthread_conditions),
        ("pthread rwlocks", pthread_rwlocks),
        ("semaphores, barriers, spin locks, once", semaphores_barriers_spins_once),
        ("C11 threads", c11_threads),
        ("futexes by hand", futexes_by_hand),
    ];

    fn condvar_with_timeouts(log: &Log) {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let began = Instant::now();
        let other = shared.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_secs(2));
            *other.0.lock().expect("no poison") = 7;
            other.1.notify_one();
            11
        });
        let mut value = shared.0.lock().expect("no poison");
        let mut timeouts = 0;
        while *value == 0 {
            let (guard, result) = shared.1.wait_timeout(value, Duration::from_millis(300)).expect("no poison");
            value = guard;
            timeouts += result.timed_out() as u32;
        }
        assert_eq!((*value, timeouts), (7, 6));
        drop(value);
        assert_eq!(thread.join().expect("no panic"), 11);
        assert_eq!(began.elapsed().as_secs(), 2);
        log.add(began.elapsed().as_nanos());
    }

    fn channel_and_sleep(log: &Log) {
        let (send, receive) = mpsc::sync_channel(2);
        for i in 0..3u64 {
            let send = send.clone();
            thread::spawn(move || {
                for n in 0..20 {
                    thread::sleep(Duration::from_millis(n % 3));
                    send.send((i, n)).expect("somebody listens");
                }
            });
        }
        drop(send);
        let all: Vec<_> = receive.iter().inspect(|(i, _)| log.add(i)).collect();
        assert_eq!(all.len(), 60);
    }

    fn park_and_unpark(log: &Log) {
        let began = Instant::now();
        let main = thread::current();
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        let thread = thread::spawn(move || {
            thread::park();
            thread::sleep(Duration::from_secs(1));
            flag.store(true, SeqCst);
            main.unpark();
            thread::park_timeout(Duration::from_secs(1800));
        });
        thread.thread().unpark();
        while !woken.load(SeqCst) {
            thread::park();
        }
        assert_eq!(began.elapsed().as_secs(), 1);
        thread.join().expect("no panic");
        assert_eq!(began.elapsed().as_secs(), 1801);
        log.add(began.elapsed().as_secs());
    }

    fn scope_and_yield(log: &Log) {
        let mut numbers = [0u32; 8];
        let first = AtomicU32::new(0);
        thread::scope(|scope| {
            for (i, number) in numbers.iter_mut().enumerate() {
                let (log, first) = (log.clone(), &first);
                scope.spawn(move || {
                    for round in 0..3 {
                        thread::yield_now();
                        *number += round;
                    }
                    log.add(i);
                    first.fetch_add(1, SeqCst);
                });
            }
        });
        assert_eq!((numbers, first.into_inner()), ([3; 8], 8));
    }

    fn barrier_rwlock_once(log: &Log) {
        let shared = Arc::new((Barrier::new(4), RwLock::new(0), Once::new()));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let (shared, log) = (shared.clone(), log.clone());
                thread::spawn(move || {
                    shared.2.call_once(|| {
                        thread::sleep(Duration::from_millis(5));
                        log.add(format!("once by {i}"));
                    });
                    if shared.0.wait().is_leader() {
                        log.add(format!("led by {i}"));
                    }
                    *shared.1.write().expect("no poison") += 1;
                    shared.0.wait();
                    *shared.1.read().expect("no poison")
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().expect("no panic"), 4);
        }
    }

    fn panic_poison_destructors(log: &Log) {
        struct Slow(Log);
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(10));
                self.0.add("dropped");
            }
        }
        thread_local! {
            static SLOW: RefCell<Option<Slow>> = const { RefCell::new(None) };
        }
        let lock = Arc::new(Mutex::new(0));
        let (held, inner) = (lock.clone(), log.clone());
        let thread = thread::spawn(move || {
            SLOW.with(|slow| *slow.borrow_mut() = Some(Slow(inner)));
            let _guard = held.lock();
            std::panic::resume_unwind(Box::new("as it should"));
        });
        let began = Instant::now();
        let payload = thread.join().expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&"as it should"));
        assert_eq!(began.elapsed().as_millis(), 10);
        assert!(lock.is_poisoned());
        log.add("joined");
    }

    fn hash_order_clock_addresses(log: &Log) {
        let look = |log: &Log| {
            let map: HashMap<u32, ()> = (0..20).map(|i| (i, ())).collect();
            log.add(format!("{:?}", map.keys().collect::<Vec<_>>()));
            let (small, large) = (Box::new(1u8), vec![0u8; 300_000]);
            // Addresses are the same only where they are not randomised.
            let at = if process::aslr_off() { (&raw const *small as u64, large.as_ptr() as u64) } else { (0, 0) };
            log.add(format!("{at:?} {:?}", Instant::now().elapsed()));
        };
        let other = log.clone();
        let thread = thread::spawn(move || {
            look(&other);
            thread::yield_now();
            look(&other);
        });
        look(log);
        thread.join().expect("no panic");
        look(log);
    }

    fn five_hundred_threads(log: &Log) {
        let mut sum = 0;
        for round in 0..50u64 {
            let threads: Vec<_> = (0..10u64)
                .map(|i| {
                    thread::spawn(move || {
                        let memory = black_box(vec![1u8; 1000 * (i as usize + 1)]);
                        if (round + i) % 3 == 0 {
                            thread::yield_now();
                        }
                        if process::aslr_off() { memory.as_ptr() as u64 } else { i }
                    })
                })
                .collect();
            for thread in threads {
                sum = sum * 31 % 1_000_000_007 + thread.join().expect("no panic") % 1_000_000_007;
            }
        }
        log.add(sum);
    }

    fn detached_threads(log: &Log) {
        let ended = Arc::new(AtomicU32::new(0));
        for i in 0..20 {
            let (ended, log) = (ended.clone(), log.clone());
            drop(thread::spawn(move || {
                if i % 2 == 0 {
                    thread::sleep(Duration::from_millis(i));
                }
                log.add(i);
                ended.fetch_add(1, SeqCst);
            }));
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(ended.load(SeqCst), 20);
        // Attributes may ask for it as well.
        extern "C" fn counts(count: *mut libc::c_void) -> *mut libc::c_void {
            // SAFETY: the static below.
            unsafe { &*count.cast::<AtomicU32>() }.fetch_add(1, SeqCst);
            std::ptr::null_mut()
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // SAFETY: the attributes are initialised before use and destroyed once; the thread uses a static.
        unsafe {
            let mut attr = std::mem::zeroed();
            let mut id = 0;
            libc::pthread_attr_init(&mut attr);
            libc::pthread_attr_setdetachstate(&mut attr, libc::PTHREAD_CREATE_DETACHED);
            let count = (&raw const COUNT).cast_mut().cast();
            assert_eq!(libc::pthread_create(&mut id, &attr, counts, count), 0);
            libc::pthread_attr_destroy(&mut attr);
            assert_eq!(libc::pthread_join(id, std::ptr::null_mut()), libc::EINVAL);
        }
        thread::sleep(Duration::from_millis(1));
        assert_eq!(COUNT.load(SeqCst), 1);
    }

    unsafe extern "C" {
        fn pthread_tryjoin_np(thread: libc::pthread_t, value: *mut *mut libc::c_void) -> i32;
        fn pthread_timedjoin_np(
            thread: libc::pthread_t,
            value: *mut *mut libc::c_void,
            until: *const libc::timespec,
        ) -> i32;
    }

    type Unwinds = extern "C-unwind" fn(*mut libc::c_void) -> *mut libc::c_void;

    // As they are: a thread may leave its function by unwinding.
    unsafe extern "C-unwind" {
        fn pthread_exit(value: *mut libc::c_void) -> !;
        fn pthread_create(
            id: *mut libc::pthread_t,
            attr: *const libc::pthread_attr_t,
            start: Unwinds,
            arg: *mut libc::c_void,
        ) -> i32;
    }

    fn wall_in(d: Duration) -> libc::timespec {
        at(libc::CLOCK_REALTIME, d)
    }

    fn at(clock: i32, d: Duration) -> libc::timespec {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a local.
        unsafe { libc::clock_gettime(clock, &mut now) };
        let at = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + d;
        libc::timespec { tv_sec: at.as_secs() as i64, tv_nsec: at.subsec_nanos() as i64 }
    }

    fn joins_that_do_not_wait(log: &Log) {
        extern "C-unwind" fn sleeps(_: *mut libc::c_void) -> *mut libc::c_void {
            thread::sleep(Duration::from_secs(10));
            // SAFETY: nothing on this stack needs to be dropped.
            unsafe { pthread_exit(42 as *mut libc::c_void) }
        }
        let began = Instant::now();
        let mut value = std::ptr::null_mut();
        // SAFETY: locals; ids of threads that were created and not yet joined, or of those whose refusal is tested.
        unsafe {
            let mut id = 0;
            assert_eq!(pthread_create(&mut id, std::ptr::null(), sleeps, std::ptr::null_mut()), 0);
            assert_eq!(pthread_tryjoin_np(id, &mut value), libc::EBUSY);
            let until = wall_in(Duration::from_secs(3));
            assert_eq!(pthread_timedjoin_np(id, &mut value, &until), libc::ETIMEDOUT);
            assert_eq!(began.elapsed().as_secs(), 3);
            assert_eq!(libc::pthread_join(libc::pthread_self(), &mut value), libc::EDEADLK);
            thread::sleep(Duration::from_secs(8));
            assert_eq!(pthread_tryjoin_np(id, &mut value), 0);
            assert_eq!(value as usize, 42);
            // A thread that has ended and was not joined keeps its name to itself.
            let mut ids = [0; 2];
            for id in &mut ids {
                assert_eq!(pthread_create(id, std::ptr::null(), sleeps, std::ptr::null_mut()), 0);
                thread::sleep(Duration::from_secs(11));
            }
            assert_ne!(ids[0], ids[1]);
            assert_eq!(libc::pthread_detach(ids[0]), 0);
            assert_eq!(libc::pthread_join(ids[1], std::ptr::null_mut()), 0);
        }
        log.add(began.elapsed().as_secs());
    }

    /// C's objects live where all threads find them.
    struct Shared<T>(std::cell::UnsafeCell<T>);
    // SAFETY: what is in it is made for being used by several threads, through its address.
    unsafe impl<T> Sync for Shared<T> {}
    // SAFETY: as above; it is not moved while it is used.
    unsafe impl<T> Send for Shared<T> {}

    impl<T> Shared<T> {
        fn new(value: T) -> Arc<Shared<T>> {
            Arc::new(Shared(value.into()))
        }

        fn at(&self) -> *mut T {
            self.0.get()
        }
    }

    fn run_threads(n: u32, body: impl Fn(u32) + Send + Sync + Clone + 'static) {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                let body = body.clone();
                thread::spawn(move || body(i))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
    }

    fn pthread_mutexes(log: &Log) {
        for kind in [libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_MUTEX_ERRORCHECK] {
            // SAFETY: initialised before use.
            let mutex = unsafe {
                let mut attr = std::mem::zeroed();
                libc::pthread_mutexattr_init(&mut attr);
                libc::pthread_mutexattr_settype(&mut attr, kind);
                let mutex = Shared::new(std::mem::zeroed::<libc::pthread_mutex_t>());
                libc::pthread_mutex_init(mutex.at(), &attr);
                mutex
            };
            let (inside, log) = (Arc::new(AtomicU32::new(0)), log.clone());
            run_threads(4, move |i| {
                let m = mutex.at();
                // SAFETY: an initialised mutex.
                unsafe {
                    for _ in 0..5 {
                        assert_eq!(libc::pthread_mutex_lock(m), 0);
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        match kind {
                            libc::PTHREAD_MUTEX_RECURSIVE => {
                                assert_eq!(libc::pthread_mutex_lock(m), 0);
                                assert_eq!(libc::pthread_mutex_unlock(m), 0);
                            }
                            libc::PTHREAD_MUTEX_ERRORCHECK => {
                                assert_eq!(libc::pthread_mutex_lock(m), libc::EDEADLK);
                            }
                            _ => {}
                        }
                        thread::sleep(Duration::from_micros(10));
                        log.add(i);
                        inside.fetch_sub(1, SeqCst);
                        assert_eq!(libc::pthread_mutex_unlock(m), 0);
                    }
                    // Held for a second by one, the others give up after a tenth.
                    let until = wall_in(Duration::from_millis(100));
                    match libc::pthread_mutex_timedlock(m, &until) {
                        0 => {
                            thread::sleep(Duration::from_secs(1));
                            libc::pthread_mutex_unlock(m);
                        }
                        late => assert_eq!(late, libc::ETIMEDOUT),
                    }
                }
            });
        }
    }

    fn pthread_conditions(log: &Log) {
        for clock in [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC] {
            // SAFETY: initialised before use.
            let shared = unsafe {
                let mut attr = std::mem::zeroed();
                libc::pthread_condattr_init(&mut attr);
                libc::pthread_condattr_setclock(&mut attr, clock);
                let condition = Shared::new(std::mem::zeroed::<libc::pthread_cond_t>());
                libc::pthread_cond_init(condition.at(), &attr);
                (condition, Shared::new(libc::PTHREAD_MUTEX_INITIALIZER))
            };
            let (queue, log, began) = (Arc::new(Mutex::new(Vec::new())), log.clone(), Instant::now());
            run_threads(4, move |i| {
                let (c, m) = (shared.0.at(), shared.1.at());
                // SAFETY: initialised objects; the mutex is held where it must be.
                unsafe {
                    assert_eq!(libc::pthread_mutex_lock(m), 0);
                    if i == 0 {
                        for n in 0..6 {
                            queue.lock().expect("no poison").push(n);
                            libc::pthread_cond_signal(c);
                            libc::pthread_mutex_unlock(m);
                            thread::sleep(Duration::from_millis(1));
                            libc::pthread_mutex_lock(m);
                        }
                        queue.lock().expect("no poison").extend([6, 7, 8]);
                        libc::pthread_cond_broadcast(c);
                    } else {
                        for _ in 0..3 {
                            loop {
                                let taken = queue.lock().expect("no poison").pop();
                                if let Some(n) = taken {
                                    log.add(format!("{i}:{n}"));
                                    break;
                                }
                                assert_eq!(libc::pthread_cond_wait(c, m), 0);
                            }
                        }
                        let until = at(clock, Duration::from_secs(5));
                        // The broadcast may be meant for others.
                        while libc::pthread_cond_timedwait(c, m, &until) != libc::ETIMEDOUT {}
                    }
                    libc::pthread_mutex_unlock(m);
                }
            });
            assert_eq!(began.elapsed().as_secs(), 5);
        }
    }

    fn pthread_rwlocks(log: &Log) {
        let lock = Shared::new(libc::PTHREAD_RWLOCK_INITIALIZER);
        let (readers, log) = (Arc::new(AtomicU32::new(0)), log.clone());
        let most = Arc::new(AtomicU32::new(0));
        let seen = most.clone();
        run_threads(6, move |i| {
            let l = lock.at();
            // SAFETY: an initialised lock.
            unsafe {
                for _ in 0..4 {
                    if i < 2 {
                        assert_eq!(libc::pthread_rwlock_wrlock(l), 0);
                        assert_eq!(readers.load(SeqCst), 0);
                        log.add(format!("w{i}"));
                        thread::sleep(Duration::from_millis(1));
                        assert_eq!(readers.load(SeqCst), 0);
                    } else {
                        assert_eq!(libc::pthread_rwlock_rdlock(l), 0);
                        most.fetch_max(readers.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::sleep(Duration::from_millis(1));
                        readers.fetch_sub(1, SeqCst);
                    }
                    assert_eq!(libc::pthread_rwlock_unlock(l), 0);
                }
            }
        });
        assert!(seen.load(SeqCst) >= 2, "readers never met");
    }

    fn semaphores_barriers_spins_once(log: &Log) {
        unsafe extern "C" {
            fn pthread_once(once: *mut i32, init: extern "C" fn()) -> i32;
        }
        static ONCE: Shared<i32> = Shared(std::cell::UnsafeCell::new(0));
        static INITS: AtomicU32 = AtomicU32::new(0);
        extern "C" fn init() {
            thread::sleep(Duration::from_millis(3));
            INITS.fetch_add(1, SeqCst);
        }
        // SAFETY: zeroed objects that are initialised before use.
        let (semaphore, barrier, spin) = unsafe {
            let semaphore = Shared::new(std::mem::zeroed::<libc::sem_t>());
            libc::sem_init(semaphore.at(), 0, 2);
            let barrier = Shared::new(std::mem::zeroed::<libc::pthread_barrier_t>());
            libc::pthread_barrier_init(barrier.at(), std::ptr::null(), 5);
            let spin = Shared::new(0i32);
            libc::pthread_spin_init(spin.at(), 0);
            (semaphore, barrier, spin)
        };
        let (inside, leaders, log) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), log.clone());
        let led = leaders.clone();
        run_threads(5, move |i| {
            // SAFETY: initialised objects.
            unsafe {
                assert_eq!(pthread_once(ONCE.at(), init), 0);
                assert_eq!(INITS.load(SeqCst), 1);
                for _ in 0..3 {
                    assert_eq!(libc::sem_wait(semaphore.at()), 0);
                    assert!(inside.fetch_add(1, SeqCst) < 2);
                    thread::sleep(Duration::from_millis(1));
                    inside.fetch_sub(1, SeqCst);
                    log.add(i);
                    assert_eq!(libc::sem_post(semaphore.at()), 0);
                }
                match libc::pthread_barrier_wait(barrier.at()) {
                    libc::PTHREAD_BARRIER_SERIAL_THREAD => drop(leaders.fetch_add(1, SeqCst)),
                    other => assert_eq!(other, 0),
                }
                assert_eq!(libc::pthread_spin_lock(spin.at()), 0);
                thread::sleep(Duration::from_micros(20));
                assert_eq!(libc::pthread_spin_unlock(spin.at()), 0);
                // All have gone on: nobody gives one back before the time is over.
                if i == 0 {
                    while libc::sem_trywait(semaphore.at()) == 0 {}
                    let until = wall_in(Duration::from_secs(1));
                    assert_eq!(libc::sem_timedwait(semaphore.at(), &until), -1);
                    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ETIMEDOUT));
                }
            }
        });
        assert_eq!(led.load(SeqCst), 1);
    }

    fn c11_threads(log: &Log) {
        unsafe extern "C" {
            fn thrd_create(
                id: *mut libc::pthread_t,
                f: extern "C" fn(*mut libc::c_void) -> i32,
                arg: *mut libc::c_void,
            ) -> i32;
            fn thrd_join(id: libc::pthread_t, value: *mut i32) -> i32;
            fn thrd_sleep(time: *const libc::timespec, left: *mut libc::timespec) -> i32;
            fn mtx_init(mutex: *mut libc::c_void, kind: i32) -> i32;
            fn mtx_lock(mutex: *mut libc::c_void) -> i32;
            fn mtx_unlock(mutex: *mut libc::c_void) -> i32;
        }
        static MUTEX: Shared<[u64; 5]> = Shared(std::cell::UnsafeCell::new([0; 5]));
        extern "C" fn body(log: *mut libc::c_void) -> i32 {
            // SAFETY: the log outlives the thread, which is joined; the mutex is initialised.
            unsafe {
                let log = &*log.cast::<Log>();
                assert_eq!(mtx_lock(MUTEX.at().cast()), 0);
                let second = libc::timespec { tv_sec: 1, tv_nsec: 0 };
                assert_eq!(thrd_sleep(&second, std::ptr::null_mut()), 0);
                log.add("slept");
                assert_eq!(mtx_unlock(MUTEX.at().cast()), 0);
                -5
            }
        }
        let began = Instant::now();
        // SAFETY: locals and a static; the ids are those of created threads.
        unsafe {
            assert_eq!(mtx_init(MUTEX.at().cast(), 0), 0);
            let mut ids = [0; 3];
            for id in &mut ids {
                assert_eq!(thrd_create(id, body, (&raw const *log).cast_mut().cast()), 0);
            }
            for id in ids {
                let mut value = 0;
                assert_eq!((thrd_join(id, &mut value), value), (0, -5));
            }
        }
        assert_eq!(began.elapsed().as_secs(), 3);
    }

    fn futex(word: &AtomicU32, op: i32, value: u32, limit: usize, other: usize, third: u32) -> i64 {
        // SAFETY: words that live across the call.
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), op, value, limit, other, third) }
    }

    /// The same by an instruction of this program.
    fn own_futex(word: &AtomicU32, op: i32, value: u32) -> i64 {
        let result: i64;
        // SAFETY: a word that lives across the call.
        unsafe {
            std::arch::asm!("syscall", inlateout("rax") libc::SYS_futex => result, in("rdi") word.as_ptr(),
                in("rsi") op as i64, in("rdx") value as i64, in("r10") 0, lateout("rcx") _, lateout("r11") _,
                options(nostack));
        }
        result
    }

    fn futexes_by_hand(log: &Log) {
        static WORDS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
        let errno = || std::io::Error::last_os_error().raw_os_error();
        assert_eq!((futex(&WORDS[0], libc::FUTEX_WAIT, 1, 0, 0, 0), errno()), (-1, Some(libc::EAGAIN)));
        let limit = libc::timespec { tv_sec: 0, tv_nsec: 5 };
        let limit = &raw const limit as usize;
        assert_eq!((futex(&WORDS[0], libc::FUTEX_WAIT, 0, limit, 0, 0), errno()), (-1, Some(libc::ETIMEDOUT)));
        assert_eq!((futex(&WORDS[0], libc::FUTEX_WAKE_BITSET, 1, 0, 0, 0), errno()), (-1, Some(libc::EINVAL)));
        let threads: Vec<_> = (0..6u32)
            .map(|i| {
                let log = log.clone();
                thread::spawn(move || {
                    let woken = match i {
                        0..3 => futex(&WORDS[0], libc::FUTEX_WAIT_BITSET, 0, 0, 0, 1 << i),
                        _ => own_futex(&WORDS[1], libc::FUTEX_WAIT, 0),
                    };
                    assert_eq!(woken, 0);
                    log.add(i);
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(1));
        assert_eq!(futex(&WORDS[0], libc::FUTEX_WAKE_BITSET, 9, 0, 0, 0b100), 1);
        thread::sleep(Duration::from_millis(1));
        assert_eq!(own_futex(&WORDS[1], libc::FUTEX_WAKE, 1), 1);
        // One is woken, one moves over, one stays.
        let (one, two) = (WORDS[0].as_ptr() as usize, 1);
        assert_eq!(futex(&WORDS[1], libc::FUTEX_CMP_REQUEUE, 1, two, one, 0), 2);
        assert_eq!((futex(&WORDS[1], libc::FUTEX_CMP_REQUEUE, 1, two, one, 7), errno()), (-1, Some(libc::EAGAIN)));
        assert_eq!(futex(&WORDS[1], libc::FUTEX_WAKE, 9, 0, 0, 0), 0);
        thread::sleep(Duration::from_millis(1));
        assert_eq!(futex(&WORDS[0], libc::FUTEX_WAKE, 9, 0, 0, 0), 3);
        threads.into_iter().for_each(|t| t.join().expect("no panic"));
    }

    // ---- the harness ------------------------------------------------------------------------------------------------

    const KINDS: u64 = 1_000;

    fn body(order: &Order) -> i32 {
        if order.index >= KINDS {
            return CASES[(order.index - KINDS) as usize].1();
        }
        let log = Log::default();
        let inner = log.clone();
        let program = PROGRAMS[order.index as usize].1;
        let (result, digest) = in_world(order.seed, move |_| program(&inner));
        assert_eq!(result, Ok(()));
        let seen = log.0.lock().expect("no poison").clone();
        process::report(format!("{digest:016x} {seen}").as_bytes());
        0
    }

    /// Runs `program` on a node called `kv0`; a run that no thread can return from reports its verdict and ends with 3.
    fn in_world(seed: u64, program: impl FnOnce(&'static World) + 'static) -> (Result<(), Verdict>, u64) {
        // The first seed takes the threads as they come.
        in_world_with(Settings::default(), seed, program)
    }

    fn in_world_with(
        settings: Settings,
        seed: u64,
        program: impl FnOnce(&'static World) + 'static,
    ) -> (Result<(), Verdict>, u64) {
        let settings = Settings { perturb_order: seed > 0, ..settings };
        let entered = World::enter(settings, Choices::seeded(seed)).expect("no other");
        let world = entered.world();
        let node = world.node("kv0");
        assert_ne!(node, NodeId::OUTSIDE);
        world.set_last_words(Rc::new(|world| {
            process::report(format!("{}", world.verdict().expect("it has ended")).as_bytes());
            // SAFETY: a number.
            unsafe { libc::_exit(3) }
        }));
        let _on = interpose::enable();
        let result = world.block_on(node, async move { program(world) }, Spawn::named("program"));
        (result, world.outcome().digest)
    }

    fn each_program_is_the_same_twice_for_each_seed() {
        let seeds = std::env::var("SEEDS").map_or(20, |n| n.parse().expect("a number"));
        for (index, (name, _)) in PROGRAMS.iter().enumerate() {
            let mut launcher = Launcher::start(2, Limits::default(), Box::new(body)).expect("a launcher");
            let mut reports: Vec<String> = Vec::new();
            let began = Instant::now();
            for seed in 0..seeds {
                let mut run = || {
                    launcher.fork(1, Order { seed, index: index as u64, ..Order::default() }).expect("a child");
                    let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
                    let output = String::from_utf8_lossy(&e.output.to_bytes()).into_owned();
                    let report = String::from_utf8_lossy(e.report).into_owned();
                    assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{name}, seed {seed}: {output} {report}");
                    report
                };
                let first = run();
                assert_eq!(first, run(), "{name}, seed {seed}");
                reports.push(first);
            }
            let ms = began.elapsed().as_micros() / (2 * seeds as u128);
            reports.sort();
            reports.dedup();
            println!("    {name}: {} different of {seeds}, {ms} µs a run", reports.len());
        }
    }

    fn case(name: &str, check: impl FnOnce(Ended<'_>)) {
        let index = CASES.iter().position(|(n, _)| *n == name).expect("listed") as u64 + KINDS;
        let mut launcher = Launcher::start(1, Limits::default(), Box::new(body)).expect("a launcher");
        launcher.fork(0, Order { index, ..Order::default() }).expect("a child");
        check(launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends"));
    }

    /// What a child does to end in some way.
    type Case = fn() -> i32;

    const CASES: [(&str, Case); 13] = [
        ("deadlock", deadlock),
        ("spin", spin),
        ("yield", yields_for_ever),
        ("yield beside", yields_beside_a_sleeper),
        ("yield a day", yields_for_a_day),
        ("overflow", overflow),
        ("kill", kill),
        ("heir", heir),
        ("estate", estate),
        ("wake", wakes_a_task),
        ("refused", refused),
        ("cost", cost),
        ("wait", waits_with_a_poll),
    ];

    fn deadlock() -> i32 {
        let _never = in_world(1, |_| {
            let locks = Arc::new((Mutex::new(0), Mutex::new(0)));
            let other = locks.clone();
            let thread = thread::Builder::new().name("backwards".into()).spawn(move || {
                let _two = other.1.lock();
                thread::sleep(Duration::from_secs(1));
                let _one = other.0.lock();
            });
            let _one = locks.0.lock();
            thread::sleep(Duration::from_secs(1));
            let _two = locks.1.lock();
            drop(thread);
        });
        0
    }

    fn a_deadlock_names_each_thread() {
        case("deadlock", |e| {
            let report = String::from_utf8_lossy(e.report);
            assert_eq!(e.exit, Exit::Status(3), "{report} {:?}", e.note);
            assert!(report.starts_with("deadlock: nothing is ready and nothing is timed"), "{report}");
            let backwards = "thread 1 (backwards) waits for a lock, a condition or an unpark (futex)";
            assert!(report.contains(backwards) && report.contains("thread 0 (main) waits for a lock"), "{report}");
        });
    }

    fn spin() -> i32 {
        process::watchdog(Duration::from_millis(100)).expect("timers");
        let _never = in_world(1, |_| {
            let thread = thread::Builder::new().name("spinner".into()).spawn(|| {
                loop {
                    black_box(());
                }
            });
            let _never = thread.expect("a thread").join();
        });
        0
    }

    fn a_thread_that_never_waits_is_stuck_and_named() {
        case("spin", |e| {
            assert_eq!(e.exit, Exit::Status(124));
            let note = e.note.expect("a note");
            assert_eq!((note.kind, note.task), (NoteKind::Stuck, "thread 1 (spinner)"));
        });
    }

    fn yields_for_ever() -> i32 {
        let settings = Settings { time_limit: Duration::from_secs(366 * 24 * 3600), ..Settings::default() };
        let _never = in_world_with(settings, 0, |_| {
            let thread = thread::Builder::new().name("yielder".into()).spawn(|| {
                loop {
                    thread::yield_now();
                }
            });
            let _never = thread.expect("a thread").join();
        });
        0
    }

    /// The sleeper's wakes let less and less time pass between the yields.
    fn yields_beside_a_sleeper() -> i32 {
        let settings = Settings { time_limit: Duration::from_secs(366 * 24 * 3600), ..Settings::default() };
        let _never = in_world_with(settings, 0, |_| {
            let sleeper = || {
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
            };
            thread::Builder::new().name("sleeper".into()).spawn(sleeper).expect("a thread");
            loop {
                thread::yield_now();
            }
        });
        0
    }

    /// A thread that yielded for ever was ended by nothing: each yield let a millisecond pass at most, so a year of the
    /// clock took hours. Now time passes faster the longer nothing happens, and what has happened by the end is `stuck`.
    fn a_thread_that_yields_for_ever_is_stuck_and_named() {
        for (name, thread) in [("yield", "thread 1 (yielder)"), ("yield beside", "thread 0 (main)")] {
            case(name, |e| {
                let report = String::from_utf8_lossy(e.report);
                assert_eq!(e.exit, Exit::Status(3), "{report} {:?}", e.note);
                assert_eq!(report, format!("stuck: one poll does not end: {thread}, which yields on and on"));
            });
        }
    }

    fn yields_for_a_day() -> i32 {
        let settings = Settings { time_limit: Duration::from_secs(366 * 24 * 3600), ..Settings::default() };
        let (result, _) = in_world_with(settings, 0, |world| {
            let alarm = thread::spawn(move || {
                thread::sleep(Duration::from_secs(3600));
                World::current().expect("in a run").now()
            });
            let began = world.now();
            let day = Duration::from_secs(24 * 3600);
            let mut yields = 0;
            while world.now() - began < day {
                thread::yield_now();
                yields += 1;
            }
            assert!(yields < 1_000_000, "{yields}");
            assert!(world.now() - began <= day.mul_f64(1.001), "{:?}", world.now());
            let rang = alarm.join().expect("no panic") - began;
            assert!(rang < Duration::from_secs(3601), "{rang:?}");
        });
        assert_eq!(result, Ok(()));
        0
    }

    fn who_yields_until_a_time_meets_it_nearly_and_makes_nobody_late() {
        case("yield a day", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    fn overflow() -> i32 {
        fn recurse(n: u64) -> u64 {
            let frame = black_box([n; 100]);
            if black_box(true) { recurse(n + 1) + frame[3] } else { 0 }
        }
        let _never = in_world(1, |_| drop(thread::spawn(|| recurse(0)).join()));
        0
    }

    fn a_stack_overflow_of_a_thread_is_called_one() {
        case("overflow", |e| {
            assert_eq!(e.exit, Exit::Signal(libc::SIGSEGV));
            assert_eq!(e.note.map(|n| (n.what, n.task)), Some(("SIGSEGV (stack overflow)", "thread 1 (unnamed)")));
        });
    }

    fn kill() -> i32 {
        let entered = World::enter(Settings::default(), Choices::seeded(5)).expect("no other");
        let world = entered.world();
        let (one, two) = (world.node("one"), world.node("two"));
        let _on = interpose::enable();
        static BEATS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
        struct Never;
        impl Drop for Never {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        for (i, node) in [(0, one), (1, two)] {
            let program = sim_core::program(move || async move {
                thread::spawn(move || {
                    let _never = Never;
                    loop {
                        thread::sleep(Duration::from_millis(10));
                        BEATS[i].fetch_add(1, SeqCst);
                    }
                });
                std::future::pending::<()>().await;
            });
            world.start(node, program, Spawn::named("beats"));
        }
        let beats = || [BEATS[0].load(SeqCst), BEATS[1].load(SeqCst)];
        let test = async move {
            sim_core::time::Timer::new(world.now() + Duration::from_millis(1005)).await;
            let before = beats();
            assert!(before.iter().all(|n| (90..=100).contains(n)), "{before:?}");
            world.end_node(one, Death::Kill);
            let before = beats();
            sim_core::time::Timer::new(world.now() + Duration::from_millis(1000)).await;
            assert_eq!(beats()[0], before[0]);
            assert!(beats()[1] >= before[1] + 90, "{:?}", beats());
            assert_eq!(world.live_threads(), 2);
        };
        let ended = world.block_on(NodeId::OUTSIDE, test, Spawn::named("test"));
        assert_eq!(ended, Ok(()));
        0
    }

    fn the_threads_of_a_killed_node_never_run_again() {
        case("kill", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    /// A lock that two machines share is let go; the thread that is woken for it dies with its machine before it runs.
    fn heir() -> i32 {
        static LOCK: Mutex<()> = Mutex::new(());
        static GOT: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
        let entered = World::enter(Settings::default(), Choices::seeded(5)).expect("no other");
        let world = entered.world();
        let nodes = [world.node("one"), world.node("two")];
        let _on = interpose::enable();
        let held = LOCK.lock();
        for (i, node) in nodes.into_iter().enumerate() {
            let program = sim_core::program(move || async move {
                thread::spawn(move || {
                    // The machine that dies came first.
                    thread::sleep(Duration::from_millis(i as u64));
                    let _lock = LOCK.lock();
                    GOT[i].store(true, SeqCst);
                });
                std::future::pending::<()>().await;
            });
            world.start(node, program, Spawn::named("waits"));
        }
        let test = async move {
            sim_core::time::Timer::new(world.now() + Duration::from_millis(10)).await;
            drop(held);
            world.end_node(nodes[0], Death::Kill);
            sim_core::time::Timer::new(world.now() + Duration::from_millis(10)).await;
            assert_eq!(GOT.each_ref().map(|got| got.load(SeqCst)), [false, true]);
        };
        let ended = world.block_on(NodeId::OUTSIDE, test, Spawn::named("test"));
        assert_eq!(ended, Ok(()));
        0
    }

    fn what_the_dead_were_woken_for_is_for_the_next() {
        case("heir", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    /// A machine dies whose thread holds a mutex in static memory, as SQLite holds that of its table of files during system
    /// calls. Its next incarnation waited for that mutex for ever. A new process has new memory: the mutex is free.
    fn estate() -> i32 {
        static MUTEX: Shared<libc::pthread_mutex_t> =
            Shared(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        static GOT: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
        let entered = World::enter(Settings::default(), Choices::seeded(5)).expect("no other");
        let world = entered.world();
        let nodes = [world.node("one"), world.node("two")];
        let _on = interpose::enable();
        for (i, node) in nodes.into_iter().enumerate() {
            let program = sim_core::program(move || async move {
                thread::spawn(move || {
                    // The machine that dies came first.
                    thread::sleep(Duration::from_millis(i as u64));
                    // SAFETY: a static that is initialised.
                    unsafe {
                        assert_eq!(libc::pthread_mutex_lock(MUTEX.at()), 0);
                        GOT[i].fetch_add(1, SeqCst);
                        thread::sleep(Duration::from_secs(100));
                        assert_eq!(libc::pthread_mutex_unlock(MUTEX.at()), 0);
                    }
                });
                std::future::pending::<()>().await;
            });
            world.start(node, program, Spawn::named("locks"));
        }
        let got = || GOT.each_ref().map(|got| got.load(SeqCst));
        let test = async move {
            let later = |ms| sim_core::time::Timer::new(world.now() + Duration::from_millis(ms));
            later(10).await;
            assert_eq!(got(), [1, 0]);
            world.end_node(nodes[0], Death::PowerOff);
            later(10).await;
            assert_eq!(got(), [1, 1], "who waited for it has it");
            world.restart(nodes[0]);
            later(10).await;
            assert_eq!(got(), [1, 1], "who holds it lives");
            world.end_node(nodes[1], Death::Kill);
            later(10).await;
            assert_eq!(got(), [2, 1], "a new incarnation has it");
            world.end_node(nodes[0], Death::Kill);
            world.restart(nodes[1]);
            later(10).await;
            assert_eq!(got(), [2, 2], "who comes when it is dead has it");
        };
        assert_eq!(world.block_on(NodeId::OUTSIDE, test, Spawn::named("test")), Ok(()));
        0
    }

    fn a_mutex_that_the_dead_held_is_free() {
        case("estate", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    fn wakes_a_task() -> i32 {
        let entered = World::enter(Settings::default(), Choices::seeded(5)).expect("no other");
        let world = entered.world();
        let node = world.node("kv0");
        let _on = interpose::enable();
        let test = async move {
            let done = Arc::new(AtomicBool::new(false));
            let mut thread = None;
            std::future::poll_fn(|cx| {
                if done.load(SeqCst) {
                    return Poll::Ready(());
                }
                let (waker, done) = (cx.waker().clone(), done.clone());
                thread.get_or_insert_with(|| {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_secs(1));
                        done.store(true, SeqCst);
                        waker.wake();
                    })
                });
                Poll::Pending
            })
            .await;
            assert_eq!(world.now().as_nanos() / 1_000_000, 1_000);
            // The thread's id and the process's, and the processor.
            // SAFETY: the calls take nothing.
            unsafe {
                assert_eq!((libc::getpid(), libc::gettid(), libc::sched_getcpu()), (1001, 1001, 0));
                let other = thread::spawn(|| (libc::getpid(), libc::gettid(), libc::sched_getcpu()));
                assert_eq!(other.join().expect("no panic"), (1001, 100_002, 0));
            }
            thread.expect("started").join().expect("no panic");
        };
        assert_eq!(world.block_on(node, test, Spawn::named("test")), Ok(()));
        0
    }

    fn a_thread_wakes_a_task() {
        case("wake", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    fn refused() -> i32 {
        type Call = fn();
        let calls: [(&str, Call); 7] = [
            ("alarm(1)", || {
                // SAFETY: a number.
                unsafe { libc::alarm(1) };
            }),
            ("timer_create", || {
                let mut timer = std::ptr::null_mut();
                // SAFETY: a local; a null event is allowed.
                let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, std::ptr::null_mut(), &mut timer) };
                assert_eq!(made, -1);
            }),
            ("futex(FUTEX_LOCK_PI)", || {
                static WORD: AtomicU32 = AtomicU32::new(0);
                assert_eq!(futex(&WORD, libc::FUTEX_LOCK_PI, 0, 0, 0, 0), -1);
            }),
            ("pthread_cancel", || {
                // SAFETY: the calling thread's own id.
                unsafe { libc::pthread_cancel(libc::pthread_self()) };
            }),
            ("pthread_kill(10) to another thread", || {
                use std::os::unix::thread::JoinHandleExt;
                let thread = thread::spawn(|| thread::sleep(Duration::from_secs(1)));
                // SAFETY: the thread is not joined yet.
                assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) }, libc::EPERM);
            }),
            ("tgkill(1, 1, 9)", || {
                // SAFETY: numbers; the process that is named must not be hurt, which is what is tested.
                unsafe { libc::syscall(libc::SYS_tgkill, 1, 1, 9) };
            }),
            ("pthread_mutex_lock of a robust mutex", || {
                // SAFETY: initialised before use.
                unsafe {
                    let (mut attr, mut mutex) = (std::mem::zeroed(), std::mem::zeroed());
                    libc::pthread_mutexattr_init(&mut attr);
                    libc::pthread_mutexattr_setrobust(&mut attr, libc::PTHREAD_MUTEX_ROBUST);
                    libc::pthread_mutex_init(&mut mutex, &attr);
                    assert_eq!(libc::pthread_mutex_lock(&mut mutex), libc::EINVAL);
                }
            }),
        ];
        for (name, call) in calls {
            match in_world(1, move |_| call()).0 {
                Err(Verdict::Escaped { call, .. }) => assert_eq!(call, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        0
    }

    fn what_threads_cannot_do_is_refused_by_name() {
        case("refused", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    fn cost() -> i32 {
        fn real_ns() -> u64 {
            interpose::pass_through(|| at(libc::CLOCK_MONOTONIC, Duration::ZERO)).tv_nsec as u64
                + interpose::pass_through(|| at(libc::CLOCK_MONOTONIC, Duration::ZERO)).tv_sec as u64 * 1_000_000_000
        }
        let (result, _) = in_world(0, |_| {
            let measure = |what: &str, n: u64, run: &mut dyn FnMut()| {
                let began = real_ns();
                run();
                let each = (real_ns() - began) / n;
                interpose::pass_through(|| println!("    {what}: {each} ns"));
            };
            measure("thread started and joined", 2_000, &mut || {
                (0..2_000).for_each(|_| thread::spawn(|| ()).join().expect("no panic"))
            });
            let (ping, pinged) = mpsc::sync_channel::<()>(0);
            let (pong, ponged) = mpsc::sync_channel::<()>(0);
            let thread = thread::spawn(move || {
                while pinged.recv().is_ok() {
                    pong.send(()).expect("somebody listens");
                }
            });
            measure("rendezvous there and back", 10_000, &mut || {
                (0..10_000).for_each(|_| {
                    ping.send(()).expect("somebody listens");
                    ponged.recv().expect("an answer");
                })
            });
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            let yielder = thread::spawn(move || {
                while !stopped.load(SeqCst) {
                    thread::yield_now();
                }
            });
            measure("hand-over there and back, by yielding", 20_000, &mut || {
                (0..20_000).for_each(|_| thread::yield_now())
            });
            stop.store(true, SeqCst);
            yielder.join().expect("no panic");
            measure("yield, nobody else ready", 100_000, &mut || (0..100_000).for_each(|_| thread::yield_now()));
            let mutex = Shared::new(libc::PTHREAD_MUTEX_INITIALIZER);
            measure("pthread mutex, locked and unlocked", 1_000_000, &mut || {
                // SAFETY: an initialised mutex.
                (0..1_000_000).for_each(|_| unsafe {
                    libc::pthread_mutex_lock(mutex.at());
                    libc::pthread_mutex_unlock(mutex.at());
                })
            });
            drop(ping);
            thread.join().expect("no panic");
        });
        assert_eq!(result, Ok(()));
        0
    }

    fn what_it_costs() {
        case("cost", |e| {
            print!("{}", String::from_utf8_lossy(&e.output.to_bytes()));
            assert_eq!((e.exit, e.note), (Exit::Status(0), None));
        });
    }

    fn waits_with_a_poll() -> i32 {
        let (result, _) = in_world(3, |world| {
            let mut timer = sim_core::time::Timer::new(world.now() + Duration::from_secs(5));
            let until = world.now() + Duration::from_secs(2);
            assert_eq!(threads::wait("a timer", Some(until), |cx| Pin::new(&mut timer).poll(cx)), None);
            assert_eq!(world.now(), until);
            assert_eq!(threads::wait("a timer", None, |cx| Pin::new(&mut timer).poll(cx)), Some(()));
            assert_eq!(world.now().as_nanos(), 5_000_000_000);
        });
        assert_eq!(result, Ok(()));
        0
    }

    fn a_poll_function_can_be_waited_for() {
        case("wait", |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", String::from_utf8_lossy(&e.output.to_bytes()));
        });
    }

    /// Outside a run the symbols pass through: libc's own functions wait, in the version that programs are linked to.
    fn outside_a_run_locks_are_libcs() {
        let shared = (Shared::new(libc::PTHREAD_COND_INITIALIZER), Shared::new(libc::PTHREAD_MUTEX_INITIALIZER));
        let state = Arc::new(AtomicU32::new(0));
        let turns = state.clone();
        run_threads(2, move |i| {
            let (c, m) = (shared.0.at(), shared.1.at());
            // SAFETY: initialised objects; the mutex is held where it must be.
            unsafe {
                assert_eq!(libc::pthread_mutex_lock(m), 0);
                for turn in (i..100).step_by(2) {
                    while turns.load(SeqCst) != turn {
                        let until = wall_in(Duration::from_secs(10));
                        assert_eq!(libc::pthread_cond_timedwait(c, m, &until), 0);
                    }
                    turns.fetch_add(1, SeqCst);
                    libc::pthread_cond_broadcast(c);
                }
                libc::pthread_mutex_unlock(m);
                let until = wall_in(Duration::from_millis(5));
                libc::pthread_mutex_lock(m);
                // The other one's last word may still come.
                while libc::pthread_cond_timedwait(c, m, &until) != libc::ETIMEDOUT {}
                libc::pthread_mutex_unlock(m);
            }
        });
        assert_eq!(state.load(SeqCst), 100);
    }

    pub fn main() {
        let facts: &[(&str, fn())] = &[
            ("outside_a_run_locks_are_libcs", outside_a_run_locks_are_libcs),
            ("each_program_is_the_same_twice_for_each_seed", each_program_is_the_same_twice_for_each_seed),
            ("a_deadlock_names_each_thread", a_deadlock_names_each_thread),
            ("a_thread_that_never_waits_is_stuck_and_named", a_thread_that_never_waits_is_stuck_and_named),
            ("a_thread_that_yields_for_ever_is_stuck_and_named", a_thread_that_yields_for_ever_is_stuck_and_named),
            (
                "who_yields_until_a_time_meets_it_nearly_and_makes_nobody_late",
                who_yields_until_a_time_meets_it_nearly_and_makes_nobody_late,
            ),
            ("a_stack_overflow_of_a_thread_is_called_one", a_stack_overflow_of_a_thread_is_called_one),
            ("the_threads_of_a_killed_node_never_run_again", the_threads_of_a_killed_node_never_run_again),
            ("what_the_dead_were_woken_for_is_for_the_next", what_the_dead_were_woken_for_is_for_the_next),
            ("a_mutex_that_the_dead_held_is_free", a_mutex_that_the_dead_held_is_free),
            ("a_thread_wakes_a_task", a_thread_wakes_a_task),
            ("what_threads_cannot_do_is_refused_by_name", what_threads_cannot_do_is_refused_by_name),
            ("a_poll_function_can_be_waited_for", a_poll_function_can_be_waited_for),
            ("what_it_costs", what_it_costs),
        ];
        // As the runner does: addresses are fixed for what follows.
        if std::env::var_os("SIM_LIBC_AGAIN").is_none() {
            let exe = std::env::current_exe().expect("a path");
            let mut command = process::hermetic_command(&exe).expect("a command");
            let status = command.args(std::env::args().skip(1)).env("SIM_LIBC_AGAIN", "1").status().expect("it runs");
            std::process::exit(status.code().unwrap_or(1));
        }
        process::begin();
        super::run(facts);
    }
}

/// Runs the facts whose names contain the first argument that is no option.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn run(facts: &[(&str, fn())]) {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    for (name, fact) in facts.iter().filter(|(name, _)| name.contains(&filter)) {
        println!("{name}");
        fact();
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn main() {
    linux::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
fn main() {}
