//! Attributes of outputs: each changes what it says, and nothing else.

use serde_json::{Value, json};
use support::layout::Layout;
use support::tree;
use support::workspace::Varve;

const DOCKERFILE: &str = "FROM busybox\nRUN seq 1 20000 > /f && ln /f /g && mkdir -p /d/e\n";

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

fn layer_types(image: &Layout) -> Vec<String> {
    let layers = image.manifest()["layers"].as_array().unwrap().iter();
    let kind = |layer: &Value| layer["mediaType"].as_str().unwrap().to_owned();
    layers.map(kind).collect()
}

#[test]
fn every_form_of_an_image_unpacks_to_the_same_files() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    let forms = [
        "compression=uncompressed",
        "compression=gzip,compression-level=9",
        "compression=gzip,force-compression=true",
        "compression=uncompressed,force-compression=true",
        "oci-mediatypes=false",
        "annotation.k=v",
    ];
    let outputs = forms.iter().enumerate();
    let outputs =
        outputs.map(|(at, form)| format!("-otype=oci,dest=i{at},tar=false,name=x,{form}"));
    varve.build(outputs).succeeded();
    let mut trees = Vec::new();
    for (at, form) in forms.iter().enumerate() {
        let image = format!("i{at}:latest");
        let copy = format!("oci:copy{at}:latest");
        // umoci reads OCI's media types alone.
        let from = format!("oci:i{at}");
        varve
            .tool("skopeo", ["copy", "-q", "-f", "oci", &from, &copy])
            .succeeded();
        let (image, target) = match form.contains("oci-mediatypes") {
            true => (format!("copy{at}:latest"), format!("t{at}")),
            false => (image, format!("t{at}")),
        };
        let image = image.trim_end_matches(":latest").to_owned();
        let unpack = ["raw", "unpack", "--image", &image, &target];
        varve.tool("umoci", unpack).succeeded();
        trees.push(tree::list(&varve.path(&target)));
        let inspected = varve
            .tool("skopeo", ["inspect", "--config", &from])
            .success();
        let config: Value = serde_json::from_str(&inspected.stdout).unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(diff_ids.len(), 2, "{form}");
    }
    for tree in &trees[1..] {
        tree::assert_same(&trees[0], tree);
    }
    assert!(trees[0].contains_key("f"));
}

#[test]
fn layers_of_a_base_are_compressed_anew_only_when_forced() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    varve
        .build([
            "-otype=oci,dest=kept,tar=false,compression=gzip",
            "-otype=oci,dest=gzip,tar=false,compression=gzip,force-compression=true",
            "-otype=oci,dest=zstd,tar=false,compression=zstd,force-compression=true",
        ])
        .succeeded();
    let [kept, gzip, zstd] = ["kept", "gzip", "zstd"].map(|name| Layout::open(&varve.path(name)));
    let of = |suffix: &str| format!("{OCI_LAYER}{suffix}");
    assert_eq!(layer_types(&kept), [of(""), of("+gzip")]);
    assert_eq!(layer_types(&gzip), [of("+gzip"), of("+gzip")]);
    assert_eq!(layer_types(&zstd), [of("+zstd"), of("+zstd")]);
    assert_eq!(kept.config(), gzip.config());
    assert_eq!(kept.config(), zstd.config());
    // Its diff id is checked by reading it.
    assert_eq!(kept.layer(0), gzip.layer(0));
    varve.varve(["import", "zstd", "again"]).succeeded();
    assert_eq!(varve.shell("again", "wc -l < /g"), "20000\n");
}

#[test]
fn a_level_changes_the_size_and_nothing_else() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    for compression in ["gzip", "zstd"] {
        let sizes = ["1", "9"].map(|level| {
            let name = format!("{compression}-{level}");
            let output = format!("type=oci,dest={name},tar=false,compression={compression}");
            let output = format!("-o{output},compression-level={level}");
            varve.build([&output]).succeeded();
            let image = Layout::open(&varve.path(&name));
            image.manifest()["layers"][1]["size"].as_u64().unwrap()
        });
        assert!(sizes[1] < sizes[0], "{compression} {sizes:?}");
    }
}

#[test]
fn media_types_are_dockers_where_that_is_asked_for() {
    let varve = Varve::new();
    varve.dockerfile(DOCKERFILE);
    let output = "type=oci,dest=image,tar=false,oci-mediatypes=false";
    let both = "--platform=linux/amd64,linux/386";
    varve.build(["-o", output]).succeeded();
    let image = Layout::open(&varve.path("image"));
    let manifest = image.manifest();
    let vendor = "application/vnd.docker";
    let kind = format!("{vendor}.distribution.manifest.v2+json");
    assert_eq!(manifest["mediaType"], kind);
    let config = format!("{vendor}.container.image.v1+json");
    assert_eq!(manifest["config"]["mediaType"], config);
    let gzip = format!("{DOCKER_LAYER}.gzip");
    assert_eq!(layer_types(&image), [DOCKER_LAYER.to_owned(), gzip]);
    // One that is kept goes out as it is.
    let kept = "type=image,name=kept,oci-mediatypes=false";
    varve.build(["-o", kept]).succeeded();
    let save = ["save", "--format", "oci-dir", "-o", "saved", "kept"];
    varve.varve(save).succeeded();
    let saved = Layout::open(&varve.path("saved"));
    assert_eq!(saved.manifest()["mediaType"], kind);
    let types = layer_types(&saved);
    assert!(
        types.iter().all(|kind| kind.starts_with(DOCKER_LAYER)),
        "{types:?}"
    );
    varve.dockerfile("FROM scratch\nCOPY f /\n");
    varve.write("context/f", "f");
    let output = "type=oci,dest=list,tar=false,oci-mediatypes=false";
    varve.build([both, "-o", output]).succeeded();
    let (index, _) = Layout::open_index(&varve.path("list"));
    let kind = format!("{vendor}.distribution.manifest.list.v2+json");
    assert_eq!(index["mediaType"], kind);
}

#[test]
fn annotations_are_where_they_are_said_to_be() {
    let varve = Varve::new();
    varve.write("context/f", "f");
    varve.dockerfile("FROM scratch\nCOPY f /\n");
    let output = "type=oci,dest=image,tar=false,annotation.m=1,annotation[linux/arm64].only=2,\
                  annotation-index.i=3,annotation-manifest-descriptor.md=4";
    varve
        .build([
            "--platform=linux/amd64,linux/arm64",
            "--annotation=index-descriptor,index:flag=5",
            "--annotation=manifest[linux/amd64]:m=6",
            "-o",
            output,
        ])
        .succeeded();
    let outer: Value = serde_json::from_str(&varve.read("image/index.json")).unwrap();
    assert_eq!(outer["manifests"][0]["annotations"]["flag"], "5");
    let (index, images) = Layout::open_index(&varve.path("image"));
    assert_eq!(index["annotations"], json!({ "i": "3", "flag": "5" }));
    let notes: Vec<_> = images
        .iter()
        .map(|(of, image)| (&of["annotations"], &image.manifest()["annotations"]))
        .collect();
    let descriptor = json!({ "md": "4" });
    let (amd64, arm64) = (json!({ "m": "6" }), json!({ "m": "1", "only": "2" }));
    assert_eq!(notes, [(&descriptor, &amd64), (&descriptor, &arm64)]);
    // And one platform: the descriptor is that in index.json.
    let output = "type=oci,dest=one,tar=false,annotation.m=1,annotation-manifest-descriptor.d=2";
    varve.build(["-o", output]).succeeded();
    let outer: Value = serde_json::from_str(&varve.read("one/index.json")).unwrap();
    assert_eq!(outer["manifests"][0]["annotations"]["d"], "2");
    let one = Layout::open(&varve.path("one"));
    assert_eq!(one.manifest()["annotations"], json!({ "m": "1" }));
}

#[test]
fn annotations_that_would_be_nowhere_are_refused_before_anything_is_built() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    for (arguments, part) in [
        (
            &["-t", "x", "--annotation=index:k=v"][..],
            "index annotations not supported for single platform export",
        ),
        (
            &["-t", "x", "--annotation=manifest[linux/s390x]:k=v"],
            "that platform is not built",
        ),
        (
            &["-otype=oci,dest=x,oci-mediatypes=false,annotation-manifest-descriptor.k=v"],
            "docker's media types have no place for it",
        ),
        (&["-o", "files", "--annotation=k=v"], "none is made"),
    ] {
        let refused = varve.build(arguments.iter()).refused(1, &[part]);
        assert!(!refused.stderr.contains("RUN true"), "{refused}");
    }
}

#[test]
fn names_of_an_image_in_the_store_are_those_that_were_asked_for() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN true\n");
    let images = || {
        let listed = varve.varve(["images", "--format", "json"]).success().stdout;
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
        let pair = |image: Value| (text(&image, "Name"), text(&image, "Digest"));
        listed.lines().map(parse).map(pair).collect::<Vec<_>>()
    };
    let output = "type=image,store=false";
    varve
        .build(["-o", output, "--metadata-file=md"])
        .succeeded();
    assert_eq!(images(), []);
    let output = "type=image,\"name=a:1,b\",name-canonical=true";
    varve.build(["-o", output]).succeeded();
    let digest = images()[0].1.clone();
    let names: Vec<_> = images().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a:1", "b"]);
    for name in ["a", "b"] {
        let canonical = format!("{name}@{digest}");
        varve.varve(["inspect", &canonical]).succeeded();
    }
    let output = "type=image,dangling-name-prefix=<none>,dangling-name-empty-only=true";
    varve.build(["-t", "c", "-o", output]).succeeded();
    assert!(images().iter().all(|(name, _)| !name.contains("none")));
    varve.build(["-o", output]).succeeded();
    let dangling = format!("<none>@{digest}");
    assert!(images().iter().any(|(name, _)| *name == dangling));
    varve.varve(["rmi", &dangling]).succeeded();
    assert!(images().iter().all(|(name, _)| *name != dangling));
}

#[test]
fn an_epoch_of_an_output_goes_before_that_of_the_build() {
    let varve = Varve::new();
    varve.dockerfile("FROM scratch\nCOPY --chmod=600 f /\n");
    varve.write("context/f", "f");
    let epoch = "--build-arg=SOURCE_DATE_EPOCH=1000";
    let output = |name: &str, more: &str| format!("-otype=oci,dest={name},tar=false{more}");
    varve
        .build([
            epoch,
            &output("usual", ""),
            &output("other", ",source-date-epoch=2000"),
            &output("kept", ",rewrite-timestamp=false"),
            "-otype=local,dest=files,source-date-epoch=3000",
        ])
        .succeeded();
    let [usual, other, kept] =
        ["usual", "other", "kept"].map(|name| Layout::open(&varve.path(name)));
    let mtime = |image: &Layout| {
        let layer = image.last_layer();
        layer.iter().find(|entry| entry.path == "f").unwrap().mtime
    };
    assert_eq!((mtime(&usual), mtime(&other)), (1_000, 2_000));
    assert!(mtime(&kept) > 1_000_000_000, "as it is in the context");
    assert_eq!(usual.config()["created"], "1970-01-01T00:16:40Z");
    assert_eq!(other.config()["created"], "1970-01-01T00:33:20Z");
    assert_eq!(kept.config()["created"], "1970-01-01T00:16:40Z");
    let modified = std::fs::metadata(varve.path("files/f"))
        .unwrap()
        .modified()
        .unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 3_000);
}
