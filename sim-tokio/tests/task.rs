//! Tasks: joining, aborting, sets of them, local ones.

use sim_tokio as tokio;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{self, JoinSet, LocalSet};
use tokio::time::sleep;

fn run<F: Future>(body: F) -> F::Output {
    Builder::new_current_thread().enable_all().build().expect("it is built").block_on(body)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_panic_goes_to_the_handle() {
    run(async {
        let e = tokio::spawn(async { panic!("boom 1") }).await.expect_err("it panics");
        assert!(e.is_panic() && !e.is_cancelled());
        assert!(e.to_string().ends_with("panicked with message \"boom 1\""), "{e}");
        assert_eq!(e.into_panic().downcast_ref::<&str>().copied(), Some("boom 1"));
    });
}

#[test]
fn an_aborted_task_drops_its_future_and_is_cancelled() {
    struct Sets(Arc<AtomicU32>);
    impl Drop for Sets {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    run(async {
        let dropped = Arc::new(AtomicU32::new(0));
        let held = Sets(dropped.clone());
        let handle = tokio::spawn(async move {
            let _held = held;
            pending::<()>().await
        });
        let abort = handle.abort_handle();
        task::yield_now().await;
        assert!(!abort.is_finished() && abort.id() == handle.id());
        abort.abort();
        assert!(!abort.is_finished(), "not before it would be polled");
        let e = handle.await.expect_err("it was aborted");
        assert!(e.is_cancelled());
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        assert!(abort.is_finished());
    });
}

#[test]
fn a_dropped_handle_detaches() {
    run(async {
        let (tx, rx) = oneshot::channel();
        drop(tokio::spawn(async move {
            sleep(ms(5)).await;
            tx.send(3).expect("somebody waits");
        }));
        assert_eq!(rx.await, Ok(3));
    });
}

#[test]
fn only_spawned_tasks_have_ids() {
    run(async {
        assert_eq!(task::try_id(), None);
        let handle = tokio::spawn(async { task::id() });
        let id = handle.id();
        assert_eq!(handle.await.expect("it ends"), id);
        let local = LocalSet::new();
        assert!(local.run_until(async { task::try_id() }).await.is_none());
    });
}

#[test]
fn yield_now_wakes_whoever_polls_it() {
    run(async {
        let (a, b) = tokio::join!(task::yield_now(), async {
            task::yield_now().await;
            task::yield_now().await;
            2
        });
        assert_eq!((a, b), ((), 2));
    });
}

#[test]
fn a_join_set_yields_tasks_in_the_order_they_end() {
    run(async {
        let mut set = JoinSet::new();
        for n in [30, 10, 20] {
            set.spawn(async move {
                sleep(ms(n)).await;
                n
            });
        }
        assert_eq!(set.len(), 3);
        assert!(set.try_join_next().is_none());
        let mut order = Vec::new();
        while let Some(n) = set.join_next().await {
            order.push(n.expect("it ends"));
        }
        assert_eq!(order, [10, 20, 30]);
        assert!(set.is_empty() && set.join_next().await.is_none());
    });
}

#[test]
fn a_join_set_aborts_what_it_drops() {
    run(async {
        let (tx, rx) = oneshot::channel::<()>();
        let mut set = JoinSet::new();
        set.spawn(async move {
            let _held = tx;
            pending::<()>().await
        });
        task::yield_now().await;
        drop(set);
        rx.await.expect_err("the sender is dropped");
    });
}

#[test]
fn a_join_set_shuts_down_detaches_and_joins_all() {
    run(async {
        let mut set: JoinSet<u32> = (0..4).map(|n| async move { n }).collect();
        set.shutdown().await;
        assert!(set.is_empty());

        let ran = Arc::new(AtomicU32::new(0));
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let ran = ran.clone();
            set.spawn(async move {
                sleep(ms(1)).await;
                ran.fetch_add(1, Ordering::SeqCst)
            });
        }
        set.detach_all();
        assert_eq!(set.len(), 0);
        sleep(ms(5)).await;
        assert_eq!(ran.load(Ordering::SeqCst), 3);

        let mut all = (0..4).map(|n| async move { n }).collect::<JoinSet<_>>().join_all().await;
        all.sort();
        assert_eq!(all, [0, 1, 2, 3]);

        let mut set = JoinSet::new();
        let id = set.spawn(async { 7 }).id();
        assert_eq!(set.join_next_with_id().await.expect("one").expect("it ends"), (id, 7));
        set.spawn(async { panic!("in the set") });
        assert!(set.join_next().await.expect("one").expect_err("it panics").is_panic());
        let abort = set.spawn(pending());
        abort.abort();
        assert!(set.join_next().await.expect("one").expect_err("aborted").is_cancelled());
    });
}

#[test]
fn an_entry_that_ended_and_was_detached_is_not_yielded() {
    run(async {
        let mut set = JoinSet::new();
        set.spawn(async { 1 });
        sleep(ms(1)).await;
        set.detach_all();
        set.spawn(async {
            sleep(ms(1)).await;
            2
        });
        assert_eq!(set.join_next().await.expect("one").expect("it ends"), 2);
        assert!(set.try_join_next().is_none());
    });
}

#[test]
fn local_tasks_run_while_their_set_is_driven() {
    run(async {
        let set = LocalSet::new();
        let count = Rc::new(Cell::new(0));
        let bump = |count: &Rc<Cell<u32>>| {
            let count = count.clone();
            async move {
                loop {
                    count.set(count.get() + 1);
                    sleep(ms(1)).await;
                }
            }
        };
        set.spawn_local(bump(&count));
        sleep(ms(10)).await;
        assert_eq!(count.get(), 0, "nobody drives the set");
        set.run_until(sleep(ms(10))).await;
        let driven = count.get();
        assert!(driven > 5, "{driven}");
        sleep(ms(10)).await;
        assert!(count.get() <= driven + 1, "nobody drives it any more");
    });
}

#[test]
fn a_local_set_is_ready_when_its_last_task_ended() {
    run(async {
        let set = LocalSet::new();
        let log = Rc::new(RefCell::new(Vec::new()));
        let l = log.clone();
        set.spawn_local(async move {
            let inner = l.clone();
            task::spawn_local(async move {
                sleep(ms(5)).await;
                inner.borrow_mut().push("inner");
            });
            l.borrow_mut().push("outer");
        });
        set.await;
        assert_eq!(*log.borrow(), ["outer", "inner"]);
        LocalSet::new().await;
    });
}

#[test]
fn a_dropped_local_set_drops_its_tasks() {
    run(async {
        let held = Rc::new(());
        let set = LocalSet::new();
        let inside = held.clone();
        let handle = set.spawn_local(async move {
            let _inside = inside;
            pending::<()>().await
        });
        set.run_until(task::yield_now()).await;
        assert_eq!(Rc::strong_count(&held), 2);
        drop(set);
        assert_eq!(Rc::strong_count(&held), 1);
        assert!(handle.await.expect_err("it was dropped").is_cancelled());
    });
}

#[test]
fn a_local_set_blocks_and_is_entered() {
    let rt = Builder::new_current_thread().enable_all().build().expect("it is built");
    let set = LocalSet::new();
    let handle = {
        let _inside = set.enter();
        task::spawn_local(async { Rc::new(4) })
    };
    let n = set.block_on(&rt, async { task::spawn_local(async { 3 }).await.expect("it ends") });
    assert_eq!(n, 3);
    assert_eq!(*set.block_on(&rt, handle).expect("it ends"), 4);
    set.block_on(&rt, async {
        let mut tasks = JoinSet::new();
        tasks.spawn_local(async { Rc::new(5) });
        assert_eq!(*tasks.join_next().await.expect("one").expect("it ends"), 5);
        // A task that is not local is none of the set's.
        assert_eq!(tokio::spawn(async { 6 }).await.expect("it ends"), 6);
    });
}

#[test]
#[should_panic(expected = "`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`")]
fn spawn_local_needs_a_local_set() {
    run(async {
        task::spawn_local(async {});
    });
}

#[test]
#[should_panic(expected = "there is no reactor running, must be called from the context of a Tokio 1.x runtime")]
fn spawn_needs_a_runtime() {
    tokio::spawn(async {});
}

#[test]
fn task_locals_and_channels_are_tokios() {
    tokio::task_local! { static NAME: &'static str; }
    Runtime::new().expect("it is built").block_on(async {
        let name = NAME.scope("n", async { NAME.get() }).await;
        assert_eq!(name, "n");
        assert_eq!(tokio::try_join!(async { Ok::<_, ()>(1) }, async { Ok(2) }), Ok((1, 2)));
    });
}
