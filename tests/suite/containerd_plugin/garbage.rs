//! What no image and no container needs is collected.

use std::time::Duration;

use support::forged_image::{TarEntry, tar_archive};
use support::leftovers::eventually;
use support::node::Node;

/// After a collection nothing should be left; this is for one that was under way before.
const COLLECTED_LIMIT: Duration = Duration::from_secs(30);

on_each_containerd! {
    snapshots_of_deleted_images_are_collected,
    what_two_images_share_stays_as_long_as_one_of_them,
    a_snapshot_that_a_container_uses_outlives_its_image,
}

#[track_caller]
fn rows_become(node: &Node, count: usize) {
    let collected = eventually(COLLECTED_LIMIT, || node.rows().len() == count);
    assert!(collected, "{count} are to be left of {:#?}", node.rows());
}

fn above(name: &str) -> Vec<u8> {
    tar_archive(&[TarEntry::file(name, b"here")])
}

fn snapshots_of_deleted_images_are_collected(node: &mut Node) {
    let images = ["a", "b"].map(|name| node.publish(name, &[above(name)]));
    for image in &images {
        node.pull(image);
        node.run(image, "echo . > /written").succeeded();
    }
    rows_become(node, 3);
    node.remove(&[&images[0], &images[1]]);
    rows_become(node, 0);
    let again = node.publish("c", &[above("c")]);
    node.pull(&again);
    assert_eq!(node.run(&again, "cat /c").success().stdout, "here");
}

fn what_two_images_share_stays_as_long_as_one_of_them(node: &mut Node) {
    let shared = above("shared");
    let images = ["a", "b"].map(|name| node.publish(name, &[shared.clone(), above(name)]));
    for image in &images {
        node.pull(image);
    }
    rows_become(node, 4);
    node.remove(&[&images[0]]);
    rows_become(node, 3);
    assert_eq!(
        node.run(&images[1], "cat /shared /b").success().stdout,
        "herehere"
    );
    node.remove(&[&images[1]]);
    rows_become(node, 0);
}

fn a_snapshot_that_a_container_uses_outlives_its_image(node: &mut Node) {
    let image = node.publish("a", &[above("a")]);
    node.pull(&image);
    let snapshotter = node.snapshotter().to_owned();
    let words = [
        "run",
        "--detach",
        "--net-host",
        "--snapshotter",
        &snapshotter,
    ];
    let command = [&image, "long", "sh", "-c", "sleep 1000"];
    node.ctr(words.iter().chain(&command)).succeeded();
    rows_become(node, 3);
    node.remove(&[&image]);
    rows_become(node, 3);
    assert_eq!(node.exec("long", "cat /a").success().stdout, "here");
    node.ctr(["tasks", "rm", "--force", "long"]);
    node.ctr(["containers", "rm", "long"]).succeeded();
    node.collect_garbage();
    rows_become(node, 0);
}
