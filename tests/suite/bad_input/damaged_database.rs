//! A RocksDB file that is gone, cut short or has other bytes.

use std::fs;
use std::path::{Path, PathBuf};

use support::tree;
use support::workspace::Varve;

use super::NOTHING;

/// How the database can be damaged, given its directory.
type Damage = fn(&Path);

const DAMAGES: &[(&str, Damage)] = &[
    ("CURRENT empty", |db| {
        fs::write(db.join("CURRENT"), "").unwrap()
    }),
    ("CURRENT gone", |db| {
        fs::remove_file(db.join("CURRENT")).unwrap()
    }),
    ("CURRENT garbage", |db| {
        fs::write(db.join("CURRENT"), "hello\n").unwrap()
    }),
    ("MANIFEST gone", |db| {
        each(db, "MANIFEST", |path| fs::remove_file(path).unwrap())
    }),
    ("MANIFEST cut short", |db| {
        each(db, "MANIFEST", |path| cut(path, 100))
    }),
    ("MANIFEST flipped", |db| {
        each(db, "MANIFEST", |path| flip(path, 60))
    }),
    ("tables gone", |db| {
        each(db, ".sst", |path| fs::remove_file(path).unwrap())
    }),
    ("tables cut short", |db| {
        each(db, ".sst", |path| cut(path, 40))
    }),
    ("tables flipped", |db| {
        each(db, ".sst", |path| flip(path, 30))
    }),
];

/// Does it to each file of the directory with `part` in its name; there is one at least.
fn each(db: &Path, part: &str, damage: impl Fn(&Path)) {
    let names = files(db).into_iter().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.contains(part)
    });
    assert!(
        names.map(|path| damage(&path)).count() > 0,
        "no {part} in {}",
        db.display()
    );
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn cut(path: &Path, length: u64) {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files(from) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Files with long names whose rows together are more than a memory table holds (2 MiB), so that
/// RocksDB writes a table file.
const MANY_FILES: usize = 12_000;

/// A store with an image; the database has a log, and table files if there were `files` enough.
fn used_store(files: usize) -> Varve {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo hello > /hello\nCOPY files /files\n");
    for number in 0..=files {
        varve.write(format!("context/files/{number:0240}"), "");
    }
    varve.build(["-t", "app"]).succeeded();
    varve
}

#[test]
fn a_damaged_database_is_refused_with_its_path_and_the_next_step_and_nothing_is_deleted() {
    let varve = used_store(MANY_FILES);
    let db = varve.root().join("db");
    copy(&db, &varve.path("good"));
    let objects = tree::list(&varve.root().join("objects"));
    for (what, damage) in DAMAGES {
        damage(&db);
        for command in [["images"].as_slice(), &["fsck"], &["build", "context"]] {
            let outcome = varve.varve(command);
            assert_eq!(outcome.code, 1, "{what}: {outcome}");
            let path = db.to_string_lossy();
            let outcome = outcome.refused(1, &[&path, "is damaged", "move "]);
            assert!(outcome.stderr.lines().count() < 6, "{what}: {outcome}");
        }
        tree::assert_same(&objects, &tree::list(&varve.root().join("objects")));
        fs::remove_dir_all(&db).unwrap();
        copy(&varve.path("good"), &db);
        let listed = varve.varve(["images"]).success();
        assert!(listed.stdout.contains("app"), "{what}: {listed}");
    }
}

#[test]
fn what_the_message_about_a_damaged_database_advises_works() {
    let varve = used_store(1);
    let db = varve.root().join("db");
    fs::write(db.join("CURRENT"), "").unwrap();
    let refused = varve
        .varve(["images"])
        .refused(1, &["is damaged", "; move "]);
    let (_, advice) = refused.stderr.rsplit_once("; move ").unwrap();
    let (moved, _) = advice.split_once(" away").expect("move … away");
    let moved = varve.path(moved);
    assert!(moved.starts_with(varve.root()), "{refused}");
    fs::rename(&moved, varve.path("aside")).unwrap();
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(varve.shell("app", "cat /hello"), "hello\n");
    assert_eq!(varve.varve(["fsck"]).code, 0);
    assert!(varve.path("aside").exists());
}

/// The end of the log is what a loss of power takes; what lies before it was promised.
#[test]
fn a_log_that_ends_in_the_middle_costs_only_its_last_records() {
    let varve = used_store(1);
    let db = varve.root().join("db");
    varve.varve(["tag", "app", "last"]).succeeded();
    let newest = files(&db)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max();
    let newest = newest.expect("a log");
    let length = fs::metadata(&newest).unwrap().len();
    cut(&newest, length.saturating_sub(3));
    let listed = varve.varve(["images"]).success();
    assert!(listed.stdout.contains("app"), "{listed}");
    assert_eq!(varve.varve(["fsck"]).code, 0);
    let rebuilt = varve.build(NOTHING).success();
    assert_eq!(rebuilt.transcript().cached().len(), 2);
}
