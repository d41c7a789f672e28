//! The configuration, read back by the OCI types that the embedded runtime uses.

use super::*;
use crate::ids::Ids;
use crate::process::{ExtraMount, HOSTNAME_DEFAULT};
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccompAction, Spec};

fn user() -> User {
    User {
        uid: 5,
        gid: 6,
        groups: vec![6, 7],
        home: "/home/ada".to_owned(),
    }
}

fn generate_with(process: &Process, cgroups: &Cgroups, abilities: Abilities) -> Spec {
    let value = generate(&SpecInput {
        process,
        user: &user(),
        rootfs: Path::new("/root-of-step"),
        resolv_conf: Path::new("/b/resolv.conf"),
        hosts: Path::new("/b/hosts"),
        cgroups,
        cgroup_path: Path::new("/varve/x"),
        abilities,
        ids: &Ids::all(),
    });
    serde_json::from_value(value.unwrap()).unwrap()
}

const V1: &str = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
    31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
const V2: &str = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";

fn spec(process: &Process) -> Spec {
    generate_with(process, &Cgroups::from_texts(V1, ""), Abilities::RUNC)
}

fn mount_of(spec: &Spec, target: &str) -> Option<(String, Vec<String>)> {
    let mount = spec.mounts().as_ref().unwrap().iter();
    let mount = mount
        .into_iter()
        .find(|m| m.destination() == Path::new(target))?;
    let source = mount
        .source()
        .clone()
        .unwrap_or_default()
        .display()
        .to_string();
    Some((source, mount.options().clone().unwrap_or_default()))
}

fn allowed(spec: &Spec, name: &str) -> usize {
    let seccomp = spec
        .linux()
        .as_ref()
        .unwrap()
        .seccomp()
        .as_ref()
        .unwrap()
        .clone();
    let rules = seccomp.syscalls().clone().unwrap_or_default().into_iter();
    rules
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
        .filter(|rule| rule.names().iter().any(|known| known == name))
        .count()
}

#[test]
fn the_process_is_taken_over_with_home_and_without_doubles() {
    let env = ["A=1", "PATH=/bin", "junk", "A=2", "HOME="]
        .map(ToOwned::to_owned)
        .to_vec();
    let args = vec!["sh".to_owned(), "-c".to_owned(), "x".to_owned()];
    let spec = spec(&Process {
        args: args.clone(),
        env,
        cwd: "/w".into(),
        ..Process::default()
    });
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_ref(), Some(&args));
    let env = process.env().as_ref().unwrap();
    assert_eq!(
        env,
        &["A=2", "PATH=/bin", "HOME=/home/ada"].map(ToOwned::to_owned)
    );
    assert_eq!(process.cwd(), Path::new("/w"));
    assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
    assert_eq!(process.user().additional_gids().as_ref(), Some(&vec![6, 7]));
    assert_eq!(process.no_new_privileges(), None);
    assert!(process.rlimits().iter().flatten().next().is_none());
    assert_eq!(spec.hostname().as_deref(), Some(HOSTNAME_DEFAULT));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(false));
}

#[test]
fn only_a_step_without_network_gets_a_network_namespace() {
    for (network, expect) in [(Network::Host, false), (Network::None, true)] {
        let spec = spec(&Process {
            network,
            ..Process::default()
        });
        let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
        assert_eq!(has(LinuxNamespaceType::Network), expect);
        assert!(has(LinuxNamespaceType::Pid) && has(LinuxNamespaceType::Mount));
        assert!(
            !has(LinuxNamespaceType::Cgroup),
            "no cgroup namespace on v1"
        );
    }
}

#[test]
fn the_standard_mounts_are_buildkits() {
    let spec = spec(&Process::default());
    let targets: Vec<_> = spec.mounts().as_ref().unwrap().iter().collect();
    let targets: Vec<_> = targets
        .iter()
        .map(|m| m.destination().display().to_string())
        .collect();
    let expect = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/sys/fs/cgroup",
    ];
    assert_eq!(targets, expect);
    let (source, options) = mount_of(&spec, "/etc/hosts").unwrap();
    assert_eq!(source, "/b/hosts");
    assert_eq!(options, ["nosuid", "noexec", "nodev", "rbind", "ro"]);
}

#[test]
fn extra_mounts_follow_and_may_replace_a_standard_one() {
    let bind = |target: &str, read_only| ExtraMount {
        target: target.to_owned(),
        kind: ExtraMountKind::Bind {
            source: "/src".into(),
            read_only,
            is_data: false,
        },
    };
    let tmpfs = ExtraMount {
        target: "/tmp/x".to_owned(),
        kind: ExtraMountKind::Tmpfs {
            mode: crate::TMPFS_MODE_DEFAULT,
            has_programs: true,
            size_bytes: Some(4096),
            read_only: false,
        },
    };
    let mounts = vec![
        bind("/a", true),
        bind("/b", false),
        tmpfs,
        bind("/etc/hosts", false),
    ];
    let spec = spec(&Process {
        mounts,
        ..Process::default()
    });
    let options = mount_of(&spec, "/a").unwrap().1;
    assert_eq!(options[..2], ["rbind", "ro"]);
    assert_eq!(options[2..], read_only_options()[1..]);
    assert_eq!(mount_of(&spec, "/b").unwrap().1, ["rbind"]);
    assert!(
        mount_of(&spec, "/tmp/x")
            .unwrap()
            .1
            .contains(&"size=4096".to_owned())
    );
    assert_eq!(mount_of(&spec, "/etc/hosts").unwrap().0, "/src");
    assert_eq!(spec.mounts().as_ref().unwrap().len(), 9 + 3);
}

#[test]
fn whether_mounts_below_can_be_read_only_depends_on_the_kernel() {
    for (release, expect) in [
        ("6.18.44-fc", true),
        ("5.12", true),
        ("5.11.0-49-generic", false),
        ("4.18.0-553.el8", false),
        ("10.0-rc1", true),
        ("?", false),
    ] {
        assert_eq!(has_recursive_attributes(release), expect, "{release}");
    }
}

#[test]
fn a_runtime_that_would_mount_v1_cgroups_writable_gets_them_one_by_one() {
    let process = Process::default();
    let v1 = Cgroups::from_texts(V1, "");
    let spec = generate_with(&process, &v1, Abilities::LIBCONTAINER);
    let (source, options) = mount_of(&spec, "/sys/fs/cgroup/cpu").unwrap();
    assert_eq!(source, "/sys/fs/cgroup/cpu/varve/x");
    assert!(options.contains(&"ro".to_owned()));
    let v2 = Cgroups::from_texts(V2, "");
    let spec = generate_with(&process, &v2, Abilities::LIBCONTAINER);
    assert_eq!(mount_of(&spec, "/sys/fs/cgroup/cpu"), None);
    assert!(
        mount_of(&spec, "/sys/fs/cgroup")
            .unwrap()
            .1
            .contains(&"ro".to_owned())
    );
}

#[test]
fn without_a_device_cgroup_device_nodes_are_restricted() {
    let process = Process::default();
    for (mountinfo, abilities, rules) in [
        (V1, Abilities::LIBCONTAINER, 1),
        (V2, Abilities::RUNC, 1),
        (V2, Abilities::LIBCONTAINER, 13),
        ("", Abilities::LIBCONTAINER, 13),
    ] {
        let spec = generate_with(&process, &Cgroups::from_texts(mountinfo, ""), abilities);
        assert_eq!(
            allowed(&spec, "mknod"),
            rules,
            "{mountinfo:?} {abilities:?}"
        );
        assert_eq!(allowed(&spec, "mknodat"), rules);
    }
}

#[test]
fn the_profile_allows_what_the_capabilities_cover_and_no_more() {
    let spec = spec(&Process::default());
    for name in [
        "execve",
        "openat2",
        "chroot",
        "clone",
        "statx",
        "socketpair",
    ] {
        assert_eq!(allowed(&spec, name), 1, "{name}");
    }
    for name in [
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "bpf",
        "reboot",
        "clone3",
        "io_uring_setup",
    ] {
        assert_eq!(allowed(&spec, name), 0, "{name}");
    }
    assert_eq!(
        (allowed(&spec, "socket"), allowed(&spec, "personality")),
        (3, 5)
    );
}

#[test]
fn the_mask_and_the_list_of_capabilities_are_the_same_set() {
    let number = |name: &str| match name {
        "CAP_CHOWN" => 0,
        "CAP_DAC_OVERRIDE" => 1,
        "CAP_FOWNER" => 3,
        "CAP_FSETID" => 4,
        "CAP_KILL" => 5,
        "CAP_SETGID" => 6,
        "CAP_SETUID" => 7,
        "CAP_SETPCAP" => 8,
        "CAP_NET_BIND_SERVICE" => 10,
        "CAP_NET_RAW" => 13,
        "CAP_SYS_CHROOT" => 18,
        "CAP_MKNOD" => 27,
        "CAP_AUDIT_WRITE" => 29,
        "CAP_SETFCAP" => 31,
        _ => panic!("{name}: which number?"),
    };
    let mask = CAPABILITIES
        .iter()
        .fold(0_u64, |mask, name| mask | 1 << number(name));
    assert_eq!(mask, CAPABILITIES_MASK);
}
