//! Debian packages that building, testing and the demo need: looked for first, installed only where
//! missing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::console;
use crate::error::{Context, Error, Result};

/// What is about to be done; each needs what those before it need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// Compile the workspace.
    Build,
    /// Build and run the demo image.
    Demo,
    /// Measure varve against its peers.
    Bench,
    /// Run every test.
    Test,
}

/// One row of the list.
struct Package {
    /// Any of these satisfies the need; the first that apt knows is installed.
    names: &'static [&'static str],
    purpose: Purpose,
    /// Who needs it and why: printed when it is installed.
    reason: &'static str,
}

/// Everything that is not in a minimal Debian 12 with cargo, git and a C++ compiler.
///
/// Not here, because nothing needs it: cmake, librocksdb-dev (7.8, our bindings are for 11.8), a
/// linker (rustc brings its own).
const PACKAGES: &[Package] = &[
    Package {
        names: &["libclang-14-dev", "libclang-dev"],
        purpose: Purpose::Build,
        reason: "librocksdb-sys generates its bindings with bindgen",
    },
    Package {
        names: &["libseccomp-dev"],
        purpose: Purpose::Build,
        reason: "libcontainer filters the system calls of RUN steps",
    },
    Package {
        names: &["pkg-config"],
        purpose: Purpose::Build,
        reason: "finds libseccomp for its Rust binding",
    },
    Package {
        names: &["protobuf-compiler"],
        purpose: Purpose::Build,
        reason: "protoc, for the client of containerd's own services",
    },
    Package {
        names: &["busybox-static"],
        purpose: Purpose::Demo,
        reason: "the base image of the demo and of tests, made offline",
    },
    Package {
        names: &["runc"],
        purpose: Purpose::Bench,
        reason: "the other OCI runtime that RUN steps can use, and the one that BuildKit uses",
    },
    // Docker's own package of it stands in the way of Debian's, and is as good.
    Package {
        names: &["containerd", "containerd.io"],
        purpose: Purpose::Bench,
        reason: "the container daemon that varve plugs into, and its client ctr",
    },
    Package {
        names: &["docker-registry"],
        purpose: Purpose::Bench,
        reason: "a registry on this machine, to pull images from",
    },
    Package {
        names: &["umoci"],
        purpose: Purpose::Test,
        reason: "unpacks layers independently of us, to compare with our mounts",
    },
    Package {
        names: &["skopeo"],
        purpose: Purpose::Bench,
        reason: "reads the images we export, and puts images into the registry",
    },
    Package {
        names: &["mmdebstrap"],
        purpose: Purpose::Bench,
        reason: "makes the Debian base image of tests and benches",
    },
    Package {
        names: &["erofs-utils"],
        purpose: Purpose::Test,
        reason: "fsck.erofs and dump.erofs read the EROFS images we write",
    },
    Package {
        names: &["xfsprogs"],
        purpose: Purpose::Test,
        reason: "makes the XFS on which what `varve du` tells is compared with `df`",
    },
    Package {
        names: &["bzip2"],
        purpose: Purpose::Test,
        reason: "makes archives that ADD unpacks",
    },
    Package {
        names: &["xz-utils"],
        purpose: Purpose::Test,
        reason: "makes archives that ADD unpacks",
    },
    Package {
        names: &["zstd"],
        purpose: Purpose::Test,
        reason: "makes archives that ADD unpacks",
    },
    Package {
        names: &["attr"],
        purpose: Purpose::Test,
        reason: "getfattr and setfattr, for extended attributes in fixtures",
    },
    Package {
        names: &["iproute2"],
        purpose: Purpose::Test,
        reason: "`ip` shows what network a RUN step got",
    },
    Package {
        names: &["uidmap"],
        purpose: Purpose::Test,
        reason: "newuidmap and newgidmap: an ordinary user builds with many ids",
    },
    Package {
        names: &["zsh"],
        purpose: Purpose::Test,
        reason: "a shell that completes command lines of varve",
    },
    Package {
        names: &["fish"],
        purpose: Purpose::Test,
        reason: "a shell that completes command lines of varve",
    },
    Package {
        names: &["openssh-client"],
        purpose: Purpose::Test,
        reason: "ssh-agent and ssh-add, whose keys RUN steps use",
    },
];

/// Installs what is missing for `purpose`.
///
/// # Errors
/// Where apt fails, or installing needs root and there is no sudo: then with the command to run.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    let needed = PACKAGES.iter().filter(|package| package.purpose <= purpose);
    let Some(installed) = installed_packages() else {
        let names: Vec<&str> = needed.map(|package| package.names[0]).collect();
        console::note(&format!(
            "no dpkg here, so nothing was installed; what Debian calls {} must be there",
            names.join(", ")
        ));
        return Ok(());
    };
    let missing: Vec<&Package> = needed
        .filter(|package| !package.is_in(&installed))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Whether this process runs as root.
///
/// # Errors
/// Where /proc is not mounted.
pub(crate) fn is_root() -> Result<bool> {
    let own = Path::new("/proc/self");
    Ok(fs::metadata(own).at("read", own)?.uid() == 0)
}

/// How this process gets to run a command as root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elevation {
    /// It is root.
    Direct,
    /// Through sudo, which may ask for a password.
    Sudo,
}

impl Elevation {
    /// Finds the way there is.
    ///
    /// # Errors
    /// Where we are not root and there is no sudo; `manual` is what the user should run instead.
    pub(crate) fn find(manual: &str) -> Result<Self> {
        if is_root()? {
            return Ok(Self::Direct);
        }
        let has_sudo = Command::new("sudo")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if has_sudo {
            return Ok(Self::Sudo);
        }
        Err(Error::new(format!(
            "this needs root and there is no sudo; run as root: {manual}"
        )))
    }

    /// A command that runs `program` as root.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Direct => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg("--").arg(program);
                command
            }
        }
    }
}

impl Package {
    fn is_in(&self, installed: &[String]) -> bool {
        self.names
            .iter()
            .any(|name| installed.iter().any(|have| have == name))
    }

    /// The first of the names that apt can install; the first of all where it knows none.
    fn candidate(&self) -> &'static str {
        let known = |name: &&&str| {
            Command::new("apt-cache")
                .args(["show", "--no-all-versions", name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        self.names.iter().find(known).unwrap_or(&self.names[0])
    }
}

/// Names of all installed packages, or `None` where there is no dpkg.
fn installed_packages() -> Option<Vec<String>> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"])
        .output()
        .ok()?;
    Some(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.strip_prefix("installed "))
        .map(str::to_owned)
        .collect()
}

/// Makes sure that apt knows what there is: a fresh container has never run `apt-get update`.
///
/// # Errors
/// Where apt fails, or it needs root and there is no sudo.
pub(crate) fn ensure_lists() -> Result<()> {
    if has_package_lists() {
        return Ok(());
    }
    apt_get(&["update"])
}

fn install(missing: &[&Package]) -> Result<()> {
    let started = Instant::now();
    ensure_lists()?;
    let names: Vec<&str> = missing.iter().map(|package| package.candidate()).collect();
    for (name, package) in names.iter().zip(missing) {
        console::note(&format!("installing {name}: {}", package.reason));
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&names);
    if apt_get(&arguments).is_err() {
        console::note("apt-get could not install them; once more with fresh package lists");
        apt_get(&["update"])?;
        apt_get(&arguments)?;
    }
    console::done(
        &format!("{} packages installed", names.len()),
        started.elapsed(),
    );
    Ok(())
}

fn has_package_lists() -> bool {
    fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let manual = format!("apt-get {}", arguments.join(" "));
    // `env` because sudo does not pass DEBIAN_FRONTEND on.
    let mut command = Elevation::find(&manual)?.command("env");
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "-o",
        "Dpkg::Use-Pty=0",
    ]);
    command.args(arguments).stdin(Stdio::null());
    let status = command
        .status()
        .map_err(|cause| Error::new(format!("cannot run apt-get: {cause}; run: {manual}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "`{manual}` failed with {status} (its reason stands above)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fully_installed_packages_count() {
        let installed = parse_installed(
            "installed attr\nconfig-files runc\nnot-installed umoci\ninstalled g++\n",
        );
        assert_eq!(installed, ["attr", "g++"]);
    }

    #[test]
    fn any_of_the_alternative_names_satisfies_the_need() {
        let package = Package {
            names: &["libclang-14-dev", "libclang-dev"],
            purpose: Purpose::Build,
            reason: "",
        };
        let check = |have: &[&str], expect: bool| {
            let have: Vec<String> = have.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(package.is_in(&have), expect, "{have:?}");
        };
        check(&["libclang-dev"], true);
        check(&["libclang-14-dev"], true);
        check(&["libclang1-14"], false);
        check(&[], false);
    }

    #[test]
    fn testing_needs_all_that_demo_and_benches_need() {
        assert!(Purpose::Build < Purpose::Demo && Purpose::Demo < Purpose::Bench);
        assert!(Purpose::Bench < Purpose::Test);
    }
}
