//! What the graph alone tells of its vertices: what lies before them, and who reads them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use llb::op::{Exec, LocalSource, MountKind, Op};
use llb::{Graph, Vertex, VertexDigest};

/// Ids of cache mounts.
type CacheIds = Arc<BTreeSet<String>>;

/// What is known of the vertices of one graph.
pub(super) struct Upstream {
    /// The cache mounts that steps on the way to a vertex have used, itself included.
    caches: HashMap<VertexDigest, CacheIds>,
    /// Vertices that somebody reads who takes old results.
    remembered: HashSet<VertexDigest>,
}

impl Upstream {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut upstream = Upstream {
            caches: HashMap::new(),
            remembered: HashSet::new(),
        };
        for vertex in graph.vertices() {
            let mut used = upstream.before(vertex);
            let own = match vertex.op() {
                Op::Exec(exec) => cache_ids(exec).collect(),
                _ => BTreeSet::new(),
            };
            if !own.is_subset(&used) {
                Arc::make_mut(&mut used).extend(own);
            }
            upstream.caches.insert(vertex.digest(), used);
            if !vertex.metadata().ignore_cache {
                let inputs = vertex.inputs().iter().map(|input| input.vertex);
                upstream.remembered.extend(inputs);
            }
        }
        upstream
    }

    /// The cache mounts that the inputs of a vertex have used.
    fn before(&self, vertex: &Vertex) -> CacheIds {
        let mut inputs = vertex.inputs().iter();
        let mut of_next = || inputs.find_map(|input| self.caches.get(&input.vertex));
        let mut used = of_next().cloned().unwrap_or_default();
        while let Some(other) = of_next() {
            if !other.is_subset(&used) {
                Arc::make_mut(&mut used).extend(other.iter().cloned());
            }
        }
        used
    }

    /// Whether a step uses a cache mount that a step before it has used: then what it finds there
    /// depends on whether that one has run, which its inputs do not tell.
    pub(super) fn shares_cache(&self, exec: &Exec, vertex: &Vertex) -> bool {
        let used = self.before(vertex);
        cache_ids(exec).any(|id| used.contains(&id))
    }

    /// Whether this is a directory of the caller for steps only that are to run anew: then what is
    /// remembered of equal content, with the times of then, is no use.
    pub(super) fn is_read_anew(&self, vertex: &Vertex) -> bool {
        let is_local = match vertex.op() {
            Op::Source(source) => matches!(LocalSource::read(source), Ok(Some(_))),
            _ => false,
        };
        is_local && !self.remembered.contains(&vertex.digest())
    }
}

/// The ids of a step's cache mounts.
pub(crate) fn cache_ids(exec: &Exec) -> impl Iterator<Item = String> + '_ {
    exec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Cache(cache) => Some(cache.id.clone()),
        _ => None,
    })
}
