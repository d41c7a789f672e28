//! The mounts of a step: snapshots that are prepared for it, and what becomes of them afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{CancelToken, OutputSink};
use llb::op::{Exec, Mount as ExecMount, MountKind, SecretMount, SshMount};
use mount::Mount;
use snapshotter::{Kind, Labels, Manager, Snapshots};
use store::editor::Found;
use store::{ContentKey, Editor, Entry, RelPath, Store, TreeRef};

use crate::agents::Agents;
use crate::cache_mounts::CacheMounts;
use crate::error::{Error, Result};
use crate::ops::{Checked, build_lease, snapshot_name};
use crate::result::Value;
use crate::secrets::{SecretValue, Secrets};

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

/// Something that a process sees inside of its root file system.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where, inside the container.
    pub target: String,
    /// Whether the process may not write to it.
    pub read_only: bool,
    /// What it is.
    pub kind: ShownKind,
}

/// What is shown.
#[derive(Clone, Debug)]
pub enum ShownKind {
    /// A file or directory of a file system of its own.
    Files {
        /// How to mount that.
        mounts: Vec<Mount>,
        /// Which file or directory, without symbolic links on the way.
        path: PathBuf,
        /// It is a directory.
        is_directory: bool,
        /// Nobody else sees what is written to it, and it is thrown away.
        is_scratch: bool,
    },
    /// A directory that others may write to at the same time.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What below it is shown; links in it lead nowhere else.
        selector: PathBuf,
    },
    /// A file with a secret.
    Secret {
        /// What it says.
        value: SecretValue,
        /// Whose it is.
        owner: SecretMount,
    },
    /// A socket that leads to an ssh agent.
    Agent {
        /// The agent's own socket.
        socket: PathBuf,
        /// Whose ours is.
        owner: SshMount,
    },
    /// A directory of the container's own files, made if it is not there: it can be written to
    /// even where they cannot, and other mounts are made on top of it.
    Own,
    /// An empty directory in memory.
    Memory {
        /// Most that it holds; `None` leaves it to the kernel.
        size_bytes: Option<u64>,
    },
}

impl Shown {
    /// Whether its mount point is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        match self.kind {
            ShownKind::Files { is_directory, .. } => is_directory,
            ShownKind::Memory { .. } | ShownKind::Directory { .. } | ShownKind::Own => true,
            ShownKind::Secret { .. } | ShownKind::Agent { .. } => false,
        }
    }
}

/// What a mount shows of a tree.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Its place, without symbolic links.
    pub(crate) path: RelPath,
    /// Its content.
    pub(crate) key: ContentKey,
    is_directory: bool,
}

/// Checks that every mount of a step can be made.
///
/// # Errors
/// [`Error::Unsupported`].
pub(crate) fn check(exec: &Exec) -> Result<()> {
    for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
        if mount.kind == MountKind::Bind && mount.output.is_some() {
            return Err(Error::Unsupported {
                what: "a mount whose changes are kept".into(),
            });
        }
    }
    Ok(())
}

/// Finds what a mount shows of a tree.
///
/// # Errors
/// [`Error::NotFound`]; those of reading trees.
pub(crate) fn select(store: &Store, tree: TreeRef, selector: &str) -> Result<Selected> {
    let mut editor = Editor::open(store, tree);
    let path = editor.resolve(&RelPath::lenient(selector.as_bytes())?, true)?;
    if let Some(directory) = editor.untouched(&path)? {
        return Ok(Selected {
            path,
            key: directory.key,
            is_directory: true,
        });
    }
    match editor.get(&path)? {
        Some(Found::Leaf(leaf)) => Ok(Selected {
            path,
            key: Entry::Leaf(leaf).content_key(),
            is_directory: false,
        }),
        _ => Err(Error::NotFound {
            path: selector.to_owned(),
        }),
    }
}

/// The snapshots of one step, prepared.
#[derive(Debug)]
pub(crate) struct StepMounts {
    snapshots: Arc<Manager>,
    parent: String,
    root_key: String,
    root: Vec<Mount>,
    other_keys: Vec<String>,
    shown: Vec<Shown>,
    /// `NAME=value` of variables that are secrets.
    secret_env: Vec<String>,
    caches: CacheMounts,
}

/// Where a step's mounts come from.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) inputs: &'a [Value],
    pub(crate) snapshots: &'a Arc<Manager>,
    /// Where cache mounts are mounted.
    pub(crate) directory: &'a Path,
    pub(crate) cancel: &'a CancelToken,
    /// Where a step says what it waits for.
    pub(crate) output: &'a OutputSink,
    /// Trees that were looked through already.
    pub(crate) checked: &'a Checked,
    pub(crate) secrets: &'a Secrets,
    pub(crate) agents: &'a Agents,
}

impl StepMounts {
    /// Prepares what a step mounts. May wait for other steps to end.
    pub(crate) fn prepare(exec: &Exec, sources: &Sources<'_>) -> Result<Self> {
        let (inputs, snapshots) = (sources.inputs, sources.snapshots);
        // Before anything is waited for: what is missing is told at once.
        let secret_env = exec
            .secret_env
            .iter()
            .map(|one| sources.secrets.variable(one));
        let secret_env = secret_env.filter_map(Result::transpose);
        let secret_env = secret_env.collect::<Result<Vec<_>>>()?;
        let caches = CacheMounts::acquire(exec, sources)?;
        let root = exec.root().and_then(|mount| mount.input);
        let parent = root.map(|root| inputs[root.position()].name().to_owned());
        let parent = parent.unwrap_or_default();
        let root_key = transient_key("run/");
        let root = snapshots.prepare(&root_key, &parent, Labels::new())?;
        let (other_keys, shown) = (Vec::new(), Vec::new());
        let mut mounts = StepMounts {
            snapshots: snapshots.clone(),
            parent,
            root_key,
            root,
            other_keys,
            shown,
            secret_env,
            caches,
        };
        for position in 0..exec.mounts.len() {
            if exec.mounts[position].dest == "/" {
                continue;
            }
            if let Err(error) = mounts.add(position, exec, sources) {
                mounts.discard();
                return Err(error);
            }
        }
        Ok(mounts)
    }

    fn add(&mut self, position: usize, exec: &Exec, sources: &Sources<'_>) -> Result<()> {
        let mount = &exec.mounts[position];
        let kind = match &mount.kind {
            MountKind::Secret(owner) => {
                let value = sources.secrets.get(&owner.id, owner.optional)?;
                value.map(|value| ShownKind::Secret {
                    value,
                    owner: owner.clone(),
                })
            }
            MountKind::Ssh(owner) => sources.agents.get(owner)?.map(|socket| ShownKind::Agent {
                socket,
                owner: owner.clone(),
            }),
            MountKind::Cache(_) => Some(ShownKind::Directory {
                path: self.caches.path(position).unwrap_or(Path::new("")).into(),
                selector: mount.selector.trim_start_matches('/').into(),
            }),
            MountKind::Tmpfs { size_bytes } => Some(ShownKind::Memory {
                size_bytes: u64::try_from(*size_bytes).ok().filter(|size| *size > 0),
            }),
            MountKind::Bind => Some(self.files(mount, exec, sources.inputs)?),
        };
        // An optional secret that was not given is not shown at all.
        self.shown.extend(kind.map(|kind| Shown {
            target: mount.dest.clone(),
            read_only: mount.readonly,
            kind,
        }));
        Ok(())
    }

    /// A file or directory of an input.
    fn files(&mut self, mount: &ExecMount, exec: &Exec, inputs: &[Value]) -> Result<ShownKind> {
        let value = mount.input.map(|input| &inputs[input.position()]);
        let tree = value.and_then(Value::tree);
        let selected = match tree {
            Some(tree) => Some(select(self.snapshots.store(), tree, &mount.selector)?),
            None if RelPath::lenient(mount.selector.as_bytes())?.is_root() => None,
            None => {
                return Err(Error::NotFound {
                    path: mount.selector.clone(),
                });
            }
        };
        let key = transient_key("run/");
        let name = value.map_or("", Value::name);
        // What the process writes is thrown away with the snapshot, and so are the mount points
        // that other mounts need inside of it.
        let is_scratch = !mount.readonly || tree.is_none() || has_mounts_inside(exec, &mount.dest);
        let mounts = match is_scratch {
            false => self.snapshots.view(&key, name, Labels::new())?,
            true => self.snapshots.prepare(&key, name, Labels::new())?,
        };
        self.other_keys.push(key);
        let is_directory = selected.as_ref().is_none_or(|found| found.is_directory);
        let path = selected.map(|found| found.path.components().iter().collect());
        Ok(ShownKind::Files {
            mounts,
            path: path.unwrap_or_default(),
            is_directory,
            is_scratch,
        })
    }

    /// The root file system.
    pub(crate) fn root(&self) -> &[Mount] {
        &self.root
    }

    /// What is shown inside it.
    pub(crate) fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// Variables that are secrets, as `NAME=value`.
    pub(crate) fn take_secret_env(&mut self) -> Vec<String> {
        std::mem::take(&mut self.secret_env)
    }

    /// The root as the step left it, committed. Nothing may be mounted any more.
    pub(crate) fn commit(mut self) -> Result<Value> {
        let (parent, snapshots) = (self.parent.clone(), self.snapshots.clone());
        let committed = self.snapshots.commit_as(&self.root_key, |tree| {
            let name = snapshot_name(&parent, *tree);
            let lease = build_lease(&name);
            (name, lease)
        });
        if committed.is_ok() {
            self.root_key.clear();
        }
        self.give_up(committed.is_ok());
        let (name, tree) = committed?;
        Ok(Value::new(snapshots.store(), name, tree))
    }

    /// Throws away what was not committed. Cache mounts keep what was written, unless they are
    /// private.
    pub(crate) fn discard(self) {
        self.give_up(false);
    }

    fn give_up(self, has_succeeded: bool) {
        self.caches.end(has_succeeded);
        let root = Some(self.root_key).filter(|key| !key.is_empty());
        for key in self.other_keys.into_iter().chain(root) {
            // What cannot be removed now goes at the next start; the step's outcome counts.
            if let Err(error) = self.snapshots.remove(&key) {
                tracing::debug!(key, %error, "cannot remove a snapshot of a step");
            }
        }
    }
}

/// Whether another mount of the step lies below this one.
fn has_mounts_inside(exec: &Exec, dest: &str) -> bool {
    let inside = |other: &str| {
        Path::new(other)
            .strip_prefix(dest)
            .is_ok_and(|rest| !rest.as_os_str().is_empty())
    };
    exec.mounts.iter().any(|other| inside(&other.dest))
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
