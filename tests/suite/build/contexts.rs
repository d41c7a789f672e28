//! Named contexts: directories, layouts, and images of the store.

use support::workspace::Varve;

#[test]
fn a_directory_is_a_named_context_for_copy_with_its_own_dockerignore() {
    let varve = Varve::new();
    varve.write("other/keep", "kept");
    varve.write("other/drop", "dropped");
    varve.write("other/.dockerignore", "drop\n");
    varve.dockerfile("FROM scratch\nCOPY --from=other / /got/\n");
    let files = varve.files(["--build-context", "other=other"]);
    assert_eq!(
        std::fs::read_to_string(files.join("got/keep")).unwrap(),
        "kept"
    );
    assert!(!files.join("got/drop").exists());
}

#[test]
fn a_layout_is_a_base_by_tag_by_digest_and_alone() {
    let varve = Varve::new();
    let index = std::fs::read(varve.base().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let path = varve.base().display().to_string();
    for reference in ["".to_owned(), ":latest".to_owned(), format!("@{digest}")] {
        varve.dockerfile("FROM base\nRUN echo yes > /f\n");
        let files = varve.files([
            "--build-context",
            &format!("base=oci-layout://{path}{reference}"),
        ]);
        assert_eq!(std::fs::read_to_string(files.join("f")).unwrap(), "yes\n");
    }
    let wrong = format!("base=oci-layout://{path}:absent");
    let failed = varve
        .build(["-o", "out", "--build-context", &wrong])
        .code(1);
    assert!(failed.stderr.contains("absent"), "{failed}");
}

#[test]
fn an_image_of_the_store_is_a_base_under_another_name() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nENV WHO=first\nRUN echo $WHO > /who\n");
    varve.build(["-t", "first:v1"]).succeeded();
    varve.dockerfile("FROM base\nRUN echo $WHO $(cat /who) > /f\n");
    let files = varve.files(["--build-context", "base=docker-image://first:v1"]);
    assert_eq!(
        std::fs::read_to_string(files.join("f")).unwrap(),
        "first first\n"
    );
}

#[test]
fn a_named_context_takes_the_place_of_a_stage() {
    let varve = Varve::new();
    varve.write("replacement/f", "replaced");
    varve.dockerfile("FROM busybox AS made\nRUN exit 9\nFROM scratch\nCOPY --from=made /f /\n");
    let files = varve.files(["--build-context", "made=replacement"]);
    assert_eq!(
        std::fs::read_to_string(files.join("f")).unwrap(),
        "replaced"
    );
}

#[test]
fn a_name_can_mean_nothing_at_all() {
    let varve = Varve::new();
    varve.dockerfile("FROM base\nCOPY Dockerfile /only\n");
    let files = varve.files(["--build-context", "base=docker-image://scratch"]);
    assert_eq!(std::fs::read_dir(&files).unwrap().count(), 1);
    assert!(files.join("only").is_file());
}
