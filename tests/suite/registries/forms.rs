//! Images in every form that registries have.

use std::fs;

use serde_json::json;
use support::forged_image::{TarEntry, descriptor, tar_archive};
use support::layered_image;
use support::registry::Registry;
use support::workspace::Varve;

use super::write_app;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn docker_types_and_all_compressions_are_taken() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let layout = varve.path("layout");
    for (name, options) in [
        ("docker", &["--format=v2s2"][..]),
        ("zstd", &["--dest-compress-format=zstd"]),
        ("plain", &["--preserve-digests"]),
    ] {
        // Equal layers are one snapshot, whatever they were packed by.
        write_app(&varve, name);
        let reference = registry.push_with(&layout, name, options);
        varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /{name}\n"));
        varve.build(["-t", name]).succeeded();
        let file = varve.shell(name, &format!("cat /{name}"));
        assert_eq!(file, name);
        // The layers go out as they came in, under OCI's names for what they are.
        varve
            .build(["-o", &format!("type=oci,dest={name},tar=false")])
            .succeeded();
        let exported = support::layout::Layout::open(&varve.path(name));
        let types = exported.manifest()["layers"].to_string();
        let expected = match name {
            "docker" => "layer.v1.tar+gzip",
            "zstd" => "tar+zstd",
            _ => "layer.v1.tar\"",
        };
        assert!(types.contains(expected), "{name}: {types}");
    }
}

#[test]
fn of_an_index_the_platform_is_taken_and_attestations_are_left() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    write_app(&varve, "of this platform");
    let layout = varve.path("layout");
    let index = fs::read(layout.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        let put = descriptor(media_type, bytes);
        let digest = put["digest"].as_str().unwrap().replace("sha256:", "");
        fs::write(layout.join("blobs/sha256").join(digest), bytes).unwrap();
        put
    };
    let mut image = index["manifests"][0].clone();
    image.as_object_mut().unwrap().remove("annotations");
    image["platform"] = json!({ "os": "linux", "architecture": this_architecture() });
    let statement = put("application/vnd.in-toto+json", br#"{"_type":"x"}"#);
    let config = put("application/vnd.oci.image.config.v1+json", b"{}");
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement],
    });
    let mut attestation = put(MANIFEST, attestation.to_string().as_bytes());
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let list = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [attestation, image],
    });
    let mut list = put(INDEX, list.to_string().as_bytes());
    let digest = list["digest"].as_str().unwrap().to_owned();
    list["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({ "schemaVersion": 2, "manifests": [list] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let reference = registry.push_with(&layout, "many", &["--all", "--preserve-digests"]);
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    let built = varve.build(["-t", "child"]).success();
    // The graph is pinned to what the tag means, which is the index.
    assert!(built.stderr.contains(&digest), "{built}");
    assert_eq!(varve.shell("child", "cat /copy"), "of this platform");
    let refused = varve.varve(["pull", "--platform=linux/s390x", &reference]);
    let refused = refused.refused(1, &["no match for platform linux/s390x"]);
    assert!(!refused.stderr.contains("unknown"), "{refused}");
    varve.dockerfile(&format!("FROM --platform=linux/s390x {reference}\n"));
    let words = [
        "no match for platform linux/s390x",
        "has: linux/",
        ">>> FROM",
    ];
    varve.build(["-t", "child"]).refused_with(1, &words);
}

#[test]
fn an_image_for_another_platform_only_is_taken_with_a_warning() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let foreign = [
        "--platform=linux/s390x",
        "-otype=oci,dest=layout,tar=false,name=x",
    ];
    varve.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    varve.build(foreign).succeeded();
    let reference = registry.push(&varve.path("layout"), "foreign");
    varve.dockerfile(&format!("FROM {reference}\nCOPY Dockerfile /copy\n"));
    let warning = format!(
        "WARNING: InvalidBaseImagePlatform: Base image {reference} was pulled with platform \
         \"linux/s390x\", expected \"linux/{}\" for current build (line 1)",
        this_architecture()
    );
    let this = format!("--platform=linux/{}", this_architecture());
    // Without a platform the result is for that of its base.
    for (asked, expect) in [(None, "s390x"), (Some(&*this), this_architecture())] {
        let words = asked.into_iter().chain(["-otype=oci,dest=out,tar=false"]);
        let built = varve.build(words).success();
        assert!(built.stderr.contains(&warning), "{built}");
        let image = support::layout::Layout::open(&varve.path("out"));
        assert_eq!(image.config()["architecture"], expect);
        fs::remove_dir_all(varve.path("out")).unwrap();
    }
    let check = |value: &str| format!("--build-arg=BUILDKIT_DOCKERFILE_CHECK={value}");
    let failed = varve.build([&check("error=true"), "-ooci"]);
    let words = [
        "lint violation found for rules: InvalidBaseImagePlatform",
        ">>> FROM",
    ];
    failed.refused_with(1, &words);
    let built = varve.build([&check("skip=InvalidBaseImagePlatform"), "-ooci"]);
    let built = built.success();
    assert!(!built.stderr.contains("WARNING"), "{built}");
    // What runs is what the image is for.
    let own = registry.push(&varve.base(), "own");
    varve.dockerfile(&format!(
        "FROM --platform=linux/s390x {own}\nRUN echo runs\n"
    ));
    let built = varve.build(["-o", "out"]).success();
    assert!(built.stderr.contains(" runs\n"), "{built}");
    // The same of an image of the store that no registry has.
    varve
        .varve(["import", "layout", "registry.invalid/here"])
        .succeeded();
    varve.dockerfile("FROM registry.invalid/here\nCOPY Dockerfile /copy\n");
    let built = varve.build(["-t", "x"]).success();
    assert!(
        built.stderr.contains("WARNING: InvalidBaseImagePlatform"),
        "{built}"
    );
    let refused = varve.varve(["pull", &this, &reference]);
    refused.refused_with(1, &["no match for platform"]);
}

fn this_architecture() -> &'static str {
    match cfg!(target_arch = "aarch64") {
        true => "arm64",
        false => "amd64",
    }
}

#[test]
fn two_hundred_layers_are_one_file_system() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let mut layers = layered_image::layers(&varve.base());
    for number in 0..200 {
        let (name, text) = (format!("layers/{number}"), format!("{number}\n"));
        layers.push(tar_archive(&[
            TarEntry::file(&name, text.as_bytes()),
            TarEntry::file("last", text.as_bytes()),
        ]));
    }
    // One that is there twice.
    layers.push(layers[5].clone());
    layered_image::write(
        &varve.path("layout"),
        &layers,
        &json!({ "Env": ["PATH=/bin"] }),
    );
    let reference = registry.push(&varve.path("layout"), "deep");
    varve.varve(["pull", &reference]).succeeded();
    let seen = varve.shell(&reference, "ls /layers | wc -l; cat /layers/199");
    assert_eq!(seen, "200\n199\n");
    assert_eq!(varve.shell(&reference, "cat /last"), "4\n");
    varve.varve(["fsck"]).succeeded();
}
