//! The cache mounts of a step: which ones it wants, in which order it asks for them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::OutputStream;
use llb::Graph;
use llb::op::{CacheMount, CacheSharing, Exec, Mount, MountKind, Op};
use snapshotter::Manager;
use snapshotter::cache_mounts::{self, Identity, InUse, Seed, Sharing};

use crate::error::{Error, Result};
use crate::exec_mounts::Sources;
use crate::ops::{cache_ids, missing_object};
use crate::result::Value;

/// A step that has waited so long for others says for what.
const PATIENCE: Duration = Duration::from_secs(1);

/// One cache mount that a step wants, perhaps at several places.
#[derive(Debug)]
struct Wanted<'a> {
    identity: Identity,
    id: &'a str,
    seed: Seed,
    sharing: Sharing,
    /// Positions among the mounts of the step.
    mounts: Vec<usize>,
}

/// The cache mounts that a step uses, each with the positions of its mounts.
#[derive(Debug, Default)]
pub(crate) struct CacheMounts(Vec<(InUse, Vec<usize>)>);

impl CacheMounts {
    /// Gets all that a step wants, waiting for other steps where they exclude each other.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; those of preparing and mounting.
    pub(crate) fn acquire(exec: &Exec, sources: &Sources<'_>) -> Result<Self> {
        let (snapshots, directory) = (sources.snapshots, sources.directory);
        let mut all = Self::default();
        for wanted in wanted(exec, sources.inputs) {
            drop_if_damaged(&wanted, sources)?;
            let what = (wanted.id, &wanted.seed);
            let (asked, told) = (Instant::now(), Cell::new(false));
            let is_cancelled = || {
                if asked.elapsed() > PATIENCE && !told.replace(true) {
                    let line = format!("waiting for the cache mount {:?}\n", wanted.id);
                    sources.output.log(OutputStream::Stderr, line.into_bytes());
                }
                sources.cancel.is_cancelled()
            };
            let got =
                cache_mounts::acquire(snapshots, what, wanted.sharing, directory, &is_cancelled)?;
            // What was got before is given back on the way out.
            all.0.push((got.ok_or(Error::Cancelled)?, wanted.mounts));
        }
        Ok(all)
    }

    /// Where the cache mount at a position is mounted.
    pub(crate) fn path(&self, position: usize) -> Option<&Path> {
        let mut found = self.0.iter();
        let (found, _) = found.find(|(_, mounts)| mounts.contains(&position))?;
        Some(found.path())
    }

    /// Ends all uses. A cache that cannot be kept is worth a warning, not the step.
    pub(crate) fn end(self, has_succeeded: bool) {
        for (used, _) in self.0 {
            if let Err(error) = used.end(has_succeeded) {
                tracing::warn!(%error, "a cache mount stays as it was before this step");
            }
        }
    }
}

/// Forgets the cache mounts of steps that are to run anew, as BuildKit does with `--no-cache`: who
/// says that distrusts what is remembered.
///
/// # Errors
/// Those of the database.
pub(crate) fn begin_anew<'g>(
    graphs: impl Iterator<Item = &'g Graph>,
    snapshots: &Manager,
) -> Result<()> {
    let vertices = graphs.flat_map(Graph::vertices);
    let ids: BTreeSet<_> = vertices
        .filter(|vertex| vertex.metadata().ignore_cache)
        .filter_map(|vertex| match vertex.op() {
            Op::Exec(exec) => Some(cache_ids(exec)),
            _ => None,
        })
        .flatten()
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    for cache in cache_mounts::list(snapshots)? {
        if ids.contains(&cache.id) {
            forget(snapshots, cache.identity)?;
        }
    }
    Ok(())
}

/// Lets a cache mount begin anew, unless a running step uses it.
fn forget(snapshots: &Manager, identity: Identity) -> Result<()> {
    match cache_mounts::remove(snapshots, identity) {
        Ok(_) | Err(snapshotter::Error::FailedPrecondition { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file of a cache that is lost would be an error in the middle of a step. A cache that has one
/// begins anew.
fn drop_if_damaged(wanted: &Wanted<'_>, sources: &Sources<'_>) -> Result<()> {
    let Some(tree) = cache_mounts::tree(sources.snapshots, wanted.identity)? else {
        return Ok(());
    };
    let store = sources.snapshots.store();
    let Some(blob) = missing_object(tree, store, sources.checked)? else {
        return Ok(());
    };
    tracing::warn!(id = wanted.id, %blob, "a cache mount has lost a file and begins anew");
    forget(sources.snapshots, wanted.identity)
}

/// What a step wants, each once, in the order in which everybody asks: so no two wait for each
/// other. Private ones are never waited for, and each is another.
fn wanted<'a>(exec: &'a Exec, inputs: &[Value]) -> Vec<Wanted<'a>> {
    let mut all: Vec<Wanted<'a>> = Vec::new();
    for (position, mount) in exec.mounts.iter().enumerate() {
        let MountKind::Cache(cache) = &mount.kind else {
            continue;
        };
        let one = want(cache, seed(mount, inputs), position);
        let known = all.iter_mut().find(|known| {
            let is_private = [known.sharing, one.sharing].contains(&Sharing::Private);
            known.identity == one.identity && !is_private
        });
        match known {
            None => all.push(one),
            Some(known) => {
                known.mounts.push(position);
                if one.sharing == Sharing::Locked {
                    known.sharing = Sharing::Locked;
                }
            }
        }
    }
    all.sort_by_key(|one| one.identity);
    all
}

fn want(cache: &CacheMount, seed: Seed, position: usize) -> Wanted<'_> {
    Wanted {
        identity: Identity::new(&cache.id, seed.key),
        id: &cache.id,
        seed,
        sharing: match cache.sharing {
            CacheSharing::Shared => Sharing::Shared,
            CacheSharing::Private => Sharing::Private,
            CacheSharing::Locked => Sharing::Locked,
        },
        mounts: vec![position],
    }
}

fn seed(mount: &Mount, inputs: &[Value]) -> Seed {
    let value = mount.input.map(|input| &inputs[input.position()]);
    Seed {
        name: value.map_or("", Value::name).to_owned(),
        key: value.and_then(Value::tree).map(|tree| tree.key),
    }
}
