//! containerd over its API: an archive goes into its content store, is unpacked by its snapshotter,
//! and gets its names. Neither nerdctl nor ctr is needed.
//!
//! Until the names are there a lease keeps everything; a transfer that breaks off leaves nothing
//! but what that lease gives up within the hour.

mod client;
mod documents;
mod import;
mod unpack;

use std::io::{self, PipeReader, PipeWriter, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use solver::request::{Handover, Receiver};

use self::client::Client;

/// How often to look whether a thread that has stopped reading has ended.
const ENDED_LOOKS: u32 = 20;

/// See [`ENDED_LOOKS`].
const ENDED_INTERVAL: Duration = Duration::from_millis(25);

/// A containerd, and where in it images go.
#[derive(Clone, Debug)]
pub(super) struct Containerd {
    pub(super) address: PathBuf,
    pub(super) namespace: String,
    pub(super) snapshotter: String,
}

impl Containerd {
    /// Asks whether it is there.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn answers(&self) -> Result<(), String> {
        // Tried first: what is wrong is told in the kernel's words.
        let connected = std::os::unix::net::UnixStream::connect(&self.address);
        connected.map_err(|error| crate::error::sentence(&error))?;
        let asked = self.run(async |client| client.version().await);
        asked.map_err(|error| error.to_string())
    }

    /// Does something with it, on this thread.
    fn run<T>(&self, work: impl AsyncFnOnce(Client) -> io::Result<T>) -> io::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = Client::connect(self).await?;
            work(client).await
        })
    }

    fn import(&self, archive: PipeReader) -> io::Result<String> {
        self.run(async |mut client| {
            client.begin_lease().await?;
            let imported = import::import(&mut client, archive).await;
            // It ends by itself otherwise.
            let ended = client.end_lease().await;
            let names = imported?;
            ended?;
            Ok(format!("Loaded image: {}", names.join(", ")))
        })
    }
}

impl Receiver for Containerd {
    fn name(&self) -> &str {
        "containerd"
    }

    fn begin(&self) -> io::Result<Box<dyn Handover>> {
        let (archive, writer) = io::pipe()?;
        let containerd = self.clone();
        let thread = std::thread::Builder::new()
            .name("varve-load".to_owned())
            .spawn(move || containerd.import(archive))?;
        Ok(Box::new(Transfer {
            writer: Some(writer),
            thread: Some(thread),
        }))
    }
}

/// An archive on its way to the thread that takes it apart.
struct Transfer {
    writer: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<String>>>,
}

impl Transfer {
    fn end(&mut self) -> io::Result<String> {
        drop(self.writer.take());
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Err(io::Error::other("the transfer broke down")),
        }
    }
}

impl Write for Transfer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Handover for Transfer {
    fn finish(mut self: Box<Self>) -> io::Result<String> {
        self.end()
    }

    fn failure(&mut self) -> Option<io::Error> {
        // One that goes on has nothing against it: whoever writes knows what is wrong.
        for _ in 0..ENDED_LOOKS {
            if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                return self.end().err();
            }
            std::thread::sleep(ENDED_INTERVAL);
        }
        None
    }
}
