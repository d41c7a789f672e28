//! How much was brought into a store since it was opened, and how much of it was there already:
//! for whoever watches. Nothing depends on these numbers. Besides, a thread can count what the
//! ingests bring in that it begins ([`Tally::count_here`]), whatever others do meanwhile.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
pub struct Tally {
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

thread_local! {
    /// Who counts what this thread brings in.
    static HERE: RefCell<Option<Arc<Tally>>> = const { RefCell::new(None) };
}

/// As long as it is there, the ingests that this thread begins count for a tally.
#[derive(Debug)]
pub struct Counting {
    before: Option<Arc<Tally>>,
    of_this_thread: PhantomData<*const ()>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        HERE.with(|here| *here.borrow_mut() = self.before.take());
    }
}

impl Tally {
    /// Counts what ingests bring in that this thread begins, in whichever threads they go on.
    pub fn count_here(self: &Arc<Self>) -> Counting {
        Counting {
            before: HERE.with(|here| here.borrow_mut().replace(self.clone())),
            of_this_thread: PhantomData,
        }
    }

    /// The one that counts what this thread brings in.
    pub(crate) fn here() -> Option<Arc<Tally>> {
        HERE.with(|here| here.borrow().clone())
    }

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

    /// All that was counted.
    pub fn sum(&self) -> Brought {
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
    use crate::fixtures::{memory_store, scratch};
    use crate::key_value::Batch;

    #[test]
    fn a_tally_counts_what_its_ingests_bring_in_and_nothing_of_others() {
        let root = scratch();
        let store = memory_store(root.path());
        let mine = Arc::new(Tally::default());
        let counting = mine.count_here();
        let ingest = store.begin();
        std::thread::scope(|scope| {
            // On another thread, for this one.
            scope.spawn(|| ingest.put_blob(b"mine").unwrap());
            // For nobody.
            scope.spawn(|| store.begin().put_blob(b"of somebody else").unwrap());
        });
        ingest.commit(Batch::new()).unwrap();
        store.begin().put_blob(b"mine").unwrap();
        drop(counting);
        store.begin().put_blob(b"later").unwrap();
        let sum = mine.sum();
        assert_eq!((sum.bytes_written, sum.bytes_known), (4, 4));
        assert_eq!(store.brought().bytes_written, 4 + 16 + 5);
    }

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
