//! The life of a helper: launch, watch, clean up, report.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::console::Console;
use super::signals::Signals;
use super::{EMBEDDED, Job, Launch, failed, program};
use crate::cgroup::Cgroups;
use crate::protocol::{self, REPORT_BYTES_MAX, Report};

/// A process that is running, or about to replace itself by the program of the step.
#[derive(Debug)]
pub(super) struct Launched {
    /// The first process of the container, a child of this one.
    pub(super) init: Pid,
    /// Closes when the program starts; a report comes out of it when it cannot be started.
    pub(super) execution: Option<OwnedFd>,
}

/// Does the job and reports how it ended.
///
/// # Errors
/// When the parent cannot be told, because it is gone; everything is cleaned up even so.
pub(super) fn run(job: &Job, control: &UnixStream) -> io::Result<()> {
    // Processes that a runtime program leaves behind become children of this one.
    nix::sys::prctl::set_child_subreaper(true)?;
    let launched = take_input(job, control).and_then(|()| launch(job, control));
    let report = match launched {
        Ok(launched) => watch(&launched, control).unwrap_or_else(|error| {
            // Nothing to watch with: the container must not run unwatched.
            kill(launched.init);
            failed("cannot watch the container", error)
        }),
        Err(report) => report,
    };
    if !job.cgroup.as_os_str().is_empty() {
        Cgroups::detect().remove(&job.cgroup);
    }
    remove_bundle(&job.bundle);
    (&*control).write_all(&report.to_line())
}

fn launch(job: &Job, control: &UnixStream) -> Launch<Launched> {
    if is_cancelled(control) {
        return Err(Report::Signaled {
            signal: Signal::KILL.as_raw(),
        });
    }
    let console = match job.terminal {
        Some(_) => Some(
            Console::listen(&job.bundle)
                .map_err(|error| failed("cannot make a terminal", error))?,
        ),
        None => None,
    };
    #[cfg(feature = "embedded-runtime")]
    if job.runtime == EMBEDDED {
        return super::embedded::launch(job, control, console);
    }
    if job.runtime == EMBEDDED {
        return Err(failed(
            "embedded runtime",
            "this build of varve does not contain it",
        ));
    }
    program::launch(job, control, console)
}

/// Makes the file that the parent sends the container's input.
fn take_input(job: &Job, control: &UnixStream) -> Launch<()> {
    if !job.input {
        return Ok(());
    }
    let taken = protocol::receive(control, &mut [0]).and_then(|(_, file)| {
        let file = file.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(rustix::stdio::dup2_stdin(&file)?)
    });
    taken.map_err(|error| failed("cannot take the input", error))
}

/// Whether the parent has closed its end, or died.
pub(super) fn is_cancelled(control: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(control, &mut [0], flags), Ok((0, _)))
}

/// Waits for the end of the container's first process, and kills it when the parent wants so.
///
/// That process is the init of a pid namespace: the kernel kills every other process in it first
/// and only then lets us reap it, double-forked ones included.
fn watch(launched: &Launched, control: &UnixStream) -> io::Result<Report> {
    let pidfd = rustix::process::pidfd_open(launched.init, PidfdFlags::empty())?;
    release_output()?;
    let mut execution = launched.execution.as_ref();
    let mut start_failure = None;
    let mut parent = Some(control);
    let mut signals = Signals::default();
    loop {
        let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
        watched.extend(parent.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)));
        watched.extend(execution.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)));
        let interval = signals.interval().map(Timespec::try_from).transpose();
        let interval = interval.map_err(io::Error::other)?;
        match rustix::event::poll(&mut watched, interval.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        let ended = ready.next().unwrap_or_default();
        let told = parent.is_some() && ready.next().unwrap_or_default();
        let executed = execution.is_some() && ready.next().unwrap_or_default();
        if executed && let Some(pipe) = execution.take() {
            start_failure = read_report(pipe)?;
        }
        if told && !signals.pass_on(control, launched.init)? {
            parent = None;
            kill(launched.init);
        }
        if !ended {
            signals.look_again(launched.init);
        }
        if ended {
            let status = signals.explain(reap(launched.init)?);
            // It may have failed and ended before we came to look.
            if let Some(pipe) = execution.take() {
                start_failure = read_report(pipe)?;
            }
            return Ok(start_failure.unwrap_or(status));
        }
    }
}

/// Gives up our own copies of the container's pipes, so that its end is theirs.
fn release_output() -> io::Result<()> {
    let null = std::fs::File::options();
    let null = null.clone().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

pub(super) fn kill(init: Pid) {
    // It is our child and not reaped yet, so the number cannot mean another process.
    rustix::process::kill_process(init, Signal::KILL).ok();
}

fn reap(init: Pid) -> io::Result<Report> {
    loop {
        match rustix::process::waitpid(Some(init), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(ended(status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn ended(status: WaitStatus) -> Report {
    match status.terminating_signal() {
        Some(signal) => Report::Signaled { signal },
        None => Report::Exited {
            code: status.exit_status().unwrap_or(EXIT_UNKNOWN),
        },
    }
}

/// Code for a process that neither exited nor was killed, which the kernel does not report.
const EXIT_UNKNOWN: i32 = 255;

/// Reads a report from a pipe to its end; an empty pipe means that all went well.
pub(super) fn read_report(pipe: &OwnedFd) -> io::Result<Option<Report>> {
    let file = std::fs::File::from(pipe.as_fd().try_clone_to_owned()?);
    let mut text = Vec::new();
    file.take(REPORT_BYTES_MAX as u64).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(None);
    }
    let report = serde_json::from_slice(&text);
    Ok(Some(report.unwrap_or_else(|error| {
        failed("unreadable report of the container", error)
    })))
}

/// Removes the directory of the run, the runtime's state in it included.
fn remove_bundle(bundle: &Path) {
    // The parent tries once more and has somebody to tell.
    drop(std::fs::remove_dir_all(bundle));
}
