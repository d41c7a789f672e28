//! One vertex of a checked graph, and the edges between vertices.

use std::sync::Arc;

use crate::digest::VertexDigest;
use crate::metadata::Metadata;
use crate::op::{InputIndex, Op};
use crate::platform::Platform;
use crate::wire;

/// An output of a vertex, as others read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The vertex.
    pub vertex: VertexDigest,
    /// Which of its outputs, counted from 0.
    pub output: u32,
}

/// One operation with all that is known of it.
///
/// A vertex exists only as a part of a checked [`Graph`](crate::Graph): the positions that its
/// operation speaks of lie within [`inputs`](Self::inputs).
#[derive(Debug, Clone, PartialEq)]
pub struct Vertex {
    pub(crate) digest: VertexDigest,
    pub(crate) marshalled: Arc<[u8]>,
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Edge>,
    pub(crate) platform: Option<Platform>,
    pub(crate) worker_filters: Vec<String>,
    pub(crate) metadata: Metadata,
}

impl Vertex {
    /// Its name: sha256 of [`marshalled`](Self::marshalled).
    pub fn digest(&self) -> VertexDigest {
        self.digest
    }

    /// The marshalled operation, byte by byte as it was received.
    pub fn marshalled(&self) -> &[u8] {
        &self.marshalled
    }

    /// What makes two operations the same work, whatever they read: the marshalled operation
    /// without its inputs and without what must not change a result (proxy settings, addresses of
    /// extra hosts). Stable: its bytes are those of the wire format.
    pub fn key_bytes(&self) -> Vec<u8> {
        let mut op = self.op.clone();
        if let Op::Exec(exec) = &mut op {
            exec.proxy = None;
            exec.extra_hosts.iter_mut().for_each(|host| host.ip.clear());
        }
        let parts = wire::Parts {
            op: &op,
            inputs: &self.inputs,
            platform: self.platform.as_ref(),
            worker_filters: &self.worker_filters,
        };
        wire::marshal_without_inputs(&parts)
    }

    /// What it does.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// What it reads. Operations speak of these by position.
    pub fn inputs(&self) -> &[Edge] {
        &self.inputs
    }

    /// The input at a position. It exists: the graph was checked.
    pub fn input(&self, index: InputIndex) -> Edge {
        self.inputs[index.position()]
    }

    /// What it runs for; `None` where that makes no difference.
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// Filters in containerd's syntax that a worker must satisfy.
    pub fn worker_filters(&self) -> &[String] {
        &self.worker_filters
    }

    /// What is known of it beside what it does.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}
