//! What commands take that bring images to registries.

use clap::Args;

use crate::output::Mode;

/// `varve push`.
#[derive(Debug, Args)]
#[command(after_help = "\
The registry is part of the name: give the image that name with `varve build -t` or `varve tag`.
Logins, mirrors and certificates are those of `varve pull`. What the registry has is not sent
again; layers that were built here are packed with gzip, once.

Examples:
  varve tag app registry.example/team/app:1 && varve push registry.example/team/app:1
  varve push 127.0.0.1:5000/app                 tag latest, over plain HTTP
  varve push --platform linux/arm64 ghcr.io/o/app:1   one platform of several
  varve push -a registry.example/team/app             all tags that are here")]
pub(crate) struct Push {
    /// Name of the image: where it goes to, and what it is called in the store
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) image: String,
    /// All tags that the store has of it; then the name has none
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Push only this platform of the image [default: all that are in the store]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// How progress is shown
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) progress: Mode,
    /// Show nothing but the full name
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Where `varve build` pushes to.
#[derive(Clone, Debug, Args)]
pub(crate) struct PushResult {
    /// Push the image to the registries that its names say; short for -o type=registry
    #[arg(long)]
    pub(crate) push: bool,
}
