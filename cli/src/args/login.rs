//! What the commands take that store logins at registries.

use clap::Args;

/// `varve login`.
#[derive(Debug, Args)]
#[command(after_help = "\
The login is shown to the registry first, and stored only if it is accepted: in
~/.docker/config.json ($DOCKER_CONFIG/config.json), where docker and others find it too, or with
the credential helper that is configured there (credHelpers, credsStore).

Examples:
  varve login                                    docker.io; asks for name and password
  varve login -u me --password-stdin ghcr.io < token
  varve login registry.example:5000              a registry of one's own")]
pub(crate) struct Login {
    /// The registry [default: docker.io]
    #[arg(
        value_name = "SERVER",
        default_value = "docker.io",
        hide_default_value = true
    )]
    pub(crate) server: String,
    /// The name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password or token; others on this machine can see it, so prefer --password-stdin
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
}

/// `varve logout`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  varve logout                      docker.io
  varve logout registry.example:5000")]
pub(crate) struct Logout {
    /// The registry [default: docker.io]
    #[arg(
        value_name = "SERVER",
        default_value = "docker.io",
        hide_default_value = true
    )]
    pub(crate) server: String,
}
