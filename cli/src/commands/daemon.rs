//! `varve daemon`: owns the store and serves containerd.

mod http;
mod settings;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use settings::Settings;
use snapshotter::containers::Containers;
use snapshotter::containers::Worker;
use snapshotter::plugin::{self, metrics::Metrics};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::args;
use crate::daemon::Site;
use crate::environment::Environment;
use crate::error::{print, say};

/// A version of containerd that can do everything that we know of (major, minor).
const CONTAINERD_RECENT: (u32, u32) = (2, 0);

/// This program, also if its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What mimalloc is told by its environment.
const ALLOCATOR_OPTIONS: [(&str, &str); 3] = [
    ("MIMALLOC_PURGE_DELAY", "0"),
    ("MIMALLOC_ARENA_EAGER_COMMIT", "0"),
    ("MIMALLOC_ALLOW_THP", "0"),
];

/// Entries of directories that the daemon keeps in memory, some 10 MB.
const TREE_CACHE_ENTRIES: usize = 50_000;

/// The socket is for root alone: who can call it can mount what he likes.
const SOCKET_MODE: u32 = 0o600;

/// The kernel's limit (`sun_path`, with a zero at the end).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Serves until a signal ends it.
///
/// # Errors
/// The socket or the root directory is somebody else's; those of the store.
pub(super) fn daemon(site: &Site, options: args::Daemon) -> anyhow::Result<()> {
    let socket = Environment::absolute(&options.snapshotter_address)?;
    if options.print_containerd_config {
        let version = containerd_version(options.containerd_version.as_deref());
        let text = containerd_config(&options.name, &socket, &site.root, version);
        return print(&text);
    }
    if !site.environment.is_root() {
        bail!("the daemon mounts: run it as root");
    }
    give_memory_back(&site.environment);
    // First: whoever sees the socket of the snapshotter can ask for metrics too.
    let http = options.metrics_address.as_ref();
    let http = http.map(http::listen).transpose()?;
    let (listener, _socket) = listen(&socket)?;
    let containers = site.open_containers()?;
    let store = containers.manager().store();
    store.limit_tree_cache(TREE_CACHE_ENTRIES);
    let settings = Settings {
        file: options.config.clone(),
        is_debug: site.global.debug,
        max_used: options.max_used_space,
        reserved: options.reserved_space,
        min_free: options.min_free_space,
    };
    settings.apply(&containers)?;
    let worker = Worker::start(containers.clone()).context("cannot start a thread")?;
    let parallel = std::thread::available_parallelism().map_or(1, usize::from);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(parallel + plugin::CALL_THREADS)
        .enable_all()
        .build();
    let tokio = tokio.context("cannot start threads")?;
    let served = tokio.block_on(async {
        let containerd = Environment::absolute(&options.containerd_address)?;
        let metrics = Metrics::new(containers.clone(), env!("CARGO_PKG_VERSION"));
        if let Some(http) = http {
            http.serve(metrics.clone())?;
        }
        let routes = plugin::services(metrics, containerd);
        let server = Server::builder().add_routes(routes);
        listener.set_nonblocking(true)?;
        let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
        let end = end_of_service(move || reload(&settings, &containers))?;
        say(&format!("serving containerd on {}", socket.display()));
        notify(&[NotifyState::Ready]);
        let served = server.serve_with_incoming_shutdown(incoming, end).await;
        notify(&[NotifyState::Stopping]);
        served.context("cannot serve")
    });
    // Ends what runs in the background, then closes the database in order.
    drop(worker);
    drop(tokio);
    served
}

/// Starts the program again, in this process, with an allocator that gives memory back as soon as
/// it is free: after a large layer the daemon would stay three times as large as it is. The
/// allocator reads its options before anything else happens.
fn give_memory_back(environment: &Environment) {
    if ALLOCATOR_OPTIONS
        .iter()
        .any(|(name, _)| environment.get(name).is_some())
    {
        return;
    }
    let mut words = std::env::args_os();
    let mut again = Command::new(OWN_PROGRAM);
    again
        .arg0(words.next().unwrap_or_default())
        .args(words)
        .envs(ALLOCATOR_OPTIONS);
    let error = again.exec();
    tracing::warn!(%error, "memory is given back late");
}

/// A socket that goes with the daemon, also with one that is refused the root.
#[derive(Debug)]
struct OwnSocket(PathBuf);

impl Drop for OwnSocket {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// Ready when a signal asks for the end: calls under way are answered first, a second signal ends
/// the process at once. `reload` is what SIGHUP asks for.
fn end_of_service(reload: impl Fn() + Send + 'static) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut sender = Some(sender);
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload();
                    continue;
                }
            }
            match sender.take() {
                Some(sender) => drop(sender.send(())),
                None => std::process::exit(1),
            }
        }
    });
    Ok(async move { drop(receiver.await) })
}

/// Goes by the configuration file as it is now; one that is wrong changes nothing.
fn reload(settings: &Settings, containers: &Containers) {
    notify(&[
        NotifyState::Reloading,
        NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Ready),
    ]);
    match settings.apply(containers) {
        Ok(()) => say("SIGHUP: the configuration was read again"),
        Err(error) => say(&format!("SIGHUP: nothing has changed: {error:#}")),
    }
    notify(&[NotifyState::Ready]);
}

/// Tells systemd, if it started us.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// The socket that systemd opened for us, or one of our own, which is ours to remove.
fn listen(socket: &Path) -> anyhow::Result<(UnixListener, Option<OwnSocket>)> {
    let mut passed = listenfd::ListenFd::from_env();
    match passed.take_unix_listener(0)? {
        Some(listener) => Ok((listener, None)),
        None => {
            let (listener, own) = bind(socket, "--snapshotter-address")?;
            Ok((listener, Some(own)))
        }
    }
}

/// A socket of our own; `option` chooses it.
fn bind(socket: &Path, option: &str) -> anyhow::Result<(UnixListener, OwnSocket)> {
    let shown = socket.display();
    let length = socket.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        bail!(
            "{shown} has {length} bytes, the path of a socket at most {SOCKET_PATH_BYTES_MAX}: \
             choose a shorter one with {option}"
        );
    }
    // Connecting to any other file is refused like connecting to the socket of a dead daemon.
    if fs::symlink_metadata(socket).is_ok_and(|found| !found.file_type().is_socket()) {
        bail!("{shown} is there and no socket: choose another path with {option}");
    }
    if let Some(directory) = socket.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    match UnixStream::connect(socket) {
        Ok(_) => bail!(
            "{shown} is in use: another daemon serves there; stop it, or choose another socket \
             with {option}"
        ),
        // Left by one that was killed.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(socket).with_context(|| format!("cannot remove the old {shown}"))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(format!("cannot use {shown}")),
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen on {shown}"))?;
    let own = OwnSocket(socket.to_owned());
    fs::set_permissions(socket, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("cannot protect {shown}"))?;
    Ok((listener, own))
}

/// What belongs into the configuration of a containerd of this version (major, minor). That of 1.6
/// ends with a panic when it finds a differ among its proxy plugins; 2.0 and later pull with a
/// service that has to be told of every snapshotter.
fn containerd_config(name: &str, socket: &Path, root: &Path, version: (u32, u32)) -> String {
    let quoted = |path: &Path| toml_string(&path.display().to_string());
    let (address, root) = (quoted(socket), quoted(root));
    // 1.7 has the words, but loses the labels on the way to a proxy plugin.
    let capabilities = match version >= (2, 0) {
        true => "  capabilities = [\"remap-ids\"]\n",
        false => "",
    };
    let mut text = format!(
        "\
# For /etc/containerd/config.toml (version 2 or 3); then restart containerd.
[proxy_plugins.{name}]
  type = \"snapshot\"
  address = {address}
{capabilities}  [proxy_plugins.{name}.exports]
    root = {root}
"
    );
    if version >= (1, 7) {
        text.push_str(&format!(
            "\
[proxy_plugins.{name}-diff]
  type = \"diff\"
  address = {address}

# Layers go straight into the store; what is not {name}'s goes the usual way.
[plugins.\"io.containerd.service.v1.diff-service\"]
  default = [\"{name}-diff\", \"walking\"]
"
        ));
    }
    if version >= (2, 0) {
        text.push_str(&format!(
            "\n\
# Pulls. This list replaces containerd's own, so overlayfs is named too.
[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]
  platform = \"linux\"
  snapshotter = \"{name}\"
  differ = \"{name}-diff\"
[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]
  platform = \"linux\"
  snapshotter = \"overlayfs\"
  differ = \"walking\"
"
        ));
    }
    let kubernetes = match version >= (2, 0) {
        true => "io.containerd.cri.v1.images\"]",
        false => "io.containerd.grpc.v1.cri\".containerd]",
    };
    text.push_str(&format!(
        "\n\
# For Kubernetes:
# [plugins.\"{kubernetes}
#   snapshotter = \"{name}\"
"
    ));
    text
}

/// The version of the installed containerd, or of the one that the text names. One that cannot be
/// asked is taken for a recent one.
fn containerd_version(version: Option<&str>) -> (u32, u32) {
    let installed = || {
        let output = Command::new("containerd").arg("--version").output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    // "containerd github.com/containerd/containerd 1.6.20~ds1 ...", "containerd ... v2.2.0 ..."
    let text = version.map(str::to_owned).or_else(installed);
    let number = |text: String| {
        let mut words = text
            .split_whitespace()
            .map(|word| word.trim_start_matches('v'));
        let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut numbers = version.split('.').map(|number| number.parse::<u32>());
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    text.and_then(number).unwrap_or(CONTAINERD_RECENT)
}

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_what_the_version_understands() {
        let text = |version| {
            let root = Path::new("/var/lib/v");
            containerd_config("v", Path::new("/run/a\"b"), root, version)
        };
        let whole = text((2, 1));
        assert!(whole.contains("  address = \"/run/a\\\"b\"\n"), "{whole}");
        assert!(whole.contains("    root = \"/var/lib/v\"\n"), "{whole}");
        assert!(whole.contains("\n[proxy_plugins.v-diff]\n"), "{whole}");
        assert!(whole.contains("  differ = \"v-diff\"\n"), "{whole}");
        assert!(
            whole.contains("  capabilities = [\"remap-ids\"]\n"),
            "{whole}"
        );
        assert!(!text((1, 7)).contains("remap-ids"));
        assert!(text((1, 7)).contains("v-diff") && !text((1, 7)).contains("transfer"));
        assert!(!text((1, 6)).contains("v-diff"));
    }

    #[test]
    fn versions_are_read_as_containerd_prints_them() {
        for (text, expected) in [
            ("1.6.20", (1, 6)),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1",
                (1, 6),
            ),
            ("v1.7.0", (1, 7)),
            (
                "containerd github.com/containerd/containerd/v2 v2.2.0 abc",
                (2, 2),
            ),
            ("nonsense", CONTAINERD_RECENT),
        ] {
            assert_eq!(containerd_version(Some(text)), expected, "{text}");
        }
    }
}
