//! Brings the contents of an upper's regular files into the store, several at a time, and back
//! again if the commit comes to nothing.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use store::{BlobId, Ingest, Objects};

use super::Take;
use super::upper::UpperFile;
use crate::error::{Error, Result};

/// Threads that hash at the same time. More would only make the disk seek.
const THREADS_MAX: usize = 8;

/// Fewer files than this for each thread are not worth starting one (some 50 us).
const FILES_PER_THREAD_MIN: usize = 16;

/// A stored body: its id and length in bytes.
pub(super) type Body = (BlobId, u64);

#[derive(Debug)]
pub(super) struct Bodies {
    files: Vec<UpperFile>,
    /// What the files turned out to hold, as far as that is known.
    found: Vec<Option<Body>>,
}

impl Bodies {
    pub(super) fn new(files: Vec<UpperFile>) -> Self {
        let found = vec![None; files.len()];
        Bodies { files, found }
    }

    /// Hashes the files and brings those into the store that it does not have. The answer has the
    /// order of the files.
    pub(super) fn adopt(&mut self, ingest: &Ingest<'_>, take: Take) -> Result<Vec<Body>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads
            .min(THREADS_MAX)
            .min(self.files.len() / FILES_PER_THREAD_MIN);
        let (files, next) = (&self.files, AtomicUsize::new(0));
        let adopted = Mutex::new(Vec::with_capacity(files.len()));
        let failed = Mutex::new(None);
        let work = || {
            let mut mine = Vec::new();
            while let Some((index, file)) = next_file(files, &next) {
                let taken = match take {
                    Take::Move => ingest.adopt(&file.path),
                    Take::Copy => ingest.copy(&file.path),
                };
                match taken {
                    Ok(body) => mine.push((index, body)),
                    Err(error) => {
                        // The others need not go on.
                        next.store(files.len(), Ordering::Relaxed);
                        lock(&failed).get_or_insert(error);
                    }
                }
            }
            lock(&adopted).extend(mine);
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        for (index, body) in adopted.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.found[index] = Some(body);
        }
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::from(error));
        }
        Ok(self.found.iter().flatten().copied().collect())
    }

    /// Gives the files their names, modes and contents back, as far as they were taken.
    ///
    /// The object files stay: another ingest may count on them by now, and without rows they go
    /// with the next sweep.
    pub(super) fn restore(&self, objects: &Objects) {
        for (file, found) in self.files.iter().zip(&self.found) {
            if let Err(error) = restore(file, *found, objects) {
                let path = file.path.display();
                tracing::warn!(%path, %error, "a file of a failed commit is lost");
            }
        }
    }
}

fn restore(file: &UpperFile, found: Option<Body>, objects: &Objects) -> io::Result<()> {
    if let Some((blob, _)) = found
        && fs::symlink_metadata(&file.path).is_err()
    {
        fs::hard_link(objects.path(blob), &file.path)?;
    }
    fs::set_permissions(&file.path, Permissions::from_mode(file.mode))
}

fn next_file<'f>(files: &'f [UpperFile], next: &AtomicUsize) -> Option<(usize, &'f UpperFile)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, files.get(index)?))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
