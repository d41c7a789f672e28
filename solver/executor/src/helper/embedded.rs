//! The embedded runtime: youki's libcontainer, called in the helper process.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, NulError};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use rustix::process::{Pid, Signal};
use rustix::thread::LinkNameSpaceType;

use super::console::Console;
use super::supervise::{Launched, is_cancelled, kill, read_report};
use super::{Job, Launch, error_log, failed, with_hint};
use crate::error::StartFailure;
use crate::protocol::Report;
use crate::spec::INIT_ANNOTATION;

/// Makes the container and starts its program.
pub(super) fn launch(
    job: &Job,
    control: &UnixStream,
    console: Option<Console>,
) -> Launch<Launched> {
    if job.cgroup.as_os_str().is_empty() {
        hide_cgroups().map_err(|error| failed("cannot do without cgroups", error))?;
    }
    super::propagation::prepare(&job.bundle.join("config.json"))
        .map_err(|error| failed("cannot prepare the mounts", error))?;
    let pipe = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (reader, writer) = pipe.map_err(|error| failed("cannot make a pipe", error))?;
    let log = error_log::install().map_err(|error| failed("cannot make a pipe", error))?;
    let workload = Workload {
        reports: Rc::new(RefCell::new(writer)),
    };
    let builder = ContainerBuilder::new(job.id.clone(), SyscallType::Linux)
        .with_executor(workload)
        .with_root_path(job.bundle.join("state"))
        .map(|builder| builder.with_console_socket(console.as_ref().map(Console::path)));
    // All copies of the writing end but the container's own are gone after build().
    let built = builder.and_then(|builder| {
        builder
            .as_init(&job.bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()
    });
    let mut container = built.map_err(|error| {
        let report = read_report(&reader).ok().flatten();
        report.unwrap_or_else(|| Report::ContainerFailed {
            message: with_hint(log.first().unwrap_or_else(|| with_sources(&error))),
        })
    })?;
    let init = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
    let init = init.ok_or_else(|| failed("libcontainer", "no process id"))?;
    if is_cancelled(control) {
        kill(init);
        return Ok(Launched {
            init,
            execution: None,
        });
    }
    let mut start = || {
        if let Some(console) = &console {
            console.hand_over(job, control)?;
        }
        if job.loopback {
            bring_loopback_up(init)
                .map_err(|error| failed("cannot bring up the loopback interface", error))?;
        }
        container
            .start()
            .map_err(|error| failed("cannot start", with_sources(&error)))
    };
    start().inspect_err(|_| kill(init))?;
    Ok(Launched {
        init,
        execution: Some(reader),
    })
}

/// In a mount namespace of our own, takes all cgroup hierarchies away.
///
/// libcontainer insists on joining a group in every hierarchy that it finds. Where we may not
/// write to them, it must find none.
fn hide_cgroups() -> std::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", downstream)?;
    let mut mounts = crate::cgroup::Cgroups::detect().into_mount_points();
    // Those mounted last lie on top.
    mounts.reverse();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for point in mounts {
        match rustix::mount::unmount(&point, UnmountFlags::DETACH) {
            // In a user namespace what was mounted outside cannot be taken apart.
            Err(rustix::io::Errno::INVAL) => return cover_cgroups(flags),
            unmounted => unmounted?,
        }
    }
    let root = Path::new(crate::cgroup::MOUNT_ROOT);
    if root.is_dir() {
        rustix::mount::mount("tmpfs", root, "tmpfs", flags, None::<&std::ffi::CStr>)?;
    }
    Ok(())
}

/// Puts the version 2 hierarchy in the place of all. In a user namespace libcontainer goes on where
/// it may not write to that; of version 1 it would still see the mounts and insist.
///
/// The root of what is put there is the group of this process and of everything else that the user
/// runs, and libcontainer may not do anything to that: it is only for looking at, and the group in
/// the configuration is one that does not exist.
fn cover_cgroups(flags: rustix::mount::MountFlags) -> std::io::Result<()> {
    use rustix::mount::MountFlags;
    // The kernel mounts it for whoever owns a cgroup namespace.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
    let (root, options) = (crate::cgroup::MOUNT_ROOT, None::<&std::ffi::CStr>);
    rustix::mount::mount("cgroup2", root, "cgroup2", flags, options)?;
    // Not by the mount itself: that could make the hierarchy read-only for the whole host.
    let read_only = MountFlags::BIND | MountFlags::RDONLY | flags;
    Ok(rustix::mount::mount_remount(root, read_only, c"")?)
}

/// Moves this process, which needs no network itself, into the container's namespace.
fn bring_loopback_up(init: Pid) -> std::io::Result<()> {
    let path = format!("/proc/{}/ns/net", init.as_raw_nonzero());
    let namespace = std::fs::File::open(path)?;
    let kind = LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    crate::network::bring_loopback_up()
}

/// An error and its causes, each said once.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// What the container's first process does when everything around it is set up.
///
/// Unlike libcontainer's own, it reports a program that cannot be started in runc's words over a
/// pipe, hands over the environment as it is, and dies with the helper.
#[derive(Debug, Clone)]
struct Workload {
    reports: Rc<RefCell<OwnedFd>>,
}

impl Executor for Workload {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        // The helper kills the container when the parent dies; this is for the helper's own death.
        let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        let bound = bound.map_err(|error| failed("cannot bind to the helper's life", error));
        bound
            .and_then(|()| program(spec).map(drop))
            .map_err(|report| {
                self.report(&report);
                ExecutorValidationError::ArgValidationError("reported".to_owned())
            })
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The environment goes from the configuration to execve(2) directly, in its own order.
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let report = match program(spec).and_then(|path| with_init(spec).map(|()| path)) {
            Ok(path) => execute(&path, spec),
            Err(report) => report,
        };
        self.report(&report);
        Err(ExecutorError::Other("reported".to_owned()))
    }
}

impl Workload {
    fn report(&self, report: &Report) {
        let pipe = self.reports.borrow().try_clone().map(std::fs::File::from);
        // The helper hears of the process's death even if this gets lost.
        drop(pipe.and_then(|mut pipe| pipe.write_all(&report.to_line())));
    }
}

/// Puts a first process before the program where one is asked for; this is the program's then.
fn with_init(spec: &Spec) -> Launch<()> {
    let annotations = spec.annotations().as_ref();
    if annotations.is_some_and(|all| all.contains_key(INIT_ANNOTATION)) {
        super::init::split().map_err(|error| failed("cannot start an init process", error))?;
    }
    Ok(())
}

/// Replaces this process; returns only the reason why that was impossible.
fn execute(path: &Path, spec: &Spec) -> Report {
    let process = spec.process().as_ref();
    let strings = |list: Option<&Vec<String>>| -> Result<Vec<CString>, NulError> {
        list.into_iter()
            .flatten()
            .map(|text| CString::new(text.as_str()))
            .collect()
    };
    let arguments = strings(process.and_then(|process| process.args().as_ref()));
    let environment = strings(process.and_then(|process| process.env().as_ref()));
    let name = CString::new(path.as_os_str().as_encoded_bytes());
    let (Ok(arguments), Ok(environment), Ok(name)) = (arguments, environment, name) else {
        return failed("arguments", "a string holds a NUL byte");
    };
    // Rust's own start-up code ignores this signal, and a program would inherit that.
    sigpipe::reset();
    let Err(error) = nix::unistd::execve(&name, &arguments, &environment);
    let message = format!(
        "exec {}: {}",
        path.display(),
        words(std::io::Error::from(error))
    );
    Report::StartFailed {
        reason: StartFailure::Exec,
        message,
    }
}

/// The program of the step, searched as runc (Go's `exec.LookPath`) does.
fn program(spec: &Spec) -> Launch<PathBuf> {
    let process = spec.process().as_ref();
    let name = process.and_then(|process| process.args().as_ref()?.first());
    let name = name.ok_or_else(|| failed("process", "no arguments"))?;
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(PathBuf::from(name)),
            Err(error) => Err(not_executable(name, error)),
        };
    }
    let variables = process.and_then(|process| process.env().as_ref());
    let path = variables
        .into_iter()
        .flatten()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let candidates = path
        .unwrap_or_default()
        .split(':')
        .filter(|directory| !directory.is_empty());
    let found = candidates.map(|directory| Path::new(directory).join(name));
    found
        .into_iter()
        .find(|path| executable(path).is_ok())
        .ok_or_else(|| Report::StartFailed {
            reason: StartFailure::NotFound,
            message: format!("exec: {name:?}: executable file not found in $PATH"),
        })
}

fn not_executable(name: &str, error: std::io::Error) -> Report {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        let message = format!("exec: {name:?}: permission denied");
        return Report::StartFailed {
            reason: StartFailure::NotExecutable,
            message,
        };
    }
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => StartFailure::NotFound,
        _ => StartFailure::NotExecutable,
    };
    let message = format!("exec: {name:?}: stat {name}: {}", words(error));
    Report::StartFailed { reason, message }
}

fn executable(path: &Path) -> std::io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// A system error as C and Go say it: without "(os error 2)", in small letters.
fn words(error: std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}
