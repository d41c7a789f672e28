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

/// Capabilities in the order of their numbers (capability.h): those of a privileged container.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID \
    SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER \
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE \
    SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP";

/// runc's own configuration, made one of a privileged container that runs `script`.
fn privileged_container(varve: &Varve, script: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = u64::from_str_radix(bounding.unwrap().trim(), 16).unwrap();
    let names = CAPABILITIES.split_whitespace().enumerate();
    let ours = names.filter(|(bit, _)| bounding >> bit & 1 == 1);
    let ours: Vec<String> = ours.map(|(_, name)| format!("CAP_{name}")).collect();
    varve
        .tool("runc", ["spec", "--bundle", "bundle"])
        .succeeded();
    let text = varve.read("bundle/config.json");
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let process = &mut config["process"];
    process["terminal"] = false.into();
    process["noNewPrivileges"] = false.into();
    process["args"] = vec!["/bin/sh", "-ec", script].into();
    for (_, set) in process["capabilities"].as_object_mut().unwrap() {
        *set = ours.clone().into();
    }
    config["root"]["readonly"] = false.into();
    let linux = &mut config["linux"];
    linux["maskedPaths"] = serde_json::json!([]);
    linux["readonlyPaths"] = serde_json::json!([]);
    linux["resources"] = serde_json::json!({"devices": [{"allow": true, "access": "rwm"}]});
    let bind = |source: &str, target: &str| {
        let options = ["rbind", "rw"];
        serde_json::json!({
            "type": "bind", "source": source, "destination": target, "options": options
        })
    };
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    for (directory, target) in [("state", "/var/lib/varve"), ("source", "/src")] {
        mounts.push(bind(varve.path(directory).to_str().unwrap(), target));
    }
    mounts.push(bind("/sys/fs/cgroup", "/sys/fs/cgroup"));
    varve.write("bundle/config.json", config.to_string());
}

#[test]
fn varve_builds_and_runs_in_a_privileged_container_of_its_image() {
    let varve = built();
    for directory in ["bundle/rootfs", "state"] {
        std::fs::create_dir_all(varve.path(directory)).unwrap();
    }
    varve.varve(["cp", "varve:/.", "bundle/rootfs"]).succeeded();
    varve.write("source/busybox", std::fs::read("/bin/busybox").unwrap());
    varve.write(
        "source/Dockerfile",
        "FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo inside > /built\"]\n",
    );
    let script = "varve build -q -t app /src && varve run app /bin/busybox cat /built";
    privileged_container(&varve, script);
    let id = format!("varve-test-{}", std::process::id());
    let ran = varve.tool("runc", ["run", "--bundle", "bundle", &id]);
    assert!(
        ran.clone().success().stdout.ends_with("\ninside\n"),
        "{ran}"
    );
}
