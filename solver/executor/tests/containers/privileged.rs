//! What a step sees: identity, rights, files, network, output. Each test runs with each runtime.

use executor::{
    CAPABILITIES_MASK, Error, Exit, ExtraMount, ExtraMountKind, HostEntry, Network, OutputLine,
    Process, StartFailure, Stream,
};

use crate::fixture::{shell, with_each_runtime};

/// SIGPIPE (13) in the masks of /proc/self/status.
const SIGPIPE_BIT: u64 = 1 << 12;

#[tokio::test]
async fn the_exit_code_is_the_processes_own() {
    with_each_runtime(|fixture| async move {
        for code in [0, 1, 42, 127, 255] {
            let ran = fixture.sh(&format!("exit {code}")).await;
            assert_eq!(ran.result.unwrap(), Exit::Code(code));
        }
        // The first process of a pid namespace ignores signals from inside, so its child dies.
        let ran = fixture.sh("sh -c 'kill -KILL $$'; exit $?").await;
        assert_eq!(ran.result.unwrap(), Exit::Code(137));
    })
    .await;
}

#[tokio::test]
async fn a_missing_or_unusable_program_is_told_from_a_failing_one() {
    with_each_runtime(|fixture| async move {
        std::fs::write(fixture.root().join("tmp/plain"), "text").unwrap();
        let script = fixture.root().join("tmp/garbage");
        std::fs::write(&script, "\0\0not a program").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        for (program, expect, code) in [
            (
                "foo",
                "exec: \"foo\": executable file not found in $PATH",
                127,
            ),
            (
                "/foo",
                "exec: \"/foo\": stat /foo: no such file or directory",
                127,
            ),
            ("/tmp/plain", "exec: \"/tmp/plain\": permission denied", 126),
        ] {
            let process = Process {
                args: vec![program.to_owned()],
                ..shell("")
            };
            let error = fixture.run(process).await.result.unwrap_err();
            let text = error.to_string();
            assert_eq!(text, format!("unable to start container process: {expect}"));
            assert_eq!(error.exit_code(), Some(code));
        }
        let process = Process {
            args: vec!["/tmp/garbage".to_owned()],
            ..shell("")
        };
        let ran = fixture.run(process).await;
        match fixture.choice {
            executor::RuntimeChoice::Embedded => {
                let Err(Error::Start { reason, message }) = ran.result else {
                    panic!("{ran:?}");
                };
                assert_eq!(reason, StartFailure::Exec);
                assert_eq!(message, "exec /tmp/garbage: exec format error");
            }
            // runc has let go of its container by then; its first process says it and exits.
            _ => assert!(!ran.result.is_ok_and(Exit::success)),
        }
    })
    .await;
}

#[tokio::test]
async fn output_comes_line_by_line_in_order_with_its_stream() {
    with_each_runtime(|fixture| async move {
        let ran = fixture
            .sh("for i in $(seq 1 2000); do echo $i; done; echo end")
            .await;
        let expect: Vec<_> = (1..=2000)
            .map(|i| i.to_string())
            .chain(["end".into()])
            .collect();
        assert_eq!(ran.stdout(), expect);

        let ran = fixture.sh("echo out; echo err >&2; printf last").await;
        assert_eq!(ran.text(Stream::Stderr), ["err"]);
        assert_eq!(ran.stdout(), ["out", "last"]);
        let last = OutputLine {
            stream: Stream::Stdout,
            text: b"last".to_vec(),
            ends: false,
        };
        assert!(ran.lines.contains(&last));
    })
    .await;
}

#[tokio::test]
async fn a_flood_on_both_streams_does_not_block() {
    with_each_runtime(|fixture| async move {
        let ran = fixture.sh("yes out | head -c 3000000 & yes err | head -c 3000000 >&2; wait");
        let ran = ran.await;
        let bytes = |stream| {
            ran.text(stream)
                .iter()
                .map(|line| line.len() + 1)
                .sum::<usize>()
        };
        assert_eq!(
            (bytes(Stream::Stdout), bytes(Stream::Stderr)),
            (3_000_000, 3_000_000)
        );
        assert_eq!(ran.result.unwrap(), Exit::Code(0));
        // Nothing but the flood: `yes` died of SIGPIPE, which Rust programs ignore, silently.
        let lines = fixture
            .sh("grep SigIgn /proc/self/status; umask")
            .await
            .stdout();
        assert_eq!(lines.get(1).unwrap(), "0022");
        let ignored = lines
            .first()
            .and_then(|line| line.split('\t').nth(1))
            .unwrap();
        assert_eq!(
            u64::from_str_radix(ignored, 16).unwrap() & SIGPIPE_BIT,
            0,
            "{ignored}"
        );
    })
    .await;
}

#[tokio::test]
async fn environment_directory_and_host_name_are_as_asked() {
    with_each_runtime(|fixture| async move {
        let env = ["PATH=/bin", "A=one two", "B=", "HOME=/somewhere"].map(ToOwned::to_owned);
        let process = Process {
            args: vec!["env".to_owned()],
            env: env.to_vec(),
            hostname: Some("box".to_owned()),
            ..Process::default()
        };
        let mut variables = fixture.run(process).await.stdout();
        variables.sort();
        let mut expect = env.to_vec();
        expect.sort();
        assert_eq!(variables, expect, "nothing of the host's environment");

        let process = Process {
            cwd: "/srv/new/deep".to_owned(),
            user: "ada".to_owned(),
            hostname: Some("box".to_owned()),
            ..shell("pwd; stat -c '%U %a' . ..; hostname; echo $HOME")
        };
        let lines = fixture.run(process).await.stdout();
        assert_eq!(
            lines,
            ["/srv/new/deep", "ada 755", "ada 755", "box", "/home/ada"]
        );
        let hostname = fixture.sh("hostname").await.stdout();
        assert_eq!(hostname, ["buildkitsandbox"]);
    })
    .await;
}

#[tokio::test]
async fn users_and_groups_are_looked_up_in_the_image() {
    with_each_runtime(|fixture| async move {
        for (user, expect) in [
            ("", "0 0 0"),
            ("ada", "1000 1001 10 999 1001"),
            ("ada:docker", "1000 999 999"),
            ("77:88", "77 88 88"),
        ] {
            let script = "echo $(id -u) $(id -g) $(id -G | tr ' ' '\n' | sort -n)";
            let script = script.replace("tr ", "/bin/busybox tr ");
            let ran = fixture
                .run(Process {
                    user: user.to_owned(),
                    ..shell(&script)
                })
                .await;
            let expect = if user == "77:88" { "77 88 88" } else { expect };
            assert_eq!(ran.stdout(), [expect], "{user:?}");
        }
        let ran = fixture
            .run(Process {
                user: "foo".to_owned(),
                ..shell("")
            })
            .await;
        let text = ran.result.unwrap_err().to_string();
        assert_eq!(
            text,
            "unable to find user foo: no matching entries in passwd file"
        );
    })
    .await;
}

#[tokio::test]
async fn capabilities_and_seccomp_are_buildkits() {
    with_each_runtime(|fixture| async move {
        let status = fixture
            .sh("grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status")
            .await;
        let lines = status.stdout();
        let value = |name: &str| {
            let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
            line.split('\t').nth(1).unwrap().to_owned()
        };
        let mask = format!("{CAPABILITIES_MASK:016x}");
        assert_eq!((value("CapEff:"), value("CapBnd:")), (mask.clone(), mask));
        assert_eq!(value("CapInh:"), "0000000000000000");
        assert_eq!(
            (value("Seccomp:"), value("NoNewPrivs:")),
            ("2".to_owned(), "0".to_owned())
        );

        // Another user keeps none, but may gain them (setuid programs), so the bound stays.
        let process = Process {
            user: "ada".to_owned(),
            ..shell("grep CapEff /proc/self/status")
        };
        assert_eq!(
            fixture.run(process).await.stdout(),
            ["CapEff:\t0000000000000000"]
        );
        for script in [
            "unshare -U true",
            "unshare -m true",
            "mount -t tmpfs none /tmp",
        ] {
            let ran = fixture.sh(&format!("{script} && echo possible")).await;
            assert_eq!(ran.text(Stream::Stdout), [""; 0], "{script}: {ran:?}");
            let text = ran.text(Stream::Stderr).join("");
            assert!(
                text.contains("not permitted") || text.contains("denied"),
                "{text}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn clone_makes_processes_but_no_namespaces() {
    with_each_runtime(|fixture| async move {
        // perl is in every Debian. System calls 56 and 250 are clone and keyctl, 0x10000000 is
        // CLONE_NEWUSER, 17 SIGCHLD; error 1 is EPERM.
        let script = r#"
            my $p = fork(); exit 0 if defined $p && !$p; waitpid $p, 0;
            print defined $p ? "fork works\n" : "no fork\n";
            my $r = syscall(56, 0x10000011, 0, 0, 0, 0); my $e = $!+0; exit 0 if $r == 0;
            print "clone $r $e\n";
            $r = syscall(250, 0, -3, 0); $e = $!+0; print "keyctl $r $e\n";"#;
        let host = |path: &str| ExtraMount {
            target: path.to_owned(),
            kind: ExtraMountKind::Bind {
                source: path.into(),
                read_only: true,
                is_data: false,
            },
        };
        let process = Process {
            args: vec![
                "/usr/bin/perl".to_owned(),
                "-e".to_owned(),
                script.to_owned(),
            ],
            mounts: ["/usr", "/lib", "/lib64"].map(host).to_vec(),
            ..shell("")
        };
        let lines = fixture.run(process).await.stdout();
        assert_eq!(lines, ["fork works", "clone -1 1", "keyctl -1 1"]);
    })
    .await;
}

#[tokio::test]
async fn kernel_files_are_masked_or_read_only() {
    with_each_runtime(|fixture| async move {
        let script = "head -c 1 /proc/kcore | wc -c; head -c 1 /proc/keys | wc -c; \
            for f in /sys/kernel/uevent_helper /proc/sys/kernel/domainname /proc/sysrq-trigger; do \
            (echo x > $f) 2>/dev/null && echo written $f; done; \
            for d in /sys/fs/cgroup/*/; do (mkdir $d/x) 2>/dev/null && echo made $d; done; \
            test -d /sys/fs/cgroup && echo end";
        assert_eq!(fixture.sh(script).await.stdout(), ["0", "0", "end"]);
    })
    .await;
}

#[tokio::test]
async fn devices_are_the_harmless_ones() {
    with_each_runtime(|fixture| async move {
        let lines = fixture.sh("cd /dev; ls").await.stdout();
        for name in [
            "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm",
        ] {
            assert!(lines.contains(&name.to_owned()), "{name}: {lines:?}");
        }
        assert!(!lines.contains(&"vda".to_owned()) && !lines.contains(&"mem".to_owned()));
        // The host's memory: its node cannot be opened, or, without a device cgroup, not be made.
        let script = "mknod /dev/m c 1 1 && (head -c 1 </dev/m) 2>&1; \
            mknod /tmp/null c 1 3 && echo x > /tmp/null && echo null works; \
            mknod /tmp/fifo p && echo fifo works";
        let ran = fixture.sh(script).await;
        let text = [ran.text(Stream::Stderr), ran.text(Stream::Stdout)]
            .concat()
            .join("\n");
        assert!(text.contains("not permitted"), "{text}");
        assert!(
            text.contains("null works") && text.contains("fifo works"),
            "{text}"
        );
    })
    .await;
}

#[tokio::test]
async fn without_network_there_is_a_loopback_and_nothing_else() {
    with_each_runtime(|fixture| async move {
        let process = Process {
            network: Network::None,
            ..shell("ip -o link; ip -o addr")
        };
        let lines = fixture.run(process).await.stdout();
        assert!(lines.iter().all(|line| line.contains(": lo")), "{lines:?}");
        assert!(
            lines.iter().any(|line| line.contains("LOOPBACK,UP")),
            "{lines:?}"
        );
        assert!(
            lines.iter().any(|line| line.contains("127.0.0.1/8")),
            "{lines:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn with_the_hosts_network_its_interfaces_are_seen() {
    with_each_runtime(|fixture| async move {
        let script = "cat /proc/net/dev";
        let process = Process {
            network: Network::Host,
            ..shell(script)
        };
        let names = |text: String| -> Vec<String> {
            let lines = text
                .lines()
                .skip(2)
                .filter_map(|line| line.split(':').next());
            lines.map(|name| name.trim().to_owned()).collect()
        };
        let inside = names(fixture.run(process).await.stdout().join("\n"));
        let outside = names(std::fs::read_to_string("/proc/net/dev").unwrap());
        assert_eq!(inside, outside);
    })
    .await;
}

#[tokio::test]
async fn resolver_and_hosts_are_given_read_only_and_leave_no_trace() {
    with_each_runtime(|fixture| async move {
        let etc = fixture.root().join("etc");
        let before = etc.metadata().unwrap().modified().unwrap();
        let address = "192.0.2.7".parse().unwrap();
        let process = Process {
            extra_hosts: vec![HostEntry {
                host: "db".to_owned(),
                address,
            }],
            ..shell(
                "cat /etc/hosts; grep -c nameserver /etc/resolv.conf; \
                (echo x > /etc/hosts) 2>/dev/null || echo read-only",
            )
        };
        let lines = fixture.run(process).await.stdout();
        let expect = [
            "127.0.0.1\tlocalhost buildkitsandbox",
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "192.0.2.7\tdb",
        ];
        assert_eq!(lines.get(..3).unwrap(), expect);
        assert_ne!(lines.get(3).unwrap(), "0");
        assert_eq!(lines.get(4).unwrap(), "read-only");
        let mut left: Vec<_> = fixture.root().read_dir().unwrap().flatten().collect();
        left.sort_by_key(std::fs::DirEntry::file_name);
        let left: Vec<_> = left.iter().map(std::fs::DirEntry::file_name).collect();
        assert_eq!(left, ["bin", "etc", "home", "tmp"]);
        assert_eq!(etc.read_dir().unwrap().count(), 2);
        assert_eq!(etc.metadata().unwrap().modified().unwrap(), before);
    })
    .await;
}

#[tokio::test]
async fn extra_mounts_are_there_in_their_mode_and_gone_afterwards() {
    with_each_runtime(|fixture| async move {
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("file"), "from the host\n").unwrap();
        let bind = |target: &str, path: &str, read_only| ExtraMount {
            target: target.to_owned(),
            kind: ExtraMountKind::Bind {
                source: host.path().join(path),
                read_only,
                is_data: false,
            },
        };
        let tmpfs = ExtraMount {
            target: "/scratch".to_owned(),
            kind: ExtraMountKind::Tmpfs {
                mode: executor::TMPFS_MODE_DEFAULT,
                has_programs: true,
                size_bytes: Some(1 << 20),
                read_only: false,
            },
        };
        let process = Process {
            mounts: vec![
                bind("/ro", "", true),
                bind("/rw", "", false),
                tmpfs,
                bind("/deep/er/file", "file", true),
            ],
            ..shell(
                "cat /deep/er/file; (touch /ro/x) 2>/dev/null || echo ro; \
                touch /rw/made /scratch/x && echo ok",
            )
        };
        let lines = fixture.run(process).await.stdout();
        assert_eq!(lines, ["from the host", "ro", "ok"]);
        assert!(host.path().join("made").is_file());
        assert_eq!(fixture.root().read_dir().unwrap().count(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_read_only_root_refuses_writes_but_tmpfs_takes_them() {
    with_each_runtime(|fixture| async move {
        let script = "(touch /x) 2>/dev/null || echo ro; touch /dev/shm/x && echo rw";
        let process = Process {
            read_only_root: true,
            ..shell(script)
        };
        assert_eq!(fixture.run(process).await.stdout(), ["ro", "rw"]);
    })
    .await;
}

#[tokio::test]
async fn a_container_that_cannot_be_made_is_explained() {
    with_each_runtime(|fixture| async move {
        let mounts = vec![ExtraMount {
            target: "/x".to_owned(),
            kind: ExtraMountKind::Bind {
                source: "/does/not/exist".into(),
                read_only: true,
                is_data: false,
            },
        }];
        let error = fixture
            .run(Process {
                mounts,
                ..shell("true")
            })
            .await
            .result
            .unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Container { .. }), "{text}");
        assert!(
            text.contains("/does/not/exist") && text.contains("o such file"),
            "{text}"
        );
        assert_eq!(error.exit_code(), None);
    })
    .await;
}
