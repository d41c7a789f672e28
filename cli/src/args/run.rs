//! `varve run`: the options of `docker run` that make sense for a container that does not outlive
//! the command. Those that people are used to and that cannot be had are refused with the reason.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::steps::{Host, Limit, size};
use super::{NetworkChoice, Runtime, csv};

/// What `varve run --help` says below the options.
const RUN_HELP: &str = "\
The container is always removed when the process ends, with everything that it wrote outside of
mounts: varve keeps no containers, with --rm and without. For the same reason there are no names
for them (--name), no background ones (-d) and no volumes: mount directories.
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
    /// there later
    #[arg(short, long = "volume", value_name = "SOURCE:TARGET[:ro]", value_parser = volume)]
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

/// Something to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountChoice {
    /// Where: an absolute path in the container.
    pub(crate) target: String,
    /// Whether the process may not write to it.
    pub(crate) is_read_only: bool,
    /// What.
    pub(crate) from: MountFrom,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountFrom {
    /// A file or directory of this machine.
    Path {
        /// Absolute, or relative to where the caller is.
        path: PathBuf,
        /// Whether a directory is made if nothing is there.
        is_made: bool,
        /// Whether what is mounted there later on this machine comes in.
        is_slave: bool,
    },
    /// A directory in memory.
    Memory {
        /// Most that it holds.
        size_bytes: Option<u64>,
        /// Permissions of the directory itself.
        mode: u32,
        /// Whether programs in it can be started.
        has_programs: bool,
    },
}

/// Reads `-v`.
fn volume(text: &str) -> Result<MountChoice, String> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] if target.starts_with('/') => {
            return Err(format!(
                "{target} is an anonymous volume, and varve has no volumes; name what is to be \
                 there (DIR:{target}), or use --tmpfs {target}"
            ));
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err("it is not SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    };
    if !source.contains('/') && source != "." && source != ".." {
        return Err(format!(
            "{source:?} is the name of a volume, and varve has no volumes; name a directory: \
             ./{source}:{target}"
        ));
    }
    let (mut is_read_only, mut is_slave) = (false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => is_read_only = true,
            // docker's defaults, and words that mean something on other systems only: z and Z are
            // for SELinux.
            "rw" | "private" | "rprivate" | "cached" | "delegated" | "consistent" | "z" | "Z" => {}
            "slave" | "rslave" => is_slave = true,
            "shared" | "rshared" => return Err(unshared(option)),
            _ => {
                return Err(format!(
                    "unsupported option {option:?}: there are ro, rw, z, Z, rprivate and rslave"
                ));
            }
        }
    }
    Ok(MountChoice {
        target: checked(target)?,
        is_read_only,
        from: MountFrom::Path {
            path: source.into(),
            is_made: true,
            is_slave,
        },
    })
}

fn unshared(option: &str) -> String {
    format!(
        "unsupported option {option:?}: what a container mounts is not seen on this machine, because \
         the mounts of varve are its own; rslave lets mounts of this machine in"
    )
}

/// Reads `--tmpfs`.
fn tmpfs(text: &str) -> Result<MountChoice, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut is_read_only, mut has_programs) = (false, false);
    let (mut size_bytes, mut mode) = (None, executor::TMPFS_MODE_DEFAULT);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => is_read_only = true,
            ("exec", "") => has_programs = true,
            ("rw" | "noexec" | "nosuid" | "nodev", "") => {}
            ("size", value) => size_bytes = Some(size(value)?),
            ("mode", value) => mode = octal(value)?,
            _ => {
                return Err(format!(
                    "unsupported option {option:?}: there are size=, mode=, exec, ro"
                ));
            }
        }
    }
    Ok(MountChoice {
        target: checked(target)?,
        is_read_only,
        from: MountFrom::Memory {
            size_bytes,
            mode,
            has_programs,
        },
    })
}

/// Reads `--mount`.
fn mount(text: &str) -> Result<MountChoice, String> {
    let (mut kind, mut source, mut target) = (None, None, None);
    let (mut size_bytes, mut mode) = (None, None);
    let (mut is_read_only, mut is_slave) = (false, false);
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        match (key.to_lowercase().as_str(), value) {
            ("type", Some(value)) => kind = Some(value.to_owned()),
            ("source" | "src", Some(value)) => source = Some(PathBuf::from(value)),
            ("target" | "dst" | "destination", Some(value)) => target = Some(checked(value)?),
            ("readonly" | "ro", None | Some("true" | "1")) => is_read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => is_read_only = false,
            ("bind-propagation", Some("private" | "rprivate")) => {}
            ("bind-propagation", Some("slave" | "rslave")) => is_slave = true,
            ("bind-propagation", Some(option @ ("shared" | "rshared"))) => {
                return Err(unshared(option));
            }
            ("tmpfs-size", Some(value)) => size_bytes = Some(size(value)?),
            ("tmpfs-mode", Some(value)) => mode = Some(octal(value)?),
            _ => {
                return Err(format!(
                    "invalid field '{field}': there are type=, source=, target=, readonly, \
                     tmpfs-size=, tmpfs-mode="
                ));
            }
        }
    }
    let target = target.ok_or("target is required")?;
    let from = match (kind.as_deref().unwrap_or("volume"), source) {
        ("bind", Some(path)) if size_bytes.is_none() && mode.is_none() => MountFrom::Path {
            path,
            is_made: false,
            is_slave,
        },
        ("bind", None) => return Err("type=bind needs source=PATH".to_owned()),
        ("bind", _) => return Err("tmpfs-size and tmpfs-mode are for type=tmpfs".to_owned()),
        ("tmpfs", _) if is_slave => {
            return Err("bind-propagation is for type=bind".to_owned());
        }
        ("tmpfs", None) => MountFrom::Memory {
            size_bytes,
            mode: mode.unwrap_or(executor::TMPFS_MODE_DEFAULT),
            has_programs: false,
        },
        ("tmpfs", Some(_)) => return Err("type=tmpfs has no source".to_owned()),
        ("volume", _) => {
            return Err(
                "type=volume, which is the default, is not supported: varve has no volumes; \
                 use type=bind,source=DIR"
                    .to_owned(),
            );
        }
        (kind, _) => {
            return Err(format!(
                "unsupported type {kind:?}: there are bind and tmpfs"
            ));
        }
    };
    Ok(MountChoice {
        target,
        is_read_only,
        from,
    })
}

fn checked(target: &str) -> Result<String, String> {
    match target.strip_prefix('/') {
        Some(rest) if !rest.trim_matches('/').is_empty() => Ok(target.to_owned()),
        _ => Err(format!(
            "{target:?} is no absolute path below / to mount at"
        )),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no file mode, as 1777"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, target: &str, is_read_only: bool, is_made: bool) -> MountChoice {
        MountChoice {
            target: target.into(),
            is_read_only,
            from: MountFrom::Path {
                path: path.into(),
                is_made,
                is_slave: false,
            },
        }
    }

    fn slave(mut choice: MountChoice) -> MountChoice {
        if let MountFrom::Path { is_slave, .. } = &mut choice.from {
            *is_slave = true;
        }
        choice
    }

    fn memory(target: &str, size_bytes: Option<u64>, mode: u32) -> MountChoice {
        MountChoice {
            target: target.into(),
            is_read_only: false,
            from: MountFrom::Memory {
                size_bytes,
                mode,
                has_programs: false,
            },
        }
    }

    #[test]
    fn volumes_are_paths() {
        for (text, expect) in [
            ("/a:/b", path("/a", "/b", false, true)),
            ("./a:/b:ro", path("./a", "/b", true, true)),
            (".:/src:rw", path(".", "/src", false, true)),
            ("/a:/b:z", path("/a", "/b", false, true)),
            ("/a:/b:ro,Z", path("/a", "/b", true, true)),
            ("/a:/b:private", path("/a", "/b", false, true)),
            ("/a:/b:ro,rslave", slave(path("/a", "/b", true, true))),
        ] {
            assert_eq!(volume(text), Ok(expect), "{text}");
        }
        for (text, part) in [
            ("/data", "--tmpfs /data"),
            ("data:/data", "./data:/data"),
            ("/a:b", "no absolute path"),
            ("/a:/", "no absolute path"),
            ("/a:/b:x", "there are ro, rw, z, Z, rprivate and rslave"),
            ("/a:/b:rshared", "rslave lets mounts of this machine in"),
            ("/a:/b:ro:x", "SOURCE:TARGET"),
        ] {
            let error = volume(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn mounts_are_read_field_by_field() {
        for (text, expect) in [
            (
                "type=bind,source=/a,target=/b",
                path("/a", "/b", false, false),
            ),
            (
                "type=bind,src=a,dst=/b,readonly",
                path("a", "/b", true, false),
            ),
            ("type=tmpfs,target=/t", memory("/t", None, 0o1777)),
            (
                "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700",
                memory("/t", Some(1 << 20), 0o700),
            ),
        ] {
            assert_eq!(mount(text), Ok(expect), "{text}");
        }
        for (text, part) in [
            ("type=bind,source=/a", "target is required"),
            ("type=bind,target=/a", "source=PATH"),
            ("source=a,target=/a", "no volumes"),
            ("type=npipe,target=/a", "bind and tmpfs"),
            (
                "type=bind,source=/a,target=/b,bind-propagation=shared",
                "rslave lets mounts of this machine in",
            ),
            (
                "type=tmpfs,target=/b,bind-propagation=rslave",
                "bind-propagation is for type=bind",
            ),
            ("type=tmpfs,target=/t,tmpfs-mode=9", "no file mode"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn directories_in_memory_have_dockers_options() {
        assert_eq!(tmpfs("/t"), Ok(memory("/t", None, 0o1777)));
        let expect = memory("/t", Some(64 << 20), 0o755);
        assert_eq!(tmpfs("/t:rw,noexec,size=64m,mode=755"), Ok(expect));
        for text in ["t", "/t:size=x", "/t:uid=1"] {
            tmpfs(text).unwrap_err();
        }
    }
}
