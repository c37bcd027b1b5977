//! How a seed answers a question: 64 random bits in, a value out. Integers only.

/// A probability as a fraction. Invariant: `num <= den`, `den > 0`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ratio {
    num: u32,
    den: u32,
}

impl Ratio {
    /// Never.
    pub const NEVER: Ratio = Ratio { num: 0, den: 1 };
    /// Always.
    pub const ALWAYS: Ratio = Ratio { num: 1, den: 1 };

    /// `num` out of `den`.
    ///
    /// # Panics
    /// If `den` is 0 or `num` is greater than `den`.
    pub const fn new(num: u32, den: u32) -> Ratio {
        assert!(den > 0 && num <= den, "a ratio needs num <= den and den > 0");
        Ratio { num, den }
    }

    /// The numerator.
    pub const fn num(self) -> u32 {
        self.num
    }

    /// The denominator.
    pub const fn den(self) -> u32 {
        self.den
    }

    /// The probability in units of 2^-32, rounded down; 2^32 is always.
    pub const fn threshold(self) -> u64 {
        // A division is dear, and most things never happen.
        if self.num == 0 { 0 } else { ((self.num as u64) << 32) / self.den as u64 }
    }

    /// Whether 32 random bits fall inside.
    #[inline]
    fn holds(self, bits: u32) -> bool {
        ((bits as u64 * self.den as u64) >> 32) < self.num as u64
    }
}

/// The law of one question. Probabilities are taken from the high half of the random word, sizes from the low half, so
/// that whether something happens and how much are independent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Law {
    /// Uniform in `0..bound`; 0 if `bound` is 0.
    Below(u64),
    /// 1 with this probability, else 0.
    Chance(Ratio),
    /// 0, or with probability `p` log-uniform in `1..=max`: every power of two is equally likely.
    Rare {
        /// How often the answer is not 0.
        p: Ratio,
        /// The greatest answer; at most 2^32.
        max: u64,
    },
    /// 0, or with probability `p` any other 32-bit word, from which the asker takes all details. One choice, one event:
    /// what shrinks together is drawn together.
    Event(Ratio),
    /// 0, or `kind + 4 * detail`: kind 1, 2 or 3 with these odds (units of 2^-32, see [`Ratio::threshold`]; what exceeds
    /// certainty is cut), detail any 30-bit word. The value means the same whatever the odds, so a tape outlives them.
    Kinds([u64; 3]),
    /// 0 with probability `none`, else 1, 2, … by these weights: `Weighted { none: 3, of: [1, 1, 0, 0] }` is 0 in three
    /// of five cases.
    Weighted {
        /// Weight of the answer 0.
        none: u32,
        /// Weights of 1, 2, 3 and 4.
        of: [u32; 4],
    },
    /// 0, or with probability `p` one of finitely many values from 1 up, each with a meaning of its own: first a group of
    /// them by weight, then one of the group, all equally likely. Groups lie one behind the other; an empty one is not drawn.
    Grouped {
        /// How often the answer is not 0.
        p: Ratio,
        /// Weights of the groups.
        weights: [u8; 3],
        /// How many values each group has.
        sizes: [u32; 3],
    },
}

impl Law {
    /// Whether a seed can only answer 0.
    #[inline]
    pub fn never(&self) -> bool {
        match self {
            Law::Below(bound) => *bound <= 1,
            Law::Chance(p) | Law::Event(p) => p.num == 0,
            Law::Rare { p, max } => p.num == 0 || *max == 0,
            Law::Kinds(odds) => *odds == [0; 3],
            Law::Weighted { of, .. } => *of == [0; 4],
            Law::Grouped { p, weights, sizes } => {
                p.num == 0 || !weights.iter().zip(sizes).any(|(w, s)| *w > 0 && *s > 0)
            }
        }
    }

    /// How many values it allows, 0 among them.
    pub fn values(&self) -> u64 {
        match *self {
            _ if self.never() => 1,
            Law::Below(bound) => bound,
            Law::Chance(_) => 2,
            Law::Rare { max, .. } => max + 1,
            Law::Event(_) | Law::Kinds(_) => 1 << 32,
            Law::Weighted { of, .. } => of.iter().rposition(|w| *w > 0).map_or(1, |i| i as u64 + 2),
            Law::Grouped { sizes, .. } => 1 + sizes.iter().map(|s| *s as u64).sum::<u64>(),
        }
    }

    /// The value that 64 random bits give.
    #[inline]
    pub fn value(&self, word: u64) -> u64 {
        let (high, low) = ((word >> 32) as u32, word as u32);
        match *self {
            Law::Below(bound) => ((word as u128 * bound as u128) >> 64) as u64,
            Law::Chance(p) => p.holds(high) as u64,
            Law::Rare { p, max } => {
                if !p.holds(high) || max == 0 {
                    return 0;
                }
                let max = max.min(1 << 32);
                let bits = 64 - max.leading_zeros();
                // Which power of two from the upper half of `low`, the place within it from what is left: the lower half,
                // and below it the bits of `high` that hardly weigh in the probability.
                let magnitude = ((low >> 16) * bits) >> 16;
                let base = 1u64 << magnitude;
                let rest = ((low as u64) << 48) >> 32 | (high & 0xffff) as u64;
                let within = (rest * base) >> 32;
                (base + within).min(max)
            }
            Law::Event(p) => {
                if p.holds(high) {
                    low.max(1) as u64
                } else {
                    0
                }
            }
            Law::Kinds([a, b, c]) => match high as u64 {
                h if h < a => 1 | (low as u64 & !3),
                h if h < a.saturating_add(b) => 2 | (low as u64 & !3),
                h if h < a.saturating_add(b).saturating_add(c) => 3 | (low as u64 & !3),
                _ => 0,
            },
            Law::Weighted { none, of } => {
                let total = of.iter().fold(none as u64, |sum, w| sum + *w as u64);
                let mut point = ((word as u128 * total as u128) >> 64) as u64;
                if point < none as u64 || total == 0 {
                    return 0;
                }
                point -= none as u64;
                for (i, weight) in of.iter().enumerate() {
                    if point < *weight as u64 {
                        return i as u64 + 1;
                    }
                    point -= *weight as u64;
                }
                unreachable!("point is below the sum of the weights")
            }
            Law::Grouped { p, weights, sizes } => {
                let weight = |i: usize| if sizes[i] > 0 { weights[i] as u32 } else { 0 };
                let total: u32 = (0..3).map(weight).sum();
                if !p.holds(high) || total == 0 {
                    return 0;
                }
                let (mut point, mut first) = (((low >> 16) * total) >> 16, 1);
                let mut group = 0;
                while point >= weight(group) {
                    point -= weight(group);
                    first += sizes[group] as u64;
                    group += 1;
                }
                // As in `Rare`: what is left of the word.
                let rest = ((low as u64) << 48) >> 32 | (high & 0xffff) as u64;
                first + ((rest * sizes[group] as u64) >> 32)
            }
        }
    }

    /// Brings a value from elsewhere (a tape of an older program) into what this law allows.
    #[inline]
    pub fn clamp(&self, value: u64) -> u64 {
        match *self {
            Law::Below(bound) => value.min(bound.saturating_sub(1)),
            Law::Chance(_) => value.min(1),
            Law::Rare { max, .. } => value.min(max),
            Law::Event(_) => value.min(u32::MAX as u64),
            Law::Kinds(_) if value & 3 == 0 => 0,
            Law::Kinds(_) => value & u32::MAX as u64,
            Law::Weighted { .. } => value.min(4),
            Law::Grouped { .. } => value.min(self.values() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::mix;

    fn draws(law: Law) -> Vec<u64> {
        (0..100_000u64).map(|n| law.value(mix(0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321, n, 0))).collect()
    }

    #[test]
    fn chance_is_as_likely_as_it_says() {
        let hits = draws(Law::Chance(Ratio::new(1, 8))).iter().filter(|v| **v == 1).count();
        assert!((12_000..13_000).contains(&hits), "{hits}");
    }

    #[test]
    fn rare_reaches_every_power_of_two_and_never_passes_max() {
        let values = draws(Law::Rare { p: Ratio::ALWAYS, max: 2047 });
        assert!(values.iter().all(|v| (1..=2047).contains(v)));
        for magnitude in 0..11 {
            let share = values.iter().filter(|v| v.ilog2() == magnitude).count();
            assert!((8_000..10_500).contains(&share), "2^{magnitude}: {share}");
        }
    }

    #[test]
    fn weighted_follows_its_weights() {
        let values = draws(Law::Weighted { none: 3, of: [1, 0, 1, 0] });
        let count = |x| values.iter().filter(|v| **v == x).count();
        assert!((59_000..61_000).contains(&count(0)));
        assert!((19_000..21_000).contains(&count(1)));
        assert_eq!(count(2) + count(4), 0);
    }

    #[test]
    fn kinds_are_as_likely_as_their_odds_and_certainty_is_certain() {
        let odds = |n, d| Ratio::new(n, d).threshold();
        let values = draws(Law::Kinds([odds(1, 8), odds(1, 4), 0]));
        let count = |kind| values.iter().filter(|v| **v & 3 == kind).count();
        assert!((12_000..13_000).contains(&count(1)) && (24_400..25_600).contains(&count(2)));
        assert_eq!((count(3), values.iter().filter(|v| **v == 0).count()), (0, count(0)));
        assert!(draws(Law::Kinds([0, Ratio::ALWAYS.threshold(), 0])).iter().all(|v| v & 3 == 2));
    }

    #[test]
    fn groups_follow_their_weights_and_each_value_of_a_group_is_as_likely() {
        let values = draws(Law::Grouped { p: Ratio::new(1, 2), weights: [2, 1, 1], sizes: [1, 0, 10] });
        let count = |x| values.iter().filter(|v| **v == x).count();
        assert!((49_000..51_000).contains(&count(0)));
        assert!((32_500..34_000).contains(&count(1)), "{}", count(1));
        assert!((2..=11).all(|x| (1_500..1_900).contains(&count(x))));
        assert_eq!(values.iter().max(), Some(&11));
    }

    #[test]
    fn laws_that_never_deviate_say_so() {
        for law in [Law::Below(1), Law::Chance(Ratio::NEVER), Law::Rare { p: Ratio::NEVER, max: 9 }] {
            assert!(law.never());
            assert!(draws(law).iter().all(|v| *v == 0));
        }
        assert!(!Law::Below(2).never());
    }
}
