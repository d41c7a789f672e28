//! Requests from command lines, over real directories.

use std::fs;

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
            deletes_others: false,
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
    let base = PathBuf::from(&path);
    assert!(matches!(&named["base"], NamedContextSource::Directory(path) if *path == base));
    let mine = "docker.io/library/mine:latest";
    assert!(matches!(&named["other:3"], NamedContextSource::Image(name) if name == mine));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_built() {
    let (directory, path) = context();
    let file = directory.path().join("Dockerfile").display().to_string();
    let of_type_tar = format!("type=tar,dest={path}");
    let below_a_file = format!("type=oci,dest={file}/x.tar");
    for (arguments, part) in [
        (
            &["/nowhere/at/all"][..],
            "path \"/nowhere/at/all\" not found",
        ),
        (&[&file], "is not a directory"),
        (&["https://example.com/x.git?depth=1"], "unexpected query"),
        (&["-f", "-", "-"], "cannot be both"),
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
        (&["-o", &of_type_tar, &path], "is a directory; name a file"),
        (&["-o", &below_a_file, &path], "is not a directory"),
        (&["-o", &file, &path], "is not a directory"),
        (
            &["--iidfile", "/nowhere/at/all", &path],
            "invalid --iidfile: /nowhere/at",
        ),
        (
            &["--metadata-file", "/", &path],
            "invalid --metadata-file: / is a directory",
        ),
    ] {
        let error = request(arguments, &[]).unwrap_err();
        assert!(
            format!("{error:#}").contains(part),
            "{arguments:?}: {error:#}"
        );
    }
}

#[test]
fn empty_words_of_scripts_are_as_if_they_were_not_there() {
    let (directory, path) = context();
    let words = ["--target=", "--file=", "--iidfile=", "--metadata-file="];
    let given = options(&[&words[..], &[&path]].concat());
    let (request, asked) = make(given, &Environment::of(&[], true)).unwrap();
    assert_eq!(request.target, None);
    let file = directory.path().join("Dockerfile");
    assert_eq!(request.dockerfile, DockerfileSource::File(file));
    assert_eq!((asked.iidfile, asked.metadata_file), (None, None));
}

#[test]
fn proxies_of_dockers_configuration_are_arguments_unless_others_are_given() {
    let (directory, path) = context();
    let text = r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "x"}}}"#;
    fs::write(directory.path().join("config.json"), text).unwrap();
    let given = ["--build-arg", "HTTP_PROXY=http://q:2", &path];
    let request = request(&given, &[("DOCKER_CONFIG", &path)]).unwrap();
    let expected = [
        ("HTTP_PROXY", "http://q:2"),
        ("NO_PROXY", "x"),
        ("http_proxy", "http://p:1"),
        ("no_proxy", "x"),
    ];
    let arguments = request.build_args.iter();
    let found: Vec<_> = arguments.map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(found, expected);
}

#[test]
fn an_archive_on_standard_input_is_recognised() {
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    header.set_cksum();
    for (start, expect) in [
        (&b""[..], false),
        (b"FROM scratch\n", false),
        (&[0; 512], false),
        (header.as_bytes(), true),
        (b"\x1f\x8b\x08", true),
        (b"BZh91AY&SY", true),
    ] {
        assert_eq!(ArchiveSource::is_archive(start), expect, "{start:?}");
    }
    assert!(dockerfile_of(&b""[..]).is_err());
    assert_eq!(dockerfile_of(&b"FROM x"[..]).unwrap(), b"FROM x");
}

#[test]
fn a_repository_is_fetched_with_the_callers_variables() {
    let line = ["-f", "d/File", "https://example.com/x.git#v1:sub"];
    let request = request(&line, &[("SSH_AUTH_SOCK", "/s")]).unwrap();
    let file = DockerfileSource::InContext(Some("d/File".to_owned()));
    assert_eq!(request.dockerfile, file);
    let Some(ContextSource::Remote(RemoteSource::Git(git))) = request.context else {
        panic!("{:?}", request.context);
    };
    assert_eq!(
        (git.reference.revision, git.reference.directory),
        (Some("v1".into()), Some("sub".into()))
    );
    assert_eq!(git.environment, [("SSH_AUTH_SOCK".into(), "/s".into())]);
    assert_eq!(git.reference.keeps_git_directory, None);
}
