//! Files of a run: what std, tokio and C code ask libc for, answered from the node's own disk.
//!
//! A node sees the real tree until it changes something: fixtures, configuration and time zones are read where they are.
//! Every change is the node's own, on its simulated disk; nothing real is ever written, and no node sees another's files.
//! The test's body, which is no machine, has such a disk too, without latency and faults.
//!
//! | module | is |
//! |---|---|
//! | `real` | the real tree, as what lies under the disks |
//! | `calls` | system calls about files, by whatever door they come in: whose a path is, and what a descriptor's file says |
//! | `paths` | those about names |
//! | `copy` | those that copy from one descriptor to another |
//! | `open` | what stands behind a descriptor: a file, a directory, a source of random bytes |
//! | `dirs` | libc's streams of directories |
//! | `maps` | memory maps of simulated files |
//! | `sockets` | the names of Unix sockets |
//! | `streams` | libc's streams of bytes |
//! | `temporary` | files with names of libc's choice |
//! | `symbols` | libc's names for all this |
//!
//! A regular file of the real tree that is opened for reading only is not copied: as long as the node has not changed it, its bytes
//! are read from the kernel. All else about it, locks and times too, is the disk's. Devices, `/proc` and `/sys` are the kernel's,
//! and a change there by path or number ends the run as escaped.
//!
//! What is deliberately absent: faults and what a power loss leaves, which are sim-disk's; extended attributes, watching
//! for changes: these are refused, or end the run as escaped by name.

pub(crate) mod calls;
mod copy;
pub(crate) mod dirs;
pub(crate) mod maps;
mod open;
mod paths;
mod real;
pub(crate) mod sockets;
pub(crate) mod stat;
pub(crate) mod streams;
pub(crate) mod symbols;
pub(crate) mod temporary;

use crate::descriptors::{Answer, Errno};
use crate::{interpose, raw, threads};
use sim_core::{DeviceCx, GroupId, Instant, NodeId, World};
use sim_disk::{Begun, Disk, FileId, InodeId, Op, OpenHow, Reply, User, Volume};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The disks of a run whose programs ask libc for files: over the real tree, for the real user.
pub fn disk() -> Disk {
    disk_of(real::user())
}

/// The same for programs that are another user on their disks. What they read of the real tree is still read as the real
/// user.
pub fn disk_of(user: User) -> Disk {
    Disk::over(Rc::new(real::RealTree), user)
}

/// What a World knows of the files of its processes.
#[derive(Default)]
pub(crate) struct Files {
    processes: RefCell<BTreeMap<(NodeId, GroupId), Process>>,
    pub dirs: dirs::Streams,
    pub maps: Rc<maps::Maps>,
    pub streams: streams::Streams,
}

/// What the kernel keeps of a process's files.
struct Process {
    /// Its working directory; `None` is the one that the real process began with.
    at: Option<FileId>,
    umask: u32,
}

impl Files {
    pub(crate) fn of(world: &World) -> Rc<Files> {
        world.extension()
    }

    fn with_process<R>(&self, world: &World, f: impl FnOnce(&mut Process) -> R) -> R {
        let key = (world.acting_node(), world.acting_group());
        f(self.processes.borrow_mut().entry(key).or_insert_with(|| Process { at: None, umask: real::umask() }))
    }
}

impl From<sim_disk::Errno> for Errno {
    fn from(error: sim_disk::Errno) -> Errno {
        Errno(error.0)
    }
}

/// The World, if its files are simulated and nothing of it is lent out at present. In the latter case somebody panics
/// inside the simulator, and his backtrace is read from real files.
pub(crate) fn world() -> Option<&'static World> {
    interpose::world().filter(|world| is_simulated(world))
}

/// Whether the files of this World are simulated.
pub(crate) fn is_simulated(world: &World) -> bool {
    world.lends::<Disk>() && with_disk(world, |disk, _| disk.is_over())
}

fn with_disk<R>(world: &World, f: impl FnOnce(&mut Disk, &mut DeviceCx<'_>) -> R) -> R {
    world.with_device(f)
}

/// Gives the acting node's disk to `f`: for what takes no time.
fn with_volume<R>(world: &World, f: impl FnOnce(&mut Volume) -> R) -> R {
    let node = world.acting_node();
    with_disk(world, |disk, _| f(disk.volume(node)))
}

/// Makes a system call of the acting node and waits for its answer. What a dead incarnation calls changes nothing.
fn perform(world: &'static World, op: Op) -> Answer<Reply> {
    if !world.actor_lives() {
        return Err(Errno(libc::EIO));
    }
    let (node, time) = (world.acting_node(), Time::of(world));
    let (took, done) = with_disk(world, |disk, cx| -> Answer<_> {
        let begun = disk.begin(node, &op, cx)?;
        let takes = begun.takes();
        Ok(match time.passes(takes, cx) {
            true => (takes, Ok(disk.end(node, op, begun, cx))),
            false => (takes, Err((op, begun))),
        })
    })?;
    match done {
        Ok(answer) => {
            time.pass(world, took);
            Ok(answer?)
        }
        Err((op, begun)) => await_reply(world, op, begun),
    }
}

/// How the time of a call passes.
#[derive(Clone, Copy)]
enum Time {
    /// The caller does not stand still while the disk is at work: the body of a test, and a task where nobody could run
    /// meanwhile.
    IsSpent,
    /// The caller is alone until then: nobody would see it wait.
    Alone(Instant),
    /// Others may do something meanwhile.
    IsShared,
}

impl Time {
    fn of(world: &World) -> Time {
        if world.acting_node() == NodeId::OUTSIDE || !threads::stands_still(world) {
            return Time::IsSpent;
        }
        world.alone_until().map_or(Time::IsShared, Time::Alone)
    }

    /// Whether a call that takes so long takes effect before anybody else does anything. If it is to be the end of that time, it is
    /// from here on.
    fn passes(self, takes: Duration, cx: &mut DeviceCx<'_>) -> bool {
        let end = cx.now + takes;
        match self {
            Time::IsSpent => true,
            // Somebody may wait for an operation to begin.
            Time::Alone(until) if end <= until && cx.wakes.is_empty() => {
                cx.now = end;
                true
            }
            Time::Alone(_) | Time::IsShared => false,
        }
    }

    /// So long a call has taken.
    fn pass(self, world: &'static World, took: Duration) {
        match self {
            Time::Alone(_) => world.pass_alone(world.now() + took),
            Time::IsSpent | Time::IsShared => world.spend(took),
        }
    }
}

/// Waits for the answer of a call that has begun at this instant.
fn await_reply(world: &'static World, op: Op, begun: Begun) -> Answer<Reply> {
    let waits_for = match op.name() {
        "fsync" | "fdatasync" => "an fsync",
        "read" | "pread" => "a read from a file",
        "write" | "pwrite" => "a write to a file",
        _ => "a disk operation",
    };
    let node = world.acting_node();
    let id = with_disk(world, |disk, cx| disk.submit_begun(node, op, begun, cx));
    let poll = |cx: &mut Context<'_>| -> Poll<_> { with_disk(world, |disk, _| disk.poll(id, cx.waker())) };
    match threads::wait(waits_for, None, poll) {
        Some(answer) => Ok(answer?),
        None => {
            with_disk(world, |disk, cx| disk.detach(id, cx));
            Err(Errno(libc::EIO))
        }
    }
}

/// A call that has nothing to say but that it succeeded.
fn done(world: &'static World, op: Op) -> Answer<i64> {
    perform(world, op).map(|_| 0)
}

/// Opens a directory only to name it.
fn hold_dir(world: &'static World, path: &[u8]) -> Answer<FileId> {
    let how = OpenHow { directory: true, path_only: true, ..OpenHow::default() };
    match perform(world, Op::Open(path.to_vec(), how))? {
        Reply::Opened(file) => Ok(file),
        _ => Err(Errno(libc::EIO)),
    }
}

/// Where an open file of the acting node lies.
fn inode_of(world: &World, file: FileId) -> Answer<InodeId> {
    let node = world.acting_node();
    let found = with_disk(world, |disk, _| disk.inode_of(file));
    found.filter(|(of, _)| *of == node).map(|(_, inode)| inode).ok_or(Errno::BAD)
}

/// The path of an open directory; ENOENT if it was removed.
fn path_of(world: &World, file: FileId) -> Answer<Vec<u8>> {
    let inode = inode_of(world, file)?;
    with_volume(world, |volume| volume.path_of_dir(inode)).ok_or(Errno(libc::ENOENT))
}

/// The acting process's working directory, if it ever went to one.
fn working_file(world: &World) -> Option<FileId> {
    Files::of(world).with_process(world, |process| process.at)
}

/// The path of the working directory of the acting process.
fn working_dir(world: &World) -> Answer<Vec<u8>> {
    match working_file(world) {
        Some(dir) => path_of(world, dir),
        None => real::working_dir(),
    }
}

/// The acting process goes to another directory, and lets go of the one it was in.
fn go_to(world: &World, dir: FileId) {
    let before = Files::of(world).with_process(world, |process| process.at.replace(dir));
    if let Some(before) = before {
        with_disk(world, |disk, cx| disk.close(before, cx));
    }
}

/// umask(2).
fn set_umask(world: &World, mask: u32) -> u32 {
    Files::of(world).with_process(world, |process| std::mem::replace(&mut process.umask, mask & 0o777))
}

fn umask(world: &World) -> u32 {
    Files::of(world).with_process(world, |process| process.umask)
}

/// Makes a real system call about a path.
///
/// # Safety
/// As the system call, but for the path, which is given at place `at` of the arguments.
unsafe fn real_call(number: i64, mut args: [i64; 6], at: usize, path: &[u8]) -> i64 {
    let Ok(path) = std::ffi::CString::new(path) else { return -libc::EINVAL as i64 };
    args[at] = path.as_ptr() as i64;
    // SAFETY: the caller's promise; the path lives across the call.
    unsafe { raw::call(number, args) }
}
