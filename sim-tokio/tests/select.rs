//! `select!`: tokio's grammar and rules.

use sim_tokio as tokio;
use std::cell::RefCell;
use std::future::{pending, ready};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::sleep;

fn run<F: Future>(body: F) -> F::Output {
    Runtime::new().expect("it is built").block_on(body)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn the_first_that_is_ready_wins() {
    let n = run(async {
        tokio::select! {
            _ = sleep(ms(20)) => 20,
            _ = sleep(ms(10)) => 10,
            never = pending::<u8>() => never as i32,
        }
    });
    assert_eq!(n, 10);
}

#[test]
fn a_pattern_that_does_not_match_disables_its_branch() {
    run(async {
        let n = tokio::select! {
            Some(n) = ready(None::<i32>) => n,
            Ok(n) | Err(n) = async { sleep(ms(1)).await; Ok::<i32, i32>(5) } => n,
        };
        assert_eq!(n, 5);
        let n = tokio::select! {
            Some(n) = ready(None::<i32>) => n,
            else => -1,
        };
        assert_eq!(n, -1);
    });
}

#[test]
#[should_panic(expected = "all branches are disabled and there is no else branch")]
fn nothing_left_and_no_else_is_a_panic() {
    run(async {
        tokio::select! {
            Some(()) = ready(None) => {}
            _ = ready(()), if false => {}
        }
    });
}

#[test]
fn conditions_come_before_expressions_and_disabled_expressions_are_evaluated() {
    let log = RefCell::new(Vec::new());
    let say = |what: &'static str| {
        log.borrow_mut().push(what);
        true
    };
    run(async {
        tokio::select! {
            biased;
            _ = { say("first"); ready(()) }, if !say("its condition") => say("first handler"),
            _ = { say("second"); ready(()) }, if say("second condition") => say("second handler"),
        };
    });
    assert_eq!(log.take(), ["its condition", "second condition", "first", "second", "second handler"]);
}

#[test]
fn biased_looks_in_order() {
    run(async {
        for _ in 0..100 {
            let n = tokio::select! { biased; _ = ready(()) => 1, _ = ready(()) => 2 };
            assert_eq!(n, 1);
        }
    });
}

#[test]
fn handlers_run_outside_the_macro_after_all_futures_are_dropped() {
    struct Noisy<'a>(&'a RefCell<Vec<u8>>, u8);
    impl Drop for Noisy<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    async fn body(log: &RefCell<Vec<u8>>) -> Result<u8, String> {
        let mut list = vec![1];
        loop {
            let first = Noisy(log, 1);
            let second = Noisy(log, 2);
            tokio::select! {
                // The future borrows what the handler changes.
                _ = async { let _held = (&list, first); pending::<()>().await } => unreachable!(),
                n = async { let _held = second; ready(9u8).await } => {
                    log.borrow_mut().push(100);
                    list.push(n);
                    sleep(ms(1)).await;
                    if list.len() < 3 {
                        continue;
                    }
                    Err("enough".to_owned())?;
                    break Ok(0);
                }
            }
        }
    }
    let log = RefCell::default();
    assert_eq!(run(body(&log)), Err("enough".to_owned()));
    assert_eq!(log.take().iter().filter(|n| **n == 100).count(), 2);
}

#[test]
fn futures_are_dropped_first_to_last() {
    struct Noisy<'a>(&'a RefCell<Vec<u8>>, u8);
    impl Drop for Noisy<'_> {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }
    async fn hold(noisy: Noisy<'_>) {
        let _held = noisy;
        pending().await
    }
    let log = RefCell::default();
    run(async {
        tokio::select! {
            _ = hold(Noisy(&log, 1)) => {}
            _ = hold(Noisy(&log, 2)) => {}
            _ = sleep(ms(1)) => {}
        }
    });
    assert_eq!(log.take(), [1, 2]);
}

#[test]
fn mutable_patterns_references_and_pinned_futures() {
    run(async {
        let (tx, mut rx) = mpsc::channel::<Vec<u8>>(4);
        tx.send(vec![1]).await.expect("it has room");
        let later = sleep(ms(5));
        tokio::pin!(later);
        let mut got = Vec::new();
        loop {
            tokio::select! {
                Some(mut v) = rx.recv() => { v.push(2); got = v }
                () = &mut later => break,
            }
        }
        assert_eq!(got, [1, 2]);
    });
}

/// Both branches are always ready; the seed decides which is looked at first, and over many turns both are.
#[test]
fn no_branch_starves() {
    let mut counts = [0, 0];
    for seed in 0..16 {
        let entered =
            sim_core::World::enter(Default::default(), sim_core::Choices::seeded(seed)).expect("none runs here");
        let rt = Runtime::new().expect("it is built");
        rt.block_on(async {
            for _ in 0..100 {
                let n = tokio::select! { _ = ready(()) => 0, _ = ready(()) => 1 };
                counts[n] += 1;
            }
        });
        drop(rt);
        drop(entered);
    }
    assert!(counts.iter().all(|n| *n > 400), "{counts:?}");
}

#[test]
fn sixty_four_branches() {
    macro_rules! many {
        ($($n:literal)*) => {
            run(async { tokio::select! { biased; $(n = async { if $n == 63 { $n } else { pending().await } } => n,)* } })
        };
    }
    let n: i32 = many!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35
        36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
    assert_eq!(n, 63);
}
