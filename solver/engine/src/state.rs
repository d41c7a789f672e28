//! The state of one vertex: a sum type with its data inside, so that what cannot be, cannot be
//! written down.
//!
//! ```text
//! Unkeyed ─► Mapping ─► Mapped ─► Keyed ─► Probing ─► Collecting ─► Evaluated ─► Complete
//!            (own key)  (waits    (idle)   (classic   (waits for    (content key,  ▲
//!                       for keys)    │      look-up)   values)      look-up, exec) │
//!                                    └──────────────► Following ◄───────┘──────────┘
//! ```
//! Between a content key's values and `Complete` lies `Rebasing`: they are made values of these
//! inputs first.
//! From `Keyed` on the classic key is known; nothing is done beyond it unless somebody wants the
//! value. When nobody wants it any more, a vertex that waits goes back to `Keyed` at once and one
//! that works when its work has ended. There is no failed state: a failure is told to those who
//! wanted the value, and forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cache_key::{self, CacheKey};
use crate::job::JobId;
use crate::progress::CacheHit;
use crate::vertex::VertexId;

/// A vertex as the scheduler tells it from others: its id, and which of its ancestors (or itself)
/// ignore the cache. Usually just the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId {
    digest: [u8; 32],
    fresh: bool,
}

impl NodeId {
    /// The id of a vertex that reads the given nodes.
    pub(crate) fn of(vertex: VertexId, ignore_cache: bool, inputs: &[NodeId]) -> Self {
        if !ignore_cache && !inputs.iter().any(|input| input.fresh) {
            // The vertex id covers the inputs already.
            return Self {
                digest: *vertex.as_bytes(),
                fresh: false,
            };
        }
        let key = CacheKey::builder("varve engine: fresh node v1")
            .bytes(vertex.as_bytes())
            .number(u64::from(ignore_cache));
        let key = inputs.iter().fold(key, |key, input| {
            key.number(u64::from(input.fresh)).bytes(input.digest)
        });
        Self {
            digest: *key.finish().as_bytes(),
            fresh: true,
        }
    }

    /// Whether the vertex or an ancestor ignores the cache.
    #[cfg(test)]
    fn is_fresh(self) -> bool {
        self.fresh
    }
}

/// The keys that are known without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) definition: CacheKey,
    pub(crate) classic: CacheKey,
    /// Set if the vertex or an ancestor ignores the cache. Then the classic key must not be looked
    /// up, and this key says which steps are equal.
    pub(crate) fresh: Option<CacheKey>,
}

impl Keys {
    pub(crate) fn new(definition: CacheKey, ignore_cache: bool, inputs: &[(Keys, u32)]) -> Self {
        let of = |key: fn(&Keys) -> CacheKey| {
            inputs
                .iter()
                .map(|(keys, output)| (key(keys), *output))
                .collect::<Vec<_>>()
        };
        let fresh = ignore_cache || inputs.iter().any(|(keys, _)| keys.fresh.is_some());
        Self {
            definition,
            classic: cache_key::classic(&definition, &of(|keys| keys.classic)),
            fresh: fresh.then(|| cache_key::fresh(&definition, ignore_cache, &of(Keys::merge))),
        }
    }

    /// Vertices with the same merge key are the same step.
    pub(crate) fn merge(&self) -> CacheKey {
        self.fresh.unwrap_or(self.classic)
    }
}

/// Where a piece of work is: at most one per vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Waits in a lane.
    Queued,
    /// The driver does it, with the operation that this job brought.
    Running { op_of: JobId },
    /// The driver was told to cancel it and has not said yet that it ended.
    Leaving,
}

/// What is done once the values of the inputs are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    ContentKey,
    Lookup { content: CacheKey },
    Execute { content: Option<CacheKey> },
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) enum State<V> {
    Unkeyed,
    Mapping {
        turn: Turn,
    },
    /// The first inputs, that many, are known to have keys.
    Mapped {
        definition: CacheKey,
        keyed_inputs: usize,
    },
    Keyed {
        keys: Keys,
    },
    Probing {
        keys: Keys,
        turn: Turn,
    },
    /// The first inputs, that many, are known to have values.
    Collecting {
        keys: Keys,
        complete_inputs: usize,
    },
    Evaluated {
        keys: Keys,
        inputs: Arc<[V]>,
        step: Step,
        turn: Turn,
    },
    /// Has found values by its content key, or been given those of an equal step, and makes them
    /// values of its own inputs.
    Rebasing {
        keys: Keys,
        evaluated: Evaluated<V>,
        found: Arc<[V]>,
        hit: CacheHit,
        turn: Turn,
    },
    Following {
        keys: Keys,
        leader: NodeId,
        evaluated: Option<Evaluated<V>>,
    },
    Complete {
        keys: Keys,
        values: Arc<[V]>,
        saving: bool,
    },
}

/// What a vertex knows that has a content key.
#[derive(Clone, Debug)]
pub(crate) struct Evaluated<V> {
    pub(crate) inputs: Arc<[V]>,
    pub(crate) content: CacheKey,
}

impl<V> State<V> {
    pub(crate) fn keys(&self) -> Option<&Keys> {
        match self {
            Self::Unkeyed | Self::Mapping { .. } | Self::Mapped { .. } => None,
            Self::Keyed { keys }
            | Self::Probing { keys, .. }
            | Self::Collecting { keys, .. }
            | Self::Evaluated { keys, .. }
            | Self::Rebasing { keys, .. }
            | Self::Following { keys, .. }
            | Self::Complete { keys, .. } => Some(keys),
        }
    }

    pub(crate) fn turn(&self) -> Option<Turn> {
        match self {
            Self::Mapping { turn }
            | Self::Probing { turn, .. }
            | Self::Evaluated { turn, .. }
            | Self::Rebasing { turn, .. } => Some(*turn),
            _ => None,
        }
    }

    pub(crate) fn turn_mut(&mut self) -> Option<&mut Turn> {
        match self {
            Self::Mapping { turn }
            | Self::Probing { turn, .. }
            | Self::Evaluated { turn, .. }
            | Self::Rebasing { turn, .. } => Some(turn),
            _ => None,
        }
    }

    pub(crate) fn values(&self) -> Option<&Arc<[V]>> {
        match self {
            Self::Complete { values, .. } => Some(values),
            _ => None,
        }
    }

    /// Whether the operation itself runs, wanted or not.
    pub(crate) fn is_executing(&self) -> bool {
        matches!(
            self,
            Self::Evaluated {
                step: Step::Execute { .. },
                turn: Turn::Running { .. } | Turn::Leaving,
                ..
            }
        )
    }

    /// Whether nothing is in flight and nothing is waited for.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Unkeyed | Self::Mapped { .. } | Self::Keyed { .. } => true,
            Self::Complete { saving, .. } => !saving,
            _ => false,
        }
    }
}

/// A vertex in the scheduler, shared by all jobs that have it.
#[derive(Clone, Debug)]
pub(crate) struct Node<V> {
    pub(crate) vertex: VertexId,
    pub(crate) inputs: Vec<(NodeId, u32)>,
    pub(crate) ignore_cache: bool,
    /// How many outputs its values must have for all that was ever asked.
    pub(crate) outputs_wanted: usize,
    /// The jobs whose needed sub-graph it is in, ended ones included until they are gone.
    pub(crate) jobs: BTreeSet<JobId>,
    /// The nodes that have it as an input.
    pub(crate) dependents: BTreeSet<NodeId>,
    /// The nodes that wait for its result because they are equal, in order of arrival.
    pub(crate) followers: Vec<NodeId>,
    pub(crate) state: State<V>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_passes_from_inputs_to_readers_and_changes_the_id() {
        let vertex = |number| VertexId::from_bytes([number; 32]);
        let plain = NodeId::of(vertex(3), false, &[]);
        let ignored = NodeId::of(vertex(3), true, &[]);
        assert!(!plain.is_fresh());
        assert!(ignored.is_fresh());
        assert!(NodeId::of(vertex(4), false, &[plain, ignored]).is_fresh());
        assert_ne!(
            NodeId::of(vertex(4), true, &[ignored]),
            NodeId::of(vertex(4), false, &[ignored])
        );
    }

    #[test]
    fn only_the_merge_key_tells_a_fresh_vertex_from_a_plain_one() {
        let definition = CacheKey::from_bytes([1; 32]);
        let plain = Keys::new(definition, false, &[]);
        let ignored = Keys::new(definition, true, &[]);
        assert_eq!(plain.classic, ignored.classic);
        assert_ne!(plain.merge(), ignored.merge());
        let reader = |input| Keys::new(definition, false, &[(input, 0)]);
        assert_eq!(reader(plain).classic, reader(ignored).classic);
        assert_ne!(reader(plain).merge(), reader(ignored).merge());
    }
}
