//! Images are pulled and run.

use std::collections::BTreeSet;

use support::containerd::Version;
use support::forged_image::{TarEntry, tar_archive};
use support::node::{Node, RunningScript};
use support::workspace::Running;

/// As many layers as overlayfs and containerd's own limits let an image have.
const LAYERS: usize = 128;

/// How many images are pulled, and then run, at the same time.
const PARALLEL: usize = 20;

on_each_containerd! {
    a_pulled_image_runs,
    a_container_writes_to_itself_alone,
    an_image_that_is_pulled_again_is_still_there,
    an_image_of_128_layers_runs_with_every_layer,
    twenty_images_are_pulled_and_run_at_once,
    one_image_is_pulled_twenty_times_at_once,
}

fn a_pulled_image_runs(node: &mut Node) {
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    let ran = node.run(&image, "cat /etc/passwd; id -u; exit 3").code(3);
    let expect = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n0\n";
    assert_eq!(ran.stdout, expect);
}

fn a_container_writes_to_itself_alone(node: &mut Node) {
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    let script = "echo mine > /etc/new; echo more >> /etc/group; rm /etc/passwd; \
                  mkdir -p /a/b; mv /tmp /a/b/; chmod 700 /root; \
                  cat /etc/new; tail -n 1 /etc/group; ls /etc/[gnp]*; ls -d /a/b/tmp";
    let wrote = node.run(&image, script).success();
    assert_eq!(wrote.stdout, "mine\nmore\n/etc/group\n/etc/new\n/a/b/tmp\n");
    let other = node
        .run(&image, "ls /etc/[gnp]*; tail -n 1 /etc/group; ls -d /tmp")
        .success();
    assert_eq!(
        other.stdout,
        "/etc/group\n/etc/passwd\nnobody:x:65534:\n/tmp\n"
    );
    let kinds: BTreeSet<_> = node.rows().into_iter().map(|row| row.kind).collect();
    assert_eq!(kinds, BTreeSet::from(["Committed".to_owned()]));
}

fn an_image_that_is_pulled_again_is_still_there(node: &mut Node) {
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    let before = node.rows();
    node.pull(&image);
    assert_eq!(node.rows(), before);
    assert_eq!(node.run(&image, "echo here").success().stdout, "here\n");
}

/// A layer with the file `files/<name>`, which holds its name.
fn layer(name: &str) -> Vec<u8> {
    let path = format!("files/{name}");
    tar_archive(&[TarEntry::file(&path, name.as_bytes())])
}

fn an_image_of_128_layers_runs_with_every_layer(node: &mut Node) {
    let names: Vec<_> = (1..LAYERS).map(|number| format!("{number:03}")).collect();
    let above: Vec<_> = names.iter().map(|name| layer(name)).collect();
    let image = node.publish("many", &above);
    node.pull(&image);
    assert_eq!(node.rows().len(), LAYERS);
    let ran = node
        .run(&image, "cat /files/*; ls /files | wc -l")
        .success();
    assert_eq!(ran.stdout, format!("{}{}\n", names.concat(), names.len()));
}

#[track_caller]
fn all_succeed(running: Vec<Running>) {
    for running in running {
        running.wait().succeeded();
    }
}

#[track_caller]
fn printed(running: Vec<RunningScript>) -> Vec<String> {
    let ended = running.into_iter().map(RunningScript::wait);
    ended.map(|outcome| outcome.success().stdout).collect()
}

fn twenty_images_are_pulled_and_run_at_once(node: &mut Node) {
    let names: Vec<_> = (0..PARALLEL)
        .map(|number| format!("image-{number}"))
        .collect();
    let published = names.iter().map(|name| {
        let above = [layer("shared"), layer(name)];
        node.publish(name, &above)
    });
    let images: Vec<_> = published.collect();
    let pulls = images
        .iter()
        .map(|image| Running::start(&mut node.pull_command(image)));
    all_succeed(pulls.collect());
    let script = "cat /files/* && echo . > /files/shared && sleep 1 && ls /files | wc -l";
    let runs = images.iter().map(|image| node.start_script(image, script));
    let printed = printed(runs.collect());
    let expect: Vec<_> = names
        .iter()
        .map(|name| format!("{name}shared2\n"))
        .collect();
    assert_eq!(printed, expect);
    // The base, what all share, and one of each.
    assert_eq!(node.rows().len(), 2 + PARALLEL);
}

fn one_image_is_pulled_twenty_times_at_once(node: &mut Node) {
    let image = node.publish("one", &[layer("a"), layer("b")]);
    let pulls = (0..PARALLEL).map(|_| Running::start(&mut node.pull_command(&image)));
    all_succeed(pulls.collect());
    assert_eq!(node.rows().len(), 3);
    let script = "echo . >> /files/a; cat /files/a /files/b";
    let runs = (0..PARALLEL).map(|_| node.start_script(&image, script));
    assert_eq!(printed(runs.collect()), vec!["a.\nb"; PARALLEL]);
}

/// Only containerd 2 tells proxy plugins of user namespaces.
#[test]
fn a_container_in_a_user_namespace_runs_without_a_copy_of_its_image() {
    let node = &mut Node::start(Version::Second);
    let image = node.publish("busybox", &[]);
    node.pull(&image);
    let before = node.rows();
    let options = [
        "--remap-labels",
        "--uidmap",
        "0:100000:65536",
        "--gidmap",
        "0:100000:65536",
    ];
    let script = "id -u; stat -c '%u %g' / /etc/passwd /bin/busybox; cat /proc/self/uid_map; \
                  echo written > /new; echo more >> /etc/group; stat -c '%u %g' /new /etc/group";
    let ran = node
        .start_script_with(&options, &image, script)
        .wait()
        .success();
    let printed: Vec<_> = ran.stdout.split_whitespace().collect();
    let root = ["0"; 1 + 2 * 3];
    let expected = [&root[..], &["0", "100000", "65536"], &["0"; 2 * 2]].concat();
    assert_eq!(printed, expected);
    assert_eq!(node.rows(), before);
}
