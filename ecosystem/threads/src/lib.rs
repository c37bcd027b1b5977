//! Programs with threads, as they are commonly written. Each returns what it saw, in the order it saw it, and panics where
//! what must hold does not.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// A list that threads add to.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, what: impl ToString) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(what.to_string());
    }

    fn all(self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// Waits for a value with time limits that pass before it comes.
pub fn mutex_and_condvar() -> Vec<String> {
    let seen = Seen::default();
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let (other, log) = (shared.clone(), seen.clone());
    let thread = thread::spawn(move || {
        thread::sleep(100 * MS);
        *other.0.lock().unwrap() = 7;
        log.add("set");
        other.1.notify_all();
    });
    let mut value = shared.0.lock().unwrap();
    while *value == 0 {
        let (guard, result) = shared.1.wait_timeout(value, 30 * MS).unwrap();
        value = guard;
        seen.add(result.timed_out());
    }
    drop(value);
    thread.join().unwrap();
    assert_eq!(seen.0.lock().unwrap().iter().filter(|s| *s == "true").count(), 3);
    seen.all()
}

/// Three senders that sleep, one receiver.
pub fn channel_and_sleep() -> Vec<String> {
    let (send, receive) = mpsc::sync_channel(1);
    for i in 0..3u32 {
        let send = send.clone();
        thread::spawn(move || {
            for n in 0..15 {
                thread::sleep((n % 4) * MS);
                send.send(format!("{i}.{n}")).unwrap();
            }
        });
    }
    drop(send);
    let all: Vec<String> = receive.iter().collect();
    assert_eq!(all.len(), 45);
    all
}

/// Park, unpark, and a park that nobody ends.
pub fn park_and_unpark() -> Vec<String> {
    let (began, main) = (Instant::now(), thread::current());
    let thread = thread::spawn(move || {
        thread::park();
        main.unpark();
        thread::park_timeout(Duration::from_secs(1_800));
    });
    thread.thread().unpark();
    thread::park();
    thread.join().unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1_800));
    vec![format!("{:?}", began.elapsed())]
}

/// Scoped threads that yield.
pub fn scope_and_yield() -> Vec<String> {
    let seen = Seen::default();
    thread::scope(|scope| {
        for i in 0..8 {
            let seen = seen.clone();
            scope.spawn(move || {
                for _ in 0..3 {
                    thread::yield_now();
                    seen.add(i);
                }
            });
        }
    });
    seen.all()
}

/// std's other locks.
pub fn barrier_rwlock_once() -> Vec<String> {
    let seen = Seen::default();
    let shared = Arc::new((Barrier::new(4), RwLock::new(0), Once::new()));
    let threads = (0..4).map(|i| {
        let (shared, seen) = (shared.clone(), seen.clone());
        thread::spawn(move || {
            shared.2.call_once(|| {
                thread::sleep(MS);
                seen.add(format!("once by {i}"));
            });
            shared.0.wait();
            *shared.1.write().unwrap() += 1;
            seen.add(i);
            shared.0.wait();
            assert_eq!(*shared.1.read().unwrap(), 4);
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    seen.all()
}

/// crossbeam: bounded and zero channels, `select!`, `tick`, a wait group.
pub fn crossbeam_channels() -> Vec<String> {
    use crossbeam::channel::{bounded, select, tick};
    let seen = Seen::default();
    let (work, todo) = bounded::<u32>(2);
    let (done, results) = bounded::<(u32, u32)>(0);
    let group = crossbeam::sync::WaitGroup::new();
    for worker in 0..4u32 {
        let (todo, done, group) = (todo.clone(), done.clone(), group.clone());
        thread::spawn(move || {
            for n in todo {
                thread::sleep((n % 3) * MS);
                done.send((worker, n)).unwrap();
            }
            drop(group);
        });
    }
    drop((todo, done));
    thread::spawn(move || (0..30).for_each(|n| work.send(n).unwrap()));
    let ticks = tick(5 * MS);
    let (mut sum, mut ticked) = (0, 0);
    loop {
        select! {
            recv(results) -> result => match result {
                Ok((worker, n)) => {
                    seen.add(format!("{worker}:{n}"));
                    sum += n;
                }
                Err(_) => break,
            },
            recv(ticks) -> _ => ticked += 1,
        }
    }
    group.wait();
    assert_eq!(sum, 435);
    seen.add(ticked);
    seen.all()
}

/// parking_lot's mutex, condition variable, read-write lock, fair unlocks.
pub fn parking_lot_locks() -> Vec<String> {
    use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
    let seen = Seen::default();
    let shared = Arc::new((Mutex::new(0u32), Condvar::new(), RwLock::new(0u32)));
    let threads = (0..4u32).map(|i| {
        let (shared, seen) = (shared.clone(), seen.clone());
        thread::spawn(move || {
            for round in 0..5u32 {
                let mut turn = shared.0.lock();
                while *turn % 4 != i {
                    shared.1.wait_for(&mut turn, 10 * MS);
                }
                *turn += 1;
                shared.1.notify_all();
                MutexGuard::unlock_fair(turn);
                if (i + round) % 2 == 0 {
                    *shared.2.write() += 1;
                } else {
                    seen.add(format!("{i} reads {}", shared.2.read()));
                    thread::sleep(MS);
                }
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!((*shared.0.lock(), *shared.2.read()), (20, 10));
    seen.all()
}

/// A pool of four rayon threads that sort, sum and join.
pub fn rayon_pool() -> Vec<String> {
    use rayon::prelude::*;
    let seen = Seen::default();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let (sum, sorted) = pool.install(|| {
        let mut numbers: Vec<u64> = (0..2_000).map(|n| n * 7_919 % 2_003).collect();
        rayon::join(|| (0..1_000u64).into_par_iter().map(|n| n * n).sum::<u64>(), || {
            numbers.par_sort_unstable();
            numbers
        })
    });
    assert_eq!(sum, 332_833_500);
    assert!(sorted.is_sorted());
    pool.scope(|scope| {
        for i in 0..12 {
            let seen = seen.clone();
            scope.spawn(move |_| seen.add(format!("{i} on {:?}", rayon::current_thread_index())));
        }
    });
    seen.all()
}

/// flume between threads, and futures' pool, whose tasks run on threads.
pub fn flume_and_a_pool_of_futures() -> Vec<String> {
    use futures::task::SpawnExt;
    let seen = Seen::default();
    let pool = futures::executor::ThreadPool::builder().pool_size(3).create().unwrap();
    let (send, receive) = flume::bounded::<u32>(3);
    for i in 0..4 {
        let (send, seen) = (send.clone(), seen.clone());
        let task = async move {
            for n in 0..5 {
                send.send_async(i * 10 + n).await.unwrap();
            }
            seen.add(format!("sent by {i}"));
        };
        pool.spawn(task).unwrap();
    }
    drop(send);
    let mut all: Vec<u32> = receive.iter().inspect(|n| seen.add(n)).collect();
    all.sort_unstable();
    assert_eq!(all.len(), 20);
    let handle = pool.spawn_with_handle(async { 42 }).unwrap();
    assert_eq!(futures::executor::block_on(handle), 42);
    assert_eq!(receive.recv_timeout(MS).ok(), None);
    seen.all()
}

/// A panic in a thread, a poisoned lock, and a destructor of a thread-local that sleeps.
pub fn panics_and_destructors() -> Vec<String> {
    struct Slow(Seen);
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(10 * MS);
            self.0.add("dropped");
        }
    }
    thread_local! {
        static SLOW: std::cell::RefCell<Option<Slow>> = const { std::cell::RefCell::new(None) };
    }
    let seen = Seen::default();
    let lock = Arc::new(Mutex::new(()));
    let (held, log, began) = (lock.clone(), seen.clone(), Instant::now());
    let thread = thread::spawn(move || {
        SLOW.with(|slow| *slow.borrow_mut() = Some(Slow(log)));
        let _guard = held.lock();
        std::panic::resume_unwind(Box::new("as it should"));
    });
    assert!(thread.join().is_err() && lock.is_poisoned());
    assert!(began.elapsed() >= 10 * MS);
    seen.all()
}

/// What differs from run to run where nothing is simulated: hash order, clocks, addresses of the heap.
pub fn hash_order_clock_addresses() -> Vec<String> {
    let seen = Seen::default();
    let look = |seen: &Seen| {
        let map: HashMap<u32, ()> = (0..16).map(|n| (n, ())).collect();
        seen.add(format!("{:?}", map.keys().collect::<Vec<_>>()));
        let (small, large) = (Box::new(0u8), vec![0u8; 300_000]);
        seen.add(format!("{:?} {:?} {:?}", &raw const *small, large.as_ptr(), Instant::now()));
    };
    let other = seen.clone();
    let thread = thread::spawn(move || {
        look(&other);
        thread::yield_now();
        look(&other);
    });
    look(&seen);
    thread.join().unwrap();
    look(&seen);
    seen.all()
}

/// Work that is found by polling an atomic, as spinning code does.
pub fn spins_with_yields() -> Vec<String> {
    let seen = Seen::default();
    let turn = Arc::new(AtomicU32::new(0));
    let threads = (0..3u32).map(|i| {
        let (turn, seen) = (turn.clone(), seen.clone());
        thread::spawn(move || {
            for _ in 0..5 {
                while turn.load(Ordering::Acquire) % 3 != i {
                    thread::yield_now();
                }
                seen.add(i);
                turn.fetch_add(1, Ordering::Release);
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let all = seen.all();
    assert_eq!(all.concat(), "012".repeat(5));
    all
}

/// Clocks and sleep by system calls that rustix makes itself, and by the processor's counter, on two threads.
pub fn clocks_past_libc() -> Vec<String> {
    use rustix::thread::{NanosleepRelativeResult, nanosleep, sched_yield};
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let seen = Seen::default();
    let look = |seen: &Seen| {
        let (monotonic, real) = (clock_gettime(ClockId::Monotonic), clock_gettime(ClockId::Realtime));
        seen.add(format!("{} {}", monotonic.tv_nsec, real.tv_sec));
        monotonic.tv_sec
    };
    let log = seen.clone();
    let thread = thread::spawn(move || {
        for _ in 0..3 {
            sched_yield();
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            assert!(matches!(nanosleep(&second), NanosleepRelativeResult::Ok));
            look(&log);
        }
    });
    let clock = quanta::Clock::new();
    let (before, began) = (look(&seen), clock.now());
    thread.join().unwrap();
    assert_eq!(look(&seen) - before, 3);
    // quanta has measured the counter's speed against the clock.
    let took = clock.now() - began;
    assert!(took.abs_diff(Duration::from_secs(3)) < 10 * MS, "{took:?}");
    seen.add(format!("{took:?}"));
    seen.all()
}
