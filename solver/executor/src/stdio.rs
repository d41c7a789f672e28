//! What a process reads and writes: nothing and lines, for steps of a build; the files of somebody
//! who is attached to it, for `run`.

use std::os::fd::OwnedFd;

use tokio::sync::mpsc;

use crate::output::OutputSender;
use crate::process::WindowSize;

/// The standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Nothing to read. What is printed comes in lines, which somebody must receive while the run
    /// goes on.
    Lines(OutputSender),
    /// Somebody's files.
    Attached(Attached),
}

impl Stdio {
    /// Nothing to read, and nobody who hears.
    pub(crate) fn nothing() -> Self {
        Stdio::Lines(mpsc::channel(1).0)
    }
}

/// Files that a process is attached to. It has pipes, or a terminal of its own, and what goes
/// through them is copied: it never gets hold of these files themselves.
#[derive(Debug)]
pub struct Attached {
    /// Where its input comes from; `None` if it has none.
    pub input: Option<OwnedFd>,
    /// Where standard output goes; of a process with a terminal everything. When nobody reads
    /// there any more, the process is told so as by any pipe.
    pub output: OwnedFd,
    /// Where standard error goes.
    pub errors: OwnedFd,
    /// What is asked of the process while it runs.
    pub asked: mpsc::UnboundedReceiver<Asked>,
}

/// What can be asked of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The signal of this number. One that the process neither handles nor ignores ends it, as it
    /// would outside of a container: the kernel keeps such signals from the first process of a
    /// pid namespace.
    Signal(u8),
    /// Its terminal has another size now.
    Resize(WindowSize),
}
