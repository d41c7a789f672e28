//! Carries out a list of [`Mount`]s, as containerd and the executor do.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change,
    mount_remount,
};

use crate::context::Context;
use crate::erofs::{self, ErofsBacking};
use crate::error::Error;
use crate::guard::MountGuard;
use crate::mount::{Kind, Mount};
use crate::overlay::Plan;
use crate::overlay_mount::mount_plan;

/// Makes `mounts` one after another at the directory (or, for a bind mount, file) `target`.
///
/// A mount's own `target` is resolved inside `target`: symbolic links, also absolute ones and
/// `..`, cannot lead out of it. If one mount fails, the earlier ones are unmounted again.
///
/// # Errors
/// An unknown option, or whatever the kernel refuses.
pub fn apply(mounts: &[Mount], target: &Path) -> Result<MountGuard, Error> {
    let mut guard = MountGuard::empty();
    for mount in mounts {
        let target = resolve(target, mount.target.as_deref())?;
        apply_one(mount, &target)?;
        guard.add(target);
    }
    Ok(guard)
}

fn resolve(target: &Path, below: Option<&Path>) -> Result<PathBuf, Error> {
    let Some(below) = below else {
        return Ok(target.to_path_buf());
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, target, flags | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| Error::system("mount below", target, errno))?;
    let scope = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let inside = openat2(&root, below, flags, Mode::empty(), scope)
        .map_err(|errno| Error::system("mount at", &target.join(below), errno))?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inside));
    std::fs::read_link(&link).map_err(|error| Error::system("mount at", &target.join(below), error))
}

fn apply_one(mount: &Mount, target: &Path) -> Result<(), Error> {
    let options = Options::parse(mount)?;
    match mount.kind {
        Kind::Bind => bind(mount, &options, target),
        Kind::Overlay => {
            let plan = Plan::parse(options.data.iter().map(String::as_str))?;
            mount_plan(&plan, target, options.flags)
        }
        Kind::Erofs => image(mount, &options, target),
        Kind::Tmpfs => {
            let mut context = Context::new("tmpfs", target)?;
            context.option("source=tmpfs")?;
            options
                .data
                .iter()
                .try_for_each(|option| context.option(option))?;
            context.mount(options.flags)
        }
    }?;
    match options.propagation {
        Some(propagation) => mount_change(target, propagation)
            .map_err(|errno| Error::system("change the propagation of", target, errno)),
        None => Ok(()),
    }
}

fn bind(mount: &Mount, options: &Options, target: &Path) -> Result<(), Error> {
    let result = match options.recursive {
        true => mount_bind_recursive(&mount.source, target),
        false => mount_bind(&mount.source, target),
    };
    let operation = || format!("bind {} to", mount.source.display());
    result.map_err(|errno| Error::system(operation(), target, errno))?;
    if options.flags.is_empty() {
        return Ok(());
    }
    // mount(2) ignores all flags of a new bind mount; they need a second call.
    mount_remount(target, MountFlags::BIND | options.flags, "").map_err(|errno| {
        // Half a mount is none: it would be writable.
        drop(MountGuard::new(target.into()));
        Error::system(operation(), target, errno)
    })
}

fn image(mount: &Mount, options: &Options, target: &Path) -> Result<(), Error> {
    let flags = options.flags | MountFlags::RDONLY;
    let with = |backing| erofs::mount_with(&mount.source, target, backing, flags, &options.data);
    if options.loop_device {
        return with(ErofsBacking::LoopDevice);
    }
    match with(ErofsBacking::File) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTBLK) => with(ErofsBacking::LoopDevice),
        result => result,
    }
}

/// An option list, sorted by who understands what.
#[derive(Debug)]
struct Options {
    flags: MountFlags,
    /// Whether a bind mount takes the mounts below its source along.
    recursive: bool,
    loop_device: bool,
    propagation: Option<MountPropagationFlags>,
    /// Left to the file system.
    data: Vec<String>,
}

impl Options {
    fn parse(mount: &Mount) -> Result<Self, Error> {
        let mut options = Self {
            flags: MountFlags::empty(),
            recursive: false,
            loop_device: false,
            propagation: None,
            data: Vec::new(),
        };
        for option in &mount.options {
            if let Some((flag, on)) = flag(option) {
                options.flags.set(flag, on);
            } else if let Some(propagation) = propagation(option) {
                options.propagation = Some(propagation);
            } else {
                match (option.as_str(), mount.kind) {
                    ("defaults" | "bind", _) => {}
                    ("rbind", Kind::Bind) => options.recursive = true,
                    ("loop", Kind::Erofs) => options.loop_device = true,
                    (_, Kind::Bind) => {
                        let reason = "a bind mount has no such option";
                        return Err(Error::MountOption {
                            option: option.clone(),
                            reason,
                        });
                    }
                    _ => options.data.push(option.clone()),
                }
            }
        }
        Ok(options)
    }
}

/// The flag that an option sets (`true`) or clears.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "nosymfollow" => (MountFlags::NOSYMFOLLOW, true),
        _ => return None,
    })
}

fn propagation(option: &str) -> Option<MountPropagationFlags> {
    let (recursive, name) = match option.strip_prefix('r') {
        Some(name) => (MountPropagationFlags::REC, name),
        None => (MountPropagationFlags::empty(), option),
    };
    let kind = match name {
        "private" => MountPropagationFlags::PRIVATE,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "shared" => MountPropagationFlags::SHARED,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
mod tests {
    use rustix::mount::{MountFlags, MountPropagationFlags};

    use super::Options;
    use crate::error::Error;
    use crate::mount::{Kind, Mount};

    fn parse(kind: Kind, options: &[&str]) -> Result<Options, Error> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Options::parse(&Mount {
            kind,
            source: "/".into(),
            target: None,
            options,
        })
    }

    #[test]
    fn options_are_told_apart_and_the_last_one_counts() {
        let all = [
            "ro", "nosuid", "suid", "size=1", "rslave", "relatime", "odd",
        ];
        let options = parse(Kind::Tmpfs, &all).expect("readable");
        assert_eq!(options.flags, MountFlags::RDONLY | MountFlags::RELATIME);
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        assert_eq!(options.propagation, Some(slave));
        assert_eq!(options.data, ["size=1", "odd"]);
        let options = parse(Kind::Bind, &["rbind", "ro", "rw"]).expect("readable");
        assert!(options.recursive && options.flags.is_empty());
        assert!(
            parse(Kind::Erofs, &["ro", "loop"])
                .expect("readable")
                .loop_device
        );
    }

    #[test]
    fn a_bind_mount_with_options_of_a_file_system_is_refused() {
        let result = parse(Kind::Bind, &["rbind", "size=1"]);
        assert!(matches!(result, Err(Error::MountOption { option, .. }) if option == "size=1"));
    }
}
