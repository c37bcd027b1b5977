//! The device: the disks of all nodes, their open files, and the operations under way.
//!
//! An operation is one system call. When it is submitted, its latency and its faults are drawn; when its event comes, it
//! takes effect and answers. So operations of several tasks overlap, and a write that was under way when its
//! program died may or may not have reached the page cache.

use crate::drive::{Course, Drawn, Drive, Fate};
use crate::model::below::Below;
use crate::model::content::ALL;
use crate::model::crash::Profile;
use crate::model::errno::Errno;
use crate::model::inode::{InodeId, User};
use crate::model::locks::Holder;
use crate::model::maps::Maps;
use crate::model::tree::{Taken, WriteSync};
use crate::model::volume::Volume;
use crate::op::{Class, Op, Outline, Reply};
use crate::open_file::{FileId, OpenFile};
use sim_core::choices::{Law, Ratio, Stream};
use sim_core::events::EventId;
use sim_core::{Death, Device, DeviceCx, Instant, NodeId, hash};
use slab::Slab;
use std::io::SeekFrom;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// An operation under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpId {
    disk: u32,
    slot: u32,
    generation: u32,
}

enum State {
    /// Its event is to come. With what was drawn when it was submitted.
    UnderWay {
        op: Op,
        event: EventId,
        course: Course,
    },
    Answered(Result<Reply, Errno>),
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

/// How an operation goes that has begun and not taken effect.
#[must_use = "it takes effect by `end` or `submit_begun`"]
pub struct Begun(Drawn);

impl Begun {
    /// How long it takes.
    pub fn takes(&self) -> Duration {
        self.0.latency
    }
}

/// The disks of a World. Plugged in once; each node gets its own when it is added.
pub struct Disk {
    /// Tells disks of this process apart, so that a handle that outlived its run means nothing in the next.
    pub(crate) number: u32,
    profile: Profile,
    /// What lies under every disk, and who the programs are.
    below: Option<(Rc<dyn Below>, User)>,
    pub(crate) drives: Vec<Option<Drive>>,
    pub(crate) files: Slab<OpenFile>,
    operations: Slab<InFlight>,
    pub(crate) generation: u32,
    /// How many budgets were set.
    pub(crate) budgets: u32,
    /// The memory maps of files, once there is one.
    maps: Option<Rc<dyn Maps>>,
    /// Who waits for a lock of any file. All are woken when one is given up, in the order they came.
    pub(crate) lock_waiters: Vec<Waker>,
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
            budgets: 0,
            maps: None,
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
        self.drives[index] = Some(Drive::new(volume));
    }

    pub(crate) fn drive(&mut self, node: NodeId) -> &mut Drive {
        let drive = self.drives.get_mut(node.0 as usize).and_then(|d| d.as_mut());
        drive.expect("every node has a disk; the outside has one only over another tree")
    }

    // ---- operations -----------------------------------------------------------------------------------------------

    /// Files are mapped into memory: the disk asks there what was stored, and shows there what calls change.
    pub fn show_in(&mut self, maps: Rc<dyn Maps>) {
        self.maps = Some(maps);
    }

    /// What was stored in maps of this file, or of all of the node's, is written.
    pub fn gather(&mut self, node: NodeId, file: Option<InodeId>, now: Instant) {
        if let Some(maps) = self.maps.clone() {
            maps.gather(node, file, &mut self.drive(node).volume, now);
        }
    }

    /// sync(2): all that programs of the node wrote is durable. Takes no time, and no fault strikes it.
    pub fn sync_all(&mut self, node: NodeId, cx: &mut DeviceCx<'_>) {
        self.gather(node, None, cx.now);
        self.drive(node).volume.sync_all();
    }

    /// Begins a system call of `node`. A call about a file that is not open any more does nothing and is EBADF at once.
    pub fn submit(&mut self, node: NodeId, op: Op, cx: &mut DeviceCx<'_>) -> Result<OpId, Errno> {
        let begun = self.begin(node, &op, cx)?;
        Ok(self.submit_begun(node, op, begun, cx))
    }

    /// The same for one whose course was drawn at this instant.
    pub fn submit_begun(&mut self, node: NodeId, op: Op, begun: Begun, cx: &mut DeviceCx<'_>) -> OpId {
        let file = op.file();
        if let Some(open) = file.and_then(|f| self.file(f)) {
            open.handles += 1;
        }
        self.generation += 1;
        let generation = self.generation;
        let entry = self.operations.vacant_entry();
        let slot = entry.key() as u32;
        let Drawn { latency, key, n, course } = begun.0;
        let event = cx.schedule(cx.now + latency, (generation as u64) << 32 | slot as u64);
        let state = State::UnderWay { op, event, course };
        entry.insert(InFlight { generation, node, file, key, n, state, waker: None, detached: false });
        OpId { disk: self.number, slot, generation }
    }

    /// Makes a system call of `node` that takes effect at once, and says how long it takes: for a caller that cannot wait, and
    /// lets the time pass itself. Outside the machines it takes none, and no fault strikes it.
    pub fn call(&mut self, node: NodeId, op: Op, cx: &mut DeviceCx<'_>) -> (Duration, Result<Reply, Errno>) {
        match self.begin(node, &op, cx) {
            Ok(begun) => (begun.takes(), self.end(node, op, begun, cx)),
            Err(error) => (Duration::ZERO, Err(error)),
        }
    }

    /// Draws how a system call of `node` goes. It takes effect by [`end`](Self::end), or when it was
    /// [submitted](Self::submit_begun) so.
    pub fn begin(&mut self, node: NodeId, op: &Op, cx: &mut DeviceCx<'_>) -> Result<Begun, Errno> {
        let outline = op.outline();
        let (open, syncs) = self.subject(node, op.file(), outline.name)?;
        Ok(Begun(self.draw(node, open, op.path(), &outline, syncs, cx)))
    }

    /// A system call takes effect that began in this way, for a caller that has let its time pass or will.
    pub fn end(&mut self, node: NodeId, op: Op, begun: Begun, cx: &mut DeviceCx<'_>) -> Result<Reply, Errno> {
        self.perform(node, op, begun.0.course, cx)
    }

    /// Begins a write, at the cursor or at a place. It takes effect at once if `now` says so of how long it takes: how many bytes
    /// were written then, else how it goes on.
    pub fn write_if(
        &mut self,
        node: NodeId,
        file: FileId,
        at: Option<u64>,
        bytes: &[u8],
        now: impl FnOnce(Duration, &mut DeviceCx<'_>) -> bool,
        cx: &mut DeviceCx<'_>,
    ) -> (Duration, Result<Result<usize, Begun>, Errno>) {
        let Some(open) = self.file(file).filter(|open| open.node == node) else {
            return (Duration::ZERO, Err(Errno::EBADF));
        };
        let (inode, syncs) = (open.inode, open.how.syncs);
        let outline = Outline::of_write(at, bytes.len() as u64);
        // Not moved while it is as it was drawn: it has just been written, field by field.
        let drawn = self.draw(node, Some(inode), b"/", &outline, syncs, cx);
        let answer = match now(drawn.latency, cx) {
            true => self.write(node, file, at, bytes, &drawn.course, cx).map(Ok),
            false => return (drawn.latency, Ok(Err(Begun(drawn)))),
        };
        (drawn.latency, answer)
    }

    /// The file that a call of the node is about, and what its writes sync.
    fn subject(
        &mut self,
        node: NodeId,
        file: Option<FileId>,
        name: &str,
    ) -> Result<(Option<InodeId>, WriteSync), Errno> {
        let Some(file) = file else { return Ok((None, WriteSync::Nothing)) };
        let open = self.file(file).ok_or(Errno::EBADF)?;
        assert!(open.node == node, "{name}: a program used a file that a program of another node opened");
        Ok((Some(open.inode), open.how.syncs))
    }

    /// Asks how long an operation takes, how it ends, and what it meets.
    fn draw(
        &mut self,
        node: NodeId,
        open: Option<InodeId>,
        path: &[u8],
        op: &Outline,
        syncs: WriteSync,
        cx: &mut DeviceCx<'_>,
    ) -> Drawn {
        if node == NodeId::OUTSIDE {
            return Drawn::CALM;
        }
        // What a sync covers, it covers from here on.
        if op.class == Class::Sync {
            self.gather(node, open, cx.now);
        }
        let drive = self.drive(node);
        let subject = open.unwrap_or_else(|| drive.volume.subject(path));
        drive.draw(node, op, subject, syncs, cx)
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

    /// The operations of a node that have begun and not taken effect, oldest first, as `pwrite /data/log`: the call and its
    /// file. They are where a loss of power strikes now.
    pub fn under_way(&mut self, node: NodeId) -> Vec<String> {
        let is_under_way = |o: &&InFlight| o.node == node && matches!(o.state, State::UnderWay { .. });
        let mut found: Vec<&InFlight> = self.operations.iter().map(|(_, o)| o).filter(is_under_way).collect();
        found.sort_by_key(|o| o.generation);
        let volume = &self.drives[node.0 as usize].as_ref().expect("it has a disk").volume;
        let text = |o: &InFlight| {
            let State::UnderWay { op, .. } = &o.state else { unreachable!("it was just looked at") };
            let open = op.file().map(|f| volume.born_as(self.files[f.slot as usize].inode));
            format!("{} {}", op.name(), open.unwrap_or_else(|| volume.shown(op.path())))
        };
        found.into_iter().map(text).collect()
    }

    fn operation(&mut self, id: OpId) -> Option<&mut InFlight> {
        let found = self.operations.get_mut(id.slot as usize);
        found.filter(|o| o.generation == id.generation && id.disk == self.number)
    }

    /// The operation takes effect and answers.
    fn complete(&mut self, slot: usize, cx: &mut DeviceCx<'_>) {
        let operation = &mut self.operations[slot];
        let State::UnderWay { op, course, .. } =
            std::mem::replace(&mut operation.state, State::Answered(Err(Errno::EIO)))
        else {
            unreachable!("an operation completes once")
        };
        let (node, file) = (operation.node, operation.file);
        let answer = self.perform(node, op, course, cx);
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

    fn perform(&mut self, node: NodeId, op: Op, course: Course, cx: &mut DeviceCx<'_>) -> Result<Reply, Errno> {
        match op {
            Op::Write(file, bytes) => {
                return self.write(node, file, None, &bytes, &course, cx).map(|n| Reply::Count(n as u64));
            }
            Op::WriteAt(file, at, bytes) => {
                return self.write(node, file, Some(at), &bytes, &course, cx).map(|n| Reply::Count(n as u64));
            }
            _ => {}
        }
        let Some(maps) = self.maps.clone() else { return self.take_effect(node, op, course, cx) };
        let file = op.file().and_then(|f| self.file(f)).map(|open| open.inode);
        // A sync asked when it began, where it takes time.
        if op.class() != Class::Sync || node == NodeId::OUTSIDE {
            self.gather(node, file, cx.now);
        }
        let changed = match &op {
            Op::Allocate(_, at, len, ..) => Some(*at..at.saturating_add(*len)),
            Op::Open(_, how) if !how.truncate => None,
            // The size alone.
            Op::SetLen(..) | Op::Truncate(..) | Op::Open(..) => Some(0..0),
            _ => course.decay.map(|_| ALL),
        };
        let answer = self.take_effect(node, op, course, cx);
        if let Some(bytes) = changed {
            maps.show(node, file, &self.drive(node).volume, bytes);
        }
        answer
    }

    /// write(2) and pwrite(2).
    fn write(
        &mut self,
        node: NodeId,
        file: FileId,
        at: Option<u64>,
        bytes: &[u8],
        course: &Course,
        cx: &mut DeviceCx<'_>,
    ) -> Result<usize, Errno> {
        let Some(maps) = self.maps.clone() else {
            let (place, done) = self.write_there(node, file, at, bytes, course, cx);
            return done.map(|()| (place.end - place.start) as usize);
        };
        let inode = self.file(file).ok_or(Errno::EBADF)?.inode;
        self.gather(node, Some(inode), cx.now);
        let (place, done) = self.write_there(node, file, at, bytes, course, cx);
        maps.show(node, Some(inode), &self.drive(node).volume, place.clone());
        done.map(|()| (place.end - place.start) as usize)
    }

    /// What of the file it wrote, also if it fails later.
    fn write_there(
        &mut self,
        node: NodeId,
        file: FileId,
        at: Option<u64>,
        bytes: &[u8],
        course: &Course,
        cx: &mut DeviceCx<'_>,
    ) -> (Range<u64>, Result<(), Errno>) {
        let number = self.number;
        let found = self.files.get_mut(file.slot as usize);
        let Some(open) = found.filter(|o| file.disk == number && o.generation == file.generation) else {
            return (0..0, Err(Errno::EBADF));
        };
        let drive = self.drives[node.0 as usize].as_mut().expect("it had a disk when the operation began");
        let name = if at.is_some() { "pwrite" } else { "write" };
        if let Fate::Fails(error) = course.fate {
            cx.fired(node, counter(error), || format!("{name} {}", drive.volume.born_as(open.inode)));
            return (0..0, Err(error));
        }
        let wanted = bytes.len();
        let bytes = match course.fate {
            Fate::Short(detail) if wanted > 1 => &bytes[..(1 + detail % (wanted as u64 - 1)) as usize],
            _ => bytes,
        };
        if bytes.len() < wanted {
            cx.fired(node, "disk.short", || format!("{name}: {} bytes instead of {wanted}", bytes.len()));
        }
        let refused = |error: Errno, cx: &mut DeviceCx<'_>| {
            if matches!(error, Errno::ENOSPC | Errno::EDQUOT | Errno::EIO) {
                cx.fired(node, counter(error), || name.to_owned());
            }
            Err(error)
        };
        let place = match open.write(&mut drive.volume, at.unwrap_or(open.cursor), bytes, cx.now) {
            Ok((at, n)) => at..at + n as u64,
            Err(error) => return (0..0, refused(error, cx)),
        };
        let written = place.end - place.start;
        if written < bytes.len() as u64 {
            cx.fired(node, "disk.enospc", || format!("{name}: {written} bytes of {}", bytes.len()));
        }
        match drive.sync_write(node, open.inode, (open.how.syncs, course.write_sync), place.clone(), cx) {
            Ok(()) => {
                if at.is_none() {
                    open.cursor = place.end;
                }
                (place, Ok(()))
            }
            Err(error) => (place, refused(error, cx)),
        }
    }

    fn take_effect(&mut self, node: NodeId, op: Op, course: Course, cx: &mut DeviceCx<'_>) -> Result<Reply, Errno> {
        let number = self.number;
        let open = op.file().and_then(|f| {
            self.files.get_mut(f.slot as usize).filter(|o| f.disk == number && o.generation == f.generation)
        });
        let drive = self.drives[node.0 as usize].as_mut().expect("it had a disk when the operation began");
        let (now, name) = (cx.now, op.name());
        if let Fate::Fails(error) = course.fate {
            let inode = open.map(|o| o.inode);
            let subject = inode.unwrap_or_else(|| drive.volume.subject(op.path()));
            if op.class() == Class::Sync {
                drive.volume.sync_fails(subject, course.covers, op.synced());
            }
            cx.fired(node, counter(error), || format!("{name} {}", drive.volume.born_as(subject)));
            return Err(error);
        }
        if let (Op::Read(_, len), Some(open)) = (&op, &open) {
            drive.decays(node, open.inode, open.cursor, *len, course, cx);
        } else if let (Op::ReadAt(_, at, len), Some(open)) = (&op, &open) {
            drive.decays(node, open.inode, *at, *len, course, cx);
        }
        // What it could transfer, had nothing come in between.
        let wanted = match (&op, &open) {
            (Op::Read(_, len), Some(open)) => drive.volume.readable(open.inode, open.cursor, *len),
            (Op::ReadAt(_, at, len), Some(open)) => drive.volume.readable(open.inode, *at, *len),
            _ => 0,
        };
        let op = match course.fate {
            Fate::Short(detail) if wanted > 1 => op.shortened((1 + detail % (wanted - 1)) as usize),
            _ => op,
        };
        let given = match &op {
            Op::Read(_, len) | Op::ReadAt(_, _, len) => wanted.min(*len as u64),
            _ => 0,
        };
        if given < wanted {
            cx.fired(node, "disk.short", || format!("{name}: {given} bytes instead of {wanted}"));
        }
        let volume = &mut drive.volume;
        let result = match (op, open) {
            (Op::Open(path, how), _) => {
                return volume.open(&path, how, now).map(|inode| {
                    cx.event(node, "disk.open", || format!("{} {how}", volume.shown(&path)));
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
            (op @ (Op::Sync(_) | Op::SyncData(_) | Op::SyncRange(..)), Some(open)) => {
                drive.sync(node, open.inode, &op, course, cx);
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
            (Op::Write(..) | Op::WriteAt(..), _) => unreachable!("writes are made elsewhere"),
            (_, None) => unreachable!("an operation keeps its file open"),
        };
        if let Err(error @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EIO)) = result {
            cx.fired(node, counter(error), || name.to_owned());
        }
        result
    }
}

/// Under which name an error is counted.
fn counter(error: Errno) -> &'static str {
    match error {
        Errno::ENOSPC => "disk.enospc",
        Errno::EDQUOT => "disk.edquot",
        Errno::EINTR => "disk.eintr",
        _ => "disk.eio",
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
        if let Some(maps) = self.maps.clone() {
            self.gather(node, None, cx.now);
            maps.died(node);
        }
        let under_way: Vec<usize> = self.operations.iter().filter(|(_, o)| o.node == node).map(|(i, _)| i).collect();
        for slot in under_way {
            let operation = self.operations.remove(slot);
            let State::UnderWay { op, event, course } = operation.state else { continue };
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
                // Nor does the sync of a write: it is the power loss's to say what of it was written.
                let write_sync = if how == Death::PowerOff { None } else { course.write_sync };
                let course = Course { write_sync, ..course };
                // Its answer reaches nobody.
                if let Ok(Reply::Opened(file)) = self.perform(node, op, course, cx) {
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
