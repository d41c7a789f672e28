//! For whom a command works: whose terminal it writes to, whose directory relative paths mean, who
//! may stop it. Mostly that is the process that a person started; a guest's command runs in the
//! process of another one (see [`crate::owner`]).

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use solver::request::OpenFile;
use tokio::sync::{mpsc, watch};

use crate::owner::protocol::Answer;

/// One who has started a command.
#[derive(Debug)]
pub(crate) struct Caller {
    place: Place,
    stdin_is_read: AtomicBool,
    signals: Signals,
    /// Leads to the process that was started, which passes signals on.
    front: OnceLock<UnixStream>,
}

#[derive(Debug)]
enum Place {
    /// This process's.
    Here,
    /// Another process's.
    Elsewhere {
        /// Standard input, output and error.
        streams: [OwnedFd; 3],
        directory: PathBuf,
    },
}

/// A standard stream, without a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream<'c>(BorrowedFd<'c>);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Caller>>> = const { RefCell::new(None) };
}

impl Caller {
    /// One with other standard streams and another working directory than this process.
    pub(crate) fn elsewhere(streams: [OwnedFd; 3], directory: PathBuf) -> Arc<Self> {
        Arc::new(Caller::of(Place::Elsewhere { streams, directory }))
    }

    fn of(place: Place) -> Self {
        Caller {
            place,
            stdin_is_read: AtomicBool::new(false),
            signals: Signals::default(),
            front: OnceLock::new(),
        }
    }

    /// Tells where the process is that was started for it.
    pub(crate) fn set_front(&self, front: UnixStream) {
        // Once, by whoever begins to carry a command out.
        drop(self.front.set(front));
    }

    /// From now on each signal is the command's own affair: none of them ends it, whoever sends
    /// them how often.
    ///
    /// # Errors
    /// The process that was started is gone.
    pub(crate) fn take_signals(&self) -> io::Result<mpsc::UnboundedReceiver<Sent>> {
        let sent = self.signals.take();
        match self.front.get() {
            Some(front) => Answer::AllSignals.send(front)?,
            None => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(sent)
    }

    /// Whoever this thread works for. Threads that were not told work for this process.
    pub(crate) fn current() -> Arc<Self> {
        static OWN: OnceLock<Arc<Caller>> = OnceLock::new();
        let own = || {
            OWN.get_or_init(|| Arc::new(Caller::of(Place::Here)))
                .clone()
        };
        CURRENT.with_borrow(Option::clone).unwrap_or_else(own)
    }

    /// Does some work on this thread for this caller.
    pub(crate) fn serve<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let done = work();
        CURRENT.set(before);
        done
    }

    /// Standard input. It can be read once.
    pub(crate) fn stdin(&self) -> Stream<'_> {
        self.stdin_is_read.store(true, Ordering::Relaxed);
        self.terminal_of_stdin()
    }

    /// Standard input, for somebody who outlives the borrow.
    ///
    /// # Errors
    /// There are too many open files.
    pub(crate) fn stdin_file(&self) -> io::Result<File> {
        Ok(self.stdin().0.try_clone_to_owned()?.into())
    }

    /// Whether somebody has asked for it.
    pub(crate) fn has_read_stdin(&self) -> bool {
        self.stdin_is_read.load(Ordering::Relaxed)
    }

    /// Standard input, to ask it about itself without reading it.
    pub(crate) fn terminal_of_stdin(&self) -> Stream<'_> {
        match &self.place {
            Place::Here => Stream(rustix::stdio::stdin()),
            Place::Elsewhere { streams, .. } => Stream(streams[0].as_fd()),
        }
    }

    /// Standard output.
    pub(crate) fn stdout(&self) -> Stream<'_> {
        match &self.place {
            Place::Here => Stream(rustix::stdio::stdout()),
            Place::Elsewhere { streams, .. } => Stream(streams[1].as_fd()),
        }
    }

    /// Standard error.
    pub(crate) fn stderr(&self) -> Stream<'_> {
        match &self.place {
            Place::Here => Stream(rustix::stdio::stderr()),
            Place::Elsewhere { streams, .. } => Stream(streams[2].as_fd()),
        }
    }

    /// Writes a line to standard error.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{}\n", text.trim_end());
        let written = self.stderr().write_all(line.as_bytes());
        // Nobody is left to be told.
        drop(written);
    }

    /// A path as this caller means it.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(crate) fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        match &self.place {
            Place::Elsewhere { directory, .. } if !path.as_os_str().is_empty() => {
                std::path::absolute(directory.join(path))
            }
            _ => std::path::absolute(path),
        }
    }

    /// What it wants stopped.
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }
}

impl Stream<'_> {
    /// Whether a person sits there.
    pub(crate) fn is_terminal(self) -> bool {
        self.0.is_terminal()
    }
}

impl AsFd for Stream<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The caller's standard output, as something that an image can be written to.
///
/// # Errors
/// There can be no more open files.
pub(crate) fn open_stdout() -> io::Result<OpenFile> {
    let stdout = Caller::current().stdout().as_fd().try_clone_to_owned()?;
    Ok(OpenFile(Arc::new(stdout.into())))
}

/// Numbers of signals on their way to a command.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The last one; 0 before the first.
    last: watch::Sender<u8>,
    is_watched: AtomicBool,
    /// Where each of them goes, if a command wants them so.
    each: Mutex<Option<mpsc::UnboundedSender<Sent>>>,
}

/// What comes from the process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The signal of this number.
    Signal(u8),
    /// It is gone.
    Gone,
}

/// What the end of a process is taken for by those who only know signals.
const SIGTERM: u8 = 15;

impl Default for Signals {
    fn default() -> Self {
        Signals {
            last: watch::Sender::new(0),
            is_watched: AtomicBool::new(false),
            each: Mutex::default(),
        }
    }
}

impl Signals {
    /// Sends something; whether the command takes care of it.
    pub(crate) fn send(&self, sent: Sent) -> bool {
        let each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(each) = &*each {
            // A command that does not listen any more is about to end.
            return each.send(sent).is_ok();
        }
        self.last.send_replace(match sent {
            Sent::Signal(signal) => signal,
            Sent::Gone => SIGTERM,
        });
        self.is_watched.load(Ordering::SeqCst)
    }

    /// The last one that came, for a command that does not watch them yet.
    pub(crate) fn came(&self) -> Option<u8> {
        Some(*self.last.borrow()).filter(|signal| *signal != 0)
    }

    fn take(&self) -> mpsc::UnboundedReceiver<Sent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.each.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Those that come from now on, and the last one that came already.
    pub(crate) fn watch(&self) -> watch::Receiver<u8> {
        self.is_watched.store(true, Ordering::SeqCst);
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_thread_works_for_whom_it_was_told_to_and_then_for_this_process_again() {
        let (mut reader, writer) = io::pipe().unwrap();
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let files = [null(), null(), writer.into()];
        let caller = Caller::elsewhere(files, "/somewhere".into());
        caller.serve(|| {
            Caller::current().say("hello\n");
            let path = Caller::current().absolute(Path::new("else")).unwrap();
            assert_eq!(path, Path::new("/somewhere/else"));
            let path = Caller::current().absolute(Path::new("/else")).unwrap();
            assert_eq!(path, Path::new("/else"));
        });
        assert!(matches!(Caller::current().place, Place::Here));
        drop(caller);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn a_signal_that_came_before_somebody_watched_is_seen() {
        let signals = Signals::default();
        assert!(!signals.send(Sent::Gone));
        assert_eq!(*signals.watch().borrow(), 15);
        assert!(signals.send(Sent::Signal(2)));
    }

    #[test]
    fn a_command_that_wants_each_signal_gets_each() {
        let signals = Signals::default();
        let mut taken = signals.take();
        for sent in [Sent::Signal(2), Sent::Signal(2), Sent::Gone] {
            assert!(signals.send(sent));
            assert_eq!(taken.try_recv(), Ok(sent));
        }
        assert_eq!(*signals.watch().borrow(), 0);
    }
}
