//! Forked children and every way in which they end.
//!
//! A binary of its own, without libtest: its main thread prints while tests run, and a child that inherits a locked stdout
//! hangs.

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod linux {
    use sim_core::{NodeId, Settings, Spawn, Verdict, World};
    use sim_libc::interpose;
    use sim_libc::process::{self, Exit, Launcher, Limits, NoteKind, Order, Output};
    use std::fs::File;
    use std::hint::black_box;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    const MODES: [fn(&Order) -> i32; 19] = [
        empty,
        aborts,
        segfaults,
        exits,
        spins,
        hoards,
        reserves,
        asks_for_too_much,
        recurses,
        prints,
        panics,
        spins_outside,
        talks,
        waits,
        escapes,
        passes,
        starts_a_process_behind_us,
        asks_past_libc,
        opens_many,
    ];

    fn body(order: &Order) -> i32 {
        MODES[order.mode as usize](order)
    }

    /// How one child of `mode` ended, checked by `check`.
    fn child(mode: fn(&Order) -> i32, limits: Limits, check: impl FnOnce(process::Ended<'_>)) {
        child_of(mode, 11, limits, check);
    }

    fn child_of(mode: fn(&Order) -> i32, argument: u64, limits: Limits, check: impl FnOnce(process::Ended<'_>)) {
        let mode = MODES.iter().position(|m| std::ptr::fn_addr_eq(*m, mode)).expect("listed") as u32;
        let mut launcher = Launcher::start(2, limits, Box::new(body)).expect("a launcher");
        let order = Order { seed: 7, mode, index: 3, argument };
        launcher.fork(1, order).expect("a child");
        let ended = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends within 20 s");
        assert_eq!((ended.slot, ended.order, ended.killed), (1, order, false));
        check(ended);
    }

    fn text(output: Output<'_>) -> String {
        String::from_utf8(output.to_bytes()).expect("text")
    }

    fn empty(order: &Order) -> i32 {
        assert!(process::report(b"seed ") && process::report(order.seed.to_string().as_bytes()));
        println!("hello");
        eprint!("no end of line");
        0
    }

    fn a_child_hands_over_report_and_output() {
        child(empty, Limits::default(), |e| {
            assert_eq!((e.exit, e.note, e.report), (Exit::Status(0), None, &b"seed 7"[..]));
            assert_eq!(text(e.output), "hello\nno end of line");
        });
    }

    fn aborts(_: &Order) -> i32 {
        process::report(b"kept");
        std::process::abort()
    }

    fn an_abort_leaves_word_and_report() {
        child(aborts, Limits::default(), |e| {
            assert_eq!((e.exit, e.report), (Exit::Signal(libc::SIGABRT), &b"kept"[..]));
            let note = e.note.expect("a note");
            assert_eq!((note.kind, note.what, note.task), (NoteKind::Crashed, "SIGABRT", ""));
            assert!(!e.out_of_memory());
        });
    }

    fn segfaults(_: &Order) -> i32 {
        // SAFETY: it is not: the crash is what is tested.
        unsafe { black_box(0x10 as *mut u8).write_volatile(1) };
        0
    }

    fn a_segfault_names_its_address() {
        child(segfaults, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Signal(libc::SIGSEGV));
            assert_eq!(e.note.map(|n| n.what), Some("SIGSEGV at 0x10"));
        });
    }

    fn exits(_: &Order) -> i32 {
        std::process::exit(3)
    }

    fn an_exit_is_seen_as_such() {
        child(exits, Limits::default(), |e| assert_eq!((e.exit, e.note), (Exit::Status(3), None)));
    }

    fn in_world(program: impl Future<Output = ()> + 'static) -> Result<(), Verdict> {
        let entered =
            World::enter(Settings { livelock_polls: u64::MAX, ..Settings::default() }, sim_core::Choices::seeded(1))
                .expect("no other");
        let world = entered.world();
        world.plug(sim_net::Net::new());
        let node = world.node("kv0");
        assert_ne!(node, NodeId::OUTSIDE);
        world.block_on(node, program, Spawn::named("spinner"))
    }

    fn spins(_: &Order) -> i32 {
        process::watchdog(Duration::from_millis(100)).expect("timers");
        let _ = in_world(async {
            // Many short polls that take long together are no reason to bark.
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(300) {
                yield_once().await;
            }
            println!("spinning");
            loop {
                black_box(());
            }
        });
        0
    }

    async fn yield_once() {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await
    }

    fn a_poll_without_end_is_stuck_and_named() {
        child(spins, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Status(124));
            let note = e.note.expect("a note");
            assert_eq!(note.kind, NoteKind::Stuck);
            assert!(note.task.starts_with("spinner (spawned at sim-libc/tests/process.rs:"), "{}", note.task);
            assert_eq!(text(e.output), "spinning\n");
            assert!(e.wall >= Duration::from_millis(300) && e.wall < Duration::from_secs(5), "{:?}", e.wall);
        });
    }

    fn spins_outside(_: &Order) -> i32 {
        loop {
            std::thread::park();
        }
    }

    fn the_parent_can_kill_what_no_watchdog_watches() {
        let mut launcher = Launcher::start(1, Limits::default(), Box::new(spins_outside)).expect("a launcher");
        launcher.fork(0, Order::default()).expect("a child");
        assert!(launcher.wait_any(Duration::from_millis(50)).expect("poll").is_none());
        assert!(launcher.running_in(0).is_some_and(|(_, wall)| wall >= Duration::from_millis(50)));
        launcher.kill(0);
        let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
        assert_eq!((e.exit, e.killed), (Exit::Signal(libc::SIGKILL), true));
    }

    fn hoards(_: &Order) -> i32 {
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1u8; 1 << 20]);
            black_box(&hoard);
        }
    }

    fn a_memory_hog_dies_of_its_own_limit() {
        child(hoards, Limits { memory_bytes: 256 << 20, ..Limits::default() }, |e| {
            assert_eq!((e.exit, e.hoarded), (Exit::Signal(libc::SIGKILL), true));
            assert!(e.out_of_memory(), "{}", text(e.output));
            assert!(e.peak_bytes > 200 << 20, "{}", e.peak_bytes);
        });
    }

    fn reserves(_: &Order) -> i32 {
        let mut reserved = vec![0u8; 2 << 30];
        black_box(&mut reserved)[1 << 30] = 1;
        reserved[1 << 29] as i32
    }

    /// What a thousand threads reserve for their stacks counted as used: real programs that passed elsewhere had no memory here.
    fn memory_that_is_only_reserved_is_not_counted() {
        child(reserves, Limits { memory_bytes: 256 << 20, ..Limits::default() }, |e| {
            assert_eq!((e.exit, e.hoarded), (Exit::Status(0), false), "{}", text(e.output));
        });
    }

    fn asks_for_too_much(_: &Order) -> i32 {
        black_box(vec![0u8; 64 << 30]).len() as i32
    }

    fn an_allocation_of_more_than_may_be_reserved_fails() {
        child(asks_for_too_much, Limits { memory_bytes: 256 << 20, ..Limits::default() }, |e| {
            assert_eq!((e.exit, e.hoarded), (Exit::Signal(libc::SIGABRT), false));
            assert!(e.out_of_memory(), "{}", text(e.output));
        });
    }

    fn recurses(order: &Order) -> i32 {
        let frame = black_box([order.mode; 1000]);
        if black_box(true) { recurses(order) + frame[3] as i32 } else { 0 }
    }

    fn a_stack_overflow_is_called_one() {
        child(recurses, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Signal(libc::SIGSEGV));
            assert_eq!(e.note.map(|n| n.what), Some("SIGSEGV (stack overflow)"));
        });
    }

    fn prints(_: &Order) -> i32 {
        for i in 0..200_000u32 {
            println!("line {i:06} of forty bytes, so eight MB.");
        }
        0
    }

    fn of_much_output_head_and_tail_are_kept() {
        child(prints, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Status(0));
            let output = e.output;
            assert!(output.head.starts_with(b"line 000000 of forty"));
            let printed = 200_000 * "line 000000 of forty bytes, so eight MB.\n".len() as u64;
            let tail = output.tail[0].len() + output.tail[1].len();
            assert_eq!(output.head.len() as u64 + output.lost + tail as u64, printed);
            assert_eq!((output.head.len(), tail), (2 << 20, 2 << 20));
            assert!(text(output).ends_with("line 199999 of forty bytes, so eight MB.\n"));
        });
    }

    fn panics(_: &Order) -> i32 {
        panic!("as it should")
    }

    fn a_panic_that_the_body_lets_through_is_status_101() {
        child(panics, Limits::default(), |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(101), None));
            assert!(text(e.output).contains("as it should"));
        });
    }

    fn ten_thousand_children_cost_less_than_ten_seconds_and_no_memory() {
        fn addresses(_: &Order) -> i32 {
            let here = 0u8;
            let heap = Box::new(1u8);
            let places = [&raw const here as u64, &raw const *heap as u64];
            process::report(&places.map(u64::to_ne_bytes).concat());
            0
        }
        let mut launcher = Launcher::start(64, Limits::default(), Box::new(addresses)).expect("a launcher");
        let began = Instant::now();
        let (mut first, mut resident) = (Vec::new(), 0);
        for seed in 0..10_000 {
            // Another slot each time: the child must not see which.
            launcher.fork(seed as usize % 64, Order { seed, ..Order::default() }).expect("a child");
            let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
            assert_eq!((e.exit, e.order.seed), (Exit::Status(0), seed));
            if seed == 0 {
                first = e.report.to_vec();
            }
            assert_eq!(e.report, first, "child {seed} found its stack or heap elsewhere");
            if seed == 1000 {
                resident = resident_kb();
            }
        }
        let took = began.elapsed();
        println!("    {} µs a child, {} kB resident", took.as_micros() / 10_000, resident_kb());
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(resident_kb() <= resident + 512, "{resident} kB grew to {} kB", resident_kb());
    }

    fn resident_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("its line");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    fn talks(order: &Order) -> i32 {
        println!("before");
        let order = *order;
        let _ = in_world(async move {
            let _on = interpose::enable();
            println!("one\ntwo");
            std::thread::sleep(Duration::from_millis(1_500));
            print!("and ");
            println!("three");
            eprintln!("{}{}", order.index, order.argument);
            // What one thread begins another may end: whether a line is open was known to each thread for itself.
            let begins = || {
                print!("a line ");
                std::io::stdout().flush()
            };
            std::thread::spawn(begins).join().expect("it ends").expect("it prints");
            println!("of two threads");
        });
        println!("after");
        0
    }

    fn lines_of_a_run_carry_time_and_node() {
        child(talks, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Status(0));
            assert_eq!(
                text(e.output),
                "before\n[   0.000000000 kv0] one\n[   0.000000000 kv0] two\n[   1.500000000 kv0] and three\n\
                 [   1.500000000 kv0] 311\n[   1.500000000 kv0] a line of two threads\nafter\n"
            );
            assert!(e.wall < Duration::from_secs(1), "it slept for real: {:?}", e.wall);
        });
    }

    fn waits(_: &Order) -> i32 {
        let _ = in_world(async {
            let _on = interpose::enable();
            let lock = std::sync::Mutex::new(1);
            let one = lock.lock();
            let two = lock.lock();
            drop((one, two));
        });
        0
    }

    fn a_thread_that_waits_for_nobody_is_stuck_at_once() {
        child(waits, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Status(124));
            let note = e.note.expect("a note");
            assert_eq!(note.kind, NoteKind::Stuck);
            assert!(note.task.starts_with("spinner ("), "{note:?}");
            assert!(e.wall < Duration::from_secs(1), "{:?}", e.wall);
        });
    }

    fn own_system_call(number: i64, a: i64, b: i64) -> i64 {
        own_system_call_of(number, [a, b, 0])
    }

    /// System call `number` by an instruction of this program.
    fn own_system_call_of(number: i64, [a, b, c]: [i64; 3]) -> i64 {
        let result: i64;
        // SAFETY: the callers pass numbers, or a buffer and its length.
        unsafe {
            std::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c,
                in("r10") 0, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    /// A function of libc that no definition of ours stands before.
    fn behind_us(name: &std::ffi::CStr) -> *mut libc::c_void {
        // SAFETY: C strings; the handle is libc's and stays open.
        unsafe {
            let libc = libc::dlopen(c"libc.so.6".as_ptr(), libc::RTLD_LAZY);
            libc::dlsym(libc, name.as_ptr())
        }
    }

    /// A way past libc's symbols: what it is called in the verdict, and how it is gone.
    type Way = (&'static str, fn() -> i64);

    const WAYS: [Way; 3] = [
        ("system call fork, not by libc's name", || own_system_call(libc::SYS_fork, 0, 0)),
        ("system call number 139, not by libc's name", || own_system_call(libc::SYS_sysfs, 0, 0)),
        ("open(\"/tmp/sim-libc-real\", O_RDWR|O_CREAT|O_TRUNC)", || {
            type Open = extern "C" fn(*const libc::c_char, *const libc::c_char) -> *mut libc::c_void;
            // SAFETY: the C signature of fopen.
            let open = unsafe { std::mem::transmute::<*mut libc::c_void, Open>(behind_us(c"fopen")) };
            open(c"/tmp/sim-libc-real".as_ptr(), c"w+".as_ptr()) as i64
        }),
    ];

    fn escapes(order: &Order) -> i32 {
        let way = WAYS[order.argument as usize].1;
        let verdict = in_world(async move {
            let _on = interpose::enable();
            black_box(way());
            interpose::pass_through(|| println!("goes on"));
        });
        process::report(format!("{verdict:?}").as_bytes());
        0
    }

    fn what_goes_past_libc_is_an_escape() {
        for (way, (call, _)) in WAYS.iter().enumerate() {
            child_of(escapes, way as u64, Limits::default(), |e| {
                assert_eq!(e.exit, Exit::Status(0), "{call}: {:?}", e.note);
                let report = String::from_utf8_lossy(e.report).into_owned();
                let expected = format!("Err(Escaped {{ call: {call:?}, place: \"spinner (spawned at sim-libc/tests");
                assert!(report.starts_with(&expected), "{report}");
                if let Some(note) = e.note {
                    assert_eq!((note.kind, note.what), (NoteKind::Escaped, *call));
                }
            });
        }
        assert!(!std::path::Path::new("/tmp/sim-libc-real").exists());
    }

    /// What the kernel's own function in user space says, ns.
    fn by_vdso() -> u64 {
        type Read = extern "C" fn(libc::clockid_t, *mut libc::timespec) -> i32;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: C strings; the handle stays open; the C signature of the function, if there is one.
        unsafe {
            let vdso = libc::dlopen(c"linux-vdso.so.1".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            let read = libc::dlsym(vdso, c"__vdso_clock_gettime".as_ptr());
            assert!(!vdso.is_null() && !read.is_null());
            let read = std::mem::transmute::<*mut libc::c_void, Read>(read);
            assert_eq!(read(libc::CLOCK_MONOTONIC, &mut time), 0);
        }
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn asks_past_libc(_: &Order) -> i32 {
        let before = by_vdso();
        assert!(before > 0 && by_vdso() >= before && interpose::pass_through(by_vdso) < before + 1_000_000_000);
        let verdict = in_world(async {
            let _on = interpose::enable();
            let (mut one, mut two) = ([0u8; 16], [0u8; 16]);
            assert_eq!(own_system_call(libc::SYS_getrandom, one.as_mut_ptr() as i64, 16), 16);
            assert_eq!(own_system_call(libc::SYS_getrandom, two.as_mut_ptr() as i64, 16), 16);
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let clock = libc::CLOCK_MONOTONIC as i64;
            assert_eq!(own_system_call(libc::SYS_clock_gettime, clock, &raw mut time as i64), 0);
            // SAFETY: reading a counter; the processor's number goes to a local.
            let stamps =
                |processor: &mut u32| unsafe { [std::arch::x86_64::_rdtsc(), std::arch::x86_64::__rdtscp(processor)] };
            let mut processor = 7;
            let before = stamps(&mut processor);
            let pause = libc::timespec { tv_sec: 2, tv_nsec: 5 };
            assert_eq!(own_system_call(libc::SYS_nanosleep, &raw const pause as i64, 0), 0);
            let after = stamps(&mut processor);
            assert_eq!((after[0] - before[0], processor), (2_000_000_005, 0));
            assert_eq!([before[1], after[1]], [before[0], after[0]]);
            assert_eq!(before[0], time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
            assert_eq!(by_vdso(), after[0]);
            // Numbers of the run's own, as libc's names give them.
            assert_eq!(own_system_call(libc::SYS_socket, libc::AF_INET as i64, libc::SOCK_DGRAM as i64), 32);
            assert_eq!(own_system_call(libc::SYS_epoll_create1, 0, 0), 33);
            assert_eq!([32, 33].map(|fd| own_system_call(libc::SYS_close, fd, 0)), [0, 0]);
            World::current().expect("on").plug(sim_libc::files::disk());
            let how = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a C string, numbers, and places of the kernel's choice.
            let maps = unsafe {
                let file = libc::open(c"/tmp/sim-mapped".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600);
                assert_eq!(libc::ftruncate(file, 4096), 0);
                [(libc::MAP_SHARED, file), (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)]
                    .map(|(flags, file)| libc::mmap(std::ptr::null_mut(), 4096, how, flags, file, 0) as i64)
            };
            let advised = |how: i32| maps.map(|at| own_system_call_of(libc::SYS_madvise, [at, 4096, how as i64]));
            assert_eq!(advised(libc::MADV_REMOVE), [-libc::EOPNOTSUPP as i64, 0]);
            assert_eq!(advised(libc::MADV_DONTNEED), [0, 0]);
            interpose::pass_through(|| process::report(&[one, two].concat()));
        });
        assert_eq!(verdict, Ok(()));
        0
    }

    fn what_goes_past_libc_and_has_an_answer_gets_it() {
        let mut reports = Vec::new();
        for _ in 0..2 {
            child(asks_past_libc, Limits::default(), |e| {
                assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", text(e.output));
                reports.push(e.report.to_vec());
            });
        }
        assert_eq!(reports[0], reports[1]);
        assert!(reports[0].len() == 32 && reports[0][..16] != reports[0][16..]);
    }

    fn opens_many(_: &Order) -> i32 {
        let verdict = in_world(async {
            World::current().expect("on").plug(sim_libc::files::disk());
            let _on = interpose::enable();
            for path in ["/proc/self/status", "/etc/hostname"] {
                let open = |_| std::fs::File::open(path).expect("as many as a process may have");
                assert_eq!((0..2000).map(open).collect::<Vec<_>>().len(), 2000);
            }
        });
        assert_eq!(verdict, Ok(()));
        0
    }

    /// The kernel's descriptors stand above the run's, where the usual soft limit of 1024 lets none.
    fn the_kernels_files_have_room_too() {
        child(opens_many, Limits::default(), |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", text(e.output));
        });
    }

    fn starts_a_process_behind_us(_: &Order) -> i32 {
        type Spawn = extern "C" fn(
            *mut i32,
            *const libc::c_char,
            *const libc::c_void,
            *const libc::c_void,
            *const *const libc::c_char,
            *const *const libc::c_char,
        ) -> i32;
        let mut id = 0;
        let args = [c"true".as_ptr(), std::ptr::null()];
        // SAFETY: the C signature of posix_spawn.
        let spawn = unsafe { std::mem::transmute::<*mut libc::c_void, Spawn>(behind_us(c"posix_spawn")) };
        let none = std::ptr::null();
        spawn(&mut id, c"/bin/true".as_ptr(), none, none, args.as_ptr(), &none.cast())
    }

    fn a_process_that_libc_starts_is_an_escape() {
        child(starts_a_process_behind_us, Limits::default(), |e| {
            assert_eq!(e.exit, Exit::Signal(libc::SIGSYS));
            assert_eq!(e.note.map(|n| n.kind), Some(NoteKind::Escaped));
        });
    }

    fn passes(_: &Order) -> i32 {
        let mut buffer = [0u8; 16];
        assert_eq!(own_system_call(libc::SYS_getrandom, buffer.as_mut_ptr() as i64, 16), 16);
        assert_ne!(buffer, [0; 16]);
        // SAFETY: reading a counter.
        let stamp = || unsafe { std::arch::x86_64::_rdtsc() };
        assert!(stamp() < stamp());
        let dir = std::env::temp_dir();
        let path = dir.join(format!("sim-libc-{}", std::process::id()));
        std::fs::write(&path, "x").expect("a real file");
        std::fs::remove_file(&path).expect("ours");
        drop(std::net::UdpSocket::bind("127.0.0.1:0").expect("a real socket"));
        0
    }

    fn outside_a_run_nothing_is_an_escape() {
        child(passes, Limits::default(), |e| {
            assert_eq!((e.exit, e.note), (Exit::Status(0), None), "{}", text(e.output))
        });
    }

    fn a_child_misses_no_guarantee() {
        fn lists(_: &Order) -> i32 {
            process::report(sim_libc::guarantees().join("\n").as_bytes());
            0
        }
        assert!(sim_libc::guarantees().iter().any(|g| g.contains("no process of its own")));
        let mut launcher = Launcher::start(1, Limits::default(), Box::new(lists)).expect("a launcher");
        launcher.fork(0, Order::default()).expect("a child");
        let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
        let gone = String::from_utf8_lossy(e.report).into_owned();
        // This binary was not started a second time, so its addresses are as random as those of any.
        assert!(gone.is_empty() != gone.starts_with("addresses are randomised"), "{gone}");
        assert_eq!(gone.lines().count(), !process::aslr_off() as usize, "{gone}");
    }

    fn children_run_side_by_side() {
        fn sleeps(order: &Order) -> i32 {
            std::thread::sleep(Duration::from_millis(200 - 50 * order.index));
            order.index as i32
        }
        let mut launcher = Launcher::start(4, Limits::default(), Box::new(sleeps)).expect("a launcher");
        for index in 0..3 {
            let slot = launcher.free_slot().expect("one is free");
            launcher.fork(slot, Order { index, ..Order::default() }).expect("a child");
        }
        assert_eq!((launcher.running(), launcher.slots()), (3, 4));
        for index in (0..3).rev() {
            let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
            assert_eq!((e.exit, e.order.index), (Exit::Status(index), index as u64));
        }
        assert!(launcher.wait_any(Duration::from_secs(20)).expect("poll").is_none());
    }

    fn children_die_with_their_parent() {
        fn forks_and_dies(_: &Order) -> i32 {
            let mut launcher = Launcher::start(1, Limits::default(), Box::new(spins_outside)).expect("a launcher");
            let pid = launcher.fork(0, Order::default()).expect("a grandchild");
            process::report(&pid.to_ne_bytes());
            // Its own parent is gone without a word to it.
            std::process::abort()
        }
        // With the trap the child could start no launcher of its own.
        let limits = Limits { trap: false, ..Limits::default() };
        let mut launcher = Launcher::start(1, limits, Box::new(forks_and_dies)).expect("a launcher");
        launcher.fork(0, Order::default()).expect("a child");
        let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
        let pid = i32::from_ne_bytes(e.report.try_into().expect("a process id"));
        let began = Instant::now();
        // An orphan that nobody has waited for yet is a zombie, which counts as dead.
        let lives = || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|s| !s.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with(['Z', 'X'])))
        };
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(5), "process {pid} outlived its parent");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn a_second_start_fixes_addresses() {
        let exe = std::env::current_exe().expect("a path");
        let show = |extra: &str| {
            let mut command = process::hermetic_command(&exe).expect("a command");
            let out = command.env("SIM_LIBC_SHOW", "1").env("EXTRA", extra).output().expect("it runs");
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stdout).expect("text")
        };
        let first = show("");
        assert!(first.starts_with("sim-test\n"), "{first}");
        assert!(first.contains("stack=8388608"), "{first}");
        if first.contains("aslr_off=true") {
            assert_eq!(first, show(""));
            assert!(first.ends_with("nothing is missing in a child: true\n"), "{first}");
        }
    }

    fn show() {
        process::begin();
        let limit = {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the kernel writes the local struct.
            unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
            limit.rlim_cur
        };
        let here = 0u8;
        println!("{}", std::env::args().next().unwrap_or_default());
        println!("aslr_off={} stack={limit}", process::aslr_off());
        println!("{:p} {:p} {:p}", &here, Box::new(1u8), show as *const ());
        // SAFETY: AT_RANDOM is 0 or the address of 16 bytes.
        let random = unsafe { *(libc::getauxval(libc::AT_RANDOM) as *const [u8; 16]) };
        assert_eq!(&random, b"sim: no entropy!");
        assert!(!std::path::Path::new("/proc/self/fd/200").exists());
        let lists = |_: &Order| sim_libc::guarantees().len() as i32;
        let mut launcher = Launcher::start(1, Limits::default(), Box::new(lists)).expect("a launcher");
        launcher.fork(0, Order::default()).expect("a child");
        let e = launcher.wait_any(Duration::from_secs(20)).expect("poll").expect("it ends");
        println!("nothing is missing in a child: {}", e.exit == Exit::Status(0));
    }

    fn threads_are_counted_by_name() {
        let (tell, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("logger".into()).spawn(move || wait.recv()).expect("a thread");
        // A thread sets its name itself, when it begins.
        let began = Instant::now();
        while !process::threads().expect("procfs").contains(&"logger".to_owned()) {
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", process::threads());
        }
        assert_eq!(process::threads().expect("procfs").len(), 2);
        drop(tell);
        assert!(thread.join().expect("no panic").is_err());
    }

    fn jobs_of_several_processes_share_one_limit() {
        let dir = std::env::temp_dir().join(format!("sim-libc-jobs-{}", std::process::id()));
        let take = || process::job_slots(&dir, 2, Duration::ZERO).expect("slots");
        let (one, two) = (take(), take());
        assert!(one.is_some() && two.is_some() && take().is_none());
        drop(one);
        assert!(take().is_some());
        std::fs::remove_dir_all(&dir).expect("ours");
    }

    /// A process that gave up its job after its turn, and wanted another, had the same job again within microseconds, while
    /// those who waited looked every few milliseconds. One of two test processes could so wait for all of the other's seeds.
    fn who_gives_a_job_up_does_not_get_it_back_before_those_who_wait() {
        let dir = std::env::temp_dir().join(format!("sim-libc-turns-{}", std::process::id()));
        let take = |patience| process::job_slots(&dir, 1, patience).expect("slots");
        let only = take(Duration::ZERO).expect("free");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| take(Duration::from_secs(60)));
            let next = || File::open(dir.join("next")).expect("made");
            // SAFETY: two numbers; the descriptor is open for the call.
            let nobody_waits =
                |file: File| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) } == 0;
            while nobody_waits(next()) {
                std::thread::yield_now();
            }
            drop(only);
            // Whoever comes second finds either the one who waits or the job taken.
            assert!(take(Duration::ZERO).is_none());
            assert!(waits.join().expect("no panic").is_some());
        });
        std::fs::remove_dir_all(&dir).expect("ours");
    }

    pub fn main() {
        if std::env::var_os("SIM_LIBC_SHOW").is_some() {
            return show();
        }
        let facts: &[(&str, fn())] = &[
            ("threads_are_counted_by_name", threads_are_counted_by_name),
            ("a_child_hands_over_report_and_output", a_child_hands_over_report_and_output),
            ("an_abort_leaves_word_and_report", an_abort_leaves_word_and_report),
            ("a_segfault_names_its_address", a_segfault_names_its_address),
            ("an_exit_is_seen_as_such", an_exit_is_seen_as_such),
            ("a_panic_that_the_body_lets_through_is_status_101", a_panic_that_the_body_lets_through_is_status_101),
            ("a_poll_without_end_is_stuck_and_named", a_poll_without_end_is_stuck_and_named),
            ("the_parent_can_kill_what_no_watchdog_watches", the_parent_can_kill_what_no_watchdog_watches),
            ("a_memory_hog_dies_of_its_own_limit", a_memory_hog_dies_of_its_own_limit),
            ("memory_that_is_only_reserved_is_not_counted", memory_that_is_only_reserved_is_not_counted),
            ("an_allocation_of_more_than_may_be_reserved_fails", an_allocation_of_more_than_may_be_reserved_fails),
            ("a_stack_overflow_is_called_one", a_stack_overflow_is_called_one),
            ("of_much_output_head_and_tail_are_kept", of_much_output_head_and_tail_are_kept),
            ("lines_of_a_run_carry_time_and_node", lines_of_a_run_carry_time_and_node),
            ("a_thread_that_waits_for_nobody_is_stuck_at_once", a_thread_that_waits_for_nobody_is_stuck_at_once),
            ("what_goes_past_libc_is_an_escape", what_goes_past_libc_is_an_escape),
            ("what_goes_past_libc_and_has_an_answer_gets_it", what_goes_past_libc_and_has_an_answer_gets_it),
            ("the_kernels_files_have_room_too", the_kernels_files_have_room_too),
            ("a_process_that_libc_starts_is_an_escape", a_process_that_libc_starts_is_an_escape),
            ("outside_a_run_nothing_is_an_escape", outside_a_run_nothing_is_an_escape),
            ("a_child_misses_no_guarantee", a_child_misses_no_guarantee),
            ("children_run_side_by_side", children_run_side_by_side),
            ("children_die_with_their_parent", children_die_with_their_parent),
            ("a_second_start_fixes_addresses", a_second_start_fixes_addresses),
            ("jobs_of_several_processes_share_one_limit", jobs_of_several_processes_share_one_limit),
            (
                "who_gives_a_job_up_does_not_get_it_back_before_those_who_wait",
                who_gives_a_job_up_does_not_get_it_back_before_those_who_wait,
            ),
            (
                "ten_thousand_children_cost_less_than_ten_seconds_and_no_memory",
                ten_thousand_children_cost_less_than_ten_seconds_and_no_memory,
            ),
        ];
        super::run(facts);
    }
}

/// Runs the facts whose names contain the first argument that is no option.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn run(facts: &[(&str, fn())]) {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    for (name, fact) in facts.iter().filter(|(name, _)| name.contains(&filter)) {
        println!("{name}");
        fact();
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn main() {
    linux::main()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
fn main() {}
