//! PAX extended headers: records of `length key=value\n` that replace or extend header fields.
//!
//! Sources: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar manual, "Sparse Formats"; star's
//! and libarchive's keys for extended attributes.

use std::collections::BTreeMap;

use store::Timestamp;

use super::sparse::Piece;

/// Prefix of the key of an extended attribute: star, GNU tar, Go, docker, containerd.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";
/// The same of libarchive; the name is URL-encoded and the value is in base64.
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";

/// Longest name of an extended attribute in bytes (XATTR_NAME_MAX).
const XATTR_NAME_MAX: usize = 255;
/// Longest value of an extended attribute in bytes (XATTR_SIZE_MAX).
const XATTR_VALUE_MAX: usize = 65_536;

/// What extension headers say about the entry behind them.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link_name: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub(crate) sparse: Sparse,
    libarchive_xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
}

/// GNU's records about sparse files, versions 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// The real name: the entry itself has a made-up one.
    pub(crate) name: Option<Vec<u8>>,
    /// The length, holes included.
    pub(crate) size: Option<u64>,
    /// The pieces (0.0 and 0.1); `None` if no record tells them.
    pub(crate) pieces: Option<Vec<Piece>>,
    /// An offset (0.0) whose length has not been seen yet.
    open: Option<u64>,
}

impl Extension {
    /// Reads the body of one extended header; later records win.
    pub(crate) fn read(&mut self, mut body: &[u8]) -> Result<(), &'static str> {
        while !body.is_empty() {
            let (key, value, rest) = split_record(body)?;
            self.take(key, value)?;
            body = rest;
        }
        if self.sparse.open.is_some() {
            return Err("a sparse piece has an offset and no length");
        }
        Ok(())
    }

    /// All extended attributes: libarchive writes each in both forms, and its own may be lossy.
    pub(crate) fn take_xattrs(&mut self) -> BTreeMap<Box<[u8]>, Box<[u8]>> {
        let mut xattrs = std::mem::take(&mut self.libarchive_xattrs);
        xattrs.append(&mut self.xattrs);
        xattrs
    }

    /// An empty value takes a record back, as POSIX has it.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let some = !value.is_empty();
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link_name = text(value)?,
            b"size" => self.size = some.then(|| decimal(value)).transpose()?,
            b"uid" => self.uid = some.then(|| signed(value)).transpose()?,
            b"gid" => self.gid = some.then(|| signed(value)).transpose()?,
            b"mtime" => self.mtime = some.then(|| timestamp(value)).transpose()?,
            _ if key.starts_with(b"GNU.sparse.") => {
                return self.sparse.take(&key[b"GNU.sparse.".len()..], value);
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    insert_xattr(&mut self.xattrs, name, value)?;
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE_XATTR) {
                    let (name, value) = (percent_decoded(name), base64_decoded(value));
                    let value = value.ok_or("an extended attribute is not in base64")?;
                    insert_xattr(&mut self.libarchive_xattrs, &name, &value)?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            // The pieces that follow are those of this header, not more of an earlier one.
            b"numblocks" => self.pieces = Some(Vec::new()),
            b"offset" => {
                let offset = decimal(value)?;
                match self.open.replace(offset) {
                    None => {}
                    Some(_) => return Err("a sparse piece has an offset and no length"),
                }
            }
            b"numbytes" => {
                let offset = self
                    .open
                    .take()
                    .ok_or("a sparse piece has a length and no offset")?;
                let piece = Piece {
                    offset,
                    length: decimal(value)?,
                };
                self.pieces.get_or_insert_default().push(piece);
            }
            b"map" => {
                let numbers = value
                    .split(|byte| *byte == b',')
                    .filter(|_| !value.is_empty())
                    .map(decimal)
                    .collect::<Result<Vec<_>, _>>()?;
                if numbers.len() % 2 != 0 {
                    return Err("its sparse map has an offset and no length");
                }
                let piece = |pair: &[u64]| Piece {
                    offset: pair[0],
                    length: pair[1],
                };
                self.pieces = Some(numbers.chunks_exact(2).map(piece).collect());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key, value and what follows.
type Record<'b> = (&'b [u8], &'b [u8], &'b [u8]);

/// Takes the first record from the body.
fn split_record(body: &[u8]) -> Result<Record<'_>, &'static str> {
    const ERROR: &str = "an extended header is not made of `length key=value` records";
    let space = body.iter().position(|byte| *byte == b' ').ok_or(ERROR)?;
    let length = usize::try_from(decimal(&body[..space]).map_err(|_| ERROR)?).map_err(|_| ERROR)?;
    let (record, rest) = body.split_at_checked(length).ok_or(ERROR)?;
    let record = record
        .get(space + 1..)
        .and_then(|r| r.strip_suffix(b"\n"))
        .ok_or(ERROR)?;
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(ERROR)?;
    match (&record[..equals], &record[equals + 1..]) {
        (key, value) if !key.is_empty() && !key.contains(&0) => Ok((key, value, rest)),
        _ => Err(ERROR),
    }
}

/// Appends one record to the body of an extended header.
pub(crate) fn write_record(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits, of which one more may be needed because of them.
    let rest = key.len() + value.len() + b" =\n".len();
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    body.extend_from_slice(length.to_string().as_bytes());
    body.push(b' ');
    body.extend_from_slice(key);
    body.push(b'=');
    body.extend_from_slice(value);
    body.push(b'\n');
}

fn insert_xattr(
    xattrs: &mut BTreeMap<Box<[u8]>, Box<[u8]>>,
    name: &[u8],
    value: &[u8],
) -> Result<(), &'static str> {
    match name.len() {
        0 => Err("an extended attribute has no name"),
        length if length > XATTR_NAME_MAX => {
            Err("the name of an extended attribute is longer than 255 bytes")
        }
        _ if value.len() > XATTR_VALUE_MAX => {
            Err("the value of an extended attribute is longer than 65,536 bytes")
        }
        _ => {
            xattrs.insert(name.into(), value.into());
            Ok(())
        }
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    match value {
        b"" => Ok(None),
        _ if value.contains(&0) => Err("a name in an extended header contains a NUL byte"),
        _ => Ok(Some(value.to_vec())),
    }
}

/// Decimal digits and nothing else.
pub(crate) fn decimal(digits: &[u8]) -> Result<u64, &'static str> {
    const ERROR: &str = "a number in an extended header is not a number";
    let number = |number: u64, digit: &u8| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    match digits {
        b"" => Err(ERROR),
        _ => digits.iter().try_fold(0, number).ok_or(ERROR),
    }
}

fn signed(digits: &[u8]) -> Result<i64, &'static str> {
    const ERROR: &str = "a number in an extended header is too large";
    match digits.strip_prefix(b"-") {
        None => decimal(digits)?.try_into().map_err(|_| ERROR),
        Some(digits) => 0i64.checked_sub_unsigned(decimal(digits)?).ok_or(ERROR),
    }
}

/// Seconds with any number of decimals, of which nine are kept: `-1.5` is half a second before -1.
pub(crate) fn timestamp(value: &[u8]) -> Result<Timestamp, &'static str> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a time in an extended header is not a number");
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    let seconds = signed(whole)?;
    if !whole.starts_with(b"-") || nanoseconds == 0 {
        return Ok(Timestamp {
            seconds,
            nanoseconds,
        });
    }
    let seconds = seconds
        .checked_sub(1)
        .ok_or("a time in an extended header is too early")?;
    Ok(Timestamp {
        seconds,
        nanoseconds: 1_000_000_000 - nanoseconds,
    })
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |digit: &u8| char::from(*digit).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let value = hex(high)
                    .zip(hex(low))
                    .map_or(0, |(high, low)| high * 16 + low);
                decoded.push(value as u8);
                rest = tail;
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

/// RFC 4648, padding optional (libarchive writes none).
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let text = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0;
        for digit in group {
            bits = bits << 6
                | u32::from(match digit {
                    b'A'..=b'Z' => digit - b'A',
                    b'a'..=b'z' => digit - b'a' + 26,
                    b'0'..=b'9' => digit - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => return None,
                });
        }
        let count = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        decoded.extend_from_slice(&bits.to_be_bytes()[1..=count]);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &[u8]) -> Result<Extension, &'static str> {
        let mut extension = Extension::default();
        extension.read(body).map(|()| extension)
    }

    fn records(records: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (key, value) in records {
            write_record(&mut body, key.as_bytes(), value.as_bytes());
        }
        body
    }

    #[test]
    fn records_are_read_by_their_length() {
        let body = b"14 path=a\nb=c\n14 size=12345\n7 uid=\n";
        assert_eq!(
            records(&[("path", "a\nb=c"), ("size", "12345"), ("uid", "")]),
            body
        );
        let extension = read(body).unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!((extension.size, extension.uid), (Some(12_345), None));
    }

    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value, length) in [(1, 9), (2, 11), (90, 99), (91, 101)] {
            let body = records(&[("path", &"x".repeat(value))]);
            assert_eq!(body.len(), length);
            assert_eq!(read(&body).unwrap().path.unwrap().len(), value);
        }
    }

    #[test]
    fn records_that_break_the_form_are_refused() {
        for body in [
            "path=a\n",
            "99 path=a\n",
            "10 path=ab",
            "9 path=a\0",
            "2 \n",
            "5 =a\n",
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(read(b"18446744073709551616 a=b\n").is_err());
        assert!(read(b"0 a=b\n").is_err());
    }

    #[test]
    fn records_with_values_that_cannot_be_are_refused() {
        for (key, value) in [
            ("a\0b", "c"),
            ("path", "a\0b"),
            ("size", "-1"),
            ("size", "1 "),
            ("size", "x"),
            ("uid", "9223372036854775808"),
            ("mtime", "yesterday"),
            ("GNU.sparse.offset", "1"),
            ("GNU.sparse.numbytes", "1"),
            ("GNU.sparse.map", "1,2,3"),
            ("SCHILY.xattr.", "a"),
            ("LIBARCHIVE.xattr.user.a", "*"),
            (&format!("SCHILY.xattr.{}", "n".repeat(256)), "a"),
            ("SCHILY.xattr.user.a", &"v".repeat(65_537)),
        ] {
            assert!(
                read(&records(&[(key, value)])).is_err(),
                "{key:.40}={value:.40}"
            );
        }
    }

    #[test]
    fn times_keep_nine_decimals_on_both_sides_of_the_epoch() {
        for (value, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("1.000000001", 1, 1),
            ("1.9999999999", 1, 999_999_999),
            ("-1", -1, 0),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("9223372036854775807.0", i64::MAX, 0),
        ] {
            let expected = Timestamp {
                seconds,
                nanoseconds,
            };
            assert_eq!(timestamp(value.as_bytes()), Ok(expected), "{value}");
        }
        for value in ["", ".5", "1.5x", "x", "--1", "1.-5", "9223372036854775808"] {
            assert!(timestamp(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn extended_attributes_of_libarchive_yield_to_those_of_star() {
        let body = records(&[
            ("LIBARCHIVE.xattr.user.a", "aGk"),
            ("LIBARCHIVE.xattr.user.b%3D", "aGVq"),
            ("SCHILY.xattr.user.a", "x"),
        ]);
        let mut extension = read(&body).unwrap();
        let xattrs = extension.take_xattrs();
        assert_eq!(xattrs[&b"user.a"[..]][..], b"x"[..]);
        assert_eq!(xattrs[&b"user.b="[..]][..], b"hej"[..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn arbitrary_bytes_never_panic_the_record_reader(body: Vec<u8>) {
            let outcome = read(&body);
            prop_assert!(outcome.is_ok() || outcome.is_err());
        }

        #[test]
        fn percent_signs_without_digits_stand_for_themselves(text in "[a-z%0-9]{0,12}") {
            prop_assert!(percent_decoded(text.as_bytes()).len() <= text.len());
        }
    }
}
