//! An archive on its way into containerd: blobs as they come, then labels, files, names.

use std::io::{self, Read};

use containerd_client::services::v1::{WriteAction, WriteContentRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::client::{Client, told};
use super::documents::{Document, Documents, bad, images, parse};
use super::unpack::unpack;

/// Largest document in bytes: the limit of containerd's own client.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a blob in one message: containerd's own client sends as many.
const PIECE_BYTES: usize = 1 << 20;

/// Where blobs are in an archive.
const BLOBS: &str = "blobs/sha256/";

/// Takes in the images of an archive; gives their names.
///
/// # Errors
/// The archive makes no sense or ends early; what containerd has against it. Nothing has a name
/// then.
pub(super) async fn import(client: &mut Client, archive: impl Read) -> io::Result<Vec<String>> {
    let mut documents = Documents::default();
    let mut index = None;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let size = entry.size();
        if path == "index.json" && size <= DOCUMENT_BYTES_MAX {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            index = Some(bytes);
        }
        let Some(hex) = path.strip_prefix(BLOBS) else {
            continue;
        };
        let digest = format!("sha256:{hex}");
        if size > DOCUMENT_BYTES_MAX {
            write(client, &digest, size, &mut entry).await?;
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        write(client, &digest, size, &mut bytes.as_slice()).await?;
        if bytes.first() == Some(&b'{') {
            documents.0.insert(digest, bytes);
        }
    }
    // The last member of an archive.
    let index = index.ok_or(io::ErrorKind::UnexpectedEof)?;
    let index: Document = parse(&index)?;
    let mut given = Vec::new();
    for (target, names) in images(&index) {
        if names.is_empty() {
            return Err(io::Error::other(
                "containerd knows images by name alone: name it with -t",
            ));
        }
        keep(client, &documents, &target.digest).await?;
        unpack(client, &documents, &target.digest).await?;
        for name in names {
            client.name(name, target.into()).await?;
            given.push(name.to_owned());
        }
    }
    match given.is_empty() {
        true => Err(bad("it has no image".to_owned())),
        false => Ok(given),
    }
}

/// Labels a manifest so that it keeps what belongs to it.
async fn keep(client: &Client, documents: &Documents, digest: &str) -> io::Result<()> {
    let document: Document = documents.read(digest)?;
    client.label(digest, document.labels()).await
}

/// Writes one blob, unless it is there.
async fn write(
    client: &Client,
    digest: &str,
    size: u64,
    from: &mut (impl Read + ?Sized),
) -> io::Result<()> {
    let total = i64::try_from(size).map_err(io::Error::other)?;
    let reference = format!("varve-load-{}-{digest}", std::process::id());
    let (pieces, receiver) = mpsc::channel(1);
    let begin = WriteContentRequest {
        action: WriteAction::Stat.into(),
        r#ref: reference.clone(),
        total,
        expected: digest.to_owned(),
        ..Default::default()
    };
    let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    pieces.send(begin).await.map_err(closed)?;
    let request = client.request(ReceiverStream::new(receiver));
    let is_there = |code| matches!(code, Code::AlreadyExists);
    let answers = match client.content().write(request).await {
        // It belongs to the lease now.
        Err(status) if is_there(status.code()) => return skip(from),
        answers => answers.map_err(told)?,
    };
    let mut answers = answers.into_inner();
    let mut offset = match answers.message().await {
        Err(status) if is_there(status.code()) => return skip(from),
        answer => answer.map_err(told)?.map_or(0, |answer| answer.offset),
    };
    // What an earlier attempt of a process of this id has left is cut off.
    let mut is_first = offset > 0;
    offset = 0;
    loop {
        let mut data = Vec::new();
        from.take(PIECE_BYTES as u64).read_to_end(&mut data)?;
        let is_last = data.is_empty() && !is_first;
        is_first = false;
        let length = data.len() as i64;
        let piece = WriteContentRequest {
            action: match is_last {
                true => WriteAction::Commit.into(),
                false => WriteAction::Write.into(),
            },
            r#ref: reference.clone(),
            total,
            expected: if is_last {
                digest.to_owned()
            } else {
                String::new()
            },
            offset,
            data,
            ..Default::default()
        };
        offset += length;
        // Who has closed the stream has said why.
        let sent = pieces.send(piece).await;
        match answers.message().await {
            Err(status) if is_last && is_there(status.code()) => return Ok(()),
            Err(status) => return Err(told(status)),
            Ok(_) => sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?,
        }
        if is_last {
            return Ok(());
        }
    }
}

fn skip(from: &mut (impl Read + ?Sized)) -> io::Result<()> {
    io::copy(from, &mut io::sink()).map(drop)
}
