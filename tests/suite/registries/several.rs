//! Several tags, and several platforms, at once: `--all-tags`, `--platform` of pull, load and save.

use std::fs;

use serde_json::Value;
use support::attested_image::{AttestedLayout, OWN};
use support::registry::Registry;
use support::workspace::Varve;

const OTHER: &str = "s390x";
const THIRD: &str = "riscv64";

fn names(varve: &Varve) -> Vec<String> {
    let listed = varve.varve(["images", "--format", "{{.Name}}"]).success();
    let mut names: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn forget(varve: &Varve) {
    varve
        .varve(["image", "prune", "--all", "--force"])
        .succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
}

#[test]
fn all_tags_are_pushed_and_pulled_at_once() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let repository = registry.reference("team/app").replace(":latest", "");
    for tag in ["1", "2"] {
        varve.dockerfile(&format!("FROM busybox\nRUN echo {tag} > /tag\n"));
        varve
            .build(["-t", &format!("{repository}:{tag}")])
            .succeeded();
    }
    let other = registry.reference("team/application");
    varve
        .varve(["tag", &format!("{repository}:1"), &other])
        .succeeded();
    let pushed = varve.varve(["push", "--all-tags", &repository]).success();
    assert_eq!(pushed.stdout.lines().count(), 2, "{pushed}");
    forget(&varve);
    let pulled = varve.varve(["pull", "-a", "-q", &repository]).success();
    let expected = [format!("{repository}:1"), format!("{repository}:2")];
    let mut told: Vec<_> = pulled.stdout.lines().collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    assert_eq!(names(&varve), expected);
    let tag = format!("{repository}:2");
    assert_eq!(varve.shell(&tag, "cat /tag"), "2\n");
    for command in ["pull", "push"] {
        let refused = varve.varve([command, "-a", &tag]);
        refused.refused_with(1, &["tag can't be used with --all-tags/-a"]);
    }
    let unknown = registry.reference("nothing").replace(":latest", "");
    let refused = varve.varve(["push", "-a", &unknown]);
    refused.refused_with(1, &["an image does not exist locally with that name"]);
    varve
        .varve(["pull", "-a", &unknown])
        .refused_with(1, &["nothing"]);
}

#[test]
fn a_quiet_pull_and_push_print_the_full_name_alone() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let name = registry.reference("app");
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", &name]).succeeded();
    let full = format!("{name}\n");
    assert!(full.ends_with("/app:latest\n"), "{full}");
    for command in ["push", "pull"] {
        let done = varve.varve([command, "--quiet", &name]).success();
        assert_eq!((done.stdout, done.stderr.as_str()), (full.clone(), ""));
    }
}

/// An image of three platforms with attestations, as a layout.
fn three(varve: &Varve) -> std::path::PathBuf {
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    let images = [OWN, OTHER, THIRD].map(|one| layout.image(one));
    layout.end(&layout.index(&images.concat()), "app:1");
    directory
}

/// The platforms of a name of which the image is here.
fn platforms(varve: &Varve, name: &str) -> Vec<&'static str> {
    let is_here = |one: &&str| {
        let platform = format!("--platform=linux/{one}");
        varve.varve(["inspect", &platform, name]).code == 0
    };
    [OWN, OTHER, THIRD].into_iter().filter(is_here).collect()
}

#[test]
fn several_platforms_are_pulled_at_once() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    let options = ["--all", "--preserve-digests"];
    let name = registry.push_with(&three(&varve), "app", &options);
    let both = format!("linux/{OTHER},linux/{OWN}");
    let pulled = varve.varve(["pull", "--platform", &both, &name]).success();
    assert_eq!(pulled.stdout.lines().count(), 1, "{pulled}");
    varve.varve(["prune", "--force"]).succeeded();
    assert_eq!(platforms(&varve, &name), [OWN, OTHER]);
    varve.varve(["pull", "--all-platforms", &name]).succeeded();
    assert_eq!(platforms(&varve, &name), [OWN, OTHER, THIRD]);
    varve.varve(["fsck"]).succeeded();
    // One that is no index.
    let single = registry.reference("single");
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", &single, "--push"]).succeeded();
    varve
        .varve(["pull", "--all-platforms", &single])
        .succeeded();
}

/// What the index of an archive lists: architectures, or `unknown` for attestations.
fn listed(varve: &Varve, archive: &str) -> Vec<String> {
    let directory = varve.path("unpacked");
    fs::remove_dir_all(&directory).ok();
    fs::create_dir(&directory).unwrap();
    let to = directory.to_str().unwrap();
    varve.tool("tar", ["-xf", archive, "-C", to]).succeeded();
    let read = |path: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(directory.join(path)).unwrap()).unwrap()
    };
    let digest = read("index.json")["manifests"][0]["digest"].clone();
    let digest = digest.as_str().unwrap().replace(':', "/");
    let target = read(&format!("blobs/{digest}"));
    let manifests = target["manifests"].as_array().cloned().unwrap_or_default();
    let text = |one: &Value| one["platform"]["architecture"].as_str().unwrap().to_owned();
    manifests.iter().map(text).collect()
}

#[test]
fn platforms_that_are_named_are_saved_and_loaded_with_their_attestations() {
    let varve = Varve::new();
    let layout = three(&varve);
    varve
        .varve(["import", layout.to_str().unwrap(), "app"])
        .succeeded();
    let both = format!("linux/{OWN},linux/{OTHER}");
    for (form, platforms) in [("docker-archive", &*both), ("oci-archive", &both)] {
        let file = format!("{form}.tar");
        let words = [
            "save",
            "--format",
            form,
            "-o",
            &file,
            "--platform",
            platforms,
            "app",
        ];
        varve.varve(words).succeeded();
        assert_eq!(
            listed(&varve, &file),
            [OWN, "unknown", OTHER, "unknown"],
            "{form}"
        );
    }
    let words = ["save", "-o", "x.tar", "--platform", "linux/386", "app"];
    varve
        .varve(words)
        .refused_with(1, &["no match for platform linux/386"]);
    varve
        .varve(["save", "--format", "oci-archive", "-o", "all.tar", "app"])
        .succeeded();
    forget(&varve);
    let other = format!("--platform=linux/{OTHER}");
    varve.varve(["load", "-i", "all.tar", &other]).succeeded();
    assert_eq!(platforms(&varve, "app"), [OTHER]);
    varve.varve(["fsck"]).succeeded();
    // One that has only one platform, too: its manifest.json alone tells nothing of platforms.
    forget(&varve);
    let own = format!("--platform=linux/{OWN}");
    varve
        .varve(["load", "-i", "docker-archive.tar", &own])
        .succeeded();
    assert_eq!(platforms(&varve, "app"), [OWN]);
    forget(&varve);
    let third = format!("--platform=linux/{OWN},linux/{THIRD}");
    let refused = varve.varve(["load", "-i", "docker-archive.tar", &third]);
    refused.refused_with(1, &[&format!("no match for platform linux/{THIRD}")]);
    assert!(names(&varve).is_empty(), "nothing is taken in then");
}
