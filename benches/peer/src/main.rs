//! Eight workloads through the public tokio API, to be set beside other simulators: one process a workload, one line of
//! result. Keyed choices, perturbed schedule and digest are on; latency is 1 ms, no packet is lost.
//!
//!     peer <workload> [sizes]     w1 yields, w2 spawn + join, w3 timers, w4 channels, w5 TCP echo, w6 UDP echo,
//!                                 w7 heartbeats, w8 whole runs
//!
//! The same program is measured as a drop-in: `cargo sim build --release` in `benches/drop-peer` builds it with crates.io's
//! tokio, generated anew, and prints where it is.
//!
//! The work itself (random durations, sizes, checksums) is fixed by the shared command line of the comparison.

use sim::core::{Choices, Settings};
use sim::{Ended, Sim, millis};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// The seed of every single run: its schedule is perturbed (one wake in eight is held).
const SEED: u64 = 1;

/// splitmix64, seeded by the index of a task: every contender draws the same durations.
struct Rng(u64);

impl Rng {
    fn new(i: u64) -> Self {
        let mut rng = Rng(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03);
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 1..=n
    fn upto(&mut self, n: u64) -> u64 {
        self.next() % n + 1
    }
}

/// Operations done, the checksum, and virtual time at the end.
struct Out {
    ops: u64,
    check: u64,
    virtual_ns: u64,
}

fn settings() -> Settings {
    Settings {
        time_limit: Duration::from_secs(1 << 32),
        step_limit: u64::MAX,
        livelock_polls: u64::MAX,
        ..Settings::default()
    }
}

fn value_of<T>(ended: Ended<T>) -> (T, u64) {
    match ended.value {
        Some(value) => (value, ended.outcome.now.as_nanos()),
        None => panic!("{}", ended.verdict),
    }
}

/// One run whose body stands on a node.
fn on_node<F: Future<Output = (u64, u64)> + 'static>(body: F) -> Out {
    run(|sim| async move { sim.node("n0").run(body).await })
}

/// One run whose body makes its own nodes.
fn run<F: Future<Output = (u64, u64)>>(body: impl FnOnce(Sim) -> F) -> Out {
    let ((ops, check), virtual_ns) = value_of(Sim::run_with(settings(), Choices::seeded(SEED), body));
    Out { ops, check, virtual_ns }
}

fn yields(tasks: u64, each: u64) -> Out {
    on_node(async move {
        let mut handles = Vec::new();
        for _ in 0..tasks {
            handles.push(tokio::spawn(async move {
                for _ in 0..each {
                    tokio::task::yield_now().await;
                }
                each
            }));
        }
        let mut check = 0;
        for handle in handles {
            check += handle.await.unwrap();
        }
        (tasks * each, check)
    })
}

fn spawns(tasks: u64, batch: u64) -> Out {
    on_node(async move {
        let (mut check, mut i) = (0, 0);
        while i < tasks {
            let mut handles = Vec::with_capacity(batch as usize);
            for k in i..i + batch {
                handles.push(tokio::spawn(async move { k & 7 }));
            }
            for handle in handles {
                check += handle.await.unwrap();
            }
            i += batch;
        }
        (tasks, check)
    })
}

fn timers(tasks: u64, sleeps: u64) -> Out {
    on_node(async move {
        let mut handles = Vec::new();
        for i in 0..tasks {
            handles.push(tokio::spawn(async move {
                let (mut rng, mut sum) = (Rng::new(i), 0);
                for _ in 0..sleeps {
                    let ms = rng.upto(10_000);
                    sleep(Duration::from_millis(ms)).await;
                    sum += ms;
                }
                sum
            }));
        }
        let mut check = 0;
        for handle in handles {
            check += handle.await.unwrap();
        }
        (tasks * sleeps, check)
    })
}

fn channels(rounds: u64) -> Out {
    on_node(async move {
        let (to_echo, mut from_main) = mpsc::channel::<u64>(16);
        let (to_main, mut from_echo) = mpsc::channel::<u64>(16);
        tokio::spawn(async move {
            while let Some(x) = from_main.recv().await {
                if to_main.send(x + 1).await.is_err() {
                    break;
                }
            }
        });
        let main = tokio::spawn(async move {
            let mut check = 0;
            for i in 0..rounds {
                to_echo.send(i & 7).await.unwrap();
                check += from_echo.recv().await.unwrap();
            }
            check
        });
        (rounds, main.await.unwrap())
    })
}

fn tcp_echo(size: usize, rounds: u64) -> Out {
    run(move |sim| async move {
        let _server = sim.node("n1").run(async move {
            let listener = TcpListener::bind("0.0.0.0:9000").await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buf = vec![0u8; size];
            for _ in 0..rounds {
                stream.read_exact(&mut buf).await.unwrap();
                stream.write_all(&buf).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let client = sim.node("n0").run(async move {
            sleep(millis(10)).await;
            let mut stream = TcpStream::connect("n1:9000").await.unwrap();
            let (mut buf, mut check) = (vec![7u8; size], 0);
            for i in 0..rounds {
                buf[0] = i as u8;
                stream.write_all(&buf).await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut buf).await.unwrap();
                check += buf[0] as u64;
            }
            check
        });
        (rounds, client.await)
    })
}

fn udp_echo(rounds: u64) -> Out {
    run(move |sim| async move {
        let _server = sim.node("n1").run(async move {
            let socket = UdpSocket::bind("0.0.0.0:9000").await.unwrap();
            let mut buf = [0u8; 64];
            loop {
                let (len, from) = socket.recv_from(&mut buf).await.unwrap();
                socket.send_to(&buf[..len], from).await.unwrap();
            }
        });
        let client = sim.node("n0").run(async move {
            let socket = UdpSocket::bind("0.0.0.0:9000").await.unwrap();
            sleep(millis(10)).await;
            let to = tokio::net::lookup_host("n1:9000").await.unwrap().next().unwrap();
            let (mut buf, mut check) = ([7u8; 64], 0);
            for i in 0..rounds {
                buf[0] = i as u8;
                socket.send_to(&buf, to).await.unwrap();
                socket.recv_from(&mut buf).await.unwrap();
                check += buf[0] as u64;
            }
            check
        });
        (rounds, client.await)
    })
}

fn heartbeats(nodes: u64, tenths: u64) -> Out {
    run(move |sim| async move {
        let got = Rc::new(Cell::new(0u64));
        let mut beating = Vec::new();
        for i in 0..nodes {
            sim.node(format!("n{i}"));
        }
        for i in 0..nodes {
            let got = got.clone();
            beating.push(sim.node(format!("n{i}")).run(async move {
                let socket = Arc::new(UdpSocket::bind("0.0.0.0:9000").await.unwrap());
                let ears = socket.clone();
                let _listening = sim.node(format!("n{i}")).run(async move {
                    let mut buf = [0u8; 64];
                    loop {
                        ears.recv_from(&mut buf).await.unwrap();
                        got.set(got.get() + buf[0] as u64);
                    }
                });
                let mut peers = Vec::new();
                for k in 1..=5.min(nodes - 1) {
                    let name = format!("n{}:9000", (i + k) % nodes);
                    peers.push(tokio::net::lookup_host(name).await.unwrap().next().unwrap());
                }
                sleep(Duration::from_millis(1 + Rng::new(i).next() % 50)).await;
                for _ in 0..tenths * 2 {
                    for peer in &peers {
                        socket.send_to(&[1u8; 16], *peer).await.unwrap();
                    }
                    sleep(millis(50)).await;
                }
            }));
        }
        for node in beating {
            node.await;
        }
        // Twice the greatest delay that a link's tail can add.
        sim.sleep(millis(300)).await;
        (got.get(), got.get())
    })
}

/// Makes, runs and drops a run of five nodes and one message.
fn one_seed(seed: u64) -> u64 {
    let body = move |sim: Sim| async move {
        let nodes: Vec<_> = (0..5).map(|i| sim.node(["n0", "n1", "n2", "n3", "n4"][i])).collect();
        let receiver = nodes[1].run(async {
            let socket = UdpSocket::bind("0.0.0.0:9000").await.unwrap();
            let mut buf = [0u8; 8];
            socket.recv_from(&mut buf).await.unwrap();
            buf[0] as u64
        });
        let _idle: Vec<_> = nodes[2..].iter().map(|node| node.run(async {})).collect();
        let _sender = nodes[0].run(async move {
            let socket = UdpSocket::bind("0.0.0.0:9000").await.unwrap();
            sleep(millis(1)).await;
            socket.send_to(&[(seed & 3) as u8], "n1:9000").await.unwrap();
        });
        receiver.await
    };
    value_of(Sim::run_with(settings(), Choices::seeded(seed), body)).0
}

fn whole_runs(seeds: u64) -> Out {
    let mark = (seeds / 10).max(1);
    let (mut check, mut early_kb) = (0u64, 0);
    for seed in 0..seeds {
        check = check.wrapping_add(one_seed(seed));
        if seed + 1 == mark {
            early_kb = resident_kb();
        }
    }
    let late_kb = resident_kb();
    let per_seed = (late_kb as i64 - early_kb as i64) * 1024 / (seeds as i64 - mark as i64).max(1);
    println!("# rss_kb_at_{mark}_seeds={early_kb} rss_kb_at_{seeds}_seeds={late_kb} bytes_per_seed={per_seed}");
    Out { ops: seeds, check, virtual_ns: 0 }
}

/// Resident memory, KiB, 0 where /proc is not there (proc(5), statm).
fn resident_kb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}

/// Peak resident memory, KiB, 0 where /proc is not there (proc(5), status).
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(workload) = args.first() else {
        eprintln!("usage: peer <w1..w8> [sizes]");
        std::process::exit(2);
    };
    let sizes: Vec<u64> = args[1..]
        .iter()
        .map(|s| {
            s.replace('_', "").parse().unwrap_or_else(|_| {
                eprintln!("peer: a size is a whole number, not {s:?}");
                std::process::exit(2);
            })
        })
        .collect();
    let size = |i: usize, default: u64| sizes.get(i).copied().unwrap_or(default);
    let start = std::time::Instant::now();
    let out = match workload.as_str() {
        "w1" => yields(size(0, 1000), size(1, 1000)),
        "w2" => spawns(size(0, 1_000_000), size(1, 1000)),
        "w3" => timers(size(0, 10_000), size(1, 100)),
        "w4" => channels(size(0, 1_000_000)),
        "w5" => tcp_echo(size(0, 64) as usize, size(1, 100_000)),
        "w6" => udp_echo(size(0, 100_000)),
        "w7" => heartbeats(size(0, 10), size(1, 100)),
        "w8" => whole_runs(size(0, 1000)),
        other => {
            println!("peer=sim w={other} n/a");
            return;
        }
    };
    let ns = start.elapsed().as_nanos();
    println!(
        "peer=sim w={workload} ops={} elapsed_ns={ns} ns_per_op={:.1} check={} virtual_ns={} peak_kb={}",
        out.ops,
        ns as f64 / out.ops.max(1) as f64,
        out.check,
        out.virtual_ns,
        peak_kb()
    );
}
