//! A containerd 2 for tests and benches, beside the system's own: Debian 12 has 1.6, and varve is
//! to work with both.
//!
//! It is Debian's package of the suite `sid`, unpacked into the cache and never installed. apt
//! itself fetches it, from the mirror that this machine's own apt sources name and with the
//! signatures checked, but with lists and a source of its own, so that the machine's apt learns
//! nothing of sid.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::checks::offline;
use crate::console;
use crate::error::{Context, Error, Result};
use crate::packages;
use crate::workspace::Workspace;

/// The directory in the cache; `tests/support/containerd_config.rs` looks there too.
const HOME: &str = "tools/containerd-2";

/// Where the package puts its programs.
const BIN: &str = "usr/bin";

/// What tests run of it.
const PROGRAMS: &[&str] = &["containerd", "containerd-shim-runc-v2", "ctr"];

const SUITE: &str = "sid";

/// What signs Debian's archive. Where a machine keeps its keys elsewhere, apt's own set is used.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How apt is asked for its sources: see `apt-get indextargets` in apt-get(8).
const TARGET_FORMAT: &str = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(SITE)";

/// Makes sure that containerd 2 is in the cache.
///
/// # Errors
/// Where it is missing and the run is offline, this machine has no apt or none of Debian, or the
/// program does not run here.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let home = workspace.cache.join(HOME);
    if is_complete(&home) {
        return Ok(());
    }
    if offline() {
        return Err(missing(&home, "VARVE_TEST_OFFLINE=1 forbids to fetch it"));
    }
    let tools = home.parent().unwrap_or(&workspace.cache);
    fs::create_dir_all(tools).at("create", tools)?;
    let lock_path = home.with_extension("lock");
    let lock = File::create(&lock_path).at("create", &lock_path)?;
    if lock.try_lock().is_err() {
        console::note("another process fetches containerd 2; waiting for it");
        lock.lock().at("lock", &lock_path)?;
    }
    if !is_complete(&home) {
        fetch(&home)?;
    }
    Ok(())
}

fn is_complete(home: &Path) -> bool {
    PROGRAMS
        .iter()
        .all(|program| home.join(BIN).join(program).is_file())
}

/// The error that says what to do instead.
fn missing(home: &Path, why: &str) -> Error {
    Error::new(format!(
        "containerd 2, which tests and benches run beside the system's own, is not in {}, and {why}.\n\
         Run `cargo xtask setup` with a network, or put {} of any containerd 2 into {}",
        home.display(),
        PROGRAMS.join(", "),
        home.join(BIN).display(),
    ))
}

/// Fetches and unpacks it beside `home`, and renames it into place. The caller holds the lock.
fn fetch(home: &Path) -> Result<()> {
    let started = Instant::now();
    packages::ensure_lists()?;
    let mirror = mirror().map_err(|cause| missing(home, &cause.to_string()))?;
    console::note(
        "fetching containerd 2 once for this machine, for tests and benches (about 40 MB)",
    );
    let work = home.with_extension("fetching");
    if work.exists() {
        fs::remove_dir_all(&work).at("remove", &work)?;
    }
    let apt = PrivateApt::new(&work, &mirror)?;
    apt.run(&["update"])?;
    apt.run(&["download", &format!("containerd/{SUITE}")])?;
    let unpacked = work.join("unpacked");
    let mut unpack = Command::new("dpkg-deb");
    unpack
        .arg("--extract")
        .arg(apt.downloaded()?)
        .arg(&unpacked);
    complete(&mut unpack)?;
    let mut probe = Command::new(unpacked.join(BIN).join("containerd"));
    let version = complete(probe.arg("--version")).map_err(|cause| {
        missing(
            home,
            &format!("that of Debian {SUITE} does not run on this system ({cause})"),
        )
    })?;
    if home.exists() {
        fs::remove_dir_all(home).at("remove", home)?;
    }
    fs::rename(&unpacked, home).at("rename what was unpacked to", home)?;
    fs::remove_dir_all(&work).at("remove", &work)?;
    console::done(version.trim(), started.elapsed());
    Ok(())
}

/// Where this machine gets Debian's packages from, as its apt says.
fn mirror() -> Result<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", TARGET_FORMAT])
        .arg("Created-By: Packages");
    let targets = complete(&mut apt)?;
    debian_site(&targets).map(str::to_owned).ok_or_else(|| {
        Error::new("none of the sources of this machine's apt is a mirror of Debian")
    })
}

/// The first site of Debian itself: not of its security updates, nor of somebody else.
fn debian_site(targets: &str) -> Option<&str> {
    targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian|Debian|main|"))
        .filter(|site| !site.is_empty())
}

/// An apt with its own source, lists and cache, all in one directory.
struct PrivateApt {
    directory: PathBuf,
}

impl PrivateApt {
    fn new(directory: &Path, mirror: &str) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial", "download"] {
            let path = directory.join(name);
            fs::create_dir_all(&path).at("create", &path)?;
        }
        let architecture = complete(Command::new("dpkg").arg("--print-architecture"))?;
        let keyring = Path::new(KEYRING).is_file().then_some(KEYRING);
        let source = source_line(mirror, architecture.trim(), keyring);
        let path = directory.join("sources.list");
        fs::write(&path, source).at("write", &path)?;
        Ok(PrivateApt {
            directory: directory.to_owned(),
        })
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let mut apt = Command::new("apt-get");
        apt.current_dir(self.directory.join("download"));
        let at = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            "Acquire::Languages=none".to_owned(),
            // The user that apt fetches as cannot write into root's cache directory.
            "APT::Sandbox::User=".to_owned(),
        ] {
            apt.arg("-o").arg(option);
        }
        complete(apt.arg("-qq").args(words)).map(drop)
    }

    /// The one package that was downloaded.
    fn downloaded(&self) -> Result<PathBuf> {
        let directory = self.directory.join("download");
        let mut entries = fs::read_dir(&directory).at("list", &directory)?;
        let entry = entries.find_map(|entry| {
            let path = entry.ok()?.path();
            path.extension()
                .is_some_and(|end| end == "deb")
                .then_some(path)
        });
        entry.ok_or_else(|| {
            Error::new(format!(
                "apt-get put no package into {}",
                directory.display()
            ))
        })
    }
}

/// A line of sources.list(5).
fn source_line(mirror: &str, architecture: &str, keyring: Option<&str>) -> String {
    let signed_by = keyring.map_or(String::new(), |path| format!(" signed-by={path}"));
    format!("deb [arch={architecture}{signed_by}] {mirror} {SUITE} main\n")
}

/// What a command prints, if it ends well; else an error with what it said.
fn complete(command: &mut Command) -> Result<String> {
    let name = Path::new(command.get_program()).to_owned();
    let output = command.stdin(Stdio::null()).output().at("run", &name)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::new(format!(
        "{} ended with {}: {}",
        name.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_one_of_debian_itself() {
        let check = |targets: &str, expect: Option<&str>| {
            assert_eq!(debian_site(targets), expect, "{targets}");
        };
        check(
            "Vendor|Vendor|main|https://vendor.example/deb\n\
             Debian|Debian-Security|main|http://mirror.example/debian-security\n\
             Debian|Debian|contrib|http://other.example/debian\n\
             Debian|Debian|main|http://mirror.example/debian\n\
             Debian|Debian|main|http://second.example/debian\n",
            Some("http://mirror.example/debian"),
        );
        check("Ubuntu|Ubuntu|main|http://mirror.example/ubuntu\n", None);
        check("", None);
    }

    #[test]
    fn a_source_is_signed_by_the_keyring_that_is_there() {
        let line = |keyring| source_line("http://mirror.example/debian", "amd64", keyring);
        assert_eq!(
            line(Some("/keys.gpg")),
            "deb [arch=amd64 signed-by=/keys.gpg] http://mirror.example/debian sid main\n"
        );
        assert_eq!(
            line(None),
            "deb [arch=amd64] http://mirror.example/debian sid main\n"
        );
    }

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let message = missing(Path::new("/cache/tools/containerd-2"), "it is dark").to_string();
        for part in [
            "is not in /cache/tools/containerd-2, and it is dark",
            "cargo xtask setup",
            "containerd-shim-runc-v2",
            "/cache/tools/containerd-2/usr/bin",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
