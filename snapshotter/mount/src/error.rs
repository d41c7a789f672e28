//! What can go wrong when mounting and unmounting.

use std::io;
use std::path::{Path, PathBuf};

use crate::overlay::LOWER_COUNT_MAX;

/// Why a mount could not be made, described or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}{}", path.display(), hint(*errno, kernel_log))]
    System {
        /// What was tried, as a verb phrase: "mount overlay at".
        operation: String,
        /// What it was tried on.
        path: PathBuf,
        /// The raw error number, 0 if there is none.
        errno: i32,
        /// What the kernel had to say beyond the number; empty if nothing.
        kernel_log: String,
        /// The error itself.
        source: io::Error,
    },
    /// An overlay without any lower directory.
    #[error("an overlay needs at least one lower directory")]
    NoLower,
    /// More lower directories than the kernel takes.
    #[error(
        "an overlay of {count} lower directories: the kernel takes at most {LOWER_COUNT_MAX}; \
         merge some of them first"
    )]
    TooManyLowers {
        /// Lower and data-only directories together.
        count: usize,
    },
    /// One lower directory and nothing else: there is nothing to merge.
    #[error(
        "an overlay of the single lower directory {} and no upper: use a read-only bind mount",
        lower.display()
    )]
    NothingToMerge {
        /// The only lower directory.
        lower: PathBuf,
    },
    /// A metadata layer has no directory that holds the contents.
    #[error("the metadata layer {} needs a data-only lower directory", lower.display())]
    MissingDataOnly {
        /// The metadata layer.
        lower: PathBuf,
    },
    /// A metadata layer that is not the last lower directory, without `metacopy=on`.
    #[error(
        "the metadata layer {} is not the last lower directory, so the overlay needs metacopy=on: \
         its files would fail with EOPNOTSUPP or EPERM",
        lower.display()
    )]
    MetacopyRequired {
        /// The metadata layer.
        lower: PathBuf,
    },
    /// Two options that exclude each other.
    #[error("overlay option {first} cannot be combined with {second}: {reason}")]
    Conflict {
        /// The first option.
        first: &'static str,
        /// The second option.
        second: &'static str,
        /// What would happen.
        reason: &'static str,
    },
    /// A path that a mount option cannot hold.
    #[error("{} cannot be used in a mount: {reason}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A mount option that makes no sense here.
    #[error("mount option \"{option}\": {reason}")]
    MountOption {
        /// The option.
        option: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The option string of an old kernel is limited to one page.
    #[error(
        "the options of the overlay at {} need {length} bytes; this kernel takes {limit} \
         (Linux 6.8 lifts the limit). Merge some lower directories, or use shorter paths",
        target.display()
    )]
    OptionsTooLong {
        /// The mount point.
        target: PathBuf,
        /// Bytes needed.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A mount type that this crate does not know.
    #[error("unknown mount type \"{kind}\"; known are bind, overlay, erofs, tmpfs")]
    UnknownKind {
        /// The type.
        kind: String,
    },
    /// The mount table of the kernel has a line that cannot be understood.
    #[error("line {line} of the mount table is malformed: \"{text}\"")]
    MountTable {
        /// Counted from 1.
        line: usize,
        /// The line, escaped.
        text: String,
    },
    /// The program that gives a user further ids refused.
    #[error("{} refused to map the ids of this user: {said}", program.display())]
    MapRefused {
        /// The program.
        program: PathBuf,
        /// What it said.
        said: String,
    },
    /// A process with several threads can neither be split nor move to a mount namespace whole.
    #[error(
        "a process must be split, or enter a mount namespace, before threads start; there are \
         {count} threads"
    )]
    ThreadsRunning {
        /// Threads of the process.
        count: usize,
    },
}

impl Error {
    pub(crate) fn system(
        operation: impl Into<String>,
        path: &Path,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::system_with_log(operation, path, source, String::new())
    }

    pub(crate) fn system_with_log(
        operation: impl Into<String>,
        path: &Path,
        source: impl Into<io::Error>,
        kernel_log: String,
    ) -> Self {
        let source = source.into();
        let errno = source.raw_os_error().unwrap_or(0);
        let (operation, path) = (operation.into(), path.to_path_buf());
        Self::System {
            operation,
            path,
            errno,
            kernel_log,
            source,
        }
    }

    /// The error number of a failed system call, if that is what failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::System { errno, .. } if *errno != 0 => Some(*errno),
            _ => None,
        }
    }
}

/// The kernel's own words, and the next step for the errors that have one.
fn hint(errno: i32, kernel_log: &str) -> String {
    let mut text = String::new();
    if !kernel_log.is_empty() {
        text = format!(" (kernel: {kernel_log})");
    }
    text + match errno {
        libc::EPERM | libc::EACCES => "; mounting needs CAP_SYS_ADMIN: run as root",
        libc::EBUSY => "; something still uses it",
        libc::ENODEV => "; this kernel does not have that file system",
        libc::EINVAL if kernel_log.is_empty() => "; the kernel log (dmesg) may tell more",
        libc::ELOOP => "; file systems are stacked too deeply",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::Error;

    #[test]
    fn a_failed_system_call_names_operation_path_cause_and_next_step() {
        let cause = io::Error::from_raw_os_error(libc::EPERM);
        let log = "overlay: no".to_owned();
        let error = Error::system_with_log("mount overlay at", Path::new("/mnt"), cause, log);
        assert_eq!(
            error.to_string(),
            "cannot mount overlay at /mnt: Operation not permitted (os error 1) (kernel: \
             overlay: no); mounting needs CAP_SYS_ADMIN: run as root"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
