//! What to run: the `Process` of a step, as plain values. Nothing here touches the system.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::extras::Extras;

/// The host name a step sees unless it asks for another one.
///
/// BuildKit's own value: programs that record the host name in their output then give the same
/// bytes with both builders.
pub const HOSTNAME_DEFAULT: &str = "buildkitsandbox";

/// One process of a build step or of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments. The program is looked up in the `PATH` of `env`, inside the root.
    pub args: Vec<String>,
    /// `NAME=value` entries. An entry without `=` is dropped, of two equal names the last wins.
    /// `HOME` is added from the image's passwd file when it is absent or empty.
    pub env: Vec<String>,
    /// `name|uid[:group|gid]`, looked up in the image; empty means root.
    pub user: String,
    /// Absolute working directory inside the root; created, owned by the user, when missing.
    pub cwd: String,
    /// Which network the process sees.
    pub network: Network,
    /// Host name, [`HOSTNAME_DEFAULT`] when `None`.
    pub hostname: Option<String>,
    /// Further lines of /etc/hosts.
    pub extra_hosts: Vec<HostEntry>,
    /// Mounts besides /proc, /dev and the like; later ones cover earlier ones.
    pub mounts: Vec<ExtraMount>,
    /// Makes the root file system read-only for the process. Extra mounts keep their own mode.
    pub read_only_root: bool,
    /// Limits of the process and its children, in place of those that it would inherit.
    pub limits: Vec<ResourceLimit>,
    /// Gives the process a terminal of this size; needs [`crate::Stdio::Attached`].
    pub terminal: Option<WindowSize>,
    /// What build steps have no use for.
    pub extras: Extras,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLimit {
    /// In docker's spelling, such as `nofile`.
    pub name: String,
    /// What counts; the process may raise it up to `hard`. `u64::MAX` is no limit.
    pub soft: u64,
    /// The highest value of `soft`.
    pub hard: u64,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            cwd: "/".to_owned(),
            network: Network::Host,
            hostname: None,
            extra_hosts: Vec::new(),
            mounts: Vec::new(),
            read_only_root: false,
            limits: Vec::new(),
            terminal: None,
            extras: Extras::default(),
        }
    }
}

impl Process {
    /// The host name the process will see.
    #[must_use]
    pub fn effective_hostname(&self) -> &str {
        match self.hostname.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => HOSTNAME_DEFAULT,
        }
    }
}

/// The network of a process, LLB's `NetMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's own network namespace.
    Host,
    /// A new namespace with nothing but a loopback interface, which is up.
    None,
}

/// One line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The host name.
    pub host: String,
    /// Its address.
    pub address: IpAddr,
}

/// A mount besides the standard ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraMount {
    /// Absolute path inside the root; a missing mount point is created for the run and removed
    /// afterwards.
    pub target: String,
    /// What appears there.
    pub kind: ExtraMountKind,
}

/// Permissions of a directory in memory unless somebody says otherwise: those of /tmp.
pub const TMPFS_MODE_DEFAULT: u32 = 0o1777;

/// What an [`ExtraMount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtraMountKind {
    /// A file or directory of the host, with all that is mounted below it.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Whether the process may not write to it.
        read_only: bool,
        /// Whether it is data and nothing else: no program in it can be started, no device
        /// opened.
        is_data: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Upper bound in bytes; `None` leaves it to the kernel (half of the memory).
        size_bytes: Option<u64>,
        /// Permissions of the directory itself.
        mode: u32,
        /// Whether programs in it can be started.
        has_programs: bool,
        /// Whether the process may not write to it.
        read_only: bool,
    },
}
