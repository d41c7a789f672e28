//! What RUN steps get from the caller: secrets, agents, limits, host names. The forms are those of
//! `docker buildx build`.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use clap::Args;

use super::DiskSpace;
use super::secrets::{self, Agent, Secret};

/// Names of limits that docker knows, in its spelling.
const LIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Options for the steps of a build.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options for RUN steps")]
pub(crate) struct StepOptions {
    /// Secret for RUN --mount=type=secret (repeatable): id=ID[,src=FILE|,env=NAME]
    #[arg(long = "secret", value_name = "FIELDS", value_parser = secrets::secret)]
    #[arg(
        long_help = "Secret for RUN --mount=type=secret (repeatable): id=ID,src=FILE or \
        id=ID,env=NAME; id=ID alone is the variable of that name, or else the file. It is seen \
        by the steps that mount it and is in no layer, no cache key, no log and no history"
    )]
    pub(crate) secrets: Vec<Secret>,
    /// ssh agent for RUN --mount=type=ssh (repeatable): default or ID[=SOCKET|KEY[,KEY]]
    #[arg(long = "ssh", value_name = "default|ID[=SOCKET|KEY]", value_parser = secrets::agent)]
    #[arg(
        long_help = "ssh agent for RUN --mount=type=ssh (repeatable): its socket is that of \
        SSH_AUTH_SOCK unless one is named; or files with private keys that have no passphrase, \
        which OpenSSH's ssh-agent serves during the build. Steps can list its keys and sign with \
        them, no more"
    )]
    pub(crate) agents: Vec<Agent>,
    /// Size of /dev/shm, as 64m or 1g [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) shm_size: Option<u64>,
    /// Limit of the processes (repeatable): as nofile=1024 or nofile=1024:4096
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<Limit>,
    /// Further line of /etc/hosts (repeatable); host-gateway is the address of this machine
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub(crate) hosts: Vec<Host>,
}

/// `--ulimit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Such as `nofile`.
    pub(crate) name: String,
    /// Soft limit, -1 for none.
    pub(crate) soft: i64,
    /// Hard limit.
    pub(crate) hard: i64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, values) = text
            .split_once('=')
            .ok_or("it is not NAME=SOFT[:HARD], as nofile=1024:4096")?;
        if !LIMITS.contains(&name) {
            return Err(format!(
                "invalid ulimit type: {name}; there are {}",
                LIMITS.join(", ")
            ));
        }
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| {
            let number = text.parse::<i64>().ok().filter(|number| *number >= -1);
            number.ok_or_else(|| format!("{text:?} is no limit: a number, or -1 for none"))
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard != -1 && (soft > hard || soft == -1) {
            return Err(format!(
                "the soft limit {soft} is above the hard limit {hard}"
            ));
        }
        Ok(Limit {
            name: name.to_owned(),
            soft,
            hard,
        })
    }
}

/// `--add-host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The name.
    pub(crate) name: String,
    /// Its address.
    pub(crate) address: IpAddr,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // docker takes both; an address of IP version 6 has colons itself.
        let parts = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = parts.ok_or("it is not HOST:IP")?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("{name:?} is no host name"));
        }
        if address == "host-gateway" {
            // Steps and containers are on the host's network.
            let address = Ipv4Addr::LOCALHOST.into();
            let name = name.to_owned();
            return Ok(Host { name, address });
        }
        let bare = address
            .strip_prefix('[')
            .and_then(|address| address.strip_suffix(']'));
        let address = bare.unwrap_or(address);
        let address = address
            .parse()
            .map_err(|_| format!("{address:?} is no IP address"))?;
        Ok(Host {
            name: name.to_owned(),
            address,
        })
    }
}

/// A number of bytes above 0.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(DiskSpace::Bytes(bytes)) if bytes > 0 => Ok(bytes),
        _ => Err(format!("{text:?} is no size; as 64m or 1g")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_a_known_name_and_one_or_two_values() {
        for (text, soft, hard) in [
            ("nofile=1024", 1024, 1024),
            ("nofile=1024:4096", 1024, 4096),
            ("core=0:-1", 0, -1),
            ("memlock=-1", -1, -1),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.soft, limit.hard), (soft, hard), "{text}");
        }
        for text in [
            "nofile",
            "files=1",
            "nofile=",
            "nofile=2:1",
            "nofile=-1:5",
            "cpu=-2",
            "cpu=x",
        ] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_have_an_address_of_either_version() {
        for (text, name, address) in [
            ("a.test:10.0.0.1", "a.test", "10.0.0.1"),
            ("a=10.0.0.1", "a", "10.0.0.1"),
            ("a:::1", "a", "::1"),
            ("a=[2001:db8::1]", "a", "2001:db8::1"),
            (
                "host.docker.internal:host-gateway",
                "host.docker.internal",
                "127.0.0.1",
            ),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!(
                (host.name.as_str(), host.address.to_string().as_str()),
                (name, address)
            );
        }
        for text in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:1.2.3"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units_and_are_not_empty() {
        assert_eq!(size("64m"), Ok(64 << 20));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["0", "20%", "much", "-1"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
