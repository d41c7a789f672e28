//! What git says while it works: how far it is, which is shown, and messages, which are kept.

use std::io::Read;

use crate::progress::Reporter;

/// Most bytes of git's messages that are kept.
const BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// The part of a step that tells how far a transfer is.
const TRANSFER: &str = "receiving objects";

/// How lines begin that tell how far git is (git's `progress.c` and `--progress` of its commands).
const PROGRESS: [&str; 8] = [
    "Enumerating objects:",
    "Counting objects:",
    "Compressing objects:",
    "Total ",
    "Receiving objects:",
    "Resolving deltas:",
    "Unpacking objects:",
    "Updating files:",
];

/// Reads a pipe to its end; the beginning of what is no progress.
pub(super) fn read(mut pipe: impl Read, reporter: &Reporter) -> String {
    let mut reading = Reading {
        reporter,
        line: Vec::new(),
        kept: String::new(),
        received: None,
    };
    let mut buffer = [0; READ_BYTES];
    loop {
        match pipe.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // What was said before is what there is.
            Ok(0) | Err(_) => break,
            Ok(count) => buffer[..count].iter().for_each(|byte| reading.take(*byte)),
        }
    }
    reading.end_line();
    if let Some(bytes) = reading.received {
        reporter.status(TRANSFER, bytes, None, true);
    }
    reading.kept
}

struct Reading<'r> {
    reporter: &'r Reporter,
    line: Vec<u8>,
    kept: String,
    /// Bytes of the transfer, if there was one.
    received: Option<u64>,
}

impl Reading<'_> {
    fn take(&mut self, byte: u8) {
        match byte {
            // A line that tells how far git is ends where the next one takes its place.
            b'\n' | b'\r' => self.end_line(),
            _ if self.line.len() < BYTES_MAX => self.line.push(byte),
            _ => {}
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let said = line.strip_prefix("remote: ").unwrap_or(&line).trim_start();
        if !PROGRESS.iter().any(|start| said.starts_with(start)) {
            if !line.trim().is_empty() && self.kept.len() + line.len() < BYTES_MAX {
                self.kept.push_str(&line);
                self.kept.push('\n');
            }
            return;
        }
        if let Some(bytes) = transferred(said) {
            // Submodules come one after the other, each from 0 on.
            self.received = Some(bytes);
            self.reporter.status(TRANSFER, bytes, None, false);
        }
    }
}

/// The bytes in `Receiving objects:  42% (420/1000), 3.20 MiB | 5.00 MiB/s`.
fn transferred(line: &str) -> Option<u64> {
    let (_, size) = line.split_once("), ")?;
    let (size, _) = size.split_once(" |")?;
    let (number, unit) = size.split_once(' ')?;
    let unit: u32 = match unit {
        "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * f64::from(unit);
    // Rounded to a hundredth of its unit by git.
    Some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::progress::{Display, Event, EventKind, Progress};

    #[derive(Default)]
    struct Seen(Mutex<Vec<(u64, bool)>>);

    impl Display for Seen {
        fn show(&self, event: Event) {
            if let EventKind::Status {
                current, completed, ..
            } = event.kind
            {
                self.0.lock().unwrap().push((current, completed));
            }
        }
    }

    #[test]
    fn progress_is_shown_and_the_rest_is_kept() {
        let said = "remote: Enumerating objects: 5, done.        \n\
                    remote: Counting objects: 100% (5/5), done.\n\
                    Receiving objects:  20% (1/5)\r\
                    Receiving objects:  40% (2/5), 1.50 KiB | 3.00 KiB/s\r\
                    Receiving objects: 100% (5/5), 2.00 MiB | 3.00 MiB/s, done.\n\
                    warning: something\n\nfatal: the end";
        let seen = Arc::new(Seen::default());
        let step = Progress::new(seen.clone()).step("fetch");
        let kept = read(said.as_bytes(), &step.reporter());
        assert_eq!(kept, "warning: something\nfatal: the end\n");
        step.done();
        let expected = [(1536, false), (2 << 20, false), (2 << 20, true)];
        assert_eq!(*seen.0.lock().unwrap(), expected);
    }

    #[test]
    fn endless_messages_are_cut() {
        let said = "x".repeat(3 * BYTES_MAX) + &"\nline".repeat(BYTES_MAX);
        let kept = read(said.as_bytes(), &Reporter::silent());
        assert!(kept.len() <= BYTES_MAX, "{}", kept.len());
    }

    #[test]
    fn sizes_are_read_in_gits_units() {
        let line = |size: &str| transferred(&format!("Receiving objects: 1% (1/9), {size} | 1"));
        assert_eq!(line("512 bytes"), Some(512));
        assert_eq!(line("1.25 GiB"), Some(5 << 28));
        assert_eq!(line("1.25 miles"), None);
        assert_eq!(transferred("Receiving objects: 1% (1/9)"), None);
    }
}
