//! Each interposed symbol inside a run and outside, as std and C callers reach it.
#![expect(clippy::disallowed_types, reason = "what std takes from the system is what is tested")]
#![cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]

use sim_core::signal::Signal;
use sim_core::time::Timer;
use sim_core::{Choices, NodeId, Settings, Spawn, Verdict, World};
use sim_libc::interpose;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// Runs `program` on a node called `kv0`, with symbols interposed.
fn run<T: 'static>(seed: u64, program: impl FnOnce(&'static World) -> T + 'static) -> Result<T, Verdict> {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no run inside another");
    let world = entered.world();
    let node = world.node("kv0");
    assert_eq!(node, NodeId(1));
    let _on = interpose::enable();
    world.block_on(node, async move { program(world) }, Spawn::named("the program"))
}

fn passes<T: 'static>(program: impl FnOnce(&'static World) -> T + 'static) -> T {
    run(1, program).expect("the run passes")
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local.
    assert_eq!(unsafe { libc::clock_gettime(id, &mut ts) }, 0);
    Duration::new(ts.tv_sec as u64, ts.tv_nsec as u32)
}

#[test]
fn std_clocks_are_the_worlds() {
    let (mono, wall, slept, real) = {
        let real = Instant::now();
        let (mono, wall, slept) = passes(|world| {
            let (began, mono) = (Instant::now(), clock(libc::CLOCK_MONOTONIC));
            std::thread::sleep(Duration::from_secs(3_600));
            assert_eq!(world.now().0, 3_600_000_000_000);
            (mono, SystemTime::now(), began.elapsed())
        });
        (mono, wall, slept, real.elapsed())
    };
    assert_eq!((mono, slept), (Duration::from_secs(3_600), Duration::from_secs(3_600)));
    assert!(real < Duration::from_secs(10), "it slept for real: {real:?}");
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((1_767_225_600..1_767_225_600 + 366 * 86_400).contains(&since), "{since}");
    assert_eq!(wall, passes(|_| SystemTime::now()) + Duration::from_secs(3_600));
}

#[test]
fn every_clock_id_answers() {
    passes(|world| {
        world.spend(Duration::from_millis(1_234));
        let uptime = Duration::from_secs(3_600) + Duration::from_millis(1_234);
        let up = [libc::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_MONOTONIC_COARSE, libc::CLOCK_BOOTTIME];
        assert!(up.into_iter().all(|id| clock(id) == uptime));
        let wall = clock(libc::CLOCK_REALTIME);
        assert_eq!(
            (clock(libc::CLOCK_REALTIME_COARSE), clock(libc::CLOCK_TAI)),
            (wall, wall + Duration::from_secs(37))
        );
        let busy = Duration::from_millis(1_234);
        assert_eq!((clock(libc::CLOCK_PROCESS_CPUTIME_ID), clock(libc::CLOCK_THREAD_CPUTIME_ID)), (busy, busy));
        let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a local.
        assert_eq!(unsafe { libc::clock_gettime(77, &mut ts) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
        // SAFETY: null is what is tested.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, std::ptr::null_mut()) }, -1);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EFAULT));

        let mut tv = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let mut seconds = 0;
        // SAFETY: locals.
        unsafe {
            assert_eq!(libc::gettimeofday(&mut tv, std::ptr::null_mut()), 0);
            assert_eq!(libc::time(&mut seconds), seconds);
        }
        assert_eq!((tv.tv_sec as u64, tv.tv_usec as u32), (wall.as_secs(), wall.subsec_micros()));
        assert_eq!(seconds as u64, wall.as_secs());
    });
}

#[test]
fn every_sleep_takes_virtual_time() {
    passes(|world| {
        let at = |ms: u64| assert_eq!(world.now().0, ms * 1_000_000);
        let ts = |s, ns| libc::timespec { tv_sec: s, tv_nsec: ns };
        let null = std::ptr::null_mut();
        // SAFETY: locals, and null where the calls allow it.
        unsafe {
            assert_eq!(libc::nanosleep(&ts(1, 0), null), 0);
            at(1_000);
            assert_eq!(libc::usleep(500_000), 0);
            at(1_500);
            assert_eq!(libc::sleep(2), 0);
            at(3_500);
            assert_eq!(libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &ts(0, 500_000_000), null), 0);
            at(4_000);
            let until = ts(3_610, 0); // The machine is up for an hour when the run begins.
            assert_eq!(libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, null), 0);
            at(10_000);
            assert_eq!(libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, null), 0);
            at(10_000);
            assert_eq!(libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &ts(0, -1), null), libc::EINVAL);
            assert_eq!(libc::nanosleep(&ts(-1, 0), null), -1);
            assert_eq!(libc::syscall(libc::SYS_nanosleep, &ts(1, 0), null), 0);
            at(11_000);
        }
    });
}

#[test]
fn locks_and_channels_wait_in_virtual_time() {
    passes(|world| {
        let (_tell, hear) = std::sync::mpsc::channel::<()>();
        assert!(hear.recv_timeout(Duration::from_secs(600)).is_err());
        assert_eq!(world.now().0, 600_000_000_000);
        std::thread::park_timeout(Duration::from_secs(60));
        assert!(world.now().0 >= 660_000_000_000);
    });
}

fn bytes() -> [Vec<u8>; 4] {
    let mut all = [const { [0u8; 24] }; 3];
    let words: Vec<u8>;
    // SAFETY: arrays and their lengths.
    unsafe {
        assert_eq!(libc::getrandom(all[0].as_mut_ptr().cast(), 24, 0), 24);
        assert_eq!(libc::getentropy(all[1].as_mut_ptr().cast(), 24), 0);
        assert_eq!(libc::syscall(libc::SYS_getrandom, all[2].as_mut_ptr(), 24, 0), 24);
        words = [(); 6].iter().flat_map(|_| arc4random().to_ne_bytes()).collect();
        assert!((0..100).all(|_| arc4random_uniform(3) < 3));
        assert_eq!(libc::getentropy(all[1].as_mut_ptr().cast(), 257), -1);
    }
    let [a, b, c] = all.map(|bytes| bytes.to_vec());
    [a, b, c, words]
}

unsafe extern "C" {
    fn arc4random() -> u32;
    fn arc4random_uniform(bound: u32) -> u32;
}

#[test]
fn entropy_is_the_seeds() {
    let one = passes(|_| bytes());
    assert_eq!(one, passes(|_| bytes()));
    let other = run(2, |_| bytes()).expect("the run passes");
    let real = bytes();
    for (i, some) in one.iter().enumerate() {
        assert!(*some != other[i] && *some != real[i]);
        assert!(one.iter().skip(i + 1).all(|next| next != some));
    }
    assert_ne!(real, bytes());
}

#[test]
fn hash_maps_of_a_fresh_thread_are_the_seeds() {
    // std takes the keys from the system once for each thread.
    let order = |seed| {
        let thread = move || {
            run(seed, |_| {
                let map: HashMap<u32, ()> = (0..50).map(|i| (i, ())).collect();
                (RandomState::new().hash_one(7), map.into_keys().collect::<Vec<_>>())
            })
        };
        std::thread::spawn(thread).join().expect("no panic").expect("the run passes")
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

fn host_name() -> String {
    let mut name = [0u8; 65];
    // SAFETY: an array and its length; the call ends the name with a zero byte.
    unsafe { assert_eq!(libc::gethostname(name.as_mut_ptr().cast(), name.len()), 0) };
    CStr::from_bytes_until_nul(&name).expect("ended").to_str().expect("text").to_owned()
}

#[test]
fn the_machine_is_the_nodes() {
    let real = (std::process::id(), host_name());
    passes(|_| {
        assert_eq!(std::process::id(), 1001);
        assert_eq!(host_name(), "kv0");
        // SAFETY: the calls take nothing or a local.
        unsafe {
            assert_eq!((libc::gettid(), libc::syscall(libc::SYS_getpid)), (1001, 1001));
            let mut name: libc::utsname = std::mem::zeroed();
            assert_eq!(libc::uname(&mut name), 0);
            assert_eq!(CStr::from_ptr(name.nodename.as_ptr()), c"kv0");
            assert_eq!(CStr::from_ptr(name.sysname.as_ptr()), c"Linux");
            assert_eq!(CStr::from_ptr(name.release.as_ptr()), c"6.1.0");
            let mut machine: libc::sysinfo = std::mem::zeroed();
            assert_eq!(libc::sysinfo(&mut machine), 0);
            assert_eq!(
                (machine.totalram, machine.freeram, machine.procs, machine.loads),
                (8 << 30, 4 << 30, 1, [0; 3])
            );
            assert_eq!(libc::sysconf(libc::_SC_AVPHYS_PAGES), 1 << 20);
            let mut usage: libc::rusage = std::mem::zeroed();
            std::thread::sleep(Duration::from_secs(90));
            assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
            assert_eq!((usage.ru_utime.tv_sec, usage.ru_stime.tv_sec, usage.ru_minflt), (90, 0, 0));
            let mut ticks: libc::tms = std::mem::zeroed();
            assert!(libc::times(&mut ticks) >= 9000);
            assert_eq!(ticks.tms_utime, 9000);
            assert_eq!(libc::sysconf(libc::_SC_NPROCESSORS_ONLN), 1);
            assert_eq!(libc::sysconf(libc::_SC_PAGESIZE), 4096);
        }
        assert_eq!(std::thread::available_parallelism().expect("known").get(), 1);
    });
    assert_eq!((std::process::id(), host_name()), real);
    assert!(real.0 != 1001 || real.1 != "kv0");
    // SAFETY: a number.
    let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    assert_eq!(
        online as usize,
        std::fs::read_to_string("/proc/cpuinfo").expect("procfs").matches("processor\t").count()
    );
}

/// The call that `program` escapes by.
fn escapes(program: impl FnOnce() + 'static) -> String {
    match run(1, |_| program()) {
        Err(Verdict::Escaped { call, place }) => {
            assert!(place.starts_with("the program (spawned at sim-libc/tests/interpose.rs:"), "{place}");
            assert!(place.ends_with(')') && !place.contains("  "), "{place}");
            call
        }
        other => panic!("no escape: {other:?}"),
    }
}

#[test]
fn processes_are_escapes() {
    let spawned = escapes(|| drop(std::process::Command::new("/bin/true").spawn().expect_err("refused")));
    assert!(spawned == "posix_spawnp(\"/bin/true\")" || spawned == "fork", "{spawned}");
    // SAFETY: numbers; there is no such process.
    assert_eq!(escapes(|| assert_eq!(unsafe { libc::kill(999_999, libc::SIGTERM) }, -1)), "kill(999999, 15)");
    // SAFETY: numbers.
    assert_eq!(escapes(|| assert_eq!(unsafe { libc::syscall(libc::SYS_socket, 16, 3, 0) }, -1)), "socket(AF_NETLINK)");
    // SAFETY: no thread may exist in a child of this fork; there is no child.
    assert_eq!(escapes(|| assert_eq!(unsafe { libc::fork() }, -1)), "fork");
    // Libc's own fork passes by no symbol of ours. SAFETY: numbers; there is no child.
    assert_eq!(escapes(|| assert_eq!(unsafe { libc::daemon(1, 1) }, -1)), "daemon");
}

#[test]
fn a_signal_to_oneself_is_heard_by_who_asked_for_it() {
    static CAUGHT: AtomicU32 = AtomicU32::new(0);
    extern "C" fn catch(_: i32) {
        CAUGHT.fetch_add(1, Relaxed);
    }
    let heard = Rc::new(Cell::new(0));
    let hears = heard.clone();
    let entered = World::enter(Settings::default(), Choices::seeded(1)).expect("no run inside another");
    let world = entered.world();
    let _on = interpose::enable();
    let program = async move {
        let to_itself = |signal| {
            // SAFETY: numbers.
            unsafe { libc::kill(libc::getpid(), signal) }
        };
        assert_eq!(
            (to_itself(0), to_itself(65), io::Error::last_os_error().raw_os_error()),
            (0, -1, Some(libc::EINVAL))
        );
        // SAFETY: the handler adds to an atomic number.
        unsafe { libc::signal(libc::SIGUSR1, catch as *const () as usize) };
        assert_eq!((to_itself(libc::SIGUSR1), CAUGHT.load(Relaxed)), (0, 1), "the process's handler, at once");
        // SAFETY: a number.
        assert_eq!((unsafe { libc::raise(libc::SIGUSR1) }, CAUGHT.load(Relaxed)), (0, 2));
        assert_eq!(to_itself(libc::SIGCHLD), 0, "ignored by default");
        world.handle_signal(Signal(libc::SIGUSR2), move || hears.set(hears.get() + 1));
        assert_eq!(to_itself(libc::SIGUSR2), 0);
        // SAFETY: a number.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        assert_eq!(heard.get(), 2, "at once");
        // What another sends comes by a task.
        world.send_signal(world.acting_node(), Signal(libc::SIGUSR2));
        assert_eq!(heard.get(), 2);
        Timer::new(world.now() + Duration::from_millis(1)).await;
        heard.get()
    };
    let heard = world.block_on(world.node("kv0"), program, Spawn::named("the program"));
    assert_eq!(heard, Ok(3));
}

#[test]
fn changing_real_files_is_an_escape_and_reading_is_not() {
    let dir = std::env::temp_dir().join(format!("sim-libc-files-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a real directory");
    let kept = dir.join("kept");
    std::fs::write(&kept, "kept").expect("a real file");
    let (path, moved) = (kept.clone(), dir.join("moved"));
    type Change = fn(&std::path::Path, &std::path::Path) -> io::Result<()>;
    let changes: [(&str, Change); 9] = [
        ("open", |path, _| std::fs::write(path, "x")),
        ("open", |path, _| std::fs::OpenOptions::new().append(true).open(path).map(drop)),
        ("open", |_, new| std::fs::File::create(new).map(drop)),
        ("rename", |path, new| std::fs::rename(path, new)),
        ("unlink", |path, _| std::fs::remove_file(path)),
        ("mkdir", |_, new| std::fs::create_dir(new)),
        ("rmdir", |path, _| std::fs::remove_dir(path.parent().expect("a directory"))),
        ("symlink", |path, new| std::os::unix::fs::symlink(path, new)),
        ("fopen", |_, new| {
            let new = std::ffi::CString::new(new.to_str().expect("text")).expect("no zero");
            // SAFETY: C strings.
            if unsafe { libc::fopen(new.as_ptr(), c"w".as_ptr()) }.is_null() {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        }),
    ];
    for (name, change) in changes {
        let (path, moved) = (path.clone(), moved.clone());
        let call = escapes(move || {
            assert_eq!(change(&path, &moved).expect_err("refused").kind(), ErrorKind::PermissionDenied);
        });
        assert!(call.starts_with(&format!("{name}(\"")) && call.contains("/sim-libc-files-"), "{name}: {call}");
    }
    assert_eq!(std::fs::read_dir(&dir).expect("still there").count(), 1);
    let call = escapes(|| assert!(std::fs::File::open("/dev/urandom").is_err()));
    assert_eq!(call, "open(\"/dev/urandom\", O_RDONLY)");
    assert_eq!(
        passes(move |_| {
            std::fs::write("/dev/null", "nowhere").expect("harmless");
            std::fs::read_to_string(&path).expect("reading is allowed")
        }),
        "kept"
    );
    std::fs::write(&kept, "changed").expect("outside a run it is a real file");
    std::fs::remove_dir_all(&dir).expect("ours");
}

/// In a process that was not forked for the run, among real threads.
#[test]
fn threads_of_a_run_take_turns_also_in_process() {
    let program = |_: &'static World| {
        let (send, receive) = std::sync::mpsc::sync_channel(0);
        let began = Instant::now();
        for i in 0..3u32 {
            let send = send.clone();
            std::thread::spawn(move || {
                for n in 0..5 {
                    std::thread::sleep(Duration::from_millis(n * 10));
                    send.send(i).expect("somebody listens");
                }
            });
        }
        drop(send);
        let order: Vec<u32> = receive.iter().collect();
        assert_eq!((order.len(), began.elapsed().as_millis()), (15, 100));
        order
    };
    let orders: Vec<_> = (0..20).map(|seed| (run(seed, program), run(seed, program))).collect();
    assert!(orders.iter().all(|(first, second)| first.is_ok() && first == second));
    assert!(orders.iter().any(|(first, _)| *first != orders[0].0), "every seed had the same order");
    // A run without threads is what it would have been on a thread that never ran one with threads.
    let slept = |world: &'static World| {
        std::thread::sleep(Duration::from_secs(1));
        (world.now(), world.outcome().steps)
    };
    let fresh = std::thread::spawn(move || passes(slept)).join().expect("no panic");
    assert_eq!(passes(slept), fresh);
}

#[test]
fn a_thread_without_a_world_is_left_alone() {
    let before = Instant::now();
    let _on = interpose::enable();
    std::thread::sleep(Duration::from_millis(20));
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(20) && took < Duration::from_secs(5), "{took:?}");
    assert_ne!(std::process::id(), 1001);
}

#[test]
fn other_threads_keep_the_real_clock() {
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        asked.recv().expect("asked");
        tell.send(SystemTime::now()).expect("heard");
    });
    let virtual_now = passes(move |_| {
        ask.send(()).expect("sent");
        SystemTime::now()
    });
    let real = told.recv().expect("told");
    other.join().expect("no panic");
    assert!(SystemTime::now().duration_since(real).is_ok_and(|d| d < Duration::from_secs(60)));
    assert_ne!(virtual_now, real);
}

#[test]
fn pass_through_reaches_the_system_and_ends_with_a_panic() {
    passes(|_| {
        let caught = std::panic::catch_unwind(|| {
            interpose::pass_through(|| {
                assert_ne!(std::process::id(), 1001);
                std::panic::resume_unwind(Box::new(()));
            })
        });
        assert!(caught.is_err());
        assert_eq!(std::process::id(), 1001);
    });
}
