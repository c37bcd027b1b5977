//! What a power loss leaves, beyond the tiny programs of `crash_states`: whole pages, failed fsyncs, bounds, replay.

use sim_core::device::Bench;
use sim_core::{Instant, NodeId};
use sim_disk::{OpenHow, Profile, SyncPoint, Taken, Volume};
use std::collections::BTreeSet;

const NODE: NodeId = NodeId(1);
const PAGE: usize = 4096;

/// A volume and the calls of a program on it.
struct Machine(Volume);

impl Machine {
    fn new(profile: Profile) -> Machine {
        Machine(Volume::new(NODE, "a", profile))
    }

    fn with<R>(&mut self, path: &str, create: bool, f: impl FnOnce(&mut Volume, sim_disk::InodeId) -> R) -> R {
        let how = OpenHow { read: true, write: create, create, ..OpenHow::default() };
        let inode = self.0.open(path.as_bytes(), how, Instant::ZERO).expect("it can be opened");
        let result = f(&mut self.0, inode);
        self.0.close(inode);
        result
    }

    fn write(&mut self, path: &str, at: usize, bytes: &[u8]) {
        self.with(path, true, |v, i| assert_eq!(v.write(i, at as u64, bytes, Instant::ZERO), Ok(bytes.len())));
    }

    fn sync(&mut self, path: &str) {
        self.with(path, false, |v, i| v.sync(i, false));
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.0.rename(from.as_bytes(), to.as_bytes(), Taken::Replace, Instant::ZERO).expect("it is there");
    }

    fn read(&mut self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.with(path, false, |v, i| v.read(i, 0, 1 << 20, &mut bytes)).expect("it is a file");
        bytes
    }

    /// A file that is durable, name and all.
    fn durable(&mut self, path: &str, bytes: &[u8]) {
        self.write(path, 0, bytes);
        self.sync(path);
        self.sync("/");
    }

    /// All files below `/` but `/tmp`: `/f=aab` with a letter for each page, or the text itself if it is short.
    fn state(&mut self) -> String {
        let mut found = Vec::new();
        let mut dirs = vec![String::from("/")];
        while let Some(dir) = dirs.pop() {
            let inode = self.0.lookup(dir.as_bytes(), true).expect("it was listed");
            for entry in self.0.read_dir(inode).expect("a directory") {
                let path = format!("{dir}{}", String::from_utf8(entry.name.clone()).expect("text"));
                if path == "/tmp" {
                    continue;
                }
                if entry.is_dir() {
                    found.push(path.clone() + "/");
                    dirs.push(path + "/");
                } else {
                    let bytes = self.read(&path);
                    found.push(format!("{path}={}", summary(&bytes)));
                }
            }
        }
        found.sort();
        found.join(" ")
    }
}

fn summary(bytes: &[u8]) -> String {
    if bytes.len() < 64 {
        return bytes.iter().map(|b| if *b == 0 { '0' } else { *b as char }).collect();
    }
    let letter = |page: &[u8]| match page.iter().all(|b| *b == page[0]) {
        true if page[0] == 0 => '0',
        true => page[0] as char,
        false => 't',
    };
    bytes.chunks(PAGE).map(letter).collect()
}

fn states(profile: Profile, seeds: u64, program: impl Fn(&mut Machine)) -> BTreeSet<String> {
    (0..seeds)
        .map(|seed| {
            let mut machine = Machine::new(profile);
            program(&mut machine);
            let mut bench = Bench::seeded(seed);
            machine.0.power_off(&mut bench.cx(NodeId::OUTSIDE));
            let state = machine.state();
            // A second power loss with nothing written since takes nothing more.
            machine.0.power_off(&mut Bench::seeded(seed + 1).cx(NodeId::OUTSIDE));
            assert_eq!(machine.state(), state);
            state
        })
        .collect()
}

#[track_caller]
fn leaves(profile: Profile, expected: &[&str], program: impl Fn(&mut Machine)) {
    let found = states(profile, 3000, &program);
    let expected: BTreeSet<String> = expected.iter().map(|s| s.to_string()).collect();
    assert_eq!(found, expected, "under {profile:?}");
}

#[track_caller]
fn leaves_under_both(expected: &[&str], program: impl Fn(&mut Machine)) {
    leaves(Profile::Linux, expected, &program);
    leaves(Profile::Strict, expected, &program);
}

#[test]
fn pages_survive_apart_and_tear_at_sectors() {
    let all: Vec<String> = ["a", "b", "t"].iter().flat_map(|x| ["a", "b", "t"].map(|y| format!("/f={x}{y}"))).collect();
    leaves_under_both(&all.iter().map(String::as_str).collect::<Vec<_>>(), |m| {
        m.durable("/f", &[b'a'; 2 * PAGE]);
        m.write("/f", 0, &[b'b'; 2 * PAGE]);
    });
}

#[test]
fn a_torn_page_is_whole_in_every_sector() {
    let mut torn = 0;
    for seed in 0..2000 {
        let mut m = Machine::new(Profile::Linux);
        m.durable("/f", &[b'a'; PAGE]);
        m.write("/f", 0, &[b'b'; PAGE]);
        let mut bench = Bench::seeded(seed);
        m.0.power_off(&mut bench.cx(NodeId::OUTSIDE));
        let bytes = m.read("/f");
        assert!(bytes.chunks(512).all(|s| s.iter().all(|b| *b == s[0] && b"ab".contains(b))));
        let counted = bench.trace.fired_counts().get("disk.torn").copied().unwrap_or(0);
        assert_eq!(counted, (summary(&bytes) == "t") as u64);
        torn += counted;
    }
    assert!(torn > 50, "{torn}");
}

#[test]
fn an_append_keeps_its_size_and_its_bytes_apart() {
    let mut all = vec!["/f=a".to_string()];
    for x in ["b", "0", "t"] {
        all.push(format!("/f=a{x}"));
        all.extend(["b", "0", "t"].map(|y| format!("/f=a{x}{y}")));
    }
    leaves_under_both(&all.iter().map(String::as_str).collect::<Vec<_>>(), |m| {
        m.durable("/f", &[b'a'; PAGE]);
        m.write("/f", PAGE, &[b'b'; 2 * PAGE]);
    });
}

#[test]
fn directories_that_change_places_never_end_up_below_themselves() {
    // Were the second move lost and the third kept, each of the two would lie in the other and both were lost.
    let found = states(Profile::Strict, 3000, |m| {
        for d in ["/a", "/b"] {
            m.0.create_dir(d.as_bytes(), 0o755, Instant::ZERO).expect("it is new");
        }
        m.sync("/");
        m.rename("/b", "/a/b");
        m.rename("/a/b", "/b");
        m.rename("/a", "/b/a");
    });
    assert_eq!(found, ["/a/ /a/b/", "/a/ /b/", "/b/ /b/a/"].map(String::from).into());
}

#[test]
fn after_a_failed_fsync_the_retry_succeeds_and_the_bytes_are_lost() {
    leaves_under_both(&["/f=a"], |m| {
        m.durable("/f", b"a");
        m.write("/f", 0, b"b");
        let fail = |v: &mut Volume, i| v.sync_fails(i, SyncPoint::NOW, 0..u64::MAX);
        m.with("/f", false, fail);
        m.sync("/f");
        assert_eq!(m.read("/f"), b"b", "the page cache still shows it");
    });
    leaves_under_both(&["/f=bc"], |m| {
        m.durable("/f", b"aa");
        m.write("/f", 0, b"b");
        m.with("/f", false, |v, i| v.sync_fails(i, SyncPoint::NOW, 0..u64::MAX));
        // Written again, the page is dirty again, and goes out whole.
        m.write("/f", 1, b"c");
        m.sync("/f");
    });
}

#[test]
fn the_calm_run_loses_nothing() {
    let mut m = Machine::new(Profile::Strict);
    m.write("/f", 0, &[b'a'; 3 * PAGE + 7]);
    m.write("/g", 5 * PAGE, b"x");
    m.rename("/g", "/h");
    let before = m.state();
    let mut bench = Bench::default();
    m.0.power_off(&mut bench.cx(NodeId::OUTSIDE));
    assert_eq!(m.state(), before);
    assert!(bench.trace.fired_counts().is_empty());
}

#[test]
fn the_same_seed_loses_the_same() {
    let program = |m: &mut Machine| {
        for i in 0..40 {
            m.write(&format!("/f{}", i % 7), i * 1000, &[b'a' + i as u8 % 26; 3000]);
            if i % 11 == 0 {
                m.rename(&format!("/f{}", i % 7), "/moved");
            }
        }
    };
    let run = |seed| {
        let mut m = Machine::new(Profile::Strict);
        program(&mut m);
        let mut bench = Bench::seeded(seed);
        m.0.power_off(&mut bench.cx(NodeId::OUTSIDE));
        let digest = bench.choices.as_ref().map(|c| c.digest());
        (m.state(), digest, bench.trace.digest())
    };
    let runs: Vec<_> = (0..50).map(run).collect();
    assert_eq!(runs, (0..50).map(run).collect::<Vec<_>>());
    assert!(runs.iter().map(|r| &r.0).collect::<BTreeSet<_>>().len() > 20);
}

#[test]
fn early_write_back_bounds_the_versions_and_keeps_the_newest() {
    let found = states(Profile::Linux, 500, |m| {
        m.durable("/f", b"0");
        for i in 0..10_000u32 {
            m.write("/f", 0, &[b'A' + (i % 50) as u8]);
        }
    });
    // At most 64 versions back: the fresh one of 10,000 is among them, the first is not.
    assert!(!found.contains("/f=0") && found.contains(&format!("/f={}", (b'A' + (9999 % 50) as u8) as char)));
    assert!(found.len() > 10, "{found:?}");
}

/// However often it was written.
#[test]
fn a_page_written_whole_again_and_again_keeps_the_durable_version_the_newest_and_some_between() {
    let letter = |i: usize| b'A' + (i % 50) as u8;
    for profile in [Profile::Linux, Profile::Strict] {
        let found = states(profile, 500, |m| {
            m.durable("/f", &[b'#'; PAGE]);
            (0..40).for_each(|i| m.write("/f", 0, &[letter(i); PAGE]));
        });
        assert!(found.contains("/f=#") && found.contains(&format!("/f={}", letter(39) as char)), "{found:?}");
        assert!(found.len() > 4, "{found:?}");
    }
    // A sync that began after the n-th write keeps that one, or one that came later.
    for n in 1..40 {
        let found = states(Profile::Linux, 60, |m| {
            m.durable("/f", &[b'#'; PAGE]);
            m.with("/f", true, |v, file| {
                let mut begun = SyncPoint::NOW;
                for i in 0..40 {
                    v.write(file, 0, &[letter(i); PAGE], Instant::ZERO).expect("room");
                    if i + 1 == n {
                        begun = v.sync_point(file);
                    }
                }
                v.sync_as_of(file, true, begun);
            });
        });
        for state in &found {
            let at_least = letter(n - 1) as char;
            assert!(state.chars().last().is_some_and(|kept| kept == 't' || kept >= at_least), "{n}: {state}");
        }
    }
}

#[test]
fn a_sync_of_a_range_keeps_its_pages_and_as_much_of_the_size_as_they_need() {
    let page = |i: usize| (i * PAGE) as u64;
    let sync = |m: &mut Machine, pages: std::ops::Range<usize>| {
        m.with("/f", false, |v, i| v.sync_range(i, true, page(pages.start)..page(pages.end)));
    };
    leaves_under_both(&["/f=ba", "/f=bb", "/f=bt"], |m| {
        m.durable("/f", &[b'a'; 2 * PAGE]);
        m.write("/f", 0, &[b'b'; 2 * PAGE]);
        sync(m, 0..1);
    });
    // One write made it grow: its size is there, or is not.
    leaves_under_both(&["/f=ab0", "/f=abb", "/f=abt"], |m| {
        m.durable("/f", &[b'a'; PAGE]);
        m.write("/f", PAGE, &[b'b'; 2 * PAGE]);
        sync(m, 1..2);
    });
    // Two did.
    leaves_under_both(&["/f=ab", "/f=ab0", "/f=abb", "/f=abt"], |m| {
        m.durable("/f", &[b'a'; PAGE]);
        m.write("/f", PAGE, &[b'b'; PAGE]);
        m.write("/f", 2 * PAGE, &[b'b'; PAGE]);
        sync(m, 1..2);
    });
    // What was cut off before stays so: the bytes that are synced came after.
    leaves_under_both(&["/f=a0b"], |m| {
        m.durable("/f", &[b'a'; 3 * PAGE]);
        m.with("/f", true, |v, i| v.set_len(i, page(1), Instant::ZERO).expect("a file"));
        m.write("/f", 2 * PAGE, &[b'b'; PAGE]);
        sync(m, 2..3);
    });
    // Nobody wrote there since it grew.
    leaves_under_both(&["/f=a00"], |m| {
        m.durable("/f", &[b'a'; PAGE]);
        m.with("/f", true, |v, i| v.set_len(i, page(3), Instant::ZERO).expect("a file"));
        sync(m, 1..3);
    });
    // A range that nobody wrote keeps nothing of the others.
    leaves_under_both(&["/f=aa", "/f=ab", "/f=at"], |m| {
        m.durable("/f", &[b'a'; 2 * PAGE]);
        m.write("/f", PAGE, &[b'b'; PAGE]);
        sync(m, 0..1);
    });
}

/// More is dirty than may be, and what was written first is on the medium before the sync: the size, too, is so after it.
#[test]
fn a_sync_of_a_range_that_was_written_back_early_keeps_the_size() {
    const PAGES: usize = (64 << 20) / PAGE;
    let (before, page) = (vec![b'a'; PAGES * PAGE], |i: usize| (i * PAGE) as u64);
    let sizes = |synced: bool| -> BTreeSet<usize> {
        let size = |(profile, seed)| {
            let mut m = Machine::new(profile);
            m.durable("/f", &before);
            m.write("/f", PAGES * PAGE, &[b'b'; PAGE]);
            m.write("/f", 0, &before);
            m.with("/f", false, |v, i| {
                assert_eq!(v.dirty_pages(i, page(PAGES)..page(PAGES + 1)), 0);
                if synced {
                    v.sync_range(i, true, page(PAGES)..page(PAGES + 1));
                }
            });
            m.0.power_off(&mut Bench::seeded(seed).cx(NodeId::OUTSIDE));
            m.with("/f", false, |v, i| v.size(i) as usize / PAGE)
        };
        [Profile::Linux, Profile::Strict]
            .into_iter()
            .flat_map(|p| (0..6).map(move |seed| (p, seed)))
            .map(size)
            .collect()
    };
    assert_eq!(sizes(false), BTreeSet::from([PAGES, PAGES + 1]));
    assert_eq!(sizes(true), BTreeSet::from([PAGES + 1]));
}

#[test]
fn what_memory_shows_is_written_where_it_differs_and_nowhere_else() {
    let shown = |m: &mut Machine, bytes: &[u8]| {
        m.with("/f", false, |v, i| v.store(i, 0, bytes, Instant::ZERO));
    };
    let mut bytes = [b'a'; 3 * PAGE];
    leaves_under_both(&["/f=aaa"], |m| {
        m.durable("/f", &[b'a'; 3 * PAGE]);
        shown(m, &bytes);
    });
    bytes[PAGE..2 * PAGE].fill(b'b');
    leaves_under_both(&["/f=aaa", "/f=aba", "/f=ata"], |m| {
        m.durable("/f", &[b'a'; 3 * PAGE]);
        shown(m, &bytes);
    });
    // In one sector: there or not, never torn. And behind the end it is nobody's.
    let mut bytes = *b"short file, long memory";
    bytes[0] = b'S';
    leaves_under_both(&["/f=short file", "/f=Short file"], |m| {
        m.durable("/f", b"short file");
        shown(m, &bytes);
    });
    // A hole shows zeros.
    leaves_under_both(&["/f=00b", "/f=00t", "/f=000"], |m| {
        m.durable("/f", b"");
        m.with("/f", true, |v, i| v.set_len(i, 3 * PAGE as u64, Instant::ZERO).expect("a file"));
        m.sync("/f");
        let mut bytes = [0; 3 * PAGE];
        bytes[2 * PAGE..].fill(b'b');
        shown(m, &bytes);
    });
}
