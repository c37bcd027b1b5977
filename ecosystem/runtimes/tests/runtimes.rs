//! Each program on a simulated machine, over many seeds. It blocks, so it has a thread of its own there.

use sim::Sim;

macro_rules! programs {
    ($($name:ident)*) => {$(
        #[sim::test(seeds = 200)]
        async fn $name(sim: Sim) {
            let program = async { std::thread::spawn(runtimes::$name).join().expect("it does not panic") };
            let seen = sim.node("server").run(program).await;
            // A question about what was seen makes it part of the run's digest.
            sim.choose(&seen.join(" "), 0, 2);
        }
    )*};
}

programs! { current_thread multi_thread own_epoll }

/// The same where the runtime of its machine is turned.
#[sim::test(seeds = 200)]
async fn own_epoll_in_a_poll(sim: Sim) {
    let seen = sim.node("server").run(async { runtimes::own_epoll() }).await;
    assert_eq!(seen, ["hello"]);
}
