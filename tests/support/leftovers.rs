//! What a build that has ended, however it ended, must not leave on the host: processes, mounts,
//! cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Between two looks at something that takes its time.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Command lines of the processes of the host that have `marker` in them.
#[must_use]
pub fn processes(marker: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command
                .contains(marker)
                .then(|| format!("{pid}: {command}"))
        })
        .collect()
}

/// Mounts of this mount namespace that lie below `directory`, or are made of something there.
#[must_use]
pub fn mounts(directory: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table can be read");
    let here = directory.to_string_lossy();
    table
        .lines()
        .filter(|line| line.contains(here.as_ref()))
        .map(str::to_owned)
        .collect()
}

/// Cgroups that the varve with this process id made, of whatever controller.
#[must_use]
pub fn cgroups(pid: u32) -> Vec<PathBuf> {
    let mine = format!("varve-{pid}-");
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from(CGROUPS)];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match entry.file_name().to_string_lossy().starts_with(&mine) {
                true => found.push(entry.path()),
                false => waiting.push(entry.path()),
            }
        }
    }
    found
}

/// Waits until `condition` holds; whether it did within `limit`.
#[must_use]
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Unmounts, if need be in the background: between fork and exec, a child of another test's thread
/// has our open files too.
///
/// # Panics
/// It cannot be unmounted for another reason.
pub fn unmount(guard: mount::MountGuard) {
    if let Err(error) = guard.unmount() {
        let busy = rustix::io::Errno::BUSY.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(busy), "{error}");
    }
}
