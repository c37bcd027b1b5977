//! Sleeps, timeouts, intervals, and the clock of `test-util`.

use sim_tokio as tokio;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{self, Instant, sleep, timeout};

fn run<F: Future>(body: F) -> F::Output {
    Runtime::new().expect("it is built").block_on(body)
}

fn paused<F: Future>(body: F) -> F::Output {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("it is built").block_on(body)
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_day_passes_in_no_time() {
    let real = std::time::Instant::now();
    run(async {
        let start = Instant::now();
        sleep(Duration::from_secs(1800)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1800));
    });
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_timeout_says_which_came_first() {
    run(async {
        assert_eq!(timeout(ms(10), async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::ZERO, async { 7 }).await, Ok(7));
        let late = timeout(ms(10), sleep(ms(11))).await.expect_err("the sleep is longer");
        assert_eq!(late.to_string(), "deadline has elapsed");
        assert_eq!(std::io::Error::from(late).kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn advance_moves_the_clock_at_once_and_lets_due_timers_fire() {
    paused(async {
        let start = Instant::now();
        let seen = tokio::spawn(async move {
            sleep(ms(10)).await;
            start.elapsed()
        });
        tokio::task::yield_now().await;
        time::advance(ms(25)).await;
        assert_eq!(start.elapsed(), ms(25));
        assert_eq!(seen.await.expect("it ends"), ms(25));
    });
}
