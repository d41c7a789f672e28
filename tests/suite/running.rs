//! `varve run` as users of `docker run` know it: streams, signals, mounts, pulls, and what goes on
//! beside it on the same root.

mod beside;
mod isolated;
mod signals;
mod terminal;
mod volumes;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::layered_image;
use support::leftovers::{eventually, processes};
use support::registry::Registry;
use support::workspace::{Varve, run, run_with_input};

/// A container starts by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

/// With busybox as `app`.
fn varve() -> Varve {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nENV PATH=/bin\nRUN mkdir /srv; echo made > /srv/file\n");
    varve.build(["-t", "app"]).succeeded();
    varve
}

#[test]
fn standard_input_is_connected_with_i_only() {
    let varve = varve();
    let mut bytes: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    // Not text, no end of a line at the end.
    bytes.extend([0xff, 0, b'x']);
    let input = varve.write("input", &bytes);
    let output = varve.path("output");
    let mut command = varve.command(["run", "-i", "app", "cat"]);
    command
        .stdin(fs::File::open(&input).unwrap())
        .stdout(fs::File::create(&output).unwrap());
    assert!(command.status().unwrap().success());
    assert!(fs::read(&output).unwrap() == bytes);
    let without = run_with_input(&mut varve.command(["run", "app", "wc", "-c"]), b"hello");
    assert_eq!(without.success().stdout, "0\n");
    let script = [
        "run",
        "-i",
        "app",
        "sh",
        "-c",
        "read line; echo \"got $line\"",
    ];
    let first_line = run_with_input(&mut varve.command(script), b"one\ntwo\n");
    assert_eq!(first_line.success().stdout, "got one\n");
}

#[test]
fn a_process_that_is_not_root_can_open_its_streams_by_name() {
    let varve = varve();
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    let mut command = varve.command(["run", "-i", "-u", "nobody", "app", "sh", "-c", script]);
    let ran = run_with_input(&mut command, b"in").success();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("out\nin", "err\n")
    );
}

/// Of a command whose reader goes after one line: that line, the exit code and standard error.
fn read_one_line(command: &mut Command) -> (String, i32, String) {
    let began = Instant::now();
    let mut running = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let head = Command::new("head")
        .arg("-1")
        .stdin(running.stdout.take().unwrap())
        .output();
    let ended = running.wait_with_output().unwrap();
    assert!(began.elapsed() < SOON, "{command:?}");
    (
        String::from_utf8(head.unwrap().stdout).unwrap(),
        ended.status.code().unwrap(),
        String::from_utf8(ended.stderr).unwrap(),
    )
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_process() {
    let varve = varve();
    let marker = format!("varve-endless-{}", std::process::id());
    let endless = format!("while :; do echo y; sleep 0.01; done; : {marker}");
    for words in [
        &["app", "yes"][..],
        &["app", "sh", "-c", &endless],
        &["-t", "app", "sh", "-c", &endless],
    ] {
        let ran = read_one_line(varve.command(["run"]).args(words));
        let (signal, end) = match words[0] {
            "-t" => (1, "\r\n"),
            _ => (13, "\n"),
        };
        assert_eq!(ran.0, format!("y{end}"), "{words:?}");
        // On a busy machine yes(1) may find out by itself.
        let is_told = words[1] == "yes" && ran.1 == 1;
        assert!(ran.1 == 128 + signal || is_told, "{words:?}: {}", ran.1);
        assert!(!ran.2.contains("ERROR"), "{}", ran.2);
    }
    assert!(
        eventually(SOON, || processes(&marker).is_empty()),
        "it goes on"
    );
    // One that takes care of it itself is left alone.
    let careful = "trap 'echo told >&2; exit 5' PIPE; while :; do echo y; sleep 0.01; done";
    let ran = read_one_line(varve.command(["run"]).args(["app", "sh", "-c", careful]));
    assert_eq!((ran.0.as_str(), ran.1), ("y\n", 5), "{}", ran.2);
    assert!(ran.2.contains("told"), "{}", ran.2);
}

#[test]
fn directories_of_this_machine_are_mounted() {
    let varve = varve();
    varve.write("data/file", "theirs\n");
    varve.write("data/script", "#!/bin/sh\necho started\n");
    let data = varve.path("data").display().to_string();
    let sh = |options: &[&str], script: &str| {
        let words = [&["run"], options, &["app", "sh", "-c", script]].concat();
        run(varve.command(words).current_dir(varve.path("")))
    };
    let ran = sh(
        &["-v", "./data:/srv"],
        "cat /srv/file; echo new > /srv/new; sh /srv/script",
    );
    assert_eq!(ran.success().stdout, "theirs\nstarted\n");
    assert_eq!(varve.read("data/new"), "new\n");
    sh(
        &["-v", &format!("{data}:/x/y:ro")],
        "cat /x/y/file && : > /x/y/other",
    )
    .refused_with(1, &["Read-only file system"]);
    let mount = format!("type=bind,source={data}/file,target=/srv/file,readonly");
    let ran = sh(&["--mount", &mount], "cat /srv/file; echo x > /srv/file");
    assert!(ran.stderr.contains("Read-only file system"), "{ran}");
    assert_eq!(ran.stdout, "theirs\n");
    let absent = format!("type=bind,source={data}/absent,target=/x");
    sh(&["--mount", &absent], ":").refused_with(125, &["absent at /x", "No such file"]);
    sh(&["-v", &format!("{data}/made:/x")], "echo a > /x/a").succeeded();
    assert_eq!(varve.read("data/made/a"), "a\n");
    // What was made for the mounts is in no image.
    assert_eq!(
        varve.shell("app", "ls /x 2>&1; cat /srv/file"),
        "ls: /x: No such file or directory\nmade\n"
    );
}

#[test]
fn a_read_only_root_has_places_to_write_to() {
    let varve = varve();
    let script = "echo x > /srv/file; echo y > /tmp/y && cat /tmp/y; \
                  df -k /tmp /dev/shm | awk 'NR>1 {print $2}'";
    let options = [
        "run",
        "--read-only",
        "--tmpfs",
        "/tmp:size=4m,mode=1777",
        "--shm-size",
        "2m",
    ];
    let ran = varve
        .varve([&options[..], &["app", "sh", "-c", script]].concat())
        .success();
    assert!(
        ran.stderr.contains("/srv/file: Read-only file system"),
        "{ran}"
    );
    assert_eq!(ran.stdout, "y\n4096\n2048\n");
}

#[test]
fn names_hosts_limits_and_variables_are_given() {
    let varve = varve();
    varve.write("variables", "# them\nA=file\nB=b c\nTAKEN\n");
    let file = varve.path("variables").display().to_string();
    let script = "hostname; grep db.test /etc/hosts; ulimit -n; echo $A,$B,$TAKEN; pwd";
    let options = [
        "--hostname",
        "box",
        "--add-host",
        "db.test:10.1.2.3",
        "--ulimit",
        "nofile=77",
        "--env-file",
        &file,
        "-e",
        "A=option",
        "-w",
        "/new/dir",
        "--net",
        "none",
    ];
    let words = [&["run"], &options[..], &["app", "sh", "-c", script]].concat();
    let ran = run(varve.command(words).env("TAKEN", "from here")).success();
    assert_eq!(
        ran.stdout,
        "box\n10.1.2.3\tdb.test\n77\noption,b c,from here\n/new/dir\n"
    );
    let own = varve.varve(["run", "app", "hostname"]).success().stdout;
    assert_eq!(
        own.trim(),
        rustix::system::uname().nodename().to_str().unwrap()
    );
    let name = || varve.varve(["run", "--network", "none", "app", "hostname"]);
    let (one, other) = (name().success().stdout, name().success().stdout);
    assert!(one.trim().len() == 12 && one != other, "{one} {other}");
}

#[test]
fn what_cannot_be_run_has_dockers_exit_codes() {
    let varve = varve();
    for (words, code, part) in [
        (&["app", "absent"][..], 127, "not found in $PATH"),
        (&["app", "/srv/file"], 126, "permission denied"),
        (&["--pull", "never", "absent"], 125, "no such image: absent"),
        (&["--bogus", "app"], 125, "unknown option --bogus"),
        (
            &["-e", "=x", "app"],
            125,
            "invalid environment variable: =x",
        ),
        (
            &["--pull", "perhaps", "app"],
            125,
            "[possible values: missing, always, never]",
        ),
        (&["-v", "data:/data", "app"], 125, "./data:/data"),
        (&["-d", "app"], 125, "systemd-run"),
        (&["--name", "x", "app"], 125, "--hostname"),
        (&["-p", "80:80", "app"], 125, "ports of this machine"),
        (&["-it", "app"], 125, "leave out -t"),
        (&["-u", "nobody-there", "app"], 125, "nobody-there"),
        (
            &["--platform", "linux/s390x", "--pull", "never", "app"],
            125,
            "s390x",
        ),
    ] {
        let words = [&["run"], words].concat();
        varve.varve(&words).refused_with(code, &[part]);
    }
}

/// A registry with busybox as `hello`, which says so.
fn registry(varve: &Varve, says: &str) -> (Registry, String) {
    let registry = Registry::start(&varve.path("registry"));
    let reference = push(varve, &registry, says);
    (registry, reference)
}

fn push(varve: &Varve, registry: &Registry, says: &str) -> String {
    let layout = varve.path("layout");
    if layout.exists() {
        fs::remove_dir_all(&layout).unwrap();
    }
    let container = serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["echo", says] });
    layered_image::write(&layout, &layered_image::layers(&varve.base()), &container);
    registry.push(&layout, "hello")
}

#[test]
fn an_image_that_is_not_here_is_pulled() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve, "one");
    varve
        .varve(["run", "--pull", "never", &reference])
        .refused_with(125, &["no such image"]);
    let pulled = varve.varve(["run", "--rm", &reference]).success();
    assert_eq!(pulled.stdout, "one\n");
    assert!(pulled.stderr.contains("pull "), "{pulled}");
    let listed = varve.varve(["images", "-q"]).success();
    assert_eq!(listed.stdout.lines().count(), 1, "{listed}");
    push(&varve, &registry, "two");
    let here = varve.varve(["run", &reference]).success();
    assert_eq!((here.stdout.as_str(), here.stderr.as_str()), ("one\n", ""));
    let quiet = varve
        .varve(["run", "-q", "--pull=always", &reference])
        .success();
    assert_eq!(
        (quiet.stdout.as_str(), quiet.stderr.as_str()),
        ("two\n", "")
    );
    // Its name by digest goes with the last tag, as docker has it.
    let format = "--format={{.Digest}}";
    let listed = varve.varve(["images", format, &reference]).success();
    let (repository, _) = reference.rsplit_once(':').unwrap();
    let by_digest = format!("{repository}@{}", listed.stdout.trim());
    varve.varve(["pull", &by_digest]).succeeded();
    varve.varve(["tag", &reference, "other"]).succeeded();
    let removed = varve.varve(["rmi", &reference]).success().stdout;
    assert_eq!(
        removed,
        format!("Untagged: {reference}\nUntagged: {by_digest}\n")
    );
    let listed = varve
        .varve(["images", "--digests", "--all"])
        .success()
        .stdout;
    assert!(
        listed.contains("other") && !listed.contains(repository),
        "{listed}"
    );
    varve.varve(["tag", "other", &reference]).succeeded();
    drop(registry);
    let ran = varve.varve(["run", "--rm=true", "-i=false", &reference]);
    assert_eq!(ran.success().stdout, "two\n");
    varve
        .varve(["run", "--pull=always", &reference])
        .refused_with(125, &["127.0.0.1:"]);
}

#[test]
fn an_image_of_another_platform_is_run_with_a_warning_unless_it_was_asked_for() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox AS base\nFROM scratch\nCOPY --from=base / /\n",
    );
    varve
        .build(["--platform", "linux/s390x", "-t", "other"])
        .succeeded();
    varve.build(["-t", "own"]).succeeded();
    let run = |image: &str| varve.varve(["run", "--rm", image, "echo", "ran"]).success();
    let other = run("other");
    assert_eq!(other.stdout, "ran\n");
    let warning = "WARNING: The requested image's platform (linux/s390x) does not match";
    assert!(other.stderr.contains(warning), "{other}");
    assert_eq!(run("own").stderr, "");
}
