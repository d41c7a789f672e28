//! Extended attributes in their on-disk form: a 12-byte header, then entries of name index,
//! name suffix and value, each padded to four bytes. All are stored with their inode; the shared
//! area would save 16 bytes per file and cost every look-up a second block.

use crate::error::{Error, printable};
use crate::format::{XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE};

/// Largest value, bytes: its length has 16 bits. Linux itself allows one byte more.
pub const XATTR_VALUE_SIZE_MAX: usize = u16::MAX as usize;
/// Largest sum of one inode's extended attributes with their headers, bytes: it is counted in
/// units of four by 16 bits.
pub const XATTR_AREA_SIZE_MAX: usize = XATTR_HEADER_SIZE + 4 * (u16::MAX as usize - 1);

/// Longest full name, bytes (`XATTR_NAME_MAX`).
const XATTR_NAME_LENGTH_MAX: usize = 255;
/// Attributes with this prefix steer overlayfs …
const OVERLAY_PREFIX: &[u8] = b"trusted.overlay.";
/// … except escaped ones, which overlayfs shows without one `overlay.` (Linux 6.7).
const OVERLAY_ESCAPED_PREFIX: &[u8] = b"trusted.overlay.overlay.";

/// Marks a file whose contents are elsewhere; an empty value asks for no fs-verity digest.
pub(crate) const OVERLAY_METACOPY: &[u8] = b"trusted.overlay.metacopy";
/// Where they are: an absolute path in the layers below.
pub(crate) const OVERLAY_REDIRECT: &[u8] = b"trusted.overlay.redirect";
/// Marks a directory that hides the directories of the same name below.
pub(crate) const OVERLAY_OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Whether EROFS can store an extended attribute of this name at all, and this crate accepts it
/// in [`Attributes`](crate::Attributes). Callers use it to drop what a foreign layer brings along.
#[must_use]
pub fn xattr_is_representable(name: &[u8]) -> bool {
    split_name(name).is_some() && !is_reserved(name)
}

fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(OVERLAY_PREFIX) && !name.starts_with(OVERLAY_ESCAPED_PREFIX)
}

/// Name index and the rest of the name.
fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    if name.len() > XATTR_NAME_LENGTH_MAX || name.contains(&0) {
        return None;
    }
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    let prefixes: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    prefixes.into_iter().find_map(|(prefix, index)| {
        let suffix = name.strip_prefix(prefix)?;
        (!suffix.is_empty()).then_some((index, suffix))
    })
}

/// Appends the encoded area of one inode to `arena` and returns its length; 0 without attributes.
///
/// `given` comes from the caller and may not steer overlayfs, `overlay` is this crate's own.
pub(crate) fn encode(
    entry_name: &[u8],
    given: &[(&[u8], &[u8])],
    overlay: &[(&[u8], &[u8])],
    arena: &mut Vec<u8>,
) -> Result<usize, Error> {
    if let Some((name, _)) = given.iter().find(|(name, _)| is_reserved(name)) {
        let (name, xattr) = (printable(entry_name), printable(name));
        return Err(Error::XattrReserved { name, xattr });
    }
    let mut all: Vec<(&[u8], &[u8])> = given.iter().chain(overlay).copied().collect();
    if all.is_empty() {
        return Ok(0);
    }
    all.sort_unstable_by_key(|(name, _)| *name);
    if let Some(pair) = all.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (name, xattr) = (printable(entry_name), printable(pair[0].0));
        return Err(Error::XattrDuplicate { name, xattr });
    }
    let size = area_size(&all);
    if size > XATTR_AREA_SIZE_MAX {
        return Err(Error::XattrAreaSize {
            name: printable(entry_name),
            size,
        });
    }
    let start = arena.len();
    arena.resize(start + XATTR_HEADER_SIZE, 0);
    for (name, value) in all {
        append(entry_name, name, value, arena).inspect_err(|_| arena.truncate(start))?;
    }
    debug_assert_eq!(arena.len() - start, size);
    Ok(size)
}

fn append(entry_name: &[u8], name: &[u8], value: &[u8], arena: &mut Vec<u8>) -> Result<(), Error> {
    let (index, suffix) = split_name(name).ok_or_else(|| Error::XattrName {
        name: printable(entry_name),
        xattr: printable(name),
    })?;
    let value_size = u16::try_from(value.len()).map_err(|_| Error::XattrValueSize {
        name: printable(entry_name),
        xattr: printable(name),
        size: value.len(),
    })?;
    // The suffix is shorter than a whole name, so its length fits one byte.
    arena.extend_from_slice(&[suffix.len() as u8, index]);
    arena.extend_from_slice(&value_size.to_le_bytes());
    arena.extend_from_slice(suffix);
    arena.extend_from_slice(value);
    let padding = (suffix.len() + value.len()).next_multiple_of(4) - suffix.len() - value.len();
    arena.resize(arena.len() + padding, 0);
    Ok(())
}

/// Bytes of header and entries; unknown names count in full, they fail later.
fn area_size(xattrs: &[(&[u8], &[u8])]) -> usize {
    let entries: usize = xattrs
        .iter()
        .map(|(name, value)| {
            let suffix = split_name(name).map_or(*name, |(_, suffix)| suffix);
            (XATTR_ENTRY_SIZE + suffix.len() + value.len()).next_multiple_of(4)
        })
        .sum();
    XATTR_HEADER_SIZE + entries
}

#[cfg(test)]
mod tests {
    use super::{XATTR_VALUE_SIZE_MAX, encode, xattr_is_representable};
    use crate::Error;

    fn check(given: &[(&[u8], &[u8])]) -> Result<usize, Error> {
        encode(b"file", given, &[], &mut Vec::new())
    }

    #[test]
    fn the_area_is_header_and_padded_entries() {
        let mut arena = vec![0xEE];
        let given: [(&[u8], &[u8]); 2] = [(b"user.b", b"12345"), (b"security.capability", b"")];
        let size = encode(b"file", &given, &[], &mut arena).expect("valid attributes");
        let mut expect = vec![0xEE];
        expect.extend_from_slice(&[0; 12]);
        expect.extend_from_slice(b"\x0a\x06\x00\x00capability\0\0");
        expect.extend_from_slice(b"\x01\x01\x05\x00b12345\0\0");
        assert_eq!(arena, expect);
        assert_eq!(size, arena.len() - 1);
    }

    #[test]
    fn names_that_erofs_cannot_store_are_refused() {
        let long = [b"user.".as_slice(), &[b'x'; 251]].concat();
        let bad: [&[u8]; 6] = [
            b"",
            b"user.",
            b"system.nfs4_acl",
            b"btrfs.compression",
            b"user.\0",
            &long,
        ];
        for name in bad {
            assert!(!xattr_is_representable(name), "{}", name.escape_ascii());
            assert!(matches!(
                check(&[(name, b"")]),
                Err(Error::XattrName { .. })
            ));
        }
        for name in [
            b"user.x".as_slice(),
            b"system.posix_acl_access",
            &long[..255],
        ] {
            assert!(xattr_is_representable(name), "{}", name.escape_ascii());
            check(&[(name, b"")]).expect("a good name");
        }
    }

    #[test]
    fn attributes_that_steer_overlayfs_are_refused_unless_escaped() {
        let name = b"trusted.overlay.redirect".as_slice();
        assert!(!xattr_is_representable(name));
        assert!(matches!(
            check(&[(name, b"/x")]),
            Err(Error::XattrReserved { .. })
        ));
        check(&[(b"trusted.overlay.overlay.redirect", b"/x")]).expect("escaped");
    }

    #[test]
    fn duplicates_and_sizes_beyond_the_format_are_refused() {
        let twice: [(&[u8], &[u8]); 2] = [(b"user.x", b"1"), (b"user.x", b"2")];
        assert!(matches!(check(&twice), Err(Error::XattrDuplicate { .. })));
        let value = vec![0; XATTR_VALUE_SIZE_MAX + 1];
        let long: (&[u8], &[u8]) = (b"user.x", &value);
        assert!(matches!(
            check(&[long]),
            Err(Error::XattrValueSize { size: 65536, .. })
        ));
        check(&[(b"user.x", &value[1..])]).expect("the largest value");
        let names: Vec<Vec<u8>> = (0..5).map(|n| format!("user.{n}").into_bytes()).collect();
        let many: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_slice(), &value[1..]))
            .collect();
        assert!(matches!(check(&many), Err(Error::XattrAreaSize { .. })));
    }

    #[test]
    fn a_refused_attribute_leaves_nothing_behind() {
        let mut arena = vec![1, 2, 3];
        let given: [(&[u8], &[u8]); 2] = [(b"user.a", b"1"), (b"zzz", b"2")];
        encode(b"file", &given, &[], &mut arena).expect_err("zzz is no namespace");
        assert_eq!(arena, [1, 2, 3]);
    }
}
