//! The process that a person starts: finds somebody who carries the command out, passes signals on,
//! and ends as the command does.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use mount::Forked;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::termios::{OptionalActions, Termios};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::protocol::{Answer, Hello, Surroundings, socket_path};
use super::serve;
use crate::args::Command;
use crate::daemon::Site;
use crate::error::{self, EXIT_SIGNAL, say};
use crate::interrupt::{END_TIMEOUT, is_ignored};

/// How long to wait before asking again somebody who is about to end.
const AGAIN_INTERVAL: Duration = Duration::from_millis(20);

/// What became of a command.
enum Outcome {
    Ended(u8),
    /// Nothing was done; somebody else may do it now.
    Again,
    /// The other process is gone.
    Lost,
}

/// Has a command carried out that uses the store; gives the exit code. `words` are those of the
/// command line.
///
/// # Errors
/// There can be no more processes; the owner that carried it out is gone.
pub(crate) fn carry_out(site: Site, command: Command, words: &[OsString]) -> anyhow::Result<u8> {
    let mut may_be_guest = true;
    // Of the only branch that does not come back.
    let mut own = Some((site, command));
    loop {
        let (site, _) = own.as_ref().expect("it is taken by a child only");
        let owner = may_be_guest.then(|| connect(&site.root)).flatten();
        if let Some(owner) = owner {
            match ask(&owner, words) {
                Ok(Answer::Accepted) => match relay(owner)? {
                    Outcome::Ended(code) => return Ok(code),
                    Outcome::Again | Outcome::Lost => bail!(
                        "the varve that carried this out with its own command was killed; nothing \
                         that was complete is lost: run it again"
                    ),
                },
                Ok(Answer::Refused) => may_be_guest = false,
                // It is about to end.
                Ok(Answer::Again | Answer::Ended(_) | Answer::AllSignals) => {
                    std::thread::sleep(AGAIN_INTERVAL)
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot be a guest");
                    std::thread::sleep(AGAIN_INTERVAL);
                }
            }
            continue;
        }
        let (front, back) = UnixStream::pair().context("cannot make a socket")?;
        match mount::fork_process()? {
            Forked::Child => {
                drop(front);
                let (site, command) = own.take().expect("it is taken by a child only");
                let code = serve(site, command, back, may_be_guest);
                let code = code.unwrap_or_else(|error| error::report(&error));
                std::process::exit(code.into());
            }
            Forked::Parent(child) => {
                drop(back);
                match relay(front)? {
                    Outcome::Ended(code) => return Ok(code),
                    Outcome::Lost => return wait(child),
                    Outcome::Again => {
                        // However it ended: it has done nothing.
                        end_of(child)?;
                        return Err(start_again(words));
                    }
                }
            }
        }
    }
}

fn connect(root: &Path) -> Option<UnixStream> {
    let root = File::open(root).ok()?;
    UnixStream::connect(socket_path(&root)).ok()
}

/// Whether some process takes guests.
pub(super) fn is_owner_there(root: &Path) -> bool {
    connect(root).is_some()
}

/// Asks the owner of a root to carry the command out.
fn ask(mut owner: &UnixStream, words: &[OsString]) -> io::Result<Answer> {
    Hello::new(words, Surroundings::here()?)?.send(owner)?;
    let mut answer = [0; 2];
    owner.read_exact(&mut answer)?;
    Answer::read(answer)
}

/// The program from the beginning: this process watches signals already, and a child would share
/// that with it.
fn start_again(words: &[OsString]) -> anyhow::Error {
    let mut words = words.iter();
    let mut again = std::process::Command::new("/proc/self/exe");
    again
        .arg0(words.next().map_or("varve".as_ref(), OsString::as_os_str))
        .args(words);
    anyhow::Error::new(again.exec()).context("cannot start varve again")
}

/// Passes signals on until the command has ended.
fn relay(link: UnixStream) -> anyhow::Result<Outcome> {
    // A command may change it; whatever becomes of that, the terminal is left as it was.
    let _terminal = TerminalState::of_stdin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let outcome = runtime.block_on(async {
        link.set_nonblocking(true)?;
        let (mut answers, mut link) = tokio::net::UnixStream::from_std(link)?.into_split();
        let (answer, mut answered) = tokio::sync::mpsc::channel(1);
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 2];
            while answers.read_exact(&mut bytes).await.is_ok() {
                if answer.send(Answer::read(bytes)).await.is_err() {
                    return;
                }
            }
        });
        let mut signals = watched()?;
        let (mut first, mut are_all_passed) = (None, false);
        let outcome = loop {
            let patience = async {
                match first {
                    None => std::future::pending().await,
                    Some(signal) => {
                        tokio::time::sleep(END_TIMEOUT).await;
                        signal
                    }
                }
            };
            tokio::select! {
                answer = answered.recv() => match answer.transpose()? {
                    Some(Answer::Accepted | Answer::Refused) => {}
                    Some(Answer::AllSignals) => {
                        signals.extend(further()?);
                        (first, are_all_passed) = (None, true);
                    }
                    Some(Answer::Again) => break Outcome::Again,
                    Some(Answer::Ended(code)) => break Outcome::Ended(code),
                    None => break Outcome::Lost,
                },
                signal = next(&mut signals) => {
                    let before = if are_all_passed { None } else { first.replace(signal) };
                    if let Some(first) = before {
                        // Asked twice: whatever it is doing.
                        break Outcome::Ended(EXIT_SIGNAL + first);
                    }
                    if let Err(error) = link.write_all(&[signal]).await {
                        tracing::debug!(%error, "cannot pass a signal on");
                    }
                }
                signal = patience => break Outcome::Ended(EXIT_SIGNAL + signal),
            }
        };
        reading.abort();
        io::Result::Ok(outcome)
    });
    Ok(outcome?)
}

/// The signals that ask varve to end. The end of the terminal (SIGHUP) is no reason to stop for a
/// program under `nohup`.
fn watched() -> io::Result<Vec<(Signals, u8)>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hangup = SignalKind::hangup();
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !is_ignored(&status, hangup.as_raw_value()) {
        kinds.push(hangup);
    }
    listen(&kinds)
}

/// The signals that mean something to a command that takes all of them.
fn further() -> io::Result<Vec<(Signals, u8)>> {
    listen(&[
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
        SignalKind::window_change(),
    ])
}

fn listen(kinds: &[SignalKind]) -> io::Result<Vec<(Signals, u8)>> {
    let number = |kind: SignalKind| u8::try_from(kind.as_raw_value()).unwrap_or_default();
    let kinds = kinds.iter();
    kinds
        .map(|kind| Ok((signal(*kind)?, number(*kind))))
        .collect()
}

/// How the terminal is set, if standard input is one; set so again on drop.
struct TerminalState(Option<Termios>);

impl TerminalState {
    fn of_stdin() -> Self {
        TerminalState(rustix::termios::tcgetattr(rustix::stdio::stdin()).ok())
    }
}

impl Drop for TerminalState {
    fn drop(&mut self) {
        let stdin = rustix::stdio::stdin();
        let now = rustix::termios::tcgetattr(stdin);
        if let (Some(before), Ok(now)) = (&self.0, now)
            // Of a job in the background, setting it would stop this process.
            && format!("{now:?}") != format!("{before:?}")
            && let Err(error) = rustix::termios::tcsetattr(stdin, OptionalActions::Now, before)
        {
            tracing::debug!(%error, "cannot set the terminal as it was");
        }
    }
}

/// The signal that comes next.
async fn next(signals: &mut [(Signals, u8)]) -> u8 {
    std::future::poll_fn(|context| {
        for (signal, number) in &mut *signals {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Waits for the child's end.
fn end_of(child: u32) -> anyhow::Result<WaitStatus> {
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
    let waited = rustix::process::waitpid(pid, WaitOptions::empty());
    let Some((_, status)) = waited.context("cannot wait for the process that works")? else {
        bail!("the process that works is somebody else's");
    };
    Ok(status)
}

/// Waits for the child's end; gives its exit code, or ends as it did.
fn wait(child: u32) -> anyhow::Result<u8> {
    let status = end_of(child)?;
    if let Some(code) = status.exit_status() {
        return Ok(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let signal = status.terminating_signal().unwrap_or_default();
    if signal == Signal::KILL.as_raw() {
        // Nobody can tell the two apart.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL)?;
    }
    say(&format!("ERROR: varve was ended by signal {signal}"));
    Ok(EXIT_SIGNAL.saturating_add(u8::try_from(signal).unwrap_or_default()))
}
