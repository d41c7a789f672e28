//! LLB operations as operations of the engine: one file each.

pub(crate) mod archive;
mod exec;
mod fetched;
mod file;
mod links;
pub(crate) mod merge;
mod noted;
mod source;
mod upstream;

pub(crate) use source::convert_platform as source_platform;
pub(crate) use upstream::cache_ids;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use engine::{CacheKey, OpError, VertexId};
use llb::op::Op;
use llb::{Graph, Vertex};
use snapshotter::{Manager, catalog, leases};
use store::{
    Batch, BlobId, Content, Entry, Ingest, Leaf, Store, Tally, TreeId, TreeRef, TreeSource, Work,
    diff,
};

use self::upstream::Upstream;
use crate::agents::Agents;
use crate::cache::{Records, now};
use crate::error::{Error, Result};
use crate::executing::Execution;
use crate::frontend::Coming;
use crate::images::Images;
use crate::result::Value;
use crate::secrets::Secrets;
use crate::sources::registry::Remote;

/// What operations need of the world.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) snapshots: Arc<Manager>,
    pub(crate) images: Images,
    pub(crate) records: Arc<Records>,
    pub(crate) execution: Arc<Execution>,
    /// Trees that steps may be run on without another look at their objects.
    pub(crate) checked: Arc<Checked>,
    /// Secrets of this build.
    pub(crate) secrets: Secrets,
    /// ssh agents of this build.
    pub(crate) agents: Agents,
    /// Variables of whoever asked for this build.
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// How its vertices are called.
    pub(crate) ids: VertexIds,
    /// Contexts of this build, by name.
    pub(crate) contexts: BTreeMap<String, LocalContext>,
    /// Images that this build has looked up at registries.
    pub(crate) coming: Coming,
    /// Where the layers of images are that the store has not.
    pub(crate) remote: Remote,
    /// What its operations have found stays as long as one of them may go on: for another build,
    /// perhaps, than the one that it is of.
    pub(crate) _work: Work,
    /// Counts what this build brings in.
    pub(crate) tally: Arc<Tally>,
}

impl Environment {
    pub(crate) fn store(&self) -> &Arc<Store> {
        self.snapshots.store()
    }
}

/// What a local source of a graph stands for.
#[derive(Clone, Debug)]
pub(crate) enum LocalContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A tree of the store, taken as a whole.
    Tree(TreeRef),
}

/// An error of ours as the engine carries it.
pub(crate) fn op_error(error: Error) -> OpError {
    OpError::new(error)
}

/// How vertices of one build are called in the engine.
///
/// Alone it is the digests that name them in the graph. Several builds at once may mean different
/// directories by the same name, and the same directory at different times; then each has names of
/// its own, and the engine finds out by their keys which steps are equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VertexIds {
    /// Another one for each build beside others.
    pub(crate) salt: Option<u64>,
}

impl VertexIds {
    /// The id of the vertex with this digest.
    pub(crate) fn of(self, digest: llb::VertexDigest) -> VertexId {
        let Some(salt) = self.salt else {
            return VertexId::from_bytes(*digest.as_bytes());
        };
        let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 vertex beside others v1");
        hasher.update(&salt.to_le_bytes()).update(digest.as_bytes());
        VertexId::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// All vertices of a graph, ready to be evaluated.
///
/// # Errors
/// [`Error::Unsupported`] for operations that are not done yet.
pub(crate) fn vertices(
    graph: &Graph,
    environment: &Arc<Environment>,
) -> Result<Vec<engine::Vertex<Value>>> {
    let upstream = Upstream::of(graph);
    graph
        .vertices()
        .iter()
        .map(|vertex| convert(graph, &upstream, vertex, environment))
        .collect()
}

fn convert(
    graph: &Graph,
    upstream: &Upstream,
    vertex: &Vertex,
    environment: &Arc<Environment>,
) -> Result<engine::Vertex<Value>> {
    let (ids, environment) = (environment.ids, environment.clone());
    let (records, tally) = (environment.records.clone(), environment.tally.clone());
    let op: Arc<dyn engine::Op<Value = Value>> = match vertex.op() {
        Op::Exec(exec) => {
            let shares_cache = upstream.shares_cache(exec, vertex);
            let exec = (**exec).clone();
            Arc::new(exec::ExecOp::new(exec, vertex, shares_cache, environment)?)
        }
        Op::File(file) => Arc::new(file::FileOp {
            file: file.clone(),
            definition: definition_key(vertex),
            environment,
        }),
        Op::Source(source) => source::convert(source, vertex, environment)?,
        Op::Merge(merge) => Arc::new(merge::MergeOp {
            merge: merge.clone(),
            definition: definition_key(vertex),
            environment,
        }),
        Op::Diff(_) | Op::Build(_) => {
            return Err(Error::Unsupported {
                what: format!("LLB operation {}", vertex.op().kind()),
            });
        }
    };
    let name = graph.name(vertex.digest());
    let op = Arc::new(noted::Noted {
        inner: op,
        about: noted::about(vertex.op(), &name),
        records,
        tally,
    });
    let input = |edge: &llb::Edge| engine::Edge {
        vertex: ids.of(edge.vertex),
        output: edge.output,
    };
    // What a linked copy is laid with belongs to the step that copies: it is not shown.
    let name = match vertex.op() {
        Op::Merge(_) => String::new(),
        _ => name,
    };
    Ok(engine::Vertex {
        id: ids.of(vertex.digest()),
        inputs: vertex.inputs().iter().map(input).collect(),
        op,
        name,
        ignore_cache: vertex.metadata().ignore_cache || upstream.is_read_anew(vertex),
    })
}

/// The key of an operation by its bytes, without the digests of its inputs (those come in through
/// the keys of the inputs), proxies and addresses of extra hosts.
fn definition_key(vertex: &Vertex) -> CacheKey {
    CacheKey::builder("varve solver: definition v2")
        .bytes(vertex.key_bytes())
        .finish()
}

/// Makes results of equal work, found by content, results of these inputs: what each has changed is
/// changed in the snapshot that it has to come from now. A result as it was found has the layers
/// below it that its own inputs had, which need not be those of this build at all.
fn rebase(found: &[Value], bases: &[Value], environment: &Environment) -> Result<Vec<Value>> {
    let (store, snapshots) = (environment.store(), &environment.snapshots);
    let ingest = store.begin();
    let mut values = found.to_vec();
    let mut moved = Vec::new();
    for (place, (value, base)) in found.iter().zip(bases).enumerate() {
        let Some(tree) = value.tree() else { continue };
        let parent = catalog::get(store, value.name())?.info.parent;
        if parent == base.name() {
            continue;
        }
        let before = match parent.is_empty() {
            true => None,
            false => Some(snapshots.tree(&parent)?),
        };
        let tree = match before == base.tree() {
            true => tree,
            false => diff(before, tree, &ingest)?.apply(base.tree(), &ingest)?,
        };
        moved.push((place, (tree, base.name().to_owned())));
    }
    let (places, trees): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
    let committed = commit_tree(ingest, trees.into_iter(), environment)?;
    for (place, value) in places.into_iter().zip(committed) {
        values[place] = value;
    }
    Ok(values)
}

/// Commits trees as snapshots, each a change of the snapshot that its name goes with.
fn commit_tree(
    ingest: Ingest<'_>,
    trees: impl Iterator<Item = (TreeRef, String)>,
    environment: &Environment,
) -> Result<Vec<Value>> {
    let snapshots = &environment.snapshots;
    let mut ingest = Some(ingest);
    let mut values = Vec::new();
    for (tree, parent) in trees {
        let name = snapshot_name(&parent, tree);
        let ingest = ingest.take().unwrap_or_else(|| snapshots.store().begin());
        snapshots.adopt(ingest, &name, &parent, tree, build_lease(&name))?;
        values.push(Value::new(snapshots.store(), name, tree));
    }
    Ok(values)
}

/// Commits the tree of a source as a snapshot of its own.
fn adopt(tree: TreeRef, environment: &Environment) -> Result<Vec<Value>> {
    let ingest = environment.store().begin();
    commit_tree(ingest, [(tree, String::new())].into_iter(), environment)
}

/// The name of a step's snapshot: the same change of the same parent is the same snapshot.
pub(crate) fn snapshot_name(parent: &str, tree: TreeRef) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 step snapshot v1");
    hasher.update(parent.as_bytes()).update(tree.id.as_bytes());
    format!("step/{}", &hasher.finalize().to_hex()[..40])
}

/// Holds a snapshot until the records of its build hold it.
pub(crate) fn build_lease(name: &str) -> Batch {
    let mut batch = Batch::new();
    let id = format!("{}{name}", crate::build::LEASE_PREFIX);
    let references = vec![leases::Reference::Snapshot(name.to_owned())];
    leases::put(
        &mut batch,
        &leases::Lease {
            id,
            created: now(),
            references,
        },
    );
    batch
}

/// Trees whose objects were all there in the life of this process.
pub(crate) type Checked = std::sync::Mutex<std::collections::HashSet<TreeId>>;

/// A regular file of a tree whose object is not there, or not of the right length. Directories
/// that were found complete before are not looked at again.
///
/// # Errors
/// Those of reading trees.
pub(crate) fn missing_object(
    tree: TreeRef,
    store: &Store,
    checked: &Checked,
) -> Result<Option<BlobId>> {
    let mut complete = Vec::new();
    let mut rest = vec![tree.id];
    while let Some(id) = rest.pop() {
        if checked
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .contains(&id)
        {
            continue;
        }
        for entry in store.tree(id)?.entries.values() {
            match entry {
                Entry::Directory(child) => rest.push(child.id),
                Entry::Leaf(Leaf {
                    content: Content::File { blob, size },
                    ..
                }) if *size > 0 && !store.objects().has(*blob, *size) => {
                    return Ok(Some(*blob));
                }
                Entry::Leaf(_) => {}
            }
        }
        complete.push(id);
    }
    checked
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .extend(complete);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::VertexIds;

    #[test]
    fn builds_beside_others_share_no_names() {
        let digest = llb::VertexDigest::of(b"a vertex");
        let [alone, one, other] =
            [None, Some(0), Some(1)].map(|salt| VertexIds { salt }.of(digest));
        assert_eq!(alone.as_bytes(), digest.as_bytes());
        assert!(one != other && one != alone && other != alone);
        assert_eq!(one, VertexIds { salt: Some(0) }.of(digest));
    }
}
