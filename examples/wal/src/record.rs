//! The bytes of the log. Pure: no files here.
//!
//! The log begins with the number of its first record (8 bytes) and a checksum of it (4). A record is its length (4), a
//! checksum of length and content (4), and its content. Numbers are little-endian, checksums CRC-32 (IEEE 802.3).

use crate::Bug;

const HEAD_BYTES: usize = 12;
const PREFIX_BYTES: usize = 8;

/// The beginning of a log whose first record has this number.
pub fn head(first: u64) -> Vec<u8> {
    let number = first.to_le_bytes();
    [number.as_slice(), &crc32fast::hash(&number).to_le_bytes()].concat()
}

/// Adds a record to a log.
///
/// # Panics
/// If it has 4 GiB or more.
pub fn add(content: &[u8], bug: Option<Bug>, log: &mut Vec<u8>) {
    let length = u32::try_from(content.len()).expect("a record has less than 4 GiB").to_le_bytes();
    log.extend_from_slice(&length);
    log.extend_from_slice(&checksum(length, content, bug).to_le_bytes());
    log.extend_from_slice(content);
}

/// The number of the first record, and all records up to the first that is not whole; nothing if the head is not.
pub fn read(log: &[u8], bug: Option<Bug>) -> Option<(u64, Vec<Vec<u8>>)> {
    let (head, mut rest) = log.split_at_checked(HEAD_BYTES)?;
    let (number, sum) = head.split_at(8);
    if crc32fast::hash(number).to_le_bytes() != sum {
        return None;
    }
    let mut records = Vec::new();
    while let Some((content, behind)) = first(rest, bug) {
        records.push(content.to_vec());
        rest = behind;
    }
    Some((u64::from_le_bytes(number.try_into().ok()?), records))
}

/// The first record and what follows it, if it is whole.
fn first(log: &[u8], bug: Option<Bug>) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = log.split_at_checked(PREFIX_BYTES)?;
    let (length, sum) = prefix.split_at(4);
    let length: [u8; 4] = length.try_into().ok()?;
    let (content, behind) = rest.split_at_checked(u32::from_le_bytes(length) as usize)?;
    (checksum(length, content, bug).to_le_bytes() == sum).then_some((content, behind))
}

fn checksum(length: [u8; 4], content: &[u8], bug: Option<Bug>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if bug != Some(Bug::LengthNotCovered) {
        hasher.update(&length);
    }
    hasher.update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [&[u8]; 3] = [b"one", b"", &[7; 700]];

    /// A log, and where its head and each of its records end.
    fn log() -> (Vec<u8>, Vec<usize>) {
        let mut log = head(5);
        let mut ends = vec![log.len()];
        for record in RECORDS {
            add(record, None, &mut log);
            ends.push(log.len());
        }
        (log, ends)
    }

    #[test]
    fn a_log_cut_anywhere_keeps_its_whole_records() {
        let (log, ends) = log();
        for cut in 0..=log.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let expected = (whole > 0).then(|| (5, RECORDS[..whole - 1].iter().map(|r| r.to_vec()).collect()));
            assert_eq!(read(&log[..cut], None), expected, "cut at {cut}");
        }
    }

    #[test]
    fn zeros_are_no_records_unless_the_checksum_forgets_the_length() {
        let zeros = [head(1), vec![0; 4096]].concat();
        assert_eq!(read(&zeros, None), Some((1, vec![])));
        let found = read(&zeros, Some(Bug::LengthNotCovered)).expect("the head is whole").1;
        assert_eq!(found, vec![b""; 4096 / PREFIX_BYTES]);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let (log, ends) = log();
        for bit in 0..log.len() * 8 {
            let mut bad = log.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let whole = ends.iter().filter(|end| **end <= bit / 8).count();
            assert_eq!(read(&bad, None).map(|(_, records)| records.len() + 1).unwrap_or(0), whole, "bit {bit}");
        }
    }
}
