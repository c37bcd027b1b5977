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

programs! { current_thread multi_thread }
