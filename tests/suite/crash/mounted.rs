//! Ctrl-C and kill -9 in a step with every kind of mount: no mount, process, secret or lock is
//! left behind, and cache mounts are usable.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{
    Running, SLEEPERS, Signal, Varve, has_no_files, is_sound, nothing_is_left, send, unique_sleep,
    wait_for_step,
};

/// What is looked for. Nothing else in a store looks like it.
const SECRET: &str = "Qh27-mmC9-xx1F-Vd5t-8bNa-4wKe-rTz6";

/// The cache mounts of all tests here: target and sharing mode.
const CACHES: [&str; 3] = ["shared", "locked", "private"];

fn cache_mounts() -> String {
    let mount = |sharing| format!("--mount=type=cache,target=/{sharing},sharing={sharing} ");
    CACHES.map(mount).concat()
}

/// Starts a build whose step writes to its caches and does not end.
fn start(varve: &Varve, sleep: &str) -> (Running, UnixListener) {
    varve.write("context/source", "of the context");
    let secret = varve.write("secrets/token", SECRET);
    let socket = varve.path("agent.sock");
    let agent = UnixListener::bind(&socket).unwrap();
    let caches = cache_mounts();
    // A state that was committed.
    varve.dockerfile(&format!(
        "FROM busybox\nRUN {caches} for c in {}; do echo kept > /$c/f; done\n",
        CACHES.join(" ")
    ));
    varve.build(["-t", "app"]).succeeded();
    let background = vec![format!("{sleep} &"); SLEEPERS - 1].join(" ");
    varve.dockerfile(&format!(
        "FROM busybox\nRUN {caches} --mount=target=/context,rw --mount=type=tmpfs,target=/memory \
           --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN --mount=type=ssh \
           cat /run/secrets/token > /memory/x && echo x > /context/source && \
           for c in {}; do echo written > /$c/f; done; {background} {sleep}\n",
        CACHES.join(" ")
    ));
    let secret = format!("id=token,src={}", secret.display());
    let ssh = format!("default={}", socket.display());
    let arguments = ["--secret", &secret, "--ssh", &ssh, "-t", "app"];
    let running = Running::start(&mut varve.build_command(arguments));
    wait_for_step(sleep);
    (running, agent)
}

/// Whether some file below a directory holds the secret.
fn is_secret_below(directory: &Path) -> bool {
    let needle = SECRET.as_bytes();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            return is_secret_below(&entry.path());
        }
        let bytes = fs::read(entry.path()).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// What the caches hold, in the order of [`CACHES`], each time they are read anew.
fn caches(varve: &Varve) -> Vec<String> {
    varve.dockerfile(&format!(
        "FROM busybox\nRUN {} : {}; for c in {}; do cat /$c/f; done\n",
        cache_mounts(),
        unique_sleep(),
        CACHES.join(" ")
    ));
    let read = varve.build(["-t", "app"]).success();
    read.transcript().step("cat /$c/f").output.clone()
}

#[test]
fn ctrl_c_in_a_step_with_every_kind_of_mount_leaves_nothing_but_what_the_caches_got() {
    let varve = Varve::new();
    let sleep = unique_sleep();
    let (running, _agent) = start(&varve, &sleep);
    assert!(!is_secret_below(&varve.root()), "while the step runs");
    let id = running.id();
    send(&running, Signal::INT);
    let outcome = running.wait().code(130);
    assert!(!outcome.stderr.contains(SECRET));
    nothing_is_left(&varve, id, &sleep);
    assert!(!is_secret_below(&varve.root()));
    has_no_files(&varve.root().join("snapshots"));
    is_sound(&varve);
    assert_eq!(caches(&varve), ["written", "written", "kept"]);
    assert_eq!(varve.read("context/source"), "of the context");
}

#[test]
fn kill_9_in_a_step_with_every_kind_of_mount_leaves_the_caches_as_they_were_committed() {
    let varve = Varve::new();
    let sleep = unique_sleep();
    for _ in 0..2 {
        let (running, agent) = start(&varve, &sleep);
        send(&running, Signal::KILL);
        assert_eq!(running.wait().code, 128 + 9);
        super::nothing_runs(&varve, &sleep);
        assert!(!is_secret_below(&varve.root()));
        assert_eq!(caches(&varve), ["kept", "kept", "kept"]);
        assert!(!is_secret_below(&varve.root()));
        has_no_files(&varve.root().join("snapshots"));
        has_no_files(&varve.root().join("run"));
        is_sound(&varve);
        drop(agent);
        fs::remove_file(varve.path("agent.sock")).unwrap();
    }
}

#[test]
fn a_step_that_waits_for_a_locked_cache_can_be_interrupted() {
    let varve = Varve::new();
    let sleep = unique_sleep();
    let background = vec![format!("{sleep} &"); SLEEPERS - 1].join(" ");
    let lock = "--mount=type=cache,target=/c,sharing=locked";
    varve.dockerfile(&format!(
        "FROM busybox AS one\nRUN {lock} {background} {sleep}\n\
         FROM busybox AS two\nRUN {lock} {background} {sleep} # two\n\
         FROM busybox\nCOPY --from=one / /1\nCOPY --from=two / /2\n"
    ));
    let running = Running::start(&mut varve.build_command(["-t", "app"]));
    wait_for_step(&sleep);
    let id = running.id();
    send(&running, Signal::INT);
    running.wait().refused_with(130, &["cancelled by Ctrl-C"]);
    nothing_is_left(&varve, id, &sleep);
    is_sound(&varve);
}
