//! Garbage collection of the build cache: what there is ([`survey`]), what rules let go of
//! ([`policy`]), and when that is looked at by itself ([`automatic`]).
//!
//! Equal content counts once. So what a record takes is what would come back if everything went
//! that was used longer ago than it: sizes add up to what the disk has, and collecting the least
//! recently used gives back exactly what the list promises.

pub mod automatic;
pub mod policy;
pub mod survey;

use std::collections::HashSet;

use snapshotter::Manager;
use snapshotter::gc::{self, Collected, Forgotten};
use store::Table;

use crate::cache::{self, notes};
use crate::error::Result;

use self::survey::Entry;

/// Bytes of a cache key.
const CACHE_KEY_LENGTH: usize = 32;

/// Gives up entries of the build cache and collects what nothing keeps then. A dry run changes
/// nothing and tells what would go.
///
/// # Errors
/// Those of the store.
pub fn collect(manager: &Manager, gone: &[&Entry], dry_run: bool) -> Result<Collected> {
    let names: HashSet<&str> = gone.iter().map(|entry| entry.snapshot.as_str()).collect();
    let leases: HashSet<String> = gone.iter().flat_map(|entry| entry.leases.clone()).collect();
    let mut rows = Vec::new();
    for row in manager.store().rows().scan(Table::Record, b"") {
        let (key, value) = row?;
        // What is longer is no cache key but a note.
        let is_record = key.len() == CACHE_KEY_LENGTH;
        if is_record
            && cache::decode(&value)?
                .iter()
                .any(|name| names.contains(&**name))
        {
            rows.push((Table::Record, key.to_vec()));
        }
    }
    rows.extend(names.iter().map(|name| (Table::Record, notes::key(name))));
    Ok(gc::collect_without(
        manager,
        &Forgotten {
            leases,
            rows,
            ..Forgotten::default()
        },
        dry_run,
    )?)
}
