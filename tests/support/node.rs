//! A machine that runs containers, in small: a registry, a containerd and its snapshotter.
//!
//! The snapshotter is [`VARVE`], served by a `varve daemon`, or one of containerd's own: with
//! `VARVE_TEST_SNAPSHOTTER=overlayfs` in the environment the same tests run on that, which tells
//! whether a test asks for more than containerd gives anyway.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::containerd::{Containerd, Version, unpack_with};
use crate::daemon::{Addresses, Daemon, containerd_config};
use crate::leftovers::eventually;
use crate::registry::Registry;
use crate::workspace::{Outcome, Running, run};
use crate::{base_image, layered_image, privileged};

/// The name under which containerd knows varve.
pub const VARVE: &str = "varve";

/// Chooses another snapshotter.
const VARIABLE: &str = "VARVE_TEST_SNAPSHOTTER";

/// What keeps a snapshot that nothing else refers to.
const ROOT_LABEL: &str = "containerd.io/gc.root=of-a-test";

const VIEW_LIMIT: Duration = Duration::from_secs(20);

/// containerd tries again after 3 seconds at most (its `MaxDelay`); this is for a busy machine.
const CONNECTED_LIMIT: Duration = Duration::from_secs(60);

/// A row of `ctr snapshots ls`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its key, or its name if it is committed.
    pub key: String,
    /// The key of its parent; empty for none.
    pub parent: String,
    /// `Committed`, `Active` or `View`.
    pub kind: String,
}

/// A script that runs in a container. What it writes to both standard streams goes to a file: `ctr`
/// opens its pipes while the container already runs, and loses the output of one that ends first.
#[derive(Debug)]
pub struct RunningScript {
    running: Running,
    output: PathBuf,
}

impl RunningScript {
    /// Waits for its end. The output of both streams is the outcome's `stdout`, in order.
    ///
    /// # Panics
    /// It does not end within minutes.
    pub fn wait(self) -> Outcome {
        let mut outcome = self.running.wait();
        // Without a container there is none.
        let output = fs::read(&self.output).unwrap_or_default();
        outcome.stdout += &String::from_utf8_lossy(&output);
        outcome
    }
}

/// A name that no other has in this process.
fn numbered(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Registry, containerd and snapshotter. All end with the value, containerd first.
#[derive(Debug)]
pub struct Node {
    /// The containerd.
    pub containerd: Containerd,
    /// The daemon, if the snapshotter is varve.
    pub daemon: Option<Daemon>,
    /// Where images are pulled from.
    pub registry: Registry,
    snapshotter: String,
    directory: TempDir,
}

impl Node {
    /// Starts all of it.
    ///
    /// # Panics
    /// Without root, or where something does not start.
    #[must_use]
    pub fn start(version: Version) -> Self {
        privileged::assert_root();
        let snapshotter = std::env::var(VARIABLE).unwrap_or_else(|_| VARVE.to_owned());
        let directory = tempfile::Builder::new().prefix("varve-test-").tempdir();
        let directory = directory.expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let registry = Registry::start(&path("registry"));
        let addresses = Addresses {
            root: path("varve"),
            snapshotter: path("varve.sock"),
            containerd: Containerd::address_in(&path("containerd")),
            log: path("varve.log"),
        };
        let (config, daemon) = if snapshotter == VARVE {
            let binary = crate::varve_binary();
            let config = containerd_config(&binary, &addresses, &version.programs());
            (config, Some(Daemon::start(&binary, addresses)))
        } else {
            (unpack_with(&snapshotter), None)
        };
        let node = Node {
            containerd: Containerd::start(version, &path("containerd"), &config),
            daemon,
            registry,
            snapshotter,
            directory,
        };
        node.wait_for_snapshotter();
        node
    }

    /// The name of the snapshotter.
    #[must_use]
    pub fn snapshotter(&self) -> &str {
        &self.snapshotter
    }

    /// A path in the temporary directory.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Runs `ctr`.
    pub fn ctr<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Outcome {
        self.containerd.ctr(words)
    }

    /// Puts an image of busybox with these layers above it into the registry; its reference.
    ///
    /// # Panics
    /// It cannot.
    #[track_caller]
    pub fn publish(&self, name: &str, above: &[Vec<u8>]) -> String {
        let base = self.path(format!("{name}.base"));
        base_image::write(&base).expect("a base image of busybox");
        let mut layers = layered_image::layers(&base);
        layers.extend_from_slice(above);
        self.publish_layers(name, &layers)
    }

    /// Puts an image of just these layers into the registry; its reference. Its layout is
    /// `<name>.layout`.
    ///
    /// # Panics
    /// It cannot.
    #[track_caller]
    pub fn publish_layers(&self, name: &str, layers: &[Vec<u8>]) -> String {
        let layout = self.path(format!("{name}.layout"));
        let container = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"] });
        layered_image::write(&layout, layers, &container);
        self.registry.push(&layout, name)
    }

    /// The command that pulls an image, not yet started.
    pub fn pull_command(&self, reference: &str) -> Command {
        let words = ["images", "pull", "--plain-http", "--snapshotter"];
        let mut command = self
            .containerd
            .ctr_command(self.containerd.namespace(), words);
        command.args([&self.snapshotter, reference]);
        command
    }

    /// Pulls and unpacks an image.
    ///
    /// # Panics
    /// It cannot be pulled.
    #[track_caller]
    pub fn pull(&self, reference: &str) {
        run(&mut self.pull_command(reference)).succeeded();
    }

    /// Starts a container that runs `script` by the shell of a pulled image. It is gone with its
    /// end.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start_script(&self, reference: &str, script: &str) -> RunningScript {
        self.start_script_with(&["--net-host"], reference, script)
    }

    /// The same with options of `ctr run`; `--net-host` is none of them unless it is said.
    ///
    /// # Panics
    /// As [`Node::start_script`].
    pub fn start_script_with(
        &self,
        options: &[&str],
        reference: &str,
        script: &str,
    ) -> RunningScript {
        let snapshotter = ["--snapshotter", &self.snapshotter, reference];
        self.start_container(&[options, &snapshotter].concat(), script)
    }

    /// Runs `script` by the shell of a pulled image.
    pub fn run(&self, reference: &str, script: &str) -> Outcome {
        self.start_script(reference, script).wait()
    }

    /// Runs `script` by the shell of a directory.
    pub fn run_in(&self, rootfs: &Path, script: &str) -> Outcome {
        let rootfs = rootfs.display().to_string();
        let options = ["--net-host", "--rootfs", &rootfs];
        self.start_container(&options, script).wait()
    }

    fn start_container(&self, options: &[&str], script: &str) -> RunningScript {
        let id = numbered("run");
        let words = ["run", "--rm", "--log-uri"];
        let output = self.path(format!("{id}.output"));
        let mut command = self
            .containerd
            .ctr_command(self.containerd.namespace(), words);
        command.arg(format!("file://{}", output.display()));
        command.args(options).args([&id, "/bin/sh", "-c", script]);
        RunningScript {
            running: Running::start(&mut command),
            output,
        }
    }

    /// Runs `script` by the shell of a container that runs.
    pub fn exec(&self, container: &str, script: &str) -> Outcome {
        let id = numbered("exec");
        let output = self.path(format!("{id}.output"));
        let uri = format!("file://{}", output.display());
        let words = ["tasks", "exec", "--log-uri", &uri, "--exec-id", &id];
        let mut command = self
            .containerd
            .ctr_command(self.containerd.namespace(), words);
        command.args([container, "/bin/sh", "-c", script]);
        let running = Running::start(&mut command);
        RunningScript { running, output }.wait()
    }

    /// Deletes images and has what nobody needs any more collected.
    ///
    /// # Panics
    /// One of them is not there.
    #[track_caller]
    pub fn remove(&self, references: &[&str]) {
        self.ctr(["images", "rm"].iter().chain(references))
            .succeeded();
        self.collect_garbage();
    }

    /// Has containerd collect garbage, and waits for it. By itself it does so after a deletion,
    /// but misses those that happen during the end of a collection.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn collect_garbage(&self) {
        self.ctr(["leases", "create", "--id", "to-collect"])
            .succeeded();
        self.ctr(["leases", "rm", "--sync", "to-collect"])
            .succeeded();
    }

    /// Waits until containerd has a connection to the snapshotter. It gives up a try that is not
    /// answered within a second, and then tells its callers for a while that there is none.
    ///
    /// # Panics
    /// It never has.
    #[track_caller]
    pub fn wait_for_snapshotter(&self) {
        let mut last = None;
        let connected = eventually(CONNECTED_LIMIT, || {
            let key = numbered("probe");
            let probe = self.snapshots(["prepare", &key]);
            let is_there = probe.code == 0 && self.snapshots(["rm", &key]).code == 0;
            last = Some(probe);
            is_there
        });
        assert!(connected, "{last:#?}");
    }

    /// Runs `ctr snapshots` with the snapshotter.
    pub fn snapshots<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Outcome {
        let command = ["snapshots", "--snapshotter", &self.snapshotter];
        let mut command = self
            .containerd
            .ctr_command(self.containerd.namespace(), command);
        run(command.args(words))
    }

    /// `ctr snapshots ls`, sorted by key.
    ///
    /// # Panics
    /// It fails, or prints something else.
    #[track_caller]
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let listing = self.snapshots(["ls"]).success().stdout;
        let mut rows = parse_rows(&listing);
        rows.sort();
        rows
    }

    /// The key of the snapshot on which no other lies. After the pull of one image that is the
    /// image.
    ///
    /// # Panics
    /// There is not exactly one.
    #[track_caller]
    #[must_use]
    pub fn top(&self) -> String {
        let rows = self.rows();
        let is_parent = |key: &str| rows.iter().any(|row| row.parent == key);
        let tops: Vec<_> = rows.iter().filter(|row| !is_parent(&row.key)).collect();
        assert_eq!(tops.len(), 1, "{rows:#?}");
        tops[0].key.clone()
    }

    /// Makes a view that stays. `ctr` gives views no label that keeps them, so that a collection
    /// of garbage may take one before it is labelled; then another is made.
    ///
    /// # Panics
    /// It cannot be made.
    #[track_caller]
    pub fn view(&self, key: &str, parent: &str) {
        let mut last = None;
        let made = eventually(VIEW_LIMIT, || {
            let view = self.snapshots(["view", key, parent]);
            let labelled = self.snapshots(["label", key, ROOT_LABEL]);
            let done = view.code == 0 && labelled.code == 0;
            last = Some((view, labelled));
            done
        });
        assert!(made, "{last:#?}");
    }

    /// Mounts a snapshot where `ctr snapshots mounts` says and as it says.
    ///
    /// # Panics
    /// It cannot be mounted.
    #[track_caller]
    #[must_use]
    pub fn mount(&self, key: &str) -> Mounted {
        static MOUNTED: AtomicU32 = AtomicU32::new(0);
        let number = MOUNTED.fetch_add(1, Ordering::Relaxed);
        let target = self.path(format!("mounted-{number}"));
        fs::create_dir(&target).expect("a mount point");
        let target_text = target.display().to_string();
        let script = self.snapshots(["mounts", &target_text, key]).success();
        assert!(script.stdout.contains("mount -t "), "{script}");
        let mounted = Mounted { target };
        run(Command::new("sh").args(["-ec", &script.stdout])).succeeded();
        mounted
    }
}

/// Reads the table by the columns of its head: keys may hold blanks.
fn parse_rows(table: &str) -> Vec<Row> {
    let mut lines = table.lines();
    let head = lines.next().expect("a head");
    let column = |name: &str| {
        head.find(name)
            .unwrap_or_else(|| panic!("no {name}: {head:?}"))
    };
    let (parent, kind) = (column("PARENT"), column("KIND"));
    lines
        .map(|line| Row {
            key: line[..parent].trim_end().to_owned(),
            parent: line[parent..kind].trim_end().to_owned(),
            kind: line[kind..].trim_end().to_owned(),
        })
        .collect()
}

/// A mounted snapshot. It is unmounted with the value.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
}

impl Mounted {
    /// Where.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--recursive").arg(&self.target));
        if !std::thread::panicking() {
            unmounted.succeeded();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_hold_blanks_and_a_parent_be_missing() {
        let rows = parse_rows(
            "KEY         PARENT KIND      \n\
             extract-1 a base   Active    \n\
             base               Committed \n",
        );
        let row = |key: &str, parent: &str, kind: &str| Row {
            key: key.to_owned(),
            parent: parent.to_owned(),
            kind: kind.to_owned(),
        };
        let expect = [
            row("extract-1 a", "base", "Active"),
            row("base", "", "Committed"),
        ];
        assert_eq!(rows, expect);
    }
}
