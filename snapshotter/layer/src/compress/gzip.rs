//! A gzip stream written by several threads: one member whose deflate blocks are made in parallel.
//!
//! As pigz does it: the input is cut into pieces, each is compressed with the end of the piece
//! before it as dictionary and ends on a byte boundary, so the results can stand one behind the
//! other. Where it is cut does not depend on the number of threads or on how bytes are written.
//! `piece.rs` is what happens to each.

mod piece;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::Crc;

/// Length of a piece in bytes. Part of what the stream looks like: a change changes digests.
const PIECE_BYTES: usize = 256 * 1024;

/// Threads that compress; beyond this the single thread that writes is the limit.
const THREADS_MAX: usize = 16;

/// Magic, deflate, no flags, no time, no hint, operating system unknown: as Go writes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

struct Job {
    piece: Arc<Vec<u8>>,
    /// The piece before; empty for the first.
    before: Arc<Vec<u8>>,
    last: bool,
    reply: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses to one gzip member.
pub(crate) struct GzipWriter<W: Write> {
    output: W,
    /// The piece that is being filled.
    piece: Vec<u8>,
    before: Arc<Vec<u8>>,
    /// `None` only while being dropped.
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Results that are to be written, in order.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    checksum: Crc,
}

impl<W: Write> GzipWriter<W> {
    /// Starts the threads and writes the header.
    pub(crate) fn new(mut output: W, level: i32) -> io::Result<Self> {
        output.write_all(&HEADER)?;
        let count = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS_MAX);
        let (jobs, receiver) = sync_channel(count);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..count).map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || compress_all(&receiver, level))
        });
        Ok(GzipWriter {
            output,
            piece: Vec::with_capacity(PIECE_BYTES),
            before: Arc::default(),
            jobs: Some(jobs),
            threads: threads.collect(),
            pending: VecDeque::new(),
            checksum: Crc::new(),
        })
    }

    /// Writes what is left and the trailer.
    pub(crate) fn finish(mut self) -> io::Result<W>
    where
        W: Write,
    {
        self.dispatch(true)?;
        while !self.pending.is_empty() {
            self.write_one()?;
        }
        self.output.write_all(&self.checksum.sum().to_le_bytes())?;
        self.output
            .write_all(&self.checksum.amount().to_le_bytes())?;
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        Ok(self.output)
    }

    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        // One for each thread at work, one for each that waits: then none of them runs dry.
        while self.pending.len() >= 2 * self.threads.len() {
            self.write_one()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.checksum.update(&piece);
        let piece = Arc::new(piece);
        let before = std::mem::replace(&mut self.before, piece.clone());
        let (reply, result) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(lost_thread)?;
        jobs.send(Job {
            piece,
            before,
            last,
            reply,
        })
        .map_err(|_| lost_thread())?;
        self.pending.push_back(result);
        Ok(())
    }

    fn write_one(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else {
            return Ok(());
        };
        let compressed = result.recv().map_err(|_| lost_thread())??;
        self.output.write_all(&compressed)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full piece waits for the next byte: the last one must be known as the last.
        if self.piece.len() == PIECE_BYTES && !bytes.is_empty() {
            self.dispatch(false)?;
        }
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Pieces are never cut short, so there is nothing to flush before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost_thread() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}

fn compress_all(jobs: &Mutex<Receiver<Job>>, level: i32) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Nobody waits for the result if writing has failed.
        drop(
            job.reply
                .send(piece::compress(&job.piece, &job.before, level, job.last)),
        );
    }
}
