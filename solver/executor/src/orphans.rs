//! What a helper that was killed leaves behind.
//!
//! A container's first process is bound to its helper's life only when everything around it is set
//! up; and a runtime program is not bound to it at all. So when a helper ends without a word, its
//! parent looks for what it has begun: processes that are still called as the helper or the runtime
//! program was, with the container's id and bundle as arguments, and the first process that the
//! runtime has noted down.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long processes may take to die.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks. In that time a process that was just being forked has shown up.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Looks that must find nothing.
const QUIET_LOOKS: u32 = 2;

/// Kills what is left of the helper of this container, and waits until it is gone.
pub(crate) fn end(id: &str, bundle: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let mut quiet = 0;
    while quiet < QUIET_LOOKS {
        let left: Vec<Pid> = begun(id, bundle).chain(noted(id, bundle)).collect();
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        if Instant::now() > deadline {
            tracing::warn!(id, ?left, "processes of a container do not end");
            return;
        }
        for process in left {
            // Gone meanwhile, or ours no more.
            rustix::process::kill_process(process, Signal::KILL).ok();
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Processes that make the container.
fn begun(id: &str, bundle: &Path) -> impl Iterator<Item = Pid> {
    let parts = [
        id.as_bytes().to_vec(),
        bundle.as_os_str().as_encoded_bytes().to_vec(),
    ];
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        let has = |part: &Vec<u8>| arguments.split(|byte| *byte == 0).any(|one| one == part);
        parts.iter().all(has).then_some(pid)
    })
}

/// The first process of the container, in the files of libcontainer and of runc, if it lives.
fn noted(id: &str, bundle: &Path) -> impl Iterator<Item = Pid> {
    let state = std::fs::read(bundle.join("state").join(id).join("state.json")).ok();
    let state = state.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let of_state = ["pid", "init_process_pid"].map(|name| state.as_ref()?[name].as_i64());
    let file = std::fs::read_to_string(bundle.join("init.pid")).ok();
    let of_file = file.and_then(|text| text.trim().parse().ok());
    let numbers = of_state.into_iter().chain([of_file]).flatten();
    let pids = numbers.filter_map(|number| Pid::from_raw(i32::try_from(number).ok()?));
    pids.filter(|pid| {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        std::fs::read_to_string(path).is_ok_and(|status| is_first(&status))
    })
}

/// Whether this is the living first process of a pid namespace below (proc_pid_status(5)): another
/// process that got the number meanwhile is hardly that.
fn is_first(status: &str) -> bool {
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let numbers: Vec<_> = value("NSpid:")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let lives = !value("State:")
        .unwrap_or_default()
        .trim()
        .starts_with(['Z', 'X']);
    lives && numbers.len() > 1 && numbers.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_called_with_id_and_bundle_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (id, bundle) = ("varve-orphan-test", directory.path().join("bundle"));
        let waiting = |arguments: &[&str]| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "read line"])
                .args(arguments)
                .arg(&bundle);
            command.stdin(Stdio::piped()).spawn().unwrap()
        };
        let (mut ours, mut other) = (waiting(&["x", id]), waiting(&["x", "another"]));
        std::thread::sleep(Duration::from_millis(100));
        end(id, &bundle);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn only_a_living_first_process_counts() {
        let status = |state: &str, numbers: &str| format!("State:\t{state}\nNSpid:\t{numbers}\n");
        assert!(is_first(&status("S (sleeping)", "4711\t1")));
        assert!(!is_first(&status("Z (zombie)", "4711\t1")));
        assert!(!is_first(&status("S (sleeping)", "4711")));
        assert!(!is_first(&status("R (running)", "4711\t17")));
        assert!(!is_first(""));
    }
}
