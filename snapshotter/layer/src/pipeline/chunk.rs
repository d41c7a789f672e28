//! The memory that bytes travel in from thread to thread. It is used again once all have read it:
//! new memory for every chunk costs a fault for each of its pages, a fifth of what decompressing
//! the chunk takes.

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that go from thread to thread at once: a millisecond of work, small enough for caches.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// Some bytes that several threads read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunk {
    buffer: Arc<Vec<u8>>,
    filled: usize,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

/// Makes the chunks of one thread.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Oldest first: they are read in that order.
    given: VecDeque<Arc<Vec<u8>>>,
}

impl Chunks {
    /// The chunk of the bytes that `fill` writes into a buffer of [`CHUNK_BYTES`]; it tells their
    /// number. What the buffer held before is anything.
    ///
    /// # Errors
    /// That of `fill`.
    pub(crate) fn filled(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Chunk> {
        let mut buffer = self.buffer();
        let filled = fill(&mut buffer)?;
        let buffer = Arc::new(buffer);
        self.given.push_back(buffer.clone());
        Ok(Chunk { buffer, filled })
    }

    /// That of the oldest chunk, if nobody reads it any more.
    fn buffer(&mut self) -> Vec<u8> {
        let oldest = self.given.pop_front().map(Arc::try_unwrap);
        match oldest {
            Some(Ok(buffer)) => buffer,
            Some(Err(in_use)) => {
                self.given.push_front(in_use);
                vec![0; CHUNK_BYTES]
            }
            None => vec![0; CHUNK_BYTES],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(chunks: &mut Chunks, bytes: &[u8]) -> Chunk {
        let fill = |buffer: &mut [u8]| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        chunks.filled(fill).unwrap()
    }

    #[test]
    fn memory_is_used_again_only_when_nobody_reads_it() {
        let mut chunks = Chunks::default();
        let first = write(&mut chunks, b"first");
        let second = write(&mut chunks, b"the second");
        assert_eq!((&*first, &*second), (&b"first"[..], &b"the second"[..]));
        let address = first.as_ptr();
        let reader = first.clone();
        drop(first);
        let third = write(&mut chunks, b"3");
        assert_eq!((&*reader, &*third), (&b"first"[..], &b"3"[..]));
        drop(reader);
        let fourth = write(&mut chunks, b"4");
        assert_eq!((fourth.as_ptr(), &*fourth), (address, &b"4"[..]));
        assert_eq!((&*second, &*third), (&b"the second"[..], &b"3"[..]));
    }
}
