//! eventfd(2): a counter that can be waited for.

use super::{Answer, Description, Errno};
use std::cell::Cell;

/// The greatest value: one less than the greatest number.
const MAX: u64 = u64::MAX - 1;

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;

/// The counter behind a descriptor.
pub(crate) struct EventFd {
    count: Cell<u64>,
    /// EFD_SEMAPHORE: a read takes one.
    one_by_one: bool,
}

impl EventFd {
    pub(crate) fn new(count: u32, one_by_one: bool) -> EventFd {
        EventFd { count: Cell::new(count as u64), one_by_one }
    }

    pub(crate) fn ready(&self) -> u32 {
        let count = self.count.get();
        (if count > 0 { IN } else { 0 }) | (if count < MAX { OUT } else { 0 })
    }

    pub(crate) fn read(&self, own: &Description) -> Answer<u64> {
        own.wait("an eventfd to be written", false, None, || {
            let count = self.count.get();
            if count == 0 {
                return Err(Errno::AGAIN);
            }
            let taken = if self.one_by_one { 1 } else { count };
            self.count.set(count - taken);
            own.notify(OUT);
            Ok(taken)
        })
    }

    pub(crate) fn write(&self, own: &Description, add: u64) -> Answer<()> {
        if add == u64::MAX {
            return Err(Errno::INVALID);
        }
        own.wait("room in an eventfd", false, None, || {
            let sum = self.count.get().checked_add(add).filter(|sum| *sum <= MAX).ok_or(Errno::AGAIN)?;
            self.count.set(sum);
            own.notify(IN);
            Ok(())
        })
    }
}
