//! A Debian file system, with packages from where this machine gets its own: made by mmdebstrap
//! once per machine and kept in `~/.cache/varve/test-bases`.
//!
//! Tests use it from here; the benches compile this file as a module of theirs. So it leans on
//! nothing beside it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a Debian machine says where its packages come from; the first that is there.
const SOURCES: [&str; 2] = [
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list",
];

/// The tar archive of the smallest Debian of this machine's release with these packages, made if
/// it is not there.
///
/// # Errors
/// This is no Debian machine, or mmdebstrap fails: then with what it said.
pub fn archive(packages: &[&str]) -> io::Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .ok_or_else(|| io::Error::other("this machine has no release of Debian with a codename"))?
        .trim_matches('"');
    let home = std::env::var_os("HOME").ok_or_else(|| io::Error::other("HOME is not set"))?;
    let directory = Path::new(&home).join(".cache/varve/test-bases");
    let mut name = vec!["debian", codename];
    name.extend_from_slice(packages);
    let name = name.join("-");
    let archive = directory.join(format!("{name}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    fs::create_dir_all(&directory)?;
    // One at a time, also of other processes; whoever has waited finds it there.
    let lock = File::create(directory.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !archive.is_file() {
        make(&archive, codename, packages)?;
    }
    Ok(archive)
}

fn make(archive: &Path, codename: &str, packages: &[&str]) -> io::Result<()> {
    let sources = SOURCES.iter().find(|path| Path::new(path).is_file());
    let sources =
        sources.ok_or_else(|| io::Error::other("this machine has no list of package sources"))?;
    // mmdebstrap goes by the ending.
    let unfinished = archive.with_extension("unfinished.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--variant=minbase", "--mode=root", "--quiet"]);
    if !packages.is_empty() {
        mmdebstrap.arg(format!("--include={}", packages.join(",")));
    }
    let output = mmdebstrap
        .arg(codename)
        .arg(&unfinished)
        .arg(sources)
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "mmdebstrap ended with {}: {}",
            output.status,
            said.trim()
        )));
    }
    fs::rename(unfinished, archive)
}
