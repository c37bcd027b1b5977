//! poll(2) and select(2): waiting for several descriptors once.

use super::{Description, Descriptors, Owner, calls};
use crate::{raw, threads};
use sim_core::World;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Reported whether asked for or not.
const ALWAYS: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

/// One descriptor that is waited for.
#[derive(Clone)]
pub(super) struct Watched {
    target: Target,
    events: i16,
}

#[derive(Clone)]
enum Target {
    Run(Rc<Description>),
    /// Of the kernel's numbers a run has files, and its output: always ready.
    Kernel,
    /// A number that nobody has.
    Missing,
    /// Below zero: left out.
    Ignored,
}

/// Whether the kernel knows this number.
pub(super) fn is_open(fd: i32) -> bool {
    // SAFETY: F_GETFD takes a number and changes nothing.
    unsafe { raw::call(libc::SYS_fcntl, [fd as i64, libc::F_GETFD as i64, 0, 0, 0, 0]) >= 0 }
}

impl Watched {
    pub(super) fn new(world: &World, fd: i32, events: i16) -> Watched {
        let target = match Descriptors::of(world).owner(world, fd) {
            _ if fd < 0 => Target::Ignored,
            Owner::Run(own) => Target::Run(own),
            Owner::Kernel if is_open(fd) => Target::Kernel,
            Owner::Kernel | Owner::Nobody => Target::Missing,
        };
        Watched { target, events }
    }

    /// What it is ready for, of what was asked.
    pub(super) fn ready(&self) -> i16 {
        match &self.target {
            Target::Run(own) => own.ready() as i16 & (self.events | ALWAYS),
            Target::Kernel => (libc::POLLIN | libc::POLLRDNORM | libc::POLLOUT | libc::POLLWRNORM) & self.events,
            Target::Missing => libc::POLLNVAL,
            Target::Ignored => 0,
        }
    }
}

/// Waits until one of them is ready, or `timeout` has passed.
pub(super) fn wait(world: &'static World, list: &[Watched], timeout: Option<Duration>) {
    let any = || list.iter().any(|one| one.ready() != 0);
    if any() {
        return;
    }
    if timeout == Some(Duration::ZERO) {
        return calls::glance();
    }
    for one in list {
        if let Target::Run(own) = &one.target {
            own.watch();
        }
    }
    let until = timeout.map(|timeout| world.now() + timeout);
    threads::wait("a descriptor to be ready (poll)", until, |cx: &mut Context<'_>| {
        if any() {
            return Poll::Ready(());
        }
        for one in list {
            if let Target::Run(own) = &one.target {
                own.wake_later(cx.waker());
            }
        }
        Poll::Pending
    });
}
