//! A machine that runs containers: a containerd of our own, with one snapshotter.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{self, DEADLINE, Daemon, Environment};
use crate::containerd_config;
use crate::disk::{Disk, said};
use crate::measure::Contestant;

/// How long a server may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Between two questions whether it does.
const START_POLL: Duration = Duration::from_millis(50);

/// Over how long a server must have done nothing to have settled.
const QUIET: Duration = Duration::from_millis(500);

/// Clock ticks of the processor that count as nothing.
const QUIET_TICKS: u64 = 2;

/// How long it may take to settle.
const SETTLE_PATIENCE: Duration = Duration::from_secs(300);

/// Where a script leaves its times, in the container.
const RESULT: &str = "/result";

/// What unpacks and mounts.
#[derive(Debug, Clone)]
pub enum Snapshotter {
    /// containerd's own.
    Overlayfs,
    /// `varve daemon`, of this binary.
    Varve(PathBuf),
}

impl Contestant for Snapshotter {
    fn name(&self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Varve(_) => "varve",
        }
    }
}

/// A running containerd with its snapshotter. Both end with the value; what containers left
/// running ends with [`crate::confinement`].
#[derive(Debug)]
pub struct Node {
    snapshotter: Snapshotter,
    directory: PathBuf,
    ctr: PathBuf,
    namespace: String,
    environment: Environment,
    containers: usize,
    // In the order they end.
    containerd: Daemon,
    varve: Option<Daemon>,
    _disk: Disk,
}

impl Contestant for Node {
    fn name(&self) -> &'static str {
        self.snapshotter.name()
    }
}

impl Node {
    /// Starts one with everything on a [`Disk`] at the new directory, of the containerd in
    /// `programs`, and waits until it answers. `namespace` is the namespace of all it has.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(
        snapshotter: &Snapshotter,
        programs: &Path,
        directory: &Path,
        namespace: &str,
    ) -> Result<Self> {
        let disk = Disk::mount(directory)?;
        let home = directory.join("home");
        fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
        let environment = Environment::new(&home);
        // The shim is looked for on PATH first.
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", programs.display());
        let (config, varve) = match snapshotter {
            Snapshotter::Overlayfs => (containerd_config::unpack_with("overlayfs"), None),
            Snapshotter::Varve(binary) => {
                let mut command = varve_command(&environment, binary, directory);
                let question = command.arg("--print-containerd-config").env("PATH", &path);
                let config = said(question)?;
                let mut command = varve_command(&environment, binary, directory);
                let varve = command::start(&mut command, &directory.join("varve.log"))?;
                (config, Some(varve))
            }
        };
        let config = containerd_config::text(directory) + &config;
        fs::write(directory.join("config.toml"), config)?;
        let mut command = environment.command(programs.join("containerd"));
        command
            .arg("--config")
            .arg(directory.join("config.toml"))
            .env("PATH", path);
        let containerd = command::start(&mut command, &directory.join("containerd.log"))?;
        let mut node = Self {
            snapshotter: snapshotter.clone(),
            directory: directory.to_owned(),
            ctr: programs.join("ctr"),
            namespace: namespace.to_owned(),
            environment,
            containers: 0,
            containerd,
            varve,
            _disk: disk,
        };
        node.wait_until_ready()?;
        Ok(node)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            self.containerd.check_alive().context("containerd")?;
            if let Some(varve) = &mut self.varve {
                varve.check_alive().context("varve daemon")?;
            }
            // A list goes all the way to the snapshotter.
            let words = ["snapshots", "--snapshotter", self.name(), "ls"];
            match self.ctr(words) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > START_PATIENCE => return Err(error),
                Err(_) => thread::sleep(START_POLL),
            }
        }
    }

    /// containerd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// The namespace of all it has.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `ctr`, and returns how long it took.
    ///
    /// # Errors
    /// Where it fails, with the end of what it said.
    pub fn ctr<A: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = A>) -> Result<Duration> {
        let mut command = self.environment.command(&self.ctr);
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(words);
        // Pulls draw their progress; what another command says is not to be lost in that.
        let word = command.get_args().nth(4).unwrap_or_default();
        let log = format!("ctr-{}.log", word.to_string_lossy());
        command::run(&mut command, &self.directory.join(log), DEADLINE)
    }

    /// Fetches the content of an image, and unpacks nothing.
    ///
    /// # Errors
    /// As [`Node::ctr`].
    pub fn fetch(&self, reference: &str) -> Result<Duration> {
        self.ctr(["content", "fetch", "--plain-http", reference])
    }

    /// Fetches what is missing of an image, and unpacks it.
    ///
    /// # Errors
    /// As [`Node::ctr`].
    pub fn pull(&self, reference: &str) -> Result<Duration> {
        let words = ["images", "pull", "--plain-http", "--snapshotter"];
        self.ctr(words.iter().copied().chain([self.name(), reference]))
    }

    /// Pulls an image unless it is there, and waits until nothing goes on any more.
    ///
    /// # Errors
    /// As [`Node::ctr`].
    pub fn have(&self, reference: &str) -> Result<()> {
        // No command of `ctr` tells by its exit code.
        if !self.directory.join(file_name(reference)).is_file() {
            self.pull(reference)?;
            fs::write(self.directory.join(file_name(reference)), "")?;
        }
        self.settle()
    }

    /// Imports and unpacks the images of an archive.
    ///
    /// # Errors
    /// As [`Node::ctr`].
    pub fn import(&self, archive: &Path) -> Result<Duration> {
        let archive = archive.display().to_string();
        self.ctr(["images", "import", "--snapshotter", self.name(), &archive])
    }

    /// Runs a command in a new container of an image, which is gone with its end.
    ///
    /// # Errors
    /// As [`Node::ctr`].
    pub fn run(&mut self, reference: &str, words: &[&str]) -> Result<Duration> {
        self.run_with(&[], reference, words)
    }

    /// Runs the shell script `work` after `before` in a new container, and returns how long `work`
    /// took, to a hundredth of a second: by the clock inside, so without the container's start.
    ///
    /// # Errors
    /// As [`Node::ctr`]; a step of a script fails.
    pub fn run_script(&mut self, reference: &str, before: &str, work: &str) -> Result<Duration> {
        let result = self.directory.join("result");
        fs::create_dir_all(&result)?;
        let times = result.join("times");
        fs::remove_file(&times).ok();
        let mount = format!(
            "type=bind,src={},dst={RESULT},options=rbind:rw",
            result.display()
        );
        let said = self.directory.join("script.log");
        fs::remove_file(&said).ok();
        let log = format!("file://{}", said.display());
        let script = format!(
            "set -e\n{before}\nread start idle < /proc/uptime\n{work}\n\
             read end idle < /proc/uptime\necho $start $end > {RESULT}/times\n"
        );
        let options = ["--mount", &mount, "--log-uri", &log];
        self.run_with(&options, reference, &["/bin/sh", "-c", &script])
            .with_context(|| {
                let text = fs::read_to_string(&said).unwrap_or_default();
                format!("a script fails: {}", text.trim())
            })?;
        let text = fs::read_to_string(&times).context("the script did not come to its end")?;
        let seconds: Vec<f64> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        match seconds[..] {
            [start, end] if end >= start => Ok(Duration::from_secs_f64(end - start)),
            _ => bail!("no times: {text:?}"),
        }
    }

    fn run_with(&mut self, options: &[&str], reference: &str, words: &[&str]) -> Result<Duration> {
        self.containers += 1;
        let id = format!("c{}", self.containers);
        let name = self.name();
        let fixed = ["run", "--rm", "--net-host", "--snapshotter", name];
        let all = fixed.iter().chain(options).copied();
        self.ctr(
            all.chain([reference, id.as_str()])
                .chain(words.iter().copied()),
        )
    }

    /// Waits until neither server has anything to do.
    ///
    /// # Errors
    /// Where one goes on for minutes, or has ended.
    pub fn settle(&self) -> Result<()> {
        let started = Instant::now();
        let mut before = self.ticks()?;
        loop {
            thread::sleep(QUIET);
            let now = self.ticks()?;
            if now - before <= QUIET_TICKS {
                return Ok(());
            }
            ensure!(
                started.elapsed() < SETTLE_PATIENCE,
                "{} does not come to rest",
                self.name()
            );
            before = now;
        }
    }

    /// Of the processor, used by both servers so far.
    fn ticks(&self) -> Result<u64> {
        let servers = std::iter::once(&self.containerd).chain(&self.varve);
        servers.map(|server| ticks_of(server.id())).sum()
    }

    /// Bytes on disk of all that the snapshotter has, when it has done what it does in the
    /// background.
    ///
    /// # Errors
    /// Where `du` fails, or the size goes on changing for minutes.
    pub fn disk_bytes(&self) -> Result<u64> {
        /// What is removed is freed some seconds later.
        const STEADY: Duration = Duration::from_secs(6);
        let root = match self.snapshotter {
            Snapshotter::Varve(_) => self.directory.join("varve"),
            Snapshotter::Overlayfs => self
                .directory
                .join("root/io.containerd.snapshotter.v1.overlayfs"),
        };
        let started = Instant::now();
        let mut before = disk_usage(&root)?;
        loop {
            thread::sleep(STEADY);
            let now = disk_usage(&root)?;
            if now == before {
                return Ok(now);
            }
            ensure!(
                started.elapsed() < SETTLE_PATIENCE,
                "{} goes on changing",
                root.display()
            );
            before = now;
        }
    }

    /// Bytes of memory that `varve daemon` has now, and the most it has had.
    ///
    /// # Errors
    /// Where varve is not the snapshotter.
    pub fn daemon_memory(&self) -> Result<(u64, u64)> {
        let daemon = self.varve.as_ref().context("no varve daemon")?;
        let path = format!("/proc/{}/status", daemon.id());
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok());
            kibibytes
                .map(|kibibytes: u64| kibibytes * 1024)
                .with_context(|| format!("{path} has no {name}"))
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }
}

fn varve_command(environment: &Environment, binary: &Path, directory: &Path) -> Command {
    let mut command = environment.command(binary);
    command
        .arg("daemon")
        .arg("--root")
        .arg(directory.join("varve"))
        .arg("--snapshotter-address")
        .arg(directory.join("varve.sock"))
        .arg("--containerd-address")
        .arg(directory.join("containerd.sock"));
    command
}

/// What marks an image as pulled.
fn file_name(reference: &str) -> String {
    format!("has-{}", reference.replace(['/', ':'], "_"))
}

/// By du, which counts a hard link once; not what is mounted there.
fn disk_usage(directory: &Path) -> Result<u64> {
    let mut du = Command::new("du");
    du.args(["--summarize", "--block-size=1", "--one-file-system"]);
    let text = said(du.arg(directory))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("understand {text:?}"))
}

/// User and system time of a process, in clock ticks: fields 14 and 15 of proc(5)'s `stat`.
fn ticks_of(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name, which may hold blanks, ends with the last parenthesis.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("understand {path}"))?;
    Ok(fields.iter().sum())
}
