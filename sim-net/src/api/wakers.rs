//! Who waits for one thing. Mostly one task: only more than one take memory.

use sim_core::DeviceCx;
use std::task::Waker;

#[derive(Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Wakers {
    /// Adds a waker, unless one of the same task is there.
    #[inline]
    pub fn add(&mut self, waker: &Waker) {
        match &self.first {
            None => self.first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if self.more.iter().any(|w| w.will_wake(waker)) => {}
            Some(_) => self.more.push(waker.clone()),
        }
    }

    /// Wakes all of them, in the order they came.
    #[inline]
    pub fn wake(&mut self, cx: &mut DeviceCx<'_>) {
        if let Some(first) = self.first.take() {
            cx.wake(first);
            self.more.drain(..).for_each(|w| cx.wake(w));
        }
    }

    /// Forgets them: the socket is closed.
    pub fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }
}
