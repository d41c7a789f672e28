//! Merge: file systems laid over each other, as `COPY --link` does with what it has copied.
//!
//! What is laid on top stays a layer of its own: it is packed as it is, whatever lies below, so its
//! digest is the same on every base. Nothing is copied, and no link below is followed.

use std::sync::Arc;

use engine::{BoxFuture, CacheKey, Op, OpContext, OpError};
use llb::op::Merge;
use snapshotter::{Labels, catalog};
use store::{Editor, Entry, Found, Ingest, RelPath, TreeRef, TreeSource};

use crate::build::blocking;
use crate::error::Error;
use crate::ops::{Environment, build_lease, op_error};
use crate::result::Value;

/// Label of a snapshot whose change to its parent is the whole of another one: the name of that.
pub(crate) const LAID_LABEL: &str = "varve/merge.layer";

/// A merge operation of the graph.
#[derive(Debug)]
pub(super) struct MergeOp {
    pub(super) merge: Merge,
    pub(super) definition: CacheKey,
    pub(super) environment: Arc<Environment>,
}

impl Op for MergeOp {
    type Value = Value;

    fn cache_map(&self, _: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(async { Ok(self.definition) })
    }

    /// None: it is done sooner than a result of equal content is moved onto other inputs.
    fn exec<'a>(
        &'a self,
        inputs: &'a [Value],
        _: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        let layers = self.merge.inputs.iter();
        let layers: Vec<_> = layers
            .map(|input| inputs[input.position()].clone())
            .collect();
        let environment = self.environment.clone();
        let merged = blocking(move || {
            let mut layers = layers.into_iter();
            let lowest = layers.next().unwrap_or_else(Value::empty);
            let top = layers.try_fold(lowest, |below, upper| lay(below, upper, &environment))?;
            Ok(vec![top])
        });
        Box::pin(async move { merged.await.map_err(op_error) })
    }
}

/// Lays `upper` over `below`.
fn lay(below: Value, upper: Value, environment: &Environment) -> Result<Value, Error> {
    let (base, laid) = match (below.tree(), upper.tree()) {
        (_, None) => return Ok(below),
        (None, Some(_)) => return Ok(upper),
        (Some(base), Some(laid)) => (base, laid),
    };
    let snapshots = &environment.snapshots;
    let ingest = snapshots.store().begin();
    let mut editor = Editor::open(&ingest, base);
    cover(&mut editor, laid, &RelPath::root(), &ingest)?;
    let tree = editor.finish()?;
    let mut labels = Labels::new();
    if is_layer(&upper, environment)? && has_equal_roots(base, laid, &ingest)? {
        labels.insert(LAID_LABEL.to_owned(), upper.name().to_owned());
    }
    let name = {
        let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 merged snapshot v1");
        hasher.update(below.name().as_bytes()).update(&[0]);
        hasher.update(upper.name().as_bytes()).update(&[0]);
        hasher.update(tree.id.as_bytes());
        format!("step/{}", &hasher.finalize().to_hex()[..40])
    };
    let lease = build_lease(&name);
    snapshots.adopt_labelled(ingest, (&name, labels), below.name(), tree, lease)?;
    Ok(Value::new(snapshots.store(), name, tree))
}

/// Whether a result is one change of nothing: of several that each are a layer there is no tree
/// that is all of them and hides what the lower ones hide.
fn is_layer(value: &Value, environment: &Environment) -> Result<bool, Error> {
    let row = catalog::get(environment.store(), value.name())?;
    Ok(row.info.parent.is_empty())
}

/// Whether the root directories differ in nothing but their times: the layer would else change
/// that of the base where it is unpacked.
fn has_equal_roots(one: TreeRef, other: TreeRef, trees: &Ingest<'_>) -> Result<bool, Error> {
    let (mut one, other) = (trees.tree(one.id)?.metadata.clone(), trees.tree(other.id)?);
    one.mtime = other.metadata.mtime;
    Ok(one == other.metadata)
}

/// Puts all entries of a tree in place of what is there; directories merge, and take the
/// attributes of the upper one.
fn cover(
    editor: &mut Editor<'_, Ingest<'_>>,
    tree: TreeRef,
    path: &RelPath,
    trees: &Ingest<'_>,
) -> Result<(), Error> {
    for (name, entry) in &trees.tree(tree.id)?.entries {
        let path = path.join(name);
        match (entry, editor.get(&path)?) {
            (Entry::Directory(child), Some(Found::Directory(_))) => {
                let metadata = trees.tree(child.id)?.metadata.clone();
                editor.set_metadata(&path, metadata)?;
                cover(editor, *child, &path, trees)?;
            }
            _ => editor.insert(&path, entry.clone())?,
        }
    }
    Ok(())
}
