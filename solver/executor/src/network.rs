//! /etc/resolv.conf and /etc/hosts of a step, and the loopback interface of a network of its own.
//!
//! The rules are BuildKit's (`executor/oci/{resolvconf,hosts}.go`). Both files are bind-mounted
//! read-only over whatever the image has there.

use std::net::IpAddr;
use std::path::Path;

use crate::extras::ResolverChoice;
use crate::process::{HostEntry, Network};

/// Where the host keeps its resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What systemd-resolved keeps beside it: its real upstream servers.
const RESOLV_CONF_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";

/// The address of systemd-resolved's own stub.
const SYSTEMD_STUB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53));

/// Servers for a host that names none which a container could reach; BuildKit's own choice.
const FALLBACK_SERVERS: [&str; 4] = [
    "8.8.8.8",
    "8.8.4.4",
    "2001:4860:4860::8888",
    "2001:4860:4860::8844",
];

/// The content of /etc/resolv.conf for a step, made from this host's and what is said instead.
#[must_use]
pub fn resolv_conf(network: Network, choice: &ResolverChoice) -> String {
    resolv_conf_from(network, choice, &|path| {
        std::fs::read_to_string(path).unwrap_or_default()
    })
}

fn resolv_conf_from(
    network: Network,
    choice: &ResolverChoice,
    read: &dyn Fn(&Path) -> String,
) -> String {
    let mut resolver = Resolver::parse(&read(Path::new(RESOLV_CONF)));
    // With the host's network the stub of systemd-resolved is reachable, so it may stay.
    if network != Network::Host && resolver.servers == [SYSTEMD_STUB] {
        resolver = Resolver::parse(&read(Path::new(RESOLV_CONF_SYSTEMD)));
    }
    if !choice.servers.is_empty() {
        // Whoever names one knows whether it can be reached.
        resolver.servers.clone_from(&choice.servers);
    } else if network != Network::Host || resolver.servers.is_empty() {
        resolver.servers.retain(|server| !server.is_loopback());
        if resolver.servers.is_empty() {
            resolver.servers.extend(
                FALLBACK_SERVERS
                    .iter()
                    .filter_map(|text| text.parse::<IpAddr>().ok()),
            );
        }
    }
    if !choice.search.is_empty() {
        let domains = choice.search.iter().filter(|domain| *domain != ".");
        resolver.search = domains.cloned().collect();
    }
    if !choice.options.is_empty() {
        resolver.options.clone_from(&choice.options);
    }
    resolver.to_string()
}

/// A parsed resolv.conf(5).
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<String>,
    other: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            let words: Vec<String> = words.map(ToOwned::to_owned).collect();
            match (keyword, words.first()) {
                ("nameserver", Some(address)) => resolver.servers.extend(address.parse::<IpAddr>()),
                // `domain` is the old name of `search`; the last line counts.
                ("domain" | "search", Some(_)) => resolver.search = words,
                ("options", Some(_)) => resolver.options.extend(words),
                ("nameserver" | "domain" | "search" | "options", None) => {}
                _ => resolver.other.push(line.to_owned()),
            }
        }
        resolver
    }
}

impl std::fmt::Display for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(f, "{keyword} {}", words.join(" "))?;
            }
        }
        self.other.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The content of /etc/hosts for a step.
#[must_use]
pub fn hosts(hostname: &str, extra: &[HostEntry]) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n");
    text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
    for entry in extra {
        text.push_str(&format!("{}\t{}\n", entry.address, entry.host));
    }
    text
}

/// Brings up the loopback interface of the network namespace this process is in.
///
/// A new namespace has the interface, but down. It is always the first one, so no look-up by name
/// is needed: one rtnetlink(7) request of a fixed form does it.
#[cfg(feature = "embedded-runtime")]
pub(crate) fn bring_loopback_up() -> std::io::Result<()> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // Protocol 0 is NETLINK_ROUTE.
        None,
    )?;
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &loopback_up_request(), SendFlags::empty(), &kernel)?;
    let mut answer = [0_u8; 1024];
    let (_, length) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    // An acknowledgement is an error message with error number 0, right after the header.
    let error = answer
        .get(NETLINK_HEADER_BYTES..NETLINK_HEADER_BYTES + 4)
        .filter(|_| length >= NETLINK_HEADER_BYTES + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(-libc_eproto(), i32::from_ne_bytes);
    if error == 0 {
        Ok(())
    } else {
        Err(std::io::Error::from_raw_os_error(-error))
    }
}

#[cfg(feature = "embedded-runtime")]
fn libc_eproto() -> i32 {
    rustix::io::Errno::PROTO.raw_os_error()
}

/// Bytes of `struct nlmsghdr`.
#[cfg(feature = "embedded-runtime")]
const NETLINK_HEADER_BYTES: usize = 16;

/// `RTM_NEWLINK` for interface 1 with `IFF_UP`, acknowledged: `struct nlmsghdr` and
/// `struct ifinfomsg` of rtnetlink(7), in the byte order of the machine.
#[cfg(feature = "embedded-runtime")]
fn loopback_up_request() -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
    const LOOPBACK_INDEX: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut request = Vec::with_capacity(32);
    request.extend(32_u32.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes()); // sequence
    request.extend(0_u32.to_ne_bytes()); // port: the kernel
    request.extend([0_u8; 4]); // family, padding, device type
    request.extend(LOOPBACK_INDEX.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes()); // flags
    request.extend(IFF_UP.to_ne_bytes()); // which of them change
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: Network, main: &str, systemd: &str, expect: &str) {
        let read = |path: &Path| {
            if path == Path::new(RESOLV_CONF) {
                main.to_owned()
            } else {
                systemd.to_owned()
            }
        };
        assert_eq!(
            resolv_conf_from(network, &ResolverChoice::default(), &read),
            expect,
            "{network:?} {main:?}"
        );
    }

    const FALLBACK: &str = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n\
        nameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n";

    #[test]
    fn local_name_servers_are_left_out_unless_the_network_is_the_hosts() {
        let text = "# c\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\n\
            nameserver junk\nsearch a\ndomain b c\noptions ndots:2\noptions rotate\nsortlist x\n";
        let rest = "search b c\noptions ndots:2 rotate\nsortlist x\n";
        check(
            Network::None,
            text,
            "",
            &format!("nameserver 10.0.0.2\n{rest}"),
        );
        let all = "nameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver ::1\n";
        check(Network::Host, text, "", &format!("{all}{rest}"));
    }

    #[test]
    fn a_host_without_usable_servers_gets_public_ones() {
        check(Network::None, "", "", FALLBACK);
        check(Network::Host, "", "", FALLBACK);
        check(Network::None, "nameserver 127.0.0.1\n", "", FALLBACK);
        check(
            Network::Host,
            "nameserver 127.0.0.1\n",
            "",
            "nameserver 127.0.0.1\n",
        );
    }

    #[test]
    fn behind_the_systemd_stub_its_real_servers_are_used() {
        let (stub, real) = (
            "nameserver 127.0.0.53\n",
            "nameserver 192.0.2.1\nsearch x\n",
        );
        check(Network::None, stub, real, real);
        check(Network::Host, stub, real, stub);
    }

    #[test]
    fn the_hosts_file_names_localhost_the_host_and_the_extra_ones() {
        let extra = HostEntry {
            host: "db".to_owned(),
            address: "192.0.2.7".parse().expect("an address"),
        };
        let expect = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n\
            192.0.2.7\tdb\n";
        assert_eq!(hosts("box", &[extra]), expect);
    }

    #[test]
    fn what_is_said_of_the_resolver_goes_before_the_hosts_words() {
        let host = |_: &Path| "nameserver 10.0.0.1\nsearch lan\noptions ndots:5\n".to_owned();
        let said = |servers: &[&str], search: &[&str], options: &[&str]| {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            let choice = ResolverChoice {
                servers: servers.iter().map(|one| one.parse().unwrap()).collect(),
                search: words(search),
                options: words(options),
            };
            resolv_conf_from(Network::Host, &choice, &host)
        };
        assert_eq!(
            said(&["127.0.0.1", "::1"], &["a", "b"], &["debug"]),
            "nameserver 127.0.0.1\nnameserver ::1\nsearch a b\noptions debug\n"
        );
        assert_eq!(
            said(&[], &["."], &[]),
            "nameserver 10.0.0.1\noptions ndots:5\n"
        );
    }
}
