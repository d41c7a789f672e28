//! Compiles our own .proto text to Rust with a compiler written in Rust, so that no `protoc` has
//! to be installed.

use std::error::Error;

/// Every file that is compiled, relative to `protos/`.
const FILES: [&str; 1] = ["pb/ops.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=protos");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["protos"])?;
    // BTreeMap: digests of the graph language are taken over marshalled messages, so the order of
    // map entries must not depend on a hash seed.
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
