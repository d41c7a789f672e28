//! `.dockerignore`: docker's rules.

use support::workspace::Varve;

use super::names;

/// What of a context is left by an ignore file.
fn left(ignore: &str) -> Vec<String> {
    let varve = Varve::new();
    for name in [
        "a.txt",
        "b.md",
        "d/a.txt",
        "d/b.md",
        "d/e/c.md",
        "docs/x",
        ".git/config",
    ] {
        varve.write(format!("context/{name}"), "");
    }
    varve.write("context/.dockerignore", ignore);
    varve.dockerfile("FROM scratch\nCOPY . /\n");
    let mut names = names(&varve.files([""; 0]));
    names.retain(|name| name != "Dockerfile" && name != ".dockerignore");
    names
}

#[test]
fn patterns_leave_out_and_take_in_by_the_last_that_matches() {
    let all = [
        ".git/config",
        "a.txt",
        "b.md",
        "d/a.txt",
        "d/b.md",
        "d/e/c.md",
        "docs/x",
    ];
    let without = |gone: &[&str]| {
        all.iter()
            .filter(|name| !gone.contains(name))
            .map(|name| (*name).to_owned())
            .collect()
    };
    let cases: [(&str, Vec<String>); 11] = [
        ("", without(&[])),
        ("# comment\n\n", without(&[])),
        ("*.md\n", without(&["b.md"])),
        ("**/*.md\n", without(&["b.md", "d/b.md", "d/e/c.md"])),
        (
            "d\n.git\n",
            without(&["d/a.txt", "d/b.md", "d/e/c.md", ".git/config"]),
        ),
        ("/d/e/\ndocs/\n", without(&["d/e/c.md", "docs/x"])),
        ("**\n!d/e\n!a.*\n", vec!["a.txt".into(), "d/e/c.md".into()]),
        ("**/*.md\n!b.md\n", without(&["d/b.md", "d/e/c.md"])),
        ("!b.md\n*.md\n", without(&["b.md"])),
        ("d/**\n!d/\n", without(&["d/a.txt", "d/b.md", "d/e/c.md"])),
        ("**/*.md\n!d/e\n", without(&["b.md", "d/b.md", "d/e/c.md"])),
    ];
    for (ignore, expect) in cases {
        assert_eq!(left(ignore), expect, "{ignore:?}");
    }
}

#[test]
fn the_dockerfile_can_be_left_out_of_the_context_and_is_read_all_the_same() {
    let varve = Varve::new();
    varve.write("context/a", "");
    varve.write("context/.dockerignore", "Dockerfile\n.dockerignore\n");
    varve.dockerfile("FROM scratch\nCOPY . /\n");
    assert_eq!(names(&varve.files([""; 0])), ["a"]);
}

#[test]
fn what_is_left_out_cannot_be_copied_by_name_and_does_not_matter_to_the_cache() {
    let varve = Varve::new();
    varve.write("context/a", "");
    varve.write("context/left-out", "1");
    varve.write("context/.dockerignore", "left-out\n");
    varve.dockerfile("FROM busybox\nCOPY . /c\nRUN ls /c\n");
    assert_eq!(
        varve
            .build(["-t", "x"])
            .success()
            .transcript()
            .executed()
            .len(),
        2
    );
    varve.write("context/left-out", "2");
    let again = varve.build(["-t", "x"]).success().transcript();
    assert!(again.executed().is_empty(), "{again:#?}");
    varve.dockerfile("FROM scratch\nCOPY left-out /\n");
    let failed = varve.build(["-t", "x"]).code(1);
    assert!(
        failed.stderr.contains("\"/left-out\": not found"),
        "{failed}"
    );
}
