//! OCI layouts that lie: every one is refused where it is imported or, at the latest, where it is
//! used, and nothing of it is left under a name.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use support::attested_image::{AttestedLayout, OWN};
use support::forged_image::{ForgedImage, ForgedLayout, TarEntry, tar_archive};
use support::leftovers::eventually;
use support::workspace::{Outcome, Running, Varve};

/// Refusing takes no longer, on however busy a machine.
const SOON: Duration = Duration::from_secs(60);

/// What is wrong, how it is made so, and what the message says.
struct Case {
    name: &'static str,
    layer: Vec<u8>,
    forge: fn(&mut ForgedImage),
    damage: fn(&ForgedLayout),
    words: &'static [&'static str],
}

fn honest_layer() -> Vec<u8> {
    tar_archive(&[TarEntry::file("file", b"text")])
}

impl Case {
    fn new(name: &'static str, words: &'static [&'static str]) -> Self {
        Case {
            name,
            layer: honest_layer(),
            forge: |_| (),
            damage: |_| (),
            words,
        }
    }

    fn layer(mut self, layer: Vec<u8>) -> Self {
        self.layer = layer;
        self
    }

    fn entries(self, entries: &[TarEntry<'_>]) -> Self {
        self.layer(tar_archive(entries))
    }

    fn forge(mut self, forge: fn(&mut ForgedImage)) -> Self {
        self.forge = forge;
        self
    }

    fn damage(mut self, damage: fn(&ForgedLayout)) -> Self {
        self.damage = damage;
        self
    }
}

fn tars() -> Vec<Case> {
    let mut cut = honest_layer();
    cut.truncate(600);
    vec![
        Case::new("a file beside the root", &["..", "refused"])
            .entries(&[TarEntry::file("../../evil", b"x")]),
        Case::new("a hard link out of the root", &[".."])
            .entries(&[TarEntry::hard_link("h", "../../../etc/passwd")]),
        Case::new("a hard link to nothing", &["/etc/passwd", "does not exist"])
            .entries(&[TarEntry::hard_link("h", "/etc/passwd")]),
        Case::new("a whiteout of ..", &[".wh...", "refused"])
            .entries(&[TarEntry::file(".wh...", b"")]),
        Case::new("a whiteout of .", &[".wh..", "refused"])
            .entries(&[TarEntry::file("a/.wh..", b"")]),
        Case::new("a whiteout of nothing", &[".wh.", "refused"])
            .entries(&[TarEntry::file(".wh.", b"")]),
        Case::new("a tar cut short", &["too early"]).layer(cut),
        Case::new("no tar", &["tar header"]).layer(b"hello world, ".repeat(100)),
        Case::new("no gzip", &["gzip"])
            .layer(vec![
                0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff,
            ])
            .forge(|image| {
                image.layer_descriptor["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar+gzip");
            }),
    ]
}

fn documents() -> Vec<Case> {
    vec![
        Case::new("other bytes in the layer", &["has the bytes of"])
            .damage(|layout| flip(&layout.layer)),
        Case::new("a layer that is too short", &["descriptor"])
            .damage(|layout| fs::write(&layout.layer, "other bytes").unwrap()),
        Case::new("no layer", &["No such file"])
            .damage(|layout| fs::remove_file(&layout.layer).unwrap()),
        Case::new("another diff id", &["diff", "config says"]).forge(|image| {
            let zeros = format!("sha256:{}", "0".repeat(64));
            let honest = image.layer_descriptor["digest"]
                .as_str()
                .unwrap()
                .to_owned();
            image.config = image.config.replace(&honest, &zeros);
        }),
        Case::new("another size", &["size"])
            .forge(|image| image.layer_descriptor["size"] = json!(1_u64 << 61)),
        Case::new("a negative size", &["-1"])
            .forge(|image| image.layer_descriptor["size"] = json!(-1)),
        Case::new("a path as digest", &["is no digest"]).forge(|image| {
            image.layer_descriptor["digest"] = json!("sha256:../../../../../../etc/passwd");
        }),
        Case::new("an unknown digest", &["is no digest"])
            .forge(|image| image.layer_descriptor["digest"] = json!("md5:abc")),
        Case::new("more layers than diff ids", &["layers"]).forge(|image| {
            let layer = image.layer_descriptor.clone();
            image.manifest = json!({ "layers": [layer, layer] });
        }),
        Case::new("no layers", &["layers"]).forge(|image| image.manifest = json!({ "layers": [] })),
        Case::new("a config that is no JSON", &["line 1"])
            .forge(|image| image.config = "{ not json".to_owned()),
        Case::new("a giant manifest", &["larger than"])
            .forge(|image| image.manifest = json!({ "padding": "x".repeat(20 << 20) })),
        Case::new("a manifest with other bytes", &["digest"])
            .damage(|layout| fs::write(&layout.manifest, "{}").unwrap()),
        Case::new("an index that is no JSON", &["line 1"])
            .damage(|layout| layout.replace("index.json", "not json")),
        Case::new("an index that is deep", &["index"])
            .damage(|layout| layout.replace("index.json", "[".repeat(200_000))),
        Case::new("an index of nothing", &["image"])
            .damage(|layout| layout.replace("index.json", r#"{"schemaVersion":2,"manifests":[]}"#)),
        Case::new("no index", &["neither an OCI image layout"])
            .damage(|layout| fs::remove_file(layout.directory().join("index.json")).unwrap()),
    ]
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[600] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What would be read without end.
fn endless() -> Vec<Case> {
    vec![
        Case::new("an endless layer", &["blobs/sha256"])
            .damage(|layout| layout.point_layer_to("/dev/zero")),
        Case::new("a layer that is a pipe", &["blobs/sha256"]).damage(|layout| {
            fs::remove_file(&layout.layer).unwrap();
            rustix::fs::mknodat(CWD, &layout.layer, FileType::Fifo, Mode::RWXU, 0).unwrap();
        }),
    ]
}

/// What `command` did, which is killed if it does not end.
fn in_time(mut command: std::process::Command, what: &str) -> Outcome {
    let running = Running::start(&mut command);
    let id = running.id();
    let ended = eventually(SOON, || !Path::new(&format!("/proc/{id}/exe")).exists());
    if !ended {
        let pid = Pid::from_raw(id.cast_signed()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    let outcome = running.wait();
    assert!(ended, "{what}: varve did not end\n{outcome}");
    outcome
}

/// Imports each; where that works, because a layer is unpacked only when it is needed, uses it.
fn each_is_refused(cases: Vec<Case>) {
    let varve = Varve::new();
    varve.dockerfile("FROM bad\nCOPY Dockerfile /\n");
    for case in cases {
        let layout = varve.path("layout");
        let mut image = ForgedImage::of(case.layer);
        (case.forge)(&mut image);
        (case.damage)(&image.write(&layout));
        let import = varve.command(["import", "layout", "bad"]);
        let mut outcome = in_time(import, case.name);
        if outcome.code == 0 {
            let build = varve.build_command(["-o", "out"]);
            outcome = in_time(build, case.name);
            assert!(!varve.path("out").exists(), "{}: {outcome}", case.name);
            varve.varve(["rmi", "bad"]).succeeded();
        }
        assert_eq!(outcome.code, 1, "{}: {outcome}", case.name);
        outcome.refused_with(1, case.words);
        let listed = varve.varve(["images"]).success();
        assert!(!listed.stdout.contains("bad"), "{}: {listed}", case.name);
        fs::remove_dir_all(&layout).unwrap();
    }
    varve.varve(["fsck"]).succeeded();
    assert!(!varve.path("evil").exists() && !varve.path("../evil").exists());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Nothing of the archive or layout is kept.
fn is_refused(varve: &Varve, path: &str, words: &[&str]) {
    let fresh = |words: &[&str]| varve.varve([&["--root", "fresh"], words].concat());
    for command in [&["load", "-i", path][..], &["import", path]] {
        if command[0] == "load" && varve.path(path).is_dir() {
            continue;
        }
        fresh(command).refused_with(1, words);
        let listed = fresh(&["images", "--all"]).success();
        assert_eq!(listed.stdout.lines().count(), 1, "{listed}");
        let checked = fresh(&["fsck"]).success();
        assert!(checked.stdout.contains("and 0 files"), "{checked}");
    }
}

fn docker_archive_is_refused(varve: &Varve, compression: &str, words: [&str; 2]) {
    let output = format!("type=docker,dest=docker.tar,name=app:1,compression={compression}");
    varve.build(["-o", &output, "--no-cache"]).succeeded();
    let unpacked = varve.path("docker");
    fs::create_dir(&unpacked).unwrap();
    varve
        .tool("tar", ["-xf", "docker.tar", "-C", "docker"])
        .succeeded();
    let manifest: serde_json::Value =
        serde_json::from_str(&varve.read("docker/manifest.json")).unwrap();
    let layer = manifest[0]["Layers"][1].as_str().unwrap();
    let path = unpacked.join(layer);
    let honest = fs::read(&path).unwrap();
    let archived = || {
        fs::remove_file(unpacked.join("index.json")).ok();
        varve
            .tool("tar", ["-cf", "damaged.tar", "-C", "docker", "."])
            .succeeded();
    };
    flip(&path);
    archived();
    is_refused(varve, "damaged.tar", &[layer, words[0]]);
    fs::write(&path, &honest[..honest.len() / 2]).unwrap();
    archived();
    is_refused(varve, "damaged.tar", &[layer, words[1]]);
    fs::write(&path, &honest).unwrap();
    archived();
    varve
        .varve(["--root", "fresh", "load", "-i", "damaged.tar"])
        .succeeded();
    fs::remove_dir_all(varve.path("fresh")).unwrap();
    fs::remove_dir_all(&unpacked).unwrap();
}

/// A layer of a docker archive, compressed or not, and one of a layout: each is known
/// to be wrong before anybody uses it.
#[test]
fn what_does_not_unpack_to_what_its_config_says_is_refused_when_it_is_loaded() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN head -c 300000 /dev/urandom > /random\n");
    for (compression, words) in [
        ("uncompressed", ["has the bytes of"; 2]),
        ("gzip", ["is damaged"; 2]),
    ] {
        docker_archive_is_refused(&varve, compression, words);
    }
    // Digests that agree with each other, of a layer that is cut.
    let honest = ForgedImage::of(honest_layer());
    let diff_id = honest.layer_descriptor["digest"].as_str().unwrap();
    let packed = gzip(&honest_layer());
    for (bytes, word) in [
        (&packed[..packed.len() / 2], "is damaged"),
        (
            &gzip(&tar_archive(&[TarEntry::file("other", b"x")]))[..],
            "the diff_id of its config",
        ),
    ] {
        let layout = varve.path("cut");
        let mut image = ForgedImage::of(bytes.to_vec());
        let own = image.layer_descriptor["digest"].as_str().unwrap();
        image.config = image.config.replace(own, diff_id);
        let own = own.to_owned();
        image.layer_descriptor["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        image.write(&layout);
        is_refused(&varve, "cut", &["layer", &own, word]);
        fs::remove_dir_all(&layout).unwrap();
    }
}

/// What is in the store already is believed no more than what comes.
#[test]
fn a_layer_that_is_here_is_compared_with_the_config_that_comes() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN head -c 30000 /dev/urandom > /random\n");
    let output = "type=docker,dest=docker.tar,name=app:1,compression=uncompressed";
    varve.build(["-o", output]).succeeded();
    let unpacked = varve.path("docker");
    fs::create_dir(&unpacked).unwrap();
    varve
        .tool("tar", ["-xf", "docker.tar", "-C", "docker"])
        .succeeded();
    fs::remove_file(unpacked.join("index.json")).ok();
    let manifest = varve.read("docker/manifest.json");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest[0]["Layers"][1].as_str().unwrap();
    let fresh = |words: &[&str]| varve.varve([&["--root", "fresh"], words].concat());
    fresh(&["load", "-i", "docker.tar"]).succeeded();
    let mut longer = fs::read(unpacked.join(layer)).unwrap();
    longer.extend([0; 512]);
    fs::write(unpacked.join(layer), longer).unwrap();
    varve
        .tool("tar", ["-cf", "longer.tar", "-C", "docker", "."])
        .succeeded();
    let words = [layer, "the diff_id of its config"];
    fresh(&["load", "-i", "longer.tar"]).refused_with(1, &words);

    // The same layer, of which another config says something else.
    let layout = varve.path("layout");
    let mut image = ForgedImage::of(gzip(&honest_layer()));
    let packed = image.layer_descriptor["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let diff_id = ForgedImage::of(honest_layer()).layer_descriptor["digest"].clone();
    image.config = image.config.replace(&packed, diff_id.as_str().unwrap());
    image.layer_descriptor["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    image.write(&layout);
    fresh(&["import", "layout", "honest"]).succeeded();
    fs::remove_dir_all(&layout).unwrap();
    let zeros = format!("sha256:{}", "0".repeat(64));
    image.config = image.config.replace(diff_id.as_str().unwrap(), &zeros);
    image.write(&layout);
    let words = [&*packed, "the diff_id of its config"];
    fresh(&["import", "layout", "lying"]).refused_with(1, &words);
    let listed = fresh(&["images"]).success();
    assert!(!listed.stdout.contains("lying"), "{listed}");
}

#[test]
fn a_layer_that_lies_is_refused_and_writes_nothing_outside() {
    each_is_refused(tars());
}

#[test]
fn a_layout_whose_documents_lie_is_refused() {
    each_is_refused(documents());
}

#[test]
fn a_layer_without_an_end_is_refused_and_not_read_for_ever() {
    each_is_refused(endless());
}

#[test]
fn an_honest_forgery_is_imported() {
    let varve = Varve::new();
    ForgedImage::of(honest_layer()).write(&varve.path("layout"));
    varve.varve(["import", "layout", "good"]).succeeded();
    varve.dockerfile("FROM good\n");
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(varve.read("out/file"), "text");
}

/// As buildx writes an image with its provenance.
#[test]
fn an_image_with_attestations_is_loaded_and_used() {
    let varve = Varve::new();
    let directory = varve.path("layout");
    let layout = AttestedLayout::begin(&directory);
    let index = layout.index(&layout.image(OWN));
    layout.end(&index, "docker.io/library/app:1");
    varve
        .tool("tar", ["-cf", "image.tar", "-C", "layout", "."])
        .succeeded();

    varve.varve(["load", "-i", "image.tar"]).succeeded();
    varve.dockerfile("FROM app:1\n");
    varve.build(["-o", "out"]).succeeded();
    assert_eq!(varve.read("out/file"), OWN);
    varve.varve(["fsck"]).succeeded();
    varve
        .varve(["save", "-o", "again.tar", "app:1"])
        .succeeded();
    varve.varve(["rmi", "app:1"]).succeeded();
    varve.varve(["load", "-i", "again.tar"]).succeeded();
}

#[test]
fn what_is_no_layout_is_refused_by_its_path() {
    let varve = Varve::new();
    varve.write("text", "no archive");
    fs::create_dir(varve.path("empty")).unwrap();
    for path in ["text", "empty", "absent", "/dev/null"] {
        varve
            .varve(["import", path, "bad"])
            .refused_with(1, &[path]);
    }
    varve.dockerfile("FROM layout\n");
    let context = "layout=oci-layout://absent:latest";
    varve
        .build(["--build-context", context])
        .refused_with(1, &["absent"]);
}
