//! A root file system made of busybox, and one call to run something in it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use executor::{
    Cancel, Error, Executor, Exit, OutputLine, Process, RunRequest, RuntimeChoice, Stream,
    SupervisedRuntime,
};
use tokio::sync::mpsc;

/// Programs that busybox plays in the root.
const APPLETS: [&str; 30] = [
    "sh", "cat", "echo", "env", "hostname", "id", "ip", "kill", "ls", "mkdir", "mknod", "mount",
    "nproc", "printf", "ps", "pwd", "readlink", "seq", "setsid", "sleep", "sort", "stat", "test",
    "touch", "true", "unshare", "wc", "yes", "head", "grep",
];

/// Whether privileged tests run. Panics when they should but cannot.
pub(crate) fn privileged() -> bool {
    if std::env::var_os("VARVE_TEST_UNPRIVILEGED").is_some_and(|value| value == "1") {
        eprintln!("notice: test left out, VARVE_TEST_UNPRIVILEGED=1 is set");
        return false;
    }
    let root = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = root.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    assert!(
        root,
        "this test makes containers: run it as root or set VARVE_TEST_UNPRIVILEGED=1"
    );
    assert!(
        Path::new("/bin/busybox").is_file(),
        "this test needs /bin/busybox: apt-get install busybox-static"
    );
    true
}

/// The runtimes to test with.
pub(crate) fn runtimes() -> Vec<RuntimeChoice> {
    vec![RuntimeChoice::Embedded, RuntimeChoice::Runc]
}

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) executor: Executor,
    pub(crate) choice: RuntimeChoice,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<Exit, Error>,
    pub(crate) lines: Vec<OutputLine>,
}

impl Ran {
    /// Standard output as lines of text, after a run that succeeded.
    pub(crate) fn stdout(&self) -> Vec<String> {
        assert!(matches!(self.result, Ok(Exit::Code(0))), "{self:?}");
        self.text(Stream::Stdout)
    }

    pub(crate) fn text(&self, stream: Stream) -> Vec<String> {
        let lines = self.lines.iter().filter(|line| line.stream == stream);
        lines
            .map(|line| String::from_utf8_lossy(&line.text).into_owned())
            .collect()
    }
}

/// An id that no other test of this machine uses.
pub(crate) fn unique_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{number}", std::process::id())
}

impl Fixture {
    pub(crate) fn new(choice: RuntimeChoice) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("varve-executor-")
            .tempdir()
            .unwrap();
        let root = directory.path().join("rootfs");
        for path in ["bin", "etc", "tmp", "home/ada"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001::/home/ada:/bin/sh\n";
        std::fs::write(root.join("etc/passwd"), passwd).unwrap();
        let group = "root:x:0:\nada:x:1001:\nwheel:x:10:ada\ndocker:x:999:ada\n";
        std::fs::write(root.join("etc/group"), group).unwrap();
        let helper = PathBuf::from(env!("CARGO_BIN_EXE_executor-helper"));
        let path = std::env::var("PATH").unwrap_or_default();
        let runtime = SupervisedRuntime::new(&choice, helper, &path)
            .unwrap_or_else(|error| panic!("{error}; apt-get install runc"));
        let executor = Executor::new(Box::new(runtime), directory.path().join("state"));
        Self {
            directory,
            executor,
            choice,
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    /// The directories of the runs that go on.
    pub(crate) fn state_entries(&self) -> usize {
        let state = self.directory.path().join("state");
        state.read_dir().map_or(0, Iterator::count)
    }

    pub(crate) async fn run(&self, process: Process) -> Ran {
        self.run_as(&unique_id(), process, &Cancel::new()).await
    }

    pub(crate) async fn sh(&self, script: &str) -> Ran {
        self.run(shell(script)).await
    }

    pub(crate) async fn run_as(&self, id: &str, process: Process, cancel: &Cancel) -> Ran {
        let (output, mut receiver) = mpsc::channel(16);
        let request = RunRequest {
            id: id.to_owned(),
            rootfs: self.root(),
            process,
            stdio: executor::Stdio::Lines(output),
            cancel: cancel.clone(),
        };
        let receive = async {
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        };
        let (result, lines) = tokio::join!(self.executor.run(request), receive);
        Ran { result, lines }
    }
}

/// `sh -c script` as root with the usual PATH.
pub(crate) fn shell(script: &str) -> Process {
    Process {
        args: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        ..Process::default()
    }
}

/// Runs a test body with each runtime, and checks that it leaves nothing behind.
pub(crate) async fn with_each_runtime<F, Fut>(body: F)
where
    F: Fn(std::sync::Arc<Fixture>) -> Fut,
    Fut: Future<Output = ()>,
{
    if !privileged() {
        return;
    }
    for choice in runtimes() {
        eprintln!("runtime: {choice:?}");
        let fixture = std::sync::Arc::new(Fixture::new(choice));
        body(std::sync::Arc::clone(&fixture)).await;
        assert_nothing_left(&fixture);
    }
}

/// No mount below the fixture, no cgroup of this process's runs, no state.
pub(crate) fn assert_nothing_left(fixture: &Fixture) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = fixture.directory.path().display().to_string();
    assert!(!mounts.contains(&place), "a mount is left in {place}");
    assert_eq!(fixture.state_entries(), 0, "state is left in {place}");
    assert_eq!(
        fixture.directory.path().read_dir().unwrap().count(),
        2,
        "files in {place}"
    );
}

/// The cgroups whose name contains `id`.
pub(crate) fn cgroups_of(id: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, id: &str, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
                if entry.file_name().to_string_lossy().contains(id) {
                    found.push(path.clone());
                }
                walk(&path, id, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, 5, &mut found);
    found
}

/// The processes of this machine whose command line contains `text`.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != std::process::id() && String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// Waits until `condition` holds; panics with `what` after ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(
            std::time::Instant::now() < deadline,
            "not within ten seconds: {what}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
