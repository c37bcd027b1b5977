//! Disks over a tree that is read and never changed; links of both kinds; and what a power loss makes of them.

use sim_core::device::Bench;
use sim_core::{Instant, NodeId};
use sim_disk::{Below, BelowEntry, BelowKind, Change, Errno, FileKind, OpenHow, Profile, Stamp, Taken, User, Volume};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const NODE: NodeId = NodeId(1);
const NOW: Instant = Instant::ZERO;
const WRITE: OpenHow = OpenHow {
    read: true,
    write: true,
    append: false,
    truncate: false,
    create: true,
    exclusive: false,
    directory: false,
    no_follow: false,
    path_only: false,
    unnamed: false,
    syncs: sim_disk::WriteSync::Nothing,
    mode: 0o644,
};

/// A tree of a few files; remembers what it was asked for.
struct Tree {
    entries: BTreeMap<&'static str, BelowKind>,
    asked: RefCell<Vec<String>>,
}

impl Tree {
    fn new() -> Rc<Tree> {
        let entries = [
            ("/", BelowKind::Dir),
            ("/etc", BelowKind::Dir),
            ("/etc/hosts", BelowKind::File(5)),
            ("/etc/zone", BelowKind::Link(b"../share/utc".to_vec())),
            ("/share", BelowKind::Dir),
            ("/share/utc", BelowKind::File(10)),
            ("/dev", BelowKind::Foreign),
            ("/mounts", BelowKind::Link(b"/dev/x/mounts".to_vec())),
        ];
        Rc::new(Tree { entries: entries.into(), asked: RefCell::default() })
    }
}

impl Below for Tree {
    fn entry(&self, path: &[u8]) -> Result<Option<BelowEntry>, Errno> {
        let path = std::str::from_utf8(path).expect("text");
        self.asked.borrow_mut().push(path.to_owned());
        let mode = if path == "/share/utc" { 0o600 } else { 0o755 };
        let times = [Stamp::Wall(1_000, 0); 3];
        let made = |kind: &BelowKind| BelowEntry {
            kind: kind.clone(),
            mode,
            owner: (0, 0),
            times,
            identity: (1, path.len() as u64),
            links: 1,
        };
        Ok(self.entries.get(path).map(made))
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let dir = std::str::from_utf8(dir).expect("text").trim_end_matches('/');
        let inside = self.entries.keys().filter_map(|path| path.strip_prefix(dir)?.strip_prefix('/'));
        Ok(inside.filter(|name| !name.is_empty() && !name.contains('/')).map(|name| name.as_bytes().to_vec()).collect())
    }

    fn bytes(&self, file: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(match file {
            b"/etc/hosts" => b"below".to_vec(),
            _ => b"share/utc!".to_vec(),
        })
    }
}

fn volume(tree: &Rc<Tree>, user: u32) -> Volume {
    let user = User { user, group: user, groups: Vec::new() };
    Volume::over(tree.clone(), user, NODE, "a", Profile::Linux)
}

fn read(volume: &mut Volume, path: &str) -> Result<String, Errno> {
    let inode = volume.open(path.as_bytes(), OpenHow { read: true, ..OpenHow::default() }, NOW)?;
    let mut bytes = Vec::new();
    let result = volume.read(inode, 0, 1 << 20, &mut bytes);
    volume.close(inode);
    result.map(|()| String::from_utf8(bytes).expect("text"))
}

fn write(volume: &mut Volume, path: &str, bytes: &str) -> Result<(), Errno> {
    let inode = volume.open(path.as_bytes(), WRITE, NOW)?;
    let result = volume.write(inode, 0, bytes.as_bytes(), NOW);
    volume.close(inode);
    result.map(drop)
}

fn names(volume: &mut Volume, dir: &str) -> Vec<String> {
    let inode = volume.lookup(dir.as_bytes(), true).expect("it is there");
    let entries = volume.read_dir(inode).expect("a directory");
    let mut names: Vec<_> = entries.into_iter().map(|e| String::from_utf8(e.name).expect("text")).collect();
    names.sort();
    names
}

#[test]
fn the_tree_shows_through_until_it_is_changed_and_each_name_is_looked_up_once() {
    let tree = Tree::new();
    let mut disk = volume(&tree, 0);
    assert_eq!(read(&mut disk, "/etc/hosts"), Ok("below".into()));
    assert_eq!(read(&mut disk, "/etc/zone"), Ok("share/utc!".into()), "through a link");
    assert_eq!(disk.canonical(b"/etc/./zone"), Ok(b"/share/utc".to_vec()));
    assert_eq!(read(&mut disk, "/etc/none"), Err(Errno::ENOENT));
    assert_eq!(read(&mut disk, "/etc/none"), Err(Errno::ENOENT));
    let asked = tree.asked.borrow().clone();
    let once: BTreeSet<_> = asked.iter().collect();
    assert_eq!(once.len(), asked.len(), "{asked:?}");

    assert_eq!(write(&mut disk, "/etc/hosts", "ABOVE!"), Ok(()));
    assert_eq!(read(&mut disk, "/etc/hosts"), Ok("ABOVE!".into()));
    assert_eq!(write(&mut disk, "/etc/none", "now"), Ok(()));
    assert_eq!(names(&mut disk, "/etc"), ["hosts", "none", "zone"]);
    assert_eq!(disk.remove_file(b"/etc/zone", NOW), Ok(()));
    assert_eq!(names(&mut disk, "/etc"), ["hosts", "none"]);
    assert_eq!(disk.remove_dir(b"/share", NOW), Err(Errno::ENOTEMPTY));
    assert_eq!(disk.rename(b"/share", b"/etc/moved", Taken::Replace, NOW), Ok(()));
    assert_eq!(read(&mut disk, "/etc/moved/utc"), Ok("share/utc!".into()), "a directory takes along what lies below");
    assert_eq!(read(&mut disk, "/share/utc"), Err(Errno::ENOENT));
}

#[test]
fn a_power_loss_leaves_the_tree_or_what_was_synced() {
    let found: BTreeSet<_> = (0..200)
        .map(|seed| {
            let mut disk = volume(&Tree::new(), 0);
            write(&mut disk, "/etc/hosts", "ABOVE!").expect("it can be written");
            disk.remove_file(b"/share/utc", NOW).expect("it is there");
            disk.power_off(&mut Bench::seeded(seed).cx(NodeId::OUTSIDE));
            (read(&mut disk, "/etc/hosts").expect("never gone"), read(&mut disk, "/share/utc").is_ok())
        })
        .collect();
    let hosts: BTreeSet<_> = found.iter().map(|(hosts, _)| hosts.as_str()).collect();
    // Size and bytes are apart; what the longer size uncovers is a zero.
    assert_eq!(hosts, BTreeSet::from(["below", "ABOVE", "ABOVE!", "below\0"]));
    assert_eq!(found.iter().map(|(_, there)| *there).collect::<BTreeSet<_>>().len(), 2, "a name is there or not");
}

#[test]
fn what_is_the_systems_own_leads_out() {
    let mut disk = volume(&Tree::new(), 0);
    assert_eq!(disk.leads_out(b"/dev/null", true), Some(b"/dev/null".to_vec()));
    assert_eq!(disk.leads_out(b"/mounts", true), Some(b"/dev/x/mounts".to_vec()));
    assert_eq!(disk.leads_out(b"/etc/../mounts/1/2", true), Some(b"/dev/x/mounts/1/2".to_vec()));
    assert_eq!(disk.leads_out(b"/mounts", false), None, "the link itself is of the disk");
    assert_eq!(disk.leads_out(b"/etc/hosts", true), None);
    assert_eq!(write(&mut disk, "/dev/null", "x"), Err(Errno::EXDEV));
}

#[test]
fn permissions_bind_all_but_user_0() {
    let mut disk = volume(&Tree::new(), 1_000);
    assert_eq!(read(&mut disk, "/share/utc"), Err(Errno::EACCES));
    assert_eq!(read(&mut disk, "/etc/hosts"), Ok("below".into()));
    assert_eq!(write(&mut disk, "/etc/hosts", "x"), Err(Errno::EACCES));
    assert_eq!(disk.remove_file(b"/etc/hosts", NOW), Err(Errno::EACCES));
    let hosts = disk.lookup(b"/etc/hosts", true).expect("it is there");
    assert_eq!(disk.change(hosts, Change::Mode(0o777), NOW), Err(Errno::EPERM));
    let mut root = volume(&Tree::new(), 0);
    assert_eq!(read(&mut root, "/share/utc"), Ok("share/utc!".into()));
}

/// What of the names of `/` a power loss may leave after `program`.
fn left(profile: Profile, program: impl Fn(&mut Volume)) -> BTreeSet<String> {
    (0..200)
        .map(|seed| {
            let mut disk = Volume::new(NODE, "a", profile);
            write(&mut disk, "/a", "x").expect("new");
            let (a, root) = (disk.lookup(b"/a", true).expect("there"), disk.lookup(b"/", true).expect("there"));
            disk.sync(a, false);
            disk.sync(root, false);
            program(&mut disk);
            disk.power_off(&mut Bench::seeded(seed).cx(NodeId::OUTSIDE));
            names(&mut disk, "/").into_iter().filter(|n| n != "tmp").collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn either<const N: usize>(states: [&str; N]) -> BTreeSet<String> {
    states.map(String::from).into()
}

#[test]
fn an_unsynced_link_may_vanish_and_a_sync_keeps_it() {
    for profile in [Profile::Linux, Profile::Strict] {
        let linked = left(profile, |disk| disk.link(b"/a", b"/b", false, NOW).expect("a file"));
        assert_eq!(linked, either(["a", "a b"]), "{profile:?}");
        let moved = left(profile, |disk| {
            disk.link(b"/a", b"/b", false, NOW).expect("a file");
            disk.remove_file(b"/a", NOW).expect("there");
        });
        match profile {
            Profile::Linux => assert_eq!(moved, either(["a", "a b", "b"]), "never without a name"),
            Profile::Strict => assert_eq!(moved, either(["", "a", "a b", "b"]), "two changes, in any order"),
        }
        let synced = left(profile, |disk| {
            disk.create_link(b"a", b"/l", NOW).expect("new");
            disk.link(b"/a", b"/b", false, NOW).expect("a file");
            let root = disk.lookup(b"/", true).expect("there");
            disk.sync(root, false);
        });
        assert_eq!(synced, either(["a b l"]), "{profile:?}");
    }
    // fsync of the file keeps its names, and what came before them.
    let synced = left(Profile::Linux, |disk| {
        disk.link(b"/a", b"/b", false, NOW).expect("a file");
        let a = disk.lookup(b"/a", true).expect("there");
        disk.sync(a, false);
    });
    assert_eq!(synced, either(["a b"]));
}

#[test]
fn whatever_names_survive_they_make_a_tree() {
    let mut surviving = 0;
    for seed in 0..3_000u64 {
        let profile = if seed % 2 == 0 { Profile::Linux } else { Profile::Strict };
        let mut disk = Volume::new(NODE, "a", profile);
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..40 {
            let mut path = || {
                let part = |n: u64| ["/a", "/b", "/c", "/l"][n as usize];
                (0..1 + below(2)).map(|_| part(below(4))).collect::<String>()
            };
            let (from, to) = (path(), path());
            let (from, to) = (from.as_bytes(), to.as_bytes());
            // Many fail; which do is the conformance test's matter.
            let _ = match below(9) {
                0 | 1 => disk.create_dir(from, 0o755, NOW),
                2 => write(&mut disk, std::str::from_utf8(from).expect("text"), "x"),
                3 => disk.link(from, to, false, NOW),
                4 => disk.create_link(b"a", from, NOW),
                5 => disk.rename(from, to, Taken::Exchange, NOW),
                6 => disk.remove_file(from, NOW),
                7 => disk.lookup(from, true).map(|inode| disk.sync(inode, false)),
                _ => disk.rename(from, to, Taken::Replace, NOW),
            };
        }
        disk.power_off(&mut Bench::seeded(seed).cx(NodeId::OUTSIDE));
        let mut left = vec![String::from("/")];
        let mut links: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        while let Some(dir) = left.pop() {
            let inode = disk.lookup(dir.as_bytes(), false).expect("listed");
            for entry in disk.read_dir(inode).expect("a directory") {
                let path = format!("{dir}{}", String::from_utf8(entry.name.clone()).expect("text"));
                let inode = disk.lookup(path.as_bytes(), false).expect("listed");
                surviving += 1;
                match entry.kind {
                    FileKind::Dir => left.push(path + "/"),
                    _ => {
                        let stat = disk.stat(inode);
                        links.entry(stat.ino).or_insert((0, stat.links)).0 += 1;
                    }
                }
            }
        }
        assert!(links.values().all(|(found, said)| found == said), "seed {seed}: {links:?}");
    }
    assert!(surviving > 3_000, "{surviving}");
}
