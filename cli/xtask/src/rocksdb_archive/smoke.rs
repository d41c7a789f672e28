//! Does the fresh archive work? A small C program opens a database with it, writes, flushes, reads.
//!
//! zstd and lz4 come from crates and are not here yet, so their symbols stay unresolved: the
//! program asks for no compression and never calls them.

use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "rocksdb/c.h"

static void fail(const char *what, const char *cause) {
  fprintf(stderr, "%s: %s\n", what, cause ? cause : "unexpected result");
  exit(1);
}

int main(int argc, char **argv) {
  char *err = NULL;
  size_t length = 0;
  if (argc != 2) fail("usage", "smoke DIR");
  rocksdb_options_t *options = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(options, 1);
  rocksdb_options_set_compression(options, rocksdb_no_compression);
  rocksdb_t *db = rocksdb_open(options, argv[1], &err);
  if (err) fail("open", err);
  rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
  rocksdb_put(db, write, "varve", 5, "sediment", 8, &err);
  if (err) fail("put", err);
  rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
  rocksdb_flush(db, flush, &err);
  if (err) fail("flush", err);
  rocksdb_readoptions_t *read = rocksdb_readoptions_create();
  char *value = rocksdb_get(db, read, "varve", 5, &length, &err);
  if (err || !value || length != 8 || memcmp(value, "sediment", 8) != 0) fail("get", err);
  rocksdb_close(db);
  rocksdb_destroy_db(options, argv[1], &err);
  if (err) fail("destroy", err);
  return 0;
}
"#;

/// Builds and runs the program. Its files stay in `work`; the caller clears that.
///
/// # Errors
/// Where it does not link or does not read back what it wrote.
pub(super) fn check(compiler: &str, include: &Path, archive: &Path, work: &Path) -> Result<()> {
    let source = work.join("smoke.cc");
    let program = work.join("smoke");
    let database = work.join("smoke-database");
    fs::write(&source, PROGRAM).at("write", &source)?;
    let mut link = super::compiler_command(compiler);
    link.arg("-I")
        .arg(include)
        .arg(&source)
        .arg(archive)
        .arg("-o")
        .arg(&program);
    link.args([
        "-no-pie",
        "-Wl,--unresolved-symbols=ignore-in-object-files",
        "-lpthread",
        "-ldl",
    ]);
    super::run(&mut link, "linking the new RocksDB archive")?;
    let answer = std::process::Command::new(&program)
        .arg(&database)
        .output()
        .at("run", &program)?;
    if answer.status.success() {
        if database.exists() {
            fs::remove_dir_all(&database).at("remove", &database)?;
        }
        return Ok(());
    }
    Err(Error::new(format!(
        "the new RocksDB archive does not work ({}): {}\nIt stays in {} for you to look at; remove that directory to try again",
        answer.status,
        String::from_utf8_lossy(&answer.stderr).trim(),
        work.display()
    )))
}
