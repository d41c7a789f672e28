//! The copying between somebody's files and a process's pipes or terminal.
//!
//! Each direction has a thread of its own, not of the asynchronous runtime's: a file that somebody
//! else has opened may be one that can only be waited for by blocking. A thread that copies input
//! ends with the run even if nobody types; one that copies output ends with the output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::Winsize;
use tokio::sync::{mpsc, oneshot};

use crate::process::WindowSize;
use crate::stdio::{Asked, Attached};

/// Bytes that are copied at once; the capacity of a pipe.
const COPY_BYTES: usize = 64 * 1024;

/// How long a pipe may be silent after the container has ended, before it is given up: somebody
/// outside of the container holds its other end.
const ORPHAN_PIPE_DELAY: Duration = Duration::from_millis(500);

/// How long a signal may take to a process, before its pipe says the same.
const SIGNAL_DELAY: Duration = Duration::from_millis(200);

/// What the first process of a container is sent when nobody reads what it prints, as the kernel
/// sends it to any other: SIGPIPE. Of one with a terminal the terminal is gone: SIGHUP.
const READER_GONE: u8 = 13;
const TERMINAL_GONE: u8 = 1;

/// The container's ends of its pipes.
#[derive(Debug)]
pub(crate) struct ContainerEnds {
    /// `None` if it has no input.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: OwnedFd,
    pub(crate) errors: OwnedFd,
}

/// The copying for one run. When it is dropped, nothing more is read from the files.
#[derive(Debug)]
pub(crate) struct Copying {
    /// Ready when it is closed.
    running: OwnedFd,
    /// Its other end.
    run_ends: Option<OwnedFd>,
    copied: Vec<oneshot::Receiver<()>>,
    /// Asks something of the process.
    asks: mpsc::UnboundedSender<Asked>,
}

impl Copying {
    pub(crate) fn new(asks: mpsc::UnboundedSender<Asked>) -> io::Result<Self> {
        let (running, run_ends) = pipe()?;
        Ok(Copying {
            running,
            run_ends: Some(run_ends),
            copied: Vec::new(),
            asks,
        })
    }

    /// Pipes for a process of `uid`, which may open them again by way of /dev/stdout.
    pub(crate) fn pipes(&mut self, attached: Attached, uid: u32) -> io::Result<ContainerEnds> {
        let theirs = |end: OwnedFd| -> io::Result<OwnedFd> {
            rustix::fs::fchown(&end, Some(rustix::fs::Uid::from_raw(uid)), None)?;
            Ok(end)
        };
        let input = match attached.input {
            None => None,
            Some(from) => {
                let (reader, writer) = pipe()?;
                self.copy_input(from, writer)?;
                Some(theirs(reader)?)
            }
        };
        let (output, writer) = pipe()?;
        self.copy_output(output, attached.output, READER_GONE)?;
        let (errors, errors_writer) = pipe()?;
        self.copy_output(errors, attached.errors, READER_GONE)?;
        Ok(ContainerEnds {
            input,
            output: theirs(writer)?,
            errors: theirs(errors_writer)?,
        })
    }

    /// Copies from and to the terminal whose master is given.
    pub(crate) fn terminal(
        &mut self,
        master: &OwnedFd,
        input: Option<OwnedFd>,
        output: OwnedFd,
    ) -> io::Result<()> {
        if let Some(input) = input {
            self.copy_input(input, master.try_clone()?)?;
        }
        self.copy_output(master.try_clone()?, output, TERMINAL_GONE)
    }

    fn copy_input(&self, from: OwnedFd, to: OwnedFd) -> io::Result<()> {
        let copied = self.copy("varve-stdin", (from, to), Duration::ZERO, || {})?;
        // Nobody waits for it.
        drop(copied);
        Ok(())
    }

    /// `signal` is what the process is sent when nobody takes it any more. Whatever writes there
    /// is told so by its pipe; but the kernel does not end the first process of a container.
    fn copy_output(&mut self, from: OwnedFd, to: OwnedFd, signal: u8) -> io::Result<()> {
        let asks = self.asks.clone();
        let ask = move || {
            if asks.send(Asked::Signal(signal)).is_err() {
                tracing::debug!("the container has ended");
            }
        };
        let copied = self.copy("varve-stdout", (from, to), ORPHAN_PIPE_DELAY, ask)?;
        self.copied.push(copied);
        Ok(())
    }

    /// Starts a thread; what it gives back is closed at its end. `gone` is called when nobody
    /// reads.
    fn copy(
        &self,
        name: &str,
        (from, to): (OwnedFd, OwnedFd),
        patience: Duration,
        gone: impl FnOnce() + Send + 'static,
    ) -> io::Result<oneshot::Receiver<()>> {
        let running = self.running.try_clone()?;
        let (ends, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = copy(&from, &to, &running, patience) {
                    tracing::debug!(%error, "the copying for a container ended early");
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        gone();
                        // A program that is to end by the signal must not find out before.
                        wait_for_end(&running, SIGNAL_DELAY);
                    }
                }
                // Both ends are closed first.
                drop((from, to));
                drop(ends);
            })?;
        Ok(ended)
    }

    /// Says that the container has ended, and waits until everything that it printed is copied,
    /// unless `given_up` comes first.
    pub(crate) async fn finish(mut self, given_up: impl Future<Output = ()>) {
        drop(self.run_ends.take());
        let copied = std::mem::take(&mut self.copied);
        let all = async {
            for one in copied {
                // Closed without a word, always.
                drop(one.await);
            }
        };
        tokio::select! {
            () = all => {}
            () = given_up => {}
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Copies until there is nothing more, nobody takes it, or `running` has been closed for as long
/// as `patience` without anything new.
fn copy(from: &OwnedFd, to: &OwnedFd, running: &OwnedFd, patience: Duration) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut has_ended = false;
    loop {
        let mut watched = vec![PollFd::new(from, PollFlags::IN)];
        if !has_ended {
            watched.push(PollFd::new(running, PollFlags::IN));
        }
        let timeout = has_ended
            .then(|| Timespec::try_from(patience))
            .transpose()
            .map_err(io::Error::other)?;
        let ready = match rustix::event::poll(&mut watched, timeout.as_ref()) {
            Err(Errno::INTR) => continue,
            ready => ready?,
        };
        if ready == 0 {
            return Ok(());
        }
        let is_ready = |watched: &PollFd<'_>| !watched.revents().is_empty();
        if watched.get(1).is_some_and(is_ready) {
            if patience.is_zero() {
                // What comes now is for somebody else.
                return Ok(());
            }
            has_ended = true;
        }
        if !watched.first().is_some_and(is_ready) {
            continue;
        }
        let length = match rustix::io::read(from, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            // The other side of a terminal is gone.
            Ok(0) | Err(Errno::IO) => return Ok(()),
            length => length?,
        };
        write_all(to, buffer.get(..length).unwrap_or_default())?;
    }
}

/// Waits until `running` has been closed, for as long as this at most.
fn wait_for_end(running: &OwnedFd, at_most: Duration) {
    let timeout = Timespec::try_from(at_most).ok();
    let waited = rustix::event::poll(&mut [PollFd::new(running, PollFlags::IN)], timeout.as_ref());
    if let Err(error) = waited {
        tracing::debug!(%error, "the end of a container was not waited for");
    }
}

fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Somebody else has made the file so.
                let mut watched = [PollFd::new(to, PollFlags::OUT)];
                match rustix::event::poll(&mut watched, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives a terminal its size.
pub(crate) fn resize(master: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// What is asked next; waits for ever when nobody can ask any more.
pub(crate) async fn next<T>(asked: &mut Option<mpsc::UnboundedReceiver<T>>) -> T {
    if let Some(receiver) = asked {
        if let Some(next) = receiver.recv().await {
            return next;
        }
        *asked = None;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn ends() -> (std::fs::File, std::fs::File) {
        let (reader, writer) = pipe().unwrap();
        (reader.into(), writer.into())
    }

    fn attached(input: Option<OwnedFd>, output: OwnedFd, errors: OwnedFd) -> Attached {
        let (_, asked) = mpsc::unbounded_channel();
        Attached {
            input,
            output,
            errors,
            asked,
        }
    }

    fn copying() -> (Copying, mpsc::UnboundedReceiver<Asked>) {
        let (asks, asked) = mpsc::unbounded_channel();
        (Copying::new(asks).unwrap(), asked)
    }

    fn own_uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_are_and_ends_too() {
        let (input, mut typed) = ends();
        let (mut shown, output) = ends();
        let (_, errors) = ends();
        let (mut copying, _asked) = copying();
        let attached = attached(Some(input.into()), output.into(), errors.into());
        let theirs = copying.pipes(attached, own_uid()).unwrap();
        let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let process = std::thread::spawn(move || {
            // cat(1).
            let (mut from, mut to) = (
                std::fs::File::from(theirs.input.unwrap()),
                std::fs::File::from(theirs.output),
            );
            io::copy(&mut from, &mut to).unwrap();
        });
        let sent = bytes.clone();
        let typing = std::thread::spawn(move || typed.write_all(&sent).unwrap());
        let mut received = Vec::new();
        shown.read_to_end(&mut received).unwrap();
        assert!(received == bytes);
        process.join().unwrap();
        typing.join().unwrap();
        copying.finish(std::future::pending()).await;
    }

    #[tokio::test]
    async fn a_reader_who_has_seen_enough_is_told_to_the_process() {
        let (shown, output) = ends();
        let (_, errors) = ends();
        let (mut copying, mut asked) = copying();
        let attached = attached(None, output.into(), errors.into());
        let theirs = copying.pipes(attached, own_uid()).unwrap();
        drop(shown);
        let mut process = std::fs::File::from(theirs.output);
        let failed = (0..1_000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(1));
            process.write_all(&[0; 4_096]).err()
        });
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(asked.recv().await, Some(Asked::Signal(13)));
    }

    #[tokio::test]
    async fn nothing_is_read_after_the_end_and_nobody_is_waited_for() {
        let (input, mut typed) = ends();
        let mut left = input.try_clone().unwrap();
        let (mut shown, output) = ends();
        let (_, errors) = ends();
        let (mut copying, mut asked) = copying();
        let attached = attached(Some(input.into()), output.into(), errors.into());
        let theirs = copying.pipes(attached, own_uid()).unwrap();
        // Somebody keeps an end of the output.
        let kept = theirs.output.try_clone().unwrap();
        std::fs::File::from(theirs.output)
            .write_all(b"last words")
            .unwrap();
        drop((theirs.input, theirs.errors));
        copying.finish(std::future::pending()).await;
        assert!(asked.try_recv().is_err(), "nobody went away");
        drop(kept);
        let mut text = String::new();
        shown.read_to_string(&mut text).unwrap();
        assert_eq!(text, "last words");
        std::thread::sleep(Duration::from_millis(50));
        typed.write_all(b"for the shell\n").unwrap();
        drop(typed);
        text.clear();
        left.read_to_string(&mut text).unwrap();
        assert_eq!(text, "for the shell\n");
    }
}
