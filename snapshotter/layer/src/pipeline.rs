//! Three threads for the bytes around a tar: one reads and decompresses, one digests, and the
//! caller's takes the tar apart. Decompressing is the slowest, so nothing else may wait on it.

mod chunk;

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use self::chunk::{Chunk, Chunks};
use crate::archive::Source;
use crate::compress::{Compression, Decoder, MAGIC_BYTES};
use crate::digest::{Digest, Digester};
use crate::error::{Error, Result};
use crate::limits::Limits;

/// Chunks that wait in each channel: what evens out a thread that is held up for a moment.
const CHUNKS_MAX: usize = 16;

/// What goes to the digesting thread.
enum Digested {
    /// Bytes as they came.
    Compressed(Chunk),
    /// Bytes of the tar.
    Plain(Chunk),
}

/// What is known of a layer once all of it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub(crate) compression: Compression,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
    pub(crate) tar_size: u64,
}

/// Runs `consumer` on the tar in `reader`. It must read to the end, or fail, or do without the
/// totals (what is wrong behind where it stops is not told then). `known` is the digest
/// of all bytes that come, if somebody has computed it already: once is enough.
pub(crate) fn with_tar<T>(
    reader: impl Read + Send,
    known: Option<Digest>,
    limits: &Limits,
    consumer: impl FnOnce(&mut Tar) -> Result<T>,
) -> Result<(T, Totals)> {
    thread::scope(|scope| {
        let (digests, digest_receiver) = sync_channel(CHUNKS_MAX);
        let (plain, plain_receiver) = sync_channel(CHUNKS_MAX);
        let is_digested = known.is_none();
        let decoding = scope.spawn(move || decode(reader, is_digested, limits, &digests, &plain));
        let digesting = scope.spawn(move || digest(&digest_receiver));
        let mut tar = Tar {
            receiver: plain_receiver,
            chunk: Chunk::default(),
            position: 0,
        };
        let consumed = consumer(&mut tar);
        // Lets the decoder stop if the consumer did.
        drop(tar);
        let (compression, size) = joined(decoding);
        let (compressed, plain) = joined(digesting);
        let consumed = consumed?;
        let (diff_id, tar_size) = plain.finish();
        let digest = match (compression, known) {
            (Compression::None, _) => diff_id,
            (Compression::Gzip | Compression::Zstd, Some(known)) => known,
            (Compression::Gzip | Compression::Zstd, None) => compressed.finish().0,
        };
        Ok((
            consumed,
            Totals {
                compression,
                digest,
                size,
                diff_id,
                tar_size,
            },
        ))
    })
}

/// Waits for a thread; its panic becomes one of this thread.
pub(crate) fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn digest(pieces: &Receiver<Digested>) -> (Digester, Digester) {
    let (mut compressed, mut plain) = (Digester::new(), Digester::new());
    for piece in pieces {
        match piece {
            Digested::Compressed(chunk) => compressed.update(&chunk),
            Digested::Plain(chunk) => plain.update(&chunk),
        }
    }
    (compressed, plain)
}

/// The receiving end is gone: somebody else has failed, and tells why.
struct Stopped;

/// Decodes everything; an error goes to the consumer. Tells the compression that was found, and
/// how many bytes were read.
fn decode(
    reader: impl Read,
    is_digested: bool,
    limits: &Limits,
    digests: &SyncSender<Digested>,
    plain: &SyncSender<Result<Chunk>>,
) -> (Compression, u64) {
    let mut input = Input::new(reader, digests);
    let compression = match input.peek().and_then(Compression::detect) {
        Ok(compression) => compression,
        Err(error) => {
            // If nobody listens, nobody misses the error.
            drop(plain.send(Err(error)));
            return (Compression::None, 0);
        }
    };
    input.compressed(compression != Compression::None, is_digested);
    let decoder = Decoder::new(compression, input);
    let outcome = decoder
        .map_err(|source| Error::Damaged {
            compression,
            offset: 0,
            source,
        })
        .and_then(|mut decoder| decode_chunks(&mut decoder, compression, limits, digests, plain));
    let size = outcome.unwrap_or_else(|error| {
        drop(plain.send(Err(error)));
        0
    });
    (compression, size)
}

/// Returns the bytes that were read.
fn decode_chunks<R: Read>(
    decoder: &mut Decoder<Input<'_, R>>,
    compression: Compression,
    limits: &Limits,
    digests: &SyncSender<Digested>,
    plain: &SyncSender<Result<Chunk>>,
) -> Result<u64> {
    let mut chunks = Chunks::default();
    let mut tar_size = 0;
    loop {
        let mut failure = None;
        let chunk = chunks.filled(|buffer| {
            let (filled, failed) = read_full(decoder, buffer);
            failure = failed;
            Ok(filled)
        });
        let input = decoder.input();
        let told = |source: io::Error| match (input.failed, source.kind()) {
            (true, _) => Error::Read {
                offset: input.size,
                source,
            },
            (_, io::ErrorKind::UnexpectedEof) => Error::Truncated {
                place: format!("its {compression} data"),
                offset: tar_size,
            },
            _ => Error::Damaged {
                compression,
                offset: input.size,
                source,
            },
        };
        let chunk = chunk.map_err(told)?;
        if chunk.is_empty() {
            return failure.map_or(Ok(input.size), |source| Err(told(source)));
        }
        let failure = failure.map(told);
        tar_size += chunk.len() as u64;
        let size = input.size;
        check_size(tar_size, size, limits)?;
        let sent = digests
            .send(Digested::Plain(chunk.clone()))
            .map_err(|_| Stopped);
        let sent = sent.and_then(|()| plain.send(Ok(chunk)).map_err(|_| Stopped));
        if let Err(Stopped) = sent {
            return Ok(size);
        }
        // After what came before it, with which somebody may be content.
        if let Some(error) = failure {
            return Err(error);
        }
    }
}

fn check_size(tar: u64, compressed: u64, limits: &Limits) -> Result<()> {
    if tar > limits.tar_bytes_max {
        return Err(Error::Limit {
            what: "too many bytes of tar",
            limit: limits.tar_bytes_max,
        });
    }
    let within_ratio = compressed
        .saturating_mul(limits.ratio_max)
        .max(limits.ratio_free_bytes);
    if tar > within_ratio {
        let what = "a tar too many times longer than its compressed form";
        return Err(Error::Limit {
            what,
            limit: limits.ratio_max,
        });
    }
    Ok(())
}

/// Fills the buffer as far as the reader has bytes; how far that is, and what has ended it early.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

/// The source, which also hands what it reads to the digesting thread.
struct Input<'d, R> {
    reader: R,
    digests: &'d SyncSender<Digested>,
    /// Whether what is read is not the tar itself.
    compressed: bool,
    /// Whether it then gets a digest of its own.
    is_digested: bool,
    chunks: Chunks,
    chunk: Chunk,
    position: usize,
    /// Bytes that were read.
    size: u64,
    /// Whether it was the reader that failed, and not the decoder.
    failed: bool,
}

impl<'d, R: Read> Input<'d, R> {
    fn new(reader: R, digests: &'d SyncSender<Digested>) -> Self {
        Input {
            reader,
            digests,
            compressed: false,
            is_digested: false,
            chunks: Chunks::default(),
            chunk: Chunk::default(),
            position: 0,
            size: 0,
            failed: false,
        }
    }

    /// Reads a chunk of at most `length` bytes, all of it only if `full`.
    fn read_chunk(&mut self, length: usize, full: bool) -> io::Result<()> {
        let reader = &mut self.reader;
        // Lets go of the last one, whose memory may be the next one's.
        self.chunk = Chunk::default();
        self.position = 0;
        let chunk = self.chunks.filled(|buffer| {
            let buffer = &mut buffer[..length];
            if full {
                let (filled, failed) = read_full(reader, buffer);
                return failed.map_or(Ok(filled), Err);
            }
            loop {
                match reader.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return outcome,
                }
            }
        });
        self.failed = chunk.is_err();
        self.chunk = chunk?;
        self.size += self.chunk.len() as u64;
        Ok(())
    }

    /// The first bytes, which tell the compression.
    fn peek(&mut self) -> Result<&[u8]> {
        let read = self.read_chunk(MAGIC_BYTES, true);
        read.map_err(|source| Error::Read { offset: 0, source })?;
        Ok(&self.chunk)
    }

    /// Tells what is read, and whether to digest it if it is compressed, from the first byte on.
    fn compressed(&mut self, compressed: bool, is_digested: bool) {
        self.compressed = compressed;
        self.is_digested = compressed && is_digested;
        self.digest_chunk();
    }

    fn digest_chunk(&self) {
        if self.is_digested {
            // The other end is gone only after a panic, which is told when it is joined.
            drop(self.digests.send(Digested::Compressed(self.chunk.clone())));
        }
    }
}

impl<R: Read> BufRead for Input<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() {
            self.read_chunk(chunk::CHUNK_BYTES, false)?;
            self.digest_chunk();
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// A plain tar goes from the reader straight to the buffer; decoders call this for a few bytes.
impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.compressed && self.position == self.chunk.len() {
            let outcome = self.reader.read(buffer);
            self.failed = outcome.is_err();
            self.size += *outcome.as_ref().unwrap_or(&0) as u64;
            return outcome;
        }
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The tar, as the decoding thread delivers it.
#[derive(Debug)]
pub(crate) struct Tar {
    receiver: Receiver<Result<Chunk>>,
    chunk: Chunk,
    position: usize,
}

impl Source for &mut Tar {
    fn fill(&mut self) -> Result<usize> {
        if self.position == self.chunk.len() {
            // A closed channel is the end: errors come through it.
            self.chunk = self
                .receiver
                .recv()
                .unwrap_or_else(|_| Ok(Chunk::default()))?;
            self.position = 0;
        }
        Ok(self.chunk.len() - self.position)
    }

    fn available(&self) -> &[u8] {
        &self.chunk[self.position..]
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}
