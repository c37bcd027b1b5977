//! What the calls of a disk cost, and what they must not depend on: how much is unsynced. Figures are ratios between rows of
//! one run, never claims about another machine.

#![allow(missing_docs)] // what criterion_group! makes cannot be documented

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sim_core::choices::{Choices, Tape};
use sim_core::device::Bench;
use sim_core::{Device, Instant, NodeId};
use sim_disk::{Disk, InodeId, Op, OpenHow, Profile, Reply, Volume};
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

const NODE: NodeId = NodeId(1);
const PAGE: u64 = 4096;
/// 100 MiB.
const PAGES: u64 = 25_600;
const NOW: Instant = Instant::ZERO;

fn disk() -> (Volume, InodeId) {
    let mut disk = Volume::new(NODE, "a", Profile::Linux);
    let how = OpenHow { read: true, write: true, create: true, ..OpenHow::default() };
    let file = disk.open(b"/f", how, NOW).expect("a new disk has room");
    (disk, file)
}

/// A small generator of its own.
struct Places(u64);

impl Places {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// 100 MiB, durable, then so many unsynced overwrites of pages of it, each of `len` bytes.
fn overwritten(times: u64, len: usize) -> (Volume, InodeId) {
    let (mut disk, file) = disk();
    for page in 0..PAGES {
        disk.write(file, page * PAGE, &[1; PAGE as usize], NOW).expect("it fits");
    }
    disk.sync(file, false);
    let mut places = Places(1);
    for _ in 0..times {
        disk.write(file, places.below(PAGES) * PAGE, &vec![2; len], NOW).expect("it fits");
    }
    (disk, file)
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for len in [100, 4096, 65_536] {
        let (disk, file) = overwritten(0, 0);
        let (mut places, mut out) = (Places(2), Vec::new());
        group.throughput(Throughput::Bytes(len));
        group.bench_function(format!("{len} bytes"), |b| {
            b.iter(|| {
                out.clear();
                disk.read(file, places.below(PAGES - 16) * PAGE, len as usize, &mut out).expect("a file");
                black_box(out.len())
            })
        });
    }
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    for (len, what, span) in [
        (100, "one page", 1),
        (4096, "one page", 1),
        (4096, "64 pages", 64),
        (4096, "25,600 pages", PAGES - 16),
        (65_536, "1,024 pages", 1008),
    ] {
        let (mut disk, file) = disk();
        let (bytes, mut places, mut n) = (vec![3; len], Places(3), 0u64);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} bytes, all over {what}, 64 between syncs"), |b| {
            b.iter(|| {
                disk.write(file, places.below(span) * PAGE, &bytes, NOW).expect("it fits");
                n += 1;
                if n.is_multiple_of(64) {
                    disk.sync(file, true);
                }
            })
        });
    }
}

fn syncs_and_crashes(c: &mut Criterion) {
    for dirty in [1, 64, 4096] {
        let (mut disk, file) = disk();
        for page in 0..dirty {
            disk.write(file, page * PAGE, &[1; PAGE as usize], NOW).expect("it fits");
        }
        let dirtied = disk.clone();
        c.bench_function(&format!("fsync of {dirty} pages"), |b| {
            b.iter_batched_ref(|| dirtied.clone(), |disk| disk.sync(file, false), BatchSize::LargeInput)
        });
        c.bench_function(&format!("crash with {dirty} dirty pages"), |b| {
            let crash = |disk: &mut Volume| disk.power_off(&mut Bench::seeded(1).cx(NodeId::OUTSIDE));
            b.iter_batched_ref(|| dirtied.clone(), crash, BatchSize::LargeInput)
        });
    }
}

/// The same calls through the device: with what is drawn for each, an answer, and an open file.
fn calls(c: &mut Criterion) {
    let calm = Choices::from_source(0, Box::new(Tape::new([])));
    let mut bench = Bench { choices: Some(calm), ..Bench::default() };
    let mut device = Disk::new();
    device.node_added(NODE, "a", &mut bench.cx(NodeId::OUTSIDE));
    let how = OpenHow { read: true, write: true, create: true, ..OpenHow::default() };
    let opened = device.call(NODE, Op::Open(b"/f".to_vec(), how), &mut bench.cx(NODE)).1;
    let Ok(Reply::Opened(file)) = opened else { panic!("{opened:?}") };
    let mut group = c.benchmark_group("call");
    for len in [100, 4096, 65_536] {
        let bytes = vec![3; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("pwrite of {len} bytes, 64 between fdatasyncs"), |b| {
            let mut n = 0u64;
            b.iter(|| {
                n += 1;
                let op = if n.is_multiple_of(64) { Op::SyncData(file) } else { Op::WriteAt(file, 0, bytes.clone()) };
                device.call(NODE, op, &mut bench.cx(NODE)).1
            })
        });
        group.bench_function(format!("pread of {len} bytes"), |b| {
            b.iter(|| device.call(NODE, Op::ReadAt(file, 0, len), &mut bench.cx(NODE)).1)
        });
    }
}

/// Nanoseconds of a random read of 4 KiB: the least of several rounds.
fn read_ns(disk: &Volume, file: InodeId) -> u64 {
    let round = |seed| {
        let (mut places, mut out) = (Places(seed), Vec::with_capacity(PAGE as usize));
        let begun = Clock::now();
        for _ in 0..100_000 {
            out.clear();
            disk.read(file, places.below(PAGES) * PAGE, PAGE as usize, &mut out).expect("a file");
            black_box(&out);
        }
        begun.elapsed().as_nanos() as u64 / 100_000
    };
    (0..9).map(round).min().expect("nine rounds")
}

/// Not by criterion, since it is the ratio that counts: the cost of a read must not follow the unsynced operations.
fn unsynced_operations_cost_readers_nothing(_: &mut Criterion) {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE / 1024
    };
    for len in [100, 4096] {
        let (few, f) = overwritten(100, len);
        let few = read_ns(&few, f);
        for count in [1_000, 10_000, 100_000] {
            let (many, m) = overwritten(count, len);
            let many = read_ns(&many, m);
            let ratio = many * 100 / few;
            println!(
                "random read after {count} unsynced overwrites of {len} bytes: {many} ns, after 100: {few} ns; {ratio} %"
            );
        }
    }
    let before = resident();
    let (mut sparse, file) = disk();
    sparse.set_len(file, 1 << 30, NOW).expect("it fits");
    for at in [0, 1 << 29, (1 << 30) - 1] {
        sparse.write(file, at, b"x", NOW).expect("it fits");
    }
    println!("a sparse GiB with three pages: {} KiB more", resident() - before);
    black_box(sparse);
}

criterion_group! {
    name = disk_calls;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = reads, writes, calls, syncs_and_crashes, unsynced_operations_cost_readers_nothing
}
criterion_main!(disk_calls);
