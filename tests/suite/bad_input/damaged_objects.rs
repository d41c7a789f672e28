//! An object file that is gone or has other bytes.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use support::registry::Registry;
use support::workspace::Varve;

/// All object files of a store with this many bytes.
fn objects_of(root: &Path, length: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root.join("objects")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let status = entry.metadata().unwrap();
            if status.is_dir() {
                waiting.push(entry.path());
            } else if status.len() == length {
                found.push(entry.path());
            }
        }
    }
    found
}

/// A store with an image of two steps; the second needs the first one's file, which is in an
/// object of its own.
fn store() -> (Varve, PathBuf) {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nRUN yes | head -c 54321 > /data\nRUN cp /data /copy && echo x >> /copy\n",
    );
    varve.build(["-t", "app"]).succeeded();
    let objects = objects_of(&varve.root(), 54_321);
    assert_eq!(objects.len(), 1, "{objects:?}");
    (varve, objects[0].clone())
}

fn remove(object: &Path) {
    fs::remove_file(object).unwrap();
}

fn truncate(object: &Path) {
    fs::set_permissions(object, Permissions::from_mode(0o644)).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(object)
        .unwrap()
        .set_len(1000)
        .unwrap();
}

fn flip(object: &Path) {
    fs::set_permissions(object, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(object).unwrap();
    bytes[20_000] ^= 1;
    fs::write(object, bytes).unwrap();
}

/// What is done to an object file, by name.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 3] = [
    ("missing", remove),
    ("corrupt", truncate),
    ("corrupt", flip),
];

/// The id as messages print it: the directory and the name of the file.
fn id(object: &Path) -> String {
    let parent = object.parent().unwrap().file_name().unwrap();
    format!(
        "{}{}",
        parent.to_string_lossy(),
        object.file_name().unwrap().to_string_lossy()
    )
}

#[test]
fn fsck_finds_a_damaged_object_and_repair_makes_the_next_build_right_again() {
    for (word, damage) in DAMAGES {
        let (varve, object) = store();
        damage(&object);
        let found = varve.varve(["fsck"]).code(1);
        let said = format!("{}{}", found.stdout, found.stderr);
        assert!(
            said.contains(&id(&object)) && said.contains(word),
            "{found}"
        );
        assert!(
            said.contains("varve fsck --repair"),
            "the next step\n{found}"
        );
        let of_image = "image app:latest: sha256:";
        let repaired = varve.varve(["fsck", "--repair"]).success();
        assert!(repaired.stdout.contains(of_image), "{repaired}");
        // The store is; the image is not.
        let sound = varve.varve(["fsck"]).code(1);
        assert!(!sound.stdout.contains("DAMAGED"), "{sound}");
        assert!(sound.stdout.contains(of_image), "{sound}");
        let rebuilt = varve.build(["-t", "app"]).success();
        assert_eq!(
            rebuilt.transcript().executed().len(),
            2,
            "both again\n{rebuilt}"
        );
        assert_eq!(
            varve.shell("app", "wc -c < /data; wc -c < /copy"),
            "54321\n54323\n"
        );
        varve.varve(["fsck"]).succeeded();
    }
}

#[test]
fn an_export_that_meets_a_damaged_object_names_it_and_the_repair_and_writes_nothing() {
    for (_, damage) in DAMAGES {
        let (varve, object) = store();
        damage(&object);
        let words = [&id(&object), "varve fsck --repair"];
        varve.build(["-o", "out"]).refused_with(1, &words);
        varve
            .build(["-o", "type=tar,dest=files.tar"])
            .refused_with(1, &words);
        assert!(!varve.path("files.tar").exists());
        // The packed layers may still be there; what is exported then is whole.
        let exported = varve.build(["-o", "type=oci,dest=image.tar"]);
        if exported.code != 0 {
            exported.refused_with(1, &words);
            assert!(!varve.path("image.tar").exists());
        }
    }
}

/// What leaves the store is compared with its name, whichever way it leaves.
#[test]
fn nothing_damaged_is_saved_pushed_or_copied_out() {
    let refused_everywhere = |varve: &Varve, object: &Path, has_files: bool| {
        flip(object);
        let words = [&id(object), "varve fsck --repair"];
        let registry = Registry::start(&varve.path("registry"));
        let pushed = format!("{}/app:1", registry.address());
        varve.varve(["tag", "app", &pushed]).succeeded();
        varve.varve(["push", &pushed]).refused_with(1, &words);
        varve
            .varve(["pull", &pushed])
            .refused_with(1, &["does not exist"]);
        varve
            .varve(["save", "-o", "saved.tar", "app"])
            .refused_with(1, &words);
        assert!(!varve.path("saved.tar").exists());
        if has_files {
            let copy = |to| varve.varve(["cp", "app:/data", to]);
            copy("copied").refused_with(1, &words);
            assert!(!varve.path("copied").exists());
            copy("-").refused_with(1, &words);
        }
    };
    let (varve, object) = store();
    refused_everywhere(&varve, &object, true);

    // A layer that came as it is, compressed.
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nENV A=1\n");
    varve.build(["-t", "app"]).succeeded();
    let layers = fs::read_dir(varve.base().join("blobs/sha256")).unwrap();
    let layer = layers.map(|entry| entry.unwrap().metadata().unwrap().len());
    let objects = objects_of(&varve.root(), layer.max().unwrap());
    refused_everywhere(&varve, &objects[0], false);
}

#[test]
fn a_step_that_needs_a_missing_object_says_so_and_names_the_repair() {
    let (varve, object) = store();
    remove(&object);
    varve.dockerfile("FROM busybox\nRUN yes | head -c 54321 > /data\nRUN cat /data | wc -c\n");
    let words = [&id(&object), "varve fsck --repair"];
    varve.build(["-t", "app"]).refused_with(1, &words);
    varve.varve(["fsck", "--repair"]).succeeded();
    varve.build(["-t", "app"]).succeeded();
}

#[test]
fn a_base_whose_packed_layer_is_lost_can_be_exported_again_after_a_repair() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo hello > /hello\n");
    varve.build(["-t", "app"]).succeeded();
    let layer = fs::read_dir(varve.base().join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    for object in objects_of(&varve.root(), layer) {
        remove(&object);
    }
    let exported = varve.build(["-o", "type=oci,dest=image.tar"]);
    if exported.code != 0 {
        exported.refused_with(1, &["varve fsck --repair"]);
        assert!(!varve.path("image.tar").exists());
        varve.varve(["fsck", "--repair"]).succeeded();
        varve.build(["-o", "type=oci,dest=image.tar"]).succeeded();
    }
    assert_eq!(varve.tool("tar", ["-tf", "image.tar"]).success().stderr, "");
    assert_eq!(varve.varve(["fsck"]).code, 0);
}

#[test]
fn metadata_images_that_were_damaged_are_made_again() {
    let (varve, _) = store();
    for entry in fs::read_dir(varve.root().join("meta")).unwrap() {
        fs::write(entry.unwrap().path(), "garbage").unwrap();
    }
    varve.build(["-t", "app"]).succeeded();
    assert_eq!(varve.shell("app", "wc -c < /data"), "54321\n");
}
