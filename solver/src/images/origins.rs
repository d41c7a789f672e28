//! Where layers were pulled from or pushed to: whoever pushes one to another repository of that
//! registry can have it mounted there, and one that is missing here can be fetched again.

use store::codec::{Decoder, Encoder};
use store::{Batch, Store, Table};

use crate::content::Digest;
use crate::error::Result;

/// Repositories that are remembered of one layer, the latest first.
const ORIGINS_MAX: usize = 8;

fn key(layer: Digest) -> Vec<u8> {
    [b"origin/", &layer.as_bytes()[..]].concat()
}

/// The repositories that have a layer as far as is known: `docker.io/library/busybox`.
///
/// # Errors
/// Database errors; a broken row.
pub(crate) fn of(store: &Store, layer: Digest) -> Result<Vec<String>> {
    let Some(row) = store.rows().get(Table::Layer, &key(layer))? else {
        return Ok(Vec::new());
    };
    let mut row = Decoder::new("origin row", &row);
    let mut origins = Vec::new();
    for _ in 0..row.number()? {
        origins.push(String::from_utf8_lossy(row.string()?).into_owned());
    }
    row.finish()?;
    Ok(origins)
}

/// Adds to a batch that a repository has a layer.
///
/// # Errors
/// Database errors; a broken row.
pub(crate) fn note(store: &Store, batch: &mut Batch, layer: Digest, origin: &str) -> Result<()> {
    let mut origins = of(store, layer)?;
    if origins.first().is_some_and(|first| first == origin) {
        return Ok(());
    }
    origins.retain(|known| known != origin);
    origins.insert(0, origin.to_owned());
    origins.truncate(ORIGINS_MAX);
    let mut row = Encoder::new();
    row.number(origins.len() as u64);
    for origin in &origins {
        row.string(origin.as_bytes());
    }
    batch.put(Table::Layer, key(layer), row.finish());
    Ok(())
}
