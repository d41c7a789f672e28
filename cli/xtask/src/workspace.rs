//! Where things are on this machine (checkout, cache, target directory), and the `cargo` that every
//! task starts: always with the same environment, so that nothing is built twice for want of a
//! variable.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

/// The checkout and the directories around it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the root Cargo.toml.
    pub(crate) root: PathBuf,
    /// `${XDG_CACHE_HOME:-~/.cache}/varve`: what is made once per machine and user.
    pub(crate) cache: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
}

/// A registry package as `cargo metadata` describes it.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its exact version, build metadata included (`0.19.0+11.8.1`).
    pub(crate) version: String,
    /// The directory of its unpacked sources.
    pub(crate) sources: PathBuf,
}

impl Workspace {
    /// Finds the checkout this binary was built from, or the one that cargo says it was started
    /// for.
    ///
    /// # Errors
    /// Where neither `XDG_CACHE_HOME` nor `HOME` says where the cache belongs.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .ancestors()
            .nth(2)
            .filter(|dir| dir.join("cli/xtask").is_dir())
            .ok_or_else(|| {
                Error::new(format!(
                    "{} is not cli/xtask of a checkout",
                    manifest_dir.display()
                ))
            })?
            .to_owned();
        let cache = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or_else(|| {
                Error::new("neither XDG_CACHE_HOME nor HOME is an absolute path; set one")
            })?
            .join("varve");
        let target = target_dir(&root, &cache);
        Ok(Self {
            root,
            cache,
            target,
        })
    }

    /// A `cargo` in the checkout, without RocksDB's variables: for what links nothing.
    pub(crate) fn plain_cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
        // `cargo run` tells us about our own package; a child that looks at these would be misled.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_"))
            {
                command.env_remove(name);
            }
        }
        if is_ci() {
            // Nobody edits and rebuilds in CI: incremental files would only fill the shared
            // directory.
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// A `cargo` that links the prebuilt RocksDB archive in `rocksdb_lib_dir`.
    pub(crate) fn cargo(&self, rocksdb_lib_dir: &Path) -> Command {
        let mut command = self.plain_cargo();
        command
            .env("ROCKSDB_LIB_DIR", rocksdb_lib_dir)
            .env("ROCKSDB_STATIC", "1");
        command
    }

    /// The registry packages of these names, in the same order. Downloads what is not there yet.
    ///
    /// # Errors
    /// Where cargo fails, or Cargo.lock has no such package.
    pub(crate) fn packages(&self, names: &[&str]) -> Result<Vec<Package>> {
        let all = self.all_packages()?;
        let find = |name: &&str| {
            let found = all.iter().find(|(known, _)| known == name);
            found.map(|(_, package)| package.clone()).ok_or_else(|| {
                Error::new(format!(
                    "`cargo metadata` names no package {name}; is it still in Cargo.lock?"
                ))
            })
        };
        names.iter().map(find).collect()
    }

    /// Every package that Cargo.lock names, with its name.
    ///
    /// # Errors
    /// Where cargo fails.
    pub(crate) fn all_packages(&self) -> Result<Vec<(String, Package)>> {
        let output = self
            .plain_cargo()
            .args(["metadata", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .at("run `cargo metadata` in", &self.root)?;
        if !output.status.success() {
            return Err(Error::new(
                "`cargo metadata` failed (its reason stands above)",
            ));
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .at("understand `cargo metadata` of", &self.root)?;
        let all = metadata["packages"].as_array();
        let all = all.map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().filter_map(described).collect())
    }
}

fn described(package: &serde_json::Value) -> Option<(String, Package)> {
    let manifest = Path::new(package["manifest_path"].as_str()?);
    let described = Package {
        version: package["version"].as_str()?.to_owned(),
        sources: manifest.parent()?.to_owned(),
    };
    Some((package["name"].as_str()?.to_owned(), described))
}

/// `CARGO_TARGET_DIR` where it is set; in CI a directory that outlives the clone; else `target/`.
fn target_dir(root: &Path, cache: &Path) -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => root.join(dir),
        None if is_ci() => cache.join("target"),
        None => root.join("target"),
    }
}

/// Whether a machine runs this, by the variable that every CI system sets.
pub(crate) fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
