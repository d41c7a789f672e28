//! Which containerd there is on this machine, and configuration for one of our own.
//!
//! Tests use it from here; the benches compile this file as a module of theirs. So it leans on
//! nothing beside it.

use std::path::{Path, PathBuf};

/// Where `cargo xtask setup` puts containerd 2, below the cache directory.
const SECOND: &str = "varve/tools/containerd-2/usr/bin";

/// Not needed, in the way of a second containerd on this machine, or asking the host for what it
/// lacks. The names of 1.6 and of 2 together: one that does not exist is passed over.
const DISABLED: &[&str] = &[
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.differ.v1.erofs",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// Which containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that is installed: 1.6 on Debian 12.
    System,
    /// The one that `cargo xtask setup` puts into the cache.
    Second,
}

impl Version {
    /// The directory of `containerd`, `ctr` and the shim.
    ///
    /// # Panics
    /// It is not there; with the command that puts it there.
    #[must_use]
    pub fn programs(self) -> PathBuf {
        self.find().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// The same; the error names the command that puts it there.
    ///
    /// # Errors
    /// It is not there.
    pub fn find(self) -> Result<PathBuf, String> {
        let directory = match self {
            Version::System => PathBuf::from("/usr/bin"),
            Version::Second => cache_directory().join(SECOND),
        };
        if directory.join("containerd").is_file() {
            return Ok(directory);
        }
        Err(format!(
            "no containerd in {}; run: cargo xtask setup",
            directory.display()
        ))
    }
}

fn cache_directory() -> PathBuf {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .expect("HOME says where the cache is")
}

/// Configuration with everything below `directory`. Its version 2 is read by both.
#[must_use]
pub fn text(directory: &Path) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    format!(
        "version = 2\n\
         root = {root:?}\n\
         state = {state:?}\n\
         disabled_plugins = {DISABLED:?}\n\
         [grpc]\n  address = {address:?}\n\
         [debug]\n  level = \"info\"\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\n  path = {opt:?}\n",
        root = path("root"),
        state = path("state"),
        address = path("containerd.sock"),
        opt = path("opt"),
    )
}

/// Configuration that lets the transfer service of containerd 2 unpack with this snapshotter.
#[must_use]
pub fn unpack_with(snapshotter: &str) -> String {
    format!(
        "[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  \
         platform = \"linux\"\n  snapshotter = {snapshotter:?}\n"
    )
}
