//! What people do with `nerdctl --snapshotter varve`.

use std::time::Duration;

use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::eventually;
use support::node::Node;

/// What nobody needs any more is collected by then, on however busy a machine.
const COLLECTED_LIMIT: Duration = Duration::from_secs(60);

on_each_containerd! {
    nerdctl_pulls_runs_commits_and_removes,
}

fn nerdctl_pulls_runs_commits_and_removes(node: &mut Node) {
    let above = tar_archive(&[TarEntry::file("file", b"pulled")]);
    let image = node.publish("app", &[above]);
    node.nerdctl(["pull", "--quiet", &image]).succeeded();
    let listed = node.nerdctl(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(listed.success().stdout.trim(), image);

    let run = |words: &[&str]| node.nerdctl([&["run", "--net", "host"], words].concat());
    let read = run(&["--rm", &image, "cat", "/file"]).success();
    assert_eq!(read.stdout, "pulled");
    let script = "echo committed > /new; rm /file; mkdir /directory";
    run(&["--name", "writer", &image, "sh", "-c", script]).succeeded();
    let rerun = run(&["--rm", &image, "ls", "/new"]);
    assert_ne!(rerun.code, 0, "a container writes to itself alone: {rerun}");

    node.nerdctl(["commit", "writer", "changed:v1"]).succeeded();
    let script = "cat /new; ls -d /directory; test ! -e /file";
    let read = run(&["--rm", "changed:v1", "sh", "-c", script]).success();
    assert_eq!(read.stdout, "committed\n/directory\n");

    node.nerdctl(["rm", "writer"]).succeeded();
    node.nerdctl(["rmi", &image, "changed:v1"]).succeeded();
    let listed = node.nerdctl(["images", "--quiet"]).success();
    assert_eq!(listed.stdout, "");
    node.collect_garbage();
    let collected = eventually(COLLECTED_LIMIT, || node.rows().is_empty());
    assert!(collected, "{:#?}", node.rows());
}
