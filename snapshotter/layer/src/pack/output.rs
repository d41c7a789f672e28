//! The threads behind a tar that is written: one digests it, one compresses, digests and writes.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::compress::{Compression, Encoder, Encoding};
use crate::digest::{Digest, Digester};
use crate::error::{Error, Result};
use crate::pipeline::joined;

/// Bytes that go from thread to thread at once.
const CHUNK_BYTES: usize = 512 * 1024;

/// Chunks that wait for each thread.
const CHUNKS_MAX: usize = 8;

type Chunk = Arc<Vec<u8>>;

/// What is known of a layer once it was written.
pub(super) struct Totals {
    pub(super) diff_id: Digest,
    pub(super) tar_size: u64,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Runs `producer`, which writes a tar, and writes that tar as a layer.
pub(super) fn with_encoder<T>(
    encoding: Encoding,
    writer: impl Write + Send,
    producer: impl FnOnce(&mut dyn Write) -> Result<T>,
) -> Result<(T, Totals)> {
    let plain = encoding.compression() == Compression::None;
    thread::scope(|scope| {
        let (digests, digest_receiver) = sync_channel(CHUNKS_MAX);
        let (encodes, encode_receiver) = sync_channel(CHUNKS_MAX);
        let digesting = scope.spawn(move || digest(&digest_receiver));
        let encoding = scope.spawn(move || encode(encoding, writer, &encode_receiver));
        let mut chunks = Chunks {
            chunk: Vec::new(),
            digests,
            encodes,
        };
        let produced = producer(&mut chunks).and_then(|produced| {
            let sent = chunks.send();
            sent.map(|()| produced)
                .map_err(|source| Error::Write { offset: 0, source })
        });
        drop(chunks);
        let (diff_id, tar_size) = joined(digesting).finish();
        let encoded = joined(encoding);
        // If the writer has failed, the producer only knows that it was stopped.
        let compressed = match encoded {
            Err(source) => {
                return Err(Error::Write {
                    offset: tar_size,
                    source,
                });
            }
            Ok(compressed) => compressed,
        };
        let (digest, size) = if plain {
            (diff_id, tar_size)
        } else {
            compressed.finish()
        };
        Ok((
            produced?,
            Totals {
                diff_id,
                tar_size,
                digest,
                size,
            },
        ))
    })
}

fn digest(chunks: &Receiver<Chunk>) -> Digester {
    let mut digester = Digester::new();
    for chunk in chunks {
        digester.update(&chunk);
    }
    digester
}

/// Writes all chunks. Tells the digest of what was written, unless that is the tar itself.
fn encode(
    encoding: Encoding,
    writer: impl Write,
    chunks: &Receiver<Chunk>,
) -> io::Result<Digester> {
    let digested = (encoding.compression() != Compression::None).then(Digester::new);
    let mut encoder = Encoder::new(
        encoding,
        Output {
            writer,
            digester: digested,
        },
    )?;
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    let mut output = encoder.finish()?;
    output.writer.flush()?;
    Ok(output.digester.unwrap_or_default())
}

/// The destination, digested unless somebody else does that already.
struct Output<W> {
    writer: W,
    digester: Option<Digester>,
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        if let Some(digester) = &mut self.digester {
            digester.update(&bytes[..count]);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Collects what is written into chunks.
struct Chunks {
    chunk: Vec<u8>,
    digests: SyncSender<Chunk>,
    encodes: SyncSender<Chunk>,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let chunk = Arc::new(chunk);
        // A thread that is gone has an error, or a panic, that is told when it is joined.
        let gone = || io::Error::other("writing has stopped");
        self.digests.send(chunk.clone()).map_err(|_| gone())?;
        self.encodes.send(chunk).map_err(|_| gone())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() >= CHUNK_BYTES {
            self.send()?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
