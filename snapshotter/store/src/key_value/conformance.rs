//! What every [`KeyValue`] guarantees, as checks that run against any implementation.
//!
//! An implementation's tests call [`check`] with a function that opens it. Failures panic with the
//! broken guarantee.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Batch, Durability, KeyValue, Row};
use crate::error::Result;
use crate::layout::Table;

/// Opens the database in a directory, making it if there is none. Opening a directory that
/// [`KeyValue::checkpoint`] made must show the rows of that moment.
pub type Open<'o> = dyn Fn(&Path) -> Result<Box<dyn KeyValue>> + 'o;

/// A check: the directory that it may use, and how to open a database.
type Check = fn(&Path, &Open<'_>);

/// Concurrent writers in the check of atomicity.
const WRITERS: u8 = 4;

/// Batches of each concurrent writer.
const BATCHES: u32 = 60;

/// Runs every check, each in an empty directory below `directory`.
///
/// # Panics
/// At the first guarantee that does not hold.
pub fn check(directory: &Path, open: &Open<'_>) {
    let checks: &[(&str, Check)] = &[
        ("reads", what_is_written_is_read),
        ("tables", tables_are_apart),
        ("batches", the_last_change_of_a_key_wins),
        ("many", get_many_keeps_the_order_of_its_keys),
        ("order", scans_go_in_byte_order),
        ("prefixes", a_scan_gives_its_prefix_and_nothing_else),
        ("isolation", a_scan_sees_the_moment_in_which_it_began),
        ("reopen", rows_survive_closing),
        ("checkpoint", a_checkpoint_is_a_copy_of_its_moment),
        ("compaction", compaction_keeps_what_is_there),
        ("concurrency", batches_of_concurrent_writers_are_atomic),
    ];
    for (name, check) in checks {
        check(&directory.join(name), open);
    }
}

fn opened(open: &Open<'_>, path: &Path) -> Box<dyn KeyValue> {
    open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

fn rows(database: &dyn KeyValue, table: Table, prefix: &[u8]) -> Vec<Row> {
    database
        .scan(table, prefix)
        .collect::<Result<_>>()
        .expect("a scan succeeds")
}

fn get(database: &dyn KeyValue, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    database.get(table, key).expect("a read succeeds")
}

fn write(database: &dyn KeyValue, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    database
        .write(batch, Durability::Process)
        .expect("a write succeeds");
}

fn what_is_written_is_read(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    let long = vec![7; 1 << 20];
    assert_eq!(get(&*database, Table::Tree, b"a"), None);
    write(&*database, |batch| {
        batch.put(Table::Tree, b"a", b"1");
        batch.put(Table::Tree, b"empty", b"");
        batch.put(Table::Tree, b"\0\xff", long.clone());
    });
    assert_eq!(
        get(&*database, Table::Tree, b"a").as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(
        get(&*database, Table::Tree, b"empty").as_deref(),
        Some(&b""[..])
    );
    assert_eq!(get(&*database, Table::Tree, b"\0\xff"), Some(long));
    write(&*database, |batch| {
        batch.delete(Table::Tree, b"a");
        batch.delete(Table::Tree, b"never there");
    });
    assert_eq!(
        get(&*database, Table::Tree, b"a"),
        None,
        "a deleted key is gone"
    );
    assert_eq!(
        rows(&*database, Table::Tree, b"a"),
        [],
        "a deleted key is not scanned"
    );
    write(&*database, |_| {});
}

fn tables_are_apart(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    write(&*database, |batch| {
        for table in Table::ALL {
            batch.put(table, b"key", table.name());
        }
    });
    for table in Table::ALL {
        let row = (b"key".to_vec(), table.name().as_bytes().to_vec());
        assert_eq!(rows(&*database, table, b""), [row], "{table:?}");
    }
    write(&*database, |batch| batch.delete(Table::Tree, b"key"));
    assert!(get(&*database, Table::Blob, b"key").is_some());
}

fn the_last_change_of_a_key_wins(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    write(&*database, |batch| {
        batch.put(Table::Lease, b"a", b"1");
        batch.put(Table::Lease, b"a", b"2");
        batch.put(Table::Lease, b"b", b"1");
        batch.delete(Table::Lease, b"b");
        batch.delete(Table::Lease, b"c");
        batch.put(Table::Lease, b"c", b"3");
    });
    let expected = [
        (b"a".to_vec(), b"2".to_vec()),
        (b"c".to_vec(), b"3".to_vec()),
    ];
    assert_eq!(rows(&*database, Table::Lease, b""), expected);
}

fn get_many_keeps_the_order_of_its_keys(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    write(&*database, |batch| {
        for key in [b"a", b"b", b"c"] {
            batch.put(Table::Blob, key, key);
        }
    });
    let keys: [&[u8]; 5] = [b"c", b"x", b"a", b"c", b"b"];
    let values = database
        .get_many(Table::Blob, &keys)
        .expect("a read succeeds");
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    let expected = [Some(&b"c"[..]), None, Some(b"a"), Some(b"c"), Some(b"b")];
    assert_eq!(values, expected);
    assert_eq!(
        database
            .get_many(Table::Blob, &[])
            .expect("a read succeeds"),
        Vec::<Option<Vec<u8>>>::new()
    );
}

fn scans_go_in_byte_order(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    let mut keys: Vec<Vec<u8>> = (0u32..500)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes().to_vec())
        .collect();
    keys.extend([
        vec![0],
        vec![0, 0],
        vec![255],
        vec![255; 40],
        b"A".to_vec(),
        b"a".to_vec(),
    ]);
    write(&*database, |batch| {
        for key in &keys {
            batch.put(Table::Snapshot, key.clone(), b"");
        }
    });
    keys.sort();
    let found: Vec<_> = rows(&*database, Table::Snapshot, b"")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(found, keys);
}

fn a_scan_gives_its_prefix_and_nothing_else(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    let keys: [&[u8]; 7] = [
        b"a",
        b"ab",
        b"ab\0",
        b"ab\xff",
        b"ac",
        b"\xff",
        b"\xff\xff\x01",
    ];
    write(&*database, |batch| {
        for key in keys {
            batch.put(Table::Record, key, b"v");
        }
    });
    let cases: [(&[u8], &[&[u8]]); 6] = [
        (b"", &keys),
        (b"ab", &[b"ab", b"ab\0", b"ab\xff"]),
        (b"ab\xff", &[b"ab\xff"]),
        (b"\xff", &[b"\xff", b"\xff\xff\x01"]),
        (b"\xff\xff", &[b"\xff\xff\x01"]),
        (b"b", &[]),
    ];
    for (prefix, expected) in cases {
        let found: Vec<_> = rows(&*database, Table::Record, prefix)
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(found, expected, "prefix {prefix:?}");
    }
}

fn a_scan_sees_the_moment_in_which_it_began(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    write(&*database, |batch| {
        for key in [b"a", b"b", b"c"] {
            batch.put(Table::Image, key, b"old");
        }
    });
    let mut scan = database.scan(Table::Image, b"");
    let first = scan
        .next()
        .expect("there are rows")
        .expect("a scan succeeds");
    write(&*database, |batch| {
        batch.put(Table::Image, b"b", b"new");
        batch.delete(Table::Image, b"c");
        batch.put(Table::Image, b"d", b"new");
    });
    let rest: Vec<Row> = scan.collect::<Result<_>>().expect("a scan succeeds");
    let old = |key: &[u8]| (key.to_vec(), b"old".to_vec());
    assert_eq!(first, old(b"a"));
    assert_eq!(
        rest,
        [old(b"b"), old(b"c")],
        "a running scan sees no later write"
    );
    let now = rows(&*database, Table::Image, b"");
    let new = |key: &[u8]| (key.to_vec(), b"new".to_vec());
    assert_eq!(
        now,
        [old(b"a"), new(b"b"), new(b"d")],
        "the next scan sees it"
    );
}

fn rows_survive_closing(path: &Path, open: &Open<'_>) {
    for round in 0u8..3 {
        let database = opened(open, path);
        assert_eq!(
            rows(&*database, Table::Layer, b"").len(),
            usize::from(round) * 2
        );
        let durability = |n| {
            if n == 0 {
                Durability::Disk
            } else {
                Durability::Process
            }
        };
        for n in 0..2 {
            let mut batch = Batch::new();
            batch.put(Table::Layer, [round, n], [n]);
            database
                .write(batch, durability(n))
                .expect("a write succeeds");
        }
        database.sync().expect("a sync succeeds");
    }
    let database = opened(open, path);
    write(&*database, |batch| batch.delete(Table::Layer, [1, 1]));
    drop(database);
    let keys: Vec<_> = rows(&*opened(open, path), Table::Layer, b"")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]]);
}

fn compaction_keeps_what_is_there(path: &Path, open: &Open<'_>) {
    let key = |number: u32| number.to_be_bytes();
    let database = opened(open, path);
    for number in 0..1_000 {
        write(&*database, |batch| {
            batch.put(Table::Blob, key(number), [7; 100])
        });
    }
    database.compact().expect("a compaction succeeds");
    write(&*database, |batch| {
        for number in (0..1_000).filter(|number| number % 10 != 0) {
            batch.delete(Table::Blob, key(number));
        }
    });
    for _ in 0..2 {
        database.compact().expect("a compaction succeeds");
        let left = rows(&*database, Table::Blob, b"");
        let keys: Vec<_> = left.into_iter().map(|(key, _)| key).collect();
        let expected: Vec<_> = (0..1_000).step_by(10).map(|n| key(n).to_vec()).collect();
        assert_eq!(keys, expected);
    }
}

fn a_checkpoint_is_a_copy_of_its_moment(path: &Path, open: &Open<'_>) {
    let database = opened(open, &path.join("original"));
    write(&*database, |batch| {
        batch.put(Table::Tree, b"a", b"1");
        batch.put(Table::History, b"b", b"2");
    });
    let copy = path.join("copy");
    database.checkpoint(&copy).expect("a checkpoint succeeds");
    assert!(
        database.checkpoint(&copy).is_err(),
        "a checkpoint never overwrites"
    );
    write(&*database, |batch| batch.put(Table::Tree, b"a", b"changed"));
    let copy = opened(open, &copy);
    assert_eq!(get(&*copy, Table::Tree, b"a").as_deref(), Some(&b"1"[..]));
    assert_eq!(
        get(&*copy, Table::History, b"b").as_deref(),
        Some(&b"2"[..])
    );
    write(&*copy, |batch| batch.delete(Table::Tree, b"a"));
    assert_eq!(
        get(&*database, Table::Tree, b"a").as_deref(),
        Some(&b"changed"[..])
    );
}

/// Writers keep two keys of different tables equal; readers must never see them differ the wrong
/// way round, and nothing may be lost.
fn batches_of_concurrent_writers_are_atomic(path: &Path, open: &Open<'_>) {
    let database = opened(open, path);
    let database = &*database;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn(move || {
                    for number in 1..=BATCHES {
                        write(database, |batch| {
                            batch.put(Table::Tree, [writer], number.to_be_bytes());
                            batch.put(Table::Tree, [writer, 0], number.to_be_bytes());
                            batch.put(
                                Table::Blob,
                                [&[writer][..], &number.to_be_bytes()].concat(),
                                b"",
                            );
                        });
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for writer in 0..WRITERS {
                    let seen = rows(database, Table::Tree, &[writer]);
                    let values: Vec<_> = seen.iter().map(|(_, value)| value).collect();
                    assert!(
                        values.windows(2).all(|pair| pair[0] == pair[1]),
                        "a torn batch"
                    );
                    assert!(seen.is_empty() || seen.len() == 2, "half a batch");
                }
            }
        });
        for writer in writers {
            writer.join().expect("a writer succeeds");
        }
        done.store(true, Ordering::Relaxed);
    });
    let count = usize::from(WRITERS) * BATCHES as usize;
    assert_eq!(
        rows(database, Table::Blob, b"").len(),
        count,
        "no batch is lost"
    );
}
