//! Answers that a seed gives. ChaCha8 expands the seed into keys for each stream; a two-multiply mix of `(key, n)` under
//! them answers an address in a nanosecond and a half, with no state per key.
//!
//! The expansion is not decoration: with small raw seeds as keys the same mix fails statistical tests. So no mix is
//! offered under a bare seed. The mix is not cryptographic; bytes handed to the program are ChaCha words.

use super::{Address, Law, Source, Stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// 64 bits for the address `(key, n)` under a stream's two keys: wyhash's two-multiply mix.
#[inline]
pub fn mix(a: u64, b: u64, key: u64, n: u64) -> u64 {
    let fold = |x: u64, y: u64| {
        let p = x as u128 * y as u128;
        p as u64 ^ (p >> 64) as u64
    };
    let first = fold(key ^ a, n ^ b);
    fold(first ^ 0x9e37_79b9_7f4a_7c15, a ^ key.rotate_left(32) ^ 0xe703_7ed1_a0b4_28db)
}

fn chacha(seed: u64, domain: u64) -> ChaCha8Rng {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&domain.to_le_bytes());
    bytes[16..].copy_from_slice(b"sim choices v1\0\0");
    ChaCha8Rng::from_seed(bytes)
}

/// A seed as a source.
pub struct Seeded {
    keys: [[u64; 2]; Stream::COUNT],
}

impl Seeded {
    /// The source of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut words = chacha(seed, 0);
        Seeded { keys: std::array::from_fn(|_| [words.next_u64(), words.next_u64()]) }
    }
}

impl Source for Seeded {
    #[inline]
    fn answer(&mut self, at: Address, law: &Law) -> u64 {
        let [a, b] = self.keys[at.stream.0 as usize % Stream::COUNT];
        law.value(mix(a, b, at.key, at.n as u64))
    }

    fn skips_never(&self) -> bool {
        true
    }
}

/// The program's own randomness: always seeded, never zeroed. Not cryptographic: whoever knows the seed knows the bytes.
#[derive(Clone, Copy)]
pub struct Entropy {
    keys: [u64; 4],
}

impl Entropy {
    /// The randomness of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut words = chacha(seed, 1);
        Entropy { keys: std::array::from_fn(|_| words.next_u64()) }
    }

    /// Fills `out` with ChaCha8 words under `(seed, key, n)`.
    pub fn fill(&self, key: u64, n: u32, out: &mut [u8]) {
        let [a, b, c, d] = self.keys;
        chacha(mix(a, b, key, n as u64), mix(c, d, key, n as u64)).fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_key_and_ordinal_matters() {
        let keys = Seeded::new(1).keys[0];
        let base = mix(keys[0], keys[1], 0x1234, 56);
        for bit in 0..64 {
            let flipped = (mix(keys[0], keys[1], 0x1234 ^ (1 << bit), 56) ^ base).count_ones();
            assert!((12..52).contains(&flipped), "key bit {bit}: {flipped}");
        }
        for bit in 0..32 {
            let flipped = (mix(keys[0], keys[1], 0x1234, 56 ^ (1 << bit)) ^ base).count_ones();
            assert!((12..52).contains(&flipped), "ordinal bit {bit}: {flipped}");
        }
    }

    #[test]
    fn neighbouring_seeds_share_nothing() {
        let (a, b) = (Seeded::new(1), Seeded::new(2));
        assert!((0..Stream::COUNT).all(|s| a.keys[s] != b.keys[s]));
    }
}
