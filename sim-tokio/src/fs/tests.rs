//! Programs on simulated machines, as users write them.

use super::*;
use real::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use sim_core::choices::{Choices, Ratio};
use sim_core::{Death, NodeId, Settings, Verdict};
use sim_disk::{Disk, DiskFaults};
use std::io::{ErrorKind, SeekFrom};
use std::sync::Arc;

fn world() -> &'static World {
    World::current().expect("inside a run")
}

fn run<T>(seed: u64, body: impl Future<Output = T>) -> Result<T, Verdict> {
    let entered = World::enter(Settings::default(), Choices::seeded(seed)).expect("no World runs here yet");
    entered.world().plug(Disk::new());
    entered.world().block_on(NodeId::OUTSIDE, body, Spawn::named("test"))
}

/// Runs `program` on the node `a`.
async fn on_a<T: 'static>(program: impl Future<Output = T> + 'static) -> T {
    let group = world().node_group(world().node("a"));
    world().spawn_in(group, None, program, Spawn::named("program")).await.expect("it does not panic")
}

fn on_a_node<T: 'static>(seed: u64, program: impl Future<Output = T> + 'static) -> T {
    run(seed, on_a(program)).expect("the run passes")
}

#[test]
fn what_is_written_is_read() {
    on_a_node(1, async {
        create_dir_all("/data/deep/er").await?;
        let mut file = File::create("/data/f").await?;
        file.write_all(b"hello ").await?;
        file.write_all(b"world").await?;
        file.flush().await?;
        assert_eq!(read_to_string("data/f").await?, "hello world");
        assert_eq!(file.metadata().await?.len(), 11);
        assert_eq!(file.read(&mut [0]).await.expect_err("write only").raw_os_error(), Some(9));
        write("/data/g", "abc").await?;
        assert_eq!(copy("/data/g", "/data/h").await?, 3);
        rename("/data/h", "/data/i").await?;
        assert!(!try_exists("/data/h").await? && try_exists("/data/i").await?);
        assert_eq!(canonicalize("data/../data/./i").await?, Path::new("/data/i"));
        let mut names = Vec::new();
        let mut entries = read_dir("/data").await?;
        while let Some(entry) = entries.next_entry().await? {
            names.push((entry.file_name(), entry.file_type().await?.is_dir()));
        }
        names.sort();
        let expected = [("deep", true), ("f", false), ("g", false), ("i", false)];
        assert_eq!(names, expected.map(|(n, d)| (n.into(), d)));
        remove_dir_all("/data").await?;
        assert_eq!(metadata("/data").await.expect_err("gone").kind(), ErrorKind::NotFound);
        File::open("/").await?.sync_all().await
    })
    .expect("all of it works");
}

#[test]
fn reading_ahead_and_then_writing_happens_where_the_program_believes_to_be() {
    on_a_node(1, async {
        write("/f", "0123456789").await?;
        let mut file = File::options().read(true).write(true).open("/f").await?;
        // A read that is given up after it began leaves four bytes read and not handed out.
        let mut four = [0; 4];
        let given_up = poll_once(file.read_exact(&mut four)).await;
        assert!(given_up.is_none());
        let mut two = [0; 2];
        file.read_exact(&mut two).await?;
        assert_eq!(&two, b"01");
        file.write_all(b"XY").await?;
        file.flush().await?;
        assert_eq!(file.stream_position().await?, 4);
        assert_eq!(file.seek(SeekFrom::End(-1)).await?, 9);
        file.set_len(5).await?;
        assert_eq!(read_to_string("/f").await?, "01XY4");
        io::Result::Ok(())
    })
    .expect("all of it works");
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[test]
fn a_write_goes_on_when_its_file_is_dropped() {
    let text = on_a_node(1, async {
        let mut file = File::create("/f").await?;
        file.write_all(b"abc").await?;
        drop(file);
        let before = read("/f").await?.len();
        sim_core::time::Timer::new(world().now() + std::time::Duration::from_millis(10)).await;
        read_to_string("/f").await.map(|text| (before, text))
    });
    let (before, text) = text.expect("it is there");
    assert_eq!(text, "abc");
    assert!(before == 0 || before == 3);
}

#[test]
fn a_failed_write_shows_at_the_next_call() {
    on_a_node(1, async {
        let mut file = File::create("/f").await?;
        let node = world().acting_node();
        let faults = DiskFaults { write_error: Ratio::ALWAYS, ..DiskFaults::default() };
        sim_disk::control(|disk, cx| disk.set_faults(node, faults, cx));
        assert_eq!(file.write(b"abc").await?, 3, "it has not reached the file yet");
        file.sync_all().await?;
        assert!(file.write(b"abc").await.is_err());
        file.write_all(b"abc").await?;
        assert_eq!(file.flush().await.expect_err("EIO").raw_os_error(), Some(5));
        file.flush().await
    })
    .expect("the error was reported once");
}

#[test]
fn bad_combinations_are_refused_as_std_does() {
    on_a_node(1, async {
        for (r, w, a, t, c, n) in (0..64).map(|m| (m & 1, m & 2, m & 4, m & 8, m & 16, m & 32)) {
            let mut ours = OpenOptions::new();
            let mut std = std::fs::OpenOptions::new();
            ours.read(r > 0).write(w > 0).append(a > 0).truncate(t > 0).create(c > 0).create_new(n > 0);
            std.read(r > 0).write(w > 0).append(a > 0).truncate(t > 0).create(c > 0).create_new(n > 0);
            // A directory that does not exist: what is not refused at once finds nothing.
            let ours = ours.open("/no/such/dir").await.expect_err("nothing is there").kind();
            let std = std.open("/no/such/dir").expect_err("nothing is there").kind();
            assert_eq!(ours, std, "{r} {w} {a} {t} {c} {n}");
        }
    });
}

#[test]
fn a_synced_file_survives_the_power_and_a_destructor_of_the_dead_writes_nothing() {
    struct WritesWhenDropped(Option<Arc<File>>);
    impl Drop for WritesWhenDropped {
        fn drop(&mut self) {
            let file = Arc::into_inner(self.0.take().expect("once")).expect("the only one");
            let mut write = Box::pin(async move {
                let mut file = file;
                file.write_all(b"late").await?;
                self::write("/late", "late").await
            });
            let polled = write.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(matches!(polled, std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending));
        }
    }
    for how in [Death::Kill, Death::PowerOff] {
        let read = run(3, async move {
            let node = world().node("a");
            let program = async {
                let mut file = File::create("/f").await.expect("created");
                file.write_all(b"abc").await.expect("written");
                file.sync_all().await.expect("synced");
                let _at_the_end = WritesWhenDropped(Some(Arc::new(file)));
                std::future::pending::<()>().await
            };
            let handle = world().spawn_in(world().node_group(node), None, program, Spawn::named("writer"));
            sim_core::time::Timer::new(world().now() + std::time::Duration::from_secs(1)).await;
            world().end_node(node, how);
            assert!(handle.await.expect_err("dead").is_cancelled());
            let reader = || async {
                let found =
                    (read_to_string("/f").await.expect("it is durable"), try_exists("/late").await.expect("works"));
                FOUND.with(|f| *f.borrow_mut() = Some(found));
                std::future::pending().await
            };
            world().start(node, sim_core::program(reader), Spawn::named("reader"));
            sim_core::time::Timer::new(world().now() + std::time::Duration::from_secs(1)).await;
            FOUND.with(|f| f.take()).expect("the reader came so far")
        });
        assert_eq!(read.expect("the run passes"), ("abc".to_string(), false));
    }
}

thread_local! {
    static FOUND: std::cell::RefCell<Option<(String, bool)>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn the_body_of_a_test_has_no_disk() {
    let Err(Verdict::Panicked { message, .. }) = run(1, read("/f")) else { panic!("it is a misuse") };
    assert!(message.contains("open outside the machines") && message.contains("sim.node(\"x\").run("), "{message}");
}

#[test]
fn outside_a_run_it_panics_as_tokio_does() {
    let panic = std::panic::catch_unwind(|| drop(sim_disk::submit(Op::Stat(b"/".to_vec())))).expect_err("no run");
    let message = panic.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("there is no reactor running"), "{message}");
}
