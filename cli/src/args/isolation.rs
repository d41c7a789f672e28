//! Options of `varve run` for what its container may do and take: docker's words. Limits are those
//! of a control group; where there is none to be had, they are refused.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use executor::{ALL_CAPABILITIES, CAPABILITIES, CPU_PERIOD_US, Device, Swap};

use super::steps::size;

/// Least memory that a container can be given, in bytes: docker's.
const MEMORY_BYTES_MIN: u64 = 6 << 20;

/// In place of the name of a capability: all of them.
const ALL: &str = "ALL";

/// What is said of the container.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Rights, limits and name servers")]
pub(crate) struct Isolation {
    /// Start a small init process, which passes signals on and buries orphans
    #[arg(long)]
    pub(crate) init: bool,
    /// Give the process a capability, as NET_ADMIN, or ALL (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_parser = capability, value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability from the process, or ALL (repeatable)
    #[arg(long, value_name = "CAPABILITY", value_parser = capability, value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// Further group of the process: a name of the image, or a number (repeatable)
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Most memory, as 512m or 2g; needs a cgroup, as do the limits below
    #[arg(short, long, value_name = "SIZE", value_parser = memory)]
    pub(crate) memory: Option<u64>,
    /// Memory and swap together, -1 for no limit [default: twice the memory]
    #[arg(long, value_name = "SIZE", value_parser = swap, allow_hyphen_values = true)]
    #[arg(requires = "memory")]
    memory_swap: Option<Swap>,
    /// Most processors, as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = processors)]
    cpus: Option<u64>,
    /// Weight among others that want the processors; 1024 is usual
    #[arg(short, long, value_name = "WEIGHT", value_parser = clap::value_parser!(u64).range(2..=262_144))]
    pub(crate) cpu_shares: Option<u64>,
    /// Processors to use, by number: 0-2 or 0,3
    #[arg(long, value_name = "CPUS", value_parser = processor_set)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Device of this machine (repeatable)
    #[arg(long = "device", value_name = "PATH[:TARGET][:rwm]", value_parser = device)]
    pub(crate) devices: Vec<Device>,
    /// no-new-privileges: programs with set-user-id bits give no rights; seccomp=unconfined: no
    /// system call is kept from the process (repeatable)
    #[arg(long, value_name = "OPTION", value_parser = security)]
    security_opt: Vec<Security>,
    /// Parameter of the kernel for the container alone, as kernel.msgmax=65536 (repeatable)
    #[arg(long = "sysctl", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) sysctls: Vec<(String, String)>,
    /// Name server in place of this machine's (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<IpAddr>,
    /// Domain in which names are looked up; `.` for none (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver, as ndots:2 (repeatable)
    #[arg(long, value_name = "OPTION", alias = "dns-opt")]
    pub(crate) dns_option: Vec<String>,
}

/// `--security-opt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    NoNewPrivileges,
    NoSeccomp,
    /// What is so anyway.
    Usual,
}

fn security(text: &str) -> Result<Security, String> {
    match text.replacen(':', "=", 1).as_str() {
        "no-new-privileges" | "no-new-privileges=true" => Ok(Security::NoNewPrivileges),
        "no-new-privileges=false" | "apparmor=unconfined" | "label=disable" => Ok(Security::Usual),
        "seccomp=unconfined" => Ok(Security::NoSeccomp),
        _ => Err(
            "there are no-new-privileges and seccomp=unconfined; varve labels nothing \
                  (apparmor=unconfined, label=disable)"
                .to_owned(),
        ),
    }
}

impl Isolation {
    /// Whether programs can give the process no more rights than it has.
    pub(crate) fn has_no_new_privileges(&self) -> bool {
        self.security_opt.contains(&Security::NoNewPrivileges)
    }

    /// Whether the process may do every system call.
    pub(crate) fn has_no_seccomp(&self) -> bool {
        self.security_opt.contains(&Security::NoSeccomp)
    }

    /// The capabilities of the process; `None` for the usual ones. All are those that varve has
    /// itself: `bounding` has a bit for each of [`ALL_CAPABILITIES`].
    pub(crate) fn capabilities(&self, bounding: u64) -> Option<Vec<String>> {
        let (add, drop) = (&self.cap_add, &self.cap_drop);
        if add.is_empty() && drop.is_empty() {
            return None;
        }
        let is_all = |names: &[String]| names.iter().any(|name| name == ALL);
        let base = match (is_all(add), is_all(drop)) {
            (true, _) => {
                let known = ALL_CAPABILITIES.into_iter().enumerate();
                let there = known.filter(|(number, _)| bounding & (1 << number) != 0);
                there.map(|(_, name)| name).collect()
            }
            (false, true) => Vec::new(),
            (false, false) => CAPABILITIES.to_vec(),
        };
        let base = base.into_iter().map(str::to_owned);
        let mut chosen: Vec<String> = base.filter(|name| !drop.contains(name)).collect();
        for name in add.iter().filter(|name| *name != ALL) {
            if !chosen.contains(name) {
                chosen.push(name.clone());
            }
        }
        Some(chosen)
    }

    /// Swap.
    ///
    /// # Errors
    /// There is less of it than of memory.
    pub(crate) fn swap(&self) -> anyhow::Result<Swap> {
        let swap = self.memory_swap.unwrap_or_default();
        if let (Swap::Total(total), Some(memory)) = (swap, self.memory) {
            anyhow::ensure!(
                total >= memory,
                "--memory-swap is memory and swap together, so it must not be less than --memory"
            );
        }
        Ok(swap)
    }

    /// Microseconds of processor time in each [`CPU_PERIOD_US`].
    ///
    /// # Errors
    /// There are not as many processors.
    pub(crate) fn cpu_quota_us(&self, there: usize) -> anyhow::Result<Option<u64>> {
        if let Some(quota) = self.cpus {
            anyhow::ensure!(
                quota <= there as u64 * CPU_PERIOD_US,
                "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
            );
        }
        Ok(self.cpus)
    }

    /// Most processes, if there is a limit.
    pub(crate) fn pids(&self) -> Option<u64> {
        let limit = self.pids_limit.and_then(|limit| u64::try_from(limit).ok());
        limit.filter(|limit| *limit > 0)
    }
}

/// `net_admin`, `NET_ADMIN` or `CAP_NET_ADMIN`.
fn capability(text: &str) -> Result<String, String> {
    let upper = text.trim().to_uppercase();
    if upper == ALL {
        return Ok(upper);
    }
    let name = match upper.starts_with("CAP_") {
        true => upper,
        false => format!("CAP_{upper}"),
    };
    match ALL_CAPABILITIES.contains(&name.as_str()) {
        true => Ok(name),
        false => Err(format!("unknown capability: {name:?}")),
    }
}

fn memory(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes >= MEMORY_BYTES_MIN => Ok(bytes),
        _ => Err("minimum memory limit allowed is 6MB".to_owned()),
    }
}

fn swap(text: &str) -> Result<Swap, String> {
    match text {
        "-1" => Ok(Swap::Unlimited),
        // As docker: nothing is said.
        "0" => Ok(Swap::AsMemory),
        text => size(text).map(Swap::Total),
    }
}

/// As microseconds of each period.
fn processors(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of processors, as 0.5 or 2");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    // More digits than microseconds say nothing.
    let digits: String = part.chars().chain("00000".chars()).take(5).collect();
    let part: u64 = digits.parse().map_err(|_| wrong())?;
    let quota = whole.checked_mul(CPU_PERIOD_US).map(|quota| quota + part);
    // The kernel takes no less than a millisecond.
    quota.filter(|quota| *quota >= 1_000).ok_or_else(wrong)
}

fn processor_set(text: &str) -> Result<String, String> {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    let is_part = |part: &str| match part.split_once('-') {
        Some((first, last)) => is_number(first) && is_number(last),
        None => is_number(part),
    };
    match text.split(',').all(is_part) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no list of processors, as 0-2 or 0,3")),
    }
}

fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<_> = text.split(':').collect();
    let is_access = |text: &str| {
        !text.is_empty() && text.chars().all(|letter| matches!(letter, 'r' | 'w' | 'm'))
    };
    let (source, target, access) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(format!("{text:?}: the paths of a device begin with /"));
    }
    Ok(Device {
        source: PathBuf::from(source),
        target: target.to_owned(),
        access: access.to_owned(),
    })
}

/// One that each container has for itself: others are the whole machine's.
fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    let name = name.trim().replace('/', ".");
    let is_own = ["kernel.msg", "kernel.shm", "fs.mqueue.", "net."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name == "kernel.sem";
    match is_own && !name.contains("..") {
        true => Ok((name, value.to_owned())),
        false => Err(format!(
            "{name} is a parameter of the whole machine; there are kernel.msg*, kernel.sem, \
             kernel.shm*, fs.mqueue.* and, with --network none, net.*"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(add: &[&str], drop: &[&str]) -> Option<Vec<String>> {
        let names = |names: &[&str]| names.iter().map(|name| capability(name).unwrap()).collect();
        let isolation = Isolation {
            cap_add: names(add),
            cap_drop: names(drop),
            ..Isolation::default()
        };
        isolation.capabilities(!(1 << 25))
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        assert_eq!(chosen(&[], &[]), None);
        let all = chosen(&["all"], &["cap_sys_admin"]).unwrap();
        assert_eq!(all.len(), ALL_CAPABILITIES.len() - 2);
        for gone in ["CAP_SYS_ADMIN", "CAP_SYS_TIME"] {
            assert!(!all.contains(&gone.into()), "{gone}");
        }
        assert_eq!(chosen(&[], &["ALL"]), Some(vec![]));
        let two = chosen(&["net_admin", "CAP_CHOWN"], &["ALL"]).unwrap();
        assert_eq!(two, ["CAP_NET_ADMIN", "CAP_CHOWN"]);
        let more = chosen(&["SYS_TIME"], &["MKNOD"]).unwrap();
        assert_eq!(more.len(), CAPABILITIES.len());
        assert!(more.contains(&"CAP_SYS_TIME".into()) && !more.contains(&"CAP_MKNOD".into()));
        assert_eq!(
            capability("fly").unwrap_err(),
            "unknown capability: \"CAP_FLY\""
        );
    }

    #[test]
    fn amounts_are_read_as_docker_reads_them() {
        for (text, quota) in [
            ("1", 100_000),
            ("0.5", 50_000),
            ("1.25", 125_000),
            ("0.01", 1_000),
            ("2.", 0),
            (".5", 0),
            ("0.001", 0),
            ("-1", 0),
            ("1e3", 0),
            ("", 0),
        ] {
            assert_eq!(processors(text).unwrap_or(0), quota, "{text}");
        }
        assert_eq!(memory("6m"), Ok(6 << 20));
        assert!(memory("5m").is_err() && memory("x").is_err());
        assert_eq!(swap("-1"), Ok(Swap::Unlimited));
        assert_eq!(swap("1g"), Ok(Swap::Total(1 << 30)));
        for (text, is_set) in [("0-2,4", true), ("0", true), ("a", false), ("0-", false)] {
            assert_eq!(processor_set(text).is_ok(), is_set, "{text}");
        }
    }

    #[test]
    fn devices_have_a_target_and_rights() {
        for (text, expected) in [
            ("/dev/fuse", Some(("/dev/fuse", "/dev/fuse", "rwm"))),
            ("/dev/fuse:rw", Some(("/dev/fuse", "/dev/fuse", "rw"))),
            ("/dev/a:/dev/b", Some(("/dev/a", "/dev/b", "rwm"))),
            ("/dev/a:/dev/b:r", Some(("/dev/a", "/dev/b", "r"))),
            ("/dev/a:/dev/b:x", None),
            ("fuse", None),
            ("/dev/a:b", None),
        ] {
            let found = device(text).ok();
            let found = found.map(|d| (d.source.display().to_string(), d.target, d.access));
            let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn parameters_of_the_whole_machine_are_refused() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parameter("kernel.msgmax=1"), pair("kernel.msgmax", "1"));
        assert_eq!(parameter("net/ipv4/x=1 2"), pair("net.ipv4.x", "1 2"));
        for text in [
            "kernel.panic=1",
            "vm.swappiness=1",
            "kernel.msgmax",
            "net..x=1",
        ] {
            assert!(parameter(text).is_err(), "{text}");
        }
    }
}
