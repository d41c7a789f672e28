//! The graph language of builds: what a frontend writes and the solver runs.
//!
//! A [`Graph`] is a set of [`Vertex`]es, each an [`Op`](op::Op) with the [`Edge`]s that it reads,
//! and one result. It comes from a [`GraphBuilder`] or from a [`Definition`], the marshalled form
//! that crosses sockets (wire-compatible with BuildKit's `pb.Definition`, so unmodified clients can
//! send one and tools can print one). Having a `Graph` means having a checked graph.
//!
//! Pure: no IO, no clock, no randomness. Not here: what operations do (`solver/src/ops`), when they
//! run (`engine`), and how a Dockerfile becomes a graph (`dockerfile`).
//!
//! Start reading at [`op`], then [`graph`](Graph).

pub mod op;

mod builder;
pub mod caps;
mod definition;
mod digest;
mod dump;
mod error;
mod graph;
mod metadata;
mod name;
mod platform;
mod vertex;
mod wire;

pub use builder::{ExecMount, ExecOutputs, FileChain, GraphBuilder, Output};
pub use definition::{DEFINITION_BYTES_MAX, Definition, OPS_MAX};
pub use digest::VertexDigest;
pub use error::Error;
pub use graph::Graph;
pub use metadata::{
    CUSTOM_NAME, LinuxResources, Location, Metadata, Position, ProgressGroup, Range, SourceFile,
};
pub use op::Op;
pub use platform::Platform;
pub use vertex::{Edge, Vertex};

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod round_trip;
