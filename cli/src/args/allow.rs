//! `--allow`: what a build may do beyond its own files.

use std::str::FromStr;

/// What buildx calls the right to empty any directory.
pub(crate) const DELETE: &str = "buildx.local.delete";

/// A right that is given to a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// `type=local,mode=delete` outside of the working directory.
    LocalDelete,
    /// RUN --network=host, which any build may use here.
    HostNetwork,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('=').next().unwrap_or(text) {
            DELETE => Ok(Allowed::LocalDelete),
            "network.host" => Ok(Allowed::HostNetwork),
            "security.insecure" | "device" => Err(format!(
                "{text} cannot be had: steps have no more rights than other containers"
            )),
            _ => Err(format!("there are {DELETE} and network.host")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_have_buildkits_names() {
        assert_eq!("buildx.local.delete".parse(), Ok(Allowed::LocalDelete));
        assert_eq!("network.host".parse(), Ok(Allowed::HostNetwork));
        for text in ["security.insecure", "device=gpu", "everything"] {
            text.parse::<Allowed>().unwrap_err();
        }
    }
}
