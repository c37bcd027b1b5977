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

/// Both only yield, in the futures that their machines' runtimes block on.
#[sim::test(seeds = 20)]
async fn programs_that_yield_in_a_loop_let_other_machines_run(sim: Sim) {
    let done = std::rc::Rc::new(std::cell::Cell::new(false));
    let seen = done.clone();
    let waits = sim.node("waits").run(async move {
        while !seen.get() {
            tokio::task::yield_now().await;
        }
    });
    let works = sim.node("works").run(async move {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        done.set(true);
    });
    works.await;
    waits.await;
}

/// Who reads the clock on and on lets threads run, which may ask for a timer while the runtime makes up its mind how long to wait.
#[sim::test(seeds = 20)]
async fn a_timer_of_a_thread_is_in_time_on_a_machine_that_reads_the_clock(sim: Sim) {
    let program = async {
        tokio::task::spawn_blocking(|| ()).await.expect("it does not panic");
        let began = tokio::time::Instant::now();
        for _ in 0..1_100 {
            let _ = tokio::time::Instant::now();
        }
        let handle = tokio::runtime::Handle::current();
        let sleeps = tokio::task::spawn_blocking(move || {
            handle.block_on(tokio::time::sleep(std::time::Duration::from_millis(5)))
        });
        tokio::time::timeout_at(began + std::time::Duration::from_secs(600), sleeps)
            .await
            .expect("in time")
            .expect("no panic");
        began.elapsed()
    };
    let took = sim.node("server").run(program).await;
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

/// Machines look at sockets in vain, each once. Where there had been a thread, that was counted for all of them together, and the
/// virtual clock went on in the midst of a machine's turn.
#[sim::test(seeds = 20)]
async fn who_looks_in_vain_shifts_nobodys_time(sim: Sim) {
    sim.node("server").run(async { tokio::task::spawn_blocking(|| ()).await.expect("it does not panic") }).await;
    let machines = (0..70).map(|i| sim.node(format!("m{i}")));
    let programs: Vec<_> = machines
        .map(|machine| {
            machine.run(async {
                let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
                socket.set_nonblocking(true).expect("a socket");
                let began = tokio::time::Instant::now();
                socket.recv(&mut [0; 8]).expect_err("nothing comes");
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                began.elapsed()
            })
        })
        .collect();
    for program in programs {
        assert_eq!(program.await, std::time::Duration::from_millis(1));
    }
}
