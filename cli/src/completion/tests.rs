//! Without a store and without a shell; with both: `tests/suite/packaging/completion.rs`.

use super::*;

fn offered(line: &[&str]) -> Vec<String> {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    let found = candidates(&words, Path::new("/nowhere"), Path::new("/bin/false"));
    found.into_iter().map(|(value, _)| value).collect()
}

#[test]
fn commands_options_and_values_are_offered() {
    for (line, expected) in [
        (&["varve", "imp"][..], &["import"][..]),
        (&["varve", "bui"], &["build", "builder"]),
        (&["varve", "image", "ins"], &["inspect"]),
        (
            &["varve", "image", "ls", "--filter", "dang"],
            &["dangling=false"],
        ),
        (&["varve", "image", "prune", "--filter", "un"], &["until="]),
        (
            &["varve", "builder", "prune", "--filter", "type=e"],
            &["type=exec.cachemount"],
        ),
        (&["varve", "build", "--network", "h"], &["host"]),
        (
            &["varve", "build", "--platform", "linux/arm6"],
            &["linux/arm64"],
        ),
        (
            &["varve", "build", "--platform", "linux/amd64,linux/arm6"],
            &["linux/amd64,linux/arm64"],
        ),
        (
            &["varve", "prune", "--filter", "type=e"],
            &["type=exec.cachemount"],
        ),
        (
            &["varve", "history", "ls", "--filter", "status=e"],
            &["status=error"],
        ),
        (&["varve", "build", "-o", "type=oc"], &["type=oci,dest="]),
        (
            &["varve", "build", "--build-context", "x=oci"],
            &["x=oci-layout://"],
        ),
        (&["varve", "run", "--runtime", "emb"], &["embedded"]),
        (&["varve", "history", "insp"], &["inspect"]),
    ] {
        assert_eq!(offered(line), expected, "{line:?}");
    }
    let options = offered(&["varve", "build", "--no-"]);
    assert_eq!(options, ["--no-cache", "--no-cache-filter"]);
}

#[test]
fn what_is_hidden_or_unknown_is_not_offered() {
    assert!(offered(&["varve", "__"]).is_empty());
    assert!(!offered(&["varve", ""]).contains(&scripts::COMMAND.to_owned()));
    for line in [
        &["varve", "nonsense", ""][..],
        &[],
        &["varve"],
        &["varve", "run", "app", "-"],
    ] {
        let found = offered(line);
        assert!(
            !found.iter().any(|one| one.starts_with("__")),
            "{line:?}: {found:?}"
        );
    }
    assert!(offered(&["varve", "run", "app", "sh"]).is_empty());
}

#[test]
fn the_root_of_the_command_line_counts() {
    let root = |line: &[&str]| {
        let words: Vec<_> = line.iter().map(OsString::from).collect();
        named_root(&words)
    };
    assert_eq!(root(&["varve", "--root", "/a", "run"]), Some("/a".into()));
    assert_eq!(
        root(&["varve", "run", "--root=\"/a b\""]),
        Some("/a b".into())
    );
    assert_eq!(root(&["varve", "run", "--root"]), None);
}
