//! Pipe handles.

use super::{Net, News, Readiness, attempt, on, on_drop, poll, slot, within};
use crate::model::{Attempt, Errno, Id, PipeEnd};
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

/// One end of a pipe. Reading from the end that writes, or the other way round, is EBADF.
///
/// # Simulation
/// 64 KiB in 16 pages unless set, filled as Linux fills them (`fs/pipe.c`); writes of up to 4,096 bytes are taken as a whole
/// or not at all.
#[derive(Debug)]
pub struct Pipe {
    id: Id,
    end: PipeEnd,
    epoch: u32,
}

impl Pipe {
    /// A pipe of the acting node: the reading and the writing end.
    ///
    /// # Errors
    /// ENETDOWN for a dead program.
    pub fn new() -> io::Result<[Pipe; 2]> {
        within(|net, node, _| {
            let (id, epoch) = (net.pipe(node), net.epoch);
            Ok([PipeEnd::Read, PipeEnd::Write].map(|end| Pipe { id, end, epoch }))
        })
    }

    /// Which end this is.
    pub fn end(&self) -> PipeEnd {
        self.end
    }

    /// Gives up to `room` of the bytes that wait to `put`: 0 at the end. EAGAIN if nothing waits.
    pub fn try_read(&self, room: usize, put: impl FnMut(&[u8])) -> io::Result<usize> {
        attempt(self.epoch, |net, _| self.read(net, room, put))
    }

    /// The same, waiting for bytes or the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, room: usize, put: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "bytes from a pipe",
            |net, _| self.read(net, room, put),
            |net, waker| self.watch(net).readers.add(waker),
        )
    }

    /// Takes as many bytes as there is room for. EAGAIN if there is none, `BrokenPipe` when the reading end is closed.
    pub fn try_write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        attempt(self.epoch, |net, _| self.write(net, bytes))
    }

    /// The same, waiting for room. More than 4,096 bytes may be taken in part.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        poll(
            self.epoch,
            cx,
            "room in a pipe",
            |net, _| self.write(net, bytes),
            |net, waker| self.watch(net).writers.add(waker),
        )
    }

    /// What epoll says of this end: the reading one hangs up when nobody writes, the writing one has an error when nobody
    /// reads.
    pub fn readiness(&self) -> io::Result<Readiness> {
        on(self.epoch, |net, _| {
            let [readable, writable, other_closed] = net.pipe_ready(self.id, self.end)?;
            let (hang_up, error) = match self.end {
                PipeEnd::Read => (other_closed, false),
                PipeEnd::Write => (false, other_closed),
            };
            Ok(Readiness { readable, writable, read_closed: false, write_closed: error, hang_up, error })
        })
    }

    /// Bytes that wait to be read (FIONREAD).
    pub fn unread(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.pipe_unread(self.id, self.end))
    }

    /// How many bytes it holds at most (F_GETPIPE_SZ).
    pub fn capacity(&self) -> io::Result<usize> {
        on(self.epoch, |net, _| net.pipe_capacity(self.id, self.end))
    }

    /// Lets it hold at least so many bytes, and says how many (F_SETPIPE_SZ).
    ///
    /// # Errors
    /// EPERM above 1 MiB; EBUSY if more is in use; EINVAL for 0.
    pub fn set_capacity(&self, bytes: usize) -> io::Result<usize> {
        on(self.epoch, |net, _| net.set_pipe_capacity(self.id, self.end, bytes))
    }

    /// Sets the observer: of the reading end woken at every write, of the writing end when a full pipe has room, of both
    /// when the other is closed; until it is replaced.
    pub fn observe(&self, observer: Waker) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.pipe_ready(self.id, self.end)?;
            self.watch(net).observe(observer);
            Ok(())
        })
    }

    /// Takes the observer away.
    pub fn unobserve(&self) -> io::Result<()> {
        on(self.epoch, |net, _| {
            net.pipe_ready(self.id, self.end)?;
            self.watch(net).unobserve();
            Ok(())
        })
    }

    /// What the observer was woken for since the last call.
    pub fn take_news(&self) -> io::Result<News> {
        on(self.epoch, |net, _| {
            net.pipe_ready(self.id, self.end)?;
            Ok(self.watch(net).take_news())
        })
    }

    fn read(&self, net: &mut Net, room: usize, put: impl FnMut(&[u8])) -> Attempt<usize> {
        if self.end == PipeEnd::Read { net.pipe_read(self.id, room, put) } else { Err(Errno::EBADF) }
    }

    fn write(&self, net: &mut Net, bytes: &[IoSlice<'_>]) -> Attempt<usize> {
        if self.end == PipeEnd::Write { net.pipe_write(self.id, bytes) } else { Err(Errno::EBADF) }
    }

    fn watch<'a>(&self, net: &'a mut Net) -> &'a mut super::wakers::Watch {
        &mut slot(&mut net.pipes, self.id.index)[self.end as usize]
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        on_drop(self.epoch, |net, _| {
            if net.pipe_ready(self.id, self.end).is_ok() {
                self.watch(net).clear();
                net.pipe_close(self.id, self.end);
            }
        });
    }
}
