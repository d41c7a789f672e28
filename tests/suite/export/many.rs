//! Images of many layers, and many images: what is shared is there once, whatever the numbers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use support::layout::Layout;
use support::workspace::Varve;

const COPIES: usize = 180;
const RUNS: usize = 20;

/// One layer of the base, and one for each step.
const LAYERS: usize = 1 + COPIES + RUNS;

/// Many more than overlayfs takes lowers of, and than docker allows (127).
#[test]
fn two_hundred_layers_are_built_exported_and_run() {
    let varve = Varve::new();
    let mut text = "FROM busybox\n".to_owned();
    for at in 0..COPIES {
        varve.write(format!("context/f{at}"), format!("{at}\n"));
        writeln!(text, "COPY f{at} /d/f{at}").unwrap();
    }
    for at in 0..RUNS {
        writeln!(text, "RUN rm /d/f{at} && echo {at} >> /log").unwrap();
    }
    varve.dockerfile(&text);
    let forms = ["gzip", "zstd", "uncompressed"];
    let outputs =
        forms.map(|form| format!("-otype=oci,dest={form},tar=false,name=x,compression={form}"));
    let named = ["-tmany".to_owned()];
    varve.build(named.iter().chain(&outputs)).succeeded();
    let told = "ls /d | wc -l; wc -l < /log; test ! -e /d/f0 && cat /d/f179";
    let expected = format!("{}\n{RUNS}\n179\n", COPIES - RUNS);
    assert_eq!(varve.shell("many", told), expected);
    for form in forms {
        let image = Layout::open(&varve.path(form));
        assert_eq!(image.layer_digests().len(), LAYERS, "{form}");
        if form == "zstd" {
            // Not known to umoci; varve takes it back below.
            continue;
        }
        let target = format!("unpacked-{form}");
        let image = format!("{form}:latest");
        let unpack = ["raw", "unpack", "--image", &image, &target];
        varve.tool("umoci", unpack).succeeded();
        let log = fs::read_to_string(varve.path(&target).join("log")).unwrap();
        assert_eq!(log.lines().count(), RUNS, "{form}");
        let files = fs::read_dir(varve.path(&target).join("d")).unwrap();
        assert_eq!(files.count(), COPIES - RUNS, "{form}");
    }
    varve
        .varve(["import", "--root", "other", "zstd", "many"])
        .succeeded();
    let ran = ["run", "--root", "other", "many", "sh", "-c", told];
    assert_eq!(varve.varve(ran).success().stdout, expected);
}

const IMAGES: usize = 100;

/// Builds that run at a time.
const AT_ONCE: usize = 10;

#[test]
fn a_hundred_images_that_share_a_base_take_little_more_than_the_base() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN seq 1 300000 > /shared\n");
    varve.build(["-tshared"]).succeeded();
    varve.dockerfile("FROM shared\nARG NUMBER\nRUN echo $NUMBER > /own\n");
    let before = disk_bytes(&varve.root());
    let build = |at: usize| -> Child {
        let words = [format!("-timage{at}"), format!("--build-arg=NUMBER={at}")];
        let mut command = varve.build_command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    for start in (0..IMAGES).step_by(AT_ONCE) {
        let builds: Vec<Child> = (start..start + AT_ONCE).map(build).collect();
        for mut child in builds {
            assert!(child.wait().unwrap().success());
        }
    }
    let each = (disk_bytes(&varve.root()) - before) / IMAGES as u64;
    // Two trees, rows, an object file, a metadata image; the base has 3 MB.
    assert!(each < 100_000, "{each} bytes for each image");
    let listed = varve.varve(["images", "--format", "json"]).success().stdout;
    assert_eq!(listed.lines().count(), IMAGES + 1);

    let names: Vec<String> = (0..IMAGES).map(|at| format!("image{at}")).collect();
    let save = ["save", "--format", "oci-dir", "-o", "saved"].map(str::to_owned);
    varve.varve(save.iter().chain(&names)).succeeded();
    let document = |name: &str| -> Value {
        serde_json::from_str(&varve.read(Path::new("saved").join(name))).unwrap()
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        document(&format!("blobs/{}", digest.replace(':', "/")))
    };
    let index = document("index.json");
    let images = index["manifests"].as_array().unwrap();
    assert_eq!(images.len(), IMAGES);
    let layers = |image: &Value| blob(image)["layers"].as_array().unwrap().clone();
    let layers = images.iter().flat_map(layers);
    let all: BTreeSet<String> = layers.map(|layer| layer["digest"].to_string()).collect();
    // Two of the base, and each image's own.
    assert_eq!(all.len(), 2 + IMAGES);

    let removed = ["rmi".to_owned()];
    varve.varve(removed.iter().chain(&names[1..])).succeeded();
    varve.varve(["rmi", "shared"]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    assert_eq!(
        varve.shell("image0", "cat /own; tail -n 1 /shared"),
        "0\n300000\n"
    );
    let listed = varve.varve(["images", "--format", "json"]).success().stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.contains("image0"), "{listed}");
}

/// What the files below a directory take, in bytes. The process that had the root may still be
/// tidying up: what goes meanwhile takes nothing.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(directory) else {
        return 0;
    };
    let below = match fs::read_dir(directory) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .map(|entry| disk_bytes(&entry.path()))
            .sum(),
        Err(_) => 0,
    };
    found.blocks() * 512 + below
}
