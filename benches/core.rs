//! The hot paths of the core: a poll, a spawn, a timer, a choice, an event. Figures are ratios between rows of one run,
//! never claims about another machine.

#![allow(missing_docs)] // what criterion_group! makes cannot be documented

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sim_core::choices::{Address, Choices, Law, Ratio, Stream, Tape};
use sim_core::device::DeviceId;
use sim_core::events::{Due, EventQueue};
use sim_core::time::Timer;
use sim_core::{Instant, NodeId, Settings, Spawn, World};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

fn world() -> &'static World {
    World::current().expect("inside a run")
}

/// One run with these choices, on a node, without limits.
fn run<F: Future>(choices: Choices, body: F) -> F::Output {
    let settings = Settings { livelock_polls: u64::MAX, step_limit: u64::MAX, ..Settings::default() };
    let entered = World::enter(settings, choices).expect("no World runs here yet");
    let node = entered.world().node("bench");
    entered.world().block_on(node, body, Spawn::named("bench")).expect("benches pass")
}

fn calm() -> Choices {
    Choices::from_source(0, Box::new(Tape::new([])))
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

async fn yields(tasks: u64, each: u64) {
    let spawn = Spawn::named("yields");
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let body = async move {
                for _ in 0..each {
                    yield_now().await
                }
            };
            world().spawn(body, spawn)
        })
        .collect();
    for handle in handles {
        handle.await.expect("nobody cancels it");
    }
}

fn polls(c: &mut Criterion) {
    let mut group = c.benchmark_group("poll");
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("calm, 100 tasks", |b| b.iter(|| run(calm(), yields(100, 1000))));
    group.bench_function("seeded, 100 tasks", |b| {
        let mut seed = 0;
        b.iter(|| {
            seed += 1;
            run(Choices::seeded(seed), yields(100, 1000))
        })
    });
    group.bench_function("calm, 100,000 tasks", |b| b.iter(|| run(calm(), yields(100_000, 1))));
    group.finish();
}

/// The waker of the executor against the safe form, std's reference-counted `Wake`.
fn wakers(c: &mut Criterion) {
    struct Counted(AtomicU64);
    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut group = c.benchmark_group("waker");
    let clone_and_drop = |waker: &Waker| drop(black_box(waker.clone()));
    group.bench_function("a number (ours): clone and drop", |b| {
        run(
            calm(),
            poll_fn(|cx: &mut Context<'_>| {
                b.iter(|| clone_and_drop(cx.waker()));
                Poll::Ready(())
            }),
        )
    });
    group.bench_function("std's Arc: clone and drop", |b| {
        let waker = Waker::from(Arc::new(Counted(AtomicU64::new(0))));
        b.iter(|| clone_and_drop(&waker))
    });
    group.finish();
}

fn spawns(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("spawn and join", |b| b.iter(|| run(calm(), yields(1000, 0))));
    group.finish();
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    for tasks in [1_000u64, 100_000] {
        group.throughput(Throughput::Elements(tasks * 10));
        group.bench_function(format!("sleep, {tasks} tasks"), |b| {
            b.iter(|| {
                run(calm(), async {
                    let spawn = Spawn::named("sleeps");
                    let sleeps = |i: u64| async move {
                        for k in 1..=10 {
                            Timer::new(world().now() + Duration::from_millis((i * 7 + k * 131) % 1000)).await
                        }
                    };
                    let handles: Vec<_> = (0..tasks).map(|i| world().spawn(sleeps(i), spawn)).collect();
                    for handle in handles {
                        handle.await.expect("nobody cancels it");
                    }
                })
            })
        });
    }
    for live in [1_000u64, 100_000] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("insert and cancel among {live}"), |b| {
            let mut queue = EventQueue::default();
            for i in 0..live {
                queue.insert(Instant(i * 1_000_003 + 1_000_000_000), Due::Device(DeviceId(0), i));
            }
            let mut at = 0;
            b.iter(|| {
                at = (at + 7_919_000_003) % 90_000_000_000;
                let id = queue.insert(Instant(1_000_000_000 + at), Due::Device(DeviceId(0), 0));
                queue.cancel(id)
            })
        });
    }
    group.finish();
}

fn choices(c: &mut Criterion) {
    let mut group = c.benchmark_group("choice");
    let law = Law::Rare { p: Ratio::new(1, 64), max: 2047 };
    let mut asked = |name: &str, mut choices: Choices| {
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                let at = Address { stream: Stream::SCHEDULE, key: 7, n };
                choices.ask(at, law, "bench", Instant::ZERO, NodeId::OUTSIDE)
            })
        });
    };
    asked("seeded", Choices::seeded(1));
    asked("tape", calm());
    group.bench_function("expand a seed", |b| {
        let mut seed = 0;
        b.iter(|| {
            seed += 1;
            Choices::seeded(black_box(seed))
        })
    });
    group.finish();
}

fn runs(c: &mut Criterion) {
    c.bench_function("an empty run", |b| {
        let mut seed = 0;
        b.iter(|| {
            seed += 1;
            run(Choices::seeded(seed), async {})
        })
    });
}

criterion_group!(benches, polls, wakers, spawns, timers, choices, runs);
criterion_main!(benches);
