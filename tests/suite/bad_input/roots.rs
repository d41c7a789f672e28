//! Wrong root directories: no directory, somebody else's, read-only, of a newer varve.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::MountFlags;
use support::small_disk::SmallDisk;
use support::tree;
use support::workspace::Varve;

/// What a store has for directories, and other people have too.
const ORDINARY_NAMES: [&str; 9] = [
    "checkouts",
    "db",
    "ingest",
    "meta",
    "mounts",
    "objects",
    "run",
    "snapshots",
    "trash",
];

fn a_build(varve: &Varve) {
    varve.dockerfile("FROM busybox\nRUN echo hello > /hello\n");
}

#[test]
fn a_root_that_is_a_file_or_below_one_is_refused_by_its_path() {
    let varve = Varve::new();
    a_build(&varve);
    varve.write("file", "mine");
    for root in ["file", "file/root"] {
        varve
            .varve(["--root", root, "images"])
            .refused_with(1, &[root, "--root"]);
        varve
            .build(["--root", root])
            .refused_with(1, &[root, "--root"]);
    }
    assert_eq!(varve.read("file"), "mine");
}

/// `varve --root . build .` in a project that has a directory `snapshots` must cost nobody theirs.
#[test]
fn a_directory_with_other_peoples_files_is_refused_and_not_touched() {
    let varve = Varve::new();
    a_build(&varve);
    for name in ORDINARY_NAMES {
        let root = format!("foreign-{name}");
        varve.write(format!("{root}/{name}/file"), "mine");
        varve.write(format!("{root}/{name}/directory/file"), "mine");
        let before = tree::list(&varve.path(&root));
        for command in ["images", "fsck", "prune"] {
            let words = [root.as_str(), "not a varve store", "--root"];
            varve
                .varve(["--root", &root, command])
                .refused_with(1, &words);
        }
        varve.build(["--root", &root]).refused_with(1, &[&root]);
        tree::assert_same(&before, &tree::list(&varve.path(&root)));
    }
    varve.write("home/notes.txt", "mine");
    let before = tree::list(&varve.path("home"));
    varve
        .varve(["--root", "home", "images"])
        .refused_with(1, &["home", "--root"]);
    tree::assert_same(&before, &tree::list(&varve.path("home")));
}

#[test]
fn start_up_cleaning_does_not_follow_a_link_out_of_the_root() {
    let varve = Varve::new();
    a_build(&varve);
    varve.build(["-t", "app"]).succeeded();
    for name in ["trash", "ingest", "snapshots", "run"] {
        varve.write("elsewhere/file", "mine");
        let directory = varve.root().join(name);
        fs::remove_dir_all(&directory).unwrap();
        symlink(varve.path("elsewhere"), &directory).unwrap();
        // Whether it refuses or repairs is its own choice; the files are not.
        let outcome = varve.varve(["images"]);
        assert_eq!(varve.read("elsewhere/file"), "mine", "by {name}\n{outcome}");
        let outcome = varve.varve(["prune"]);
        assert_eq!(varve.read("elsewhere/file"), "mine", "by {name}\n{outcome}");
        fs::remove_file(&directory)
            .or_else(|_| fs::remove_dir_all(&directory))
            .unwrap();
        fs::create_dir(&directory).unwrap();
    }
}

#[test]
fn a_read_only_root_is_refused_by_its_path() {
    let varve = Varve::new();
    a_build(&varve);
    let disk = SmallDisk::mount(&varve.path("disk"), "size=64m");
    varve
        .build(["--root", "disk/root", "-t", "app"])
        .succeeded();
    disk.remount(MountFlags::RDONLY, "size=64m");
    for root in ["disk/root", "disk/new"] {
        let words = [root, "Read-only file system"];
        varve
            .varve(["--root", root, "images"])
            .refused_with(1, &words);
        varve.build(["--root", root]).refused_with(1, &words);
    }
    disk.remount(MountFlags::empty(), "size=64m");
    assert_eq!(varve.varve(["--root", "disk/root", "fsck"]).code, 0);
    let listed = varve.varve(["--root", "disk/root", "images"]).success();
    assert!(listed.stdout.contains("app"), "{listed}");
}

/// The version lies in the row `format` of the table `meta` (FORMAT.md), which in a new store is
/// still in RocksDB's log: 4 bytes of masked CRC-32C, 2 of length, 1 of type, and the batch.
fn raise_format(root: &Path) {
    let logs = fs::read_dir(root.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let log = logs
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .expect("a log");
    let mut bytes = fs::read(&log).unwrap();
    let row = b"\x06format\x04\x01\0\0\0";
    let at = bytes.windows(row.len()).position(|window| window == row);
    let at = at.expect("the row of a new store is in its log");
    bytes[at + row.len() - 4] = 99;
    let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    let record = &bytes[6..7 + length];
    assert!(at < 7 + length, "the row is in the first record");
    let checksum = crc32c(record).rotate_right(15).wrapping_add(0xa282_ead8);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&log, bytes).unwrap();
}

/// Castagnoli's polynomial, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[test]
fn a_store_of_a_newer_varve_is_refused_with_both_versions_and_not_touched() {
    let varve = Varve::new();
    a_build(&varve);
    varve.varve(["images"]).succeeded();
    raise_format(&varve.root());
    let objects = tree::list(&varve.root().join("objects"));
    let words = ["format 99", "reads up to 1", "newer varve", "--root"];
    for command in ["images", "fsck", "prune"] {
        varve.varve([command]).refused_with(1, &words);
    }
    varve.build(["-t", "app"]).refused_with(1, &words);
    tree::assert_same(&objects, &tree::list(&varve.root().join("objects")));
}
