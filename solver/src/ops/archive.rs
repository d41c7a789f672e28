//! `ADD archive.tar /`: local archives are unpacked in place of being copied.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use layer::{Compression, Decoder, Limits, MAGIC_BYTES};
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;
use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Editor, Entry, Found, Ingest, Leaf, Metadata,
    RelPath,
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
    let mut delta = layer::unpack_archive(open()?, blob, ingest, &Limits::default())?;
    if let Some(owner) = owner {
        change_owner(&mut delta.root, owner);
    }
    editor.make_directories(target, made)?;
    let mut extraction = Extraction {
        editor,
        target,
        implied: Metadata {
            mtime: made.mtime,
            ..Metadata::default_directory()
        },
        links: Vec::new(),
    };
    // The archive's own root says nothing about the directory that it is unpacked into.
    extraction.contents(&delta.root, target)?;
    extraction.link(ingest)?;
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

/// An archive on its way into a tree. Unlike the entries of a layer, its entries go where a process
/// in the tree would find them: directories that it does not name itself may be symbolic links.
struct Extraction<'e, 's, 'i> {
    editor: &'e mut Editor<'s, Ingest<'i>>,
    target: &'e RelPath,
    /// Attributes of directories that the archive has something in and no entry for, where there
    /// are none yet. They are root's, also where what is unpacked is not, as in BuildKit.
    implied: Metadata,
    /// Hard links to what is in the tree already: where, and to what.
    links: Vec<(RelPath, RelPath)>,
}

impl Extraction<'_, '_, '_> {
    /// Puts what a directory of the archive has into one of the tree.
    fn contents(&mut self, directory: &DeltaDirectory, path: &RelPath) -> Result<()> {
        for (name, entry) in &directory.entries {
            let path = path.join(name);
            match entry {
                DeltaEntry::Directory(child) => {
                    let path = self.directory(child, path)?;
                    self.contents(child, &path)?;
                }
                DeltaEntry::Leaf(leaf) => self.editor.insert(&path, Entry::Leaf(leaf.clone()))?,
                DeltaEntry::Graft(tree) => self.editor.insert(&path, Entry::Directory(*tree))?,
                DeltaEntry::Whiteout => {
                    self.editor.remove(&path)?;
                }
                DeltaEntry::Link(to) => {
                    let to = self.editor.resolve_within(self.target, to, false)?;
                    self.links.push((path, to));
                }
            }
        }
        Ok(())
    }

    /// Makes a directory, or finds it; tells where it is.
    fn directory(&mut self, directory: &DeltaDirectory, path: RelPath) -> Result<RelPath> {
        let Some(metadata) = &directory.metadata else {
            if directory.opaque {
                // Something else stood in the archive before.
                self.editor.insert_directory(&path, self.implied.clone())?;
                return Ok(path);
            }
            // Docker unpacks in a process that is chrooted into the target.
            let above = self.target.components().len();
            let relative: RelPath = path.components()[above..].iter().cloned().collect();
            let path = self.editor.resolve_within(self.target, &relative, true)?;
            self.editor.make_directories(&path, &self.implied)?;
            return Ok(path);
        };
        match self.editor.get(&path)? {
            Some(Found::Directory(_)) if !directory.opaque => {
                self.editor.set_metadata(&path, metadata.clone())?;
            }
            _ => self.editor.insert_directory(&path, metadata.clone())?,
        }
        Ok(path)
    }

    /// Makes the hard links, once all else is there.
    fn link(self, ingest: &Ingest<'_>) -> Result<()> {
        if self.links.is_empty() {
            return Ok(());
        }
        let mut delta = Delta::default();
        for (path, to) in self.links {
            let Some((last, above)) = path.components().split_last() else {
                continue;
            };
            let mut directory = &mut delta.root;
            for name in above {
                let entry = directory.entries.entry(name.clone());
                let entry = entry.or_insert_with(|| DeltaEntry::Directory(Default::default()));
                let DeltaEntry::Directory(child) = entry else {
                    return Err(Error::file_op(&path, "not a directory"));
                };
                directory = child;
            }
            directory.entries.insert(last.clone(), DeltaEntry::Link(to));
        }
        let base = match self.editor.entry(&RelPath::root())? {
            Some(Entry::Directory(tree)) => Some(tree),
            _ => None,
        };
        let tree = delta.apply(base, ingest)?;
        self.editor
            .insert(&RelPath::root(), Entry::Directory(tree))?;
        Ok(())
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
