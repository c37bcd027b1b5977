//! The device: the disks of all nodes, their open files, and the operations under way.
//!
//! An operation is one system call. When it is submitted, its latency and its faults are drawn; when its event comes, it
//! takes effect and answers. So operations of several tasks overlap, and a write that was under way when its
//! program died may or may not have reached the page cache.
//!
//! | operation | base latency | source |
//! |---|---|---|
//! | open, stat, rename, … | 10 µs | a warm system call behind a thread pool's hand-over |
//! | read | 15 µs, 1 µs for each 8 KiB | page cache |
//! | write | 10 µs, 1 µs for each 4 KiB | page cache |
//! | fsync, fdatasync | 500 µs, 2 µs for each dirty page | NVMe without power-loss protection |
//! | seek | 1 µs | no I/O |
//!
//! To that one operation in sixteen adds a tail, up to 32 times its base, every power of two equally likely.

use crate::model::below::Below;
use crate::model::crash::Profile;
use crate::model::errno::Errno;
use crate::model::faults::DiskFaults;
use crate::model::inode::{Entry, InodeId, Stat, User};
use crate::model::locks::{Holder, RangeLock};
use crate::model::volume::{Allocate, Change, OpenHow, Taken, Volume};
use sim_core::choices::{Law, Ratio, Stream};
use sim_core::events::EventId;
use sim_core::{Death, Device, DeviceCx, Instant, NodeId, hash};
use slab::Slab;
use std::io::SeekFrom;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// The greatest tail, in bases.
const TAIL_MAX: u64 = 32;

/// An open file description: its cursor is shared by all handles that were cloned from one another.
///
/// Names one and no other: a name from an earlier incarnation, or from another run, names nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    disk: u32,
    slot: u32,
    generation: u32,
}

/// An operation under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId {
    disk: u32,
    slot: u32,
    generation: u32,
}

/// A system call on files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// open(2) → [`Reply::Opened`].
    Open(Vec<u8>, OpenHow),
    /// read(2) at the cursor, which moves → [`Reply::Bytes`], empty at the end.
    Read(FileId, usize),
    /// pread(2) → [`Reply::Bytes`].
    ReadAt(FileId, u64, usize),
    /// write(2) at the cursor, which moves, or at the end → [`Reply::Count`], fewer than given if the disk fills up.
    Write(FileId, Vec<u8>),
    /// pwrite(2) → [`Reply::Count`]. At the end if the file was opened to append, as on Linux.
    WriteAt(FileId, u64, Vec<u8>),
    /// lseek(2) → [`Reply::Count`], the new cursor.
    Seek(FileId, SeekFrom),
    /// lseek(2) with SEEK_DATA, or SEEK_HOLE if true → [`Reply::Count`], the new cursor.
    SeekData(FileId, u64, bool),
    /// ftruncate(2).
    SetLen(FileId, u64),
    /// truncate(2).
    Truncate(Vec<u8>, u64),
    /// fallocate(2): offset and length, and whether the size stays.
    Allocate(FileId, u64, u64, Allocate, bool),
    /// fsync(2).
    Sync(FileId),
    /// fdatasync(2).
    SyncData(FileId),
    /// fstat(2) → [`Reply::Stat`].
    StatFile(FileId),
    /// stat(2) → [`Reply::Stat`].
    Stat(Vec<u8>),
    /// lstat(2) → [`Reply::Stat`].
    StatLink(Vec<u8>),
    /// access(2), with the bits of R_OK, W_OK and X_OK; if true, of what a symbolic link leads to.
    Access(Vec<u8>, u32, bool),
    /// getdents(2) of a whole directory → [`Reply::Entries`].
    ReadDir(Vec<u8>),
    /// The same of a directory that is open.
    ReadDirFile(FileId),
    /// mkdir(2), with these permissions.
    CreateDir(Vec<u8>, u32),
    /// symlink(2): the target, then the link.
    CreateLink(Vec<u8>, Vec<u8>),
    /// bind(2) of a Unix socket, with these permissions → [`Reply::Stat`].
    CreateSocket(Vec<u8>, u32),
    /// readlink(2) → [`Reply::Path`].
    ReadLink(Vec<u8>),
    /// link(2); if true, of what a symbolic link leads to.
    Link(Vec<u8>, Vec<u8>, bool),
    /// linkat(2) with AT_EMPTY_PATH.
    LinkFile(FileId, Vec<u8>),
    /// unlink(2).
    RemoveFile(Vec<u8>),
    /// rmdir(2).
    RemoveDir(Vec<u8>),
    /// rename(2).
    Rename(Vec<u8>, Vec<u8>),
    /// renameat2(2).
    RenameTaken(Vec<u8>, Vec<u8>, Taken),
    /// chmod(2), chown(2), utimensat(2); if true, of what a symbolic link leads to.
    Change(Vec<u8>, Change, bool),
    /// fchmod(2), fchown(2), futimens(2).
    ChangeFile(FileId, Change),
    /// realpath(3) → [`Reply::Path`].
    Canonical(Vec<u8>),
}

/// What a system call answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It succeeded, and there is nothing to say.
    Done,
    /// A file was opened; whoever takes this closes it.
    Opened(FileId),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A number of bytes, or a position.
    Count(u64),
    /// What is known of a file.
    Stat(Stat),
    /// The entries of a directory.
    Entries(Vec<Entry>),
    /// A path.
    Path(Vec<u8>),
}

/// What kind of operation it is: its latency, its faults, its name in reports.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Read,
    Write,
    Sync,
    Name,
    Free,
}

impl Op {
    fn class(&self) -> Class {
        match self {
            Op::Read(..) | Op::ReadAt(..) => Class::Read,
            Op::Write(..) | Op::WriteAt(..) | Op::SetLen(..) | Op::Truncate(..) | Op::Allocate(..) => Class::Write,
            Op::Sync(_) | Op::SyncData(_) => Class::Sync,
            Op::Seek(..) | Op::SeekData(..) => Class::Free,
            _ => Class::Name,
        }
    }

    /// The name of the system call.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Open(..) => "open",
            Op::Read(..) => "read",
            Op::ReadAt(..) => "pread",
            Op::Write(..) => "write",
            Op::WriteAt(..) => "pwrite",
            Op::Seek(..) | Op::SeekData(..) => "lseek",
            Op::SetLen(..) => "ftruncate",
            Op::Truncate(..) => "truncate",
            Op::Allocate(..) => "fallocate",
            Op::Sync(_) => "fsync",
            Op::SyncData(_) => "fdatasync",
            Op::StatFile(_) => "fstat",
            Op::Stat(_) => "stat",
            Op::StatLink(_) => "lstat",
            Op::Access(..) => "access",
            Op::ReadDir(_) | Op::ReadDirFile(_) => "getdents",
            Op::CreateDir(..) => "mkdir",
            Op::CreateLink(..) => "symlink",
            Op::CreateSocket(..) => "bind",
            Op::ReadLink(_) => "readlink",
            Op::Link(..) | Op::LinkFile(..) => "link",
            Op::RemoveFile(_) => "unlink",
            Op::RemoveDir(_) => "rmdir",
            Op::Rename(..) | Op::RenameTaken(..) => "rename",
            Op::Change(_, change, _) | Op::ChangeFile(_, change) => match change {
                Change::Mode(_) => "chmod",
                Change::Owner(..) => "chown",
                Change::Times(..) => "utimensat",
            },
            Op::Canonical(_) => "realpath",
        }
    }

    fn file(&self) -> Option<FileId> {
        match self {
            Op::Read(f, _) | Op::ReadAt(f, ..) | Op::Write(f, _) | Op::WriteAt(f, ..) | Op::Seek(f, _) => Some(*f),
            Op::SetLen(f, _) | Op::Sync(f) | Op::SyncData(f) | Op::StatFile(f) => Some(*f),
            Op::SeekData(f, ..) | Op::Allocate(f, ..) | Op::ReadDirFile(f) => Some(*f),
            Op::LinkFile(f, _) | Op::ChangeFile(f, _) => Some(*f),
            _ => None,
        }
    }

    fn path(&self) -> &[u8] {
        match self {
            Op::Open(path, _) | Op::Stat(path) | Op::ReadDir(path) | Op::CreateDir(path, _) => path,
            Op::CreateSocket(path, _) => path,
            Op::StatLink(path) | Op::Access(path, ..) | Op::Truncate(path, _) | Op::CreateLink(_, path) => path,
            Op::ReadLink(path) | Op::Link(path, ..) | Op::RenameTaken(path, ..) | Op::Change(path, ..) => path,
            Op::RemoveFile(path) | Op::RemoveDir(path) | Op::Rename(path, _) | Op::Canonical(path) => path,
            _ => b"/",
        }
    }

    /// Whether a death of the program leaves open if it took effect.
    fn changes_something(&self) -> bool {
        match self {
            Op::Open(_, how) => how.create || how.truncate,
            Op::Write(..) | Op::WriteAt(..) | Op::SetLen(..) | Op::Sync(_) | Op::SyncData(_) => true,
            Op::CreateDir(..) | Op::RemoveFile(_) | Op::RemoveDir(_) | Op::Rename(..) | Op::RenameTaken(..) => true,
            Op::CreateSocket(..) => true,
            Op::CreateLink(..) | Op::Link(..) | Op::LinkFile(..) | Op::Truncate(..) | Op::Allocate(..) => true,
            Op::Change(..) | Op::ChangeFile(..) => true,
            _ => false,
        }
    }
}

struct OpenFile {
    generation: u32,
    node: NodeId,
    inode: InodeId,
    cursor: u64,
    how: OpenHow,
    /// Handles that share it.
    handles: u32,
}

impl OpenFile {
    fn read(&self, volume: &Volume, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if !self.how.read {
            return Err(Errno::EBADF);
        }
        let mut bytes = Vec::new();
        volume.read(self.inode, at, len, &mut bytes).map(|()| bytes)
    }

    /// Where it wrote, and how much. O_APPEND wins over an offset: pwrite(2), BUGS.
    fn write(&self, volume: &mut Volume, at: u64, bytes: &[u8], now: Instant) -> Result<(u64, usize), Errno> {
        if !(self.how.write || self.how.append) {
            return Err(Errno::EBADF);
        }
        let at = if self.how.append { volume.size(self.inode) } else { at };
        volume.write(self.inode, at, bytes, now).map(|n| (at, n))
    }
}

enum State {
    /// Its event is to come. With what was drawn when it was submitted.
    UnderWay {
        op: Op,
        event: EventId,
        fate: Fate,
    },
    Answered(Result<Reply, Errno>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    Fails,
    Lies,
}

/// How an operation goes, and the address of its questions.
struct Drawn {
    latency: Duration,
    fate: Fate,
    key: u64,
    n: u32,
}

struct InFlight {
    generation: u32,
    node: NodeId,
    /// The open file it is about, kept open while it is under way, as the kernel keeps a file during a call.
    file: Option<FileId>,
    /// The address of its questions.
    key: u64,
    n: u32,
    state: State,
    waker: Option<Waker>,
    /// Nobody waits for the answer any more.
    detached: bool,
}

/// A node's disk and its faults.
struct Drive {
    volume: Volume,
    faults: DiskFaults,
}

/// The disks of a World. Plugged in once; each node gets its own when it is added.
pub struct Disk {
    /// Tells disks of this process apart, so that a handle that outlived its run means nothing in the next.
    number: u32,
    profile: Profile,
    /// What lies under every disk, and who the programs are.
    below: Option<(Rc<dyn Below>, User)>,
    drives: Vec<Option<Drive>>,
    files: Slab<OpenFile>,
    operations: Slab<InFlight>,
    generation: u32,
    /// Who waits for a lock of any file. All are woken when one is given up, in the order they came.
    lock_waiters: Vec<Waker>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk::new()
    }
}

impl Disk {
    /// Disks under the profile [`Linux`](Profile::Linux).
    pub fn new() -> Disk {
        Disk::with_profile(Profile::default())
    }

    /// Disks under `profile`.
    pub fn with_profile(profile: Profile) -> Disk {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        Disk {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            profile,
            below: None,
            drives: Vec::new(),
            files: Slab::new(),
            operations: Slab::new(),
            generation: 0,
            lock_waiters: Vec::new(),
        }
    }

    /// Disks over the tree `below`, for programs of `user`: each node sees its own changes of it and nobody else's. The
    /// outside has one too, without latency and faults.
    pub fn over(below: Rc<dyn Below>, user: User) -> Disk {
        let mut disk = Disk { below: Some((below, user)), ..Disk::new() };
        disk.add_drive(NodeId::OUTSIDE, "-");
        disk
    }

    /// Whether the disks lie over another tree.
    pub fn is_over(&self) -> bool {
        self.below.is_some()
    }

    fn add_drive(&mut self, node: NodeId, name: &str) {
        let index = node.0 as usize;
        if self.drives.len() <= index {
            self.drives.resize_with(index + 1, || None);
        }
        let volume = match &self.below {
            Some((below, user)) => Volume::over(below.clone(), user.clone(), node, name, self.profile),
            None => Volume::new(node, name, self.profile),
        };
        self.drives[index] = Some(Drive { volume, faults: DiskFaults::default() });
    }

    // ---- control --------------------------------------------------------------------------------------------------

    /// Replaces the faults of a node's disk. Operations under way keep what was drawn for them.
    pub fn set_faults(&mut self, node: NodeId, faults: DiskFaults, cx: &mut DeviceCx<'_>) {
        let drive = self.drive(node);
        drive.faults = faults;
        drive.volume.full = faults.full;
        cx.event(node, "disk.faults", || format!("{faults:?}"));
    }

    /// The faults of a node's disk.
    pub fn faults(&mut self, node: NodeId) -> DiskFaults {
        self.drive(node).faults
    }

    /// Makes a node's disk healthy. What was damaged stays so; the capacity stays too.
    pub fn heal(&mut self, node: NodeId, cx: &mut DeviceCx<'_>) {
        self.set_faults(node, DiskFaults::default(), cx);
    }

    /// Sets the capacity of a node's disk, in bytes.
    pub fn set_capacity(&mut self, node: NodeId, bytes: u64, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_capacity(bytes);
        cx.event(node, "disk.capacity", || format!("{bytes} bytes"));
    }

    /// Sets what the file system of a node promises.
    pub fn set_profile(&mut self, node: NodeId, profile: Profile, cx: &mut DeviceCx<'_>) {
        self.drive(node).volume.set_profile(profile);
        cx.event(node, "disk.profile", || format!("{profile:?}"));
    }

    /// A node's files, to look at.
    pub fn volume(&mut self, node: NodeId) -> &mut Volume {
        &mut self.drive(node).volume
    }

    fn drive(&mut self, node: NodeId) -> &mut Drive {
        let drive = self.drives.get_mut(node.0 as usize).and_then(|d| d.as_mut());
        drive.expect("every node has a disk; the outside has one only over another tree")
    }

    // ---- operations -----------------------------------------------------------------------------------------------

    /// Begins a system call of `node`. A call about a file that is not open any more does nothing and is EBADF at once.
    pub fn submit(&mut self, node: NodeId, op: Op, cx: &mut DeviceCx<'_>) -> Result<OpId, Errno> {
        let file = op.file();
        let drawn = self.draw(node, &op, cx)?;
        if let Some(open) = file.and_then(|f| self.file(f)) {
            open.handles += 1;
        }
        self.generation += 1;
        let generation = self.generation;
        let entry = self.operations.vacant_entry();
        let slot = entry.key() as u32;
        let event = cx.schedule(cx.now + drawn.latency, (generation as u64) << 32 | slot as u64);
        let Drawn { key, n, fate, .. } = drawn;
        let state = State::UnderWay { op, event, fate };
        entry.insert(InFlight { generation, node, file, key, n, state, waker: None, detached: false });
        Ok(OpId { disk: self.number, slot, generation })
    }

    /// Makes a system call of `node` that takes effect at once, and says how long it takes: for a caller that cannot wait, and
    /// lets the time pass itself. Outside the machines it takes none, and no fault strikes it.
    pub fn call(&mut self, node: NodeId, op: Op, cx: &mut DeviceCx<'_>) -> (Duration, Result<Reply, Errno>) {
        if node == NodeId::OUTSIDE {
            return match op.file().is_some_and(|f| self.file(f).is_none()) {
                true => (Duration::ZERO, Err(Errno::EBADF)),
                false => (Duration::ZERO, self.perform(node, op, Fate::Works, cx)),
            };
        }
        match self.draw(node, &op, cx) {
            Ok(drawn) => (drawn.latency, self.perform(node, op, drawn.fate, cx)),
            Err(error) => (Duration::ZERO, Err(error)),
        }
    }

    /// Asks how long an operation takes and how it ends.
    fn draw(&mut self, node: NodeId, op: &Op, cx: &mut DeviceCx<'_>) -> Result<Drawn, Errno> {
        let open = match op.file() {
            Some(file) => {
                let open = self.file(file).ok_or(Errno::EBADF)?;
                assert!(
                    open.node == node,
                    "{}: a program used a file that a program of another node opened",
                    op.name()
                );
                Some(open.inode)
            }
            None => None,
        };
        let drive = self.drive(node);
        let (volume, faults) = (&mut drive.volume, drive.faults);
        let subject = open.unwrap_or_else(|| volume.subject(op.path()));
        let (file_key, n) = volume.next_operation(subject);

        let (latency_key, error_key, stall_key) = (file_key, hash::key(&[file_key, 1]), hash::key(&[file_key, 2]));
        let words = |what: &str| format!("disk {} {} {what}", volume.node_name(), volume.born_as(subject));
        cx.choices.name_key(latency_key, || words("latency"));
        cx.choices.name_key(error_key, || words("errors"));
        cx.choices.name_key(stall_key, || words("stalls"));

        let fate = draw_fate(op.class(), &faults, error_key, n, cx);
        let base_ns = match op {
            Op::Read(_, len) | Op::ReadAt(_, _, len) => 15_000 + (*len as u64).min(volume.size(subject)) / 8,
            Op::Write(_, bytes) | Op::WriteAt(_, _, bytes) => 10_000 + bytes.len() as u64 / 4,
            Op::Sync(_) | Op::SyncData(_) => 500_000 + 2_000 * volume.dirty_pages(subject),
            Op::Seek(..) | Op::SeekData(..) => 1_000,
            _ => 10_000,
        };
        let law = Law::Rare { p: Ratio::new(1, 16), max: TAIL_MAX * 64 };
        let tail = cx.ask(Stream::DISK, latency_key, n, law, "latency of a disk operation");
        let mut latency_ns = base_ns + base_ns / 64 * tail;
        if faults.slow_factor > 1 {
            latency_ns = latency_ns.saturating_mul(faults.slow_factor as u64);
            cx.fired(node, "disk.slow", || format!("{} {}", op.name(), words("")));
        }
        if cx.ask(Stream::DISK, stall_key, n, Law::Chance(faults.stall), "whether a disk operation stalls") != 0 {
            latency_ns = latency_ns.saturating_add(sim_core::nanos(faults.stall_for));
            cx.fired(node, "disk.stall", || format!("{} {}", op.name(), words("")));
        }
        let latency = Duration::from_nanos(latency_ns);
        match op.class() {
            Class::Read => cx.metrics.latency(|| format!("read {}", volume.node_name()), latency),
            Class::Write => cx.metrics.latency(|| format!("write {}", volume.node_name()), latency),
            Class::Sync => cx.metrics.latency(|| format!("fsync {}", volume.node_name()), latency),
            Class::Name | Class::Free => {}
        }
        Ok(Drawn { latency, fate, key: file_key, n })
    }

    /// The answer of an operation, once; until then `waker` is kept and woken when there is one. An operation that died
    /// with its program answers EIO.
    pub fn poll(&mut self, id: OpId, waker: &Waker) -> Poll<Result<Reply, Errno>> {
        let Some(operation) = self.operation(id) else { return Poll::Ready(Err(Errno::EIO)) };
        if let State::UnderWay { .. } = operation.state {
            match &mut operation.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        let State::Answered(answer) = self.operations.remove(id.slot as usize).state else {
            unreachable!("it is not under way")
        };
        Poll::Ready(answer)
    }

    /// Nobody waits for the answer any more; the operation goes on, as a system call does.
    pub fn detach(&mut self, id: OpId, cx: &mut DeviceCx<'_>) {
        let Some(operation) = self.operation(id) else { return };
        match operation.state {
            State::UnderWay { .. } => {
                operation.detached = true;
                operation.waker = None;
            }
            State::Answered(_) => {
                if let State::Answered(Ok(Reply::Opened(file))) = self.operations.remove(id.slot as usize).state {
                    self.close(file, cx);
                }
            }
        }
    }

    fn operation(&mut self, id: OpId) -> Option<&mut InFlight> {
        let found = self.operations.get_mut(id.slot as usize);
        found.filter(|o| o.generation == id.generation && id.disk == self.number)
    }

    /// The operation takes effect and answers.
    fn complete(&mut self, slot: usize, cx: &mut DeviceCx<'_>) {
        let operation = &mut self.operations[slot];
        let State::UnderWay { op, fate, .. } =
            std::mem::replace(&mut operation.state, State::Answered(Err(Errno::EIO)))
        else {
            unreachable!("an operation completes once")
        };
        let (node, file) = (operation.node, operation.file);
        let answer = self.perform(node, op, fate, cx);
        if let Some(file) = file {
            self.close(file, cx);
        }
        let operation = &mut self.operations[slot];
        operation.state = State::Answered(answer);
        if operation.detached {
            if let State::Answered(Ok(Reply::Opened(file))) = self.operations.remove(slot).state {
                self.close(file, cx);
            }
        } else if let Some(waker) = operation.waker.take() {
            cx.wake(waker);
        }
    }

    fn perform(&mut self, node: NodeId, op: Op, fate: Fate, cx: &mut DeviceCx<'_>) -> Result<Reply, Errno> {
        let number = self.number;
        let open = op.file().and_then(|f| {
            self.files.get_mut(f.slot as usize).filter(|o| f.disk == number && o.generation == f.generation)
        });
        let drive = self.drives[node.0 as usize].as_mut().expect("it had a disk when the operation began");
        let (volume, now, name) = (&mut drive.volume, cx.now, op.name());
        if fate == Fate::Fails {
            let inode = open.map(|o| o.inode);
            let subject = inode.unwrap_or_else(|| volume.subject(op.path()));
            if op.class() == Class::Sync {
                volume.sync_fails(subject);
            }
            cx.fired(node, "disk.eio", || format!("{name} {}", volume.born_as(subject)));
            return Err(Errno::EIO);
        }
        let wanted = match &op {
            Op::Write(_, bytes) | Op::WriteAt(_, _, bytes) => bytes.len() as u64,
            _ => 0,
        };
        let result = match (op, open) {
            (Op::Open(path, how), _) => {
                return volume.open(&path, how, now).map(|inode| {
                    cx.event(node, "disk.open", || format!("{} {how:?}", volume.shown(&path)));
                    self.generation += 1;
                    let generation = self.generation;
                    let slot = self.files.insert(OpenFile { generation, node, inode, cursor: 0, how, handles: 1 });
                    Reply::Opened(FileId { disk: number, slot: slot as u32, generation })
                });
            }
            (Op::Read(_, len), Some(open)) => open.read(volume, open.cursor, len).map(|bytes| {
                open.cursor += bytes.len() as u64;
                Reply::Bytes(bytes)
            }),
            (Op::ReadAt(_, at, len), Some(open)) => open.read(volume, at, len).map(Reply::Bytes),
            (Op::Write(_, bytes), Some(open)) => open.write(volume, open.cursor, &bytes, now).map(|(at, n)| {
                open.cursor = at + n as u64;
                Reply::Count(n as u64)
            }),
            (Op::WriteAt(_, at, bytes), Some(open)) => {
                open.write(volume, at, &bytes, now).map(|(_, n)| Reply::Count(n as u64))
            }
            (Op::Seek(_, to), Some(open)) => {
                let target = match to {
                    SeekFrom::Start(at) => i64::try_from(at).ok(),
                    SeekFrom::Current(by) => (open.cursor as i64).checked_add(by),
                    SeekFrom::End(by) => (volume.size(open.inode) as i64).checked_add(by),
                };
                target.and_then(|t| u64::try_from(t).ok()).ok_or(Errno::EINVAL).map(|at| {
                    open.cursor = at;
                    Reply::Count(at)
                })
            }
            (Op::SetLen(_, len), Some(open)) => match open.how.write || open.how.append {
                true => volume.set_len(open.inode, len, now).map(|()| Reply::Done),
                false => Err(Errno::EINVAL),
            },
            (op @ (Op::Sync(_) | Op::SyncData(_)), Some(open)) => {
                if fate == Fate::Lies {
                    cx.fired(node, "disk.lie", || format!("{name} {}", volume.born_as(open.inode)));
                } else {
                    volume.sync(open.inode, matches!(op, Op::SyncData(_)));
                    cx.event(node, "disk.fsync", || format!("{name} {}", volume.born_as(open.inode)));
                }
                Ok(Reply::Done)
            }
            (Op::StatFile(_), Some(open)) => Ok(Reply::Stat(volume.stat(open.inode))),
            (Op::Stat(path), _) => volume.lookup(&path, true).map(|inode| Reply::Stat(volume.stat(inode))),
            (Op::ReadDir(path), _) => {
                let found = volume.lookup(&path, true);
                found.and_then(|inode| volume.read_dir(inode)).map(Reply::Entries)
            }
            (Op::StatLink(path), _) => volume.lookup(&path, false).map(|inode| Reply::Stat(volume.stat(inode))),
            (Op::Access(path, wanted, follow), _) => {
                let found = volume.lookup(&path, follow);
                found.and_then(|inode| volume.access(inode, wanted)).map(|()| Reply::Done)
            }
            (Op::ReadDirFile(_), Some(open)) => volume.read_dir(open.inode).map(Reply::Entries),
            (Op::CreateDir(path, mode), _) => volume.create_dir(&path, mode, now).map(|()| Reply::Done),
            (Op::CreateLink(target, path), _) => volume.create_link(&target, &path, now).map(|()| Reply::Done),
            (Op::CreateSocket(path, mode), _) => {
                volume.create_socket(&path, mode, now).map(|inode| Reply::Stat(volume.stat(inode)))
            }
            (Op::ReadLink(path), _) => volume.read_link(&path).map(Reply::Path),
            (Op::Link(from, to, follow), _) => volume.link(&from, &to, follow, now).map(|()| Reply::Done),
            (Op::LinkFile(_, to), Some(open)) => volume.link_inode(open.inode, &to, now).map(|()| Reply::Done),
            (Op::Truncate(path, len), _) => volume.truncate(&path, len, now).map(|()| Reply::Done),
            (Op::Allocate(_, at, len, what, keep_size), Some(open)) => match open.how.write || open.how.append {
                true => volume.allocate(open.inode, at, len, what, keep_size, now).map(|()| Reply::Done),
                false => Err(Errno::EBADF),
            },
            (Op::SeekData(_, at, hole), Some(open)) => volume.seek_data(open.inode, at, hole).map(|at| {
                open.cursor = at;
                Reply::Count(at)
            }),
            (Op::Change(path, change, follow), _) => {
                let found = volume.lookup(&path, follow);
                found.and_then(|inode| volume.change(inode, change, now)).map(|()| Reply::Done)
            }
            (Op::ChangeFile(_, change), Some(open)) => volume.change(open.inode, change, now).map(|()| Reply::Done),
            (Op::RemoveFile(path), _) => volume.remove_file(&path, now).map(|()| Reply::Done),
            (Op::RemoveDir(path), _) => volume.remove_dir(&path, now).map(|()| Reply::Done),
            (Op::Rename(from, to), _) => volume.rename(&from, &to, Taken::Replace, now).map(|()| Reply::Done),
            (Op::RenameTaken(from, to, taken), _) => volume.rename(&from, &to, taken, now).map(|()| Reply::Done),
            (Op::Canonical(path), _) => volume.canonical(&path).map(Reply::Path),
            (_, None) => unreachable!("an operation keeps its file open"),
        };
        let cut_short = matches!(result, Ok(Reply::Count(n)) if n < wanted);
        if result == Err(Errno::ENOSPC) || cut_short {
            cx.fired(node, "disk.enospc", || name.to_owned());
        }
        result
    }

    // ---- open files -----------------------------------------------------------------------------------------------

    fn file(&mut self, id: FileId) -> Option<&mut OpenFile> {
        let found = self.files.get_mut(id.slot as usize);
        found.filter(|f| f.generation == id.generation && id.disk == self.number)
    }

    /// Opens what is still a file of the tree below, for a caller that reads it there, and says its path in that tree. Takes
    /// no time, and no fault strikes it. `None` if the path names no such file.
    ///
    /// # Errors
    /// EACCES: it may not be read.
    pub fn open_below(&mut self, node: NodeId, path: &[u8], follow: bool) -> Result<Option<(FileId, Vec<u8>)>, Errno> {
        let how = OpenHow { read: true, no_follow: !follow, ..OpenHow::default() };
        let volume = self.volume(node);
        let Some(inode) = volume.open_below(path, how)? else { return Ok(None) };
        let below = volume.path_below(inode).unwrap_or_default().to_vec();
        self.generation += 1;
        let (disk, generation) = (self.number, self.generation);
        let slot = self.files.insert(OpenFile { generation, node, inode, cursor: 0, how, handles: 1 }) as u32;
        Ok(Some((FileId { disk, slot, generation }, below)))
    }

    /// Whether a file is open, and whose it is.
    pub fn node_of(&mut self, file: FileId) -> Option<NodeId> {
        self.file(file).map(|f| f.node)
    }

    /// One more handle of an open file: dup(2).
    pub fn share(&mut self, file: FileId) -> Result<(), Errno> {
        self.file(file).ok_or(Errno::EBADF)?.handles += 1;
        Ok(())
    }

    /// One handle fewer. Does nothing if the file is not open any more.
    pub fn close(&mut self, file: FileId, cx: &mut DeviceCx<'_>) {
        let Some(open) = self.file(file) else { return };
        open.handles -= 1;
        if open.handles == 0 {
            let open = self.files.remove(file.slot as usize);
            let volume = &mut self.drive(open.node).volume;
            let freed = volume.locks(open.inode).description_closed(file.description());
            volume.close(open.inode);
            if freed {
                self.wake_lock_waiters(cx);
            }
        }
    }

    /// The file behind an open file, for calls on its node's [`volume`](Self::volume). `None` if it is not open any more.
    pub fn inode_of(&mut self, file: FileId) -> Option<(NodeId, InodeId)> {
        self.file(file).map(|f| (f.node, f.inode))
    }

    /// Where an open file stands.
    pub fn cursor(&mut self, file: FileId) -> Option<u64> {
        self.file(file).map(|f| f.cursor)
    }

    /// A file goes on at `at`: for a caller that has read the tree below itself so far.
    pub fn set_cursor(&mut self, file: FileId, at: u64) -> Result<(), Errno> {
        self.file(file).ok_or(Errno::EBADF)?.cursor = at;
        Ok(())
    }

    /// How a file was opened.
    pub fn how(&mut self, file: FileId) -> Option<OpenHow> {
        self.file(file).map(|f| f.how)
    }

    /// fcntl(2), F_SETFL with or without O_APPEND.
    pub fn set_append(&mut self, file: FileId, append: bool) -> Result<(), Errno> {
        let how = &mut self.file(file).ok_or(Errno::EBADF)?.how;
        how.append = append && how.write;
        Ok(())
    }

    // ---- locks ----------------------------------------------------------------------------------------------------

    /// flock(2): takes the lock, alone if `exclusive`. False if another holds it.
    pub fn lock(&mut self, file: FileId, exclusive: bool, cx: &mut DeviceCx<'_>) -> Result<bool, Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        let locks = self.drive(node).volume.locks(inode);
        let lost = locks.unlock_unless(file.description(), exclusive);
        let taken = locks.lock(file.description(), exclusive);
        if lost {
            self.wake_lock_waiters(cx);
        }
        Ok(taken)
    }

    /// flock(2) with LOCK_UN.
    pub fn unlock(&mut self, file: FileId, cx: &mut DeviceCx<'_>) -> Result<(), Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        if self.drive(node).volume.locks(inode).unlock(file.description()) {
            self.wake_lock_waiters(cx);
        }
        Ok(())
    }

    /// fcntl(2), F_SETLK, or F_OFD_SETLK if `of_description`: takes the bytes `start..=last`, alone if `exclusive` is
    /// true, or gives them up if it is `None`. False if another's lock is in the way.
    pub fn lock_range(
        &mut self,
        file: FileId,
        of_description: bool,
        exclusive: Option<bool>,
        (start, last): (u64, u64),
        cx: &mut DeviceCx<'_>,
    ) -> Result<bool, Errno> {
        let open = self.file(file).ok_or(Errno::EBADF)?;
        // F_RDLCK needs a file that can be read, F_WRLCK one that can be written: fcntl(2).
        let able = match exclusive {
            Some(true) => open.how.write || open.how.append,
            Some(false) => open.how.read,
            None => true,
        };
        if !able {
            return Err(Errno::EBADF);
        }
        let (node, inode) = (open.node, open.inode);
        let holder = file.holder(of_description);
        let locks = self.drive(node).volume.locks(inode);
        let (taken, freed) = match exclusive {
            Some(exclusive) => {
                let had_more = !exclusive;
                let taken = locks.lock_range(RangeLock { holder, exclusive, start, last });
                (taken, taken && had_more)
            }
            None => (true, locks.unlock_range(holder, start, last)),
        };
        if freed {
            self.wake_lock_waiters(cx);
        }
        Ok(taken)
    }

    /// fcntl(2), F_GETLK, or F_OFD_GETLK if `of_description`: the lock that would be in the way.
    pub fn conflict(
        &mut self,
        file: FileId,
        of_description: bool,
        exclusive: bool,
        (start, last): (u64, u64),
    ) -> Result<Option<RangeLock>, Errno> {
        let (node, inode) = self.inode_of(file).ok_or(Errno::EBADF)?;
        let holder = file.holder(of_description);
        Ok(self.drive(node).volume.locks(inode).conflict(&RangeLock { holder, exclusive, start, last }))
    }

    /// A descriptor of this file was closed: the process loses what it locked of it, whichever descriptor it used. The
    /// rule that makes POSIX locks what they are: fcntl(2).
    pub fn descriptor_closed(&mut self, file: FileId, cx: &mut DeviceCx<'_>) {
        let Some((node, inode)) = self.inode_of(file) else { return };
        if self.drive(node).volume.locks(inode).unlock_range(Holder::Process, 0, u64::MAX) {
            self.wake_lock_waiters(cx);
        }
    }

    /// Wakes `waker` when a lock of any file is given up.
    pub fn await_unlock(&mut self, waker: &Waker) {
        if !self.lock_waiters.iter().any(|w| w.will_wake(waker)) {
            self.lock_waiters.push(waker.clone());
        }
    }

    fn wake_lock_waiters(&mut self, cx: &mut DeviceCx<'_>) {
        for waker in self.lock_waiters.drain(..) {
            cx.wake(waker);
        }
    }
}

impl FileId {
    /// Names it among the holders of locks.
    fn description(self) -> u64 {
        (self.slot as u64) << 32 | self.generation as u64
    }

    fn holder(self, of_description: bool) -> Holder {
        if of_description { Holder::Description(self.description()) } else { Holder::Process }
    }
}

/// Whether an operation fails. One question for each, also where none can fail: its ordinal must not shift.
fn draw_fate(class: Class, faults: &DiskFaults, key: u64, n: u32, cx: &mut DeviceCx<'_>) -> Fate {
    let mut ask = |n, p, what| cx.ask(Stream::DISK, key, n, Law::Chance(p), what) != 0;
    match class {
        Class::Read if ask(n, faults.read_error, "whether a read fails") => Fate::Fails,
        Class::Write if ask(n, faults.write_error, "whether a write fails") => Fate::Fails,
        Class::Sync => {
            let fails = ask(n, faults.sync_error, "whether an fsync fails");
            // The other half of the ordinals: no operation has both.
            let lies = ask(n | 1 << 31, faults.sync_lie, "whether an fsync lies");
            match (fails, lies) {
                (true, _) => Fate::Fails,
                (false, true) => Fate::Lies,
                (false, false) => Fate::Works,
            }
        }
        _ => Fate::Works,
    }
}

impl Device for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn on_event(&mut self, token: u64, cx: &mut DeviceCx<'_>) {
        let (slot, generation) = (token as u32 as usize, (token >> 32) as u32);
        // The event of an operation that died with its program was cancelled; a token is never used twice.
        if self.operations.get(slot).is_some_and(|o| o.generation == generation) {
            self.complete(slot, cx);
        }
    }

    fn node_added(&mut self, node: NodeId, name: &str, _cx: &mut DeviceCx<'_>) {
        self.add_drive(node, name);
    }

    fn node_died(&mut self, node: NodeId, how: Death, cx: &mut DeviceCx<'_>) {
        let under_way: Vec<usize> = self.operations.iter().filter(|(_, o)| o.node == node).map(|(i, _)| i).collect();
        for slot in under_way {
            let operation = self.operations.remove(slot);
            let State::UnderWay { op, event, fate } = operation.state else { continue };
            cx.cancel(event);
            // Asked of every call that changes something; a power loss then takes its share of what was reached.
            let reached = op.changes_something() && {
                let law = Law::Chance(Ratio::new(1, 2));
                let key = hash::key(&[operation.key, 6]);
                let node_name = self.drive(node).volume.node_name();
                cx.choices.name_key(key, || format!("disk {node_name} {} under way", op.name()));
                cx.ask(Stream::DISK, key, operation.n, law, "whether a call under way took no effect") == 0
            };
            // An fsync that has not returned promises nothing, and what it wrote already is the power loss's to say.
            if reached && !(how == Death::PowerOff && op.class() == Class::Sync) {
                // Its answer reaches nobody.
                if let Ok(Reply::Opened(file)) = self.perform(node, op, fate, cx) {
                    self.close(file, cx);
                }
            }
            if let Some(file) = operation.file {
                self.close(file, cx);
            }
        }
        let open: Vec<usize> = self.files.iter().filter(|(_, f)| f.node == node).map(|(i, _)| i).collect();
        for slot in open {
            let file = self.files.remove(slot);
            let volume = &mut self.drive(node).volume;
            let name = FileId { disk: 0, slot: slot as u32, generation: file.generation };
            volume.locks(file.inode).description_closed(name.description());
            volume.locks(file.inode).unlock_range(Holder::Process, 0, u64::MAX);
            volume.close(file.inode);
        }
        if how == Death::PowerOff {
            self.drive(node).volume.power_off(cx);
        }
    }
}
