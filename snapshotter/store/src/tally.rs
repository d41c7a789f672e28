//! How much was brought into a store since it was opened, and how much of it was there already:
//! for whoever watches. Nothing depends on these numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Blobs that were brought in, whether their ingest was committed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Blobs that were written.
    pub blobs_written: u64,
    /// Sum of their lengths, in bytes.
    pub bytes_written: u64,
    /// Blobs that were there already, so that nothing was written.
    pub blobs_known: u64,
    /// Sum of their lengths, in bytes.
    pub bytes_known: u64,
}

/// Counts, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    written: Count,
    known: Count,
    taken: Mutex<Brought>,
}

#[derive(Debug, Default)]
struct Count {
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, size: u64) {
        self.blobs.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.blobs), get(&self.bytes))
    }
}

impl Tally {
    /// A blob of this length was written.
    pub(crate) fn written(&self, size: u64) {
        self.written.add(size);
    }

    /// A blob of this length need not be written.
    pub(crate) fn known(&self, size: u64) {
        self.known.add(size);
    }

    /// What came since this was asked last.
    pub(crate) fn take(&self) -> Brought {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = self.sum();
        let before = std::mem::replace(&mut *taken, sum);
        Brought {
            blobs_written: sum.blobs_written - before.blobs_written,
            bytes_written: sum.bytes_written - before.bytes_written,
            blobs_known: sum.blobs_known - before.blobs_known,
            bytes_known: sum.bytes_known - before.bytes_known,
        }
    }

    pub(crate) fn sum(&self) -> Brought {
        let (blobs_written, bytes_written) = self.written.get();
        let (blobs_known, bytes_known) = self.known.get();
        Brought {
            blobs_written,
            bytes_written,
            blobs_known,
            bytes_known,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_once_is_not_counted_again() {
        let tally = Tally::default();
        tally.written(7);
        assert_eq!(tally.take().bytes_written, 7);
        tally.written(5);
        tally.known(3);
        let taken = tally.take();
        assert_eq!((taken.bytes_written, taken.bytes_known), (5, 3));
        assert_eq!(tally.take(), Brought::default());
        assert_eq!(tally.sum().bytes_written, 12);
    }
}
