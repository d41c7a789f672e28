//! The images with which crate `mount` tests real mounts: small enough to be read in a hex dump,
//! and a record of the format, since any change of a byte shows here.

use std::path::Path;

use erofs::{Attributes, Builder, Timestamp};

const NONCE: &str = "2f1c7bb0e6d94f0c8a5511d3907ecb42";

fn attributes(mode: u32) -> Attributes<'static> {
    let mtime = Timestamp {
        seconds: 1_700_000_000,
        nanoseconds: 5,
    };
    Attributes {
        mode,
        mtime,
        ..Attributes::default()
    }
}

/// `shared/<name>` with `size` bytes in the object `ab/<name>`.
fn image(name: &str, size: u64) -> Vec<u8> {
    let mut builder = Builder::new(&attributes(0o755)).expect("a root");
    let shared = builder
        .directory(builder.root(), b"shared", &attributes(0o755))
        .expect("shared");
    let redirect = format!("/{NONCE}/ab/{name}");
    let redirect = Some(redirect.as_bytes());
    builder
        .file(shared, name.as_bytes(), &attributes(0o640), size, redirect)
        .expect("a file");
    builder.finish().expect("an image")
}

#[test]
fn the_images_that_crate_mount_is_tested_with_are_up_to_date() {
    for (name, size) in [("low", 4), ("high", 5)] {
        let made = image(name, size);
        let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../mount/tests/fixtures")
            .join(format!("{name}.erofs"));
        if std::fs::read(&kept).ok().as_ref() != Some(&made) {
            let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.erofs"));
            std::fs::write(&new, &made).expect("write the new image");
            panic!(
                "{} differs; if that is intended, replace it by {}",
                kept.display(),
                new.display()
            );
        }
    }
}
