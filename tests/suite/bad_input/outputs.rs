//! Wrong `-o`, and places that cannot be written.

use std::fs;

use support::workspace::Varve;

/// A value of `-o`, and what the message says.
const WRONG: &[(&str, &str)] = &[
    ("", "it is empty"),
    ("type=moon,dest=x", "unknown type \"moon\""),
    ("type=local", "needs dest=DIR"),
    ("type=oci,tar=false", "needs dest=DIR"),
    (
        "type=oci,dest=x,compression=lzma",
        "unknown compression \"lzma\"",
    ),
    ("type=oci,dest=x,colour=red", "no key \"colour\""),
    (
        "type=oci,dest=x,compresion=gzip",
        "did you mean compression?",
    ),
    (
        "type=oci,dest=x,compression=gzip,compression-level=12",
        "use 0 to 9",
    ),
    (
        "type=oci,dest=x,compression=zstd,oci-mediatypes=false",
        "conflicts with oci-mediatypes=false",
    ),
    (
        "type=oci,dest=x,annotation-layer.k=v",
        "annotation type \"layer\"",
    ),
    ("type=local,dest=d,mode=move", "it is copy"),
    (
        "type=oci,dest=x,oci-artifact=perhaps",
        "neither true nor false",
    ),
    (
        "type=tar,dest=x,source-date-epoch=noon",
        "seconds since 1970",
    ),
    (
        "type=oci,dest=x,tar=perhaps",
        "tar=\"perhaps\" is neither true nor false",
    ),
    ("type=oci,dest=x,dest=y", "the key \"dest\" is given twice"),
    ("one,two", "the field \"one\" is not KEY=VALUE"),
    ("\"type=oci", "a double quote is not closed"),
];

#[test]
fn a_wrong_output_is_refused_before_anything_is_built() {
    let varve = Varve::new();
    for (value, message) in WRONG {
        varve.build(["-o", value]).refused_with(2, &[message]);
    }
    assert!(!varve.root().exists(), "nothing was begun");
}

#[test]
fn an_output_that_cannot_be_written_is_named_and_nothing_is_left_there() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    varve.write("file", "mine");
    varve.write("directory/file", "mine");
    for (value, named) in [
        ("type=oci,dest=directory", "directory is a directory"),
        ("type=oci,dest=file/image.tar", "file is not a directory"),
        (
            "type=docker,dest=file/a/image.tar",
            "file is not a directory",
        ),
        ("type=tar,dest=directory", "directory is a directory"),
        ("type=oci,tar=false,dest=file", "file"),
        ("file", "file"),
    ] {
        varve.build(["-o", value]).refused_with(1, &[named]);
    }
    assert_eq!(varve.read("file"), "mine");
    assert_eq!(varve.read("directory/file"), "mine");
    let mut names: Vec<_> = fs::read_dir(varve.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["context", "directory", "file"], "nothing was built");
}

#[test]
fn a_failed_build_leaves_the_last_good_output_as_it_was() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    varve.build(["-o", "type=oci,dest=image.tar"]).succeeded();
    let before = fs::read(varve.path("image.tar")).unwrap();
    varve.dockerfile("FROM busybox\nRUN false\n");
    let failed = varve.build(["-o", "type=oci,dest=image.tar"]);
    failed.refused_with(1, &["exit code: 1"]);
    assert!(fs::read(varve.path("image.tar")).unwrap() == before);
}

#[test]
fn a_full_standard_output_is_an_error_and_no_panic() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    let build = varve.build_command(["-o", "type=oci,dest=-"]);
    let words: Vec<_> = build.get_args().map(|a| a.to_string_lossy()).collect();
    let script = format!("exec {} {} > /dev/full", shown(&build), words.join(" "));
    let outcome = varve.tool("sh", ["-c", &script]);
    outcome.refused_with(1, &["No space left"]);
}

fn shown(command: &std::process::Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[test]
fn two_outputs_with_one_file_are_refused_before_anything_is_built() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN false\n");
    for pair in [
        ["type=oci,dest=x.tar", "type=docker,dest=./x.tar"],
        ["type=tar,dest=x.tar", "type=local,dest=x.tar"],
    ] {
        let refused = varve.build(["-o", pair[0], "-o", pair[1]]);
        refused.refused_with(2, &["two outputs are written to", "x.tar"]);
        assert!(!varve.path("x.tar").exists());
    }
    varve.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    // Directories may be shared.
    varve
        .build(["-o", "type=local,dest=out", "-o", "type=local,dest=out"])
        .succeeded();
}
