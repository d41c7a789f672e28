//! THE contract of a snapshotter, in containerd's terms (core/snapshots/snapshotter.go; see
//! shared/spec/snapshotter.md section 3.2).

use std::collections::BTreeMap;

use mount::Mount;
use store::{Timestamp, Usage};

use crate::error::{Error, Result};

/// Longest key in bytes; containerd's are some 100.
pub const KEY_LENGTH_MAX: usize = 4096;

/// Longest label, name and value together, in bytes (containerd `pkg/labels`).
pub const LABEL_LENGTH_MAX: usize = 4096;

/// Labels of a snapshot: opaque to us, kept for the client.
pub type Labels = BTreeMap<String, String>;

/// What a snapshot may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mountable read-only, never committed.
    View,
    /// Mountable and writable, may be committed.
    Active,
    /// Immutable, may be a parent; has no mounts of its own.
    Committed,
}

/// A snapshot's row as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The key (active, view) or name (committed).
    pub key: String,
    /// Key of the committed parent; empty for none.
    pub parent: String,
    /// What it may be used for.
    pub kind: Kind,
    /// When it was prepared, or committed.
    pub created: Timestamp,
    /// When its labels last changed.
    pub updated: Timestamp,
    /// The client's labels.
    pub labels: Labels,
}

impl Info {
    /// Of a snapshot that is made now.
    pub(crate) fn new(key: &str, parent: &str, kind: Kind, labels: Labels) -> Self {
        let created = now();
        Info {
            key: key.into(),
            parent: parent.into(),
            kind,
            created,
            updated: created,
            labels,
        }
    }
}

/// Snapshots with parents, life cycle `prepare -> (write through mounts) -> commit`.
///
/// Keys are opaque strings. An active snapshot becomes a committed one of another key, its own key
/// is gone then. A committed snapshot never changes. All methods may be called from any thread;
/// a method that fails changes nothing.
///
/// Races: of two calls that make the same key exactly one succeeds, the other gets
/// [`crate::Error::AlreadyExists`]. Committing while a process still writes through the mounts is
/// the caller's fault: unmount first.
pub trait Snapshots: Send + Sync + std::fmt::Debug {
    /// Makes an active snapshot on a committed parent (empty: on nothing) and tells how to mount
    /// it writable.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` for the parent; `InvalidArgument` if it is not committed.
    fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>>;

    /// As [`Snapshots::prepare`], but the mounts refuse writes and it cannot be committed.
    ///
    /// # Errors
    /// As `prepare`.
    fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>>;

    /// How to mount an active snapshot or a view, again. What the mounts rest on is re-established
    /// if it is gone.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` for a committed one.
    fn mounts(&self, key: &str) -> Result<Vec<Mount>>;

    /// Turns the active snapshot `key` into the committed snapshot `name`. The labels replace the
    /// active one's, nothing is inherited.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` if `key` is not active; `AlreadyExists` for `name`.
    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()>;

    /// Removes a snapshot of any kind. Its space comes back later.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` while it is a parent.
    fn remove(&self, key: &str) -> Result<()>;

    /// The snapshot's row.
    ///
    /// # Errors
    /// `NotFound`.
    fn stat(&self, key: &str) -> Result<Info>;

    /// Calls `visit` for every snapshot in the order of their keys; its error ends the walk.
    ///
    /// # Errors
    /// What `visit` returns.
    fn walk(&self, visit: &mut dyn FnMut(Info) -> Result<()>) -> Result<()>;

    /// What the snapshot itself takes, parents excluded: as committed, or at this moment if active.
    ///
    /// # Errors
    /// `NotFound`.
    fn usage(&self, key: &str) -> Result<Usage>;
}

/// What every implementation asks of keys and names.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let reason = match key.len() {
        0 => "the key of a snapshot must not be empty".into(),
        length if length > KEY_LENGTH_MAX => {
            format!("the key of a snapshot has {length} bytes, more than {KEY_LENGTH_MAX}")
        }
        _ => return Ok(()),
    };
    Err(Error::InvalidArgument { reason })
}

/// What every implementation asks of labels.
pub(crate) fn check_labels(labels: &Labels) -> Result<()> {
    match labels
        .iter()
        .find(|(name, value)| name.len() + value.len() > LABEL_LENGTH_MAX)
    {
        None => Ok(()),
        Some((name, value)) => Err(Error::InvalidArgument {
            reason: format!(
                "the label {:?} has {} bytes, more than {LABEL_LENGTH_MAX}",
                name.chars().take(64).collect::<String>(),
                name.len() + value.len()
            ),
        }),
    }
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanoseconds: since.subsec_nanos(),
    }
}
