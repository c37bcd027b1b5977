//! The device: operations that take time, faults, and the deaths of programs. With a hand-moved clock, without an executor.

mod rig;

use rig::{CREATE, NODE, Rig};
use sim_core::choices::{Choices, Ratio};
use sim_core::device::Bench;
use sim_core::{Death, Instant, NodeId};
use sim_disk::{DiskFaults, Errno, Op, OpenHow, Reply};
use std::task::{Poll, Waker};
use std::time::Duration;

#[test]
fn kill_keeps_the_page_cache_and_power_off_need_not() {
    let mut lost = 0;
    for seed in 0..100 {
        for how in [Death::Kill, Death::PowerOff] {
            let mut rig = Rig::seeded(seed);
            let file = rig.open("/f", CREATE);
            assert_eq!(rig.call(Op::Write(file, b"abc".to_vec())), Ok(Reply::Count(3)));
            rig.die(how);
            let found = rig.read("/f");
            match how {
                Death::PowerOff => lost += (found != Ok(b"abc".to_vec())) as u32,
                _ => assert_eq!(found, Ok(b"abc".to_vec())),
            }
        }
    }
    assert!(lost > 30, "{lost}");
}

#[test]
fn a_handle_of_a_dead_program_means_nothing() {
    let mut rig = Rig::seeded(1);
    let file = rig.open("/f", CREATE);
    let write = rig.submit(Op::Write(file, b"x".to_vec()));
    rig.die(Death::Kill);
    assert_eq!(rig.disk.poll(write, Waker::noop()), Poll::Ready(Err(Errno::EIO)));
    let late = rig.disk.submit(NODE, Op::Write(file, b"late".to_vec()), &mut rig.bench.cx(NODE));
    assert_eq!(late, Err(Errno::EBADF));
    // Its slot is used again: closing the old handle must not close the new file.
    let new = rig.open("/g", CREATE);
    rig.disk.close(file, &mut rig.bench.cx(NODE));
    rig.disk.detach(write, &mut rig.bench.cx(NODE));
    assert_eq!(rig.disk.node_of(new), Some(NODE));
    assert_eq!(rig.call(Op::Write(new, b"y".to_vec())), Ok(Reply::Count(1)));
    assert_eq!(rig.read("/g"), Ok(b"y".to_vec()));
}

#[test]
fn a_write_under_way_when_its_program_is_killed_may_or_may_not_have_happened() {
    let outcomes: Vec<bool> = (0..100)
        .map(|seed| {
            let mut rig = Rig::seeded(seed);
            let file = rig.open("/f", CREATE);
            rig.submit(Op::Write(file, b"abc".to_vec()));
            rig.die(Death::Kill);
            rig.settle();
            let found = rig.read("/f").expect("the file was created");
            assert!(found == b"abc" || found.is_empty());
            found == b"abc"
        })
        .collect();
    assert!(outcomes.contains(&true) && outcomes.contains(&false));
    assert_eq!(rig_calm_keeps_it(), b"abc", "0 is benign");
}

fn rig_calm_keeps_it() -> Vec<u8> {
    let mut rig = Rig::new(Bench::default());
    let file = rig.open("/f", CREATE);
    rig.submit(Op::Write(file, b"abc".to_vec()));
    rig.die(Death::Kill);
    rig.read("/f").expect("it is there")
}

#[test]
fn a_call_goes_on_when_its_file_is_closed_and_nobody_waits() {
    let mut rig = Rig::seeded(1);
    let file = rig.open("/f", CREATE);
    rig.call(Op::Write(file, b"ab".to_vec())).expect("written");
    let write = rig.submit(Op::Write(file, b"cd".to_vec()));
    rig.disk.detach(write, &mut rig.bench.cx(NODE));
    rig.disk.close(file, &mut rig.bench.cx(NODE));
    rig.settle();
    assert_eq!(rig.read("/f"), Ok(b"abcd".to_vec()));
    assert_eq!(rig.disk.node_of(file), None);
}

#[test]
fn injected_errors_strike_as_often_as_they_should_and_are_counted() {
    let third = Ratio::new(1, 3);
    let mut rig = Rig::seeded(7);
    let file = rig.open("/f", CREATE);
    rig.faults(DiskFaults { read_error: third, write_error: third, ..DiskFaults::default() });
    let mut failed = 0;
    for i in 0..600 {
        let op = if i % 2 == 0 { Op::WriteAt(file, 0, b"x".to_vec()) } else { Op::ReadAt(file, 0, 1) };
        failed += (rig.call(op) == Err(Errno::EIO)) as u64;
    }
    assert!((150..250).contains(&failed), "{failed}");
    assert_eq!(rig.fired("disk.eio"), failed);
    rig.disk.heal(NODE, &mut rig.bench.cx(NodeId::OUTSIDE));
    assert!((0..100).all(|_| rig.call(Op::ReadAt(file, 0, 1)).is_ok()));
}

#[test]
fn a_full_disk_writes_what_fits_and_then_nothing() {
    let mut rig = Rig::seeded(1);
    rig.disk.set_capacity(NODE, 2 * 4096, &mut rig.bench.cx(NodeId::OUTSIDE));
    let file = rig.open("/f", CREATE);
    assert_eq!(rig.call(Op::Write(file, vec![1; 10_000])), Ok(Reply::Count(8192)));
    assert_eq!(rig.call(Op::Write(file, vec![1; 1])), Err(Errno::ENOSPC));
    assert_eq!(rig.fired("disk.enospc"), 2);
    assert_eq!(rig.call(Op::WriteAt(file, 0, vec![2; 8192])), Ok(Reply::Count(8192)), "overwriting needs no space");
    rig.call(Op::RemoveFile(b"/f".to_vec())).expect("removed");
    rig.disk.close(file, &mut rig.bench.cx(NODE));
    let other = rig.open("/g", CREATE);
    assert_eq!(rig.call(Op::Write(other, vec![1; 8192])), Ok(Reply::Count(8192)), "a removed file's space is free");
    rig.faults(DiskFaults { full: true, ..DiskFaults::default() });
    assert_eq!(rig.call(Op::Open(b"/h".to_vec(), CREATE)), Err(Errno::ENOSPC));
}

#[test]
fn latencies_have_their_bases_and_a_slow_disk_takes_longer() {
    let time = |rig: &mut Rig, op: Op| {
        let before = rig.bench.now;
        rig.call(op).expect("it works");
        rig.bench.now.since(before)
    };
    let mut rig = Rig::new(Bench::default());
    let file = rig.open("/f", CREATE);
    assert_eq!(rig.bench.now, Instant(10_000));
    assert_eq!(time(&mut rig, Op::Write(file, vec![0; 4096])), Duration::from_nanos(11_024));
    assert_eq!(time(&mut rig, Op::Sync(file)), Duration::from_micros(502));
    assert_eq!(time(&mut rig, Op::SyncData(file)), Duration::from_micros(500));
    rig.faults(DiskFaults { slow_factor: 100, ..DiskFaults::default() });
    assert_eq!(time(&mut rig, Op::Sync(file)), Duration::from_millis(50));
    rig.faults(DiskFaults { stall: Ratio::ALWAYS, stall_for: Duration::from_secs(3), ..DiskFaults::default() });
    let mut seeded = Rig::seeded(1);
    let file = seeded.open("/f", CREATE);
    seeded.faults(rig.disk.faults(NODE));
    assert!(time(&mut seeded, Op::Sync(file)) > Duration::from_secs(3));
    assert_eq!((rig.fired("disk.slow"), seeded.fired("disk.stall")), (1, 1));
    let tails = (0..1000).filter(|_| {
        time(&mut seeded, Op::Seek(file, std::io::SeekFrom::Start(0))) > Duration::from_nanos(3_000_001_000)
    });
    assert!((30..120).contains(&tails.count()), "one in sixteen");
}

#[test]
fn errors_are_linux_s() {
    let mut rig = Rig::seeded(1);
    let read = OpenHow { read: true, ..OpenHow::default() };
    let write = OpenHow { write: true, ..OpenHow::default() };
    let f = rig.open("/f", CREATE);
    rig.call(Op::CreateDir(b"/d".to_vec(), 0o755)).expect("new");
    rig.open("/d/x", CREATE);
    let only_write = rig.open("/f", write);
    let only_read = rig.open("/f", read);
    let dir = rig.open("/d", read);
    let cases = [
        (Op::Open(b"/no".to_vec(), read), Errno::ENOENT),
        (Op::Open(b"/no/f".to_vec(), CREATE), Errno::ENOENT),
        (Op::Open(b"/f/x".to_vec(), CREATE), Errno::ENOTDIR),
        (Op::Open(b"/f/".to_vec(), read), Errno::ENOTDIR),
        (Op::Open(b"/d".to_vec(), write), Errno::EISDIR),
        (Op::Open(b"/f".to_vec(), OpenHow { exclusive: true, ..CREATE }), Errno::EEXIST),
        (Op::Open(vec![b'x'; 300], CREATE), Errno::ENAMETOOLONG),
        (Op::Read(only_write, 1), Errno::EBADF),
        (Op::Write(only_read, vec![1]), Errno::EBADF),
        (Op::SetLen(only_read, 1), Errno::EINVAL),
        (Op::Read(dir, 1), Errno::EISDIR),
        (Op::Seek(f, std::io::SeekFrom::Current(-1)), Errno::EINVAL),
        (Op::CreateDir(b"/d".to_vec(), 0o755), Errno::EEXIST),
        (Op::RemoveDir(b"/d".to_vec()), Errno::ENOTEMPTY),
        (Op::RemoveDir(b"/f".to_vec()), Errno::ENOTDIR),
        (Op::RemoveFile(b"/d".to_vec()), Errno::EISDIR),
        (Op::Rename(b"/d".to_vec(), b"/d/e".to_vec()), Errno::EINVAL),
        (Op::Rename(b"/d/x".to_vec(), b"/d".to_vec()), Errno::ENOTEMPTY),
        (Op::Rename(b"/f".to_vec(), b"/d".to_vec()), Errno::EISDIR),
        (Op::Rename(b"/d".to_vec(), b"/f".to_vec()), Errno::ENOTDIR),
        (Op::ReadDir(b"/f".to_vec()), Errno::ENOTDIR),
    ];
    for (op, errno) in cases {
        assert_eq!(rig.call(op.clone()), Err(errno), "{op:?}");
    }
    assert!(rig.call(Op::Sync(dir)).is_ok(), "a directory opened for reading can be synced");
}

/// A program that appends a record, syncs, and calls it acknowledged, until the power goes. How many it acknowledged, and
/// how many are there afterwards.
fn acknowledged_and_stored(seed: u64, faults: DiskFaults) -> (u64, u64) {
    let mut rig = Rig::seeded(seed);
    rig.faults(faults);
    let file = rig.open("/log", CREATE);
    let mut acknowledged = 0;
    for i in 1..=8u64 {
        let written = rig.call(Op::Write(file, i.to_le_bytes().to_vec()));
        if written.is_ok() && rig.call(Op::Sync(file)).is_ok() {
            acknowledged = i;
        }
    }
    rig.die(Death::PowerOff);
    let stored = rig.read("/log").unwrap_or_default();
    let is_there = |i: &u64| stored.get((*i as usize - 1) * 8..*i as usize * 8) == Some(&i.to_le_bytes());
    (acknowledged, (1..=8).take_while(is_there).count() as u64)
}

#[test]
fn what_an_honest_fsync_acknowledged_is_there() {
    for seed in 0..300 {
        let (acknowledged, stored) = acknowledged_and_stored(seed, DiskFaults::default());
        assert_eq!((acknowledged, stored), (8, 8), "seed {seed}");
    }
}

/// The canary: were a lying fsync not found, neither would be a program that forgets to sync.
#[test]
fn an_fsync_that_lies_is_caught_by_a_durability_check() {
    let faults = DiskFaults { sync_lie: Ratio::new(1, 2), ..DiskFaults::default() };
    let caught = (0..300).filter(|seed| {
        let (acknowledged, stored) = acknowledged_and_stored(*seed, faults);
        stored < acknowledged
    });
    let caught = caught.count();
    assert!((75..290).contains(&caught), "{caught} of 300");
}

/// "fsyncgate": the program tries again, is told that all is well, and believes it.
#[test]
fn trusting_the_retry_after_a_failed_fsync_is_caught() {
    let caught = (0..300).filter(|seed| {
        let mut rig = Rig::seeded(*seed);
        let file = rig.open("/log", CREATE);
        rig.call(Op::Sync(file)).expect("healthy");
        rig.faults(DiskFaults { sync_error: Ratio::new(1, 2), ..DiskFaults::default() });
        rig.call(Op::Write(file, b"abc".to_vec())).expect("written");
        while rig.call(Op::Sync(file)).is_err() {}
        rig.die(Death::PowerOff);
        rig.read("/log") != Ok(b"abc".to_vec())
    });
    let caught = caught.count();
    assert!((90..210).contains(&caught), "about every second: {caught} of 300");
}

#[test]
fn a_run_replayed_from_its_tape_is_the_same_run() {
    let eighth = Ratio::new(1, 8);
    let everything = DiskFaults {
        read_error: eighth,
        write_error: eighth,
        sync_error: eighth,
        sync_full: eighth,
        sync_lie: eighth,
        short_read: eighth,
        short_write: eighth,
        interrupted: eighth,
        latent_error: eighth,
        bit_rot: eighth,
        misdirected: eighth,
        stall: eighth,
        ..DiskFaults::default()
    };
    let struck = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let run = |choices: Choices| {
        let mut rig = Rig::new(Bench { choices: Some(choices), ..Bench::default() });
        let file = rig.open("/f", CREATE);
        rig.faults(everything);
        for i in 0..60u8 {
            rig.call(Op::WriteAt(file, i as u64 * 300, vec![i; 7000])).ok();
            rig.call(Op::ReadAt(file, i as u64 * 500, 5000)).ok();
            if i % 7 == 0 {
                rig.call(Op::SyncData(file)).ok();
            }
        }
        struck.borrow_mut().extend(rig.bench.trace.fired_counts().keys().copied());
        rig.faults(DiskFaults::default());
        rig.die(Death::PowerOff);
        let found = rig.read("/f");
        let choices = rig.bench.choices.as_mut().expect("given");
        let (digest, deviations) = (choices.digest(), choices.take_deviations());
        ((found, rig.bench.now, digest, rig.bench.trace.digest()), deviations)
    };
    for seed in 0..30 {
        let mut choices = Choices::seeded(seed);
        choices.record();
        let (recorded, deviations) = run(choices);
        assert!(
            deviations.iter().all(|d| d.subject.starts_with("disk a")),
            "every choice can be named: {deviations:?}"
        );
        let tape = sim_core::choices::Tape::new(deviations.iter().map(|d| (d.at, d.value)));
        assert_eq!(run(Choices::from_source(seed, Box::new(tape))).0, recorded);
    }
    let struck = struck.into_inner();
    for kind in "eio enospc lie short eintr latent rot astray stall".split(' ') {
        assert!(struck.contains(format!("disk.{kind}").as_str()), "{kind}: {struck:?}");
    }
}
