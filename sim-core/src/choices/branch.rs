//! The same run up to a point, another future after it.

use super::{Address, Law, Seeded, Source};

/// Answers as `inner` does for the first `count` questions, then as another seed would.
pub struct Branch<S> {
    inner: S,
    left: u64,
    after: Seeded,
}

impl<S: Source> Branch<S> {
    /// `inner` for the first `count` questions it would have been asked (those whose law can deviate), then `seed`.
    pub fn new(inner: S, count: u64, seed: u64) -> Self {
        Branch { inner, left: count, after: Seeded::new(seed) }
    }
}

impl<S: Source> Source for Branch<S> {
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        if self.left == 0 {
            return self.after.answer(at, law);
        }
        if !law.never() {
            self.left -= 1;
        }
        self.inner.answer(at, law)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
    use super::*;

    #[test]
    fn answers_are_the_first_seeds_until_the_point_and_the_seconds_after_it() {
        let mut branch = Branch::new(Seeded::new(1), 10, 2);
        let (mut first, mut second) = (Seeded::new(1), Seeded::new(2));
        for n in 0..20 {
            let at = Address { stream: Stream::NET, key: 4, n };
            let expected = if n < 10 { &mut first } else { &mut second }.answer(at, &Law::Below(1 << 50));
            assert_eq!(branch.answer(at, &Law::Below(1 << 50)), expected);
        }
    }
}
