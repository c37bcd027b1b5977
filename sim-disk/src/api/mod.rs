//! What fronts in the shape of tokio or of libc call: futures of system calls, and handles that close themselves.
//!
//! Both hold names only, so they are `Send` and `Sync`, and mean nothing once their program or their run has ended.

use crate::device::{Disk, OpId};
use crate::model::errno::Errno;
use crate::op::{Op, Reply};
use crate::open_file::FileId;
use sim_core::{DeviceCx, NodeId, World, waiting_for};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What tokio says outside a runtime.
const NO_RUNTIME: &str = "there is no reactor running, must be called from the context of a Tokio 1.x runtime";

/// A system call under way. It goes on if this is dropped, as a system call on another thread does.
#[derive(Debug)]
#[must_use = "the answer comes when this is polled"]
pub struct OpFuture {
    state: State,
    waits_for: &'static str,
    /// What to call again, where a call may be interrupted or cut short.
    again: Option<Box<Again>>,
}

/// A call that std makes again until it is done.
#[derive(Debug)]
struct Again {
    node: NodeId,
    op: Op,
    /// What the calls before have written.
    written: u64,
}

impl Again {
    /// The next call, if there must be one: after EINTR the same, after a short write one for the rest.
    fn next(mut self: Box<Self>, answer: &Result<Reply, Errno>) -> Option<Box<Again>> {
        match (answer, &mut self.op) {
            (Err(Errno::EINTR), _) => Some(self),
            (Ok(Reply::Count(n)), Op::Write(_, bytes)) if (1..bytes.len() as u64).contains(n) => {
                bytes.drain(..*n as usize);
                self.written += n;
                Some(self)
            }
            _ => None,
        }
    }
}

#[derive(Debug)]
enum State {
    UnderWay(OpId),
    Refused(Errno),
    Taken,
}

/// Begins a system call of the node whose program is running. Paths are of that node; relative ones begin at `/`. As under std, a
/// call that was interrupted is made again, and a write that was cut short goes on with the rest (`cvt_r`, `Write::write_all`).
///
/// A program that is being dropped because its node died does nothing: EIO.
///
/// # Panics
/// Outside a run, with tokio's words; and in the body of a test, which stands outside the machines and has no disk.
#[track_caller]
pub fn submit(op: Op) -> OpFuture {
    let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
    let waits_for = match op.name() {
        "fsync" | "fdatasync" => "an fsync",
        "read" | "pread" => "a read from a file",
        "write" | "pwrite" => "a write to a file",
        _ => "a disk operation",
    };
    let node = world.acting_node();
    assert!(
        node != NodeId::OUTSIDE,
        "{} outside the machines: the body of a test has no disk; call it from a program of a node, as in \
         `sim.node(\"x\").run(…)`",
        op.name()
    );
    if !world.actor_lives() {
        return OpFuture { state: State::Refused(Errno::EIO), waits_for, again: None };
    }
    world.with_device(|disk: &mut Disk, cx| {
        let again = disk.faults(node).may_be_partial().then(|| Box::new(Again { node, op: op.clone(), written: 0 }));
        OpFuture { state: State::begun(disk.submit(node, op, cx)), waits_for, again }
    })
}

impl State {
    fn begun(begun: Result<OpId, Errno>) -> State {
        begun.map_or_else(State::Refused, State::UnderWay)
    }
}

impl Future for OpFuture {
    type Output = io::Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let answer = match self.state {
                State::UnderWay(id) => {
                    let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
                    waiting_for(self.waits_for);
                    std::task::ready!(world.with_device(|disk: &mut Disk, _| disk.poll(id, cx.waker())))
                }
                State::Refused(error) => Err(error),
                State::Taken => panic!("a disk operation was polled after it was done"),
            };
            let before = self.again.as_ref().map_or(0, |again| again.written);
            self.again = self.again.take().and_then(|again| again.next(&answer));
            let Some(again) = &self.again else {
                self.state = State::Taken;
                let whole = |reply| match reply {
                    Reply::Count(n) => Reply::Count(before + n),
                    other => other,
                };
                return Poll::Ready(answer.map(whole).map_err(io::Error::from));
            };
            let (node, op) = (again.node, again.op.clone());
            let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
            let begun = world.with_device(|disk: &mut Disk, cx| disk.submit(node, op, cx));
            self.state = State::begun(begun);
        }
    }
}

impl Drop for OpFuture {
    fn drop(&mut self) {
        if let State::UnderWay(id) = self.state {
            if_plugged(|disk, cx| disk.detach(id, cx));
        }
    }
}

/// An open file of a program; closed when it is dropped. What was written stays in the page cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Handle {
    file: FileId,
}

impl Handle {
    /// The handle of what an open answered.
    ///
    /// # Panics
    /// If `reply` is the answer of another call.
    pub fn of(reply: Reply) -> Handle {
        match reply {
            Reply::Opened(file) => Handle { file },
            other => panic!("an open answers with a file, not with {other:?}"),
        }
    }

    /// The file, for operations. Valid as long as this lives and its program does.
    pub fn id(&self) -> FileId {
        self.file
    }

    /// Another handle of the same open file, with the same cursor: dup(2). EBADF if its program has ended.
    pub fn try_clone(&self) -> io::Result<Handle> {
        let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
        world.with_device(|disk: &mut Disk, _| disk.share(self.file))?;
        Ok(Handle { file: self.file })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if_plugged(|disk, cx| disk.close(self.file, cx));
    }
}

fn if_plugged(f: impl FnOnce(&mut Disk, &mut DeviceCx<'_>)) {
    if let Some(world) = World::current()
        && world.has_device::<Disk>()
    {
        world.with_device(f);
    }
}

/// Gives the disks of the running World to `f`: for tests and plans that set faults, capacities, profiles.
///
/// # Panics
/// Outside a run, or if the run has no disks.
pub fn control<R>(f: impl FnOnce(&mut Disk, &mut DeviceCx<'_>) -> R) -> R {
    let Some(world) = World::current() else { panic!("{NO_RUNTIME}") };
    world.with_device(f)
}
