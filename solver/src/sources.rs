//! Where file systems come from: local directories, image layouts, images of the store.

pub mod layout;
pub mod local;
