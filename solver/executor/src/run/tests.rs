//! What happens around a run, with a runtime that makes no container: neither root nor a kernel
//! feature is needed.

use super::*;
use crate::fake::FakeRuntime;
use crate::output::{OutputLine, Stream};
use crate::process::ExtraMount;
use tokio::sync::mpsc;

struct Place {
    directory: tempfile::TempDir,
    executor: Executor,
}

fn place(runtime: FakeRuntime) -> Place {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("rootfs")).unwrap();
    let executor = Executor::new(Box::new(runtime), directory.path().join("state"));
    Place {
        directory,
        executor,
    }
}

impl Place {
    fn request(&self, process: Process) -> (RunRequest, mpsc::Receiver<OutputLine>) {
        let (output, receiver) = mpsc::channel(8);
        let rootfs = self.directory.path().join("rootfs");
        let id = "run-1".to_owned();
        (
            RunRequest {
                id,
                rootfs,
                process,
                stdio: Stdio::Lines(output),
                cancel: Cancel::new(),
            },
            receiver,
        )
    }

    async fn run(&self, process: Process) -> Result<Exit> {
        self.executor.run(self.request(process).0).await
    }

    /// Names in the root and in the state directory.
    fn left(&self) -> (Vec<String>, usize) {
        let entries = |name: &str| -> Vec<String> {
            let path = self.directory.path().join(name);
            let entries = path.read_dir().into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        };
        (entries("rootfs"), entries("state").len())
    }
}

/// A process of whoever runs the tests, so that no file must be given away.
fn process(args: &[&str]) -> Process {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let args = args.iter().map(ToString::to_string).collect();
    Process {
        args,
        user: format!("{uid}:{gid}"),
        ..Process::default()
    }
}

#[tokio::test]
async fn the_runtime_finds_everything_prepared_and_nothing_is_left() {
    let place = place(FakeRuntime::new(|container| {
        for path in [
            "dev",
            "proc",
            "sys",
            "etc/hosts",
            "etc/resolv.conf",
            "srv/app",
        ] {
            assert!(container.rootfs.join(path).exists(), "{path}");
        }
        let config = std::fs::read_to_string(container.bundle.join("config.json")).unwrap();
        assert!(
            config.contains("\"true\"") && config.contains("/srv/app"),
            "{config}"
        );
        let line = OutputLine {
            stream: Stream::Stdout,
            text: b"hi".to_vec(),
            ends: true,
        };
        let Stdio::Lines(output) = &container.stdio else {
            panic!("lines were asked for");
        };
        output.try_send(line).unwrap();
        std::fs::write(container.rootfs.join("made"), "").unwrap();
        Ok(Exit::Code(7))
    }));
    let process = Process {
        cwd: "/srv/app".to_owned(),
        ..process(&["true"])
    };
    let (request, mut output) = place.request(process);
    assert_eq!(place.executor.run(request).await.unwrap(), Exit::Code(7));
    assert_eq!(output.recv().await.unwrap().text, b"hi");
    assert_eq!(output.recv().await, None, "the sender is gone with the run");
    let (mut root, state) = place.left();
    root.sort();
    assert_eq!(
        (root, state),
        (vec!["made".to_owned(), "srv".to_owned()], 0)
    );
}

#[tokio::test]
async fn a_failing_runtime_leaves_nothing_either() {
    let place = place(FakeRuntime::new(|_| Err(Error::Cancelled)));
    assert!(matches!(
        place.run(process(&["true"])).await,
        Err(Error::Cancelled)
    ));
    assert_eq!(place.left(), (Vec::new(), 0));
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_before_anything_is_made() {
    let runtime = FakeRuntime::succeeding();
    let runs = runtime.runs();
    let place = place(runtime);
    let mount = |target: &str, source: &str| {
        let kind = ExtraMountKind::Bind {
            source: source.into(),
            read_only: true,
            is_data: false,
        };
        vec![ExtraMount {
            target: target.to_owned(),
            kind,
        }]
    };
    let base = || process(&["true"]);
    for (bad, text) in [
        (process(&[]), "no program to run"),
        (process(&[""]), "no program to run"),
        (process(&["a\0b"]), "NUL"),
        (
            Process {
                cwd: "relative".to_owned(),
                ..base()
            },
            "not absolute",
        ),
        (
            Process {
                mounts: mount("relative", "/"),
                ..base()
            },
            "no absolute path",
        ),
        (
            Process {
                mounts: mount("/..", "/"),
                ..base()
            },
            "no absolute path",
        ),
        (
            Process {
                mounts: mount("/a", "relative"),
                ..base()
            },
            "is not absolute",
        ),
        (
            Process {
                user: "nobody-here".to_owned(),
                ..base()
            },
            "unable to find user",
        ),
    ] {
        let error = place.run(bad).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert_eq!(place.left(), (Vec::new(), 0));
    assert!(runs.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_name_that_no_machine_can_have_is_refused() {
    let place = place(FakeRuntime::succeeding());
    for (name, text) in [
        ("a b".to_owned(), "white space"),
        ("x".repeat(65), "longer than 64 bytes"),
    ] {
        let bad = Process {
            hostname: Some(name),
            ..process(&["true"])
        };
        let error = place.run(bad).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn only_ids_that_are_safe_file_names_are_taken() {
    let place = place(FakeRuntime::succeeding());
    for (id, good) in [
        ("a", true),
        ("build-1_2.x", true),
        ("", false),
        (".hidden", false),
        ("..", false),
        ("a/b", false),
        ("a b", false),
        (&"x".repeat(ID_LENGTH_MAX + 1), false),
    ] {
        let mut request = place.request(process(&["true"])).0;
        request.id = id.to_owned();
        let result = place.executor.run(request).await;
        assert_eq!(result.is_ok(), good, "{id:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_working_directory_that_is_a_file_is_an_error() {
    let place = place(FakeRuntime::succeeding());
    std::fs::write(place.directory.path().join("rootfs/file"), "").unwrap();
    let process = Process {
        cwd: "/file/below".to_owned(),
        ..process(&["true"])
    };
    let error = place.run(process).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to create working directory /file/below"
    );
    assert_eq!(place.left().1, 0);
}

#[tokio::test]
async fn a_missing_root_is_named() {
    let place = place(FakeRuntime::succeeding());
    let mut request = place.request(process(&["true"])).0;
    request.rootfs = PathBuf::from("/does/not/exist");
    let error = place.executor.run(request).await.unwrap_err().to_string();
    assert_eq!(error, "failed to open root file system /does/not/exist");
}

#[tokio::test]
async fn an_id_that_is_in_use_is_refused_and_the_other_run_is_not_disturbed() {
    let place = place(FakeRuntime::succeeding());
    let bundle = place.directory.path().join("state/run-1");
    std::fs::create_dir_all(&bundle).unwrap();
    let error = place.run(process(&["true"])).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Prepare {
                action: "create",
                ..
            }
        ),
        "{error}"
    );
    assert!(bundle.is_dir());
}
