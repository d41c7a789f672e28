//! What others get of varve installs, describes itself and goes away again.

mod completion;
mod debian;
mod image;
mod network;

use std::fs;
use std::path::{Path, PathBuf};

use support::debian_base;
use support::workspace::{Varve, run};

/// Of when everything in these packages is.
const EPOCH: &str = "1700000000";

/// A Debian package of the varve under test, in a directory of its own.
fn debian_package(varve: &Varve, directory: &str) -> PathBuf {
    let directory = varve.path(directory);
    let mut xtask = support::xtask();
    xtask
        .args(["package", "deb", "--fast", "--out"])
        .arg(&directory)
        .arg("--binary")
        .arg(support::varve_binary())
        .env("SOURCE_DATE_EPOCH", EPOCH);
    run(&mut xtask).succeeded();
    let made = fs::read_dir(&directory).unwrap();
    let made: Vec<_> = made.map(|entry| entry.unwrap().path()).collect();
    let [package] = made.as_slice() else {
        panic!("one package and nothing else: {made:?}");
    };
    package.clone()
}

/// A Debian as an image of the store.
fn debian_image(varve: &Varve, name: &str, packages: &[&str]) {
    let archive = debian_base::archive(packages).unwrap();
    let directory = varve.path(name);
    fs::create_dir(&directory).unwrap();
    let there = directory.join("base.tar");
    if fs::hard_link(&archive, &there).is_err() {
        fs::copy(&archive, &there).unwrap();
    }
    varve.write(
        Path::new(name).join("Dockerfile"),
        "FROM scratch\nADD base.tar /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    );
    varve.varve(["build", "-q", "-t", name, name]).succeeded();
}
