//! What is pushed: bytes that can be read as often as it takes.

use std::io::{self, Cursor, SeekFrom};
use std::path::PathBuf;

use bytes::{Buf as _, Bytes};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncSeekExt as _};

/// A reader of a [`BlobBody`].
pub type BodyReader = Box<dyn AsyncRead + Send + Unpin>;

/// The content of a blob, which an upload may have to begin again: it must give the same bytes each
/// time it is opened.
pub trait BlobBody: Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// A reader of the bytes from `offset` on, at most [`size`](Self::size). More bytes than the
    /// size are not read; fewer fail the upload.
    ///
    /// # Errors
    /// It cannot be opened. That ends the upload: only the registry's failures are tried again.
    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BodyReader>>;
}

impl BlobBody for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BodyReader>> {
        let mut rest = self.clone();
        rest.advance(usize::try_from(offset).map_or(rest.len(), |offset| offset.min(rest.len())));
        async { Ok(Box::new(Cursor::new(rest)) as BodyReader) }.boxed()
    }
}

/// A file that does not change while it is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileBody {
    path: PathBuf,
    size: u64,
}

impl FileBody {
    /// The first `size` bytes of the file.
    pub fn new(path: impl Into<PathBuf>, size: u64) -> Self {
        FileBody {
            path: path.into(),
            size,
        }
    }
}

impl BlobBody for FileBody {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BodyReader>> {
        async move {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
            };
            let mut file = tokio::fs::File::open(&self.path).await.map_err(named)?;
            if offset > 0 {
                file.seek(SeekFrom::Start(offset)).await.map_err(named)?;
            }
            Ok(Box::new(file) as BodyReader)
        }
        .boxed()
    }
}
