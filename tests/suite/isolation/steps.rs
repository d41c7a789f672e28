//! What a RUN step can see and do: its own root file system, and nothing of the host.

use support::workspace::Varve;

use super::{Outside, SECRET};

/// Each command must fail in a step, as root.
const FORBIDDEN: &[(&str, &str)] = &[
    ("mount a file system", "mount -t tmpfs none /tmp"),
    ("bind-mount", "mount -o bind /bin /tmp"),
    ("remount the root", "mount -o remount,ro /"),
    ("unmount /proc/sys", "umount /proc/sys"),
    ("make a mount namespace", "unshare -m true"),
    ("make a user namespace", "unshare -U true"),
    (
        "set a kernel parameter",
        "echo x > /proc/sys/kernel/domainname",
    ),
    ("set the host name", "hostname evil"),
    ("read the kernel log", "dmesg"),
    ("write to /sys", "echo 1 > /sys/kernel/profiling"),
    ("make a cgroup", "mkdir /sys/fs/cgroup/memory/evil"),
    ("write beside the cgroups", "touch /sys/fs/cgroup/evil"),
    (
        "open a block device",
        "mknod /disk b 254 0 && head -c 1 /disk",
    ),
    (
        "open the kernel's memory",
        "mknod /mem c 1 1 && head -c 1 /mem",
    ),
    ("load a module", "insmod /bin/busybox"),
    ("change the hosts file", "echo evil >> /etc/hosts"),
    ("change the name servers", "echo evil >> /etc/resolv.conf"),
    ("raise its own limits", "ulimit -Hn 99999999"),
];

#[test]
fn a_step_cannot_do_what_would_reach_the_host() {
    let varve = Varve::new();
    let mut script = String::new();
    for (number, (_, command)) in FORBIDDEN.iter().enumerate() {
        script.push_str(&format!(
            "({command}) > /dev/null 2>&1 && echo did {number}\n"
        ));
    }
    varve.write("context/script", script);
    varve.dockerfile("FROM busybox\nCOPY script /\nRUN sh /script; echo the end\n");
    let built = varve.build(["-t", "app"]).success();
    let transcript = built.transcript();
    let output = &transcript.step("RUN sh /script").output;
    let did: Vec<_> = FORBIDDEN
        .iter()
        .enumerate()
        .filter(|(number, _)| output.contains(&format!("did {number}")))
        .map(|(_, (what, _))| what)
        .collect();
    assert!(did.is_empty(), "a step can: {did:?}\n{built}");
    assert_eq!(
        output.last().map(String::as_str),
        Some("the end"),
        "{built}"
    );
}

#[test]
fn a_step_sees_no_file_process_or_name_of_the_host() {
    let varve = Varve::new();
    let outside = Outside::of(&varve);
    let name = outside.name();
    varve.dockerfile(&format!(
        "FROM busybox\n\
         RUN cat {name}/secret; cat /proc/1/root{name}/secret; cat /proc/self/cwd{name}/secret; \
             for fd in /proc/self/fd/* /proc/1/fd/*; do cat $fd/../../..{name}/secret; done; \
             echo evil > {name}/evil; true\n\
         RUN ps -o comm | sort -u; echo pid $$; hostname; ls /proc/1/fd\n\
         RUN grep -E 'CapEff|CapBnd|CapAmb|Seccomp:' /proc/self/status\n\
         RUN ls -A /dev; env\n"
    ));
    let mut build = varve.build_command(["-t", "app"]);
    build
        .env("HOST_TOKEN", SECRET)
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    let built = support::workspace::run(&mut build).success();
    assert!(!built.stderr.contains(SECRET), "{built}");
    outside.is_untouched();
    let transcript = built.transcript();
    let processes = &transcript.step("RUN ps").output;
    assert!(processes.iter().any(|line| line == "pid 1"), "{built}");
    assert!(
        !processes.iter().any(|line| line.contains("varve")),
        "{built}"
    );
    let status = transcript.step("RUN grep").output.join("\n");
    // BuildKit's default set: no CAP_SYS_ADMIN (bit 21), no CAP_SYS_PTRACE (19), and so on.
    for field in [
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(field), "{field} not in {status}");
    }
    let devices = transcript.step("RUN ls -A /dev").output.join(" ");
    for device in ["vda", "sda", "kvm", "mem", "loop", "fuse"] {
        assert!(!devices.contains(device), "{device} in {devices}");
    }
}

#[test]
fn without_a_network_a_step_has_loopback_only() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN --network=none ls /sys/class/net\n");
    let built = varve.build(["-t", "app"]).success();
    assert_eq!(
        built.transcript().step("RUN --network").output,
        ["lo"],
        "{built}"
    );
}

#[test]
fn what_a_step_leaves_running_does_not_outlive_it() {
    let varve = Varve::new();
    let sleep = format!("sleep 2{:08}", std::process::id());
    varve.dockerfile(&format!(
        "FROM busybox\nRUN (setsid {sleep} &) ; (trap '' TERM INT HUP; {sleep}) & true\n"
    ));
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(support::leftovers::processes(&sleep), Vec::<String>::new());
}

#[test]
fn two_steps_that_run_at_once_do_not_see_each_other() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS one\nRUN echo one > /tmp/one; sleep 1; ls /tmp; ps -o args\n\
         FROM busybox AS two\nRUN echo two > /tmp/two; sleep 1; ls /tmp; ps -o args\n\
         FROM scratch\nCOPY --from=one /tmp /\nCOPY --from=two /tmp /\n",
    );
    let built = varve.build(["-o", "out"]).success();
    let transcript = built.transcript();
    let one = transcript.step("RUN echo one").output.join("\n");
    assert!(one.starts_with("one\n") && !one.contains("two"), "{built}");
}
