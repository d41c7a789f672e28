//! What a context's files were like when they were last read: one row a directory.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use store::codec::{Decoder, Encoder};
use store::{Batch, BlobId, Durability, Name, Store, Table};

use super::now_nanoseconds;
use crate::error::Result;

/// A file that changed this recently may change again within the same tick of the clock that the
/// kernel stamps files with (up to 10 ms): it is read again next time.
const UNSETTLED_NANOSECONDS: i128 = 20_000_000;

/// Version byte of a row.
const ROW_VERSION: u8 = 1;

/// By what an unchanged file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) size: u64,
    device: u64,
    inode: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Identity {
    pub(super) fn of(found: &Metadata) -> Self {
        Identity {
            size: found.len(),
            device: found.dev(),
            inode: found.ino(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// The rows of one context directory.
pub(super) struct Memory<'s> {
    store: &'s Store,
    prefix: [u8; 16],
    opened: i128,
}

impl<'s> Memory<'s> {
    pub(super) fn open(store: &'s Store, context: &Path) -> Self {
        let digest = blake3::hash(context.as_os_str().as_bytes());
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&digest.as_bytes()[..16]);
        Memory {
            store,
            prefix,
            opened: now_nanoseconds(),
        }
    }

    /// Removes all rows.
    pub(super) fn forget(&self) -> Result<()> {
        let mut batch = Batch::new();
        for row in self.store.rows().scan(Table::Context, &self.prefix) {
            batch.delete(Table::Context, row?.0);
        }
        Ok(self.store.write(batch, Durability::Process)?)
    }

    fn key(&self, below: &str) -> Vec<u8> {
        [&self.prefix[..], below.as_bytes()].concat()
    }

    /// The known files of a directory of the context. A row that cannot be read knows nothing.
    pub(super) fn directory(&self, below: &str) -> Result<BTreeMap<Name, (Identity, BlobId)>> {
        let read = || self.store.rows().get(Table::Context, &self.key(below));
        let row = read()?;
        let known = row.as_deref().and_then(|row| decode(row).ok());
        let known = known.unwrap_or_default();
        // A collection deletes these rows before it deletes blobs: what was claimed while the row
        // was still there stays.
        let blobs = known.values().map(|(_, blob)| *blob);
        self.store.claim_blobs(blobs);
        match read()? == row {
            true => Ok(known),
            false => Ok(BTreeMap::new()),
        }
    }

    /// Whether the file has been the same for long enough to be known by its times. It must not
    /// have changed while it was read, either.
    pub(super) fn is_settled(&self, path: &Path, identity: &Identity) -> bool {
        let changed = i128::from(identity.ctime.0) * 1_000_000_000 + i128::from(identity.ctime.1);
        changed + UNSETTLED_NANOSECONDS < self.opened
            && std::fs::symlink_metadata(path).is_ok_and(|now| Identity::of(&now) == *identity)
    }

    /// Adds the row of a directory to a batch.
    pub(super) fn remember(
        &self,
        below: &str,
        files: &[(Name, Identity, BlobId)],
        batch: &mut Batch,
    ) {
        let mut row = Encoder::new();
        row.byte(ROW_VERSION).number(files.len() as u64);
        for (name, identity, blob) in files {
            row.string(name.as_bytes()).number(identity.size);
            row.number(identity.device).number(identity.inode);
            for (seconds, nanoseconds) in [identity.mtime, identity.ctime] {
                row.signed(seconds).signed(nanoseconds);
            }
            row.raw(blob.as_bytes());
        }
        batch.put(Table::Context, self.key(below), row.finish());
    }
}

fn decode(bytes: &[u8]) -> store::Result<BTreeMap<Name, (Identity, BlobId)>> {
    let mut row = Decoder::new("context row", bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let mut files = BTreeMap::new();
    for _ in 0..row.number()? {
        let name = Name::new(row.string()?)?;
        let identity = Identity {
            size: row.number()?,
            device: row.number()?,
            inode: row.number()?,
            mtime: (row.signed()?, row.signed()?),
            ctime: (row.signed()?, row.signed()?),
        };
        files.insert(name, (identity, BlobId::from_bytes(row.id()?)));
    }
    row.finish()?;
    Ok(files)
}
