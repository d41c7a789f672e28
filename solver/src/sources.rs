//! Where file systems come from: local directories, image layouts, registries, repositories.

pub mod layout;
pub mod local;
pub mod registry;
pub mod remote;
pub(crate) mod spool;
