//! Writes tar headers in the PAX dialect, byte for byte as Go's archive/tar does with FormatPAX:
//! extension records only for what the header cannot hold, sorted, and no user or group names; a
//! long name alone is split into ustar's two fields where that is possible.
//!
//! So a layer that is packed here and by containerd or BuildKit from equal files is one layer.

use std::collections::BTreeMap;

use store::{Metadata, Timestamp};

use super::header::{
    CHECKSUM, GID, LINK_NAME, MAGIC, MAGIC_USTAR, MAJOR, MINOR, MODE, MTIME, NAME, PREFIX, SIZE,
    TYPE, UID, checksum,
};
use super::pax::{XATTR, write_record};
use super::{BLOCK, Kind};

/// What stands behind the last entry: two blocks of zeros.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// How many zeros follow a content of so many bytes.
pub(crate) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// Appends the header of an entry, with an extended header before it where one is needed.
///
/// # Errors
/// The reason, if the format cannot say it.
pub(crate) fn write_header(
    tar: &mut Vec<u8>,
    path: &[u8],
    kind: &Kind,
    metadata: &Metadata,
) -> Result<(), &'static str> {
    let mut header = Builder::new(parts(kind)?.0);
    header.text(NAME, path, b"path");
    header.number(MODE, metadata.mode.into(), None)?;
    header.number(UID, metadata.uid.into(), Some(b"uid"))?;
    header.number(GID, metadata.gid.into(), Some(b"gid"))?;
    header.time(metadata.mtime);
    let (_, size, link, (major, minor)) = parts(kind)?;
    header.number(SIZE, size, Some(b"size"))?;
    header.text(LINK_NAME, link, b"linkpath");
    header.number(MAJOR, major.into(), None)?;
    header.number(MINOR, minor.into(), None)?;
    for (name, value) in &metadata.xattrs {
        if name.contains(&b'=') || name.contains(&0) {
            return Err(
                "the name of an extended attribute has a character that PAX records cannot",
            );
        }
        header
            .records
            .insert([XATTR, name].concat(), value.to_vec());
    }
    header.finish(path, tar);
    Ok(())
}

/// What a kind has in its header: type flag, size, link target, device numbers.
type Parts<'k> = (u8, u64, &'k [u8], (u32, u32));

fn parts(kind: &Kind) -> Result<Parts<'_>, &'static str> {
    Ok(match kind {
        Kind::File { size } => (b'0', *size, b"", (0, 0)),
        Kind::HardLink(target) => (b'1', 0, target, (0, 0)),
        Kind::Symlink(target) => (b'2', 0, target, (0, 0)),
        Kind::CharDevice(major, minor) => (b'3', 0, b"", (*major, *minor)),
        Kind::BlockDevice(major, minor) => (b'4', 0, b"", (*major, *minor)),
        Kind::Directory => (b'5', 0, b"", (0, 0)),
        Kind::Fifo => (b'6', 0, b"", (0, 0)),
        Kind::Nothing(what) => return Err(what),
    })
}

/// A header being filled, and the records that hold what it cannot.
struct Builder {
    block: [u8; BLOCK],
    records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Builder {
    fn new(flag: u8) -> Self {
        let mut block = [0; BLOCK];
        block[TYPE] = flag;
        Builder {
            block,
            records: BTreeMap::new(),
        }
    }

    /// ASCII that fits stands in the header alone; anything else in a record, and in the header
    /// what is left of it, for readers that know no records.
    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8], key: &[u8]) {
        if text.len() > field.len() || !text.is_ascii() {
            self.records.insert(key.to_vec(), text.to_vec());
        }
        put_ascii(&mut self.block[field], text);
    }

    /// A number that does not fit stands in a record, and as 0 in the header.
    fn number(
        &mut self,
        field: std::ops::Range<usize>,
        number: u64,
        key: Option<&[u8]>,
    ) -> Result<(), &'static str> {
        let fits = fits_octal(field.len(), number);
        match key {
            _ if fits => {}
            Some(key) => {
                self.records
                    .insert(key.to_vec(), number.to_string().into_bytes());
            }
            None => return Err("one of its numbers is too large for a tar"),
        }
        put_octal(&mut self.block[field], if fits { number } else { 0 });
        Ok(())
    }

    fn time(&mut self, time: Timestamp) {
        let seconds = u64::try_from(time.seconds)
            .ok()
            .filter(|s| fits_octal(MTIME.len(), *s));
        if seconds.is_none() || time.nanoseconds != 0 {
            self.records
                .insert(b"mtime".to_vec(), decimal_time(time).into_bytes());
        }
        put_octal(&mut self.block[MTIME], seconds.unwrap_or(0));
    }

    fn finish(mut self, path: &[u8], tar: &mut Vec<u8>) {
        let only_path = self.records.len() == 1 && self.records.contains_key(&b"path"[..]);
        if let (true, Some((prefix, name))) = (only_path, split_path(path)) {
            // ustar can hold it, in two fields.
            self.records.clear();
            self.block[NAME].fill(0);
            put_ascii(&mut self.block[NAME], name);
            put_ascii(&mut self.block[PREFIX], prefix);
        }
        if !self.records.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &self.records {
                write_record(&mut body, key, value);
            }
            let mut extended = [0; BLOCK];
            extended[TYPE] = b'x';
            put_ascii(&mut extended[NAME], &extended_name(path));
            for field in [MODE, UID, GID, MTIME] {
                put_octal(&mut extended[field], 0);
            }
            put_octal(&mut extended[SIZE], body.len() as u64);
            seal(&mut extended);
            tar.extend_from_slice(&extended);
            tar.extend_from_slice(&body);
            tar.resize(tar.len() + padding(body.len() as u64), 0);
        }
        seal(&mut self.block);
        tar.extend_from_slice(&self.block);
    }
}

/// Splits a long name at a slash so that the parts fit into two fields, the first as long as
/// possible.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    let end = match path.len() {
        length if length > PREFIX.len() + 1 => PREFIX.len() + 1,
        length if path.ends_with(b"/") => length - 1,
        length => length,
    };
    let slash = path[..end].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!prefix.is_empty() && !name.is_empty() && name.len() <= NAME.len()).then_some((prefix, name))
}

/// The name of the extended header itself: the entry's with `PaxHeaders.0` as its directory.
fn extended_name(path: &[u8]) -> Vec<u8> {
    let cut = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let (directory, file) = match &path[..cut] {
        b"./" => (&b""[..], &path[cut..]),
        directory => (directory, &path[cut..]),
    };
    let mut name = [directory, b"PaxHeaders.0"].concat();
    if !file.is_empty() {
        name.push(b'/');
        name.extend_from_slice(file);
    }
    // Cut to the field here, so that no slash is left at its end.
    let mut name: Vec<u8> = name
        .into_iter()
        .filter(u8::is_ascii)
        .take(NAME.len())
        .collect();
    while name.last() == Some(&b'/') {
        name.pop();
    }
    name
}

/// Magic and checksum.
fn seal(block: &mut [u8; BLOCK]) {
    block[MAGIC].copy_from_slice(MAGIC_USTAR);
    let checksum = format!("{:06o}\0 ", checksum(block));
    block[CHECKSUM].copy_from_slice(checksum.as_bytes());
}

/// As much of the text as fits, without what is no ASCII.
fn put_ascii(field: &mut [u8], text: &[u8]) {
    let text: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| byte.is_ascii() && *byte != 0)
        .collect();
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // A cut name with a slash at its end would make some readers see a directory.
    if text.len() > field.len() && field.last() == Some(&b'/') {
        let name = field
            .iter()
            .rposition(|byte| *byte != b'/')
            .map_or(0, |last| last + 1);
        field[name] = 0;
    }
}

/// Whether the octal digits fit before the final NUL.
fn fits_octal(length: usize, number: u64) -> bool {
    number >> ((length - 1) * 3) == 0
}

/// Octal digits with leading zeros and a final NUL.
fn put_octal(field: &mut [u8], number: u64) {
    let digits = format!("{number:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

/// Seconds with as many decimals as are needed.
fn decimal_time(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds, time.nanoseconds) {
        (seconds, 0) => return seconds.to_string(),
        (seconds @ ..0, nanoseconds) => (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        ),
        (seconds, nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    format!("{sign}{seconds}.{nanoseconds:09}")
        .trim_end_matches('0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::pax;
    use proptest::prelude::*;

    #[test]
    fn an_extended_header_is_named_after_its_entry() {
        for (path, expected) in [
            ("a", "PaxHeaders.0/a"),
            ("./", "PaxHeaders.0"),
            ("a/b", "a/PaxHeaders.0/b"),
            ("a/b/", "a/b/PaxHeaders.0"),
            ("ä/b", "/PaxHeaders.0/b"),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&extended_name(path.as_bytes())),
                expected
            );
        }
        assert_eq!(extended_name(&b"x".repeat(300)).len(), 100);
    }

    #[test]
    fn a_cut_name_does_not_end_in_a_slash() {
        let mut field = [0; 4];
        put_ascii(&mut field, b"ab//c");
        assert_eq!(&field[..2], b"ab");
        assert_eq!(field[2], 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_written_time_is_read_as_it_was(seconds: i64, nanoseconds in 0u32..1_000_000_000) {
            let time = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(pax::timestamp(decimal_time(time).as_bytes()), Ok(time));
        }
    }
}
