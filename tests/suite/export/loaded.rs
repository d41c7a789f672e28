//! `--load`: the image runs where it was loaded.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use support::containerd::{Containerd, Version};
use support::workspace::{Outcome, Varve, run};

/// With an image of two layers and a program that tells by its exit code whether it is right.
fn varve() -> Varve {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nENV PATH=/bin\nRUN echo made > /made; rm /bin/yes\n\
         CMD [\"sh\", \"-c\", \"test -e /bin/yes || grep -q made /made && exit 7\"]\n",
    );
    varve
}

fn into_containerd(version: Version) {
    let varve = varve();
    let containerd = Containerd::start(version, &varve.path("c"), "");
    let load = |words: &[&str], snapshotter: &str| {
        let mut command = varve.build_command([words, &["--load"]].concat());
        command
            .env("CONTAINERD_ADDRESS", containerd.address())
            .env("CONTAINERD_NAMESPACE", containerd.namespace())
            .env("CONTAINERD_SNAPSHOTTER", snapshotter)
            // It is asked for nothing.
            .env("PATH", "/nowhere");
        run(&mut command)
    };
    load(&["-t", "app", "-t", "other:2"], "native").succeeded();
    let checked = containerd.ctr(["images", "check"]).success();
    for name in ["docker.io/library/app:latest", "docker.io/library/other:2"] {
        let line = checked.stdout.lines().find(|line| line.contains(name));
        assert!(
            line.is_some_and(|line| line.contains("complete")),
            "{checked}"
        );
    }
    // Nothing but the name keeps it.
    let leases = containerd.ctr(["leases", "ls", "-q"]).success();
    assert_eq!(leases.stdout, "");
    let ran = |name: &str, id: &str| {
        let options = ["run", "--rm", "--net-host", "--snapshotter", "native"];
        containerd.ctr([&options[..], &[name, id]].concat())
    };
    ran("docker.io/library/app:latest", "one").code(7);
    // Again, changed, over the same name; compressed.
    varve.dockerfile("FROM busybox\nENV PATH=/bin\nCMD [\"sh\", \"-c\", \"exit 8\"]\n");
    let output = "type=docker,compression=zstd,force-compression=true";
    load(&["-t", "app", "-o", output], "native").succeeded();
    ran("docker.io/library/app:latest", "two").code(8);
    ran("docker.io/library/other:2", "three").code(7);
    load(&["-t", "new"], "absent").refused_with(1, &["\"absent\"", "CONTAINERD_SNAPSHOTTER"]);
    load(&[], "native").refused_with(1, &["name it with -t"]);
    let listed = containerd.ctr(["images", "ls", "-q"]).success();
    assert!(!listed.stdout.contains("new"), "{listed}");
}

#[test]
fn containerd_runs_what_it_was_given() {
    into_containerd(Version::System);
}

#[test]
fn containerd_2_runs_what_it_was_given() {
    into_containerd(Version::Second);
}

/// A docker in a few lines: answers a ping, and a load when it has all of it.
fn docker(listener: &UnixListener, pause: Duration) -> Vec<u8> {
    let (ping, _) = listener.accept().unwrap();
    headers(&mut BufReader::new(&ping));
    (&ping)
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
        .unwrap();
    drop(ping);
    let (load, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(&load);
    headers(&mut reader);
    let mut archive = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = u64::from_str_radix(size.trim(), 16).expect("a chunk or the last one");
        reader
            .by_ref()
            .take(size)
            .read_to_end(&mut archive)
            .unwrap();
        reader.read_line(&mut String::new()).unwrap();
        if size == 0 {
            break;
        }
    }
    std::thread::sleep(pause);
    let said = "{\"stream\":\"Loaded image: app:latest\\n\"}\n";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len());
    (&load).write_all((head + said).as_bytes()).unwrap();
    archive
}

fn headers(reader: &mut BufReader<&UnixStream>) {
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
}

fn load_into_docker(varve: &Varve, host: &str) -> Outcome {
    run(varve
        .build_command(["-t", "app", "--load"])
        .env("DOCKER_HOST", host))
}

#[test]
fn docker_gets_all_of_an_archive_and_as_much_time_as_it_needs() {
    let varve = varve();
    let socket = varve.path("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Longer than it may take to answer a ping.
    let server = std::thread::spawn(move || docker(&listener, Duration::from_secs(6)));
    load_into_docker(&varve, &format!("unix://{}", socket.display())).succeeded();
    let archive = varve.write("archive.tar", server.join().unwrap());
    let archive = archive.display().to_string();
    varve
        .varve(["load", "--root", "other", "-i", &archive])
        .succeeded();
    varve.varve(["run", "--root", "other", "app"]).code(7);
}

/// With docker's own engine, where it is: see CONTRIBUTING.md.
mod dockerd {
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};
    use support::leftovers::eventually;

    use super::{Duration, load_into_docker, varve};

    /// An engine; ended with the value.
    struct Engine {
        process: Child,
        /// A mount that it leaves.
        namespace: PathBuf,
    }

    impl Drop for Engine {
        fn drop(&mut self) {
            let id = Pid::from_raw(self.process.id().cast_signed()).unwrap();
            kill_process(id, Signal::TERM).unwrap();
            self.process.wait().unwrap();
            let flags = rustix::mount::UnmountFlags::DETACH;
            if self.namespace.exists() {
                rustix::mount::unmount(&self.namespace, flags).unwrap();
            }
        }
    }

    #[test]
    fn docker_runs_what_it_was_given() {
        let varve = varve();
        let socket = varve.path("docker.sock");
        let host = format!("unix://{}", socket.display());
        let engine = Command::new("dockerd")
            .args([
                "--iptables=false",
                "--bridge=none",
                "--userland-proxy=false",
            ])
            .arg("--data-root")
            .arg(varve.path("data"))
            .arg("--exec-root")
            .arg(varve.path("exec"))
            .arg("--pidfile")
            .arg(varve.path("pid"))
            .args(["-H", &host])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockerd; or leave this module out");
        let _engine = Engine {
            process: engine,
            namespace: varve.path("exec/netns/default"),
        };
        let is_up = || {
            let mut docker = Command::new("docker");
            docker.args(["-H", &host, "version"]);
            docker.output().is_ok_and(|output| output.status.success())
        };
        assert!(
            eventually(Duration::from_secs(60), is_up),
            "dockerd answers"
        );
        load_into_docker(&varve, &host).succeeded();
        let ran = Command::new("docker")
            .args(["-H", &host, "run", "--rm", "--network", "host", "app"])
            .status();
        assert_eq!(ran.unwrap().code(), Some(7));
    }
}
