//! Files as std and C callers reach them in a run: on the node's own disk, over a real tree that nothing changes.
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::{Choices, Death, NodeId, Settings, Spawn, Verdict, World};
use sim_disk::{Disk, User};
use sim_libc::{files, interpose};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Runs `program` on a node called `kv0`, with symbols interposed and files simulated.
fn run<T: 'static>(seed: u64, program: impl FnOnce(&'static World) -> T + 'static) -> Result<T, Verdict> {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("kv0");
    let _on = interpose::enable();
    world.block_on(node, async move { program(world) }, Spawn::named("the program"))
}

fn passes<T: 'static>(program: impl FnOnce(&'static World) -> T + 'static) -> T {
    run(1, program).expect("the run passes")
}

/// A real directory with a file in it, removed at the end.
struct RealDir(PathBuf, [Inode; 2]);

/// What an inode shows of changes: permissions, times of writing and of any change, extended attributes included.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Inode {
    mode: u32,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Inode {
    fn of(path: PathBuf) -> Inode {
        let found = fs::metadata(path).expect("there");
        let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Inode { mode: found.mode(), written, changed }
    }
}

impl RealDir {
    fn new(name: &str) -> RealDir {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("files-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(path.join("dir")).expect("a place to work");
        fs::write(path.join("fixture"), "real bytes").expect("a real file");
        fs::write(path.join("dir/inner"), "inner").expect("a real file");
        let inodes = ["fixture", "dir/inner"].map(|name| Inode::of(path.join(name)));
        RealDir(path, inodes)
    }

    fn is_as_it_was(&self) {
        let mut names: Vec<_> = fs::read_dir(&self.0).expect("there").map(|e| e.expect("listed").file_name()).collect();
        names.sort();
        assert_eq!(names, ["dir", "fixture"], "nothing real was made or removed");
        assert_eq!(fs::read(self.0.join("fixture")).expect("there"), b"real bytes");
        assert_eq!(fs::read(self.0.join("dir/inner")).expect("there"), b"inner");
        assert_eq!(["fixture", "dir/inner"].map(|name| Inode::of(self.0.join(name))), self.1, "no inode was changed");
    }
}

impl Drop for RealDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it can be read");
    entries.map(|e| e.expect("listed").file_name().into_string().expect("text")).collect()
}

fn sorted(dir: &Path) -> Vec<String> {
    let mut names = names(dir);
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_again_and_nothing_real_changes() {
    let real = RealDir::new("write");
    let dir = real.0.clone();
    passes(move |_| {
        let (fixture, new) = (dir.join("fixture"), dir.join("new"));
        assert_eq!(fs::read_to_string(&fixture).expect("the real file shows through"), "real bytes");
        fs::write(&new, "simulated").expect("a new file");
        assert_eq!(fs::read_to_string(&new).expect("it is there"), "simulated");
        OpenOptions::new().append(true).open(&fixture).expect("there").write_all(b" and more").expect("room");
        assert_eq!(fs::read_to_string(&fixture).expect("copied up"), "real bytes and more");
        assert_eq!(sorted(&dir), ["dir", "fixture", "new"]);

        fs::rename(&fixture, dir.join("moved")).expect("a file");
        assert_eq!(fs::read(&fixture).expect_err("it is elsewhere").kind(), ErrorKind::NotFound);
        fs::rename(dir.join("dir"), dir.join("other")).expect("a real directory moves with what is in it");
        assert_eq!(fs::read_to_string(dir.join("other/inner")).expect("real"), "inner");
        fs::remove_file(dir.join("other/inner")).expect("hidden");
        fs::remove_dir(dir.join("other")).expect("empty to this node");
        assert_eq!(sorted(&dir), ["moved", "new"]);
        assert_eq!(fs::canonicalize(dir.join("./x/../new")).expect_err("no x").kind(), ErrorKind::NotFound);
        fs::create_dir_all(dir.join("a/b/c")).expect("new");
        assert_eq!(fs::canonicalize(dir.join("a/b/../b/./c")).expect("there"), dir.join("a/b/c"));
        fs::remove_dir_all(dir.join("a")).expect("all of it");
        assert!(!dir.join("a").exists());
        fs::copy(dir.join("moved"), dir.join("copy")).expect("a copy");
        assert_eq!(fs::read_to_string(dir.join("copy")).expect("there"), "real bytes and more");
    });
    real.is_as_it_was();
}

#[test]
fn nodes_do_not_see_each_others_files_and_the_outside_has_its_own() {
    let real = RealDir::new("nodes");
    let path = real.0.join("mine");
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let (a, b) = (world.node("a"), world.node("b"));
    let _on = interpose::enable();
    let on = |node: NodeId, path: PathBuf, text: &'static str| {
        let body = async move {
            assert!(!path.exists(), "nobody else's shows");
            fs::write(&path, text).expect("a disk of its own");
            (fs::read_to_string(&path).expect("there"), fs::metadata(&path).expect("there").dev())
        };
        world.block_on(node, body, Spawn::named("writer")).expect("it passes")
    };
    let found = [on(a, path.clone(), "of a"), on(b, path.clone(), "of b"), on(NodeId::OUTSIDE, path.clone(), "-")];
    assert_eq!(found.clone().map(|f| f.0), ["of a", "of b", "-"]);
    assert!(found[0].1 != found[1].1, "one table of (dev, ino) may hold files of both");
    drop((_on, entered));
    real.is_as_it_was();
}

/// A loss of power after the program had ended took nothing: a node that was dead did not die again. Now the page cache, which
/// outlives programs, is lost then too.
#[test]
fn a_kill_keeps_the_page_cache_and_a_power_loss_what_was_synced() {
    let real = RealDir::new("crash");
    let dir = real.0.clone();
    let mut lost = [0; 2];
    for seed in 0..40 {
        for how in [Death::Kill, Death::PowerOff] {
            let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
            let world = entered.world();
            world.plug(files::disk());
            let node = world.node("a");
            let _on = interpose::enable();
            let write = {
                let dir = dir.clone();
                async move {
                    let mut synced = File::create(dir.join("synced")).expect("new");
                    synced.write_all(b"synced").expect("room");
                    synced.sync_all().expect("it works");
                    fs::write(dir.join("cached"), "cached").expect("room");
                    OpenOptions::new().write(true).open(dir.join("fixture")).expect("there").write_all(b"NEW!")
                }
            };
            world.block_on(node, write, Spawn::named("writer")).expect("it passes").expect("room");
            world.end_node(node, how);
            let read = |name: &str| {
                let mut found = Vec::new();
                let path = dir.join(name);
                world.with_device(|disk: &mut Disk, _| {
                    let volume = disk.volume(node);
                    let inode = volume.lookup(path.as_os_str().as_encoded_bytes(), true)?;
                    volume.read(inode, 0, 100, &mut found)
                })?;
                Ok::<_, sim_disk::Errno>(found)
            };
            let all = || (read("cached"), read("fixture").expect("durable before the run"));
            if how == Death::Kill {
                assert_eq!(all(), (Ok(b"cached".to_vec()), b"NEW! bytes".to_vec()));
                world.end_node(node, Death::PowerOff);
            }
            assert_eq!(read("synced"), Ok(b"synced".to_vec()));
            let (cached, fixture) = all();
            let whole = cached == Ok(b"cached".to_vec());
            assert!(fixture == b"NEW! bytes" || fixture == b"real bytes", "{fixture:?}");
            lost[(how == Death::Kill) as usize] += (!whole || fixture == b"real bytes") as u32;
        }
    }
    assert!(lost.iter().all(|n| *n > 5), "a power loss takes something of what was not synced: {lost:?} of 40");
    real.is_as_it_was();
}

#[test]
fn what_a_dead_incarnation_still_calls_changes_nothing() {
    struct LastWords(File, PathBuf);
    impl Drop for LastWords {
        fn drop(&mut self) {
            assert!(self.0.write_all(b"from the grave").is_err());
            assert!(fs::write(&self.1, "from the grave").is_err());
            assert!(fs::remove_file(&self.1).is_err());
        }
    }
    let real = RealDir::new("dead");
    let path = real.0.join("log");
    let entered = World::enter(Settings::default(), Choices::seeded(3)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("a");
    let _on = interpose::enable();
    let program = {
        let path = path.clone();
        sim_core::program(move || {
            let path = path.clone();
            async move {
                let mut file = File::create(&path).expect("new");
                file.write_all(b"alive").expect("room");
                let _kept = LastWords(file, path);
                std::future::pending::<()>().await;
            }
        })
    };
    world.start(node, program, Spawn::named("program"));
    let controller = async move {
        sim_core::time::Timer::new(world.now() + std::time::Duration::from_secs(1)).await;
        world.end_node(node, Death::Kill);
    };
    world.block_on(NodeId::OUTSIDE, controller, Spawn::named("test")).expect("it passes");
    let found = world.with_device(|disk: &mut Disk, _| {
        let (volume, mut found) = (disk.volume(node), Vec::new());
        let inode = volume.lookup(path.as_os_str().as_encoded_bytes(), true)?;
        volume.read(inode, 0, 100, &mut found).map(|()| found)
    });
    assert_eq!(found, Ok(b"alive".to_vec()));
}

#[test]
fn directories_are_listed_in_the_same_order_each_time_and_not_the_alphabets() {
    let list = |seed| {
        run(seed, |_| {
            let dir = Path::new("/tmp/simulated-list");
            fs::create_dir(dir).expect("new");
            for i in 0..20 {
                fs::write(dir.join(format!("{i:02}")), "").expect("new");
            }
            names(dir)
        })
        .expect("it passes")
    };
    let first = list(1);
    assert_eq!(first, list(2));
    assert!(!first.is_sorted());
    assert!(!Path::new("/tmp/simulated-list").exists());
}

#[test]
fn links_permissions_times_and_temporary_files_are_linuxs() {
    passes(|_| {
        let dir = Path::new("/tmp/simulated-links");
        fs::create_dir(dir).expect("new");
        fs::write(dir.join("a"), "1").expect("new");
        fs::hard_link(dir.join("a"), dir.join("b")).expect("a link");
        std::os::unix::fs::symlink("a", dir.join("l")).expect("a link");
        fs::write(dir.join("l"), "22").expect("through the link");
        assert_eq!(fs::read_to_string(dir.join("b")).expect("the same file"), "22");
        assert_eq!(fs::read_link(dir.join("l")).expect("a link"), Path::new("a"));
        assert!(fs::symlink_metadata(dir.join("l")).expect("there").file_type().is_symlink());
        assert_eq!(fs::metadata(dir.join("l")).expect("there").nlink(), 2);

        fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o640)).expect("ours");
        assert_eq!(fs::metadata(dir.join("b")).expect("there").mode() & 0o7777, 0o640);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join("m")).expect("new");
        assert_eq!(file.metadata().expect("open").mode() & 0o7777, 0o600);
        let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
        file.set_modified(when).expect("ours");
        assert_eq!(file.metadata().expect("open").modified().expect("known"), when);
        let now = std::time::SystemTime::now();
        fs::write(dir.join("m"), "x").expect("there");
        let modified = fs::metadata(dir.join("m")).expect("there").modified().expect("known");
        assert!(modified >= now, "files have the run's time");

        let mut template = *b"/tmp/simulated-links/XXXXXX.tmp\0";
        // SAFETY: a C string that may be written to.
        let fd = unsafe { libc::mkstemps(template.as_mut_ptr().cast(), 4) };
        assert!(fd >= 32, "a number of the run");
        // SAFETY: its own.
        assert_eq!(unsafe { libc::close(fd) }, 0);
        assert_eq!(sorted(dir).len(), 5);

        let unnamed =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(dir).expect("unnamed");
        unnamed.write_all_at(b"late", 0).expect("room");
        let from = CString::new(format!("/proc/self/fd/{}", unnamed.as_raw_fd())).expect("text");
        let to = CString::new("/tmp/simulated-links/late").expect("text");
        // SAFETY: two C strings.
        let linked = unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        };
        assert_eq!(linked, 0);
        assert_eq!(fs::read_to_string(dir.join("late")).expect("it has a name now"), "late");
    });
}

#[test]
fn the_working_directory_is_the_nodes_own() {
    passes(|_| {
        let began = std::env::current_dir().expect("known");
        fs::create_dir_all("/tmp/simulated-cwd/in").expect("new");
        std::env::set_current_dir("/tmp/simulated-cwd/in").expect("there");
        fs::write("file", "relative").expect("new");
        fs::rename("/tmp/simulated-cwd", "/tmp/simulated-moved").expect("a directory");
        assert_eq!(std::env::current_dir().expect("known"), Path::new("/tmp/simulated-moved/in"));
        assert_eq!(fs::read_to_string("../in/file").expect("there"), "relative");
        assert_eq!(fs::read_to_string("/tmp/simulated-moved/in/file").expect("there"), "relative");
        std::env::set_current_dir(&began).expect("it began there");
        assert!(Path::new("Cargo.toml").exists(), "the real tree, from where tests begin");
    });
    assert!(Path::new("Cargo.toml").exists());
}

#[test]
fn locks_exclude_other_descriptions_and_end_with_them() {
    passes(|_| {
        let path = "/tmp/simulated-lock";
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("there");
        let (a, b) = (open(), open());
        a.lock().expect("free");
        assert!(matches!(b.try_lock(), Err(fs::TryLockError::WouldBlock)));
        let copy = a.try_clone().expect("a number");
        drop(a);
        assert!(b.try_lock().is_err(), "the description lives in its copy");
        drop(copy);
        b.try_lock().expect("free again");

        let lock = |file: &File, kind: i32, start: i64| {
            // SAFETY: a structure of numbers, then a descriptor and the address of a local.
            unsafe {
                let mut lock: libc::flock = std::mem::zeroed();
                (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, start, 10);
                libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &mut lock)
            }
        };
        let c = open();
        assert_eq!(lock(&b, libc::F_WRLCK, 0), 0);
        assert_eq!(lock(&c, libc::F_RDLCK, 5), -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
        assert_eq!(lock(&c, libc::F_RDLCK, 10), 0);
        drop(b);
        assert_eq!(lock(&c, libc::F_RDLCK, 5), 0);
    });
}

/// A file of the real tree that was opened for reading had a descriptor of the kernel, and chmod, utimes and attributes by
/// that descriptor went to the real inode. They are changes as any other: the node's own, seen by it alone.
#[test]
fn what_is_changed_by_the_descriptor_of_a_real_file_is_changed_on_the_disk() {
    let real = RealDir::new("by-number");
    let path = real.0.join("fixture");
    passes(move |_| {
        let mut file = File::open(&path).expect("real");
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(77);
        file.set_permissions(fs::Permissions::from_mode(0o640)).expect("its owner's");
        file.set_modified(at).expect("its owner's");
        for seen in [fs::metadata(&path), file.metadata(), File::open(&path).and_then(|f| f.metadata())] {
            let seen = seen.expect("there");
            assert_eq!((seen.mode() & 0o7777, seen.mtime()), (0o640, 77));
        }
        let name = c"user.sim".as_ptr();
        // SAFETY: a descriptor, a C string, and a buffer of the length given.
        unsafe {
            assert_eq!(libc::fsetxattr(file.as_raw_fd(), name, c"x".as_ptr().cast(), 1, 0), -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EOPNOTSUPP));
            assert_eq!(libc::fchown(file.as_raw_fd(), libc::geteuid(), u32::MAX), 0);
        }
        let mut text = String::new();
        file.read_to_string(&mut text).expect("it reads on");
        assert_eq!(text, "real bytes");
    });
    real.is_as_it_was();
}

/// Locks of such a file were the kernel's: other seeds' runs, in processes beside this one, were kept out by them, and one
/// that had to be waited for stopped the whole run.
#[test]
fn locks_of_a_real_file_are_the_nodes_own() {
    let real = RealDir::new("real-locks");
    let path = real.0.join("fixture");
    let held = OpenOptions::new().read(true).write(true).open(&path).expect("real");
    held.lock().expect("free");
    let range = |file: &File, command: i32, kind: i32| {
        // SAFETY: a structure of numbers, then a descriptor and the address of a local.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = kind as i16;
            libc::fcntl(file.as_raw_fd(), command, &mut lock)
        }
    };
    assert_eq!(range(&held, libc::F_OFD_SETLK, libc::F_WRLCK), 0);
    passes(move |_| {
        let (a, b) = (File::open(&path).expect("real"), File::open(&path).expect("real"));
        assert_eq!(range(&a, libc::F_SETLK, libc::F_RDLCK), 0, "{}", io::Error::last_os_error());
        a.try_lock().expect("nobody of the run holds it");
        assert!(matches!(b.try_lock(), Err(fs::TryLockError::WouldBlock)));
        let waiter = std::thread::spawn(move || b.lock().expect("at last"));
        std::thread::sleep(std::time::Duration::from_secs(1));
        drop(a);
        waiter.join().expect("it ends");
    });
    real.is_as_it_was();
}

#[test]
fn who_has_a_real_file_open_for_reading_sees_what_is_written_to_it() {
    let real = RealDir::new("seen");
    let path = real.0.join("fixture");
    passes(move |_| {
        let mut file = File::open(&path).expect("real");
        let mut word = [0; 5];
        file.read_exact(&mut word).expect("there");
        OpenOptions::new().append(true).open(&path).expect("copied up").write_all(b", and more").expect("room");
        let mut rest = String::new();
        file.read_to_string(&mut rest).expect("it goes on where it stood");
        assert_eq!((&word, rest.as_str()), (b"real ", "bytes, and more"));
        assert_eq!(file.metadata().expect("there").len(), 20);
        assert_eq!(file.seek(SeekFrom::Start(2)).expect("a file"), 2);

        let removed = File::open(path.with_file_name("dir/inner")).expect("real");
        fs::remove_file(path.with_file_name("dir/inner")).expect("hidden");
        assert_eq!(removed.metadata().expect("open").nlink(), 0);
        let mut inner = [0; 5];
        removed.read_exact_at(&mut inner, 0).expect("open");
        assert_eq!(&inner, b"inner");
    });
    real.is_as_it_was();
}

/// What belongs to the kernel may be read, but what a call would change there is changed for real.
#[test]
fn a_change_by_a_descriptor_of_the_kernels_is_an_escape() {
    type Call = fn(i32) -> i32;
    let changes: [(&str, Call); 4] = [
        // SAFETY: numbers, null for the time that is now, and a structure for which zero is a value.
        ("fchmod", |fd| unsafe { libc::fchmod(fd, 0o600) }),
        ("utimensat", |fd| unsafe { libc::futimens(fd, std::ptr::null()) }),
        ("flock", |fd| unsafe { libc::flock(fd, libc::LOCK_EX) }),
        ("fcntl", |fd| unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &std::mem::zeroed::<libc::flock>()) }),
    ];
    for (name, change) in changes {
        let escaped = run(1, move |_| change(File::open("/proc/self/status").expect("procfs").as_raw_fd()));
        let Err(Verdict::Escaped { call, .. }) = escaped else { panic!("{name}: {escaped:?}") };
        assert!(call.starts_with(name), "{call}");
    }
    // SAFETY: a number that nobody has.
    passes(|_| assert_eq!(unsafe { libc::fchmod(31, 0o600) }, -1));
}

#[test]
fn threads_wait_for_locks_and_operations_overlap() {
    let took = passes(|world| {
        fs::write("/tmp/simulated-wait", "x").expect("new");
        let open = || OpenOptions::new().read(true).write(true).open("/tmp/simulated-wait").expect("there");
        let held = open();
        held.lock().expect("free");
        let waiter = std::thread::spawn(move || {
            let file = open();
            file.lock().expect("at last");
            std::time::Instant::now()
        });
        std::thread::sleep(std::time::Duration::from_secs(5));
        let before = std::time::Instant::now();
        drop(held);
        let taken = waiter.join().expect("it ends");
        assert!(taken >= before, "it waited for the other to let go");
        let began = world.now();
        let many: Vec<_> = (0..8)
            .map(|i| {
                std::thread::spawn(move || {
                    let file = File::create(format!("/tmp/simulated-wait-{i}")).expect("new");
                    file.sync_all().expect("it works");
                })
            })
            .collect();
        many.into_iter().for_each(|t| t.join().expect("it ends"));
        world.now().since(began)
    });
    assert!(took >= std::time::Duration::from_micros(500), "an fsync takes time: {took:?}");
    assert!(took < std::time::Duration::from_millis(30), "eight at once take as long as the slowest: {took:?}");
}

/// A thread that is alone lets time pass without handing over. Nobody can tell: a call takes as long as it does beside others, and
/// those go on meanwhile.
#[test]
fn a_call_of_a_thread_takes_as_long_alone_as_beside_others() {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::time::{Duration, Instant};
    let times = |ticks: bool| {
        passes(move |_| {
            static TICKS: AtomicU32 = AtomicU32::new(0);
            TICKS.store(0, SeqCst);
            let worker = || {
                let file = File::create("/tmp/simulated-alone").expect("new");
                let begun = Instant::now();
                let call = |i: u64| {
                    file.write_all_at(b"bytes", i).expect("room");
                    if i.is_multiple_of(8) {
                        file.sync_data().expect("it works");
                    }
                    (begun.elapsed(), TICKS.load(SeqCst))
                };
                (0..50).map(call).collect::<Vec<_>>()
            };
            let worker = std::thread::spawn(worker);
            if ticks {
                std::thread::spawn(|| {
                    (0..2_000).for_each(|_| {
                        std::thread::sleep(Duration::from_micros(7));
                        TICKS.fetch_add(1, SeqCst);
                    })
                });
            }
            worker.join().expect("no panic")
        })
    };
    let (alone, beside) = (times(false), times(true));
    for (alone, beside) in alone.iter().zip(&beside) {
        assert_eq!(alone.0, beside.0);
        assert!(beside.1.abs_diff((beside.0.as_nanos() / 7_000) as u32) < 5, "{beside:?}");
    }
    assert!(alone.last().is_some_and(|last| last.0 > Duration::from_millis(3)));
}

#[test]
fn a_thread_that_writes_for_ever_comes_to_the_limit_of_time() {
    let settings = Settings { time_limit: std::time::Duration::from_millis(100), ..Settings::default() };
    let entered = World::enter(settings, Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    world.plug(files::disk());
    let node = world.node("kv0");
    let _on = interpose::enable();
    let writer = async {
        std::thread::spawn(|| {
            let file = File::create("/tmp/simulated-log").expect("new");
            loop {
                file.write_all_at(b"more", 0).expect("room");
            }
        });
        std::future::pending::<()>().await
    };
    let ended = world.block_on(node, writer, Spawn::named("writer"));
    assert!(matches!(ended, Err(Verdict::Limit { what: "time", .. })), "{ended:?}");
}

#[test]
fn a_file_of_the_kernels_is_the_same_by_another_number() {
    passes(|_| {
        let (status, tasks) = (File::open("/proc/self/status"), File::open("/proc/self/task"));
        let (status, tasks) = (status.expect("procfs"), tasks.expect("procfs"));
        let device = File::open("/dev/zero").expect("a device");
        let mut found = [0u8; 1024];
        // SAFETY: numbers, a structure for which zero is a value, and a buffer of the length given.
        unsafe {
            assert_eq!(libc::dup2(status.as_raw_fd(), 50), 50);
            assert_eq!(libc::dup2(tasks.as_raw_fd(), 51), 51);
            assert_eq!(libc::dup2(device.as_raw_fd(), 52), 52);
            let mut stat: libc::stat = std::mem::zeroed();
            assert_eq!(libc::fstat(50, &mut stat), 0, "{}", io::Error::last_os_error());
            assert_eq!(stat.st_mode & libc::S_IFMT, libc::S_IFREG);
            assert!(libc::syscall(libc::SYS_getdents64, 51, found.as_mut_ptr(), found.len()) > 0);
            let at = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, 52, 0);
            assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            assert_eq!(at.cast::<u8>().read(), 0);
        }
    });
}

#[test]
fn devices_and_proc_are_the_kernels_and_random_bytes_the_seeds() {
    let bytes = |seed| {
        run(seed, |_| {
            fs::write("/dev/null", "nowhere").expect("harmless");
            assert!(fs::read_to_string("/proc/self/status").expect("procfs").contains("Name:"));
            assert!(fs::read_dir("/proc/self/task").expect("procfs").count() > 0);
            let file = File::create("/tmp/simulated-name").expect("new");
            assert!(format!("{file:?}").contains("/tmp/simulated-name"), "{file:?}");
            let mut bytes = [0; 16];
            File::open("/dev/urandom").expect("a device").read_exact(&mut bytes).expect("endless");
            bytes
        })
        .expect("it passes")
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn streams_of_c_read_files_of_the_run_and_writing_by_them_escapes() {
    passes(|_| {
        fs::write("/tmp/simulated-stream", "line\n").expect("new");
        let mut line = [0u8; 16];
        // SAFETY: C strings and a buffer of the length given.
        unsafe {
            let stream = libc::fopen(c"/tmp/simulated-stream".as_ptr(), c"r".as_ptr());
            assert!(!stream.is_null(), "{}", io::Error::last_os_error());
            assert!(!libc::fgets(line.as_mut_ptr().cast(), 16, stream).is_null());
            libc::fclose(stream);
            assert!(libc::fopen(c"/tmp/simulated-none".as_ptr(), c"r".as_ptr()).is_null());
        }
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOENT));
        assert!(line.starts_with(b"line\n\0"));
    });
    // SAFETY: C strings.
    let escaped = run(1, |_| unsafe { libc::fopen(c"/tmp/simulated-stream".as_ptr(), c"w".as_ptr()).is_null() });
    let Err(Verdict::Escaped { call, .. }) = escaped else { panic!("{escaped:?}") };
    assert!(
        call.contains("fopen(\"/tmp/simulated-stream\")") || call.contains("fopen(\"/tmp/simulated-stream\","),
        "{call}"
    );
}

/// libc opened the name it was given, not the file that the disk means: another one after a change of directory, a rename, or
/// behind a link that the run made. What was only the run's was copied, and cut without a word at 4 MiB.
#[test]
fn streams_of_c_read_the_file_that_the_disk_means() {
    let real = RealDir::new("streams");
    let dir = real.0.clone();
    let read = |stream: *mut libc::FILE| {
        assert!(!stream.is_null(), "{}", io::Error::last_os_error());
        let (mut bytes, mut sum) = (vec![0u8; 6 << 20], 0);
        // SAFETY: a stream that is open, and the rest of a buffer; fileno and fstat take a number and a structure.
        unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            assert_eq!(libc::fstat(libc::fileno(stream), &mut found), 0, "{}", io::Error::last_os_error());
            loop {
                let n = libc::fread(bytes[sum..].as_mut_ptr().cast(), 1, bytes.len() - sum, stream);
                sum += n;
                if n == 0 {
                    break;
                }
            }
            assert_eq!((libc::ferror(stream), found.st_size), (0, sum as i64));
            assert_eq!((libc::fseek(stream, 0, libc::SEEK_SET), libc::ftell(stream)), (0, 0));
            assert_eq!(libc::fclose(stream), 0);
        }
        bytes.truncate(sum);
        bytes
    };
    // SAFETY: C strings.
    let open = |name: &Path| unsafe { libc::fopen(text(name.to_str().expect("text")).as_ptr(), c"r".as_ptr()) };
    passes(move |_| {
        assert_eq!(read(open(&dir.join("fixture"))), b"real bytes");
        std::env::set_current_dir(dir.join("dir")).expect("there");
        assert_eq!(read(open(Path::new("inner"))), b"inner");
        std::os::unix::fs::symlink("inner", "link").expect("new");
        assert_eq!(read(open(&dir.join("dir/link"))), b"inner");
        fs::rename("inner", "moved").expect("there");
        assert_eq!(read(open(Path::new("moved"))), b"inner");
        assert!(open(Path::new("inner")).is_null());
        let large: Vec<u8> = (0..5u32 << 20).map(|i| (i >> 7) as u8).collect();
        fs::write("large", &large).expect("room");
        assert!(read(open(Path::new("large"))) == large);
        let file = File::open("moved").expect("there");
        // SAFETY: a number that the stream closes, and a C string.
        assert_eq!(read(unsafe { libc::fdopen(std::os::fd::IntoRawFd::into_raw_fd(file), c"r".as_ptr()) }), b"inner");
    });
    real.is_as_it_was();
}

/// Closing by dup2 is closing: the process's locks of the file are gone.
#[test]
fn a_number_that_dup2_takes_is_closed() {
    passes(|_| {
        let open = |name: &str| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name);
        let (held, other) = (open("/tmp/simulated-dup").expect("new"), open("/tmp/simulated-other").expect("new"));
        let second = open("/tmp/simulated-dup").expect("there");
        let conflict = |command: i32| {
            // SAFETY: a structure of numbers, then a descriptor and the address of a local.
            unsafe {
                let mut lock: libc::flock = std::mem::zeroed();
                lock.l_type = libc::F_WRLCK as i16;
                let fd = if command == libc::F_SETLK { held.as_raw_fd() } else { second.as_raw_fd() };
                assert_eq!(libc::fcntl(fd, command, &mut lock), 0, "{}", io::Error::last_os_error());
                lock.l_type as i32
            }
        };
        conflict(libc::F_SETLK);
        assert_eq!(conflict(libc::F_OFD_GETLK), libc::F_WRLCK);
        // SAFETY: numbers.
        unsafe { assert_eq!(libc::dup2(other.as_raw_fd(), held.as_raw_fd()), held.as_raw_fd()) };
        assert_eq!(conflict(libc::F_OFD_GETLK), libc::F_UNLCK);
    });
}

#[test]
fn what_is_not_modelled_is_refused_and_errors_are_the_kernels() {
    passes(|_| {
        let file = OpenOptions::new().read(true).append(true).create(true).open("/tmp/simulated-errors").expect("new");
        let fd = file.as_raw_fd();
        let bytes = *b"bytes";
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 5 };
        let said = |result: i64| {
            if result < 0 { -io::Error::last_os_error().raw_os_error().expect("set") as i64 } else { result }
        };
        // SAFETY: numbers, and a buffer of the length given.
        unsafe {
            assert_eq!(said(libc::pwritev2(fd, &part, 1, -1, 0) as i64), 5);
            assert_eq!(said(libc::pwritev2(fd, &part, 1, 0, libc::RWF_APPEND) as i64), -libc::EOPNOTSUPP as i64);
            assert_eq!(said(libc::preadv(fd, &part, 1, -1) as i64), -libc::EINVAL as i64);
            assert_eq!(said(libc::pwritev(fd, &part, 1, -1) as i64), -libc::EINVAL as i64);
            assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);
            assert_eq!(libc::ioctl(fd, libc::FIONCLEX), 0, "{}", io::Error::last_os_error());
            assert_eq!(libc::fcntl(fd, libc::F_GETFD), 0);
            assert_eq!(libc::ioctl(fd, libc::FIOCLEX), 0);
            assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);

            let status = std::os::fd::IntoRawFd::into_raw_fd(File::open("/proc/self/status").expect("procfs"));
            assert_eq!(libc::close_range(status as u32, status as u32, 0), 0);
            assert_eq!(said(libc::fcntl(status, libc::F_GETFD) as i64), -libc::EBADF as i64);

            let pause = libc::timespec { tv_sec: 1, tv_nsec: 0 };
            let sleep = |clock: i32| libc::syscall(libc::SYS_clock_nanosleep, clock, 0, &pause, 0);
            assert_eq!(said(sleep(libc::CLOCK_TAI)), 0);
            assert_eq!(said(sleep(libc::CLOCK_THREAD_CPUTIME_ID)), -libc::EINVAL as i64);
            assert_eq!(said(sleep(libc::CLOCK_MONOTONIC_RAW)), -libc::EOPNOTSUPP as i64);
            assert_eq!(said(sleep(77)), -libc::EINVAL as i64);
        }
    });
    let escaped = run(1, |_| {
        // SAFETY: numbers, and a structure for which zero is a value.
        unsafe {
            let timer = libc::timerfd_create(libc::CLOCK_REALTIME, 0);
            let never: libc::itimerspec = std::mem::zeroed();
            libc::timerfd_settime(
                timer,
                libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET,
                &never,
                std::ptr::null_mut(),
            )
        }
    });
    let Err(Verdict::Escaped { call, .. }) = escaped else { panic!("{escaped:?}") };
    assert!(call.contains("TFD_TIMER_CANCEL_ON_SET"), "{call}");
}

/// A timer that was disarmed stayed in the queue: a run in which nothing else happens went on to that time.
#[test]
fn a_disarmed_timer_is_no_event() {
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    let node = world.node("kv0");
    let _on = interpose::enable();
    let program = async {
        // SAFETY: numbers, and a structure for which zero is a value.
        unsafe {
            let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
            let mut time: libc::itimerspec = std::mem::zeroed();
            for seconds in [3600, 0] {
                time.it_value.tv_sec = seconds;
                assert_eq!(libc::timerfd_settime(timer, 0, &time, std::ptr::null_mut()), 0);
            }
        }
        std::future::pending::<()>().await;
    };
    let verdict = world.block_on(node, program, Spawn::named("the program"));
    assert!(matches!(verdict, Err(Verdict::Deadlock { .. })), "{verdict:?}");
    assert_eq!(world.now().0 / 1_000_000_000, 0);
}

#[test]
fn the_same_seed_gives_the_same_digest() {
    let digest = |seed| {
        let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
        let world = entered.world();
        world.plug(files::disk());
        let node = world.node("kv0");
        let _on = interpose::enable();
        let body = async {
            let mut file = File::create("/tmp/simulated-digest").expect("new");
            for i in 0..50u8 {
                file.write_all(&[i; 100]).expect("room");
                file.seek(SeekFrom::Start(i as u64 * 7)).expect("a file");
                file.sync_data().expect("it works");
            }
        };
        world.block_on(node, body, Spawn::named("writer")).expect("it passes");
        (world.with_trace(|t| t.digest()), world.now())
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

// ---- the same calls on this layer and on the real file system -----------------------------------------------------------

/// A small generator of its own: the calls are not choices of a run.
struct Calls(u64);

impl Calls {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Few names, so that calls meet; with what confuses.
    fn path(&mut self) -> String {
        let mut path = String::new();
        for i in 0..1 + self.below(3) {
            if i > 0 {
                path.push('/');
            }
            // Never an absolute one: the real side would leave its directory.
            path.push_str(
                self.one(&["a", "b", "c", "d", "a", "b", "c", "d", ".", "..", ""][..11 - (i == 0) as usize * 2]),
            );
        }
        if self.below(8) == 0 {
            path.push('/');
        }
        path
    }
}

/// One side: a directory, and the descriptors that were opened there.
struct Side {
    /// Below which everything of this side lies.
    top: String,
    root: String,
    root_fd: i32,
    open: Vec<i32>,
    user: u32,
}

fn text(s: &str) -> CString {
    CString::new(s).expect("text")
}

fn said(result: i64) -> String {
    match result {
        -1 => format!("{}", io::Error::last_os_error()),
        n => n.to_string(),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(17, |h: u64, b| h.wrapping_mul(31).wrapping_add(*b as u64))
}

fn shown(stat: &libc::stat) -> String {
    let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let (size, links) = if is_dir { (0, 0) } else { (stat.st_size, stat.st_nlink) };
    format!("{:o} {size} {links} {} {}", stat.st_mode, stat.st_uid, stat.st_gid)
}

impl Side {
    fn fd(&self, n: usize) -> i32 {
        if self.open.is_empty() { 9_999 } else { self.open[n % self.open.len()] }
    }

    /// access(2) asks for the real user's rights, which [`be`] does not change: of others only whether the file is there.
    fn access(&self, dir: i32, path: &CString, wanted: u64) -> i32 {
        // SAFETY: C strings and numbers.
        unsafe { libc::faccessat(dir, path.as_ptr(), if self.user == 0 { wanted as i32 } else { 0 }, 0) }
    }

    /// Makes call number `what` with arguments from `calls`, and says what came of it.
    fn call(&mut self, calls: &mut Calls, seeks_data: bool) -> String {
        let what = calls.below(36);
        let (path, other) = (calls.path(), calls.path());
        // In a directory that is open, mostly, or from the root.
        let dir = if calls.below(5) == 0 { self.fd(calls.below(8) as usize) } else { self.root_fd };
        // In a directory that was removed `.` still is one; not so here, where paths begin at the root.
        // SAFETY: a structure of numbers, and a descriptor or none.
        let dir = unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            let removed = libc::fstat(dir, &mut found) == 0 && found.st_nlink == 0;
            if removed { self.root_fd } else { dir }
        };
        let full = format!("{}/{path}", self.root);
        let (p, o, f) = (text(&path), text(&other), text(&full));
        let fd = self.fd(calls.below(8) as usize);
        let (at, len) = (calls.below(9_000) as i64 - 20, calls.below(6_000) as usize);
        let byte = b'a' + calls.below(26) as u8;
        let pick = calls.below(1 << 20);
        // SAFETY: C strings and buffers of the lengths given; descriptors are this side's own or none.
        unsafe {
            match what {
                0..=6 => {
                    let mut flags = calls.one(&[libc::O_RDONLY, libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY]);
                    for flag in [libc::O_CREAT, libc::O_CREAT, libc::O_EXCL, libc::O_TRUNC, libc::O_APPEND] {
                        if calls.below(3) == 0 {
                            flags |= flag;
                        }
                    }
                    for flag in [libc::O_NOFOLLOW, libc::O_DIRECTORY, libc::O_PATH, libc::O_TMPFILE] {
                        if calls.below(10) == 0 {
                            flags |= flag;
                        }
                    }
                    // Without O_CREAT undefined (open(2)), and so is O_TRUNC without writing.
                    if flags & libc::O_CREAT == 0 {
                        flags &= !libc::O_EXCL;
                    }
                    if flags & libc::O_ACCMODE == libc::O_RDONLY {
                        flags &= !libc::O_TRUNC;
                    }
                    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
                        flags &= !libc::O_CREAT;
                    }
                    let mode = calls.one(&[0o644, 0o600, 0o444, 0o200, 0o000]);
                    let fd = libc::openat(dir, p.as_ptr(), flags, mode);
                    if fd >= 0 {
                        self.open.push(fd);
                        if self.open.len() > 6 {
                            libc::close(self.open.remove(0));
                        }
                    }
                    format!("openat {path} {flags:o}: {}", if fd >= 0 { "open".into() } else { said(-1) })
                }
                7 | 8 => format!("write {len}: {}", said(libc::write(fd, vec![byte; len].as_ptr().cast(), len) as i64)),
                9 | 10 => {
                    let mut bytes = vec![0u8; len];
                    let n = libc::read(fd, bytes.as_mut_ptr().cast(), len) as i64;
                    format!("read {len}: {} {}", said(n), sum(&bytes))
                }
                11 | 12 => {
                    let n = libc::pwrite(fd, vec![byte; len].as_ptr().cast(), len, at) as i64;
                    format!("pwrite {len} at {at}: {}", said(n))
                }
                13 => {
                    let mut bytes = vec![0u8; len];
                    let n = libc::pread(fd, bytes.as_mut_ptr().cast(), len, at) as i64;
                    format!("pread {len} at {at}: {} {}", said(n), sum(&bytes))
                }
                14 => {
                    let mut whence = calls.one(&[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, 9]);
                    if seeks_data && calls.below(2) == 0 {
                        whence = calls.one(&[libc::SEEK_DATA, libc::SEEK_HOLE]);
                    }
                    let mut found: libc::stat = std::mem::zeroed();
                    libc::fstat(fd, &mut found);
                    // The offsets of a real directory are its own.
                    match found.st_mode & libc::S_IFMT {
                        libc::S_IFDIR => String::new(),
                        _ => format!("lseek {at} {whence}: {}", said(libc::lseek(fd, at, whence))),
                    }
                }
                15 => format!("ftruncate {at}: {}", said(libc::ftruncate(fd, at) as i64)),
                16 => {
                    format!("fsync: {}", said(if pick & 1 == 0 { libc::fsync(fd) } else { libc::fdatasync(fd) } as i64))
                }
                17 => {
                    let closed = libc::close(fd) as i64;
                    let said = said(closed);
                    self.open.retain(|n| *n != fd);
                    format!("close: {said}")
                }
                18 => {
                    let mut found: libc::stat = std::mem::zeroed();
                    let flags = calls.one(&[0, libc::AT_SYMLINK_NOFOLLOW]);
                    let n = libc::fstatat(dir, p.as_ptr(), &mut found, flags);
                    format!(
                        "fstatat {path} {flags}: {} {}",
                        said(n as i64),
                        if n == 0 { shown(&found) } else { String::new() }
                    )
                }
                19 => {
                    let mut found: libc::stat = std::mem::zeroed();
                    let n = libc::fstat(fd, &mut found);
                    format!("fstat: {} {}", said(n as i64), if n == 0 { shown(&found) } else { String::new() })
                }
                20 => format!(
                    "mkdirat {path}: {}",
                    said(libc::mkdirat(dir, p.as_ptr(), calls.one(&[0o755, 0o700, 0o2777, 0o555])) as i64)
                ),
                21 => format!("rmdir {path}: {}", said(libc::rmdir(f.as_ptr()) as i64)),
                22 => format!(
                    "unlinkat {path}: {}",
                    said(libc::unlinkat(dir, p.as_ptr(), calls.one(&[0, 0, libc::AT_REMOVEDIR])) as i64)
                ),
                23 => format!(
                    "rename {path} {other}: {}",
                    said(libc::renameat(dir, p.as_ptr(), self.root_fd, o.as_ptr()) as i64)
                ),
                24 => {
                    let flags = calls.one(&[libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
                    format!(
                        "renameat2 {flags} {path} {other}: {}",
                        said(libc::renameat2(dir, p.as_ptr(), self.root_fd, o.as_ptr(), flags) as i64)
                    )
                }
                25 => {
                    let flags = calls.one(&[0, libc::AT_SYMLINK_FOLLOW]);
                    format!(
                        "link {flags} {path} {other}: {}",
                        said(libc::linkat(dir, p.as_ptr(), self.root_fd, o.as_ptr(), flags) as i64)
                    )
                }
                26 => {
                    let target = calls.one(&["a", "b", "../c", "d/a", "", "./b/", "@/c", "@", "..", "none"]);
                    let target = text(&target.replace('@', &self.root));
                    format!("symlink {path}: {}", said(libc::symlinkat(target.as_ptr(), dir, p.as_ptr()) as i64))
                }
                27 => {
                    let mut target = [0u8; 200];
                    let n = libc::readlinkat(dir, p.as_ptr(), target.as_mut_ptr().cast(), 200) as i64;
                    let kept = String::from_utf8_lossy(&target[..n.max(0) as usize]).replace(&self.root, "@");
                    format!("readlink {path}: {} {kept}", if n < 0 { said(n) } else { String::new() })
                }
                28 => match fs::read_dir(&full) {
                    Err(e) => format!("list {path}: {e}"),
                    Ok(entries) => {
                        let mut all: Vec<_> = entries
                            .map(|e| e.map(|e| (e.file_name(), e.file_type().ok())))
                            .map(|e| format!("{e:?}"))
                            .collect();
                        all.sort();
                        format!("list {path}: {all:?}")
                    }
                },
                29 => format!(
                    "realpath {path}: {:?}",
                    fs::canonicalize(&full).map(|p| p
                        .display()
                        .to_string()
                        .replace(&self.root, "@")
                        .replace(&self.top, "^"))
                ),
                30 => {
                    let mode = calls.one(&[0o777, 0o600, 0o4755, 0o1777, 0o000, 0o111]);
                    // Paths begin at the root here: a directory above that nobody may search would be in the way.
                    let mode = if self.user == 0 { mode } else { mode | 0o700 };
                    match pick & 1 {
                        0 => format!("chmod {path} {mode:o}: {}", said(libc::chmod(f.as_ptr(), mode) as i64)),
                        _ => format!("fchmod {mode:o}: {}", said(libc::fchmod(fd, mode) as i64)),
                    }
                }
                31 => {
                    let how = calls.one(&[libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN, 0, 77]) | libc::LOCK_NB;
                    format!("flock {how}: {}", said(libc::flock(fd, how) as i64))
                }
                32 => {
                    let mut lock: libc::flock = std::mem::zeroed();
                    lock.l_type = calls.one(&[libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK]) as i16;
                    lock.l_whence = calls.one(&[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, 5]) as i16;
                    (lock.l_start, lock.l_len) = (at / 100, calls.one(&[0, 1, 10, -5, 50]));
                    let command = calls.one(&[
                        libc::F_OFD_SETLK,
                        libc::F_OFD_SETLK,
                        libc::F_OFD_GETLK,
                        libc::F_SETLK,
                        libc::F_GETLK,
                    ]);
                    // EINVAL, but from Linux 6.5 on, which tells of the caller's own locks.
                    if command == libc::F_OFD_GETLK && lock.l_type == libc::F_UNLCK as i16 {
                        lock.l_type = libc::F_RDLCK as i16;
                    }
                    let n = libc::fcntl(fd, command, &mut lock);
                    let found = match command {
                        libc::F_OFD_GETLK | libc::F_GETLK if n == 0 => {
                            format!(
                                "{} {} {} {} {}",
                                lock.l_type,
                                lock.l_whence,
                                lock.l_start,
                                lock.l_len,
                                lock.l_pid.signum()
                            )
                        }
                        _ => String::new(),
                    };
                    format!("fcntl {command}: {} {found}", said(n as i64))
                }
                33 => format!("truncate {path} {at}: {}", said(libc::truncate(f.as_ptr(), at) as i64)),
                34 if seeks_data => {
                    format!("access {path}: {}", said(self.access(libc::AT_FDCWD, &f, pick % 8) as i64))
                }
                34 => {
                    let mode = calls.one(&[
                        0,
                        libc::FALLOC_FL_KEEP_SIZE,
                        libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    ]);
                    format!("fallocate {mode}: {}", said(libc::fallocate(fd, mode, at, len as i64) as i64))
                }
                _ => match pick % 4 {
                    0 => {
                        let ns = calls.one(&[0, libc::UTIME_OMIT, libc::UTIME_NOW, -3]);
                        let times =
                            [libc::timespec { tv_sec: at, tv_nsec: 7 }, libc::timespec { tv_sec: 5, tv_nsec: ns }];
                        let flags = calls.one(&[0, libc::AT_SYMLINK_NOFOLLOW]);
                        let n = libc::utimensat(dir, p.as_ptr(), times.as_ptr(), flags);
                        let said = said(n as i64);
                        let mut found: libc::stat = std::mem::zeroed();
                        // Times of reading move on one side alone, and now is not the same on both.
                        let known = libc::fstatat(dir, p.as_ptr(), &mut found, flags) == 0 && n == 0 && ns == 0;
                        let written = if known { (found.st_mtime, found.st_mtime_nsec) } else { (0, 0) };
                        format!("utimensat {path}: {said} {written:?}")
                    }
                    1 => {
                        let to = self.fd(calls.below(8) as usize);
                        let n = if fd == to {
                            0
                        } else {
                            libc::copy_file_range(fd, std::ptr::null_mut(), to, std::ptr::null_mut(), len, 0) as i64
                        };
                        format!("copy_file_range {len}: {}", said(n))
                    }
                    2 => {
                        let n = libc::fchownat(
                            dir,
                            p.as_ptr(),
                            calls.one(&[u32::MAX, 0, 65_534]),
                            calls.one(&[u32::MAX, 0, 65_534]),
                            0,
                        );
                        format!("chown {path}: {}", said(n as i64))
                    }
                    _ => format!("access {path}: {}", said(self.access(dir, &p, pick / 4 % 8) as i64)),
                },
            }
        }
    }

    fn begin(user: u32, top: String, root: String) -> Side {
        fs::create_dir(&root).expect("new");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).expect("ours");
        // SAFETY: a C string.
        let root_fd = unsafe { libc::open(text(&root).as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) };
        assert!(root_fd >= 0);
        Side { top, root, root_fd, open: Vec::new(), user }
    }

    fn end(&mut self) {
        for fd in self.open.drain(..).chain([self.root_fd]) {
            // SAFETY: its own.
            unsafe { libc::close(fd) };
        }
    }
}

/// Lets the thread be another user to the real file system: setfsuid(2).
fn be(user: u32) {
    // SAFETY: numbers only. The group goes first: afterwards it may not be changed any more.
    unsafe {
        if user == 0 {
            libc::setfsuid(0);
            libc::setfsgid(0);
        } else {
            libc::setfsgid(user);
            libc::setfsuid(user);
        }
    }
}

fn compare(base: &Path, user: u32, rounds: std::ops::Range<u64>, length: u32) -> u32 {
    let (mut compared, mut differences) = (0, Vec::new());
    for round in rounds {
        // Deep, so that no chain of `..` leads to where something else lies.
        let place = |side: &str| base.join(side).join("x/x/x/x/x/x/x/x/x/x/x/x");
        let sim_top = base.join("s").display().to_string();
        let (real_root, sim_root) = (place("r"), place("s"));
        let make = |place: &Path| {
            fs::create_dir_all(place).expect("a place to work");
            fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("ours");
        };
        be(user);
        make(&real_root);
        let entered = World::enter(Settings::default(), Choices::seeded(round)).expect("no run inside another");
        let world = entered.world();
        world.plug(files::disk_of(User { user, group: user, groups: Vec::new() }));
        let node = world.node("kv0");
        let mut real =
            Side::begin(user, base.join("r").display().to_string(), real_root.join("root").display().to_string());
        let _on = interpose::enable();
        let body = async move {
            make(&sim_root);
            let mut ours = Side::begin(user, sim_top, sim_root.join("root").display().to_string());
            let (mut calls, mut again) = (Calls(round), Calls(round));
            let mut log = Vec::new();
            for _ in 0..length {
                let mine = ours.call(&mut calls, round % 2 == 0);
                let theirs = interpose::pass_through(|| real.call(&mut again, round % 2 == 0));
                log.push(theirs.clone());
                if mine != theirs {
                    return Err((log, mine, theirs));
                }
            }
            ours.end();
            interpose::pass_through(|| real.end());
            Ok(log.len() as u32)
        };
        let result = world.block_on(node, body, Spawn::named("the calls"));
        drop(_on);
        be(0);
        fs::remove_dir_all(base.join("r")).expect("ours");
        match result.expect("the run passes") {
            Ok(n) => compared += n,
            Err((log, mine, theirs)) => {
                let before = log[log.len().saturating_sub(40)..log.len() - 1].join("\n  ");
                let first = mine.split(' ').next().unwrap_or_default().to_owned();
                let found = format!("user {user}, round {round}:\n  {before}\nsimulated: {mine}\nreal:      {theirs}");
                if !differences.iter().any(|(call, _)| *call == first) {
                    differences.push((first, found));
                }
            }
        }
    }
    let all: Vec<_> = differences.into_iter().map(|(_, text)| text).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
    compared
}

#[test]
fn random_calls_give_what_the_real_file_system_gives() {
    let rounds = std::env::var("SIM_FILES_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("files-differ-{}", std::process::id()));
    fs::create_dir_all(&base).expect("a place to work");
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).expect("ours");
    // SAFETY: takes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    // SAFETY: takes nothing.
    let me = unsafe { libc::geteuid() };
    let mut compared = compare(&base, me, 0..rounds, 60);
    if root {
        compared += compare(&base, 65_534, rounds..2 * rounds, 60);
    }
    fs::remove_dir_all(&base).expect("ours");
    assert!(compared as u64 >= 60 * rounds, "{compared}");
}
