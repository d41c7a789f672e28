//! containerd's content store, as far as a differ needs it: reading a layer, writing one.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    CreateRequest, ReadContentRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::snapshots::Labels;

/// The header that names the namespace of a call.
pub(super) const NAMESPACE: &str = "containerd-namespace";

/// The header that names the lease to which belongs what a call makes.
const LEASE: &str = "containerd-lease";

/// The label by which a lease ends by itself.
const EXPIRES: &str = "containerd.io/gc.expire";

/// How long a layer that was written is kept for whoever asked for it, if nothing refers to it.
const KEPT: Duration = Duration::from_secs(3600);

/// Largest message that is taken, in bytes; containerd's own limit.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes of a layer in one message: containerd sends as many.
const PIECE_BYTES: usize = 1 << 20;

/// Messages under way between a thread that works and a stream.
const PIECES_MAX: usize = 4;

/// The content of one namespace.
#[derive(Clone, Debug)]
pub(super) struct ContentStore {
    client: ContentClient<Channel>,
    leases: LeasesClient<Channel>,
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl ContentStore {
    /// Connects to the containerd with this socket.
    pub(super) async fn connect(
        socket: &Path,
        namespace: MetadataValue<Ascii>,
    ) -> Result<Self, Status> {
        let channel = containerd_client::connect(socket).await.map_err(|error| {
            let socket = socket.display();
            Status::unavailable(format!(
                "cannot reach containerd at {socket} for the content of a layer: {error}; \
                 name its socket with --containerd-address"
            ))
        })?;
        let leases = LeasesClient::new(channel.clone());
        let client = ContentClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(ContentStore {
            client,
            leases,
            namespace,
            lease: None,
        })
    }

    /// Has what is written from now on kept for a while: containerd does not tell its plugins of
    /// the lease of whoever asked, and a collection takes content that nothing refers to yet.
    async fn keep(&mut self) -> Result<(), Status> {
        let expires = prost_types::Timestamp::from(SystemTime::now() + KEPT).to_string();
        let request = self.request(CreateRequest {
            labels: [(EXPIRES.to_owned(), expires)].into(),
            ..Default::default()
        });
        let lease = self.leases.create(request).await?.into_inner().lease;
        self.lease = lease.and_then(|lease| lease.id.parse().ok());
        Ok(())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert(NAMESPACE, self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert(LEASE, lease.clone());
        }
        request
    }

    /// Sends the content to `body`, which ends early if nobody reads any more.
    pub(super) async fn read(&self, digest: &str, body: BodySender) -> Result<(), Status> {
        let request = self.request(ReadContentRequest {
            digest: digest.into(),
            ..Default::default()
        });
        let mut stream = self.client.clone().read(request).await?.into_inner();
        while let Some(piece) = stream.message().await? {
            if body.0.send(piece.data).await.is_err() {
                return Ok(());
            }
        }
        body.end().await;
        Ok(())
    }

    /// Starts to write content under the name `reference`. The pieces go into the writer, from a
    /// thread that may block; the other end is for [`Upload::finish`].
    pub(super) async fn write(&mut self, reference: &str) -> Result<(PieceWriter, Upload), Status> {
        self.keep().await?;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let reference = reference.to_owned();
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: reference.clone(),
            ..Default::default()
        };
        let upload = pieces.clone();
        // The stream ends when the last sender is gone.
        upload.send(first).await.ok();
        let request = self.request(ReceiverStream::new(receiver));
        let mut answers = self.client.clone().write(request).await?.into_inner();
        let present = answers.next().await.transpose()?.unwrap_or_default();
        let mut writer = PieceWriter {
            pieces,
            offset: 0,
            reference: reference.clone(),
            buffer: Vec::with_capacity(PIECE_BYTES),
        };
        // What an earlier attempt has left is cut off.
        writer.truncate(present.offset).await;
        let upload = Upload {
            pieces: upload,
            answers,
            reference,
        };
        Ok((writer, upload))
    }
}

/// The asynchronous end of a [`Body`].
pub(super) struct BodySender(mpsc::Sender<Vec<u8>>);

impl BodySender {
    /// An empty piece says that the content is complete; without it the reader sees an error.
    async fn end(self) {
        self.0.send(Vec::new()).await.ok();
    }
}

/// Content as it arrives, for a thread that reads it.
pub(super) struct Body {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
    is_complete: bool,
}

/// Both ends of content on its way.
pub(super) fn body() -> (BodySender, Body) {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    let body = Body {
        pieces,
        piece: io::Cursor::default(),
        is_complete: false,
    };
    (BodySender(sender), body)
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || buffer.is_empty() || self.is_complete {
                return Ok(count);
            }
            match self.pieces.blocking_recv() {
                Some(piece) if piece.is_empty() => self.is_complete = true,
                Some(piece) => self.piece = io::Cursor::new(piece),
                None => {
                    let what = "containerd's content ended early";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                }
            }
        }
    }
}

/// Sends what is written to it.
pub(super) struct PieceWriter {
    pieces: mpsc::Sender<WriteContentRequest>,
    offset: i64,
    reference: String,
    buffer: Vec<u8>,
}

impl PieceWriter {
    fn message(&mut self) -> WriteContentRequest {
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        let offset = self.offset;
        self.offset += data.len() as i64;
        WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: self.reference.clone(),
            offset,
            data,
            ..Default::default()
        }
    }

    /// A write at the start makes containerd forget what was behind it.
    async fn truncate(&mut self, present: i64) {
        if present > 0 {
            let message = self.message();
            self.pieces.send(message).await.ok();
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let message = self.message();
        let sent = self.pieces.blocking_send(message);
        sent.map_err(|_| io::Error::other("containerd takes no more of the layer"))
    }

    /// Sends what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A write that is under way.
pub(super) struct Upload {
    pieces: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    reference: String,
}

impl Upload {
    /// Takes containerd's answers to the pieces, until `sent` says that all were sent.
    pub(super) async fn answers<T>(&mut self, sent: impl Future<Output = T>) -> Result<T, Status> {
        let mut sent = std::pin::pin!(sent);
        loop {
            tokio::select! {
                done = &mut sent => return Ok(done),
                answer = self.answers.message() => {
                    answer?.ok_or_else(|| Status::unavailable("containerd ended the write"))?;
                }
            }
        }
    }

    /// Commits the content. That it is there already is fine.
    pub(super) async fn finish(
        mut self,
        digest: &str,
        size: u64,
        labels: Labels,
    ) -> Result<(), Status> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            r#ref: self.reference,
            total: size,
            expected: digest.into(),
            offset: size,
            labels: labels.into_iter().collect(),
            ..Default::default()
        };
        self.pieces.send(commit).await.ok();
        drop(self.pieces);
        loop {
            match self.answers.message().await {
                Ok(Some(answer)) if answer.action == i32::from(WriteAction::Commit) => {
                    return Ok(());
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Status::unavailable("containerd ended the write")),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
                Err(status) => return Err(status),
            }
        }
    }
}
