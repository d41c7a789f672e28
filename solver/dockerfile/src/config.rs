//! The image configuration that instructions fill in: what `docker inspect` shows.
//!
//! The document is OCI's `application/vnd.oci.image.config.v1+json` with Docker's additions
//! (`Healthcheck`, `OnBuild`, `Shell`), with the field names, the order and the omission rules that
//! BuildKit writes. Root file system and creation times are filled in by the exporter.

use std::collections::BTreeMap;

use llb::Platform;
use serde::{Deserialize, Deserializer, Serialize};

/// Value of [`History::comment`] for what a Dockerfile made.
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The operating system whose images have layers and paths of their own form.
pub const WINDOWS: &str = "windows";

/// Search path of processes on systems other than Windows when the image says none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerImageConfig {
    /// RFC 3339; the exporter's to fill in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `MAINTAINER`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub author: String,
    /// Such as `amd64`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Such as `linux`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub os_version: String,
    /// Features of the operating system (Windows).
    #[serde(
        default,
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub os_features: Vec<String>,
    /// Such as `v7` of `arm`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub variant: String,
    /// The layers; the exporter's to fill in.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// One entry for each instruction, those of the base image first.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "or_default"
    )]
    pub history: Vec<History>,
    /// How a container of the image is run.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ContainerConfig,
}

/// How a container of an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `USER`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub user: String,
    /// `EXPOSE`: `port/protocol`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `ENV`: `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// `CMD`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `VOLUME`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// `WORKDIR`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "or_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub stop_signal: String,
    /// Set by `CMD`, as BuildKit does; means something on Windows only.
    #[serde(
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_default"
    )]
    pub args_escaped: bool,
    /// `HEALTHCHECK`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// `ONBUILD`: triggers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub on_build: Vec<String>,
    /// `SHELL`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub shell: Vec<String>,
}

/// The value `{}` of the sets in a configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// `HEALTHCHECK`. Zero means "inherit".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Nanoseconds between checks.
    #[serde(rename = "Interval", skip_serializing_if = "is_zero")]
    pub interval_ns: i64,
    /// Nanoseconds that a check may take.
    #[serde(rename = "Timeout", skip_serializing_if = "is_zero")]
    pub timeout_ns: i64,
    /// Nanoseconds after the start in which failures do not count.
    #[serde(rename = "StartPeriod", skip_serializing_if = "is_zero")]
    pub start_period_ns: i64,
    /// Nanoseconds between checks in that period.
    #[serde(rename = "StartInterval", skip_serializing_if = "is_zero")]
    pub start_interval_ns: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self {
            kind: "layers".to_owned(),
            diff_ids: Vec::new(),
        }
    }
}

/// What one instruction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// RFC 3339; when absent the exporter's to fill in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub created_by: String,
    /// Who made it.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub author: String,
    /// What made it.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "or_default"
    )]
    pub comment: String,
    /// It made no layer.
    #[serde(
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "or_default"
    )]
    pub empty_layer: bool,
}

impl DockerImageConfig {
    /// The configuration of `FROM scratch`.
    pub fn scratch(platform: &Platform) -> Self {
        let mut image = Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        };
        image.config.working_dir = "/".to_owned();
        if platform.os != WINDOWS {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        image
    }

    /// The platform that the image says it is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    pub(crate) fn set_platform(&mut self, platform: Platform) {
        self.os = platform.os;
        self.architecture = platform.architecture;
        self.variant = platform.variant;
        self.os_version = platform.os_version;
        self.os_features = platform.os_features;
    }

    /// Sets a variable: in its old place, or at the end.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let variable = format!("{name}={value}");
        let same = |known: &&mut String| known.split('=').next() == Some(name);
        match self.config.env.iter_mut().find(same) {
            Some(known) => *known = variable,
            None => self.config.env.push(variable),
        }
    }

    /// The JSON document, indented by nothing.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps of a configuration have strings as keys")
    }
}

/// `null` means what absence means, as in Go.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_unknown_fields_of_a_base_image_are_no_errors() {
        let text = r#"{"architecture":"amd64","os":"linux","history":null,"container":"x",
            "config":{"Env":null,"Labels":null,"OnBuild":null,"Healthcheck":null,"Tty":false},
            "rootfs":{"type":"layers","diff_ids":null},"created":null}"#;
        let image: DockerImageConfig = serde_json::from_str(text).unwrap();
        let expected = DockerImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            ..DockerImageConfig::default()
        };
        assert_eq!(image, expected);
    }

    #[test]
    fn what_is_empty_is_left_out_and_the_order_is_docker_s() {
        let image = DockerImageConfig::scratch(&Platform::new("linux", "arm64"));
        let text = String::from_utf8(image.to_json()).unwrap();
        let expected = format!(
            r#"{{"architecture":"arm64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},{}}}"#,
            format_args!(r#""config":{{"Env":["PATH={DEFAULT_PATH}"],"WorkingDir":"/"}}"#)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_full_configuration_reads_back_what_it_writes() {
        let mut image = DockerImageConfig::scratch(&Platform::new("linux", "amd64"));
        image.set_env("A", "1");
        image.set_env("PATH", "/bin");
        assert_eq!(image.config.env, ["PATH=/bin", "A=1"]);
        image.config.healthcheck = Some(HealthConfig {
            test: vec!["NONE".into()],
            interval_ns: 5,
            retries: 3,
            ..HealthConfig::default()
        });
        image.config.exposed_ports.insert("80/tcp".into(), Empty {});
        image.history.push(History {
            empty_layer: true,
            ..History::default()
        });
        let text = image.to_json();
        assert_eq!(
            serde_json::from_slice::<DockerImageConfig>(&text).unwrap(),
            image
        );
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""ExposedPorts":{"80/tcp":{}}"#), "{text}");
        assert!(text.contains(r#""Healthcheck":{"Test":["NONE"],"Interval":5,"Retries":3}"#));
    }
}
