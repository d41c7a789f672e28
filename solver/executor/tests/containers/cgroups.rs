//! The same steps where control groups are mounted differently from this machine: this test binary
//! runs again in a mount namespace of its own (`unshare` of util-linux).

use std::process::Command;

use executor::{Cancel, Error, RuntimeChoice};

use crate::fixture::{
    Fixture, assert_nothing_left, eventually, privileged, processes_with, shell, unique_id,
};

/// Set for the inner run of [`a_step_runs_where_no_cgroup_can_be_written`].
const INNER: &str = "VARVE_TEST_INNER";

/// Tests that cgroups matter for.
const ABOUT_CGROUPS: [&str; 4] = [
    "privileged::devices_are_the_harmless_ones",
    "privileged::kernel_files_are_masked_or_read_only",
    "privileged_ends::a_cancel_kills_double_forked_children_too",
    "privileged_ends::the_container_dies_when_its_parent_is_killed",
];

/// Runs tests of this binary after `setup` in a new mount namespace; panics with their output
/// when they fail.
fn inside(setup: &str, tests: &[&str]) {
    let script = format!("{setup} && exec \"$0\" --exact \"$@\"");
    let output = Command::new("unshare")
        .args(["-m", "sh", "-e", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(tests)
        .env(INNER, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed = format!("{} passed", tests.len());
    assert!(text.contains(&passed), "not all tests ran: {text}");
}

#[test]
fn with_cgroup_version_two_all_is_the_same() {
    if privileged() {
        inside("mount -t cgroup2 none /sys/fs/cgroup", &ABOUT_CGROUPS);
    }
}

#[tokio::test]
async fn a_step_runs_where_no_cgroup_can_be_written() {
    if !privileged() {
        return;
    }
    if std::env::var_os(INNER).is_none() {
        let read_only = "for m in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); \
            do mount -o remount,bind,ro $m; done";
        let name = "privileged_cgroups::a_step_runs_where_no_cgroup_can_be_written";
        inside(read_only, &[name]);
        return;
    }
    let fixture = Fixture::new(RuntimeChoice::Embedded);
    let script = "mknod /dev/m c 1 1 2>/dev/null && echo node; echo hello";
    assert_eq!(fixture.sh(script).await.stdout(), ["hello"]);

    let (id, cancel) = (unique_id(), Cancel::new());
    let stop = async {
        eventually("the child runs", || processes_with(&id).len() >= 3).await;
        cancel.cancel();
    };
    let process = shell(&format!(
        "(setsid sh -c 'sleep 600; : {id}' &); sleep 600; :"
    ));
    let (ran, ()) = tokio::join!(fixture.run_as(&id, process, &cancel), stop);
    assert!(matches!(ran.result, Err(Error::Cancelled)), "{ran:?}");
    assert_eq!(processes_with(&id), [0; 0]);
    assert_nothing_left(&fixture);
}
