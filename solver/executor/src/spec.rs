//! A [`Process`] as OCI runtime configuration (`config.json`), the way BuildKit writes it.
//!
//! Namespaces, mounts, masked paths and capabilities are those of containerd's default
//! configuration with the changes of BuildKit's `executor/oci`: no tmpfs at /run, /etc/resolv.conf
//! and /etc/hosts bound read-only, cgroups visible read-only, no limit on open files, new
//! privileges allowed, moby's default seccomp profile.

mod capabilities;
mod resources;
mod seccomp;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cgroup::{Cgroups, MOUNT_ROOT, NO_GROUP, Setup};
use crate::error::Result;
use crate::extras::Propagation;
use crate::ids::Ids;
use crate::process::{ExtraMountKind, Network, Process};
use crate::user::User;
pub use capabilities::ALL_CAPABILITIES;
use seccomp::DeviceNodes;
pub use seccomp::MaskOrder;

/// The capabilities of a step: moby's fourteen (containerd `defaultUnixCaps`).
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The same set as the bit mask of /proc/self/status (`CapEff`).
pub const CAPABILITIES_MASK: u64 = 0xa804_25fb;

/// Tells the embedded runtime to start a first process of its own.
pub(crate) const INIT_ANNOTATION: &str = "varve.init";

/// File mode creation mask of a step: runc's default. It must not depend on varve's own.
const UMASK: u32 = 0o022;

/// Files of the kernel that a step may not read.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/proc/scsi",
];

/// Files of the kernel that a step may not write.
const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What a runtime can do by itself, so that the configuration need not spell it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// It puts every container into a cgroup of its own; otherwise none is prepared.
    pub cgroups: bool,
    /// It honours `ro` for the v1 hierarchies of a `cgroup` mount.
    pub read_only_v1_mounts: bool,
    /// It keeps the process from opening devices on cgroup v2 (by a BPF program).
    pub v2_device_filter: bool,
    /// In a user namespace it makes do with the groups that there are: without a path it leaves its
    /// caller's own alone, and rules for devices, which only the host's root makes, it leaves out.
    pub lenient_groups: bool,
    /// It can start a first process of our own, which starts the program.
    pub first_process: bool,
    /// How it reads the masked comparisons of a seccomp profile.
    pub mask_order: MaskOrder,
}

impl Abilities {
    /// runc, crun and what behaves like them.
    pub const RUNC: Self = Self {
        cgroups: true,
        read_only_v1_mounts: true,
        v2_device_filter: true,
        lenient_groups: true,
        first_process: false,
        mask_order: MaskOrder::Specified,
    };

    /// libcontainer 0.7 as we build it.
    pub const LIBCONTAINER: Self = Self {
        cgroups: true,
        read_only_v1_mounts: false,
        v2_device_filter: false,
        lenient_groups: false,
        first_process: true,
        mask_order: MaskOrder::Swapped,
    };
}

/// Everything that goes into one configuration.
#[derive(Debug)]
pub(crate) struct SpecInput<'a> {
    pub(crate) process: &'a Process,
    pub(crate) user: &'a User,
    pub(crate) rootfs: &'a Path,
    pub(crate) resolv_conf: &'a Path,
    pub(crate) hosts: &'a Path,
    pub(crate) cgroups: &'a Cgroups,
    pub(crate) cgroup_path: &'a Path,
    pub(crate) abilities: Abilities,
    pub(crate) ids: &'a Ids,
}

/// The configuration of a container.
pub(crate) fn generate(input: &SpecInput<'_>) -> Result<Value> {
    let process = input.process;
    let capabilities = capabilities(process);
    let devices = resources::devices(&process.extras.devices)?;
    let mut linux = json!({
        "namespaces": namespaces(input),
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": readonly_paths(input),
        "seccomp": seccomp::profile(&capabilities, device_nodes(input), input.abilities.mask_order),
        "cgroupsPath": group(input),
    });
    if input.cgroups.setup() != Setup::Unavailable {
        // No device but those that every runtime adds (null, zero, tty and the like).
        linux["resources"] = resources::resources(&process.extras, &devices, input.cgroups);
    }
    if !devices.is_empty() {
        linux["devices"] = devices.iter().map(resources::Node::to_json).collect();
    }
    if !process.extras.sysctls.is_empty() {
        let parameters = process.extras.sysctls.iter();
        let parameters = parameters.map(|(name, value)| (name.clone(), json!(value)));
        linux["sysctl"] = Value::Object(parameters.collect());
    }
    if process.extras.no_seccomp
        && let Some(parts) = linux.as_object_mut()
    {
        parts.remove("seccomp");
    }
    let mut spec = spec_of(input, linux, &capabilities);
    if process.extras.no_new_privileges {
        spec["process"]["noNewPrivileges"] = true.into();
    }
    if process.extras.has_init {
        spec["annotations"] = json!({ INIT_ANNOTATION: "true" });
    }
    if let Some(size) = process.terminal {
        // runc sets it; for libcontainer the helper does.
        spec["process"]["consoleSize"] = json!({ "height": size.rows, "width": size.columns });
    }
    Ok(spec)
}

fn capabilities(process: &Process) -> Vec<&str> {
    match &process.extras.capabilities {
        Some(chosen) => chosen.iter().map(String::as_str).collect(),
        None => CAPABILITIES.to_vec(),
    }
}

/// The path of the group. libcontainer takes an empty one for the group that its caller is in, and
/// kills everything in there when it cannot make the container: it gets one that does not exist.
fn group<'a>(input: &SpecInput<'a>) -> &'a Path {
    match input.cgroup_path.as_os_str().is_empty() && !input.abilities.lenient_groups {
        true => Path::new(NO_GROUP),
        false => input.cgroup_path,
    }
}

fn spec_of(input: &SpecInput<'_>, linux: Value, capabilities: &[&str]) -> Value {
    let process = input.process;
    // "noNewPrivileges" is left out, which means false: with an explicit false libcontainer would
    // drop CAP_SYS_ADMIN before it loads the seccomp filter, and could not load it any more.
    json!({
        "ociVersion": "1.0.2",
        "hostname": process.effective_hostname(),
        "root": { "path": input.rootfs, "readonly": process.read_only_root },
        "process": {
            "terminal": process.terminal.is_some(),
            "user": {
                "uid": input.user.uid,
                "gid": input.user.gid,
                "additionalGids": input.ids.groups(&input.user.groups),
                "umask": UMASK,
            },
            "args": process.args,
            "env": environment(&process.env, &input.user.home),
            "cwd": process.cwd,
            "rlimits": limits(process),
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "mounts": mounts(input),
        "linux": linux,
    })
}

/// The environment: entries without `=` dropped, of equal names the last one at the place of the
/// first, `HOME` added as runc does.
fn environment(given: &[String], home: &str) -> Vec<String> {
    let mut variables: Vec<(&str, &str)> = Vec::with_capacity(given.len() + 1);
    for (name, value) in given.iter().filter_map(|entry| entry.split_once('=')) {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some(variable) => variable.1 = value,
            None => variables.push((name, value)),
        }
    }
    match variables.iter_mut().find(|(name, _)| *name == "HOME") {
        Some(variable) if variable.1.is_empty() => variable.1 = home,
        Some(_) => {}
        None => variables.push(("HOME", home)),
    }
    variables
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn limits(process: &Process) -> Vec<Value> {
    let limits = process.limits.iter().map(|limit| {
        let name = format!("RLIMIT_{}", limit.name.to_uppercase());
        json!({ "type": name, "soft": limit.soft, "hard": limit.hard })
    });
    limits.collect()
}

fn namespaces(input: &SpecInput<'_>) -> Vec<Value> {
    let mut names = vec!["pid", "ipc", "uts", "mount"];
    if input.process.network == Network::None {
        names.push("network");
    }
    // On v1 a cgroup namespace cannot be mounted read-only below a hierarchy of another shape.
    if input.cgroups.setup() == Setup::Unified {
        names.push("cgroup");
    }
    names
        .into_iter()
        .map(|name| json!({ "type": name }))
        .collect()
}

fn device_nodes(input: &SpecInput<'_>) -> DeviceNodes {
    match input.cgroups.setup() {
        Setup::Legacy => DeviceNodes::Any,
        Setup::Unified if input.abilities.v2_device_filter => DeviceNodes::Any,
        Setup::Unified | Setup::Unavailable => DeviceNodes::Harmless,
    }
}

fn spells_out_v1_mounts(input: &SpecInput<'_>) -> bool {
    input.cgroups.setup() == Setup::Legacy && !input.abilities.read_only_v1_mounts
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn bind(target: &str, source: &Path, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

/// The group of terminals (`tty`) on every distribution.
const TERMINAL_GROUP: u32 = 5;

const DEVPTS_OPTIONS: [&str; 5] = [
    "nosuid",
    "noexec",
    "newinstance",
    "ptmxmode=0666",
    "mode=0620",
];

fn mounts(input: &SpecInput<'_>) -> Vec<Value> {
    let isolated = ["nosuid", "noexec", "nodev"];
    let bound = ["nosuid", "noexec", "nodev", "rbind", "ro"];
    let dev = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &isolated),
        mount("/dev", "tmpfs", "tmpfs", &dev),
        terminals(input.ids),
        mount("/dev/shm", "tmpfs", "shm", &shm),
        mount("/dev/mqueue", "mqueue", "mqueue", &isolated),
        kernel_objects(input.ids),
        bind("/etc/resolv.conf", input.resolv_conf, &bound),
        bind("/etc/hosts", input.hosts, &bound),
    ];
    mounts.extend(cgroup_mounts(input));
    for extra in &input.process.mounts {
        let mount = match &extra.kind {
            ExtraMountKind::Bind {
                source,
                read_only,
                is_data,
            } => {
                let mut options = vec!["rbind"];
                if *read_only {
                    options.extend(read_only_options());
                }
                options.extend(is_data.then_some(isolated).into_iter().flatten());
                options.extend(propagation(input.process, &extra.target));
                bind(&extra.target, source, &options)
            }
            ExtraMountKind::Tmpfs {
                size_bytes,
                mode,
                has_programs,
                read_only,
            } => {
                let size = size_bytes.map(|bytes| format!("size={bytes}"));
                let mode = format!("mode={mode:o}");
                let mut options = vec!["nosuid", "nodev", &mode];
                options.extend((!has_programs).then_some("noexec"));
                options.extend(size.as_deref());
                options.extend(read_only.then_some("ro"));
                mount(&extra.target, "tmpfs", "tmpfs", &options)
            }
        };
        // A mount at the target of a standard one replaces it, in its place.
        match mounts
            .iter_mut()
            .find(|known| known["destination"] == mount["destination"])
        {
            Some(known) => *known = mount,
            None => mounts.push(mount),
        }
    }
    mounts
}

fn propagation(process: &Process, target: &str) -> Option<&'static str> {
    let mut said = process.extras.propagations.iter();
    let (_, propagation) = said.find(|(known, _)| known == target)?;
    Some(match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
    })
}

/// What makes a mount read-only together with those below it, where the kernel can do that.
///
/// A runc that is too old for the second option ignores it.
fn read_only_options() -> &'static [&'static str] {
    let system = rustix::system::uname();
    match has_recursive_attributes(&system.release().to_string_lossy()) {
        true => &["ro", "rro"],
        false => &["ro"],
    }
}

/// Whether mount_setattr(2) is there: since Linux 5.12.
fn has_recursive_attributes(release: &str) -> bool {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    (next().unwrap_or_default(), next().unwrap_or_default()) >= (5, 12)
}

fn terminals(ids: &Ids) -> Value {
    let mut options = DEVPTS_OPTIONS.to_vec();
    if ids.has_group(TERMINAL_GROUP) {
        options.push("gid=5");
    }
    mount("/dev/pts", "devpts", "devpts", &options)
}

/// In a user namespace sysfs can only be mounted together with a network of its own: there the
/// host's is shown instead.
fn kernel_objects(ids: &Ids) -> Value {
    match ids.are_all() {
        true => {
            let options = ["nosuid", "noexec", "nodev", "ro"];
            mount("/sys", "sysfs", "sysfs", &options)
        }
        false => {
            let options = ["nosuid", "noexec", "nodev", "rbind", "ro"];
            bind("/sys", Path::new("/sys"), &options)
        }
    }
}

fn readonly_paths(input: &SpecInput<'_>) -> Vec<&'static str> {
    let mut paths = READONLY_PATHS.to_vec();
    if spells_out_v1_mounts(input) {
        // What holds the hierarchies; made read-only at last, it needs their mount points first.
        paths.push(MOUNT_ROOT);
    }
    paths
}

fn cgroup_mounts(input: &SpecInput<'_>) -> Vec<Value> {
    let target = MOUNT_ROOT;
    if input.cgroups.setup() == Setup::Unavailable {
        return Vec::new();
    }
    if !spells_out_v1_mounts(input) {
        return vec![mount(
            target,
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        )];
    }
    let holder = ["nosuid", "noexec", "nodev", "mode=755"];
    let mut mounts = vec![mount(target, "tmpfs", "tmpfs", &holder)];
    for (hierarchy, directory) in input.cgroups.directories(input.cgroup_path) {
        let name = hierarchy.file_name().map(PathBuf::from).unwrap_or_default();
        let place = format!("{target}/{}", name.display());
        let options = ["nosuid", "noexec", "nodev", "rbind", "ro"];
        mounts.push(bind(&place, &directory, &options));
    }
    mounts
}

#[cfg(test)]
mod tests;
