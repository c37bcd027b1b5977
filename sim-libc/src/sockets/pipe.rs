//! Pipes.

use super::{bits, filling, room};
use crate::descriptors::{Answer, Description, Errno, HUP, in_vain};
use sim_core::World;
use sim_net::Pipe;
use std::io::{IoSlice, IoSliceMut};
use std::task::Waker;

/// One end of a pipe.
pub(crate) struct PipeEnd(Pipe);

impl PipeEnd {
    /// The reading and the writing end.
    pub(crate) fn pair(world: &World) -> Answer<[PipeEnd; 2]> {
        super::in_a_network(world)?;
        Ok(Pipe::new()?.map(PipeEnd))
    }

    pub(crate) fn ready(&self) -> u32 {
        self.0.readiness().map_or(HUP, bits)
    }

    pub(crate) fn observe(&self, observer: Waker) {
        // A pipe whose machine died has nothing to tell any more.
        let _nothing_to_tell = self.0.observe(observer);
    }

    pub(crate) fn news(&self) -> u32 {
        super::unix::told(self.0.take_news().ok(), self.ready())
    }

    pub(crate) fn read(&self, own: &Description, into: &mut [IoSliceMut<'_>]) -> Answer<usize> {
        let read = own.wait("bytes from a pipe", false, None, || Ok(self.0.try_read(room(into), filling(into, 0))?));
        if read == Ok(0) {
            in_vain();
        }
        read
    }

    /// Writes all, unless the end does not block.
    pub(crate) fn write(&self, own: &Description, from: &[IoSlice<'_>]) -> Answer<usize> {
        super::send_all(from, |rest| own.wait("room in a pipe", false, None, || Ok(self.0.try_write(rest)?)))
    }

    pub(crate) fn unread(&self) -> Answer<usize> {
        Ok(self.0.unread()?)
    }

    /// F_GETPIPE_SZ and F_SETPIPE_SZ.
    pub(crate) fn control(&self, command: i32, argument: i64) -> Answer<i64> {
        match command {
            libc::F_GETPIPE_SZ => Ok(self.0.capacity()? as i64),
            libc::F_SETPIPE_SZ => {
                let bytes = usize::try_from(argument as u32).map_err(|_| Errno::INVALID)?;
                Ok(self.0.set_capacity(bytes)? as i64)
            }
            _ => Err(Errno::INVALID),
        }
    }
}
