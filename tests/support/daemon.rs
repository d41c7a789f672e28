//! `varve daemon`, as containerd's snapshotter plugin.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::server::{HOST_PATH, Server};
use crate::workspace::run;

/// A running daemon. It is asked to end when the value goes.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    addresses: Addresses,
    options: Vec<String>,
    server: Server,
}

/// Where the daemon's state lies and where it meets containerd.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The root directory of varve.
    pub root: PathBuf,
    /// The socket on which it serves snapshots.
    pub snapshotter: PathBuf,
    /// containerd's own socket. containerd may start later.
    pub containerd: PathBuf,
    /// What the daemon prints is appended here.
    pub log: PathBuf,
}

impl Daemon {
    /// Starts it and waits until its socket answers.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(binary: &Path, addresses: Addresses) -> Self {
        Daemon::start_with(binary, addresses, &[])
    }

    /// As [`Daemon::start`], with further options.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start_with(binary: &Path, addresses: Addresses, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut command = command(binary, &addresses);
        let server = serve(command.args(&options), &addresses);
        Daemon {
            binary: binary.to_owned(),
            addresses,
            options,
            server,
        }
    }

    /// The socket on which it serves snapshots.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.addresses.snapshotter
    }

    /// Its root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.addresses.root
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.server.runs()
    }

    /// All it has printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// It does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.server.terminate()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_end(&mut self) -> ExitStatus {
        self.server.wait_end()
    }

    /// As [`Daemon::restart`], but the daemon kills itself when it passes a failpoint of the store
    /// (`<name>[:<count>]`).
    ///
    /// # Panics
    /// As `restart`.
    pub fn restart_to_be_killed_at(&mut self, failpoint: &str) {
        if self.server.runs() {
            self.terminate();
        }
        let mut command = command(&self.binary, &self.addresses);
        command.args(&self.options).env("VARVE_KILL_AT", failpoint);
        self.server = serve(&mut command, &self.addresses);
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again; one that still runs is first asked to end.
    ///
    /// # Panics
    /// It does not end or does not start.
    pub fn restart(&mut self) {
        if self.server.runs() {
            self.terminate();
        }
        let mut command = command(&self.binary, &self.addresses);
        self.server = serve(command.args(&self.options), &self.addresses);
    }
}

/// What the daemon prints for containerd's configuration; `programs` is the directory of the
/// containerd that is meant.
///
/// # Panics
/// It does not.
#[track_caller]
#[must_use]
pub fn containerd_config(binary: &Path, addresses: &Addresses, programs: &Path) -> String {
    let mut command = command(binary, addresses);
    command
        .arg("--print-containerd-config")
        .env("PATH", format!("{}:{HOST_PATH}", programs.display()));
    run(&mut command).success().stdout
}

fn command(binary: &Path, addresses: &Addresses) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("daemon")
        .arg("--root")
        .arg(&addresses.root)
        .arg("--snapshotter-address")
        .arg(&addresses.snapshotter)
        .arg("--containerd-address")
        .arg(&addresses.containerd)
        .env_clear()
        .env("PATH", HOST_PATH);
    command
}

fn serve(command: &mut Command, addresses: &Addresses) -> Server {
    let mut server = Server::start(command, &addresses.log);
    // A socket that a killed daemon left refuses until the new one has taken its place.
    server.wait_for(|| UnixStream::connect(&addresses.snapshotter).ok());
    server
}
