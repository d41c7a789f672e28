//! ADD of local archives, which are unpacked.

use std::fs;

use support::forged_image::{TarEntry, tar_archive};
use support::workspace::Varve;

use super::{names, text};

/// Every compression that docker unpacks, and the flag of tar(1) that makes it.
const ARCHIVES: [(&str, &str); 5] = [
    ("tree.tar", "--no-auto-compress"),
    ("tree.tar.gz", "--gzip"),
    ("tree.tar.bz2", "--bzip2"),
    ("tree.tar.xz", "--xz"),
    ("tree.tar.zst", "--zstd"),
];

/// A context with the [`ARCHIVES`], which hold a file, a link and a directory.
fn context() -> Varve {
    let varve = Varve::new();
    varve.write("tree/d/f", "content");
    std::os::unix::fs::symlink("d/f", varve.path("tree/l")).unwrap();
    for (name, compression) in ARCHIVES {
        let archive = format!("context/{name}");
        let owner = ["--owner=5", "--group=6", compression];
        let files = ["-cf", &archive, "-C", "tree", "."];
        let words = owner.into_iter().chain(files);
        varve.tool("tar", words).succeeded();
    }
    varve
}

#[test]
fn an_archive_is_unpacked_plain_or_compressed() {
    let varve = context();
    for (archive, _) in ARCHIVES {
        varve.dockerfile(&format!(
            "FROM busybox\nADD {archive} /t/\nRUN stat -c '%n %u:%g' /t/d/f > /report\n"
        ));
        let files = varve.files([""; 0]);
        assert_eq!(names(&files.join("t")), ["d/f", "l"], "{archive}");
        assert_eq!(text(&files, "t/l"), "content");
        assert_eq!(text(&files, "report"), "/t/d/f 5:6\n");
    }
}

#[test]
fn an_archive_is_not_unpacked_over_a_file() {
    let varve = context();
    for target in ["/etc/passwd", "/link"] {
        varve.dockerfile(&format!(
            "FROM busybox\nRUN ln -s /etc/passwd /link\nADD tree.tar {target}\n"
        ));
        let words = ["/etc/passwd", "not a directory"];
        varve.build([""; 0]).refused_with(1, &words);
    }
}

#[test]
fn an_archive_that_cannot_be_unpacked_is_named() {
    let varve = Varve::new();
    let up = tar_archive(&[TarEntry::file("ok", b"1"), TarEntry::file("../up", b"2")]);
    let cut = &tar_archive(&[TarEntry::file("big", &[0; 5000])])[..3000];
    for (bytes, words) in [
        (
            &up[..],
            "cannot unpack /d/x.tar: the archive's entry \"../up\" is refused",
        ),
        (
            cut,
            "cannot unpack /d/x.tar: the archive ends too early, in the entry \"big\"",
        ),
    ] {
        fs::create_dir_all(varve.path("context/d")).unwrap();
        fs::write(varve.path("context/d/x.tar"), bytes).unwrap();
        varve.dockerfile("FROM scratch\nADD d/x.tar /w/\n");
        let words = [words, "COPY", ">>> ADD d/x.tar"];
        varve.build(["-o", "out"]).refused_with(1, &words);
    }
}

#[test]
fn a_hard_link_of_an_archive_points_below_where_it_is_unpacked() {
    let varve = Varve::new();
    let link = tar_archive(&[TarEntry::hard_link("h", "/etc/passwd")]);
    fs::create_dir_all(varve.path("context")).unwrap();
    fs::write(varve.path("context/x.tar"), link).unwrap();
    varve.dockerfile("FROM busybox\nADD x.tar /w/\n");
    varve
        .build(["-o", "out"])
        .refused_with(1, &["/w/etc/passwd"]);
    varve.dockerfile(
        "FROM busybox\nRUN mkdir -p /w/etc && echo own > /w/etc/passwd\nADD x.tar /w/\n",
    );
    assert_eq!(text(&varve.files([""; 0]), "w/h"), "own\n");
}

#[test]
fn an_archive_goes_through_the_links_of_the_image() {
    let varve = Varve::new();
    let entries = [
        TarEntry::file("bin/tool", b"#!/bin/sh\necho tool\n"),
        TarEntry::file("run/lock/deep/f", b"deep"),
        TarEntry::hard_link("bin/same", "bin/old"),
        TarEntry::file("gone/f", b"gone"),
    ];
    varve.write("context/x.tar", tar_archive(&entries));
    let links = "mkdir -p /w/usr/real /w/data/lock; echo old > /w/usr/real/old; \
        ln -s /usr/real /w/bin; ln -s ../data /w/run; ln -s /nowhere/yet /w/gone";
    // Links lead where they lead from the place that it is unpacked to, and not out of that.
    for (from, target) in [
        ("FROM busybox", "/w/"),
        ("FROM scratch\nCOPY --from=a /w /", "/"),
    ] {
        varve.dockerfile(&format!(
            "FROM busybox AS a\nRUN {links}\n{from}\nCOPY --from=a /w {target}\n\
             ADD --chown=3:4 x.tar {target}\n"
        ));
        let files = varve.files([""; 0]);
        let below = files.join(target.trim_start_matches('/'));
        assert!(below.join("bin").is_symlink() && below.join("run").is_symlink());
        assert!(text(&below, "usr/real/tool").contains("echo tool"));
        assert_eq!(text(&below, "usr/real/same"), "old\n");
        assert_eq!(text(&below, "data/lock/deep/f"), "deep");
        assert_eq!(text(&below, "nowhere/yet/f"), "gone");
        assert_eq!(files.join("nowhere").exists(), target == "/");
    }
}

#[test]
fn no_name_in_an_archive_means_that_something_is_gone() {
    let varve = Varve::new();
    let entries = [
        TarEntry::file(".wh.kept", b"a name"),
        TarEntry::file("d/.wh..wh..opq", b""),
        TarEntry::file("d/.wh..wh.plnk/f", b""),
        TarEntry::file("d/new", b"new"),
    ];
    varve.write("context/x.tar", tar_archive(&entries));
    varve.dockerfile(
        "FROM busybox\nRUN mkdir /d; echo old > /d/old; echo kept > /kept\nADD x.tar /\n\
         RUN ls -A / /d > /report; cat /.wh.kept >> /report; rm -r /.wh.kept /d/.wh*\n",
    );
    let files = varve.files([""; 0]);
    let report = text(&files, "report");
    for name in [
        ".wh.kept",
        "kept",
        ".wh..wh..opq",
        ".wh..wh.plnk",
        "new",
        "old",
        "a name",
    ] {
        assert!(report.lines().any(|line| line == name), "{name}: {report}");
    }
    assert_eq!(text(&files, "kept"), "kept\n");
}

#[test]
fn what_stands_behind_an_archive_or_for_its_root_is_not_looked_at() {
    let varve = context();
    for (archive, _) in ARCHIVES {
        for junk in [&b"no tar"[..], &[0; 700]] {
            let mut bytes = fs::read(varve.path(format!("context/{archive}"))).unwrap();
            bytes.extend_from_slice(junk);
            varve.write("context/junk", bytes);
            varve.dockerfile("FROM scratch\nADD junk /t/\n");
            let files = varve.files([""; 0]);
            assert_eq!(names(&files.join("t")), ["d/f", "l"], "{archive}");
        }
    }
    // An end that is missing is another matter.
    let numbers = (0..20_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    let numbers: Vec<u8> = numbers.collect();
    varve.write("long.tar", tar_archive(&[TarEntry::file("long", &numbers)]));
    varve.tool("gzip", ["long.tar"]).succeeded();
    let whole = fs::read(varve.path("long.tar.gz")).unwrap();
    varve.write("context/junk", &whole[..whole.len() / 2]);
    varve
        .build(["-o", "out"])
        .refused_with(1, &["cannot unpack /junk"]);
    let entries = [TarEntry::file("./", b"root"), TarEntry::file("f", b"1")];
    varve.write("context/junk", tar_archive(&entries));
    assert_eq!(text(&varve.files([""; 0]), "t/f"), "1");
}

#[test]
fn an_archive_that_is_copied_stays_an_archive() {
    let varve = context();
    varve.dockerfile("FROM scratch\nCOPY tree.tar.gz /t/\nADD --unpack=false tree.tar /t/\n");
    let files = varve.files([""; 0]);
    assert_eq!(names(&files), ["t/tree.tar", "t/tree.tar.gz"]);
    let original = fs::read(varve.path("context/tree.tar.gz")).unwrap();
    assert_eq!(fs::read(files.join("t/tree.tar.gz")).unwrap(), original);
}

#[test]
fn what_is_no_archive_is_added_as_it_is() {
    let varve = context();
    varve.write("context/plain.tar", "no archive");
    varve.dockerfile("FROM scratch\nADD plain.tar /t/\nADD --chmod=600 Dockerfile /D\n");
    let files = varve.files([""; 0]);
    assert_eq!(text(&files, "t/plain.tar"), "no archive");
    assert!(support::tree::list(&files)["D"].contains(" 600 0:0 "));
}

#[test]
fn an_archive_goes_over_what_is_there_and_can_be_given_an_owner() {
    let varve = context();
    varve.dockerfile(
        "FROM busybox\nRUN mkdir -p /t/d && echo kept > /t/d/kept && echo old > /t/d/f\n\
         ADD --chown=nobody tree.tar /t\nRUN stat -c '%n %u' /t/d/f /t/d/kept > /report\n",
    );
    let files = varve.files([""; 0]);
    assert_eq!(text(&files, "t/d/kept"), "kept\n");
    assert_eq!(text(&files, "t/d/f"), "content");
    assert_eq!(text(&files, "report"), "/t/d/f 65534\n/t/d/kept 0\n");
}

#[test]
fn directories_that_an_archive_is_unpacked_into_are_of_now_and_of_its_owner() {
    let varve = Varve::new();
    let archive = tar_archive(&[TarEntry::file("bin/tool", b"1")]);
    fs::create_dir_all(varve.path("context")).unwrap();
    fs::write(varve.path("context/a.tar"), archive).unwrap();
    varve.dockerfile(
        "FROM busybox\n\
         ADD --chmod=600 a.tar /opt/slash/\n\
         ADD --chown=33:34 a.tar /own/none\n\
         ADD --chmod=750 Dockerfile a.tar /both/\n\
         RUN for d in /opt /opt/slash /opt/slash/bin /own /own/none /own/none/bin /both; do \
         stat -c '%n %a %u:%g' $d; test $(stat -c %Y $d) -gt 1000000000 || echo old; \
         done > /report\n",
    );
    let report = text(&varve.files([""; 0]), "report");
    let expected = [
        "/opt 755 0:0",
        "/opt/slash 755 0:0",
        "/opt/slash/bin 755 0:0",
        "/own 755 33:34",
        "/own/none 755 33:34",
        "/own/none/bin 755 0:0",
        "/both 750 0:0",
    ];
    assert_eq!(report.lines().collect::<Vec<_>>(), expected);
}
