//! Every fault keeps its contract, gives the kernel's error, and is counted when it strikes.

mod rig;

use rig::{CREATE, NODE, Rig};
use sim_core::choices::Ratio;
use sim_core::{Death, Device, NodeId};
use sim_disk::{DiskFaults, Errno, FileId, Op, OpenHow, Reply};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Wake, Waker};

const PAGE: usize = 4096;
const ALWAYS: Ratio = Ratio::ALWAYS;

fn faults() -> DiskFaults {
    DiskFaults::default()
}

fn count(answer: Result<Reply, Errno>) -> usize {
    match answer {
        Ok(Reply::Count(n)) => n as usize,
        other => panic!("{other:?}"),
    }
}

fn bytes(answer: Result<Reply, Errno>) -> Vec<u8> {
    match answer {
        Ok(Reply::Bytes(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

/// A file of these pages, a letter for each, written back.
fn synced(rig: &mut Rig, pages: &[u8]) -> FileId {
    let file = rig.open("/f", CREATE);
    let all: Vec<u8> = pages.iter().flat_map(|letter| [*letter; PAGE]).collect();
    assert_eq!(count(rig.call(Op::WriteAt(file, 0, all))), pages.len() * PAGE);
    rig.call(Op::Sync(file)).expect("healthy");
    file
}

#[test]
fn an_open_fails_and_creates_nothing() {
    let mut rig = Rig::seeded(1);
    rig.faults(DiskFaults { open_error: ALWAYS, ..faults() });
    assert_eq!(rig.call(Op::Open(b"/f".to_vec(), CREATE)), Err(Errno::EIO));
    rig.faults(faults());
    assert_eq!(rig.read("/f"), Err(Errno::ENOENT));
    assert_eq!(rig.fired("disk.eio"), 1);
}

#[test]
fn an_error_that_sticks_goes_on_for_that_file_and_kind_of_operation() {
    let mut rig = Rig::seeded(1);
    let (f, g) = (synced(&mut rig, b"a"), rig.open("/g", CREATE));
    rig.faults(DiskFaults { read_error: Ratio::new(1, 16), error_sticks: true, ..faults() });
    let read = |rig: &mut Rig| rig.call(Op::ReadAt(f, 0, 10));
    let first = (0..1000).position(|_| read(&mut rig) == Err(Errno::EIO)).expect("one in sixteen fails");
    assert!(first < 100, "{first}");
    assert!((0..100).all(|_| read(&mut rig) == Err(Errno::EIO)));
    assert!(rig.call(Op::ReadAt(g, 0, 1)).is_ok() && rig.call(Op::WriteAt(f, 0, b"b".to_vec())).is_ok());
    assert_eq!(rig.fired("disk.eio"), 101);
    rig.faults(faults());
    assert_eq!(bytes(read(&mut rig)), b"baaaaaaaaa");
}

#[test]
fn an_fsync_without_space_leaves_its_pages_clean_and_lost() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut rig = Rig::seeded(seed);
        let file = synced(&mut rig, b"a");
        rig.call(Op::WriteAt(file, 0, b"b".to_vec())).expect("into the page cache");
        rig.faults(DiskFaults { sync_full: ALWAYS, ..faults() });
        assert_eq!(rig.call(Op::Sync(file)), Err(Errno::ENOSPC));
        assert_eq!(rig.fired("disk.enospc"), 1);
        rig.faults(faults());
        rig.call(Op::Sync(file)).expect("nothing is left to write");
        assert_eq!(bytes(rig.call(Op::ReadAt(file, 0, 1))), b"b");
        rig.die(Death::PowerOff);
        lost += (rig.read("/f").expect("the file is old")[0] == b'a') as u32;
    }
    assert_eq!(lost, 50);
}

#[test]
fn reads_and_writes_are_short_and_go_on_where_they_ended() {
    let mut rig = Rig::seeded(1);
    rig.faults(DiskFaults { short_read: ALWAYS, short_write: ALWAYS, ..faults() });
    let (file, text) = (rig.open("/f", CREATE), b"the quick brown fox");
    let (mut at, mut writes) = (0, 0);
    while at < text.len() {
        let n = count(rig.call(Op::Write(file, text[at..].to_vec())));
        assert!(n > 0 && (n < text.len() - at || n == 1));
        (at, writes) = (at + n, writes + 1);
    }
    rig.call(Op::Seek(file, std::io::SeekFrom::Start(0))).expect("a place");
    let (mut found, mut reads) = (Vec::new(), 0);
    while found.len() < text.len() {
        found.extend(bytes(rig.call(Op::Read(file, 100))));
        reads += 1;
    }
    assert_eq!(found, text);
    assert!(bytes(rig.call(Op::Read(file, 100))).is_empty(), "only the end reads as nothing");
    // The last byte of each cannot be shortened.
    assert_eq!(rig.fired("disk.short"), writes - 1 + reads - 1);
    assert!(writes > 2 && reads > 2);
}

#[test]
fn an_interrupted_call_did_nothing() {
    let mut rig = Rig::seeded(1);
    let file = synced(&mut rig, b"a");
    rig.faults(DiskFaults { interrupted: ALWAYS, ..faults() });
    for op in [Op::Open(b"/g".to_vec(), CREATE), Op::Read(file, 1), Op::Write(file, b"x".to_vec()), Op::SetLen(file, 0)]
    {
        assert_eq!(rig.call(op.clone()), Err(Errno::EINTR), "{op:?}");
    }
    assert_eq!(rig.fired("disk.eintr"), 4);
    rig.call(Op::Sync(file)).expect("an fsync is not interrupted");
    rig.faults(faults());
    assert_eq!((rig.read("/g"), rig.read("/f")), (Err(Errno::ENOENT), Ok(vec![b'a'; PAGE])));
}

#[test]
fn a_latent_sector_error_lasts_until_its_page_is_written_anew() {
    let mut rig = Rig::seeded(1);
    let file = synced(&mut rig, b"abc");
    rig.faults(DiskFaults { latent_error: ALWAYS, ..faults() });
    assert_eq!(rig.call(Op::ReadAt(file, PAGE as u64 + 7, 10)), Err(Errno::EIO));
    rig.faults(faults());
    assert_eq!(rig.call(Op::ReadAt(file, PAGE as u64, 1)), Err(Errno::EIO));
    assert_eq!(rig.call(Op::WriteAt(file, PAGE as u64 + 9, b"x".to_vec())), Err(Errno::EIO), "it would be read first");
    assert_eq!(bytes(rig.call(Op::ReadAt(file, 10, 3 * PAGE))).len(), PAGE - 10, "what comes before can be read");
    rig.die(Death::PowerOff);
    assert_eq!(rig.read("/f").map(|b| b.len()), Ok(PAGE));
    let file = rig.open("/f", CREATE);
    assert_eq!(count(rig.call(Op::WriteAt(file, PAGE as u64, vec![b'x'; PAGE]))), PAGE);
    assert_eq!(bytes(rig.call(Op::ReadAt(file, PAGE as u64, PAGE))), [b'x'; PAGE]);
    assert_eq!((rig.fired("disk.latent"), rig.fired("disk.eio")), (1, 3));
}

#[test]
fn a_bit_that_rotted_is_the_same_for_every_reader_until_it_is_overwritten() {
    let mut rig = Rig::seeded(1);
    let file = synced(&mut rig, b"abc");
    rig.faults(DiskFaults { bit_rot: ALWAYS, ..faults() });
    let rotten = bytes(rig.call(Op::ReadAt(file, 0, 3 * PAGE)));
    rig.faults(faults());
    let whole: Vec<u8> = b"abc".iter().flat_map(|letter| [*letter; PAGE]).collect();
    let wrong: Vec<usize> = (0..3 * PAGE).filter(|i| rotten[*i] != whole[*i]).collect();
    assert_eq!((wrong.len(), (rotten[wrong[0]] ^ whole[wrong[0]]).count_ones()), (1, 1));
    assert_eq!(bytes(rig.call(Op::ReadAt(file, 0, 3 * PAGE))), rotten);
    rig.die(Death::PowerOff);
    assert_eq!(rig.read("/f"), Ok(rotten.clone()));
    let file = rig.open("/f", CREATE);
    let beside = (wrong[0] as u64) ^ 1;
    rig.call(Op::WriteAt(file, beside, vec![whole[beside as usize]])).expect("written");
    assert_eq!(rig.read("/f"), Ok(rotten));
    rig.call(Op::WriteAt(file, wrong[0] as u64, vec![whole[wrong[0]]])).expect("written");
    assert_eq!(rig.read("/f"), Ok(whole));
    assert_eq!(rig.fired("disk.rot"), 1);
}

#[test]
fn what_lies_in_memory_alone_does_not_decay() {
    let mut rig = Rig::seeded(1);
    let file = rig.open("/f", CREATE);
    rig.call(Op::Write(file, vec![b'a'; PAGE])).expect("written");
    rig.faults(DiskFaults { bit_rot: ALWAYS, latent_error: Ratio::new(1, 2), ..faults() });
    assert!((0..20).all(|_| bytes(rig.call(Op::ReadAt(file, 0, PAGE))) == [b'a'; PAGE]));
    assert_eq!(rig.fired("disk.rot") + rig.fired("disk.latent"), 0);
}

#[test]
fn a_misdirected_write_is_in_one_wrong_place_and_not_in_the_right_one() {
    let mut places = BTreeSet::new();
    for seed in 0..40 {
        let mut rig = Rig::seeded(seed);
        let file = synced(&mut rig, b"abcd");
        rig.call(Op::WriteAt(file, PAGE as u64, vec![b'x'; PAGE])).expect("written");
        rig.faults(DiskFaults { misdirected: ALWAYS, ..faults() });
        rig.call(Op::Sync(file)).expect("it says nothing");
        let pages: Vec<u8> = rig.read("/f").expect("there").chunks(PAGE).map(|p| p[0]).collect();
        assert!([b"xbcd", b"abxd", b"abcx"].contains(&pages.as_slice().try_into().expect("four pages")), "{pages:?}");
        places.insert(pages);
        // One at a time.
        rig.call(Op::WriteAt(file, PAGE as u64, vec![b'y'; PAGE])).expect("written");
        rig.call(Op::Sync(file)).expect("it says nothing");
        assert_eq!(rig.read("/f").expect("there")[PAGE], b'y');
        assert_eq!(rig.fired("disk.astray"), 1);
    }
    assert_eq!(places.len(), 3);
}

#[test]
fn a_quota_is_another_error_than_a_full_disk() {
    let mut rig = Rig::seeded(1);
    rig.disk.set_quota(NODE, 2 * PAGE as u64, &mut rig.bench.cx(NodeId::OUTSIDE));
    let file = rig.open("/f", CREATE);
    assert_eq!(count(rig.call(Op::Write(file, vec![1; 3 * PAGE]))), 2 * PAGE);
    assert_eq!(rig.call(Op::Write(file, vec![1])), Err(Errno::EDQUOT));
    assert_eq!(rig.fired("disk.edquot"), 1);
}

#[test]
fn a_budget_spares_all_disks_but_a_few_from_damage() {
    let mut struck = BTreeSet::new();
    for seed in 0..40 {
        let mut rig = Rig::seeded(seed);
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        for (node, name) in [(nodes[1], "b"), (nodes[2], "c")] {
            rig.disk.node_added(node, name, &mut rig.bench.cx(NodeId::OUTSIDE));
        }
        rig.disk.limit_damage(&nodes, 1, &mut rig.bench.cx(NodeId::OUTSIDE));
        let damaged: Vec<NodeId> = nodes
            .into_iter()
            .filter(|node| {
                let mut cx = rig.bench.cx(*node);
                rig.disk.set_faults(*node, DiskFaults { bit_rot: ALWAYS, sync_lie: ALWAYS, ..faults() }, &mut cx);
                let (_, opened) = rig.disk.call(*node, Op::Open(b"/f".to_vec(), CREATE), &mut cx);
                let Ok(Reply::Opened(file)) = opened else { panic!("{opened:?}") };
                for op in [Op::WriteAt(file, 0, b"a".to_vec()), Op::Sync(file)] {
                    rig.disk.call(*node, op, &mut cx).1.expect("it says nothing");
                }
                rig.disk.volume(*node).sync_all();
                let read = rig.disk.call(*node, Op::ReadAt(file, 0, 1), &mut cx).1;
                read != Ok(Reply::Bytes(b"a".to_vec()))
            })
            .collect();
        assert_eq!(damaged.len(), 1, "seed {seed}");
        assert_eq!((rig.fired("disk.rot"), rig.fired("disk.lie")), (1, 1));
        struck.extend(damaged);
    }
    assert_eq!(struck.len(), 3, "which one is the seed's");
}

#[test]
fn a_wiped_disk_is_empty_and_draws_anew() {
    let mut rig = Rig::seeded(1);
    synced(&mut rig, b"a");
    rig.die(Death::Kill);
    let before = rig.disk.volume(NODE).lookup(b"/tmp", true).map(|i| rig.disk.volume(NODE).stat(i).ino);
    rig.disk.wipe(NODE, &mut rig.bench.cx(NodeId::OUTSIDE));
    assert_eq!(rig.read("/f"), Err(Errno::ENOENT));
    let after = rig.disk.volume(NODE).lookup(b"/tmp", true).map(|i| rig.disk.volume(NODE).stat(i).ino);
    assert_ne!(before, after, "inode numbers are never used twice");
    assert_eq!((rig.fired("disk.wipe"), rig.disk.volume(NODE).used_bytes()), (1, 0));
    synced(&mut rig, b"b");
    assert_eq!(rig.read("/f"), Ok(vec![b'b'; PAGE]));
}

#[test]
fn swapped_disks_keep_what_is_on_them() {
    let mut rig = Rig::seeded(1);
    let other = NodeId(2);
    rig.disk.node_added(other, "b", &mut rig.bench.cx(NodeId::OUTSIDE));
    synced(&mut rig, b"a");
    rig.die(Death::PowerOff);
    rig.disk.swap(NODE, other, &mut rig.bench.cx(NodeId::OUTSIDE));
    assert_eq!(rig.read("/f"), Err(Errno::ENOENT));
    rig.disk.swap(other, NODE, &mut rig.bench.cx(NodeId::OUTSIDE));
    assert_eq!(rig.read("/f"), Ok(vec![b'a'; PAGE]));
    assert_eq!(rig.fired("disk.swap"), 4, "two disks, twice");
}

#[test]
#[should_panic(expected = "end them first")]
fn the_disk_of_a_running_program_is_not_wiped() {
    let mut rig = Rig::seeded(1);
    rig.open("/f", CREATE);
    rig.disk.wipe(NODE, &mut rig.bench.cx(NodeId::OUTSIDE));
}

#[derive(Default)]
struct Counting(AtomicU32);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records of eight bytes, each synced; the power goes when an operation is under way, then again during the recovery, which
/// cuts what is torn. What was acknowledged is there, whichever operations they were.
#[test]
fn every_operation_can_be_the_last() {
    let mut places = BTreeSet::new();
    for (last, seed) in (1..=18).flat_map(|last| (0..6).map(move |seed| (last, seed))) {
        let mut rig = Rig::seeded(seed);
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(counting.clone());
        assert!(!rig.disk.await_operation(NODE, last, &waker));
        let mut acknowledged = 0u64;
        let mut under_way = String::new();
        let mut file = None;
        for i in 0..18u64 {
            let op = match (i, file) {
                (0, _) => Op::Open(b"/log".to_vec(), OpenHow { append: true, ..CREATE }),
                (i, Some(file)) if i % 2 == 1 => Op::Write(file, (acknowledged + 1).to_le_bytes().to_vec()),
                (_, file) => Op::Sync(file.expect("it was opened first")),
            };
            let id = rig.submit(op.clone());
            for woken in rig.bench.wakes.drain(..) {
                woken.wake();
            }
            if counting.0.load(Ordering::Relaxed) == 1 {
                let calls = rig.disk.under_way(NODE);
                assert_eq!(calls, [format!("{} /log", op.name())]);
                assert_eq!(rig.disk.operations(NODE), last);
                under_way = format!("{i} {}", calls[0]);
                break;
            }
            rig.settle();
            assert!(rig.disk.under_way(NODE).is_empty());
            match rig.disk.poll(id, Waker::noop()) {
                Poll::Ready(Ok(Reply::Opened(opened))) => file = Some(opened),
                Poll::Ready(Ok(Reply::Done)) => acknowledged += 1,
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        places.insert(under_way);
        rig.die(Death::PowerOff);
        // The recovery cuts half a record off, and is interrupted twice.
        for _ in 0..2 {
            let log = rig.open("/log", CREATE);
            let len = rig.read("/log").map_or(0, |b| b.len() as u64);
            rig.call(Op::SetLen(log, len / 8 * 8)).expect("it is smaller");
            rig.submit(Op::Sync(log));
            rig.die(Death::PowerOff);
        }
        let stored = rig.read("/log").unwrap_or_default();
        for i in 1..=acknowledged {
            assert_eq!(stored.get((i as usize - 1) * 8..i as usize * 8), Some(&i.to_le_bytes()[..]), "{last}, {seed}");
        }
    }
    assert_eq!(places.len(), 18, "{places:?}");
}

/// A log that takes an fsync under way for one that covers what it wrote in the meantime: the mistake of many a group commit.
#[test]
fn an_fsync_covers_only_what_was_written_before_it_began() {
    let (mut first, mut second) = (0, 0);
    for seed in 0..100 {
        let mut rig = Rig::seeded(seed);
        let file = synced(&mut rig, b"..");
        rig.call(Op::WriteAt(file, 0, b"a".to_vec())).expect("written");
        let sync = rig.submit(Op::Sync(file));
        let write = rig.submit(Op::WriteAt(file, PAGE as u64, b"b".to_vec()));
        rig.settle();
        for id in [sync, write] {
            assert!(matches!(rig.disk.poll(id, Waker::noop()), Poll::Ready(Ok(_))));
        }
        rig.die(Death::PowerOff);
        let stored = rig.read("/f").expect("the file is old");
        (first, second) = (first + (stored[0] == b'a') as u32, second + (stored[PAGE] == b'b') as u32);
    }
    assert_eq!(first, 100);
    assert!((20..80).contains(&second), "{second}");
}
