//! One run from beginning to end: prepare the root and the bundle, let the runtime run it, put
//! everything back. Read this first.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::cancel::Cancel;
use crate::cgroup::{Cgroups, Setup};
use crate::error::{Error, Result};
use crate::extras::{Ceilings, Propagation, Swap};
use crate::ids::Ids;
use crate::network;
use crate::process::{ExtraMountKind, Process};
use crate::propagation;
use crate::rootfs::RootDir;
use crate::runtime::{Container, Exit, Runtime};
use crate::spec::{self, SpecInput};
use crate::stdio::Stdio;
use crate::stubs::MountStubs;
use crate::user::{self, User};

/// Longest id of a container in characters; it becomes a file name and part of a cgroup's path.
pub const ID_LENGTH_MAX: usize = 128;

/// Longest host name in bytes: the kernel's.
const HOSTNAME_BYTES_MAX: usize = 64;

/// Mode of a working directory that the image does not have.
const WORKING_DIRECTORY_MODE: u32 = 0o755;

/// Runs processes in root file systems.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    runtime: Box<dyn Runtime>,
    state: PathBuf,
    cgroups: OnceLock<Cgroups>,
}

/// What to run and where.
#[derive(Debug)]
pub struct RunRequest {
    /// 1 to 128 letters, digits, `_`, `-` and `.`, not starting with a dot; unique among the
    /// running containers of this host.
    pub id: String,
    /// The mounted, writable root file system. Nobody else may change it during the run.
    pub rootfs: PathBuf,
    /// The process.
    pub process: Process,
    /// What it reads and writes.
    pub stdio: Stdio,
    /// Stops it.
    pub cancel: Cancel,
}

impl Executor {
    /// Runs with `runtime`; `state` is a directory for the files of running containers, made when
    /// it is missing. On a tmpfs (like /run) it is fastest.
    #[must_use]
    pub fn new(runtime: Box<dyn Runtime>, state: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                runtime,
                state,
                cgroups: OnceLock::new(),
            }),
        }
    }

    /// Whether processes can be run here at all. To be asked before a root file system is mounted.
    ///
    /// # Errors
    /// [`Error::Runtime`] with the reason.
    pub fn check(&self) -> Result<()> {
        self.shared.runtime.check()
    }

    /// Runs a process to its end. Dropping the future cancels; the cleaning up then goes on in
    /// the background, so cancel and await instead where the root file system is used afterwards.
    ///
    /// # Errors
    /// See [`Error`]. A process that ran and failed is an [`Exit`].
    pub async fn run(&self, request: RunRequest) -> Result<Exit> {
        let guard = CancelOnDrop(request.cancel.clone(), true);
        let shared = Arc::clone(&self.shared);
        // A task of its own: it must come to its end even if nobody waits for it.
        let task = tokio::spawn(async move { shared.run(request).await });
        let result = task.await.unwrap_or_else(|error| {
            Err(Error::Runtime {
                runtime: self.shared.runtime.name(),
                reason: format!("internal error: {error}"),
            })
        });
        guard.disarm();
        result
    }
}

/// Cancels when the future that holds it is dropped before its end.
struct CancelOnDrop(Cancel, bool);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.1 = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.1 {
            self.0.cancel();
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>, request: RunRequest) -> Result<Exit> {
        let shared = Arc::clone(&self);
        let prepared = blocking(move || {
            let prepared = shared.prepare(&request);
            (request, prepared)
        });
        let (request, prepared) = prepared.await?;
        let prepared = prepared?;
        let container = Container {
            id: request.id,
            rootfs: request.rootfs,
            bundle: prepared.bundle.clone(),
            cgroup: prepared.cgroup.clone(),
            process: request.process,
            uid: prepared.uid,
            stdio: request.stdio,
            cancel: request.cancel,
        };
        let result = self.runtime.run(container).await;
        blocking(move || prepared.put_back()).await?;
        result
    }

    /// Makes everything that the container needs. What was made is taken back on an error.
    fn prepare(&self, request: &RunRequest) -> Result<Prepared> {
        check_id(&request.id)?;
        check_process(&request.process)?;
        if request.process.terminal.is_some() && !matches!(request.stdio, Stdio::Attached(_)) {
            return Err(Error::InvalidProcess {
                reason: "a terminal needs somebody who is attached to it".to_owned(),
            });
        }
        // First, so that a wrong path is not reported as a user that cannot be found.
        RootDir::open(&request.rootfs)
            .map_err(|source| Error::prepare("open root file system", &request.rootfs, source))?;
        let mut user = user::lookup(&request.rootfs, &request.process.user)?;
        user::add_groups(&request.rootfs, &mut user, &request.process.extras.groups)?;
        let ids = Ids::here();
        ids.check(&user)?;
        self.check_extras(&request.process, &ids)?;
        let bundle = self.state.join(&request.id);
        make_bundle(&bundle)?;
        let detect = || {
            let abilities = self.runtime.abilities();
            if !abilities.cgroups {
                return Cgroups::none();
            }
            let cgroups = Cgroups::detect();
            cgroups.remove_abandoned();
            match ids.are_all() || abilities.lenient_groups {
                true => cgroups,
                false => cgroups.without_privileged(),
            }
        };
        let cgroups = self.cgroups.get_or_init(detect).clone();
        let path = cgroups.path_of(&request.id);
        let (cgroups, path) = with_controllers(cgroups, path, request)?;
        let has_group = cgroups.setup() != Setup::Unavailable;
        let mut prepared = Prepared {
            stubs: None,
            cgroups,
            cgroup: if has_group { path } else { PathBuf::new() },
            uid: user.uid,
            bundle,
        };
        match self.fill(request, &user, &ids, &mut prepared) {
            Ok(()) => Ok(prepared),
            Err(error) => {
                prepared.put_back();
                Err(error)
            }
        }
    }

    /// Refuses what this runtime, or an ordinary user, cannot have.
    fn check_extras(&self, process: &Process, ids: &Ids) -> Result<()> {
        let extras = &process.extras;
        let unavailable = |what: &str, reason: String| {
            let what = what.to_owned();
            Err(Error::Unavailable { what, reason })
        };
        if extras.has_init && !self.runtime.abilities().first_process {
            let runtime = self.runtime.name();
            let reason = format!("{runtime} has none; use --runtime embedded, or leave out --init");
            return unavailable("start an init process", reason);
        }
        if !extras.devices.is_empty() && !ids.are_all() {
            let reason = "only the root of this machine makes devices; mount the device instead, \
                          if you may use it: -v /dev/NAME:/dev/NAME"
                .to_owned();
            return unavailable("add a device", reason);
        }
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for (target, propagation) in &extras.propagations {
            let mut mounts = process.mounts.iter();
            let found = mounts.find(|mount| mount.target == *target);
            if let (Propagation::Slave, Some(ExtraMountKind::Bind { source, .. })) =
                (propagation, found.map(|mount| &mount.kind))
                && !propagation::is_propagated(&mounted, source)
            {
                let what = format!("mount {} with slave propagation", source.display());
                let reason = "it is not on a shared or slave mount; make it one (mount \
                              --make-rshared), or leave out the option"
                    .to_owned();
                return unavailable(&what, reason);
            }
        }
        Ok(())
    }

    fn fill(
        &self,
        request: &RunRequest,
        user: &User,
        ids: &Ids,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let process = &request.process;
        make_working_directory(&request.rootfs, &process.cwd, user)?;
        prepared.stubs = Some(MountStubs::create(&request.rootfs, &process.mounts)?);
        let hosts = network::hosts(process.effective_hostname(), &process.extra_hosts);
        let hosts = prepared.write("hosts", hosts.as_bytes())?;
        let resolv_conf = network::resolv_conf(process.network, &process.extras.resolver);
        let resolv_conf = prepared.write("resolv.conf", resolv_conf.as_bytes())?;
        let spec = spec::generate(&SpecInput {
            process,
            user,
            rootfs: &request.rootfs,
            resolv_conf: &resolv_conf,
            hosts: &hosts,
            cgroups: &prepared.cgroups,
            cgroup_path: &prepared.cgroup,
            abilities: self.runtime.abilities(),
            ids,
        })?;
        prepared.write("config.json", spec.to_string().as_bytes())?;
        Ok(())
    }
}

/// Makes the group of a container, or finds that there can be none. Ceilings may need it to lie
/// elsewhere.
fn with_controllers(
    cgroups: Cgroups,
    path: PathBuf,
    request: &RunRequest,
) -> Result<(Cgroups, PathBuf)> {
    let ceilings = &request.process.extras.ceilings;
    let wanted = ceilings.controllers();
    let prepared = cgroups.prepare(&path);
    if prepared.lacks(&path, &wanted).is_some()
        && let Some(top) = prepared.at_top()
    {
        let path = top.path_of(&request.id);
        let top = top.prepare(&path);
        if top.lacks(&path, &wanted).is_none() {
            return Ok((top, path));
        }
    }
    check_ceilings(ceilings, &prepared, &path)?;
    Ok((prepared, path))
}

/// Refuses ceilings that nothing would hold.
fn check_ceilings(ceilings: &Ceilings, cgroups: &Cgroups, path: &Path) -> Result<()> {
    let unavailable = |what: String, reason: &str| {
        let reason = reason.to_owned();
        // What was made for the container goes again.
        cgroups.remove(path);
        Err(Error::Unavailable { what, reason })
    };
    if let Some(lacking) = cgroups.lacks(path, &ceilings.controllers()) {
        let what = format!("limit what the container takes of {lacking}");
        let reason = match cgroups.setup() {
            Setup::Unavailable => {
                "it has no cgroup of its own here; run varve as root, or leave out the limit \
                 (--ulimit works everywhere)"
            }
            Setup::Legacy | Setup::Unified => {
                "the kernel or the group that varve is in has no such controller; `varve doctor` \
                 tells what there is"
            }
        };
        return unavailable(what, reason);
    }
    if matches!(ceilings.swap, Swap::Total(_)) && !cgroups.counts_swap() {
        let reason = "this kernel does not count it; leave out --memory-swap";
        return unavailable("limit swap".to_owned(), reason);
    }
    Ok(())
}

/// What a run has made and must take away again.
#[derive(Debug)]
struct Prepared {
    bundle: PathBuf,
    stubs: Option<MountStubs>,
    cgroups: Cgroups,
    cgroup: PathBuf,
    uid: u32,
}

impl Prepared {
    fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.bundle.join(name);
        match std::fs::write(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::prepare("write", path, source)),
        }
    }

    fn put_back(self) {
        if let Some(stubs) = self.stubs {
            stubs.remove();
        }
        // Usually gone already: the runtime cleans up even when this process is killed.
        if !self.cgroup.as_os_str().is_empty() {
            self.cgroups.remove(&self.cgroup);
        }
        match std::fs::remove_dir_all(&self.bundle) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("failed to remove {}: {error}", self.bundle.display());
            }
            _ => {}
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Runtime {
            runtime: "any".to_owned(),
            reason: format!("internal error: {error}"),
        })
}

fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let fits = (1..=ID_LENGTH_MAX).contains(&id.len()) && !id.starts_with('.');
    if fits && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::InvalidId { id: id.to_owned() })
}

fn check_process(process: &Process) -> Result<()> {
    let invalid = |reason: &str| {
        Err(Error::InvalidProcess {
            reason: reason.to_owned(),
        })
    };
    if process.args.first().is_none_or(String::is_empty) {
        return invalid("no program to run");
    }
    let strings = process.args.iter().chain(&process.env);
    if strings
        .chain([&process.cwd])
        .any(|text| text.contains('\0'))
    {
        return invalid("an argument, variable or directory holds a NUL byte");
    }
    if !process.cwd.starts_with('/') {
        return invalid("the working directory is not absolute");
    }
    for mount in &process.mounts {
        let below_root = Path::new(&mount.target).file_name().is_some();
        if !mount.target.starts_with('/') || !below_root || mount.target.contains('\0') {
            return Err(Error::InvalidProcess {
                reason: format!(
                    "mount target {:?} is no absolute path below /",
                    mount.target
                ),
            });
        }
        if let ExtraMountKind::Bind { source, .. } = &mount.kind
            && !source.is_absolute()
        {
            return Err(Error::InvalidProcess {
                reason: format!("mount source {} is not absolute", source.display()),
            });
        }
    }
    let lines = process.extra_hosts.iter().map(|entry| &entry.host);
    if lines
        .chain(&process.hostname)
        .any(|name| name.contains(char::is_whitespace))
    {
        return invalid("a host name holds white space");
    }
    let hostname = process.effective_hostname();
    if hostname.len() > HOSTNAME_BYTES_MAX {
        return invalid("the host name is longer than 64 bytes");
    }
    Ok(())
}

fn make_bundle(bundle: &Path) -> Result<()> {
    let parent = bundle.parent().unwrap_or(bundle);
    let mut directory = std::fs::DirBuilder::new();
    directory.mode(0o700);
    let made = directory
        .recursive(true)
        .create(parent)
        .and_then(|()| directory.recursive(false).create(bundle));
    made.map_err(|source| Error::prepare("create", bundle, source))
}

/// Makes the working directory with the owner of the process, as BuildKit does; one that exists
/// is left as it is.
fn make_working_directory(rootfs: &Path, cwd: &str, user: &User) -> Result<()> {
    let make = || -> io::Result<()> {
        let root = RootDir::open(rootfs)?;
        let resolved = root.resolve(Path::new(cwd))?;
        let mut missing = Vec::new();
        for path in resolved
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
        {
            match root.stat(path)? {
                Some(stat) if is_directory(&stat) => break,
                Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(path),
            }
        }
        for path in missing.into_iter().rev() {
            root.make_directory(path, WORKING_DIRECTORY_MODE)?;
            root.change_owner(path, user.uid, user.gid)?;
        }
        Ok(())
    };
    make().map_err(|source| Error::WorkingDirectory {
        cwd: cwd.to_owned(),
        source,
    })
}

fn is_directory(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
}

#[cfg(test)]
mod tests;
