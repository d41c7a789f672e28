//! An image of several layers, mounted whole and as a stack, looks entry by entry as `umoci`
//! unpacks it: an independent tool, which writes plain files.

pub(super) mod layers;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use snapshotter::{Labels, Manager, Method, Options, Snapshots};
use store::{Batch, fixtures};
use support::{layered_image, privileged, tree, umoci};

/// What `umoci unpack` makes of the first `count` layers.
fn unpacked(directory: &Path, layers: &[Vec<u8>]) -> tree::Tree {
    let layout = directory.join("layout");
    layered_image::write(&layout, layers, &json!({}));
    umoci::files(&layout, &directory.join("bundle"))
}

/// What a view of the image of these layers shows.
fn mounted(directory: &Path, layers: &[Vec<u8>], options: Options) -> tree::Tree {
    let store = Arc::new(fixtures::memory_store(&directory.join("root")));
    let manager = Manager::open(store.clone(), options).unwrap();
    let (mut parent, mut base) = (String::new(), None);
    for (number, bytes) in layers.iter().enumerate() {
        let ingest = store.begin();
        let layer = layer::unpack(&bytes[..], &ingest, &layer::Limits::default()).unwrap();
        let tree = layer.delta.apply(base, &ingest).unwrap();
        let name = format!("layer {number}");
        manager
            .adopt(ingest, &name, &parent, tree, Batch::new())
            .unwrap();
        (parent, base) = (name, Some(tree));
    }
    let mounts = manager.view("view", &parent, Labels::new()).unwrap();
    let target = directory.join("mounted");
    fs::create_dir(&target).unwrap();
    let guard = mount::apply(&mounts, &target).unwrap();
    let seen = tree::list(&target);
    drop(guard);
    seen
}

#[test]
fn it_looks_as_another_tool_unpacks_it() {
    privileged::assert_root();
    mount::isolate_thread().unwrap();
    let layers = layers::all();
    let stack = |method| Options {
        flat_inodes_max: 0,
        ..Options::new(method)
    };
    for count in 1..=layers.len() {
        let layers = &layers[..count];
        let directory = tempfile::tempdir().unwrap();
        let expected = unpacked(directory.path(), layers);
        let ways = [
            ("whole", Options::new(Method::Kernel)),
            ("stack", stack(Method::Kernel)),
            ("checkouts", stack(Method::Directories)),
        ];
        for (what, options) in ways {
            let place = directory.path().join(what);
            fs::create_dir(&place).unwrap();
            let seen = mounted(&place, layers, options);
            let result = std::panic::catch_unwind(|| tree::assert_same(&seen, &expected));
            assert!(
                result.is_ok(),
                "{what} of {count} layers: left is mounted, right unpacked"
            );
        }
    }
}
