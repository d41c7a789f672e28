//! What the helper process tells its parent: one JSON object per line over a socket pair.
//!
//! In the other direction nothing is said. When the parent closes its end, or dies, the helper
//! kills the container.

use serde::{Deserialize, Serialize};

use crate::error::StartFailure;

/// First argument that makes a program of ours the helper.
pub(crate) const HELPER_ARGUMENT: &str = "__oci-run";

/// Longest report in bytes; the longest part is an error text of a runtime.
pub(crate) const REPORT_BYTES_MAX: usize = 64 * 1024;

/// The last word of the helper about a container; it comes after everything is cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The process exited.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal killed the process.
    Signaled {
        /// Its number.
        signal: i32,
    },
    /// The program could not be started.
    StartFailed {
        /// Kind of failure.
        reason: StartFailure,
        /// In runc's words.
        message: String,
    },
    /// The container could not be made.
    ContainerFailed {
        /// The runtime's words.
        message: String,
    },
}

impl Report {
    /// As a line, shortened to what the parent accepts.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let line = serde_json::to_vec(self).unwrap_or_default();
        let mut line = if line.len() < REPORT_BYTES_MAX {
            line
        } else {
            br#"{"type":"container_failed","message":"the runtime's error text is too long"}"#
                .to_vec()
        };
        line.push(b'\n');
        line
    }
}
