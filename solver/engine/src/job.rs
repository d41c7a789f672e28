//! One evaluation inside the scheduler: which vertices it has, what it still waits for, and how
//! far each vertex is *for it*.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{GraphError, OpError};
use crate::graph::Graph;
use crate::state::NodeId;
use crate::vertex::VertexId;

/// How much may happen at once, and how much may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations that run (`exec`) at the same time, over all evaluations.
    pub max_parallel_execs: usize,
    /// Operations that are asked for their definition key at the same time. A source may do IO
    /// there (resolve an image, read a context), but mostly waits, so more than CPUs.
    pub max_parallel_cache_maps: usize,
    /// Look-ups, content keys and saves at the same time (the saves counted by themselves). They
    /// read the disk or a remote cache for a moment.
    pub max_parallel_probes: usize,
    /// Vertices in one graph. BuildKit's largest real graphs have some thousands; the limit keeps
    /// a hostile one from filling memory (about 1 KiB a vertex).
    pub graph_vertices_max: usize,
    /// Edges in one graph, repeated ones included.
    pub graph_edges_max: usize,
}

impl Default for Limits {
    /// For a small machine: 4 execs. Set `max_parallel_execs` from the number of CPUs.
    fn default() -> Self {
        Self {
            max_parallel_execs: 4,
            max_parallel_cache_maps: 16,
            max_parallel_probes: 16,
            graph_vertices_max: 65_536,
            graph_edges_max: 1 << 20,
        }
    }
}

/// Names a job; later jobs have larger numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobId(pub(crate) u64);

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.0)
    }
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) enum JobOutcome<V> {
    /// One value for each target.
    Values(Vec<V>),
    /// The vertex, as this job calls it, and its error.
    Failed {
        vertex: VertexId,
        error: OpError,
    },
    Graph(GraphError),
    Cancelled,
}

/// Whether a job still wants something.
#[derive(Clone, Debug)]
pub(crate) enum Phase<V> {
    Live,
    /// The outcome is known; what was told to stop has not ended yet.
    Ending {
        outcome: JobOutcome<V>,
        waits_for: BTreeSet<NodeId>,
    },
}

/// A job.
#[derive(Clone, Debug)]
pub(crate) struct Job<V> {
    /// Its needed sub-graph, inputs before those that read them.
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) targets: Vec<(NodeId, u32)>,
    pub(crate) phase: Phase<V>,
    /// Saves of results that it had a part in; it does not end before them.
    pub(crate) saves: BTreeSet<NodeId>,
    places: BTreeMap<NodeId, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    /// Position in `nodes`.
    rank: usize,
    inputs: Vec<NodeId>,
    /// Edges to it from vertices that may still ask for its value, and targets on it.
    open_readers: usize,
    settled: bool,
}

impl<V> Job<V> {
    pub(crate) fn new(graph: &Graph) -> Self {
        let mut places: BTreeMap<NodeId, Place> = BTreeMap::new();
        for (rank, node) in graph.nodes.iter().enumerate() {
            let inputs = node.inputs.clone();
            places.insert(
                node.node,
                Place {
                    rank,
                    inputs,
                    open_readers: 0,
                    settled: false,
                },
            );
        }
        let readings = graph.nodes.iter().flat_map(|node| node.inputs.iter());
        let targets = graph.targets.iter().map(|(node, _)| node);
        for read in readings.chain(targets) {
            if let Some(place) = places.get_mut(read) {
                place.open_readers += 1;
            }
        }
        Self {
            nodes: graph.nodes.iter().map(|node| node.node).collect(),
            targets: graph.targets.clone(),
            phase: Phase::Live,
            saves: BTreeSet::new(),
            places,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    pub(crate) fn has_target(&self, node: NodeId) -> bool {
        self.targets.iter().any(|(target, _)| *target == node)
    }

    /// Whether the node is in the job's graph.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.places.contains_key(&node)
    }

    /// Whether the job will not ask for anything on behalf of this node any more.
    pub(crate) fn is_settled(&self, node: NodeId) -> bool {
        self.places.get(&node).is_some_and(|place| place.settled)
    }

    /// Takes note that the job will not ask for anything on behalf of this node any more: it has a
    /// value. Gives the ancestors that by this nobody in the job can ask for any more, in graph
    /// order; `None` if the node was settled before.
    ///
    /// Each edge is counted down once, so over the whole job this costs one walk of the graph.
    pub(crate) fn settle(&mut self, node: NodeId) -> Option<Vec<NodeId>> {
        let place = self.places.get_mut(&node)?;
        if std::mem::replace(&mut place.settled, true) {
            return None;
        }
        let mut skipped = Vec::new();
        let mut settled = vec![node];
        while let Some(reader) = settled.pop() {
            let inputs = self
                .places
                .get(&reader)
                .map_or_else(Vec::new, |at| at.inputs.clone());
            for input in inputs {
                let Some(place) = self.places.get_mut(&input) else {
                    continue;
                };
                place.open_readers -= 1;
                if place.open_readers == 0 && !place.settled {
                    place.settled = true;
                    skipped.push((place.rank, input));
                    settled.push(input);
                }
            }
        }
        skipped.sort_unstable();
        Some(skipped.into_iter().map(|(_, node)| node).collect())
    }
}
