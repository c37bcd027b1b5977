//! How a user checks a short program: every state that a power loss leaves after each of its calls, and every state that
//! another one leaves within its recovery. The program replaces a file as one should; each of its planted mistakes is found.

use sim_core::{Instant, NodeId};
use sim_disk::{InodeId, OpenHow, Profile, Taken, Volume};

const NOW: Instant = Instant::ZERO;

type Call = Box<dyn Fn(&mut Volume)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    FileNotSynced,
    DirectoryNotSynced,
    RenamedBeforeSync,
    LeftoverTrusted,
}

fn open(disk: &mut Volume, path: &str) -> InodeId {
    let how = OpenHow { read: true, write: true, create: true, ..OpenHow::default() };
    disk.open(path.as_bytes(), how, NOW).expect("there is room")
}

fn with(disk: &mut Volume, path: &str, f: impl FnOnce(&mut Volume, InodeId)) {
    let file = open(disk, path);
    f(disk, file);
    disk.close(file);
}

fn sync_root(disk: &mut Volume) {
    let root = disk.lookup(b"/", true).expect("there is one");
    disk.sync(root, false);
}

/// The calls that replace `/f` by `new`; after the last it is acknowledged.
fn replace(new: &'static [u8], mistake: Mistake) -> Vec<Call> {
    let write = move |disk: &mut Volume| with(disk, "/f.new", |d, f| assert!(d.write(f, 0, new, NOW).is_ok()));
    let sync = |disk: &mut Volume, path: &str| with(disk, path, |d, f| d.sync(f, false));
    let rename = |disk: &mut Volume| disk.rename(b"/f.new", b"/f", Taken::Replace, NOW).expect("it was written");
    let mut calls: Vec<Call> = vec![Box::new(write)];
    match mistake {
        Mistake::FileNotSynced => calls.push(Box::new(rename)),
        Mistake::RenamedBeforeSync => {
            calls.push(Box::new(rename));
            calls.push(Box::new(move |disk| sync(disk, "/f")));
        }
        _ => {
            calls.push(Box::new(move |disk| sync(disk, "/f.new")));
            calls.push(Box::new(rename));
        }
    }
    if mistake != Mistake::DirectoryNotSynced {
        calls.push(Box::new(sync_root));
    }
    calls
}

/// What runs after a power loss, call by call: what was begun is removed.
fn recovery(mistake: Mistake) -> [Call; 2] {
    let clean_up = move |disk: &mut Volume| {
        let found = disk.lookup(b"/f.new", true).is_ok();
        match mistake {
            _ if !found => {}
            Mistake::LeftoverTrusted => disk.rename(b"/f.new", b"/f", Taken::Replace, NOW).expect("it is there"),
            _ => disk.remove_file(b"/f.new", NOW).expect("it is there"),
        }
    };
    [Box::new(clean_up), Box::new(sync_root)]
}

fn read(disk: &mut Volume) -> Vec<u8> {
    let mut bytes = Vec::new();
    with(disk, "/f", |d, f| d.read(f, 0, 100, &mut bytes).expect("a file"));
    bytes
}

/// Every way in which the replacement can end wrongly, and how many states were looked at.
fn check(profile: Profile, mistake: Mistake) -> (Vec<String>, u32) {
    let (old, new) = (b"old".as_slice(), b"new".as_slice());
    let mut disk = Volume::new(NodeId(1), "a", profile);
    with(&mut disk, "/f", |d, f| assert!(d.write(f, 0, old, NOW).is_ok()));
    disk.sync_all();
    let (calls, mut wrong, mut looked) = (replace(new, mistake), Vec::new(), 0);
    for (done, call) in calls.iter().enumerate() {
        call(&mut disk);
        let acknowledged = done + 1 == calls.len();
        for crashed in disk.crash_states() {
            // The power goes again after each call of the recovery, and the next recovery runs to its end.
            let mut recovering = crashed.volume;
            for (recovered, call) in recovery(mistake).iter().enumerate() {
                call(&mut recovering);
                let shown = (recovered == 1).then(|| read(&mut recovering));
                for mut again in recovering.crash_states() {
                    looked += 1;
                    recovery(mistake).iter().for_each(|call| call(&mut again.volume));
                    let found = read(&mut again.volume);
                    let allowed = found == new || !acknowledged && found == old;
                    // What a recovery has shown, the next must not take back.
                    if !allowed || shown.as_ref().is_some_and(|shown| *shown != found) {
                        let words = |d: &sim_core::choices::Deviation| format!("{} {}", d.what, d.subject);
                        let lost: Vec<String> = crashed.lost.iter().chain(&again.lost).map(words).collect();
                        wrong.push(format!("after call {done} and {recovered} of the recovery: {found:?}; {lost:?}"));
                    }
                }
            }
        }
    }
    (wrong, looked)
}

#[test]
fn a_file_that_is_replaced_as_it_should_is_always_the_old_or_the_new_one() {
    for profile in [Profile::Linux, Profile::Strict] {
        let (wrong, looked) = check(profile, Mistake::None);
        assert_eq!(wrong, Vec::<String>::new(), "{profile:?}");
        assert!(looked > 20, "{looked}");
    }
}

#[test]
fn each_mistake_is_found_in_the_profile_that_punishes_it() {
    let found = |profile, mistake| !check(profile, mistake).0.is_empty();
    for mistake in
        [Mistake::FileNotSynced, Mistake::RenamedBeforeSync, Mistake::DirectoryNotSynced, Mistake::LeftoverTrusted]
    {
        assert!(found(Profile::Strict, mistake), "{mistake:?}");
        assert!(found(Profile::Linux, mistake), "{mistake:?}");
    }
}
