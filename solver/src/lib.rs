//! Binds the engine, the operations and the storage into a build service.
//!
//! Reading order: [`build`] (one request from beginning to end), [`request`] (what is asked),
//! [`frontend`] (Dockerfile to graph), `ops` (what the engine runs), [`cache`] (what is
//! remembered), [`sources`], [`images`] and [`content`] (what comes in), [`exporters`] (what goes
//! out), [`progress`] (what a person sees), [`exec_mounts`] and [`executing`] (the container
//! runtime on mounts).

pub mod agents;
mod archives;
pub mod build;
pub mod cache;
mod cache_mounts;
pub mod content;
pub mod error;
pub mod exec_mounts;
pub mod executing;
pub mod exporters;
pub mod foreign;
pub mod frontend;
pub mod gc;
pub mod history;
pub mod images;
mod ops;
pub mod progress;
pub mod request;
pub mod result;
pub mod secrets;
pub mod sources;

pub use build::{BuildFailure, Pull, ReadyContainer, RunImage, RunOptions, Solver, Volume};
pub use engine::CancelToken;
pub use error::{Error, Result};
