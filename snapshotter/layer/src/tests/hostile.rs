//! Layers that attack: each ends in an error that names what is wrong, and leaves nothing behind.

use std::io::{self, Read, Write};

use super::literal::{Tar, metadata};
use crate::archive::Kind;
use crate::compress::{Encoder, Encoding};
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::Limits;
use crate::unpack::inspect;

/// Limits that a test can reach.
fn narrow() -> Limits {
    Limits {
        entries_max: 100,
        metadata_bytes_max: 20_000,
        extension_bytes_max: 8_000,
        path_bytes_max: 400,
        path_depth_max: 20,
        link_target_bytes_max: 300,
        sparse_pieces_max: 8,
        hole_bytes_max: 10_000,
        tar_bytes_max: 10_000_000,
        ratio_max: 100,
        ratio_free_bytes: 1_000_000,
    }
}

fn sparse(size: &str, map: &str) -> Tar {
    let records = [
        ("GNU.sparse.size", size.as_bytes()),
        ("GNU.sparse.map", map.as_bytes()),
    ];
    Tar::new().extended(b'x', &records)
}

/// A sparse file of PAX 1.0, whose content begins with its map.
fn sparse_inside(size: &str, content: &[u8]) -> Tar {
    let file = Kind::File {
        size: content.len() as u64,
    };
    Tar::new()
        .extended(
            b'x',
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", size.as_bytes()),
            ],
        )
        .entry("a", file, &metadata(0o644))
        .content(content)
}

fn many(count: usize, add: impl Fn(Tar, usize) -> Tar) -> Tar {
    (0..count).fold(Tar::new(), add)
}

/// What is wrong, the layer that has it, and a word of the error that it must end in.
type Case = (&'static str, Tar, &'static str);

fn file(path: &str) -> Tar {
    Tar::new().file(path, "x")
}

fn symlink(path: &str, target: &str) -> Tar {
    Tar::new().symlink(path, target)
}

fn link(path: &str, target: &str) -> Tar {
    Tar::new().link(path, target)
}

fn patched(at: usize, bytes: &[u8]) -> Tar {
    Tar::new().file("a", "").patch(at, bytes)
}

fn extended(key: &str, value: &str) -> Tar {
    Tar::new().extended(b'x', &[(key, value.as_bytes())])
}

fn bad_names() -> Vec<Case> {
    let long = format!("a/{}", "n".repeat(256));
    vec![
        ("dotdot", file(".."), "reserved name"),
        (
            "dotdot at the start",
            file("../etc/passwd"),
            "reserved name",
        ),
        ("dotdot inside", file("a/../../b"), "reserved name"),
        (
            "dotdot at the end",
            Tar::new().directory("a/..", 0o755),
            "reserved name",
        ),
        (
            "an absolute name with dotdot",
            file("/../a"),
            "reserved name",
        ),
        (
            "a root that is a file",
            file("./"),
            "root can only be a directory",
        ),
        (
            "an entry without a name",
            file(""),
            "root can only be a directory",
        ),
        (
            "a root that is a link",
            symlink(".", "/etc"),
            "root can only be a directory",
        ),
        (
            "a component of 256 bytes",
            file(&long),
            "longer than 255 bytes",
        ),
        ("a whiteout of nothing", file("a/.wh."), "empty"),
        ("a whiteout of dot", file("a/.wh.."), "reserved name"),
        ("a whiteout of dotdot", file("a/.wh..."), "reserved name"),
        (
            "an entry in a whiteout",
            file(".wh.a/b"),
            "starts with `.wh.`",
        ),
        (
            "an entry in an opaque mark",
            file(".wh..wh..opq/b/c/d"),
            "starts with `.wh.`",
        ),
        (
            "a link into a whiteout",
            symlink("a", ".wh.b").file("a/c", ""),
            "`.wh.`",
        ),
        (
            "an entry below a file",
            file("a").file("a/b", ""),
            "lies below a",
        ),
        (
            "an entry below a lower file",
            link("a", "b").file("a/c", ""),
            "lies below a",
        ),
    ]
}

fn bad_links() -> Vec<Case> {
    let next = |tar: Tar, i| tar.link(&format!("{i:02}"), &format!("{:02}", i + 1));
    let directory = || Tar::new().directory("d", 0o755);
    let two = symlink("a", "b").symlink("b", "a");
    let three = link("a", "b").link("b", "c").link("c", "a");
    vec![
        (
            "a link loop",
            two.file("a/c", ""),
            "too many symbolic links",
        ),
        (
            "a link to itself",
            symlink("a", "a").file("a/c", ""),
            "too many symbolic links",
        ),
        ("a link without target", symlink("a", ""), "empty"),
        ("a hard link to dotdot", link("a", ".."), "reserved name"),
        (
            "a hard link through dotdot",
            link("a", "b/../../c"),
            "reserved name",
        ),
        ("a hard link to the root", link("a", "/"), "is a directory"),
        (
            "a hard link without target",
            link("a", ""),
            "is a directory",
        ),
        (
            "a hard link to a directory",
            directory().link("a", "d"),
            "is a directory",
        ),
        (
            "one to a later directory",
            link("a", "d").directory("d", 0),
            "one to a directory",
        ),
        (
            "a hard link to a whiteout",
            link("a", ".wh.b"),
            "is a whiteout",
        ),
        (
            "a hard link to itself",
            link("a", "./a"),
            "is the link itself",
        ),
        (
            "a hard link ring",
            link("a", "b").link("b", "a"),
            "back to the link",
        ),
        ("a hard link ring of three", three, "back to the link"),
        (
            "a long chain of hard links",
            many(60, next).link("z", "00"),
            "too many hard links",
        ),
        (
            "a link to an unknown aufs file",
            link("a", ".wh..wh.plnk/1"),
            "not in the layer",
        ),
    ]
}

fn bad_headers() -> Vec<Case> {
    let device = Tar::new().entry("a", Kind::CharDevice(1, 1), &metadata(0));
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let beyond = b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let liar = patched(124, b"00000001000\0").file("b", "content");
    vec![
        ("a wrong checksum", file("a").raw(&[1; 512]), "checksum"),
        (
            "half an end mark",
            Tar::new().raw(&[0; 512]).file("a", ""),
            "goes on behind it",
        ),
        ("an unknown type", patched(156, b"Z"), "unknown"),
        ("a continued file", patched(156, b"M"), "unknown"),
        (
            "a size that is no number",
            patched(124, b"12x"),
            "size is not a number",
        ),
        (
            "a negative size",
            patched(124, &[0xff; 12]),
            "size is negative",
        ),
        ("a huge size", patched(124, huge), "too early"),
        (
            "a size beyond 64 bits",
            patched(124, beyond),
            "size is not a number",
        ),
        ("a size that reaches into the next header", liar, "header"),
        (
            "a mode that is no number",
            patched(100, b"rwxr-xr-"),
            "mode is not a number",
        ),
        (
            "an owner that is no id",
            patched(108, b"\x80\0\0\x01\0\0\0\0"),
            "no 32-bit id",
        ),
        ("the owner -1", patched(108, &[0xff; 8]), "no 32-bit id"),
        (
            "an mtime that is no number",
            patched(136, b"now"),
            "mtime is not a number",
        ),
        (
            "an impossible device",
            device.patch(337, b"7777777\0"),
            "no Linux device",
        ),
    ]
}

fn bad_extensions() -> Vec<Case> {
    let huge = extended("size", "18446744073709551615").file("a", "");
    vec![
        (
            "an extended header of garbage",
            Tar::new().special(b'x', b"garbage"),
            "records",
        ),
        ("a NUL in an extended name", extended("path", "a\0b"), "NUL"),
        (
            "a negative PAX size",
            extended("size", "-1"),
            "not a number",
        ),
        ("a huge PAX size", huge, "too early"),
        (
            "an extended header at the end",
            extended("path", "a"),
            "too early",
        ),
        (
            "a long name at the end",
            Tar::new().special(b'L', b"a"),
            "too early",
        ),
        (
            "a PAX owner beyond 32 bits",
            extended("uid", "4294967296").file("a", ""),
            "32-bit",
        ),
    ]
}

fn bad_sparse_files() -> Vec<Case> {
    let old = extended("GNU.sparse.map", "0,1").file("a", "1");
    let new = extended("GNU.sparse.major", "2").file("a", "");
    let wrapping = sparse("9", "5,18446744073709551615").file("a", "1");
    vec![
        (
            "a GNU file outside of GNU",
            patched(156, b"S"),
            "outside of the GNU format",
        ),
        (
            "pieces that overlap",
            sparse("9", "0,4,3,1").file("a", "12345"),
            "overlap",
        ),
        (
            "pieces outside",
            sparse("4", "0,5").file("a", "12345"),
            "outside of the file",
        ),
        ("pieces that wrap", wrapping, "outside of the file"),
        (
            "more than stored",
            sparse("9", "0,6").file("a", "12345"),
            "do not add up",
        ),
        (
            "less than stored",
            sparse("9", "0,4").file("a", "12345"),
            "do not add up",
        ),
        (
            "an odd map",
            sparse("9", "0,4,5").file("a", "1234"),
            "no length",
        ),
        ("a map without size", old, "without its size"),
        ("an unknown version", new, "unknown version"),
        (
            "a map of garbage",
            sparse_inside("9", &[b'x'; 600]),
            "not made of numbers",
        ),
        (
            "a map of endless digits",
            sparse_inside("9", &[b'1'; 2_000]),
            "not made of numbers",
        ),
        (
            "a map longer than its file",
            sparse_inside("9", b"0\n"),
            "longer than",
        ),
        (
            "a map that never ends",
            sparse_inside("9", b"1\n0\n"),
            "number",
        ),
    ]
}

fn table() -> Vec<Case> {
    [
        bad_names(),
        bad_links(),
        bad_headers(),
        bad_extensions(),
        bad_sparse_files(),
    ]
    .concat()
}

#[test]
fn broken_entries_are_refused_by_name() {
    for (case, tar, word) in table() {
        let error = tar.read().expect_err(case).to_string();
        assert!(error.contains(word), "{case}: {error}");
    }
}

#[test]
fn a_bad_layer_is_told_from_a_bad_machine() {
    for (case, tar, _) in table() {
        assert!(tar.read().expect_err(case).is_bad_layer(), "{case}");
    }
    let failing = Failing(Tar::new().file("a", "x").ended());
    let error = inspect(failing, &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
    assert!(!error.is_bad_layer());
}

/// A reader that fails at the end of its bytes.
struct Failing(Vec<u8>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buffer.len()).min(700);
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0.drain(..count);
        if count == 0 {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(count)
        }
    }
}

fn too_much() -> Vec<Case> {
    let records: Vec<_> = (0..9_000).map(|_| ("a", &b""[..])).collect();
    let deep = |tar: Tar, i| tar.file(&format!("{i}/b/c/d/e/f/g/h/i/j"), "");
    let attributes = |tar: Tar, i: usize| {
        let value = "v".repeat(7_000);
        let tar = tar.extended(b'x', &[("SCHILY.xattr.user.a", value.as_bytes())]);
        tar.file(&i.to_string(), "")
    };
    let map = "0,1,2,1,4,1,6,1,8,1,10,1,12,1,14,1,16,1";
    let hole = |path| sparse("6000", "").file(path, "");
    let endless = b"18446744073709551615\n";
    vec![
        (
            "entries",
            many(101, |tar, i| tar.file(&i.to_string(), "")),
            "too many entries",
        ),
        ("implied directories", many(12, deep), "too many entries"),
        (
            "a long name",
            extended("path", &"n/".repeat(250)).file("a", ""),
            "name of too many",
        ),
        ("a deep name", file(&"n/".repeat(21)), "too many components"),
        (
            "a deep link",
            symlink("a", &"n/".repeat(21)).file("a/b", ""),
            "too many components",
        ),
        (
            "a long target",
            symlink("a", &"t".repeat(301)),
            "target of too many bytes",
        ),
        (
            "a long extension",
            Tar::new().extended(b'x', &records),
            "extended header",
        ),
        (
            "a long GNU name",
            Tar::new().special(b'L', &[b'n'; 8_001]),
            "extended header",
        ),
        (
            "many attributes",
            many(3, attributes),
            "names and attributes",
        ),
        ("a hole", sparse("10001", "").file("a", ""), "holes"),
        ("holes together", hole("a").raw(&hole("b").open()), "holes"),
        (
            "many pieces",
            sparse("99", map).file("a", "123456789"),
            "pieces",
        ),
        ("many pieces inside", sparse_inside("9", b"9\n"), "pieces"),
        (
            "more pieces than memory",
            sparse_inside("9", endless),
            "pieces",
        ),
    ]
}

#[test]
fn what_costs_too_much_is_refused() {
    for (case, tar, word) in too_much() {
        let error = inspect(&tar.ended()[..], &narrow()).expect_err(case);
        assert!(error.to_string().contains(word), "{case}: {error}");
        assert!(error.is_bad_layer(), "{case}");
    }
}

#[test]
fn what_is_within_the_limits_is_read() {
    let files = many(100, |tar, index| tar.file(&index.to_string(), ""));
    let sparse = sparse("10000", "0,1,2,1,4,1,6,1,8,1,10,1,12,1,14,1").file("a", "12345678");
    for tar in [files, sparse, Tar::new().file(&"n/".repeat(20), "")] {
        inspect(&tar.ended()[..], &narrow()).unwrap();
    }
}

/// A file of zeros, as long as told.
fn zeros(size: u64) -> impl Read {
    let header = Tar::new()
        .entry("zeros", Kind::File { size }, &metadata(0o644))
        .open();
    io::Cursor::new(header).chain(io::repeat(0).take(size.next_multiple_of(512) + 1024))
}

pub(super) fn compressed(encoding: Encoding, mut tar: impl Read) -> Vec<u8> {
    let mut encoder = Encoder::new(encoding, Vec::new()).unwrap();
    io::copy(&mut tar, &mut encoder).unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_bomb_is_refused_by_its_ratio_and_by_its_length() {
    for encoding in [Encoding::GZIP, Encoding::ZSTD] {
        let bomb = compressed(encoding, zeros(3_000_000));
        assert!(bomb.len() < 10_000);
        let error = inspect(&bomb[..], &narrow()).unwrap_err();
        assert!(error.to_string().contains("times longer"), "{error}");
        inspect(&bomb[..], &Limits::default()).unwrap();
        // Below the free length nobody looks at the ratio.
        inspect(&compressed(encoding, zeros(900_000))[..], &narrow()).unwrap();
    }
    let endless = io::Cursor::new(Tar::new().file("a", "").ended()).chain(io::repeat(0));
    let error = inspect(endless, &narrow()).unwrap_err();
    assert!(
        error.to_string().contains("too many bytes of tar"),
        "{error}"
    );
}

#[test]
fn a_truncated_stream_is_an_error_wherever_it_is_cut() {
    let tar = Tar::new()
        .directory("d", 0o755)
        .extended(b'x', &[("SCHILY.xattr.user.a", b"b")])
        .file("d/f", &"content ".repeat(100))
        .open();
    let cut = |length: usize| inspect(&tar[..length], &Limits::default());
    // A plain tar may end where a header would begin.
    let whole = [0, 512, tar.len()];
    for length in 0..tar.len() {
        match cut(length) {
            Ok(_) => assert!(whole.contains(&length), "{length}"),
            Err(error) => assert!(
                matches!(error, Error::Truncated { .. }),
                "{length}: {error}"
            ),
        }
    }
    for encoding in [Encoding::GZIP, Encoding::ZSTD] {
        let layer = compressed(encoding, &tar[..]);
        for length in 8..layer.len() {
            let error = inspect(&layer[..length], &Limits::default()).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { .. }),
                "{length}: {error}"
            );
        }
    }
}

#[test]
fn damage_in_a_compressed_layer_is_an_error() {
    for encoding in [Encoding::GZIP, Encoding::ZSTD] {
        let tar = Tar::new().file("a", "content").ended();
        let (diff_id, layer) = (Digest::of(&tar), compressed(encoding, &tar[..]));
        for position in 10..layer.len() {
            let mut damaged = layer.clone();
            damaged[position] ^= 0x55;
            match inspect(&damaged[..], &Limits::default()) {
                Err(error) => assert!(error.is_bad_layer(), "{position}: {error}"),
                // Bits that fill the last byte of deflate data mean nothing.
                Ok(unpacked) => assert_eq!(unpacked.diff_id, diff_id, "{position}"),
            }
        }
        let trailing = [&layer[..], b"garbage behind the end"].concat();
        let error = inspect(&trailing[..], &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
}

#[test]
fn other_compressions_are_refused_by_name() {
    for (start, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"\xfd7zXZ\0rest", "xz")] {
        let error = inspect(start, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
