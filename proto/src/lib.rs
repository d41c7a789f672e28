//! Everything that crosses a socket: protobuf messages generated from our own .proto text.
//!
//! One module per proto package; their documentation is the text in `protos/`. Maps are
//! `BTreeMap`s, so marshalling a message twice gives the same bytes. Nothing here checks anything:
//! a crate that reads such messages turns them into its own types in one module (`llb::wire`).

/// The graph language of builds (`protos/pb/ops.proto`, package `pb`).
///
/// Digests of the language are taken over marshalled [`Op`](pb::Op)s. Marshalling agrees with Go's
/// deterministic one byte by byte, except that a map entry with an empty value is written without
/// its value here; both sides read both forms.
pub mod pb {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}
