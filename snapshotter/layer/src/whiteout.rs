//! How a layer says that something is gone: file names with a prefix that nothing else may have.
//!
//! OCI image specification, layer.md, "Whiteouts"; the prefix and the extra names come from aufs.

/// Prefix of the name of a whiteout: `.wh.x` deletes `x` of the layers below.
pub const PREFIX: &[u8] = b".wh.";

/// Name of the mark that hides everything the layers below have in this directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// Prefix of names that aufs kept for itself; they mean nothing to anybody else.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// Directory in which aufs kept the first name of hard-linked files.
pub(crate) const AUFS_LINKS: &[u8] = b".wh..wh.plnk";

/// What a file name in a layer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning<'n> {
    /// A file, a directory, …
    Entry,
    /// The entry of this name is gone. The name may be one that no directory can hold.
    Whiteout(&'n [u8]),
    /// All entries of the directory are gone.
    Opaque,
    /// Nothing.
    Ignored,
}

/// Reads a file name of a layer.
pub fn meaning(name: &[u8]) -> Meaning<'_> {
    if name == OPAQUE {
        Meaning::Opaque
    } else if name.starts_with(AUFS_PREFIX) {
        Meaning::Ignored
    } else if let Some(gone) = name.strip_prefix(PREFIX) {
        Meaning::Whiteout(gone)
    } else {
        Meaning::Entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_meaning() {
        for (name, expected) in [
            ("a", Meaning::Entry),
            (".wh", Meaning::Entry),
            (".wha", Meaning::Entry),
            (".wh.a", Meaning::Whiteout(b"a")),
            (".wh.", Meaning::Whiteout(b"")),
            (".wh...", Meaning::Whiteout(b"..")),
            (".wh..wh..opq", Meaning::Opaque),
            (".wh..wh..opqa", Meaning::Ignored),
            (".wh..wh.plnk", Meaning::Ignored),
            (".wh..wh.aufs", Meaning::Ignored),
        ] {
            assert_eq!(meaning(name.as_bytes()), expected, "{name}");
        }
    }
}
