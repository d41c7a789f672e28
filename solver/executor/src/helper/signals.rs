//! Signals for the first process of a container.
//!
//! The kernel does not deliver a signal to the first process of a pid namespace that would end it
//! by default: `sleep` as a container's only program would never hear of Ctrl-C. What would end
//! any other process ends it here too, by the one signal that always does.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::supervise::kill;
use crate::protocol::{Report, receive};

/// Signals that a process may be sent and that do not end it by default: SIGCHLD, SIGCONT, SIGURG,
/// SIGWINCH, and those that stop it.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];

/// How long after a signal it is looked at whether it got lost.
const DOUBT: Duration = Duration::from_millis(300);

/// Between two such looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What was passed on.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The signal that the process was killed in place of.
    killed_for: Option<i32>,
    doubts: Vec<Doubt>,
}

/// A signal that the kernel may drop: the process has a handler for it, which it loses when it
/// executes another program just then, or it blocks it for a moment.
#[derive(Debug)]
struct Doubt {
    number: i32,
    since: Instant,
    /// As it was when the signal was sent.
    before: Look,
}

/// What there is to be seen of a process.
#[derive(Debug, Default)]
struct Look {
    /// As in proc_pid_status(5).
    status: String,
    /// Where the program's arguments lie and what they are: another program has others.
    program: (Vec<String>, Vec<u8>),
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
        let before = Look::before(init);
        if ends_any_other(&before.status, number) {
            self.kill_for(init, number);
            return;
        }
        let Some(signal) = Signal::from_named_raw(number) else {
            return;
        };
        // It may have ended; it is not reaped yet, so the number cannot mean another process.
        rustix::process::kill_process(init, signal).ok();
        self.doubts.push(Doubt {
            number,
            since: Instant::now(),
            before,
        });
        self.look_again(init);
    }

    fn kill_for(&mut self, init: Pid, number: i32) {
        self.killed_for.get_or_insert(number);
        kill(init);
    }

    /// How long to wait at most before [`Signals::look_again`]; `None`: nothing is in doubt.
    pub(super) fn interval(&self) -> Option<Duration> {
        (!self.doubts.is_empty()).then_some(LOOK_INTERVAL)
    }

    /// Does what signals should have done that the process never heard of.
    pub(super) fn look_again(&mut self, init: Pid) {
        if self.doubts.is_empty() {
            return;
        }
        let now = Look::now(init);
        for doubt in std::mem::take(&mut self.doubts) {
            match doubt.before.then(&now, doubt.number) {
                Fate::Lost => self.kill_for(init, doubt.number),
                Fate::Unknown if doubt.since.elapsed() < DOUBT => self.doubts.push(doubt),
                Fate::Unknown | Fate::Heard => {}
            }
        }
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

/// What became of a signal.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It was handled or ignored, or waits for somebody who takes it on purpose.
    Heard,
    /// It still waits.
    Unknown,
    /// The kernel dropped it.
    Lost,
}

impl Look {
    /// Before a signal is sent. The program first: one that comes meanwhile counts as another.
    fn before(process: Pid) -> Self {
        let program = program_of(process);
        let status = status_of(process);
        Look { status, program }
    }

    /// Afterwards. The program last: a signal is dropped only when it has been exchanged.
    fn now(process: Pid) -> Self {
        let status = status_of(process);
        let program = program_of(process);
        Look { status, program }
    }

    /// What became of a signal that was sent after this look, and before `now`.
    fn then(&self, now: &Look, number: i32) -> Fate {
        let waits = ["SigPnd:", "ShdPnd:"];
        if HARMLESS.contains(&number) || has(&self.status, "SigIgn:", number) {
            return Fate::Heard;
        }
        if waits.iter().any(|name| has(&now.status, name, number)) {
            return Fate::Unknown;
        }
        let was_handled = has(&self.status, "SigCgt:", number);
        if was_handled && self.program == now.program {
            // A handler that is taken away in the handler has been called.
            return Fate::Heard;
        }
        match !now.status.is_empty() && ends_any_other(&now.status, number) {
            true => Fate::Lost,
            false => Fate::Heard,
        }
    }
}

fn status_of(process: Pid) -> String {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    std::fs::read_to_string(path).unwrap_or_default()
}

fn program_of(process: Pid) -> (Vec<String>, Vec<u8>) {
    let directory = format!("/proc/{}", process.as_raw_nonzero());
    let stat = std::fs::read_to_string(format!("{directory}/stat")).unwrap_or_default();
    // Fields 26 to 28 and 48: where its code, stack and arguments lie.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace().collect())
        .unwrap_or_default();
    let places = [26, 27, 28, 48].map(|number| fields.get(number - 3).copied());
    let places = places.into_iter().flatten().map(str::to_owned).collect();
    let arguments = std::fs::read(format!("{directory}/cmdline")).unwrap_or_default();
    (places, arguments)
}

/// Whether a mask of a status has a signal.
fn has(status: &str, name: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix(name));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    number > 0 && mask.unwrap_or_default() >> (number - 1) & 1 == 1
}

/// Whether a signal would end the process with this status (proc_pid_status(5)) if it were not the
/// first one: it neither handles nor ignores it, nor waits for it with the signal blocked.
fn ends_any_other(status: &str, number: i32) -> bool {
    if HARMLESS.contains(&number) || number < 1 {
        return false;
    }
    !["SigCgt:", "SigIgn:", "SigBlk:"]
        .into_iter()
        .any(|name| has(status, name, number))
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
            doubts: Vec::new(),
        };
        let meant = Report::Signaled { signal: 15 };
        assert_eq!(signals.explain(killed), meant);
        let exited = Report::Exited { code: 3 };
        assert_eq!(signals.explain(exited.clone()), exited);
    }

    #[test]
    fn a_signal_that_a_new_program_or_a_short_block_swallowed_is_lost() {
        // Of the signals 1 and 2, as bits.
        let look = |program: &str, pending: u8, blocked: u8, caught: u8| Look {
            status: format!(
                "ShdPnd:\t{pending:x}\nSigBlk:\t{blocked:x}\nSigIgn:\t0\nSigCgt:\t{caught:x}\n"
            ),
            program: (Vec::new(), program.into()),
        };
        for (before, now, fate) in [
            (look("sh", 0, 0, 2), look("sh", 0, 0, 2), Fate::Heard),
            (look("sh", 0, 0, 2), look("sh", 2, 0, 2), Fate::Unknown),
            (look("sh", 0, 0, 2), look("sleep", 0, 0, 0), Fate::Lost),
            (look("sh", 0, 0, 2), look("other", 0, 0, 2), Fate::Heard),
            // The handler itself has taken the handler away.
            (look("sh", 0, 0, 2), look("sh", 0, 0, 0), Fate::Heard),
            (look("x", 0, 2, 0), look("x", 2, 2, 0), Fate::Unknown),
            (look("x", 0, 2, 0), look("x", 0, 0, 0), Fate::Lost),
            // Taken by sigwait(3).
            (look("x", 0, 2, 0), look("x", 0, 2, 0), Fate::Heard),
        ] {
            assert_eq!(before.then(&now, 2), fate, "{before:?} {now:?}");
        }
        let dead = Look::default();
        assert_eq!(look("sh", 0, 0, 2).then(&dead, 2), Fate::Heard);
    }
}
