//! A place to use varve as a user does: a temporary directory with a root, a context and a base
//! image, and the binary run with a clean environment.
//!
//! ```ignore
//! let varve = Varve::new();
//! varve.write("context/a.txt", "text");
//! varve.dockerfile("FROM busybox\nCOPY a.txt /\n");
//! let built = varve.build(["-t", "app"]).success();
//! assert_eq!(varve.varve(["run", "app", "cat", "/a.txt"]).success().stdout, "text");
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::layout::Layout;
use crate::transcript::Transcript;
use crate::{base_image, privileged};

/// The base image is to be had as `FROM busybox`.
pub const BASE: &str = "busybox";

/// A file system in memory, on every Linux machine (but small in most containers).
const MEMORY: &str = "/dev/shm";

/// Room that the largest test needs, and as much again for its neighbours.
const MEMORY_BYTES_MIN: u64 = 6 << 30;

/// No command of a test takes so long, on however busy a machine; one that does hangs.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// How often is looked whether a command has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A temporary directory to build in. Everything in it goes with the value.
#[derive(Debug)]
pub struct Varve {
    directory: TempDir,
    base: Arc<TempDir>,
    /// In place of the one in the directory.
    root: Option<PathBuf>,
}

impl Default for Varve {
    fn default() -> Self {
        Self::new()
    }
}

impl Varve {
    /// An empty root, an empty context, and the base image.
    ///
    /// # Panics
    /// Without root: steps are mounted and run.
    #[must_use]
    pub fn new() -> Self {
        Self::on(None)
    }

    /// The same in memory, if there is room: for so many or so large files that a slow disk would
    /// take most of the time.
    ///
    /// # Panics
    /// As [`Varve::new`].
    #[must_use]
    pub fn in_memory() -> Self {
        let room =
            rustix::fs::statvfs(MEMORY).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
        Self::on((room >= MEMORY_BYTES_MIN).then_some(Path::new(MEMORY)))
    }

    fn on(place: Option<&Path>) -> Self {
        privileged::assert_root();
        let mut directory = tempfile::Builder::new();
        let directory = directory.prefix("varve-test-");
        let directory = match place {
            Some(place) => directory.tempdir_in(place),
            None => directory.tempdir(),
        };
        let directory = directory.expect("a temporary directory");
        fs::create_dir(directory.path().join("context")).expect("a context");
        let base = base_layout();
        let root = None;
        Varve {
            directory,
            base,
            root,
        }
    }

    /// The same with a root directory that outlives it.
    #[must_use]
    pub fn with_root(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// A path in the temporary directory.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// The root directory that commands use if they name no other with `--root`. It is there after
    /// the first command.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| self.path("root"))
    }

    /// Id of the process that has, or had last, the root directory: a child of the one that was
    /// started.
    ///
    /// # Panics
    /// There was none.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.last_owner().expect("the id of a process")
    }

    /// The same, unless the last one was killed before it could write it down.
    #[must_use]
    pub fn last_owner(&self) -> Option<u32> {
        let id = fs::read_to_string(self.root().join("lock")).ok()?;
        id.trim().parse().ok()
    }

    /// The context that [`Varve::build`] builds.
    #[must_use]
    pub fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// The OCI layout of the base image, which is tagged `latest` there.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        self.base.path().join("layout")
    }

    /// Writes a file, and the directories above it; returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let parent = path.parent().expect("below the temporary directory");
        fs::create_dir_all(parent).expect("a directory can be made");
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Reads a file as text.
    ///
    /// # Panics
    /// It is not there, or no text.
    #[must_use]
    pub fn read(&self, relative: impl AsRef<Path>) -> String {
        let path = self.path(relative);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes `context/Dockerfile`.
    pub fn dockerfile(&self, text: &str) -> PathBuf {
        self.write("context/Dockerfile", text)
    }

    /// The command, not yet started: clean environment, own root, working directory above the
    /// context.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.prepared(crate::varve_binary(), arguments)
    }

    /// The same, started by env(1) with these options.
    pub fn command_under<A: AsRef<OsStr>>(
        &self,
        options: &[&str],
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.prepared("env", options);
        command.arg(crate::varve_binary()).args(arguments);
        command
    }

    /// Another program (skopeo, umoci), with the same environment and working directory.
    pub fn tool<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Outcome {
        run(&mut self.prepared(program, arguments))
    }

    fn prepared<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.directory.path())
            // Whatever asks a registry that is not of this machine is refused at once.
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("VARVE_ROOT", self.root())
            .stdin(Stdio::null());
        command
    }

    /// Runs varve to its end.
    pub fn varve<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.command(arguments))
    }

    /// The command that builds the context with plain progress and the base image at hand.
    pub fn build_command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = self.command(["build", "--progress=plain", "--build-context"]);
        command
            .arg(self.base_context())
            .args(arguments)
            .arg("context");
        command
    }

    /// The value of `--build-context` that puts the base image at hand.
    #[must_use]
    pub fn base_context(&self) -> OsString {
        let mut base = OsString::from(format!("{BASE}=oci-layout://"));
        base.push(self.base());
        base.push(":latest");
        base
    }

    /// Builds the context with plain progress and the base image at hand.
    pub fn build<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.build_command(arguments))
    }

    /// Builds the context and writes the files of the result to the directory `files`, in place
    /// of earlier ones.
    ///
    /// # Panics
    /// The build fails.
    #[track_caller]
    pub fn files<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> PathBuf {
        if self.path("files").exists() {
            fs::remove_dir_all(self.path("files")).expect("earlier files can be removed");
        }
        let arguments = arguments.into_iter().map(|one| one.as_ref().to_owned());
        self.build(std::iter::once(OsString::from("-ofiles")).chain(arguments))
            .succeeded();
        self.path("files")
    }

    /// Builds the context and exports it as the OCI layout `image`, in place of an earlier one.
    ///
    /// # Panics
    /// The build fails, or the layout is none.
    #[track_caller]
    pub fn image<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Layout {
        if self.path("image").exists() {
            fs::remove_dir_all(self.path("image")).expect("an earlier layout can be removed");
        }
        let output = OsString::from("-otype=oci,dest=image,tar=false");
        let arguments = arguments.into_iter().map(|one| one.as_ref().to_owned());
        self.build(std::iter::once(output).chain(arguments))
            .succeeded();
        Layout::open(&self.path("image"))
    }

    /// Runs `script` by the shell of an image of the store; what it prints.
    ///
    /// # Panics
    /// It does not end with 0.
    pub fn shell(&self, image: &str, script: &str) -> String {
        self.varve(["run", "--entrypoint", "/bin/sh", image, "-c", script])
            .success()
            .stdout
    }
}

impl Drop for Varve {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let here = self.directory.path().to_string_lossy();
        let left: Vec<_> = mounts
            .lines()
            .filter(|line| line.contains(here.as_ref()))
            .collect();
        if !thread::panicking() {
            assert!(left.is_empty(), "varve left mounts behind: {left:#?}");
        }
    }
}

/// The layout is made once, and again only when all tests that used it are over.
fn base_layout() -> Arc<TempDir> {
    static BASE_LAYOUT: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut shared = BASE_LAYOUT
        .lock()
        .unwrap_or_else(|poison| poison.into_inner());
    if let Some(base) = shared.upgrade() {
        return base;
    }
    let directory = tempfile::Builder::new()
        .prefix("varve-test-base-")
        .tempdir()
        .expect("a temporary directory");
    base_image::write(&directory.path().join("layout")).expect("a base image of busybox");
    let base = Arc::new(directory);
    *shared = Arc::downgrade(&base);
    base
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// Exit code; 128 + N where signal N killed it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Itself, if the exit code is 0.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// That the exit code is 0.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn succeeded(&self) {
        assert!(self.code == 0, "the exit code is not 0\n{self}");
    }

    /// Itself, if the exit code is `expected`.
    ///
    /// # Panics
    /// It is not.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert!(
            self.code == expected,
            "the exit code is not {expected}\n{self}"
        );
        self
    }

    /// The plain progress, step by step.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        Transcript::parse(&self.stderr)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "$ {command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started, or does not end.
pub fn run(command: &mut Command) -> Outcome {
    Running::start(command).wait()
}

/// Runs a command to its end, which may be so far away.
///
/// # Panics
/// It cannot be started, or does not end by then.
pub fn run_within(limit: Duration, command: &mut Command) -> Outcome {
    Running::start(command).wait_within(limit)
}

/// Runs a command to its end and gives it `input` as standard input.
///
/// # Panics
/// It cannot be started, or does not end.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Outcome {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().expect("it was asked for");
    // A command that ends before it has read everything is for the test to judge.
    stdin.write_all(input).ok();
    drop(stdin);
    running.wait()
}

/// A command that was started.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let shown = shown(command);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let stdout = collect(child.stdout.take().expect("it was asked for"));
        let stderr = collect(child.stderr.take().expect("it was asked for"));
        Running {
            command: shown,
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end within minutes; it is killed.
    pub fn wait(self) -> Outcome {
        self.wait_within(TIME_LIMIT)
    }

    fn wait_within(mut self, limit: Duration) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("it can be killed");
                let stderr = self.stderr.join().expect("a reader");
                let stderr = String::from_utf8_lossy(&stderr);
                panic!("{} does not end; it said:\n{stderr}", self.command);
            }
            thread::sleep(POLL_INTERVAL);
        };
        let text = |reader: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().expect("a reader")).into_owned()
        };
        Outcome {
            command: self.command,
            code: status
                .code()
                .or(status.signal().map(|signal| 128 + signal))
                .unwrap_or(-1),
            stdout: text(self.stdout),
            stderr: text(self.stderr),
        }
    }
}

fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
