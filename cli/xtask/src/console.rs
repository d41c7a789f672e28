//! What `xtask` prints: headings, progress lines, times. Colours only on a terminal, and never with
//! `NO_COLOR`.
//!
//! Everything goes to standard error, so that standard output holds only what a script may want to
//! read (`eval "$(cargo xtask rocksdb)"`).
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "printing is what this module is for"
)]

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

static COLOURS: LazyLock<bool> = LazyLock::new(|| {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
});

/// `text` in an ANSI style ("1" bold, "2" dim, "32" green …), or as it is where colours are off.
pub(crate) fn styled(style: &str, text: &str) -> String {
    if *COLOURS {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Begins a part of the work, set off from what came before it.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{} {}", styled("1;36", "==>"), styled("1", text));
}

/// One line about what is going on.
pub(crate) fn note(text: &str) {
    eprintln!("    {text}");
}

/// The end of a part that went well, with its time.
pub(crate) fn done(text: &str, took: Duration) {
    eprintln!(
        "    {} {text} {}",
        styled("32", "ok"),
        styled("2", &format!("({})", seconds(took)))
    );
}

/// The last line of a run that failed.
pub(crate) fn failure(text: &str) {
    eprintln!("\n{} {text}", styled("1;31", "error:"));
}

/// What a script may read: the only thing that goes to standard output.
pub(crate) fn script(text: &str) {
    // A reader such as `head` may be gone already; then nobody misses the rest.
    writeln!(std::io::stdout(), "{text}").ok();
}

/// A duration as people say it: `0.3s`, `42s`, `6m05s`.
pub(crate) fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    match whole {
        0..=9 => format!("{:.1}s", took.as_secs_f64()),
        10..=59 => format!("{whole}s"),
        _ => format!("{}m{:02}s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let check = |ms: u64, expect: &str| assert_eq!(seconds(Duration::from_millis(ms)), expect);
        check(0, "0.0s");
        check(312, "0.3s");
        check(42_700, "42s");
        check(365_000, "6m05s");
    }
}
