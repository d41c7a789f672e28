//! A server of git repositories, by git's own daemon.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::server::{HOST_PATH, Server};
use crate::workspace::run;

/// Serves repositories on a port of its own until the value goes.
#[derive(Debug)]
pub struct GitServer {
    directory: TempDir,
    port: u16,
    _daemon: Server,
}

impl GitServer {
    /// Starts it, without any repository.
    ///
    /// # Panics
    /// There is no git, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        drop(free);
        let mut command = Command::new("git");
        command
            .args(["daemon", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", directory.path().display()));
        let mut daemon = Server::start(&mut command, &directory.path().join("log"));
        daemon.wait_for(|| TcpStream::connect(("127.0.0.1", port)).ok());
        GitServer {
            directory,
            port,
            _daemon: daemon,
        }
    }

    /// Where a repository is, for clients.
    #[must_use]
    pub fn address(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.port)
    }

    /// The working tree of a repository, made if it is not there.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn repository(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        if !path.exists() {
            fs::create_dir(&path).expect("a directory");
            git(&path, &["init", "--quiet", "--initial-branch=main"]);
        }
        path
    }

    /// Records everything in the working tree; the id of the commit.
    ///
    /// # Panics
    /// Git fails.
    pub fn commit(&self, name: &str) -> String {
        let path = self.repository(name);
        git(&path, &["add", "--all"]);
        git(&path, &["commit", "--quiet", "--message=more"]);
        git(&path, &["rev-parse", "HEAD"]).trim().to_owned()
    }
}

/// Runs git in a repository; what it prints.
///
/// # Panics
/// It fails.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", HOST_PATH)
        .env("HOME", "/nonexistent");
    run(&mut command).success().stdout
}
