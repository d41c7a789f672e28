//! `nerdctl`, as people use it with containerd: a docker-like command line.
//!
//! `tests/tools/nerdctl` pins its version.

use std::ffi::OsStr;
use std::process::Command;

use crate::node::Node;
use crate::server::HOST_PATH;
use crate::workspace::{Outcome, run};

/// Tells where `cargo xtask` has built it.
const VARIABLE: &str = "VARVE_TEST_NERDCTL";

impl Node {
    /// Runs `nerdctl` on the node's containerd with the node's snapshotter.
    ///
    /// # Panics
    /// Nobody says where it is.
    pub fn nerdctl<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Outcome {
        let program = std::env::var_os(VARIABLE);
        let program = program.expect("VARVE_TEST_NERDCTL, as cargo xtask test sets it");
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
