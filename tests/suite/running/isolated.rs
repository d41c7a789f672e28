//! What `varve run` is told of rights, limits, devices and name servers, as `docker run` is.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::eventually;
use support::workspace::{Outcome, Running, Varve};

use super::{SOON, varve};

const RUNTIMES: [&str; 2] = ["embedded", "runc"];

fn run_with(varve: &Varve, runtime: &str, options: &[&str], script: &str) -> Outcome {
    let words = ["run", "--runtime", runtime].into_iter();
    let words = words.chain(options.iter().copied());
    varve.varve(words.chain(["app", "sh", "-c", script]))
}

#[test]
fn memory_processors_and_processes_are_limited() {
    let varve = varve();
    // Version 2 of control groups, or 1.
    let script = "cd /sys/fs/cgroup; \
        cat memory.max memory/memory.limit_in_bytes 2>/dev/null; \
        cat pids.max pids/pids.max 2>/dev/null; \
        cat cpu.max cpu/cpu.cfs_quota_us 2>/dev/null; \
        cat cpuset.cpus cpuset/cpuset.cpus 2>/dev/null; :";
    let options = [
        "-m",
        "64m",
        "--memory-swap=-1",
        "--pids-limit",
        "20",
        "--cpus",
        "0.5",
        "--cpuset-cpus",
        "0",
    ];
    for runtime in RUNTIMES {
        let ran = run_with(&varve, runtime, &options, script).success();
        let lines: Vec<_> = ran.stdout.lines().collect();
        assert_eq!(lines[0], "67108864", "{ran}");
        assert_eq!(lines[1], "20", "{ran}");
        assert!(lines[2].starts_with("50000"), "{ran}");
        assert_eq!(lines[3], "0", "{ran}");
        let killed = run_with(&varve, runtime, &["-m", "20m"], "exec tail /dev/zero");
        assert_eq!(killed.code, 137, "{killed}");
        let many = "for i in $(seq 40); do sleep 3 & done; wait";
        let refused = run_with(&varve, runtime, &["--pids-limit=10"], many);
        assert!(refused.stderr.contains("fork"), "{refused}");
    }
}

#[test]
fn limits_that_make_no_sense_are_refused_before_anything_is_made() {
    let varve = varve();
    for (options, told) in [
        (&["-m", "1m"][..], "minimum memory limit allowed is 6MB"),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            "must not be less than --memory",
        ),
        (&["--memory-swap", "64m"], "--memory"),
        (&["--cpus", "4096"], "CPUs available"),
        (&["--cpus", "none"], "is no number of processors"),
        (&["--cap-add", "fly"], "unknown capability: \"CAP_FLY\""),
        (
            &["--sysctl", "vm.swappiness=1"],
            "is a parameter of the whole machine",
        ),
        (&["--sysctl", "net.ipv4.ip_forward=1"], "add --network none"),
        (
            &["--device", "/nonsense"],
            "cannot add the device /nonsense",
        ),
        (&["--device", "/etc/passwd"], "-v mounts files"),
        (&["--group-add", "nobody-has-it"], "nobody-has-it"),
        (&["--dns", "example.com"], "--dns"),
        (&["-l", "a=b"], "varve build --label"),
        (&["--stop-signal", "INT"], "varve stop"),
        (&["--cidfile", "x"], "--cidfile"),
        (
            &["--ipc=host"],
            "--ipc: namespaces of a container are always its own",
        ),
        (&["--gpus", "all"], "it is not supported"),
        (
            &["-v", "/tmp:/x:rshared"],
            "rslave lets mounts of this machine in",
        ),
    ] {
        let words = ["run"].iter().chain(options).chain(&["app", "true"]);
        varve.varve(words).refused_with(125, &[told]);
    }
}

#[test]
fn capabilities_are_added_and_dropped() {
    let varve = varve();
    let script = "grep CapEff /proc/self/status | cut -f2; grep CapBnd /proc/self/status | cut -f2";
    let usual = 0xa804_25fb_u64;
    let cases: [(&[&str], u64); 4] = [
        (&[], usual),
        (&["--cap-drop", "ALL"], 0),
        (&["--cap-drop=ALL", "--cap-add=NET_ADMIN"], 1 << 12),
        (
            &["--cap-add", "sys_time", "--cap-drop", "CAP_MKNOD"],
            (usual | 1 << 25) & !(1 << 27),
        ),
    ];
    for runtime in RUNTIMES {
        for (options, mask) in cases {
            let ran = run_with(&varve, runtime, options, script).success();
            let line = format!("{mask:016x}\n");
            assert_eq!(ran.stdout, line.repeat(2), "{options:?}");
        }
    }
    // With the capability comes the system call.
    let script = "mkdir /m && mount -t tmpfs tmpfs /m && echo mounted";
    run_with(&varve, "embedded", &[], script).code(1);
    let ran = run_with(&varve, "embedded", &["--cap-add", "SYS_ADMIN"], script).success();
    assert_eq!(ran.stdout, "mounted\n");
}

#[test]
fn new_privileges_are_refused_and_system_calls_allowed_if_that_is_said() {
    let varve = varve();
    let script = "grep -e NoNewPrivs -e Seccomp: /proc/self/status | cut -f2 | tr '\\n' ' '";
    for runtime in RUNTIMES {
        for (options, expected) in [
            (&[][..], "0 2 "),
            (&["--security-opt", "no-new-privileges"], "1 2 "),
            (&["--security-opt", "seccomp=unconfined"], "0 0 "),
        ] {
            let ran = run_with(&varve, runtime, options, script).success();
            assert_eq!(ran.stdout, expected, "{runtime} {options:?}");
        }
    }
    let refused = run_with(
        &varve,
        "embedded",
        &["--security-opt", "seccomp=x.json"],
        "true",
    );
    refused.refused_with(125, &["no-new-privileges and seccomp=unconfined"]);
}

#[test]
fn groups_kernel_parameters_and_name_servers_are_those_that_are_named() {
    let varve = varve();
    let options = [
        "--group-add",
        "4242",
        "--group-add",
        "tty",
        "--sysctl",
        "kernel.msgmax=4242",
        "--dns",
        "192.0.2.1",
        "--dns",
        "2001:db8::1",
        "--dns-search",
        "a.test",
        "--dns-option",
        "ndots:3",
    ];
    let varve = {
        varve.dockerfile("FROM app\nRUN echo tty:x:5: >> /etc/group\n");
        varve.build(["-t", "app"]).succeeded();
        varve
    };
    let script = "id -G; cat /proc/sys/kernel/msgmax /etc/resolv.conf";
    let expected = "0 5 4242\n4242\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n\
                    search a.test\noptions ndots:3\n";
    for runtime in RUNTIMES {
        let ran = run_with(&varve, runtime, &options, script).success();
        assert_eq!(ran.stdout, expected, "{runtime}");
    }
    let options = ["--network", "none", "--sysctl", "net.ipv4.ip_forward=1"];
    let ran = run_with(
        &varve,
        "embedded",
        &options,
        "cat /proc/sys/net/ipv4/ip_forward",
    );
    assert_eq!(ran.success().stdout, "1\n");
}

#[test]
fn a_device_is_there_with_the_rights_that_were_given() {
    let varve = varve();
    // Opening it does nothing.
    let script = "(: < /dev/mine) 2>&1 && echo read; (: >> /dev/mine) 2>&1 && echo written; :";
    for runtime in RUNTIMES {
        let device = "/dev/loop-control:/dev/mine";
        let ran = run_with(&varve, runtime, &["--device", device], script).success();
        assert_eq!(ran.stdout, "read\nwritten\n", "{runtime}: {ran}");
    }
    let without = run_with(&varve, "embedded", &[], "ls /dev/loop-control");
    assert_ne!(without.code, 0, "{without}");
}

#[test]
fn an_init_process_buries_orphans_and_ends_as_the_program_does() {
    let varve = varve();
    let script = "echo $$; (sleep 0.2 & :); sleep 1; \
                  for s in /proc/[0-9]*/stat; do cut -d' ' -f3 $s; done | grep -c Z; exit 7";
    let ran = run_with(&varve, "embedded", &["--init"], script).code(7);
    assert_eq!(ran.stdout, "2\n0\n", "{ran}");
    // It keeps nothing of the host open.
    let script = "ls -l /proc/1/fd | grep -v -e '/dev/' -e pipe: -e total -e signalfd; :";
    let ran = run_with(
        &varve,
        "embedded",
        &["--init", "--cap-add=SYS_PTRACE"],
        script,
    );
    assert_eq!(ran.success().stdout, "");
    run_with(&varve, "embedded", &["--init"], "kill -9 $$").code(137);
    let words = ["run", "--init", "app", "nonsense"];
    varve
        .varve(words)
        .refused_with(127, &["executable file not found"]);
    run_with(&varve, "runc", &["--init"], "true").refused_with(125, &["--runtime embedded"]);
}

#[test]
fn signals_go_through_the_init_process_to_the_program() {
    let varve = varve();
    let said = format!("{}:/said", varve.path("said").display());
    for (script, signal, code) in [
        (
            "trap 'exit 5' USR1; : > /said/ready; while :; do sleep 0.05; done",
            Signal::USR1,
            5,
        ),
        (": > /said/ready; exec sleep 1000", Signal::TERM, 143),
    ] {
        let words = ["run", "--init", "-v", &said, "app", "sh", "-c", script];
        let running = Running::start(&mut varve.command(words));
        let ready = varve.path("said/ready");
        assert!(eventually(SOON, || ready.exists()), "it runs");
        kill_process(Pid::from_raw(running.id().cast_signed()).unwrap(), signal).unwrap();
        running.wait().code(code);
        std::fs::remove_file(&ready).unwrap();
    }
}

/// A file system in memory, shared with other mount namespaces.
struct Shared(PathBuf);

impl Shared {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        mount(&["-t", "tmpfs", "tmpfs"], &path);
        mount(&["--make-rshared"], &path);
        Shared(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        Command::new("umount").arg("-R").arg(&self.0).status().ok();
    }
}

fn mount(options: &[&str], path: &std::path::Path) {
    let mounted = Command::new("mount").args(options).arg(path).status();
    assert!(mounted.unwrap().success(), "{options:?} {path:?}");
}

#[test]
fn what_is_mounted_later_comes_into_slave_mounts_only() {
    let varve = varve();
    let script = ": > /v/ready; while ! [ -e /v/go ]; do sleep 0.05; done; ls /v/later";
    for (number, (runtime, option, seen)) in [
        ("embedded", "rslave", "inside\n"),
        ("embedded", "rprivate", ""),
        ("embedded", "rw", ""),
        ("runc", "rslave", "inside\n"),
        ("runc", "private", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let shared = Shared::new(varve.path(format!("shared{number}")));
        let place = shared.0.join("later");
        std::fs::create_dir(&place).unwrap();
        let volume = format!("{}:/v:{option}", shared.0.display());
        let words = [
            "run",
            "--runtime",
            runtime,
            "-v",
            &volume,
            "app",
            "sh",
            "-c",
            script,
        ];
        let running = Running::start(&mut varve.command(words));
        assert!(
            eventually(SOON, || shared.0.join("ready").exists()),
            "it runs"
        );
        mount(&["-t", "tmpfs", "tmpfs"], &place);
        std::fs::write(place.join("inside"), "").unwrap();
        std::fs::write(shared.0.join("go"), "").unwrap();
        assert_eq!(running.wait().success().stdout, seen, "{runtime} {option}");
    }
    let private = varve.path("shared0");
    mount(&["-t", "tmpfs", "tmpfs"], &private);
    mount(&["--make-private"], &private);
    let private = Shared(private);
    let volume = format!("{}:/v:slave", private.0.display());
    let refused = varve.varve(["run", "-v", &volume, "app", "true"]);
    refused.refused_with(125, &["is not on a shared or slave mount"]);
}
