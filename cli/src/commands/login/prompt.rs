//! Asks the person at the terminal.

use std::io::{Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios};

use crate::caller::Caller;
use crate::error::Interrupted;

/// What the keys of a hidden line send.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: [u8; 2] = [8, 127];

/// A line that can be seen.
///
/// # Errors
/// Nobody answers.
pub(super) fn line(label: &str) -> anyhow::Result<String> {
    ask(label, false)
}

/// A line that is not shown.
///
/// # Errors
/// Nobody answers; [`Interrupted`] by Ctrl-C.
pub(super) fn secret(label: &str) -> anyhow::Result<String> {
    let caller = Caller::current();
    let hidden = Hidden::enter(&caller)?;
    let answer = ask(label, true);
    drop(hidden);
    // The key that ended it was not shown either.
    caller.say("");
    answer
}

/// Reads byte by byte: what comes after the line is the next question's answer.
fn ask(label: &str, is_hidden: bool) -> anyhow::Result<String> {
    let caller = Caller::current();
    caller
        .stderr()
        .write_all(label.as_bytes())
        .context("cannot ask for a login")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while caller
        .stdin()
        .read(&mut byte)
        .context("cannot read the answer")?
        > 0
    {
        match byte[0] {
            b'\n' | b'\r' => return text(answer),
            CTRL_C if is_hidden => return Err(Interrupted { signal: 2 }.into()),
            CTRL_D if is_hidden && answer.is_empty() => break,
            key if is_hidden && BACKSPACE.contains(&key) => remove_character(&mut answer),
            byte => answer.push(byte),
        }
    }
    bail!("no answer came")
}

fn text(answer: Vec<u8>) -> anyhow::Result<String> {
    let text = String::from_utf8(answer).ok();
    Ok(text.context("the answer is not UTF-8")?.trim().to_owned())
}

fn remove_character(answer: &mut Vec<u8>) {
    while answer.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

/// The terminal, showing nothing of what is typed; set as before on drop. Keys that send signals
/// send bytes meanwhile, so that it is always set back.
struct Hidden<'c> {
    caller: &'c Caller,
    before: Termios,
}

impl<'c> Hidden<'c> {
    fn enter(caller: &'c Caller) -> anyhow::Result<Self> {
        let terminal = caller.terminal_of_stdin();
        let set = rustix::termios::tcgetattr(terminal).and_then(|before| {
            let mut hidden = before.clone();
            hidden.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &hidden)?;
            Ok(Hidden { caller, before })
        });
        set.context("cannot set the terminal")
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let terminal = self.caller.terminal_of_stdin();
        let set = rustix::termios::tcsetattr(terminal, OptionalActions::Now, &self.before);
        if let Err(error) = set {
            tracing::debug!(%error, "cannot set the terminal as it was");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_takes_a_character_and_not_a_byte() {
        let mut answer = "aü€".as_bytes().to_vec();
        for left in ["aü", "a", "", ""] {
            remove_character(&mut answer);
            assert_eq!(answer, left.as_bytes());
        }
    }
}
