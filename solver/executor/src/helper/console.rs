//! The terminal of a container: a runtime makes it inside and sends its master to a socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pty::OpenptFlags;

use super::{Job, Launch, failed};
use crate::attached::resize;
use crate::protocol;

/// Name of the socket in the bundle.
const SOCKET: &str = "console.sock";

/// How long a runtime that is through may take to have sent it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a runtime sends the master to.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens in the bundle, however long its path is.
    pub(super) fn listen(bundle: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(bundle, flags, Mode::empty())?;
        let short = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        Ok(Console {
            listener: UnixListener::bind(short)?,
            path: bundle.join(SOCKET),
        })
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the master, makes the terminal what the job says, and hands it to the parent.
    pub(super) fn hand_over(&self, job: &Job, control: &UnixStream) -> Launch<()> {
        let handed = self.receive().and_then(|master| {
            if let Some((size, uid)) = job.terminal {
                resize(&master, size)?;
                give_away(&master, uid)?;
            }
            protocol::send_file(control, &master)
        });
        handed.map_err(|error| failed("cannot make a terminal", error))
    }

    fn receive(&self) -> io::Result<OwnedFd> {
        // The runtime has connected before it came to its end.
        self.listener.set_nonblocking(true)?;
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Runtimes send a name with it.
        let (_, master) = protocol::receive(&stream, &mut [0; 4_096])?;
        master.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Makes the process's user the owner of its terminal, so that it can open /dev/stdout.
fn give_away(master: &OwnedFd, uid: u32) -> io::Result<()> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(master, flags)?;
    Ok(rustix::fs::fchown(
        terminal,
        Some(Uid::from_raw(uid)),
        None::<Gid>,
    )?)
}
