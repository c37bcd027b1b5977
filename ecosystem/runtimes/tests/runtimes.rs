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

/// A machine's runtime has no I/O driver here: it parks, and a thread unparks it.
#[sim::test(seeds = 200)]
async fn a_thread_wakes_a_task(sim: Sim) {
    let program = async {
        let (said, heard) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            said.send("from a thread").expect("somebody listens");
        });
        let heard = tokio::time::timeout(std::time::Duration::from_millis(20), heard).await;
        thread.join().expect("it does not panic");
        heard.expect("in time").expect("it is said")
    };
    assert_eq!(sim.node("server").run(program).await, "from a thread");
}
