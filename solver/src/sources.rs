//! Where file systems come from: local directories, image layouts, registries.

pub mod layout;
pub mod local;
pub mod registry;
pub(crate) mod spool;
