//! Programs that are only to be had as Go modules: built from modules below `tests/tools`, once per
//! machine and version, into the cache.
//!
//! Go is not installed for it: without Go what needs them is left out, and says so.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, iter};

use sha2::{Digest, Sha256};

use crate::checks::run_to_end;
use crate::console;
use crate::error::{Context, Error, Result};
use crate::workspace::Workspace;

/// Files of a module that decide what is built.
const MODULE_FILES: &[&str] = &["go.mod", "go.sum", "tools.go"];

/// What is built together.
#[derive(Debug)]
pub(crate) struct GoPrograms {
    /// As people call it.
    name: &'static str,
    /// The directory of the Go module that pins the version, in the checkout.
    module: &'static str,
    repository: &'static str,
    /// Below `<repository>/cmd`.
    programs: &'static [&'static str],
    tags: &'static str,
    /// The variable in the repository that holds the version.
    version_variable: &'static str,
    /// What is missing without Go.
    without: &'static str,
}

/// What benches measure varve against.
pub(crate) const BUILDKIT: GoPrograms = GoPrograms {
    name: "BuildKit",
    module: "tests/tools",
    repository: "github.com/moby/buildkit",
    programs: &["buildctl", "buildkitd"],
    // As BuildKit's own Dockerfile builds its releases: without `seccomp`, its RUN steps would go
    // unfiltered and look faster than they are.
    tags: "osusergo netgo static_build seccomp",
    version_variable: "version.Version",
    without: "its columns may be missing: install Go, or put buildctl and buildkitd on PATH",
};

/// A client that tests run with the snapshotter.
pub(crate) const NERDCTL: GoPrograms = GoPrograms {
    name: "nerdctl",
    module: "tests/tools/nerdctl",
    repository: "github.com/containerd/nerdctl",
    programs: &["nerdctl"],
    tags: "",
    version_variable: "pkg/version.Version",
    without: "the tests that run it are left out: install Go 1.21 or later",
};

impl GoPrograms {
    /// Makes sure that they are built and returns their directory; `None` where there is no Go.
    ///
    /// # Errors
    /// Where Go cannot build them.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<Option<PathBuf>> {
        let (name, without) = (self.name, self.without);
        let Some(go_version) = go_version() else {
            console::note(&format!(
                "no `go` on PATH, so {name} is not built; {without}"
            ));
            return Ok(None);
        };
        let module = workspace.root.join(self.module);
        let recipe = self.recipe(&module, &go_version)?;
        let tools = workspace.cache.join("tools");
        let home = tools.join(&recipe);
        if self.is_complete(&home) {
            return Ok(Some(home));
        }
        fs::create_dir_all(&tools).at("create", &tools)?;
        let lock_path = tools.join(format!("{recipe}.lock"));
        let lock = File::create(&lock_path).at("create", &lock_path)?;
        if lock.try_lock().is_err() {
            console::note(&format!(
                "another process builds {name} on this machine; waiting for it"
            ));
            lock.lock().at("lock", &lock_path)?;
        }
        if !self.is_complete(&home) {
            self.build(&module, &home)?;
        }
        Ok(Some(home))
    }

    /// Names the directory after everything that goes into the programs.
    fn recipe(&self, module: &Path, go_version: &str) -> Result<String> {
        let contents: Vec<Vec<u8>> = MODULE_FILES
            .iter()
            .map(|name| {
                let path = module.join(name);
                fs::read(&path).at("read", &path)
            })
            .collect::<Result<_>>()?;
        Ok(name_of(&contents, self.tags, go_version))
    }

    fn is_complete(&self, home: &Path) -> bool {
        self.programs
            .iter()
            .all(|program| home.join(program).is_file())
    }

    /// Builds beside `home` and renames the finished directory into place, under the lock.
    fn build(&self, module: &Path, home: &Path) -> Result<()> {
        let manifest = module.join("go.mod");
        let text = fs::read_to_string(&manifest).at("read", &manifest)?;
        let (name, repository) = (self.name, self.repository);
        let version = pinned_version(&text, repository).ok_or_else(|| {
            Error::new(format!(
                "{} does not require {repository}; restore the line, or run `go mod tidy`",
                manifest.display()
            ))
        })?;
        console::note(&format!(
            "building {name} {version} once for this machine (some minutes)"
        ));
        let started = Instant::now();
        let work = home.with_extension("building");
        fs::create_dir_all(&work).at("create", &work)?;
        let mut go = Command::new("go");
        go.current_dir(module)
            .env("CGO_ENABLED", "0")
            .args(["build", "-trimpath", "-tags", self.tags, "-ldflags"])
            .arg(format!(
                "-X {repository}/{}={version}",
                self.version_variable
            ))
            .arg("-o")
            .arg(&work)
            .args(
                self.programs
                    .iter()
                    .map(|program| format!("{repository}/cmd/{program}")),
            );
        run_to_end(&mut go)?;
        if home.exists() {
            fs::remove_dir_all(home).at("remove", home)?;
        }
        fs::rename(&work, home).at("rename the finished programs to", home)?;
        console::done(&format!("{name} in {}", home.display()), started.elapsed());
        Ok(())
    }
}

/// `PATH` with `directory` in front of what it has.
///
/// # Errors
/// Where the directory's name holds a colon.
pub(crate) fn path_with(directory: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(iter::once(directory.to_owned()).chain(env::split_paths(&path)))
        .map_err(|cause| Error::new(format!("{}: {cause}", directory.display())))
}

/// What `go version` prints, or `None` where there is no Go.
fn go_version() -> Option<String> {
    let output = Command::new("go")
        .arg("version")
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn name_of(contents: &[Vec<u8>], tags: &str, go_version: &str) -> String {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update(content.len().to_le_bytes());
        hash.update(content);
    }
    hash.update(tags);
    hash.update(go_version);
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The version of `wanted` in the text of a go.mod.
fn pinned_version<'a>(manifest: &'a str, wanted: &str) -> Option<&'a str> {
    manifest.lines().find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next() == Some(wanted))
            .then(|| words.next())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_found_in_both_forms_of_require() {
        let check = |manifest: &str, expect: Option<&str>| {
            assert_eq!(
                pinned_version(manifest, BUILDKIT.repository),
                expect,
                "{manifest}"
            );
        };
        check("require github.com/moby/buildkit v1.2.3\n", Some("v1.2.3"));
        check(
            "require (\n\tgithub.com/moby/buildkit v1.2.3 // indirect\n)\n",
            Some("v1.2.3"),
        );
        check("require github.com/moby/buildkit-extra v1.2.3\n", None);
        check("module github.com/moby/buildkit\n", None);
    }

    #[test]
    fn the_checkout_pins_every_program() {
        for programs in [BUILDKIT, NERDCTL] {
            let module = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../..")
                .join(programs.module);
            let manifest = fs::read_to_string(module.join("go.mod")).unwrap();
            let pinned = pinned_version(&manifest, programs.repository);
            assert!(pinned.is_some_and(|v| v.starts_with('v')));
            let tools = fs::read_to_string(module.join("tools.go")).unwrap();
            for program in programs.programs {
                let import = format!("\"{}/cmd/{program}\"", programs.repository);
                assert!(tools.contains(&import), "tools.go lacks {import}");
            }
        }
    }

    #[test]
    fn another_go_or_another_pin_is_another_directory() {
        let first = name_of(&[b"a".to_vec()], "", "go1");
        assert_eq!(name_of(&[b"a".to_vec()], "", "go1"), first);
        assert_ne!(name_of(&[b"b".to_vec()], "", "go1"), first);
        assert_ne!(name_of(&[b"a".to_vec()], "", "go2"), first);
    }
}
