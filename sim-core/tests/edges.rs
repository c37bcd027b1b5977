//! What destructors, wakers and programs do at the edges of a life: while they are killed, refused, or left over at the
//! end of a run. Each test tells the story of a bug.

use sim_core::choices::{Choices, Tape};
use sim_core::time::Timer;
use sim_core::{Death, Device, DeviceCx, NodeId, Settings, Spawn, Verdict, World, program};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

fn calm<F: Future>(body: F) -> Result<F::Output, Verdict> {
    let choices = Choices::from_source(0, Box::new(Tape::new([])));
    let entered = World::enter(Settings::default(), choices).expect("no World runs here yet");
    entered.world().block_on(NodeId::OUTSIDE, body, Spawn::named("test"))
}

fn world() -> &'static World {
    World::current().expect("inside a run")
}

async fn sleep_ms(ms: u64) {
    Timer::new(world().now() + Duration::from_millis(ms)).await
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)()
    }
}

/// A future that a dead node refuses was dropped while the scheduler was borrowed. So a destructor in it that woke a
/// living task, as that of a channel's sender does, panicked, and the wake was lost. Now it is dropped with nothing held.
#[test]
fn a_refused_future_may_wake_others_when_it_is_dropped() {
    let result = calm(async {
        let node = world().node("a");
        world().end_node(node, Death::Kill);
        let (woken, waker) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None::<Waker>)));
        let (said, whom) = (woken.clone(), waker.clone());
        let waiting = world().spawn(
            poll_fn(move |cx| {
                *whom.borrow_mut() = Some(cx.waker().clone());
                if said.get() { Poll::Ready(()) } else { Poll::Pending }
            }),
            Spawn::named("waiting"),
        );
        sleep_ms(1).await;
        let sender = OnDrop(move || {
            woken.set(true);
            waker.borrow_mut().take().expect("it waits").wake();
        });
        let refused =
            world().spawn_in(world().node_group(node), None, async move { drop(sender) }, Spawn::named("late"));
        assert!(refused.await.expect_err("its node is dead").is_cancelled());
        waiting.await.is_ok()
    });
    assert_eq!(result, Ok(true));
}

/// The first word of the entropy that the program of `a` draws when the nodes start in this order.
fn drawn_by_a(starts: &[&'static str]) -> [u8; 8] {
    let drawn = Rc::new(Cell::new([0; 8]));
    let result = calm(async {
        for &name in starts {
            let node = world().node(name);
            let drawn = drawn.clone();
            let make = move || {
                let drawn = drawn.clone();
                async move {
                    let mut bytes = [0; 8];
                    world().entropy(&mut bytes);
                    if name == "a" {
                        drawn.set(bytes);
                    }
                }
            };
            world().start(node, program(make), Spawn::named("server"));
        }
        sleep_ms(1).await;
    });
    assert_eq!(result, Ok(()));
    drawn.get()
}

/// The key of a node's program was the how-manieth program of the whole World it was. So one restart more or less, of any
/// node, gave all later programs other keys, and a tape or a mask lost its hold on them. Now it is of the node's name and
/// incarnation alone.
#[test]
fn the_key_of_a_program_does_not_depend_on_other_nodes() {
    let alone = drawn_by_a(&["a"]);
    assert_eq!(drawn_by_a(&["b", "a"]), alone);
    assert_eq!(drawn_by_a(&["c", "b", "a"]), alone);
}

/// One task may turn a whole runtime: what its tasks draw is keyed by each of them.
#[test]
fn entropy_is_of_the_entry_that_acts_and_not_of_the_task_that_turns_it() {
    let drawn_by_second = |draws_of_first: usize| {
        let drawn = Rc::new(Cell::new([0; 8]));
        let out = drawn.clone();
        let result = calm(async move {
            let draw = |key| {
                let (before, mut bytes) = (world().begin_entry(key), [0; 8]);
                world().entropy(&mut bytes);
                world().end_entry(before);
                bytes
            };
            for _ in 0..draws_of_first {
                draw(1);
            }
            out.set(draw(2));
        });
        assert_eq!(result, Ok(()));
        drawn.get()
    };
    assert_eq!(drawn_by_second(3), drawn_by_second(0));
}

/// The entropy drawn by a task that the destructor of an aborted task of node `a` spawns, after `others` did the same.
fn drawn_by_a_cleanup(others: &[&'static str]) -> [u8; 8] {
    let drawn = Rc::new(Cell::new([0; 8]));
    let result = calm(async {
        for &name in others.iter().chain(&["a"]) {
            let (group, drawn) = (world().node_group(world().node(name)), drawn.clone());
            let cleanup = OnDrop(move || {
                let drawn = drawn.clone();
                let body = async move {
                    let mut bytes = [0; 8];
                    world().entropy(&mut bytes);
                    drawn.set(bytes);
                };
                drop(world().spawn(body, Spawn::named("cleanup")));
            });
            let body = async move {
                let _cleanup = cleanup;
                std::future::pending::<()>().await
            };
            let task = world().spawn_in(group, None, body, Spawn::named(name));
            sleep_ms(1).await;
            task.abort();
            sleep_ms(1).await;
        }
    });
    assert_eq!(result, Ok(()));
    drawn.get()
}

/// What the destructor of an aborted task spawns had a key without a parent, counted over the whole World. So a cleanup
/// on one node gave another node's cleanup another key. Now its parent is the task that is being dropped.
#[test]
fn the_key_of_what_a_destructor_spawns_hangs_on_the_task_being_dropped() {
    assert_eq!(drawn_by_a_cleanup(&["b"]), drawn_by_a_cleanup(&[]));
}

/// A program that killed and restarted its own machine and then returned was taken for the end of the new incarnation. So
/// the machine was dead after its restart. Now a task that was killed while it ran ends nobody's process any more.
#[test]
fn a_killed_programs_return_does_not_end_the_next_incarnation() {
    let result = calm(async {
        let node = world().node("a");
        let first = Rc::new(Cell::new(true));
        let make = move || {
            let first = first.replace(false);
            async move {
                if first {
                    world().end_node(node, Death::Kill);
                    world().restart(node);
                    return;
                }
                std::future::pending().await
            }
        };
        world().start(node, program(make), Spawn::named("server"));
        sleep_ms(1).await;
        (world().incarnation(node), world().node_state(node))
    });
    assert_eq!(result, Ok((2, sim_core::node::State::Running)));
}

/// A program whose factory panicked at a restart broke the task that restarted it, which nobody awaits, and the run went
/// on without the program. So a bug in the first lines of a program was found at its first start only. Now it is a panic of
/// the program like any other.
#[test]
fn a_panic_while_a_program_is_made_ends_the_run() {
    let result = calm(async {
        let node = world().node("a");
        let starts = Rc::new(Cell::new(0));
        let make = move || {
            starts.set(starts.get() + 1);
            assert!(starts.get() < 2, "no second start");
            std::future::pending()
        };
        world().start(node, program(make), Spawn::named("server"));
        let restart = async move {
            world().end_node(node, Death::Kill);
            world().restart(node);
        };
        drop(world().spawn(restart, Spawn::named("restarts")));
        sleep_ms(1).await;
    });
    assert!(matches!(result, Err(Verdict::Panicked { ref message, .. }) if message == "no second start"), "{result:?}");
}

// ---- foreign wakers ------------------------------------------------------------------------------------------------

/// A task of a small executor inside the program: as in many of them, its waker owns its future.
struct Foreign {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Wake for Foreign {
    fn wake(self: Arc<Self>) {}
}

/// Polls `future` once with a waker that owns it.
fn poll_as_foreign(future: impl Future<Output = ()> + Send + 'static) {
    let task = Arc::new(Foreign { future: Mutex::new(Some(Box::pin(future))) });
    let waker = Waker::from(task.clone());
    let mut future = task.future.lock().expect("nobody panicked").take().expect("it was just put there");
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *task.future.lock().expect("nobody panicked") = Some(future);
}

/// Keeps a waker until the end of the run.
#[derive(Default)]
struct Keeps(RefCell<Vec<Waker>>);

impl Device for Keeps {
    fn name(&self) -> &'static str {
        "keeps"
    }
    fn on_event(&mut self, _token: u64, _cx: &mut DeviceCx<'_>) {}
}

/// At the end of a run, what still lay in the event queue, in devices and in extensions was dropped while these were
/// borrowed. A waker that owns its future then ran destructors that found the World borrowed, and the panic left the
/// thread inside a run for ever. Now they are dropped with nothing held.
#[test]
fn a_waker_left_over_at_the_end_may_own_a_future() {
    let leftover = || OnDrop(|| assert!(world().has_device::<Keeps>() || world().now().as_nanos() > 0));
    for place in ["events", "device", "extension"] {
        let result = calm(async move {
            world().plug(Keeps::default());
            sleep_ms(1).await;
            let held = leftover();
            poll_as_foreign(async move {
                let _held = held;
                let mut timer = Timer::new(world().now() + Duration::from_secs(60));
                poll_fn(|cx| {
                    match place {
                        "events" => return Pin::new(&mut timer).poll(cx),
                        "device" => world().with_device(|d: &mut Keeps, _| d.0.borrow_mut().push(cx.waker().clone())),
                        _ => world().extension::<Keeps>().0.borrow_mut().push(cx.waker().clone()),
                    }
                    Poll::Pending
                })
                .await
            });
        });
        assert_eq!(result, Ok(()), "{place}");
        assert!(World::current().is_none(), "{place}");
    }
}

/// A timer that is polled by another task lets go of the waker it had. That was done while the event queue was borrowed,
/// so a waker whose last reference this was could not run its destructors. Now it is dropped with nothing held.
#[test]
fn a_timer_lets_go_of_a_waker_that_acts_when_it_is_dropped() {
    struct Acts(Arc<Mutex<u32>>);
    impl Wake for Acts {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Acts {
        fn drop(&mut self) {
            *self.0.lock().expect("nobody panicked") += 1;
            drop(Timer::new(world().now()));
            world().event(NodeId::OUTSIDE, "test", String::new);
        }
    }
    let dropped = Arc::new(Mutex::new(0));
    let seen = dropped.clone();
    let result = calm(async move {
        let mut timer = Timer::new(world().now() + Duration::from_secs(60));
        let mut poll = || {
            let waker = Waker::from(Arc::new(Acts(seen.clone())));
            Pin::new(&mut timer).poll(&mut Context::from_waker(&waker)).is_pending()
        };
        assert!(poll() && poll());
        drop(timer);
    });
    assert_eq!(result, Ok(()));
    assert_eq!(*dropped.lock().expect("nobody panicked"), 2);
}

/// The queue of events counted its generations from 0 again in each run. So a timer that outlived its run, in a static or
/// in what the run returned, took back a timer of the next run when it was dropped. Now no name is given twice.
#[test]
fn a_timer_of_an_earlier_run_takes_nothing_back() {
    let old = calm(async {
        let mut timer = Timer::new(world().now() + Duration::from_secs(60));
        poll_fn(|cx| Poll::Ready(Pin::new(&mut timer).poll(cx).is_pending())).await;
        [timer]
    });
    let result = calm(async move {
        let sleeper = world().spawn(sleep_ms(1000), Spawn::named("sleeper"));
        world().spawn(async {}, Spawn::named("after it")).await.expect("nobody cancels it");
        drop(old);
        sleeper.await.is_ok()
    });
    assert_eq!(result, Ok(true));
}

/// The text of a logged value was made while the record was borrowed. So a `Debug` of the program that touched the World,
/// if only to look at a channel that wakes somebody, panicked as soon as somebody read the trace. Now the text is made
/// before.
#[test]
fn the_debug_of_a_logged_value_may_touch_the_world() {
    use tracing_subscriber::layer::SubscriberExt;
    struct Touches;
    impl std::fmt::Debug for Touches {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            world().event(NodeId::OUTSIDE, "test", String::new);
            f.write_str("touched")
        }
    }
    let lines = Rc::new(RefCell::new(Vec::new()));
    let reads = lines.clone();
    let result = calm(async move {
        let sink = move |record: &sim_core::trace::Record| reads.borrow_mut().push(record.text.clone());
        world().with_trace(|trace| trace.read_by(Box::new(sink)));
        let subscriber = tracing_subscriber::registry().with(sim_core::log::SimLayer);
        tracing::subscriber::with_default(subscriber, || tracing::info!(value = ?Touches, "looked"));
    });
    assert_eq!(result, Ok(()));
    assert!(lines.borrow().iter().any(|line| line.contains("value=touched")), "{lines:?}");
}
