//! The program for other machines: optimised as a whole, and linked with nothing but the C library.
//!
//! RocksDB brings C++ with it, libcontainer libseccomp, and Rust the unwinder: their shared
//! libraries are not on every machine, nor in a small image. So the linker is shown a directory in
//! which there are only the archives of the same names, before its own. The C library stays shared:
//! a static one cannot load the modules by which a machine resolves names of hosts and users.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::output_of;
use crate::checks::run_to_end;
use crate::console;
use crate::error::{Context, Error, Result};
use crate::packages::{self, Purpose};
use crate::rocksdb_archive;
use crate::workspace::Workspace;

/// Name under which the linker looks for it, name that the C compiler knows it by, who needs it.
const ARCHIVES: [(&str, &str, &str); 3] = [
    ("libstdc++.a", "libstdc++.a", "RocksDB"),
    ("libgcc_s.a", "libgcc_eh.a", "unwinding"),
    ("libseccomp.a", "libseccomp.a", "libcontainer"),
];

/// What every Linux system with glibc has: beginnings of names.
const LIBRARIES: [&str; 6] = [
    "ld-linux",
    "libc.so.",
    "libm.so.",
    // Parts of libc of their own before glibc 2.34.
    "libpthread.so.",
    "libdl.so.",
    "librt.so.",
];

/// Builds it; its path.
///
/// # Errors
/// Where a package cannot be installed or cargo fails.
pub(super) fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    packages::ensure(Purpose::Build)?;
    let lib_dir = rocksdb_archive::ensure(workspace)?;
    let archives = archives(workspace)?;
    let mut cargo = workspace.cargo(&lib_dir);
    // `rustc`, so that the directory is shown to the last linker only.
    cargo
        .args(["rustc", "--locked", "--package", "varve", "--bin", "varve"])
        .args(["--profile", profile, "--", "-L"])
        .arg(format!("native={}", archives.display()));
    run_to_end(&mut cargo)?;
    // cargo's own names of directories.
    let directory = match profile {
        "dev" => "debug",
        other => other,
    };
    Ok(workspace.target.join(directory).join("varve"))
}

/// A directory with the archives that there are.
fn archives(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target.join("static-libraries");
    super::recreate(&directory)?;
    for (name, known_as, user) in ARCHIVES {
        let mut compiler = Command::new("cc");
        compiler.arg(format!("-print-file-name={known_as}"));
        let found = output_of(&mut compiler)?;
        let found = Path::new(found.trim());
        if !found.is_absolute() {
            console::note(&format!(
                "no {known_as} here: {user} is linked with the shared library"
            ));
            continue;
        }
        symlink(found, directory.join(name)).at("link to", found)?;
    }
    Ok(directory)
}

/// Copies the program without what only a debugger reads.
///
/// # Errors
/// `strip` of binutils fails.
pub(super) fn strip(program: &Path, to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    strip.args([
        "--strip-all",
        "--remove-section=.comment",
        "--remove-section=.note",
    ]);
    run_to_end(strip.arg("-o").arg(to).arg(program))?;
    // Not what the umask of whoever builds has left of it.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).at("change", to)
}

/// What a program needs of the machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needs {
    /// Names of shared libraries.
    pub(super) libraries: Vec<String>,
    /// The version of glibc that has all it calls: `(2, 34)`.
    pub(super) glibc: (u32, u32),
}

impl Needs {
    /// Reads it from the program.
    ///
    /// # Errors
    /// `readelf` of binutils fails.
    pub(super) fn of(program: &Path) -> Result<Self> {
        let mut readelf = Command::new("readelf");
        readelf.env("LC_ALL", "C");
        readelf.args(["--wide", "--dynamic", "--version-info"]);
        Ok(Self::parse(&output_of(readelf.arg(program))?))
    }

    /// Of what readelf prints: `(NEEDED)  Shared library: [libc.so.6]` and, in the table of
    /// versions, `Name: GLIBC_2.34  Flags: …`.
    fn parse(text: &str) -> Self {
        let libraries = text.lines().filter(|line| line.contains("(NEEDED)"));
        let libraries = libraries.filter_map(|line| {
            let (_, name) = line.split_once('[')?;
            Some(name.trim_end().trim_end_matches(']').to_owned())
        });
        let version = |line: &str| {
            let (_, name) = line.split_once("Name: GLIBC_")?;
            let version = name.split_whitespace().next()?;
            let mut numbers = version.split('.').map(|number| number.parse().ok());
            Some((numbers.next()??, numbers.next()??))
        };
        Needs {
            libraries: libraries.collect(),
            glibc: text.lines().filter_map(version).max().unwrap_or_default(),
        }
    }

    /// That it runs on every machine with this glibc.
    ///
    /// # Errors
    /// Names the libraries that not every machine has.
    pub(super) fn check(&self) -> Result<()> {
        let known = |name: &&String| !LIBRARIES.iter().any(|known| name.starts_with(known));
        let others: Vec<_> = self.libraries.iter().filter(known).cloned().collect();
        if others.is_empty() {
            let (major, minor) = self.glibc;
            console::note(&format!("needs glibc {major}.{minor} and nothing else"));
            return Ok(());
        }
        Err(Error::new(format!(
            "the program needs {}, which not every machine has: link the archive instead \
             (cli/xtask/src/package/binary.rs), or allow it there",
            others.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "\
Dynamic section at offset 0x17e1f40 contains 30 entries:
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]
 0x0000000000000001 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]
 0x000000000000000c (INIT)               0x1000
Version needs section '.gnu.version_r' contains 2 entries:
  0x0010:   Name: GLIBC_2.9  Flags: none  Version: 9
  0x0020:   Name: GLIBC_2.34  Flags: none  Version: 12
  0x0030:   Name: GLIBC_2.2.5  Flags: none  Version: 3
  0x0040:   Name: GCC_3.0  Flags: none  Version: 5
";

    #[test]
    fn libraries_and_the_newest_glibc_are_read() {
        let needs = Needs::parse(READ);
        assert_eq!(needs.libraries, ["libc.so.6", "ld-linux-x86-64.so.2"]);
        assert_eq!(needs.glibc, (2, 34));
        needs.check().unwrap();
    }

    #[test]
    fn a_library_that_not_every_machine_has_is_named() {
        let text = format!("{READ} 0x01 (NEEDED)    Shared library: [libstdc++.so.6]\n");
        let error = Needs::parse(&text).check().unwrap_err().to_string();
        assert!(error.contains("libstdc++.so.6"), "{error}");
    }
}
