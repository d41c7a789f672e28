//! `docker context`: which one is in use, and where it leads.

use std::path::PathBuf;

use serde::Deserialize;

use crate::environment::Environment;

/// The context that is none: docker's usual socket.
const DEFAULT: &str = "default";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    current_context: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    name: String,
    endpoints: Endpoints,
}

#[derive(Debug, Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    host: String,
}

/// Where docker keeps its configuration.
fn directory(environment: &Environment) -> Option<PathBuf> {
    let directory = environment.get("DOCKER_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(environment.get("HOME")?).join(".docker"));
    directory.or_else(home)
}

/// The context that `docker` would use now, if it is not the default one.
pub(super) fn in_use(environment: &Environment) -> Option<String> {
    let named = environment.get("DOCKER_CONTEXT").map(str::to_owned);
    let configured = || {
        let text = std::fs::read(directory(environment)?.join("config.json")).ok()?;
        let configuration: Configuration = serde_json::from_slice(&text).ok()?;
        Some(configuration.current_context)
    };
    named
        .or_else(configured)
        .filter(|name| !name.is_empty() && name != DEFAULT)
}

/// The address of a context's docker, such as `unix:///run/user/1000/docker.sock`.
pub(super) fn endpoint(environment: &Environment, context: &str) -> Option<String> {
    let contexts = directory(environment)?.join("contexts/meta");
    // Directories are called by digests of the names.
    let mut found = std::fs::read_dir(contexts)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let text = std::fs::read(entry.path().join("meta.json")).ok()?;
            serde_json::from_slice::<Metadata>(&text).ok()
        });
    let found = found.find(|metadata| metadata.name == context)?;
    Some(found.endpoints.docker?.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_in_use_leads_to_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let meta = directory.path().join("contexts/meta/0123");
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"mine","Metadata":{},
            "Endpoints":{"docker":{"Host":"unix:///mine.sock","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let config = directory.path().join("config.json");
        std::fs::write(&config, r#"{"auths":{},"currentContext":"mine"}"#).unwrap();
        let place = directory.path().display().to_string();
        let place = ("DOCKER_CONFIG", place.as_str());
        let environment = Environment::of(&[place], true);
        assert_eq!(in_use(&environment).as_deref(), Some("mine"));
        let found = endpoint(&environment, "mine");
        assert_eq!(found.as_deref(), Some("unix:///mine.sock"));
        assert_eq!(endpoint(&environment, "other"), None);
        let other = Environment::of(&[place, ("DOCKER_CONTEXT", "default")], true);
        assert_eq!(in_use(&other), None);
    }
}
