//! docker's management commands.

use support::workspace::Varve;

fn names(varve: &Varve) -> Vec<String> {
    let listed = varve.varve(["image", "ls", "--format", "{{.Name}}"]);
    let mut names: Vec<_> = listed.success().stdout.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// Two images with names, one that runs, and one without a name.
fn images() -> Varve {
    let varve = Varve::new();
    for (name, label) in [
        ("one", "keep=no"),
        ("two", "keep=yes"),
        ("three", "keep=no"),
    ] {
        varve.dockerfile(&format!(
            "FROM busybox\nLABEL {label}\nRUN echo {name} > /{name}\n"
        ));
        varve.build(["-t", name]).succeeded();
    }
    varve.dockerfile("FROM busybox\nRUN echo nobody > /name\n");
    varve.build(["-q"]).succeeded();
    assert_eq!(names(&varve).len(), 4);
    varve
}

#[test]
fn commands_of_groups_do_what_their_own_names_do() {
    let varve = images();
    for (group, plain) in [
        (&["image", "ls", "-q"][..], &["images", "-q"][..]),
        (&["image", "inspect", "one"], &["inspect", "one"]),
        (
            &["image", "history", "-q", "one"],
            &["history", "-q", "one"],
        ),
        (
            &["builder", "du", "--format", "{{.ID}}"],
            &["du", "--format", "{{.ID}}"],
        ),
    ] {
        let (said, meant) = (varve.varve(group).success(), varve.varve(plain).success());
        assert_eq!(said.stdout, meant.stdout, "{group:?}");
    }
    varve.varve(["image", "tag", "one", "other"]).succeeded();
    varve.varve(["image", "rm", "one"]).succeeded();
    let archive = varve.path("a.tar");
    let archive = archive.to_str().unwrap();
    varve
        .varve(["image", "save", "-o", archive, "other"])
        .succeeded();
    varve.varve(["image", "rm", "other"]).succeeded();
    let loaded = varve.varve(["image", "load", "-i", archive]).success();
    assert_eq!(loaded.stdout, "Loaded image: other:latest\n");
    let shown = varve.varve(["image", "--help"]).success();
    assert!(shown.stdout.contains("(varve images)"), "{shown}");
    let wrong = varve.varve(["image", "history", "nothing"]).code(1);
    assert!(wrong.stderr.contains("no such image"), "{wrong}");
}

#[test]
fn image_prune_removes_images_without_a_name_and_with_all_those_that_nobody_uses() {
    let varve = images();
    // Nobody says yes.
    let asked = varve.varve(["image", "prune"]).success();
    assert!(
        asked.stderr.contains("all images without a name"),
        "{asked}"
    );
    assert_eq!(names(&varve).len(), 4);
    let pruned = varve.varve(["image", "prune", "--force"]).success();
    assert!(
        pruned
            .stdout
            .starts_with("Deleted Images:\ndeleted: sha256:"),
        "{pruned}"
    );
    assert_eq!(names(&varve), ["one", "three", "two"]);
    let mounted = varve.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let mounted = mounted.to_str().unwrap();
    varve.varve(["mount", "three", mounted]).succeeded();
    let words = ["image", "prune", "-af", "--filter", "label!=keep=yes"];
    let pruned = varve.varve(words).success();
    assert!(
        pruned
            .stdout
            .contains("untagged: one:latest\ndeleted: sha256:"),
        "{pruned}"
    );
    assert!(
        pruned.stdout.contains("Total reclaimed space: "),
        "{pruned}"
    );
    assert_eq!(
        names(&varve),
        ["three", "two"],
        "one is mounted, one has another label"
    );
    varve.varve(["umount", mounted]).succeeded();
    let kept = varve
        .varve(["image", "prune", "-af", "--filter", "until=24h"])
        .success();
    assert_eq!(kept.stdout, "Total reclaimed space: 0B\n");
    varve.varve(["image", "prune", "-af"]).succeeded();
    assert!(names(&varve).is_empty());
    for (filter, told) in [
        ("colour=red", "unknown key"),
        ("until=whenever", "is no time"),
    ] {
        let refused = varve
            .varve(["image", "prune", "-f", "--filter", filter])
            .code(1);
        assert!(refused.stderr.contains(told), "{refused}");
    }
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn words_of_docker_that_are_not_here_are_explained() {
    let varve = Varve::new();
    for (word, told) in [
        ("ps", "varve keeps no containers"),
        ("volume", "mounts directories (-v)"),
        ("info", "varve doctor"),
        ("compose", "varve --help"),
    ] {
        let refused = varve.varve([word]).refused(2, &[told]);
        assert!(!refused.stderr.contains("similar"), "{refused}");
    }
    varve
        .varve(["system", "prune", "-af", "--volumes"])
        .succeeded();
    // docker makes an image of it.
    varve.write("rootfs/etc/hostname", "x");
    let words = ["-cf", "rootfs.tar", "-C", "rootfs", "."];
    varve.tool("tar", words).succeeded();
    let refused = varve.varve(["image", "import", "rootfs.tar", "x"]);
    refused.refused_with(1, &["FROM scratch, ADD ROOT.tar /"]);
}

#[test]
fn builder_prune_leaves_images_without_a_name_and_system_prune_takes_them() {
    let varve = images();
    varve
        .varve(["builder", "prune", "--all", "--force"])
        .succeeded();
    assert_eq!(names(&varve).len(), 4);
    varve.varve(["system", "prune", "--force"]).succeeded();
    assert_eq!(names(&varve), ["one", "three", "two"]);
}
