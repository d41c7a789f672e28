//! Compiles our own .proto text to Rust with a compiler written in Rust, so that no `protoc` has
//! to be installed.

use std::error::Error;

/// Every file that is compiled, relative to `protos/`.
const FILES: [&str; 5] = [
    "pb/ops.proto",
    "containerd/types/types.proto",
    "containerd/services/snapshots/v1/snapshots.proto",
    "containerd/services/diff/v1/diff.proto",
    "varve/debug/v1/debug.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=protos");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["protos"])?;
    let services = std::env::var_os("CARGO_FEATURE_SERVICES").is_some();
    // BTreeMap: digests of the graph language are taken over marshalled messages, so the order of
    // map entries must not depend on a hash seed.
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
