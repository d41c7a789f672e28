//! What the helper process and its parent tell each other over a socket pair.
//!
//! - The helper: first, if the container has a terminal, a byte with the terminal's master
//!   ([`send_file`]); at last a report, a line of JSON.
//! - The parent: first, if the container has input, a byte with the file that it reads; then bytes
//!   that are numbers of signals for the container's first process. When it closes its end, or
//!   dies, the helper kills the container.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::error::StartFailure;

/// First argument that makes a program of ours the helper.
pub(crate) const HELPER_ARGUMENT: &str = "__oci-run";

/// Longest report in bytes; the longest part is an error text of a runtime.
pub(crate) const REPORT_BYTES_MAX: usize = 64 * 1024;

/// The byte that an open file is sent with.
const FILE: u8 = b'f';

/// Sends an open file.
///
/// # Errors
/// Those of the socket.
pub(crate) fn send_file(to: impl AsFd, file: impl AsFd) -> io::Result<()> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(
        to,
        &[IoSlice::new(&[FILE])],
        &mut rights,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Reads what comes: how many bytes, or an open file, whose byte is not one of them.
///
/// # Errors
/// Those of the socket.
pub(crate) fn receive(from: impl AsFd, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(into)];
    let received = recvmsg(from, parts, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    // The kernel ends a read behind the bytes that files came with.
    match files.next().and_then(|mut files| files.next()) {
        Some(file) => Ok((0, Some(file))),
        None => Ok((received.bytes, None)),
    }
}

/// The last word of the helper about a container; it comes after everything is cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Report {
    /// The process exited.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal killed the process.
    Signaled {
        /// Its number.
        signal: i32,
    },
    /// The program could not be started.
    StartFailed {
        /// Kind of failure.
        reason: StartFailure,
        /// In runc's words.
        message: String,
    },
    /// The container could not be made.
    ContainerFailed {
        /// The runtime's words.
        message: String,
    },
}

impl Report {
    /// As a line, shortened to what the parent accepts.
    pub(crate) fn to_line(&self) -> Vec<u8> {
        let line = serde_json::to_vec(self).unwrap_or_default();
        let mut line = if line.len() < REPORT_BYTES_MAX {
            line
        } else {
            br#"{"type":"container_failed","message":"the runtime's error text is too long"}"#
                .to_vec()
        };
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_arrives_before_what_is_said_after_it() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send_file(&here, &file).unwrap();
        here.write_all(b"then").unwrap();
        drop(here);
        let mut buffer = [0; 16];
        let (length, received) = receive(&there, &mut buffer).unwrap();
        assert_eq!(length, 0);
        let received = std::fs::File::from(received.unwrap());
        received.set_len(7).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 7);
        assert!(matches!(receive(&there, &mut buffer), Ok((4, None))));
        assert_eq!(buffer[..4], *b"then");
        assert!(matches!(receive(&there, &mut buffer), Ok((0, None))));
    }
}
