//! A disk that is full: a clear message, nothing lost, and all well again with space.

use std::fs;
use std::io::Write;

use support::small_disk::SmallDisk;
use support::workspace::{Outcome, Varve};

/// What every message about a full disk says.
const FULL: &[&str] = &[
    "No space left on device",
    "the disk of ",
    "disk/root is full (",
    "varve prune --all",
];

/// A root on a disk of `mib` MiB.
fn on_small_disk(mib: u64) -> (Varve, SmallDisk) {
    let varve = Varve::new();
    let disk = SmallDisk::mount(&varve.path("disk"), &format!("size={mib}m"));
    (varve, disk)
}

fn build(varve: &Varve, dockerfile: &str, arguments: &[&str]) -> Outcome {
    varve.dockerfile(dockerfile);
    varve.build([&["--root", "disk/root"], arguments].concat())
}

fn is_sound(varve: &Varve) {
    let checked = varve.varve(["--root", "disk/root", "fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}

#[test]
fn a_step_that_fills_the_disk_fails_and_the_next_smaller_one_runs() {
    let (varve, _disk) = on_small_disk(64);
    let first = "FROM busybox\nRUN echo first > /first\n";
    build(&varve, first, &["-t", "first"]).succeeded();
    let big = format!("{first}RUN dd if=/dev/zero of=/big bs=1M count=100\n");
    build(&varve, &big, &[]).refused_with(1, &["No space left", "exit code: 1", ">>> RUN dd"]);
    is_sound(&varve);
    let small = format!("{first}RUN echo small > /small\n");
    let built = build(&varve, &small, &["-t", "app"]).success();
    assert_eq!(built.transcript().cached(), ["RUN echo first > /first"]);
    is_sound(&varve);
}

#[test]
fn a_small_disk_is_not_full_from_the_start() {
    let (varve, _disk) = on_small_disk(20);
    let text = "FROM busybox\nRUN head -c 1000000 /dev/urandom > /file\nRUN cp /file /copy\n";
    build(&varve, text, &["-t", "app"]).succeeded();
    is_sound(&varve);
}

/// What is in the upper directory has to move to the objects, which needs space for neither.
#[test]
fn a_step_that_hides_that_the_disk_was_full_is_committed_or_refused_but_never_half() {
    let (varve, _disk) = on_small_disk(64);
    let text = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100; sync; true\n";
    let outcome = build(&varve, text, &["-t", "app"]);
    if outcome.code != 0 {
        outcome.refused_with(1, FULL);
    }
    is_sound(&varve);
    build(&varve, "FROM busybox\nRUN echo small > /small\n", &[]).succeeded();
}

#[test]
fn a_context_that_does_not_fit_is_refused_by_its_file_and_leaves_nothing() {
    let (varve, disk) = on_small_disk(64);
    build(&varve, "FROM busybox\nRUN true\n", &["-t", "app"]).succeeded();
    let free = disk.free_bytes();
    let text = "FROM busybox\nCOPY big /\n";
    varve.write("context/big", vec![7; 80 << 20]);
    build(&varve, text, &[]).refused_with(1, &["No space left on device", "big"]);
    is_sound(&varve);
    let left = disk.free_bytes();
    assert!(
        left + (4 << 20) > free,
        "{free} bytes were free, {left} are"
    );
    varve.write("context/big", vec![7; 1 << 20]);
    build(&varve, text, &["-t", "app"]).succeeded();
    is_sound(&varve);
}

#[test]
fn an_import_that_does_not_fit_is_refused_and_works_with_more_space() {
    let (varve, disk) = on_small_disk(6);
    let base = varve.base();
    let import = || {
        let words = [
            "--root",
            "disk/root",
            "import",
            base.to_str().unwrap(),
            "base",
        ];
        varve.varve(words)
    };
    import().refused_with(1, FULL);
    let listed = varve.varve(["--root", "disk/root", "images"]).success();
    assert!(!listed.stdout.contains("base"), "{listed}");
    is_sound(&varve);
    disk.remount(rustix::mount::MountFlags::empty(), "size=64m");
    import().succeeded();
    build(&varve, "FROM base\nRUN true\n", &["-t", "app"]).succeeded();
    is_sound(&varve);
}

#[test]
fn an_export_that_does_not_fit_names_its_file_and_leaves_no_part_of_it() {
    let varve = Varve::new();
    let disk = SmallDisk::mount(&varve.path("disk"), "size=1m");
    varve.dockerfile("FROM busybox\n");
    for value in [
        "type=oci,dest=disk/image.tar",
        "type=tar,dest=disk/files.tar",
    ] {
        let (_, file) = value.split_once("dest=").unwrap();
        varve
            .build(["-o", value])
            .refused_with(1, &["No space left on device", file]);
        let left: Vec<_> = fs::read_dir(varve.path("disk")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    varve
        .build(["-o", "disk/out"])
        .refused_with(1, &["No space left on device", "disk/out"]);
    disk.remount(rustix::mount::MountFlags::empty(), "size=16m");
    varve
        .build(["-o", "type=oci,dest=disk/image.tar"])
        .succeeded();
}

#[test]
fn a_disk_without_a_free_byte_still_lists_removes_and_prunes() {
    let (varve, disk) = on_small_disk(64);
    build(
        &varve,
        "FROM busybox\nRUN echo one > /one\n",
        &["-t", "app"],
    )
    .succeeded();
    let filler = disk.fill(0);
    let command = |words: &[&str]| varve.varve([&["--root", "disk/root"], words].concat());
    let listed = command(&["images"]).success();
    assert!(listed.stdout.contains("app"), "{listed}");
    build(&varve, "FROM busybox\nRUN echo two > /two\n", &[]).refused_with(1, FULL);
    command(&["rmi", "app"]).succeeded();
    command(&["prune"]).succeeded();
    fs::remove_file(&filler).unwrap();
    // Not even what is kept in reserve, if it is there again, and what is soon made anew.
    for _ in 0..3 {
        fs::remove_file(varve.path("disk/root/db/reserve")).ok();
        drop(disk.fill(0));
        let listed = command(&["images"]);
        if listed.code != 0 {
            let refused = listed.code(1);
            assert!(refused.stderr.contains("disk/root is so full"), "{refused}");
            assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
        }
    }
    fs::remove_file(filler).unwrap();
    is_sound(&varve);
    build(
        &varve,
        "FROM busybox\nRUN echo two > /two\n",
        &["-t", "app"],
    )
    .succeeded();
}

/// On a file system with blocks, where every other change has as little place as the first.
#[test]
fn a_disk_that_another_program_has_filled_is_freed_by_the_first_prune() {
    let varve = Varve::new();
    let disk = SmallDisk::format("ext4", &varve.path("disk"), 60);
    let text = "FROM scratch\nCOPY noise /\n";
    for name in ["one", "two"] {
        varve.write("context/noise", noise(name));
        build(&varve, text, &["-t", name]).succeeded();
    }
    let _filler = disk.fill(0);
    let of_root = |words: &[&str]| varve.varve([&["--root", "disk/root"], words].concat());
    of_root(&["images", "-q"]).succeeded();
    let removed = of_root(&["rmi", "one"]).success();
    assert_eq!(removed.stderr, "");
    let pruned = of_root(&["prune", "--all", "--force"]).success();
    assert_eq!(pruned.stderr, "");
    assert!(disk.free_bytes() > 8 << 20, "{}", disk.free_bytes());
    is_sound(&varve);
    of_root(&["rmi", "two"]).succeeded();
    of_root(&["prune", "--force"]).succeeded();
    varve.write("context/noise", "less");
    build(&varve, text, &["-t", "three"]).succeeded();
}

/// Bytes that do not get smaller, and are others for each name.
/// Takes the last byte of a disk.
fn fill_up(disk: &SmallDisk, name: &str) {
    for block in [4096, 512] {
        let path = disk.path().join(format!("{name}{block}"));
        let mut file = std::fs::File::create(path).unwrap();
        while file.write_all(&vec![0; block]).is_ok() {}
    }
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    assert_eq!(free.f_bavail, 0);
}

#[test]
fn a_disk_without_a_free_byte_and_without_the_reserve_is_freed_by_a_prune() {
    let varve = Varve::new();
    let disk = SmallDisk::format("ext4", &varve.path("disk"), 80);
    let varve = varve.with_root(&disk.path().join("root"));
    varve.write("context/noise", noise("noise"));
    build(&varve, "FROM busybox\nCOPY noise /\n", &["-t", "app"]).succeeded();
    build(
        &varve,
        "FROM busybox\nCOPY noise /again\nRUN : loose\n",
        &[],
    )
    .succeeded();
    fill_up(&disk, "filler");
    std::fs::remove_file(varve.root().join("db/reserve")).unwrap();
    fill_up(&disk, "more");
    varve.varve(["rmi", "app"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert!(disk.free_bytes() > 1 << 20, "{}", disk.free_bytes());
    is_sound(&varve);
    for entry in std::fs::read_dir(disk.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    build(&varve, "FROM busybox\nRUN : works\n", &["-t", "app"]).succeeded();
    drop(disk);
}

#[test]
fn where_nothing_can_be_removed_it_is_said_what_to_do() {
    let varve = Varve::new();
    let disk = SmallDisk::format("ext4", &varve.path("disk"), 80);
    let varve = varve.with_root(&disk.path().join("root"));
    build(&varve, "FROM busybox\nRUN : one\n", &["-t", "app"]).succeeded();
    fill_up(&disk, "filler");
    let expendable = ["db/reserve", "meta", "trash", "ingest"];
    for name in expendable {
        let path = varve.root().join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
    for entry in std::fs::read_dir(varve.root().join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("OPTIONS-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    fill_up(&disk, "more");
    let root = varve.root();
    let words = [
        root.to_str().unwrap(),
        "remove 1 MB of something else",
        "varve prune --all",
    ];
    varve
        .varve(["prune", "--all", "--force"])
        .refused_with(1, &words);
    std::fs::remove_file(disk.path().join("filler4096")).unwrap();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(varve.shell("app", "echo there"), "there\n");
    is_sound(&varve);
    drop(disk);
}

fn noise(name: &str) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(1_u32, |state, byte| state * 31 + u32::from(byte));
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    next.take(8 << 20).collect()
}

#[test]
fn a_disk_without_free_inodes_is_refused_and_works_with_more() {
    let varve = Varve::new();
    let disk = SmallDisk::mount(&varve.path("disk"), "nr_inodes=100,size=64m");
    let text = "FROM busybox\nRUN echo one > /one\n";
    build(&varve, text, &[]).refused_with(1, FULL);
    disk.remount(
        rustix::mount::MountFlags::empty(),
        "nr_inodes=4000,size=64m",
    );
    build(&varve, text, &["-t", "app"]).succeeded();
    is_sound(&varve);
}
