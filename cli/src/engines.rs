//! Engines of this machine that have images of their own, for `--load`: docker, or containerd.

mod program;
mod socket;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use solver::request::Receiver;

use self::program::Program;
use self::socket::DockerSocket;
use crate::environment::Environment;

/// Where docker listens unless DOCKER_HOST says otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Where containerd listens unless CONTAINERD_ADDRESS says otherwise.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Finds somebody who answers: the docker of the named context, docker, containerd.
///
/// # Errors
/// Nobody does; the sentence says who was asked, and what to do without one.
pub(crate) fn find(
    environment: &Environment,
    context: Option<&str>,
) -> anyhow::Result<Arc<dyn Receiver>> {
    let host = environment
        .get("DOCKER_HOST")
        .filter(|host| !host.is_empty());
    let local = match (context, host) {
        (Some(_), _) => None,
        (None, None) => Some(PathBuf::from(DOCKER_SOCKET)),
        (None, Some(host)) => host.strip_prefix("unix://").map(PathBuf::from),
    };
    let mut asked = Vec::new();
    if let Some(path) = local {
        let docker = DockerSocket::new(path);
        match docker.ping() {
            Ok(()) => return Ok(Arc::new(docker)),
            Err(error) => asked.push(format!("docker at {}: {error}", docker.path().display())),
        }
    }
    // The program knows of contexts, of ssh and of certificates.
    if let Some(docker) = program(environment, "docker") {
        let options = context.map_or_else(Vec::new, |name| vec!["--context", name]);
        match program::docker_answers(&docker, &options) {
            Ok(()) => return Ok(Arc::new(Program::docker(docker, &options))),
            Err(error) => asked.push(format!("`docker version`: {error}")),
        }
    }
    if context.is_none() && host.is_none() {
        let address = environment.get("CONTAINERD_ADDRESS");
        let socket = Path::new(address.unwrap_or(CONTAINERD_SOCKET));
        match containerd(environment, socket) {
            Ok(containerd) => return Ok(Arc::new(containerd)),
            Err(error) => asked.push(format!("containerd at {}: {error}", socket.display())),
        }
    }
    bail!(
        "no engine takes the image ({}); start one, or write an archive with \
         -o type=docker,dest=image.tar and load it where one runs: docker load -i image.tar",
        asked.join("; ")
    )
}

/// A containerd that answers, and a program that speaks with it.
fn containerd(environment: &Environment, socket: &Path) -> Result<Program, String> {
    if let Err(error) = UnixStream::connect(socket) {
        return Err(crate::error::sentence(&error));
    }
    let namespace = environment.get("CONTAINERD_NAMESPACE");
    match (program(environment, "nerdctl"), program(environment, "ctr")) {
        (Some(nerdctl), _) => Ok(Program::nerdctl(nerdctl, socket, namespace)),
        (None, Some(ctr)) => Ok(Program::ctr(ctr, socket, namespace)),
        (None, None) => Err("there is neither nerdctl nor ctr on PATH".to_owned()),
    }
}

/// The program of that name on PATH.
fn program(environment: &Environment, name: &str) -> Option<PathBuf> {
    let path = environment.get("PATH")?;
    let candidates = path
        .split(':')
        .filter(|directory| directory.starts_with('/'));
    let mut candidates = candidates.map(|directory| Path::new(directory).join(name));
    candidates.find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests;
