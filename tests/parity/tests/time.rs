//! Time: sleeps, timeouts, intervals, the clock of `test-util`.

use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

parity::both! { paused:
    async fn a_sleep_takes_its_time() {
        let start = tokio::time::Instant::now();
        tokio::time::sleep(ms(250)).await;
        assert_eq!(start.elapsed(), ms(250));
    }

    async fn a_sleep_ends_with_its_millisecond() {
        let start = tokio::time::Instant::now();
        tokio::time::sleep(us(1300)).await;
        assert_eq!(start.elapsed(), ms(2));
    }

    async fn a_sleep_of_zero_is_ready() {
        let start = tokio::time::Instant::now();
        tokio::time::sleep(Duration::ZERO).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    async fn sleeping_until_the_past_is_ready() {
        tokio::time::sleep(ms(5)).await;
        let now = tokio::time::Instant::now();
        tokio::time::sleep_until(now - ms(3)).await;
        assert_eq!(now.elapsed(), Duration::ZERO);
    }

    async fn shorter_sleeps_end_first() {
        let order = std::sync::Mutex::new(Vec::new());
        let nap = |n: u64| {
            let order = &order;
            async move {
                tokio::time::sleep(ms(n)).await;
                order.lock().unwrap().push(n);
            }
        };
        tokio::join!(nap(30), nap(10), nap(20));
        assert_eq!(order.into_inner().unwrap(), [10, 20, 30]);
    }

    async fn a_sleep_tells_its_deadline_and_whether_it_elapsed() {
        let now = tokio::time::Instant::now();
        let mut sleep = Box::pin(tokio::time::sleep(ms(10)));
        assert_eq!(sleep.deadline(), now + ms(10));
        assert!(!sleep.is_elapsed());
        sleep.as_mut().await;
        assert!(sleep.is_elapsed());
    }

    async fn a_reset_moves_the_deadline() {
        let start = tokio::time::Instant::now();
        let mut sleep = Box::pin(tokio::time::sleep(ms(10)));
        sleep.as_mut().reset(start + ms(40));
        sleep.as_mut().await;
        assert_eq!(start.elapsed(), ms(40));
        sleep.as_mut().reset(start + ms(60));
        assert!(!sleep.is_elapsed());
        sleep.await;
        assert_eq!(start.elapsed(), ms(60));
    }

    async fn a_reset_wakes_the_task_that_polled_before() {
        let start = tokio::time::Instant::now();
        let mut sleep = Box::pin(tokio::time::sleep(Duration::from_secs(1000)));
        poll_fn(|cx| {
            if sleep.is_elapsed() {
                return Poll::Ready(());
            }
            assert!(sleep.as_mut().poll(cx).is_pending());
            // Moved after it was polled, and not polled again.
            sleep.as_mut().reset(start + ms(20));
            Poll::Pending
        })
        .await;
        assert_eq!(start.elapsed(), ms(20));
    }

    async fn a_sleep_for_ever_does_not_overflow() {
        let slept = tokio::time::timeout(ms(5), tokio::time::sleep(Duration::MAX)).await;
        assert!(slept.is_err());
    }

    async fn a_timeout_that_is_kept() {
        assert_eq!(tokio::time::timeout(ms(5), async { 3 }).await, Ok(3));
    }

    async fn a_timeout_that_is_not_kept() {
        let start = tokio::time::Instant::now();
        let late = tokio::time::timeout(ms(5), pending::<()>()).await.unwrap_err();
        assert_eq!(late.to_string(), "deadline has elapsed");
        assert_eq!(start.elapsed(), ms(5));
    }

    async fn a_timeout_of_zero_still_looks() {
        assert_eq!(tokio::time::timeout(Duration::ZERO, ready(3)).await, Ok(3));
        assert!(tokio::time::timeout(Duration::ZERO, pending::<()>()).await.is_err());
    }

    async fn a_timeout_at_the_same_time_is_kept() {
        assert!(tokio::time::timeout(ms(5), tokio::time::sleep(ms(5))).await.is_ok());
    }

    async fn a_timeout_for_ever_does_not_overflow() {
        assert_eq!(tokio::time::timeout(Duration::MAX, async { 1 }).await, Ok(1));
    }

    async fn timeouts_nest() {
        let outer = tokio::time::timeout(ms(5), tokio::time::timeout(ms(50), pending::<()>())).await;
        assert!(outer.is_err());
        let inner = tokio::time::timeout(ms(50), tokio::time::timeout(ms(5), pending::<()>())).await;
        assert!(matches!(inner, Ok(Err(_))));
    }

    async fn a_timeout_gives_its_future_back() {
        let timeout = tokio::time::timeout_at(tokio::time::Instant::now() + ms(5), ready(8));
        assert_eq!(timeout.into_inner().await, 8);
    }

    async fn elapsed_is_a_timed_out_io_error() {
        let late = tokio::time::timeout(ms(1), pending::<()>()).await.unwrap_err();
        assert_eq!(std::io::Error::from(late).kind(), std::io::ErrorKind::TimedOut);
    }

    async fn an_interval_ticks_at_once_and_then_every_period() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval(ms(10));
        for n in 0..5 {
            assert_eq!(interval.tick().await, start + ms(10 * n));
            assert_eq!(start.elapsed(), ms(10 * n));
        }
        assert_eq!(interval.period(), ms(10));
    }

    async fn an_interval_may_start_later() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval_at(start + ms(7), ms(10));
        interval.tick().await;
        assert_eq!(start.elapsed(), ms(7));
    }

    async fn burst_catches_up() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval(ms(10));
        interval.tick().await;
        tokio::time::advance(ms(35)).await;
        for n in 1..=3 {
            assert_eq!(interval.tick().await, start + ms(10 * n));
            assert_eq!(start.elapsed(), ms(35));
        }
        assert_eq!(interval.tick().await, start + ms(40));
    }

    async fn delay_starts_anew() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval(ms(10));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval.tick().await;
        tokio::time::advance(ms(35)).await;
        assert_eq!(interval.tick().await, start + ms(10));
        assert_eq!(interval.tick().await, start + ms(45));
    }

    async fn skip_keeps_the_beat() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval(ms(10));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        assert_eq!(interval.missed_tick_behavior(), tokio::time::MissedTickBehavior::Skip);
        interval.tick().await;
        tokio::time::advance(ms(35)).await;
        assert_eq!(interval.tick().await, start + ms(10));
        assert_eq!(interval.tick().await, start + ms(40));
    }

    async fn intervals_are_reset() {
        let start = tokio::time::Instant::now();
        let mut interval = tokio::time::interval(ms(10));
        interval.tick().await;
        tokio::time::sleep(ms(4)).await;
        interval.reset();
        assert_eq!(interval.tick().await, start + ms(14));
        interval.reset_immediately();
        assert_eq!(interval.tick().await, start + ms(14));
        interval.reset_after(ms(3));
        assert_eq!(interval.tick().await, start + ms(17));
        interval.reset_at(start + ms(50));
        assert_eq!(interval.tick().await, start + ms(50));
        assert_eq!(interval.tick().await, start + ms(60));
    }

    #[should_panic(expected = "`period` must be non-zero.")]
    async fn an_interval_of_zero_panics() {
        tokio::time::interval(Duration::ZERO);
    }

    async fn advance_moves_the_clock_to_the_nanosecond() {
        let start = tokio::time::Instant::now();
        tokio::time::advance(Duration::from_nanos(1_234_567)).await;
        assert_eq!(start.elapsed(), Duration::from_nanos(1_234_567));
    }

    async fn advance_fires_what_is_due_at_the_new_time() {
        let start = tokio::time::Instant::now();
        let seen = tokio::spawn(async move {
            tokio::time::sleep(ms(10)).await;
            start.elapsed()
        });
        tokio::task::yield_now().await;
        tokio::time::advance(ms(25)).await;
        assert_eq!(seen.await.unwrap(), ms(25));
    }

    async fn advance_fires_nothing_early() {
        let task = tokio::spawn(tokio::time::sleep(ms(10)));
        tokio::task::yield_now().await;
        tokio::time::advance(ms(9)).await;
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        task.await.unwrap();
    }

    #[should_panic(expected = "time is already frozen")]
    async fn pausing_twice_panics() {
        tokio::time::pause();
    }

    #[should_panic(expected = "time is not frozen")]
    async fn resuming_twice_panics() {
        tokio::time::resume();
        tokio::time::resume();
    }

    #[should_panic(expected = "time is not frozen")]
    async fn advancing_a_running_clock_panics() {
        tokio::time::resume();
        tokio::time::advance(ms(1)).await;
    }

    async fn differences_of_instants_are_never_negative() {
        let earlier = tokio::time::Instant::now();
        let later = earlier + ms(5);
        assert_eq!(earlier - later, Duration::ZERO);
        assert_eq!(earlier.duration_since(later), Duration::ZERO);
        assert_eq!(earlier.checked_duration_since(later), None);
        assert_eq!(later.checked_duration_since(earlier), Some(ms(5)));
        assert_eq!(later.checked_sub(ms(5)), Some(earlier));
        assert_eq!(earlier.checked_add(Duration::MAX), None);
        assert_eq!(tokio::time::Instant::from_std(later.into_std()), later);
    }

    async fn a_dropped_sleep_wakes_nobody() {
        let start = tokio::time::Instant::now();
        let mut first: Pin<Box<tokio::time::Sleep>> = Box::pin(tokio::time::sleep(ms(1)));
        let polled = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        drop(first);
        tokio::time::sleep(ms(10)).await;
        assert_eq!(start.elapsed(), ms(10));
    }

    async fn select_takes_the_nearest_timer() {
        let start = tokio::time::Instant::now();
        let n = tokio::select! {
            _ = tokio::time::sleep(ms(20)) => 20,
            _ = tokio::time::sleep(ms(10)) => 10,
        };
        assert_eq!((n, start.elapsed()), (10, ms(10)));
    }
}
