//! `ADD archive.tar /`: local archives are unpacked in place of being copied.

use std::io::Read;

use layer::{Compression, Limits};
use store::{Content, Delta, DeltaDirectory, DeltaEntry, Editor, Entry, Ingest, Leaf, RelPath};

use crate::error::{Error, Result};

/// Bytes at the start of a file that tell whether it is an archive: a tar has its magic at 257.
const PROBE_BYTES: usize = 512;

/// Unpacks `leaf` into the directory `target` of the edited tree if it is an archive that docker
/// would unpack; tells whether it was.
///
/// # Errors
/// [`Error::Layer`] for a damaged archive; [`Error::Unsupported`] for bzip2 and xz.
pub(crate) fn unpack_into(
    editor: &mut Editor<'_, Ingest<'_>>,
    leaf: &Leaf,
    target: &RelPath,
    owner: Option<(u32, u32)>,
    ingest: &Ingest<'_>,
) -> Result<bool> {
    let Content::File { blob, size } = leaf.content else {
        return Ok(false);
    };
    if size == 0 {
        return Ok(false);
    }
    let mut start = Vec::new();
    let objects = ingest.store().objects();
    let probe = objects
        .open_blob(blob)?
        .take(PROBE_BYTES as u64)
        .read_to_end(&mut start);
    probe.map_err(|e| Error::io("read", objects.path(blob), e))?;
    match Compression::detect(&start) {
        Ok(Compression::None) if !is_tar(&start) => return Ok(false),
        Ok(_) => {}
        Err(error) => {
            return Err(Error::Unsupported {
                what: format!("ADD of this archive ({error})"),
            });
        }
    }
    if layer::inspect(objects.open_blob(blob)?, &Limits::default()).is_err() && !is_tar(&start) {
        // Compressed, but no tar inside: docker copies it as it is.
        return Ok(false);
    }
    let unpacked = layer::unpack(objects.open_blob(blob)?, ingest, &Limits::default())?;
    let mut delta = below(unpacked.delta, target);
    if let Some(owner) = owner {
        change_owner(&mut delta.root, owner);
    }
    let base = editor.entry(&RelPath::root())?;
    let base = match base {
        Some(Entry::Directory(tree)) => Some(tree),
        _ => None,
    };
    let tree = delta.apply(base, ingest)?;
    editor.insert(&RelPath::root(), Entry::Directory(tree))?;
    Ok(true)
}

fn is_tar(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar")
}

/// The same change one or more directories further down.
fn below(delta: Delta, target: &RelPath) -> Delta {
    let mut root = delta.root;
    // The archive's own root says nothing about the directory that it is unpacked into.
    root.metadata = None;
    for name in target.components().iter().rev() {
        let mut parent = DeltaDirectory::default();
        parent
            .entries
            .insert(name.clone(), DeltaEntry::Directory(root));
        root = parent;
    }
    Delta { root }
}

fn change_owner(directory: &mut DeltaDirectory, (uid, gid): (u32, u32)) {
    if let Some(metadata) = &mut directory.metadata {
        (metadata.uid, metadata.gid) = (uid, gid);
    }
    for entry in directory.entries.values_mut() {
        match entry {
            DeltaEntry::Directory(child) => change_owner(child, (uid, gid)),
            DeltaEntry::Leaf(leaf) => (leaf.metadata.uid, leaf.metadata.gid) = (uid, gid),
            DeltaEntry::Whiteout | DeltaEntry::Link(_) | DeltaEntry::Graft(_) => {}
        }
    }
}
