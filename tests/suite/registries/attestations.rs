//! Images with attestations, as buildx pushes them: they come and go as a whole, and what is not
//! here is told by its name.

use std::path::Path;

use serde_json::Value;
use support::attested_image::{AttestedLayout, OWN};
use support::registry::Registry;
use support::workspace::Varve;

const OTHER: &str = "s390x";

/// What a registry has under a name, byte by byte.
fn raw(varve: &Varve, reference: &str) -> String {
    let name = format!("docker://{reference}");
    let arguments = ["inspect", "--raw", "--tls-verify=false", &name];
    varve.tool("skopeo", arguments).success().stdout
}

/// Has the registry take the layout as it is.
fn push(registry: &Registry, layout: &Path, name: &str) -> String {
    registry.push_with(layout, name, &["--all", "--preserve-digests"])
}

/// Has skopeo copy everything that an archive names; the index or manifest that it found.
fn copied(varve: &Varve, archive: &str) -> String {
    let directory = format!("{archive}.copy");
    let (from, to) = (format!("oci-archive:{archive}"), format!("dir:{directory}"));
    let words = ["--insecure-policy", "copy", "--all", "--quiet", &from, &to];
    varve.tool("skopeo", words).succeeded();
    varve.read(format!("{directory}/manifest.json"))
}

#[test]
fn an_image_with_its_attestation_is_pulled_pushed_and_saved_as_it_is() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    layout.end(&layout.index(&layout.image(OWN)), "app:1");
    let name = push(&registry, &directory, "app");

    varve.varve(["pull", &name]).succeeded();
    varve.varve(["prune", "--force"]).succeeded();
    let again = registry.reference("again");
    varve.varve(["tag", &name, &again]).succeeded();
    let pushed = varve.varve(["push", &again]).success();
    assert!(!pushed.stderr.contains("warning"), "{pushed}");
    assert_eq!(raw(&varve, &again), raw(&varve, &name));

    let save = ["save", "--format", "oci-archive", "-o", "a.tar", &name];
    varve.varve(save).succeeded();
    assert_eq!(copied(&varve, "a.tar"), raw(&varve, &name));
    // Nothing is asked for that is here.
    let before = registry.blob_requests("GET");
    varve.varve(["pull", &name]).succeeded();
    assert_eq!(registry.blob_requests("GET"), before);
    varve.varve(["fsck"]).succeeded();
}

#[test]
fn platforms_with_attestations_come_one_after_the_other() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    let both = [layout.image(OWN), layout.image(OTHER)].concat();
    layout.end(&layout.index(&both), "app:1");
    let name = push(&registry, &directory, "app");

    varve.varve(["pull", &name]).succeeded();
    let again = registry.reference("again");
    varve.varve(["tag", &name, &again]).succeeded();
    let pushed = varve.varve(["push", "--progress=plain", &again]).success();
    let words = [
        format!("only linux/{OWN} is in the store"),
        format!("(linux/{OTHER})"),
    ];
    assert!(
        words.iter().all(|word| pushed.stderr.contains(word)),
        "{pushed}"
    );
    let save = |file: &str| varve.varve(["save", "--format", "oci-archive", "-o", file, &name]);
    let saved = save("part.tar").success();
    assert!(
        words.iter().all(|word| saved.stderr.contains(word)),
        "{saved}"
    );
    // The image and its attestation are left.
    let index: Value = serde_json::from_str(&copied(&varve, "part.tar")).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    let digests: Vec<_> = manifests.iter().map(|one| &one["digest"]).collect();
    assert_eq!(digests, [&both[0]["digest"], &both[1]["digest"]]);

    let platform = format!("--platform=linux/{OTHER}");
    varve.varve(["pull", &platform, &name]).succeeded();
    let pushed = varve.varve(["push", &again]).success();
    assert!(!pushed.stderr.contains("warning"), "{pushed}");
    assert_eq!(raw(&varve, &again), raw(&varve, &name));
    save("whole.tar").succeeded();
    assert_eq!(copied(&varve, "whole.tar"), raw(&varve, &name));
    // A copy that was loaded is the same.
    varve.varve(["rmi", &name, &again]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.varve(["load", "-i", "whole.tar"]).succeeded();
    varve.varve(["push", &name]).succeeded();
    assert_eq!(raw(&varve, &name), raw(&varve, &again));
}

/// As for a base that came with a build: it needs the image only.
#[test]
fn without_its_attestation_an_image_is_pushed_and_saved_with_a_warning() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    let [image, attestation] = layout.image(OWN);
    layout.end(
        &layout.index(&[image.clone(), attestation.clone()]),
        "app:1",
    );
    let name = push(&registry, &directory, "app");
    let statement = attestation["digest"].as_str().unwrap();
    std::fs::remove_file(registry.blob_file(statement)).unwrap();

    let pulled = varve.varve(["pull", "--progress=plain", &name]).success();
    let words = format!("attestation {statement} of {name} is left out");
    assert!(pulled.stderr.contains(&words), "{pulled}");
    let again = registry.reference("again");
    varve.varve(["tag", &name, &again]).succeeded();
    let pushed = varve.varve(["push", "--progress=plain", &again]).success();
    assert!(pushed.stderr.contains("attestations of"), "{pushed}");
    assert!(
        pushed.stdout.contains(image["digest"].as_str().unwrap()),
        "{pushed}"
    );
    let save = ["save", "--format", "oci-archive", "-o", "a.tar", &name];
    let saved = varve.varve(save).success();
    assert!(saved.stderr.contains("attestations of"), "{saved}");
    copied(&varve, "a.tar");
}

#[test]
fn an_index_in_an_index_says_what_of_it_is_missing() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    let all = [
        layout.image(OWN),
        layout.image(OTHER),
        layout.image("riscv64"),
    ];
    let inner = layout.index(&all.concat());
    layout.end(&layout.index(&[inner]), "app:1");
    varve
        .tool("tar", ["-cf", "image.tar", "-C", "layout", "."])
        .succeeded();
    varve.varve(["load", "-i", "image.tar"]).succeeded();
    let name = registry.reference("app");
    varve.varve(["tag", "app:1", &name]).succeeded();
    varve.varve(["push", &name]).succeeded();
    varve.varve(["rmi", "app:1", &name]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();

    varve.varve(["pull", &name]).succeeded();
    let again = registry.reference("again");
    varve.varve(["tag", &name, &again]).succeeded();
    let pushed = varve.varve(["push", "--progress=plain", &again]).success();
    let words = format!("without the others (linux/{OTHER}, linux/riscv64)");
    assert!(pushed.stderr.contains(&words), "{pushed}");
    let save = ["save", "--format", "oci-archive", "-o", "a.tar", &name];
    varve.varve(save).succeeded();
    copied(&varve, "a.tar");
    let platform = format!("--platform=linux/{OTHER}");
    varve.varve(["pull", &platform, &name]).succeeded();
    let refused = varve.varve(["push", &again]);
    refused.refused_with(1, &["linux/riscv64 are not in the store", "varve pull"]);
}
