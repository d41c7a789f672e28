//! ssh agents of the caller, forwarded into steps (`RUN --mount=type=ssh`).
//!
//! A step gets a socket of ours, never the agent's own: what passes is asking for the list of
//! keys and for signatures. A step cannot add, remove or lock keys of the caller.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use llb::op::SshMount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Error, Result};

/// Longest message in bytes, as in OpenSSH (`AGENT_MAX_LEN`).
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;

/// Connections of one step at a time; more wait.
const CONNECTIONS_MAX: usize = 64;

/// Requests that pass (draft-ietf-sshm-ssh-agent, section 5): list the keys, sign.
const ALLOWED: [u8; 2] = [11, 13];

/// The answer to all others: SSH_AGENT_FAILURE.
const FAILURE: [u8; 1] = [5];

/// Sockets of agents, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents(BTreeMap<String, PathBuf>);

impl Agents {
    /// Adds an agent by its socket. Says whether the id was free.
    pub fn insert(&mut self, id: impl Into<String>, socket: PathBuf) -> bool {
        self.0.insert(id.into(), socket).is_none()
    }

    /// The socket of the agent with this id.
    pub(crate) fn find(&self, id: &str) -> Option<PathBuf> {
        self.0.get(id).cloned()
    }

    /// The socket of an agent; `None` if there is none and that is no error.
    ///
    /// # Errors
    /// [`Error::NoAgent`].
    pub(crate) fn get(&self, mount: &SshMount) -> Result<Option<PathBuf>> {
        match self.find(&mount.id) {
            Some(socket) => Ok(Some(socket)),
            None if mount.optional => Ok(None),
            None => Err(Error::NoAgent {
                id: mount.id.clone(),
            }),
        }
    }
}

/// A socket that leads to an agent. Both go with the value, and all connections.
#[derive(Debug)]
pub(crate) struct Forwarding {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Forwarding {
    /// Listens on a socket below `directory`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn start(directory: &Path, agent: PathBuf, owner: &SshMount) -> Result<Self> {
        let path = directory.join("agent");
        let listen = || -> io::Result<UnixListener> {
            // The address of a socket has 108 bytes at most, the root directory may have more.
            let opened = fs::File::open(directory)?;
            let short = format!("/proc/self/fd/{}/agent", opened.as_raw_fd());
            let listener = std::os::unix::net::UnixListener::bind(short)?;
            listener.set_nonblocking(true)?;
            std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(owner.mode))?;
            UnixListener::from_std(listener)
        };
        let listener = listen().map_err(|error| Error::io("listen on", &path, error))?;
        let task = tokio::spawn(accept(listener, agent));
        Ok(Forwarding { path, task })
    }

    /// Where the socket is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cannot remove a socket");
        }
    }
}

async fn accept(listener: UnixListener, agent: PathBuf) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let agent = agent.clone();
        connections.spawn(async move {
            if let Err(error) = serve(client, &agent).await {
                tracing::debug!(agent = %agent.display(), %error, "an agent was not reached");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Passes requests on one after the other, as agents answer them.
async fn serve(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent).await?;
    while let Some(request) = receive(&mut client).await? {
        let answer = match request.first() {
            Some(kind) if ALLOWED.contains(kind) => {
                send(&mut agent, &request).await?;
                let answer = receive(&mut agent).await?;
                answer.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            _ => FAILURE.to_vec(),
        };
        send(&mut client, &answer).await?;
    }
    Ok(())
}

/// One message; `None` at the end.
async fn receive(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every request with its type and a mark.
    async fn echo(listener: UnixListener) {
        while let Ok((mut client, _)) = listener.accept().await {
            while let Ok(Some(request)) = receive(&mut client).await {
                send(&mut client, &[request[0], 0xaa]).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn keys_are_listed_and_used_and_never_changed() {
        let directory = tempfile::tempdir().unwrap();
        let agent = directory.path().join("real");
        let task = tokio::spawn(echo(UnixListener::bind(&agent).unwrap()));
        // Longer than the address of a socket.
        let deep = directory.path().join("d".repeat(120));
        fs::create_dir(&deep).unwrap();
        let owner = SshMount {
            mode: 0o660,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            ..SshMount::default()
        };
        let forwarding = Forwarding::start(&deep, agent, &owner).unwrap();
        let mode = fs::metadata(forwarding.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let opened = fs::File::open(&deep).unwrap();
        let short = format!("/proc/self/fd/{}/agent", opened.as_raw_fd());
        let mut client = UnixStream::connect(&short).await.unwrap();
        for (request, answer) in [
            (11, vec![11, 0xaa]),
            (17, vec![5]),
            (13, vec![13, 0xaa]),
            (18, vec![5]),
            (19, vec![5]),
            (22, vec![5]),
            (27, vec![5]),
        ] {
            send(&mut client, &[request, 1, 2, 3]).await.unwrap();
            let got = receive(&mut client).await.unwrap();
            assert_eq!(got, Some(answer), "{request}");
        }
        client.write_u32(u32::MAX).await.unwrap();
        assert!(
            receive(&mut client).await.unwrap().is_none(),
            "too long: cut off"
        );
        let path = forwarding.path().to_owned();
        drop(forwarding);
        assert!(!path.exists());
        task.abort();
    }

    #[test]
    fn an_agent_that_is_missing_is_an_error_only_where_it_is_required() {
        let mut agents = Agents::default();
        assert!(agents.insert("default", "/a".into()) && !agents.insert("default", "/b".into()));
        let mut mount = SshMount {
            id: "other".into(),
            optional: true,
            ..SshMount::default()
        };
        assert_eq!(agents.get(&mount).unwrap(), None);
        mount.optional = false;
        let error = agents.get(&mount).unwrap_err().to_string();
        assert!(
            error.starts_with("no SSH key \"other\" forwarded from the client; "),
            "{error}"
        );
    }
}
