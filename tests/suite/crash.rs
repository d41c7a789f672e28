//! Ends that nobody planned: kill -9 at any instant, Ctrl-C, SIGTERM. What was complete stays, what
//! was not is gone, and nothing goes on running or stays mounted.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::leftovers::{cgroups, eventually, mounts, processes};
use support::workspace::{Running, Varve};

mod interrupted;
mod killed;
mod mounted;

/// The kernel and the runtime clean up by then, on however busy a machine.
const CLEAN_SOON: Duration = Duration::from_secs(30);

/// A command line that no other test has: `sleep` of a number of seconds of its own.
fn unique_sleep() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("sleep 1{:08}{number:02}", std::process::id())
}

/// The start of a Dockerfile with a finished step, and a step that does not end: a tree of
/// processes with daemons, orphans, and some that ignore what can be ignored.
fn endless_step(sleep: &str) -> String {
    format!(
        "FROM busybox\n\
         RUN echo first > /first\n\
         RUN (setsid sh -c '{sleep} & {sleep} & wait' &); \
             (trap '' INT TERM HUP; {sleep}) & {sleep} & {sleep}\n"
    )
}

/// How many processes [`endless_step`] starts that are called so.
const SLEEPERS: usize = 5;

/// Waits until all processes of the step are there.
#[track_caller]
fn wait_for_step(sleep: &str) {
    let running = || {
        let found = processes(sleep);
        found
            .iter()
            .filter(|line| line.ends_with(&format!("{sleep} ")))
            .count()
    };
    assert!(
        eventually(CLEAN_SOON, || running() >= SLEEPERS),
        "{:?}",
        processes(sleep)
    );
}

/// After the end of an [`endless_step`] a build goes on behind the step that was finished.
#[track_caller]
fn the_finished_step_is_cached(varve: &Varve) {
    varve.dockerfile("FROM busybox\nRUN echo first > /first\nRUN echo second\n");
    let next = varve.build(["-t", "app"]).success();
    assert_eq!(
        next.transcript().cached(),
        ["RUN echo first > /first"],
        "{next}"
    );
}

fn send(running: &Running, signal: Signal) {
    let pid = Pid::from_raw(running.id().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Nothing of the varve with this process id runs or is mounted.
#[track_caller]
fn nothing_runs(varve: &Varve, sleep: &str) {
    let gone = eventually(CLEAN_SOON, || processes(sleep).is_empty());
    assert!(gone, "processes: {:#?}", processes(sleep));
    let left = mounts(&varve.path(""));
    assert!(left.is_empty(), "mounts: {left:#?}");
}

/// Nothing of the varve whose working process had this id is left on the host.
#[track_caller]
fn nothing_is_left(varve: &Varve, id: u32, sleep: &str) {
    nothing_runs(varve, sleep);
    no_cgroup_is_left(id);
}

#[track_caller]
fn no_cgroup_is_left(id: u32) {
    let gone = eventually(CLEAN_SOON, || cgroups(id).is_empty());
    assert!(gone, "cgroups: {:#?}", cgroups(id));
}

/// The store is sound, and nothing of an unfinished step is in it after a build.
#[track_caller]
fn is_sound(varve: &Varve) {
    let checked = varve.varve(["fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}

/// No file below `directory`.
#[track_caller]
fn has_no_files(directory: &Path) {
    let left = support::tree::list(directory);
    let text = format!("{left:?}");
    assert!(
        !text.contains("upper") && !text.contains("rootfs"),
        "{text}"
    );
}
