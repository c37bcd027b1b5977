//! The same random calls on a volume and on a directory of the real system: every result and every error must be the same.
//! On Linux only, whose errors and their order are what is modelled.
#![cfg(target_os = "linux")]

use sim_core::{Instant, NodeId};
use sim_disk::{Errno, FileKind, OpenHow, Profile, Stat, Taken, Volume};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// A small generator of its own: the calls are not choices of a run.
struct Calls(u64);

impl Calls {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// Few names, so that calls meet; with what confuses: dots, double and final slashes.
    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..1 + self.below(3) {
            path.push('/');
            path.push_str(["a", "b", "c", "a", "b", "c", ".", "..", ""][self.below(9) as usize]);
        }
        if self.below(8) == 0 {
            path.push('/');
        }
        path
    }
}

struct Real(PathBuf);

impl Real {
    /// `..` must not lead out of the directory that plays the root: such calls are left out.
    fn path(&self, path: &str) -> Option<PathBuf> {
        let mut depth = 0i32;
        for part in path.split('/') {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            if depth < 0 {
                return None;
            }
        }
        // What resolves to the root itself has a name in the real tree and none in ours.
        (depth > 0).then(|| PathBuf::from(format!("{}{path}", self.0.display())))
    }
}

fn errno<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|e| Errno(e.raw_os_error().expect("an error of the system")))
}

fn listing(mut names: Vec<(String, bool)>) -> String {
    names.sort();
    format!("{names:?}")
}

fn one_call(volume: &mut Volume, real: &Real, calls: &mut Calls) -> Option<(String, String, String)> {
    let now = Instant::ZERO;
    let (path, other) = (calls.path(), calls.path());
    let (p, b) = (real.path(&path)?, path.as_bytes());
    let mut options = std::fs::OpenOptions::new();
    let said = |call: &str, ours: String, theirs: String| Some((format!("{call} {path}"), ours, theirs));
    match calls.below(12) {
        0 => said(
            "mkdir",
            format!("{:?}", volume.create_dir(b, 0o777, now)),
            format!("{:?}", errno(std::fs::create_dir(p))),
        ),
        1 => said("rmdir", format!("{:?}", volume.remove_dir(b, now)), format!("{:?}", errno(std::fs::remove_dir(p)))),
        2 => {
            said("unlink", format!("{:?}", volume.remove_file(b, now)), format!("{:?}", errno(std::fs::remove_file(p))))
        }
        3 | 4 => {
            let to = real.path(&other)?;
            let ours = volume.rename(b, other.as_bytes(), Taken::Replace, now);
            let theirs = errno(std::fs::rename(p, to));
            said(&format!("rename to {other} of"), format!("{ours:?}"), format!("{theirs:?}"))
        }
        5 => {
            let ours = volume.lookup(b, true).and_then(|i| volume.read_dir(i)).map(|entries| {
                let name = |n: Vec<u8>| String::from_utf8(n).expect("text");
                listing(entries.into_iter().map(|e| (name(e.name.clone()), e.is_dir())).collect())
            });
            let theirs = errno(std::fs::read_dir(p)).map(|entries| {
                let entries = entries.map(|e| e.expect("listed"));
                let name = |e: &std::fs::DirEntry| e.file_name().into_string().expect("text");
                listing(entries.map(|e| (name(&e), e.file_type().expect("known").is_dir())).collect())
            });
            said("list", format!("{ours:?}"), format!("{theirs:?}"))
        }
        6 => {
            // Down only: from there `..` leads no higher than the path looks.
            let target = ["a", "b", "c", "a/b", "b/c", "./a", "c/"][calls.below(7) as usize];
            let ours = volume.create_link(target.as_bytes(), b, now);
            let theirs = errno(std::os::unix::fs::symlink(target, p));
            said(&format!("symlink to {target}"), format!("{ours:?}"), format!("{theirs:?}"))
        }
        7 => {
            let to = real.path(&other)?;
            let ours = volume.link(b, other.as_bytes(), false, now);
            let theirs = errno(std::fs::hard_link(p, to));
            said(&format!("link as {other} of"), format!("{ours:?}"), format!("{theirs:?}"))
        }
        8 => {
            let ours = volume.read_link(b).map(|t| String::from_utf8(t).expect("text"));
            let theirs = errno(std::fs::read_link(p)).map(|t| t.to_string_lossy().into_owned());
            said("readlink", format!("{ours:?}"), format!("{theirs:?}"))
        }
        9 => {
            let links = |s: Stat| (s.kind == FileKind::Link, s.is_dir(), if s.is_dir() { 0 } else { s.links });
            let follow = calls.below(2) == 0;
            let ours = volume.lookup(b, follow).map(|i| links(volume.stat(i)));
            let theirs = errno(if follow { std::fs::metadata(p) } else { std::fs::symlink_metadata(p) })
                .map(|m| (m.is_symlink(), m.is_dir(), if m.is_dir() { 0 } else { m.nlink() as u32 }));
            said("stat", format!("{ours:?}"), format!("{theirs:?}"))
        }
        _ => {
            let how = OpenHow {
                read: true,
                write: calls.below(4) > 0,
                create: calls.below(2) == 0,
                truncate: calls.below(8) == 0,
                exclusive: calls.below(8) == 0,
                ..OpenHow::default()
            };
            let how = if how.write { how } else { OpenHow { create: false, truncate: false, exclusive: false, ..how } };
            let (exclusive, create) = (how.exclusive && how.create, how.create && !how.exclusive);
            options.read(true).write(how.write).create(create).truncate(how.truncate).create_new(exclusive);
            let how = OpenHow { truncate: how.truncate && !exclusive, ..how };
            let (at, len) = (calls.below(9000), calls.below(6000) as usize);
            let (cut, byte) = (calls.below(12_000), b'a' + calls.below(26) as u8);
            let does = calls.below(3);
            let ours = volume.open(b, how, now).and_then(|inode| {
                let result = (|| {
                    match does {
                        _ if !how.write => {}
                        0 => volume.set_len(inode, cut, now)?,
                        _ => drop(volume.write(inode, at, &vec![byte; len], now)?),
                    }
                    let mut bytes = Vec::new();
                    volume.read(inode, 0, 1 << 20, &mut bytes)?;
                    Ok((bytes.len(), sim_core::hash::key(&bytes.iter().map(|b| *b as u64).collect::<Vec<_>>())))
                })();
                volume.close(inode);
                result
            });
            let theirs = errno(options.open(p)).and_then(|file| {
                match does {
                    _ if !how.write => {}
                    0 => errno(file.set_len(cut))?,
                    _ => errno(file.write_all_at(&vec![byte; len], at))?,
                }
                let mut bytes = vec![0; 1 << 16];
                let n = errno(file.read_at(&mut bytes, 0))?;
                Ok((n, sim_core::hash::key(&bytes[..n].iter().map(|b| *b as u64).collect::<Vec<_>>())))
            });
            said(&format!("open {how:?}"), format!("{ours:?}"), format!("{theirs:?}"))
        }
    }
}

#[test]
fn random_calls_give_what_linux_gives() {
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    let mut compared = 0;
    for round in 0..1000 {
        std::fs::remove_dir_all(&base).ok();
        std::fs::create_dir_all(&base).expect("a place to work");
        let real = Real(base.clone());
        let mut volume = Volume::new(NodeId(1), "a", Profile::Linux);
        volume.remove_dir(b"/tmp", Instant::ZERO).expect("a fresh volume has it");
        let mut calls = Calls(round);
        for _ in 0..120 {
            if let Some((call, ours, theirs)) = one_call(&mut volume, &real, &mut calls) {
                assert_eq!(ours, theirs, "round {round}: {call}");
                compared += 1;
            }
        }
    }
    std::fs::remove_dir_all(&base).expect("it was ours");
    assert!(compared > 80_000, "{compared}");
}
