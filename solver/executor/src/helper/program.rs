//! A runtime program with runc's command line, started by the helper process.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Pid;
use serde::Deserialize;

use super::console::Console;
use super::supervise::{Launched, kill};
use super::{Job, Launch, failed, with_hint};
use crate::error::StartFailure;
use crate::protocol::Report;

/// Bytes of the runtime's log that are read. It logs errors only, and stops at the first.
const LOG_BYTES_MAX: u64 = 256 * 1024;

/// Makes the container and starts its program.
///
/// The container is detached, so it holds the output pipes itself, and because this process is a
/// subreaper it becomes our child when the runtime program has left.
pub(super) fn launch(
    job: &Job,
    control: &UnixStream,
    console: Option<Console>,
) -> Launch<Launched> {
    let log = job.bundle.join("runtime.log");
    let pid_file = job.bundle.join("init.pid");
    let mut command = Command::new(&job.runtime);
    command.arg("--root").arg(job.bundle.join("state"));
    command
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "run", "--detach"]);
    command
        .arg("--bundle")
        .arg(&job.bundle)
        .arg("--pid-file")
        .arg(&pid_file);
    if let Some(console) = &console {
        // From there its path is short enough for an address.
        command.current_dir(&job.bundle);
        command.arg("--console-socket");
        command.arg(console.path().file_name().unwrap_or_default());
    }
    command.arg(&job.id);
    let status = command
        .status()
        .map_err(|error| failed("cannot start it", error))?;
    if !status.success() {
        return Err(explain(&log).unwrap_or_else(|| failed("it ended with", status)));
    }
    let pid = std::fs::read_to_string(&pid_file).map_err(|error| failed("no pid file", error))?;
    let init = pid.trim().parse().ok().and_then(Pid::from_raw);
    let init = init.ok_or_else(|| failed("no process id in the pid file", &pid))?;
    if let Some(console) = console {
        console
            .hand_over(job, control)
            .inspect_err(|_| kill(init))?;
    }
    Ok(Launched {
        init,
        execution: None,
    })
}

#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The last error of the runtime's log.
fn explain(log: &Path) -> Option<Report> {
    let mut text = String::new();
    std::fs::File::open(log)
        .ok()?
        .take(LOG_BYTES_MAX)
        .read_to_string(&mut text)
        .ok()?;
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    let message = lines.rev().find(|line| line.level == "error")?.msg;
    Some(classify(&message))
}

/// Tells a program that is to blame from a container that is.
fn classify(message: &str) -> Report {
    let Some(at) = message.find("exec: ").or_else(|| message.find("exec /")) else {
        return Report::ContainerFailed {
            message: with_hint(message.to_owned()),
        };
    };
    let message = message.get(at..).unwrap_or(message).to_owned();
    let reason = if message.contains("executable file not found in $PATH")
        || message.contains("no such file or directory")
    {
        StartFailure::NotFound
    } else if message.contains("permission denied") {
        StartFailure::NotExecutable
    } else {
        StartFailure::Exec
    };
    Report::StartFailed { reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_from_a_broken_container() {
        let prefix = "runc run failed: unable to start container process: ";
        for (text, expect) in [
            (
                "exec: \"x\": executable file not found in $PATH",
                Some(StartFailure::NotFound),
            ),
            (
                "exec: \"/x\": stat /x: no such file or directory",
                Some(StartFailure::NotFound),
            ),
            (
                "exec: \"/x\": permission denied",
                Some(StartFailure::NotExecutable),
            ),
            ("exec /x: exec format error", Some(StartFailure::Exec)),
            ("error during container init: mount failed", None),
        ] {
            let report = classify(&format!("{prefix}{text}"));
            let found = match &report {
                Report::StartFailed { reason, message } => {
                    assert_eq!(message, text);
                    Some(*reason)
                }
                _ => None,
            };
            assert_eq!(found, expect, "{text}");
        }
    }
}
