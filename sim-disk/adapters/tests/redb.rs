//! A short life of a redb database, and every state that a power loss leaves at each of its calls.
#![cfg(feature = "redb")]

use redb::{ReadableDatabase, TableDefinition, TableError};
use sim_core::NodeId;
use sim_disk::{Profile, Tearing, Volume};
use sim_disk_adapters::{SharedVolume, redb::File};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const TABLE: TableDefinition<u64, u64> = TableDefinition::new("t");
/// States looked at after one call; the first are those that lost least.
const STATES: usize = 64;

fn open(disk: &SharedVolume) -> redb::Database {
    let file = File::create(disk, "/db").expect("there is room");
    redb::Builder::new().create_with_backend(file).expect("it opens")
}

fn put(db: &redb::Database, value: u64, durability: redb::Durability) {
    let mut change = db.begin_write().expect("nobody else writes");
    change.set_durability(durability).expect("nothing was changed yet");
    change.open_table(TABLE).expect("a table").insert(1, value).expect("there is room");
    change.commit().expect("there is room");
}

/// The value, 0 if there is none.
fn value(disk: Volume) -> u64 {
    let db = open(&SharedVolume::new(disk));
    let read = db.begin_read().expect("it reads");
    match read.open_table(TABLE) {
        Ok(table) => table.get(1).expect("it reads").map_or(0, |found| found.value()),
        Err(TableError::TableDoesNotExist(_)) => 0,
        Err(e) => panic!("{e}"),
    }
}

/// Looks at states of the disk, and keeps what is wrong with them.
#[derive(Default)]
struct Judge {
    acknowledged: Cell<u64>,
    looked: Cell<usize>,
    wrong: RefCell<Vec<String>>,
}

impl Judge {
    /// What was acknowledged is there, or what came after it.
    fn look(&self, volume: &Volume) {
        let acknowledged = self.acknowledged.get();
        for state in volume.crash_states().take(STATES) {
            self.looked.set(self.looked.get() + 1);
            let found = value(state.volume);
            if !(acknowledged..=acknowledged + 1).contains(&found) {
                self.wrong.borrow_mut().push(format!("{found} after {acknowledged}"));
            }
        }
    }
}

/// Puts 1 and then 2, and judges after each call on the disk, and when one was acknowledged.
fn check(profile: Profile, durability: redb::Durability) -> Rc<Judge> {
    let mut volume = Volume::new(NodeId(1), "a", profile);
    volume.set_tearing(Tearing::Never);
    let disk = SharedVolume::new(volume);
    let db = open(&disk);
    // The directory once, as redb leaves it to its user.
    disk.sync_directory("/").expect("there is one");
    let judge = Rc::new(Judge::default());
    let watching = judge.clone();
    disk.after_each_change(move |volume| watching.look(volume));
    for value in [1, 2] {
        put(&db, value, durability);
        judge.acknowledged.set(value);
        // A call that changes nothing, so that somebody looks.
        disk.sync_directory("/tmp").expect("there is one");
    }
    judge
}

#[test]
fn what_redb_commits_survives_every_crash() {
    for profile in [Profile::Linux, Profile::Strict] {
        let judge = check(profile, redb::Durability::Immediate);
        assert_eq!(judge.wrong.take(), Vec::<String>::new(), "{profile:?}");
        assert!(judge.looked.get() > 100, "{} states in {profile:?}", judge.looked.get());
    }
}

/// A canary: what redb does not sync is lost.
#[test]
fn what_redb_does_not_sync_is_lost() {
    for profile in [Profile::Linux, Profile::Strict] {
        let judge = check(profile, redb::Durability::None);
        assert!(judge.wrong.borrow().contains(&"0 after 1".to_owned()), "{profile:?}: {:?}", judge.wrong);
    }
}
