//! Another source's answers, some of them forced to 0. This is what shrinking a run means.

use super::{Address, Law, Source};

/// `inner`, except where `forced` says 0.
pub struct Masked<S, F> {
    inner: S,
    forced: F,
}

impl<S: Source, F: Fn(Address) -> bool> Masked<S, F> {
    /// Answers as `inner` does, and 0 wherever `forced` is true.
    pub fn new(inner: S, forced: F) -> Self {
        Masked { inner, forced }
    }
}

impl<S: Source, F: Fn(Address) -> bool> Source for Masked<S, F> {
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        if (self.forced)(at) { 0 } else { self.inner.answer(at, law) }
    }

    fn skips_never(&self) -> bool {
        self.inner.skips_never()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Seeded, Stream};
    use super::*;

    #[test]
    fn only_the_forced_addresses_answer_zero() {
        let mut plain = Seeded::new(1);
        let mut masked = Masked::new(Seeded::new(1), |at: Address| at.key == 1);
        for n in 0..50 {
            let other = Address { stream: Stream::NET, key: 2, n };
            let forced = Address { stream: Stream::NET, key: 1, n };
            assert_eq!(masked.answer(other, &Law::Below(1000)), plain.answer(other, &Law::Below(1000)));
            assert_eq!(masked.answer(forced, &Law::Below(1000)), 0);
        }
    }
}
