//! Images come from a real registry, and go to one.

mod attestations;
mod bases;
mod faults;
mod foreign;
mod forms;
mod interrupted;
mod logins;
mod pushes;
mod routes;
mod several;
mod tls;

use std::fs;

use support::forged_image::{TarEntry, tar_archive};
use support::layered_image;
use support::registry::Registry;
use support::workspace::Varve;

/// A registry with the image `app`: busybox and a layer above it; its reference.
fn registry(varve: &Varve) -> (Registry, String) {
    let registry = Registry::start(&varve.path("registry"));
    write_app(varve, "from the registry");
    let reference = registry.push(&varve.path("layout"), "app");
    (registry, reference)
}

/// Writes the image to `layout`, in place of an earlier one: busybox, and `text` in `/file`.
fn write_app(varve: &Varve, text: &str) {
    let mut layers = layered_image::layers(&varve.base());
    layers.push(tar_archive(&[TarEntry::file("file", text.as_bytes())]));
    let layout = varve.path("layout");
    if layout.exists() {
        fs::remove_dir_all(&layout).expect("an earlier layout can be removed");
    }
    let container = serde_json::json!({ "Env": ["PATH=/bin"], "Cmd": ["cat", "/file"] });
    layered_image::write(&layout, &layers, &container);
}

#[test]
fn a_pulled_image_runs_and_is_a_base() {
    let varve = Varve::new();
    let (_registry, reference) = registry(&varve);
    let pulled = varve.varve(["pull", &reference]).success();
    assert!(
        pulled.stdout.starts_with(&reference.replace(":latest", "")),
        "{pulled}"
    );
    assert!(pulled.stdout.contains("  sha256:"), "{pulled}");
    let ran = varve.varve(["run", &reference]).success();
    assert_eq!(ran.stdout, "from the registry");
    varve.dockerfile(&format!("FROM {reference}\nRUN cat /file > /copy\n"));
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.shell("child", "cat /copy"), "from the registry");
    // What is here already is not asked for again.
    let again = varve
        .varve(["pull", "--progress=plain", &reference])
        .success();
    assert_eq!(again.stdout, pulled.stdout);
}

#[test]
fn what_a_registry_does_not_have_is_told_and_nothing_is_taken_in() {
    let varve = Varve::new();
    let (registry, reference) = registry(&varve);
    let host = registry.address().to_owned();
    let other_tag = reference.replace(":latest", ":other");
    let other_name = registry.reference("other");
    for (name, cause) in [(&other_tag, "other"), (&other_name, "other")] {
        let refused = varve.varve(["pull", name]).code(1);
        for word in [&*host, cause, "does not exist"] {
            assert!(refused.stderr.contains(word), "{word:?} in {refused}");
        }
    }
    // The image is of one platform and says so only in its config.
    let refused = varve.varve(["pull", "--platform", "linux/s390x", &reference]);
    let refused = refused.code(1);
    assert!(
        refused.stderr.contains("no match for platform linux/s390x"),
        "{refused}"
    );
    let dead = format!("{}/app:latest", "127.0.0.1:1");
    let refused = varve.varve(["pull", &dead]).code(1);
    assert!(refused.stderr.contains("127.0.0.1:1"), "{refused}");
    assert!(refused.stderr.contains("trying again"), "{refused}");
    let listed = varve.varve(["images", "--format", "json"]).success();
    assert!(!listed.stdout.contains("other"), "{listed}");
}

#[test]
fn a_tag_with_a_digest_is_pulled_and_listed_once() {
    let varve = Varve::new();
    let (_registry, reference) = registry(&varve);
    varve.varve(["pull", &reference]).succeeded();
    let digest = ["inspect", "-f", "{{.Descriptor.digest}}", &reference];
    let digest = varve.varve(digest).success().stdout.trim().to_owned();
    let both = format!("{reference}@{digest}");
    varve.varve(["pull", &both]).succeeded();
    let rows = || {
        let list = ["images", "--format", "{{.Repository}} {{.Tag}}"];
        varve.varve(list).success().stdout
    };
    let repository = reference.trim_end_matches(":latest");
    assert_eq!(rows(), format!("{repository} latest\n"));
    let tags = ["inspect", "-f", "{{json .RepoTags}}", &both];
    let tags = varve.varve(tags).success().stdout;
    assert_eq!(tags, format!("[\"{reference}\"]\n"));
    // As docker: the name by digest goes with the last tag.
    varve
        .varve(["tag", &reference, &format!("{repository}:2")])
        .succeeded();
    varve.varve(["rmi", &format!("{repository}:2")]).succeeded();
    assert_eq!(rows(), format!("{repository} latest\n"));
    varve.varve(["rmi", &reference]).succeeded();
    assert_eq!(rows(), "");
    varve.varve(["pull", &both]).succeeded();
    assert_eq!(rows(), format!("{repository} <none>\n"));
    varve.varve(["rmi", &both]).succeeded();
    assert_eq!(rows(), "");
}
