//! Images as lower layers: contents come from the data-only lower, whiteouts and opaque
//! directories hide what is below.

use std::path::Path;

use crate::mounted::Sandbox;
use crate::tree::{Meta, Tree, What, assert_same, walk};

const NONCE: &str = "2f1c7bb0e6d94f0c8a5511d3907ecb42";

fn stored(size: u64, object: &str) -> What {
    What::File {
        size,
        redirect: Some(format!("/{NONCE}/{object}").into_bytes()),
    }
}

#[test]
fn contents_come_from_the_data_only_lower_and_attributes_from_the_image() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let text = b"what the object holds\n";
    sandbox.write(&format!("objects/{NONCE}/ab/cdef"), text);
    let mut tree = Tree::new(Meta::plain(0o755));
    let mut meta = Meta {
        uid: 12,
        gid: 34,
        seconds: -5,
        ..Meta::plain(0o4711)
    };
    meta.xattrs.insert(b"user.name".into(), b"value".into());
    let directory = tree.add(0, b"usr", Meta::plain(0o755), What::Directory);
    let tool = tree.add(
        directory,
        b"tool",
        meta,
        stored(text.len() as u64, "ab/cdef"),
    );
    tree.link(directory, b"alias", tool);
    let missing = stored(5, "00/missing");
    tree.add(0, b"broken", Meta::plain(0o644), missing);
    tree.add(
        0,
        b"empty",
        Meta::plain(0o644),
        What::File {
            size: 0,
            redirect: None,
        },
    );
    let lower = sandbox.mount_image("lower", &tree.image());
    let mount = sandbox.mount_overlay(
        "merged",
        &[
            ("lowerdir+", &lower),
            ("datadir+", &sandbox.path("objects")),
        ],
    );
    assert_eq!(std::fs::read(mount.join("usr/tool")).expect("read"), text);
    assert_eq!(std::fs::read(mount.join("usr/alias")).expect("read"), text);
    assert_eq!(std::fs::read(mount.join("empty")).expect("read"), b"");
    std::fs::read(mount.join("broken")).expect_err("its object is missing");
    assert!(
        !mount.join(NONCE).exists(),
        "the data-only lower is invisible"
    );
    let mut expected = tree.expected();
    for seen in expected.values_mut() {
        seen.xattrs
            .retain(|name, _| !name.starts_with(b"trusted.overlay."));
    }
    assert_same(&walk(&mount), &expected);
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    for name in ["etc/passwd", "etc/shadow", "var/lib/a", "var/lib/b", "kept"] {
        sandbox.write(&format!("base/{name}"), b"base");
    }
    let mut tree = Tree::new(Meta::plain(0o755));
    let etc = tree.add(0, b"etc", Meta::plain(0o755), What::Directory);
    let whiteout = What::CharacterDevice { major: 0, minor: 0 };
    tree.add(etc, b"shadow", Meta::plain(0), whiteout);
    let var = tree.add(0, b"var", Meta::plain(0o755), What::Directory);
    let lib = tree.add(var, b"lib", Meta::plain(0o755), What::OpaqueDirectory);
    tree.add(lib, b"c", Meta::plain(0o600), What::Fifo);
    let upper = sandbox.mount_image("delta", &tree.image());
    let mount = sandbox.mount_overlay(
        "merged",
        &[("lowerdir+", &upper), ("lowerdir+", &sandbox.path("base"))],
    );
    let found: Vec<String> = walk(&mount)
        .into_keys()
        .map(|path| String::from_utf8(path).expect("ascii"))
        .collect();
    let expected = [
        "",
        "/etc",
        "/etc/passwd",
        "/kept",
        "/var",
        "/var/lib",
        "/var/lib/c",
    ];
    assert_eq!(found, expected);
}

#[test]
fn two_images_stack_with_metacopy() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    sandbox.write(&format!("objects/{NONCE}/11/one"), b"one");
    sandbox.write(&format!("objects/{NONCE}/22/two"), b"two2");
    let image = |name: &[u8], what| {
        let mut tree = Tree::new(Meta::plain(0o755));
        let directory = tree.add(0, b"shared", Meta::plain(0o755), What::Directory);
        tree.add(directory, name, Meta::plain(0o644), what);
        tree.image()
    };
    let low = sandbox.mount_image("low", &image(b"one", stored(3, "11/one")));
    let high = sandbox.mount_image("high", &image(b"two", stored(4, "22/two")));
    let mount = sandbox.mount_overlay(
        "merged",
        &[
            ("lowerdir+", &high),
            ("lowerdir+", &low),
            ("datadir+", &sandbox.path("objects")),
            ("metacopy", Path::new("on")),
            ("upperdir", &sandbox.make_directory("upper")),
            ("workdir", &sandbox.make_directory("work")),
        ],
    );
    let read = |name: &str| std::fs::read(mount.join("shared").join(name)).expect("read");
    assert_eq!(read("one"), b"one");
    assert_eq!(read("two"), b"two2");
    std::fs::write(mount.join("shared/one"), b"changed").expect("copy up and write");
    assert_eq!(read("one"), b"changed");
    let object = sandbox.path(&format!("objects/{NONCE}/11/one"));
    assert_eq!(
        std::fs::read(object).expect("read"),
        b"one",
        "objects never change"
    );
}
