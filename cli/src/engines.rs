//! Engines of this machine that have images of their own, for `--load`: docker, or containerd.

mod containerd;
mod contexts;
mod nerdctl;
mod program;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use solver::request::Receiver;

use self::containerd::Containerd;
use self::program::Program;
use self::socket::DockerSocket;
use crate::environment::Environment;

/// Where docker listens unless DOCKER_HOST says otherwise.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Finds somebody who answers: the docker of the named context, of DOCKER_HOST, or of the context
/// that is in use; else the containerd that CONTAINERD_ADDRESS names; else the docker of this
/// machine, or its containerd.
///
/// # Errors
/// Nobody does; the sentence says who was asked, and what to do without one.
pub(crate) fn find(
    environment: &Environment,
    context: Option<&str>,
) -> anyhow::Result<Arc<dyn Receiver>> {
    let host = environment.get("DOCKER_HOST");
    let host = host.filter(|host| !host.is_empty());
    let in_use = match (context, host) {
        (None, None) => contexts::in_use(environment),
        _ => None,
    };
    let context = context.or(in_use.as_deref());
    let is_anybody = context.is_none() && host.is_none();
    let containerd = is_anybody.then(|| nerdctl::containerd(environment));
    let is_named = environment.get("CONTAINERD_ADDRESS").is_some();
    let mut asked = Vec::new();
    // Whoever names one does not mean another.
    let is_containerd_alone = is_anybody && is_named;
    if !is_containerd_alone && let Some(docker) = docker(environment, context, host, &mut asked) {
        return Ok(docker);
    }
    if let Some(containerd) = containerd
        && let Some(found) = answering(&containerd, &mut asked)
    {
        return Ok(found);
    }
    bail!(
        "no engine takes the image ({}); start one, or write an archive with \
         -o type=docker,dest=image.tar and load it where one runs: docker load -i image.tar",
        asked.join("; ")
    )
}

/// The docker that is meant, if it answers.
fn docker(
    environment: &Environment,
    context: Option<&str>,
    host: Option<&str>,
    asked: &mut Vec<String>,
) -> Option<Arc<dyn Receiver>> {
    let endpoint = match context {
        Some(context) => contexts::endpoint(environment, context),
        None => host.map(str::to_owned),
    };
    let local = match (&endpoint, context) {
        (Some(endpoint), _) => endpoint.strip_prefix("unix://").map(PathBuf::from),
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from(DOCKER_SOCKET)),
    };
    if let Some(path) = local {
        let docker = DockerSocket::new(path);
        match docker.ping() {
            Ok(()) => return Some(Arc::new(docker)),
            Err(error) => asked.push(format!("docker at {}: {error}", docker.path().display())),
        }
    }
    // The program knows of ssh and of certificates.
    let docker = program(environment, "docker")?;
    let options = context.map_or_else(Vec::new, |name| vec!["--context", name]);
    match program::docker_answers(&docker, &options) {
        Ok(()) => return Some(Arc::new(Program::docker(docker, &options))),
        Err(error) => asked.push(format!("`docker version`: {error}")),
    }
    None
}

fn answering(containerd: &Containerd, asked: &mut Vec<String>) -> Option<Arc<dyn Receiver>> {
    match containerd.answers() {
        Ok(()) => return Some(Arc::new(containerd.clone())),
        Err(error) => asked.push(format!(
            "containerd at {}: {error}",
            containerd.address.display()
        )),
    }
    None
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
