//! Run a process in a container that is made of mounts.

use super::InputIndex;

/// A process and its mounts. One mount has the destination `/`: the root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments; not empty.
    pub args: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// Proxy variables: in the environment of the process, not in its cache key.
    pub proxy: Option<ProxyEnv>,
    /// More lines of /etc/hosts.
    pub extra_hosts: Vec<HostIp>,
    /// Host name; empty for the worker's default.
    pub hostname: String,
    /// Resource limits of the process.
    pub ulimits: Vec<Ulimit>,
    /// cgroup that the container's own lies in; empty for the worker's default.
    pub cgroup_parent: String,
    /// Remove the whole chain of directories that was made for a mount point, not its last element
    /// only.
    pub remove_mount_stubs_recursive: bool,
    /// Exit codes that count as success; only 0 when empty.
    pub valid_exit_codes: Vec<i32>,
    /// What the container consists of, sorted by destination when this crate wrote it.
    pub mounts: Vec<Mount>,
    /// The network that the process sees.
    pub network: Network,
    /// How far the process is confined.
    pub security: Security,
    /// Environment variables whose values are secrets of the client.
    pub secret_env: Vec<SecretEnv>,
    /// Devices by their Container Device Interface names.
    pub devices: Vec<Device>,
}

impl Exec {
    /// The mount of the root file system. Every [`Exec`] of a [`Graph`](crate::Graph) has one.
    pub fn root(&self) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.dest == "/")
    }
}

/// Values of the proxy variables; empty for those that are not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `http_proxy`.
    pub http: String,
    /// `https_proxy`.
    pub https: String,
    /// `ftp_proxy`.
    pub ftp: String,
    /// `no_proxy`.
    pub no: String,
    /// `all_proxy`.
    pub all: String,
}

/// One line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIp {
    /// The name.
    pub host: String,
    /// Its address.
    pub ip: String,
}

/// One limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// Soft limit, in the unit of the resource.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// The worker's default.
    #[default]
    Sandbox,
    /// The host's; needs an entitlement.
    Host,
    /// Loopback only.
    None,
}

/// How far a process is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    /// The usual capabilities and seccomp profile.
    #[default]
    Sandbox,
    /// Everything allowed; needs an entitlement.
    Insecure,
}

/// A variable whose value is a secret of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEnv {
    /// Name of the secret.
    pub id: String,
    /// Name of the variable.
    pub name: String,
    /// Absent is no error.
    pub optional: bool,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Such as `vendor.com/gpu=0`.
    pub name: String,
    /// Absent is no error.
    pub optional: bool,
}

/// One mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted; `None` for an empty file system.
    pub input: Option<InputIndex>,
    /// Directory of the input that is mounted; all of it when empty.
    pub selector: String,
    /// Where in the container.
    pub dest: String,
    /// Output that the written mount becomes; only of [`MountKind::Bind`].
    pub output: Option<u32>,
    /// The process cannot write to it.
    pub readonly: bool,
    /// What the mount is made of.
    pub kind: MountKind,
    /// Whether its content is the cache key.
    pub content_cache: ContentCache,
    /// Reference of a result (interactive containers only).
    pub result_id: String,
}

/// What a mount is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MountKind {
    /// The input, or an empty directory.
    #[default]
    Bind,
    /// A file with a secret of the client.
    Secret(SecretMount),
    /// A socket to the client's ssh agent.
    Ssh(SshMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// A directory in memory.
    Tmpfs {
        /// Bytes; 0 for no limit.
        size_bytes: i64,
    },
}

/// Whether the content of a read-only mount, not its history, is the cache key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContentCache {
    /// Where it is cheap.
    #[default]
    Default,
    /// Always.
    On,
    /// Never.
    Off,
}

/// A file with a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretMount {
    /// Name of the secret.
    pub id: String,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Permission bits of the file.
    pub mode: u32,
    /// Absent is no error.
    pub optional: bool,
}

/// A socket to an ssh agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshMount {
    /// Name of the agent.
    pub id: String,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// Permission bits of the socket.
    pub mode: u32,
    /// Absent is no error.
    pub optional: bool,
}

/// A directory that outlives the build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheMount {
    /// Which one.
    pub id: String,
    /// What happens when two builds want it at once.
    pub sharing: CacheSharing,
}

/// What happens when two builds want one cache mount at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Both write to it.
    #[default]
    Shared,
    /// Each writer has its own.
    Private,
    /// The second waits.
    Locked,
}
