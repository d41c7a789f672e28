//! Snapshots by hand: each command of `ctr snapshots`.

use std::fs;

use support::node::{Node, Row};

on_each_containerd! {
    snapshots_are_listed_with_parent_and_kind,
    info_tells_name_parent_and_kind,
    usage_counts_what_a_snapshot_adds,
    a_view_cannot_be_written,
    a_committed_snapshot_holds_what_was_written_and_runs,
    what_cannot_be_done_is_refused_and_changes_nothing,
}

fn row(key: &str, parent: &str, kind: &str) -> Row {
    Row {
        key: key.to_owned(),
        parent: parent.to_owned(),
        kind: kind.to_owned(),
    }
}

/// A pulled image; the key of its one snapshot.
fn pulled(node: &Node) -> String {
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    node.top()
}

fn snapshots_are_listed_with_parent_and_kind(node: &mut Node) {
    let image = pulled(node);
    node.snapshots(["prepare", "empty"]).succeeded();
    node.snapshots(["prepare", "work", &image]).succeeded();
    node.view("look", &image);
    let expect = [
        row("empty", "", "Active"),
        row("look", &image, "View"),
        row(&image, "", "Committed"),
        row("work", &image, "Active"),
    ];
    assert_eq!(node.rows(), expect);
    let tree = node.snapshots(["tree"]).success().stdout;
    let shown: Vec<_> = tree.lines().map(str::trim).collect();
    assert!(shown.contains(&image.as_str()), "{tree}");
    for child in ["work", "look"] {
        assert!(shown.contains(&format!("\\_ {child}").as_str()), "{tree}");
    }
    for key in ["empty", "work", "look"] {
        node.snapshots(["rm", key]).succeeded();
    }
    assert_eq!(node.rows(), [row(&image, "", "Committed")]);
}

fn info_tells_name_parent_and_kind(node: &mut Node) {
    let image = pulled(node);
    node.snapshots(["prepare", "work", &image]).succeeded();
    let info = node.snapshots(["info", "work"]).success().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["Kind"], "Active", "{info}");
    assert_eq!(info["Name"], "work", "{info}");
    assert_eq!(info["Parent"], image.as_str(), "{info}");
    assert_eq!(info["Created"], info["Updated"], "{info}");
    node.snapshots(["label", "work", "mine=yes"]).succeeded();
    let info = node.snapshots(["info", "work"]).success().stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["Labels"]["mine"], "yes", "{info}");
}

/// Bytes and inodes.
fn usage(node: &Node, key: &str) -> (u64, u64) {
    let table = node.snapshots(["usage", "-b", key]).success().stdout;
    let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[0], key);
    (words[1].parse().unwrap(), words[2].parse().unwrap())
}

fn usage_counts_what_a_snapshot_adds(node: &mut Node) {
    let image = pulled(node);
    let (bytes, inodes) = usage(node, &image);
    assert!(bytes > 500_000, "{bytes} bytes of busybox");
    assert!(inodes > 100, "{inodes} inodes of busybox and its applets");
    node.snapshots(["prepare", "work", &image]).succeeded();
    let (before, inodes_before) = usage(node, "work");
    assert!(before < 100_000, "{before} bytes of nothing");
    let mounted = node.mount("work");
    fs::write(mounted.path().join("three"), vec![1; 3 << 20]).unwrap();
    drop(mounted);
    node.snapshots(["commit", "written", "work"]).succeeded();
    let (after, inodes_after) = usage(node, "written");
    assert!(after - before >= 3 << 20, "{before} and then {after} bytes");
    assert!(after - before < 4 << 20, "{before} and then {after} bytes");
    assert!(
        inodes_after > inodes_before,
        "{inodes_before} and then {inodes_after}"
    );
}

fn a_view_cannot_be_written(node: &mut Node) {
    let image = pulled(node);
    node.view("look", &image);
    let mounted = node.mount("look");
    assert!(mounted.path().join("bin/busybox").is_file());
    let error = fs::write(mounted.path().join("new"), "").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

fn a_committed_snapshot_holds_what_was_written_and_runs(node: &mut Node) {
    let image = pulled(node);
    node.snapshots(["prepare", "work", &image]).succeeded();
    let mounted = node.mount("work");
    fs::write(mounted.path().join("etc/written"), "by hand\n").unwrap();
    fs::remove_file(mounted.path().join("etc/passwd")).unwrap();
    fs::remove_dir(mounted.path().join("tmp")).unwrap();
    drop(mounted);
    node.snapshots(["commit", "written", "work"]).succeeded();
    let expect = [
        row(&image, "", "Committed"),
        row("written", &image, "Committed"),
    ];
    assert_eq!(node.rows(), expect);

    node.snapshots(["prepare", "second", "written"]).succeeded();
    let mounted = node.mount("second");
    let script = "cat /etc/written; ls /etc/[gpw]*; ls -d /tmp 2>/dev/null; \
                  echo more >> /etc/written";
    let ran = node.run_in(mounted.path(), script).success();
    assert_eq!(ran.stdout, "by hand\n/etc/group\n/etc/written\n");
    drop(mounted);
    node.snapshots(["commit", "twice written", "second"])
        .succeeded();
    node.view("look", "twice written");
    let mounted = node.mount("look");
    let text = fs::read_to_string(mounted.path().join("etc/written")).unwrap();
    assert_eq!(text, "by hand\nmore\n");
}

fn what_cannot_be_done_is_refused_and_changes_nothing(node: &mut Node) {
    let image = pulled(node);
    node.snapshots(["prepare", "work", &image]).succeeded();
    node.view("look", &image);
    node.snapshots(["prepare", "first", &image]).succeeded();
    node.snapshots(["commit", "done", "first"]).succeeded();
    let before = node.rows();
    let check = |words: &[&str], part: &str| {
        let refused = node.snapshots(words).code(1);
        assert!(refused.stderr.contains(part), "no {part:?} in\n{refused}");
        assert_eq!(node.rows(), before, "{words:?}");
    };
    check(&["prepare", "work", &image], "already exists");
    check(&["view", "look", &image], "already exists");
    check(&["prepare", "new", "nothing"], "not found");
    check(&["prepare", "new", "work"], "not committed");
    check(&["commit", "done", "work"], "already exists");
    check(&["commit", "new", "look"], "is not active");
    check(&["commit", "new", "nothing"], "not found");
    check(&["mounts", "/mnt", "nothing"], "not found");
    check(&["rm", "nothing"], "not found");
    check(&["rm", &image], "cannot remove snapshot with child");
    check(&["info", "nothing"], "not found");
}
