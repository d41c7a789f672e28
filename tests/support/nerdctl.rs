//! `nerdctl`, as people use it with containerd: a docker-like command line.
//!
//! `tests/tools/nerdctl` pins its version.

use std::ffi::OsStr;
use std::process::Command;

use crate::containerd::cache_directory;
use crate::node::Node;
use crate::server::HOST_PATH;
use crate::workspace::{Outcome, run};

/// Where it is built to, below the cache directory.
const PROGRAM: &str = "varve/tools/nerdctl/nerdctl";

impl Node {
    /// Runs `nerdctl` on the node's containerd with the node's snapshotter.
    ///
    /// # Panics
    /// It is not there; with the command that builds it.
    pub fn nerdctl<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Outcome {
        let program = cache_directory().join(PROGRAM);
        assert!(
            program.is_file(),
            "no nerdctl; in tests/tools/nerdctl, run: CGO_ENABLED=0 go build -trimpath -o {} \
             github.com/containerd/nerdctl/cmd/nerdctl",
            program.display()
        );
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", HOST_PATH)
            // Whatever the machine's own nerdctl is told.
            .env("NERDCTL_TOML", self.path("nerdctl.toml"))
            .arg("--address")
            .arg(self.containerd.address())
            .args(["--namespace", self.containerd.namespace()])
            .args(["--snapshotter", self.snapshotter()])
            .args(["--cgroup-manager", "cgroupfs"])
            .arg("--data-root")
            .arg(self.path("nerdctl"))
            .arg("--cni-netconfpath")
            .arg(self.path("cni"))
            .args(words);
        run(&mut command)
    }
}
