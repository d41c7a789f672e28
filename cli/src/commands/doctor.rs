//! `varve doctor`: what this machine can do, which way varve goes on it, and why.

mod rights;

use std::fs;
use std::path::Path;
use std::process::Command;

use executor::Runtime;
use mount::parse_mountinfo;
use snapshotter::Method;

use crate::args::{self, MountsChoice};
use crate::daemon::Site;
use crate::error::print;
use crate::host::Host;
use crate::output::size;
use crate::rootless::Standing;

/// Width of the column with what is asked.
const LABEL_COLUMNS: usize = 30;

/// Prints everything.
///
/// # Errors
/// The root directory cannot be used.
pub(super) fn doctor(site: &Site, options: &args::Doctor) -> anyhow::Result<()> {
    let store = site.open_store()?;
    let (host, abilities) = Host::examine(&store, &site.standing)?;
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        text.push_str(&format!("{label:<LABEL_COLUMNS$} {value}\n"));
    };
    line("varve", env!("CARGO_PKG_VERSION"));
    line("user", &site.standing.describe(site.environment.is_root()));
    line("state", &site.root.display().to_string());
    line("file system of the state", &file_system(&site.root));
    line("free space", &free_space(&site.root));
    line("control groups", control_groups(&site.standing));
    let runtime = match site.container_runtime(options.runtime.choice()) {
        Ok(runtime) => runtime.name(),
        Err(error) => format!("no: {error}"),
    };
    line("container runtime", &runtime);
    line("platforms that run", &platforms());
    line("git, for contexts and ADD", &git());
    for (name, value) in abilities.list() {
        line(name, &value);
    }
    text.push_str(&format!("\n{}\n", way(&host, site.global.mounts)));
    text.push_str(&rights::describe(
        &site.standing,
        site.environment.is_root(),
    ));
    print(&text)
}

/// Whose programs run here, and how to get more.
fn platforms() -> String {
    let known = solver::foreign::platforms().join(", ");
    format!("{known} (others take an emulator of the package qemu-user-static)")
}

/// The version of git, which fetches repositories.
fn git() -> String {
    match Command::new("git").arg("--version").output() {
        Ok(said) if said.status.success() => {
            let said = String::from_utf8_lossy(&said.stdout);
            said.trim().trim_start_matches("git version ").to_owned()
        }
        Ok(said) => format!("no: git --version ended with {}", said.status),
        Err(error) => format!("no: cannot start it: {error}"),
    }
}

/// Which way this host gets, and why.
fn way(host: &Host, choice: MountsChoice) -> String {
    let way = match host.method(choice) {
        Method::Kernel => {
            "way of mounting: kernel (EROFS metadata images, file contents behind them; steps and \
             containers read files without varve in the path)"
        }
        Method::Directories if host.redirects(choice) => {
            "way of mounting: dirs (plain directories; those of whole trees without the contents of \
             files, which are read from the store: slower to start)"
        }
        Method::Directories => {
            "way of mounting: dirs (plain directories, copied out of the store: slower to start, \
             takes more space)"
        }
    };
    let why = match (choice, &host.no_kernel_mounts) {
        (MountsChoice::Auto, None) => "because all that it needs was tried and works".to_owned(),
        (MountsChoice::Auto, Some(reason)) => format!("because {reason}"),
        (_, Some(reason)) => format!("because of --mounts, although {reason}"),
        (_, None) => "because of --mounts".to_owned(),
    };
    format!("{way}\n{why}")
}

/// Type, device and mount point of the file system of a directory.
fn file_system(path: &Path) -> String {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let entries = parse_mountinfo(&table).unwrap_or_default();
    // Of several on one another the last counts.
    let mut best = None;
    for entry in &entries {
        let depth = entry.target.components().count();
        if path.starts_with(&entry.target) && best.is_none_or(|(deepest, _)| depth >= deepest) {
            best = Some((depth, entry));
        }
    }
    match best {
        None => "unknown".to_owned(),
        Some((_, entry)) => format!(
            "{} ({} at {})",
            entry.kind,
            entry.source.to_string_lossy(),
            entry.target.display()
        ),
    }
}

fn free_space(path: &Path) -> String {
    match rustix::fs::statvfs(path) {
        Err(error) => format!("unknown: {error}"),
        Ok(found) => format!(
            "{} of {}, {} of {} inodes",
            size(found.f_bavail.saturating_mul(found.f_frsize)),
            size(found.f_blocks.saturating_mul(found.f_frsize)),
            found.f_favail,
            found.f_files,
        ),
    }
}

/// How the host has mounted its control groups (cgroups(7)).
fn control_groups(standing: &Standing) -> &'static str {
    if *standing != Standing::Root {
        return "none of their own for steps, unless that of varve is delegated to this user";
    }
    let is = |path: &str| Path::new(path).exists();
    match (
        is("/sys/fs/cgroup/cgroup.controllers"),
        is("/sys/fs/cgroup/unified/cgroup.procs"),
    ) {
        (true, _) => "version 2",
        (false, true) => "version 1 with version 2 beside it (hybrid)",
        (false, false) if is("/sys/fs/cgroup/cpu") || is("/sys/fs/cgroup/memory") => "version 1",
        (false, false) => "none: processes of a step are found by their parentage only",
    }
}
