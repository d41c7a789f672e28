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
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

/// What containerd says to its plugins, and they to it.
pub mod containerd {
    /// Mounts and descriptors (`protos/containerd/types`, package `containerd.types`).
    pub mod types {
        #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
        include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
    }

    /// The services of plugins.
    pub mod services {
        /// Snapshots (`protos/containerd/services/snapshots`).
        pub mod snapshots {
            /// Package `containerd.services.snapshots.v1`.
            pub mod v1 {
                #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.snapshots.v1.rs"
                ));
            }
        }

        /// Layers to snapshots and back (`protos/containerd/services/diff`).
        pub mod diff {
            /// Package `containerd.services.diff.v1`.
            pub mod v1 {
                #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
                include!(concat!(env!("OUT_DIR"), "/containerd.services.diff.v1.rs"));
            }
        }
    }
}

/// What varve's own programs say to each other.
pub mod varve {
    /// What a daemon is doing (`protos/varve/debug`).
    pub mod debug {
        /// Package `varve.debug.v1`.
        pub mod v1 {
            #![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]
            include!(concat!(env!("OUT_DIR"), "/varve.debug.v1.rs"));
        }
    }
}
