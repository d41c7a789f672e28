//! Content-addressed blobs and trees over RocksDB and plain object files.
//!
//! Reading order: [`id`] and [`path`] (what things are called), [`metadata`] and [`tree`] (what a
//! file system is, as a value), [`editor`] and [`delta`] (how one tree becomes another),
//! [`layout`] and [`key_value`] (where rows lie), [`objects`] and [`ingest`] (where bodies lie and
//! how they get there), [`store`] (all of it together), then [`sweep`], [`trash`] and [`fsck`].
//!
//! The crate is synchronous and knows neither containers nor networks. FORMAT.md describes the
//! bytes on disk.

mod claims;
pub mod codec;
pub mod delta;
pub mod editor;
pub mod error;
pub mod failpoint;
mod fence;
pub mod fsck;
pub mod id;
pub mod ingest;
pub mod key_value;
pub mod layout;
pub mod metadata;
pub mod objects;
pub mod path;
pub mod room;
mod root_lock;
pub mod space;
pub mod store;
pub mod sweep;
mod tally;
pub mod trash;
pub mod tree;

#[cfg(any(test, feature = "testing"))]
pub mod fixtures;

pub use claims::{Frozen, Looking, Pin, Work};
pub use delta::{Delta, DeltaDirectory, DeltaEntry, Usage, diff};
pub use editor::{Editor, Found};
pub use error::{Error, Result};
pub use id::{BlobId, ContentKey, LinkId, TreeId};
pub use ingest::{BlobWriter, Ingest};
pub use key_value::{Batch, Durability, KeyValue};
pub use layout::Table;
pub use metadata::{Metadata, Timestamp, Xattrs};
pub use objects::Objects;
pub use path::{Name, RelPath};
pub use root_lock::RootLock;
pub use store::Store;
pub use tally::{Brought, Counting, Tally};
pub use trash::Trash;
pub use tree::{Content, Entry, Leaf, Tree, TreeRef, TreeSink, TreeSource};
