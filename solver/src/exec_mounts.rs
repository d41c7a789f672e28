//! The mounts of a step: snapshots that are prepared for it, and what becomes of them afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llb::op::{Exec, Mount as ExecMount, MountKind};
use mount::Mount;
use snapshotter::{Kind, Labels, Manager, Snapshots};
use store::{Editor, RelPath};

use crate::error::{Error, Result};
use crate::ops::{build_lease, snapshot_name};
use crate::result::Value;

/// Key prefixes of snapshots that live as long as one process of ours: a step's and a container's.
pub(crate) const TRANSIENT_PREFIXES: [&str; 2] = ["run/", "container/"];

/// Makes keys different from each other.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A key for a snapshot of this process.
pub(crate) fn transient_key(prefix: &str) -> String {
    format!(
        "{prefix}{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A file system that is shown inside another one.
#[derive(Clone, Debug)]
pub struct BindMount {
    /// How to mount it.
    pub mounts: Vec<Mount>,
    /// Which file or directory of it, without symbolic links on the way.
    pub path: PathBuf,
    /// Where it is shown, inside the container.
    pub target: String,
    /// Whether the process may not write to it.
    pub read_only: bool,
}

/// Checks that every mount of a step can be made.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn check(exec: &Exec) -> Result<()> {
    for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
        let what = match mount.kind {
            MountKind::Bind if mount.input.is_some() && mount.output.is_none() => continue,
            MountKind::Bind => "a bind mount without source, or whose changes are kept",
            MountKind::Secret(_) => "RUN --mount=type=secret",
            MountKind::Ssh(_) => "RUN --mount=type=ssh",
            MountKind::Cache(_) => "RUN --mount=type=cache",
            MountKind::Tmpfs { .. } => "RUN --mount=type=tmpfs",
        };
        return Err(Error::Unsupported { what: what.into() });
    }
    Ok(())
}

/// The snapshots of one step, prepared.
#[derive(Debug)]
pub(crate) struct StepMounts {
    snapshots: Arc<Manager>,
    parent: String,
    root_key: String,
    root: Vec<Mount>,
    other_keys: Vec<String>,
    binds: Vec<BindMount>,
}

impl StepMounts {
    /// Prepares what a step mounts.
    pub(crate) fn prepare(exec: &Exec, inputs: &[Value], snapshots: Arc<Manager>) -> Result<Self> {
        let root = exec.root().and_then(|mount| mount.input);
        let parent = root.map(|root| inputs[root.position()].name().to_owned());
        let parent = parent.unwrap_or_default();
        let root_key = transient_key("run/");
        let root = snapshots.prepare(&root_key, &parent, Labels::new())?;
        let (other_keys, binds) = (Vec::new(), Vec::new());
        let mut mounts = StepMounts {
            snapshots,
            parent,
            root_key,
            root,
            other_keys,
            binds,
        };
        for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
            if let Err(error) = mounts.add(mount, inputs) {
                mounts.discard();
                return Err(error);
            }
        }
        Ok(mounts)
    }

    fn add(&mut self, mount: &ExecMount, inputs: &[Value]) -> Result<()> {
        let Some(value) = mount.input.map(|input| &inputs[input.position()]) else {
            return Ok(());
        };
        let Some(tree) = value.tree() else {
            return Ok(());
        };
        let mut editor = Editor::open(&**self.snapshots.store(), tree);
        let path = editor.resolve(&RelPath::lenient(mount.selector.as_bytes())?, true)?;
        if editor.get(&path)?.is_none() {
            return Err(Error::NotFound {
                path: mount.selector.clone(),
            });
        }
        let key = transient_key("run/");
        // What the process writes is thrown away with the snapshot.
        let mounts = match mount.readonly {
            true => self.snapshots.view(&key, value.name(), Labels::new())?,
            false => self.snapshots.prepare(&key, value.name(), Labels::new())?,
        };
        self.other_keys.push(key);
        let path = path.components().iter().collect();
        let target = mount.dest.clone();
        self.binds.push(BindMount {
            mounts,
            path,
            target,
            read_only: mount.readonly,
        });
        Ok(())
    }

    /// The root file system.
    pub(crate) fn root(&self) -> &[Mount] {
        &self.root
    }

    /// What is shown inside it.
    pub(crate) fn binds(&self) -> &[BindMount] {
        &self.binds
    }

    /// The root as the step left it, committed. Nothing may be mounted any more.
    pub(crate) fn commit(mut self) -> Result<Value> {
        let parent = self.parent.clone();
        let committed = self.snapshots.commit_as(&self.root_key, |tree| {
            let name = snapshot_name(&parent, *tree);
            let lease = build_lease(&name);
            (name, lease)
        });
        if committed.is_ok() {
            self.root_key.clear();
        }
        self.discard();
        let (name, tree) = committed?;
        Ok(Value::new(name, tree))
    }

    /// Throws away what was not committed.
    pub(crate) fn discard(self) {
        let root = Some(self.root_key).filter(|key| !key.is_empty());
        for key in self.other_keys.into_iter().chain(root) {
            // What cannot be removed now goes at the next start; the step's outcome counts.
            if let Err(error) = self.snapshots.remove(&key) {
                tracing::debug!(key, %error, "cannot remove a snapshot of a step");
            }
        }
    }
}

/// Removes the snapshots of processes that are gone: the root belongs to this process alone.
///
/// # Errors
/// Database errors.
pub(crate) fn remove_stale(snapshots: &Manager) -> Result<()> {
    let mut stale = Vec::new();
    snapshots.walk(&mut |info| {
        let transient = TRANSIENT_PREFIXES
            .iter()
            .any(|prefix| info.key.starts_with(prefix));
        if transient && info.kind != Kind::Committed {
            stale.push(info.key);
        }
        Ok(())
    })?;
    for key in stale {
        snapshots.remove(&key)?;
    }
    Ok(())
}
