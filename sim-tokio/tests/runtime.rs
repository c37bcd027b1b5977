//! Runtimes in a plain test: entering and leaving the World, groups, handles, panics.

use sim_core::World;
use sim_tokio as tokio;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::time::sleep;

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("it is built")
}

fn panic_text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it panics");
    sim_core::join::panic_message(&*payload).expect("it has a text").to_owned()
}

#[test]
fn the_first_runtime_enters_a_world_and_the_last_leaves_it() {
    assert!(World::current().is_none());
    let first = Runtime::new().expect("it is built");
    let world = World::current().expect("it was entered");
    assert_eq!(world.node_ids().len(), 1);
    let second = current_thread();
    drop(first);
    assert!(World::current().is_some());
    second.block_on(async { assert_eq!(world.node_name(world.acting_node()), "localhost") });
    drop(second);
    assert!(World::current().is_none());
    assert_eq!(Runtime::new().expect("it is built").block_on(async { 1 }), 1);
    assert!(World::current().is_none());
}

#[test]
fn a_runtime_is_send_and_sync_and_says_so_when_it_is_abroad() {
    fn check<T: Send + Sync>(_: &T) {}
    let rt = current_thread();
    check(&rt);
    check(rt.handle());
    let handle = rt.handle().clone();
    let text = std::thread::spawn(move || panic_text(|| drop(handle.spawn(async {})))).join().expect("caught");
    assert!(text.contains("on a thread that does not run its World"), "{text}");
    let text = {
        let handle = rt.handle().clone();
        drop(rt);
        let _other = current_thread();
        panic_text(|| drop(handle.enter()))
    };
    assert!(text.contains("does not run its World"), "{text}");
}

#[test]
fn tasks_of_a_current_thread_runtime_run_only_while_it_blocks() {
    let ran = Arc::new(AtomicU32::new(0));
    let bump = |by: u32| {
        let ran = ran.clone();
        async move {
            ran.fetch_add(by, Ordering::SeqCst);
        }
    };
    let (one, other, threads) = (current_thread(), current_thread(), Runtime::new().expect("it is built"));
    one.spawn(bump(1));
    threads.spawn(bump(10));
    other.block_on(async { sleep(Duration::from_millis(5)).await });
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    one.block_on(async { sleep(Duration::from_millis(5)).await });
    assert_eq!(ran.load(Ordering::SeqCst), 11);
}

#[test]
fn a_dropped_runtime_drops_its_tasks_and_no_others() {
    let one = Runtime::new().expect("it is built");
    let other = Runtime::new().expect("it is built");
    let mine = one.spawn(std::future::pending::<()>());
    let theirs = other.spawn(async {
        sleep(Duration::from_millis(5)).await;
        5
    });
    drop(one);
    other.block_on(async {
        assert!(mine.await.expect_err("its runtime is gone").is_cancelled());
        assert_eq!(theirs.await.expect("it ends"), 5);
    });
}

#[test]
fn spawns_go_where_the_guard_says() {
    let one = current_thread();
    let other = current_thread();
    assert!(Handle::try_current().is_err());
    let text = Handle::try_current().expect_err("no runtime here").to_string();
    assert_eq!(text, "there is no reactor running, must be called from the context of a Tokio 1.x runtime");
    let handle = {
        let _inside = one.enter();
        Handle::current();
        tokio::spawn(async { 1 })
    };
    assert!(Handle::try_current().is_err());
    other.block_on(async { sleep(Duration::from_millis(1)).await });
    assert!(!handle.is_finished());
    assert_eq!(one.block_on(handle).expect("it ends"), 1);
}

#[test]
fn a_panic_goes_through_block_on_as_itself_and_the_runtime_lives_on() {
    let rt = current_thread();
    let payload = catch_unwind(AssertUnwindSafe(|| rt.block_on(async { std::panic::panic_any(17u64) })));
    assert_eq!(payload.err().and_then(|p| p.downcast::<u64>().ok()), Some(Box::new(17)));
    assert_eq!(rt.block_on(async { 2 }), 2);
}

#[test]
fn block_on_inside_block_on_panics_as_tokios() {
    let rt = current_thread();
    let text = panic_text(|| rt.block_on(async { Handle::current().block_on(async {}) }));
    assert!(text.starts_with("Cannot start a runtime from within a runtime."), "{text}");
    let text = panic_text(|| rt.block_on(async { drop(current_thread()) }));
    assert!(text.starts_with("Cannot drop a runtime in a context where blocking is not allowed."), "{text}");
    rt.block_on(async { current_thread().shutdown_background() });
    rt.shutdown_timeout(Duration::from_secs(1));
    assert!(World::current().is_none());
}

#[test]
fn a_deadlock_is_a_panic_that_says_who_waits_for_what() {
    let rt = current_thread();
    let text = panic_text(|| rt.block_on(std::future::pending()));
    assert!(text.starts_with("deadlock: nothing is ready and nothing is timed"), "{text}");
    let text = panic_text(|| rt.block_on(async {}));
    assert!(text.contains("the simulated run of this runtime has ended"), "{text}");
}

#[test]
fn handles_tell_flavour_workers_tasks_and_name() {
    let rt = Builder::new_multi_thread().worker_threads(3).name("pool").build().expect("it is built");
    assert_eq!(rt.handle().runtime_flavor(), RuntimeFlavor::MultiThread);
    assert_eq!(rt.metrics().num_workers(), 3);
    assert_eq!(rt.handle().name().as_deref(), Some("pool"));
    let task = rt.spawn(std::future::pending::<()>());
    assert_eq!(rt.metrics().num_alive_tasks(), 1);
    task.abort();
    rt.block_on(async { assert!(task.await.is_err()) });
    assert_eq!(rt.metrics().num_alive_tasks(), 0);
    assert_eq!(current_thread().handle().runtime_flavor(), RuntimeFlavor::CurrentThread);
}

#[test]
fn timers_must_be_enabled() {
    let rt = Builder::new_current_thread().build().expect("it is built");
    let text = panic_text(|| rt.block_on(async { sleep(Duration::from_millis(1)).await }));
    assert!(text.contains("timers are disabled. Call `enable_time` on the runtime builder"), "{text}");
    let text = panic_text(|| drop(sleep(Duration::from_millis(1))));
    assert!(text.contains("there is no reactor running"), "{text}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let digest = |seed| {
        let entered = World::enter(Default::default(), sim_core::Choices::seeded(seed)).expect("none runs here");
        let rt = Runtime::new().expect("it is built");
        rt.block_on(async {
            let mut set = tokio::task::JoinSet::new();
            for n in 0..20 {
                set.spawn(async move {
                    for _ in 0..n {
                        tokio::select! {
                            _ = tokio::task::yield_now() => {}
                            _ = sleep(Duration::from_millis(n)) => {}
                        }
                    }
                });
            }
            while set.join_next().await.is_some() {}
        });
        drop(rt);
        entered.world().outcome().digest
    };
    let digests: Vec<u64> = (0..4).map(digest).collect();
    assert_eq!(digests, (0..4).map(digest).collect::<Vec<_>>());
    assert!(digests.windows(2).any(|d| d[0] != d[1]));
}
