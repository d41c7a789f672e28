//! What can be wrong with a graph.

use crate::digest::VertexDigest;

/// Why a definition, a graph or a part of one was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no protobuf message of the expected kind.
    #[error("the LLB {what} is not a valid protobuf message")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where decoding stopped.
        #[source]
        source: prost::DecodeError,
    },
    /// More than this crate is willing to hold in memory.
    #[error("the LLB {what} is too large: {count}, the limit is {limit}")]
    TooLarge {
        /// What is counted, with its unit.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A digest is not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("invalid LLB digest {text:?}: expected sha256: and 64 hexadecimal digits")]
    InvalidDigest {
        /// What stands there instead.
        text: String,
    },
    /// A platform specifier does not follow `os[(version)][/architecture[/variant]]`.
    #[error("invalid platform {text:?}: {reason}")]
    InvalidPlatform {
        /// The specifier.
        text: String,
        /// Which part is wrong.
        reason: &'static str,
    },
    /// One operation contradicts itself.
    #[error("invalid {kind} op {digest}: {reason}")]
    InvalidOp {
        /// Which vertex.
        digest: VertexDigest,
        /// The kind of the operation.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An edge leads to a vertex that is not in the definition.
    #[error("invalid missing input digest {input} of op {vertex}")]
    MissingInput {
        /// The vertex whose input is missing.
        vertex: VertexDigest,
        /// The missing vertex.
        input: VertexDigest,
    },
    /// An edge leads to an output that its vertex does not have.
    #[error("op {vertex} reads output {output} of {input}, which has {count} outputs")]
    MissingOutput {
        /// The vertex that reads.
        vertex: VertexDigest,
        /// The vertex that is read.
        input: VertexDigest,
        /// The output that is asked for, counted from 0.
        output: u32,
        /// How many outputs there are.
        count: u32,
    },
    /// A vertex depends on itself.
    #[error("op {vertex} depends on itself")]
    Cycle {
        /// A vertex on the cycle.
        vertex: VertexDigest,
    },
    /// The last operation of a definition does not name the result.
    #[error("invalid LLB definition: {reason}")]
    InvalidTerminal {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A source location names a file that the definition does not have.
    #[error("failed to find source map with index {index} of op {vertex}")]
    MissingSourceFile {
        /// The vertex with the location.
        vertex: VertexDigest,
        /// The position that was asked for.
        index: i32,
    },
    /// The attribute of a source does not hold what its name says.
    #[error("source {identifier}: attribute {name} is invalid: {reason}")]
    InvalidAttribute {
        /// Identifier of the source.
        identifier: String,
        /// The attribute.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A builder was asked to finish a graph with a vertex that was announced and never given.
    #[error("the graph uses a deferred source that was never filled in")]
    Unfilled,
}
