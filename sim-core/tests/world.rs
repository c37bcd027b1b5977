//! The World as a whole: order, time, death, verdicts. No device, no sockets, no files.

use sim_core::choices::{Choices, Tape};
use sim_core::time::Timer;
use sim_core::{Death, Instant, NodeId, Outcome, Settings, Spawn, Verdict, World, program};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

fn run_with<F: Future>(settings: Settings, choices: Choices, body: F) -> (Result<F::Output, Verdict>, Outcome) {
    let entered = World::enter(settings, choices).expect("no World runs here yet");
    let result = entered.world().block_on(NodeId::OUTSIDE, body, Spawn::named("test"));
    (result, entered.world().outcome())
}

fn seeded<F: Future>(seed: u64, body: F) -> (Result<F::Output, Verdict>, Outcome) {
    run_with(Settings::default(), Choices::seeded(seed), body)
}

fn calm<F: Future>(body: F) -> Result<F::Output, Verdict> {
    run_with(Settings::default(), Choices::from_source(0, Box::new(Tape::new([]))), body).0
}

fn world() -> &'static World {
    World::current().expect("inside a run")
}

async fn sleep_ms(ms: u64) {
    Timer::new(world().now() + Duration::from_millis(ms)).await
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|_| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        world().yield_task();
        Poll::Pending
    })
    .await
}

/// Ten tasks on a node, each yielding and sleeping; returns the order in which they acted.
async fn crowd() -> Vec<u32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let node = world().node("a");
    let group = world().node_group(node);
    let handles: Vec<_> = (0..10)
        .map(|i| {
            let order = order.clone();
            let body = async move {
                for _ in 0..20 {
                    order.borrow_mut().push(i);
                    yield_now().await;
                }
                sleep_ms(5).await;
                order.borrow_mut().push(i);
            };
            world().spawn_in(group, None, body, Spawn::named("crowd"))
        })
        .collect();
    for h in handles {
        h.await.expect("nobody cancels it");
    }
    order.take()
}

#[test]
fn the_calm_run_is_first_in_first_out() {
    let order = calm(crowd()).expect("it passes");
    let round: Vec<u32> = (0..10).collect();
    assert!(order.chunks(10).all(|c| c == round), "{order:?}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_others_other_runs() {
    let mut digests = Vec::new();
    for seed in 0..50 {
        let (a, first) = seeded(seed, crowd());
        let (b, second) = seeded(seed, crowd());
        assert_eq!(a, b);
        assert_eq!(first.digest, second.digest);
        digests.push(first.digest);
    }
    digests.sort();
    digests.dedup();
    assert!(digests.len() > 30, "most seeds perturb the order: {}", digests.len());
}

#[test]
fn a_recorded_run_replays_exactly_from_its_tape() {
    for seed in 0..20 {
        let mut choices = Choices::seeded(seed);
        choices.record();
        let (a, recorded) = run_with(Settings::default(), choices, crowd());
        let tape = Tape::new(recorded.deviations.iter().map(|d| (d.at, d.value)));
        let (b, replayed) = run_with(Settings::default(), Choices::from_source(seed, Box::new(tape)), crowd());
        assert_eq!(a, b);
        assert_eq!(recorded.digest, replayed.digest, "seed {seed}");
    }
}

#[test]
fn time_jumps_to_the_next_timer_and_never_while_a_task_is_ready() {
    let at = calm(async {
        sleep_ms(86_400_000).await;
        for _ in 0..1000 {
            yield_now().await;
        }
        world().now()
    });
    let limited = run_with(
        Settings { time_limit: Duration::from_secs(90_000), ..Settings::default() },
        Choices::seeded(1),
        async {
            sleep_ms(86_400_000).await;
            yield_now().await;
            world().now()
        },
    );
    assert!(matches!(at, Err(Verdict::Limit { what: "time", .. })), "an hour is the default: {at:?}");
    assert_eq!(limited.0, Ok(Instant(86_400_000_000_000)));
}

#[test]
fn a_killed_nodes_futures_are_dropped_and_do_nothing_more() {
    struct Acts(Rc<Cell<u32>>);
    impl Drop for Acts {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            let late = world().spawn(async { panic!("a dead node acts") }, Spawn::named("late"));
            assert!(late.is_finished());
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let seen = dropped.clone();
    let result = calm(async move {
        let node = world().node("a");
        let make = move || {
            let acts = Acts(seen.clone());
            async move {
                let _acts = acts;
                sleep_ms(1_000_000).await
            }
        };
        world().start(node, program(make), Spawn::named("server"));
        sleep_ms(10).await;
        world().end_node(node, Death::Kill);
        sleep_ms(10).await;
        world().restart(node);
        sleep_ms(10).await;
        world().incarnation(node)
    });
    assert_eq!(result, Ok(2));
    assert_eq!(dropped.get(), 2, "once by the kill, once by the end of the run");
}

#[test]
fn a_paused_node_stands_still_until_it_is_resumed() {
    let result = calm(async {
        let node = world().node("a");
        let h = world().spawn_in(
            world().node_group(node),
            None,
            async {
                sleep_ms(10).await;
                world().now()
            },
            Spawn::named("sleeper"),
        );
        world().start(node, program(|| sleep_ms(100_000)), Spawn::named("server"));
        sleep_ms(1).await;
        world().pause(node);
        sleep_ms(49).await;
        assert!(!h.is_finished());
        world().resume(node);
        h.await.expect("it lives")
    });
    assert_eq!(result, Ok(Instant(50_000_000)));
}

#[test]
fn an_abort_cancels_and_a_panic_stays_in_its_task() {
    let result = calm(async {
        let sleeper = world().spawn(sleep_ms(1000), Spawn::named("sleeper"));
        sleeper.abort();
        let cancelled = sleeper.await.expect_err("it was aborted").is_cancelled();
        let bad = world().spawn(async { panic!("on purpose") }, Spawn::named("bad"));
        let error = bad.await.expect_err("it panicked");
        (cancelled, error.is_panic(), error.to_string().contains("on purpose"))
    });
    assert_eq!(result, Ok((true, true, true)));
}

#[test]
fn deadlock_names_what_is_blocked() {
    let Err(Verdict::Deadlock { blocked }) = calm(std::future::pending::<()>()) else { panic!("nothing can happen") };
    assert_eq!(blocked.len(), 1);
    assert!(blocked[0].contains("test (spawned at"), "{blocked:?}");
}

#[test]
fn livelock_is_a_verdict() {
    let result = calm(async {
        loop {
            yield_now().await
        }
    });
    assert!(matches!(result, Err::<(), _>(Verdict::Livelock { polls: 1_000_000.., .. })));
}

#[test]
fn a_panic_in_a_nodes_program_ends_the_run() {
    let result = calm(async {
        let node = world().node("a");
        world().start(node, program(|| async { panic!("server bug") }), Spawn::named("server"));
        sleep_ms(10).await;
    });
    assert!(matches!(result, Err(Verdict::Panicked { message, .. }) if message == "server bug"));
}

#[test]
fn a_clock_read_in_a_loop_moves_after_a_thousand_readings() {
    let result = calm(async {
        let start = world().read_monotonic_ns();
        let frozen = (0..900).all(|_| world().read_monotonic_ns() == start);
        let mut readings = 0;
        while world().read_monotonic_ns() < start + 1_000_000 {
            readings += 1;
        }
        (frozen, readings)
    });
    assert_eq!(result, Ok((true, 1_098)));
}

#[test]
fn a_wake_from_a_foreign_thread_is_an_escape() {
    let result = calm(poll_fn(|cx| {
        let waker = cx.waker().clone();
        std::thread::spawn(move || waker.wake()).join().expect("waking does not panic");
        Poll::<()>::Pending
    }));
    assert!(matches!(result, Err(Verdict::Escaped { .. })), "{result:?}");
}

#[test]
fn a_second_world_on_one_thread_is_refused() {
    let result = calm(async { World::enter(Settings::default(), Choices::seeded(0)).err() });
    assert_eq!(result, Ok(Some(sim_core::Nested)));
}
