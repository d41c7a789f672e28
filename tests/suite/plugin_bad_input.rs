//! Bad input of the snapshotter's daemon: wrong roots and sockets, nonsense on the socket, callers
//! that vanish, directories that somebody has replaced, a full disk.

use std::process::Command;

use support::varve_binary;
use support::workspace::{Outcome, run};

use super::plugin_contract::{Node, labels, upper};

mod addresses;
mod callers;
mod full_disk;
mod links;
mod messages;
mod roots;

/// Runs a daemon that is to be refused.
fn daemon<'w>(words: impl IntoIterator<Item = &'w str>) -> Outcome {
    run(Command::new(varve_binary()).arg("daemon").args(words))
}
