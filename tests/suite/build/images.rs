//! Images in the store: built, listed, named, removed, taken in.

use serde_json::Value;
use support::workspace::Varve;

/// What `varve images` lists.
fn listed(varve: &Varve) -> Vec<(String, String)> {
    let text = varve.varve(["images", "--format", "json"]).success().stdout;
    let images = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut images: Vec<_> = images
        .map(|image: Value| (text(&image["Name"]), text(&image["ID"])))
        .collect();
    images.sort();
    images
}

fn names(varve: &Varve) -> Vec<String> {
    listed(varve).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_image_that_was_built_is_a_base_for_the_next_build() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nENV A=1\nWORKDIR /w\nRUN echo base > f\nUSER nobody\n");
    varve.build(["-t", "team/base:1.0"]).succeeded();
    varve.dockerfile("FROM team/base:1.0\nRUN echo $A $(id -un) $(pwd) $(cat f) # told\n");
    let transcript = varve.build(["-t", "app"]).success().transcript();
    assert_eq!(transcript.step("# told").output, ["1 nobody /w base"]);
}

#[test]
fn triggers_of_a_base_run_first_in_the_build_that_uses_it_and_only_there() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nONBUILD COPY src /src\nONBUILD RUN echo \"$(cat /src)\" > /triggered\n",
    );
    varve.build(["-t", "base"]).succeeded();
    varve.write("context/src", "source");
    varve.dockerfile("FROM base\nRUN cat /triggered\n");
    let transcript = varve.build(["-t", "child"]).success().transcript();
    assert_eq!(transcript.step("RUN cat /triggered").output, ["source"]);
    varve.dockerfile("FROM child\nRUN rm /src /triggered\n");
    let transcript = varve.build(["-t", "grandchild"]).success().transcript();
    assert_eq!(transcript.executed(), ["RUN rm /src /triggered"]);
}

#[test]
fn an_image_has_every_name_it_was_given_until_that_is_taken_away() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", "a", "-t", "b:2"]).succeeded();
    varve.varve(["tag", "a", "c:3"]).succeeded();
    assert_eq!(names(&varve), ["a", "b:2", "c:3"]);
    let ids: std::collections::BTreeSet<_> = listed(&varve).into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 1, "one image: {ids:?}");

    varve.varve(["rmi", "a", "b:2"]).succeeded();
    assert_eq!(names(&varve), ["c:3"]);
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(varve.shell("c:3", "echo still here"), "still here\n");
    // It is asked for at its registry, which cannot be reached here.
    varve
        .varve(["run", "a", "true"])
        .refused_with(125, &["docker.io/library/a:latest: no answer"]);
    let failed = varve.varve(["rmi", "a"]).code(1);
    assert!(
        failed.stderr.contains("\"a\"") || failed.stderr.contains(" a"),
        "{failed}"
    );
}

#[test]
fn a_name_moves_to_the_image_that_was_built_last() {
    let varve = Varve::new();
    for text in ["first", "second"] {
        varve.dockerfile(&format!("FROM busybox\nRUN echo {text} > /f\n"));
        varve.build(["-t", "x"]).succeeded();
    }
    assert_eq!(names(&varve), ["x"]);
    assert_eq!(varve.shell("x", "cat /f"), "second\n");
}

#[test]
fn images_are_taken_in_from_a_layout_an_oci_archive_and_a_docker_archive() {
    let varve = Varve::new();
    let base = format!("oci:{}:latest", varve.base().display());
    varve
        .tool(
            "skopeo",
            ["copy", "-q", &base, "oci-archive:base-oci.tar:v1"],
        )
        .succeeded();
    varve
        .tool(
            "skopeo",
            [
                "copy",
                "-q",
                &base,
                "docker-archive:base-docker.tar:team/base:v2",
            ],
        )
        .succeeded();
    let layout = varve.base();
    varve
        .varve(["import", &layout.display().to_string(), "from-layout"])
        .succeeded();
    varve
        .varve(["import", "base-oci.tar", "from-oci:v1"])
        .succeeded();
    varve.varve(["import", "base-docker.tar"]).succeeded();
    assert_eq!(
        names(&varve),
        ["from-layout", "from-oci:v1", "team/base:v2"]
    );

    for base in names(&varve) {
        varve.dockerfile(&format!("FROM {base}\nRUN echo {base} > /f\n"));
        let files = varve.files([""; 0]);
        let text = std::fs::read_to_string(files.join("f")).unwrap();
        assert_eq!(text.trim(), base);
        assert!(files.join("bin/busybox").is_file(), "{base}");
    }
}

#[test]
fn a_compressed_layer_is_taken_in_as_it_would_be_uncompressed() {
    let varve = Varve::new();
    let base = format!("oci:{}:latest", varve.base().display());
    let trees = ["gzip", "zstd"].map(|compression| {
        let to = format!("oci:{compression}:latest");
        let format = ["--dest-compress", "--dest-compress-format", compression];
        varve
            .tool(
                "skopeo",
                ["copy", "-q"]
                    .into_iter()
                    .chain(format)
                    .chain([&*base, &*to]),
            )
            .succeeded();
        let manifest = support::layout::Layout::open(&varve.path(compression));
        let kind = manifest.manifest()["layers"][0]["mediaType"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(kind.ends_with(compression), "skopeo compresses: {kind}");
        varve
            .varve(["import", compression, compression])
            .succeeded();
        varve.dockerfile(&format!("FROM {compression}\n"));
        support::tree::list(&varve.files([""; 0]))
    });
    varve.dockerfile("FROM busybox\n");
    let plain = support::tree::list(&varve.files([""; 0]));
    assert!(plain.len() > 100, "busybox has many applets");
    for tree in &trees {
        support::tree::assert_same(&plain, tree);
    }
}
