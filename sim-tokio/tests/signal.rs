//! Signals: with a listener and without.

use sim_core::node::State;
use sim_core::signal::Signal;
use sim_core::{Death, Spawn, World, program};
use sim_tokio as tokio;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

fn run<F: Future>(body: F) -> F::Output {
    Runtime::new().expect("it is built").block_on(body)
}

async fn rest() {
    sleep(Duration::from_millis(10)).await
}

#[test]
fn without_a_listener_an_interrupt_ends_the_program() {
    run(async {
        let world = World::current().expect("inside a run");
        let node = world.node("a");
        world.start(node, program(std::future::pending), Spawn::named("a"));
        rest().await;
        world.send_signal(node, Signal(28));
        assert_eq!(world.node_state(node), State::Running, "SIGWINCH is ignored by default");
        world.send_ctrl_c(node);
        assert_eq!(world.node_state(node), State::Dead(Death::Exit));
    });
}

#[test]
fn a_listener_switches_the_default_action_off_for_its_incarnation() {
    run(async {
        let world = World::current().expect("inside a run");
        let node = world.node("a");
        let heard = Rc::new(Cell::new(0));
        let factory = {
            let heard = heard.clone();
            program(move || {
                let heard = heard.clone();
                async move {
                    tokio::signal::ctrl_c().await.expect("it can be caught");
                    heard.set(heard.get() + 1);
                    std::future::pending().await
                }
            })
        };
        world.start(node, factory, Spawn::named("a"));
        rest().await;
        world.send_ctrl_c(node);
        rest().await;
        assert_eq!((heard.get(), world.node_state(node)), (1, State::Running));
        world.send_ctrl_c(node);
        rest().await;
        assert_eq!((heard.get(), world.node_state(node)), (1, State::Running), "nobody waits, and it lives");
        world.end_node(node, Death::Kill);
        world.restart(node);
        world.send_ctrl_c(node);
        assert_eq!(world.node_state(node), State::Dead(Death::Exit), "the new incarnation had not listened yet");
    });
}

#[test]
fn arrivals_between_two_looks_count_as_one() {
    run(async {
        let world = World::current().expect("inside a run");
        let here = world.acting_node();
        let mut term = signal(SignalKind::terminate()).expect("it can be caught");
        world.send_signal(here, Signal::TERMINATE);
        world.send_signal(here, Signal::TERMINATE);
        assert_eq!(term.recv().await, Some(()));
        let more = tokio::time::timeout(Duration::from_secs(1), term.recv()).await;
        assert!(more.is_err());
        assert!(signal(SignalKind::from_raw(9)).is_err());
    });
}
