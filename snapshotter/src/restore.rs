//! Contents that are lost or damaged come back from other copies: plain files, and layers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use layer::{Compression, Limits, MAGIC_BYTES};
use store::fsck::Broken;
use store::{Batch, BlobId, Content, DeltaDirectory, DeltaEntry, Ingest, Store};

use crate::error::{Error, Result};

/// Where a tar says that it is one (POSIX `ustar` and GNU's variant).
const TAR_MAGIC: (u64, &[u8]) = (257, b"ustar");

/// Brings back what is broken from the files below `source`, each of which may be a lost content
/// itself, or a layer (tar, plain, gzip or zstd) that has one. Bytes are taken by their digest
/// alone, so nothing wrong can come in. What was brought back is taken out of `broken`; how much
/// that was.
///
/// Files that cannot be read are no copies. Symbolic links are not followed.
///
/// # Errors
/// `source` cannot be listed; those of the store.
pub fn restore(store: &Store, broken: &mut Broken, source: &Path) -> Result<usize> {
    let before = broken.blobs.len();
    let mut rest = vec![source.to_owned()];
    while let Some(path) = rest.pop()
        && !broken.blobs.is_empty()
    {
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != source => continue,
            found => found.map_err(|e| Error::io("stat", &path, e))?,
        };
        if found.is_dir() {
            rest.extend(entries(&path)?);
        } else if found.is_file() {
            try_file(store, &mut broken.blobs, &path)?;
        }
    }
    Ok(before - broken.blobs.len())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(directory).map_err(|e| Error::io("list", directory, e))?;
    let paths = listing.map(|entry| Ok(entry?.path()));
    paths
        .collect::<io::Result<_>>()
        .map_err(|e| Error::io("list", directory, e))
}

fn try_file(store: &Store, wanted: &mut BTreeSet<BlobId>, path: &Path) -> Result<()> {
    let found = match contents(path) {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "no copy");
            return Ok(());
        }
    };
    let found: BTreeSet<BlobId> = found.intersection(wanted).copied().collect();
    if found.is_empty() {
        return Ok(());
    }
    let ingest = store.begin();
    for blob in &found {
        // What is there would be taken for what it should be.
        let object = store.objects().path(*blob);
        if fs::symlink_metadata(&object).is_ok() {
            store.trash().take(&object)?;
        }
    }
    let taken = take(path, &found, &ingest);
    match taken {
        Ok(()) => {
            ingest.commit(Batch::new())?;
            wanted.retain(|blob| !found.contains(blob));
            Ok(())
        }
        Err(Error::Store(error)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a copy changed while it was read");
            Ok(())
        }
    }
}

/// What a file is, or has.
fn contents(path: &Path) -> Result<BTreeSet<BlobId>> {
    let failed = |e| Error::io("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file).map_err(failed)?;
    let mut found = BTreeSet::from([BlobId::from_bytes(*hasher.finalize().as_bytes())]);
    if is_layer(&mut file).map_err(failed)? {
        file.rewind().map_err(failed)?;
        // A damaged layer has nothing to give.
        let inspected = layer::inspect(file, &Limits::default())?;
        collect(&inspected.delta.root, &mut found);
    }
    Ok(found)
}

fn is_layer(file: &mut File) -> io::Result<bool> {
    let mut start = [0; MAGIC_BYTES];
    file.rewind()?;
    let read = file.read(&mut start)?;
    match Compression::detect(&start[..read]) {
        Ok(Compression::None) => {
            let (offset, magic) = TAR_MAGIC;
            let mut found = vec![0; magic.len()];
            file.seek(io::SeekFrom::Start(offset))?;
            Ok(file.read(&mut found)? == magic.len() && found == magic)
        }
        Ok(_) => Ok(true),
        Err(_) => Ok(false),
    }
}

fn collect(directory: &DeltaDirectory, found: &mut BTreeSet<BlobId>) {
    let mut rest = vec![directory];
    while let Some(directory) = rest.pop() {
        for entry in directory.entries.values() {
            match entry {
                DeltaEntry::Directory(below) => rest.push(below),
                DeltaEntry::Leaf(leaf) => {
                    if let Content::File { blob, .. } = leaf.content {
                        found.insert(blob);
                    }
                }
                DeltaEntry::Whiteout | DeltaEntry::Link(_) | DeltaEntry::Graft(_) => {}
            }
        }
    }
}

/// Stores what was found in a file.
fn take(path: &Path, found: &BTreeSet<BlobId>, ingest: &Ingest<'_>) -> Result<()> {
    let (blob, _) = ingest.copy(path)?;
    if found.len() == 1 && found.contains(&blob) {
        return Ok(());
    }
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    layer::unpack(file, ingest, &Limits::default())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use store::fixtures::{file, memory_store};
    use store::fsck::{self, Options};

    use super::*;

    const QUIET: Options<'static> = Options {
        quick: false,
        progress: &|_| {},
    };

    /// A store with three contents, of which two were damaged.
    fn damaged(root: &Path) -> Store {
        let store = memory_store(root);
        let ingest = store.begin();
        let ids = ["first", "second", "third"].map(|text| ingest.put_blob(text.as_bytes()));
        let ids = ids.map(Result::unwrap);
        ingest.commit(Batch::new()).unwrap();
        fs::remove_file(store.objects().path(ids[0])).unwrap();
        let path = store.objects().path(ids[1]);
        fs::remove_file(&path).unwrap();
        fs::write(path, "SECOND").unwrap();
        store
    }

    #[test]
    fn lost_contents_come_back_from_files_and_from_layers() {
        let root = tempfile::tempdir().unwrap();
        let store = damaged(&root.path().join("root"));
        let source = root.path().join("source");
        fs::create_dir_all(source.join("a/b")).unwrap();
        fs::write(source.join("a/b/plain"), "first").unwrap();
        fs::write(source.join("other"), "something else").unwrap();
        fs::write(source.join("cut off"), [0x1f, 0x8b, 8, 0]).unwrap();
        let mut broken = fsck::check(&store, &QUIET).unwrap().broken;
        assert_eq!(broken.blobs.len(), 2);
        assert_eq!(restore(&store, &mut broken, &source).unwrap(), 1);

        // Packed by our own hands, from another store.
        let other = memory_store(&root.path().join("other"));
        let ingest = other.begin();
        let model = store::fixtures::model([("file", store::Found::Leaf(file(b"second")))]);
        ingest.put_blob(b"second").unwrap();
        let tree = store::fixtures::store_model(&model, &ingest).unwrap();
        let delta = store::diff(None, tree, &ingest).unwrap();
        let encoding = layer::Encoding::new(Compression::Gzip, None).unwrap();
        let options = layer::PackOptions {
            clamp_mtime: None,
            below: layer::Below::Nothing,
        };
        let mut packed = Vec::new();
        let objects = other.objects();
        layer::pack_layer(&delta, &ingest, objects, &options, encoding, &mut packed).unwrap();
        fs::write(source.join("layer"), &packed).unwrap();
        assert_eq!(restore(&store, &mut broken, &source).unwrap(), 1);
        assert_eq!(broken.blobs.len(), 0);
        assert_eq!(
            fsck::check(&store, &QUIET).unwrap().broken,
            Broken::default()
        );
    }

    #[test]
    fn a_source_that_is_not_there_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let store = damaged(&root.path().join("root"));
        let mut broken = fsck::check(&store, &QUIET).unwrap().broken;
        restore(&store, &mut broken, Path::new("/nowhere")).unwrap_err();
    }
}
