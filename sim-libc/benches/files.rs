//! What a call about a file costs by libc's names: in a run, on a node's disk, beside the same call on a tmpfs outside of it. The
//! figures are real time; what the calls take of the virtual clock is no part of it. What counts is the ratio, of one run.

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod calls {
    use sim_core::{Choices, Settings, Spawn, World};
    use sim_libc::{files, interpose};
    use std::fs::{self, File, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::time::{Duration, Instant};

    const PAGE: usize = 4096;
    const ROUNDS: usize = 15;
    /// Pages of the file.
    const PAGES: usize = 1024;

    /// The workloads: name, bytes of a call, and what is asked for at most, in hundredths of tmpfs.
    const WORK: [(&str, Work, usize, Option<u64>); 9] = [
        ("pwrite, 100 bytes, one page", Work::Hot, 100, None),
        ("pwrite, 4 KiB, one page", Work::Hot, PAGE, Some(50)),
        ("pwrite, 4 KiB, one page, synced each time", Work::Synced, PAGE, Some(50)),
        ("pwrite, 4 KiB, a page that was synced", Work::Clean, PAGE, Some(150)),
        ("pwrite, 4 KiB, a page that never was", Work::New, PAGE, Some(150)),
        ("pwrite, 64 KiB, pages that were synced", Work::Clean, 16 * PAGE, Some(200)),
        ("pwrite, 64 KiB, pages that never were", Work::New, 16 * PAGE, Some(200)),
        ("pread, 4 KiB", Work::Read, PAGE, None),
        ("pread, 64 KiB", Work::Read, 16 * PAGE, None),
    ];

    #[derive(Clone, Copy)]
    enum Work {
        Hot,
        Synced,
        Clean,
        New,
        Read,
    }

    /// The real clock, also in a run.
    fn now() -> Instant {
        interpose::pass_through(Instant::now)
    }

    /// The least that a call took on average, of several rounds, in nanoseconds.
    fn least(path: &str, work: Work, len: usize) -> u64 {
        let how = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file: File = how.expect("a file can be made");
        let (bytes, mut into) = (vec![7; len], vec![0; len]);
        let all = vec![1; PAGES * PAGE];
        let calls = PAGES * PAGE / len.max(PAGE);
        let mut round = || -> Duration {
            match work {
                Work::New => file.set_len(0).expect("shorter"),
                _ => file.write_all_at(&all, 0).expect("room"),
            }
            file.sync_data().expect("it works");
            let mut spent = Duration::ZERO;
            let begun = now();
            for i in 0..calls {
                let at = (i * len.max(PAGE)) as u64;
                match work {
                    Work::Hot => drop(file.write_at(&bytes, 0).expect("room")),
                    Work::Clean | Work::New => drop(file.write_at(&bytes, at).expect("room")),
                    Work::Read => drop(file.read_at(&mut into, at).expect("there")),
                    Work::Synced => {
                        let begun = now();
                        file.write_at(&bytes, 0).expect("room");
                        spent += begun.elapsed_real();
                        file.sync_data().expect("it works");
                    }
                }
            }
            if spent.is_zero() { begun.elapsed_real() } else { spent }
        };
        let least = (0..ROUNDS).map(|_| round()).min().expect("some rounds");
        fs::remove_file(path).expect("there");
        (least.as_nanos() / calls as u128) as u64
    }

    trait Real {
        fn elapsed_real(self) -> Duration;
    }

    impl Real for Instant {
        fn elapsed_real(self) -> Duration {
            now().duration_since(self)
        }
    }

    /// All workloads in a run; on a thread that hands over where it waits, if it is not to be a task.
    fn in_a_run(on_a_thread: bool) -> Vec<u64> {
        let settings =
            Settings { time_limit: Duration::from_secs(1 << 40), step_limit: u64::MAX, ..Settings::default() };
        let entered = World::enter(settings, Choices::seeded(1)).expect("no run inside another");
        let world = entered.world();
        world.plug(files::disk());
        let node = world.node("a");
        let _on = interpose::enable();
        let all = move || WORK.map(|(_, work, len, _)| least("/tmp/sim-files-bench", work, len)).to_vec();
        let body = async move {
            match on_a_thread {
                true => std::thread::spawn(all).join().expect("no panic"),
                false => all(),
            }
        };
        world.block_on(node, body, Spawn::named("bench")).expect("it passes")
    }

    pub fn run() {
        let real = WORK.map(|(_, work, len, _)| least("/dev/shm/sim-files-bench", work, len));
        let (task, thread) = (in_a_run(false), in_a_run(true));
        println!(
            "{:44} {:>8} {:>8} {:>6} {:>8} {:>6} {:>6}",
            "ns for a call", "tmpfs", "task", "ratio", "thread", "ratio", "asked"
        );
        for (i, (name, _, _, asked)) in WORK.iter().enumerate() {
            let ratio = |ns: u64| format!("{}.{:02}", ns / real[i].max(1), ns * 100 / real[i].max(1) % 100);
            let asked = asked.map_or(String::new(), |most| format!("{}.{:02}", most / 100, most % 100));
            println!(
                "{name:44} {:8} {:8} {:>6} {:8} {:>6} {asked:>6}",
                real[i],
                task[i],
                ratio(task[i]),
                thread[i],
                ratio(thread[i])
            );
        }
    }
}

fn main() {
    #[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
    calls::run();
}
