//! The RocksDB archive, built once per machine and linked by every profile.
//!
//! librocksdb-sys would compile RocksDB's 343 C++ files one by one: 1,550 CPU seconds, again for
//! each profile and each `cargo clean`. Nearly all of that is the same headers parsed 343 times, so
//! here the same sources are included into 16 files ("unity build", as RocksDB's own `make
//! unity.a`): 380 CPU seconds, once. cargo then finds the result through `ROCKSDB_LIB_DIR` and
//! `ROCKSDB_STATIC`.
//!
//! The archive lies in the cache under a name that covers everything that went in, so a new
//! RocksDB, compiler or flag makes a new one and an old one is never taken for it. Objects that an
//! interrupted build has finished are used by the next one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};

use sha2::{Digest, Sha256};

use crate::console;
use crate::error::{Context, Error, Result};
use crate::workspace::{Package, Workspace};

mod smoke;

/// Unity files. More would parse headers more often, fewer would leave cores idle and need more
/// memory.
const CHUNKS: usize = 16;

/// Memory that one compiler takes at its peak, in KiB (measured 1.46 GB with gcc 12): bounds the
/// jobs.
const COMPILER_MEMORY_KIB: u64 = 1_600_000;

/// The file cargo links.
const ARCHIVE: &str = "librocksdb.a";

/// What librocksdb-sys's own build script defines on Linux with the features `lz4` and `zstd`, and
/// the language version that RocksDB 11 asks for.
const FLAGS: &[&str] = &[
    "-O2",
    "-std=c++20",
    "-include",
    "cstdint",
    "-fPIC",
    "-ffunction-sections",
    "-fdata-sections",
    "-w",
    "-DNDEBUG",
    "-DOS_LINUX",
    "-DROCKSDB_PLATFORM_POSIX",
    "-DROCKSDB_LIB_IO_POSIX",
    "-DROCKSDB_SCHED_GETCPU_PRESENT",
    "-DROCKSDB_AUXV_GETAUXVAL_PRESENT",
    "-DROCKSDB_FALLOCATE_PRESENT",
    "-DROCKSDB_RANGESYNC_PRESENT",
    "-DHAVE_ALIGNED_NEW",
    "-DHAVE_UINT128_EXTENSION",
    "-DZSTD=1",
    "-DLZ4=1",
];

/// CRC32C in hardware; the same machines as `target-cpu` in .cargo/config.toml.
#[cfg(target_arch = "x86_64")]
const MACHINE_FLAGS: &[&str] = &["-march=x86-64-v2", "-mpclmul"];
#[cfg(target_arch = "aarch64")]
const MACHINE_FLAGS: &[&str] = &["-march=armv8-a+crc+crypto"];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const MACHINE_FLAGS: &[&str] = &[];

/// Makes sure that the archive exists and returns its directory, the value of `ROCKSDB_LIB_DIR`.
///
/// # Errors
/// Where cargo, the C++ compiler or `ar` fails, or the result does not pass its smoke check. An
/// unfinished archive is never visible under its final name.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let packages = workspace.packages(&["librocksdb-sys", "zstd-sys", "lz4-sys"])?;
    let [rocksdb, zstd, lz4] = packages.as_slice() else {
        return Err(Error::new(
            "`cargo metadata` answered another number of packages than asked for",
        ));
    };
    let recipe = Recipe::new(rocksdb, zstd, lz4)?;
    let home = workspace.cache.join(&recipe.name);
    if home.join(ARCHIVE).is_file() {
        return Ok(home);
    }
    fs::create_dir_all(&workspace.cache).at("create", &workspace.cache)?;
    let lock_path = workspace.cache.join(format!("{}.lock", recipe.name));
    let lock = File::create(&lock_path).at("create", &lock_path)?;
    if lock.try_lock().is_err() {
        console::note("another process builds RocksDB on this machine; waiting for it");
        lock.lock().at("lock", &lock_path)?;
    }
    if !home.join(ARCHIVE).is_file() {
        recipe.build(&home)?;
    }
    Ok(home)
}

/// Shell text that makes any cargo link the archive in `home`.
pub(crate) fn exports(home: &Path) -> String {
    // Single quotes keep every character but themselves.
    let quoted = home.display().to_string().replace('\'', r"'\''");
    format!("export ROCKSDB_LIB_DIR='{quoted}'\nexport ROCKSDB_STATIC=1")
}

/// Everything that decides what the archive contains.
struct Recipe {
    compiler: String,
    arguments: Vec<String>,
    rocksdb: PathBuf,
    /// Sources below `rocksdb/`, and the pre-generated build_version.cc above it.
    sources: Vec<PathBuf>,
    /// Name of the directory in the cache: version and a hash of the rest.
    name: String,
}

impl Recipe {
    fn new(rocksdb: &Package, zstd: &Package, lz4: &Package) -> Result<Self> {
        let compiler = env::var("CXX")
            .ok()
            .filter(|c| !c.trim().is_empty())
            .unwrap_or_else(|| "c++".into());
        let compiler_version = version_of(&compiler)?;
        let list_path = rocksdb.sources.join("rocksdb_lib_sources.txt");
        let list = fs::read_to_string(&list_path).at("read", &list_path)?;
        let mut sources: Vec<PathBuf> = list
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && *line != "util/build_version.cc")
            .map(|line| rocksdb.sources.join("rocksdb").join(line))
            .collect();
        sources.push(rocksdb.sources.join("build_version.cc"));

        let flags: Vec<String> = FLAGS
            .iter()
            .chain(MACHINE_FLAGS)
            .map(|f| (*f).to_owned())
            .collect();
        let mut hash = Sha256::new();
        for part in flags
            .iter()
            .chain([&compiler_version, &zstd.version, &lz4.version])
        {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(CHUNKS.to_le_bytes());
        let hash: String = hash
            .finalize()
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("rocksdb-{}-{hash}", rocksdb.version);

        let includes = [
            rocksdb.sources.join("rocksdb/include"),
            rocksdb.sources.join("rocksdb"),
            rocksdb.sources.clone(),
            zstd.sources.join("zstd/lib"),
            lz4.sources.join("liblz4/lib"),
        ];
        let mut arguments = flags;
        arguments.extend(includes.iter().map(|dir| format!("-I{}", dir.display())));
        Ok(Self {
            compiler,
            arguments,
            rocksdb: rocksdb.sources.clone(),
            sources,
            name,
        })
    }

    /// Builds beside `home` and renames the finished directory into place. The caller holds the
    /// lock.
    fn build(&self, home: &Path) -> Result<()> {
        let started = Instant::now();
        let work = home.with_file_name(format!("{}.building", self.name));
        fs::create_dir_all(&work).at("create", &work)?;
        let objects = self.compile(&work)?;

        let archive = work.join(ARCHIVE);
        if archive.exists() {
            fs::remove_file(&archive).at("remove", &archive)?;
        }
        run(
            Command::new("ar").arg("crs").arg(&archive).args(&objects),
            "ar (package binutils)",
        )?;
        smoke::check(
            &self.compiler,
            &self.rocksdb.join("rocksdb/include"),
            &archive,
            &work,
        )?;

        for entry in fs::read_dir(&work).at("read", &work)? {
            let path = entry.at("read", &work)?.path();
            if path != archive {
                fs::remove_file(&path).at("remove", &path)?;
            }
        }
        if home.exists() {
            fs::remove_dir_all(home).at("remove", home)?;
        }
        fs::rename(&work, home).at("rename the finished archive to", home)?;
        console::done(
            &format!("RocksDB archive in {}", home.display()),
            started.elapsed(),
        );
        Ok(())
    }

    /// Compiles the unity files, several at a time, and returns the objects.
    fn compile(&self, work: &Path) -> Result<Vec<PathBuf>> {
        let units = self.write_units(work)?;
        let jobs = job_count().min(units.len());
        console::note(&format!(
            "building RocksDB once for this machine: {} files of C++ in {} units, {jobs} at a time",
            self.sources.len(),
            units.len()
        ));
        let next = AtomicUsize::new(0);
        let finished = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.compile_unit(unit) {
                            // The others stop at their next unit: one compiler error is enough to
                            // read.
                            next.store(units.len(), Ordering::Relaxed);
                            if let Ok(mut slot) = failure.lock() {
                                slot.get_or_insert(error);
                            }
                            return;
                        }
                        let count = finished.fetch_add(1, Ordering::Relaxed) + 1;
                        let elapsed = console::seconds(started.elapsed());
                        console::note(&format!("RocksDB {count:>2}/{} {elapsed}", units.len()));
                    }
                });
            }
        });
        match failure.into_inner() {
            Ok(Some(error)) => Err(error),
            _ => Ok(units.iter().map(|unit| unit.with_extension("o")).collect()),
        }
    }

    /// Writes `unit-NN.cc`, each a list of `#include`s, and returns their paths.
    fn write_units(&self, work: &Path) -> Result<Vec<PathBuf>> {
        let mut units = Vec::new();
        for (number, sources) in self
            .sources
            .chunks(self.sources.len().div_ceil(CHUNKS))
            .enumerate()
        {
            let text: String = sources
                .iter()
                .map(|source| format!("#include \"{}\"\n", source.display()))
                .collect();
            let path = work.join(format!("unit-{number:02}.cc"));
            fs::write(&path, text).at("write", &path)?;
            units.push(path);
        }
        Ok(units)
    }

    /// One unit to its object, renamed when whole; nothing to do where an earlier run has made it.
    fn compile_unit(&self, unit: &Path) -> Result<()> {
        let object = unit.with_extension("o");
        if object.is_file() {
            return Ok(());
        }
        // Its own name per process: the compiler of a killed run may still be writing.
        let unfinished = unit.with_extension(format!("o.{}.part", std::process::id()));
        let mut command = compiler_command(&self.compiler);
        command
            .args(&self.arguments)
            .arg("-c")
            .arg(unit)
            .arg("-o")
            .arg(&unfinished);
        run(&mut command, "the C++ compiler")?;
        fs::rename(&unfinished, &object).at("rename to", &object)
    }
}

/// Compilers at a time: one per core, as far as the free memory lets them.
fn job_count() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let available_kib = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text
            .lines()
            .find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    match available_kib.and_then(|kib| usize::try_from(kib / COMPILER_MEMORY_KIB).ok()) {
        Some(fitting) => cores.min(fitting.max(1)),
        None => cores,
    }
}

/// `CXX` may hold a wrapper and its compiler (`ccache g++`), so it is split at blanks.
fn compiler_command(compiler: &str) -> Command {
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("c++"));
    command.args(words);
    command
}

/// The first line of `--version`: a changed compiler makes another archive.
fn version_of(compiler: &str) -> Result<String> {
    let output = compiler_command(compiler)
        .arg("--version")
        .output()
        .map_err(|cause| {
            Error::new(format!(
                "cannot run the C++ compiler `{compiler}`: {cause}; install g++, or set CXX"
            ))
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).ok_or_else(|| {
        Error::new(format!(
            "`{compiler} --version` prints nothing; set CXX to a C++20 compiler"
        ))
    })
}

/// Runs a command to its end; its output goes to the terminal.
fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command
        .status()
        .map_err(|cause| Error::new(format!("cannot run {what}: {cause}; is it installed?")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{what} failed with {status}: {command:?}"
    )))
}
