//! The real database: RocksDB, one column family for each table. Nothing else names `rocksdb`.
//!
//! Tuned for two things that servers rarely ask for: a *fast open* (a command-line build opens and
//! closes the store each time) and a small idle footprint. Every option below says which.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rocksdb::compaction_filter::Decision as CompactionDecision;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, DEFAULT_COLUMN_FAMILY_NAME, ErrorKind, FlushOptions, InfoLogger, IteratorMode,
    LogLevel, Options, PrefixRange, ReadOptions, WriteBatch, WriteOptions,
};

use rustix::io::Errno;

use super::{Batch, Change, Durability, KeyValue, Row};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::layout::{self, FORMAT_VERSION, Table};

/// Bytes of decompressed blocks kept in memory, for all tables together.
const BLOCK_CACHE_BYTES: usize = 8 << 20;

/// Bytes of one memory table of the tables that grow with every build: trees and blobs.
const WRITE_BUFFER_LARGE_BYTES: usize = 16 << 20;

/// Bytes of one memory table of the other tables, whose rows are few.
const WRITE_BUFFER_SMALL_BYTES: usize = 2 << 20;

/// Bytes of all memory tables together, above which the largest is written out.
const WRITE_BUFFERS_BYTES: usize = 32 << 20;

/// Bytes of write-ahead log above which memory tables are written out while the store is open. It
/// bounds what an open has to replay after a crash.
const LOG_BYTES_MAX: u64 = 24 << 20;

/// Open table files; more would only cost descriptors, the rest is opened when read.
const OPEN_FILES_MAX: i32 = 256;

/// Bytes of log above which closing writes the memory tables out, so that the next open need not
/// replay it: 15 ms per MiB, against some 20 ms once for the table files.
const LOG_REPLAY_BYTES_MAX: u64 = 1 << 20;

/// Log files above which closing does so too: each open starts one.
const LOG_REPLAY_FILES_MAX: usize = 8;

/// Bytes of manifest above which a new one is started.
const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// A file in the database's directory that only takes up space, to be given back when an open fails
/// on a full disk: an open writes a few files, and without one nothing can be deleted.
const RESERVE: &str = "reserve";

/// Bytes of the reserve.
const RESERVE_BYTES: u64 = 4 << 20;

/// With fewer free bytes the reserve is given back before the open, which may need less than what
/// is written afterwards to make room.
const FREE_BYTES_MIN: u64 = 1 << 20;

/// Options that the bindings have no methods for: the log is replayed into memory and kept,
/// instead of one small table file, with its flushes to disk, for each column family at every
/// open.
///
/// `reuse_manifest_on_open` would save another 2 ms of 9, but is called experimental (11.8).
///
/// Space for the log is not reserved: it would be 24 MiB from the moment of opening, which a small
/// disk does not have.
///
/// A file that tells the options, 80 kB of it, is nothing that an open should fail for on a full
/// disk.
const MORE_OPTIONS: &str = "avoid_flush_during_recovery=true;allow_fallocate=false;\
     fail_if_options_file_error=false";

/// An open RocksDB database; dropping it closes it.
pub struct Rocks {
    database: DB,
    path: PathBuf,
    /// Log files of earlier processes, until they are known to be on disk. RocksDB replays and
    /// keeps them, but flushes only its own: without this, a row of a process that was killed
    /// could be lost with the power although a later, flushed one stands on it.
    inherited: Mutex<Vec<PathBuf>>,
}

impl Rocks {
    /// Opens the database in `path`, making it if there is none.
    ///
    /// # Errors
    /// [`Error::Locked`] while another process, or this one, has it open; [`Error::FormatTooNew`]
    /// if a newer varve has added tables; [`Error::DatabaseCorrupt`]; [`Error::Database`].
    pub fn open(path: &Path) -> Result<Rocks> {
        fs::create_dir_all(path).map_err(|e| Error::io("create", path, e))?;
        refuse_headless(path)?;
        let reserve = path.join(RESERVE);
        if free_bytes(path).is_some_and(|free| free < FREE_BYTES_MIN) {
            give_back(&reserve)?;
            forget_options(path)?;
        }
        match Self::open_once(path) {
            Err(error) if error.is_no_space() && give_back(&reserve)? => Self::open_once(path),
            opened => {
                keep_reserve(path, &reserve);
                opened
            }
        }
    }

    fn open_once(path: &Path) -> Result<Rocks> {
        let inherited = Mutex::new(data_files(path, "log")?);
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let mut descriptors: Vec<_> = Table::ALL
            .map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(table, &cache)))
            .into();
        // RocksDB has it in any case, and after a full disk it goes on when as much is free as the
        // largest memory table takes: by default 64 MiB, of a family that has no row.
        let mut unused = Options::default();
        unused.set_write_buffer_size(WRITE_BUFFER_SMALL_BYTES);
        descriptors.push(ColumnFamilyDescriptor::new(
            DEFAULT_COLUMN_FAMILY_NAME,
            unused,
        ));
        let opened = database_options()
            .and_then(|options| DB::open_cf_descriptors(&options, path, descriptors));
        match opened {
            Ok(database) => Ok(Rocks {
                database,
                path: path.into(),
                inherited,
            }),
            Err(error) if error.as_ref().contains("Column families not opened") => {
                Err(unknown_tables(path, &error))
            }
            Err(error) => Err(describe(path, "open", &error)),
        }
    }

    fn family(&self, table: Table) -> &ColumnFamily {
        self.database
            .cf_handle(table.name())
            .expect("every table was opened with the database")
    }

    /// Flushes the log files of earlier processes to disk, once.
    fn flush_inherited(&self) -> Result<()> {
        let mut inherited = self
            .inherited
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(log) = inherited.last() {
            let flushed = fs::File::open(log).and_then(|file| match file.metadata()?.len() {
                0 => Ok(()),
                _ => file.sync_all(),
            });
            match flushed {
                Ok(()) => {}
                // Its rows are in table files by now, and those are flushed when they are made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("sync", log, error)),
            }
            inherited.pop();
        }
        Ok(())
    }

    /// Writes the memory tables to table files if the next open would have much log to replay.
    fn shorten_log(&self) -> Result<()> {
        let logs = data_files(&self.path, "log")?;
        let length = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.len());
        let bytes: u64 = logs.iter().map(length).sum();
        if bytes <= LOG_REPLAY_BYTES_MAX && logs.len() <= LOG_REPLAY_FILES_MAX {
            return Ok(());
        }
        self.write_out()
    }

    /// Writes the memory tables to table files.
    fn write_out(&self) -> Result<()> {
        let families: Vec<_> = Table::ALL.iter().map(|table| self.family(*table)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.database
            .flush_cfs_opt(&families, &options)
            .map_err(|e| self.error("flush", &e))
    }

    fn error(&self, operation: &'static str, error: &rocksdb::Error) -> Error {
        describe(&self.path, operation, error)
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        // Nothing is lost if this fails: the log is there.
        if let Err(error) = self.shorten_log() {
            tracing::warn!(%error, "cannot write the database's log out; the next start is slower");
        }
    }
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rocks")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl KeyValue for Rocks {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.database
            .get_cf(self.family(table), key)
            .map_err(|e| self.error("read", &e))
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let found = self
            .database
            .batched_multi_get_cf(self.family(table), keys, false);
        found
            .into_iter()
            .map(|value| match value {
                Ok(value) => Ok(value.map(|value| value.to_vec())),
                Err(e) => Err(self.error("read", &e)),
            })
            .collect()
    }

    fn scan<'a>(
        &'a self,
        table: Table,
        prefix: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Row>> + 'a> {
        // An iterator of RocksDB holds the state of the moment in which it was made.
        let mut options = ReadOptions::default();
        options.set_iterate_range(PrefixRange(prefix));
        // A scan of a whole table would push everything else out of the small cache.
        options.fill_cache(false);
        let rows = self
            .database
            .iterator_cf_opt(self.family(table), options, IteratorMode::Start);
        Box::new(rows.map(|row| match row {
            Ok((key, value)) => Ok((key.into_vec(), value.into_vec())),
            Err(e) => Err(self.error("scan", &e)),
        }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        let mut changes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put(table, key, value) => changes.put_cf(self.family(*table), key, value),
                Change::Delete(table, key) => changes.delete_cf(self.family(*table), key),
            }
        }
        if durability == Durability::Disk {
            self.flush_inherited()?;
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Disk);
        self.database
            .write_opt(changes, &options)
            .map_err(|e| self.error("write", &e))
    }

    fn sync(&self) -> Result<()> {
        self.flush_inherited()?;
        self.database
            .flush_wal(true)
            .map_err(|e| self.error("sync", &e))
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        rocksdb::checkpoint::Checkpoint::new(&self.database)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(|e| self.error("checkpoint", &e))
    }

    fn compact(&self) -> Result<()> {
        self.write_out()?;
        for table in Table::ALL {
            let all = None::<&[u8]>;
            self.database.compact_range_cf(self.family(table), all, all);
        }
        Ok(())
    }
}

/// What holds for the database as a whole.
fn database_options() -> Result<Options, rocksdb::Error> {
    // First of all: the result does not keep alive what methods have set before (the logger).
    let mut options = Options::default().get_options_from_string(MORE_OPTIONS)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Fast open.
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_skip_stats_update_on_db_open(true);
    // The default starts 16 threads for each column family: 176 of them, half the time of an open.
    options.set_max_file_opening_threads(1);
    options.set_max_total_wal_size(LOG_BYTES_MAX);
    options.set_max_manifest_file_size(MANIFEST_BYTES_MAX);
    options.set_manifest_preallocation_size(MANIFEST_BYTES_MAX / 16);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    // Small footprint, in memory and on disk.
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_background_jobs(2);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, forward_log));
    // After a crash the log may end in pages of which only some reached the disk, so "absolute
    // consistency" would refuse a store after an ordinary loss of power, and "tolerate a corrupt
    // tail" does so too when a later page made it and an earlier one did not. Point in time stops
    // at the first damaged record: everything acknowledged as `Durability::Disk` lies before it.
    // The price: rot in the middle of the log rolls the store back to an earlier, consistent
    // state in silence. All that is lost then are cache entries; their objects become orphans.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    Ok(options)
}

/// RocksDB's own log, of warnings and worse: ours instead of files that every open would start
/// with a dump of all options, 120 KB.
fn forward_log(level: LogLevel, message: &str) {
    let message = message.trim();
    match level {
        // What fails is told by whoever asked for it; these are its insides, hundreds of lines of
        // them when the disk is full. Of damage that is found in the background only this tells.
        LogLevel::Error | LogLevel::Fatal if message.contains("Corruption") => {
            let line = message.lines().next().unwrap_or_default();
            tracing::error!("RocksDB: {line}");
        }
        LogLevel::Error | LogLevel::Fatal | LogLevel::Warn => tracing::debug!("RocksDB: {message}"),
        _ => {}
    }
}

/// What holds for one table.
fn table_options(table: Table, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(16 << 10);
    // Most look-ups during an ingest are for keys that are not there.
    blocks.set_bloom_filter(10.0, false);
    blocks.set_format_version(6);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    let large = matches!(table, Table::Tree | Table::Blob);
    options.set_write_buffer_size(match large {
        true => WRITE_BUFFER_LARGE_BYTES,
        false => WRITE_BUFFER_SMALL_BYTES,
    });
    match table {
        // Rows of one directory repeat owners, times and prefixes; ids do not compress at all.
        Table::Tree => {
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
        }
        // 32 random bytes and a length: nothing to gain.
        Table::Blob => options.set_compression_type(DBCompressionType::None),
        _ => options.set_compression_type(DBCompressionType::Lz4),
    }
    if failpoint::is_wanted() {
        options.set_compaction_filter("failpoint", |_, _, _| {
            failpoint::passed("compact.row");
            CompactionDecision::Keep
        });
    }
    options
}

/// Refuses a directory that has a database's data but not its head.
///
/// RocksDB would make a new database there and remove the old one's files as obsolete.
fn refuse_headless(path: &Path) -> Result<()> {
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    let logs = data_files(path, "log")?;
    match data_files(path, "sst")?.into_iter().chain(logs).next() {
        None => Ok(()),
        Some(file) => Err(Error::DatabaseCorrupt {
            path: path.into(),
            message: format!(
                "the file CURRENT is missing, but {} is there",
                file.display()
            ),
        }),
    }
}

/// Gives the reserve back to the disk; whether there was one.
fn give_back(reserve: &Path) -> Result<bool> {
    match fs::remove_file(reserve) {
        Ok(()) => {
            tracing::debug!(path = %reserve.display(), "the disk is full: the reserve is used");
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", reserve, error)),
    }
}

/// Removes the files that only tell with which options the database was open, 80 kB each, and
/// parts of them: every open writes another one, and none reads them.
fn forget_options(path: &Path) -> Result<()> {
    for file in crate::objects::read_directory(path)? {
        let name = file.file_name().unwrap_or_default();
        let is_part = file.extension().is_some_and(|found| found == "dbtmp");
        if is_part || name.as_encoded_bytes().starts_with(b"OPTIONS-") {
            fs::remove_file(&file).map_err(|e| Error::io("remove", file, e))?;
        }
    }
    Ok(())
}

/// What is free on the disk, if that can be told.
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Takes up the reserve if it is not there: a precaution, without which nothing else differs. Not
/// where it would take what the next change needs.
fn keep_reserve(path: &Path, reserve: &Path) {
    if fs::metadata(reserve).is_ok_and(|found| found.len() == RESERVE_BYTES)
        || free_bytes(path).is_none_or(|free| free < RESERVE_BYTES * 2)
    {
        return;
    }
    let taken = fs::File::create(reserve).and_then(|file| {
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, RESERVE_BYTES).map_err(io::Error::from)
    });
    if let Err(error) = taken {
        tracing::debug!(%error, "no space is kept in reserve");
        // A part of it may have been taken.
        drop(fs::remove_file(reserve));
    }
}

/// The table files (`sst`) or log files (`log`) of the database.
fn data_files(path: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = crate::objects::read_directory(path)?;
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    Ok(files)
}

/// Tells a newer format from plain damage when there are tables that this code does not know.
fn unknown_tables(path: &Path, error: &rocksdb::Error) -> Error {
    let version = DB::open_cf_for_read_only(&Options::default(), path, [Table::Meta.name()], false)
        .and_then(|database| match database.cf_handle(Table::Meta.name()) {
            Some(meta) => database.get_cf(meta, layout::META_FORMAT),
            None => Ok(None),
        });
    match version
        .ok()
        .flatten()
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
    {
        Some(found) if found > FORMAT_VERSION => Error::FormatTooNew {
            path: path.parent().unwrap_or(path).into(),
            found,
            supported: FORMAT_VERSION,
        },
        _ => Error::DatabaseCorrupt {
            path: path.into(),
            message: error.to_string(),
        },
    }
}

/// RocksDB's error in our words, as far as somebody can act on it.
fn describe(path: &Path, operation: &'static str, error: &rocksdb::Error) -> Error {
    let message = error.to_string();
    let locked = ["While lock file", "lock hold by current process"];
    if locked.iter().any(|words| message.contains(words)) {
        return Error::Locked {
            path: path.into(),
            holder: None,
        };
    }
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let full = io::Error::from(errno);
        let words = full.to_string();
        let words = words.split(" (os error").next().unwrap_or_default();
        if message.contains(words) {
            return Error::io("write to", path, full);
        }
    }
    // An open that misses a file of the database is as damaged as one that finds a wrong one.
    let file_missing = operation == "open" && message.contains("No such file or directory");
    if error.kind() == ErrorKind::Corruption || file_missing {
        return Error::DatabaseCorrupt {
            path: path.into(),
            message,
        };
    }
    Error::Database {
        operation,
        path: path.into(),
        message,
    }
}

#[cfg(test)]
mod tests;
