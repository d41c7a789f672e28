//! The image of varve, compiled by varve from this checkout: with the packages and crates that this
//! machine reaches, and the toolchain that compiled this test.
//!
//! Its root directory is kept in `~/.cache/varve/self-build`, with the caches of its steps: the
//! first run on a machine takes many minutes, others compile what has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::package_sources::PackageSources;
use support::workspace::{Varve, run, run_within};

use super::debian_image;

/// RocksDB and 400 crates, on two busy processors.
const COMPILE_LIMIT: Duration = Duration::from_secs(2_700);

/// The directory that outlives the test.
fn kept_root() -> PathBuf {
    let home = std::env::var_os("HOME").expect("a home");
    Path::new(&home).join(".cache/varve/self-build")
}

/// An image with the toolchain in it, as docker.io/library/rust is one.
fn rust_image(varve: &Varve) {
    debian_image(varve, "debian", &["gcc", "libc6-dev"]);
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "sysroot"]);
    rustc.current_dir(support::workspace_root());
    let toolchain = run(&mut rustc).success().stdout;
    let context = format!("toolchain={}", toolchain.trim());
    varve.write(
        "rust/Dockerfile",
        "FROM debian\nCOPY --from=toolchain bin /usr/local/bin\n\
         COPY --from=toolchain lib /usr/local/lib\n",
    );
    let words = [
        "build",
        "-q",
        "-t",
        "rust",
        "--build-context",
        &context,
        "rust",
    ];
    varve.varve(words).succeeded();
}

/// The archive that this test is linked with, so that it need not be compiled again: where the
/// compiler of the base is another, it is.
fn seed(varve: &Varve) -> Vec<String> {
    let Some(home) = std::env::var_os("ROCKSDB_LIB_DIR").map(PathBuf::from) else {
        return Vec::new();
    };
    let name = home.file_name().expect("a name with version and hash");
    let content = fs::read(home.join("librocksdb.a")).expect("what this test is linked with");
    varve.write(
        Path::new("seed/varve").join(name).join("librocksdb.a"),
        content,
    );
    let context = format!("seed={}", varve.path("seed").display());
    vec!["--build-context".to_owned(), context]
}

#[test]
fn varve_compiles_itself_from_its_dockerfile() {
    let varve = Varve::new().with_root(&kept_root());
    rust_image(&varve);
    let sources = PackageSources::of_this_machine();
    let mut build = varve.command(["build", "--progress=plain", "-t", "varve"]);
    build
        .args([
            "--build-arg",
            "RUST_IMAGE=rust",
            "--build-arg",
            "BASE_IMAGE=debian",
        ])
        .args(["--build-arg", "PROFILE=dev"])
        .args(seed(&varve))
        .args(&sources.arguments)
        .envs(sources.variables.iter().map(|(name, value)| (name, value)))
        .arg(support::workspace_root());
    run_within(COMPILE_LIMIT, &mut build).succeeded();

    // What was linked for others needs nothing but the C library: it runs on the bare base.
    let version = varve.varve(["run", "--rm", "varve", "--version"]);
    assert_eq!(
        version.success().stdout,
        format!("varve {}\n", env!("CARGO_PKG_VERSION"))
    );
    let unit = varve.shell("varve", "cat /usr/lib/systemd/system/varve.service");
    assert!(unit.contains("ExecStart=/usr/bin/varve daemon"), "{unit}");
    let page = varve.shell("varve", "ls /usr/share/man/man1/varve-build.1");
    assert!(page.contains("varve-build.1"), "{page}");
    let left = varve.varve(["run", "--entrypoint", "/bin/sh", "varve", "-c", "ls /src"]);
    assert_ne!(left.code, 0, "sources are in no image: {left}");
}
