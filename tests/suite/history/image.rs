//! `varve history IMAGE`: docker's list of how an image was made.

use support::workspace::Varve;

fn built() -> Varve {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nENV A=1\nRUN echo a rather long command that no table can show in full > /f\n",
    );
    varve.build(["-t", "app"]).succeeded();
    varve
}

#[test]
fn an_image_is_listed_layer_by_layer_with_the_columns_of_docker() {
    let varve = built();
    let table = varve.varve(["history", "app"]).success().stdout;
    let lines: Vec<&str> = table.lines().collect();
    let header: Vec<_> = lines[0]
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        header,
        ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    );
    assert!(
        lines[1].contains("RUN /bin/sh -c echo a rather long command th…"),
        "{table}"
    );
    assert!(
        lines[2].contains("ENV A=1") && lines[2].contains(" 0B "),
        "{table}"
    );
    assert!(lines[2].starts_with("<missing>"), "{table}");
    assert!(lines[1].ends_with("buildkit.dockerfile.v0"), "{table}");
    assert!(lines.len() >= 4, "the base's layer too: {table}");

    let whole = varve
        .varve(["history", "--no-trunc", "app"])
        .success()
        .stdout;
    assert!(
        whole.contains("in full > /f # buildkit") && whole.contains("sha256:"),
        "{whole}"
    );
    let ids = varve.varve(["history", "-q", "app"]).success().stdout;
    assert_eq!(ids.lines().nth(1), Some("<missing>"), "{ids}");
    let exact = varve.varve(["history", "-H=false", "app"]).success().stdout;
    assert!(
        exact.lines().nth(1).unwrap().contains('T'),
        "RFC 3339: {exact}"
    );
    let json = varve
        .varve(["history", "--format", "json", "app"])
        .success()
        .stdout;
    let newest: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(newest["Comment"], "buildkit.dockerfile.v0");
}

#[test]
fn an_image_and_a_command_for_builds_do_not_go_together() {
    let varve = built();
    let both = varve.varve(["history", "app", "ls"]).code(1);
    assert!(both.stderr.contains("not both"), "{both}");
    let filter = varve
        .varve(["history", "--filter", "status=error", "app"])
        .code(1);
    assert!(filter.stderr.contains("--filter is for builds"), "{filter}");
    let unknown = varve.varve(["history", "nothing"]).code(1);
    assert!(unknown.stderr.contains("app"), "{unknown}");
}
