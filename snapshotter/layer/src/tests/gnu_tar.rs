//! Against GNU tar: what it writes in each of its formats is read, and what we write it extracts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use store::fixtures::MemoryTrees;
use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Leaf, LinkId, Metadata, Name, Timestamp, Xattrs,
};

use super::delta_text::text;
use super::random::MemoryBlobs;
use crate::limits::Limits;
use crate::pack::{PackOptions, pack};
use crate::unpack::inspect;

/// What a format of tar can say.
#[derive(Clone, Copy)]
struct Abilities {
    long_names: bool,
    fractions: bool,
    xattrs: bool,
}

const ALL: Abilities = Abilities {
    long_names: true,
    fractions: true,
    xattrs: true,
};

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// A file of 3 MiB with forty pieces of 4 KiB: more than a header and one block hold.
fn write_sparse(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    file.set_len(3 << 20).unwrap();
    for piece in 0..40u8 {
        file.seek(SeekFrom::Start(u64::from(piece) * 65_536 + 8_192))
            .unwrap();
        file.write_all(&[piece + 1; 4_096]).unwrap();
    }
}

/// Fills a directory with one of everything.
fn fill(root: &Path, abilities: Abilities) {
    let at = |name: &str| root.join(name);
    for directory in ["dir", "dir/inner", "empty", "z"] {
        fs::create_dir(at(directory)).unwrap();
    }
    fs::write(at("dir/file"), "content\n").unwrap();
    fs::write(at("dir/inner/exactly512"), [b'x'; 512]).unwrap();
    fs::write(at("z/nothing"), "").unwrap();
    fs::hard_link(at("dir/file"), at("dir/inner/linked")).unwrap();
    fs::hard_link(at("dir/file"), at("z/linked too")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not utf-8 \xff\xfe")), "bytes").unwrap();
    fs::write(at("new\nline"), "x").unwrap();
    symlink("../nowhere at all", at("dir/symlink")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
    write_sparse(&at("sparse"));
    for (name, mode) in [
        ("dir", 0o2750),
        ("dir/file", 0o4711),
        ("empty", 0o1777),
        ("fifo", 0o640),
    ] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    if abilities.long_names {
        let deep = at(&format!("{0}/{0}", "deep ".repeat(40)));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f".repeat(255)), "long").unwrap();
        symlink("t".repeat(300), deep.join("symlink")).unwrap();
    }
    if abilities.xattrs {
        set_xattr(&at("dir/file"), "user.a", b"one\n\0two=three");
        set_xattr(&at("dir/file"), "user.empty", b"");
        set_xattr(&at("empty"), "user.on.directory", b"\xff");
    }
    let mut paths = paths(root);
    paths.reverse();
    for (number, path) in paths.iter().enumerate() {
        let (tv_sec, tv_nsec) = match number % 3 {
            0 if abilities.fractions => (-1_000, 750_000_000),
            1 if abilities.fractions => (1_600_000_000, 123_456_789),
            _ => (1_500_000_000 + number as i64, 0),
        };
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Every path, directories before what they hold.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            found.extend(entries.map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn xattrs(path: &Path) -> Xattrs {
    let mut list = vec![0; 4_096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| name.starts_with(b"user."));
    names
        .map(|name| {
            let mut value = vec![0; 4_096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.into(), value[..length].into())
        })
        .collect()
}

fn attributes(path: &Path) -> Metadata {
    let found = path.symlink_metadata().unwrap();
    Metadata {
        mode: (found.mode() & 0o7777) as u16,
        uid: found.uid(),
        gid: found.gid(),
        mtime: Timestamp {
            seconds: found.mtime(),
            nanoseconds: found.mtime_nsec() as u32,
        },
        xattrs: xattrs(path),
    }
}

/// A directory of the file system as a delta.
fn capture(path: &Path, blobs: &mut MemoryBlobs) -> DeltaDirectory {
    let mut entries = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let kind = found.file_type();
        let content = if kind.is_dir() {
            None
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            Some(Content::Symlink {
                target: target.as_os_str().as_bytes().into(),
            })
        } else if kind.is_fifo() {
            Some(Content::Fifo)
        } else {
            Some(blobs.put(&fs::read(&path).unwrap()))
        };
        let delta = match content {
            None => DeltaEntry::Directory(capture(&path, blobs)),
            Some(content) => {
                let link = LinkId::derive(b"inode", &found.ino().to_le_bytes());
                let link = (found.nlink() > 1).then_some(link);
                DeltaEntry::Leaf(Leaf {
                    metadata: attributes(&path),
                    content,
                    link,
                })
            }
        };
        entries.insert(Name::new(entry.file_name().as_bytes()).unwrap(), delta);
    }
    DeltaDirectory {
        metadata: Some(attributes(path)),
        opaque: false,
        entries,
    }
}

fn captured(root: &Path) -> (Delta, MemoryBlobs) {
    let mut blobs = MemoryBlobs::default();
    let root = capture(root, &mut blobs);
    (Delta { root }, blobs)
}

#[test]
fn every_format_that_gnu_tar_writes_is_read() {
    let plain = Abilities {
        long_names: false,
        fractions: false,
        xattrs: false,
    };
    let gnu = Abilities {
        long_names: true,
        ..plain
    };
    for (options, abilities, sparse) in [
        (
            &[
                "--format=pax",
                "--xattrs",
                "--sparse",
                "--sparse-version=0.0",
            ][..],
            ALL,
            true,
        ),
        (
            &[
                "--format=pax",
                "--xattrs",
                "--sparse",
                "--sparse-version=0.1",
            ],
            ALL,
            true,
        ),
        (
            &[
                "--format=pax",
                "--xattrs",
                "--sparse",
                "--sparse-version=1.0",
            ],
            ALL,
            true,
        ),
        (&["--format=posix", "--xattrs"], ALL, false),
        (&["--format=gnu", "--sparse"], gnu, true),
        (&["--format=oldgnu", "--sparse"], gnu, true),
        (&["--format=gnu"], gnu, false),
        (&["--format=ustar"], plain, false),
    ] {
        let root = tempfile::tempdir().unwrap();
        fill(root.path(), abilities);
        let mut tar = Command::new("tar");
        tar.args(options)
            .arg("-C")
            .arg(root.path())
            .args(["-cf", "-", "."]);
        let output = tar.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{options:?}");
        assert_eq!(
            output.stdout.len() < 1 << 20,
            sparse,
            "{options:?}: the sparse file"
        );
        let unpacked = inspect(&output.stdout[..], &Limits::default()).unwrap();
        let (expected, _) = captured(root.path());
        pretty(&text(&unpacked.delta, &[]), &text(&expected, &[]), options);
        assert_eq!(unpacked.warnings, Vec::<String>::new());
    }
}

#[test]
fn gnu_tar_extracts_what_was_packed() {
    let (root, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(root.path(), ALL);
    let (delta, blobs) = captured(root.path());
    let mut tar = Vec::new();
    pack(
        &delta,
        &MemoryTrees::new(),
        &blobs,
        &PackOptions::default(),
        &mut tar,
    )
    .unwrap();
    let mut command = Command::new("tar");
    command
        .args(["--xattrs", "--xattrs-include=*", "-xpf", "-", "-C"])
        .arg(target.path());
    // It finds times before 1970 implausible, and says so.
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(child.wait().unwrap().success());
    let (extracted, _) = captured(target.path());
    pretty(&text(&extracted, &[]), &text(&delta, &[]), &["extracted"]);
}

/// Shows the first line that differs, not two thousand.
#[track_caller]
fn pretty(found: &str, expected: &str, case: &[&str]) {
    let pairs = found.lines().zip(expected.lines());
    for (found, expected) in pairs {
        assert_eq!(found, expected, "{case:?}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{case:?}");
}
