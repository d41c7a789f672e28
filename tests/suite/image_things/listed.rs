//! `varve images`: filters and forms.

use std::time::{Duration, Instant};

use support::workspace::Varve;

/// Longest that a hundred images may take to be listed, on a machine that does other things too.
const LISTED_MAX: Duration = Duration::from_millis(1_500);

fn names(varve: &Varve, arguments: &[&str]) -> Vec<String> {
    let words = ["images", "--format", "{{.Name}}"].iter().chain(arguments);
    let listed = varve.varve(words).success().stdout;
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn three() -> Varve {
    let varve = Varve::new();
    for (name, label, epoch) in [
        ("team/old:1", "stage=test", "1000000000"),
        ("team/new:2", "stage=prod", "1500000000"),
        ("localhost:5000/x", "other=1", "1700000000"),
    ] {
        let argument = format!("SOURCE_DATE_EPOCH={epoch}");
        varve.dockerfile(&format!(
            "FROM busybox\nLABEL {label}\nRUN echo {name} > /name\n"
        ));
        varve
            .build(["-t", name, "--build-arg", &argument])
            .succeeded();
    }
    varve
}

#[test]
fn filters_choose_as_docker_does() {
    let varve = three();
    let all = ["localhost:5000/x", "team/new:2", "team/old:1"];
    for (arguments, expected) in [
        (&[][..], &all[..]),
        (&["-a"], &all),
        (&["team/*"], &all[1..]),
        (&["team/new"], &all[1..2]),
        (&["--filter", "reference=*:5000/*"], &all[..1]),
        (
            &[
                "--filter",
                "reference=team/old:1",
                "--filter",
                "reference=team/new",
            ],
            &all[1..],
        ),
        (&["--filter", "label=stage"], &all[1..]),
        (&["--filter", "label=stage=prod"], &all[1..2]),
        (&["--filter", "label=stage", "--filter", "label=other"], &[]),
        (&["--filter", "before=team/new:2"], &all[2..]),
        (&["--filter", "since=team/old:1"], &all[..2]),
        (&["--filter", "until=2015-01-01"], &all[2..]),
        (&["--filter", "dangling=true"], &[]),
        (&["--filter", "dangling=false"], &all),
    ] {
        assert_eq!(names(&varve, arguments), expected, "{arguments:?}");
    }
    for (filter, told) in [
        ("reference", "KEY=VALUE"),
        ("colour=red", "unknown key"),
        ("before=nothing", "no such image"),
        ("dangling=perhaps", "true or false"),
        ("until=whenever", "is no time"),
    ] {
        let refused = varve.varve(["images", "--filter", filter]);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(refused.stderr.contains(told), "{refused}");
    }
}

#[test]
fn the_list_has_docker_columns_and_the_newest_first() {
    let varve = three();
    let listed = varve.varve(["images"]).success().stdout;
    let lines: Vec<Vec<_>> = listed.lines().map(|l| l.split("   ").collect()).collect();
    assert!(lines[0][0].starts_with("REPOSITORY"), "{listed}");
    let order: Vec<_> = listed
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(order, ["localhost:5000/x", "team/new", "team/old"]);
    assert!(
        listed.contains("IMAGE ID") && !listed.contains("DIGEST"),
        "{listed}"
    );
    let listed = varve
        .varve(["images", "--digests", "--no-trunc"])
        .success()
        .stdout;
    assert!(listed.contains("DIGEST"), "{listed}");
    assert_eq!(listed.matches("sha256:").count(), 6, "{listed}");
    let table = varve
        .varve(["images", "--format", "table {{.Tag}}\\t{{.ID}}"])
        .success();
    assert!(table.stdout.starts_with("TAG      IMAGE ID\n"), "{table}");
    let json = varve.varve(["images", "--format", "json"]).success().stdout;
    for line in json.lines() {
        let image: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(image["Bytes"].as_u64().unwrap() > 500_000, "{image}");
    }
    assert_eq!(json.lines().count(), 3);
}

#[test]
fn hostile_labels_reach_no_terminal() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nLABEL evil=\"\u{1b}[2J\u{7}\u{9b}31m\"\n");
    varve.build(["-t", "x"]).succeeded();
    for format in [
        "{{.Config.Labels.evil}}",
        "{{json .Config.Labels}}",
        "json",
        "{{.}}",
    ] {
        let shown = varve.varve(["inspect", "-f", format, "x"]).success().stdout;
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(obeyed), "{format}: {shown:?}");
    }
    let shown = varve.varve(["inspect", "x"]).success().stdout;
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{9b}'),
        "{shown:?}"
    );
}

#[test]
fn a_hundred_images_that_share_a_base_are_listed_quickly() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", "base"]).succeeded();
    for part in 0..10 {
        varve.dockerfile(&format!("FROM base\nLABEL part={part}\nENV PART={part}\n"));
        let names: Vec<_> = (0..10).map(|n| format!("image-{part}{n}")).collect();
        let words = names.iter().flat_map(|name| ["-t", name]);
        varve.build(words).succeeded();
    }
    let started = Instant::now();
    let listed = varve.varve(["images", "-q"]).success();
    let all = varve.varve(["images", "--format", "json"]).success();
    let took = started.elapsed() / 2;
    assert_eq!(all.stdout.lines().count(), 101);
    assert_eq!(listed.stdout.lines().count(), 11, "each id once");
    assert!(took < LISTED_MAX, "{took:?}");
}
