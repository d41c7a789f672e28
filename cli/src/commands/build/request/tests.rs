//! Requests from command lines, over real directories.

use std::fs;

use clap::Parser;

use solver::request::{Destination, Output};

use super::*;
use crate::args::{Arguments, Command};

fn options(arguments: &[&str]) -> Build {
    let line = ["varve", "build"].iter().chain(arguments);
    match Arguments::try_parse_from(line).unwrap().command {
        Command::Build(build) => *build,
        other => panic!("{other:?}"),
    }
}

fn request(arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<BuildRequest> {
    Ok(make(options(arguments), &Environment::of(environment, true))?.0)
}

/// A directory with an empty Dockerfile.
fn context() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let path = directory.path().display().to_string();
    (directory, path)
}

#[test]
fn the_dockerfile_is_in_the_context_unless_named() {
    let (directory, path) = context();
    let file = |name: &str| DockerfileSource::File(directory.path().join(name));
    assert_eq!(
        request(&[&path], &[]).unwrap().dockerfile,
        file("Dockerfile")
    );
    let other = directory.path().join("other").display().to_string();
    assert_eq!(
        request(&["-f", &other, &path], &[]).unwrap().dockerfile,
        file("other")
    );
    fs::rename(
        directory.path().join("Dockerfile"),
        directory.path().join("dockerfile"),
    )
    .unwrap();
    assert_eq!(
        request(&[&path], &[]).unwrap().dockerfile,
        file("dockerfile")
    );
    fs::remove_file(directory.path().join("dockerfile")).unwrap();
    let error = request(&[&path], &[]).unwrap_err().to_string();
    assert!(
        error.contains("failed to read dockerfile") && error.contains("-f"),
        "{error}"
    );
}

#[test]
fn arguments_without_a_value_come_from_the_environment() {
    let (_directory, path) = context();
    let environment = [("SET", "s"), ("SOURCE_DATE_EPOCH", "7"), ("OTHER", "o")];
    let line = [
        "--build-arg",
        "A=1=2",
        "--build-arg",
        "SET",
        "--build-arg",
        "UNSET",
        &path,
    ];
    let arguments = request(&line, &environment).unwrap().build_args;
    let arguments: Vec<_> = arguments.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(arguments, ["A=1=2", "SET=s", "SOURCE_DATE_EPOCH=7"]);
    let line = ["--build-arg", "SOURCE_DATE_EPOCH=8", &path];
    let arguments = request(&line, &environment).unwrap().build_args;
    assert_eq!(arguments["SOURCE_DATE_EPOCH"], "8");
}

#[test]
fn outputs_become_absolute_and_names_of_images_tags() {
    let (_directory, path) = context();
    let line = [
        "-t",
        "a",
        "-o",
        "out",
        "-o",
        "type=image,\"name=a,b:1\"",
        "-o",
        "type=oci,dest=f",
        &path,
    ];
    let request = request(&line, &[]).unwrap();
    assert_eq!(request.tags, ["a"]);
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        request.outputs[0],
        Output::Local {
            directory: here.join("out"),
            epoch: None,
            platform_split: None,
        }
    );
    let Output::Store(store) = &request.outputs[1] else {
        panic!("{:?}", request.outputs)
    };
    assert_eq!(store.names, ["a", "b:1"]);
    let Output::Image(image) = &request.outputs[2] else {
        panic!("{:?}", request.outputs)
    };
    assert_eq!(image.destination, Destination::Path(here.join("f")));
}

#[test]
fn named_contexts_are_known_by_their_short_names() {
    let (_directory, path) = context();
    let directory = format!("docker.io/library/base:latest={path}");
    let image = "other:3=docker-image://mine";
    let line = [
        "--build-context",
        &directory,
        "--build-context",
        image,
        &path,
    ];
    let named = request(&line, &[]).unwrap().named_contexts;
    assert_eq!(
        named["base"],
        NamedContextSource::Directory(PathBuf::from(&path))
    );
    let mine = "docker.io/library/mine:latest".to_owned();
    assert_eq!(named["other:3"], NamedContextSource::Image(mine));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_built() {
    let (directory, path) = context();
    let file = directory.path().join("Dockerfile").display().to_string();
    for (arguments, part) in [
        (
            &["/nowhere/at/all"][..],
            "path \"/nowhere/at/all\" not found",
        ),
        (&[&file], "is not a directory"),
        (&["https://example.com/x.git"], "not supported yet"),
        (&["-f", "-", "-"], "cannot be both"),
        (&["-f", "x", "-"], "leave -f out"),
        (&["-t", "No Name", &path], "invalid -t"),
        (&["--build-arg", "=x", &path], "invalid --build-arg"),
        (&["--label", "=x", &path], "invalid --label"),
        (
            &["--build-context", "a=/nowhere/at/all", &path],
            "build context a: path",
        ),
        (
            &["--build-context", "a=oci-layout:///nowhere/at/all", &path],
            "build context a:",
        ),
        (&["--build-context", "A B=/", &path], "invalid context name"),
        (&["-o", "-", "-o", "type=oci", &path], "two outputs"),
    ] {
        let error = request(arguments, &[]).unwrap_err();
        assert!(
            format!("{error:#}").contains(part),
            "{arguments:?}: {error:#}"
        );
    }
}

#[test]
fn an_archive_on_standard_input_is_recognised() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, part) in [
        (&b""[..], Some("empty")),
        (b"FROM scratch\n", None),
        (&tar, Some("archive")),
        (b"\x1f\x8b\x08", Some("archive")),
        (b"BZh9", Some("archive")),
    ] {
        let error = check_stdin(bytes).err().map(|error| error.to_string());
        assert_eq!(error.is_some(), part.is_some(), "{error:?}");
        assert!(error.unwrap_or_default().contains(part.unwrap_or_default()));
    }
}
