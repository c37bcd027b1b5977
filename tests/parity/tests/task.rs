//! Tasks: spawning, joining, aborting, sets, local ones, runtimes.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Counts how often it was dropped.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

parity::both! { paused:
    async fn a_task_returns_its_output() {
        assert_eq!(tokio::spawn(async { 5 }).await.unwrap(), 5);
    }

    async fn a_spawned_task_does_not_run_before_its_spawner_waits() {
        let ran = Arc::new(AtomicU32::new(0));
        let r = ran.clone();
        let task = tokio::spawn(async move { r.fetch_add(1, Ordering::SeqCst) });
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        task.await.unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }

    async fn a_panic_becomes_a_join_error() {
        let task = tokio::spawn(async { panic!("boom") });
        let id = task.id();
        let e = task.await.unwrap_err();
        assert!(e.is_panic() && !e.is_cancelled());
        assert_eq!(e.id(), id);
        assert_eq!(e.to_string(), format!("task {id} panicked with message \"boom\""));
        assert_eq!(*e.into_panic().downcast::<&str>().unwrap(), "boom");
    }

    async fn an_abort_becomes_a_join_error() {
        let task = tokio::spawn(pending::<()>());
        let id = task.id();
        task.abort();
        let e = task.await.unwrap_err();
        assert!(e.is_cancelled() && !e.is_panic());
        assert_eq!(e.to_string(), format!("task {id} was cancelled"));
        assert!(e.try_into_panic().is_err());
    }

    async fn join_errors_become_io_errors() {
        let task = tokio::spawn(pending::<()>());
        task.abort();
        let e = std::io::Error::from(task.await.unwrap_err());
        assert_eq!((e.kind(), e.to_string().as_str()), (std::io::ErrorKind::Other, "task was cancelled"));
    }

    async fn aborting_a_task_that_ended_changes_nothing() {
        let task = tokio::spawn(async { 7 });
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task.abort();
        assert_eq!(task.await.unwrap(), 7);
    }

    async fn an_aborted_task_drops_what_it_holds() {
        let count = Arc::new(AtomicU32::new(0));
        let held = Counted(count.clone());
        let task = tokio::spawn(async move {
            let _held = held;
            pending::<()>().await
        });
        tokio::task::yield_now().await;
        task.abort_handle().abort();
        task.await.unwrap_err();
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    async fn a_task_aborted_before_it_ran_never_runs() {
        let ran = Arc::new(AtomicU32::new(0));
        let r = ran.clone();
        let task = tokio::spawn(async move { r.fetch_add(1, Ordering::SeqCst) });
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }

    async fn an_abort_handle_outlives_its_task() {
        let task = tokio::spawn(async {});
        let abort = task.abort_handle();
        assert_eq!(abort.id(), task.id());
        task.await.unwrap();
        assert!(abort.is_finished());
        abort.abort();
    }

    async fn a_detached_task_goes_on() {
        let (tx, rx) = tokio::sync::oneshot::channel();
        drop(tokio::spawn(async move {
            tokio::time::sleep(ms(5)).await;
            tx.send(9).unwrap();
        }));
        assert_eq!(rx.await.unwrap(), 9);
    }

    async fn a_panic_in_a_destructor_of_an_aborted_task_is_reported() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let bad = Bad;
        let task = tokio::spawn(async move {
            let _bad = bad;
            pending::<()>().await
        });
        tokio::task::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_panic());
    }

    async fn a_panic_in_a_destructor_after_the_end_takes_the_output_with_it() {
        struct Bad;
        impl Future for Bad {
            type Output = u8;
            fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<u8> {
                std::task::Poll::Ready(7)
            }
        }
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        assert!(tokio::spawn(Bad).await.unwrap_err().is_panic());
    }

    async fn ids_differ_and_are_seen_inside() {
        let a = tokio::spawn(async { tokio::task::id() });
        let b = tokio::spawn(async { tokio::task::try_id() });
        let (id_a, id_b) = (a.id(), b.id());
        assert_ne!(id_a, id_b);
        assert_eq!(a.await.unwrap(), id_a);
        assert_eq!(b.await.unwrap(), Some(id_b));
    }

    async fn block_on_is_no_task() {
        assert_eq!(tokio::task::try_id(), None);
    }

    #[should_panic(expected = "Can't get a task id when not inside a task")]
    async fn asking_for_the_id_of_no_task_panics() {
        tokio::task::id();
    }

    async fn yielding_lets_others_go_first() {
        let ran = Arc::new(AtomicU32::new(0));
        let r = ran.clone();
        tokio::spawn(async move { r.fetch_add(1, Ordering::SeqCst) });
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }

    async fn yielding_inside_join_wakes_the_right_branch() {
        let (a, b) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                1
            },
            async {
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                2
            }
        );
        assert_eq!((a, b), (1, 2));
    }

    async fn a_join_set_joins_in_the_order_of_ending() {
        let mut set = tokio::task::JoinSet::new();
        for n in [30u64, 10, 20] {
            set.spawn(async move {
                tokio::time::sleep(ms(n)).await;
                n
            });
        }
        let mut order = Vec::new();
        while let Some(n) = set.join_next().await {
            order.push(n.unwrap());
        }
        assert_eq!(order, [10, 20, 30]);
    }

    async fn an_empty_join_set_has_nothing_to_join() {
        let mut set = tokio::task::JoinSet::<()>::new();
        assert!(set.join_next().await.is_none() && set.try_join_next().is_none() && set.is_empty());
    }

    async fn a_join_set_keeps_what_was_aborted_until_it_is_joined() {
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..3 {
            set.spawn(pending::<()>());
        }
        set.abort_all();
        assert_eq!(set.len(), 3);
        while let Some(e) = set.join_next().await {
            assert!(e.unwrap_err().is_cancelled());
        }
    }

    async fn a_dropped_join_set_aborts() {
        let count = Arc::new(AtomicU32::new(0));
        let held = Counted(count.clone());
        let mut set = tokio::task::JoinSet::new();
        set.spawn(async move {
            let _held = held;
            pending::<()>().await
        });
        drop(set);
        tokio::time::sleep(ms(1)).await;
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    async fn a_join_set_shuts_down() {
        let mut set: tokio::task::JoinSet<()> = (0..3).map(|_| pending()).collect();
        set.shutdown().await;
        assert!(set.is_empty());
    }

    async fn join_all_returns_all() {
        let set: tokio::task::JoinSet<u64> = (0..4).map(|n| async move { n }).collect();
        let mut all = set.join_all().await;
        all.sort();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[should_panic(expected = "one of them")]
    async fn join_all_passes_a_panic_on() {
        let mut set = tokio::task::JoinSet::new();
        set.spawn(async { panic!("one of them") });
        set.join_all().await;
    }

    async fn local_tasks_share_what_is_not_send() {
        let set = tokio::task::LocalSet::new();
        let count = Rc::new(Cell::new(0));
        let c = count.clone();
        let n = set
            .run_until(async move {
                let inner = c.clone();
                tokio::task::spawn_local(async move { inner.set(inner.get() + 1) }).await.unwrap();
                c.get()
            })
            .await;
        assert_eq!(n, 1);
    }

    async fn a_local_set_waits_for_its_tasks() {
        let set = tokio::task::LocalSet::new();
        let count = Rc::new(Cell::new(0));
        for n in 1..=3 {
            let count = count.clone();
            set.spawn_local(async move {
                tokio::time::sleep(ms(n)).await;
                count.set(count.get() + 1);
            });
        }
        set.await;
        assert_eq!(count.get(), 3);
    }

    async fn a_local_set_that_is_not_driven_does_nothing() {
        let set = tokio::task::LocalSet::new();
        let ran = Rc::new(Cell::new(false));
        let r = ran.clone();
        set.spawn_local(async move { r.set(true) });
        tokio::time::sleep(ms(5)).await;
        assert!(!ran.get());
        set.run_until(tokio::time::sleep(ms(5))).await;
        assert!(ran.get());
    }

    #[should_panic(expected = "`spawn_local` called from outside of a `task::LocalSet` or `runtime::LocalRuntime`")]
    async fn spawn_local_outside_a_local_set_panics() {
        tokio::task::spawn_local(async {});
    }

    async fn handles_spawn_and_are_compared_by_flavour() {
        let handle = tokio::runtime::Handle::current();
        assert_eq!(handle.runtime_flavor(), tokio::runtime::RuntimeFlavor::CurrentThread);
        assert_eq!(handle.spawn(async { 4 }).await.unwrap(), 4);
        assert_eq!(handle.metrics().num_workers(), 1);
    }

    #[should_panic(expected = "Cannot start a runtime from within a runtime")]
    async fn blocking_inside_a_task_panics() {
        tokio::runtime::Handle::current().block_on(async {});
    }

    #[should_panic(expected = "Cannot drop a runtime in a context where blocking is not allowed")]
    async fn dropping_a_runtime_inside_a_task_panics() {
        drop(runtime());
    }

    async fn select_runs_handlers_outside_and_drops_losers_first() {
        let count = Arc::new(AtomicU32::new(0));
        let held = Counted(count.clone());
        let n = tokio::select! {
            biased;
            _ = async move { let _held = held; pending::<()>().await } => unreachable!(),
            n = async { 3 } => {
                assert_eq!(count.load(Ordering::SeqCst), 1);
                tokio::task::yield_now().await;
                n
            }
        };
        assert_eq!(n, 3);
    }

    #[should_panic(expected = "all branches are disabled and there is no else branch")]
    async fn select_with_nothing_left_panics() {
        tokio::select! {
            Some(()) = async { None } => {}
        }
    }

    async fn channels_wake_their_receivers() {
        let (tx, mut rx) = tokio::sync::mpsc::channel(1);
        let sender = tokio::spawn(async move {
            for n in 0..5 {
                tx.send(n).await.unwrap();
            }
        });
        let mut got = Vec::new();
        while let Some(n) = rx.recv().await {
            got.push(n);
        }
        sender.await.unwrap();
        assert_eq!(got, [0, 1, 2, 3, 4]);
    }
}
