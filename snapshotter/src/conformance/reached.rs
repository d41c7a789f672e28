//! What stands between the suite and the snapshots, and where that shows.

use crate::error::Error;
use crate::snapshots::KEY_LENGTH_MAX;

/// What containerd puts before a key at most: `<namespace>/<number>/`.
const PREFIX_LENGTH_MAX: usize = 76 + 20 + 2;

/// How the snapshots are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// By the trait, or over a socket that hands everything on as it is.
    Directly,
    /// Through containerd's metadata, which keeps keys, parents, labels and times for itself.
    ///
    /// - It puts a prefix before a key, so the longest key is shorter by that; how long one may be
    ///   is not for it to say.
    /// - It takes no label without a name, forgets those without a value, and answers labels that
    ///   it hands on (`containerd.io/snapshot...`) without the others.
    /// - It has no error of its own for the empty key.
    ThroughContainerd,
}

impl Reached {
    /// Length of the longest key that must be taken, in bytes.
    pub(super) fn key_length_max(self) -> usize {
        match self {
            Reached::Directly => KEY_LENGTH_MAX,
            Reached::ThroughContainerd => KEY_LENGTH_MAX - PREFIX_LENGTH_MAX,
        }
    }

    /// Keys that are none.
    pub(super) fn refused_keys(self) -> Vec<String> {
        match self {
            Reached::Directly => vec![String::new(), "k".repeat(KEY_LENGTH_MAX + 1)],
            Reached::ThroughContainerd => vec![String::new()],
        }
    }

    /// The oddest labels that must be kept as they are.
    pub(super) fn labels(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Reached::Directly => &[
                ("containerd.io/snapshot.ref", "sha256:1"),
                ("", "empty"),
                ("ü", ""),
            ],
            Reached::ThroughContainerd => &[("a.b/c", "1"), ("l", "==, \"x\""), ("ü", "日本")],
        }
    }

    /// Whether this is how a key that is none is refused.
    pub(super) fn refuses_key(self, error: &Error) -> bool {
        match self {
            Reached::Directly => matches!(error, Error::InvalidArgument { .. }),
            Reached::ThroughContainerd => true,
        }
    }
}
