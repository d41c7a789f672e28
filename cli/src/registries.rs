//! How registries are asked from this machine: logins of docker, certificates and mirrors of
//! containerd and docker.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use registry::{DockerConfig, Hosts};
use solver::request::Registries;

use crate::environment::Environment;

/// Where certificates, mirrors and plain HTTP are configured, a directory for each host.
const CERTS_DIRECTORIES: [&str; 3] = [
    "/etc/varve/certs.d",
    "/etc/containerd/certs.d",
    "/etc/docker/certs.d",
];

/// What this machine knows of registries.
///
/// # Errors
/// Docker's config.json is there and cannot be read.
pub(crate) fn configured(environment: &Environment) -> anyhow::Result<Registries> {
    let mut registries = Registries {
        hosts: Hosts {
            certs_directories: CERTS_DIRECTORIES.map(PathBuf::from).to_vec(),
            ..Hosts::default()
        },
        ..Registries::default()
    };
    let Some(path) = docker_config(environment) else {
        return Ok(registries);
    };
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(registries),
        text => text.with_context(|| format!("cannot read the logins in {}", path.display()))?,
    };
    registries.credentials = Arc::new(DockerConfig::parse(&text, path)?);
    Ok(registries)
}

/// Where `docker login` puts logins.
fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".docker"));
    Some(directory.or_else(home)?.join("config.json"))
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
