//! What each way to sync promises: after a power loss what was promised is there under every seed, and what was not is
//! missing under some.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::choices::Ratio;
use sim_core::{Choices, Death, Settings, Spawn, World};
use sim_disk::{Disk, DiskFaults, Profile};
use sim_libc::{files, interpose};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

const PAGE: usize = 4096;
const SEEDS: u64 = 60;
const PATH: &str = "/tmp/sim-synced";
const OTHER: &str = "/tmp/sim-synced-too";

/// What a power loss may leave of a program's last steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kept {
    Always,
    Sometimes,
    Never,
}

/// Under each profile: whether the first page of the file holds what was written, the second, what was written behind its end, and
/// whether its second name is there.
#[track_caller]
fn keeps(faults: DiskFaults, expected: [Kept; 4], program: fn()) {
    for profile in [Profile::Linux, Profile::Strict] {
        let mut counts = [0; 4];
        for seed in 0..SEEDS {
            let left = left_by(seed, profile, faults, program);
            left.iter().zip(&mut counts).for_each(|(kept, count)| *count += *kept as u64);
        }
        let found = counts.map(|n| match n {
            0 => Kept::Never,
            SEEDS => Kept::Always,
            _ => Kept::Sometimes,
        });
        assert_eq!(found, expected, "of {SEEDS}: {counts:?} under {profile:?}");
    }
}

fn left_by(seed: u64, profile: Profile, faults: DiskFaults, program: fn()) -> [bool; 4] {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("kv0");
    let _on = interpose::enable();
    let written = async {
        world.with_device(|disk: &mut Disk, cx| disk.set_profile(node, profile, cx));
        fs::write(PATH, [b'.'; 2 * PAGE]).expect("room");
        File::open(PATH).expect("there").sync_all().expect("it works");
        File::open("/tmp").expect("there").sync_all().expect("it works");
        world.with_device(|disk: &mut Disk, cx| disk.set_faults(node, faults, cx));
        program();
    };
    world.block_on(node, written, Spawn::named("writer")).expect("it passes");
    world.end_node(node, Death::PowerOff);
    world.with_device(|disk: &mut Disk, _| {
        let (volume, mut found) = (disk.volume(node), Vec::new());
        let inode = volume.lookup(PATH.as_bytes(), true).expect("its name was synced");
        volume.read(inode, 0, 3 * PAGE, &mut found).expect("there");
        let page = |i: usize| found.get(i * PAGE..).is_some_and(|page| page.starts_with(b"new"));
        [page(0), page(1), page(2), volume.lookup(OTHER.as_bytes(), true).is_ok()]
    })
}

/// The file, opened to be written, with these flags.
fn opened(flags: i32) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(PATH).expect("it is there")
}

fn writes(file: &File, pages: impl IntoIterator<Item = usize>) {
    pages.into_iter().for_each(|page| file.write_all_at(b"new", (page * PAGE) as u64).expect("room"));
}

fn names() {
    fs::hard_link(PATH, OTHER).expect("new");
}

use Kept::{Always as A, Never as N, Sometimes as S};

const CALM: fn() -> DiskFaults = DiskFaults::default;

#[test]
fn a_write_alone_promises_nothing_nor_does_sync_file_range() {
    keeps(CALM(), [S, S, S, S], || {
        names();
        writes(&opened(0), 0..3);
    });
    keeps(CALM(), [S, S, S, S], || {
        names();
        let file = opened(0);
        writes(&file, 0..3);
        // SAFETY: numbers.
        let call = |from, len, flags| unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, flags) };
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        assert_eq!([call(0, 0, all), call(0, 0, 8), call(-1, 0, all), call(1, i64::MAX, all)], [0, -1, -1, -1]);
    });
}

#[test]
fn fdatasync_keeps_bytes_and_size_and_fsync_names_where_there_is_a_journal() {
    let data = || {
        writes(&opened(0), 0..3);
        names();
        opened(0).sync_data().expect("it works");
    };
    keeps(CALM(), [A, A, A, S], data);
}

#[test]
fn o_dsync_keeps_what_each_write_wrote_and_nothing_else() {
    keeps(CALM(), [S, A, A, S], || {
        writes(&opened(0), [0]);
        writes(&opened(libc::O_DSYNC), [1, 2]);
        names();
    });
    // Wherever the cursor is, and whoever else appends.
    keeps(CALM(), [S, S, A, S], || {
        writes(&opened(0), [0, 1]);
        let how = OpenOptions::new().append(true).custom_flags(libc::O_DSYNC).open(PATH);
        how.expect("there").write_all(b"new").expect("room");
        names();
    });
    // A name that the journal has before a size comes along with it; POSIX has no journal.
    let grows = |seed, profile| {
        left_by(seed, profile, CALM(), || {
            names();
            writes(&opened(libc::O_DSYNC), [2]);
        })
    };
    assert!((0..SEEDS).all(|seed| grows(seed, Profile::Linux)[3]));
    assert!((0..SEEDS).any(|seed| !grows(seed, Profile::Strict)[3]));
}

#[test]
fn o_sync_keeps_what_fsync_does_of_what_each_write_wrote() {
    let synced = |seed, profile| {
        left_by(seed, profile, CALM(), || {
            names();
            writes(&opened(0), [0]);
            writes(&opened(libc::O_SYNC), [1, 2]);
        })
    };
    for seed in 0..SEEDS {
        let [_, second, end, name] = synced(seed, Profile::Linux);
        assert!(second && end && name, "with a journal the names of the file come along");
    }
    let lost = (0..SEEDS).filter(|seed| !synced(*seed, Profile::Strict)[3]).count();
    assert!(lost > 0, "POSIX promises names to those who sync the directory");
    assert!((0..SEEDS).any(|seed| !synced(seed, Profile::Linux)[0]), "what others wrote is not synced");
}

#[test]
fn syncfs_and_sync_keep_all_that_was_written() {
    keeps(CALM(), [A, A, A, A], || {
        writes(&opened(0), 0..3);
        names();
        // SAFETY: a descriptor that is open.
        assert_eq!(unsafe { libc::syncfs(File::open("/tmp").expect("there").as_raw_fd()) }, 0);
    });
    keeps(CALM(), [A, A, A, A], || {
        writes(&opened(0), 0..3);
        names();
        // SAFETY: it takes nothing.
        unsafe { libc::sync() };
    });
}

#[test]
fn a_synchronous_write_fails_or_lies_as_its_sync_does() {
    let fails = DiskFaults { sync_error: Ratio::ALWAYS, ..CALM() };
    // Their pages count as clean, so nothing writes them any more.
    keeps(fails, [S, N, N, S], || {
        names();
        writes(&opened(0), [0]);
        let file = opened(libc::O_DSYNC);
        for page in 1..3 {
            let error = file.write_at(b"new", page * PAGE as u64).expect_err("its sync fails");
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
        }
    });
    let lies = DiskFaults { sync_lie: Ratio::ALWAYS, ..CALM() };
    keeps(lies, [S, S, S, S], || {
        names();
        writes(&opened(libc::O_SYNC), 0..3);
    });
}

#[test]
fn a_synchronous_write_that_fails_leaves_the_offset_where_it_was() {
    let fails = DiskFaults { sync_error: Ratio::ALWAYS, ..CALM() };
    keeps(fails, [S, N, S, S], || {
        names();
        writes(&opened(0), [0, 2]);
        let mut file = opened(libc::O_DSYNC);
        file.seek(SeekFrom::Start(PAGE as u64)).expect("a file");
        let error = file.write(b"new").expect_err("its sync fails");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        assert_eq!(file.stream_position().expect("a file"), PAGE as u64);
    });
}

/// The time of its sync is the write's.
#[test]
fn a_synchronous_write_takes_as_long_as_its_sync() {
    for (flags, at_least_us) in [(0, 10), (libc::O_DSYNC, 500), (libc::O_SYNC, 500)] {
        let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
        let world = entered.world();
        world.plug(files::disk());
        let node = world.node("kv0");
        let _on = interpose::enable();
        let took = async {
            fs::write(PATH, "").expect("room");
            let file = opened(flags);
            let begun = std::time::Instant::now();
            file.write_all_at(b"new", 0).expect("room");
            begun.elapsed().as_micros()
        };
        let took = world.block_on(node, took, Spawn::named("writer")).expect("it passes");
        assert!(took >= at_least_us && (flags != 0 || took < 500), "{took} us with {flags:o}");
    }
}
