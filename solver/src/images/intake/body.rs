//! The bytes of one layer while it is taken in: where they go, who is told, what ends them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use bytes::Bytes;
use engine::CancelToken;
use store::{BlobId, Ingest};

use super::{Chunks, Intake};
use crate::error::{Error, Result};
use crate::images::document::Descriptor;
use crate::progress::Reporter;

/// Chunks that wait to be written; a chunk of the network is some 16 KiB.
const KEPT_CHUNKS_MAX: usize = 64;

/// Bytes between two reports of progress.
const REPORTED_BYTES: u64 = 1 << 20;

/// How far a layer is.
struct Meter<'m> {
    reporter: &'m Reporter,
    id: String,
    total: u64,
    read: u64,
    reported: u64,
}

impl<'m> Meter<'m> {
    fn new(reporter: &'m Reporter, id: String, total: u64) -> Self {
        reporter.status(id.as_str(), 0, Some(total), false);
        Meter {
            reporter,
            id,
            total,
            read: 0,
            reported: 0,
        }
    }

    fn add(&mut self, length: usize) {
        self.read += length as u64;
        if self.read >= self.reported + REPORTED_BYTES {
            self.reported = self.read;
            let id = self.id.as_str();
            self.reporter.status(id, self.read, Some(self.total), false);
        }
    }

    fn end(&self) {
        let id = self.id.as_str();
        self.reporter.status(id, self.read, Some(self.total), true);
    }
}

/// Writes the bytes of a layer into the store, on a thread of its own.
pub(super) struct Kept;

impl Kept {
    /// Starts the thread; it ends with the sender.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        ingest: &'scope Ingest<'_>,
    ) -> (
        ScopedJoinHandle<'scope, Result<(BlobId, u64)>>,
        SyncSender<Bytes>,
    ) {
        let (sender, receiver) = sync_channel(KEPT_CHUNKS_MAX);
        (scope.spawn(move || keep(ingest, &receiver)), sender)
    }
}

fn keep(ingest: &Ingest<'_>, chunks: &Receiver<Bytes>) -> Result<(BlobId, u64)> {
    let mut writer = ingest.blob_writer();
    for chunk in chunks {
        let root = || ingest.store().root();
        writer
            .write_all(&chunk)
            .map_err(|e| Error::io("store a layer below", root(), e))?;
    }
    Ok(writer.commit()?)
}

/// A layer that comes from elsewhere: read by one, and kept by another.
pub(super) struct Tee<'t> {
    chunks: Box<dyn Chunks>,
    /// Gone when the one who keeps has failed.
    keeper: Option<SyncSender<Bytes>>,
    rest: Bytes,
    is_over: bool,
    failed: Option<Error>,
    meter: Meter<'t>,
}

impl<'t> Tee<'t> {
    pub(super) fn new(
        chunks: Box<dyn Chunks>,
        keeper: SyncSender<Bytes>,
        layer: &Descriptor,
        reporter: &'t Reporter,
    ) -> Self {
        Tee {
            chunks,
            keeper: Some(keeper),
            rest: Bytes::new(),
            is_over: false,
            failed: None,
            meter: Meter::new(reporter, layer.digest.to_string(), layer.size),
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        match self.chunks.chunk() {
            Ok(Some(bytes)) => {
                self.meter.add(bytes.len());
                let kept = self
                    .keeper
                    .as_ref()
                    .map(|keeper| keeper.send(bytes.clone()));
                if let Some(Err(_)) = kept {
                    // Why is told by the thread itself.
                    self.is_over = true;
                    self.keeper = None;
                    return Err(io::Error::other("the layer cannot be stored"));
                }
                self.rest = bytes;
            }
            Ok(None) => {
                self.is_over = true;
                self.meter.end();
            }
            Err(error) => {
                self.is_over = true;
                let text = error.to_string();
                self.failed = Some(error);
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }

    /// Reads what is left.
    pub(super) fn drain(&mut self) -> layer::Result<()> {
        while !self.is_over {
            let offset = self.meter.read;
            let advanced = self.advance();
            advanced.map_err(|source| layer::Error::Read { offset, source })?;
        }
        Ok(())
    }

    /// Lets the one who keeps come to an end; why there were no more bytes.
    pub(super) fn end(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.is_over {
            self.advance()?;
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// A layer that is here, read until somebody wants it no more.
pub(super) struct Watched<'w> {
    file: File,
    cancel: &'w CancelToken,
    stop: &'w CancelToken,
    meter: Meter<'w>,
}

impl<'w> Watched<'w> {
    pub(super) fn new(
        file: File,
        layer: &Descriptor,
        intake: &'w Intake<'_>,
        stop: &'w CancelToken,
    ) -> Self {
        let id = format!("extracting {}", layer.digest);
        Watched {
            file,
            cancel: &intake.cancel,
            stop,
            meter: Meter::new(&intake.reporter, id, layer.size),
        }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() || self.stop.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.file.read(buffer)?;
        match count {
            0 => self.meter.end(),
            count => self.meter.add(count),
        }
        Ok(count)
    }
}
