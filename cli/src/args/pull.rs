//! What commands take that bring images from registries.

use clap::Args;

use crate::output::Mode;

/// `varve pull`.
#[derive(Debug, Args)]
#[command(after_help = "\
Logins are those of `varve login` (~/.docker/config.json, credential helpers). Mirrors,
certificates and plain HTTP are those of certs.d/HOST/hosts.toml in varve, containerd or docker
below ~/.config and /etc, and of [registry.HOST] in /etc/varve/varve.toml or buildkitd.toml;
proxies those of HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

Examples:
  varve pull debian:12                          from docker.io
  varve pull --platform linux/amd64,linux/arm64 ghcr.io/o/app:1
  varve pull -a registry.example/team/app       all its tags")]
pub(crate) struct Pull {
    /// Name of the image, with its registry, tag or digest
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// All tags that the registry has of it; then IMAGE has none
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Platforms, as linux/arm64 (repeatable, or separated by commas) [default: this machine's]
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platforms: Vec<String>,
    /// All platforms that the registry has it for
    #[arg(long, conflicts_with = "platforms")]
    pub(crate) all_platforms: bool,
    /// How progress is shown
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) progress: Mode,
    /// Show nothing but the full name
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How `varve build` comes to base images.
#[derive(Clone, Debug, Args)]
pub(crate) struct BaseImages {
    /// Ask registries also for images that are in the store, and take what is newer
    #[arg(long)]
    pub(crate) pull: bool,
}
