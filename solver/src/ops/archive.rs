//! `ADD archive.tar /`: local archives are unpacked in place of being copied.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use layer::{Compression, Decoder, Limits, MAGIC_BYTES};
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;
use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Editor, Entry, Found, Ingest, Leaf, Metadata,
    RelPath, Timestamp,
};

use crate::error::{Error, Result};

/// Length of the header of a tar's entry in bytes.
const HEADER_BYTES: usize = 512;

/// Memory for one xz decoder in bytes. The highest preset, `xz -9`, needs 65 MiB; a hostile header
/// may claim 4 GiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;

/// Unpacks `leaf` into the directory `target` of the edited tree if it is an archive that docker
/// would unpack; tells whether it was. What is missing of `target` is made, as `made` says.
///
/// # Errors
/// [`Error::Layer`] for a damaged archive.
pub(crate) fn unpack_into(
    editor: &mut Editor<'_, Ingest<'_>>,
    leaf: &Leaf,
    (target, made): (&RelPath, &Metadata),
    owner: Option<(u32, u32)>,
    ingest: &Ingest<'_>,
) -> Result<bool> {
    let Content::File { blob, size } = leaf.content else {
        return Ok(false);
    };
    if size == 0 {
        return Ok(false);
    }
    let objects = ingest.store().objects();
    let open = || -> Result<Box<dyn Read + Send>> {
        let failed = |error| Error::io("read", objects.path(blob), error);
        decoded(BufReader::new(objects.open_blob(blob)?)).map_err(failed)
    };
    if !starts_with_header(open()?) {
        return Ok(false);
    }
    if let Some(Found::Leaf(_)) = editor.get(target)? {
        return Err(Error::file_op(target, "not a directory"));
    }
    let unpacked = layer::unpack(open()?, ingest, &Limits::default())?;
    editor.make_directories(target, made)?;
    make_implied(editor, &unpacked.delta.root, target, made.mtime)?;
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

/// The bytes of a file without the compression that it may have. The first read of the input gives
/// at least [`MAGIC_BYTES`], if there are as many.
pub(crate) fn decoded<'r>(
    mut input: impl BufRead + Send + 'r,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let start = input.fill_buf()?;
    let start = &start[..start.len().min(MAGIC_BYTES)];
    Ok(match Compression::detect(start) {
        Ok(compression) => Box::new(Decoder::new(compression, input)?),
        // What layers cannot have.
        Err(_) if start.starts_with(b"BZh") => Box::new(MultiBzDecoder::new(input)),
        Err(_) => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, liblzma::stream::CONCATENATED);
            Box::new(XzDecoder::new_stream(input, stream?))
        }
    })
}

/// Whether bytes begin as something compressed that [`decoded`] understands.
pub(crate) fn is_compressed(start: &[u8]) -> bool {
    let start = &start[..start.len().min(MAGIC_BYTES)];
    !matches!(Compression::detect(start), Ok(Compression::None))
}

/// Whether a tar starts here, which docker too finds out by the header of its first entry.
fn starts_with_header(input: impl Read) -> bool {
    let mut header = Vec::new();
    // What cannot be decompressed is copied as it is.
    let read = input.take(HEADER_BYTES as u64).read_to_end(&mut header);
    read.is_ok() && is_tar(&header)
}

/// Whether bytes begin with the header of a tar's entry.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    let Some(header) = start.get(..HEADER_BYTES) else {
        return false;
    };
    let claimed = tar::Header::from_byte_slice(header).cksum();
    let bytes = header.iter().enumerate().map(|(at, byte)| match at {
        // The field itself counts as spaces.
        148..156 => u32::from(b' '),
        _ => u32::from(*byte),
    });
    claimed.is_ok_and(|claimed| claimed == bytes.sum::<u32>()) && header != [0; HEADER_BYTES]
}

/// The same change one or more directories further down.
fn below(delta: Delta, target: &RelPath) -> Delta {
    let mut root = delta.root;
    move_links(&mut root, target);
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

/// Makes the directories that the archive has something in and no entry for. They are root's, also
/// where what is unpacked is not, as in BuildKit.
fn make_implied(
    editor: &mut Editor<'_, Ingest<'_>>,
    directory: &DeltaDirectory,
    path: &RelPath,
    mtime: Timestamp,
) -> Result<()> {
    for (name, entry) in &directory.entries {
        let DeltaEntry::Directory(child) = entry else {
            continue;
        };
        let path = path.join(name);
        let is_implied = child.metadata.is_none();
        if is_implied && editor.get(&path)?.is_none() {
            let made = Metadata {
                mtime,
                ..Metadata::default_directory()
            };
            editor.insert_directory(&path, made)?;
        }
        make_implied(editor, child, &path, mtime)?;
    }
    Ok(())
}

/// What hard links of the archive point to lies where it is unpacked, as it would with tar(1).
fn move_links(directory: &mut DeltaDirectory, target: &RelPath) {
    for entry in directory.entries.values_mut() {
        match entry {
            DeltaEntry::Directory(child) => move_links(child, target),
            DeltaEntry::Link(path) => {
                let names = target.components().iter().chain(path.components());
                *path = names.cloned().collect();
            }
            DeltaEntry::Leaf(_) | DeltaEntry::Whiteout | DeltaEntry::Graft(_) => {}
        }
    }
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
