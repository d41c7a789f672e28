//! The one error type of this crate.

use std::io;
use std::path::PathBuf;

use dockerfile::error::Span;
use dockerfile::error::quote::quote;
use store::RelPath;

/// What can go wrong in a build.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Dockerfile is wrong, or uses what cannot be done.
    #[error(transparent)]
    Dockerfile(#[from] dockerfile::error::Error),
    /// The graph is wrong.
    #[error(transparent)]
    Graph(#[from] llb::Error),
    /// The storage failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A snapshot or mount failed.
    #[error(transparent)]
    Snapshot(#[from] snapshotter::Error),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] mount::Error),
    /// A layer could not be read or written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// A registry did not give what it was asked for.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The container could not be made.
    #[error(transparent)]
    Executor(#[from] executor::Error),
    /// A process ended with another code than 0. BuildKit's wording.
    #[error(
        "process {} did not complete successfully: exit code: {code}",
        quote(command)
    )]
    Exit {
        /// Its arguments, joined by spaces.
        command: String,
        /// Its exit code; 128 and the number for a signal.
        code: i32,
    },
    /// A process of a step could not be started. BuildKit's wording.
    #[error("process {} did not complete successfully: {source}", quote(command))]
    NotStarted {
        /// Its arguments, joined by spaces.
        command: String,
        /// Why not.
        source: executor::Error,
    },
    /// An archive of ADD that cannot be unpacked.
    #[error("cannot unpack {path}: {reason}; to have it as it is, use COPY, or ADD --unpack=false")]
    Archive {
        /// The archive, in the file system that is copied from.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path to copy from is not there. BuildKit's wording.
    #[error("{path:?}: not found")]
    NotFound {
        /// The path in the file system that is copied from.
        path: String,
    },
    /// A file operation cannot be carried out.
    #[error("{path}: {reason}")]
    FileOp {
        /// The path in the file system that is changed.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// A user or group name that the image does not know. BuildKit's wording.
    #[error("unable to find {kind} {name}: no matching entries in {file} file")]
    UnknownAccount {
        /// "user" or "group".
        kind: &'static str,
        /// The name.
        name: String,
        /// "passwd" or "group".
        file: &'static str,
    },
    /// A build context directory that was not given.
    #[error("{}", no_context(name))]
    NoContext {
        /// Its name.
        name: String,
    },
    /// A context that is no directory, or a repository, could not be fetched.
    #[error("failed to fetch {name}: {reason}")]
    Context {
        /// The context, without passwords.
        name: String,
        /// What happened.
        reason: String,
    },
    /// A file of the web is not the one that was asked for. BuildKit's wording.
    #[error(
        "digest mismatch for {url}: {actual} (expected: {expected}); if the file was changed on \
         purpose, change --checksum"
    )]
    WebDigest {
        /// Where it is.
        url: String,
        /// What was asked for.
        expected: layer::Digest,
        /// What came.
        actual: layer::Digest,
    },
    /// An image that is not in the store.
    #[error(
        "{reference}: not found in this store; fetch it with `varve pull {reference}`, take it in with \
         `varve import`, or name a layout with --build-context {reference}=oci-layout://DIR"
    )]
    NoImage {
        /// The image reference.
        reference: String,
    },
    /// An image that is neither in the store nor to be had from its registry.
    #[error(
        "{reference}: not found in this store, and {source}{}",
        import_hint(reference, source)
    )]
    NotPulled {
        /// The image reference.
        reference: String,
        /// What the registry did.
        source: Box<registry::Error>,
    },
    /// An image that is not there for a platform.
    #[error("{what}: no match for platform {platform} (has: {there})")]
    NoPlatform {
        /// The image reference.
        what: String,
        /// The platform that was asked for.
        platform: String,
        /// Those that there are.
        there: String,
    },
    /// An image or layout that does not make sense.
    #[error("{what}: {reason}")]
    BadImage {
        /// The image, layout or archive.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A build argument that says how to build says nothing that can be done. BuildKit's wording.
    #[error("{reason} (--build-arg {name}={value})")]
    BuildArg {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// Something that this version does not do.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// Programs of the platform do not run on this machine.
    #[error("cannot run programs for {platform} on this {host} machine: {reason}")]
    ForeignPlatform {
        /// What the step is for.
        platform: String,
        /// What this machine is.
        host: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A secret that a step requires was not given. BuildKit's wording, and what to do.
    #[error(
        "secret {id}: not found; pass it with --secret id={id},src=FILE or --secret id={id},env=NAME"
    )]
    NoSecret {
        /// Its id.
        id: String,
    },
    /// A secret that cannot be used; its value is not told.
    #[error("secret {id}: {reason}")]
    Secret {
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An ssh agent that a step requires was not given. BuildKit's wording, and what to do.
    #[error("no SSH key {id:?} forwarded from the client; pass --ssh {id} or --ssh {id}=SOCKET")]
    NoAgent {
        /// Its id.
        id: String,
    },
    /// A filter that makes no sense.
    #[error("invalid filter {filter:?}: {reason}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An output was asked for that makes no sense.
    #[error("invalid output {output:?}: {reason}")]
    Output {
        /// The output as given.
        output: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file outside of the store.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An error that lines of the Dockerfile are to blame for.
    #[error("{source}")]
    AtLines {
        /// What is wrong.
        source: Box<Error>,
        /// The lines.
        spans: Vec<Span>,
    },
    /// The build was cancelled.
    #[error("build cancelled")]
    Cancelled,
    /// A step failed.
    #[error("{source}")]
    Step {
        /// The step's name.
        name: String,
        /// Its vertex, to find the lines of the Dockerfile.
        vertex: engine::VertexId,
        /// Why.
        #[source]
        source: engine::OpError,
    },
    /// The engine ended in another way.
    #[error(transparent)]
    Engine(engine::EvaluateError),
    /// JSON of an image that cannot be read or written.
    #[error("{what}: {source}")]
    Json {
        /// Which document.
        what: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// The same of an archive that ADD unpacks: it is no layer, although it is read as one.
    pub(crate) fn of_archive(self, path: &RelPath) -> Self {
        match self {
            // What is read is decompressed on the way.
            Error::Layer(error)
                if error.is_bad_layer() || matches!(error, layer::Error::Read { .. }) =>
            {
                Error::Archive {
                    path: path.to_string(),
                    reason: error.to_string().replace("layer", "archive"),
                }
            }
            other => other,
        }
    }

    /// Wraps an [`io::Error`] with what was attempted on which path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::Io {
            operation,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn file_op(path: &RelPath, reason: &'static str) -> Self {
        Error::FileOp {
            path: path.to_string(),
            reason,
        }
    }

    /// The error, with the lines of the Dockerfile that are to blame.
    pub(crate) fn at(self, spans: Vec<Span>) -> Self {
        Error::AtLines {
            source: Box::new(self),
            spans,
        }
    }

    /// The lines of the Dockerfile that are to blame, as far as the error itself knows them.
    pub fn spans(&self) -> Vec<Span> {
        match self {
            Error::Dockerfile(error) => error.spans(),
            Error::AtLines { spans, .. } => spans.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn bad_image(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::BadImage {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// A build without any context, or without one that the Dockerfile names.
fn no_context(name: &str) -> String {
    match name {
        "context" => "the build has no context to copy from: name a directory in place of `-`, or \
            pass an archive with its files on standard input"
            .to_owned(),
        _ => format!("no build context named {name:?} was given; pass --build-context {name}=DIR"),
    }
}

/// Where nobody answers, an image can come another way.
fn import_hint(reference: &str, source: &registry::Error) -> String {
    use registry::Error::{Connection, Hang, Tls};
    match source {
        Connection { .. } | Hang { .. } | Tls { .. } => format!(
            "; or take the image in with `varve import`, or name a layout with --build-context \
             {reference}=oci-layout://DIR"
        ),
        _ => String::new(),
    }
}

impl From<engine::EvaluateError> for Error {
    fn from(error: engine::EvaluateError) -> Self {
        match error {
            engine::EvaluateError::Op {
                vertex,
                name,
                source,
            } => Error::Step {
                name,
                vertex,
                source,
            },
            engine::EvaluateError::Cancelled => Error::Cancelled,
            other => Error::Engine(other),
        }
    }
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The text without `(os error 2)` and the like, which std puts behind the kernel's words.
pub fn without_error_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.parse::<i32>().is_ok() => kept.push_str(rest),
            _ => {
                kept.push_str(" (os error ");
                kept.push_str(part);
            }
        }
    }
    kept
}
