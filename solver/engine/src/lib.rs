//! Incremental evaluation of a graph of operations.
//!
//! The engine is given vertices (an operation and the edges it reads) and the edges that somebody
//! wants, and answers with their values: from the cache where a key says so, by running operations
//! in parallel where not. It knows no container, no LLB and no workspace crate: a value is any
//! `V: Clone`, an operation is any [`Op`].
//!
//! Reading order: [`vertex`] (what is evaluated), [`cache_key`] and [`cache_store`] (what is
//! remembered), [`progress`] (what a person sees), `graph` (what is refused), then the heart:
//! `scheduler` decides (`apply(event) -> actions`, no IO), with the states in `state`, the jobs in
//! `job` and the rule for equal work in `merge`; [`driver`] does what it decides. `DESIGN.md`
//! tells why it is so and what it costs.

pub mod cache_key;
pub mod cache_store;
pub mod cancel;
pub mod driver;
pub mod error;
mod graph;
mod job;
mod merge;
pub mod progress;
mod scheduler;
#[cfg(any(test, feature = "testing"))]
pub mod simulation;
mod state;
pub mod vertex;

pub use cache_key::{CacheKey, CacheKeyBuilder};
pub use cache_store::{CacheStore, CacheStoreError};
pub use cancel::CancelToken;
pub use driver::Engine;
pub use error::{EvaluateError, GraphError, OpError};
pub use futures::future::BoxFuture;
pub use job::Limits;
pub use progress::{
    CacheHit, Completion, Listener, OpOutput, OutputSink, OutputStream, Silent, VertexInfo,
    VertexProgress,
};
pub use vertex::{Edge, Op, OpContext, Vertex, VertexId};
