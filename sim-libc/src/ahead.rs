//! Memory that is asked for before it is used.
//!
//! Each machine has a runtime, and each runtime lies in some thirty places. Where there are hundreds of them no cache keeps them
//! all, and a turn would fetch one place after the other. When it is known that a machine will be turned, all of them are asked
//! for at once. Nothing is read: what was freed meanwhile does no harm.

use std::sync::Arc;

/// As many lines of one value as are worth it.
const MOST_LINES: usize = 16;
const LINE_BYTES: usize = 64;

/// Where something lies: addresses of lines, with how many follow one another in the bits that are 0 in such an address. The list
/// is itself fetched line by line.
#[derive(Clone, Debug, Default)]
pub struct Ahead(Vec<usize>);

impl Ahead {
    /// Also what `value` is made of, without what it points to.
    pub fn add<T: ?Sized>(&mut self, value: &T) {
        let first = (&raw const *value).addr() & !(LINE_BYTES - 1);
        let end = (&raw const *value).addr() + size_of_val(value);
        self.0.push(first | (end - first).div_ceil(LINE_BYTES).min(MOST_LINES));
    }

    /// Also what is shared, and the count of those who share it.
    pub fn add_shared<T>(&mut self, value: &Arc<T>) {
        // Two counts lie before the value, as far as its alignment asks.
        let counts = Arc::as_ptr(value).addr() - align_of::<T>().max(2 * size_of::<usize>());
        self.0.push(counts & !(LINE_BYTES - 1) | 1);
        self.add(&**value);
    }

    /// Asks for all of it.
    #[inline]
    pub fn fetch(&self) {
        self.0.iter().for_each(|lines| fetch(lines & !(LINE_BYTES - 1), lines % LINE_BYTES));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Asks for the `lines` from `address` on.
#[inline]
pub(crate) fn fetch(address: usize, lines: usize) {
    (0..lines).for_each(|i| fetch_line(address.wrapping_add(i * LINE_BYTES)));
}

#[inline]
fn fetch_line(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address does nothing that a program could notice (Intel SDM volume 2, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_value_is_asked_for_once() {
        #[repr(align(64))]
        struct Wide([u8; 200]);

        let mut ahead = Ahead::default();
        let wide = Wide([0; 200]);
        ahead.add(&wide);
        assert_eq!(ahead.0, [(&raw const wide.0).addr() + 4]);
        ahead.fetch();
        let mut ahead = Ahead::default();
        ahead.add(&[0u8; 4096]);
        assert_eq!(ahead.0[0] % LINE_BYTES, MOST_LINES);
    }
}
