//! Each engine on a simulated disk that loses power inside the engine's own calls, again and again.
//!
//! A machine makes drawn transactions. Its power goes at a drawn operation of its disk, then up to three times more while
//! it starts again. After each start the whole state must be that after some transaction; after which ones, depends on what
//! was acknowledged and on what the engine promises. What went before the database had once been opened is nobody's data.

#[cfg(feature = "sled")]
mod statics;

use engines::{Change, Error, Rows, Store};
use sim::core::choices::Ratio;
use sim::disk::{DiskFaults, Profile, Volume};
use sim::{Node, Sim};
use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

const TRANSACTIONS: u32 = 24;
/// How many more each start after a loss of power makes, and how many such starts there are at most.
const MORE: u32 = 2;
const STARTS: u32 = 4;
const KEYS: u64 = 48;
/// The longest value, by the class that a seed draws.
const LONGEST: [u64; 4] = [120, 1_500, 9_000, 70_000];
const FOLDER: &str = "/tmp";
const STORE: &str = "/tmp/store";

/// Which acknowledged transactions a loss of power may take.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "SQLite's modes make it differ"))]
enum Loses {
    Nothing,
    TheLast,
    AnyTail,
}

/// About how many operations of the disk things take; a transaction and a later start for each class of lengths.
#[derive(Clone, Copy)]
struct Operations {
    creation: u64,
    transaction: [u64; 4],
    start: [u64; 4],
}

/// When power goes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// When the machine is done.
    Done,
    /// At an operation of the disk: the so-many-th after this transaction began (number 0 is the start), or at the next
    /// fsync from there on. A disk is at that most of its time.
    Operation { transaction: u32, operation: u64, sync: bool },
}

/// An engine in one of its modes, on some disk.
#[derive(Clone, Copy)]
struct Cell {
    open: fn(&Path) -> Result<Box<dyn Store>, Error>,
    loses: Loses,
    profile: Profile,
    operations: Operations,
    /// Whether the disk says that it synced what it did not.
    lies: bool,
    /// A file whose truncation must be one step.
    truncates: Option<&'static str>,
    /// Puts the engine's static memory back to what it was.
    forgets: Option<fn()>,
    /// An error that is known and told in the README: a run that meets it is counted and goes no further.
    known: Option<&'static str>,
}

/// What came of a start: all was right, or the name of a check that failed and what was found.
type Served = Result<(), (&'static str, String)>;

/// What a test and its machine tell each other.
struct Journal {
    /// Which of [`LONGEST`].
    class: usize,
    /// The keys that each transaction changes, and the lengths of their new values.
    transactions: Vec<Vec<(u8, Option<usize>)>>,
    begun: AtomicU32,
    acknowledged: AtomicU32,
    /// Whether the database was opened once.
    created: AtomicBool,
    /// What the machine is at, and at which operation of its disk that began.
    stage: Mutex<(&'static str, u64)>,
    /// Of the test, which waits for a transaction to begin.
    waker: Mutex<Option<Waker>>,
    /// After which transaction the machine stops, and whom it tells.
    order: Mutex<Option<(u32, oneshot::Sender<Served>)>>,
}

impl Journal {
    fn draw(sim: Sim) -> Journal {
        let class = sim.choose("class of lengths", 0, 4) as usize;
        let longest = LONGEST[class];
        let mut n = 0;
        let mut change = |_| {
            n += 1;
            let drawn = sim.choose("a change", n, KEYS * 4 * longest);
            let (key, is_put, length) = (drawn % KEYS, drawn / KEYS % 4 != 3, drawn / KEYS / 4);
            (key as u8, is_put.then_some(length as usize))
        };
        let mut transaction = |i| (0..1 + sim.choose("changes of a transaction", i, 8)).map(&mut change).collect();
        Journal {
            class,
            transactions: (0..TRANSACTIONS + MORE * STARTS).map(&mut transaction).collect(),
            begun: AtomicU32::default(),
            acknowledged: AtomicU32::default(),
            created: AtomicBool::default(),
            stage: Mutex::default(),
            waker: Mutex::default(),
            order: Mutex::default(),
        }
    }

    fn changes(&self, number: u32) -> Vec<Change> {
        let change = |&(key, length): &(u8, Option<usize>)| match length {
            Some(length) => Change::Put(key, value(number, key, length)),
            None => Change::Delete(key),
        };
        self.transactions[number as usize - 1].iter().map(change).collect()
    }

    /// Whether these are the rows after this transaction.
    fn is_after(&self, number: u32, rows: &Rows) -> bool {
        let mut expected = BTreeMap::new();
        for (i, changes) in (1..=number).zip(&self.transactions) {
            for (key, length) in changes {
                match length {
                    Some(length) => expected.insert(*key, (i, *length)),
                    None => expected.remove(key),
                };
            }
        }
        let is_expected =
            |((key, found), (k, (i, length))): ((&u8, &Vec<u8>), _)| *key == k && *found == value(i, k, length);
        rows.len() == expected.len() && rows.iter().zip(expected).all(is_expected)
    }

    fn judge(&self, loses: Loses, number: u32, rows: &Rows) -> Served {
        let (acknowledged, begun) = (self.acknowledged.load(Relaxed), self.begun.load(Relaxed));
        let at_least = match loses {
            Loses::Nothing => acknowledged,
            Loses::TheLast => acknowledged.saturating_sub(1),
            Loses::AnyTail => 0,
        };
        let found = || format!("found transaction {number}; {acknowledged} acknowledged, {begun} begun");
        match () {
            () if number > begun => Err(("a transaction that was never begun", found())),
            () if !self.is_after(number, rows) => Err(("a state between transactions", found())),
            () if number < at_least => Err(("an acknowledged transaction is lost", found())),
            () => Ok(()),
        }
    }

    fn enters(&self, db: Node, stage: &'static str) {
        *self.stage.lock().unwrap() = (stage, operations(db));
    }
}

/// A value of which every eight bytes tell who wrote them.
fn value(transaction: u32, key: u8, length: usize) -> Vec<u8> {
    let word = (u64::from(transaction) << 8 | u64::from(key)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0..length.div_ceil(8) as u64).flat_map(|i| word.wrapping_add(i).to_le_bytes());
    words.take(length).collect()
}

fn operations(db: Node) -> u64 {
    Sim::current().disk(|disk, _| disk.operations(db.id()))
}

fn under_way(db: Node) -> Vec<String> {
    Sim::current().disk(|disk, _| disk.under_way(db.id()))
}

/// What the machine does at each start: it looks at what there is, and goes on from there.
fn serve(db: Node, cell: Cell, journal: &Journal, until: u32) -> Served {
    let wrong = |check| move |error: Error| (check, error.to_string());
    let is_new = !journal.created.load(Relaxed);
    journal.enters(db, if is_new { "creation" } else { "opening" });
    let mut store = match (cell.open)(Path::new(STORE)) {
        // Power went while it was made, and somebody clears away what there is.
        Err(_) if is_new => {
            clear_away().and_then(|()| (cell.open)(Path::new(STORE))).map_err(wrong("it is not made"))?
        }
        opened => opened.map_err(wrong("it does not open"))?,
    };
    if is_new {
        // POSIX keeps no name whose directory is not synced, and engines leave that to their users.
        let synced = fs::File::open(FOLDER).and_then(|folder| folder.sync_all());
        synced.map_err(|error| ("its folder is not synced", error.to_string()))?;
        journal.created.store(true, Relaxed);
    }
    let look = |store: &mut dyn Store| {
        let (number, rows) = store.read().map_err(wrong("it is not read"))?;
        journal.judge(cell.loses, number, &rows).map(|()| number)
    };
    journal.enters(db, "first look");
    let found = look(&mut *store)?;
    journal.acknowledged.store(found, Relaxed);
    for number in found + 1..=until {
        let changes = journal.changes(number);
        journal.enters(db, "transaction");
        // One that was lost in the tail of a log may come back when what was lost before it is written again.
        journal.begun.fetch_max(number, Relaxed);
        if let Some(waker) = journal.waker.lock().unwrap().take() {
            waker.wake();
        }
        store.commit(number, &changes).map_err(wrong("a transaction fails"))?;
        journal.acknowledged.store(number, Relaxed);
        // The next client comes a moment later; threads of the engine that waited for a lock have it until then.
        std::thread::sleep(Duration::from_micros(50));
    }
    journal.enters(db, "check");
    store.check().map_err(wrong("the engine's own check fails"))?;
    look(&mut *store)?;
    journal.enters(db, "closing");
    drop(store);
    journal.enters(db, "rest");
    Ok(())
}

fn clear_away() -> Result<(), Error> {
    for entry in fs::read_dir(FOLDER)? {
        let entry = entry?;
        match entry.file_name().to_string_lossy().starts_with("store") {
            true if entry.file_type()?.is_dir() => fs::remove_dir_all(entry.path())?,
            true => fs::remove_file(entry.path())?,
            false => {}
        }
    }
    Ok(())
}

/// The program of the machine: a thread that serves, as engines wait for the disk.
async fn program(db: Node, cell: Cell, journal: Arc<Journal>) {
    let (until, done) = journal.order.lock().unwrap().take().expect("an order precedes each start");
    let serving = tokio::task::spawn_blocking(move || {
        let served = catch_unwind(AssertUnwindSafe(|| serve(db, cell, &journal, until)));
        let _the_run_has_ended = done.send(served.unwrap_or_else(|panic| Err(("it panics", text_of(&*panic)))));
    });
    serving.await.expect("it catches panics");
    std::future::pending().await
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default()
}

/// Starts the machine and cuts its power at this moment. Says whether the run
/// goes on: it does not where a truncation that must be one step was taken apart, nor after a known error.
async fn start(sim: Sim, db: Node, cell: Cell, journal: &Arc<Journal>, more: u32, moment: Moment) -> bool {
    let (done, mut served) = oneshot::channel();
    *journal.order.lock().unwrap() = Some((journal.begun.load(Relaxed) + more, done));
    let mut at = matches!(moment, Moment::Operation { transaction: 0, .. }).then(|| operations(db));
    if let Some(forget) = cell.forgets {
        forget();
    }
    if db.incarnation() == 0 {
        let journal = journal.clone();
        db.start(move || program(db, cell, journal.clone()));
    } else {
        db.restart();
    }
    let ended = poll_fn(|cx| {
        if let Moment::Operation { transaction, operation, sync } = moment {
            if at.is_none() && journal.begun.load(Relaxed) >= transaction {
                at = Some(journal.stage.lock().unwrap().1);
            }
            *journal.waker.lock().unwrap() = at.is_none().then(|| cx.waker().clone());
            while let Some(since) = at
                && sim.disk(|disk, _| disk.await_operation(db.id(), since + operation, cx.waker()))
            {
                if !sync || under_way(db).iter().any(|call| call.starts_with("fsync") || call.starts_with("fdatasync"))
                {
                    return Poll::Ready(Ok(()));
                }
                at = Some(operations(db) + 1 - operation);
            }
        }
        Pin::new(&mut served).poll(cx).map(|served| served.expect("it says when it is done"))
    });
    if let Err((check, found)) = ended.await {
        if let Some(known) = cell.known.filter(|known| found.contains(known)) {
            sim.disk(|_, cx| cx.fired(db.id(), known, || format!("{check}: {found}")));
            return false;
        }
        sim.check(check, false, || found);
    }

    let (stage, since) = *journal.stage.lock().unwrap();
    let (calls, at) = (under_way(db), operations(db) - since);
    for call in &calls {
        let place = format!("power lost in {stage}, operation {at}: {call}");
        sim.disk(|_, cx| cx.fired(db.id(), place.leak(), String::new));
    }
    let len = || cell.truncates.map_or(0, |path| sim.disk(|disk, _| len_of(disk.volume(db.id()), path)));
    let was_cut = len() == 0 || calls.iter().any(|call| call.starts_with("ftruncate"));
    db.power_off();
    // POSIX does not promise that a truncation is atomic, and so the profile Strict takes it apart.
    let in_part = cell.profile == Profile::Strict && was_cut && len() > 0 && len().is_multiple_of(4096);
    if in_part {
        sim.disk(|_, cx| cx.fired(db.id(), "not judged: a truncation in part", String::new));
    }
    !in_part
}

fn len_of(volume: &mut Volume, path: &str) -> u64 {
    volume.lookup(path.as_bytes(), true).map_or(0, |inode| volume.stat(inode).len)
}

async fn run(sim: Sim, cell: Cell) {
    let db = sim.node("db");
    sim.disk(|disk, cx| {
        disk.set_profile(db.id(), cell.profile, cx);
        let sync_lie = if cell.lies { Ratio::ALWAYS } else { Ratio::NEVER };
        disk.set_faults(db.id(), DiskFaults { sync_lie, ..DiskFaults::default() }, cx);
    });
    let journal = Arc::new(Journal::draw(sim));
    let Operations { creation, transaction: each, start: later } = cell.operations;
    let operation = |n, transaction, of| Moment::Operation {
        transaction,
        operation: 1 + sim.choose("operation at which power goes", n, of),
        sync: sim.choose("whether power goes in an fsync", n, 2) == 1,
    };
    let first = match sim.choose("transaction in which power goes", 0, 2 + u64::from(TRANSACTIONS)) as u32 {
        0 => Moment::Done,
        1 => operation(0, 0, creation),
        n => operation(0, n - 1, each[journal.class]),
    };
    let mut goes_on = start(sim, db, cell, &journal, TRANSACTIONS, first).await;
    for i in 1..=sim.choose("losses during later starts", 0, u64::from(STARTS)) as u32 {
        goes_on = goes_on && start(sim, db, cell, &journal, MORE, operation(i, 0, later[journal.class])).await;
    }
    if goes_on {
        start(sim, db, cell, &journal, MORE, Moment::Done).await;
    }
}

/// What most cells are.
const CELL: Cell = Cell {
    open: engines::redb::open,
    loses: Loses::Nothing,
    profile: Profile::Linux,
    operations: Operations { creation: 40, transaction: [8, 18, 30, 36], start: [60, 115, 280, 300] },
    lies: false,
    truncates: None,
    forgets: None,
    known: None,
};

macro_rules! cells {
    ($($name:ident: $cell:expr;)*) => {$(
        mod $name {
            use super::*;

            #[sim::test(seeds = 500)]
            async fn linux(sim: Sim) {
                run(sim, $cell).await
            }

            #[sim::test(seeds = 500)]
            async fn strict(sim: Sim) {
                run(sim, Cell { profile: Profile::Strict, ..$cell }).await
            }

            #[cfg(feature = "planted")]
            #[sim::test(seeds = 50)]
            async fn lying(sim: Sim) {
                run(sim, Cell { lies: true, ..$cell }).await
            }
        }
    )*};
}

cells! { redb: CELL; }

#[cfg(feature = "fjall")]
cells! {
    fjall: Cell {
        open: engines::fjall::open,
        operations: Operations { creation: 350, transaction: [3, 3, 4, 6], start: [415, 415, 430, 520] },
        known: Some("JournalRecovery(ChecksumMismatch)"),
        ..CELL
    };
}

#[cfg(feature = "sled")]
cells! {
    sled: Cell {
        open: engines::sled::open,
        operations: Operations { creation: 40, transaction: [10, 10, 10, 10], start: [100, 100, 100, 100] },
        forgets: Some(statics::forget_sled),
        ..CELL
    };
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use engines::sqlite::{Settings, open};

    const ROLLBACK: Cell = Cell {
        open: |path| open(path, Settings { journal: "DELETE", synchronous: "EXTRA", exclusive: false }),
        operations: Operations { creation: 70, transaction: [30, 45, 70, 170], start: [116, 190, 380, 1_300] },
        ..CELL
    };
    const WAL: Cell = Cell {
        open: |path| open(path, Settings { journal: "WAL", synchronous: "FULL", exclusive: false }),
        operations: Operations { creation: 80, transaction: [6, 20, 60, 230], start: [60, 120, 370, 1_350] },
        ..CELL
    };

    cells! {
        delete_extra: ROLLBACK;
        // The journal's removal, which commits, is not synced.
        delete_full: Cell {
            open: |path| open(path, Settings { journal: "DELETE", synchronous: "FULL", exclusive: false }),
            loses: Loses::TheLast,
            ..ROLLBACK
        };
        // The truncation is the commit (sqlite.org/pragma.html#pragma_journal_mode): one step only where truncations are.
        truncate_full: Cell {
            open: |path| open(path, Settings { journal: "TRUNCATE", synchronous: "FULL", exclusive: false }),
            truncates: Some("/tmp/store-journal"),
            ..ROLLBACK
        };
        wal_full: WAL;
        wal_full_exclusive: Cell {
            open: |path| open(path, Settings { journal: "WAL", synchronous: "FULL", exclusive: true }),
            ..WAL
        };
        // The log is synced before it goes over into the file, and at no other time.
        wal_normal: Cell {
            open: |path| open(path, Settings { journal: "WAL", synchronous: "NORMAL", exclusive: false }),
            loses: Loses::AnyTail,
            ..WAL
        };
    }
    #[cfg(feature = "planted")]
    cells! {
        delete_off: Cell {
            open: |path| open(path, Settings { journal: "DELETE", synchronous: "OFF", exclusive: false }),
            ..ROLLBACK
        };
    }
}
