//! A program that runs beside a test: its log, waiting until it is ready, and its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::leftovers::eventually;

/// Where the host's programs are: all that a server gets as environment.
pub const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A server of a test is ready within this, on however busy a machine.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A server that was asked to end does so within this.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How much of a log is shown where something went wrong.
const LOG_SHOWN_BYTES: usize = 6000;

/// A running program. It is asked to end when the value goes.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it. All it prints is appended to the file `log`.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::options().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let copy = file.try_clone().expect("a log can be shared");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Server {
            name,
            child,
            log: log.to_owned(),
        }
    }

    /// Waits until `answer` gives something.
    ///
    /// # Panics
    /// It ends before, or takes too long; with its log.
    pub fn wait_for<T>(&mut self, mut answer: impl FnMut() -> Option<T>) -> T {
        let mut found = None;
        let mut ended = None;
        let ready = eventually(READY_LIMIT, || {
            found = answer();
            ended = self.child.try_wait().expect("it can be waited for");
            found.is_some() || ended.is_some()
        });
        match found {
            Some(found) => found,
            None if ready => panic!("{} ended with {ended:?}:\n{}", self.name, self.log_end()),
            None => panic!("{} does not answer:\n{}", self.name, self.log_end()),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// The system does not tell.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("it can be waited for")
            .is_none()
    }

    /// All it has printed so far, over all its starts.
    ///
    /// # Panics
    /// The log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).expect("a log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of the log, or why there is none: a panic on the way out of one would end all tests.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => error.to_string(),
        };
        let from = log.len().saturating_sub(LOG_SHOWN_BYTES);
        let from = (from..=log.len()).find(|at| log.is_char_boundary(*at));
        log[from.unwrap_or(0)..].to_owned()
    }

    /// Whoever reads why a test failed wants to know what the server had to say.
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it with the failed test, and only then"
    )]
    fn show_log(&self) {
        eprintln!("--- the log of {}\n{}", self.name, self.log_end());
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// It does not end; it is killed.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut status = None;
        let ended = eventually(END_LIMIT, || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        if !ended {
            self.kill();
            panic!("{} does not end when asked:\n{}", self.name, self.log_end());
        }
        status.expect("it has ended")
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_end(&mut self) -> ExitStatus {
        let ended = eventually(END_LIMIT, || !self.runs());
        assert!(ended, "{} does not end:\n{}", self.name, self.log_end());
        self.child.wait().expect("it can be waited for")
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Panics
    /// It cannot be waited for.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    fn signal(&mut self, signal: Signal) {
        if !self.runs() {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a child has a process id");
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.terminate();
            return;
        }
        self.show_log();
        // A second panic would hide the first.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
