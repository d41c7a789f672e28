//! What `run` can ask for and build steps cannot: other rights, ceilings, devices, name servers.

use std::net::IpAddr;
use std::path::PathBuf;

/// All of it; the default is what build steps get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// The capabilities, as `CAP_CHOWN`, in place of [`crate::CAPABILITIES`].
    pub capabilities: Option<Vec<String>>,
    /// Further groups: names or numbers, looked up in the image.
    pub groups: Vec<String>,
    /// What the processes may take together.
    pub ceilings: Ceilings,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Parameters of the kernel that each container has for itself.
    pub sysctls: Vec<(String, String)>,
    /// What /etc/resolv.conf says in place of what the host's does.
    pub resolver: ResolverChoice,
    /// Whether a small first process starts the program, passes signals on to it and buries what
    /// it leaves.
    pub has_init: bool,
    /// Whether no program can give the process more rights than it has (`no_new_privs`).
    pub no_new_privileges: bool,
    /// Whether every system call is allowed.
    pub no_seccomp: bool,
    /// Targets of bind mounts whose propagation was said; others are the runtime's to decide.
    pub propagations: Vec<(String, Propagation)>,
}

/// How mounts come into a bind mount later on (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host, into this mount and those below it.
    Slave,
}

/// Limits of a container's control group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ceilings {
    /// Most memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory and swap together, in bytes.
    pub swap: Swap,
    /// Processor time in each [`CPU_PERIOD_US`], in microseconds.
    pub cpu_quota_us: Option<u64>,
    /// Weight among others that want the processors; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Processors by number: `0-2,4`.
    pub cpu_set: Option<String>,
    /// Most processes.
    pub pids: Option<u64>,
}

/// How much swap there is beside the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Swap {
    /// As much again as memory, where the kernel counts swap: docker's rule.
    #[default]
    AsMemory,
    /// Memory and swap together are this, in bytes.
    Total(u64),
    /// Whatever the host has.
    Unlimited,
}

/// The time that [`Ceilings::cpu_quota_us`] is a part of, in microseconds: the kernel's default.
pub const CPU_PERIOD_US: u64 = 100_000;

impl Ceilings {
    /// The controllers that it needs, by the kernel's names.
    #[must_use]
    pub fn controllers(&self) -> Vec<&'static str> {
        let has_memory = self.memory_bytes.is_some() || self.swap != Swap::AsMemory;
        let has_cpu = self.cpu_quota_us.is_some() || self.cpu_shares.is_some();
        let wanted = [
            (has_memory, "memory"),
            (has_cpu, "cpu"),
            (self.cpu_set.is_some(), "cpuset"),
            (self.pids.is_some(), "pids"),
        ];
        wanted
            .into_iter()
            .filter_map(|(is_wanted, name)| is_wanted.then_some(name))
            .collect()
    }
}

/// A device that a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is in the container: an absolute path.
    pub target: String,
    /// Any of `r`, `w` and `m` (mknod).
    pub access: String,
}

/// What is said instead of the host's resolv.conf(5), field by field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResolverChoice {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Domains that names are looked up in; `.` alone for none.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_name_the_controllers_that_they_need() {
        assert!(Ceilings::default().controllers().is_empty());
        let all = Ceilings {
            memory_bytes: Some(1),
            cpu_shares: Some(2),
            cpu_set: Some("0".into()),
            pids: Some(3),
            ..Ceilings::default()
        };
        assert_eq!(all.controllers(), ["memory", "cpu", "cpuset", "pids"]);
    }
}
