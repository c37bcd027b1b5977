//! Who waits for one thing. Mostly one task: only more than one take memory.

use super::News;
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
    fn clear(&mut self) {
        self.first = None;
        self.more.clear();
    }
}

/// All who look at one socket, or at one end of it: the polls under way, and the observer that stays.
#[derive(Default)]
pub(super) struct Watch {
    pub readers: Wakers,
    pub writers: Wakers,
    observer: Option<Waker>,
    news: News,
}

impl Watch {
    /// Wakes whom `news` concern.
    #[inline]
    pub fn tell(&mut self, news: News, cx: &mut DeviceCx<'_>) {
        if news.read {
            self.readers.wake(cx);
        }
        if news.write {
            self.writers.wake(cx);
        }
        if let Some(observer) = &self.observer {
            self.news.read |= news.read;
            self.news.write |= news.write;
            cx.wake(observer.clone());
        }
    }

    pub fn observe(&mut self, observer: Waker) {
        self.observer = Some(observer);
    }

    pub fn unobserve(&mut self) {
        self.observer = None;
        self.news = News::default();
    }

    #[inline]
    pub fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Forgets everybody: the socket is closed.
    pub fn clear(&mut self) {
        self.readers.clear();
        self.writers.clear();
        self.unobserve();
    }
}
