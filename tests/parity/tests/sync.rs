//! `watch` and `Barrier`, which are not tokio's own code in the simulator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

/// One poll, after which nobody is told.
fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts how often it was dropped.
struct Counted(Arc<AtomicU32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

parity::both! { paused:
    async fn the_first_value_is_seen_and_later_ones_are_not() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        assert!(!rx.has_changed().unwrap() && poll(rx.changed()).is_pending());
        tx.send(2).unwrap();
        assert!(rx.has_changed().unwrap());
        assert!(rx.borrow().has_changed() && *rx.borrow() == 2, "borrowing does not mark it as seen");
        rx.changed().await.unwrap();
        assert!(!rx.has_changed().unwrap() && !rx.borrow().has_changed());
    }

    async fn borrow_and_update_marks_as_seen() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        tx.send(2).unwrap();
        {
            let value = rx.borrow_and_update();
            assert!(value.has_changed() && *value == 2);
        }
        assert!(!rx.borrow_and_update().has_changed());
        assert!(poll(rx.changed()).is_pending());
    }

    async fn only_the_last_of_several_values_is_heard_of() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        for n in 1..=3 {
            tx.send(n).unwrap();
        }
        rx.changed().await.unwrap();
        assert_eq!(*rx.borrow(), 3);
        assert!(poll(rx.changed()).is_pending());
    }

    async fn an_equal_value_is_a_change() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        tx.send(1).unwrap();
        rx.changed().await.unwrap();
    }

    async fn a_change_wakes_every_receiver() {
        let (tx, rx) = tokio::sync::watch::channel(0);
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let mut rx = rx.clone();
                tokio::spawn(async move {
                    rx.changed().await.unwrap();
                    *rx.borrow()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        tx.send(7).unwrap();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 7);
        }
    }

    async fn the_last_value_is_heard_of_after_the_sender_is_gone() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        tx.send(1).unwrap();
        drop(tx);
        assert!(rx.has_changed().is_err(), "closed, although something is not seen");
        rx.changed().await.unwrap();
        assert_eq!(*rx.borrow(), 1);
        let e = rx.changed().await.unwrap_err();
        assert_eq!((e.to_string(), format!("{e:?}")), ("channel closed".into(), "RecvError(())".into()));
    }

    async fn the_last_sender_closes_and_wakes() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        let other = tx.clone();
        assert_eq!(tx.sender_count(), 2);
        let task = tokio::spawn(async move {
            let ended = rx.changed().await;
            (ended.is_err(), rx)
        });
        tokio::task::yield_now().await;
        drop(tx);
        tokio::task::yield_now().await;
        assert!(!task.is_finished() && other.sender_count() == 1);
        drop(other);
        let (closed, rx) = task.await.unwrap();
        assert!(closed && rx.is_closed() && *rx.borrow() == 0);
    }

    async fn without_receivers_send_gives_back_and_send_replace_does_not() {
        let (tx, rx) = tokio::sync::watch::channel("old");
        drop(rx);
        assert!(tx.is_closed() && tx.receiver_count() == 0);
        let e = tx.send("lost").unwrap_err();
        assert_eq!((e.0, e.to_string(), format!("{e:?}")), ("lost", "channel closed".into(), "SendError { .. }".into()));
        assert_eq!(*tx.borrow(), "old");
        assert_eq!(tx.send_replace("new"), "old");
        tx.send_modify(|value| *value = "newer");
        assert!(!tx.borrow().has_changed() && *tx.borrow() == "newer");
    }

    async fn a_subscriber_has_seen_the_present_value_and_opens_the_channel_again() {
        let tx = tokio::sync::watch::Sender::new(1);
        assert!(tx.is_closed() && tx.send(2).is_err());
        tx.send_replace(3);
        let mut rx = tx.subscribe();
        assert!(!tx.is_closed() && !rx.has_changed().unwrap() && *rx.borrow() == 3);
        tx.send(4).unwrap();
        rx.changed().await.unwrap();
    }

    async fn a_clone_has_seen_what_its_original_has_seen() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        tx.send(2).unwrap();
        let unaware = rx.clone();
        rx.mark_unchanged();
        let aware = rx.clone();
        assert!(unaware.has_changed().unwrap() && !aware.has_changed().unwrap());
        assert_eq!(tx.receiver_count(), 3);
    }

    async fn marks_can_be_set_by_hand() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        rx.mark_changed();
        assert!(rx.has_changed().unwrap() && rx.borrow().has_changed());
        rx.changed().await.unwrap();
        assert!(poll(rx.changed()).is_pending());
        rx.mark_changed();
        drop(tx);
        assert!(rx.changed().await.is_ok() && rx.changed().await.is_err());
        rx.mark_changed();
        rx.mark_unchanged();
        assert!(rx.changed().await.is_err());
    }

    async fn send_if_modified_tells_only_of_what_it_calls_a_change() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        let refuse = |value: &mut i32| {
            *value = 2;
            false
        };
        assert!(!tx.send_if_modified(refuse));
        assert!(*rx.borrow() == 2 && !rx.has_changed().unwrap());
        assert!(tx.send_if_modified(|value| { *value = 3; true }));
        rx.changed().await.unwrap();
        assert_eq!(*rx.borrow(), 3);
    }

    async fn a_panic_while_modifying_harms_nobody_else() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        let panicking = AssertUnwindSafe(|| tx.send_modify(|value| { *value = 2; panic!("boom") }));
        assert_eq!(*catch_unwind(panicking).unwrap_err().downcast::<&str>().unwrap(), "boom");
        assert!(*rx.borrow() == 2 && *tx.borrow() == 2 && !rx.has_changed().unwrap());
        assert!(format!("{tx:?}").contains("poisoned: false") || !format!("{tx:?}").contains("poisoned"));
        tx.send(3).unwrap();
        rx.changed().await.unwrap();
        assert_eq!(*rx.borrow(), 3);
    }

    async fn a_panic_while_judging_harms_nobody_else() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        let mut other = rx.clone();
        let task = tokio::spawn(async move { rx.wait_for(|_| panic!("boom")).await.map(|_| ()) });
        assert!(task.await.unwrap_err().is_panic());
        tx.send(2).unwrap();
        assert_eq!(*other.wait_for(|value| *value == 2).await.unwrap(), 2);
    }

    async fn wait_for_begins_with_the_present_value() {
        let (tx, mut rx) = tokio::sync::watch::channel(1);
        assert!(!rx.wait_for(|value| *value == 1).await.unwrap().has_changed());
        tx.send(2).unwrap();
        assert!(rx.wait_for(|value| *value == 2).await.unwrap().has_changed());
        assert!(!rx.has_changed().unwrap(), "it has been seen");
        assert!(poll(rx.wait_for(|value| *value == 3)).is_pending());
    }

    async fn wait_for_passes_over_what_it_refuses() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        let task = tokio::spawn(async move {
            let mut shown = Vec::new();
            let found = *rx.wait_for(|value| { shown.push(*value); *value >= 3 }).await.unwrap();
            (found, shown)
        });
        for n in 1..=4 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let _ = tx.send(n);
        }
        assert_eq!(task.await.unwrap(), (3, vec![0, 1, 2, 3]));
    }

    async fn wait_for_looks_at_the_last_value_of_a_closed_channel_once() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        tx.send(1).unwrap();
        drop(tx);
        let mut shown = Vec::new();
        assert!(rx.wait_for(|value| { shown.push(*value); false }).await.is_err());
        assert_eq!(shown, [1]);
        assert_eq!(*rx.wait_for(|value| *value == 1).await.unwrap(), 1, "a seen value may still be accepted");
    }

    async fn a_cancelled_wait_misses_nothing() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        assert!(poll(rx.changed()).is_pending());
        {
            let mut waits = pin!(rx.changed());
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            tx.send(1).unwrap();
        }
        assert!(rx.has_changed().unwrap());
        rx.changed().await.unwrap();
        assert!(poll(rx.changed()).is_pending());
        let timed = tokio::time::timeout(std::time::Duration::from_millis(1), rx.changed());
        assert!(timed.await.is_err());
    }

    async fn a_future_of_changed_that_nobody_polled_hears_of_what_came_before() {
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        let waits = rx.changed();
        tx.send(1).unwrap();
        assert!(matches!(poll(waits), Poll::Ready(Ok(()))));
    }

    async fn closed_waits_for_the_last_receiver() {
        let (tx, rx) = tokio::sync::watch::channel(0);
        let other = rx.clone();
        let tx = Arc::new(tx);
        let task = tokio::spawn({
            let tx = tx.clone();
            async move { tx.closed().await }
        });
        tokio::task::yield_now().await;
        drop(rx);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        drop(other);
        task.await.unwrap();
        tx.closed().await;
    }

    async fn closed_goes_on_waiting_if_somebody_subscribes_in_time() {
        let (tx, rx) = tokio::sync::watch::channel(0);
        let mut closed = pin!(tx.closed());
        assert!(poll(closed.as_mut()).is_pending());
        drop(rx);
        let rx = tx.subscribe();
        assert!(poll(closed.as_mut()).is_pending());
        drop(rx);
        assert!(poll(closed.as_mut()).is_ready());
    }

    async fn values_live_until_the_last_handle_is_dropped() {
        let drops = Arc::new(AtomicU32::new(0));
        let (tx, rx) = tokio::sync::watch::channel(Counted(drops.clone()));
        tx.send(Counted(drops.clone())).unwrap_or_else(|_| panic!("somebody receives"));
        assert_eq!(drops.load(Ordering::SeqCst), 1, "the old one");
        drop(tx);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        drop(rx);
        assert_eq!(drops.load(Ordering::SeqCst), 2);
    }

    async fn handles_know_their_channel() {
        let (tx, rx) = tokio::sync::watch::channel(0);
        let (other_tx, other_rx) = tokio::sync::watch::channel(0);
        assert!(tx.same_channel(&tx.clone()) && !tx.same_channel(&other_tx));
        assert!(rx.same_channel(&tx.subscribe()) && !rx.same_channel(&other_rx));
        assert_eq!(*tokio::sync::watch::Sender::<u8>::default().borrow(), 0);
    }

    async fn handles_print() {
        let (tx, mut rx) = tokio::sync::watch::channel(5);
        tx.send_replace(6);
        let (sender, receiver, value) = (format!("{tx:?}"), format!("{rx:?}"), format!("{:?}", rx.borrow_and_update()));
        assert!(sender.starts_with("Sender { shared: Shared { value: "), "{sender}");
        assert!(sender.contains("is_closed: false, ref_count_rx: 1"), "{sender}");
        assert!(receiver.starts_with("Receiver { shared: Shared { value: "), "{receiver}");
        assert!(value.starts_with("Ref { inner: ") && value.ends_with(", has_changed: true }"), "{value}");
    }

    async fn handles_and_futures_may_go_to_other_threads() {
        fn send<T: Send>(_: &T) {}
        fn sync<T: Sync>(_: &T) {}
        fn error<T: std::error::Error + Send + Sync + 'static>(_: &T) {}
        let (tx, mut rx) = tokio::sync::watch::channel(0);
        send(&tx);
        sync(&tx);
        send(&rx);
        sync(&rx);
        sync(&rx.borrow());
        send(&tx.closed());
        send(&rx.changed());
        send(&rx.wait_for(|_| true));
        drop(tx);
        error(&rx.changed().await.unwrap_err());
    }

    async fn a_borrowed_value_stays_on_its_thread() {
        // Ambiguous, and so an error, if the type were `Send`.
        trait NotSend<A> {
            fn holds(&self) {}
        }
        impl<T: ?Sized> NotSend<()> for T {}
        #[allow(dead_code)]
        struct Marker;
        impl<T: ?Sized + Send> NotSend<Marker> for T {}
        let (_tx, rx) = tokio::sync::watch::channel(0);
        rx.borrow().holds();
    }

    async fn a_barrier_opens_when_all_are_there_and_one_leads() {
        let barrier = Arc::new(tokio::sync::Barrier::new(3));
        for _ in 0..3 {
            let tasks: Vec<_> = (0..2)
                .map(|_| {
                    let barrier = barrier.clone();
                    tokio::spawn(async move { barrier.wait().await.is_leader() })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(tasks.iter().all(|task| !task.is_finished()));
            let mut leaders = u32::from(barrier.wait().await.is_leader());
            for task in tasks {
                leaders += u32::from(task.await.unwrap());
            }
            assert_eq!(leaders, 1);
        }
    }

    async fn a_barrier_of_none_or_one_is_always_open() {
        for n in [0, 1] {
            let barrier = tokio::sync::Barrier::new(n);
            assert!(barrier.wait().await.is_leader() && barrier.wait().await.is_leader());
        }
    }

    async fn who_gives_up_at_a_barrier_stays_counted() {
        let barrier = tokio::sync::Barrier::new(2);
        assert!(poll(barrier.wait()).is_pending());
        let Poll::Ready(result) = poll(barrier.wait()) else { panic!("two have come") };
        assert_eq!(format!("{:?}", result.clone()), "BarrierWaitResult(true)");
        assert!(poll(barrier.wait()).is_pending(), "a generation of its own");
    }
}
