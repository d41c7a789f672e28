//! A Debian package, put together by `dpkg-deb`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::{Layout, Tree};
use super::{EPOCH_VARIABLE, Release, licences, output_of, recreate, tree};
use crate::checks::run_to_end;
use crate::error::{Context, Result};
use crate::workspace::Workspace;

/// Maintainer scripts in the checkout.
const SCRIPTS: &str = "cli/package/debian";

/// Files below it that a person may change.
const CONFIGURATION: &str = "/etc/";

/// Where Debian has the text of our licence.
const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: varve
Comment: The crates and libraries that are linked into the program, their licences and the texts of
 those stand in third-party-licences.txt.gz beside this file.

Files: *
Copyright: 2026 the varve authors
License: Apache-2.0
 On Debian systems the text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
";

/// What `apt show` says.
const DESCRIPTION: &str = "\
Description: container image builder with its own storage
 varve builds container images from Dockerfiles, in parallel and incrementally,
 without a daemon. Contents of files are stored once, by digest, for all images,
 steps and build contexts together; a copy from one stage to another moves no
 bytes, and a step whose inputs have not changed is not run again.
 .
 It pulls from and pushes to registries, writes OCI and docker archives, runs
 images, and serves containerd as a snapshotter and differ (varve.service, which
 the installation does not start).
";

/// What it works better with.
const RELATIONS: &str = "\
Recommends: ca-certificates, uidmap
Suggests: containerd, git, qemu-user-static, runc
";

/// Makes the package; its path.
///
/// # Errors
/// Where `dpkg-deb` fails or a file cannot be written.
pub(super) fn make(
    workspace: &Workspace,
    release: &Release,
    work: &Path,
    directory: &Path,
) -> Result<PathBuf> {
    let root = work.join("deb");
    recreate(&root)?;
    let mut tree = Tree::new(&root, Some(release.epoch));
    let layout = Layout::debian();
    tree::lay_out(workspace, &release.program, &layout, &mut tree)?;
    licences::write(workspace, &layout, &mut tree)?;
    tree.text(&layout.document("copyright"), COPYRIGHT)?;
    tree.compressed(&layout.document("changelog"), &changelog(release)?)?;
    let architecture = architecture()?;
    let control = control(release, &architecture, &tree)?;
    let (sums, configuration) = (checksums(&tree)?, configuration(&tree));
    let control_file = |name: &str| PathBuf::from("/DEBIAN").join(name);
    tree.text(&control_file("control"), &control)?;
    tree.text(&control_file("md5sums"), &sums)?;
    tree.text(&control_file("conffiles"), &configuration)?;
    for name in ["postinst", "prerm", "postrm"] {
        let path = workspace.root.join(SCRIPTS).join(name);
        let script = fs::read(&path).at("read", &path)?;
        tree.write(&control_file(name), &script, 0o755)?;
    }
    tree.finish()?;
    let path = directory.join(format!("varve_{}_{architecture}.deb", release.version));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env(EPOCH_VARIABLE, release.seconds().to_string());
    // One form of compression, whatever this machine's dpkg prefers.
    let (form, level) = match release.compresses_well {
        true => ("-Zxz", "-z6"),
        false => ("-Zgzip", "-z1"),
    };
    dpkg.args(["--root-owner-group", form, level, "--build"]);
    dpkg.stdout(std::process::Stdio::null());
    run_to_end(dpkg.arg(&root).arg(&path))?;
    Ok(path)
}

fn control(release: &Release, architecture: &str, tree: &Tree) -> Result<String> {
    let mut bytes = 0;
    for file in tree.files() {
        let place = tree.place(file);
        let size = fs::metadata(&place).at("look at", &place)?.len();
        // As Debian counts: whole KiB of each file.
        bytes += size.div_ceil(1024);
    }
    let (major, minor) = release.needs.glibc;
    let mut depends = vec![format!("libc6 (>= {major}.{minor})")];
    // Only of a program that was not linked for release.
    for (library, package) in [
        ("libstdc++.so.6", "libstdc++6"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libseccomp.so.2", "libseccomp2"),
    ] {
        if release.needs.libraries.iter().any(|name| name == library) {
            depends.push(package.into());
        }
    }
    Ok(format!(
        "Package: varve\n\
         Version: {}\n\
         Section: admin\n\
         Priority: optional\n\
         Architecture: {architecture}\n\
         Maintainer: {}\n\
         Installed-Size: {bytes}\n\
         Depends: {}\n\
         {RELATIONS}{DESCRIPTION}",
        release.version,
        maintainer(),
        depends.join(", "),
    ))
}

/// As Debian's own tools are told.
fn maintainer() -> String {
    let said = |name: &str, default: &str| {
        let said = env::var(name).ok().filter(|said| !said.is_empty());
        said.unwrap_or_else(|| default.to_owned())
    };
    let name = said("DEBFULLNAME", "varve maintainers");
    let address = said("DEBEMAIL", "varve@example.org");
    format!("{name} <{address}>")
}

/// Debian's name of the processor that this was built for.
fn architecture() -> Result<String> {
    let asked = output_of(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(asked.trim().to_owned())
}

/// In Debian's form, which leads to ours.
fn changelog(release: &Release) -> Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["--utc", "--rfc-email"]);
    let date = output_of(date.arg(format!("--date=@{}", release.seconds())))?;
    Ok(format!(
        "varve ({}) stable; urgency=medium\n\n  \
         * What has changed stands in CHANGELOG.md.gz beside this file.\n\n \
         -- {}  {}\n",
        release.version,
        maintainer(),
        date.trim()
    ))
}

/// For `dpkg --verify`. Not of configuration files, which may change.
fn checksums(tree: &Tree) -> Result<String> {
    let mut files: Vec<_> = tree
        .files()
        .iter()
        .filter(|file| !is_configuration(file))
        .collect();
    files.sort();
    let mut md5sum = Command::new("md5sum");
    md5sum.current_dir(tree.place(Path::new("/"))).arg("--");
    md5sum.args(
        files
            .iter()
            .map(|file| file.strip_prefix("/").unwrap_or(file)),
    );
    output_of(&mut md5sum)
}

fn is_configuration(file: &Path) -> bool {
    file.starts_with(CONFIGURATION)
}

fn configuration(tree: &Tree) -> String {
    let files = tree.files().iter().filter(|file| is_configuration(file));
    files.map(|file| format!("{}\n", file.display())).collect()
}
