//! The bytes of the log: how a register is written, and how far a log that a power loss cut short can be trusted.
//! Pure: no files here.
//!
//! A record is a length (4 bytes), a checksum (8 bytes) of length and content, and the content; numbers are
//! little-endian. What was synced before the power went is intact. Behind it anything may stand: nothing, part of a
//! record, zeros to the file's new length, or a record of which some 512-byte sectors arrived. So reading stops at the first
//! record whose checksum is wrong, and whatever follows was never acknowledged. The checksum of zeros is not zero, and an
//! empty record is refused, so a run of zeros is no record.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::register::{Register, Version, Writer};

/// Length and checksum.
const HEADER_BYTES: usize = 12;

/// Length of the key, counter, client, sequence.
const FIXED_BYTES: usize = 2 + 3 * 8;

/// Appends one record to `out`.
pub fn encode(key: &str, register: &Register, out: &mut Vec<u8>) {
    let key_bytes = u16::try_from(key.len()).expect("keys are checked on arrival");
    let content_bytes = FIXED_BYTES + key.len() + register.value.len();
    let length = u32::try_from(content_bytes).expect("values are limited on arrival").to_le_bytes();
    let start = out.len();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&key_bytes.to_le_bytes());
    for number in [register.version.counter, register.version.writer.client, register.version.writer.sequence] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&register.value);
    let sum = checksum(&length, &out[start + HEADER_BYTES..]);
    out[start + 4..start + HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Reads records up to the first that is not whole, keeping the newest register of each key.
pub fn replay(mut log: &[u8]) -> BTreeMap<String, Register> {
    let mut registers = BTreeMap::new();
    while let Some((key, register, rest)) = decode(log) {
        keep_newer(&mut registers, key, register);
        log = rest;
    }
    registers
}

/// Stores a register unless a newer one is there.
pub fn keep_newer(registers: &mut BTreeMap<String, Register>, key: String, register: Register) {
    let held = registers.entry(key).or_default();
    if register.version > held.version {
        *held = register;
    }
}

/// The first record of `log` and what follows it, or nothing if it is not whole.
fn decode(log: &[u8]) -> Option<(String, Register, &[u8])> {
    let (header, rest) = log.split_at_checked(HEADER_BYTES)?;
    let (length, sum) = header.split_at(4);
    let (content, rest) = rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
    if u64::from_le_bytes(sum.try_into().ok()?) != checksum(length, content) {
        return None;
    }
    let (fixed, variable) = content.split_at_checked(FIXED_BYTES)?;
    let number = |at: usize| fixed[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let writer = Writer { client: number(10)?, sequence: number(18)? };
    let (key, value) = variable.split_at_checked(u16::from_le_bytes([fixed[0], fixed[1]]).into())?;
    let register = Register { version: Version { counter: number(2)?, writer }, value: Bytes::copy_from_slice(value) };
    Some((String::from_utf8(key.to_vec()).ok()?, register, rest))
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo).
fn checksum(length: &[u8], content: &[u8]) -> u64 {
    length
        .iter()
        .chain(content)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(counter: u64, value: &str) -> Register {
        let writer = Writer { client: 7, sequence: counter };
        Register { version: Version { counter, writer }, value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    /// A log of one record for each of `a`, `b`, `c`, and where each record ends.
    fn three_records() -> (Vec<u8>, [usize; 3]) {
        let mut log = Vec::new();
        let ends = ["a", "b", "c"].map(|key| {
            encode(key, &register(1, &format!("value of {key} {}", "x".repeat(600))), &mut log);
            log.len()
        });
        (log, ends)
    }

    fn keys(log: &[u8]) -> String {
        replay(log).into_keys().collect()
    }

    #[test]
    fn the_newest_version_wins_in_any_order() {
        let mut log = Vec::new();
        for (counter, value) in [(2, "second"), (3, "third"), (1, "first")] {
            encode("k", &register(counter, value), &mut log);
        }
        assert_eq!(replay(&log)["k"], register(3, "third"));
    }

    #[test]
    fn a_log_cut_anywhere_keeps_every_whole_record() {
        let (log, ends) = three_records();
        for cut in 0..=log.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(keys(&log[..cut]), "abc"[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_no_record() {
        let (mut log, _) = three_records();
        for zeros in [1, 11, 12, 13, 512, 4096] {
            log.truncate(three_records().0.len());
            log.resize(log.len() + zeros, 0);
            assert_eq!(keys(&log), "abc", "{zeros} zeros");
        }
        assert_eq!(keys(&[0; 4096]), "");
    }

    #[test]
    fn a_missing_sector_ends_the_log_before_its_record() {
        let (log, ends) = three_records();
        for sector in 0..log.len() / 512 {
            let mut torn = log.clone();
            torn[sector * 512..(sector + 1) * 512].fill(0);
            let whole = ends.iter().filter(|end| **end <= sector * 512).count();
            assert_eq!(keys(&torn), "abc"[..whole], "sector {sector}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let mut log = Vec::new();
        encode("k", &register(1, "v"), &mut log);
        for bit in 0..log.len() * 8 {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(replay(&bad).is_empty(), "bit {bit}");
        }
    }
}
