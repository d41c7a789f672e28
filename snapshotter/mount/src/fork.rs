//! A second process that goes on where the first one is.

use std::path::Path;

use nix::unistd::{ForkResult, fork};

use crate::error::Error;
use crate::namespace::check_single_thread;

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The one that was there before; its child has this id.
    Parent(u32),
    /// The new one.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// Several threads are running: the child would have only one of them, and whatever the others hold
/// would be held there for ever. There can be no more processes.
#[expect(unsafe_code, reason = "fork(2) has no safe form")]
pub fn fork_process() -> Result<Forked, Error> {
    check_single_thread()?;
    // JUSTIFICATION: the standard library has no fork, and to execute the program again would cost
    // each command ten times as much.
    // SAFETY: there is no other thread, so that nothing is locked or half-changed in the child.
    let forked = unsafe { fork() };
    match forked {
        Ok(ForkResult::Child) => Ok(Forked::Child),
        Ok(ForkResult::Parent { child }) => Ok(Forked::Parent(child.as_raw().unsigned_abs())),
        Err(errno) => Err(Error::system("fork", Path::new("/proc/self/exe"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_split() {
        // The test's own thread is not the only one.
        let refused = fork_process().unwrap_err();
        assert!(matches!(refused, Error::ThreadsRunning { .. }), "{refused}");
    }
}
