//! What can go wrong, for the one who asked ([`EvaluateError`]), for an operation ([`OpError`])
//! and for a graph that makes no sense ([`GraphError`]).

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::vertex::VertexId;

/// Why an evaluation gave no values.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// An operation failed. The first failure ends the evaluation.
    #[error("{name}: {source}")]
    Op {
        /// The vertex, as the evaluation's own graph calls it.
        vertex: VertexId,
        /// Its name.
        name: String,
        /// What the operation said; [`OpError::downcast_ref`] gives its own type back.
        source: OpError,
    },
    /// The cancel token was set before the values were there.
    #[error("cancelled")]
    Cancelled,
    /// The graph cannot be evaluated.
    #[error("the build graph cannot be evaluated: {source}")]
    Graph {
        /// What is wrong with it.
        #[from]
        source: GraphError,
    },
    /// The engine's own task is gone: the runtime is shutting down, or it hit a bug (see the log).
    #[error("the engine has stopped; the log tells why")]
    Stopped,
}

/// What is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A vertex depends on itself.
    #[error("vertex {vertex} depends on itself")]
    Cycle {
        /// One vertex of the circle.
        vertex: VertexId,
    },
    /// An input or a target names a vertex that is not in the graph.
    #[error("vertex {vertex} is not in the graph{}", but_needed(needed_by))]
    MissingVertex {
        /// The vertex that is not there.
        vertex: VertexId,
        /// Who has it as an input; `None` if it is a target.
        needed_by: Option<VertexId>,
    },
    /// Two vertices with one id but different inputs or flags.
    #[error("vertex {vertex} is given twice, with different inputs or flags")]
    Conflict {
        /// Their id.
        vertex: VertexId,
    },
    /// A vertex has fewer outputs than an edge asks for.
    #[error("output {output} of vertex {vertex} is asked for, but it has {available}")]
    OutputOutOfRange {
        /// The vertex that makes the outputs.
        vertex: VertexId,
        /// The output asked for, from 0.
        output: u32,
        /// How many there are.
        available: usize,
    },
    /// More vertices than [`Limits::graph_vertices_max`](crate::Limits::graph_vertices_max), or
    /// more than [`Limits::graph_edges_max`](crate::Limits::graph_edges_max) edges.
    #[error("the graph has {count} {what}, the limit is {limit}")]
    TooLarge {
        /// `vertices` or `edges`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
}

fn but_needed(needed_by: &Option<VertexId>) -> String {
    needed_by.map_or_else(String::new, |vertex| format!(", but {vertex} needs it"))
}

/// The error of an operation, whatever its type. Clones share it: several evaluations may fail
/// for one reason.
#[derive(Clone)]
pub struct OpError(Arc<dyn Error + Send + Sync>);

impl OpError {
    /// Wraps an error, or a text.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }

    /// The error as its own type, if it is of that type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    pub(crate) fn panicked(message: &str) -> Self {
        Self::new(format!("the operation panicked, which is a bug: {message}"))
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Transparent: the wrapped error is this error, its source is this one's source.
impl Error for OpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_gets_its_own_error_type_back() {
        let error = OpError::new(std::io::Error::other("disk on fire"));
        assert!(error.downcast_ref::<std::io::Error>().is_some());
        assert!(error.downcast_ref::<fmt::Error>().is_none());
        assert_eq!(error.to_string(), "disk on fire");
        assert_eq!(OpError::new("a text").to_string(), "a text");
    }

    #[test]
    fn a_missing_vertex_names_who_needs_it() {
        let id = |byte| VertexId::from_bytes([byte; 32]);
        let error = GraphError::MissingVertex {
            vertex: id(1),
            needed_by: Some(id(2)),
        };
        assert!(error.to_string().contains(&id(2).to_string()));
    }
}
