//! The image of varve, from the Dockerfile at the root of the checkout and a program that is built.

use std::process::Command;

use support::workspace::{Varve, run};

use super::{debian_image, debian_package};

/// The image `varve` in the store, with the program under test.
fn built() -> Varve {
    let varve = Varve::new();
    debian_image(&varve, "debian", &[]);
    let package = debian_package(&varve, "package");
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(varve.path("tree"));
    run(&mut unpack).succeeded();
    let mut files = std::ffi::OsString::from("files=");
    files.push(varve.path("tree"));
    let mut build = varve.command(["build", "-q", "-t", "varve", "--build-context"]);
    build.arg(files).args(["--build-arg", "BASE_IMAGE=debian"]);
    run(build.arg(support::workspace_root())).succeeded();
    varve
}

#[test]
fn varve_runs_in_its_own_image() {
    let varve = built();
    let version = varve.varve(["run", "--rm", "varve", "--version"]);
    assert_eq!(
        version.success().stdout,
        format!("varve {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = varve.varve(["run", "varve"]).success().stdout;
    assert!(help.contains("Usage: varve"), "{help}");
    let config = varve.varve([
        "inspect",
        "-f",
        "{{json .Config.Volumes}} {{json .Config.Entrypoint}}",
        "varve",
    ]);
    assert_eq!(
        config.success().stdout,
        "{\"/var/lib/varve\":{}} [\"varve\"]\n"
    );
}
