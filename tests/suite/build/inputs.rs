//! Where a Dockerfile and its arguments come from.

use support::workspace::{Varve, run, run_with_input};

#[test]
fn a_dockerfile_of_another_name_is_found_from_the_working_directory() {
    let varve = Varve::new();
    varve.write("docker/Dockerfile.prod", "FROM scratch\nCOPY a /\n");
    varve.write("context/a", "a");
    varve
        .build(["-f", "docker/Dockerfile.prod", "-o", "out"])
        .succeeded();
    assert_eq!(varve.read("out/a"), "a");
}

#[test]
fn a_dockerfile_can_come_from_standard_input_with_a_context() {
    let varve = Varve::new();
    varve.write("context/a", "a");
    let mut command = varve.build_command(["-f", "-", "-o", "out"]);
    run_with_input(&mut command, b"FROM scratch\nCOPY a /b\n").succeeded();
    assert_eq!(varve.read("out/b"), "a");
}

#[test]
fn a_dockerfile_can_come_from_standard_input_without_a_context() {
    let varve = Varve::new();
    let mut command = varve.command(["build", "--progress=plain", "-o", "out", "-"]);
    run_with_input(&mut command, b"FROM scratch\nCOPY <<EOF /f\nhello\nEOF\n").succeeded();
    assert_eq!(varve.read("out/f"), "hello\n");
}

#[test]
fn a_build_argument_is_given_taken_from_the_environment_or_left_to_its_default() {
    let varve = Varve::new();
    varve.dockerfile(
        "ARG BASE=absent\nFROM $BASE\nARG GIVEN=default\nARG INHERITED=default\nARG KEPT=default\n\
         ARG UNSET\nRUN echo $GIVEN,$INHERITED,$KEPT,${UNSET-none} > /f\n",
    );
    let arguments = ["--build-arg", "BASE=busybox", "--build-arg", "GIVEN=a=b"];
    let mut command = varve.build_command(["-o", "out", "--build-arg", "INHERITED"]);
    command
        .args(["--build-arg", "ABSENT"])
        .env("INHERITED", "from outside")
        .env("KEPT", "no");
    run(command.args(arguments)).succeeded();
    assert_eq!(varve.read("out/f"), "a=b,from outside,default,none\n");
}

#[test]
fn a_build_argument_is_not_left_in_the_image() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nARG SECRET\nRUN echo $SECRET > /f\nENV KEPT=$SECRET\n");
    let image = varve.image(["--build-arg", "SECRET=s"]);
    assert_eq!(
        image.config()["config"]["Env"],
        serde_json::json!(["PATH=/bin", "KEPT=s"])
    );
}

#[test]
fn platform_arguments_are_known_without_being_given() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM --platform=$BUILDPLATFORM busybox\nARG TARGETPLATFORM\nARG TARGETARCH\nARG TARGETOS\n\
         RUN echo $TARGETPLATFORM $TARGETOS/$TARGETARCH > /f\n",
    );
    let files = varve.files([""; 0]);
    let text = std::fs::read_to_string(files.join("f")).unwrap();
    let (platform, parts) = text.trim().split_once(' ').unwrap();
    assert!(platform.starts_with("linux/"), "{text}");
    assert_eq!(platform, parts);
}

#[test]
fn labels_of_the_command_line_join_and_override_those_of_the_dockerfile() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nLABEL a=1 b=2\n");
    let image = varve.image(["--label", "b=3", "--label", "c=4 5"]);
    let labels = &image.config()["config"]["Labels"];
    assert_eq!(
        *labels,
        serde_json::json!({ "a": "1", "b": "3", "c": "4 5" })
    );
}

#[test]
fn a_dockerignore_beside_the_dockerfile_goes_before_that_of_the_context() {
    let varve = Varve::new();
    varve.write("context/a.txt", "a");
    varve.write("context/b.txt", "b");
    varve.write("context/.dockerignore", "b.txt\n");
    varve.dockerfile("FROM scratch\nCOPY *.txt /\n");
    let names = |arguments: &[&str]| {
        let files = std::fs::read_dir(varve.files(arguments)).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), ["a.txt"]);
    varve.write("context/Dockerfile.dockerignore", "a.txt\n");
    assert_eq!(names(&[]), ["b.txt"]);
    varve.write("elsewhere/D", "FROM scratch\nCOPY *.txt /\n");
    assert_eq!(names(&["-f", "elsewhere/D"]), ["a.txt"]);
    varve.write("elsewhere/D.dockerignore", "# nothing\n");
    assert_eq!(names(&["-f", "elsewhere/D"]), ["a.txt", "b.txt"]);
}

#[test]
fn a_build_leaves_its_image_id_and_its_metadata_for_programs() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    let image = varve.image([
        "-t",
        "x",
        "-q",
        "--iidfile",
        "iid",
        "--metadata-file",
        "meta.json",
    ]);
    let id = varve.read("iid");
    assert_eq!(id, image.manifest()["config"]["digest"].as_str().unwrap());
    let metadata: serde_json::Value = serde_json::from_str(&varve.read("meta.json")).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id.as_str());
    assert_eq!(metadata["containerimage.digest"], image.digest());
    assert_eq!(metadata["image.name"], "docker.io/library/x:latest");
}

#[test]
fn a_quiet_build_prints_the_image_id_and_nothing_else() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo loud\n");
    let built = varve.build(["-t", "x", "-q"]).success();
    assert!(
        built.stdout.starts_with("sha256:") && built.stdout.lines().count() == 1,
        "{built}"
    );
    assert_eq!(built.stderr, "", "{built}");
}
