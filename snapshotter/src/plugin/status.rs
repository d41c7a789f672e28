//! Errors as gRPC codes, in one table: those that containerd's own snapshotters give.

use tonic::{Code, Status};

use crate::error::Error;

/// The status that containerd turns into its own error again.
pub(super) fn of(error: Error) -> Status {
    let code = match &error {
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::NotFound { .. } => Code::NotFound,
        Error::FailedPrecondition { .. } => Code::FailedPrecondition,
        Error::InvalidArgument { .. } => Code::InvalidArgument,
        Error::Unsupported { .. } => Code::Unimplemented,
        Error::Store(store::Error::Poisoned { .. }) | Error::Content { .. } => Code::Unavailable,
        Error::Layer(error) if error.is_bad_layer() => Code::DataLoss,
        error if error.is_no_space() => Code::ResourceExhausted,
        Error::Store(_)
        | Error::Layer(_)
        | Error::Mount(_)
        | Error::Image { .. }
        | Error::Capture { .. }
        | Error::OverQuota { .. }
        | Error::NoSuchIds { .. }
        | Error::Io { .. } => Code::Unknown,
    };
    if matches!(code, Code::Unknown | Code::DataLoss | Code::Unavailable) {
        tracing::error!(%error, ?code, "a call of containerd failed");
    }
    Status::new(code, error.to_string())
}
