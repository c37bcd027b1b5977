//! Programs that build runtimes of both kinds and cross between tasks and threads wherever tokio allows it. Each returns what
//! it saw, in the order it saw it, and panics where what must hold does not.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);
const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);

/// A list that tasks and threads add to.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn add(&self, what: impl ToString) {
        self.0.lock().unwrap().push(what.to_string());
    }

    fn all(self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// One thread's runtime.
pub fn current_thread() -> Vec<String> {
    let seen = Seen::default();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(crossings(seen.clone()));
    // Dropping it waits for what blocks.
    let log = seen.clone();
    runtime.spawn_blocking(move || {
        thread::sleep(5 * MS);
        log.add("blocked to the end");
    });
    drop(runtime);
    let all = seen.all();
    assert_eq!(all.last().map(String::as_str), Some("blocked to the end"));
    all
}

/// Three workers that steal from each other, one of them replaced while it blocks in place.
pub fn multi_thread() -> Vec<String> {
    let seen = Seen::default();
    let runtime = Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let log = seen.clone();
    runtime.block_on(async move {
        let tasks: JoinSet<u32> = (0..6)
            .map(|i| {
                let log = log.clone();
                async move {
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    log.add(format!("{i} on {:?}", thread::current().id()));
                    tokio::task::block_in_place(|| thread::sleep(i * MS));
                    i
                }
            })
            .collect();
        assert_eq!(tasks.join_all().await.iter().sum::<u32>(), 15);
        tokio::spawn(crossings(log)).await.unwrap();
    });
    assert_eq!(runtime.metrics().num_workers(), 3);
    seen.all()
}

/// Tasks, blocking work, and threads that enter the runtime by its handle; then half an hour that passes at once.
async fn crossings(seen: Seen) {
    let mut tasks = JoinSet::new();
    for i in 0..5u32 {
        let seen = seen.clone();
        tasks.spawn(async move {
            sleep((i % 2) * MS).await;
            let twice = tokio::task::spawn_blocking(move || {
                thread::sleep((i % 3) * MS);
                i * 2
            });
            let twice = twice.await.unwrap();
            seen.add(format!("task {i}: {twice}"));
            twice
        });
    }
    let (down, mut from_above) = mpsc::channel::<u32>(2);
    let (up, mut from_below) = mpsc::channel::<u32>(2);
    let (handle, log) = (Handle::current(), seen.clone());
    let thread = thread::spawn(move || {
        while let Some(n) = from_above.blocking_recv() {
            log.add(format!("thread got {n}"));
            up.blocking_send(n + 100).unwrap();
        }
        let (said, heard) = oneshot::channel();
        handle.spawn(async move {
            sleep(3 * MS).await;
            said.send("spawned by a thread").unwrap();
        });
        let heard = handle.block_on(async {
            sleep(MS).await;
            heard.await.unwrap()
        });
        log.add(heard);
    });
    for n in 0..4 {
        down.send(n).await.unwrap();
        seen.add(format!("task got {}", from_below.recv().await.unwrap()));
    }
    drop(down);
    assert_eq!(tasks.join_all().await.iter().sum::<u32>(), 20);
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
    let began = Instant::now();
    sleep(HALF_AN_HOUR).await;
    assert!(began.elapsed() >= HALF_AN_HOUR);
}

/// A socket that is waited for with the program's own epoll, on the thread that polls it: tokio knows nothing of that.
pub fn own_epoll() -> Vec<String> {
    use polling::{Event, Events, Poller};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(20 * MS);
        TcpStream::connect(address).unwrap().write_all(b"hello").unwrap();
    });
    let poller = Poller::new().unwrap();
    let mut events = Events::new();
    let mut waits = 0;
    // SAFETY: the listener is deleted from the poller before it is dropped.
    unsafe { poller.add(&listener, Event::readable(7)).unwrap() };
    while events.is_empty() {
        waits += 1;
        poller.wait(&mut events, Some(15 * MS)).unwrap();
    }
    assert_eq!((waits, events.iter().next().unwrap().key), (2, 7));
    poller.delete(&listener).unwrap();
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    thread.join().unwrap();
    vec![said]
}
