//! The helper process: makes one container, watches it, cleans up after it.
//!
//! It exists for three reasons. libcontainer clones the process it runs in, which is undefined
//! behaviour when there are other threads (youki issues 2425, 3011, 3027); this one is
//! single-threaded. It outlives a parent that is killed, long enough to kill the container and
//! remove its cgroup. And as nothing but a container's parent it may enter its namespaces.
//!
//! Its stdin is the socket of `protocol.rs`, its stdout and stderr are those of the container.
//! Start reading at [`helper_main`].

mod console;
#[cfg(feature = "embedded-runtime")]
mod embedded;
#[cfg(feature = "embedded-runtime")]
mod error_log;
#[cfg(feature = "embedded-runtime")]
mod init;
mod program;
#[cfg(feature = "embedded-runtime")]
mod propagation;
mod signals;
mod supervise;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::process::WindowSize;
use crate::protocol::{HELPER_ARGUMENT, Report};

/// Exit code of a helper that was called by hand or could not reach its parent.
const EXIT_MISUSED: u8 = 125;

/// Whether this process was started as helper; ask before anything else in `main`.
#[must_use]
pub fn is_helper(arguments: &[OsString]) -> bool {
    arguments
        .get(1)
        .is_some_and(|argument| argument == HELPER_ARGUMENT)
}

/// The whole `main` of a helper process. There must be no other thread yet.
#[must_use]
pub fn helper_main(arguments: &[OsString]) -> ExitCode {
    let Some(job) = Job::parse(arguments) else {
        return ExitCode::from(EXIT_MISUSED);
    };
    // A step is the same under nohup(1).
    mount::reset_signals();
    match take_control().and_then(|control| supervise::run(&job, &control)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_MISUSED),
    }
}

/// What the parent asks for, as arguments: the values themselves, nothing optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// `embedded` or the path of a program.
    pub(crate) runtime: OsString,
    /// Directory with `config.json`; runtime state is kept in it too. Removed at the end.
    pub(crate) bundle: PathBuf,
    /// The container's id.
    pub(crate) id: String,
    /// The container's group within each hierarchy; empty when there is none to be had.
    pub(crate) cgroup: PathBuf,
    /// Whether a loopback interface of its own must be brought up.
    pub(crate) loopback: bool,
    /// Whether the parent sends a file that the container reads.
    pub(crate) input: bool,
    /// The size of the container's terminal and the user id of its owner, if it has one.
    pub(crate) terminal: Option<(WindowSize, u32)>,
}

/// The name of the embedded runtime as an argument.
pub(crate) const EMBEDDED: &str = "embedded";

impl Job {
    /// The arguments after the program's name.
    pub(crate) fn to_arguments(&self) -> Vec<OsString> {
        vec![
            HELPER_ARGUMENT.into(),
            self.runtime.clone(),
            self.bundle.clone().into(),
            self.id.clone().into(),
            self.cgroup.clone().into(),
            if self.loopback { "loopback" } else { "-" }.into(),
            if self.input { "input" } else { "-" }.into(),
            match &self.terminal {
                Some((size, uid)) => format!("{}x{}:{uid}", size.rows, size.columns).into(),
                None => "-".into(),
            },
        ]
    }

    fn parse(arguments: &[OsString]) -> Option<Self> {
        let [_, _, runtime, bundle, id, cgroup, loopback, input, terminal] = arguments else {
            return None;
        };
        let terminal = match terminal.to_str()? {
            "-" => None,
            text => {
                let (size, uid) = text.split_once(':')?;
                let (rows, columns) = size.split_once('x')?;
                let (rows, columns) = (rows.parse().ok()?, columns.parse().ok()?);
                Some((WindowSize { rows, columns }, uid.parse().ok()?))
            }
        };
        Some(Self {
            runtime: runtime.clone(),
            bundle: bundle.into(),
            id: id.to_str()?.to_owned(),
            cgroup: cgroup.into(),
            loopback: loopback == "loopback",
            input: input == "input",
            terminal,
        })
    }
}

/// Takes the socket off file descriptor 0 and leaves /dev/null there, for the container.
fn take_control() -> std::io::Result<UnixStream> {
    let control: OwnedFd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Anything but a socket means that a person typed the argument.
    rustix::net::sockopt::socket_type(&control)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(control))
}

/// A failure on the way to a running process, as it will be reported.
pub(crate) type Launch<T> = Result<T, Report>;

/// A report about a container that could not be made.
pub(crate) fn failed(what: &str, error: impl std::fmt::Display) -> Report {
    Report::ContainerFailed {
        message: format!("{what}: {error}"),
    }
}

/// What a runtime says about a container that it could not make, with what can be done about it.
fn with_hint(message: String) -> String {
    let is_about_proc = ["destination: \"/proc\"", "to rootfs at \"/proc\""];
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if !is_about_proc.iter().any(|part| message.contains(part)) || !is_masked(&mounts) {
        return message;
    }
    format!(
        "{message}: the container that varve itself runs in hides parts of /proc, and the kernel \
         then allows no other one; start it with unmasked system paths (docker: --security-opt \
         systempaths=unmasked, podman: --security-opt unmask=ALL, Kubernetes: procMount: Unmasked)"
    )
}

/// Whether something is mounted over parts of /proc (proc_pid_mountinfo(5)), other than what lies
/// on a directory that is always empty.
fn is_masked(mountinfo: &str) -> bool {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .filter(|point| point.starts_with("/proc/"))
        .any(|point| !point.starts_with("/proc/sys/fs/binfmt_misc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_way_through_the_arguments() {
        let job = Job {
            runtime: EMBEDDED.into(),
            bundle: "/run/varve/x".into(),
            id: "x".to_owned(),
            cgroup: "/varve/x".into(),
            loopback: true,
            input: true,
            terminal: Some((
                WindowSize {
                    rows: 24,
                    columns: 80,
                },
                1000,
            )),
        };
        let mut arguments = vec![OsString::from("varve")];
        arguments.extend(job.to_arguments());
        assert!(is_helper(&arguments));
        assert_eq!(Job::parse(&arguments), Some(job));
        arguments.pop();
        assert_eq!(Job::parse(&arguments), None);
        assert!(!is_helper(&["varve".into(), "build".into()]));
    }
    #[test]
    fn what_lies_over_parts_of_proc_hides_them() {
        let plain = "22 1 0:21 / /proc rw - proc proc rw\n\
                     23 22 0:22 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n";
        assert!(!is_masked(plain));
        let masked = format!("{plain}24 22 0:23 /null /proc/kcore rw - tmpfs tmpfs rw\n");
        assert!(is_masked(&masked));
    }
}
