//! From the options of `varve run` to what the solver is asked for.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use executor::{
    Ceilings, ExtraMount, ExtraMountKind, Extras, HostEntry, Network, Propagation, ResolverChoice,
    ResourceLimit,
};
use solver::{Pull, RunImage, RunOptions, Volume};

use crate::args::NetworkChoice;
use crate::args::isolation::Isolation;
use crate::args::run::{MountChoice, MountFrom, PullChoice, Run};
use crate::args::unknown;
use crate::caller::Caller;
use crate::container_proxies;
use crate::environment::Environment;

/// Largest file with variables in bytes; one that is larger is something else.
const ENV_FILE_BYTES_MAX: u64 = 1 << 20;

/// Random bytes of a host name: as many digits as docker's.
const HOSTNAME_BYTES: usize = 6;

/// What docker mounts at /dev/shm.
const SHM: &str = "/dev/shm";

/// The image and how it is run.
///
/// # Errors
/// A file of variables or the source of a mount is not there.
pub(super) fn make(
    options: Run,
    environment: &Environment,
) -> anyhow::Result<(RunImage, RunOptions)> {
    let mut words = options.image_and_command.into_iter();
    let Some(reference) = words.next() else {
        bail!("no image is named")
    };
    if reference.starts_with('-') {
        bail!("{}", unknown::message(&reference));
    }
    let image = RunImage {
        reference,
        platform: options.platform,
        pull: match options.pull {
            PullChoice::Missing => Pull::Missing,
            PullChoice::Always => Pull::Always,
            PullChoice::Never => Pull::Never,
        },
    };
    let network = match options.network {
        NetworkChoice::Default | NetworkChoice::Host => Network::Host,
        NetworkChoice::None => Network::None,
    };
    let limits = options.ulimits.iter().map(|limit| ResourceLimit {
        name: limit.name.clone(),
        // -1 is no limit, here as there.
        soft: limit.soft.cast_unsigned(),
        hard: limit.hard.cast_unsigned(),
    });
    let hosts = options.hosts.iter().map(|host| HostEntry {
        host: host.name.clone(),
        address: host.address,
    });
    let mut extras = extras(&options.isolation, network)?;
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    mounts.extend(options.shm_size.map(shared_memory));
    for choice in [options.volumes, options.mount, options.tmpfs].concat() {
        if let MountFrom::Path { is_slave, .. } = choice.from {
            let propagation = match is_slave {
                true => Propagation::Slave,
                false => Propagation::Private,
            };
            extras
                .propagations
                .push((choice.target.clone(), propagation));
        }
        add_mount(choice, &mut mounts, &mut volumes)?;
    }
    let request = RunOptions {
        args: words.collect(),
        entrypoint: options.entrypoint.map(|program| match program.is_empty() {
            true => Vec::new(),
            false => vec![program],
        }),
        env: variables(&options.env_files, options.env, environment)?,
        user: options.user,
        cwd: options.workdir,
        network,
        hostname: options.hostname.map_or_else(|| hostname_of(network), Ok)?,
        hosts: hosts.collect(),
        mounts,
        volumes,
        is_read_only: options.read_only,
        limits: limits.collect(),
        terminal: None,
        extras,
    };
    Ok((image, request))
}

/// Rights, limits, devices and name servers.
fn extras(said: &Isolation, network: Network) -> anyhow::Result<Extras> {
    if let Some((name, _)) = said
        .sysctls
        .iter()
        .find(|(name, _)| name.starts_with("net."))
        && network == Network::Host
    {
        bail!("sysctl {name} is not allowed in the network of this machine; add --network none");
    }
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Extras {
        capabilities: said.capabilities(bounding_set()),
        groups: said.group_add.clone(),
        ceilings: Ceilings {
            memory_bytes: said.memory,
            swap: said.swap()?,
            cpu_quota_us: said.cpu_quota_us(there)?,
            cpu_shares: said.cpu_shares,
            cpu_set: said.cpuset_cpus.clone(),
            pids: said.pids(),
        },
        devices: said.devices.clone(),
        sysctls: said.sysctls.clone(),
        resolver: ResolverChoice {
            servers: said.dns.clone(),
            search: said.dns_search.clone(),
            options: said.dns_option.clone(),
        },
        has_init: said.init,
        no_new_privileges: said.has_no_new_privileges(),
        no_seccomp: said.has_no_seccomp(),
        propagations: Vec::new(),
    })
}

/// As docker: a process that shares the network has its name, too.
fn hostname_of(network: Network) -> anyhow::Result<String> {
    if network == Network::Host {
        let own = rustix::system::uname();
        return Ok(own.nodename().to_string_lossy().into_owned());
    }
    let mut bytes = [0; HOSTNAME_BYTES];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot make a host name; give --hostname")?;
    Ok(bytes.map(|byte| format!("{byte:02x}")).concat())
}

fn shared_memory(size: u64) -> ExtraMount {
    ExtraMount {
        target: SHM.to_owned(),
        kind: ExtraMountKind::Tmpfs {
            size_bytes: Some(size),
            mode: executor::TMPFS_MODE_DEFAULT,
            has_programs: false,
            read_only: false,
        },
    }
}

fn add_mount(
    choice: MountChoice,
    mounts: &mut Vec<ExtraMount>,
    volumes: &mut Vec<Volume>,
) -> anyhow::Result<()> {
    let MountChoice {
        target,
        is_read_only: read_only,
        from,
    } = choice;
    let kind = match from {
        MountFrom::Own => {
            volumes.push(Volume {
                target,
                is_read_only: read_only,
            });
            return Ok(());
        }
        MountFrom::Memory {
            size_bytes,
            mode,
            has_programs,
        } => ExtraMountKind::Tmpfs {
            size_bytes,
            mode,
            has_programs,
            read_only,
        },
        MountFrom::Path { path, is_made, .. } => ExtraMountKind::Bind {
            source: source(&path, is_made)
                .with_context(|| format!("cannot mount {} at {target}", path.display()))?,
            read_only,
            is_data: false,
        },
    };
    mounts.push(ExtraMount { target, kind });
    Ok(())
}

/// What is to be mounted, where it really is: the runtime follows no links for us.
fn source(path: &Path, is_made: bool) -> std::io::Result<PathBuf> {
    let path = Caller::current().absolute(path)?;
    if is_made && !path.try_exists()? {
        std::fs::create_dir_all(&path)?;
    }
    path.canonicalize()
}

/// `NAME=value` of files and options; of equal names the last one counts, so options go before
/// files.
fn variables(
    files: &[PathBuf],
    given: Vec<String>,
    environment: &Environment,
) -> anyhow::Result<Vec<String>> {
    let proxies = container_proxies::configured(environment)?;
    let mut variables: Vec<_> = proxies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    for path in files {
        let read = || -> anyhow::Result<_> {
            let file = std::fs::File::open(Caller::current().absolute(path)?)?;
            let mut text = String::new();
            let length = file
                .take(ENV_FILE_BYTES_MAX + 1)
                .read_to_string(&mut text)?;
            anyhow::ensure!(
                length as u64 <= ENV_FILE_BYTES_MAX,
                "it is larger than 1 MiB"
            );
            lines(&text)
        };
        let read = read().with_context(|| format!("cannot read --env-file {}", path.display()))?;
        variables.extend(read);
    }
    if let Some(nameless) = given.iter().find(|entry| entry.starts_with('=')) {
        bail!("invalid environment variable: {nameless}");
    }
    variables.extend(given);
    let known = variables
        .into_iter()
        .filter_map(|entry| match entry.contains('=') {
            true => Some(entry),
            false => environment
                .get(&entry)
                .map(|value| format!("{entry}={value}")),
        });
    Ok(known.collect())
}

/// The lines of a file with variables as docker reads it: `#` begins a comment line, values stay as
/// they are, quotes too.
fn lines(text: &str) -> anyhow::Result<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        let number = index + 1;
        anyhow::ensure!(!name.is_empty(), "line {number} has no name before '='");
        anyhow::ensure!(
            !name.contains(char::is_whitespace),
            "line {number}: the variable '{name}' contains white space"
        );
        entries.push(line.to_owned());
    }
    Ok(entries)
}

/// The rights that this process can have or give, a bit for each (proc_pid_status(5)).
fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::args::{Arguments, Command};

    fn options(words: &[&str]) -> Run {
        let words = ["varve", "run"].iter().chain(words);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_without_a_value_come_from_the_environment() {
        let environment = Environment::of(&[("SET", "here")], false);
        let options = options(&["-e", "A=1", "-e", "SET", "-e", "UNSET", "demo", "ls", "-l"]);
        let (image, request) = make(options, &environment).unwrap();
        assert_eq!(image.reference, "demo");
        assert_eq!(request.args, ["ls", "-l"]);
        assert_eq!(request.env, ["A=1", "SET=here"]);
        assert_eq!(request.network, Network::Host);
    }

    #[test]
    fn a_variable_without_a_name_is_refused_in_dockers_words() {
        let environment = Environment::of(&[], false);
        let error = make(options(&["-e", "A=", "-e", "=x", "demo"]), &environment);
        assert_eq!(
            error.unwrap_err().to_string(),
            "invalid environment variable: =x"
        );
    }

    #[test]
    fn options_go_before_files_of_variables() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        std::fs::write(&path, "\u{feff}# a comment\nA=file\n  B='x y'\n\nSET\n").unwrap();
        let path = path.display().to_string();
        let environment = Environment::of(&[("SET", "here")], false);
        let options = options(&["--env-file", &path, "-e", "A=option", "demo"]);
        let (_, request) = make(options, &environment).unwrap();
        assert_eq!(request.env, ["A=file", "B='x y'", "SET=here", "A=option"]);
    }

    #[test]
    fn a_line_that_is_no_variable_is_named() {
        for (text, part) in [
            ("A=1\nB C=2\n", "line 2: the variable 'B C'"),
            ("=1\n", "line 1 has no name"),
        ] {
            let error = lines(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_empty_entrypoint_removes_the_images_own() {
        let environment = Environment::of(&[], false);
        for (given, expect) in [
            (vec![], None),
            (vec!["--entrypoint", ""], Some(vec![])),
            (vec!["--entrypoint", "/x"], Some(vec!["/x".to_owned()])),
        ] {
            let words = [given.as_slice(), &["demo"]].concat();
            let (_, request) = make(options(&words), &environment).unwrap();
            assert_eq!(request.entrypoint, expect);
        }
    }

    #[test]
    fn a_source_that_is_missing_is_made_for_v_only() {
        let directory = tempfile::tempdir().unwrap();
        let environment = Environment::of(&[], false);
        let path = directory.path().join("new/one");
        let words = format!("type=bind,source={},target=/x", path.display());
        let error = make(options(&["--mount", &words, "demo"]), &environment).unwrap_err();
        assert!(error.to_string().contains("new/one at /x"), "{error}");
        let words = format!("{}:/x:ro", path.display());
        let (_, request) = make(options(&["-v", &words, "demo"]), &environment).unwrap();
        assert!(path.is_dir());
        let kind = ExtraMountKind::Bind {
            source: path.canonicalize().unwrap(),
            read_only: true,
            is_data: false,
        };
        assert_eq!(request.mounts[0].kind, kind);
    }
}
