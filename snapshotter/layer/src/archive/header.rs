//! One header block: 512 bytes of fixed fields, in the V7, ustar (POSIX) or GNU dialect.
//!
//! Sources: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".

use super::BLOCK;

/// Where a field stands in a header block.
type Field = std::ops::Range<usize>;

pub(crate) const NAME: Field = 0..100;
pub(crate) const MODE: Field = 100..108;
pub(crate) const UID: Field = 108..116;
pub(crate) const GID: Field = 116..124;
pub(crate) const SIZE: Field = 124..136;
pub(crate) const MTIME: Field = 136..148;
pub(crate) const CHECKSUM: Field = 148..156;
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK_NAME: Field = 157..257;
pub(crate) const MAGIC: Field = 257..265;
pub(crate) const MAJOR: Field = 329..337;
pub(crate) const MINOR: Field = 337..345;
pub(crate) const PREFIX: Field = 345..500;
/// GNU: four pairs of offset and length, the first pieces of a sparse file.
const GNU_SPARSE: Field = 386..482;
/// GNU: not 0 if a block with more pieces follows.
const GNU_SPARSE_MORE: usize = 482;
/// GNU: the length of a sparse file, holes included.
const GNU_SPARSE_SIZE: Field = 483..495;
/// Offset and length of a piece, 12 bytes each.
pub(crate) const GNU_SPARSE_PIECE: usize = 24;
/// Marks the star dialect, whose prefix is shorter.
const STAR_TRAILER: Field = 508..512;
const STAR_PREFIX: Field = 345..476;

/// Magic and version of ustar headers, which PAX archives have as well.
pub(crate) const MAGIC_USTAR: &[u8; 8] = b"ustar\x0000";
const MAGIC_GNU: &[u8; 8] = b"ustar  \0";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A header block whose checksum is right.
pub(crate) struct Header {
    block: [u8; BLOCK],
    dialect: Dialect,
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(crate) fn parse(block: [u8; BLOCK]) -> Result<Self, &'static str> {
        let stated = number(&block[CHECKSUM]).ok_or("its checksum is not a number")?;
        if !checksums(&block).contains(&stated) {
            return Err("its checksum is wrong");
        }
        let dialect = match &block[MAGIC] {
            magic if magic == MAGIC_GNU => Dialect::Gnu,
            magic if !magic.starts_with(b"ustar\0") => Dialect::V7,
            _ if &block[STAR_TRAILER] == b"tar\0" => Dialect::Star,
            _ => Dialect::Ustar,
        };
        Ok(Header { block, dialect })
    }

    /// The type flag.
    pub(crate) fn kind(&self) -> u8 {
        self.block[TYPE]
    }

    /// The name, joined from its two fields.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = text(&self.block[NAME]);
        let prefix = match self.dialect {
            Dialect::Ustar => text(&self.block[PREFIX]),
            Dialect::Star => text(&self.block[STAR_PREFIX]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    /// The target of a link.
    pub(crate) fn link_name(&self) -> &[u8] {
        text(&self.block[LINK_NAME])
    }

    /// A field that holds a number.
    pub(crate) fn number(&self, field: Field, error: &'static str) -> Result<i64, &'static str> {
        number(&self.block[field]).ok_or(error)
    }

    /// Major and minor number of a device; V7 headers have none.
    pub(crate) fn device(&self) -> Result<(i64, i64), &'static str> {
        if self.dialect == Dialect::V7 {
            return Ok((0, 0));
        }
        let error = "its device number is not a number";
        Ok((self.number(MAJOR, error)?, self.number(MINOR, error)?))
    }

    /// What GNU's type `S` adds: the length of the file, the first pieces, and whether a block
    /// with more of them follows.
    pub(crate) fn gnu_sparse(&self) -> Result<(i64, &[u8], bool), &'static str> {
        if self.dialect != Dialect::Gnu {
            return Err("it is a sparse file outside of the GNU format");
        }
        let size = self.number(GNU_SPARSE_SIZE, "its sparse size is not a number")?;
        Ok((
            size,
            &self.block[GNU_SPARSE],
            self.block[GNU_SPARSE_MORE] != 0,
        ))
    }
}

/// The sum of all bytes, the checksum field counted as spaces: once as POSIX says, and once with
/// signed bytes, as old Sun tars did.
fn checksums(block: &[u8; BLOCK]) -> [i64; 2] {
    let mut sums = [0, 0];
    for (index, byte) in block.iter().enumerate() {
        let byte = if CHECKSUM.contains(&index) {
            b' '
        } else {
            *byte
        };
        sums[0] += i64::from(byte);
        sums[1] += i64::from(byte.cast_signed());
    }
    sums
}

/// The checksum to write into a block.
pub(crate) fn checksum(block: &[u8; BLOCK]) -> u64 {
    checksums(block)[0].cast_unsigned()
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between spaces and NULs, or base-256 (GNU, star) if the top bit is set:
/// big-endian two's complement in the other bits. An empty field is 0.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // The sign is the bit below the mark; shifting left and back spreads it.
        let mut number = i128::from((first << 1).cast_signed() >> 1);
        for byte in &field[1..] {
            number = number.checked_mul(256)? + i128::from(*byte);
        }
        return number.try_into().ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    digits.iter().try_fold(0i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_form_that_tars_have() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"\0\0\x00123\0\0", Some(0o123)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe",
                Some(-2),
            ),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX),
            ),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"0000 644", None),
            (b"-000644\0", None),
            (b"0000689\0", None),
            (b"", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_checksum_of_signed_bytes_is_accepted_too() {
        let mut block = [0; BLOCK];
        block[..2].copy_from_slice(b"\xff\xfe");
        for sum in checksums(&block) {
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert!(Header::parse(block).is_ok(), "{sum}");
        }
        block[0] = 0;
        assert!(Header::parse(block).is_err());
    }
}
