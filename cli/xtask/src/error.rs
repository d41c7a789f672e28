//! The one error of `xtask`: a message that names the thing, the cause and the next step.
//!
//! Nothing here is matched on by a caller; a developer reads it in a terminal. So it is a string
//! with context put in front, not an enum of causes.

use std::fmt;
use std::path::Path;

/// What went wrong, as it is printed.
#[derive(Debug)]
pub(crate) struct Error(String);

/// What every fallible function of `xtask` returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this text.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts what was being done in front of what an operating-system call answered.
pub(crate) trait Context<T> {
    /// `doing` reads as "cannot <doing>", for instance `"read"`; `path` is what it was done to.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|cause| Error::new(format!("cannot {doing} {}: {cause}", path.display())))
    }
}
