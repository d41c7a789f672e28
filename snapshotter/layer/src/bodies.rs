//! Where the contents of files go while a layer is read: into the store, or nowhere.

use std::io::Write;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use store::{BlobId, Ingest};

use crate::archive::Source;
use crate::archive::reader::Reader;
use crate::assembly::InodeIndex;
use crate::error::Result;
use crate::pipeline::joined;

/// Files up to this many bytes are handed to the pool; larger ones are written by the thread that
/// reads the tar, where their bytes already are.
const SMALL_MAX_BYTES: u64 = 256 * 1024;

/// A batch goes to the pool when it has this many bytes or [`BATCH_FILES`] files: waking a thread
/// for each of fifty thousand files would cost more than some of them.
const BATCH_BYTES: usize = 256 * 1024;
/// See [`BATCH_BYTES`]; making a file takes some 50 µs, so a batch takes about 2 ms.
const BATCH_FILES: usize = 32;

/// Batches that wait for a writer; with [`BATCH_BYTES`] the memory that they take.
const BATCHES_MAX: usize = 8;

/// Threads that write; more than this only wait for each other's directory locks.
const WRITERS_MAX: usize = 8;

/// Contents of small files, one behind the other. Its memory is used again and again: new memory
/// for each file costs a fault for each of its pages.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    /// The inodes of the files, and where in `bytes` their contents are.
    bodies: Vec<(InodeIndex, Range<usize>)>,
}

impl Batch {
    fn new() -> Self {
        Batch {
            bytes: Vec::with_capacity(BATCH_BYTES + SMALL_MAX_BYTES as usize),
            bodies: Vec::with_capacity(BATCH_FILES),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.bodies.len() >= BATCH_FILES
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bodies.clear();
    }
}

/// The ids of the contents of inodes.
pub(crate) type Blobs = Vec<(InodeIndex, BlobId)>;

/// The content of the current entry of a tar.
pub(crate) trait Pieces {
    /// The next bytes, `None` at the end.
    fn piece(&mut self) -> Result<Option<&[u8]>>;
}

impl<S: Source> Pieces for Reader<'_, S> {
    fn piece(&mut self) -> Result<Option<&[u8]>> {
        Reader::piece(self)
    }
}

/// Takes the contents of files.
pub(crate) trait Bodies {
    /// Takes one content of `size` bytes.
    fn take(&mut self, inode: InodeIndex, size: u64, content: &mut dyn Pieces) -> Result<()>;
}

/// Computes ids and keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct Discard {
    pub(crate) blobs: Blobs,
}

impl Bodies for Discard {
    fn take(&mut self, inode: InodeIndex, _size: u64, content: &mut dyn Pieces) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        while let Some(piece) = content.piece()? {
            hasher.update(piece);
        }
        self.blobs
            .push((inode, BlobId::from_bytes(*hasher.finalize().as_bytes())));
        Ok(())
    }
}

/// Writes contents into a store.
pub(crate) struct Writers<'scope, 'i, 's> {
    ingest: &'i Ingest<'s>,
    batches: SyncSender<Batch>,
    /// The one that is being filled.
    batch: Batch,
    /// Those that were written, empty.
    written: Receiver<Batch>,
    threads: Vec<ScopedJoinHandle<'scope, Blobs>>,
    failure: Failure,
    blobs: Blobs,
}

/// Why a writing thread has given up.
type Failure = Arc<Mutex<Option<store::Error>>>;

impl<'scope, 'i: 'scope, 's: 'i> Writers<'scope, 'i, 's> {
    /// Starts the threads.
    pub(crate) fn start<'env>(scope: &'scope Scope<'scope, 'env>, ingest: &'i Ingest<'s>) -> Self {
        let (batches, receiver) = sync_channel(BATCHES_MAX);
        let (emptied, written) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let failure = Failure::default();
        let count = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(WRITERS_MAX);
        let threads = (0..count).map(|_| {
            let (receiver, failure) = (receiver.clone(), failure.clone());
            let emptied = emptied.clone();
            scope.spawn(move || write_batches(ingest, &receiver, &emptied, &failure))
        });
        let threads = threads.collect();
        Writers {
            ingest,
            batches,
            batch: Batch::new(),
            written,
            threads,
            failure,
            blobs: Vec::new(),
        }
    }

    /// Waits until all is written.
    pub(crate) fn finish(mut self) -> Result<Blobs> {
        self.send()?;
        drop(self.batches);
        let mut blobs = self.blobs;
        for thread in self.threads {
            blobs.extend(joined(thread));
        }
        check(&self.failure).map(|()| blobs)
    }

    fn send(&mut self) -> Result<()> {
        if !self.batch.bodies.is_empty() {
            let next = self.written.try_recv().unwrap_or_else(|_| Batch::new());
            // That all threads are gone is told by the check.
            drop(self.batches.send(std::mem::replace(&mut self.batch, next)));
        }
        check(&self.failure)
    }

    fn write_large(&mut self, inode: InodeIndex, content: &mut dyn Pieces) -> Result<()> {
        let mut writer = self.ingest.large_blob_writer()?;
        while let Some(piece) = content.piece()? {
            let root = || self.ingest.store().root();
            writer
                .write_all(piece)
                .map_err(|e| store::Error::io("write below", root(), e))?;
        }
        self.blobs.push((inode, writer.commit()?.0));
        Ok(())
    }
}

impl<'scope, 'i: 'scope, 's: 'i> Bodies for Writers<'scope, 'i, 's> {
    fn take(&mut self, inode: InodeIndex, size: u64, content: &mut dyn Pieces) -> Result<()> {
        if size > SMALL_MAX_BYTES {
            return self.write_large(inode, content);
        }
        let start = self.batch.bytes.len();
        while let Some(piece) = content.piece()? {
            self.batch.bytes.extend_from_slice(piece);
        }
        let end = self.batch.bytes.len();
        self.batch.bodies.push((inode, start..end));
        match self.batch.is_full() {
            true => self.send(),
            false => Ok(()),
        }
    }
}

/// The error with which a thread has given up, told once.
fn check(failure: &Failure) -> Result<()> {
    match failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

fn write_batches(
    ingest: &Ingest<'_>,
    batches: &Mutex<Receiver<Batch>>,
    emptied: &Sender<Batch>,
    failure: &Failure,
) -> Blobs {
    let mut blobs = Vec::new();
    loop {
        let batch = batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(mut batch) = batch else { return blobs };
        for (inode, place) in &batch.bodies {
            match ingest.put_blob(&batch.bytes[place.clone()]) {
                Ok(id) => blobs.push((*inode, id)),
                Err(error) => {
                    failure
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                    return blobs;
                }
            }
        }
        batch.clear();
        // Nobody wants more at the end.
        drop(emptied.send(batch));
    }
}
