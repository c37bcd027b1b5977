//! Random programs with descriptors, on the device and on a real folder, a tmpfs where there is one: every result and every
//! error must be the same. `conformance.rs` is about paths, this about what is open: cursors, O_APPEND, descriptors that share
//! them, files without a name, holes, flags. On Linux only, whose errors and their order are what is modelled.
#![cfg(target_os = "linux")]

use rustix::fs::{self as real, AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags};
use sim_core::choices::{Choices, Tape};
use sim_core::device::Bench;
use sim_core::{Device, NodeId};
use sim_disk::{Allocate, Disk, Errno, FileId, Op, OpenHow, Reply, Taken};
use std::io::SeekFrom;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const NODE: NodeId = NodeId(1);

/// A small generator of its own: the calls are not choices of a run.
struct Calls(u64);

impl Calls {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..1 + self.below(8) / 6 {
            path.push('/');
            path.push_str(["a", "b", "c"][self.below(3) as usize]);
        }
        if self.one_in(12) { path + "/" } else { path }
    }

    /// Around the boundaries of pages, mostly.
    fn offset(&mut self) -> u64 {
        let near = [0, 100, 4095, 4096, 5000, 8192, 12_288, 20_000][self.below(8) as usize];
        near + self.below(3)
    }

    fn len(&mut self) -> usize {
        [0, 1, 100, 4096, 4097, 9000][self.below(6) as usize]
    }
}

/// The same program on both sides.
struct Pair {
    disk: Disk,
    bench: Bench,
    root: PathBuf,
    /// What is open: ours and theirs.
    open: Vec<(FileId, OwnedFd)>,
    /// Holes are told from data only while fallocate did nothing: ours go on taking space where one was punched, as they may,
    /// and tmpfs calls what was allocated a hole until somebody reads it.
    allocated: bool,
}

type Answer = Result<String, i32>;

fn theirs<T>(result: rustix::io::Result<T>, shown: impl FnOnce(T) -> String) -> Answer {
    result.map(shown).map_err(|e| e.raw_os_error())
}

fn done<T>(result: rustix::io::Result<T>) -> Answer {
    theirs(result, |_| "done".into())
}

fn digest(bytes: &[u8]) -> String {
    format!("{} bytes, {:x}", bytes.len(), bytes.iter().fold(7, |h, b| sim_core::hash::fold(h, *b as u64)))
}

impl Pair {
    fn new(root: &Path) -> Pair {
        std::fs::remove_dir_all(root).ok();
        std::fs::create_dir_all(root).expect("a place to work");
        let calm = Choices::from_source(0, Box::new(Tape::new([])));
        let mut bench = Bench { choices: Some(calm), ..Bench::default() };
        let mut disk = Disk::new();
        disk.node_added(NODE, "a", &mut bench.cx(NodeId::OUTSIDE));
        let mut pair = Pair { disk, bench, root: root.to_owned(), open: Vec::new(), allocated: false };
        pair.ours(Op::RemoveDir(b"/tmp".to_vec())).expect("a new disk has it");
        pair
    }

    fn real(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}{path}", self.root.display()))
    }

    fn reply(&mut self, op: Op) -> Result<Reply, Errno> {
        self.disk.call(NODE, op, &mut self.bench.cx(NODE)).1
    }

    fn ours(&mut self, op: Op) -> Answer {
        let shown = |reply| match reply {
            Reply::Done => "done".to_owned(),
            Reply::Bytes(bytes) => digest(&bytes),
            Reply::Count(n) => n.to_string(),
            Reply::Stat(stat) if stat.is_dir() => "a directory".to_owned(),
            Reply::Stat(stat) => format!("{:?}, {} bytes, {} names", stat.kind, stat.len, stat.links),
            Reply::Path(path) => String::from_utf8_lossy(&path).into_owned(),
            Reply::Opened(_) | Reply::Entries(_) => unreachable!("not asked for"),
        };
        self.reply(op).map(shown).map_err(|e| e.0)
    }

    fn open_both(&mut self, path: &str, calls: &mut Calls) -> (Answer, Answer) {
        let (read, write) = [(true, false), (true, true), (true, true), (false, true)][calls.below(4) as usize];
        let how = OpenHow {
            read,
            write,
            append: write && calls.one_in(5),
            truncate: write && calls.one_in(8),
            create: calls.one_in(2),
            exclusive: calls.one_in(8),
            directory: calls.one_in(12),
            no_follow: calls.one_in(8),
            ..OpenHow::default()
        };
        // O_CREAT with O_DIRECTORY is EINVAL since Linux 6.4 and something else before.
        let how = OpenHow { directory: how.directory && !how.create, ..how };
        let mut flags = match (read, write) {
            (true, true) => OFlags::RDWR,
            (true, false) => OFlags::RDONLY,
            _ => OFlags::WRONLY,
        };
        for (wanted, flag) in [
            (how.append, OFlags::APPEND),
            (how.truncate, OFlags::TRUNC),
            (how.create, OFlags::CREATE),
            (how.exclusive, OFlags::EXCL),
            (how.directory, OFlags::DIRECTORY),
            (how.no_follow, OFlags::NOFOLLOW),
        ] {
            flags.set(flag, wanted);
        }
        let ours = self.reply(Op::Open(path.as_bytes().to_vec(), how));
        let theirs = real::open(self.real(path), flags, Mode::from_raw_mode(0o644));
        let answers = (
            ours.as_ref().map(|_| format!("open {how:?}")).map_err(|e| e.0),
            theirs.as_ref().map(|_| format!("open {how:?}")).map_err(|e| e.raw_os_error()),
        );
        if let (Ok(Reply::Opened(file)), Ok(fd)) = (ours, theirs) {
            self.open.push((file, fd));
        }
        answers
    }

    /// One call on both sides: what it was, and both answers. `None` if there is nothing to call it on.
    fn step(&mut self, calls: &mut Calls) -> Option<(String, Answer, Answer)> {
        let (path, other) = (calls.path(), calls.path());
        let bytes = |path: &str| path.as_bytes().to_vec();
        let kind = calls.below(30);
        let on_path: Option<(&str, Op)> = match kind {
            0 => Some(("mkdir", Op::CreateDir(bytes(&path), 0o755))),
            1 => Some(("rmdir", Op::RemoveDir(bytes(&path)))),
            2 => Some(("unlink", Op::RemoveFile(bytes(&path)))),
            3 => Some(("rename", Op::Rename(bytes(&path), bytes(&other)))),
            4 => Some(("rename, not over", Op::RenameTaken(bytes(&path), bytes(&other), Taken::Refuse))),
            5 => Some(("exchange", Op::RenameTaken(bytes(&path), bytes(&other), Taken::Exchange))),
            6 => Some(("link", Op::Link(bytes(&path), bytes(&other), false))),
            7 => Some(("symlink", Op::CreateLink(b"b".to_vec(), bytes(&path)))),
            8 => Some(("stat", Op::Stat(bytes(&path)))),
            9 => Some(("truncate", Op::Truncate(bytes(&path), calls.offset()))),
            10 => Some(("readlink", Op::ReadLink(bytes(&path)))),
            _ => None,
        };
        if let Some((call, op)) = on_path {
            let (p, o) = (self.real(&path), self.real(&other));
            let flagged = |flags| done(real::renameat_with(CWD, &p, CWD, &o, flags));
            let theirs = match &op {
                Op::CreateDir(..) => done(real::mkdir(&p, Mode::from_raw_mode(0o755))),
                Op::RemoveDir(_) => done(real::rmdir(&p)),
                Op::RemoveFile(_) => done(real::unlink(&p)),
                Op::Rename(..) => done(real::rename(&p, &o)),
                Op::RenameTaken(_, _, Taken::Refuse) => flagged(RenameFlags::NOREPLACE),
                Op::RenameTaken(..) => flagged(RenameFlags::EXCHANGE),
                Op::Link(..) => done(real::linkat(CWD, &p, CWD, &o, AtFlags::empty())),
                Op::CreateLink(..) => done(real::symlink("b", &p)),
                Op::Stat(_) => theirs(real::stat(&p), stat_shown),
                Op::Truncate(_, len) => {
                    // There is no truncate(2) in rustix; std has it neither.
                    let opened = real::open(&p, OFlags::WRONLY, Mode::empty());
                    match opened {
                        Ok(fd) => done(real::ftruncate(&fd, *len)),
                        Err(error) => done::<()>(Err(error)),
                    }
                }
                Op::ReadLink(_) => theirs(real::readlink(&p, Vec::new()), |t| t.to_string_lossy().into_owned()),
                other => unreachable!("{other:?}"),
            };
            return Some((format!("{call} {path} {other}"), self.ours(op), theirs));
        }
        if kind < 15 || self.open.is_empty() {
            let (ours, theirs) = self.open_both(&path, calls);
            return Some((format!("open {path}"), ours, theirs));
        }
        let index = calls.below(self.open.len() as u64) as usize;
        let file = self.open[index].0;
        let (at, len, byte) = (calls.offset(), calls.len(), b'a' + calls.below(26) as u8);
        if kind == 15 && self.open.len() > 3 {
            let (file, _) = self.open.swap_remove(index);
            self.disk.close(file, &mut self.bench.cx(NODE));
            return None;
        }
        let op = match kind {
            15 => {
                // dup(2): the cursor is shared.
                let fd = rustix::io::dup(&self.open[index].1).expect("a descriptor is left");
                self.disk.share(file).expect("it is open");
                self.open.push((file, fd));
                return None;
            }
            16 | 17 => Op::Write(file, vec![byte; len]),
            18 | 19 => Op::WriteAt(file, at, vec![byte; len]),
            20 | 21 => Op::Read(file, len),
            22 => Op::ReadAt(file, at, len),
            23 => Op::Seek(
                file,
                [SeekFrom::Start(at), SeekFrom::Current(at as i64 - 6000), SeekFrom::End(100 - at as i64)]
                    [calls.below(3) as usize],
            ),
            24 if !self.allocated => Op::SeekData(file, at, calls.one_in(2)),
            25 => Op::SetLen(file, at),
            26 => Op::StatFile(file),
            27 => Op::Sync(file),
            28 => {
                let what = [Allocate::Space, Allocate::Hole][calls.below(2) as usize];
                self.allocated = true;
                // A hole must keep the size, and nothing has no size: fallocate(2).
                Op::Allocate(file, at, len.max(1) as u64, what, what == Allocate::Hole || calls.one_in(2))
            }
            _ => Op::ReadAt(file, 0, 1 << 16),
        };
        // What a place in a directory is, each file system says for itself.
        let is_dir = matches!(self.reply(Op::StatFile(file)), Ok(Reply::Stat(stat)) if stat.is_dir());
        if is_dir && matches!(op, Op::Seek(..) | Op::SeekData(..)) {
            return None;
        }
        let call = format!("{op:?}");
        let call = call.chars().take(120).collect();
        let fd = &self.open[index].1;
        let theirs = match &op {
            Op::Write(_, bytes) => theirs(rustix::io::write(fd, bytes), |n| n.to_string()),
            Op::WriteAt(_, at, bytes) => theirs(rustix::io::pwrite(fd, bytes, *at), |n| n.to_string()),
            Op::Read(_, len) => {
                let mut into = vec![0; *len];
                theirs(rustix::io::read(fd, &mut into[..]), |n| digest(&into[..n]))
            }
            Op::ReadAt(_, at, len) => {
                let mut into = vec![0; *len];
                theirs(rustix::io::pread(fd, &mut into[..], *at), |n| digest(&into[..n]))
            }
            Op::Seek(_, to) => {
                let to = match *to {
                    SeekFrom::Start(at) => real::SeekFrom::Start(at),
                    SeekFrom::Current(by) => real::SeekFrom::Current(by),
                    SeekFrom::End(by) => real::SeekFrom::End(by),
                };
                theirs(real::seek(fd, to), |at| at.to_string())
            }
            Op::SeekData(_, at, hole) => {
                let to = if *hole { real::SeekFrom::Hole(*at) } else { real::SeekFrom::Data(*at) };
                theirs(real::seek(fd, to), |at| at.to_string())
            }
            Op::SetLen(_, len) => done(real::ftruncate(fd, *len)),
            Op::StatFile(_) => theirs(real::fstat(fd), stat_shown),
            Op::Sync(_) => done(real::fsync(fd)),
            Op::Allocate(_, at, len, what, keep) => {
                let mut flags = FallocateFlags::empty();
                flags.set(FallocateFlags::KEEP_SIZE, *keep);
                flags.set(FallocateFlags::PUNCH_HOLE, *what == Allocate::Hole);
                done(real::fallocate(fd, flags, *at, *len))
            }
            other => unreachable!("{other:?}"),
        };
        Some((call, self.ours(op), theirs))
    }
}

fn stat_shown(stat: real::Stat) -> String {
    match real::FileType::from_raw_mode(stat.st_mode) {
        real::FileType::Directory => "a directory".to_owned(),
        real::FileType::Symlink => format!("Link, {} bytes, {} names", stat.st_size, stat.st_nlink),
        _ => format!("File, {} bytes, {} names", stat.st_size, stat.st_nlink),
    }
}

#[test]
fn random_programs_do_what_linux_does() {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    let root = base.join(format!("sim-disk-differential-{}", std::process::id()));
    let (mut compared, mut worked) = (0, 0);
    for round in 0..6000 {
        let mut pair = Pair::new(&root);
        let (mut calls, mut said) = (Calls(round), Vec::new());
        for _ in 0..60 {
            let Some((call, ours, theirs)) = pair.step(&mut calls) else { continue };
            said.push(call);
            (compared, worked) = (compared + 1, worked + theirs.is_ok() as u64);
            if ours != theirs {
                std::fs::remove_dir_all(&root).ok();
                panic!("round {round}: ours {ours:?}, Linux {theirs:?} for the last of\n{}", said.join("\n"));
            }
        }
    }
    std::fs::remove_dir_all(&root).expect("it was ours");
    assert!(compared > 300_000 && worked > 120_000, "{compared}, {worked} without an error");
}
