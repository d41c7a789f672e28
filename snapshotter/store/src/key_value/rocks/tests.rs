//! What RocksDB alone has to show: damage, locks, newer formats, the length of the log.

use super::*;
use crate::key_value::conformance;

fn meta(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Meta, key, value);
    batch
}

#[test]
fn it_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::check(directory.path(), &|path| Ok(Box::new(Rocks::open(path)?)));
}

#[test]
fn a_database_that_is_open_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let first = Rocks::open(directory.path()).unwrap();
    assert!(matches!(
        Rocks::open(directory.path()),
        Err(Error::Locked { .. })
    ));
    drop(first);
    assert!(Rocks::open(directory.path()).is_ok());
}

#[test]
fn a_torn_end_of_the_log_loses_only_the_torn_batch() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    rocks.write(meta(b"a", b"1"), Durability::Disk).unwrap();
    rocks.write(meta(b"b", b"2"), Durability::Process).unwrap();
    drop(rocks);
    let log = data_files(directory.path(), "log")
        .unwrap()
        .pop()
        .expect("there is a log");
    let length = fs::metadata(&log).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    assert_eq!(
        rocks.get(Table::Meta, b"a").unwrap().as_deref(),
        Some(&b"1"[..])
    );
    assert_eq!(rocks.get(Table::Meta, b"b").unwrap(), None);
}

#[test]
fn a_database_with_tables_of_a_newer_varve_is_refused_with_its_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let mut rocks = Rocks::open(&path).unwrap();
    rocks
        .database
        .create_cf("later", &Options::default())
        .unwrap();
    rocks
        .write(
            meta(layout::META_FORMAT, &7u32.to_le_bytes()),
            Durability::Disk,
        )
        .unwrap();
    drop(rocks);
    match Rocks::open(&path) {
        Err(Error::FormatTooNew { path, found: 7, .. }) => assert_eq!(path, directory.path()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_log_of_a_killed_process_is_flushed_before_anything_is_called_durable() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    rocks.write(meta(b"a", b"1"), Durability::Process).unwrap();
    drop(rocks);
    let rocks = Rocks::open(directory.path()).unwrap();
    let waiting = || rocks.inherited.lock().unwrap().len();
    assert_eq!(waiting(), 1);
    rocks.write(meta(b"b", b"1"), Durability::Process).unwrap();
    assert_eq!(waiting(), 1, "nobody asked for durability yet");
    rocks.write(meta(b"c", b"1"), Durability::Disk).unwrap();
    assert_eq!(waiting(), 0);
}

#[test]
fn closing_bounds_the_log_that_the_next_open_replays() {
    let directory = tempfile::tempdir().unwrap();
    let logs = || data_files(directory.path(), "log").unwrap();
    for round in 0u8..20 {
        let rocks = Rocks::open(directory.path()).unwrap();
        rocks
            .write(meta(&[round], b"1"), Durability::Process)
            .unwrap();
        drop(rocks);
        assert!(logs().len() <= LOG_REPLAY_FILES_MAX + 1, "{:?}", logs());
    }
    let rocks = Rocks::open(directory.path()).unwrap();
    assert_eq!(rocks.scan(Table::Meta, b"").count(), 20);
    rocks
        .write(meta(b"long", &[7; 3 << 20]), Durability::Process)
        .unwrap();
    drop(rocks);
    let bytes: u64 = logs()
        .iter()
        .map(|log| fs::metadata(log).unwrap().len())
        .sum();
    assert!(bytes <= LOG_REPLAY_BYTES_MAX, "{bytes}");
}

#[test]
fn a_database_without_its_head_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    rocks
        .write(meta(b"a", &[1; 3 << 20]), Durability::Disk)
        .unwrap();
    drop(rocks);
    let current = directory.path().join("CURRENT");
    let kept = fs::read(&current).unwrap();
    fs::remove_file(&current).unwrap();
    let before = crate::objects::read_directory(directory.path()).unwrap();
    for _ in 0..2 {
        let opened = Rocks::open(directory.path());
        assert!(
            matches!(opened, Err(Error::DatabaseCorrupt { .. })),
            "{opened:?}"
        );
        assert_eq!(
            crate::objects::read_directory(directory.path()).unwrap(),
            before
        );
    }
    fs::write(&current, kept).unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    assert!(
        rocks.get(Table::Meta, b"a").unwrap().is_some(),
        "nothing was lost by trying"
    );
}

#[test]
fn a_damaged_database_says_so_and_what_to_do() {
    for (damage, extension) in [
        ("truncate", "CURRENT"),
        ("remove", "CURRENT"),
        ("remove", "MANIFEST"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let rocks = Rocks::open(directory.path()).unwrap();
        rocks.write(meta(b"a", b"1"), Durability::Disk).unwrap();
        drop(rocks);
        for path in crate::objects::read_directory(directory.path()).unwrap() {
            let name = path.file_name().unwrap().to_str().unwrap();
            match damage {
                _ if !name.starts_with(extension) => {}
                "truncate" => fs::write(&path, b"").unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        match Rocks::open(directory.path()) {
            Err(error @ Error::DatabaseCorrupt { .. }) => {
                assert!(error.to_string().contains("move"), "{error}");
            }
            other => panic!("{damage} {extension}: {other:?}"),
        }
    }
}

#[test]
fn a_damaged_table_file_is_an_error_and_not_a_wrong_row() {
    let directory = tempfile::tempdir().unwrap();
    let rocks = Rocks::open(directory.path()).unwrap();
    rocks
        .write(meta(b"a", &[1; 1000]), Durability::Disk)
        .unwrap();
    rocks.database.flush_cf(rocks.family(Table::Meta)).unwrap();
    drop(rocks);
    let table = data_files(directory.path(), "sst")
        .unwrap()
        .pop()
        .expect("there is a table file");
    let mut bytes = fs::read(&table).unwrap();
    bytes[20] ^= 1;
    fs::write(&table, bytes).unwrap();
    let read = Rocks::open(directory.path()).and_then(|rocks| rocks.get(Table::Meta, b"a"));
    assert!(
        matches!(read, Err(Error::DatabaseCorrupt { .. })),
        "{read:?}"
    );
}

/// Tests that need root: they mount something.
mod privileged {
    use super::*;
    use crate::fixtures::SmallDisk;

    #[test]
    fn a_database_on_a_full_disk_can_be_opened_to_make_room() {
        let disk = SmallDisk::mount(48 << 20);
        let path = disk.path().join("db");
        let rocks = Rocks::open(&path).unwrap();
        rocks.write(meta(b"a", b"1"), Durability::Disk).unwrap();
        drop(rocks);
        let ballast = disk.path().join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        let full = std::iter::repeat_with(|| io::Write::write_all(&mut file, &[7; 4096]));
        assert!(
            full.take(48 << 8).any(|written| written.is_err()),
            "the disk is full"
        );
        let rocks = Rocks::open(&path).expect("the reserve is given back");
        rocks.write(meta(b"b", b"2"), Durability::Disk).unwrap();
        assert_eq!(rocks.scan(Table::Meta, b"").count(), 2);
        drop(rocks);
        // Nothing of it is taken again while the disk is full, so that every change has place.
        for round in 0..6_u8 {
            let rocks = Rocks::open(&path).unwrap();
            let row = meta(&[b'c', round], &[round; 2000]);
            rocks.write(row, Durability::Disk).unwrap();
            rocks.sync().unwrap();
        }
        drop(file);
        fs::remove_file(ballast).unwrap();
        drop(Rocks::open(&path).unwrap());
        assert_eq!(
            fs::metadata(path.join(RESERVE)).unwrap().len(),
            RESERVE_BYTES,
            "it is there again"
        );
    }
}
