//! Wire: how numbers and texts lie in a record's bytes. Numbers are LEB128 varints; what is read
//! comes from a file, so every read is checked and none panics.

use crate::words::{Lsn, Offset};

/// Bytes whose checksum is right and that are no record all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends `value`, 7 bits a byte, low bits first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_offset(out: &mut Vec<u8>, offset: Offset) {
    put_number(out, offset.commit.as_u64());
    put_number(out, offset.op);
}

/// Reads a record's bytes from front to back.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// What is left, in bytes. No count of things that take a byte each can be higher, so it bounds
    /// what a count from the file makes us reserve.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.bytes.split_first().ok_or(Malformed("the record ends early"))?;
        self.bytes = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, Malformed> {
        // Most are, and most lengths of values.
        match self.bytes {
            [byte @ 0..0x80, rest @ ..] => {
                self.bytes = rest;
                Ok((*byte).into())
            }
            [low, high @ 0..0x80, rest @ ..] => {
                self.bytes = rest;
                Ok(u64::from(low & 0x7F) | u64::from(*high) << 7)
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number passes 64 bits"))
    }

    #[inline]
    pub(crate) fn number_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed("a number passes 32 bits"))
    }

    /// A number of things of which each takes a byte at least.
    #[inline]
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.number()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.left())
            .ok_or(Malformed("a count passes the record's end"))
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(Malformed("a length passes the record's end"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn text(&mut self) -> Result<Box<str>, Malformed> {
        let len = self.count()?;
        let text = std::str::from_utf8(self.take(len)?);
        text.map(Box::from).map_err(|_| Malformed("a name is not UTF-8"))
    }

    pub(crate) fn lsn(&mut self) -> Result<Lsn, Malformed> {
        self.number().map(Lsn::new)
    }

    pub(crate) fn offset(&mut self) -> Result<Offset, Malformed> {
        Ok(Offset::new(self.lsn()?, self.number()?))
    }

    /// Every record is taken to its last byte.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed("the record is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_beyond_64_bits_and_early_ends_are_refused() {
        assert!(Reader::new(&[0x80; 9]).number().is_err());
        assert!(Reader::new(&[0xFF; 10]).number().is_err());
        let mut high = [0xFF; 10];
        high[9] = 2;
        assert!(Reader::new(&high).number().is_err());
        assert!(Reader::new(&[5, b'a']).text().is_err());
        assert!(Reader::new(&[2, 0xC3, 0x28]).text().is_err());
    }

    proptest! {
        #[test]
        fn numbers_round_trip(value: u64) {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
