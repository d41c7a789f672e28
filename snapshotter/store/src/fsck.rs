//! Verify everything: every row, every reference between rows, every byte of every object file.
//!
//! [`check`] only reads and lets ingests go on. [`repair`] keeps them away, and then takes out what
//! cannot be trusted: broken rows are deleted, bad files go to the trash. What is left is sound,
//! and what is missing is a cache miss. The rows that name broken trees and blobs belong to the
//! callers, who hand in the batch that drops them ([`Broken`]).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::claims::Looking;
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::{BlobId, ID_LENGTH, TreeId};
use crate::key_value::{Batch, Durability};
use crate::layout::{self, Table};
use crate::objects::{hash_file, read_directory};
use crate::path::Name;
use crate::store::Store;
use crate::tree::{Content, Entry, Tree, TreeRef, tree_id};

mod finding;

pub use finding::Finding;

/// How thoroughly to look, and whom to tell about it.
pub struct Options<'o> {
    /// Compare the lengths of object files only, do not read them.
    pub quick: bool,
    /// Called after each row and file, from several threads.
    pub progress: &'o (dyn Fn(Progress) + Sync),
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("quick", &self.quick)
            .finish_non_exhaustive()
    }
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Object files: bytes verified so far, of bytes in all.
    Blobs {
        /// Bytes verified.
        done: u64,
        /// Sum of the lengths in all blob rows.
        total: u64,
    },
    /// Tree rows decoded and hashed so far.
    Trees {
        /// Rows verified.
        done: u64,
    },
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that is wrong, sorted.
    pub findings: Vec<Finding>,
    /// What cannot be trusted because of it.
    pub broken: Broken,
    /// Tree rows that were looked at.
    pub trees: u64,
    /// Blob rows that were looked at.
    pub blobs: u64,
    /// Bytes of object files that were read.
    pub bytes_read: u64,
}

/// What cannot be trusted, and what a repair deletes.
///
/// A row that names one of these must go as well, and so must a row that names a tree or blob
/// which has no row at all ([`Store::has_tree`], [`Store::blob_size`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Trees that are damaged or have, anywhere below, something broken or missing.
    pub trees: BTreeSet<TreeId>,
    /// Blobs whose row or file is damaged or missing.
    pub blobs: BTreeSet<BlobId>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the store while it is in use.
///
/// # Errors
/// Errors of the database and of listing directories; what is wrong with single rows and files is
/// a [`Finding`].
pub fn check(store: &Store, options: &Options<'_>) -> Result<Report> {
    // Keeps sweeps away, which would make things disappear under the check.
    let _alone = store.claims.sweep_alone();
    let _looking = Looking::begin();
    let mut report = verify(store, options)?;
    // Files of running ingests have no rows yet, so ingests are kept away for this short part.
    let _pass = store.fence_for_sweep();
    find_strays(store, &mut report)?;
    Ok(report)
}

/// Verifies the store with nobody else ingesting and takes out what is broken. `rows` gets what
/// will be deleted and makes the batch that drops the callers' rows that name it.
///
/// # Errors
/// As [`check`]; those of `rows` (nothing is changed then); [`Error::Poisoned`].
pub fn repair<E: From<Error>>(
    store: &Store,
    options: &Options<'_>,
    rows: impl FnOnce(&Broken) -> Result<Batch, E>,
) -> Result<Report, E> {
    store.check_poison()?;
    let _alone = store.claims.sweep_alone();
    let _pass = store.fence_for_sweep();
    let mut report = verify(store, options)?;
    find_strays(store, &mut report)?;
    let mut batch = rows(&report.broken)?;
    for tree in &report.broken.trees {
        batch.delete(Table::Tree, *tree.as_bytes());
    }
    for blob in &report.broken.blobs {
        batch.delete(Table::Blob, *blob.as_bytes());
    }
    for finding in &report.findings {
        if let Finding::KeyInvalid { table, key } = finding {
            batch.delete(*table, key.clone());
        }
    }
    let written = store.write(batch, Durability::Disk);
    store.forget_trees();
    written?;
    // Rows first, files second, as in the sweep.
    store.flush_rows()?;
    for finding in &report.findings {
        match finding {
            Finding::Stray { path } => store.trash().take(path)?,
            Finding::ObjectCorrupt { blob, .. } | Finding::BlobRowDamaged { blob } => {
                let path = store.objects().path(*blob);
                if fs::symlink_metadata(&path).is_ok() {
                    store.trash().take(&path)?;
                }
            }
            _ => {}
        }
    }
    Ok(report)
}

fn verify(store: &Store, options: &Options<'_>) -> Result<Report> {
    let mut report = Report::default();
    let blobs = verify_blobs(store, options, &mut report)?;
    verify_trees(store, options, &blobs, &mut report)?;
    report.findings.sort();
    Ok(report)
}

/// The blobs that are sound, with their lengths.
fn verify_blobs(
    store: &Store,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<HashMap<BlobId, u64>> {
    let mut rows = Vec::new();
    for row in store.rows().scan(Table::Blob, b"") {
        let (key, value) = row?;
        report.blobs += 1;
        let Some(id) = id_of(&key) else {
            report.findings.push(Finding::KeyInvalid {
                table: Table::Blob,
                key,
            });
            continue;
        };
        let blob = BlobId::from_bytes(id);
        let mut row = Decoder::new("blob row", &value);
        match row.number().and_then(|size| row.finish().map(|()| size)) {
            Ok(size) => rows.push((blob, size)),
            Err(_) => {
                report.findings.push(Finding::BlobRowDamaged { blob });
                report.broken.blobs.insert(blob);
            }
        }
    }
    let verified = verify_objects(store, options, &rows);
    report.bytes_read = verified.bytes_read;
    let mut sound: HashMap<BlobId, u64> = rows.into_iter().collect();
    for (blob, finding) in verified.findings {
        sound.remove(&blob);
        report.broken.blobs.insert(blob);
        report.findings.push(finding);
    }
    Ok(sound)
}

#[derive(Default)]
struct Verified {
    findings: Vec<(BlobId, Finding)>,
    bytes_read: u64,
}

/// Compares object files with their rows, on all cores.
fn verify_objects(store: &Store, options: &Options<'_>, rows: &[(BlobId, u64)]) -> Verified {
    let total = rows.iter().map(|(_, size)| size).sum();
    let (next, done, read) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let findings = Mutex::new(Vec::new());
    let work = || {
        while let Some((blob, size)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            match verify_object(store, options.quick, *blob, *size) {
                Ok(bytes) => {
                    read.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(finding) => {
                    let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
                    findings.push((*blob, finding));
                }
            }
            let done = done.fetch_add(*size, Ordering::Relaxed) + size;
            (options.progress)(Progress::Blobs { done, total });
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let findings = findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    Verified {
        findings,
        bytes_read: read.into_inner(),
    }
}

/// The bytes that were read to find the object sound.
fn verify_object(store: &Store, quick: bool, blob: BlobId, size: u64) -> Result<u64, Finding> {
    let path = store.objects().path(blob);
    let corrupt = |reason: String| Finding::ObjectCorrupt { blob, reason };
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Finding::ObjectMissing { blob });
        }
        Err(error) => return Err(corrupt(error.to_string())),
    };
    if !found.is_file() {
        return Err(corrupt("it is no regular file".into()));
    }
    if found.len() != size {
        return Err(corrupt(format!(
            "it has {} bytes instead of {size}",
            found.len()
        )));
    }
    if quick {
        return Ok(0);
    }
    match hash_file(&path) {
        Ok((id, _)) if id == blob => Ok(size),
        Ok((id, _)) => Err(corrupt(format!("its content is that of {id}"))),
        Err(error) => Err(corrupt(error.to_string())),
    }
}

fn verify_trees(
    store: &Store,
    options: &Options<'_>,
    blobs: &HashMap<BlobId, u64>,
    report: &mut Report,
) -> Result<()> {
    let mut sound: HashMap<TreeId, TreeRef> = HashMap::new();
    for row in store.rows().scan(Table::Tree, b"") {
        let (key, value) = row?;
        report.trees += 1;
        (options.progress)(Progress::Trees { done: report.trees });
        let Some(id) = id_of(&key) else {
            report.findings.push(Finding::KeyInvalid {
                table: Table::Tree,
                key,
            });
            continue;
        };
        let tree = TreeId::from_bytes(id);
        match verify_row(tree, &value) {
            Ok(decoded) => {
                sound.insert(tree, decoded.reference().0);
            }
            Err(reason) => {
                report.findings.push(Finding::TreeDamaged { tree, reason });
                report.broken.trees.insert(tree);
            }
        }
    }
    // A second pass, now that it is known what is sound. Rows are read again rather than kept:
    // there may be more of them than memory.
    let mut parents: HashMap<TreeId, Vec<TreeId>> = HashMap::new();
    for row in store.rows().scan(Table::Tree, b"") {
        let (key, value) = row?;
        let Some(id) = id_of(&key)
            .map(TreeId::from_bytes)
            .filter(|id| sound.contains_key(id))
        else {
            continue;
        };
        let Ok(tree) = Tree::decode(&value) else {
            continue;
        };
        let before = report.findings.len();
        for (name, entry) in &tree.entries {
            if let Entry::Directory(child) = entry {
                parents.entry(child.id).or_default().push(id);
            }
            report
                .findings
                .extend(verify_entry(id, name, entry, &sound, blobs, report));
        }
        if report.findings.len() > before {
            report.broken.trees.insert(id);
        }
    }
    let mut waiting: Vec<TreeId> = report.broken.trees.iter().copied().collect();
    let mut seen: HashSet<TreeId> = waiting.iter().copied().collect();
    while let Some(tree) = waiting.pop() {
        for parent in parents.get(&tree).into_iter().flatten() {
            if seen.insert(*parent) {
                waiting.push(*parent);
                report.broken.trees.insert(*parent);
            }
        }
    }
    Ok(())
}

fn verify_row(id: TreeId, row: &[u8]) -> std::result::Result<Tree, String> {
    if tree_id(row) != id {
        return Err("it does not match its id".into());
    }
    let tree = Tree::decode(row).map_err(|error| match error {
        Error::Undecodable { reason, .. } => reason.to_owned(),
        other => other.to_string(),
    })?;
    match tree.encode() == row {
        true => Ok(tree),
        false => Err("it is not in canonical form".into()),
    }
}

fn verify_entry(
    tree: TreeId,
    name: &Name,
    entry: &Entry,
    trees: &HashMap<TreeId, TreeRef>,
    blobs: &HashMap<BlobId, u64>,
    report: &Report,
) -> Option<Finding> {
    let name = name.clone();
    match entry {
        Entry::Directory(child) => match trees.get(&child.id) {
            Some(found) if found == child => None,
            Some(_) => Some(Finding::ChildDiffers {
                tree,
                name,
                child: child.id,
            }),
            // Damaged ones are reported themselves, and break their parents further below.
            None if report.broken.trees.contains(&child.id) => None,
            None => Some(Finding::ChildMissing {
                tree,
                name,
                child: child.id,
            }),
        },
        Entry::Leaf(leaf) => match leaf.content {
            Content::File { blob, size } => match blobs.get(&blob) {
                Some(found) if *found == size => None,
                Some(_) => Some(Finding::SizeDiffers { tree, name, blob }),
                None => Some(Finding::BlobUnknown { tree, name, blob }),
            },
            _ => None,
        },
    }
}

fn find_strays(store: &Store, report: &mut Report) -> Result<()> {
    let mut named = HashSet::new();
    for row in store.rows().scan(Table::Blob, b"") {
        named.extend(id_of(&row?.0).map(BlobId::from_bytes));
    }
    let findings = &mut report.findings;
    store.objects().each(|id, path, _| {
        // What has a row is judged by its row.
        if id.is_none_or(|id| !named.contains(&id)) {
            findings.push(Finding::Stray { path });
        }
        Ok(())
    })?;
    for path in read_directory(&store.root().join(layout::INGEST))? {
        findings.push(Finding::Stray { path });
    }
    findings.sort();
    Ok(())
}

fn id_of(key: &[u8]) -> Option<[u8; ID_LENGTH]> {
    key.try_into().ok()
}

#[cfg(test)]
mod tests;
