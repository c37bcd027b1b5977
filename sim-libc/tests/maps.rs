//! Memory maps of a node's files: they agree with calls and with each other, and what is stored there is as durable as what is
//! written.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::choices::Ratio;
use sim_core::{Choices, Death, NodeId, Settings, Spawn, World};
use sim_disk::{Disk, DiskFaults};
use sim_libc::{files, interpose};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::ptr;
use std::slice;

const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const SHARED: i32 = libc::MAP_SHARED;

/// Runs `program` on a node called `kv0`, in a process whose output may have a MiB, as those of a sweep.
fn run<T: 'static>(seed: u64, program: impl FnOnce(&'static World) -> T + 'static) -> T {
    // SAFETY: a disposition, and a limit in a local that is read.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY });
    }
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("kv0");
    let _on = interpose::enable();
    world.block_on(node, async move { program(world) }, Spawn::named("the program")).expect("the run passes")
}

/// A map of a file, as a program has it.
struct Map(*mut u8, usize);

impl Map {
    fn try_of(file: &File, at: usize, len: usize, protection: i32, flags: i32) -> io::Result<Map> {
        // SAFETY: a descriptor that is open, and a place of the kernel's choice.
        let made = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), at as libc::off_t) };
        if made == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Map(made.cast(), len)) }
    }

    fn of(file: &File, len: usize) -> Map {
        Map::try_of(file, 0, len, RW, SHARED).expect("it can be mapped")
    }

    fn load(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at + len <= self.1);
        // SAFETY: within the map, which nobody else stores to meanwhile.
        unsafe { slice::from_raw_parts(self.0.add(at), len).to_vec() }
    }

    fn store(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.1);
        // SAFETY: within the map.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.add(at), bytes.len()) }
    }

    fn sync(&self, at: usize, len: usize, flags: i32) -> io::Result<()> {
        // SAFETY: numbers.
        result(unsafe { libc::msync(self.0.add(at).cast(), len, flags) })
    }

    /// Whether this byte can be looked at without SIGBUS: MADV_POPULATE_READ says EFAULT, madvise(2).
    fn is_there(&self, at: usize) -> bool {
        let page = at - at % PAGE;
        // SAFETY: a page of the map.
        unsafe { libc::madvise(self.0.add(page).cast(), PAGE, libc::MADV_POPULATE_READ) == 0 }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by this value, and not used again.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

fn result(returned: i32) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn errno<T>(answer: io::Result<T>) -> i32 {
    answer.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

fn new(path: impl AsRef<Path>) -> File {
    let how = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    how.expect("a file of the run can be made")
}

fn there(path: impl AsRef<Path>) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("it is there")
}

fn bytes_at(file: &File, at: usize, len: usize) -> Vec<u8> {
    let mut found = vec![0; len];
    file.read_exact_at(&mut found, at as u64).expect("as many bytes as that");
    found
}

#[test]
fn maps_and_calls_of_any_descriptor_see_each_other_at_once() {
    run(1, |_| {
        let (file, other) = (new("/tmp/sim-map"), there("/tmp/sim-map"));
        file.set_len(3 * PAGE as u64).expect("room");
        let (map, again) = (Map::of(&file, 3 * PAGE), Map::of(&other, 3 * PAGE));
        let tail = Map::try_of(&other, 2 * PAGE, PAGE, libc::PROT_READ, SHARED).expect("a map");
        let private = Map::try_of(&file, 0, PAGE, RW, libc::MAP_PRIVATE).expect("a map");
        assert_eq!(map.load(0, 3 * PAGE), vec![0; 3 * PAGE]);

        map.store(PAGE - 1, b"stored");
        map.store(3 * PAGE - 3, b"end");
        assert_eq!(bytes_at(&other, PAGE - 1, 6), b"stored");
        assert_eq!(again.load(PAGE - 1, 6), b"stored");
        assert_eq!(tail.load(PAGE - 3, 3), b"end");
        other.write_all_at(b"WRITTEN", PAGE as u64 - 2).expect("room");
        assert_eq!(map.load(PAGE - 2, 7), b"WRITTEN");
        assert_eq!(fs::read("/tmp/sim-map").expect("there")[PAGE - 2..PAGE + 6], *b"WRITTEN\0");

        private.store(0, b"mine");
        assert_eq!((private.load(0, 4), map.load(0, 4)), (b"mine".to_vec(), vec![0; 4]));
        again.store(0, b"ours");
        assert_eq!((private.load(0, 4), bytes_at(&file, 0, 4)), (b"mine".to_vec(), b"ours".to_vec()));

        // What is stored is a change of the file's, and stays when nobody maps it any more.
        let written = file.metadata().expect("there");
        map.store(1, b"U");
        let later = file.metadata().expect("there");
        assert!((later.mtime(), later.mtime_nsec()) > (written.mtime(), written.mtime_nsec()));
        drop((map, again, tail, private));
        assert_eq!(bytes_at(&other, 0, 4), b"oUrs");
    });
}

#[test]
fn a_map_ends_where_the_file_does_and_grows_with_it() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.write_all_at(&[b'x'; 5000], 0).expect("room");
        let map = Map::of(&file, 4 * PAGE);
        assert_eq!([0, 4999, 8191, 8192, 3 * PAGE].map(|at| map.is_there(at)), [true, true, true, false, false]);
        assert_eq!(map.load(4999, 2), b"x\0");
        // Behind the end it is nobody's.
        map.store(5000, b"behind");
        file.set_len(3 * PAGE as u64).expect("room");
        assert_eq!(map.load(4999, 7), b"x\0\0\0\0\0\0");
        assert!(map.is_there(2 * PAGE) && !map.is_there(3 * PAGE));
        map.store(2 * PAGE, b"last page");
        file.set_len(PAGE as u64 + 1).expect("shorter");
        file.set_len(3 * PAGE as u64).expect("longer");
        assert_eq!(map.load(2 * PAGE, 9), [0; 9]);
        assert_eq!(bytes_at(&file, PAGE, 2), b"x\0");
        // More than the process may print.
        file.write_all_at(b"far", 5 << 20).expect("room");
        let far = Map::try_of(&file, 5 << 20, PAGE, RW, SHARED).expect("a map");
        assert_eq!(far.load(0, 4), b"far\0");
        far.store(0, b"FAR");
        assert_eq!(bytes_at(&file, 5 << 20, 3), b"FAR");
        drop(fs::File::create("/tmp/sim-map").expect("cut by O_TRUNC"));
        assert!(!map.is_there(0) && !far.is_there(0));
    });
}

#[test]
fn a_file_lives_as_long_as_a_map_of_it() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.set_len(PAGE as u64).expect("room");
        let map = Map::of(&file, PAGE);
        drop(file);
        map.store(0, b"no descriptor");
        let file = there("/tmp/sim-map");
        assert_eq!(bytes_at(&file, 0, 13), b"no descriptor");
        fs::remove_file("/tmp/sim-map").expect("there");
        drop(file);
        map.store(0, b"no name");
        map.sync(0, PAGE, libc::MS_SYNC).expect("it works");
        let other = new("/tmp/sim-map");
        other.set_len(PAGE as u64).expect("room");
        assert_eq!(Map::of(&other, PAGE).load(0, 1), [0], "another file of the same name");
        assert_eq!(map.load(0, 7), b"no name");
    });
}

#[test]
fn maps_are_refused_as_linux_refuses_them() {
    run(1, |_| {
        fs::write("/tmp/sim-map", [b'x'; 2 * PAGE]).expect("room");
        let reads = File::open("/tmp/sim-map").expect("there");
        let writes = OpenOptions::new().write(true).open("/tmp/sim-map").expect("there");
        let both = there("/tmp/sim-map");
        let map = |file: &File, at, len, protection, flags| errno(Map::try_of(file, at, len, protection, flags));
        assert_eq!(map(&reads, 0, PAGE, RW, SHARED), libc::EACCES);
        assert_eq!(map(&writes, 0, PAGE, RW, SHARED), libc::EACCES);
        assert_eq!(map(&both, 0, 0, RW, SHARED), libc::EINVAL);
        assert_eq!(map(&both, 1, PAGE, RW, SHARED), libc::EINVAL);
        assert_eq!(map(&File::open("/tmp").expect("there"), 0, PAGE, libc::PROT_READ, SHARED), libc::ENODEV);
        // Made writable later: as the descriptor was, and a private one always.
        // SAFETY: memory that was just mapped.
        let protect = |map: &Map| errno(result(unsafe { libc::mprotect(map.0.cast(), map.1, RW) }));
        let read_only = |file| Map::try_of(file, 0, 2 * PAGE, libc::PROT_READ, SHARED).expect("a map");
        assert_eq!(protect(&read_only(&reads)), libc::EACCES);
        let private = Map::try_of(&reads, 0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE).expect("a map");
        assert_eq!(protect(&private), 0);
        private.store(0, b"mine");
        let shared = read_only(&both);
        assert_eq!(protect(&shared), 0);
        shared.store(PAGE, b"stored");
        // SAFETY: memory that was just mapped.
        assert_eq!(unsafe { libc::mprotect(shared.0.cast(), PAGE, libc::PROT_NONE) }, 0);
        assert_eq!(bytes_at(&reads, PAGE - 1, 7), b"xstored");
        let sync = |at, flags| errno(shared.sync(at, PAGE, flags));
        assert_eq!(sync(1, libc::MS_SYNC), libc::EINVAL);
        assert_eq!(sync(0, libc::MS_SYNC | libc::MS_ASYNC), libc::EINVAL);
        assert_eq!(errno(shared.sync(PAGE, 1 << 40, libc::MS_SYNC)), libc::ENOMEM);
    });
}

/// A map of a file that was written was once filled again where it was made, though the program had moved it, or put something
/// else in its place.
#[test]
fn a_map_is_followed_to_where_it_moves_and_left_alone_where_it_is_no_more() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.write_all_at(&[b'.'; 4 * PAGE], 0).expect("room");
        // SAFETY: memory that was mapped just before, and is used only where it is now.
        unsafe {
            let (moved, covered, place) = (Map::of(&file, PAGE), Map::of(&file, 3 * PAGE), Map::of(&file, 4 * PAGE));
            moved.store(0, b"before the move");
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            assert_eq!(libc::mremap(moved.0.cast(), PAGE, 2 * PAGE, flags, place.0), place.0.cast());
            std::mem::forget(moved);
            let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            covered.store(0, b"b");
            covered.store(PAGE, b"covered soon");
            let hole = covered.0.add(PAGE);
            assert_eq!(libc::mmap(hole.cast(), PAGE, RW, anonymous, -1, 0), hole.cast());
            covered.store(PAGE, b"private");
            covered.store(2 * PAGE, b"behind");
            assert_eq!(bytes_at(&file, 0, 15), b"before the move");
            assert_eq!(bytes_at(&file, PAGE, 12), b"covered soon");
            assert_eq!(bytes_at(&file, 2 * PAGE, 6), b"behind");
            file.write_all_at(b"AB", PAGE as u64 - 1).expect("room");
            place.store(2, b"stored there");
            assert_eq!(place.load(PAGE - 1, 3), b"ABo");
            assert_eq!(covered.load(PAGE - 1, 3), b"Apr");
            assert_eq!(bytes_at(&file, 2, 12), b"stored there");
            // The first page goes, the second stays a map of the second of the file.
            libc::munmap(place.0.cast(), PAGE);
            file.write_all_at(b"later", PAGE as u64).expect("room");
            assert_eq!(place.load(PAGE, 5), b"later");
            place.store(PAGE, b"L");
            assert_eq!(bytes_at(&file, PAGE, 5), b"Later");
        }
    });
}

/// What a node's disk holds when its programs have ended so.
fn survives(seed: u64, how: Death, faults: DiskFaults, program: fn(&File, &Map)) -> Vec<u8> {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("kv0");
    let _on = interpose::enable();
    let written = async {
        let file = new("/tmp/sim-map");
        file.write_all_at(&[b'.'; 4 * PAGE], 0).expect("room");
        file.sync_all().expect("it works");
        let map = Map::of(&file, 4 * PAGE);
        world.with_device(|disk: &mut Disk, cx| disk.set_faults(node, faults, cx));
        program(&file, &map);
        std::mem::forget((file, map));
    };
    world.block_on(node, written, Spawn::named("writer")).expect("it passes");
    world.end_node(node, how);
    world.with_device(|disk: &mut Disk, _| {
        let (volume, mut found) = (disk.volume(node), Vec::new());
        let inode = volume.lookup(b"/tmp/sim-map", true).expect("its name was synced");
        volume.read(inode, 0, 4 * PAGE, &mut found).expect("there");
        found
    })
}

/// In how many of 60 runs the first bytes of each page are the stored ones after a power loss.
fn kept(faults: DiskFaults, program: fn(&File, &Map)) -> [usize; 4] {
    let mut kept = [0; 4];
    for seed in 0..60 {
        let found = survives(seed, Death::PowerOff, faults, program);
        assert_eq!(found.len(), 4 * PAGE);
        (0..4).for_each(|page| kept[page] += found[page * PAGE..].starts_with(b"stored") as usize);
    }
    kept
}

fn stores(map: &Map) {
    (0..4).for_each(|page| map.store(page * PAGE, b"stored"));
}

#[test]
fn a_kill_keeps_what_was_stored_and_a_power_loss_what_was_synced() {
    let calm = DiskFaults::default();
    let killed = survives(1, Death::Kill, calm, |_, map| stores(map));
    assert!((0..4).all(|page| killed[page * PAGE..].starts_with(b"stored.")));

    let some = |n: &usize| (1..60).contains(n);
    assert!(kept(calm, |_, map| stores(map)).iter().all(some), "unsynced stores may be lost, each page by itself");
    let synced = kept(calm, |_, map| {
        stores(map);
        map.sync(PAGE, 2 * PAGE, libc::MS_SYNC).expect("it works");
    });
    assert!(synced[1..3] == [60, 60] && some(&synced[0]) && some(&synced[3]), "msync is of a range: {synced:?}");
    let whole = kept(calm, |file, map| {
        stores(map);
        file.sync_all().expect("it works");
    });
    let data = kept(calm, |file, map| {
        stores(map);
        file.sync_data().expect("it works");
    });
    assert_eq!([whole, data], [[60; 4]; 2]);
    let after = kept(calm, |file, map| {
        file.sync_all().expect("it works");
        stores(map);
    });
    assert!(after.iter().all(some), "a sync covers what was stored before it: {after:?}");
    let begun = kept(calm, |_, map| {
        stores(map);
        map.sync(0, 4 * PAGE, libc::MS_ASYNC).expect("it works");
    });
    assert!(begun.iter().all(some), "MS_ASYNC promises nothing: {begun:?}");
}

/// The canary of the test above: a drive that lies is noticed, so that one would notice a map that is not asked, too.
#[test]
fn an_msync_that_lies_or_fails_loses_what_was_stored() {
    let lies = DiskFaults { sync_lie: Ratio::ALWAYS, ..DiskFaults::default() };
    let synced = |_: &File, map: &Map| {
        stores(map);
        map.sync(0, 4 * PAGE, libc::MS_SYNC).expect("it says it works");
    };
    assert!(kept(lies, synced).iter().all(|n| *n < 60));
    let fails = DiskFaults { sync_error: Ratio::ALWAYS, ..DiskFaults::default() };
    let refused = |_: &File, map: &Map| {
        stores(map);
        assert_eq!(errno(map.sync(0, PAGE, libc::MS_SYNC)), libc::EIO);
    };
    assert!(kept(fails, refused).iter().all(|n| *n < 60));
}

#[test]
fn a_torn_page_of_a_map_mixes_whole_sectors() {
    let (mut torn, calm) = (0, DiskFaults::default());
    for seed in 0..400 {
        let found = survives(seed, Death::PowerOff, calm, |_, map| map.store(0, &[b'#'; 4 * PAGE]));
        for sector in found.chunks(512) {
            assert!(sector.iter().all(|b| *b == sector[0]) && matches!(sector[0], b'.' | b'#'));
        }
        torn += found.chunks(PAGE).any(|page| page.iter().any(|b| *b != page[0])) as u32;
    }
    assert!(torn > 3, "{torn} of 400");
}

#[test]
fn each_node_maps_its_own_file_and_a_dead_incarnation_a_ghost() {
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let [a, b] = ["a", "b"].map(|name| world.node(name));
    let _on = interpose::enable();
    let mapped = |node: NodeId| {
        let made = async {
            let file = new("/tmp/sim-map");
            file.set_len(PAGE as u64).expect("room");
            Map::of(&file, PAGE)
        };
        world.block_on(node, made, Spawn::named("program")).expect("it passes")
    };
    let read = |node: NodeId| {
        let found = async { fs::read("/tmp/sim-map").expect("there")[..5].to_vec() };
        world.block_on(node, found, Spawn::named("reader")).expect("it passes")
    };
    let (of_a, of_b) = (mapped(a), mapped(b));
    of_a.store(0, b"aaaaa");
    of_b.store(0, b"bbbbb");
    assert_eq!((read(a), read(b)), (b"aaaaa".to_vec(), b"bbbbb".to_vec()));
    world.end_node(a, Death::Kill);
    of_a.store(0, b"GHOST");
    assert!(of_a.sync(0, PAGE, libc::MS_SYNC).is_ok(), "the kernel's own: there is nothing to sync");
    let found = world.with_device(|disk: &mut Disk, _| {
        let (volume, mut found) = (disk.volume(a), Vec::new());
        let inode = volume.lookup(b"/tmp/sim-map", true).expect("there");
        volume.read(inode, 0, 5, &mut found).map(|()| found)
    });
    assert_eq!(found.as_deref(), Ok(b"aaaaa".as_slice()));
    assert_eq!(of_a.load(0, 5), b"GHOST");
    assert_eq!(of_b.load(0, 5), b"bbbbb");
}

#[test]
fn a_file_of_the_real_tree_is_mapped_from_there_until_the_node_changes_it() {
    let real = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("maps-{}", std::process::id()));
    fs::write(&real, "real bytes").expect("a place to work");
    let path = real.clone();
    run(1, move |_| {
        let file = File::open(&path).expect("it shows through");
        let map = Map::try_of(&file, 0, PAGE, libc::PROT_READ, SHARED).expect("a map");
        assert_eq!(map.load(0, 11), b"real bytes\0");
        let own = Map::of(&there(&path), PAGE);
        own.store(0, b"mine");
        assert_eq!(bytes_at(&file, 0, 10), b"mine bytes");
    });
    assert_eq!(fs::read(&real).expect("there"), b"real bytes");
    fs::remove_file(real).expect("there");
}
