//! Contexts that are no directory of this machine: an archive on standard input, a git repository.
//!
//! They are fetched once, at the beginning of a build, and are a tree of the store from then on. As
//! in BuildKit, `.dockerignore` means nothing there.

mod git;

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use engine::CancelToken;
use store::{Batch, Content, Editor, Found, RelPath, Store, TreeRef};

use crate::error::{Error, Result};
use crate::ops::archive;
use crate::progress::Step;

pub use self::git::GitSource;

/// Bytes of an archive that are read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A context that is not a directory of this machine.
#[derive(Clone, Debug)]
pub enum RemoteSource {
    /// A revision of a git repository.
    Git(GitSource),
    /// A tar archive, compressed or not.
    Archive(ArchiveSource),
}

/// An archive that somebody sends. It can be read once; clones share it.
#[derive(Clone)]
pub struct ArchiveSource(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl fmt::Debug for ArchiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveSource").finish_non_exhaustive()
    }
}

impl ArchiveSource {
    /// What begins with the bytes of `start` and goes on with `rest`.
    pub fn new(start: Vec<u8>, rest: impl Read + Send + 'static) -> Self {
        let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(rest));
        ArchiveSource(Arc::new(Mutex::new(Some(whole))))
    }

    /// Whether bytes look like the beginning of an archive that can be a context; 512 are enough.
    pub fn is_archive(start: &[u8]) -> bool {
        archive::is_compressed(start) || archive::is_tar(start)
    }

    fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RemoteSource {
    /// As it is shown to people: nothing of it is secret.
    pub fn name(&self) -> String {
        match self {
            RemoteSource::Git(git) => git.name(),
            RemoteSource::Archive(_) => "-".to_owned(),
        }
    }

    /// What a step is called that fetches it. BuildKit's words.
    pub(crate) fn title(&self) -> String {
        match self {
            RemoteSource::Git(git) => format!("load git source {}", git.name()),
            RemoteSource::Archive(_) => "load remote build context".to_owned(),
        }
    }

    /// Brings it into the store. Nothing is visible there after an error.
    ///
    /// # Errors
    /// [`Error::Context`]; [`Error::Cancelled`]; those of the store.
    pub(crate) fn fetch(
        &self,
        store: &Store,
        step: &Step,
        cancel: &CancelToken,
    ) -> Result<TreeRef> {
        let fetched = match self {
            RemoteSource::Git(git) => git.fetch(store, step, cancel),
            RemoteSource::Archive(archive) => unpack(archive, store, step, cancel),
        };
        match fetched {
            Err(_) if cancel.is_cancelled() => Err(Error::Cancelled),
            other => other,
        }
    }
}

fn unpack(
    archive: &ArchiveSource,
    store: &Store,
    step: &Step,
    cancel: &CancelToken,
) -> Result<TreeRef> {
    let failed = |reason: String| Error::Context {
        name: "standard input".to_owned(),
        reason,
    };
    let input = archive
        .take()
        .ok_or_else(|| failed("it has been read already".to_owned()))?;
    let input = Watched {
        input,
        read: 0,
        step,
        cancel: cancel.clone(),
    };
    let input = BufReader::with_capacity(READ_BUFFER_BYTES, input);
    let decoded = archive::decoded(input).map_err(|error| failed(error.to_string()))?;
    let ingest = store.begin();
    let unpacked = layer::unpack(decoded, &ingest, &layer::Limits::default());
    let unpacked = unpacked.map_err(|error| match error {
        layer::Error::Read { source, .. } => failed(format!("the archive is damaged: {source}")),
        error if error.is_bad_layer() => failed(format!("the archive is damaged: {error}")),
        error => error.into(),
    })?;
    let tree = unpacked.delta.apply(None, &ingest)?;
    ingest.commit(Batch::new())?;
    step.status(TRANSFER, unpacked.size, None, true);
    Ok(tree)
}

/// What the counter of a step is called. BuildKit's words.
const TRANSFER: &str = "transferring context:";

/// An archive on its way: counted, and cut off when nobody wants it any more.
struct Watched<'s> {
    input: Box<dyn Read + Send>,
    read: u64,
    step: &'s Step,
    cancel: CancelToken,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.input.read(buffer)?;
        self.read += count as u64;
        self.step.status(TRANSFER, self.read, None, false);
        Ok(count)
    }
}

/// A regular file of a fetched context, symbolic links followed inside of it; `None` if there is
/// none of at most `bytes_max` bytes.
///
/// # Errors
/// Those of the store.
pub(crate) fn read_file(
    store: &Store,
    tree: TreeRef,
    path: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>> {
    let mut editor = Editor::open(store, tree);
    let path = editor.resolve(&RelPath::lenient(path.as_bytes())?, true)?;
    let Some(Found::Leaf(leaf)) = editor.get(&path)? else {
        return Ok(None);
    };
    let Content::File { blob, size } = leaf.content else {
        return Ok(None);
    };
    if size > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if size > 0 {
        let file = store.objects().open_blob(blob)?;
        let read = file.take(bytes_max).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", store.objects().path(blob), error))?;
    }
    Ok(Some(bytes))
}
