//! `varve save` and `varve load`: images go out and come back as they are.

use std::fs;

use serde_json::Value;
use support::layout::Layout;
use support::small_disk::SmallDisk;
use support::workspace::Varve;

const DOCKERFILE: &str = "FROM busybox\nRUN echo hello > /f\nCMD [\"cat\", \"/f\"]\n";

/// Digests of the images in a root, by name.
fn digests(varve: &Varve, root: &str) -> Vec<(String, String)> {
    let listed = ["images", "--root", root, "--format", "json"];
    let listed = varve.varve(listed).success().stdout;
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    let pair = |image: Value| (text(&image, "Name"), text(&image, "Digest"));
    listed.lines().map(parse).map(pair).collect()
}

#[test]
fn what_was_saved_is_loaded_as_the_same_images() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve.build(["-t", "app:1", "-t", "app:2"]).succeeded();
    varve.dockerfile("FROM busybox\nRUN echo other > /g\n");
    let zipped = "-otype=image,name=other,compression=zstd";
    varve.build([zipped]).succeeded();
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1000";
    varve.build([epoch, "-t", "old"]).succeeded();
    let names = ["app:1", "app:2", "other", "old"];
    for format in ["docker-archive", "oci-archive"] {
        let file = format!("{format}.tar");
        let save = ["save", "--format", format, "-o", &file];
        varve.varve(save.iter().chain(&names)).succeeded();
        let load = ["load", "--root", format, "-i", &file];
        let loaded = varve.varve(load).success().stdout;
        for name in ["app:1", "app:2", "other:latest", "old:latest"] {
            assert!(
                loaded.contains(&format!("Loaded image: {name}\n")),
                "{loaded}"
            );
        }
        let root = varve.root().display().to_string();
        assert_eq!(digests(&varve, format), digests(&varve, &root));
        let ran = varve.varve(["run", "--root", format, "app:2"]).success();
        assert_eq!(ran.stdout, "hello\n");
        // An archive of the same images is the same archive.
        let again = format!("{format}-again.tar");
        let save = ["save", "--format", format, "-o", &again];
        varve.varve(save.iter().chain(&names)).succeeded();
        assert!(fs::read(varve.path(&file)).unwrap() == fs::read(varve.path(&again)).unwrap());
    }
    let save = ["save", "--format", "oci-dir", "-o", "layout", "app:1"];
    varve.varve(save).succeeded();
    assert_eq!(Layout::open(&varve.path("layout")).layer_digests().len(), 2);
}

#[test]
fn skopeo_takes_what_was_saved_and_varve_loads_what_skopeo_wrote() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve.build(["-t", "app:1"]).succeeded();
    varve.varve(["save", "-o", "a.tar", "app:1"]).succeeded();
    for (from, to) in [
        ("docker-archive:a.tar:app:1", "docker-archive:b.tar:back:1"),
        (
            "oci-archive:a.tar:1",
            "oci-archive:c.tar:docker.io/library/back:2",
        ),
    ] {
        varve.tool("skopeo", ["copy", "-q", from, to]).succeeded();
    }
    for (file, name) in [("b.tar", "back:1"), ("c.tar", "back:2")] {
        let loaded = varve.varve(["load", "-i", file]).success().stdout;
        assert_eq!(loaded, format!("Loaded image: {name}\n"));
        assert_eq!(varve.varve(["run", name]).success().stdout, "hello\n");
    }
}

#[test]
fn archives_go_through_pipes_plain_and_compressed() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve.build(["-t", "app"]).succeeded();
    let program = support::varve_binary().display().to_string();
    for (at, filter) in ["cat", "gzip -1", "zstd -q", "bzip2", "xz -1"]
        .iter()
        .enumerate()
    {
        let script = format!("{program} save app | {filter} | {program} load --root piped{at}");
        let piped = varve.tool("sh", ["-c", &script]).success();
        assert_eq!(piped.stdout, "Loaded image: app:latest\n", "{filter}");
        let root = format!("piped{at}");
        let ran = varve.varve(["run", "--root", &root, "app"]).success();
        assert_eq!(ran.stdout, "hello\n", "{filter}");
    }
    let script = format!("{program} save app > a.tar && {program} load --root file < a.tar");
    varve.tool("sh", ["-c", &script]).succeeded();
    varve.tool("xz", ["-1", "a.tar"]).succeeded();
    let import = ["import", "--root", "imported", "a.tar.xz"];
    varve.varve(import).succeeded();
    let ran = varve.varve(["run", "--root", "imported", "app"]).success();
    assert_eq!(ran.stdout, "hello\n");
}

#[test]
fn an_image_without_a_name_is_loaded_by_its_digest() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve.build(["-otype=oci,dest=image.tar"]).succeeded();
    let loaded = varve.varve(["load", "-i", "image.tar"]).success().stdout;
    assert!(loaded.starts_with("Loaded image ID: sha256:"), "{loaded}");
    let quiet = ["load", "-q", "-i", "image.tar"];
    assert_eq!(varve.varve(quiet).success().stdout, loaded);
}

#[test]
fn of_an_index_all_platforms_are_saved_or_the_one_that_is_named() {
    let varve = Varve::new();
    varve.write("context/f", "f");
    varve.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n");
    let both = "--platform=linux/amd64,linux/arm64";
    varve.build([both, "-t", "app"]).succeeded();
    let save = ["save", "--format", "oci-dir", "-o", "all", "app"];
    varve.varve(save).succeeded();
    let (_, images) = Layout::open_index(&varve.path("all"));
    assert_eq!(images.len(), 2);
    let one = ["--platform", "linux/arm64", "app"];
    for format in ["docker-archive", "oci-archive"] {
        let save = ["save", "--format", format, "-o", format];
        varve.varve(save.iter().chain(&one)).succeeded();
        let from = match format {
            "docker-archive" => format!("docker-archive:{format}:app:latest"),
            _ => format!("oci-archive:{format}"),
        };
        let inspected = varve
            .tool("skopeo", ["inspect", "--config", &from])
            .success();
        let config: Value = serde_json::from_str(&inspected.stdout).unwrap();
        assert_eq!(config["architecture"], "arm64", "{format}");
    }
}

#[test]
fn what_cannot_be_saved_or_loaded_leaves_nothing_behind() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve.build(["-t", "app"]).succeeded();
    let save = |arguments: &[&str]| varve.varve(["save"].iter().chain(arguments));
    save(&["-o", "x.tar", "app", "absent"]).refused_with(1, &["absent"]);
    save(&["-o", "no/x.tar", "app"]).refused_with(1, &["no/x.tar"]);
    save(&["-o", "context", "app"]).refused_with(1, &["context"]);
    save(&["--format", "oci-dir", "app"]).refused_with(1, &["needs -o DIR"]);
    save(&["-o", "x.tar", "--platform", "linux/s390x", "app"]).refused_with(1, &["linux/s390x"]);
    assert!(!varve.path("x.tar").exists());
    varve.write("empty", "");
    varve.write("text", "no archive\n");
    save(&["-o", "whole.tar", "app"]).succeeded();
    let whole = fs::read(varve.path("whole.tar")).unwrap();
    varve.write("cut.tar", &whole[..whole.len() / 2]);
    let disk = SmallDisk::mount(&varve.path("disk"), "size=1m");
    save(&["-o", "disk/x.tar", "app"]).refused_with(1, &["No space left on device", "disk/x.tar"]);
    assert_eq!(fs::read_dir(varve.path("disk")).unwrap().count(), 0);
    drop(disk);
    for (file, words) in [
        ("absent", &["cannot load absent"][..]),
        ("empty", &["empty: it is empty"]),
        ("text", &["text: it is no"]),
        (
            "cut.tar",
            &["cut.tar: it is cut off in the middle of blobs/"],
        ),
        ("context", &["is a directory", "varve import context"]),
    ] {
        varve.varve(["load", "-i", file]).refused_with(1, words);
    }
}

/// The same for a build: what was begun on a full disk is taken away again.
#[test]
fn outputs_on_a_full_disk_leave_no_half_file() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    let disk = SmallDisk::mount(&varve.path("disk"), "size=512k");
    for output in [
        "type=oci,dest=disk/image.tar",
        "type=docker,dest=disk/image.tar,compression=uncompressed",
        "type=tar,dest=disk/files.tar",
        "type=oci,tar=false,dest=disk/layout",
    ] {
        let words = ["No space left on device", "disk/"];
        varve.build(["-o", output]).refused_with(1, &words);
        let left = varve.tool("find", ["disk", "-type", "f", "-name", "*.tar*"]);
        assert_eq!(left.success().stdout, "", "{output}");
        assert!(!varve.path("disk/layout/index.json").exists(), "{output}");
    }
    drop(disk);
}

#[test]
fn a_layout_keeps_the_images_that_are_in_it() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo $RANDOM > /file\n");
    let output = |name: &str| format!("type=oci,tar=false,dest=layout,name={name}");
    varve.build(["-o", &output("first:1")]).succeeded();
    let digest = |reference: &str| {
        let layout = varve.path(format!("layout:{reference}"));
        let name = format!("oci:{}", layout.display());
        let found = varve.tool("skopeo", ["inspect", "--format={{.Digest}}", &name]);
        found.success().stdout
    };
    let first = digest("1");
    varve.build(["--no-cache", "-t", "second:2"]).succeeded();
    let save = ["save", "--format", "oci-dir", "-o", "layout", "second:2"];
    varve.varve(save).succeeded();
    assert_eq!(digest("1"), first);
    let second = digest("2");
    // Under its own name an image is replaced.
    varve
        .build(["--no-cache", "-o", &output("second:2")])
        .succeeded();
    assert_eq!(digest("1"), first);
    assert_ne!(digest("2"), second);
    // What is no layout is not written over.
    varve.write("layout/index.json", "[]");
    let refused = varve.build(["-o", &output("third:3")]);
    refused.refused_with(1, &["index.json", "layout", "another directory"]);
    assert_eq!(varve.read("layout/index.json"), "[]");
}
