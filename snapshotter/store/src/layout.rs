//! Tables and key encodings: the only code that FORMAT.md describes. A change here is a change of
//! the format: raise [`FORMAT_VERSION`], describe it there, and add a golden store.

/// The newest store format that this code reads and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Key of the format version in [`Table::Meta`]: value is a little-endian `u32`.
pub const META_FORMAT: &[u8] = b"format";

/// Key of the store's nonce in [`Table::Meta`]: value is 32 hexadecimal digits, the directory
/// below `objects/` that overlay redirects go through.
pub const META_NONCE: &[u8] = b"nonce";

/// Key of the feature flags in [`Table::Meta`]: names of additions to the format, joined by commas.
/// Absent or empty as long as there are none; a store with one that is not in [`FEATURES`] is
/// refused.
pub const META_FEATURES: &[u8] = b"features";

/// The feature flags that this code understands.
pub const FEATURES: &[&str] = &[];

/// A key space of its own: a column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Facts about the store itself.
    Meta,
    /// Tree id -> encoded tree.
    Tree,
    /// Blob id -> size (LEB128): the blobs whose object files are complete and durable.
    Blob,
    /// Snapshot key -> row of the snapshotter's catalog.
    Snapshot,
    /// Lease id -> what it keeps alive.
    Lease,
    /// Cache key -> result of a build step.
    Record,
    /// Image name -> manifest descriptor.
    Image,
    /// sha256 digest of OCI content -> blob id, size, media type.
    Content,
    /// Layer identities: chain ids, packed layers.
    Layer,
    /// Build context path -> what its file was like when it was last read.
    Context,
    /// Finished builds.
    History,
    /// Plugin name, snapshot key -> row of a snapshot that containerd owns.
    Container,
}

impl Table {
    /// Every table, in the order of FORMAT.md.
    pub const ALL: [Table; 12] = [
        Table::Meta,
        Table::Tree,
        Table::Blob,
        Table::Snapshot,
        Table::Lease,
        Table::Record,
        Table::Image,
        Table::Content,
        Table::Layer,
        Table::Context,
        Table::History,
        Table::Container,
    ];

    /// The name of the column family.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Tree => "tree",
            Table::Blob => "blob",
            Table::Snapshot => "snapshot",
            Table::Lease => "lease",
            Table::Record => "record",
            Table::Image => "image",
            Table::Content => "content",
            Table::Layer => "layer",
            Table::Context => "context",
            Table::History => "history",
            Table::Container => "container",
        }
    }
}

/// Directory of the object files, below the root of the store.
pub const OBJECTS: &str = "objects";
/// Directory of bodies being written.
pub const INGEST: &str = "ingest";
/// Directory of the database.
pub const DATABASE: &str = "db";
/// Directory of what waits to be deleted.
pub const TRASH: &str = "trash";
/// File that the owning process holds locked; it contains the owner's pid.
pub const LOCK: &str = "lock";
