//! One layer on its way from a registry: a task that receives and digests, so that the thread that
//! decompresses does nothing else.

use bytes::Bytes;
use engine::CancelToken;
use registry::BlobStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::retries::Told;
use super::{Remote, unless};
use crate::error::{Error, Result};
use crate::images::intake::Chunks;
use crate::progress::Progress;

/// Chunks that wait to be read; some 16 KiB each.
const WAITING_MAX: usize = 64;

/// The chunks of a layer.
pub(super) struct LayerStream {
    /// The last one is `None`: a task that ends without it has lost the rest.
    chunks: Receiver<Result<Option<Bytes>>>,
    is_over: bool,
}

impl LayerStream {
    /// Starts to receive; ends with [`Error::Cancelled`] soon after one of `ends` was set.
    pub(super) fn start(
        remote: &Remote,
        open: impl Future<Output = registry::Result<BlobStream>> + Send + 'static,
        ends: [CancelToken; 2],
        told: Told,
    ) -> Self {
        let (sender, chunks) = channel(WAITING_MAX);
        let progress = remote.progress.clone();
        remote.runtime.spawn(async move {
            let _told = told;
            let [first, second] = &ends;
            let received = unless(first, unless(second, receive(open, &sender, &progress))).await;
            let last = match received.flatten() {
                Some(Ok(())) => Ok(None),
                Some(Err(error)) => Err(error.into()),
                None => Err(Error::Cancelled),
            };
            // Who has gone need not be told.
            drop(sender.send(last).await);
        });
        let is_over = false;
        LayerStream { chunks, is_over }
    }
}

async fn receive(
    open: impl Future<Output = registry::Result<BlobStream>>,
    sender: &Sender<Result<Option<Bytes>>>,
    progress: &Progress,
) -> registry::Result<()> {
    let mut stream = open.await?;
    while let Some(bytes) = stream.chunk().await? {
        progress.count_downloaded(bytes.len() as u64);
        if sender.send(Ok(Some(bytes))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

impl Chunks for LayerStream {
    fn chunk(&mut self) -> Result<Option<Bytes>> {
        if self.is_over {
            return Ok(None);
        }
        let chunk = self.chunks.blocking_recv();
        let chunk = chunk.unwrap_or(Err(Error::Cancelled));
        self.is_over = !matches!(chunk, Ok(Some(_)));
        chunk
    }
}
