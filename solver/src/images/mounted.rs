//! Images that are mounted for a person, until they are unmounted.

/// Label of a view: the absolute path of the directory on which it is mounted.
pub const DIRECTORY: &str = "varve/mount.directory";
