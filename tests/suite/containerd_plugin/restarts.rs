//! Containers outlive the containerd that started them, and it finds everything again.

use support::node::{Node, Row};

on_each_containerd! {
    a_container_outlives_a_restart_of_containerd,
    a_container_outlives_a_killed_containerd,
}

/// Starts a container that writes and waits.
fn start(node: &Node, image: &str) {
    let script = "echo before > /written; sleep 1000";
    let words = [
        "run",
        "--detach",
        "--net-host",
        "--snapshotter",
        node.snapshotter(),
    ];
    let command = [image, "long", "sh", "-c", script];
    node.ctr(words.iter().chain(&command)).succeeded();
}

/// What the running container prints.
#[track_caller]
fn exec(node: &Node, script: &str) -> String {
    let words = [
        "tasks",
        "exec",
        "--exec-id",
        "look",
        "long",
        "sh",
        "-c",
        script,
    ];
    node.ctr(words).success().stdout
}

fn outlives(node: &mut Node, end: impl FnOnce(&mut Node)) {
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    start(node, &image);
    let see = |node: &Node| -> Vec<Row> { node.rows() };
    let before = see(node);
    assert!(
        before
            .iter()
            .any(|row| row.key == "long" && row.kind == "Active"),
        "{before:#?}"
    );
    end(node);
    assert_eq!(see(node), before);
    let tasks = node.ctr(["tasks", "ls"]).success().stdout;
    assert!(tasks.contains("RUNNING"), "{tasks}");
    let written = exec(
        node,
        "until test -e /written; do sleep 0.1; done; cat /written",
    );
    assert_eq!(written, "before\n");
    assert_eq!(
        exec(node, "echo after > /new; cat /new /etc/group | head -n 2"),
        "after\nroot:x:0:\n"
    );
    assert_eq!(node.run(&image, "ls -d /written /etc").stdout, "/etc\n");
    node.ctr(["tasks", "rm", "--force", "long"]);
    node.ctr(["containers", "rm", "long"]).succeeded();
}

fn a_container_outlives_a_restart_of_containerd(node: &mut Node) {
    outlives(node, |node| node.containerd.restart());
}

fn a_container_outlives_a_killed_containerd(node: &mut Node) {
    outlives(node, |node| {
        node.containerd.kill();
        node.containerd.restart();
    });
}
