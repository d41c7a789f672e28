//! `varve daemon`: owns the store and serves containerd.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use snapshotter::containers::{Containers, Worker};
use snapshotter::plugin;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::args;
use crate::daemon::Site;
use crate::environment::Environment;
use crate::error::{print, say};

/// The socket is for root alone: who can call it can mount what he likes.
const SOCKET_MODE: u32 = 0o600;

/// Serves until a signal ends it.
///
/// # Errors
/// The socket or the root directory is somebody else's; those of the store.
pub(super) fn daemon(site: &Site, options: args::Daemon) -> anyhow::Result<()> {
    let socket = Environment::absolute(&options.snapshotter_address)?;
    if options.print_containerd_config {
        let has_differs = has_differs(options.containerd_version.as_deref());
        let text = containerd_config(&options.name, &socket, &site.root, has_differs);
        return print(&text);
    }
    if !site.environment.is_root() {
        bail!("the daemon mounts: run it as root");
    }
    let listener = listen(&socket)?;
    let snapshots = site.open_snapshots()?;
    let containers = Containers::open(snapshots)?;
    let worker = Worker::start(containers.clone()).context("cannot start a thread")?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let tokio = tokio.context("cannot start threads")?;
    let served = tokio.block_on(async {
        let containerd = Environment::absolute(&options.containerd_address)?;
        let routes = plugin::services(containers.clone(), containerd);
        let server = Server::builder().add_routes(routes);
        listener.set_nonblocking(true)?;
        let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
        let end = end_of_service()?;
        say(&format!("serving containerd on {}", socket.display()));
        notify(&[NotifyState::Ready]);
        let served = server.serve_with_incoming_shutdown(incoming, end).await;
        notify(&[NotifyState::Stopping]);
        served.context("cannot serve")
    });
    // Ends what runs in the background, then closes the database in order.
    drop(worker);
    drop(tokio);
    fs::remove_file(&socket).ok();
    served
}

/// Ready when a signal asks for the end: calls under way are answered first, a second signal ends
/// the process at once.
fn end_of_service() -> anyhow::Result<impl Future<Output = ()>> {
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
                    tracing::info!("SIGHUP: there is no configuration file to read again");
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

/// Tells systemd, if it started us.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}

/// The socket that systemd opened for us, or one of our own.
fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    let mut passed = listenfd::ListenFd::from_env();
    if let Some(listener) = passed.take_unix_listener(0)? {
        return Ok(listener);
    }
    if let Some(directory) = socket.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    match UnixStream::connect(socket) {
        Ok(_) => bail!(
            "{} is in use: another daemon serves there; stop it, or choose another socket with \
             --snapshotter-address",
            socket.display()
        ),
        // Left by one that was killed.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(socket)
                .with_context(|| format!("cannot remove the old {}", socket.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(format!("cannot use {}", socket.display())),
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(SOCKET_MODE))
        .with_context(|| format!("cannot protect {}", socket.display()))?;
    Ok(listener)
}

/// What belongs into containerd's configuration. containerd 1.6 ends with a panic when it finds a
/// differ among its proxy plugins, so that part is for later versions.
fn containerd_config(name: &str, socket: &Path, root: &Path, has_differs: bool) -> String {
    let quoted = |path: &Path| toml_string(&path.display().to_string());
    let (address, root) = (quoted(socket), quoted(root));
    let differ = format!(
        "\
[proxy_plugins.{name}-diff]
  type = \"diff\"
  address = {address}

# Layers go straight into the store; what is not {name}'s goes the usual way.
[plugins.\"io.containerd.service.v1.diff-service\"]
  default = [\"{name}-diff\", \"walking\"]
"
    );
    let differ = match has_differs {
        true => differ,
        false => format!(
            "# From containerd 1.7 on, this makes unpacking faster:\n{}",
            commented(&differ)
        ),
    };
    format!(
        "\
# For /etc/containerd/config.toml (version 2 or 3); then restart containerd.
[proxy_plugins.{name}]
  type = \"snapshot\"
  address = {address}
  [proxy_plugins.{name}.exports]
    root = {root}

{differ}
# For Kubernetes with containerd 1.6 and 1.7:
# [plugins.\"io.containerd.grpc.v1.cri\".containerd]
#   snapshotter = \"{name}\"
#   disable_snapshot_annotations = false
# and with containerd 2:
# [plugins.\"io.containerd.cri.v1.images\"]
#   snapshotter = \"{name}\"
"
    )
}

fn commented(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| format!("# {}\n", line.trim_start_matches("# ")))
        .collect()
}

/// Whether the installed containerd, or the one of this version, knows differs as proxy plugins.
/// One that cannot be asked is taken for a recent one.
fn has_differs(version: Option<&str>) -> bool {
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
    text.and_then(number)
        .is_none_or(|version| version >= (1, 7))
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
    fn the_configuration_names_socket_and_root() {
        let text = |has_differs| {
            let root = Path::new("/var/lib/v");
            containerd_config("v", Path::new("/run/a\"b"), root, has_differs)
        };
        let whole = text(true);
        assert!(whole.contains("  address = \"/run/a\\\"b\"\n"), "{whole}");
        assert!(whole.contains("    root = \"/var/lib/v\"\n"), "{whole}");
        assert!(whole.contains("\n[proxy_plugins.v-diff]\n"), "{whole}");
        assert!(!text(false).contains("\n[proxy_plugins.v-diff]"));
    }

    #[test]
    fn differs_are_known_since_version_1_7() {
        for (version, expected) in [
            ("1.6.20", false),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1",
                false,
            ),
            ("v1.7.0", true),
            (
                "containerd github.com/containerd/containerd/v2 v2.2.0 abc",
                true,
            ),
            ("nonsense", true),
        ] {
            assert_eq!(has_differs(Some(version)), expected, "{version}");
        }
    }
}
