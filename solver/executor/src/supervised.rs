//! The real runtimes, seen from the parent: both run in a helper process of our own program.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::helper::{EMBEDDED, Job};
use crate::output::{OutputSender, Stream, pump};
use crate::process::Network;
use crate::protocol::{REPORT_BYTES_MAX, Report};
use crate::runtime::{Container, Exit, RunFuture, Runtime, RuntimeChoice};
use crate::sealed::SealedProgram;
use crate::spec::Abilities;

/// A runtime in a helper process.
///
/// The helper is a program whose `main` calls [`crate::helper_main`] when
/// [`crate::is_helper`] says so: varve itself, or a small one in tests.
#[derive(Debug)]
pub struct SupervisedRuntime {
    kind: Kind,
    helper: PathBuf,
    sealed: OnceLock<SealedProgram>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Embedded,
    Program(PathBuf),
}

impl SupervisedRuntime {
    /// The runtime of a setting. `helper` is the program to execute, usually `/proc/self/exe`;
    /// `search_path` is the caller's `PATH`, where `runc` is looked for.
    ///
    /// # Errors
    /// [`Error::Runtime`] when there is no such program.
    pub fn new(choice: &RuntimeChoice, helper: PathBuf, search_path: &str) -> Result<Self> {
        let embedded = cfg!(feature = "embedded-runtime");
        let kind = match choice {
            RuntimeChoice::Auto | RuntimeChoice::Embedded if embedded => Kind::Embedded,
            RuntimeChoice::Embedded => {
                let reason = "this build of varve does not contain it; use runtime = \"runc\"";
                return Err(Error::Runtime {
                    runtime: EMBEDDED.into(),
                    reason: reason.to_owned(),
                });
            }
            RuntimeChoice::Auto | RuntimeChoice::Runc => Kind::Program(find("runc", search_path)?),
            RuntimeChoice::Program(path) if path.is_file() => Kind::Program(path.clone()),
            RuntimeChoice::Program(path) => return Err(missing(path, "no such file")),
        };
        Ok(Self {
            kind,
            helper,
            sealed: OnceLock::new(),
        })
    }

    /// What to execute: for the embedded runtime a sealed form of it, because its last act is to
    /// become the program of the step.
    async fn helper_path(&self) -> Result<PathBuf> {
        if self.kind != Kind::Embedded {
            return Ok(self.helper.clone());
        }
        if let Some(sealed) = self.sealed.get() {
            return Ok(sealed.path());
        }
        let helper = self.helper.clone();
        let sealed = tokio::task::spawn_blocking(move || SealedProgram::new(&helper)).await;
        let sealed = sealed
            .map_err(std::io::Error::other)
            .and_then(|sealed| sealed);
        let sealed = sealed.map_err(|error| {
            self.unusable(format!("cannot seal {}: {error}", self.helper.display()))
        })?;
        // Of two first runs at the same time, the work of one is thrown away.
        Ok(self.sealed.get_or_init(|| sealed).path())
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Runtime {
            runtime: self.name(),
            reason,
        }
    }

    async fn run_container(&self, container: Container) -> Result<Exit> {
        let io_error = |error: std::io::Error| self.unusable(format!("system error: {error}"));
        let Container {
            bundle,
            output,
            cancel,
            ..
        } = &container;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !rustix::process::geteuid().is_root() {
            let reason = "making containers needs root; run varve as root";
            return Err(self.unusable(reason.to_owned()));
        }
        let (ours, theirs) = StdStream::pair().map_err(io_error)?;
        let (stdout, stdout_writer) = std::io::pipe().map_err(io_error)?;
        let (stderr, stderr_writer) = std::io::pipe().map_err(io_error)?;
        let job = self.job(&container);
        let mut command = Command::new(self.helper_path().await?);
        command.arg0("varve").args(job.to_arguments());
        // Nothing of our environment is for the container, and libcontainer reads some of it.
        command.env_clear().current_dir("/");
        // Ctrl-C at the terminal is for varve, which cancels in its own way.
        command.process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command
            .stdout(Stdio::from(stdout_writer))
            .stderr(Stdio::from(stderr_writer));
        let mut child = command.spawn().map_err(|error| {
            self.unusable(format!("cannot execute {}: {error}", self.helper.display()))
        })?;
        // Holds our copies of the container's ends of the pipes.
        drop(command);

        let ended = watch::Sender::new(false);
        let pumps = [
            pump_of(stdout.into(), Stream::Stdout, output, &ended).map_err(io_error)?,
            pump_of(stderr.into(), Stream::Stderr, output, &ended).map_err(io_error)?,
        ];
        ours.set_nonblocking(true).map_err(io_error)?;
        let control = UnixStream::from_std(ours).map_err(io_error)?;
        let report = wait_for_report(control, cancel).await;
        let status = child.wait().await.map_err(io_error)?;
        tracing::trace!(bundle = %bundle.display(), %status, ?report, "helper ended");
        ended.send_replace(true);
        for pump in pumps {
            if cancel.is_cancelled() {
                pump.abort();
            }
            finish(pump).await;
        }
        self.result(report, status, cancel)
    }

    fn job(&self, container: &Container) -> Job {
        Job {
            runtime: match &self.kind {
                Kind::Embedded => OsString::from(EMBEDDED),
                Kind::Program(path) => path.clone().into(),
            },
            bundle: container.bundle.clone(),
            id: container.id.clone(),
            cgroup: container.cgroup.clone(),
            loopback: container.process.network == Network::None,
        }
    }

    fn result(
        &self,
        report: Option<Report>,
        status: std::process::ExitStatus,
        cancel: &Cancel,
    ) -> Result<Exit> {
        match report {
            // A process that ended by itself while it was being cancelled has still ended.
            Some(Report::Exited { code }) => Ok(Exit::Code(code)),
            _ if cancel.is_cancelled() => Err(Error::Cancelled),
            Some(Report::Signaled { signal }) => Ok(Exit::Signal(signal)),
            Some(Report::StartFailed { reason, message }) => Err(Error::Start { reason, message }),
            Some(Report::ContainerFailed { message }) => Err(Error::Container {
                runtime: self.name(),
                message,
            }),
            None => Err(self.unusable(format!(
                "the helper process said nothing and ended with {status}; was it killed?"
            ))),
        }
    }
}

impl Runtime for SupervisedRuntime {
    fn name(&self) -> String {
        match &self.kind {
            Kind::Embedded => EMBEDDED.to_owned(),
            Kind::Program(path) => path.display().to_string(),
        }
    }

    fn abilities(&self) -> Abilities {
        match self.kind {
            Kind::Embedded => Abilities::LIBCONTAINER,
            Kind::Program(_) => Abilities::RUNC,
        }
    }

    fn run(&self, container: Container) -> RunFuture<'_> {
        Box::pin(self.run_container(container))
    }
}

fn find(name: &str, search_path: &str) -> Result<PathBuf> {
    let directories = search_path
        .split(':')
        .filter(|directory| directory.starts_with('/'));
    let mut candidates = directories.map(|directory| Path::new(directory).join(name));
    let found = candidates.find(|path| path.is_file());
    found.ok_or_else(|| missing(Path::new(name), "it is in no directory of PATH"))
}

fn missing(program: &Path, what: &str) -> Error {
    let reason = format!("{what}; install it or set runtime = \"embedded\"");
    Error::Runtime {
        runtime: program.display().to_string(),
        reason,
    }
}

/// Reads the helper's last word. A cancel closes our end, which makes the helper kill.
async fn wait_for_report(control: UnixStream, cancel: &Cancel) -> Option<Report> {
    let (reader, writer) = control.into_split();
    let limit = REPORT_BYTES_MAX as u64 + 1;
    let mut reader = BufReader::new(reader.take(limit));
    let mut line = Vec::new();
    let read = reader.read_until(b'\n', &mut line);
    tokio::pin!(read);
    let length = tokio::select! {
        length = &mut read => length,
        () = cancel.cancelled() => {
            // Dropping this half shuts the socket down for writing.
            drop(writer);
            read.await
        }
    };
    length.ok().and_then(|_| serde_json::from_slice(&line).ok())
}

fn pump_of(
    pipe: OwnedFd,
    stream: Stream,
    output: &OutputSender,
    ended: &watch::Sender<bool>,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)?;
    Ok(tokio::spawn(pump(
        pipe,
        stream,
        output.clone(),
        ended.subscribe(),
    )))
}

async fn finish(pump: JoinHandle<std::io::Result<()>>) {
    match pump.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("failed to read the output of a container: {error}"),
        // Only a cancelled run aborts its pumps.
        Err(error) => tracing::trace!("output of a container dropped: {error}"),
    }
}
