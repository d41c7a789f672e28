//! Runs one command: timed, with a deadline, with its output in a file, and in an environment that
//! holds nothing of the user's.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// Much longer than any command takes, on a slow disk too: what hangs must not hang for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// Lines of a failed command's output that the error shows.
const LINES_SHOWN: usize = 30;

/// What every command of a run gets: the same search path, and an empty home.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// Home directory of every command, and its temporary directory.
    home: PathBuf,
}

impl Environment {
    /// With this existing directory as home.
    pub(crate) fn new(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
        }
    }

    /// A command that sees `PATH` and `home` and else nothing of our own environment.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("TMPDIR", &self.home)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }
}

/// Runs the command to its end and returns how long that took, from before its start until it is
/// reaped. Its output is appended to `log`.
///
/// # Errors
/// Where it fails, with the end of its output, or has not ended after `deadline`: then it and its
/// process group are killed.
pub(crate) fn run(command: &mut Command, log: &Path, deadline: Duration) -> Result<Duration> {
    let shown = format!("{command:?}");
    redirect(command, log)?;
    let (sender, receiver) = mpsc::channel();
    let started = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let group = group_of(&child)?;
    // A thread of its own waits, so that the end is noticed at once and not at the next look.
    let waiter = thread::spawn(move || {
        let status = child.wait();
        let took = started.elapsed();
        sender.send((status, took)).ok();
    });
    let outcome = receiver.recv_timeout(deadline);
    if outcome.is_err() {
        // Gone already is as good as killed.
        kill_process_group(group, Signal::KILL).ok();
    }
    waiter
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that waited for {shown} panicked"))?;
    let Ok((status, took)) = outcome else {
        bail!(
            "killed after {} s without an end: {shown}\n{}",
            deadline.as_secs(),
            end_of(log)
        );
    };
    check(status?, &shown, log)?;
    Ok(took)
}

/// Starts a command that goes on until [`Daemon::stop`], in a process group of its own.
pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Daemon> {
    redirect(command, log)?;
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(Daemon {
        group: group_of(&child)?,
        child,
        log: log.to_owned(),
    })
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Daemon {
    /// How long a server may take to end its work when asked to.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Fails where the server has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}\n{}", end_of(&self.log)),
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the server to end, and kills it where it does not.
    pub(crate) fn stop(&mut self) {
        kill_process_group(self.group, Signal::TERM).ok();
        let asked = Instant::now();
        while asked.elapsed() < Self::PATIENCE {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        kill_process_group(self.group, Signal::KILL).ok();
        self.child.wait().ok();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// Output to the end of `log`, and a group of its own so that the whole of it can be killed.
fn redirect(command: &mut Command, log: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let open = || -> std::io::Result<File> {
        if let Some(parent) = log.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().create(true).append(true).open(log)
    };
    let file = open().with_context(|| format!("open {}", log.display()))?;
    let again = file.try_clone()?;
    command.stdout(file).stderr(again).process_group(0);
    Ok(())
}

fn group_of(child: &Child) -> Result<Pid> {
    Pid::from_raw(i32::try_from(child.id())?).context("a child has the process id 0")
}

fn check(status: ExitStatus, shown: &str, log: &Path) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("it ended with {status}: {shown}\n{}", end_of(log))
}

fn end_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, deadline: Duration) -> (Result<Duration>, String) {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("logs/log");
        let mut command = Environment::new(home.path()).command("sh");
        let outcome = run(command.args(["-c", script]), &log, deadline);
        (outcome, fs::read_to_string(log).unwrap())
    }

    #[test]
    fn a_command_is_timed_and_its_output_kept() {
        let (outcome, log) = shell("echo out; echo err >&2; sleep 0.05", DEADLINE);
        assert!(outcome.unwrap() >= Duration::from_millis(50));
        assert_eq!(log, "out\nerr\n");
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_last_words() {
        let (outcome, _) = shell("echo reason; exit 3", DEADLINE);
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.ends_with("reason"), "{message}");
    }

    #[test]
    fn a_hanging_command_is_killed_with_its_children() {
        let started = Instant::now();
        let (outcome, _) = shell("sleep 60 & sleep 60", Duration::from_millis(50));
        assert!(outcome.unwrap_err().to_string().contains("killed after"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn nothing_of_our_environment_gets_through_but_the_search_path() {
        let (outcome, log) = shell("export -p", DEADLINE);
        outcome.unwrap();
        let known = ["PATH=", "HOME=", "TMPDIR=", "PWD=", "OLDPWD"];
        for line in log.lines() {
            assert!(known.iter().any(|name| line.contains(name)), "{line}");
        }
    }

    #[test]
    fn a_daemon_is_stopped_when_dropped() {
        let home = tempfile::tempdir().unwrap();
        let mut command = Environment::new(home.path()).command("sleep");
        let mut daemon = start(command.arg("60"), &home.path().join("log")).unwrap();
        daemon.check_alive().unwrap();
        let pid = daemon.group;
        drop(daemon);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
