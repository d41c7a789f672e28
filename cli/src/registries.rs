//! How registries are asked from this machine: logins of docker, certificates and mirrors of
//! containerd, docker and buildkitd, proxies of the environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use registry::{DockerConfig, Hosts, Proxies, RegistrySettings};
use serde::Deserialize;
use solver::request::Registries;

use crate::configuration::Configuration;
use crate::environment::Environment;

/// Where certificates, mirrors and plain HTTP are configured, a directory for each host, below
/// a user's directory of configuration and below that of the machine.
const CERTS_DIRECTORIES: [&str; 3] = ["varve/certs.d", "containerd/certs.d", "docker/certs.d"];

/// buildkitd's own file, below the same: what it says of registries holds here too.
const BUILDKITD: &str = "buildkit/buildkitd.toml";

/// The machine's configuration.
const SYSTEM: &str = "/etc";

/// What this machine knows of registries.
///
/// # Errors
/// Docker's config.json, or another file of these, is there and cannot be read; a proxy that is
/// none.
pub(crate) fn configured(environment: &Environment) -> anyhow::Result<Registries> {
    of(&Configuration::of(environment)?, environment)
}

/// The same with the configuration file as it was read.
///
/// # Errors
/// As [`configured`].
pub(crate) fn of(
    configuration: &Configuration,
    environment: &Environment,
) -> anyhow::Result<Registries> {
    let mut directories = Vec::from_iter(environment.configuration_directory());
    directories.push(PathBuf::from(SYSTEM));
    let mut hosts = Hosts {
        registries: configuration.registry.clone(),
        ..Hosts::default()
    };
    for directory in directories {
        let certs = CERTS_DIRECTORIES.iter().map(|name| directory.join(name));
        hosts.certs_directories.extend(certs);
        for (host, settings) in of_buildkitd(&directory.join(BUILDKITD))? {
            hosts.registries.entry(host).or_insert(settings);
        }
    }
    let mut registries = Registries {
        hosts,
        proxies: Proxies::of(|name| environment.get(name))?,
        limits: configuration.registry_limits(),
        ..Registries::default()
    };
    let Some(path) = login_file(environment) else {
        return Ok(registries);
    };
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(registries),
        text => text.with_context(|| format!("cannot read the logins in {}", path.display()))?,
    };
    registries.credentials = Arc::new(DockerConfig::parse(&text, path)?);
    Ok(registries)
}

/// The tables `[registry."HOST"]` of a buildkitd.toml, which need not be there.
fn of_buildkitd(path: &Path) -> anyhow::Result<BTreeMap<String, RegistrySettings>> {
    /// The rest is not varve's.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Document {
        registry: BTreeMap<String, RegistrySettings>,
    }
    let text = match fs::read_to_string(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(BTreeMap::new());
        }
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let document: Document = toml::from_str(&text).with_context(|| {
        format!(
            "cannot understand what {} says of registries",
            path.display()
        )
    })?;
    let mut tables = document.registry;
    let directory = path.parent().unwrap_or(Path::new(SYSTEM));
    tables
        .values_mut()
        .for_each(|settings| settings.resolve(directory));
    Ok(tables)
}

/// Where `docker login` and `varve login` put logins.
pub(crate) fn login_file(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".docker"));
    Some(directory.or_else(home)?.join("config.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_directory_goes_before_the_machines() {
        let home = tempfile::tempdir().unwrap();
        let buildkit = home.path().join(".config/buildkit");
        fs::create_dir_all(&buildkit).unwrap();
        let write = |text: &str| fs::write(buildkit.join("buildkitd.toml"), text).unwrap();
        let variables = [("HOME", home.path().to_str().unwrap())];
        let environment = Environment::of(&variables, false);
        write("root = \"/x\"\n[worker.oci]\ngc = true\n[registry.\"r\"]\nca = [\"c\"]\n");
        let found = configured(&environment).unwrap();
        let certs = &found.hosts.certs_directories;
        assert_eq!(certs[0], home.path().join(".config/varve/certs.d"));
        assert_eq!(certs[3], Path::new("/etc/varve/certs.d"));
        assert_eq!(found.hosts.registries["r"].ca, [buildkit.join("c")]);
        write("[registry.\"r\"]\nmirror = 3\n");
        let text = format!("{:#}", configured(&environment).unwrap_err());
        assert!(
            text.contains("buildkitd.toml") && text.contains("mirror"),
            "{text}"
        );
    }

    #[test]
    fn logins_are_where_docker_keeps_them() {
        let home = ("HOME", "/home/u");
        let found = |variables: &[(&str, &str)]| login_file(&Environment::of(variables, false));
        assert_eq!(found(&[home]), Some("/home/u/.docker/config.json".into()));
        let other = found(&[home, ("DOCKER_CONFIG", "/other")]);
        assert_eq!(other, Some("/other/config.json".into()));
        assert_eq!(found(&[]), None);
    }
}
