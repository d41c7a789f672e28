//! What is evaluated: vertices, the edges between them, and the operation inside each.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::cache_key::{CacheKey, write_hex};
use crate::cancel::CancelToken;
use crate::error::OpError;
use crate::progress::OutputSink;

/// Digest of a vertex's definition, inputs included. Equal ids mean the same vertex, also between
/// evaluations that run at the same time: they share its work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId([u8; 32]);

impl VertexId {
    /// Takes a digest as an id.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for VertexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VertexId(")?;
        write_hex(f, &self.0[..6])?;
        f.write_str(")")
    }
}

/// One output of one vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The vertex that makes the value.
    pub vertex: VertexId,
    /// Which of its outputs, from 0.
    pub output: u32,
}

/// A step of the graph: an operation and where its inputs come from.
#[derive(Clone)]
pub struct Vertex<V> {
    /// Digest of the definition, inputs included, `ignore_cache` and `name` excluded.
    pub id: VertexId,
    /// The inputs in the order in which the operation gets them.
    pub inputs: Vec<Edge>,
    /// What to do.
    pub op: Arc<dyn Op<Value = V>>,
    /// What a person reads: `[build 2/5] RUN make`.
    pub name: String,
    /// Run even if a result is remembered, and remember the new one. What depends on this vertex
    /// may still be found by its content key, but not by its classic key: that one cannot tell the
    /// new result from the old.
    pub ignore_cache: bool,
}

impl<V> fmt::Debug for Vertex<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vertex")
            .field("id", &self.id)
            .field("inputs", &self.inputs)
            .field("name", &self.name)
            .field("ignore_cache", &self.ignore_cache)
            .finish_non_exhaustive()
    }
}

/// What a call into an operation gets besides its inputs.
#[derive(Clone, Debug)]
pub struct OpContext {
    /// Set when nobody wants the result any more. The operation should then end soon, with any
    /// answer: an error is not reported, a finished result is still remembered.
    pub cancel: CancelToken,
    /// Where log lines and progress go.
    pub output: OutputSink,
}

/// An operation: how it is remembered and how it runs.
///
/// The engine calls `cache_map` first, `content_key` when the classic key is not known to the
/// cache, then `rebase` with what the content key has found, or `exec` when it has found nothing;
/// never two of them at once for one vertex.
/// Each may be called again after it was cancelled or failed. A panic inside is an error of this
/// operation. The futures run on the runtime's worker threads: blocking work belongs on
/// `spawn_blocking`, and a future that waits for it must not end before it.
///
/// Between two evaluations that share a vertex one operation is used, of the one that came first;
/// if that evaluation leaves and the operation then fails, it is started again with the operation
/// of one that is still there.
pub trait Op: Send + Sync + 'static {
    /// A result; cloning shares it, dropping the last clone releases it.
    type Value: Clone + Send + Sync + 'static;

    /// The definition key: everything that decides the result besides the inputs. For a source
    /// the key of the content that it would give (an image digest, a context's content key); that
    /// may need IO, and it may write progress.
    fn cache_map(&self, context: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>>;

    /// A key over what this operation reads of its inputs' *content*; `None` if there is none.
    /// Which parts of an input matter (selectors) is decided here. The engine adds the definition
    /// key. Not called for vertices without inputs. There is none unless an operation has one.
    fn content_key<'a>(
        &'a self,
        _inputs: &'a [Self::Value],
        _context: OpContext,
    ) -> BoxFuture<'a, Result<Option<CacheKey>, OpError>> {
        Box::pin(async { Ok(None) })
    }

    /// Makes what was found by a content key a result of these inputs. The values are those of
    /// equal work on inputs of equal content, which need not be the same inputs: where a result
    /// refers to what it came from, it has to refer to these from now on.
    ///
    /// An error means that the operation is run instead.
    fn rebase<'a>(
        &'a self,
        _inputs: &'a [Self::Value],
        values: Vec<Self::Value>,
        _context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Self::Value>, OpError>> {
        Box::pin(async move { Ok(values) })
    }

    /// Runs the operation and gives *all* its outputs, in the order that edges count them.
    fn exec<'a>(
        &'a self,
        inputs: &'a [Self::Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Self::Value>, OpError>>;
}
