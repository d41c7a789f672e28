//! Images go to a real registry.

use std::fs;

use serde_json::Value;
use support::registry::Registry;
use support::relay::Relay;
use support::workspace::{Outcome, Varve};

/// What skopeo finds under a name: the manifest or index, byte by byte.
fn raw(varve: &Varve, reference: &str) -> Value {
    let name = format!("docker://{reference}");
    let arguments = ["inspect", "--raw", "--tls-verify=false", &name];
    let found = varve.tool("skopeo", arguments).success();
    serde_json::from_str(&found.stdout).unwrap()
}

/// The requests that were made while something was done.
fn while_doing(registry: &Registry, act: impl FnOnce() -> Outcome) -> Vec<String> {
    let before = registry.requests().len();
    act().succeeded();
    registry.requests().split_off(before)
}

fn digest(pushed: &Outcome) -> &str {
    pushed.stdout.trim().split_once("  ").unwrap().1
}

#[test]
fn what_was_pushed_is_pulled_as_the_same_image() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = registry.reference("team/app");
    varve.dockerfile("FROM busybox\nRUN echo text > /file\nENV A=b\n");
    varve.build(["-t", &name]).succeeded();
    let pushed = varve.varve(["push", &name]).success();
    assert!(digest(&pushed).starts_with("sha256:"), "{pushed}");
    let manifest = raw(&varve, &name);
    // What is foreign goes out as it came in.
    let types = manifest["layers"].as_array().unwrap().iter();
    let types: Vec<_> = types
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect();
    assert!(
        types[1].ends_with("tar+gzip") && types.len() == 2,
        "{types:?}"
    );
    // Once more: nothing is sent but the name.
    let requests = while_doing(&registry, || varve.varve(["push", &name]));
    let sent = |line: &&String| !line.starts_with("HEAD ") && !line.starts_with("GET /v2/ ");
    let sent: Vec<_> = requests.iter().filter(sent).collect();
    assert_eq!(sent, ["PUT /v2/team/app/manifests/latest"]);
    // Also after everything was thrown away that can be made again.
    varve.varve(["prune"]).succeeded();
    let again = varve.varve(["push", &name]).success();
    assert_eq!(again.stdout, pushed.stdout);
    varve.varve(["rmi", &name]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    let pulled = varve.varve(["pull", &name]).success();
    assert_eq!(pulled.stdout, pushed.stdout);
    assert_eq!(varve.shell(&name, "cat /file; echo $A"), "text\nb\n");
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn what_an_archive_has_uncompressed_goes_out_compressed_once() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = registry.reference("team/app");
    varve.dockerfile("FROM scratch\nCOPY text /\nCOPY text /other\n");
    varve.write("context/text", "text ".repeat(20_000));
    for form in ["docker", "oci"] {
        let archive = varve.path(form);
        let output = format!(
            "type={form},name={name},compression=uncompressed,dest={}",
            archive.display()
        );
        varve.build(["--output", &output]).succeeded();
        let input = archive.to_str().unwrap();
        varve.varve(["load", "--input", input]).succeeded();
        let pushed = varve.varve(["push", &name]).success();
        let layers = raw(&varve, &name)["layers"].as_array().unwrap().clone();
        for layer in &layers {
            assert!(
                layer["mediaType"].as_str().unwrap().contains("gzip"),
                "{layer}"
            );
            assert!(layer["size"].as_u64().unwrap() < 10_000, "{layer}");
        }
        assert_eq!(layers.len(), 2);
        let again = varve.varve(["push", &name]).success();
        assert_eq!(again.stdout, pushed.stdout);
        varve.varve(["rmi", &name]).succeeded();
        varve.varve(["prune", "--all", "--force"]).succeeded();
        let pulled = varve.varve(["pull", &name]).success();
        assert_eq!(pulled.stdout, pushed.stdout);
        let files = varve.path(format!("files-{form}"));
        let files = files.to_str().unwrap();
        varve
            .varve(["cp", &format!("{name}:/other"), files])
            .succeeded();
        assert_eq!(varve.read(files).len(), 100_000);
        varve.varve(["rmi", &name]).succeeded();
    }
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn of_a_changed_image_only_the_changed_layer_is_sent() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let relay = Relay::start(registry.address());
    let name = format!("{}/app:latest", relay.address());
    let noise: Vec<u8> = (0..1_u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    varve.write("context/large", noise);
    varve.write("context/small", "one");
    varve.dockerfile("FROM busybox\nCOPY large /\nCOPY small /\n");
    varve.build(["--push", "-t", &name]).succeeded();
    let first = relay.sent();
    assert!(first > 1 << 20, "{first} bytes");
    varve.write("context/small", "two");
    varve.build(["--push", "-t", &name]).succeeded();
    let second = relay.sent() - first;
    assert!(second < 16 << 10, "{second} bytes");
    // Another repository of the registry gets them from the first one.
    let other = format!("{}/other/app:latest", relay.address());
    varve.varve(["tag", &name, &other]).succeeded();
    let before = relay.sent();
    let pushed = varve.varve(["push", "--progress=plain", &other]).success();
    assert!(pushed.stderr.contains("mounted from app"), "{pushed}");
    let third = relay.sent() - before;
    assert!(third < 16 << 10, "{third} bytes");
    assert_eq!(raw(&varve, &other), raw(&varve, &name));
}

#[test]
fn builds_push_as_they_are_asked_to() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = |text: &str| format!("{}/{text}", registry.address());
    varve.dockerfile("FROM busybox\nRUN echo text > /file\n");
    let (one, two) = (name("app:one"), name("app:two"));
    let built = varve.build(["--push", "-t", &one, "-t", &two, "--metadata-file=metadata"]);
    let built = built.success();
    assert!(
        built
            .stderr
            .contains(&format!("pushing manifest for {two}@")),
        "{built}"
    );
    assert_eq!(raw(&varve, &one), raw(&varve, &two));
    let metadata: Value = serde_json::from_str(&varve.read("metadata")).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(
        raw(&varve, &name(&format!("app@{digest}"))),
        raw(&varve, &one)
    );
    // The name in the store is the same image.
    let listed = varve.varve(["push", &one]).success();
    assert!(listed.stdout.contains(digest), "{listed}");

    for (compression, ending) in [
        ("zstd", "tar+zstd"),
        ("uncompressed", "v1.tar"),
        ("gzip", "tar+gzip"),
    ] {
        let place = name(&format!("packed:{compression}"));
        let output = format!("type=registry,name={place},compression={compression}");
        varve.build(["-o", &output]).succeeded();
        let layers = raw(&varve, &place)["layers"].clone();
        let last = layers.as_array().unwrap().last().unwrap()["mediaType"].clone();
        assert!(
            last.as_str().unwrap().ends_with(ending),
            "{compression}: {layers}"
        );
        varve.varve(["pull", &place]).succeeded();
        assert_eq!(varve.shell(&place, "cat /file"), "text\n");
    }

    let output = format!("type=image,name={},push=true", name("kept:1"));
    varve.build(["-o", &output]).succeeded();
    assert_eq!(varve.shell(&name("kept:1"), "cat /file"), "text\n");
    raw(&varve, &name("kept:1"));

    let output = format!(
        "type=registry,name={},push-by-digest=true",
        name("nameless")
    );
    varve
        .build(["-o", &output, "--metadata-file=metadata"])
        .succeeded();
    let metadata: Value = serde_json::from_str(&varve.read("metadata")).unwrap();
    assert_eq!(
        metadata["image.name"],
        format!("{}:latest", name("nameless"))
    );
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    raw(&varve, &name(&format!("nameless@{digest}")));
    let tagged = registry.requests();
    assert!(
        !tagged
            .iter()
            .any(|line| line.ends_with("nameless/manifests/latest"))
    );
}

#[test]
fn an_index_is_pushed_with_its_manifests() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = registry.reference("many");
    varve.write("context/file", "text");
    varve.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n");
    let platforms = "--platform=linux/amd64,linux/arm64";
    varve.build(["--push", platforms, "-t", &name]).succeeded();
    let index = raw(&varve, &name);
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "{index}");
    let copy = format!("docker://{name}");
    let arguments = [
        "copy",
        "--all",
        "--src-tls-verify=false",
        &copy,
        "oci:copied",
    ];
    let arguments = ["--insecure-policy"].iter().chain(&arguments);
    varve.tool("skopeo", arguments).succeeded();
    // One that was built, named and then pushed is the same.
    let later = registry.reference("later");
    varve.build([platforms, "-t", &later]).succeeded();
    varve.varve(["push", &later]).succeeded();
    assert_eq!(raw(&varve, &later), index);
    // Of one that was pulled in part, that part goes out.
    varve.varve(["rmi", &name, &later]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve
        .varve(["pull", "--platform=linux/arm64", &name])
        .succeeded();
    let inspected = varve.varve(["inspect", "-f", "{{.Architecture}}", &name]);
    assert_eq!(inspected.success().stdout, "arm64\n");
    varve.varve(["history", &name]).succeeded();
    let words = ["save", "--format", "docker-archive", "-o", "x.tar", &name];
    let refused = varve.varve(words);
    refused.refused_with(1, &["no match for platform linux/amd64 (has: linux/arm64)"]);
    let part = registry.reference("part");
    varve.varve(["tag", &name, &part]).succeeded();
    let pushed = varve.varve(["push", "--progress=plain", &part]).success();
    assert!(
        pushed.stderr.contains("only linux/arm64 is in the store"),
        "{pushed}"
    );
    assert_eq!(digest(&pushed), manifests[1]["digest"].as_str().unwrap());
    let refused = varve.varve(["push", "--platform=linux/s390x", &part]);
    refused.refused_with(1, &["no match for platform linux/s390x", "linux/arm64"]);
    let refused = varve.varve(["push", "--platform=linux/amd64", &part]);
    refused.refused_with(1, &["no match for platform linux/amd64 (has: linux/arm64)"]);
    // With the other platform the name is whole again.
    varve
        .varve(["pull", "--platform=linux/amd64", &name])
        .succeeded();
    varve.varve(["prune"]).succeeded();
    varve.varve(["push", &name]).succeeded();
    assert_eq!(raw(&varve, &name), index);
}

#[test]
fn what_cannot_be_pushed_is_told_before_anything_is_built() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN false\n");
    let refused = varve.build(["--push"]);
    refused.refused_with(1, &["tag is needed when pushing to registry"]);
    let output = "-otype=registry,name=127.0.0.1:1/app:tag,push-by-digest=true";
    varve
        .build([output])
        .refused_with(1, &["can't push tagged ref", "by digest"]);
    let output = "-otype=image,name=app,registry.insecure=true";
    varve
        .build([output])
        .refused_with(2, &["registry.insecure", "push=true"]);
    let refused = varve.varve(["push", "127.0.0.1:1/none"]);
    refused.refused_with(
        1,
        &["127.0.0.1:1/none", "no image of this name", "varve tag"],
    );
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", "127.0.0.1:1/app"]).succeeded();
    let refused = varve.varve(["push", "127.0.0.1:1/app"]);
    refused.refused_with(1, &["127.0.0.1:1", "no answer", "trying again"]);
    let failed = varve.build(["--push", "-t", "127.0.0.1:1/app"]).code(1);
    assert!(
        failed.stderr.contains("no answer from 127.0.0.1:1"),
        "{failed}"
    );
    let out = fs::metadata(varve.path("metadata"));
    assert!(out.is_err());
}
