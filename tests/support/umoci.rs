//! `umoci`, which unpacks images independently of varve and of containerd.

use std::path::Path;
use std::process::Command;

use crate::tree::{self, Tree};
use crate::workspace::run;

/// The files of the image `latest` of a layout, unpacked into the new directory `bundle`.
///
/// # Panics
/// It is not installed, or cannot.
#[track_caller]
#[must_use]
pub fn files(layout: &Path, bundle: &Path) -> Tree {
    let mut umoci = Command::new("umoci");
    umoci
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", layout.display()))
        .arg(bundle);
    run(&mut umoci).succeeded();
    tree::list(&bundle.join("rootfs"))
}
