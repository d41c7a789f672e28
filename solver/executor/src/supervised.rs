//! The real runtimes, seen from the parent: both run in a helper process of our own program.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::attached::Copying;
use crate::cancel::Cancel;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::helper::{EMBEDDED, Job};
use crate::orphans;
use crate::output::{OutputSender, Stream, pump};
use crate::process::Network;
use crate::protocol::{self, Report};
use crate::runtime::{Container, Exit, RunFuture, Runtime, RuntimeChoice};
use crate::sealed::SealedProgram;
use crate::spec::Abilities;
use crate::stdio::{Asked, Attached, Stdio as Streams};

/// A runtime in a helper process.
///
/// The helper is a program whose `main` calls [`crate::helper_main`] when
/// [`crate::is_helper`] says so: varve itself, or a small one in tests.
#[derive(Debug)]
pub struct SupervisedRuntime {
    kind: Kind,
    helper: PathBuf,
    sealed: OnceLock<SealedProgram>,
    refusal: Option<String>,
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
            refusal: None,
        })
    }

    /// The same for a process that cannot make containers, because of this.
    #[must_use]
    pub fn refusing(self, reason: &str) -> Self {
        let reason = format!("making containers needs root or a user namespace: {reason}");
        Self {
            refusal: Some(reason),
            ..self
        }
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

    async fn run_container(&self, mut container: Container) -> Result<Exit> {
        if container.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let job = self.job(&container);
        match std::mem::replace(&mut container.stdio, Streams::nothing()) {
            Streams::Lines(output) => self.run_with_lines(&container, &job, output).await,
            Streams::Attached(attached) => self.run_attached(&container, &job, attached).await,
        }
    }

    /// Starts the helper with these as the container's output.
    async fn start(&self, job: &Job, output: [Stdio; 2]) -> Result<(Child, UnixStream)> {
        let io_error = |error| self.system_error(error);
        let (ours, theirs) = UnixStream::pair().map_err(io_error)?;
        let mut command = Command::new(self.helper_path().await?);
        command.arg0("varve").args(job.to_arguments());
        // Nothing of our environment is for the container, and libcontainer reads some of it.
        command.env_clear().current_dir("/");
        // Ctrl-C at the terminal is for varve, which cancels in its own way.
        command.process_group(0);
        command.stdin(OwnedFd::from(theirs));
        let [stdout, stderr] = output;
        command.stdout(stdout).stderr(stderr);
        // Our copies of the container's ends of the pipes go with `command`.
        let child = command.spawn().map_err(|error| {
            self.unusable(format!("cannot execute {}: {error}", self.helper.display()))
        })?;
        Ok((child, ours))
    }

    async fn run_with_lines(
        &self,
        container: &Container,
        job: &Job,
        output: OutputSender,
    ) -> Result<Exit> {
        let io_error = |error| self.system_error(error);
        let (stdout, stdout_writer) = std::io::pipe().map_err(io_error)?;
        let (stderr, stderr_writer) = std::io::pipe().map_err(io_error)?;
        let (mut child, control) = self
            .start(job, [stdout_writer.into(), stderr_writer.into()])
            .await?;
        let ended = watch::Sender::new(false);
        let pumps = [
            pump_of(stdout.into(), Stream::Stdout, &output, &ended).map_err(io_error)?,
            pump_of(stderr.into(), Stream::Stderr, &output, &ended).map_err(io_error)?,
        ];
        let control = Control::new(control).map_err(io_error)?;
        let report = control
            .report(&mut child, &container.cancel, &mut None, |_| Ok(()))
            .await;
        let status = child.wait().await.map_err(io_error)?;
        self.end_orphans(job, report.as_ref()).await;
        tracing::trace!(id = container.id, %status, ?report, "helper ended");
        ended.send_replace(true);
        for pump in pumps {
            if container.cancel.is_cancelled() {
                pump.abort();
            }
            finish(pump).await;
        }
        self.result(report, status, &container.cancel)
    }

    async fn run_attached(
        &self,
        container: &Container,
        job: &Job,
        mut attached: Attached,
    ) -> Result<Exit> {
        let io_error = |error| self.system_error(error);
        let (_, nobody) = mpsc::unbounded_channel();
        let given = std::mem::replace(&mut attached.asked, nobody);
        let (asks, asked) = mpsc::unbounded_channel();
        let mut copying = Copying::new(asks.clone()).map_err(io_error)?;
        tokio::spawn(pass_on(given, asks));
        let mut asked = Some(asked);
        let (mut child, control, files) = match container.process.terminal {
            Some(_) => {
                let null = [Stdio::null(), Stdio::null()];
                let (child, control) = self.start(job, null).await?;
                (child, control, Some(attached))
            }
            None => {
                let ends = copying.pipes(attached, container.uid).map_err(io_error)?;
                let output = [ends.output.into(), ends.errors.into()];
                let (child, control) = self.start(job, output).await?;
                if let Some(input) = ends.input {
                    protocol::send_file(&control, &input).map_err(io_error)?;
                }
                (child, control, None)
            }
        };
        let mut files = files;
        let control = Control::new(control).map_err(io_error)?;
        let show = |master: &OwnedFd| match files.take() {
            Some(files) => copying.terminal(master, files.input, files.output),
            None => Ok(()),
        };
        let report = control
            .report(&mut child, &container.cancel, &mut asked, show)
            .await;
        let status = child.wait().await.map_err(io_error)?;
        self.end_orphans(job, report.as_ref()).await;
        tracing::trace!(id = container.id, %status, ?report, "helper ended");
        copying.finish(container.cancel.cancelled()).await;
        self.result(report, status, &container.cancel)
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
            input: matches!(
                &container.stdio,
                Streams::Attached(Attached { input: Some(_), .. })
            ) && container.process.terminal.is_none(),
            terminal: container.process.terminal.map(|size| (size, container.uid)),
        }
    }

    /// After a helper that could not clean up.
    async fn end_orphans(&self, job: &Job, report: Option<&Report>) {
        if report.is_some() {
            return;
        }
        let (id, bundle) = (job.id.clone(), job.bundle.clone());
        let ended = tokio::task::spawn_blocking(move || orphans::end(&id, &bundle));
        if let Err(error) = ended.await {
            tracing::warn!(%error, "cannot look for what a helper has left");
        }
    }

    fn system_error(&self, error: std::io::Error) -> Error {
        self.unusable(format!("system error: {error}"))
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

    fn check(&self) -> Result<()> {
        let refusal = self.refusal.clone();
        refusal.map_or(Ok(()), |reason| Err(self.unusable(reason)))
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

/// Until one of the two sides is gone.
async fn pass_on(mut from: mpsc::UnboundedReceiver<Asked>, to: mpsc::UnboundedSender<Asked>) {
    loop {
        tokio::select! {
            asked = from.recv() => match asked {
                Some(asked) if to.send(asked).is_ok() => {}
                _ => return,
            },
            () = to.closed() => return,
        }
    }
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
