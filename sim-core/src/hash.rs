//! Small hashes with fixed keys: for stable identities, the running digest, and maps whose order nobody asks for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// Folds a word into a running hash. Order matters.
#[inline]
pub fn fold(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(K)
}

/// A stable identity from parts, well mixed: the same parts give the same key in every build and process.
#[inline]
pub fn key(parts: &[u64]) -> u64 {
    let mut h = 0x51_7c_c1_b7_27_22_0a_95u64;
    for part in parts {
        let p = (h ^ part) as u128 * 0xe703_7ed1_a0b4_28db_u128;
        h = (p as u64 ^ (p >> 64) as u64).wrapping_add(K);
    }
    let p = (h ^ (h >> 32)) as u128 * 0xa076_1d64_78bd_642f_u128;
    p as u64 ^ (p >> 64) as u64
}

/// A stable identity from text.
pub fn text(s: &str) -> u64 {
    let mut chunks = s.as_bytes().chunks_exact(8);
    let mut h = s.len() as u64;
    for chunk in &mut chunks {
        h = fold(h, u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
    }
    let mut last = [0u8; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    key(&[h, u64::from_le_bytes(last)])
}

/// A map with fixed keys. It is looked up, never iterated: its order means nothing.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Fixed>>;

/// The hasher of [`Map`].
#[derive(Default, Clone)]
pub struct Fixed(u64);

impl Hasher for Fixed {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = fold(self.0, u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, x: u8) {
        self.0 = fold(self.0, x as u64);
    }
    fn write_u16(&mut self, x: u16) {
        self.0 = fold(self.0, x as u64);
    }
    fn write_u32(&mut self, x: u32) {
        self.0 = fold(self.0, x as u64);
    }
    fn write_u64(&mut self, x: u64) {
        self.0 = fold(self.0, x);
    }
    fn write_usize(&mut self, x: usize) {
        self.0 = fold(self.0, x as u64);
    }
}
