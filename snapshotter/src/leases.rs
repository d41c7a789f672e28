//! Leases: what keeps things alive. They are the only roots of garbage collection.
//!
//! A lease is written in the same batch as the rows that it protects, so there is no moment in
//! which something durable is unprotected.

use store::codec::{Decoder, Encoder};
use store::{Batch, BlobId, Store, Table, Timestamp, TreeId};

use crate::error::Result;

/// Something that a lease keeps alive, with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A snapshot, its ancestors and their trees.
    Snapshot(String),
    /// A tree.
    Tree(TreeId),
    /// A blob.
    Blob(BlobId),
}

/// A named set of references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it: `image/<name>`, `record/<key>`, `build/<id>`.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it keeps.
    pub references: Vec<Reference>,
}

/// Adds or replaces a lease in a batch.
pub fn put(batch: &mut Batch, lease: &Lease) {
    let mut row = Encoder::new();
    row.signed(lease.created.seconds)
        .number(lease.created.nanoseconds.into());
    row.number(lease.references.len() as u64);
    for reference in &lease.references {
        match reference {
            Reference::Snapshot(key) => row.byte(1).string(key.as_bytes()),
            Reference::Tree(id) => row.byte(2).raw(id.as_bytes()),
            Reference::Blob(id) => row.byte(3).raw(id.as_bytes()),
        };
    }
    batch.put(Table::Lease, lease.id.as_bytes(), row.finish());
}

/// Adds the end of a lease to a batch.
pub fn delete(batch: &mut Batch, id: &str) {
    batch.delete(Table::Lease, id.as_bytes());
}

/// All leases whose ids start with `prefix`, in order.
///
/// # Errors
/// Database errors; [`store::Error::Undecodable`].
pub fn all(store: &Store, prefix: &str) -> Result<Vec<Lease>> {
    let rows = store.rows().scan(Table::Lease, prefix.as_bytes());
    rows.map(|row| {
        let (key, value) = row?;
        Ok(decode(&String::from_utf8_lossy(&key), &value)?)
    })
    .collect()
}

/// The lease of that id, if there is one.
///
/// # Errors
/// Database errors; [`store::Error::Undecodable`].
pub fn find(store: &Store, id: &str) -> Result<Option<Lease>> {
    let row = store.rows().get(Table::Lease, id.as_bytes())?;
    Ok(row.map(|row| decode(id, &row)).transpose()?)
}

/// Claims what a lease keeps, so that it stays for all work under way if the lease goes meanwhile.
///
/// # Errors
/// Database errors; [`store::Error::Undecodable`].
pub fn claim(store: &Store, id: &str) -> Result<()> {
    let mut claimed = None;
    loop {
        let row = store.rows().get(Table::Lease, id.as_bytes())?;
        // What is claimed stays if the lease was there afterwards.
        if row == claimed {
            return Ok(());
        }
        if let Some(row) = &row {
            for reference in decode(id, row)?.references {
                match reference {
                    Reference::Snapshot(key) => store.claim_snapshot(&key),
                    Reference::Tree(id) => store.claim_tree(id),
                    Reference::Blob(id) => store.claim_blobs([id]),
                }
            }
        }
        claimed = row;
    }
}

/// Reads what [`put`] wrote.
pub(crate) fn decode(id: &str, bytes: &[u8]) -> store::Result<Lease> {
    let mut row = Decoder::new("lease", bytes);
    let created = Timestamp {
        seconds: row.signed()?,
        nanoseconds: row.number_u32()?,
    };
    let mut references = Vec::new();
    for _ in 0..row.number()? {
        references.push(match row.byte()? {
            1 => Reference::Snapshot(String::from_utf8_lossy(row.string()?).into_owned()),
            2 => Reference::Tree(TreeId::from_bytes(row.id()?)),
            3 => Reference::Blob(BlobId::from_bytes(row.id()?)),
            _ => return Err(row.error("it refers to something of an unknown kind")),
        });
    }
    row.finish()?;
    Ok(Lease {
        id: id.into(),
        created,
        references,
    })
}
