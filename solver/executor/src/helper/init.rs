//! The small first process of `run --init`: it has started the program, passes on to it what it is
//! sent, buries processes that have lost their parent, and ends as the program does.
//!
//! It is this very process, which has become the first one of the container: no file of the image
//! and none of the host is needed for it. Of its files it keeps the standard streams only.

use std::io;
use std::os::fd::AsFd;

use mount::Forked;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The exit code of a process that a signal has ended, for a shell: this and its number.
const SIGNALLED: i32 = 128;

/// What is said if the program cannot be waited for.
const LOST: i32 = 255;

/// Makes the program's process, in which this returns; the other one stays the first, and ends
/// with the program's exit code.
///
/// # Errors
/// There can be no other process.
pub(super) fn split() -> io::Result<()> {
    // Those that there are names for: what nobody takes the kernel drops.
    let mut taken = SigSet::empty();
    Signal::iterator().for_each(|signal| taken.add(signal));
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&taken), Some(&mut before))?;
    match mount::fork_process().map_err(io::Error::other)? {
        Forked::Child => {
            lead();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
            Ok(())
        }
        Forked::Parent(child) => {
            close_files();
            let child = Pid::from_raw(child.cast_signed());
            std::process::exit(watch(child, &taken));
        }
    }
}

/// What is typed at a terminal goes to the program, not to who passes signals on to it as well.
fn lead() {
    let stdin = rustix::stdio::stdin();
    // Without a terminal nothing of this matters.
    if rustix::process::setpgid(None, None).is_ok() && rustix::termios::isatty(stdin) {
        rustix::termios::tcsetpgrp(stdin.as_fd(), rustix::process::getpid()).ok();
    }
}

/// Closes what an exec would have closed: among it are directories of the host.
fn close_files() {
    let listed = std::fs::read_dir("/proc/self/fd");
    let names = listed.into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let numbers: Vec<_> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        // That of the directory is closed already.
        nix::unistd::close(number).ok();
    }
}

/// Passes signals on until the program has ended; its exit code.
fn watch(child: Pid, taken: &SigSet) -> i32 {
    // Not sigwait(3): what that waits for looks as if it were not blocked, and who sends it would
    // take it for lost.
    let Ok(signals) = SignalFd::new(taken) else {
        return LOST;
    };
    loop {
        let Ok(Some(received)) = signals.read_signal() else {
            return LOST;
        };
        let number = i32::try_from(received.ssi_signo).unwrap_or_default();
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = bury(child) {
                    return code;
                }
            }
            // It may have ended: then that is what comes next.
            Ok(signal) => drop(nix::sys::signal::kill(child, signal)),
            Err(_) => {}
        }
    }
}

/// Takes note of all processes that have ended; the code of the program, if it is among them.
fn bury(child: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, exit)) if pid == child => code = Some(exit),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(SIGNALLED + signal as i32);
            }
            Ok(WaitStatus::StillAlive) => return code,
            Ok(_) => {}
            Err(_) => return code.or(Some(LOST)),
        }
    }
}
