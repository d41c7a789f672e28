//! Workloads measured against a peer in the same run: what `benches/*.rs` share.
//!
//! A [`Workload`] says which Dockerfile is built in which context; a [`Side`] builds it with one
//! tool; [`measure`] lets the sides take turns, checks what they built and keeps the times;
//! [`report`] prints them. Everything runs inside [`confinement`], which leaves nothing behind.
//!
//! Reading order: `workload`, `measure`, `side`, `report`, `confinement`; the rest serves these.

pub mod arguments;
// The tests' own; a dependency on their package would compile and link all that it tests.
#[path = "../../tests/support/base_image.rs"]
pub mod base_image;
mod command;
pub mod confinement;
pub mod figure;
mod files;
mod image_archive;
pub mod machine;
pub mod measure;
pub mod program;
pub mod report;
pub mod side;
pub mod workload;

pub use arguments::Options;
pub use side::Side;
pub use workload::Workload;
