//! Each program on a simulated machine, over many seeds.

use sim::Sim;

macro_rules! programs {
    ($($name:ident)*) => {$(
        #[sim::test(seeds = 200)]
        async fn $name(sim: Sim) {
            let seen = sim.node("server").run(async { threads::$name() }).await;
            assert!(!seen.is_empty());
            // A question about what was seen makes it part of the run's digest.
            sim.choose(&seen.join(" "), 0, 2);
        }
    )*};
}

programs! {
    mutex_and_condvar channel_and_sleep park_and_unpark scope_and_yield barrier_rwlock_once crossbeam_channels
    parking_lot_locks rayon_pool flume_and_a_pool_of_futures panics_and_destructors hash_order_clock_addresses
    spins_with_yields clocks_past_libc
}
