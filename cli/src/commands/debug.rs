//! `varve debug`: what a daemon is doing, for a person who wonders and for reports of bugs.

use crate::args::observation::{self, DebugCommand};
use crate::connect::Daemon;
use crate::error::print;

/// `varve debug`.
///
/// # Errors
/// No daemon runs; those of the daemon.
pub(super) fn debug(options: &observation::Debug) -> anyhow::Result<()> {
    let daemon = Daemon::connect(&options.daemon.address)?;
    match options.command {
        DebugCommand::Dump => {
            let dump = daemon.dump()?;
            print(&(serde_json::to_string_pretty(&dump)? + "\n"))
        }
    }
}
