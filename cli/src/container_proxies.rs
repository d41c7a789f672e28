//! The proxies that docker's config.json names for steps and containers
//! (<https://docs.docker.com/engine/cli/proxy/>): varve's own requests do not use them.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context;
use serde::Deserialize;

use crate::environment::Environment;
use crate::registries::login_file;

/// The rest of the file is not ours.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    proxies: Named,
}

/// A table for each daemon, by its address; there is none here, so the usual one counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    default: Table,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Table {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    ftp_proxy: String,
    all_proxy: String,
}

/// Variables and their values, each in upper and lower case.
///
/// # Errors
/// The file is there and cannot be read or understood.
pub(crate) fn configured(environment: &Environment) -> anyhow::Result<Vec<(String, String)>> {
    let Some(path) = login_file(environment) else {
        return Ok(Vec::new());
    };
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let document: Document = serde_json::from_str(&text)
        .with_context(|| format!("cannot understand the proxies in {}", path.display()))?;
    let table = document.proxies.default;
    let variables = [
        ("HTTP_PROXY", table.http_proxy),
        ("HTTPS_PROXY", table.https_proxy),
        ("NO_PROXY", table.no_proxy),
        ("FTP_PROXY", table.ftp_proxy),
        ("ALL_PROXY", table.all_proxy),
    ];
    let said = variables.into_iter().filter(|(_, value)| !value.is_empty());
    let both = |(name, value): (&str, String)| {
        [
            (name.to_owned(), value.clone()),
            (name.to_lowercase(), value),
        ]
    };
    Ok(said.flat_map(both).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> anyhow::Result<Vec<(String, String)>> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.json"), text).unwrap();
        let path = directory.path().display().to_string();
        configured(&Environment::of(&[("DOCKER_CONFIG", &path)], true))
    }

    #[test]
    fn proxies_are_those_of_the_default_daemon() {
        let text = r#"{"auths": {}, "proxies": {"tcp://x:1": {"httpProxy": "http://no"},
            "default": {"httpProxy": "http://p:3128", "noProxy": "a,b", "ftpProxy": ""}}}"#;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            of(text).unwrap(),
            [
                pair("HTTP_PROXY", "http://p:3128"),
                pair("http_proxy", "http://p:3128"),
                pair("NO_PROXY", "a,b"),
                pair("no_proxy", "a,b"),
            ]
        );
        assert!(of("{}").unwrap().is_empty());
        let nowhere = Environment::of(&[("DOCKER_CONFIG", "/nowhere")], true);
        assert!(configured(&nowhere).unwrap().is_empty());
        let error = of(r#"{"proxies": 7}"#).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
