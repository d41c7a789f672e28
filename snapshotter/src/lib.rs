//! From stored trees to mounted file systems.
//!
//! Reading order: [`snapshots`] (the contract), [`manager`] (the real one), [`catalog`] and
//! [`leases`] (its rows), `mounts` (a chain of snapshots becomes mounts), `images`,
//! [`metadata_image`], `link_groups`, [`checkout`] and [`marks`] (how a tree becomes a lower
//! directory), `directories` and [`capture`] (how an upper becomes a tree), [`cache_mounts`],
//! [`gc`], [`repair`] and [`restore`]; [`containers`] (the snapshots that containerd owns),
//! [`plugin`] and [`filters`] (its door).
//!
//! Storage never learns what a build is: nothing here imports the solver.

pub mod cache_mounts;
pub mod capture;
pub mod catalog;
pub mod checkout;
pub mod containers;
mod directories;
pub mod error;
pub mod filters;
pub mod gc;
mod images;
pub mod leases;
mod link_groups;
pub mod manager;
pub mod marks;
pub mod metadata_image;
mod mounts;
pub mod plugin;
pub mod repair;
pub mod restore;
pub mod snapshots;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

#[cfg(test)]
mod privileged;

pub use error::{Error, Result};
pub use images::Method;
pub use manager::{Manager, Options};
pub use marks::Marks;
pub use snapshots::{Info, Kind, Labels, Snapshots};
