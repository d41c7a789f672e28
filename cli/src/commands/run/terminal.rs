//! The caller's terminal while a process with a terminal of its own runs.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use executor::WindowSize;
use rustix::termios::{OptionalActions, Termios};

use crate::caller::Caller;

/// The caller's terminal, raw: what is typed goes to the process as it is, Ctrl-C too, and what the
/// process writes comes out as it is. Set as before on drop.
#[derive(Debug)]
pub(super) struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes it so. Standard input is a terminal.
    ///
    /// # Errors
    /// It cannot be set.
    pub(super) fn enter(caller: &Caller) -> anyhow::Result<Self> {
        let terminal = caller.stdin().as_fd().try_clone_to_owned();
        let set = terminal.and_then(|terminal| {
            let before = rustix::termios::tcgetattr(&terminal)?;
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
            Ok(Raw { terminal, before })
        });
        set.context("cannot set the terminal")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let set = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        if let Err(error) = set {
            tracing::debug!(%error, "cannot set the terminal as it was");
        }
    }
}

/// The size of the caller's terminal, if it has one.
pub(super) fn window_size(caller: &Caller) -> Option<WindowSize> {
    let streams = [caller.stdout(), caller.stderr(), caller.terminal_of_stdin()];
    let sizes = streams.iter().map(rustix::termios::tcgetwinsize);
    let size = sizes.flatten().find(|size| size.ws_row > 0)?;
    Some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}
