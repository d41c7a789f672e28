//! One process owns a root directory: RocksDB wants it so, and equal work of several commands is
//! done once only where they meet. But many commands may want the same root at once.
//!
//! - The process that a person starts ([`front`]) does not work itself. If some varve owns the
//!   root, it sends its command there, with its files, environment and directory, and is a *guest*.
//!   Otherwise it splits, and its child becomes the owner. Either way it passes signals on and ends
//!   with the command's exit code.
//! - The owner ([`serve`]) carries out its own command and those of its guests ([`guests`]), each
//!   on a thread of its own, with one store, one engine, one runtime ([`shared`]). It ends when
//!   none is left.
//! - As long as it has no guests it dies with the process that was started, so that SIGKILL of that
//!   means what everybody expects.
//!
//! What is absent: a service that stays. The last command closes everything.

pub(crate) mod front;
mod guests;
pub(crate) mod protocol;
pub(crate) mod shared;
pub(crate) mod turns;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::Context;
use mount::Namespace;
use rustix::process::{Signal, kill_process};

use crate::args::Command;
use crate::caller::{Caller, Sent};
use crate::commands;
use crate::daemon::Site;
use crate::error::{self, EXIT_FAILED, EXIT_SIGNAL};
use guests::{Company, Event};
use protocol::{Answer, Surroundings};
use shared::{BeGuest, Shared};

/// What the first thread of a program gets.
const STACK_BYTES: usize = 8 << 20;

/// What a program that panics ends with.
const EXIT_PANICKED: u8 = 101;

/// What a signal number is taken for when whoever sent signals is gone.
const SIGTERM: u8 = 15;

/// Carries out a command as the owner of the root, then those of its guests. `front` leads to the
/// process that was started. Gives the exit code.
///
/// # Errors
/// The process cannot be made what it should be; nothing was done.
pub(crate) fn serve(
    site: Site,
    command: Command,
    front: UnixStream,
    may_be_guest: bool,
) -> anyhow::Result<u8> {
    // Not in the terminal's foreground: what is typed there is for the front, which passes it on.
    rustix::process::setsid().context("cannot start a session")?;
    // Guests come from where this process still is.
    let (surroundings, outside) = (Surroundings::here(), Namespace::of_process()?);
    let site = site.with_rights()?;
    let (company, events) = Company::new(&site, surroundings);
    let shared = Arc::new(Shared::new(company.clone(), may_be_guest, outside));
    let site = site.shared(shared.clone());
    let caller = Caller::current();
    caller.set_front(front.try_clone()?);
    {
        let (front, caller, company) = (front.try_clone()?, caller.clone(), company.clone());
        let told = front.try_clone()?;
        spawn("varve-signals", move || {
            // Where a command does not look, the process has no better way to end.
            pass_signals(front, &caller, |sent| match sent {
                Sent::Signal(signal) if company.is_alone() => {
                    end_at_once(EXIT_SIGNAL + signal, &told);
                }
                // Killed, which kills this process too. One that was told its command's end is
                // gone for that, and this process has guests to see off or ends by itself.
                Sent::Gone if company.is_its_own() => end_at_once(EXIT_SIGNAL + SIGTERM, &told),
                Sent::Signal(_) | Sent::Gone => {}
            });
        })?;
    }
    {
        let (front, company) = (front.try_clone()?, company.clone());
        spawn("varve-command", move || {
            let done = caller.serve(|| run(&site, command));
            drop(site);
            let code = done.unwrap_or_else(|BeGuest| {
                if let Err(error) = Answer::Again.send(&front) {
                    tracing::debug!(%error, "nobody waits any more");
                }
                EXIT_FAILED
            });
            company.own_command_ended(code);
        })?;
    }
    let code = supervise(&events, &front);
    shared.close();
    Ok(code)
}

/// Ends the process in the middle of what its other threads do. Leaving as programs usually do
/// would take apart the database's memory under a thread that opens or uses it.
fn end_at_once(code: u8, front: &UnixStream) {
    if let Err(error) = Answer::Ended(code).send(front) {
        tracing::debug!(%error, "the process that was started is gone");
    }
    if let Err(error) = kill_process(rustix::process::getpid(), Signal::KILL) {
        tracing::error!(%error, "this process cannot end itself");
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name(name.into());
    thread
        .stack_size(STACK_BYTES)
        .spawn(work)
        .context("cannot start a thread")?;
    Ok(())
}

/// A command from beginning to end: its exit code.
///
/// # Errors
/// [`BeGuest`]: nothing was done.
fn run(site: &Site, command: Command) -> Result<u8, BeGuest> {
    let done = catch_unwind(AssertUnwindSafe(|| commands::dispatch(site, command)));
    match done {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) => match error.downcast_ref() {
            Some(BeGuest) => Err(BeGuest),
            None => Ok(error::report(&error)),
        },
        Err(_) => Ok(EXIT_PANICKED),
    }
}

/// Passes on to a command what comes from the process that was started for it. `unheard` is called
/// for signals that the command does not look at.
fn pass_signals(mut from: UnixStream, caller: &Caller, unheard: impl Fn(Sent)) {
    let mut signal = [0];
    loop {
        let sent = match from.read_exact(&mut signal) {
            Ok(()) => Sent::Signal(signal[0]),
            // Killed: so is the command.
            Err(_) => Sent::Gone,
        };
        if !caller.signals().send(sent) {
            unheard(sent);
        }
        if sent == Sent::Gone {
            return;
        }
    }
}

/// Keeps the process's end in step with its guests, until it is there.
fn supervise(events: &Receiver<Event>, front: &UnixStream) -> u8 {
    die_with_front(true);
    let mut own_code = None;
    while let Ok(event) = events.recv() {
        match event {
            Event::GuestCame => die_with_front(false),
            Event::GuestsGone if own_code.is_none() => die_with_front(true),
            Event::GuestsGone => {}
            Event::OwnCommandEnded { code } => {
                own_code = Some(code);
                die_with_front(false);
                // Whoever waits for the end of its output goes on, and it itself if it is there.
                let told = Answer::Ended(code).send(front);
                if let Err(error) = let_go().and(told) {
                    tracing::debug!(%error, "the process that was started is gone");
                }
            }
            Event::End { code } => return own_code.unwrap_or(code),
        }
    }
    own_code.unwrap_or_default()
}

/// Whether this process is killed when the one that was started has died. Of the first thread
/// alone: that attribute is a thread's.
fn die_with_front(does: bool) {
    let signal = does.then_some(Signal::KILL);
    if let Err(error) = rustix::process::set_parent_process_death_signal(signal) {
        tracing::warn!(%error, "this process may outlive the one that was started");
    }
}

/// Closes what the process has of its terminal.
fn let_go() -> std::io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))?)
}
