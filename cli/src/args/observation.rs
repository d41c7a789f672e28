//! What is said to watch a daemon.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::ListFormat;

/// Where a daemon is met unless something else is said.
pub(super) const SNAPSHOTTER_ADDRESS: &str = "/run/varve/snapshotter.sock";

/// `--metrics-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetricsAddress {
    /// `HOST:PORT`.
    Tcp(String),
    /// `unix:///PATH`.
    Unix(PathBuf),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(MetricsAddress::Unix(path.into())),
                false => Err("the path of the socket must be absolute: unix:///run/x.sock".into()),
            };
        }
        let port = text
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() && !host.contains('/') => {
                Ok(MetricsAddress::Tcp(text.into()))
            }
            _ => Err("expected HOST:PORT, as 127.0.0.1:9109, or unix:///PATH".into()),
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for a person; what keeps them adds the time.
    #[default]
    Text,
    /// An object on each line, with time, level and fields.
    Json,
}

/// `varve snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "\
These are the snapshots that containerd has here: of images it pulled and of containers it runs.
Builds have their own, which end with them; `varve du` counts both.")]
pub(crate) struct Snapshots {
    /// Which daemon
    #[command(flatten)]
    pub(crate) daemon: DaemonAddress,
    /// Name under which containerd knows the snapshotter
    #[arg(long, global = true, value_name = "NAME", default_value = "varve")]
    pub(crate) snapshotter: String,
    /// What to show
    #[command(subcommand)]
    pub(crate) command: SnapshotsCommand,
}

/// What `varve snapshots` shows.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotsCommand {
    /// List the snapshots, with what each adds to its parent and when it was made
    #[command(visible_alias = "list")]
    #[command(after_help = "\
Examples:
  varve snapshots ls
  varve snapshots ls --format json")]
    Ls {
        /// Form of the list
        #[arg(long, value_enum, default_value_t)]
        format: ListFormat,
    },
    /// Show which snapshot lies on which
    #[command(after_help = "\
Examples:
  varve snapshots tree")]
    Tree,
    /// Show what snapshots take, without their parents
    #[command(after_help = "\
Examples:
  varve snapshots usage                        of all
  varve snapshots usage --bytes KEY            of one, in bytes")]
    Usage {
        /// Only this snapshot
        #[arg(value_name = "KEY")]
        key: Option<String>,
        /// Show sizes in bytes
        #[arg(short, long)]
        bytes: bool,
    },
}

/// `varve debug`.
#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// Which daemon
    #[command(flatten)]
    pub(crate) daemon: DaemonAddress,
    /// What to show
    #[command(subcommand)]
    pub(crate) command: DebugCommand,
}

/// What `varve debug` shows.
#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Print as JSON what the daemon is doing: calls, snapshots, what waits, metrics
    #[command(after_help = "\
Examples:
  varve debug dump | jq .snapshots")]
    Dump,
}

/// Which daemon a command asks.
#[derive(Clone, Debug, Args)]
pub(crate) struct DaemonAddress {
    /// Socket of the daemon
    #[arg(long, global = true, value_name = "SOCKET", default_value = SNAPSHOTTER_ADDRESS)]
    pub(crate) address: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket() {
        for (text, expected) in [
            (
                "127.0.0.1:9109",
                Some(MetricsAddress::Tcp("127.0.0.1:9109".into())),
            ),
            ("[::1]:0", Some(MetricsAddress::Tcp("[::1]:0".into()))),
            (
                "localhost:80",
                Some(MetricsAddress::Tcp("localhost:80".into())),
            ),
            ("unix:///run/m", Some(MetricsAddress::Unix("/run/m".into()))),
            ("unix://run/m", None),
            (":9109", None),
            ("9109", None),
            ("http://127.0.0.1:80", None),
            ("127.0.0.1:70000", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
