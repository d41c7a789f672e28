//! The byte form of rows: LEB128 integers, length-prefixed byte strings. FORMAT.md has the grammar.

use crate::error::{Error, Result};
use crate::id::ID_LENGTH;

/// Appends values to a row.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    /// An unsigned integer in LEB128.
    pub fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8)
    }

    /// A signed integer: zigzag, then LEB128.
    pub fn signed(&mut self, number: i64) -> &mut Self {
        self.number((number << 1 ^ number >> 63) as u64)
    }

    /// Bytes behind their length.
    pub fn string(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.raw(bytes)
    }

    /// Bytes whose length the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// The finished row.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values from a row. Every method fails on a row that ends too early.
#[derive(Debug)]
pub struct Decoder<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`, a row of the given kind (for error messages).
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Decoder { what, rest: bytes }
    }

    /// An error about this row.
    pub fn error(&self, reason: &'static str) -> Error {
        Error::Undecodable {
            what: self.what,
            reason,
        }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.raw(1)?[0])
    }

    /// An unsigned integer.
    pub fn number(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one form: what decodes encodes to the same bytes again.
                if byte == 0 && shift > 0 {
                    return Err(self.error("a number is not in its shortest form"));
                }
                return Ok(number);
            }
        }
        Err(self.error("a number is too large"))
    }

    /// An unsigned integer of at most 32 bits.
    pub fn number_u32(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| self.error("a number is too large"))
    }

    /// A signed integer.
    pub fn signed(&mut self) -> Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Bytes behind their length.
    pub fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        let length = usize::try_from(length).map_err(|_| self.error("it ends too early"))?;
        self.raw(length)
    }

    /// A fixed number of bytes.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.error("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The bytes of an id.
    pub fn id(&mut self) -> Result<[u8; ID_LENGTH]> {
        self.array()
    }

    /// A fixed number of bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    /// Checks that nothing is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error("it has bytes left over"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_in_a_longer_form_is_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x00], &[0x81, 0x80, 0x00]] {
            assert!(Decoder::new("row", bytes).number().is_err(), "{bytes:?}");
        }
        assert_eq!(Decoder::new("row", &[0]).number().unwrap(), 0);
        let largest = [&[0xff; 9][..], &[0x01]].concat();
        assert_eq!(Decoder::new("row", &largest).number().unwrap(), u64::MAX);
        let larger = [&[0xff; 9][..], &[0x02]].concat();
        assert!(Decoder::new("row", &larger).number().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u64, b: i64, c: Vec<u8>) {
            let mut row = Encoder::new();
            row.number(a).signed(b).string(&c);
            let row = row.finish();
            let mut reader = Decoder::new("row", &row);
            prop_assert_eq!(reader.number().unwrap(), a);
            prop_assert_eq!(reader.signed().unwrap(), b);
            prop_assert_eq!(reader.string().unwrap(), &c[..]);
            reader.finish().unwrap();
        }

        #[test]
        fn a_number_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 1..12)) {
            let mut reader = Decoder::new("row", &bytes);
            if let Ok(number) = reader.number() {
                let read = bytes.len() - reader.rest.len();
                let mut row = Encoder::new();
                row.number(number);
                prop_assert_eq!(row.finish(), &bytes[..read]);
            }
        }

        #[test]
        fn random_bytes_never_panic_a_reader(bytes: Vec<u8>) {
            let mut reader = Decoder::new("row", &bytes);
            while reader.string().is_ok() && reader.number().is_ok() {}
        }
    }
}
