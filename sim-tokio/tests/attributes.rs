//! `#[tokio::test]` and `#[tokio::main]`.

use sim_tokio as tokio;
use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

#[tokio::test]
async fn a_plain_test_runs_on_localhost_with_virtual_time() {
    let world = sim_core::World::current().expect("inside a run");
    assert_eq!(world.node_name(world.acting_node()), "localhost");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn options_are_seen() -> Result<(), std::num::ParseIntError> {
    assert_eq!(Handle::current().metrics().num_workers(), "3".parse::<usize>()?);
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_test_may_start_paused() {
    tokio::time::advance(Duration::from_millis(3)).await;
}

#[tokio::test]
#[should_panic(expected = "as it said")]
async fn a_panic_keeps_its_text() {
    panic!("as it said");
}

#[tokio::test(crate = "sim_tokio")]
async fn the_crate_may_have_another_name() {
    sim_tokio::task::yield_now().await;
}

#[tokio::test]
async fn the_body_is_no_task_and_has_the_options_of_the_attribute() {
    assert_eq!(tokio::task::try_id(), None);
    assert_eq!(tokio::spawn(async { tokio::task::try_id().is_some() }).await.ok(), Some(true));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::main]
async fn double(n: u32) -> u32 {
    tokio::spawn(async move { n * 2 }).await.expect("it ends")
}

#[test]
fn main_may_stand_on_any_function() {
    assert_eq!(double(21), 42);
}
