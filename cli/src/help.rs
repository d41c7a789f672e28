//! What `--help` and the man pages say: clap's words about commands and options, and the texts
//! below them, brought to the width of whoever reads.
//!
//! A text below a command is written as it reads best at 100 columns: paragraphs, and listings (a
//! line with a colon at its end, then indented lines: what is typed, two blanks or more, what that
//! does).

mod pages;
mod text;

pub(crate) use self::pages::{name_of, page};

use clap::Command;

use crate::args::Arguments;
use crate::environment::Environment;

/// Wider text is hard to read.
const WIDTH_MAX: usize = 100;

/// Narrower text is harder to read than lines that a terminal breaks.
const WIDTH_MIN: usize = 40;

/// The command line as `--help` describes it on a terminal of this process.
pub(crate) fn command(environment: &Environment) -> Command {
    arranged(width(environment))
}

/// The command below `varve` that one of a group is another name of, as its description says.
pub(crate) fn stands_for(command: &Command) -> Option<String> {
    let about = command.get_about()?.to_string();
    let (_, other) = about.strip_suffix(')')?.rsplit_once("(varve ")?;
    let other = other.split(' ').next().unwrap_or_default();
    let is_command = |name: &str| name.chars().all(|letter| letter.is_ascii_lowercase());
    is_command(other).then(|| other.to_owned())
}

/// The same in lines of so many columns.
fn arranged(width: usize) -> Command {
    reflow(Arguments::command().term_width(width), width)
}

fn reflow(mut command: Command, width: usize) -> Command {
    if let Some(below) = command.get_after_help() {
        let text = text::parse(&below.to_string()).render(width);
        command = command.after_help(text);
    }
    command.mut_subcommands(|below| reflow(below, width))
}

/// As clap finds it: the terminal's, or what `COLUMNS` says.
fn width(environment: &Environment) -> usize {
    let terminal = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    let terminal = terminal.ok().map(|size| usize::from(size.ws_col));
    let said = || environment.get("COLUMNS")?.trim().parse().ok();
    let width = terminal.filter(|columns| *columns > 0).or_else(said);
    width.unwrap_or(WIDTH_MAX).clamp(WIDTH_MIN, WIDTH_MAX)
}

#[cfg(test)]
mod tests;
