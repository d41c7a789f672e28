//! Rows of builds.

use super::record::{StepRecord, Summary};
use super::*;
use store::fixtures::memory_store;

fn history(root: &tempfile::TempDir) -> History {
    History::new(Arc::new(memory_store(root.path())))
}

fn build(name: &str, bytes: usize) -> BuildRecord {
    let step = StepRecord {
        name: name.repeat(bytes),
        ..StepRecord::default()
    };
    BuildRecord {
        summary: Summary::default(),
        details: Details {
            steps: vec![step],
            ..Details::default()
        },
    }
}

fn numbers(history: &History) -> Vec<u64> {
    let listed = history.list().unwrap();
    listed.iter().map(|summary| summary.number).collect()
}

#[test]
fn a_build_comes_back_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    let mut record = build("a", 1);
    assert_eq!(history.save(&mut record).unwrap(), 1);
    assert_eq!(history.get(1).unwrap(), Some(record.clone()));
    assert_eq!(history.list().unwrap(), [record.summary]);
    assert_eq!(history.get(2).unwrap(), None);
}

#[test]
fn the_newest_builds_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    for _ in 0..BUILDS_MAX + 5 {
        history.save(&mut build("a", 1)).unwrap();
    }
    let expect: Vec<u64> = (6..=BUILDS_MAX as u64 + 5).collect();
    assert_eq!(numbers(&history), expect);
    assert_eq!(history.get(5).unwrap(), None, "details go with the summary");
}

#[test]
fn large_builds_push_out_more() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    for _ in 0..6 {
        let mut record = build("x", 1);
        let number = history.save(&mut record).unwrap();
        // As if the details were that long.
        record.summary.bytes = BYTES_MAX / 3;
        let mut batch = Batch::new();
        let row = row("summary", &record.summary).unwrap();
        batch.put(Table::History, key(SUMMARY, number), row);
        history.store.write(batch, Durability::Process).unwrap();
    }
    history.save(&mut build("x", 1)).unwrap();
    assert_eq!(numbers(&history), [5, 6, 7]);
}

#[test]
fn numbers_are_not_given_again() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    history.save(&mut build("a", 1)).unwrap();
    history.save(&mut build("a", 1)).unwrap();
    history.remove(&history.numbers().unwrap()).unwrap();
    assert_eq!(numbers(&history), [0; 0]);
    assert_eq!(history.save(&mut build("a", 1)).unwrap(), 3);
}

#[test]
fn a_build_that_runs_in_no_process_was_killed() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    let number = history.begin(Asked::default()).unwrap();
    let status = || history.get(number).unwrap().unwrap().summary.status;
    assert_eq!(status(), Status::Running);
    let mut summary = history.list().unwrap().remove(0);
    summary.process = summary.process.map(|process| process ^ 1);
    let mut batch = Batch::new();
    let row = row("summary", &summary).unwrap();
    batch.put(Table::History, key(SUMMARY, number), row);
    history.store.write(batch, Durability::Process).unwrap();
    assert_eq!(status(), Status::Killed);
    let mut ended = build("a", 1);
    ended.summary.number = number;
    assert_eq!(history.save(&mut ended).unwrap(), number);
    assert_eq!(status(), ended.summary.status);
    assert_eq!(numbers(&history), [number]);
}

#[test]
fn a_damaged_build_hides_no_other() {
    let root = tempfile::tempdir().unwrap();
    let history = history(&root);
    for _ in 0..3 {
        history.save(&mut build("a", 1)).unwrap();
    }
    for (number, damage) in [(1, &b"\x01{"[..]), (2, b"\x09{}")] {
        let mut batch = Batch::new();
        batch.put(Table::History, key(SUMMARY, number), damage);
        history.store.write(batch, Durability::Process).unwrap();
        history.get(number).unwrap_err();
    }
    assert_eq!(numbers(&history), [3]);
    assert_eq!(history.numbers().unwrap(), [1, 2, 3]);
    assert_eq!(history.save(&mut build("a", 1)).unwrap(), 4);
    history.remove(&[1, 2]).unwrap();
    assert_eq!(history.numbers().unwrap(), [3, 4]);
}
