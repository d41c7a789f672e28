//! Image layouts and archives, checked by skopeo.

use serde_json::Value;
use support::workspace::Varve;

const DOCKERFILE: &str = "FROM busybox\nENV A=1\nLABEL owner=me\nWORKDIR /w\nRUN echo hello > f\n\
    EXPOSE 80\nUSER nobody\nENTRYPOINT [\"cat\"]\nCMD [\"f\"]\n";

/// What skopeo says of an image.
fn inspect(varve: &Varve, image: &str) -> (Value, Value) {
    let parse = |text: String| serde_json::from_str(&text).expect("skopeo prints JSON");
    let image_text = varve.tool("skopeo", ["inspect", image]).success().stdout;
    let config = varve
        .tool("skopeo", ["inspect", "--config", image])
        .success()
        .stdout;
    (parse(image_text), parse(config))
}

#[track_caller]
fn assert_expected(varve: &Varve, image: &str) {
    let (image, config) = inspect(varve, image);
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["Labels"]["owner"], "me");
    assert_eq!(image["Env"], serde_json::json!(["PATH=/bin", "A=1"]));
    assert_eq!(
        image["Layers"].as_array().map(Vec::len),
        Some(3),
        "{image:#}"
    );
    let container = &config["config"];
    assert_eq!(container["Entrypoint"], serde_json::json!(["cat"]));
    assert_eq!(container["Cmd"], serde_json::json!(["f"]));
    assert_eq!(container["WorkingDir"], "/w");
    assert_eq!(container["User"], "nobody");
    assert_eq!(
        container["ExposedPorts"],
        serde_json::json!({ "80/tcp": {} })
    );
    assert_eq!(
        config["history"].as_array().map(Vec::len),
        Some(9),
        "{config:#}"
    );
}

#[test]
fn every_image_format_is_taken_by_skopeo_and_shows_the_config() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve
        .build([
            "-otype=oci,dest=layout,tar=false,name=app:v1",
            "-otype=oci,dest=oci.tar,name=app:v1",
            "-otype=docker,dest=docker.tar,name=app:v1",
        ])
        .succeeded();
    for (index, from) in [
        "oci:layout:v1",
        "oci-archive:oci.tar:v1",
        "docker-archive:docker.tar:app:v1",
    ]
    .iter()
    .enumerate()
    {
        assert_expected(&varve, from);
        let to = format!("oci:copy-{index}:copied");
        varve.tool("skopeo", ["copy", "-q", from, &to]).succeeded();
        assert_expected(&varve, &to);
    }
}

#[test]
fn an_exported_image_comes_back_as_it_was() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve
        .build([
            "-otype=oci,dest=oci.tar",
            "-otype=docker,dest=docker.tar",
            "-t",
            "app",
        ])
        .succeeded();
    let other = varve.path("other").display().to_string();
    for archive in ["oci.tar", "docker.tar"] {
        varve
            .varve(["import", "--root", &other, archive, "back"])
            .succeeded();
        let ran = varve.varve(["run", "--root", &other, "back"]).success();
        assert_eq!(ran.stdout, "hello\n", "{archive}");
    }
}

#[test]
fn compressed_layers_hold_the_same_files() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve
        .build([
            "-otype=oci,dest=plain,tar=false,compression=uncompressed",
            "-otype=oci,dest=gzip,tar=false,compression=gzip",
            "-otype=oci,dest=zstd,tar=false,compression=zstd",
        ])
        .succeeded();
    let kinds = ["plain", "gzip", "zstd"].map(|name| {
        let index: Value = serde_json::from_str(&varve.read(format!("{name}/index.json"))).unwrap();
        let digest = index["manifests"][0]["digest"]
            .as_str()
            .unwrap()
            .replace(':', "/");
        let manifest: Value =
            serde_json::from_str(&varve.read(format!("{name}/blobs/{digest}"))).unwrap();
        // The layer of the base stays as it came.
        manifest["layers"][2]["mediaType"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    let kind = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(
        kinds,
        [
            kind.to_owned(),
            format!("{kind}+gzip"),
            format!("{kind}+zstd")
        ]
    );
    let ids = ["plain", "gzip", "zstd"].map(|name| {
        let (_, config) = inspect(&varve, &format!("oci:{name}"));
        config["rootfs"].clone()
    });
    assert_eq!((&ids[0], &ids[1]), (&ids[1], &ids[2]));
    for name in ["gzip", "zstd"] {
        varve.varve(["import", name, name]).succeeded();
        assert_eq!(varve.varve(["run", name]).success().stdout, "hello\n");
    }
}

#[test]
fn an_image_goes_to_standard_output_and_files_go_there_as_a_tar_archive() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY <<EOF /f\nhello\nEOF\n");
    let command = |output: &str| {
        let mut command = varve.build_command(["-o", output]);
        command
            .stdout(std::process::Stdio::piped())
            .output()
            .unwrap()
    };
    for (output, expect) in [("-", vec!["f"]), ("type=tar,dest=-", vec!["f"])] {
        let done = command(output);
        assert!(done.status.success());
        let mut archive = tar::Archive::new(&*done.stdout);
        let entries = archive.entries().unwrap();
        let name = |entry: std::io::Result<tar::Entry<'_, _>>| {
            entry.unwrap().path().unwrap().display().to_string()
        };
        let names: Vec<_> = entries.map(name).filter(|name| name != "./").collect();
        assert_eq!(names, expect, "{output}");
    }
    let image = command("type=oci,dest=-").stdout;
    let mut archive = tar::Archive::new(&*image);
    let mut entries = archive.entries().unwrap();
    assert!(entries.any(|entry| entry.unwrap().path().unwrap().ends_with("index.json")));
}

#[test]
fn an_archive_that_cannot_be_written_leaves_nothing_behind() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN exit 1\n");
    varve.build(["-otype=oci,dest=image.tar"]).code(1);
    assert!(!varve.path("image.tar").exists());
    // Before the step that fails.
    let failed = varve.build(["-otype=oci,dest=context"]).code(1);
    assert!(failed.stderr.contains("context is a directory"), "{failed}");
    assert!(!failed.stderr.contains("RUN exit 1"), "{failed}");
}

#[test]
fn directories_of_an_archive_that_are_not_there_are_made() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\n");
    for kind in ["oci", "docker", "tar"] {
        let file = format!("new/{kind}/of.tar");
        let output = format!("type={kind},dest={file}");
        varve.build(["--output", &output]).succeeded();
        assert!(varve.path(&file).is_file(), "{file}");
    }
}
