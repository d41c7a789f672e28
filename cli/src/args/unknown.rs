//! Options of `docker run` that `varve run` does not have, and why: clap takes them for the name of
//! an image.

/// What `--help` says more about.
const HELP: &str = "`varve run --help` lists the options that there are";

/// Options by their long names, and what is said about them.
const REASONS: [(&[&str], &str); 6] = [
    (
        &[
            "expose",
            "ip",
            "ip6",
            "link",
            "link-local-ip",
            "mac-address",
            "network-alias",
            "net-alias",
            "domainname",
        ],
        "there are no networks of varve's own; leave it out: the process has the network of this \
         machine, or none (--network none)",
    ),
    (
        &[
            "ipc",
            "pid",
            "uts",
            "userns",
            "cgroupns",
            "cgroup-parent",
            "isolation",
        ],
        "namespaces of a container are always its own, but for the network; leave it out",
    ),
    (
        &[
            "health-cmd",
            "health-interval",
            "health-retries",
            "health-start-interval",
            "health-start-period",
            "health-timeout",
            "no-healthcheck",
        ],
        "health is never checked, because nobody could ask for it; leave it out",
    ),
    (
        &[
            "log-driver",
            "log-opt",
            "attach",
            "a",
            "detach-keys",
            "sig-proxy",
        ],
        "the process has the streams and the signals of `varve run`, and nothing is logged; leave \
         it out",
    ),
    (
        &["volumes-from", "volume-driver", "storage-opt"],
        "varve has no volumes, and no other containers; mount directories with -v",
    ),
    (
        &[
            "blkio-weight",
            "blkio-weight-device",
            "cpu-count",
            "cpu-percent",
            "cpu-period",
            "cpu-quota",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpuset-mems",
            "device-cgroup-rule",
            "device-read-bps",
            "device-read-iops",
            "device-write-bps",
            "device-write-iops",
            "gpus",
            "io-maxbandwidth",
            "io-maxiops",
            "kernel-memory",
            "memory-reservation",
            "memory-swappiness",
            "oom-kill-disable",
            "oom-score-adj",
        ],
        "it is not supported; there are --memory, --memory-swap, --cpus, --cpu-shares, \
         --cpuset-cpus, --pids-limit, --ulimit and --device",
    ),
];

/// The message for an option that is none here: as it was typed, perhaps with a value.
pub(crate) fn message(typed: &str) -> String {
    let option = typed.split('=').next().unwrap_or(typed);
    let name = option.trim_start_matches('-');
    let mut known = REASONS.iter();
    match known.find(|(names, _)| names.contains(&name)) {
        Some((_, reason)) => format!("{option}: {reason}"),
        None => format!("unknown option {option}; {HELP}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_for_options_that_are_not_here() {
        let line = crate::args::Arguments::command();
        let run = line.find_subcommand("run").unwrap();
        for name in REASONS.iter().flat_map(|(names, _)| *names) {
            let mut options = run.get_arguments();
            let is_here = options.any(|option| {
                option.get_long() == Some(name)
                    || option
                        .get_short()
                        .is_some_and(|short| short.to_string() == *name)
            });
            assert!(!is_here, "{name}");
        }
    }

    #[test]
    fn an_option_is_named_with_the_reason_and_without_its_value() {
        for (typed, told) in [
            ("--ipc=host", "--ipc: namespaces of a container"),
            ("--gpus", "--gpus: it is not supported"),
            ("-a", "-a: the process has the streams"),
            (
                "--nonsense=1",
                "unknown option --nonsense; `varve run --help`",
            ),
        ] {
            assert!(message(typed).starts_with(told), "{}", message(typed));
        }
    }
}
