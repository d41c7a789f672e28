//! Which containerd is meant: by nerdctl's variables, by its configuration, or the usual one.

use std::path::PathBuf;

use serde::Deserialize;

use super::containerd::Containerd;
use crate::environment::Environment;

/// Where nerdctl is configured, for root, unless NERDCTL_TOML says otherwise.
const CONFIGURATION: &str = "/etc/nerdctl/nerdctl.toml";

/// Where containerd listens unless somebody says otherwise.
const ADDRESS: &str = "/run/containerd/containerd.sock";

/// Where nerdctl and ctr look for images.
const NAMESPACE: &str = "default";

/// What containerd unpacks with.
const SNAPSHOTTER: &str = "overlayfs";

/// The part of nerdctl.toml that tells where images go.
#[derive(Debug, Default, Deserialize)]
struct Configuration {
    address: Option<String>,
    namespace: Option<String>,
    snapshotter: Option<String>,
}

/// The containerd of this machine, whether it answers or not.
pub(super) fn containerd(environment: &Environment) -> Containerd {
    let path = environment.get("NERDCTL_TOML").unwrap_or(CONFIGURATION);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let configuration: Configuration = toml::from_str(&text)
        .inspect_err(|error| tracing::warn!(path, %error, "cannot read nerdctl's configuration"))
        .unwrap_or_default();
    let chosen = |variable: &str, configured: Option<String>, usual: &str| {
        let variable = environment.get(variable).filter(|value| !value.is_empty());
        let variable = variable.map(str::to_owned);
        variable.or(configured).unwrap_or_else(|| usual.to_owned())
    };
    let address = chosen("CONTAINERD_ADDRESS", configuration.address, ADDRESS);
    let address = address.strip_prefix("unix://").unwrap_or(&address);
    Containerd {
        address: PathBuf::from(address),
        namespace: chosen("CONTAINERD_NAMESPACE", configuration.namespace, NAMESPACE),
        snapshotter: chosen(
            "CONTAINERD_SNAPSHOTTER",
            configuration.snapshotter,
            SNAPSHOTTER,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_before_nerdctls_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nerdctl.toml");
        std::fs::write(
            &path,
            "address = \"unix:///a.sock\"\nnamespace = \"k8s.io\"\n",
        )
        .unwrap();
        let path = path.display().to_string();
        let found = containerd(&Environment::of(
            &[("NERDCTL_TOML", &path), ("CONTAINERD_NAMESPACE", "mine")],
            true,
        ));
        assert_eq!(found.address, PathBuf::from("/a.sock"));
        assert_eq!(found.namespace, "mine");
        assert_eq!(found.snapshotter, "overlayfs");
        let found = containerd(&Environment::of(&[("NERDCTL_TOML", "/absent")], true));
        assert_eq!(found.address, PathBuf::from(ADDRESS));
        assert_eq!(found.namespace, "default");
    }
}
