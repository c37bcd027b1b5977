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
            libc::munmap(place.0.add(PAGE).cast(), 3 * PAGE);
            std::mem::forget(place);
        }
    });
}

/// A hole that was punched in the memory behind a map was once none of the file's.
#[test]
fn madvise_punches_no_hole_in_a_file_and_advises_as_ever() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.set_len(3 * PAGE as u64).expect("room");
        let map = Map::of(&file, 3 * PAGE);
        let private = Map::try_of(&file, 0, PAGE, RW, libc::MAP_PRIVATE).expect("a map");
        map.store(PAGE, b"stored");
        // SAFETY: numbers, about memory that was just mapped.
        let advise = |at: *mut u8, len, how| errno(result(unsafe { libc::madvise(at.cast(), len, how) }));
        let by_number = |at: *mut u8| unsafe { libc::syscall(libc::SYS_madvise, at, PAGE, libc::MADV_REMOVE) };
        let middle = map.0.wrapping_add(PAGE);
        assert_eq!(advise(middle, PAGE, libc::MADV_REMOVE), libc::EOPNOTSUPP);
        assert_eq!(advise(map.0, 3 * PAGE, libc::MADV_REMOVE), libc::EOPNOTSUPP);
        assert_eq!((by_number(middle), errno::<()>(Err(io::Error::last_os_error()))), (-1, libc::EOPNOTSUPP));
        assert_eq!(advise(middle.wrapping_add(1), PAGE, libc::MADV_REMOVE), libc::EINVAL);
        assert_eq!(advise(private.0, PAGE, libc::MADV_REMOVE), libc::EACCES);
        // The file's bytes come back, also where the kernel forgets who looked at them.
        assert_eq!(advise(middle, PAGE, libc::MADV_DONTNEED), 0);
        assert_eq!(advise(middle, PAGE, libc::MADV_FREE), libc::EINVAL);
        assert_eq!((map.load(PAGE, 6), bytes_at(&file, PAGE, 6)), (b"stored".to_vec(), b"stored".to_vec()));
        // Memory that is nobody's file has its holes.
        let flags = SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a place of the kernel's choice.
        let own = Map(unsafe { libc::mmap(ptr::null_mut(), PAGE, RW, flags, -1, 0) }.cast(), PAGE);
        own.store(0, b"gone");
        assert_eq!((advise(own.0, PAGE, libc::MADV_REMOVE), own.load(0, 4)), (0, vec![0; 4]));
    });
}

/// The memory behind a map once had a size then, and no bytes.
#[test]
fn a_map_whose_file_grows_beyond_all_memory_ends_and_the_file_keeps_its_bytes() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.write_all_at(b"written", 0).expect("room");
        let map = Map::of(&file, PAGE);
        map.store(0, b"stored!");
        file.set_len(1 << 48).expect("a hole");
        assert!(!map.is_there(0), "SIGBUS");
        assert_eq!(bytes_at(&file, 0, 8), b"stored!\0");
        file.write_all_at(b"later", 0).expect("room");
        assert_eq!(errno(map.sync(0, PAGE, libc::MS_SYNC)), 0);
        assert_eq!(errno(Map::try_of(&file, 0, PAGE, RW, SHARED)), libc::ENOMEM);
        file.set_len(2 * PAGE as u64).expect("shorter");
        assert!(!map.is_there(0), "it does not come back");
        let again = Map::of(&file, PAGE);
        assert_eq!(again.load(0, 8), b"laterd!\0");
        again.store(0, b"L");
        drop(map);
        assert_eq!(bytes_at(&file, 0, 5), b"Later");
    });
}

#[test]
fn a_call_that_fails_leaves_the_maps_that_it_would_have_covered() {
    run(1, |_| {
        let file = new("/tmp/sim-map");
        file.set_len(4 * PAGE as u64).expect("room");
        let (map, other) = (Map::of(&file, PAGE), Map::of(&file, PAGE));
        map.store(0, b"before");
        let fixed = |flags, fd, offset| {
            // SAFETY: refused by the kernel, or by what comes before it: nothing is mapped.
            let made = unsafe { libc::mmap(map.0.cast(), PAGE, RW, flags | libc::MAP_FIXED, fd, offset) };
            assert_eq!(made, libc::MAP_FAILED);
            io::Error::last_os_error().raw_os_error()
        };
        // Neither shared nor private; not whole pages; a descriptor that only reads.
        assert_eq!(fixed(libc::MAP_ANONYMOUS, -1, 0), Some(libc::EINVAL));
        assert_eq!(fixed(SHARED, file.as_raw_fd(), 1), Some(libc::EINVAL));
        let reads = File::open("/tmp/sim-map").expect("there");
        assert_eq!(fixed(SHARED, reads.as_raw_fd(), 0), Some(libc::EACCES));
        // MREMAP_FIXED asks for MREMAP_MAYMOVE.
        // SAFETY: refused: nothing moves.
        let moved = unsafe { libc::mremap(other.0.cast(), PAGE, PAGE, libc::MREMAP_FIXED, map.0) };
        assert_eq!(moved, libc::MAP_FAILED);
        map.store(0, b"behind");
        assert_eq!(bytes_at(&file, 0, 6), b"behind");
        drop(other);
        map.store(0, b"at last");
        assert_eq!(bytes_at(&file, 0, 7), b"at last");
        // Memory that is nobody's file moves over it.
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: memory that was just mapped, and is used only where it is.
        unsafe {
            let own = libc::mmap(ptr::null_mut(), PAGE, RW, private, -1, 0);
            assert_eq!(libc::mremap(own, PAGE, PAGE, flags, map.0), map.0.cast());
        }
        map.store(0, b"private");
        assert_eq!(bytes_at(&file, 0, 7), b"at last");
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

/// A program stores ever greater numbers all over the pages of its map, and syncs some of them. What it finds after a power loss
/// is no older than what was synced, in each sector of each page, and nothing that it never stored.
fn losses_of_what_was_synced(faults: DiskFaults) -> usize {
    let one = |seed: u64| {
        let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
        let world = entered.world();
        world.plug(files::disk());
        let node = world.node("kv0");
        let _on = interpose::enable();
        let stored = async {
            let file = new("/tmp/sim-map");
            file.write_all_at(&[0; 4 * PAGE], 0).expect("room");
            file.sync_all().expect("it works");
            world.with_device(|disk: &mut Disk, cx| disk.set_faults(node, faults, cx));
            let (map, other, mut draws) = (Map::of(&file, 4 * PAGE), Map::of(&file, 4 * PAGE), Draws(seed));
            let (mut newest, mut synced) = ([0u8; 4], [0u8; 4]);
            for number in 1..40 + draws.below(60) as u8 {
                let page = draws.below(4);
                match draws.below(8) {
                    0 => {
                        let pages = page..4.min(page + 1 + draws.below(3));
                        other.sync(page * PAGE, pages.len() * PAGE, libc::MS_SYNC).expect("it works");
                        synced[pages.clone()].copy_from_slice(&newest[pages]);
                    }
                    1 => drop(bytes_at(&file, page * PAGE, 1)),
                    how => {
                        let bytes = vec![number; PAGE];
                        match how {
                            2 => file.write_all_at(&bytes, (page * PAGE) as u64).expect("room"),
                            3 => other.store(page * PAGE, &bytes),
                            _ => map.store(page * PAGE, &bytes),
                        }
                        newest[page] = number;
                    }
                }
            }
            std::mem::forget((file, map, other));
            (newest, synced)
        };
        let (newest, synced) = world.block_on(node, stored, Spawn::named("writer")).expect("it passes");
        world.end_node(node, Death::PowerOff);
        let found = world.with_device(|disk: &mut Disk, _| {
            let (volume, mut found) = (disk.volume(node), Vec::new());
            let inode = volume.lookup(b"/tmp/sim-map", true).expect("its name was synced");
            volume.read(inode, 0, 4 * PAGE, &mut found).map(|()| found).expect("there")
        });
        let mut lost = false;
        for (i, sector) in found.chunks(512).enumerate() {
            let page = i * 512 / PAGE;
            assert!(sector.iter().all(|b| *b == sector[0]) && sector[0] <= newest[page], "seed {seed} sector {i}");
            lost |= sector[0] < synced[page];
        }
        lost
    };
    (0..300).filter(|seed| one(*seed)).count()
}

#[test]
fn what_is_found_after_a_power_loss_is_no_older_than_the_last_msync() {
    assert_eq!(losses_of_what_was_synced(DiskFaults::default()), 0);
    // The canary.
    assert!(losses_of_what_was_synced(DiskFaults { sync_lie: Ratio::ALWAYS, ..DiskFaults::default() }) > 50);
}

// ---- beside the kernel --------------------------------------------------------------------------------------------------

/// A small generator of its own.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A map in a sequence, and where in the file it begins.
struct Placed {
    map: Map,
    offset: usize,
    protection: i32,
}

/// A sequence of calls, loads and stores on one file by two descriptors, and what each answered.
struct Sequence {
    draws: Draws,
    files: [File; 2],
    maps: Vec<Placed>,
    log: Vec<String>,
}

impl Sequence {
    const LONGEST: usize = 6 * PAGE;

    fn run(seed: u64, path: &str) -> Vec<String> {
        let first = new(path);
        let append = OpenOptions::new().read(true).append(true).open(path).expect("there");
        let draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut sequence = Sequence { draws, files: [first, append], maps: Vec::new(), log: Vec::new() };
        (0..80).for_each(|step| sequence.step(step as u8));
        sequence.maps.clear();
        let left = fs::read(path).expect("there");
        sequence.log.push(format!("left: {} bytes, {}", left.len(), sum(&left)));
        fs::remove_file(path).expect("there");
        sequence.log
    }

    fn size(&self) -> usize {
        self.files[0].metadata().expect("open").len() as usize
    }

    /// A place in a map that the file has bytes for, and how many there are, at most so many as are drawn.
    fn place(&mut self, protection: i32) -> Option<(usize, usize, usize)> {
        let size = self.size();
        (0..8).find_map(|_| {
            let which = self.draws.below(self.maps.len().max(1));
            let len = 1 + [self.draws.below(16), self.draws.below(2 * PAGE)][self.draws.below(2)];
            let placed = self.maps.get(which).filter(|placed| placed.protection & protection != 0)?;
            let there = size.saturating_sub(placed.offset).min(placed.map.1);
            let at = self.draws.below(there.max(1));
            (at < there).then(|| (which, at, len.min(there - at)))
        })
    }

    fn step(&mut self, mark: u8) {
        let (at, len) = (self.draws.below(Self::LONGEST), 1 + self.draws.below(2 * PAGE));
        let file = self.draws.below(2);
        let done = match self.draws.below(16) {
            0 | 1 => format!("pwrite {:?}", self.files[file].write_at(&vec![mark; len], at as u64).ok()),
            2 | 3 => {
                let mut found = vec![0; len];
                let n = self.files[file].read_at(&mut found, at as u64).expect("open");
                format!("pread {n} {}", sum(&found[..n]))
            }
            4 => format!("ftruncate {:?}", self.files[file].set_len(at as u64).ok()),
            5 => {
                let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let fd = self.files[file].as_raw_fd();
                // SAFETY: numbers.
                format!("punch {}", unsafe { libc::fallocate(fd, how, at as i64, len as i64) })
            }
            6 | 7 => {
                let (offset, pages) = (self.draws.below(4) * PAGE, 1 + self.draws.below(5));
                let protection = [libc::PROT_READ, RW, RW][self.draws.below(3)];
                let flags = [SHARED, SHARED, libc::MAP_PRIVATE][self.draws.below(3)];
                match Map::try_of(&self.files[file], offset, pages * PAGE, protection, flags) {
                    Ok(map) => self.maps.push(Placed { map, offset, protection }),
                    Err(error) => self.log.push(error.to_string()),
                }
                let there = (0..pages).map(|page| self.maps.last().map(|m| m.map.is_there(page * PAGE)));
                format!("mmap {:?}", there.collect::<Vec<_>>())
            }
            8 if self.maps.len() > 3 => {
                let gone = self.draws.below(self.maps.len());
                drop(self.maps.remove(gone));
                "munmap".to_owned()
            }
            8 => self.partly(),
            9 => match self.maps.pop() {
                Some(Placed { map, offset, protection }) => {
                    let new = (map.1 + PAGE * self.draws.below(4)).saturating_sub(PAGE).max(PAGE);
                    // SAFETY: a map of this length, which is not used at its old place.
                    let to = unsafe { libc::mremap(map.0.cast(), map.1, new, libc::MREMAP_MAYMOVE) };
                    assert_ne!(to, libc::MAP_FAILED, "{}", io::Error::last_os_error());
                    std::mem::forget(map);
                    self.maps.push(Placed { map: Map(to.cast(), new), offset, protection });
                    format!("mremap {new}")
                }
                None => "none".to_owned(),
            },
            10 if !self.maps.is_empty() => {
                let which = self.draws.below(self.maps.len());
                let placed = &mut self.maps[which];
                let wanted = [libc::PROT_READ, RW][self.draws.below(2)];
                // SAFETY: a map of this length.
                let answer = unsafe { libc::mprotect(placed.map.0.cast(), placed.map.1, wanted) };
                placed.protection = wanted;
                format!("mprotect {answer}")
            }
            11 if !self.maps.is_empty() => {
                let which = self.draws.below(self.maps.len());
                let flags = [libc::MS_SYNC, libc::MS_ASYNC][self.draws.below(2)];
                format!("msync {}", errno(self.maps[which].map.sync(0, PAGE, flags)))
            }
            12 => match self.place(libc::PROT_READ) {
                Some((which, at, len)) => format!("load {}", sum(&self.maps[which].map.load(at, len))),
                None => "none".to_owned(),
            },
            _ => match self.place(libc::PROT_WRITE) {
                Some((which, at, len)) => {
                    self.maps[which].map.store(at, &vec![mark | 0x80; len]);
                    format!("store {which} {at} {len}")
                }
                None => "none".to_owned(),
            },
        };
        self.log.push(done);
    }

    /// The first page of a map goes, or its last.
    fn partly(&mut self) -> String {
        let Some(mut placed) = self.maps.pop() else { return "none".to_owned() };
        if placed.map.1 > PAGE {
            let front = self.draws.below(2) == 0;
            let gone = if front { 0 } else { placed.map.1 - PAGE };
            // SAFETY: a page of the map, which is not used any more.
            unsafe { libc::munmap(placed.map.0.add(gone).cast(), PAGE) };
            let rest = Map(if front { placed.map.0.wrapping_add(PAGE) } else { placed.map.0 }, placed.map.1 - PAGE);
            std::mem::forget(std::mem::replace(&mut placed.map, rest));
            placed.offset += if front { PAGE } else { 0 };
        }
        self.maps.push(placed);
        "a page gone".to_owned()
    }
}

/// Bytes, in short.
fn sum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ *b as u64).wrapping_mul(0x100_0000_01b3));
    format!("{} bytes {hash:x}", bytes.len())
}

#[test]
fn sequences_of_calls_loads_and_stores_have_the_results_of_a_tmpfs() {
    let sequences = std::env::var("SIM_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let mut stores = 0;
    for seed in 0..sequences {
        let theirs = Sequence::run(seed, &format!("/dev/shm/sim-maps-{}", std::process::id()));
        let ours = run(seed, move |_| Sequence::run(seed, "/tmp/sim-map"));
        stores += ours.iter().filter(|l| l.starts_with("store")).count() as u64;
        if let Some(at) = (0..ours.len()).find(|i| ours.get(*i) != theirs.get(*i)) {
            panic!("seed {seed}\n  {}\nhere:   {}\ntmpfs:  {}", ours[..at].join("\n  "), ours[at], theirs[at]);
        }
    }
    assert!(stores > 5 * sequences, "it would prove nothing if hardly anything was stored: {stores}");
}
