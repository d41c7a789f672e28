//! Layers that an image needs as they were packed, and of which only the trees are here: a build
//! that was cached, and the bytes of its base collected. They come from where they came from.

use std::io::{self, Read};

use bytes::Bytes;
use engine::CancelToken;
use snapshotter::Manager;
use store::Batch;

use super::PlatformResult;
use super::layers::{self, Layer};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::images::document::Descriptor;
use crate::images::intake::{Chunks, LayerSource as _};
use crate::images::origins;
use crate::progress::{Progress, Step};
use crate::sources::registry::Remote;

/// Who can bring layers.
#[derive(Clone, Copy)]
pub(crate) struct Bringing<'b> {
    pub(crate) images: &'b Images,
    pub(crate) remote: &'b Remote,
    pub(crate) cancel: &'b CancelToken,
}

impl Bringing<'_> {
    /// Brings what the layers of results lack.
    ///
    /// # Errors
    /// [`Error::Registry`], [`Error::Cancelled`]; a layer that nobody is known to have is left out:
    /// whoever needs it says so.
    pub(super) fn layers_of(
        self,
        results: &[PlatformResult],
        snapshots: &Manager,
        progress: &Progress,
    ) -> Result<()> {
        let mut missing: Vec<Descriptor> = Vec::new();
        for result in results {
            for layer in layers::layers(&result.value, self.images, snapshots)? {
                if let Layer::Foreign(descriptor, _) = layer
                    && self.is_missing(&descriptor)?
                    && missing
                        .iter()
                        .all(|known| known.digest != descriptor.digest)
                {
                    missing.push(descriptor);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let step = progress.step("[internal] fetch layers of the base for the image");
        let brought = missing
            .iter()
            .try_for_each(|layer| self.bring(layer, &step));
        step.end(brought)
    }

    fn is_missing(self, layer: &Descriptor) -> Result<bool> {
        Ok(self.images.content().find(layer.digest)?.is_none())
    }

    /// Brings one layer, if somebody is known to have it and it is not here.
    ///
    /// # Errors
    /// As [`Bringing::layers_of`].
    pub(super) fn bring(self, layer: &Descriptor, step: &Step) -> Result<()> {
        let content = self.images.content();
        let mut outcome = Ok(());
        if !self.is_missing(layer)? {
            return outcome;
        }
        for origin in origins::of(content.store(), layer.digest)? {
            let reporter = step.reporter();
            let source = self
                .remote
                .layers_in(&origin, reporter.clone(), self.cancel.clone())?;
            let chunks = source.open(layer, &CancelToken::new());
            let mut body = Body {
                chunks: chunks?,
                rest: Bytes::new(),
                failed: None,
            };
            let (ingest, mut batch) = (content.begin(), Batch::new());
            let size = Some(layer.size);
            let stored =
                content.put_stream(&ingest, &mut batch, &origin, layer.digest, size, &mut body);
            outcome = match body.failed {
                Some(error) => Err(error),
                None => stored.and_then(|_| Ok(ingest.commit(batch)?)),
            };
            if matches!(outcome, Ok(()) | Err(Error::Cancelled)) {
                let id = layer.digest.to_string();
                reporter.status(id, layer.size, size, outcome.is_ok());
                break;
            }
        }
        outcome
    }
}

/// Chunks as a reader.
struct Body {
    chunks: Box<dyn Chunks>,
    rest: Bytes,
    /// Why there were no more.
    failed: Option<Error>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.chunk() {
                Ok(Some(bytes)) => self.rest = bytes,
                Ok(None) => return Ok(0),
                Err(error) => {
                    let text = error.to_string();
                    self.failed = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let length = self.rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}
