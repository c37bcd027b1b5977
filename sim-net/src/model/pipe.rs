//! Pipes: bytes from a writing to a reading end on one machine, in order, without loss or delay.
//!
//! Rules and sizes are those of `fs/pipe.c`: 16 pages, a write joins the last page if all of its odd bytes fit there, and
//! takes new pages otherwise. So writes of up to a page are whole or not at all (PIPE_BUF), and as many small ones fit as
//! on Linux. Not modelled: packet mode (O_DIRECT), `splice`, `tee`, `vmsplice`, named pipes.

use super::arena::{Arena, Id};
use super::errno::{Attempt, Errno};
use super::{Effect, Network};
use sim_core::NodeId;
use std::collections::VecDeque;
use std::io::IoSlice;

const PAGE: usize = 4096;
const PAGES: usize = 16;
/// `pipe-max-size`: an unprivileged program gets no more.
const PAGES_MAX: usize = 256;

struct Page {
    bytes: Vec<u8>,
    at: usize,
}

pub(super) struct Pipe {
    node: NodeId,
    pages: VecDeque<Page>,
    capacity: usize,
    /// Whether the reading and the writing end are open.
    open: [bool; 2],
}

impl Pipe {
    fn is_full(&self) -> bool {
        self.pages.len() >= self.capacity
    }
}

/// One of the two ends of a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PipeEnd {
    /// Where bytes come out.
    Read = 0,
    /// Where they go in.
    Write = 1,
}

#[derive(Default)]
pub(super) struct Pipes(Arena<Pipe>);

impl Network {
    /// A new pipe of `node`, both ends open.
    pub fn pipe(&mut self, node: NodeId) -> Id {
        self.pipes.0.insert(Pipe { node, pages: VecDeque::new(), capacity: PAGES, open: [true; 2] })
    }

    fn pipe_end(&mut self, id: Id, end: PipeEnd) -> Result<&mut Pipe, Errno> {
        self.pipes.0.get_mut(id).filter(|p| p.open[end as usize]).ok_or(Errno::EBADF)
    }

    /// Takes as many bytes as there are pages for; up to 4,096 are taken as a whole. `Ok(None)` if there is no room.
    ///
    /// # Errors
    /// EPIPE when the reading end is closed.
    pub fn pipe_write(&mut self, id: Id, bytes: &[IoSlice<'_>]) -> Attempt<usize> {
        let Some(pipe) = self.pipes.0.get_mut(id).filter(|p| p.open[1]) else { return Err(Errno::EBADF) };
        let len: usize = bytes.iter().map(|b| b.len()).sum();
        if len == 0 {
            return Ok(Some(0));
        }
        if !pipe.open[0] {
            return Err(Errno::EPIPE);
        }
        let mut source = super::tcp::Source::new(bytes);
        let mut wrote = 0;
        let odd = len % PAGE;
        if let Some(last) = pipe.pages.back_mut()
            && odd > 0
            && last.bytes.len() + odd <= PAGE
        {
            source.move_to(&mut last.bytes, odd);
            wrote = odd;
        }
        while wrote < len && !pipe.is_full() {
            let n = PAGE.min(len - wrote);
            let mut page = self.buffers.take();
            source.move_to(&mut page, n);
            pipe.pages.push_back(Page { bytes: page, at: 0 });
            wrote += n;
        }
        // Also where nothing was written (Linux, pipe_write(), `poll_usage`).
        self.effects.push(Effect::Pipe { slot: id.index, end: PipeEnd::Read });
        Ok((wrote > 0).then_some(wrote))
    }

    /// Gives up to `room` of the bytes that wait to `put`: 0 when nothing waits and the writing end is closed; `Ok(None)`
    /// if nothing waits.
    pub fn pipe_read(&mut self, id: Id, room: usize, mut put: impl FnMut(&[u8])) -> Attempt<usize> {
        let Some(pipe) = self.pipes.0.get_mut(id).filter(|p| p.open[0]) else { return Err(Errno::EBADF) };
        if room == 0 || pipe.pages.is_empty() && !pipe.open[1] {
            return Ok(Some(0));
        }
        let was_full = pipe.is_full();
        let mut read = 0;
        while read < room
            && let Some(page) = pipe.pages.front_mut()
        {
            let n = (page.bytes.len() - page.at).min(room - read);
            put(&page.bytes[page.at..page.at + n]);
            page.at += n;
            read += n;
            if page.at == page.bytes.len()
                && let Some(page) = pipe.pages.pop_front()
            {
                self.buffers.give(page.bytes);
            }
        }
        if was_full && !pipe.is_full() {
            self.effects.push(Effect::Pipe { slot: id.index, end: PipeEnd::Write });
        }
        Ok((read > 0).then_some(read))
    }

    /// What `pipe_poll()` says of an end: readable, writable, the other end closed.
    pub fn pipe_ready(&mut self, id: Id, end: PipeEnd) -> Result<[bool; 3], Errno> {
        let pipe = self.pipe_end(id, end)?;
        let other_closed = !pipe.open[1 - end as usize];
        Ok(match end {
            PipeEnd::Read => [!pipe.pages.is_empty(), false, other_closed],
            PipeEnd::Write => [false, !pipe.is_full(), other_closed],
        })
    }

    /// Bytes that wait (FIONREAD).
    pub fn pipe_unread(&mut self, id: Id, end: PipeEnd) -> Result<usize, Errno> {
        Ok(self.pipe_end(id, end)?.pages.iter().map(|p| p.bytes.len() - p.at).sum())
    }

    /// How many bytes a pipe holds at most (F_GETPIPE_SZ).
    pub fn pipe_capacity(&mut self, id: Id, end: PipeEnd) -> Result<usize, Errno> {
        Ok(self.pipe_end(id, end)?.capacity * PAGE)
    }

    /// Lets a pipe hold at least so many bytes, and says how many (F_SETPIPE_SZ).
    ///
    /// # Errors
    /// EPERM above 1 MiB; EBUSY if more pages than that are in use; EINVAL for 0.
    pub fn set_pipe_capacity(&mut self, id: Id, end: PipeEnd, bytes: usize) -> Result<usize, Errno> {
        let pipe = self.pipe_end(id, end)?;
        if bytes == 0 {
            return Err(Errno::EINVAL);
        }
        let pages = bytes.div_ceil(PAGE).next_power_of_two();
        if pages > PAGES_MAX && pages > pipe.capacity {
            return Err(Errno::EPERM);
        }
        if pages < pipe.pages.len() {
            return Err(Errno::EBUSY);
        }
        let was_full = pipe.is_full();
        pipe.capacity = pages;
        if was_full && !pipe.is_full() {
            self.effects.push(Effect::Pipe { slot: id.index, end: PipeEnd::Write });
        }
        Ok(pages * PAGE)
    }

    /// Closes an end. A reader then finds the end of what waits, a writer EPIPE.
    pub fn pipe_close(&mut self, id: Id, end: PipeEnd) {
        let Ok(pipe) = self.pipe_end(id, end) else { return };
        pipe.open[end as usize] = false;
        if pipe.open == [false; 2] {
            if let Some(pipe) = self.pipes.0.remove(id) {
                pipe.pages.into_iter().for_each(|p| self.buffers.give(p.bytes));
            }
            return;
        }
        let other = if end == PipeEnd::Read { PipeEnd::Write } else { PipeEnd::Read };
        self.effects.push(Effect::Pipe { slot: id.index, end: other });
    }

    /// The programs of a node have ended, and with them their pipes.
    pub(super) fn pipes_node_died(&mut self, node: NodeId) {
        let all: Vec<Id> = self.pipes.0.ids().collect();
        for id in all {
            if self.pipes.0.get(id).is_some_and(|p| p.node == node) {
                self.pipe_close(id, PipeEnd::Read);
                self.pipe_close(id, PipeEnd::Write);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn pipe() -> (Network, Id) {
        let mut net = Network::new(Config::default());
        net.node_added(NodeId(1), "a");
        let id = net.pipe(NodeId(1));
        (net, id)
    }

    fn write(net: &mut Network, id: Id, bytes: &[u8]) -> Attempt<usize> {
        net.pipe_write(id, &[IoSlice::new(bytes)])
    }

    fn read(net: &mut Network, id: Id, room: usize) -> Result<Option<Vec<u8>>, Errno> {
        let mut out = Vec::new();
        Ok(net.pipe_read(id, room, |b| out.extend_from_slice(b))?.map(|_| out))
    }

    #[test]
    fn a_pipe_takes_as_many_bytes_as_linux_does() {
        // Measured on Linux 6.18: the size of each write, and all that was taken before EAGAIN.
        let measured = [
            (1, 65_536),
            (100, 64_000),
            (1_000, 64_000),
            (2_049, 32_784),
            (4_096, 65_536),
            (4_097, 45_066),
            (5_000, 54_096),
            (65_536, 65_536),
            (70_000, 65_536),
        ];
        for (len, all) in measured {
            let (mut net, id) = pipe();
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut expected = Vec::new();
            while let Ok(Some(n)) = write(&mut net, id, &bytes) {
                expected.extend_from_slice(&bytes[..n]);
            }
            assert_eq!(expected.len(), all, "by writes of {len}");
            let mut out = Vec::new();
            while let Ok(Some(part)) = read(&mut net, id, 777) {
                out.extend(part);
            }
            assert!(out == expected, "by writes of {len}: the bytes come out in order");
        }
    }

    #[test]
    fn a_write_of_up_to_a_page_is_whole_or_not_at_all() {
        let (mut net, id) = pipe();
        assert_eq!(write(&mut net, id, &[0; 16 * PAGE - 100]), Ok(Some(16 * PAGE - 100)));
        assert_eq!(write(&mut net, id, &[0; 101]), Ok(None));
        assert_eq!(write(&mut net, id, &[0; 100]), Ok(Some(100)));
    }

    #[test]
    fn a_writer_hears_of_a_free_page_and_a_reader_of_every_write() {
        let (mut net, id) = pipe();
        let (to_reader, to_writer) = [PipeEnd::Read, PipeEnd::Write].map(|end| Effect::Pipe { slot: 0, end }).into();
        for _ in 0..16 {
            write(&mut net, id, &[0; PAGE]).expect("it is open").expect("a page is free");
            assert_eq!(net.effects.drain(..).collect::<Vec<_>>(), [to_reader]);
        }
        assert_eq!(net.pipe_ready(id, PipeEnd::Write), Ok([false, false, false]));
        read(&mut net, id, PAGE - 1).expect("it is open");
        assert_eq!(net.effects, []);
        read(&mut net, id, 1).expect("it is open");
        assert_eq!(net.effects.drain(..).collect::<Vec<_>>(), [to_writer]);
        read(&mut net, id, PAGE).expect("it is open");
        assert_eq!(net.effects, [], "it was not full");
    }

    #[test]
    fn closing_ends_readers_and_breaks_writers() {
        let (mut net, id) = pipe();
        write(&mut net, id, b"last").expect("it is open");
        net.pipe_close(id, PipeEnd::Write);
        assert_eq!(net.pipe_ready(id, PipeEnd::Read), Ok([true, false, true]));
        assert_eq!(read(&mut net, id, 9), Ok(Some(b"last".to_vec())));
        assert_eq!(read(&mut net, id, 9), Ok(Some(vec![])));
        assert_eq!(write(&mut net, id, b"x"), Err(Errno::EBADF));
        net.pipe_close(id, PipeEnd::Read);
        let id = net.pipe(NodeId(1));
        net.effects.clear();
        net.pipe_close(id, PipeEnd::Read);
        assert_eq!(net.effects, [Effect::Pipe { slot: id.index, end: PipeEnd::Write }]);
        assert_eq!(write(&mut net, id, b"x"), Err(Errno::EPIPE));
        assert_eq!(net.pipe_ready(id, PipeEnd::Write), Ok([false, true, true]));
        net.pipes_node_died(NodeId(1));
        assert_eq!(net.pipe_ready(id, PipeEnd::Write), Err(Errno::EBADF));
    }

    #[test]
    fn the_capacity_is_a_power_of_two_of_pages_and_holds_what_is_there() {
        let (mut net, id) = pipe();
        assert_eq!(net.set_pipe_capacity(id, PipeEnd::Read, 5_000), Ok(8_192));
        write(&mut net, id, &[0; 8_192]).expect("it is open").expect("it is empty");
        assert_eq!(net.set_pipe_capacity(id, PipeEnd::Write, 1), Err(Errno::EBUSY));
        assert_eq!(net.set_pipe_capacity(id, PipeEnd::Write, (1 << 20) + 1), Err(Errno::EPERM));
        assert_eq!(net.set_pipe_capacity(id, PipeEnd::Write, 1 << 20), Ok(1 << 20));
        assert_eq!(net.pipe_unread(id, PipeEnd::Read), Ok(8_192));
    }
}
