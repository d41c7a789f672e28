//! What each arrangement of entries means.

use super::delta_text::text;
use super::literal::{Tar, metadata};
use crate::archive::Kind;

const KNOWN: &[&str] = &["", "one", "two", "three"];

/// Reads the tar and compares the delta with its expected lines.
#[track_caller]
fn check(tar: Tar, expected: &[&str]) {
    let unpacked = tar.read().unwrap();
    let text = text(&unpacked.delta, KNOWN);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn every_kind_of_entry_is_read() {
    let tar = Tar::new()
        .directory("./", 0o700)
        .directory("d/", 0o755)
        .file("d/f", "one")
        .symlink("d/s", "../x y")
        .link("d/l", "d/f")
        .entry("c", Kind::CharDevice(1, 3), &metadata(0o666))
        .entry("b", Kind::BlockDevice(8, 300), &metadata(0o660))
        .entry("p", Kind::Fifo, &metadata(0o600));
    check(
        tar,
        &[
            "/ dir 700",
            "/b block 8:300 660",
            "/c char 1:3 666",
            "/d/ dir 755",
            "/d/f file \"one\" 644 linked",
            "/d/l file \"one\" 644 linked",
            "/d/s -> ../x y 777",
            "/p fifo 600",
        ],
    );
}

#[test]
fn missing_parents_are_directories_without_attributes() {
    check(
        Tar::new().file("a/b/c", "one"),
        &[
            "/ dir -",
            "/a/ dir -",
            "/a/b/ dir -",
            "/a/b/c file \"one\" 644",
        ],
    );
}

#[test]
fn a_directory_that_comes_behind_its_entries_keeps_them() {
    check(
        Tar::new()
            .file("a/b", "one")
            .directory("a", 0o711)
            .directory("a/", 0o700),
        &["/ dir -", "/a/ dir 700", "/a/b file \"one\" 644"],
    );
}

#[test]
fn of_two_entries_of_one_name_the_last_counts() {
    check(
        Tar::new()
            .file("a", "one")
            .file("./a", "two")
            .symlink("b", "c")
            .file("b", "one"),
        &["/ dir -", "/a file \"two\" 644", "/b file \"one\" 644"],
    );
}

#[test]
fn a_file_in_place_of_a_directory_drops_what_it_held() {
    check(
        Tar::new().file("a/b/c", "one").file("a", "two"),
        &["/ dir -", "/a file \"two\" 644"],
    );
}

#[test]
fn a_directory_in_place_of_a_file_hides_the_lower_directory() {
    check(
        Tar::new()
            .file("a", "one")
            .directory("a", 0o755)
            .file("a/b", "two"),
        &["/ dir -", "/a/ dir 755 opaque", "/a/b file \"two\" 644"],
    );
    check(
        Tar::new()
            .file("a/x", "one")
            .file("a", "one")
            .directory("a", 0o755),
        &["/ dir -", "/a/ dir 755 opaque"],
    );
}

#[test]
fn whiteouts_hide_lower_entries_and_never_those_of_their_own_layer() {
    check(
        Tar::new().file("a/.wh.gone", "").file(".wh.b", ""),
        &["/ dir -", "/a/ dir -", "/a/gone whiteout", "/b whiteout"],
    );
    let expected = [
        "/ dir -",
        "/a file \"one\" 644",
        "/d/ dir 755 opaque",
        "/d/x file \"two\" 644",
    ];
    check(
        Tar::new()
            .file(".wh.a", "")
            .file("a", "one")
            .file(".wh.d", "")
            .directory("d", 0o755)
            .file("d/x", "two"),
        &expected,
    );
    check(
        Tar::new()
            .file("a", "one")
            .file(".wh.a", "")
            .directory("d", 0o755)
            .file("d/x", "two")
            .file(".wh.d", ""),
        &expected,
    );
}

#[test]
fn an_opaque_mark_hides_lower_entries_wherever_it_stands() {
    for tar in [
        Tar::new()
            .directory("d", 0o755)
            .file("d/.wh..wh..opq", "")
            .file("d/x", "one"),
        Tar::new()
            .file("d/x", "one")
            .file("d/.wh..wh..opq", "")
            .directory("d", 0o755),
    ] {
        check(
            tar,
            &["/ dir -", "/d/ dir 755 opaque", "/d/x file \"one\" 644"],
        );
    }
    check(Tar::new().file(".wh..wh..opq", ""), &["/ dir - opaque"]);
}

#[test]
fn what_aufs_kept_for_itself_is_no_file() {
    let tar = Tar::new()
        .directory(".wh..wh.plnk", 0o755)
        .file(".wh..wh.plnk/1.2", "one")
        .file(".wh..wh.aufs", "two")
        .file("d/.wh..wh.orph/x", "two")
        .link("a", ".wh..wh.plnk/1.2")
        .link("b", ".wh..wh.plnk/1.2");
    check(
        tar,
        &[
            "/ dir -",
            "/a file \"one\" 644 linked",
            "/b file \"one\" 644 linked",
        ],
    );
}

#[test]
fn hard_links_of_any_kind_of_file_share_one_inode() {
    let tar = Tar::new()
        .file("f", "one")
        .link("d/g", "./f")
        .link("d/h", "/d/g")
        .symlink("s", "x")
        .link("t", "s")
        .file("alone", "one")
        .link("copy", "alone")
        .file("copy", "two");
    check(
        tar,
        &[
            "/ dir -",
            "/alone file \"one\" 644",
            "/copy file \"two\" 644",
            "/d/ dir -",
            "/d/g file \"one\" 644 linked",
            "/d/h file \"one\" 644 linked",
            "/f file \"one\" 644 linked",
            "/s -> x 777 linked",
            "/t -> x 777 linked",
        ],
    );
}

#[test]
fn a_hard_link_keeps_the_inode_whose_first_name_is_replaced() {
    let tar = Tar::new()
        .file("a", "one")
        .link("b", "a")
        .link("c", "a")
        .file("a", "two");
    check(
        tar,
        &[
            "/ dir -",
            "/a file \"two\" 644",
            "/b file \"one\" 644 linked",
            "/c file \"one\" 644 linked",
        ],
    );
}

#[test]
fn a_hard_link_to_what_the_layer_does_not_have_is_one_to_a_lower_layer() {
    check(
        Tar::new().link("a", "usr/bin/b").link("c", "a"),
        &["/ dir -", "/a lower /usr/bin/b", "/c lower /usr/bin/b"],
    );
}

#[test]
fn a_hard_link_may_come_before_its_target() {
    check(
        Tar::new()
            .link("a", "d/b")
            .link("d/b", "c")
            .file("c", "one"),
        &[
            "/ dir -",
            "/a file \"one\" 644 linked",
            "/c file \"one\" 644 linked",
            "/d/ dir -",
            "/d/b file \"one\" 644 linked",
        ],
    );
}

#[test]
fn names_go_through_symbolic_links_of_the_layer_within_the_root() {
    let tar = Tar::new()
        .directory("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/a", "one")
        .symlink("up", "../../../etc/x/../y")
        .file("up/b", "two")
        .symlink("abs", "/usr/lib")
        .file("usr/.wh.old", "")
        .file("abs/.wh.c", "")
        .link("l", "abs/a")
        .symlink("second", "lib")
        .file("second/d", "three");
    check(
        tar,
        &[
            "/ dir -",
            "/abs -> /usr/lib 777",
            "/etc/ dir -",
            "/etc/y/ dir -",
            "/etc/y/b file \"two\" 644",
            "/l file \"one\" 644 linked",
            "/lib -> usr/lib 777",
            "/second -> lib 777",
            "/up -> ../../../etc/x/../y 777",
            "/usr/ dir -",
            "/usr/lib/ dir 755",
            "/usr/lib/a file \"one\" 644 linked",
            "/usr/lib/c whiteout",
            "/usr/lib/d file \"three\" 644",
            "/usr/old whiteout",
        ],
    );
}

#[test]
fn a_symbolic_link_that_was_replaced_is_followed_no_more() {
    let tar = Tar::new()
        .symlink("a", "b")
        .file("a/one", "one")
        .directory("a", 0o755)
        .file("a/two", "two");
    check(
        tar,
        &[
            "/ dir -",
            "/a/ dir 755 opaque",
            "/a/two file \"two\" 644",
            "/b/ dir -",
            "/b/one file \"one\" 644",
        ],
    );
}

#[test]
fn absolute_names_are_relative_to_the_root() {
    check(
        Tar::new()
            .file("/etc/a", "one")
            .file("//b", "two")
            .link("c", "/etc/a"),
        &[
            "/ dir -",
            "/b file \"two\" 644",
            "/c file \"one\" 644 linked",
            "/etc/ dir -",
            "/etc/a file \"one\" 644 linked",
        ],
    );
}

#[test]
fn extended_headers_replace_and_add_attributes() {
    let records: &[(&str, &[u8])] = &[
        ("path", b"d/\xff\xfe"),
        ("uid", b"3000000000"),
        ("gid", b"7"),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.user.b", b"2\n\0=3"),
        ("SCHILY.xattr.security.capability", b"\x01"),
        ("comment", b"nothing"),
    ];
    check(
        Tar::new()
            .extended(b'x', records)
            .file("short", "one")
            .file("next", "two"),
        &[
            "/ dir -",
            "/d/ dir -",
            "/d/\u{fffd}\u{fffd} file \"one\" 644 3000000000:7 @-2.750000000 \
         security.capability=\u{1} user.b=2",
            "\0=3",
            "/next file \"two\" 644",
        ],
    );
}

#[test]
fn long_names_of_gnu_are_read() {
    let (name, target) = ("n".repeat(200), "t".repeat(300));
    let tar = Tar::new()
        .special(b'L', format!("{name}\0").as_bytes())
        .special(b'K', format!("{target}\0").as_bytes())
        .symlink("short", "short");
    check(tar, &["/ dir -", &format!("/{name} -> {target} 777")]);
}

#[test]
fn numbers_in_base_256_may_be_large_or_negative() {
    let tar = Tar::new()
        .file("a", "")
        .patch(108, b"\x80\0\0\0\xb2\xd0\x5e\0")
        .patch(116, b"\xff\xff\xff\xff\xff\xff\xff\xfe")
        .patch(136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        .file("b", "")
        .patch(136, b"\x80\0\0\0\0\0\0\x40\0\0\0\0");
    check(
        tar,
        &[
            "/ dir -",
            "/a file \"\" 644 3000000000:4294967294 @-1.000000000",
            "/b file \"\" 644 @274877906944.000000000",
        ],
    );
}

#[test]
fn a_global_header_changes_nothing_as_in_docker() {
    let unpacked = Tar::new()
        .extended(b'g', &[("uid", b"5"), ("comment", b"0123456789abcdef")])
        .file("a", "one")
        .read()
        .unwrap();
    assert_eq!(
        text(&unpacked.delta, KNOWN),
        "/ dir -\n/a file \"one\" 644\n"
    );
    assert_eq!(unpacked.warnings, ["a global extended header was skipped"]);
}

#[test]
fn attributes_of_overlayfs_are_dropped_with_a_warning() {
    let unpacked = Tar::new()
        .extended(
            b'x',
            &[
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc/shadow"),
                ("SCHILY.xattr.trusted.other", b"x"),
            ],
        )
        .file("a", "one")
        .entry("gone", Kind::CharDevice(0, 0), &metadata(0))
        .read()
        .unwrap();
    let expected = "/ dir -\n/a file \"one\" 644 trusted.other=x\n/gone whiteout\n";
    assert_eq!(text(&unpacked.delta, KNOWN), expected);
    assert_eq!(
        unpacked.warnings,
        [
            "a: the extended attribute trusted.overlay.redirect was dropped",
            "gone: the character device 0:0 was read as a whiteout",
        ]
    );
}

#[test]
fn an_archive_may_end_without_its_mark() {
    for tar in [Vec::new(), Tar::new().file("a", "one").open()] {
        assert!(crate::inspect(&tar[..], &crate::Limits::default()).is_ok());
    }
}

#[test]
fn what_stands_behind_the_end_is_skipped_and_digested() {
    let mut tar = Tar::new().file("a", "one").ended();
    tar.extend_from_slice(&[0; 9_000]);
    let clean = crate::inspect(&tar[..], &crate::Limits::default()).unwrap();
    tar.extend_from_slice(b"garbage");
    let unpacked = crate::inspect(&tar[..], &crate::Limits::default()).unwrap();
    assert_eq!(unpacked.delta, clean.delta);
    assert_eq!(unpacked.diff_id, crate::Digest::of(&tar));
    assert_eq!((clean.warnings.len(), unpacked.warnings.len()), (0, 1));
}

#[test]
fn totals_tell_what_was_read() {
    let tar = Tar::new()
        .directory("d", 0o755)
        .file("d/a", "one")
        .file("d/b", "three")
        .ended();
    let unpacked = crate::inspect(&tar[..], &crate::Limits::default()).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes), (3, 8));
    assert_eq!(
        (unpacked.size, unpacked.tar_size),
        (tar.len() as u64, tar.len() as u64)
    );
    assert_eq!(
        (unpacked.digest, unpacked.diff_id),
        (crate::Digest::of(&tar), crate::Digest::of(&tar))
    );
}

#[test]
fn sparse_files_of_pax_are_filled_with_zeros() {
    type Records<'r> = &'r [(&'r str, &'r [u8])];
    let versions: [(Records<'_>, &[u8]); 3] = [
        (
            &[
                ("GNU.sparse.size", b"10"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.offset", b"1"),
                ("GNU.sparse.numbytes", b"2"),
                ("GNU.sparse.offset", b"5"),
                ("GNU.sparse.numbytes", b"3"),
            ],
            b"abcde",
        ),
        (
            &[
                ("GNU.sparse.size", b"10"),
                ("GNU.sparse.map", b"1,2,5,3"),
                ("GNU.sparse.name", b"a"),
            ],
            b"abcde",
        ),
        (
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"10"),
                ("GNU.sparse.name", b"a"),
            ],
            &[&b"2\n1\n2\n5\n3\n"[..], &[0; 502], b"abcde"].concat(),
        ),
    ];
    for (records, stored) in versions {
        let unpacked = Tar::new()
            .extended(b'x', records)
            .file("a", str::from_utf8(stored).unwrap())
            .file("b", "one")
            .read()
            .unwrap();
        let text = text(&unpacked.delta, &["\0ab\0\0cde\0\0", "one"]);
        let expected = "/ dir -\n/a file \"\\0ab\\0\\0cde\\0\\0\" 644\n/b file \"one\" 644\n";
        assert_eq!(text, expected, "{records:?}");
    }
}

#[test]
fn symbolic_links_have_the_one_mode_that_linux_gives_them() {
    let tar = Tar::new().entry("s", Kind::Symlink(b"t".to_vec()), &metadata(0o4600));
    check(tar, &["/ dir -", "/s -> t 777"]);
}
