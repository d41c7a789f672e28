//! Signals for the first process of a container.
//!
//! The kernel does not deliver a signal to the first process of a pid namespace that would end it
//! by default: `sleep` as a container's only program would never hear of Ctrl-C. What would end
//! any other process ends it here too, by the one signal that always does.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, Signal};

use super::supervise::kill;
use crate::protocol::{Report, receive};

/// Signals that a process may be sent and that do not end it by default: SIGCHLD, SIGCONT, SIGURG,
/// SIGWINCH, and those that stop it.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];

/// What was passed on.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The signal that the process was killed in place of.
    killed_for: Option<i32>,
}

impl Signals {
    /// Passes on what the parent has sent; whether it may send more.
    ///
    /// # Errors
    /// Those of reading, other than that the parent is gone.
    pub(super) fn pass_on(&mut self, control: &UnixStream, init: Pid) -> io::Result<bool> {
        let mut numbers = [0; 64];
        let length = match receive(control, &mut numbers) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error),
        };
        for number in numbers.iter().take(length) {
            self.send(init, i32::from(*number));
        }
        Ok(length > 0)
    }

    fn send(&mut self, init: Pid, number: i32) {
        let path = format!("/proc/{}/status", init.as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        if ends_any_other(&status, number) {
            self.killed_for.get_or_insert(number);
            kill(init);
            return;
        }
        let Some(signal) = Signal::from_named_raw(number) else {
            return;
        };
        // It may have ended; it is not reaped yet, so the number cannot mean another process.
        rustix::process::kill_process(init, signal).ok();
    }

    /// How the process ended, with the signal that was meant.
    pub(super) fn explain(&self, report: Report) -> Report {
        match (report, self.killed_for) {
            (Report::Signaled { signal }, Some(meant)) if signal == Signal::KILL.as_raw() => {
                Report::Signaled { signal: meant }
            }
            (report, _) => report,
        }
    }
}

/// Whether a signal would end the process with this status (proc_pid_status(5)) if it were not the
/// first one: it neither handles nor ignores it, nor waits for it with the signal blocked.
fn ends_any_other(status: &str, number: i32) -> bool {
    if HARMLESS.contains(&number) || number < 1 {
        return false;
    }
    let is_in = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or_default() >> (number - 1) & 1 == 1
    };
    !["SigCgt:", "SigIgn:", "SigBlk:"].into_iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_process_that_does_nothing_about_it() {
        let status = "Name:\tx\nSigBlk:\t0000000000000200\nSigIgn:\t0000000000001000\n\
                      SigCgt:\t0000000000004002\n";
        // Handled: 2 and 15; ignored: 13; blocked: 10.
        for (number, ends) in [
            (1, true),
            (2, false),
            (9, true),
            (10, false),
            (12, true),
            (13, false),
            (15, false),
            (17, false),
            (28, false),
            (0, false),
        ] {
            assert_eq!(ends_any_other(status, number), ends, "{number}");
        }
    }

    #[test]
    fn a_kill_is_told_as_what_it_stands_for() {
        let killed = Report::Signaled { signal: 9 };
        assert_eq!(Signals::default().explain(killed.clone()), killed);
        let signals = Signals {
            killed_for: Some(15),
        };
        let meant = Report::Signaled { signal: 15 };
        assert_eq!(signals.explain(killed), meant);
        let exited = Report::Exited { code: 3 };
        assert_eq!(signals.explain(exited.clone()), exited);
    }
}
