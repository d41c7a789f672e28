//! How a failure is told: one line with the cause and the next step, and the exit code.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::error::{ContextKind, ContextValue};

use crate::args::elsewhere;
use crate::caller::Caller;
use crate::output::size;
use crate::output::text::is_mover;

/// With place for fewer files a disk is said to be full of files rather than of bytes.
const FILES_MIN: u64 = 64;

/// The build or the command failed.
pub(crate) const EXIT_FAILED: u8 = 1;

/// The command line makes no sense; what clap ends with too.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Added to the number of the signal that ended varve, as shells do.
pub(crate) const EXIT_SIGNAL: u8 = 128;

/// varve was stopped by a signal, and has cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled by {}", match .signal { 2 => "Ctrl-C".to_owned(), n => format!("signal {n}") })]
pub(crate) struct Interrupted {
    /// Its number.
    pub(crate) signal: u8,
}

/// What has been printed already, so that only the exit code is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("exit code {code}")]
pub(crate) struct Told {
    /// The exit code.
    pub(crate) code: u8,
}

/// `varve run` failed without a process to blame: docker's exit code.
pub(crate) const EXIT_NOT_RUN: u8 = 125;

/// Prints what is wrong with a command line, or the help that was asked for, and ends the process.
pub(crate) fn wrong_command_line(error: &clap::Error, words: &[OsString]) -> ! {
    let is_run = || {
        // Behind the global options, of which two have a value.
        let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
        while let Some(word) = words.next() {
            match word {
                "--root" | "--mounts" => drop(words.next()),
                option if option.starts_with('-') => {}
                command => return command == "run",
            }
        }
        false
    };
    if error.use_stderr() && is_run() {
        if error.print().is_err() {
            tracing::debug!("nobody reads what is wrong");
        }
        std::process::exit(EXIT_NOT_RUN.into());
    }
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(hint) = elsewhere::hint(word)
    {
        say(&format!(
            "error: unrecognized subcommand '{word}': {hint}\n\nFor more information, try '--help'."
        ));
        std::process::exit(EXIT_USAGE.into());
    }
    error.exit()
}

/// Prints a failure and gives the exit code.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    if let Some(told) = error.downcast_ref::<Told>() {
        return told.code;
    }
    let text = sentence(error.as_ref());
    match SAYS_INTO_LOG.load(Ordering::Relaxed) {
        true => tracing::error!(target: "varve", "{text}"),
        false => say(&format!("ERROR: {text}")),
    }
    match error.downcast_ref::<Interrupted>() {
        Some(interrupted) => EXIT_SIGNAL + interrupted.signal,
        None => EXIT_FAILED,
    }
}

/// Writes to standard output. A reader that has seen enough (`varve images | head -1`) ends the
/// command well.
///
/// # Errors
/// The write fails.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match Caller::current().stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Told { code: 0 }.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// The root directory of this process's commands.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// Tells which root directory messages may speak of.
pub(crate) fn speak_of(root: &Path) {
    // Commands of one process have one.
    drop(ROOT.set(root.to_owned()));
}

/// Whether what is said is part of the log.
static SAYS_INTO_LOG: AtomicBool = AtomicBool::new(false);

/// From now on, what is said goes into the log, so that every line there has one form.
pub(crate) fn say_into_log() {
    SAYS_INTO_LOG.store(true, Ordering::Relaxed);
}

/// Writes a line to standard error.
pub(crate) fn say(text: &str) {
    if SAYS_INTO_LOG.load(Ordering::Relaxed) {
        tracing::info!(target: "varve", "{}", text.trim_end());
        return;
    }
    Caller::current().say(text);
}

/// The message of an error with its causes, each told once, and what to do about it.
pub(crate) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string().trim_end().to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Most messages end with that of their cause.
        if !text.contains(more.trim_end()) {
            text.push_str(": ");
            text.push_str(more.trim_end());
        }
        cause = error.source();
    }
    let mut text = harmless(&solver::error::without_error_numbers(&text));
    if let Some(hint) = hint(&text) {
        text.push_str("; ");
        text.push_str(&hint);
    }
    text
}

/// Without what moves a terminal's cursor: messages quote files and answers of strangers.
fn harmless(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        _ if character.is_control() || is_mover(character) => char::REPLACEMENT_CHARACTER,
        _ => character,
    };
    text.chars().map(shown).collect()
}

/// The next step for causes that can stand behind any message. Told from the text: by the time an
/// error arrives here, libraries have turned it into text more than once.
fn hint(text: &str) -> Option<String> {
    let has = |part: &str| text.contains(part);
    if has("No space left on device") || has("Disk quota exceeded") {
        return Some(full(text, ROOT.get().map(PathBuf::as_path)));
    }
    Some(plain_hint(text)?.to_owned())
}

/// What to do about a full disk: that of the root directory, if it is what the message speaks of.
fn full(text: &str, root: Option<&Path>) -> String {
    let root = root.filter(|root| {
        let path = root.display().to_string();
        // What is stored lies there, wherever it comes from.
        text.contains(&path) || text.split(' ').any(|word| word == "store")
    });
    let Some(root) = root else {
        return "that disk is full: nothing that was complete is lost; make room there and run this \
                again, or `varve prune` if it is also that of varve's root directory"
            .to_owned();
    };
    // The root may be what could not be made.
    let free = root
        .ancestors()
        .find_map(|path| rustix::fs::statvfs(path).ok());
    let free = match free {
        Some(found) if found.f_files > 0 && found.f_favail < FILES_MIN => {
            format!("place for {} files", found.f_favail)
        }
        Some(found) => format!(
            "{} free now",
            size(found.f_bavail.saturating_mul(found.f_frsize))
        ),
        None => "nobody can tell how much is free".to_owned(),
    };
    format!(
        "the disk of {} is full ({free}): nothing that was complete is lost; make room on it, \
         or remove what is not needed: `varve rmi`, `varve prune --all`",
        root.display()
    )
}

fn plain_hint(text: &str) -> Option<&'static str> {
    let has = |part: &str| text.contains(part);
    let is_denied = has("Operation not permitted") || has("Permission denied");
    if is_denied && !rustix::process::geteuid().is_root() {
        return Some("`varve doctor` tells what this user can do, and how to do more");
    }
    if has("Read-only file system") && has("/lock") {
        return Some("choose another --root, or make that file system writable");
    }
    if has("Too many open files") {
        return Some("raise the limit with `ulimit -n 65536`");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open /x: {source}")]
    struct Wrapped {
        source: io::Error,
    }

    fn told(error: anyhow::Error) -> String {
        sentence(error.as_ref())
    }

    #[test]
    fn each_cause_is_told_once() {
        let source = io::Error::from_raw_os_error(2);
        let error = anyhow::Error::new(Wrapped { source }).context("cannot start");
        assert_eq!(
            told(error),
            "cannot start: open /x: No such file or directory"
        );
    }

    #[test]
    fn quoted_bytes_of_strangers_are_harmless() {
        let error = anyhow::anyhow!("no number: \u{1b}[2J\u{7}\u{202e}x\n\ty");
        assert_eq!(told(error), "no number: \u{fffd}[2J\u{fffd}\u{fffd}x\n\ty");
    }

    #[test]
    fn a_full_disk_comes_with_advice() {
        let error = Err::<(), _>(io::Error::from_raw_os_error(28)).context("write /x");
        let text = told(error.unwrap_err());
        assert!(
            text.contains("No space left on device") && text.contains("varve prune"),
            "{text}"
        );
        let root = Some(Path::new("/"));
        let other = "write /x/y.tar: No space left on device";
        assert!(full(other, Some(Path::new("/r"))).contains("that disk"));
        for text in [
            "commit to /: No space left on device",
            "store a/b: No space left on device",
        ] {
            let told = full(text, root);
            assert!(told.starts_with("the disk of / is full ("), "{told}");
            assert!(
                told.contains("B free now)") && told.contains("prune --all"),
                "{told}"
            );
        }
    }
}
