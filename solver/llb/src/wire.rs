//! Wire form ↔ domain types. The only user of `proto::pb` in this crate.
//!
//! Encoding is deterministic: fields in the order of their numbers, map entries in the order of
//! their keys. Decoding checks everything that concerns one operation alone; edges between
//! operations are checked by [`Graph`](crate::Graph).

mod decode;
mod encode;

use std::sync::Arc;

use prost::Message;
use proto::pb;

use crate::definition::{Definition, OPS_MAX};
use crate::digest::VertexDigest;
use crate::error::Error;
use crate::op::Op;
use crate::platform::Platform;
use crate::vertex::{Edge, Vertex};

pub(crate) use self::decode::unmarshal_vertex;

/// What is marshalled of a vertex.
pub(crate) struct Parts<'a> {
    pub(crate) op: &'a Op,
    pub(crate) inputs: &'a [Edge],
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) worker_filters: &'a [String],
}

/// Marshals one operation.
pub(crate) fn marshal(parts: &Parts<'_>) -> Arc<[u8]> {
    encode::op(parts).encode_to_vec().into()
}

/// Marshals one operation as if it read nothing. Positions still count as if it did.
pub(crate) fn marshal_without_inputs(parts: &Parts<'_>) -> Vec<u8> {
    let mut message = encode::op(parts);
    message.inputs.clear();
    message.encode_to_vec()
}

/// Marshals the terminal operation: no kind, one input.
pub(crate) fn marshal_terminal(result: Edge) -> Arc<[u8]> {
    let inputs = vec![encode::input(result)];
    pb::Op {
        inputs,
        ..pb::Op::default()
    }
    .encode_to_vec()
    .into()
}

/// Reads the terminal operation. BuildKit looks at the first input only, and so do we.
pub(crate) fn unmarshal_terminal(marshalled: &[u8]) -> Result<Edge, Error> {
    let op = decode::message(marshalled)?;
    if op.op.is_some() {
        return Err(Error::InvalidTerminal {
            reason: "the last op is not terminal: it has a kind",
        });
    }
    let Some(input) = op.inputs.into_iter().next() else {
        return Err(Error::InvalidTerminal {
            reason: "no inputs on last vertex",
        });
    };
    decode::input(VertexDigest::of(marshalled), "terminal", &input)
}

pub(crate) fn definition_from_bytes(bytes: &[u8]) -> Result<Definition, Error> {
    let message = pb::Definition::decode(bytes).map_err(|source| Error::Malformed {
        what: "definition",
        source,
    })?;
    Definition::try_from(message)
}

pub(crate) fn definition_to_bytes(definition: &Definition) -> Vec<u8> {
    pb::Definition::from(definition).encode_to_vec()
}

impl TryFrom<pb::Definition> for Definition {
    type Error = Error;

    /// Takes over a definition that came inside another message.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`OPS_MAX`], [`Error::MissingSourceFile`] for a location in a
    /// file that is not there.
    fn try_from(message: pb::Definition) -> Result<Self, Error> {
        let count = message.def.len();
        if count > OPS_MAX {
            return Err(Error::TooLarge {
                what: "definition (ops)",
                count,
                limit: OPS_MAX,
            });
        }
        let mut definition = Definition {
            ops: message.def.into_iter().map(Arc::from).collect(),
            ..Definition::default()
        };
        for (digest, known) in message.metadata {
            // BuildKit reserves keys that are no digest for later; they concern no vertex.
            if let Ok(digest) = digest.parse() {
                definition.metadata.insert(digest, decode::metadata(known));
            }
        }
        let Some(source) = message.source else {
            return Ok(definition);
        };
        for info in source.infos {
            definition.files.push(decode::source_file(info)?);
        }
        for (digest, locations) in source.locations {
            let Ok(digest) = digest.parse() else { continue };
            let found = decode::locations(digest, locations, definition.files.len())?;
            if !found.is_empty() {
                definition.metadata.entry(digest).or_default().locations = found;
            }
        }
        Ok(definition)
    }
}

impl From<&Definition> for pb::Definition {
    fn from(definition: &Definition) -> Self {
        encode::definition(definition)
    }
}

/// Turns a vertex's parts into a vertex with its digest and bytes.
pub(crate) fn vertex(
    op: Op,
    inputs: Vec<Edge>,
    platform: Option<Platform>,
    worker_filters: Vec<String>,
) -> Vertex {
    let parts = Parts {
        op: &op,
        inputs: &inputs,
        platform: platform.as_ref(),
        worker_filters: &worker_filters,
    };
    let marshalled = marshal(&parts);
    let digest = VertexDigest::of(&marshalled);
    let metadata = crate::metadata::Metadata::default();
    Vertex {
        digest,
        marshalled,
        op,
        inputs,
        platform,
        worker_filters,
        metadata,
    }
}
