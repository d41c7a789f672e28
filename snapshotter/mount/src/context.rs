//! A file system being configured: fsopen(2), fsconfig(2), fsmount(2), move_mount(2).
//!
//! Against mount(2) it has no limit of one page for all options, keeps paths with commas and
//! colons apart from syntax, and lets the kernel say in words what it did not like.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use crate::error::Error;

/// Longest string that fsconfig(2) takes, without its terminating zero.
const VALUE_LENGTH_MAX: usize = 255;
/// Most messages read from the kernel after a failure; its own ring holds eight.
const MESSAGE_COUNT_MAX: usize = 16;

/// A file system that is not mounted yet.
pub(crate) struct Context {
    fd: OwnedFd,
    kind: &'static str,
    /// Where it will be mounted; only for messages.
    target: PathBuf,
    /// Directories that are named by descriptor must stay open until the file system is made.
    open: Vec<OwnedFd>,
}

impl Context {
    pub(crate) fn new(kind: &'static str, target: &Path) -> Result<Self, Error> {
        let fd = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| Error::system(format!("mount {kind} at"), target, errno))?;
        Ok(Self {
            fd,
            kind,
            target: target.to_path_buf(),
            open: Vec::new(),
        })
    }

    /// Sets an option in the syntax of mount(8): `name` or `name=value`.
    pub(crate) fn option(&mut self, option: &str) -> Result<(), Error> {
        let result = match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&self.fd, key, value),
            None => fsconfig_set_flag(&self.fd, option),
        };
        result.map_err(|errno| self.error(&format!("set option \"{option}\" of the"), errno))
    }

    /// Sets an option to a file or directory. A path too long for a string goes by descriptor:
    /// directly where the file system takes one, else through its name in /proc.
    pub(crate) fn path(&mut self, key: &str, path: &Path, kind: PathKind) -> Result<(), Error> {
        if path.as_os_str().len() <= VALUE_LENGTH_MAX {
            return fsconfig_set_string(&self.fd, key, escape_for(key, path).as_path()).map_err(
                |errno| self.error(&format!("set {key}={} of the", path.display()), errno),
            );
        }
        let flags = match kind {
            PathKind::Directory => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            PathKind::File => OFlags::RDONLY | OFlags::CLOEXEC,
        };
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::system("open", path, errno))?;
        let by_descriptor = match kind {
            PathKind::Directory => fsconfig_set_fd(&self.fd, key, &file),
            PathKind::File => Err(Errno::INVAL),
        };
        let result = by_descriptor.or_else(|_| {
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            fsconfig_set_string(&self.fd, key, name)
        });
        self.open.push(file);
        result.map_err(|errno| self.error(&format!("set {key}={} of the", path.display()), errno))
    }

    /// Makes the file system and mounts it at the target.
    pub(crate) fn mount(self, flags: MountFlags) -> Result<(), Error> {
        if flags.contains(MountFlags::RDONLY) {
            fsconfig_set_flag(&self.fd, "ro").map_err(|errno| self.error("mount", errno))?;
        }
        fsconfig_create(&self.fd).map_err(|errno| self.error("mount", errno))?;
        let mount = fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes(flags))
            .map_err(|errno| self.error("mount", errno))?;
        attach(mount.as_fd(), &self.target)
            .map_err(|errno| Error::system(format!("mount {} at", self.kind), &self.target, errno))
    }

    fn error(&self, operation: &str, errno: Errno) -> Error {
        let operation = format!("{operation} {} at", self.kind);
        Error::system_with_log(operation, &self.target, errno, self.messages())
    }

    /// What the kernel wrote about this file system, e.g. `overlay: missing 'lowerdir'`.
    fn messages(&self) -> String {
        let mut messages: Vec<String> = Vec::new();
        let mut buffer = [0; 1024];
        // Each read takes one message, the oldest first; ENODATA ends them.
        while let Ok(length @ 1..) = rustix::io::read(&self.fd, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            // The first letter is the severity: e, w or i.
            let text = text.trim_end();
            messages.push(
                text.split_once(' ')
                    .map_or(text, |(_, rest)| rest)
                    .to_owned(),
            );
            if messages.len() == MESSAGE_COUNT_MAX {
                break;
            }
        }
        messages.join("; ")
    }
}

/// What a path option names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathKind {
    Directory,
    File,
}

/// Attaches a detached mount to the tree. The target's last component may be a symbolic link.
fn attach(mount: impl AsFd, target: &Path) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mount, "", CWD, target, flags)
}

/// The flags of mount(2) that belong to a mount, as fsmount(2) names them.
fn attributes(flags: MountFlags) -> MountAttrFlags {
    [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (
            MountFlags::STRICTATIME,
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        ),
        (
            MountFlags::NODIRATIME,
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        ),
        (
            MountFlags::NOSYMFOLLOW,
            MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
        ),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.contains(*flag))
    .map(|(_, attribute)| attribute)
    .collect()
}

/// overlayfs unescapes backslashes in `upperdir` and `workdir`, but not in `lowerdir+`.
fn escape_for(key: &str, path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = path.as_os_str().as_bytes();
    if !matches!(key, "upperdir" | "workdir") || !bytes.contains(&b'\\') {
        return path.to_path_buf();
    }
    let escaped = bytes.iter().flat_map(|byte| match byte {
        b'\\' => vec![b'\\', b'\\'],
        _ => vec![*byte],
    });
    std::ffi::OsString::from_vec(escaped.collect()).into()
}
