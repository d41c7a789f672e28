//! `RUN`.

use super::device;
use super::flags::{Flag, Flags};
use super::mount::MountFlag;
use super::node::Node;
use crate::ast::{CommandLine, Heredoc, NetworkMode, RunCommand, SecurityMode};
use crate::error::Problem;
use crate::heredoc;

const FLAGS: [Flag; 4] = [
    Flag::repeated("device"),
    Flag::repeated("mount"),
    Flag::text("network"),
    Flag::text("security"),
];

pub(super) fn run(node: Node) -> Result<RunCommand, Problem> {
    let flags = Flags::parse(&node.flags, &FLAGS)?;
    let devices = flags.all("device").into_iter().map(device::parse);
    let mounts = flags.all("mount").into_iter().map(MountFlag::parse);
    Ok(RunCommand {
        devices: devices.collect::<Result<_, _>>()?,
        mounts: mounts.collect::<Result<_, _>>()?,
        network: match flags.text("network") {
            None | Some("default") => NetworkMode::Default,
            Some("none") => NetworkMode::None,
            Some("host") => NetworkMode::Host,
            Some(value) => {
                return Err(Problem::NetworkMode {
                    value: value.to_owned(),
                });
            }
        },
        security: match flags.text("security") {
            None | Some("sandbox") => SecurityMode::Sandbox,
            Some("insecure") => SecurityMode::Insecure,
            Some(value) => {
                return Err(Problem::SecurityMode {
                    value: value.to_owned(),
                });
            }
        },
        flags_used: flags.used(),
        heredocs: node.heredocs,
        command: node.arguments.into_command(),
    })
}

impl RunCommand {
    /// The here-document that is the whole command, as in `RUN <<EOF`: its body is the script.
    /// `None` when there is more on the line (`RUN <<EOF cat`), or no here-document: then the
    /// shell gets the line followed by all bodies and delimiters.
    pub fn script(&self) -> Option<&Heredoc> {
        match &self.command {
            CommandLine::Shell(text) => {
                heredoc::parse_word(text).ok()??;
                self.heredocs.first()
            }
            CommandLine::Exec(_) => None,
        }
    }
}
