//! `varve run`: the options of `docker run` that make sense for a container that does not outlive
//! the command. Those that people are used to and that cannot be had are refused with the reason.

mod mounts;

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) use self::mounts::{MountChoice, MountFrom};
use self::mounts::{mount, tmpfs, volume};
use super::steps::{Host, Limit, size};
use super::{NetworkChoice, Runtime};

/// What `varve run --help` says below the options.
const RUN_HELP: &str = "\
The container is always removed when the process ends, with everything that it wrote outside of
mounts: varve keeps no containers, with --rm and without. For the same reason there are no names
for them (--name), no background ones (-d) and no volumes with a name: mount directories.
With --network host, which is the default, ports of the process are ports of this machine.

Signals go to the process. SIGINT and SIGTERM end one that does nothing about them; any signal
three times within a second kills. With -t what is typed goes to the process, Ctrl-C too.

Exit codes: that of the process, 128 + N if signal N killed it; 125 if varve failed, 126 if the
program cannot be started, 127 if it is not found.

Examples:
  varve run --rm debian cat /etc/os-release      pulled if it is not here
  varve run --rm -it -v .:/src -w /src rust:1 bash
  varve run --rm -e DEBUG=1 -u nobody --read-only --tmpfs /tmp app make test
  echo hello | varve run --rm -i busybox tr a-z A-Z";

/// `varve run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP, disable_help_flag = true)]
pub(crate) struct Run {
    /// Remove the container when it ends (it always is; for habit's sake)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Environment variable; without a value, that of varve's environment (repeatable)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File with environment variables, one in a line (repeatable)
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// User, and group, in place of the image's
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Working directory in place of the image's
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Program in place of the image's ENTRYPOINT; an empty one removes it
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Mount a directory or file of this machine (repeatable); :rslave lets in what is mounted
    /// there later. Without SOURCE: what the image has there, to be written to
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:ro]", value_parser = volume)]
    pub(crate) volumes: Vec<MountChoice>,
    /// The same, or a directory in memory, field by field (repeatable)
    #[arg(long = "mount", value_name = "FIELDS", value_parser = mount)]
    #[arg(
        long_help = "Mount something (repeatable): type=bind,source=PATH,target=PATH[,readonly]\
        [,bind-propagation=rslave] or \
        type=tmpfs,target=PATH[,tmpfs-size=SIZE][,tmpfs-mode=MODE][,readonly]. Unlike -v this does \
        not make a directory that is missing on this machine"
    )]
    pub(crate) mount: Vec<MountChoice>,
    /// Mount a directory in memory: as /tmp or /tmp:size=64m,mode=1777,exec (repeatable)
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = tmpfs)]
    pub(crate) tmpfs: Vec<MountChoice>,
    /// Keep the process from writing to the files of the image
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Network of the process
    #[arg(long, visible_alias = "net", value_enum, default_value_t)]
    pub(crate) network: NetworkChoice,
    /// Host name [default: this machine's with its network, else a random one]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Further line of /etc/hosts (repeatable)
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub(crate) hosts: Vec<Host>,
    /// Size of /dev/shm, as 64m or 1g [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) shm_size: Option<u64>,
    /// Limit of the processes (repeatable): as nofile=1024 or nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<Limit>,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) pull: PullChoice,
    /// Platform of the image, as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Show nothing of a pull but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What makes the container
    #[command(flatten)]
    pub(crate) runtime: Runtime,
    /// What cannot be had
    #[command(flatten)]
    pub(crate) refused: Refused,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image, then a command in place of its CMD
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_name = "IMAGE [COMMAND]", num_args = 1..)]
    pub(crate) image_and_command: Vec<String>,
    /// Rights, limits and name servers
    #[command(flatten)]
    pub(crate) isolation: super::isolation::Isolation,
}

/// Options of `docker run` that are understood and refused, so that the message can say why.
#[derive(Debug, Default, Args)]
pub(crate) struct Refused {
    /// In the background
    #[arg(short, long, hide = true)]
    detach: bool,
    /// A name for the container
    #[arg(long, hide = true, value_name = "NAME")]
    name: Option<String>,
    /// Ports
    #[arg(short, long, hide = true, value_name = "PORTS")]
    publish: Vec<String>,
    /// All ports
    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,
    /// Start it again
    #[arg(long, hide = true, value_name = "POLICY")]
    restart: Option<String>,
    /// All rights
    #[arg(long, hide = true)]
    privileged: bool,
    /// Notes on the container
    #[arg(short, long, hide = true, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// The same, of a file
    #[arg(long, hide = true, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// What `docker stop` sends
    #[arg(long, hide = true, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// How long `docker stop` waits
    #[arg(long, hide = true, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Where the container's id goes
    #[arg(long, hide = true, value_name = "FILE")]
    cidfile: Option<PathBuf>,
}

impl Refused {
    /// The first of them that was given, with the reason and what to do instead.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        if self.detach {
            return Some(
                "--detach: nothing of varve stays behind to look after a container; leave it out, \
                 and let the shell (`&`) or systemd-run keep it in the background",
            );
        }
        if self.name.is_some() {
            return Some(
                "--name: no other command could use the name, because a container is gone with \
                 its `varve run`; leave it out, or use --hostname",
            );
        }
        if !self.publish.is_empty() || self.publish_all {
            return Some(
                "--publish: there are no networks of varve's own to publish ports from; leave it \
                 out: with --network host the process listens on ports of this machine",
            );
        }
        if self.restart.is_some() {
            return Some(
                "--restart: nothing of varve stays behind to start it again; leave it out, and let \
                 systemd do so",
            );
        }
        if !self.label.is_empty() || !self.label_file.is_empty() {
            return Some(
                "--label: no other command could read it, because a container is gone with its \
                 `varve run`; leave it out (`varve build --label` is for images)",
            );
        }
        if self.stop_signal.is_some() || self.stop_timeout.is_some() {
            return Some(
                "--stop-signal, --stop-timeout: there is no `varve stop` that would send it; leave it \
                 out: the process gets the signals that `varve run` gets",
            );
        }
        if self.cidfile.is_some() {
            return Some(
                "--cidfile: no other command could use the id, because a container is gone with its \
                 `varve run`; leave it out",
            );
        }
        self.privileged.then_some(
            "--privileged: containers of varve have the rights of build steps, no more; leave it \
             out, or say which are needed (--cap-add, --device)",
        )
    }
}

/// `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum PullChoice {
    /// If it is not here.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}
