//! What goes over the socket between a process that was started and the owner of a root.
//!
//! A guest sends a [`Hello`] with its standard streams; then each byte is the number of a signal.
//! The owner sends [`Answer`]s. The two are of the same program, so nothing here has versions.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// Largest [`Hello`], in bytes: arguments and environment of a process are not larger (execve(2)).
const HELLO_BYTES_MAX: u32 = 64 << 20;

/// Name of the socket, in the root directory.
const SOCKET: &str = "guests.sock";

/// Namespaces in which a command means something else.
const NAMESPACES: [&str; 4] = ["mnt", "net", "user", "pid"];

/// Where the owner of a root listens. `directory` is the root, open: a path may be too long for a
/// socket's address (unix(7)).
pub(super) fn socket_path(directory: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    let descriptor = directory.as_fd().as_raw_fd();
    PathBuf::from(format!("/proc/self/fd/{descriptor}")).join(SOCKET)
}

/// What a command takes from the process that it is started in, and cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surroundings {
    /// The program, so that both mean the same by each word: device, inode, time of change.
    program: (u64, u64, i64),
    namespaces: Vec<PathBuf>,
    umask: u32,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn here() -> io::Result<Self> {
        let program = std::fs::metadata("/proc/self/exe")?;
        let namespace = |name: &&str| std::fs::read_link(Path::new("/proc/self/ns").join(name));
        // The only way to ask for it is to set it; nothing else runs yet.
        let umask = rustix::process::umask(rustix::fs::Mode::empty());
        rustix::process::umask(umask);
        Ok(Surroundings {
            program: (program.dev(), program.ino(), program.mtime_nsec()),
            namespaces: NAMESPACES
                .iter()
                .map(namespace)
                .collect::<io::Result<_>>()?,
            umask: umask.bits(),
        })
    }
}

/// A command that somebody wants carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) surroundings: Surroundings,
    words: Vec<Vec<u8>>,
    variables: Vec<(Vec<u8>, Vec<u8>)>,
    directory: Vec<u8>,
}

impl Hello {
    /// The command of this process.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(super) fn new(words: &[OsString], surroundings: Surroundings) -> io::Result<Self> {
        let bytes = |text: OsString| text.into_vec();
        let variables = std::env::vars_os();
        Ok(Hello {
            surroundings,
            words: words.iter().cloned().map(bytes).collect(),
            variables: variables
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            directory: bytes(std::env::current_dir()?.into_os_string()),
        })
    }

    /// Its words, with the name of the program.
    pub(super) fn words(&self) -> impl Iterator<Item = &OsStr> {
        self.words.iter().map(|word| OsStr::from_bytes(word))
    }

    /// Its environment.
    pub(super) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        self.variables
            .iter()
            .map(move |(name, value)| (text(name), text(value)))
    }

    /// Where it was started.
    pub(super) fn directory(&self) -> PathBuf {
        OsStr::from_bytes(&self.directory).into()
    }

    /// Sends it, with the standard streams of this process.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn send(&self, mut to: &UnixStream) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
        let streams = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&streams)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let sent = sendmsg(
            to,
            &[IoSlice::new(&length)],
            &mut rights,
            SendFlags::NOSIGNAL,
        )?;
        to.write_all(&length[sent..])?;
        to.write_all(&text)
    }

    /// Takes one in, with the sender's standard streams.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn receive(mut from: &UnixStream) -> io::Result<(Self, [OwnedFd; 3])> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut length)];
        let received = recvmsg(from, into, &mut rights, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let mut streams = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                streams.extend(files);
            }
        }
        from.read_exact(&mut length[received..])?;
        let length = u32::from_le_bytes(length);
        if length > HELLO_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut text = Vec::new();
        from.take(length.into()).read_to_end(&mut text)?;
        let streams = streams.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((serde_json::from_slice(&text)?, streams))
    }
}

/// What the owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command is being carried out.
    Accepted,
    /// It cannot be a guest here.
    Refused,
    /// Things have changed: ask again.
    Again,
    /// The command has ended with this exit code.
    Ended(u8),
    /// All signals are for the command from now on, and none of them is for its front.
    AllSignals,
}

impl Answer {
    /// Sends it.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(crate) fn send(self, mut to: &UnixStream) -> io::Result<()> {
        to.write_all(&match self {
            Answer::Accepted => [0, 0],
            Answer::Refused => [1, 0],
            Answer::Again => [2, 0],
            Answer::Ended(code) => [3, code],
            Answer::AllSignals => [4, 0],
        })
    }

    /// Reads what was sent.
    ///
    /// # Errors
    /// It is no answer.
    pub(super) fn read(bytes: [u8; 2]) -> io::Result<Self> {
        Ok(match bytes {
            [0, 0] => Answer::Accepted,
            [1, 0] => Answer::Refused,
            [2, 0] => Answer::Again,
            [3, code] => Answer::Ended(code),
            [4, 0] => Answer::AllSignals,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_arrives_with_its_streams() {
        let (here, there) = UnixStream::pair().unwrap();
        let words = ["varve".into(), OsString::from_vec(vec![b'x', 0xff])];
        let sent = Hello::new(&words, Surroundings::here().unwrap()).unwrap();
        sent.send(&here).unwrap();
        let (received, streams) = Hello::receive(&there).unwrap();
        assert_eq!(received, sent);
        assert!(received.words().eq(words.iter().map(OsString::as_os_str)));
        assert_eq!(received.directory(), std::env::current_dir().unwrap());
        let [_, _, stderr] = streams.map(std::fs::File::from);
        let own = std::fs::metadata("/proc/self/fd/2").unwrap();
        assert_eq!(stderr.metadata().unwrap().ino(), own.ino());
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bytes in [&b""[..], b"\0\0", b"\xff\xff\xff\xff", b"\x02\0\0\0{}"] {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(bytes).unwrap();
            drop(here);
            Hello::receive(&there).unwrap_err();
        }
    }

    #[test]
    fn answers_are_read_as_they_were_sent() {
        for answer in [
            Answer::Accepted,
            Answer::Refused,
            Answer::Again,
            Answer::Ended(137),
            Answer::AllSignals,
        ] {
            let (here, mut there) = UnixStream::pair().unwrap();
            answer.send(&here).unwrap();
            let mut bytes = [0; 2];
            there.read_exact(&mut bytes).unwrap();
            assert_eq!(Answer::read(bytes).unwrap(), answer);
        }
        Answer::read([9, 9]).unwrap_err();
    }
}
