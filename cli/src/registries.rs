//! How registries are asked from this machine: logins of docker, certificates and mirrors of
//! containerd and docker, and what a person sees of failures that are not the end.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use registry::{Client, DockerConfig, Hosts, Next, Observer, Retry};

use crate::environment::Environment;
use crate::error::say;

/// Where certificates, mirrors and plain HTTP are configured, a directory for each host.
const CERTS_DIRECTORIES: [&str; 3] = [
    "/etc/varve/certs.d",
    "/etc/containerd/certs.d",
    "/etc/docker/certs.d",
];

/// A client that knows what this machine knows.
///
/// # Errors
/// Docker's config.json is there and cannot be read.
pub(crate) fn client(environment: &Environment) -> anyhow::Result<Client> {
    let hosts = Hosts {
        certs_directories: CERTS_DIRECTORIES.map(PathBuf::from).to_vec(),
        ..Hosts::default()
    };
    let builder = Client::builder().hosts(hosts).observer(Arc::new(Told));
    let Some(path) = docker_config(environment) else {
        return Ok(builder.build());
    };
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(builder.build()),
        text => text.with_context(|| format!("cannot read the logins in {}", path.display()))?,
    };
    let logins = DockerConfig::parse(&text, path)?;
    Ok(builder.credentials(Arc::new(logins)).build())
}

/// Where `docker login` puts logins.
fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".docker"));
    Some(directory.or_else(home)?.join("config.json"))
}

/// Says why it takes so long.
struct Told;

impl Observer for Told {
    fn retrying(&self, retry: &Retry<'_>) {
        let next = match retry.next {
            Next::Again { wait } => format!("trying again in {:.1}s", wait.as_secs_f64()),
            Next::Server(server) => format!("asking {server}"),
        };
        say(&format!("WARNING: {}; {next}", retry.cause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_where_docker_keeps_them() {
        let home = ("HOME", "/home/u");
        let found = |variables: &[(&str, &str)]| docker_config(&Environment::of(variables, false));
        assert_eq!(found(&[home]), Some("/home/u/.docker/config.json".into()));
        let other = found(&[home, ("DOCKER_CONFIG", "/other")]);
        assert_eq!(other, Some("/other/config.json".into()));
        assert_eq!(found(&[]), None);
    }
}
