//! Bringing things in: bodies first, then one small atomic batch that makes them visible.
//!
//! An [`Ingest`] collects blobs and trees. Object files appear under their final names at once
//! (they are content-addressed), small ones are even written there; but no row names them until
//! [`Ingest::commit`] has flushed them to disk. Drop is abort: it takes them away again, unless
//! others ingest meanwhile, who may have put the same there; then they are orphans for the next
//! sweep.

mod early_flush;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::early_flush::EarlyFlush;
use crate::claims::Work;
use crate::codec::Encoder;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::fence::Pass;
use crate::id::{BlobId, TreeId};
use crate::key_value::{Batch, Durability};
use crate::layout::Table;
use crate::objects::{OBJECT_MODE, hash_file};
use crate::store::Store;
use crate::tally::Tally;
use crate::tree::{Tree, TreeRef, TreeSink, TreeSource};

/// Bodies up to this many bytes are hashed in memory first, so that one that is already stored is
/// never written. Above, writing while hashing is cheaper than holding.
const IN_MEMORY_MAX_BYTES: usize = 256 * 1024;

/// One unit of bringing things in. May be shared between threads.
#[derive(Debug)]
pub struct Ingest<'s> {
    store: &'s Store,
    pending: Mutex<Pending>,
    pass: Pass<'s>,
    /// What is found or written is kept until rows name it.
    _work: Work,
    /// Who counts what comes in, besides the store.
    tally: Option<Arc<Tally>>,
    early_flush: EarlyFlush,
}

#[derive(Debug, Default)]
struct Pending {
    trees: HashMap<TreeId, (Arc<Tree>, Vec<u8>)>,
    blobs: HashMap<BlobId, u64>,
    /// Names under which part of a body may lie: what was written in place and failed.
    parts: Vec<BlobId>,
}

/// What is known of a blob before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing.
    New,
    /// Its bytes need not be written.
    Here,
    /// A row names it, and its file is not what that promises.
    Lost,
}

impl<'s> Ingest<'s> {
    pub(crate) fn new(store: &'s Store, pass: Pass<'s>) -> Self {
        Ingest {
            store,
            pending: Mutex::default(),
            pass,
            _work: store.work(),
            tally: Tally::here(),
            early_flush: EarlyFlush::default(),
        }
    }

    /// The store that this ingest goes to.
    pub fn store(&self) -> &'s Store {
        self.store
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a blob, in this ingest or in the store.
    fn known(&self, id: BlobId, size: u64) -> Result<Known> {
        if self.pending().blobs.contains_key(&id) {
            return Ok(Known::Here);
        }
        Ok(match self.store.blob_size(id)? {
            None => Known::New,
            Some(length) if length == size && self.store.objects().has(id, size) => Known::Here,
            Some(_) => Known::Lost,
        })
    }

    /// Whether the blob is already there, so that its bytes need not be written.
    fn has_blob(&self, id: BlobId, size: u64) -> Result<bool> {
        Ok(self.known(id, size)? == Known::Here)
    }

    fn count(&self, count: impl Fn(&Tally)) {
        count(&self.store.tally);
        if let Some(tally) = &self.tally {
            count(tally);
        }
    }

    fn note_blob(&self, id: BlobId, size: u64) {
        self.count(|tally| tally.written(size));
        self.pending().blobs.insert(id, size);
    }

    /// A handle to write one blob of unknown length.
    pub fn blob_writer(&self) -> BlobWriter<'_, 's> {
        self.writer(Body::Memory(Vec::new()))
    }

    /// A handle to write one blob that is too large to be held in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn large_blob_writer(&self) -> Result<BlobWriter<'_, 's>> {
        Ok(self.writer(Body::file(self)?))
    }

    fn writer(&self, body: Body<'s>) -> BlobWriter<'_, 's> {
        BlobWriter {
            ingest: self,
            size: 0,
            body,
        }
    }

    /// Bytes of a body are about to be written.
    fn spend(&self, bytes: u64) -> io::Result<()> {
        self.store.allowance.spend(bytes)?;
        self.early_flush.written(bytes, self.store.root());
        Ok(())
    }

    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// [`Error::Io`]; a full disk leaves nothing behind.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobId> {
        let (id, size) = (BlobId::of(bytes), bytes.len() as u64);
        let known = self.known(id, size)?;
        if known == Known::Here {
            self.count(|tally| tally.known(size));
            return Ok(id);
        }
        // What a row promises is whole at any time, so what was lost comes back by a rename.
        if known == Known::Lost || !self.write_in_place(id, bytes)? {
            let mut temporary = Temporary::create(self.store)?;
            let written = self.spend(size).and_then(|()| temporary.write_all(bytes));
            written.map_err(|e| Error::io("write", &temporary.path, e))?;
            temporary.place(id)?;
        }
        self.note_blob(id, size);
        Ok(id)
    }

    /// Writes a body under its final name at once, which takes half the time of a temporary file
    /// and its rename: no row promises anything about the name yet. Whether it could be done;
    /// something may lie there, of others who ingest or of a crash.
    fn write_in_place(&self, id: BlobId, bytes: &[u8]) -> Result<bool> {
        let path = self.store.objects().path(id);
        let mut file = match create(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::io("create", path, error)),
        };
        failpoint::passed("ingest.body-created");
        let written = self.spend(bytes.len() as u64);
        let written = written.and_then(|()| file.write_all(bytes));
        if let Err(error) = written {
            // Not removed here: others may have put a whole file there meanwhile, and count on it.
            self.pending().parts.push(id);
            return Err(Error::io("write", path, error));
        }
        failpoint::passed("ingest.body-placed");
        Ok(true)
    }

    /// Takes over a finished file of the store's own file system: it is hashed and renamed into
    /// place, no byte is copied. If the blob is already there the file is left where it is.
    ///
    /// Nobody may have it open for writing or have another use for it afterwards.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn adopt(&self, file: &Path) -> Result<(BlobId, u64)> {
        let (id, size) = hash_file(file)?;
        if !self.has_blob(id, size)? {
            self.store.objects().place_foreign(file, id)?;
            failpoint::passed("ingest.file-adopted");
            self.note_blob(id, size);
        } else {
            self.count(|tally| tally.known(size));
        }
        Ok((id, size))
    }

    /// Stores a copy of a file, which stays what it is: somebody may be writing to it. Nothing is
    /// copied if the blob is already there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn copy(&self, file: &Path) -> Result<(BlobId, u64)> {
        let (id, size) = hash_file(file)?;
        if self.has_blob(id, size)? {
            self.count(|tally| tally.known(size));
            return Ok((id, size));
        }
        let mut source = File::open(file).map_err(|e| Error::io("open", file, e))?;
        let mut writer = self.blob_writer();
        // Hashed once more on the way: what was copied is what counts.
        io::copy(&mut source, &mut writer).map_err(|e| Error::io("copy", file, e))?;
        writer.commit()
    }

    /// Makes everything durable and visible, together with the changes of `extra` (the rows that
    /// name what was ingested: snapshots, leases, images).
    ///
    /// # Errors
    /// [`Error::Io`] (among others if the disk is all but full), [`Error::Database`]: nothing is
    /// visible. [`Error::Poisoned`] after a flush
    /// has failed once in the life of this [`Store`].
    pub fn commit(mut self, extra: Batch) -> Result<()> {
        let pending = std::mem::take(&mut *self.pending());
        let batch = match self.make_durable(&pending, extra) {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.discard(&pending);
                return Err(error);
            }
        };
        let written = self.store.write(batch, Durability::Disk);
        let is_unknown = written.is_err() && !pending.blobs.is_empty();
        if is_unknown || !pending.parts.is_empty() {
            self.store.note_strays();
        }
        written?;
        failpoint::passed("ingest.rows-written");
        self.store
            .remember(pending.trees.into_iter().map(|(id, (tree, _))| (id, tree)));
        Ok(())
    }

    /// Flushes the bodies; the rows that name them, if there is anything to write.
    fn make_durable(&self, pending: &Pending, extra: Batch) -> Result<Option<Batch>> {
        let mut batch = Batch::new();
        for (id, (_, encoded)) in &pending.trees {
            batch.put(Table::Tree, *id.as_bytes(), encoded.as_slice());
        }
        for (id, size) in &pending.blobs {
            let mut row = Encoder::new();
            row.number(*size);
            batch.put(Table::Blob, *id.as_bytes(), row.finish());
        }
        batch.append(extra);
        if batch.is_empty() {
            return Ok(None);
        }
        self.store.check_space(batch.bytes())?;
        self.early_flush.wait();
        if !pending.blobs.is_empty() {
            let ids: Vec<BlobId> = pending.blobs.keys().copied().collect();
            self.store.flush_objects(&ids)?;
        }
        failpoint::passed("ingest.bodies-flushed");
        Ok(Some(batch))
    }
}

impl Ingest<'_> {
    /// Takes away what no row names. What cannot be taken is left to the next sweep.
    fn discard(&mut self, pending: &Pending) {
        let mut ids = pending.blobs.keys().chain(&pending.parts).peekable();
        if ids.peek().is_none() {
            return;
        }
        if !self.pass.try_sweep() {
            self.store.note_strays();
            return;
        }
        let objects = self.store.objects();
        for id in ids {
            let is_gone = match self.store.blob_size(*id) {
                Ok(None) => fs::remove_file(objects.path(*id)).is_ok(),
                Ok(Some(_)) => true,
                Err(_) => false,
            };
            if !is_gone {
                self.store.note_strays();
            }
        }
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut *self.pending());
        self.discard(&pending);
    }
}

impl TreeSource for Ingest<'_> {
    fn tree(&self, id: TreeId) -> Result<Arc<Tree>> {
        if let Some((tree, _)) = self.pending().trees.get(&id) {
            return Ok(tree.clone());
        }
        self.store.tree(id)
    }
}

impl TreeSink for Ingest<'_> {
    fn put_tree(&self, tree: Tree) -> Result<TreeRef> {
        let (reference, encoded) = tree.reference();
        if !self.store.has_tree(reference.id)? {
            self.pending()
                .trees
                .insert(reference.id, (Arc::new(tree), encoded));
        }
        Ok(reference)
    }
}

/// Writes one blob: bytes go in by [`Write`], [`BlobWriter::commit`] tells the id. Drop is abort.
#[derive(Debug)]
pub struct BlobWriter<'i, 's> {
    ingest: &'i Ingest<'s>,
    size: u64,
    body: Body<'s>,
}

#[derive(Debug)]
enum Body<'s> {
    Memory(Vec<u8>),
    File {
        temporary: Temporary<'s>,
        hasher: Box<blake3::Hasher>,
    },
}

impl<'s> Body<'s> {
    fn file(ingest: &Ingest<'s>) -> Result<Self> {
        Ok(Body::File {
            temporary: Temporary::create(ingest.store)?,
            hasher: Box::new(blake3::Hasher::new()),
        })
    }
}

impl BlobWriter<'_, '_> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.body {
            Body::Memory(buffered) => buffered.extend_from_slice(bytes),
            Body::File { temporary, hasher } => {
                self.ingest.spend(bytes.len() as u64)?;
                temporary.write_all(bytes)?;
                hasher.update(bytes);
            }
        }
        Ok(())
    }

    /// Ends the blob: its id and length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn commit(self) -> Result<(BlobId, u64)> {
        match self.body {
            Body::Memory(bytes) => Ok((self.ingest.put_blob(&bytes)?, self.size)),
            Body::File { temporary, hasher } => {
                let id = BlobId::from_bytes(*hasher.finalize().as_bytes());
                if !self.ingest.has_blob(id, self.size)? {
                    temporary.place(id)?;
                    self.ingest.note_blob(id, self.size);
                } else {
                    self.ingest.count(|tally| tally.known(self.size));
                }
                Ok((id, self.size))
            }
        }
    }
}

impl Write for BlobWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Body::Memory(buffered) = &mut self.body
            && buffered.len() + bytes.len() > IN_MEMORY_MAX_BYTES
        {
            let buffered = std::mem::take(buffered);
            self.body = Body::file(self.ingest).map_err(|e| io_error(&e))?;
            self.append(&buffered)?;
        }
        self.append(bytes)?;
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps the error number of a store error where an [`io::Error`] is asked for.
fn io_error(error: &Error) -> io::Error {
    match error {
        Error::Io { source, .. } => match source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(source.kind(), error.to_string()),
        },
        _ => io::Error::other(error.to_string()),
    }
}

/// Makes the file of a body.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(OBJECT_MODE)
        .open(path)
}

/// A body being written below `ingest/`; removed on drop unless it got its final name.
#[derive(Debug)]
struct Temporary<'s> {
    store: &'s Store,
    path: PathBuf,
    file: File,
    placed: bool,
}

impl<'s> Temporary<'s> {
    fn create(store: &'s Store) -> Result<Self> {
        let path = store.temporary_path();
        let file = create(&path).map_err(|e| Error::io("create", &path, e))?;
        Ok(Temporary {
            store,
            path,
            file,
            placed: false,
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn place(mut self, id: BlobId) -> Result<()> {
        failpoint::passed("ingest.body-written");
        self.store.objects().place(&self.path, id)?;
        failpoint::passed("ingest.body-placed");
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove a temporary body");
        }
    }
}

#[cfg(test)]
mod tests;
