//! Object files: one plain file for each blob, which the kernel reads without us.
//!
//! `objects/<nonce>/ab/cdef…` holds the blob whose id is `abcdef…`. A file there that a row names
//! is complete and immutable; its mode and owner mean nothing, overlayfs takes those from a
//! metadata image. The nonce is in every overlay redirect and in no image, so that no layer can
//! hold a file at a path that a redirect names (shared/spec/filesystem-stacks.md, "Hijack").

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::BlobId;
use crate::layout;
use crate::space::{self, BLOCK_BYTES};

/// Mode of every object file (the umask may take bits away): it never changes again.
pub(crate) const OBJECT_MODE: u32 = 0o444;

/// Bytes read at a time while hashing; BLAKE3 reaches its full speed from 128 KiB on.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// The directory of object files.
#[derive(Debug)]
pub struct Objects {
    root: PathBuf,
    nonce: String,
}

impl Objects {
    /// Opens the directory, making it and its 256 parts if they are not there.
    pub(crate) fn open(root: &Path, nonce: String) -> Result<Self> {
        let objects = Objects {
            root: root.join(layout::OBJECTS),
            nonce,
        };
        let parts = objects.root.join(&objects.nonce);
        if !parts.join("ff").is_dir() {
            fs::create_dir_all(&parts).map_err(|e| Error::io("create", &parts, e))?;
            for part in 0..=0xffu8 {
                let part = parts.join(format!("{part:02x}"));
                match fs::create_dir(&part) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(Error::io("create", part, e));
                    }
                    _ => {}
                }
            }
        }
        Ok(objects)
    }

    /// What overlayfs gets as its data-only lower directory.
    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// The name that redirects go through, and that no layer may have at its root.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The path by which a metadata image redirects to the blob, from [`Self::directory`] on.
    pub fn redirect(&self, id: BlobId) -> String {
        let hex = id.to_string();
        format!("/{}/{}/{}", self.nonce, &hex[..2], &hex[2..])
    }

    /// Where the blob's file is, or would be.
    pub fn path(&self, id: BlobId) -> PathBuf {
        let hex = id.to_string();
        let mut path = self.root.join(&self.nonce);
        path.push(&hex[..2]);
        path.push(&hex[2..]);
        path
    }

    /// Whether a file of the right length is there; its bytes are not looked at.
    pub fn has(&self, id: BlobId, size: u64) -> bool {
        fs::symlink_metadata(self.path(id))
            .is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Opens the blob for reading, unverified.
    ///
    /// # Errors
    /// [`Error::BlobMissing`].
    pub fn open_blob(&self, id: BlobId) -> Result<File> {
        let path = self.path(id);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::BlobMissing { id },
            _ => Error::io("open", path, e),
        })
    }

    /// Hands the blob's bytes to `sink` piece by piece and checks them on the way.
    ///
    /// # Errors
    /// [`Error::BlobMissing`], [`Error::BlobCorrupt`] (after the sink has seen the wrong bytes:
    /// what it made of them must be thrown away), and what `sink` returns.
    pub fn read_blob(
        &self,
        id: BlobId,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<u64> {
        let mut file = self.open_blob(id)?;
        let path = || self.path(id);
        let mut hasher = blake3::Hasher::new();
        let mut size = 0;
        let length = file
            .metadata()
            .map_err(|e| Error::io("stat", path(), e))?
            .len();
        let mut buffer = vec![0; HASH_BUFFER_BYTES.min(length as usize + 1)];
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(|e| Error::io("read", path(), e))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
            sink(&buffer[..count]).map_err(|e| Error::io("copy", path(), e))?;
        }
        if hasher.finalize().as_bytes() != id.as_bytes() {
            return Err(Error::BlobCorrupt { id, path: path() });
        }
        Ok(size)
    }

    /// The whole blob in memory, checked. For small ones: manifests, configs.
    ///
    /// # Errors
    /// As [`Self::read_blob`].
    pub fn read_all(&self, id: BlobId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_blob(id, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Gives a finished file its final name. The file must be on the same file system.
    pub(crate) fn place(&self, file: &Path, id: BlobId) -> Result<()> {
        fs::rename(file, self.path(id)).map_err(|e| Error::io("rename", file, e))
    }

    /// As [`Self::place`] for a file that somebody else has made.
    pub(crate) fn place_foreign(&self, file: &Path, id: BlobId) -> Result<()> {
        fs::set_permissions(file, Permissions::from_mode(OBJECT_MODE))
            .map_err(|e| Error::io("chmod", file, e))?;
        self.place(file, id)
    }

    /// Calls `visit` with everything in the directory: the id that its name stands for (`None`: a
    /// stray file or directory), its path, its length and what it takes on disk, in bytes.
    pub(crate) fn each(
        &self,
        mut visit: impl FnMut(Option<BlobId>, PathBuf, [u64; 2]) -> Result<()>,
    ) -> Result<()> {
        for nonce in read_directory(&self.root)? {
            if !nonce.ends_with(&self.nonce) {
                let bytes = measured(&nonce)?;
                visit(None, nonce, bytes)?;
                continue;
            }
            for part in read_directory(&nonce)? {
                let part_name = hex_name(&part, 2);
                if part_name.is_none() || !part.is_dir() {
                    let bytes = measured(&part)?;
                    visit(None, part, bytes)?;
                    continue;
                }
                for file in read_directory(&part)? {
                    let found = match fs::symlink_metadata(&file) {
                        // Of an ingest that was given up since the directory was listed.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        found => found.map_err(|e| Error::io("stat", &file, e))?,
                    };
                    let hex = part_name.as_ref().zip(hex_name(&file, 62));
                    let id = hex.and_then(|(part, rest)| format!("{part}{rest}").parse().ok());
                    visit(id, file, [found.size(), found.blocks() * BLOCK_BYTES])?;
                }
            }
        }
        Ok(())
    }
}

/// The file name of a path if it has so many lower-case hexadecimal digits.
fn hex_name(path: &Path, length: usize) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (name.len() == length && name.bytes().all(digit)).then_some(name)
}

/// Hashes a file as it lies: its id and length.
pub(crate) fn hash_file(path: &Path) -> Result<(BlobId, u64)> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let length = file
        .metadata()
        .map_err(|e| Error::io("stat", path, e))?
        .len();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES.min(length as usize + 1)];
    let mut size = 0;
    loop {
        match file
            .read(&mut buffer)
            .map_err(|e| Error::io("read", path, e))?
        {
            0 => return Ok((BlobId::from_bytes(*hasher.finalize().as_bytes()), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// Length and bytes on disk of something that is no object, with all below it.
fn measured(path: &Path) -> Result<[u64; 2]> {
    let found = fs::symlink_metadata(path).map_err(|e| Error::io("stat", path, e))?;
    let taken = space::taken(path, found.dev(), &mut HashSet::new());
    let taken = taken.map_err(|e| Error::io("measure", path, e))?;
    Ok(match found.is_dir() {
        true => [taken, taken],
        false => [found.size(), taken],
    })
}

/// The paths in a directory, sorted.
pub(crate) fn read_directory(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
    let mut paths = entries
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(|e| Error::io("list", path, e))
        })
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
