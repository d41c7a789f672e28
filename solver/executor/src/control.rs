//! The parent's end of the socket to a helper (`protocol.rs`).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::attached::{next, resize};
use crate::cancel::Cancel;
use crate::protocol::{REPORT_BYTES_MAX, Report, receive};
use crate::stdio::Asked;

/// The socket.
#[derive(Debug)]
pub(crate) struct Control(UnixStream);

impl Control {
    pub(crate) fn new(socket: StdStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Control(UnixStream::from_std(socket)?))
    }

    /// Reads to the helper's last word or to its end, and passes on what is asked meanwhile.
    /// `terminal` is called with the master of the container's terminal. A cancel shuts our end for
    /// writing, which makes the helper kill.
    ///
    /// A helper that is killed may leave a process behind that has its end of the socket too: the
    /// end of the socket alone would be waited for in vain.
    pub(crate) async fn report(
        mut self,
        helper: &mut Child,
        cancel: &Cancel,
        asked: &mut Option<mpsc::UnboundedReceiver<Asked>>,
        mut terminal: impl FnMut(&OwnedFd) -> io::Result<()>,
    ) -> Option<Report> {
        let mut line = Vec::new();
        let mut master = None;
        let mut size = None;
        let mut is_shut = false;
        let mut has_ended = false;
        loop {
            let mut buffer = [0; 4_096];
            let received = tokio::select! {
                received = self.receive(&mut buffer, has_ended) => received,
                _ = helper.wait(), if !has_ended => {
                    has_ended = true;
                    continue;
                }
                () = cancel.cancelled(), if !is_shut => {
                    self.shut().await;
                    is_shut = true;
                    continue;
                }
                asked = next(asked) => {
                    match asked {
                        Asked::Signal(signal) if !is_shut => self.send(signal).await,
                        Asked::Signal(_) => {}
                        Asked::Resize(asked) => size = Some(asked),
                    }
                    resize_to(master.as_ref(), size);
                    continue;
                }
            };
            match received {
                Ok((_, Some(file))) => {
                    if let Err(error) = terminal(&file) {
                        tracing::warn!(%error, "cannot show the terminal of a container");
                        self.shut().await;
                        is_shut = true;
                    }
                    master = Some(file);
                    resize_to(master.as_ref(), size);
                }
                Ok((length, None)) => {
                    line.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    let ends = length == 0 || line.ends_with(b"\n");
                    if ends || line.len() > REPORT_BYTES_MAX {
                        return serde_json::from_slice(&line).ok();
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the helper of a container is gone");
                    return None;
                }
            }
        }
    }

    /// Of a helper that has ended, only what it said before.
    async fn receive(
        &self,
        into: &mut [u8],
        has_ended: bool,
    ) -> io::Result<(usize, Option<OwnedFd>)> {
        match has_ended {
            true => receive(&self.0, into),
            false => {
                let socket = &self.0;
                let read = || receive(socket, into);
                socket.async_io(Interest::READABLE, read).await
            }
        }
    }

    async fn send(&mut self, signal: u8) {
        if let Err(error) = self.0.write_all(&[signal]).await {
            tracing::debug!(%error, "cannot pass a signal on");
        }
    }

    async fn shut(&mut self) {
        if let Err(error) = self.0.shutdown().await {
            tracing::debug!(%error, "the helper of a container is gone");
        }
    }
}

/// Gives the terminal the size that it should have, once both are known.
fn resize_to(master: Option<&OwnedFd>, size: Option<crate::process::WindowSize>) {
    let (Some(master), Some(size)) = (master, size) else {
        return;
    };
    if let Err(error) = resize(master, size) {
        tracing::debug!(%error, "cannot give a terminal its size");
    }
}
