//! Every way in which running a step can fail, in the words the user reads.

use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a process could not be run. A process that ran and failed is an [`crate::Exit`], not an
/// error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller cancelled; the container is gone.
    #[error("canceled")]
    Cancelled,

    /// The id is no file name or holds characters that a runtime would refuse.
    #[error("invalid container id {id:?}: use 1 to {max} letters, digits, '_', '-' and '.'", max = crate::run::ID_LENGTH_MAX)]
    InvalidId {
        /// The refused id.
        id: String,
    },

    /// The process description cannot be run.
    #[error("invalid process: {reason}")]
    InvalidProcess {
        /// What is wrong with it.
        reason: String,
    },

    /// The user or group of the step is not in the image. The words are BuildKit's.
    #[error(transparent)]
    User(#[from] crate::user::UserError),

    /// An ordinary user has not as many ids as the step wants.
    #[error(
        "the {kind} id {id} of this step is not among the ids that an ordinary user has here: \
         give the user more of them (`varve doctor` tells how), or run varve as root"
    )]
    NoSuchId {
        /// `user` or `group`.
        kind: &'static str,
        /// The id inside the container.
        id: u32,
    },

    /// Something that was asked for cannot be had here.
    #[error("cannot {what}: {reason}")]
    Unavailable {
        /// What was asked for, as a verb.
        what: String,
        /// Why, and what to do.
        reason: String,
    },

    /// The working directory cannot be made or is no directory.
    #[error("failed to create working directory {cwd}")]
    WorkingDirectory {
        /// The directory, as the step names it.
        cwd: String,
        /// Cause.
        #[source]
        source: io::Error,
    },

    /// A file or directory of the run could not be prepared.
    #[error("failed to {action} {}", path.display())]
    Prepare {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },

    /// A mount would hide what the container consists of.
    #[error(
        "cannot mount at {target:?}: it lies in {place}, which belongs to the container itself; \
         choose another target"
    )]
    MountTarget {
        /// The target as given.
        target: String,
        /// What it is, or lies in.
        place: &'static str,
    },

    /// The program of the step could not be started. The words after the colon are runc's.
    #[error("unable to start container process: {message}")]
    Start {
        /// What went wrong.
        reason: StartFailure,
        /// For example `exec: "foo": executable file not found in $PATH`.
        message: String,
    },

    /// The runtime could not make the container.
    #[error("the {runtime} runtime failed to create the container: {message}")]
    Container {
        /// `embedded` or the path of the program.
        runtime: String,
        /// The runtime's own words.
        message: String,
    },

    /// The helper process or the runtime program could not be used at all.
    #[error("cannot run the {runtime} runtime: {reason}")]
    Runtime {
        /// `embedded` or the path of the program.
        runtime: String,
        /// What is wrong and what to do about it.
        reason: String,
    },

    /// The text of the runtime setting is none of the known words and no path.
    #[error("unknown runtime {given:?}: expected auto, embedded, runc or an absolute path")]
    UnknownRuntime {
        /// The given text.
        given: String,
    },
}

/// Why the program of a step did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    /// No such program in the image.
    NotFound,
    /// There is such a file, but it may not be executed.
    NotExecutable,
    /// The kernel refused to execute it (wrong format, missing interpreter).
    Exec,
}

impl Error {
    /// The exit code that a shell would give for this failure: 127 when the program is missing,
    /// 126 when it cannot be executed; `None` when no program was to blame.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Start {
                reason: StartFailure::NotFound,
                ..
            } => Some(127),
            Self::Start { .. } => Some(126),
            _ => None,
        }
    }

    /// Shorthand for [`Error::Prepare`].
    pub(crate) fn prepare(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Prepare {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}
