//! A line of text on the stack: formatting where nothing may allocate, lock or panic (signal handlers, `extern "C"`).

/// At most `N` bytes; what does not fit is cut off.
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    pub(crate) fn new() -> Self {
        Line { bytes: [0; N], len: 0 }
    }

    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.push_bytes(text.as_bytes())
    }

    pub(crate) fn push_bytes(&mut self, more: &[u8]) -> &mut Self {
        let room = N - self.len;
        let more = &more[..more.len().min(room)];
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
        self
    }

    /// In decimal, with leading zeros up to `width` and leading spaces up to `field`.
    pub(crate) fn push_number(&mut self, mut n: u64, width: usize, field: usize) -> &mut Self {
        let mut digits = [b' '; 24];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if at == 0 || (n == 0 && digits.len() - at >= width) {
                break;
            }
        }
        self.push_bytes(&digits[at.min(digits.len().saturating_sub(field))..])
    }

    pub(crate) fn push_hex(&mut self, n: u64) -> &mut Self {
        self.push("0x");
        let from = (n.leading_zeros() as usize / 4).min(15);
        for nibble in from..16 {
            let digit = (n >> (60 - 4 * nibble)) as usize & 15;
            self.push_bytes(&b"0123456789abcdef"[digit..digit + 1]);
        }
        self
    }

    pub(crate) fn has_room(&self, more: usize) -> bool {
        N - self.len >= more
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_and_cut() {
        let mut line = Line::<64>::new();
        line.push_number(1, 1, 4)
            .push(".")
            .push_number(234_567_890, 9, 9)
            .push(" ")
            .push_hex(0x7f)
            .push(" ")
            .push_hex(0);
        assert_eq!(std::str::from_utf8(line.bytes()), Ok("   1.234567890 0x7f 0x0"));
        let mut short = Line::<3>::new();
        short.push("ab").push_number(u64::MAX, 0, 0);
        assert_eq!(short.bytes(), b"ab1");
    }
}
