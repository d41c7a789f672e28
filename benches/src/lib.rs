//! Workloads measured against a peer in the same run: what `benches/*.rs` share.
//!
//! Of builds (`end_to_end.rs`), a [`Workload`] says which Dockerfile is built in which context, and
//! a [`Side`] builds it with one tool. Of containers (`containerd.rs`), a [`node::Node`] is a
//! containerd with one snapshotter. Of cache mounts (`cache_mounts.rs`), varve is compared with
//! itself. Of registries (`registry.rs`), whole commands are timed. [`measure`] lets the sides take
//! turns, checks what they did and keeps the [`figure`]s; [`report`] prints them. Everything runs
//! inside [`confinement`], which leaves nothing behind.
//!
//! Reading order: `program`, `measure`, `figure`, `report`, `confinement`; then `workload` and
//! `side`, or `node`; the rest serves these.

pub mod arguments;
// The tests' own; a dependency on their package would compile and link all that it tests.
#[path = "../../tests/support/base_image.rs"]
pub mod base_image;
mod command;
pub mod confinement;
#[path = "../../tests/support/containerd_config.rs"]
pub mod containerd_config;
#[path = "../../tests/support/debian_base.rs"]
pub mod debian_base;
pub mod decompressor;
pub mod disk;
pub mod figure;
pub mod files;
mod image_archive;
pub mod images;
pub mod machine;
pub mod measure;
pub mod node;
pub mod oci_layout;
#[path = "../../tests/support/package_sources.rs"]
pub mod package_sources;
pub mod program;
pub mod registry;
pub mod report;
pub mod side;
pub mod unpackers;
pub mod workload;

pub use arguments::Options;
pub use side::Side;
pub use workload::Workload;
