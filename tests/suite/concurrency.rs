//! Several varve at once on one root: all succeed, none corrupts what another does.

use std::fs;
use std::time::Duration;

use support::leftovers::{eventually, processes};
use support::tree;
use support::workspace::{Running, Varve};

/// A step starts by then, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

fn is_sound(varve: &Varve) {
    let checked = varve.varve(["fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
}

#[test]
fn a_second_build_waits_for_the_first_says_so_and_succeeds() {
    let varve = Varve::new();
    let go = format!("varve-go-{}", std::process::id());
    varve.dockerfile(&format!(
        "FROM busybox\nRUN : {go}; sleep 2; echo one > /one\n"
    ));
    let first = Running::start(&mut varve.build_command(["-t", "first"]));
    let runs = || processes(&go).iter().any(|line| line.contains("/bin/sh"));
    assert!(eventually(SOON, runs), "the step of the first build");
    varve.write("context/second", "FROM busybox\nRUN echo two > /two\n");
    let second = Running::start(&mut varve.build_command(["-t", "second", "-f", "context/second"]));
    let readers: Vec<_> = [["images"].as_slice(), &["du"], &["images"]]
        .into_iter()
        .map(|words| Running::start(&mut varve.command(words)))
        .collect();
    let (first, second) = (first.wait().success(), second.wait().success());
    assert!(!first.stderr.contains("waiting for another"), "{first}");
    assert!(
        second.stderr.contains("waiting for another varve"),
        "{second}"
    );
    for reader in readers {
        reader.wait().succeeded();
    }
    assert_eq!(varve.shell("first", "cat /one"), "one\n");
    assert_eq!(varve.shell("second", "cat /two"), "two\n");
    is_sound(&varve);
}

#[test]
fn four_builds_that_share_steps_and_layers_all_succeed() {
    let varve = Varve::new();
    for number in 0..4 {
        varve.write(
            format!("context/Dockerfile.{number}"),
            format!(
                "FROM busybox\nRUN echo shared > /shared\nCOPY shared /copied\n\
                 RUN echo {number} > /own\n"
            ),
        );
    }
    varve.write("context/shared", "text");
    let builds: Vec<_> = (0..4)
        .map(|number| {
            let (name, file) = (
                format!("app{number}"),
                format!("context/Dockerfile.{number}"),
            );
            Running::start(&mut varve.build_command(["-t", &name, "-f", &file]))
        })
        .collect();
    for build in builds {
        build.wait().succeeded();
    }
    for number in 0..4 {
        let said = varve.shell(&format!("app{number}"), "cat /own /shared /copied");
        assert_eq!(said, format!("{number}\nshared\ntext"));
    }
    is_sound(&varve);
}

#[test]
fn one_image_exported_by_several_at_once_is_the_same_in_each() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN seq 1 20000 > /numbers; mkdir /d; ln /numbers /d/hard\n");
    let exports: Vec<_> = (0..3)
        .map(|number| {
            let (archive, out) = (
                format!("type=oci,dest={number}.tar"),
                format!("out{number}"),
            );
            Running::start(&mut varve.build_command(["-o", &archive, "-o", &out]))
        })
        .collect();
    for export in exports {
        export.wait().succeeded();
    }
    let first = fs::read(varve.path("0.tar")).unwrap();
    for number in 1..3 {
        assert!(fs::read(varve.path(format!("{number}.tar"))).unwrap() == first);
        let trees = [0, number].map(|number| tree::list(&varve.path(format!("out{number}"))));
        tree::assert_same(&trees[0], &trees[1]);
    }
    is_sound(&varve);
}

#[test]
fn prune_and_rmi_beside_builds_take_nothing_that_these_need() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo old > /old\n");
    varve.build(["-t", "old"]).succeeded();
    varve.dockerfile("FROM busybox\nRUN echo old > /old\nRUN sleep 1; echo new > /new\n");
    let build = Running::start(&mut varve.build_command(["-t", "new"]));
    let others: Vec<_> = [["rmi", "old"].as_slice(), &["prune"], &["prune"]]
        .into_iter()
        .map(|words| Running::start(&mut varve.command(words)))
        .collect();
    build.wait().succeeded();
    for other in others {
        other.wait().succeeded();
    }
    assert_eq!(varve.shell("new", "cat /old /new"), "old\nnew\n");
    is_sound(&varve);
}
