//! A containerd of a test's own: nothing of it lies outside its directory but what containerd
//! cannot be told to keep elsewhere (`/run/containerd`), and there a namespace of its own keeps it
//! apart.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::containerd_config;
use crate::leftovers;
use crate::server::{HOST_PATH, Server};
use crate::workspace::{Outcome, run};

pub use crate::containerd_config::{Version, unpack_with};

/// The kernel takes 108 bytes, and containerd appends `.ttrpc` to the name.
const ADDRESS_BYTES_MAX: usize = 100;

/// Below the state directory: a directory per namespace, and in it one per container.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Where runc keeps its state for containerd, by namespace.
const RUNC_ROOT: &str = "/run/containerd/runc";

const CGROUPS: &str = "/sys/fs/cgroup";

/// Garbage is collected soon after every deletion, so that tests need not wait for it.
const EAGER_COLLECTION: &str = "\
[plugins.\"io.containerd.gc.v1.scheduler\"]
  deletion_threshold = 1
  startup_delay = \"100ms\"
  pause_threshold = 0.5
";

/// A running containerd. With the value go its containers, its shims and its mounts.
#[derive(Debug)]
pub struct Containerd {
    version: Version,
    directory: PathBuf,
    namespace: String,
    server: Server,
}

impl Containerd {
    /// Starts one with everything below the new directory `directory`, and waits until it answers.
    /// `snapshotter` is appended to its configuration: see [`unpack_with`], and for varve
    /// [`crate::daemon::containerd_config`].
    ///
    /// # Panics
    /// It is not there or does not start, or the directory's name is too long for a socket.
    #[must_use]
    pub fn start(version: Version, directory: &Path, snapshotter: &str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        fs::create_dir(directory).expect("a directory for containerd");
        let address = Self::address_in(directory);
        assert!(
            address.as_os_str().len() < ADDRESS_BYTES_MAX,
            "too long for a socket: {}",
            address.display()
        );
        let config = containerd_config::text(directory) + EAGER_COLLECTION + snapshotter;
        fs::write(directory.join("config.toml"), config).expect("its configuration");
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("varve-test-{}-{number}", std::process::id());
        Containerd {
            version,
            directory: directory.to_owned(),
            server: serve(version, directory),
            namespace,
        }
    }

    /// The socket of a containerd that is or will be started in `directory`.
    #[must_use]
    pub fn address_in(directory: &Path) -> PathBuf {
        directory.join("containerd.sock")
    }

    /// Its socket.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        Self::address_in(&self.directory)
    }

    /// Which one it is.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The containerd namespace that [`Containerd::ctr`] uses. No other test has it.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// All it has printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Runs `ctr` of the same version on it.
    pub fn ctr<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.ctr_command(&self.namespace, words))
    }

    /// The same in another namespace, whose name should have [`Containerd::namespace`] in it.
    pub fn ctr_in<A: AsRef<OsStr>>(
        &self,
        namespace: &str,
        words: impl IntoIterator<Item = A>,
    ) -> Outcome {
        run(&mut self.ctr_command(namespace, words))
    }

    /// The `ctr` command, not yet started.
    pub fn ctr_command<A: AsRef<OsStr>>(
        &self,
        namespace: &str,
        words: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(self.version.programs().join("ctr"));
        command
            .env_clear()
            .env("PATH", HOST_PATH)
            .arg("--address")
            .arg(self.address())
            .args(["--namespace", namespace])
            .args(words);
        command
    }

    /// Ends containerd at once (SIGKILL). Its containers go on.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same state; one that still runs is first asked to end. Containers
    /// go on meanwhile.
    ///
    /// # Panics
    /// It does not end or does not start.
    pub fn restart(&mut self) {
        if self.server.runs() {
            self.server.terminate();
        }
        self.server = serve(self.version, &self.directory);
    }

    /// Ends what a containerd that has ended left running: it starts no container without a
    /// bundle directory in its state.
    fn end_containers(&self) {
        for namespace in names_in(&self.directory.join("state").join(TASKS)) {
            let tasks = self.directory.join("state").join(TASKS).join(&namespace);
            let runc_root = Path::new(RUNC_ROOT).join(&namespace);
            for id in names_in(&tasks) {
                Command::new("runc")
                    .arg("--root")
                    .arg(&runc_root)
                    .args(["delete", "--force", &id])
                    .output()
                    .ok();
                // A socket below /run/containerd, of the shim that is ended below.
                let socket = fs::read_to_string(tasks.join(&id).join("address"));
                if let Some(path) = socket.unwrap_or_default().strip_prefix("unix://") {
                    fs::remove_file(path).ok();
                }
            }
            fs::remove_dir(runc_root).ok();
            for controller in names_in(Path::new(CGROUPS)) {
                fs::remove_dir(Path::new(CGROUPS).join(controller).join(&namespace)).ok();
            }
            fs::remove_dir(Path::new(CGROUPS).join(&namespace)).ok();
        }
    }

    /// The shims of this containerd: its address is on their command lines.
    fn end_shims(&self) {
        let address = self.address().display().to_string();
        for process in leftovers::processes(&address) {
            let Some((pid, _)) = process
                .split_once(": ")
                .filter(|(_, line)| line.contains("containerd-shim"))
            else {
                continue;
            };
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.server.runs() {
            self.server.kill();
        }
        self.end_containers();
        self.end_shims();
        let unmounted = mount::unmount_all_below(&self.directory);
        if !std::thread::panicking() {
            unmounted.expect("what containerd mounted can be unmounted");
        }
    }
}

fn serve(version: Version, directory: &Path) -> Server {
    let programs = version.programs();
    let mut command = Command::new(programs.join("containerd"));
    // The shim is looked for on PATH first.
    let path = format!("{}:{HOST_PATH}", programs.display());
    command
        .arg("--config")
        .arg(directory.join("config.toml"))
        .env_clear()
        .env("PATH", path);
    let mut server = Server::start(&mut command, &directory.join("log"));
    let mut version = Command::new(programs.join("ctr"));
    version
        .arg("--address")
        .arg(Containerd::address_in(directory))
        .arg("version");
    server.wait_for(|| (run(&mut version).code == 0).then_some(()));
    server
}

/// Names of the entries of a directory; none where there is no such directory.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
